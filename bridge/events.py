"""What the bridge adds to the event stream of a runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bridge.health import Health
from supervision import Ref
from supervision.events import Event

_NOTHING: Mapping[str, Any] = {}


class AgentEvent(Event, frozen=True, kw_only=True):
    """Something that an agent, or any other actor, has to tell.

    Attributes:
        ref: who.
        path: its place in the tree.
        name: what happened, such as ``"order.packed"``.
        measurements: numbers about it, each by a name that says the unit, such as ``"seconds"``.
        metadata: whatever else.
    """

    ref: Ref
    path: str
    name: str
    measurements: Mapping[str, float]
    metadata: Mapping[str, Any]


class HealthChanged(Event, frozen=True, kw_only=True):
    """The health of a monitored actor is now ``health``; it was ``before``. ``why`` is what the last check said."""

    ref: Ref
    path: str
    key: Any
    before: Health
    health: Health
    why: str


def emit_agent_event(
    ref: Ref, name: str, measurements: Mapping[str, float] = _NOTHING, metadata: Mapping[str, Any] = _NOTHING
) -> None:
    """Put an `AgentEvent` on the event stream: any actor can. With nobody listening, nothing is built."""
    stream = ref.runtime.events
    if stream.wanted[AgentEvent]:
        stream.emit(AgentEvent, ref=ref, path=ref.path, name=name, measurements=measurements, metadata=metadata)
