"""What agents add to the event stream of a runtime."""

from __future__ import annotations

from supervision import Ref
from supervision.events import Event
from supervision.reasons import Crashed


class ActionFailed(Event, frozen=True, kw_only=True):
    """An action of an agent failed.

    Attributes:
        ref: the agent's server.
        path: its place in the tree.
        agent_id: of the agent.
        agent_type: the name of its type.
        action: the name of the action's class.
        error: the exception as data.
        signal_id: of the signal that asked for the action.
    """

    ref: Ref
    path: str
    agent_id: str
    agent_type: str
    action: str
    error: Crashed
    signal_id: str
