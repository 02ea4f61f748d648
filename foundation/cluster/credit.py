"""Credit: how many messages a node may send to a mailbox of another one. Two machines without I/O.

The engine has no back-pressure. So a sender may be `WINDOW` messages ahead of what the mailbox has handled, and learns
by and by how many more it may send. All counts are those of one session, from its begin; as a lost message breaks the
session, no grant is ever lost.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

#: How many messages may be under way to a mailbox, or wait in it.
WINDOW = 256
#: How many messages may wait at the sender besides, of those whose senders do not wait.
AHEAD = 256

T = TypeVar("T")


class Outgoing(Generic[T]):
    """The sender's end: what may be sent, and what waits."""

    __slots__ = ("limit", "sent", "waiting")

    def __init__(self) -> None:
        self.sent = 0
        self.limit = WINDOW
        self.waiting: deque[T] = deque()

    def may_send(self) -> bool:
        """Take the credit for one message, if there is any and nobody waits for it."""
        if self.waiting or self.sent >= self.limit:
            return False
        self.sent += 1
        return True

    def granted(self, limit: int) -> list[T]:
        """Take a grant, and return what has waited for it."""
        self.limit = max(self.limit, limit)
        free: list[T] = []
        while self.waiting and self.sent < self.limit:
            self.sent += 1
            free.append(self.waiting.popleft())
        return free


class Incoming:
    """The receiver's end: what has come, what is handled, and how much was granted."""

    __slots__ = ("granted", "received")

    def __init__(self) -> None:
        self.received = 0
        self.granted = WINDOW

    def arrived(self) -> bool:
        """Count a message; tell whether it is to be noted when it, and all before it, are handled."""
        self.received += 1
        return self.received % (WINDOW // 4) == 0

    def handled(self, count: int) -> int | None:
        """So many have been handled since the begin; return the limit to be granted, None if there is no need yet."""
        if count + WINDOW - self.granted < WINDOW // 2:
            return None
        self.granted = count + WINDOW
        return self.granted
