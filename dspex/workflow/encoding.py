"""Keys, arguments and values as a journal keeps them: the same text on every machine, at any time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from dspex.workflow.errors import BadStepKey, NotEncodable

#: What tells steps of one name apart: a text, a whole number, or several of these.
Key: TypeAlias = "str | int | tuple[str | int, ...]"

_ENCODER = msgspec.json.Encoder(order="deterministic")
_PLAIN = "give JSON's plain values, with texts as keys, or a type= that msgspec knows"


def key_of(prefix: str, name: object, key: object = ()) -> str:
    """Return the key of a step: the names on the way to it, each with what tells it from others of that name.

    >>> key_of("", "score", ("short", 3)), key_of("round[1]/", "merge")
    ('score["short",3]', 'round[1]/merge')

    Raises:
        BadStepKey: the name or the key cannot be used.
    """
    if type(name) is not str or not name or not name.isprintable() or any(sign in name for sign in '/["'):
        raise BadStepKey("name", name, "give a printable text without '/', '[' and '\"'")
    parts = key if type(key) is tuple else (key,)
    if any(type(part) is not str and not _is_whole(part) for part in parts):
        raise BadStepKey(f"key of {name}", key, "give a text, a whole number of 64 bits, or a tuple of these")
    try:
        return f"{prefix}{name}{_ENCODER.encode(parts).decode() if parts else ''}"
    except UnicodeError as error:
        raise BadStepKey(f"key of {name}", key, f"it cannot be kept: {error}") from None


def journal_key(name: str) -> str:
    """Return under which key of a storage the journal of a workflow is.

    Raises:
        BadStepKey: it cannot be the name of a workflow.
    """
    return f"workflow/{key_of('', name)}"


def _is_whole(part: object) -> bool:
    return type(part) is int and -(2**63) <= part < 2**64


def encoded(key: str, what: str, value: Any, *, typed: bool = False) -> bytes:
    """Return a value as JSON, always in the same order.

    Args:
        key: of the step, for the error.
        what: what of it this is, for the error.
        value: is encoded.
        typed: whether it is decoded by a type; if not, keys of mappings have to be texts, to come back as they were.

    Raises:
        NotEncodable: it would not come back, or not as it was.
    """
    try:
        plain = msgspec.to_builtins(value, str_keys=typed, order="deterministic")
        _check(plain)
        return _ENCODER.encode(plain)
    except RecursionError:
        raise NotEncodable(key, what, "it contains itself, or is too deep", _PLAIN) from None
    except Exception as error:
        raise NotEncodable(key, what, f"{type(error).__name__}: {error}", _PLAIN) from error


def _check(plain: Any) -> None:
    if isinstance(plain, float) and not math.isfinite(plain):
        raise ValueError(f"{plain} is no number that JSON has")
    if type(plain) is int and not _is_whole(plain):
        raise OverflowError("an integer has more than 64 bits")
    if isinstance(plain, (Mapping, list, tuple)):
        for value in plain.values() if isinstance(plain, Mapping) else plain:
            _check(value)


def digest(data: bytes) -> str:
    """Return a fingerprint of data."""
    return hashlib.sha256(data).hexdigest()[:24]


def decoded(key: str, data: bytes, kind: Any) -> Any:
    """Return a value that was encoded, as a type has it; plain if that is None.

    Raises:
        NotEncodable: it is none of that type.
    """
    try:
        return msgspec.json.decode(data) if kind is None else msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise NotEncodable(key, "its value", str(error), "give the type that it has") from error
