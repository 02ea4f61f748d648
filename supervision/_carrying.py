"""Cells whose messages carry the context of their senders, for runtimes that have a `Carrier`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from supervision._bounded import BoundedCell
from supervision._cell import Cell
from supervision._envelopes import Carried, CarriedCall, bare
from supervision.call import DEFAULT_TIMEOUT, Call
from supervision.errors import MailboxFull
from supervision.messages import Request

if TYPE_CHECKING:
    from supervision.actor import Actor
    from supervision.carrier import Carrier

R = TypeVar("R")


class Carrying(Cell):
    """What both kinds of cells do so that their messages carry something."""

    __slots__ = ()

    @property
    def carrier(self) -> Carrier:
        """Who decides what is carried."""
        carrier = self.sched.runtime.carrier
        assert carrier is not None
        return carrier

    def cast(self, message: Any) -> None:
        """Send a message and forget it."""
        super().cast(self._loaded(message))

    def _loaded(self, message: Any) -> Any:
        if type(message) is Carried:
            return message
        load = self.carrier.send(self, message, None)
        return message if load is None else Carried(message, load)

    def call(self, request: Request[R], timeout: float | None = DEFAULT_TIMEOUT) -> Call[R]:
        """Send a request; await what this returns for the answer."""
        call = super().call(request, timeout)
        load = self.carrier.send(self, request, call)
        if load is not None:
            # It stands in a mailbox already: its type is what the actor finds its handler by.
            call.__class__ = CarriedCall
            call.load = load
        return call

    def load(self, call: Call[Any]) -> None:
        """Have a request carry what it is to carry."""
        load = self.carrier.send(self, call.message, call)
        if load is not None:
            call.__class__ = CarriedCall
            call.load = load

    async def send(self, message: Any) -> None:
        """Send a message, and wait for room if the mailbox says so."""
        try:
            await super().send(self._loaded(message))
        except MailboxFull as error:
            raise MailboxFull(self, message, error.capacity) from None

    def dead_letter(self, message: Any, why: str) -> None:
        """Count a message that nobody will read."""
        super().dead_letter(bare(message), why)


class CarryingCell(Carrying):
    """A cell with an unbounded mailbox whose messages carry something."""

    __slots__ = ()


class CarryingBoundedCell(Carrying, BoundedCell):
    """A cell with a bounded mailbox whose messages carry something."""

    __slots__ = ()


#: The cells that carry something, by those that do not.
CARRYING: dict[type[Cell], type[Cell]] = {Cell: CarryingCell, BoundedCell: CarryingBoundedCell}


def unload(actor: Actor, carried: Carried) -> Any:
    """Handle a message that carries something."""
    cell = actor._cell
    assert isinstance(cell, Carrying)
    message = carried.message

    def proceed() -> Any:
        try:
            handler = cell.table[type(message)]
        except KeyError:
            handler = cell.find_handler(type(message))
        return handler(actor, message)

    return cell.carrier.handle(actor, message, carried.load, proceed)


def unload_call(actor: Actor, call: CarriedCall[Any]) -> Any:
    """Handle a request that carries something."""
    cell = actor._cell
    assert isinstance(cell, Carrying)
    answer = cell.table[Call]
    return cell.carrier.handle(actor, call.message, call.load, lambda: answer(actor, call))
