"""Shrinking: from a plan that fails to the smallest one that still fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from supervision.testing.plan import Plan, Step

Fails = Callable[[Plan], Awaitable[bool]]


async def shrink(plan: Plan, fails: Fails, *, tries: int = 500) -> Plan:
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

    async def _still_fails(self, plan: Plan) -> bool:
        if self._left <= 0:
            return False
        self._left -= 1
        return await self._fails(plan)

    async def smallest(self, plan: Plan) -> Plan:
        plan = await self._fewer(plan)
        return await self._earlier(plan)

    async def _fewer(self, plan: Plan) -> Plan:
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

    async def _earlier(self, plan: Plan) -> Plan:
        for digits in (0, 1, 3):
            earlier = _with(plan, tuple(msgspec.structs.replace(s, at=round(s.at, digits)) for s in plan.steps))
            if earlier != plan and await self._still_fails(earlier):
                return earlier
        return plan


def _with(plan: Plan, steps: tuple[Step, ...]) -> Plan:
    return msgspec.structs.replace(plan, steps=steps)
