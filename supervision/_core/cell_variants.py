"""Variants of a cell: with a bounded mailbox, with messages that carry the sender's context, and with both.

The plain `Cell` pays for neither. A runtime with a `Propagator` starts the propagating variants, by `PROPAGATING`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from supervision import errors
from supervision._core.cell import Cell
from supervision._core.phases import IDLE, KERNEL_MESSAGES, WAKE, current
from supervision.call import DEFAULT_TIMEOUT, Call
from supervision.errors import MailboxFull
from supervision.mailbox import BoundedBox, Mailbox
from supervision.messages import ParentExit, Request, SystemRequest
from supervision.propagation import Envelope, PropagatingCall, unwrap

if TYPE_CHECKING:
    from supervision._core.scheduler import Scheduler
    from supervision.actor import Actor
    from supervision.propagation import Propagator


R = TypeVar("R")


class BoundedCell(Cell):
    """One incarnation of an actor with a bounded mailbox.

    All its messages wait in the box, so that they are counted.
    """

    __slots__ = ()

    def __init__(
        self, sched: Scheduler, kind: type[Actor], id: int, parent: Cell | None, label: Any, name: str | None
    ) -> None:
        super().__init__(sched, kind, id, parent, label, name)
        assert kind.mailbox.capacity is not None
        self.box = BoundedBox(kind.mailbox.capacity)

    @property
    def _policy(self) -> Mailbox:
        return self.kind.mailbox

    def cast(self, message: Any) -> None:
        """Send a message and forget it; it is dropped if there is no room."""
        if self.sched.fenced and self.sched.is_fenced():
            self.dead_letter(message, "fenced")
        elif self.box is None:
            self.dead_letter(message, "noproc")
        elif self._make_room():
            self._take(message)
        else:
            self.dead_letter(message, "mailbox_full")

    def deliver(self, message: Any) -> None:
        """Put in a message of the kernel, whatever the capacity."""
        if self.box is None:
            self.dead_letter(message, "noproc")
        elif self.suspended and isinstance(message, ParentExit):
            self.admit(message)
        else:
            self._take(message)

    def _make_room(self) -> bool:
        box: BoundedBox = self.box
        if not box.full():
            return True
        if self._policy.overflow != "drop_oldest":
            return False
        oldest = next((n for n, m in enumerate(box.messages) if not isinstance(m, KERNEL_MESSAGES)), None)
        if oldest is None:
            return False
        message = box.messages[oldest]
        del box.messages[oldest]
        if isinstance(message, Call):
            self._refuse(message)
        else:
            self.dead_letter(message, "dropped_oldest")
        return True

    def _take(self, message: Any) -> None:
        self.box.append(message)
        if len(self.box) > self.high:
            self._high_water(len(self.box))
        if self.head is IDLE:
            self.head = WAKE
            self.sched.enqueue(self)

    def _refuse(self, call: Call[Any]) -> None:
        self.sched.count_dead_letter("mailbox_full")
        if not call.done():
            self.sched.fail(call, errors.MailboxFull(self, call.message, self.box.capacity, begun=call.begun))

    def call(self, request: Request[R], timeout: float | None = DEFAULT_TIMEOUT) -> Call[R]:
        """Send a request; await what this returns for the answer."""
        call: Call[R] = Call(loop=self.sched.loop)
        call.message = request
        call.target = self
        if self.sched.prepare_call(call, timeout, current.get()):
            self.enqueue_call(call)
        return call

    def enqueue_call(self, call: Call[Any]) -> None:
        """Let a request wait in the mailbox, if there is room."""
        if self.box is None:
            self.sched.fail(call, errors.NoProcess(self, call.message, self.describe_exit()))
        elif isinstance(call.message, SystemRequest):
            self.admit(call) if self.suspended else self._take(call)
        elif self._make_room():
            self._take(call)
        elif self._policy.overflow == "wait":
            self.box.waiting.append((call, None))
        else:
            self._refuse(call)

    async def send(self, message: Any) -> None:
        """Send a message, and wait for room if the mailbox says so."""
        fenced = self.sched.fenced and self.sched.is_fenced()
        drops = self._policy.overflow in ("drop_newest", "drop_oldest")
        if self.box is None or fenced or drops or self._make_room():
            self.cast(message)
        elif self._policy.overflow == "refuse":
            raise errors.MailboxFull(self, message, self.box.capacity)
        else:
            admitted: asyncio.Future[None] = self.sched.loop.create_future()
            self.box.waiting.append((message, admitted))
            await admitted


class Propagating(Cell):
    """Sends and calls with the sender's context attached."""

    __slots__ = ()

    @property
    def propagator(self) -> Propagator:
        """The runtime's propagator."""
        propagator = self.sched.runtime.propagator
        assert propagator is not None
        return propagator

    def cast(self, message: Any) -> None:
        """Send a message and forget it."""
        super().cast(self._loaded(message))

    def _loaded(self, message: Any) -> Any:
        if type(message) is Envelope:
            return message
        load = self.propagator.send(self, message, None)
        return message if load is None else Envelope(message, load)

    def call(self, request: Request[R], timeout: float | None = DEFAULT_TIMEOUT) -> Call[R]:
        """Send a request; await what this returns for the answer."""
        call = super().call(request, timeout)
        load = self.propagator.send(self, request, call)
        if load is not None:
            # It is in a mailbox already, and its handler is found by its type.
            call.__class__ = PropagatingCall
            call.load = load
        return call

    def load(self, call: Call[Any]) -> None:
        """Attach the sender's context to a request."""
        load = self.propagator.send(self, call.message, call)
        if load is not None:
            call.__class__ = PropagatingCall
            call.load = load

    async def send(self, message: Any) -> None:
        """Send a message, and wait for room if the mailbox says so."""
        try:
            await super().send(self._loaded(message))
        except MailboxFull as error:
            raise MailboxFull(self, message, error.capacity) from None

    def dead_letter(self, message: Any, why: str) -> None:
        """Count a message that no handler gets."""
        super().dead_letter(unwrap(message), why)


class PropagatingCell(Propagating):
    """A cell with an unbounded mailbox whose messages carry a context."""

    __slots__ = ()


class PropagatingBoundedCell(Propagating, BoundedCell):
    """A cell with a bounded mailbox whose messages carry a context."""

    __slots__ = ()


#: The propagating variant of each cell.
PROPAGATING: dict[type[Cell], type[Cell]] = {Cell: PropagatingCell, BoundedCell: PropagatingBoundedCell}


def handle_envelope(actor: Actor, envelope: Envelope) -> Any:
    """Handle a message that carries a context."""
    cell = actor._cell
    assert isinstance(cell, Propagating)
    message = envelope.message

    def proceed() -> Any:
        try:
            handler = cell.table[type(message)]
        except KeyError:
            handler = cell.find_handler(type(message))
        return handler(actor, message)

    return cell.propagator.handle(actor, message, envelope.load, proceed)


def handle_propagating_call(actor: Actor, call: PropagatingCall[Any]) -> Any:
    """Handle a request that carries a context."""
    cell = actor._cell
    assert isinstance(cell, Propagating)
    answer = cell.table[Call]
    return cell.propagator.handle(actor, call.message, call.load, lambda: answer(actor, call))
