"""Actors with a bounded mailbox: all their messages wait in the box, so that they are counted."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from supervision import errors
from supervision._cell import Cell
from supervision._marks import IDLE, KERNEL_MESSAGES, WAKE, current
from supervision.call import DEFAULT_TIMEOUT, Call
from supervision.mailbox import BoundedBox, Mailbox
from supervision.messages import ParentExit, Request, SystemRequest

if TYPE_CHECKING:
    from supervision._scheduler import Scheduler
    from supervision.actor import Actor

R = TypeVar("R")


class BoundedCell(Cell):
    """One incarnation of an actor with a bounded mailbox. All its messages wait in the box, to be counted."""

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
            self.hand_in(message)
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
        if self.sched.set_out(call, timeout, current.get()):
            self.enqueue_call(call)
        return call

    def enqueue_call(self, call: Call[Any]) -> None:
        """Let a request wait in the mailbox, if there is room."""
        if self.box is None:
            self.sched.fail(call, errors.NoProcess(self, call.message, self.obituary()))
        elif isinstance(call.message, SystemRequest):
            self.hand_in(call) if self.suspended else self._take(call)
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
