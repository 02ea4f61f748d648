"""Commands: pure functions from an agent and actions to a new agent and directives.

"Pure" is a promise about the agent: it is a value, no directive is carried out, and a failing action is data. What an
action does in ``run`` is its own affair.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from agents.action import Action, Context, Result
from agents.agent import Agent
from agents.directives import KINDS, Directive, ErrorDirective
from agents.errors import BadParams, BadResult, BadState, NeedsLoop
from agents.signal import Signal
from agents.typed import checked, fields_of, patched
from supervision import Ref
from supervision.messages import FrozenMeta
from supervision.reasons import crashed

S = TypeVar("S", bound=msgspec.Struct)
S_co = TypeVar("S_co", bound=msgspec.Struct, covariant=True)

#: An action with its parameters; or its class, with their defaults; or its class and the parameters as data.
ActionLike: TypeAlias = Action[Any] | type[Action[Any]] | tuple[type[Action[Any]], Any]


class Step(msgspec.Struct, Generic[S_co], metaclass=FrozenMeta, frozen=True):
    """What a command leads to: the agent as it is now, complete, and what is to happen outside."""

    agent: Agent[S_co]
    directives: tuple[Directive, ...] = ()

    @property
    def errors(self) -> tuple[ErrorDirective, ...]:
        """The failures among the directives."""
        return tuple(directive for directive in self.directives if isinstance(directive, ErrorDirective))


def cmd(agent: Agent[S], *work: ActionLike, signal: Signal | None = None, ref: Ref | None = None) -> Step[S]:
    """Run actions one after the other, each on the state that the one before left.

    The first failure ends the command: what was done before it stays, what comes after it is not run, and the last
    directive is an `ErrorDirective`. Nothing is raised.

    Args:
        agent: the agent.
        work: actions; or their classes, or pairs of class and parameters.
        signal: passed on to the actions.
        ref: passed on to the actions: the agent's server.
    """
    step = Step(agent)
    for item in work:
        try:
            action = _action(item)
            if action.is_async:
                raise NeedsLoop(type(action).__name__)
            step = _settled(step, agent.version + 1, action, action.run(_context(step.agent, signal, ref)))
        except Exception as error:
            return _failed(step, item, error)
    return step


async def acmd(agent: Agent[S], *work: ActionLike, signal: Signal | None = None, ref: Ref | None = None) -> Step[S]:
    """Do what `cmd` does; actions may be ``async``."""
    step = Step(agent)
    for item in work:
        try:
            action = _action(item)
            outcome = action.run(_context(step.agent, signal, ref))
            if inspect.isawaitable(outcome):
                outcome = await outcome
            step = _settled(step, agent.version + 1, action, outcome)
        except Exception as error:
            return _failed(step, item, error)
    return step


def _action(item: Any) -> Action[Any]:
    kind, params = item if isinstance(item, tuple) and len(item) == 2 else (item, {})
    try:
        if isinstance(kind, Action):
            return checked(type(kind), kind)  # type: ignore[no-any-return]
        if isinstance(kind, type) and issubclass(kind, Action):
            return msgspec.convert({} if params is None else params, kind, from_attributes=True)
    except msgspec.ValidationError as error:
        raise BadParams(_name(item), str(error)) from None
    raise BadParams(_name(item), "give an action, its class, or a pair of its class and parameters")


def _name(item: Any) -> str:
    what = item[0] if isinstance(item, tuple) and item else item
    return what.__name__ if isinstance(what, type) else type(what).__name__


def _context(agent: Agent[S], signal: Signal | None, ref: Ref | None) -> Context[S]:
    return Context(state=agent.state, agent_id=agent.id, agent_type=agent.type, signal=signal, ref=ref)


def _settled(step: Step[S], version: int, action: Action[Any], outcome: Any) -> Step[S]:
    """Return the step with what an action returned."""
    value, directives = (outcome.value, outcome.directives) if isinstance(outcome, Result) else (outcome, ())
    name = type(action).__name__
    for directive in directives:
        if type(directive) not in KINDS:
            raise BadResult(name, f"{directive!r} is no directive that a server carries out")
    try:
        value = checked(action.result_type, value)
    except msgspec.ValidationError as error:
        raise BadResult(name, str(error)) from None
    return Step(_changed(step.agent, version, name, value), (*step.directives, *directives))


def _changed(agent: Agent[S], version: int, name: str, value: Any) -> Agent[S]:
    """Return the agent with its state changed by a result."""
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
    return msgspec.structs.replace(agent, state=state, version=version)


def _failed(step: Step[S], item: Any, error: Exception) -> Step[S]:
    return Step(step.agent, (*step.directives, ErrorDirective(_name(item), crashed(error))))
