"""Arguments are validated before any state changes: numbers, names, actors, and who takes part.

What comes back is plain: an ``int`` and not a subclass whose ``<`` is somebody else's code. No check calls a method of
what it checks, other than to hash and compare who takes part; what that raises is the fault of what was given.

>>> number("price", float("nan"))
Traceback (most recent call last):
foundation.coordination.errors.BadArgument: price = nan: give a number from 0 that is finite as a float
>>> whole("amount", 2, 3), number("price", 2.5)
(2, 2.5)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from fractions import Fraction
from functools import wraps
from math import isfinite
from typing import Any, TypeVar

from foundation.coordination.errors import BadArgument, CoordinationError
from foundation.options import is_a
from supervision import Actor, Address, Name, NoProcess, NotRunning, Ref, Runtime
from supervision.clock import seconds
from supervision.errors import BadTime, CallError, SpecError

M = TypeVar("M")
A = TypeVar("A", bound=Actor)

#: The largest whole number that is taken: what fits into 63 bits.
MOST = 2**63 - 1


def plain_number(value: Any) -> int | float | None:
    """Return a finite number as a plain ``int`` or ``float``; None if it is anything else, or too large for a float."""
    if is_a(value, float):
        plain = float.__float__(value)
        return plain if isfinite(plain) else None
    if is_a(value, int) and not is_a(value, bool):
        whole_number = int.__int__(value)
        return whole_number if abs(whole_number) <= sys.float_info.max else None
    return None


def number(what: str, value: Any, *, zero: bool = True) -> int | float:
    """Return a value as a finite number from 0, or above 0.

    Args:
        what: what it is, for the error.
        value: what was given.
        zero: whether it may be 0.

    Raises:
        BadArgument: it is something else.
    """
    plain = plain_number(value)
    if plain is None or plain < 0 or (plain == 0 and not zero):
        raise BadArgument(what, value, f"give a number {'from' if zero else 'above'} 0 that is finite as a float")
    return plain


def number_text(value: float | Fraction) -> str:
    """Return a short text for a number, also for one that is too large for a float.

    >>> number_text(1e-7), number_text(15.0), number_text(10**400)
    ('1e-07', '15', 'more than 1.79769e+308')
    """
    try:
        return f"{float(value):g}"
    except OverflowError:
        return f"more than {sys.float_info.max:g}"


def whole(what: str, value: Any, most: int = MOST, *, least: int = 1) -> int:
    """Return a value as a whole number from ``least`` to ``most``.

    Raises:
        BadArgument: it is something else.
    """
    plain = int.__int__(value) if is_a(value, int) and not is_a(value, bool) else least - 1
    if not least <= plain <= most:
        raise BadArgument(what, value, f"give a whole number from {least}" + ("" if most == MOST else f" to {most}"))
    return plain


def positive_seconds(what: str, value: Any) -> float:
    """Return a value as a number of seconds above 0.

    Raises:
        BadArgument: it is something else.
    """
    try:
        return seconds(what, value, zero=False)
    except BadTime:
        raise BadArgument(what, value, "give a finite number of seconds above 0") from None


def text(what: str, value: Any) -> str:
    """Return a value as a string: the name of what is coordinated.

    Raises:
        BadArgument: it is something else.
    """
    if not is_a(value, str):
        raise BadArgument(what, value, "give a string")
    return str.__str__(value)


def address(runtime: Runtime, what: str, value: Any) -> Address:
    """Return a value as an address in a runtime.

    Raises:
        BadArgument: it is something else.
    """
    here = is_a(value, (Ref, Name)) and value.runtime is runtime
    if not here or (is_a(value, Name) and type(value.key) is not str):
        raise BadArgument(what, value, "give the Ref of an actor of this runtime, or a Name")
    return value  # type: ignore[no-any-return]


def reference(runtime: Runtime, what: str, value: Any) -> Ref:
    """Return a value as an actor of a runtime, which may have ended.

    Raises:
        BadArgument: it is something else.
    """
    if not is_a(value, Ref) or value.runtime is not runtime:
        raise BadArgument(what, value, "give the Ref of an actor of this runtime")
    return value  # type: ignore[no-any-return]


def living_ref(runtime: Runtime, what: str, value: Any, request: object) -> Ref:
    """Return a value as an actor of a runtime that has not ended.

    Raises:
        BadArgument: it is something else.
        NoProcess: it has ended.
    """
    ref = reference(runtime, what, value)
    if not ref.alive:
        raise NoProcess(ref, request, f"the {what} has ended")
    return ref


class Party:
    """Who takes part, whatever stands for it: a string, a `Ref`, a value of a program's own.

    Two are one if what stands for them is equal. It is hashed once; a comparison that raises says that they differ.

    Args:
        what: what it is, for the error.
        value: what stands for it.

    Raises:
        BadArgument: it cannot be hashed, or is not equal to itself.
    """

    __slots__ = ("_hash", "value")

    def __init__(self, what: str, value: Any) -> None:
        try:
            self._hash = hash(value)
            same = bool(value == value)
        except Exception:
            same = False
        if not same:
            raise BadArgument(what, value, "give something that can be hashed and compared, such as a string or a Ref")
        self.value = value

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Party):
            return NotImplemented
        if self.value is other.value:
            return True
        try:
            return bool(self.value == other.value)
        except Exception:
            return False


def discard_number(index: dict[Any, dict[int, None]], key: Any, which: int) -> None:
    """Take a number out of what an index knows of a key, and the key if that was all."""
    del index[key][which]
    if not index[key]:
        del index[key]


#: What a handler refuses a request with.
REFUSALS = (CoordinationError, SpecError, CallError, NotRunning)


def refusing(handler: Callable[[A, M], Any]) -> Callable[[A, M], Any]:
    """Make a handler of requests answer with the errors that it raises, and say nothing if nobody waits for an answer.

    So the request of one caller, whatever is in it and however it came, ends no service.
    """

    @wraps(handler)
    def answering(actor: A, request: M) -> Any:
        try:
            return handler(actor, request)
        except REFUSALS as error:
            _refuse(actor, error)
            return None

    return answering


def _refuse(actor: Actor, error: Exception) -> None:
    try:
        reply = actor.defer_reply()
    except NotRunning:  # it was not a call
        return
    reply.fail(error)
