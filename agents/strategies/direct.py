"""Direct: at once, one action after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, get_args

import msgspec

from agents.agent import Agent
from agents.command import OnFailure, Step, Turn, run_command
from agents.strategies.strategy import Strategy
from agents.work import ActionLike
from supervision.errors import BadOption

S = TypeVar("S", bound=msgspec.Struct)


class Direct(Strategy):
    """Run the actions of a command at once, one after the other, as `agents.cmd` does.

    Args:
        on_failure: what becomes of a command when something fails: ``stop``, ``continue`` or ``rollback``.

    Raises:
        BadOption: it is none of those.
    """

    def __init__(self, on_failure: OnFailure = "stop") -> None:
        if on_failure not in get_args(OnFailure):
            raise BadOption("Direct: on_failure", on_failure, f"give one of {', '.join(get_args(OnFailure))}")
        self.on_failure: OnFailure = on_failure

    async def cmd(self, agent: Agent[S], work: Sequence[ActionLike], turn: Turn) -> Step[S]:
        """Run the actions."""
        return await run_command(agent, work, turn, self.on_failure)
