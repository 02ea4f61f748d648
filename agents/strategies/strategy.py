"""What a strategy is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agents.agent import Agent
from agents.command import Step, Turn
from agents.work import ActionLike

if TYPE_CHECKING:
    from supervision import Ref

S = TypeVar("S", bound=msgspec.Struct)


class Strategy(ABC):
    """How the commands of an agent are run. What it has to remember is the agent's slice ``"strategy"``."""

    def init(self, agent: Agent[S], ref: Ref | None = None) -> Step[S]:
        """Prepare an agent: called when it is made, and again when its server starts, so that it must be idempotent.

        Args:
            agent: the agent.
            ref: its server. The directives are carried out only if there is one.
        """
        return Step(agent)

    @abstractmethod
    async def cmd(self, agent: Agent[S], work: Sequence[ActionLike], turn: Turn) -> Step[S]:
        """Run a command. Without a loop (``turn.waits``) nothing may be waited for."""

    async def tick(self, agent: Agent[S], turn: Turn) -> Step[S]:
        """Go one step on, as the signal ``agent.step`` asks for."""
        return Step(agent)


class Remembered(msgspec.Struct, frozen=True):
    """The base of what strategies remember of an agent."""

    def word(self) -> str:
        """Return how far the agent is, in one word."""
        return "idle"

    def details(self) -> dict[str, Any]:
        """Return more about how far it is."""
        return {}
