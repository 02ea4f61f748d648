"""Credit: how much a node may send to a mailbox of another one. Two machines without I/O.

The engine has no back-pressure. So a sender may be `WINDOW` messages, and some `BYTES`, ahead of what the mailbox has
handled, and learns by and by how much more it may send. All counts are those of one session, from its begin; as a lost
message breaks the session, no grant is ever lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

#: How many messages may be under way to a mailbox, or wait in it.
WINDOW = 256
#: How many bytes may be, before another message follows: whatever its size, one gets through.
BYTES = 4 << 20
#: How many messages may wait at the sender besides, of those whose senders do not wait.
AHEAD = 256

T = TypeVar("T")


class Outgoing(Generic[T]):
    """The sender's end: what may be sent, and what waits.

    Args:
        size: returns how many bytes a message takes; it is asked when the message is about to be sent.
    """

    __slots__ = ("_bytes", "_size", "_sizes", "limit", "sent", "waiting")

    def __init__(self, size: Callable[[T], int]) -> None:
        self.sent = 0
        self.limit = WINDOW
        self.waiting: deque[T] = deque()
        self._size = size
        #: Of the messages that may not have been handled, and their sum.
        self._sizes: deque[int] = deque()
        self._bytes = 0

    def may_send(self, message: T) -> bool:
        """Take the credit for a message, if there is any and nobody waits for it."""
        if self.waiting or not self._has_room():
            return False
        self._take(message)
        return True

    def _has_room(self) -> bool:
        return self.sent < self.limit and self._bytes < BYTES

    def _take(self, message: T) -> None:
        size = self._size(message)
        self.sent += 1
        self._sizes.append(size)
        self._bytes += size

    def granted(self, limit: int) -> list[T]:
        """Take a grant, and return what has waited for it."""
        self.limit = max(self.limit, limit)
        while self._sizes and self.sent - len(self._sizes) < self.limit - WINDOW:
            self._bytes -= self._sizes.popleft()
        free: list[T] = []
        while self.waiting and self._has_room():
            free.append(self.waiting.popleft())
            self._take(free[-1])
        return free


class Incoming:
    """The receiver's end: what has come, what is handled, and how much was granted."""

    __slots__ = ("_granted_bytes", "_noted_bytes", "bytes", "granted", "received")

    def __init__(self) -> None:
        self.received = 0
        self.granted = WINDOW
        #: How many bytes have come; up to the last note; and were handled at the last grant.
        self.bytes = self._noted_bytes = self._granted_bytes = 0

    def arrived(self, size: int) -> bool:
        """Count a message; tell whether it is to be noted when it, and all before it, are handled."""
        self.received += 1
        self.bytes += size
        if self.received % (WINDOW // 4) and self.bytes - self._noted_bytes < BYTES // 4:
            return False
        self._noted_bytes = self.bytes
        return True

    def handled(self, count: int, size: int) -> int | None:
        """So many, of so many bytes, are handled; return the limit to be granted, None if there is no need yet."""
        if count + WINDOW - self.granted < WINDOW // 2 and size - self._granted_bytes < BYTES // 4:
            return None
        self.granted, self._granted_bytes = count + WINDOW, size
        return self.granted
