"""Options: numbers that callers give, checked whole before anything is done with them.

>>> above_zero("Sieve: mesh", 0.5), whole("Sieve: holes", 7)
(0.5, 7)
>>> whole("Sieve: holes", 10**400)
Traceback (most recent call last):
supervision.errors.BadOption: Sieve: holes = ...: give a whole number from 1
"""

from __future__ import annotations

from math import isfinite, nan
from pkgutil import resolve_name
from typing import Any

from supervision.errors import BadOption


def is_a(value: object, kind: Any) -> bool:
    """Tell whether a value is of a class, or of one of several, without asking the value what it is."""
    return issubclass(type(value), kind)


def finite(value: object) -> float | None:
    """Return a number that can be counted with; None for what is none: a truth value, NaN, infinity, a huge one.

    >>> [finite(value) for value in (1, 0.5, True, float("nan"), 10**400)]
    [1, 0.5, None, None, None]
    """
    number = _plain(value)
    try:
        return number if isfinite(number) else None
    except OverflowError:
        return None


def of_scalar(value: Any) -> Any:
    """Return the number that a scalar of a library of arrays holds, such as NumPy's; all else as it is.

    >>> of_scalar(0.5), of_scalar("x")
    (0.5, 'x')
    """
    return value.item() if getattr(value, "shape", None) == () else value


def _plain(value: Any) -> float:
    """Return a number without whatever a class of somebody's own makes of it; NaN for what is none."""
    if is_a(value, bool):
        return nan
    if is_a(value, int):
        return int.__add__(value, 0)
    return float.__add__(value, 0.0) if is_a(value, float) else nan


def above_zero(what: str, value: Any) -> float:
    """Return an option that is a finite number above 0.

    Args:
        what: which option it is, for the error.
        value: what was given.

    Raises:
        BadOption: it is something else.
    """
    number = finite(value)
    if number is None or number <= 0:
        raise BadOption(what, value, "give a finite number above 0")
    return number


def from_zero(what: str, value: Any) -> float:
    """Return an option that is a finite number from 0.

    Raises:
        BadOption: it is something else.
    """
    number = finite(value)
    if number is None or number < 0:
        raise BadOption(what, value, "give a finite number from 0")
    return number


def whole(what: str, value: Any, least: int = 1) -> int:
    """Return an option that is a whole number from ``least``.

    Raises:
        BadOption: it is something else.
    """
    number = finite(value)
    if not isinstance(number, int) or number < least:
        raise BadOption(what, value, f"give a whole number from {least}")
    return number


def named(what: str, value: Any) -> Any:
    """Return what an import path names, such as ``package.module:name``; all that is no text as it is.

    >>> named("Sieve: kind", "math:floor"), named("Sieve: kind", 7)
    (<built-in function floor>, 7)

    Raises:
        BadOption: there is nothing of this name.
    """
    if not isinstance(value, str):
        return value
    try:
        return resolve_name(value)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadOption(what, value, f"write package.module:name; {error}") from error


def text(what: str, value: Any) -> str:
    """Return an option that is a text with something in it, such as a name.

    Raises:
        BadOption: it is something else.
    """
    if not is_a(value, str) or not str.__len__(value):
        raise BadOption(what, value, "give a text that is not empty")
    return str.__str__(value)
