"""What the bridge adds to the event stream of a runtime, and actors that turn signals into events and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from agents import Signal
from agents.core.signal import uuid7
from bridge.health import HealthStatus
from supervision import Actor, Address, Ref, handle
from supervision.events import Event

_NOTHING: Mapping[str, Any] = {}


class AgentEvent(Event, frozen=True, kw_only=True):
    """Something that an agent, or any other actor, reports.

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
    before: HealthStatus
    health: HealthStatus
    why: str


def emit_agent_event(
    ref: Ref, name: str, measurements: Mapping[str, float] = _NOTHING, metadata: Mapping[str, Any] = _NOTHING
) -> None:
    """Put an `AgentEvent` on the event stream: any actor can. With nobody listening, nothing is built."""
    stream = ref.runtime.events
    if stream.wanted[AgentEvent]:
        stream.emit(AgentEvent, ref=ref, path=ref.path, name=name, measurements=measurements, metadata=metadata)


class EventSink(Actor):
    """Puts each signal that it is cast on the event stream, as an `AgentEvent`; numbers in it are measurements."""

    @handle
    def note(self, signal: Signal) -> None:
        """Put a signal on the stream."""
        data = signal.data if isinstance(signal.data, dict) else {"data": signal.data}
        numbers = {key: value for key, value in data.items() if type(value) in (int, float)}
        rest = {key: value for key, value in data.items() if key not in numbers}
        emit_agent_event(self.ref, signal.type, numbers, {**rest, "source": signal.source, "signal_id": signal.id})


class EventSignals(Actor):
    """Casts an actor a signal for each event of some kinds: ``event.Exited`` for an `Exited`, with its fields as data.

    Events about the receiver are left out, so that one event does not lead to the next for ever.
    """

    def __init__(self, to: Address, *kinds: type[Event]) -> None:
        self._to = to
        self._subscription = self.runtime.subscribe(self._tell, *kinds)

    def terminate(self, reason: object) -> None:
        """End the subscription."""
        self._subscription.close()

    def _tell(self, event: Event) -> None:
        if not self.ref.alive:
            self._subscription.close()
        elif getattr(event, "ref", None) not in (self._to, self.ref):
            now = self.runtime.clock.wall_time()
            data: Any = msgspec.structs.asdict(event)
            id = uuid7(self.runtime.random, now)
            self._to.cast(Signal(type=f"event.{type(event).__name__}", source=self.ref.path, id=id, data=data))
