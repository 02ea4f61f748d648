"""The event log of a run: all events in order, to be searched, checked and compared."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from supervision.events import ActorEvent, Event, Subscription
from supervision.ref import Ref
from supervision.runtime import Runtime

E = TypeVar("E", bound=Event)

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class EventLog:
    """Records the events of a runtime.

    Args:
        runtime: whose.
        kinds: which classes of events, with their subclasses; all if none is given.
        keep: how many of the last events are kept; None for all. The digest covers all in any case.

    >>> import asyncio
    >>> from supervision import Actor, Runtime
    >>> async def main() -> None:
    ...     async with Runtime() as runtime:
    ...         log = EventLog(runtime)
    ...         await (await runtime.spawn(Actor, name="a")).stop()
    ...         print([type(event).__name__ for event in log])
    >>> asyncio.run(main())
    ['Registered', 'StartAttempt', 'Started', 'StopRequested', 'Unregistered', 'Exited']
    """

    def __init__(self, runtime: Runtime, *kinds: type[Event], keep: int | None = None) -> None:
        self.runtime = runtime
        self._hash = hashlib.sha256()
        self._events: deque[Event] = deque(maxlen=keep)
        self._subscription: Subscription = runtime.subscribe(self._record, *kinds)

    def _record(self, event: Event) -> None:
        self._events.append(event)
        self._hash.update(line_of(event).encode())

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def of(self, *kinds: type[E]) -> list[E]:
        """Return the events of some classes, with their subclasses."""
        return [event for event in self._events if isinstance(event, kinds)]

    def about(self, path: str) -> list[ActorEvent]:
        """Return the events about the actors at a path."""
        return [event for event in self._events if isinstance(event, ActorEvent) and event.path == path]

    def tail(self, number: int = 20) -> list[str]:
        """Return the last events, a line each."""
        return [line_of(event) for event in list(self._events)[-number:]]

    def digest(self) -> str:
        """Return a hash over all events: equal for two runs in which the same happened in the same order."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Stop recording."""
        self._subscription.close()


def line_of(event: Event) -> str:
    """Return an event as one line, without what differs between two equal runs, such as addresses in memory."""
    fields = msgspec.structs.asdict(event)
    del fields["seq"], fields["time"]
    who = ""
    if isinstance(event, ActorEvent):
        who = f" {event.path}#{event.ref.id}"
        del fields["ref"], fields["path"], fields["kind"]
    rest = " ".join(f"{name}={_text(value)}" for name, value in fields.items())
    return f"{event.seq:>6} {event.time:.6f}  {type(event).__name__}{who} {rest}".rstrip()


def _text(value: object) -> str:
    if isinstance(value, Ref):
        return f"{value.path}#{value.id}"
    text = repr(value) if isinstance(value, (str, tuple)) else str(value)
    return _ADDRESS.sub("", text)
