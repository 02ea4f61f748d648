"""Which ``async def`` handlers can return nothing but None: their results need not be looked at."""

from __future__ import annotations

import dis
from inspect import CO_COROUTINE, isfunction
from typing import Any


def returns_nothing(function: Any) -> bool:
    """Whether this is an ``async def`` whose every ``return`` returns None, as can be seen in its code.

    >>> async def silent() -> None: ...
    >>> async def loud() -> int:
    ...     return 7
    >>> returns_nothing(silent), returns_nothing(loud)
    (True, False)
    """
    if not isfunction(function) or not function.__code__.co_flags & CO_COROUTINE:
        return False
    before = None
    for step in dis.get_instructions(function):
        none = before is not None and before.opname == "LOAD_CONST" and before.argval is None
        loud = step.opname == "RETURN_VALUE" and (step.is_jump_target or not none)
        if loud or (step.opname == "RETURN_CONST" and step.argval is not None):
            return False
        before = step
    return True
