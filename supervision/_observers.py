"""Observers of one actor: what they are told, and how they stand between its messages and its handlers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import msgspec

from supervision._interpose import Interposed, withdraw

if TYPE_CHECKING:
    from supervision._cell import Cell
    from supervision._dispatch import Handler
    from supervision.actor import Actor
    from supervision.call import Call

#: What an observer returns to be removed.
DONE: Any = object()


class SystemEvent(msgspec.Struct, frozen=True):
    """The base of what observers are told about one actor; ``message`` is what it handles."""

    message: Any


class Received(SystemEvent, frozen=True):
    """The actor begins to handle a message, or a request."""


class Replied(SystemEvent, frozen=True):
    """The actor has answered a request with ``reply``, at once or later."""

    reply: Any


class Failed(SystemEvent, frozen=True):
    """The handler raised ``error``: a refusal is the answer of a request, anything else a crash."""

    error: BaseException


class Handled(SystemEvent, frozen=True):
    """The actor has handled a message without an answer, or will answer later."""


Observer = Callable[[SystemEvent], object]


class Statistics(msgspec.Struct, frozen=True):
    """What an actor has done since ``since``, in seconds of the runtime's time; it is ``now``."""

    since: float
    now: float
    messages_in: int
    messages_out: int


class Watch:
    """The observers of one incarnation, between its messages and its handlers."""

    def __init__(self) -> None:
        self.observers: dict[Any, Observer] = {}

    def __call__(self, actor: Any, message: Any, proceed: Handler) -> Any:
        cell: Cell = actor._cell
        call = cell.call_in_hand
        self.tell(cell, Received(message))
        try:
            result = proceed(actor, message)
        except BaseException as error:
            self.tell(cell, Failed(message, error))
            raise
        if type(result) is CoroutineType:
            return self._finish(cell, message, call, result)
        self._done(cell, message, call, result)
        return result

    async def _finish(self, cell: Cell, message: Any, call: Call[Any] | None, rest: Any) -> Any:
        try:
            result = await rest
        except BaseException as error:
            self.tell(cell, Failed(message, error))
            raise
        self._done(cell, message, call, result)
        return result

    def _done(self, cell: Cell, message: Any, call: Call[Any] | None, result: Any) -> None:
        now = call is not None and cell.call_in_hand is call
        self.tell(cell, Replied(message, result) if now else Handled(message))

    def tell(self, cell: Cell, event: SystemEvent) -> None:
        """Tell all observers; one that raises, or is done, is removed."""
        for id, observer in list(self.observers.items()):
            try:
                done = observer(event) is DONE
            except Exception:
                done = True
            if done:
                self.remove(cell, id)

    def remove(self, cell: Cell, id: Any) -> None:
        """Remove an observer."""
        self.observers.pop(id, None)
        if not self.observers:
            withdraw(cell, self)


def watch_of(cell: Cell) -> Watch | None:
    table = cell.table
    layers = table.layers if isinstance(table, Interposed) else ()
    return next((layer for layer in layers if isinstance(layer, Watch)), None)


def tell_late_reply(cell: Cell, message: Any, reply: Any) -> None:
    """Tell those who watch an actor that it has answered a request it had put off."""
    watch = watch_of(cell)
    if watch is not None:
        watch.tell(cell, Failed(message, reply) if isinstance(reply, BaseException) else Replied(message, reply))


class Log:
    """Keeps the last events."""

    def __init__(self, length: int) -> None:
        self.events: deque[SystemEvent] = deque(maxlen=length)

    def __call__(self, event: SystemEvent) -> None:
        self.events.append(event)

    def seen(self, actor: Actor) -> list[SystemEvent]:
        """Return them, oldest first."""
        return list(self.events)


class Counter:
    """Counts messages."""

    def __init__(self, since: float) -> None:
        self._since = since
        self._in = self._out = 0

    def __call__(self, event: SystemEvent) -> None:
        self._in += isinstance(event, Received)
        self._out += isinstance(event, Replied)

    def seen(self, actor: Actor) -> Statistics:
        """Return how many."""
        return Statistics(self._since, actor.runtime.clock.time(), self._in, self._out)


def kept_events(cell: Cell) -> list[SystemEvent]:
    """Return the last events of an actor, if they were kept."""
    watch = watch_of(cell)
    kept = None if watch is None else watch.observers.get("log")
    return list(kept.events) if isinstance(kept, Log) else []
