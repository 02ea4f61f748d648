"""Mailboxes: how many messages may wait for an actor, and what happens to one too many."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from supervision.errors import BadMailbox
from supervision.options import check_choice, is_whole

if TYPE_CHECKING:
    import asyncio


Overflow = Literal["wait", "drop_newest", "drop_oldest", "refuse"]


class Mailbox(msgspec.Struct, frozen=True):
    """How an actor class wants its mailbox. Messages of the kernel (exits, downs, time-outs) always get in.

    Args:
        capacity: how many messages may wait; None for no limit.
        overflow: what happens to one too many. ``wait``: ``send`` and ``call`` wait for room, a ``cast`` is dropped.
            ``drop_newest`` and ``drop_oldest`` drop that one, or the oldest, to the dead letters; a call that is
            dropped fails with `MailboxFull`. ``refuse``: ``send`` and ``call`` fail with it, a ``cast`` is dropped.
        high_water: at how many waiting messages a `HighWater` event tells of trouble, and again at each doubling.

    >>> Mailbox(capacity=100, overflow="drop_oldest").capacity
    100
    """

    capacity: int | None = None
    overflow: Overflow = "wait"
    high_water: int = 10_000

    def __post_init__(self) -> None:
        for field, value in (("capacity", self.capacity), ("high_water", self.high_water)):
            if not is_whole(value, 1) and not (field == "capacity" and value is None):
                raise BadMailbox(f"Mailbox.{field}", value, "give a whole number from 1, or None for no capacity")
        check_choice("Mailbox.overflow", self.overflow, Overflow, BadMailbox)


class MailboxStatistics(msgspec.Struct, frozen=True):
    """A mailbox at this moment: ``length`` messages wait, at most ``capacity`` may, ``waiting`` senders want in."""

    length: int
    capacity: int | None
    waiting: int


class BoundedBox:
    """The waiting messages of an actor with a bounded mailbox."""

    __slots__ = ("capacity", "messages", "waiting")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.messages: deque[Any] = deque()
        #: Senders who wait for room: (message, the future that tells them it got in, or None for a waiting call).
        self.waiting: deque[tuple[Any, asyncio.Future[None] | None]] = deque()

    def __len__(self) -> int:
        return len(self.messages)

    def append(self, message: Any) -> None:
        """Take a message whatever the capacity says."""
        self.messages.append(message)

    def popleft(self) -> Any:
        """Take out the oldest message, and let the sender who waits longest in."""
        message = self.messages.popleft()
        while self.waiting and len(self.messages) < self.capacity:
            waiting, admitted = self.waiting.popleft()
            if admitted is None:
                if not waiting.done():
                    self.messages.append(waiting)
            elif not admitted.done():
                self.messages.append(waiting)
                admitted.set_result(None)
        return message

    def full(self) -> bool:
        """Tell whether a message more would be one too many."""
        return len(self.messages) >= self.capacity
