"""Layers between the messages of one actor and its handlers: observers, or the faults of a chaos test.

An actor without layers uses its class's table of handlers and pays nothing. `supervision.system` installs observers;
here are the events that they get, and the layer that produces them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import msgspec

from supervision.call import Call
from supervision.messages import SystemRequest, Wake
from supervision.propagation import Envelope

if TYPE_CHECKING:
    from supervision._core.cell import Cell
    from supervision._core.dispatch import Handler
    from supervision.actor import Actor


#: Gets an actor, a message, and the handler to go on with; returns what the handler returns, maybe a coroutine.
Layer = Callable[[Any, Any, "Handler"], Any]


class LayeredHandlers(dict[type, "Handler"]):
    """A table of handlers with layers before each of them; the layer that was added last comes first."""

    def __init__(self, base: dict[type, Handler]) -> None:
        super().__init__()
        self.base = base
        self.layers: list[Layer] = []
        #: Those that come before all others, whenever the others were added.
        self.outer: list[Layer] = []

    def __missing__(self, kind: type) -> Handler:
        """Return the handler for a type, behind the layers."""
        from supervision._core.dispatch import Behaviour

        handler = self.base.get(kind) or Behaviour.find(self.base, kind)
        if kind in (Envelope, Wake) or issubclass(kind, (Call, SystemRequest)):
            self[kind] = handler
            return handler

        def behind_the_layers(actor: Actor, message: Any) -> Any:
            return self._pass([*self.layers, *self.outer], handler, actor, message)

        self[kind] = behind_the_layers
        return behind_the_layers

    def _pass(self, layers: list[Layer], handler: Handler, actor: Actor, message: Any) -> Any:
        if not layers:
            return handler(actor, message)
        return layers[-1](actor, message, lambda actor, message: self._pass(layers[:-1], handler, actor, message))

    def over(self, base: dict[type, Handler]) -> LayeredHandlers:
        """Return the same layers over other handlers."""
        other = LayeredHandlers(base)
        other.layers, other.outer = self.layers, self.outer
        return other


def add_layer(cell: Cell, layer: Layer, *, outer: bool = False) -> None:
    """Put a layer before the handlers of one incarnation; an outer one comes before all that are not."""
    table = cell.table
    _look_again(cell)
    if not isinstance(table, LayeredHandlers):
        table = cell.table = LayeredHandlers(table)
    (table.outer if outer else table.layers).append(layer)


def remove_layer(cell: Cell, layer: Layer) -> None:
    """Take a layer away."""
    table = cell.table
    assert isinstance(table, LayeredHandlers)
    (table.outer if layer in table.outer else table.layers).remove(layer)
    if not table.layers and not table.outer:
        cell.table = table.base
        _look_again(cell)


def _look_again(cell: Cell) -> None:
    """Have a running turn read the table of handlers again."""
    if cell.running:
        cell.intend()


#: What an observer returns to be removed.
DONE: Any = object()


class SystemEvent(msgspec.Struct, frozen=True):
    """The base of the events that observers of one actor get; ``message`` is what it handles."""

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


class ObserverLayer:
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
            remove_layer(cell, self)


def observer_layer(cell: Cell) -> ObserverLayer | None:
    table = cell.table
    layers = table.layers if isinstance(table, LayeredHandlers) else ()
    return next((layer for layer in layers if isinstance(layer, ObserverLayer)), None)


def notify_late_reply(cell: Cell, message: Any, reply: Any) -> None:
    """Tell an actor's observers that it has answered a deferred request."""
    watch = observer_layer(cell)
    if watch is not None:
        watch.tell(cell, Failed(message, reply) if isinstance(reply, BaseException) else Replied(message, reply))


class RecentEvents:
    """An observer that keeps the last events."""

    def __init__(self, length: int) -> None:
        self.events: deque[SystemEvent] = deque(maxlen=length)

    def __call__(self, event: SystemEvent) -> None:
        self.events.append(event)

    def seen(self, actor: Actor) -> list[SystemEvent]:
        """Return them, oldest first."""
        return list(self.events)


class MessageCounter:
    """An observer that counts messages."""

    def __init__(self, since: float) -> None:
        self._since = since
        self._in = self._out = 0

    def __call__(self, event: SystemEvent) -> None:
        self._in += isinstance(event, Received)
        self._out += isinstance(event, Replied)

    def seen(self, actor: Actor) -> Statistics:
        """Return how many."""
        return Statistics(self._since, actor.runtime.clock.time(), self._in, self._out)


def recent_events(cell: Cell) -> list[SystemEvent]:
    """Return the last events of an actor, if a `RecentEvents` observer keeps them."""
    watch = observer_layer(cell)
    kept = None if watch is None else watch.observers.get("log")
    return list(kept.events) if isinstance(kept, RecentEvents) else []
