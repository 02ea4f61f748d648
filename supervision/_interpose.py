"""Something between the messages of one actor and its handlers: observers, or the faults of a chaos test.

An actor that nobody looks into has its class's own table of handlers and pays nothing for this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from supervision._envelopes import Carried
from supervision.call import Call
from supervision.messages import SystemRequest, Wake

if TYPE_CHECKING:
    from supervision._cell import Cell
    from supervision._dispatch import Handler
    from supervision.actor import Actor

#: Gets an actor, a message, and the handler to go on with; returns what the handler returns, maybe a coroutine.
Layer = Callable[[Any, Any, "Handler"], Any]


class Interposed(dict[type, "Handler"]):
    """A table of handlers with layers before each of them; the layer that was put in last comes first."""

    def __init__(self, base: dict[type, Handler]) -> None:
        super().__init__()
        self.base = base
        self.layers: list[Layer] = []
        #: Those that come before all others, whenever the others were put in.
        self.outer: list[Layer] = []

    def __missing__(self, kind: type) -> Handler:
        """Return the handler for a type, behind the layers."""
        from supervision._dispatch import Behaviour

        handler = self.base.get(kind) or Behaviour.find(self.base, kind)
        if kind in (Carried, Wake) or issubclass(kind, (Call, SystemRequest)):
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

    def over(self, base: dict[type, Handler]) -> Interposed:
        """Return the same layers over other handlers."""
        other = Interposed(base)
        other.layers, other.outer = self.layers, self.outer
        return other


def interpose(cell: Cell, layer: Layer, *, outer: bool = False) -> None:
    """Put a layer before the handlers of one incarnation; an outer one comes before all that are not."""
    table = cell.table
    _look_again(cell)
    if not isinstance(table, Interposed):
        table = cell.table = Interposed(table)
    (table.outer if outer else table.layers).append(layer)


def withdraw(cell: Cell, layer: Layer) -> None:
    """Take a layer away."""
    table = cell.table
    assert isinstance(table, Interposed)
    (table.outer if layer in table.outer else table.layers).remove(layer)
    if not table.layers and not table.outer:
        cell.table = table.base
        _look_again(cell)


def _look_again(cell: Cell) -> None:
    """Have the turn that runs, if one does, look at the table of handlers again."""
    if cell.running:
        cell.intend()
