"""What agents add to the event stream of a runtime."""

from __future__ import annotations

from supervision import Ref
from supervision.events import Event
from supervision.reasons import Crashed


class ActionFailed(Event, frozen=True, kw_only=True):
    """An action of an agent, a directive, or a hook of a plugin failed.

    Attributes:
        ref: the agent's server.
        path: its place in the tree.
        agent_id: of the agent.
        agent_type: the name of its type.
        partition: of the agent.
        action: the name of the action's class; or what else has failed.
        error: the exception as data.
        signal_id: of the signal that asked for the action.
    """

    ref: Ref
    path: str
    agent_id: str
    agent_type: str
    partition: str
    action: str
    error: Crashed
    signal_id: str


class TurnTaken(Event, frozen=True, kw_only=True):
    """An agent has taken a turn: its actions were run, its state committed, its directives carried out.

    Attributes:
        ref: the agent's server.
        agent_id: of the agent.
        agent_type: the name of its type.
        partition: of the agent.
        signal_type: of the signal.
        signal_id: of the signal.
        cause_id: of the signal that caused that one; None if it came from outside.
        actions: the names of what was run, in order.
        directives: the kinds of what was to be carried out, in order.
        version: of the agent after it.
    """

    ref: Ref
    agent_id: str
    agent_type: str
    partition: str
    signal_type: str
    signal_id: str
    cause_id: str | None
    actions: tuple[str, ...]
    directives: tuple[str, ...]
    version: int


class SignalUndelivered(Event, frozen=True, kw_only=True):
    """A signal could not be delivered, however often it was tried.

    Attributes:
        ref: who has tried.
        destination: where it was to go.
        signal_type: of the signal.
        signal_id: of the signal.
        attempts: how often it was tried.
        error: what went wrong the last time.
    """

    ref: Ref
    destination: str
    signal_type: str
    signal_id: str
    attempts: int
    error: str
