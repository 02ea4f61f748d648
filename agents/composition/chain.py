"""Chains: one after the other."""

from __future__ import annotations

from typing import Any

from agents.execution import Run, flowed
from agents.work import ActionLike, Composite, check_work


class Chain(Composite):
    """Actions one after the other: each gets the data that were given, and the results of those before it.

    Its result is that of the last part that has one. The first failure ends it, and what was done is undone.

    Args:
        steps: the parts: actions, their classes, compositions, or pairs of one of those and some of its parameters.

    Raises:
        BadPlan: there are none, or one is no work.
    """

    __slots__ = ("steps",)

    def __init__(self, *steps: ActionLike) -> None:
        check_work("Chain", *steps)
        self.steps = steps

    @property
    def parts(self) -> tuple[ActionLike, ...]:
        """Its steps."""
        return self.steps

    async def perform(self, run: Run, data: Any) -> Any:
        """Run the steps, and return the last result."""
        last = None
        for step in self.steps:
            result = await run.step(step, data)
            data = flowed(data, result)
            last = last if result is None else result
        return last
