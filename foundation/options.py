"""Options: numbers that callers give, checked whole before anything is done with them.

>>> above_zero("Sieve: mesh", 0.5), whole("Sieve: holes", 7)
(0.5, 7)
>>> whole("Sieve: holes", 10**400)
Traceback (most recent call last):
supervision.errors.BadOption: Sieve: holes = ...: give a whole number from 1
"""

from __future__ import annotations

from math import isfinite
from typing import Any, TypeGuard

from supervision.errors import BadOption


def is_finite(value: object) -> TypeGuard[float]:
    """Tell whether something is a number that can be counted with: no truth value, no NaN, no infinity, not huge."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return isfinite(value)
    except OverflowError:
        return False


def above_zero(what: str, value: Any) -> float:
    """Return an option that is a finite number above 0.

    Args:
        what: which option it is, for the error.
        value: what was given.

    Raises:
        BadOption: it is something else.
    """
    if not is_finite(value) or not value > 0:
        raise BadOption(what, value, "give a finite number above 0")
    return value


def from_zero(what: str, value: Any) -> float:
    """Return an option that is a finite number from 0.

    Raises:
        BadOption: it is something else.
    """
    if not is_finite(value) or not value >= 0:
        raise BadOption(what, value, "give a finite number from 0")
    return value


def whole(what: str, value: Any, least: int = 1) -> int:
    """Return an option that is a whole number from ``least``.

    Raises:
        BadOption: it is something else.
    """
    if not is_finite(value) or not isinstance(value, int) or value < least:
        raise BadOption(what, value, f"give a whole number from {least}")
    return value


def text(what: str, value: Any) -> str:
    """Return an option that is a text with something in it, such as a name.

    Raises:
        BadOption: it is something else.
    """
    if not isinstance(value, str) or not value:
        raise BadOption(what, value, "give a text that is not empty")
    return value
