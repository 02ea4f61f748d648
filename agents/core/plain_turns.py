"""Plain turns: a signal that is routed to one action, which only changes the state, of an agent without anything else.

That is the most frequent turn, and it has to cost little more than the action. So for each such action a function is
written out once, parameter by parameter and field by field, as dataclasses write theirs: most parameters and fields are
numbers, texts, times or structs, and an object of exactly such a class is as declared, whatever it is. All else is done
by the functions that do it in any turn.
"""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from keyword import iskeyword
from types import NoneType, UnionType
from typing import Any, TypeAlias, TypeVar, Union, get_args, get_origin
from uuid import UUID

import msgspec

from agents.core.action import Action, ActionLike, Context, Result
from agents.core.agent import Agent
from agents.core.command import Command, Step, Turn
from agents.core.directives import Directive
from agents.core.failures import raise_interrupt
from agents.core.router import Router
from agents.core.signal import Signal
from agents.core.structs import rechecked
from agents.errors import BadParams
from supervision import Ref

S = TypeVar("S", bound=msgspec.Struct)

#: Takes a turn: from an agent, the signal and its server to the agent, if nothing has happened but that its
#: state is another one; or else to the step.
PlainTurn: TypeAlias = Callable[[Agent[S], Signal, Ref], Agent[S] | Step[S]]

#: They are remembered for at most so many types of signals.
_MOST = 1000
#: Up to so many parameters are looked at one by one; more are faster converted at once.
_FEW = 3
#: What is checked by its class alone, as are structs.
_SIMPLE = (bool, int, str, bytes, float, NoneType, datetime, date, time, timedelta, UUID, Decimal)

_CONVERT = "action = convert(data, Action)"
_TURN = """
def turn(agent, signal, ref):
    state, data, action = agent.state, signal.data, None
    try:
        if type(data) is not dict:
            action = convert({{}} if data is None else data, Action, from_attributes=True)
        else:
            {action}
        value = action.run(
            Context(state, agent.id, agent.type, signal, ref, agent.slices, agent.parent, NO_FACTS, agent.partition)
        )
    except BaseException as error:
        return failed(agent, Action if action is None else action, signal, ref, error)
    if type(value) is not State or type(state) is not State:
        return other(agent, action, signal, ref, value)
    if {unsure}:
        return checked(agent, action, signal, ref, value)
    return replace(agent, state=value, version=agent.version + 1)
"""


class PlainRoutes(dict[str, PlainTurn[Any] | None]):
    """By the type of a signal: what takes its turns, if they are plain; else None. Found when first asked for.

    Args:
        router: of a type of agents.
        state_type: of that type.
        alone: whether the type has no plugin, strategy or hook.
    """

    def __init__(self, router: Router[ActionLike], state_type: builtins.type[msgspec.Struct], *, alone: bool) -> None:
        super().__init__()
        self._router = router
        self._state_type = state_type
        self._alone = alone
        self._turns: dict[Any, PlainTurn[Any]] = {}

    def __missing__(self, type: str) -> PlainTurn[Any] | None:
        found: PlainTurn[Any] | None = None
        routes = self._router.matching(type)
        if self._alone and len(routes) == 1 and routes[0].when is None:
            target = routes[0].target
            if isinstance(target, builtins.type) and target.is_plain:
                found = self._turns[target] = self._turns.get(target) or plain_turn(target, self._state_type)
        if len(self) < _MOST:
            self[type] = found
        return found


def plain_turn(kind: type[Action[Any]], state_type: type[S]) -> PlainTurn[S]:
    """Return what takes the turns of a plain action, which gets the data of the signal as its parameters.

    Args:
        kind: the action.
        state_type: of the agents.
    """
    names: dict[str, Any] = {
        "Action": kind,
        "Context": Context,
        "MISSING": object(),
        "NO_FACTS": {},
        "State": state_type if kind.result_type is state_type else None,
        "checked": _checked_step,
        "convert": msgspec.convert,
        "failed": _failed_step,
        "other": _other_step,
        "replace": msgspec.structs.replace,
    }
    text = _TURN.format(action=_making(kind, names), unsure=_unsure(state_type, names))
    # What is put into it are the names of fields, which are attributes of classes, and texts in quotes.
    exec(compile(text, f"<turn of {kind.__qualname__}>", "exec"), names)  # noqa: S102
    return names["turn"]  # type: ignore[no-any-return]


def _making(kind: type[Action[Any]], names: dict[str, Any]) -> str:
    """Return the line that makes the action: from parameters of the right classes, or else as msgspec does it."""
    try:
        fields, config = msgspec.structs.fields(kind), kind.__struct_config__
    except Exception:  # a type that cannot be found: each turn says so
        return _CONVERT
    usual = not (hasattr(kind, "__post_init__") or config.forbid_unknown_fields or config.array_like or config.tag)
    by_place = all(one.kind is one.POSITIONAL_OR_KEYWORD for one in inspect.signature(kind).parameters.values())
    enough = [_enough(field.type) for field in fields]
    if not (usual and by_place and len(fields) <= _FEW and all(enough)):
        return _CONVERT
    given, tests = [], [f"len(data) == {len(fields)}"]
    for number, (field, kinds) in enumerate(zip(fields, enough, strict=True)):
        given.append(f"given_{number} = data.get({field.encode_name!r}, MISSING)")
        tests.append(_is_one_of(f"given_{number}", kinds, names, f"given_{number}"))
    made = f"Action({', '.join(f'given_{number}' for number in range(len(fields)))})"
    return "; ".join((*given, f"action = {made} if {' and '.join(tests)} else convert(data, Action)"))


def _unsure(state_type: type[msgspec.Struct], names: dict[str, Any]) -> str:
    """Return the condition that a field has to be checked: it is another object than before, of a class not enough."""
    if any(map(iskeyword, state_type.__struct_fields__)):
        return "True"
    unsure = []
    for number, field in enumerate(msgspec.structs.fields(state_type)):
        kinds, new = _enough(field.type), f"value.{field.name}"
        sure = f" and not {_is_one_of(new, kinds, names, f'field_{number}')}" if kinds else ""
        unsure.append(f"({new} is not state.{field.name}{sure})")
    return " or ".join(unsure) or "False"


def _is_one_of(value: str, kinds: tuple[type, ...], names: dict[str, Any], name: str) -> str:
    """Return the condition that a value is of exactly one of these classes."""
    own = {f"{name}_{number}": kind for number, kind in enumerate(kinds)}
    names.update(own)
    return f"({' or '.join(f'type({value}) is {one}' for one in own)})"


def _enough(kind: Any) -> tuple[type, ...]:
    """Return the classes that are enough for a declared type; none if what they are of has to be looked at."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return options if all(map(_is_simple, options)) else ()


def _is_simple(kind: Any) -> bool:
    return isinstance(kind, type) and (kind in _SIMPLE or isinstance(kind, msgspec.StructMeta))


def _checked_step(agent: Agent[S], action: Any, signal: Signal, ref: Ref, value: Any) -> Agent[S] | Step[S]:
    """Return the agent with another state of its type, if that is as declared."""
    try:
        state = rechecked(value, agent.state)
    except msgspec.ValidationError:
        return _step(agent, action, signal, ref, value)
    return msgspec.structs.replace(agent, state=state, version=agent.version + 1)


def _failed_step(agent: Agent[S], action: Any, signal: Signal, ref: Ref, error: BaseException) -> Step[S]:
    """Return the step of an action that has raised an error, or of one that could not be made."""
    raise_interrupt(error)
    if isinstance(action, type) and isinstance(error, msgspec.ValidationError):
        error = BadParams(action.__name__, str(error))
    return _step(agent, action, signal, ref, error)


def _other_step(agent: Agent[S], action: Any, signal: Signal, ref: Ref, outcome: Any) -> Agent[S] | Step[S]:
    """Return the step of an action that has returned something else than a state: often a state and directives."""
    if type(outcome) is Result:
        value = outcome.value
        kind = action.result_type
        directives = tuple(effect for effect in outcome.effects if isinstance(effect, Directive))
        if len(directives) == len(outcome.effects):
            after: Agent[S] | Step[S] | None = None
            if value is None and kind in (None, NoneType):
                after = agent
            elif type(value) is kind is type(agent.state):
                after = _checked_step(agent, action, signal, ref, value)
            if isinstance(after, Agent):
                return Step(after, directives) if directives else after
    return _step(agent, action, signal, ref, outcome)


def _step(agent: Agent[S], action: Any, signal: Signal, ref: Ref, outcome: Any) -> Step[S]:
    """Return the step of a plain action, built from its result or its error, as in `run_command`."""
    command = Command(agent, Turn(signal=signal, ref=ref), "stop")
    try:
        if isinstance(outcome, BaseException):
            raise outcome
        command.apply(action, outcome)
    except BaseException as error:
        command.failed(action, error)
    return Step(command.agent, tuple(command.directives))
