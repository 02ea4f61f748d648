"""Branches: one or the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agents.action import Context
from agents.errors import BadPlan
from agents.execution import Run
from agents.work import ActionLike, Composite, check_work


class Branch(Composite):
    """One action if a condition holds, and another one, or nothing, if it does not.

    Args:
        when: the condition, given the context and the data that have come so far. To raise is a failure.
        then: what to run if it holds.
        otherwise: what to run if it does not; None for nothing.

    Raises:
        BadPlan: the condition cannot be called, or a part is no work.
    """

    __slots__ = ("otherwise", "then", "when")

    def __init__(
        self, when: Callable[[Context[Any], Any], object], then: ActionLike, otherwise: ActionLike | None = None
    ) -> None:
        if not callable(when):
            raise BadPlan("Branch: when", when, "give a function of the context and the data")
        self.when = when
        self.then = then
        self.otherwise = otherwise
        check_work("Branch", *self.parts)

    @property
    def parts(self) -> tuple[ActionLike, ...]:
        """One, or both."""
        return (self.then,) if self.otherwise is None else (self.then, self.otherwise)

    async def perform(self, run: Run, data: Any) -> Any:
        """Run one of them."""
        part = self.then if self.when(run.context, data) else self.otherwise
        return None if part is None else await run.step(part, data)
