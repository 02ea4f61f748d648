"""What a bus is sent is checked whole before anything is changed: who has sent it is told, and nobody else notices."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeGuard

from agents.errors import PublishRefused
from supervision.errors import BadOption
from supervision.messages import describe

if TYPE_CHECKING:
    from agents.core.signal import Signal

#: The largest place in a log, and the largest number of anything else.
LAST_PLACE, MOST = 2**63 - 1, 10**9


def is_text(value: object) -> TypeGuard[str]:
    """Whether a value is a text that can be compared, hashed and shown: no odd subclass of it."""
    kind = type(value)
    return kind is str or (issubclass(kind, str) and issubclass(kind, Enum))


def check_text(field: str, value: object, *, optional: bool = False, empty: bool = False) -> None:
    """Check that a value is a text that can be written down, and is not empty; or None, or empty, if that is allowed.

    Raises:
        BadOption: it is something else.
    """
    if value is None and optional:
        return
    remedy = ("give a text" if empty else "give a text that is not empty") + (", or None" if optional else "")
    if not is_text(value) or not (value or empty):
        raise BadOption(field, value, remedy)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadOption(field, value, f"{remedy}; half a character (a lone surrogate) cannot be written down") from None


def check_count(field: str, value: object, least: int, most: int = MOST, *, optional: bool = False) -> None:
    """Check that a value is a whole number in these bounds; or None, if that is allowed.

    Raises:
        BadOption: it is something else.
    """
    if value is None and optional:
        return
    if type(value) is not int or not least <= value <= most:
        raise BadOption(field, value, f"give a whole number from {least} to {most}" + (", or None" if optional else ""))


def check_truth(field: str, value: object) -> None:
    """Check that a value is True or False.

    Raises:
        BadOption: it is something else.
    """
    if type(value) is not bool:
        raise BadOption(field, value, "give True or False")


def ids_of(field: str, ids: Iterable[str] | None) -> frozenset[str] | None:
    """Return ids as a set; None for None.

    Raises:
        BadOption: they are no ids.
    """
    if ids is None:
        return None
    remedy = "give the ids of signals, such as ['1', '2'], or None"
    try:
        found = () if issubclass(type(ids), str) else tuple(ids)
    except Exception:
        raise BadOption(field, ids, remedy) from None
    if issubclass(type(ids), str) or not all(map(is_text, found)):
        raise BadOption(field, ids, remedy)
    return frozenset(found)


def check_signal(signal: Signal) -> None:
    """Check that a bus can look at a signal as it has to; what is in its data is nobody's business.

    Raises:
        PublishRefused: it cannot.
    """
    for field in ("type", "source", "id", "subject"):
        value = getattr(signal, field)
        if not is_text(value) and not (value is None and field == "subject"):
            raise _unusable(signal, f"its {field} is {describe(value)}: give a text")
    try:
        cause = signal.extensions.get("causationid")
        dict(signal.extensions)
    except Exception as error:
        raise _unusable(signal, f"its extensions cannot be read: {describe(error)}") from None
    if cause is not None and not is_text(cause):
        raise _unusable(signal, f"its causationid is {describe(cause)}: give the id of a signal, or None")


def _unusable(signal: Signal, why: str) -> PublishRefused:
    about = about_signal(signal)
    return PublishRefused(about["signal_type"], about["signal_id"], why)


def about_signal(signal: Signal) -> dict[str, Any]:
    """Return the type, the id and the cause of a signal, for an event; what is no text, as one."""
    try:
        cause = signal.extensions.get("causationid")
    except Exception:
        cause = None
    type_, id_ = (one if is_text(one) else describe(one) for one in (signal.type, signal.id))
    return {"signal_type": type_, "signal_id": id_, "cause_id": cause if is_text(cause) else None}


def writable(text: str) -> str:
    r"""Return a text as it can be written down: half a character becomes an escape.

    >>> writable("half \ud800"), writable("whole")
    ('half \\ud800', 'whole')
    """
    return str.encode(text, "utf-8", "backslashreplace").decode()
