"""Options: checks of arguments that many functions take, with one text for each remedy."""

from __future__ import annotations

from typing import Any, TypeGuard, get_args

from supervision.errors import BadOption, SpecError


def is_whole(value: object, least: int) -> TypeGuard[int]:
    """Whether a value is a whole number, ``least`` or more. True and False are none.

    >>> is_whole(1, 1), is_whole(0, 1), is_whole(True, 1), is_whole(1.0, 1)
    (True, False, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def check_choice(field: str, value: object, choices: Any, error: type[SpecError] = BadOption) -> None:
    """Check that an option is one of the choices of a `Literal`.

    Raises:
        SpecError: it is not, as an ``error`` that lists them.
    """
    if value not in get_args(choices):
        raise error(field, value, f"choose one of {', '.join(get_args(choices))}")
