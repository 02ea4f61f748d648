"""Keys: one key is one thing in memory, on disk and in every answer, in whichever of its equal forms it is given."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from foundation.store.errors import BadKey

#: Tuples in tuples, at most.
DEEPEST = 16
_SMALLEST, _LARGEST = -(1 << 63), (1 << 64) - 1


def as_key(table: str, key: Any) -> Any:
    """Return a key in the one form in which it is kept.

    Python takes ``1``, ``1.0`` and ``True`` for one key of a dictionary; so does a table, and keeps ``1``. Of an
    instance of a class derived from text, numbers, bytes or tuples only that is kept.

    Args:
        table: for which it is.
        key: as it was given.

    Raises:
        BadKey: it is no key.

    >>> as_key("t", (1.0, True, -0.0, "a"))
    (1, 1, 0, 'a')
    """
    try:
        return _plain(key, 0)
    except (TypeError, ValueError):
        raise BadKey(table, key) from None


def _plain(key: Any, depth: int) -> Any:
    kind = type(key)
    if kind is str or kind is bytes:
        return key
    if issubclass(kind, int):
        return _whole(int.__int__(key))
    if issubclass(kind, float):
        return _number(float.__float__(key))
    if issubclass(kind, str):
        return str.__str__(key)
    if issubclass(kind, bytes):
        return bytes.__getitem__(key, slice(None))
    if issubclass(kind, tuple) and depth < DEEPEST:
        return tuple([_plain(part, depth + 1) for part in tuple.__iter__(key)])
    raise TypeError


def _whole(number: int) -> int:
    if not _SMALLEST <= number <= _LARGEST:
        raise ValueError
    return number


def _number(number: float) -> float:
    if math.isnan(number):  # equal to nothing, so that nobody would find it again
        raise ValueError
    return int(number) if number.is_integer() and _SMALLEST <= number <= _LARGEST else number


def encoded_key(table: str, key: Any) -> bytes:
    """Return a key as it is on disk.

    Args:
        table: for which it is.
        key: as `as_key` returns it.

    Raises:
        BadKey: it has text that is no Unicode, or is too long.
    """
    try:
        return msgspec.msgpack.encode(key)
    except (ValueError, OverflowError):
        raise BadKey(table, key) from None


def decoded_key(body: bytes) -> Any:
    """Return a key as it was before it was encoded."""
    return _tuples(msgspec.msgpack.decode(body))


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
