"""Shrinking: from a plan that fails to the smallest one that still fails in the same way."""

from __future__ import annotations

import re
import traceback
from collections.abc import Awaitable, Callable

import msgspec

from supervision.testing.fault_injection.plan import ChaosPlan, ChaosStep

Fails = Callable[[ChaosPlan], Awaitable[bool]]


async def shrink(plan: ChaosPlan, fails: Fails, *, tries: int = 500) -> ChaosPlan:
    """Return the smallest plan found that still fails: with fewer faults, and earlier ones.

    Faults are left out by halves, then quarters, down to single ones (delta debugging: Zeller and Hildebrandt,
    "Simplifying and Isolating Failure-Inducing Input", 2002); then times are rounded down.

    Args:
        plan: one that fails.
        fails: carries a plan out in a fresh world, and tells whether it fails.
        tries: how often it may be called.
    """
    return await _Shrinking(fails, tries).smallest(plan)


class _Shrinking:
    def __init__(self, fails: Fails, tries: int) -> None:
        self._fails = fails
        self._left = tries

    async def _still_fails(self, plan: ChaosPlan) -> bool:
        if self._left <= 0:
            return False
        self._left -= 1
        return await self._fails(plan)

    async def smallest(self, plan: ChaosPlan) -> ChaosPlan:
        plan = await self._fewer(plan)
        return await self._earlier(plan)

    async def _fewer(self, plan: ChaosPlan) -> ChaosPlan:
        parts = 2
        while plan.steps:
            size = max(1, len(plan.steps) // parts)
            for start in range(0, len(plan.steps), size):
                smaller = _with(plan, plan.steps[:start] + plan.steps[start + size :])
                if await self._still_fails(smaller):
                    plan = smaller
                    parts = max(2, parts - 1)
                    break
            else:
                if size == 1:
                    return plan
                parts *= 2
        return plan

    async def _earlier(self, plan: ChaosPlan) -> ChaosPlan:
        for digits in (0, 1, 3):
            earlier = _with(plan, tuple(msgspec.structs.replace(s, at=round(s.at, digits)) for s in plan.steps))
            if earlier != plan and await self._still_fails(earlier):
                return earlier
        return plan


def _with(plan: ChaosPlan, steps: tuple[ChaosStep, ...]) -> ChaosPlan:
    return msgspec.structs.replace(plan, steps=steps)


_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_NUMBER = re.compile(r"(?<![A-Za-z])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
#: Numbers in a row: which ones are missing, or how many, is chance.
_NUMBERS = re.compile(r"N(?:[,;:]?\s*N)+")


def kind_of(error: BaseException) -> tuple[str, str]:
    """Return what is the same for two failures that are the same: the class of the error, and that of its message.

    >>> kind_of(KeyError("order 17 at 0x7f3a")) == kind_of(KeyError("order 4 at 0x1"))
    True
    >>> kind_of(AssertionError("lost: [3, 4, 9]")) == kind_of(AssertionError("lost: [5]"))
    True
    >>> kind_of(AssertionError("lost: [3]")) == kind_of(AssertionError("twice: [3]"))
    False
    """
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    first = str(error).partition("\n")[0]
    text = _NUMBERS.sub("N", _NUMBER.sub("N", _ADDRESS.sub("N", first)))
    return type(error).__qualname__, text or _line(error)


def _line(error: BaseException) -> str:
    """Return the line that raised an error."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
