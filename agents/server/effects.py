"""Effects as they are kept: which directives of a durable agent outlive their turn, and how they are written down."""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from agents.core.action import Action, is_work
from agents.core.agent_type import AgentType
from agents.core.composition import Chain, Parallel
from agents.core.directives import (
    AdoptChild,
    AwaitReply,
    Directive,
    ErrorDirective,
    RunInstruction,
    Spawn,
    SpawnAgent,
    StartSensor,
    StopAgent,
    StopChild,
    StopSensor,
)
from agents.core.signal import Signal
from agents.core.structs import fields_of
from agents.durability.checkpoint import check_kept, decoded, encoded
from agents.durability.storage import StoredRow
from agents.errors import NotSaved
from supervision import Name

if TYPE_CHECKING:
    from collections.abc import Callable

#: Carried out after the commit, and gone with the server.
LOCAL: set[type[Directive]] = {AdoptChild, ErrorDirective, Spawn, StartSensor, StopAgent, StopChild, StopSensor}
#: The kinds of rows: an effect that is open, and one that was given up.
OPEN, DEAD = "effect", "dead"
#: Where signals go that do not say so themselves.
DEFAULT = ""
#: So much of what went wrong is kept, in characters.
_LONGEST_ERROR = 1000


class Effect(msgspec.Struct, frozen=True):
    """A directive that is kept until it is carried out.

    Attributes:
        token: under which receivers know it: the same in each try.
        what: the tag of the directive.
        at: when it was decided, in seconds since the epoch.
        source: of the signal that caused it.
        cause: the id of that signal.
        to: where a signal goes: the name of an actor, or `DEFAULT`; None for what is no signal.
        seq: its number in the stream to there.
        signal: what is sent.
        data: what else is to be known of the directive.
        why: it was given up; None while it is open.
        attempts: how often it was tried in vain.
        error: of the last try.
        trace: that it belongs to; that of a signal is in the signal.
    """

    token: str
    what: str
    at: float
    source: str
    cause: str
    to: str | None = None
    seq: int = 0
    signal: Signal | None = None
    data: Any = None
    why: str | None = None
    attempts: int = 0
    error: str | None = None
    trace: Mapping[str, str] = {}


def tried(effect: Effect, error: str) -> Effect:
    """Return an effect that was tried once more, in vain."""
    return msgspec.structs.replace(effect, attempts=effect.attempts + 1, error=shortened(error, _LONGEST_ERROR))


def shortened(error: str, longest: int) -> str:
    """Return an error without its middle, if it is longer: what has failed is at its beginning, and why at its end."""
    head = longest // 3
    return error if len(error) <= longest else f"{error[:head]} ... {error[len(error) - longest + head + 5 :]}"


def again(effect: Effect, now: float) -> Effect:
    """Return an effect that was given up, to be tried again with the token that it has."""
    return msgspec.structs.replace(effect, why=None, at=now, attempts=0, error=None)


def effect_row(kind: str, id: str, effect: Effect, where: str) -> StoredRow:
    """Return an effect as a row.

    Raises:
        NotSaved: a part of it cannot be kept; the error says which.
    """
    if effect.signal is not None:
        check_kept(Any, effect.signal.data, f"{where}.data", id)
    else:
        for name in ("data", "meta"):
            check_kept(Any, effect.data.get(name), f"{where}.{name}", id)
    due = int(effect.at * 1000) if kind == OPEN else None
    return StoredRow(kind, id, encoded(effect, where, id, Effect), due)


def read_effect(row: StoredRow) -> Effect:
    """Return the effect in a row.

    Raises:
        BadCheckpoint: it cannot be read.
    """
    return decoded(row.id, row.body, Effect)


def destination(to: Any, where: str, key: str, field: str = "to") -> str:
    """Return where a signal goes, as text.

    Raises:
        NotSaved: it is one incarnation of an actor, which will not be there after a crash.
    """
    if to is None:
        return DEFAULT
    if isinstance(to, Name):
        return to.key
    if isinstance(to, str):
        return to
    raise NotSaved(key, f"{where}.{field} is {to!r}, one incarnation of an actor: give the name of one")


# -- what can be imported ----------------------------------------------------------------------------------------------


def path_of(what: Any, where: str, key: str) -> str:
    """Return where a class is imported from.

    Raises:
        NotSaved: it cannot be.
    """
    path = f"{what.__module__}:{what.__qualname__}"
    try:
        found = resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        found = None
    if found is not what:
        raise NotSaved(key, f"{where} is {what!r}, which cannot be imported as {path!r}: define it in a module")
    return path


def work_data(work: Any, where: str, key: str) -> Any:
    """Return work as data.

    Raises:
        NotSaved: it is, or has, something that cannot be imported.
    """
    if isinstance(work, tuple):
        return {"work": work_data(work[0], where, key), "params": _params(work[1])}
    if isinstance(work, (Chain, Parallel)):
        limit = work.limit if isinstance(work, Parallel) else None
        parts = [work_data(part, where, key) for part in work.parts]
        return {"made": type(work).__name__, "parts": parts, "limit": limit}
    if isinstance(work, Action):
        return {"work": path_of(type(work), where, key), "params": _params(work)}
    if isinstance(work, type):
        return path_of(work, where, key)
    raise NotSaved(key, f"{where} is {work!r}: give an action, its class, or a Chain or Parallel of them")


def _params(params: Any) -> Any:
    return fields_of(params) if isinstance(params, msgspec.Struct) else params


def work_of(data: Any) -> Any:
    """Return the work that data say.

    Raises:
        ImportError, AttributeError, ValueError, TypeError: it is not there any more.
    """
    if isinstance(data, str):
        work = resolve_name(data)
    elif "made" in data:
        parts = [work_of(part) for part in data["parts"]]
        work = Chain(*parts) if data["made"] == "Chain" else Parallel(*parts, limit=data["limit"])
    else:
        work = (work_of(data["work"]), data["params"])
    if not is_work(work):
        raise TypeError(f"{work!r} is no work")
    return work


# -- directives --------------------------------------------------------------------------------------------------------


def _instruction_data(directive: RunInstruction, key: str) -> Any:
    work = work_data(directive.work, "RunInstruction.work", key)
    return {"work": work, "then": directive.then, "meta": directive.meta}


def _instruction(data: Mapping[str, Any]) -> RunInstruction:
    return RunInstruction(work_of(data["work"]), data["then"], data["meta"])


def _question_data(directive: AwaitReply, key: str) -> Any:
    to = destination(directive.to, "AwaitReply", key)
    return {**msgspec.structs.asdict(directive), "to": to}


def _question(data: Mapping[str, Any]) -> AwaitReply:
    return AwaitReply(**data)


def _child_data(directive: SpawnAgent, key: str) -> Any:
    state = directive.state
    if not issubclass(directive.type, AgentType):
        raise NotSaved(key, f"SpawnAgent.type is {directive.type!r}: give a subclass of AgentType")
    return {
        **msgspec.structs.asdict(directive),
        "type": path_of(directive.type, "SpawnAgent.type", key),
        "state": fields_of(state) if isinstance(state, msgspec.Struct) else state,
        "emit_to": destination(directive.emit_to, "SpawnAgent", key, "emit_to") or None,
        "started": False,
    }


def _child(data: Mapping[str, Any]) -> SpawnAgent:
    kind = resolve_name(data["type"])
    if not issubclass(kind, AgentType):
        raise TypeError(f"{kind!r} is no AgentType")
    fields = {name: value for name, value in data.items() if name != "started"}
    return SpawnAgent(**{**fields, "type": kind})


Keeper: TypeAlias = "tuple[Callable[[Any, str], Any], Callable[[Any], Directive]]"
#: How directives are written down, and read again.
KEEPERS: dict[type[Directive], Keeper] = {
    RunInstruction: (_instruction_data, _instruction),
    AwaitReply: (_question_data, _question),
    SpawnAgent: (_child_data, _child),
}


def keep_as_it_is(kind: type[Directive]) -> None:
    """Have directives of a class kept by their fields: their class is imported when they are read again."""

    def data(directive: Any, key: str) -> Any:
        check_kept(type(directive), directive, kind.__name__, key)
        return {"path": path_of(type(directive), kind.__name__, key), "fields": directive}

    def directive(data: Mapping[str, Any]) -> Directive:
        return msgspec.convert(data["fields"], resolve_name(data["path"]))  # type: ignore[no-any-return]

    KEEPERS[kind] = (data, directive)


def keeper_of(kind: type[Directive]) -> tuple[str, Keeper] | None:
    """Return under which name directives of a class are kept, and how; None if they are not."""
    for base in kind.__mro__:
        if base in KEEPERS:
            return base.__name__, KEEPERS[base]
    return None


def directive_of(effect: Effect) -> Directive:
    """Return the directive that was kept.

    Raises:
        Exception: its class, or the work in it, is not there any more.
    """
    keeper = next(keeper for kind, keeper in KEEPERS.items() if kind.__name__ == effect.what)
    return keeper[1](effect.data)
