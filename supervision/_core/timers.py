"""Timers: messages in the future. Timers due at the same instant fire in the order in which they were set."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from supervision.clock import Clock


class Timer:
    """A message, or a call of a function, that is due at ``deadline``."""

    __slots__ = ("_queue", "action", "deadline", "delay", "on_end", "period", "seq")

    def __init__(self, queue: TimerQueue, delay: float, period: float | None, action: Callable[[], object]) -> None:
        self._queue = queue
        self.delay = delay
        self.deadline = queue.clock.time() + delay
        self.period = period
        self.action: Callable[[], object] | None = action
        self.on_end: Callable[[Timer], object] | None = None
        self.seq = 0

    def __lt__(self, other: Timer) -> bool:
        return (self.deadline, self.seq) < (other.deadline, other.seq)

    def read(self) -> float | None:
        """Return the seconds left, or None if it has fired or was cancelled."""
        return None if self.action is None else max(0.0, self.deadline - self._queue.clock.time())

    def cancel(self) -> float | None:
        """Cancel the timer and return the seconds that were left, or None if it was no longer set.

        None does not mean that the message is not in the mailbox already (as in OTP).
        """
        left = self.read()
        if left is not None:
            self._queue.cancelled += 1
            self.end()
            self._queue.compact()
        return left

    def end(self) -> None:
        """Drop the action."""
        self.action = None
        if self.on_end is not None:
            self.on_end(self)
            self.on_end = None


class TimerQueue:
    """All timers of a runtime, in a heap by (deadline, order of setting), behind one timer of the loop."""

    def __init__(self, clock: Clock, context: Context) -> None:
        self.clock = clock
        self._context = context
        self.cancelled = 0
        self._heap: list[Timer] = []
        self._seq = 0
        self._handle: asyncio.TimerHandle | None = None
        self._armed = float("inf")

    def __len__(self) -> int:
        return len(self._heap) - self.cancelled

    def after(self, delay: float, action: Callable[[], object], period: float | None = None) -> Timer:
        """Call ``action`` in ``delay`` seconds, and then every ``period`` seconds if that is given."""
        timer = Timer(self, delay, period, action)
        self._push(timer)
        if timer.deadline < self._armed:
            self._arm()
        return timer

    def _push(self, timer: Timer) -> None:
        self._seq += 1
        timer.seq = self._seq
        heapq.heappush(self._heap, timer)

    def compact(self) -> None:
        """Drop cancelled timers once they are the larger half, so that they do not hold memory until they are due."""
        if self.cancelled > 64 and self.cancelled * 2 > len(self._heap):
            self._heap = [timer for timer in self._heap if timer.action is not None]
            heapq.heapify(self._heap)
            self.cancelled = 0

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._armed = self._heap[0].deadline if self._heap else float("inf")
        if self._heap:
            # Timers run outside of any actor's context, as the one that has set them may be dead when they fire.
            self._handle = self._context.run(self.clock.call_at, self._armed, self._fire)

    def _fire(self) -> None:
        now = max(self.clock.time(), self._armed)
        self._armed = float("-inf")
        try:
            while self._heap and self._heap[0].deadline <= now:
                self._fire_next(now)
        finally:
            self._arm()

    def _fire_next(self, now: float) -> None:
        timer = heapq.heappop(self._heap)
        action = timer.action
        if action is None:
            self.cancelled -= 1
            return
        if timer.period is None:
            timer.end()
        else:
            timer.deadline = max(timer.deadline + timer.period, now)
            self._push(timer)
        action()

    def close(self) -> None:
        """Drop all timers."""
        for timer in self._heap:
            timer.action = None
        self._heap.clear()
        self.cancelled = 0
        self._arm()
