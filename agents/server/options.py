"""Options of agents' servers, as pools, instances and trees give them to each: checked before there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agents.core.agent_type import AgentType
from agents.durability.checkpointer import Durability
from agents.server.error_policy import EmitError, LogOnly, StopAfter
from agents.server.view import AgentView
from supervision import Address
from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.options import is_whole

#: What each of many agents can be started with.
OPTIONS = ("state", "partition", "emit_to", "on_error", "debug", "durability", "idle_timeout")


def checked_kind(where: str, kind: Any) -> type[AgentType[Any]]:
    """Return the type of an agent.

    Raises:
        BadOption: it is none.
    """
    if not isinstance(kind, type) or not issubclass(kind, AgentType):
        raise BadOption(f"{where}: kind", kind, "give a subclass of AgentType")
    return kind


def check_options(where: str, options: Mapping[str, Any]) -> None:
    """Check all options of a server but those that depend on the type of its agent.

    Args:
        where: whose they are, for errors.
        options: by name; those that are not there are right.

    Raises:
        BadOption, BadTime: one is wrong.
    """
    on_error, debug, view = options.get("on_error", LogOnly()), options.get("debug", 0), options.get("view")
    durability, emit_to, idle = options.get("durability"), options.get("emit_to"), options.get("idle_timeout")
    if not isinstance(on_error, (LogOnly, StopAfter, EmitError)) and not callable(on_error):
        raise BadOption(f"{where}: on_error", on_error, "give LogOnly(), StopAfter(errors), or a function")
    if not is_whole(debug, 0):
        raise BadOption(f"{where}: debug", debug, "give a whole number, 0 or more")
    if view is not None and not isinstance(view, AgentView):
        raise BadOption(f"{where}: view", view, "give an AgentView, or None")
    if durability is not None and not isinstance(durability, Durability):
        raise BadOption(f"{where}: durability", durability, "give Durability(storage)")
    if not (emit_to is None or isinstance(emit_to, Address) or (isinstance(emit_to, str) and emit_to)):
        raise BadOption(f"{where}: emit_to", emit_to, "give an address, the name of an actor, or None")
    if idle is not None:
        seconds(f"{where}: idle_timeout", idle)


def check_many(where: str, kind: type[AgentType[Any]], options: Mapping[str, Any], *, own_state: bool = False) -> None:
    """Check what each of many agents is started with.

    Args:
        where: whose they are, for errors.
        kind: the type of the agents.
        options: by name.
        own_state: whether each may be given a first state of its own later.

    Raises:
        BadOption, BadTime: one is wrong.
        BadAgentType: the type has no state.
        BadState: the state does not fit the type.
    """
    checked_kind(where, kind)
    for name, value in options.items():
        if name not in OPTIONS:
            raise BadOption(f"{where}: {name}", value, f"there is no such option; there are {', '.join(OPTIONS)}")
    check_options(where, options)
    state, partition = options.get("state"), options.get("partition", "")
    if not isinstance(partition, str) or "/" in partition:
        raise BadOption(f"{where}: partition", partition, "give a string without '/'")
    if state is not None or not own_state:
        kind.new("checked", state)
