"""Signals and the event stream: each can be turned into the other."""

from __future__ import annotations

from typing import Any

import msgspec

from agents import Signal, uuid7
from bridge.events import emit_agent_event
from supervision import Actor, Address, handle
from supervision.events import Event


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
    """Casts somebody a signal for each event of some kinds: ``event.Exited`` for an `Exited`, with its fields as data.

    What happens to the one who gets them is left out, lest one event lead to the next for ever.
    """

    def __init__(self, to: Address, *kinds: type[Event]) -> None:
        self._to = to
        self._subscription = self.runtime.subscribe(self._tell, *kinds)

    def terminate(self, reason: object) -> None:
        """Listen no more."""
        self._subscription.close()

    def _tell(self, event: Event) -> None:
        if not self.ref.alive:
            self._subscription.close()
        elif getattr(event, "ref", None) not in (self._to, self.ref):
            now = self.runtime.clock.wall_time()
            data: Any = msgspec.structs.asdict(event)
            id = uuid7(self.runtime.random, now)
            self._to.cast(Signal(type=f"event.{type(event).__name__}", source=self.ref.path, id=id, data=data))
