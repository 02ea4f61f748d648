"""What takes longer than it may: one timer of the loop for all that is going on, not one for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from contextvars import Context
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

#: How often within its limit it is looked for what is late.
LOOKS = 4


class Overdue(Generic[T]):
    """Calls a function with each thing that has not been discarded within a limit after it was added.

    Adding and discarding cost what it takes to put something into a dict. All are looked at together, at most `LOOKS`
    times within the limit.

    Args:
        limit: seconds; some are told up to a part of it later.
        late: called once with each that is late; it is discarded then.
    """

    def __init__(self, limit: float, late: Callable[[T], object]) -> None:
        self._limit = limit
        self._late = late
        #: Since when, oldest first.
        self._since: dict[T, float] = {}
        self._armed = False

    def __len__(self) -> int:
        return len(self._since)

    def add(self, one: T) -> None:
        """Begin to count."""
        loop = asyncio.get_running_loop()
        self._since[one] = loop.time()
        if not self._armed:
            self._arm(loop, loop.time() + self._limit)

    def discard(self, one: T) -> None:
        """It is done; it is fine if it was late."""
        self._since.pop(one, None)

    def _arm(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        self._armed = True
        # In a context of its own: it is nobody's request.
        loop.call_at(when, self._look, loop, context=Context())

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._armed = False
        while self._since:
            one, since = next(iter(self._since.items()))
            now = loop.time()
            if since + self._limit > now:
                self._arm(loop, max(since + self._limit, now + self._limit / LOOKS))
                return
            del self._since[one]
            self._late(one)
