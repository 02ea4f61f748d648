"""Commands: pure functions from an agent and actions to a new agent and directives.

"Pure" is a promise about the agent: it is a value, no directive is carried out, and a failing action is data. It is no
promise about what an action does in ``run``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar, get_args

import msgspec

from agents.core.action import Action, ActionLike, Context, Failure
from agents.core.agent import Agent
from agents.core.directives import Directive, ErrorDirective, error_directive
from agents.core.execution import (
    CompletedAction,
    Execution,
    Saga,
    as_result,
    checked_result,
    driven,
    name_of,
    note_step,
    undo,
    where_failed,
)
from agents.core.failures import is_closing, is_interrupt, is_order
from agents.core.operations import Operation
from agents.core.signal import Signal
from agents.core.structs import checked, fields_of, patched
from agents.errors import BadParams, BadResult, BadState
from supervision import Ref
from supervision.errors import BadOption
from supervision.messages import FrozenMeta

S = TypeVar("S", bound=msgspec.Struct)
S_co = TypeVar("S_co", bound=msgspec.Struct, covariant=True)

#: What happens to a command in which something has failed. ``stop``: what was done before it stays, what comes after
#: it is not run. ``continue``: the rest is run all the same. ``rollback``: the agent is as before the command, and what
#: was done is undone, in reverse order (`Action.compensate`).
OnFailure = Literal["stop", "continue", "rollback"]
_ON_FAILURE = get_args(OnFailure)


class Step(msgspec.Struct, Generic[S_co], metaclass=FrozenMeta, frozen=True):
    """What a command leads to: the agent as it is now, complete, and what is to happen outside."""

    agent: Agent[S_co]
    directives: tuple[Directive, ...] = ()

    @property
    def errors(self) -> tuple[ErrorDirective, ...]:
        """The failures among the directives."""
        return tuple(directive for directive in self.directives if isinstance(directive, ErrorDirective))

    def __iter__(self) -> Iterator[Any]:
        """Unpack it: ``agent, directives = cmd(...)``."""
        return iter((self.agent, self.directives))


def cmd(
    agent: Agent[S],
    *work: ActionLike,
    signal: Signal | None = None,
    ref: Ref | None = None,
    on_failure: OnFailure = "stop",
) -> Step[S]:
    """Run actions one after the other, each on the state that the one before left.

    A failure becomes an `ErrorDirective` among the directives; nothing is raised for it. Retries come at once, without
    their pauses, as there is no loop to wait on.

    Args:
        agent: the agent.
        work: actions, their classes, or chains, branches, parallels and plans of them; or pairs of one of those and
            its parameters.
        signal: passed on to the actions.
        ref: passed on to the actions: the agent's server.
        on_failure: what happens to the command when something fails: ``stop`` (what was done before it stays, what
            comes after it is not run), ``continue`` (the rest is run all the same), or ``rollback`` (the agent is as
            before, and what was done is undone in reverse order).

    Raises:
        BadOption: ``on_failure`` is not one of those.
    """
    return driven(run_command(agent, work, Turn(signal=signal, ref=ref), on_failure))


async def acmd(
    agent: Agent[S],
    *work: ActionLike,
    signal: Signal | None = None,
    ref: Ref | None = None,
    on_failure: OnFailure = "stop",
) -> Step[S]:
    """Do what `cmd` does; actions may be ``async``, and retries wait."""
    return await run_command(agent, work, Turn(signal=signal, ref=ref, has_loop=True), on_failure)


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What surrounds a command.

    Attributes:
        signal: what caused it, if it was a signal.
        ref: the agent's server, if there is one.
        has_loop: whether there is a loop to wait on.
        provided: what the runtime and plugins add to what actions see.
        generation: of a durable agent; see `Context`.
        run: how often what the turn did was undone before.
        saga: what takes note of what can be undone; None without a server.
        again: whether what caused it comes again if it fails: then nothing of a failed command stays, unless the
            agent's type says so.
    """

    signal: Signal | None = None
    ref: Ref | None = None
    has_loop: bool = False
    provided: Mapping[str, Any] = {}
    generation: str = ""
    run: int = 0
    again: bool = False
    saga: Saga | None = None


async def run_command(agent: Agent[S], work: Sequence[ActionLike], turn: Turn, on_failure: OnFailure) -> Step[S]:
    """Run a command. Only async work and retries wait, so that plain work can be driven without a loop.

    If it is cut short, its turn's saga has what is to be undone.
    """
    command = Command(agent, turn, on_failure)
    for number, item in enumerate(work):
        place = str(number) if number else ""
        try:
            action = plain_action(item)
            if action is None:
                await command.perform(item, place)
            else:
                command.apply(action, action.run(command.context(place)))
        except BaseException as error:
            if is_order(error, turn.ref) if turn.has_loop else is_interrupt(error):
                note_step(error, name_of(item))
                command.hand_over()
                raise
            command.failed(item, error)
            if on_failure != "continue":
                break
    if command.to_undo:
        await command.roll_back()
    else:
        command.hand_over()
    return Step(command.agent, tuple(command.directives))


def context_of(agent: Agent[S], turn: Turn, place: str = "") -> Context[S]:
    """Return what an action of an agent sees in a turn."""
    seen = (agent.state, agent.id, agent.type, turn.signal, turn.ref, agent.slices, agent.parent, turn.provided)
    return Context(*seen, agent.partition, turn.generation, turn.run, place)


def plain_action(item: Any) -> Action[Any] | None:
    """Return a plain action, made of an item of work; None if it is anything else.

    Raises:
        BadParams: its parameters are wrong.
    """
    kind, params = item if isinstance(item, tuple) and len(item) == 2 else (item, None)
    if isinstance(kind, type):
        if not issubclass(kind, Action) or not kind.is_plain:
            return None
        try:
            return msgspec.convert({} if params is None else params, kind, from_attributes=True)
        except msgspec.ValidationError as error:
            raise BadParams(kind.__name__, str(error)) from None
    if isinstance(kind, Action) and kind.is_plain:
        try:
            return checked(type(kind), kind)  # type: ignore[no-any-return]
        except msgspec.ValidationError as error:
            raise BadParams(type(kind).__name__, str(error)) from None
    return None


class Command(Generic[S]):
    """A running command: its current agent and directives."""

    __slots__ = ("agent", "completed", "directives", "error", "first", "on_failure", "turn")

    def __init__(self, agent: Agent[S], turn: Turn, on_failure: OnFailure) -> None:
        if on_failure not in _ON_FAILURE:
            raise BadOption("on_failure", on_failure, f"give one of {', '.join(_ON_FAILURE)}")
        self.first = self.agent = agent
        self.directives: list[Directive] = []
        self.error: BaseException | None = None
        self.turn = turn
        self.on_failure = on_failure
        self.completed: list[CompletedAction] = []

    def context(self, place: str) -> Context[S]:
        """Return what the next action sees."""
        return context_of(self.agent, self.turn, place)

    async def perform(self, item: Any, place: str) -> None:
        """Run any work, and apply its result. What it has done can be undone."""
        run = Execution(self.context(place), self.turn.has_loop, place=place, saga=self.turn.saga)
        try:
            value = await run.step(item, {})
            self._apply(name_of(item), value, run.effects)
        except BaseException as error:
            if not (self.turn.has_loop and is_closing(error, self.turn.ref)):
                await undo(run.completed, error, self.turn.has_loop, self.turn.saga)
            raise
        self.completed += run.completed

    def apply(self, action: Action[Any], outcome: Any) -> None:
        """Apply what a plain action has returned."""
        result = as_result(outcome)
        self._apply(type(action).__name__, checked_result(action, result, self.agent.state), list(result.effects))

    def _apply(self, name: str, value: Any, effects: list[Any]) -> None:
        agent = changed(self.agent, name, value)
        directives = []
        for effect in effects:
            if isinstance(effect, Operation):
                agent = effect.applied_to(agent)
            else:
                directives.append(effect)
        self._advance(agent)
        self.directives += directives

    def _advance(self, agent: Agent[S]) -> None:
        """Make this the current agent; one command is one version."""
        if agent is not self.agent:
            self.agent = msgspec.structs.replace(agent, version=self.first.version + 1)

    def failed(self, item: Any, error: BaseException) -> None:
        """Add a failure to the directives, with the effects that it has."""
        self.error = error
        if self.on_failure == "rollback":
            self.agent = self.first
            self.directives = [one for one in self.directives if isinstance(one, ErrorDirective)]
        if isinstance(error, Failure):
            try:
                self._apply(name_of(item), None, list(error.effects))
            except BadState as wrong:
                error = wrong
        self.directives.append(error_directive(where_failed(item, error), error))

    @property
    def to_undo(self) -> bool:
        """Whether what was done is to be undone."""
        return self.error is not None and self.on_failure == "rollback" and bool(self.completed)

    def hand_over(self) -> None:
        """Have the turn know what is to be undone if it is not committed."""
        if self.turn.saga is not None:
            self.turn.saga.completed += self.completed

    async def roll_back(self) -> None:
        """Undo what was done."""
        assert self.error is not None
        try:
            await undo(self.completed, self.error, self.turn.has_loop, self.turn.saga)
        except Exception as error:
            self.directives.append(error_directive("rollback", error))


def changed(agent: Agent[S], name: str, value: Any) -> Agent[S]:
    """Return the agent with its state changed by a result.

    Raises:
        BadResult: this cannot change a state.
        BadState: the changed state is not of the declared type.
    """
    if value is None:
        return agent
    kind = type(agent.state)
    try:
        if isinstance(value, kind):
            state = value
        elif isinstance(value, msgspec.Struct):
            state = patched(agent.state, fields_of(value), merge=False)
        elif isinstance(value, Mapping):
            state = patched(agent.state, value, merge=True)
        else:
            raise BadResult(name, f"returned {value!r}; a result is a struct, a mapping or None")
    except msgspec.ValidationError as error:
        raise BadState(kind.__name__, str(error)) from None
    return msgspec.structs.replace(agent, state=state)
