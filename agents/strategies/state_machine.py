"""A state machine: a command is a transition, and is refused where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from agents.agent import Agent
from agents.command import OnFailure, Step, Turn, run_command
from agents.directives import ErrorDirective
from agents.errors import BadAgentType, StrategyRefused
from agents.strategies.strategy import Remembered, Strategy
from agents.work import ActionLike
from supervision import Ref
from supervision.reasons import crashed

S = TypeVar("S", bound=msgspec.Struct)

_WORDS = {"processing": "running", "completed": "completed", "failed": "failed"}
_TRANSITIONS: Mapping[str, Iterable[str]] = {
    "idle": ("processing",),
    "processing": ("idle", "completed", "failed"),
    "completed": ("idle",),
    "failed": ("idle",),
}


class Machine(Remembered, frozen=True):
    """What a state machine remembers of an agent.

    Attributes:
        state: in which it is.
        processed_count: how many actions have succeeded.
        error: what the last failure said; None since a command has succeeded.
    """

    state: str
    processed_count: int = 0
    error: str | None = None

    def word(self) -> str:
        """Return how far the agent is, in one word."""
        return _WORDS.get(self.state, "idle")

    def details(self) -> dict[str, Any]:
        """Return its fields."""
        return msgspec.structs.asdict(self)


class StateMachine(Strategy):
    """A state machine, in the agent's slice ``"strategy"``.

    A command moves it to ``processing``; if there is no such transition, it is refused, with `StrategyRefused` as its
    error. When all is done it goes back to the first state, if there is a transition, or else to ``completed``; when
    something has failed it goes to ``failed``, if there is one, and otherwise back as well. From ``completed`` and
    ``failed`` a command leads back to the first state before anything else, if there is a transition.

    Args:
        initial: the first state.
        transitions: for each state, those to which it can go on. By default from ``idle`` to ``processing``, from there
            to ``idle``, ``completed`` and ``failed``, and from these to ``idle``.
        on_failure: what becomes of a command when something fails.

    Raises:
        BadAgentType: the first state has no transitions.
    """

    def __init__(
        self,
        initial: str = "idle",
        transitions: Mapping[str, Iterable[str]] = _TRANSITIONS,
        on_failure: OnFailure = "stop",
    ) -> None:
        self.initial = initial
        self.transitions = {state: frozenset(to) for state, to in transitions.items()}
        self.on_failure: OnFailure = on_failure
        if initial not in self.transitions:
            raise BadAgentType("StateMachine: initial", initial, f"give one of {', '.join(sorted(self.transitions))}")

    def init(self, agent: Agent[S], ref: Ref | None = None) -> Step[S]:
        """Put the machine into its first state, unless it is in one."""
        return Step(agent if "strategy" in agent.slices else agent.with_slice("strategy", Machine(self.initial)))

    async def cmd(self, agent: Agent[S], work: Sequence[ActionLike], turn: Turn) -> Step[S]:
        """Run a command between two transitions."""
        machine: Machine = agent.slices["strategy"]
        state = machine.state
        if self._leads(state, self.initial) and not self._leads(state, "processing"):
            state = self.initial
        if not self._leads(state, "processing"):
            why = StrategyRefused("StateMachine", f"there is no transition from {machine.state!r} to 'processing'")
            return Step(agent, (ErrorDirective("StateMachine", crashed(why)),))
        during = agent.with_slice("strategy", msgspec.structs.replace(machine, state="processing"))
        step = await run_command(during, work, turn, self.on_failure)
        count = machine.processed_count + len(work) - len(step.errors)
        error = step.errors[-1].error.message if step.errors else None
        after = Machine(self._end(failed=bool(step.errors)), count, error)
        return Step(step.agent.with_slice("strategy", after), step.directives)

    def _end(self, *, failed: bool) -> str:
        ends = ("failed", self.initial) if failed else (self.initial, "completed")
        return next((end for end in ends if self._leads("processing", end)), "processing")

    def _leads(self, state: str, to: str) -> bool:
        return to in self.transitions.get(state, ())
