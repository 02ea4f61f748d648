"""Step by step: for looking at an agent between two actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from agents.agent import Agent
from agents.command import Step, Turn
from agents.strategies.direct import Direct
from agents.strategies.strategy import Remembered, Strategy
from agents.work import ActionLike
from supervision import Ref

S = TypeVar("S", bound=msgspec.Struct)


class Pending(Remembered, frozen=True):
    """What waits to be run: pairs of the work and what surrounds it."""

    work: tuple[tuple[Any, Turn], ...] = ()

    def word(self) -> str:
        """Return how far the agent is, in one word."""
        return "waiting" if self.work else "idle"

    def details(self) -> dict[str, Any]:
        """Return how much waits."""
        return {"pending": len(self.work)}


class StepByStep(Strategy):
    """Run nothing by itself: the actions of commands wait, and each signal ``agent.step`` runs the next one.

    It is for debugging: put it around the strategy of a type, and look at the agent between two steps. What waits is
    not kept in checkpoints.

    Args:
        inner: the strategy that runs each of them.
    """

    def __init__(self, inner: Strategy | None = None) -> None:
        self.inner = inner or Direct()

    def init(self, agent: Agent[S], ref: Ref | None = None) -> Step[S]:
        """Begin with nothing that waits."""
        step = self.inner.init(agent, ref)
        if "steps" in agent.slices:
            return step
        return Step(step.agent.with_slice("steps", Pending()), step.directives)

    async def cmd(self, agent: Agent[S], work: Sequence[ActionLike], turn: Turn) -> Step[S]:
        """Let the work wait."""
        pending = agent.slices["steps"]
        return Step(agent.with_slice("steps", Pending((*pending.work, *((item, turn) for item in work)))))

    async def tick(self, agent: Agent[S], turn: Turn) -> Step[S]:
        """Run the next action."""
        pending = agent.slices["steps"]
        if not pending.work:
            return Step(agent)
        (item, its), *rest = pending.work
        behind = agent.with_slice("steps", Pending(tuple(rest)))
        return await self.inner.cmd(behind, (item,), msgspec.structs.replace(its, ref=turn.ref, waits=turn.waits))
