"""Strategies: how the commands of an agent are run: at once, step by step, or as a state machine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args

import msgspec

from agents.core.action import ActionLike
from agents.core.agent import Agent
from agents.core.command import OnFailure, Step, Turn, run_command
from agents.core.directives import error_directive
from agents.errors import BadAgentType, StrategyRefused
from supervision import Ref
from supervision.errors import BadOption

S = TypeVar("S", bound=msgspec.Struct)


class AgentStrategy(ABC):
    """How the commands of an agent are run. What it has to remember is kept in the agent's slice ``"strategy"``."""

    def init(self, agent: Agent[S], ref: Ref | None = None) -> Step[S]:
        """Prepare an agent: called when it is made, and again when its server starts, so that it must be idempotent.

        Args:
            agent: the agent.
            ref: its server. The directives are carried out only if there is one.
        """
        return Step(agent)

    @abstractmethod
    async def cmd(self, agent: Agent[S], work: Sequence[ActionLike], turn: Turn) -> Step[S]:
        """Run a command. Without a loop (``turn.has_loop``) nothing may be waited for."""

    async def tick(self, agent: Agent[S], turn: Turn) -> Step[S]:
        """Go one step on, as the signal ``agent.step`` asks for."""
        return Step(agent)


class StrategyState(msgspec.Struct, frozen=True):
    """The base of what strategies remember of an agent."""

    def status(self) -> str:
        """Return how far the agent is, in one word."""
        return "idle"

    def details(self) -> dict[str, Any]:
        """Return more about how far it is."""
        return {}


class Direct(AgentStrategy):
    """Run the actions of a command at once, one after the other, as `agents.cmd` does.

    Args:
        on_failure: what happens to a command when something fails: ``stop``, ``continue`` or ``rollback``. Unless it is
            given, it is ``rollback`` for a signal that comes again to a durable agent (from a bus, an agent's outbox, a
            timer), so that nothing is done by half and then again; and ``stop`` for all others.

    Raises:
        BadOption: it is not one of those.
    """

    def __init__(self, on_failure: OnFailure | None = None) -> None:
        if on_failure is not None and on_failure not in get_args(OnFailure):
            raise BadOption("Direct: on_failure", on_failure, f"give one of {', '.join(get_args(OnFailure))}")
        self.on_failure: OnFailure = on_failure or "stop"
        self._again: OnFailure = on_failure or "rollback"

    def on_failure_of(self, turn: Turn) -> OnFailure:
        """Return what happens to a command of a turn when something fails."""
        return self._again if turn.again else self.on_failure

    async def cmd(self, agent: Agent[S], work: Sequence[ActionLike], turn: Turn) -> Step[S]:
        """Run the actions."""
        return await run_command(agent, work, turn, self.on_failure_of(turn))


class StepByStep(AgentStrategy):
    """Run nothing by itself: the actions of commands wait, and each signal ``agent.step`` runs the next one.

    It is for debugging: put it around the strategy of a type, and look at the agent between two steps. What waits is
    not kept in checkpoints.

    Args:
        inner: the strategy that runs each of them.
    """

    def __init__(self, inner: AgentStrategy | None = None) -> None:
        self.inner = inner or Direct()

    def init(self, agent: Agent[S], ref: Ref | None = None) -> Step[S]:
        """Begin with nothing that waits."""
        step = self.inner.init(agent, ref)
        if "steps" in agent.slices:
            return step
        return Step(step.agent.with_slice("steps", PendingWork()), step.directives)

    async def cmd(self, agent: Agent[S], work: Sequence[ActionLike], turn: Turn) -> Step[S]:
        """Let the work wait."""
        pending = agent.slices["steps"]
        return Step(agent.with_slice("steps", PendingWork((*pending.work, *((item, turn) for item in work)))))

    async def tick(self, agent: Agent[S], turn: Turn) -> Step[S]:
        """Run the next action."""
        pending = agent.slices["steps"]
        if not pending.work:
            return Step(agent)
        (item, its), *rest = pending.work
        behind = agent.with_slice("steps", PendingWork(tuple(rest)))
        return await self.inner.cmd(behind, (item,), msgspec.structs.replace(its, ref=turn.ref, has_loop=turn.has_loop))


class PendingWork(StrategyState, frozen=True):
    """The work that waits to be run, each item with the turn that it came in."""

    work: tuple[tuple[Any, Turn], ...] = ()

    def status(self) -> str:
        """Return how far the agent is, in one word."""
        return "waiting" if self.work else "idle"

    def details(self) -> dict[str, Any]:
        """Return how much waits."""
        return {"pending": len(self.work)}


_WORDS = {"processing": "running", "completed": "completed", "failed": "failed"}
_TRANSITIONS: Mapping[str, Iterable[str]] = {
    "idle": ("processing",),
    "processing": ("idle", "completed", "failed"),
    "completed": ("idle",),
    "failed": ("idle",),
}


class StateMachineStrategy(AgentStrategy):
    """A state machine, in the agent's slice ``"strategy"``.

    A command moves it to ``processing``; if there is no such transition, it is refused, with `StrategyRefused` as its
    error. When all is done it goes back to the first state, if there is a transition, or else to ``completed``; when
    something has failed it goes to ``failed``, if there is one, and otherwise back as well. From ``completed`` and
    ``failed`` a command leads back to the first state before anything else, if there is a transition.

    Args:
        initial: the first state.
        transitions: for each state, those to which it can go on. By default from ``idle`` to ``processing``, from there
            to ``idle``, ``completed`` and ``failed``, and from these to ``idle``.
        on_failure: what happens to a command when something fails.

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
            raise BadAgentType(
                "StateMachineStrategy: initial", initial, f"give one of {', '.join(sorted(self.transitions))}"
            )

    def init(self, agent: Agent[S], ref: Ref | None = None) -> Step[S]:
        """Put the machine into its first state, unless it is in one."""
        return Step(agent if "strategy" in agent.slices else agent.with_slice("strategy", MachineState(self.initial)))

    async def cmd(self, agent: Agent[S], work: Sequence[ActionLike], turn: Turn) -> Step[S]:
        """Run a command between two transitions."""
        machine: MachineState = agent.slices["strategy"]
        state = machine.state
        if self._leads(state, self.initial) and not self._leads(state, "processing"):
            state = self.initial
        if not self._leads(state, "processing"):
            why = StrategyRefused(
                "StateMachineStrategy", f"there is no transition from {machine.state!r} to 'processing'"
            )
            return Step(agent, (error_directive("StateMachineStrategy", why),))
        during = agent.with_slice("strategy", msgspec.structs.replace(machine, state="processing"))
        step = await run_command(during, work, turn, self.on_failure)
        count = machine.processed_count + len(work) - len(step.errors)
        error = step.errors[-1].error.message if step.errors else None
        after = MachineState(self._end(failed=bool(step.errors)), count, error)
        return Step(step.agent.with_slice("strategy", after), step.directives)

    def _end(self, *, failed: bool) -> str:
        ends = ("failed", self.initial) if failed else (self.initial, "completed")
        return next((end for end in ends if self._leads("processing", end)), "processing")

    def _leads(self, state: str, to: str) -> bool:
        return to in self.transitions.get(state, ())


class MachineState(StrategyState, frozen=True):
    """What a state machine remembers of an agent.

    Attributes:
        state: in which it is.
        processed_count: how many actions have succeeded.
        error: what the last failure said; None since a command has succeeded.
    """

    state: str
    processed_count: int = 0
    error: str | None = None

    def status(self) -> str:
        """Return how far the agent is, in one word."""
        return _WORDS.get(self.state, "idle")

    def details(self) -> dict[str, Any]:
        """Return its fields."""
        return msgspec.structs.asdict(self)
