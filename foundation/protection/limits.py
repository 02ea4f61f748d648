"""Limits of how often, how many at once and how long: rate limit, bulkhead, time limit, and the queue of who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import TypeVar

from foundation.naming import usable_key
from foundation.options import above_zero, whole
from foundation.protection.errors import BulkheadFull, RateLimited, TimeLimitExceeded
from foundation.protection.guard import Attempt, Guard
from supervision.errors import BadOption

T = TypeVar("T")

#: What the clock cannot tell apart is no reason to wait.
_EPSILON = 1e-9

#: Seconds between two looks at the least, as a clock may not move in less.
_SHORTEST = 1e-6

#: At so many limits is looked for one that can be forgotten.
_LOOKS = 16


class RateLimit(Guard):
    """At most so many calls in a time, for each key: a leaky bucket, which allows a burst of ``rate``.

    Those who wait are served in order. One that gives up makes room for the next at once.

    Args:
        rate: how many calls.
        per: in how many seconds.
        key: returns what has a limit of its own, such as the caller; asked at each call. Without it there is one limit.
        wait: whether a call too many waits for its turn, or is refused.
        keys: limits for at most so many keys are remembered, and those for which somebody waits. One that is not used
            until it is full again is forgotten; if there are too many, the one that was not used for longest.

    Raises:
        BadOption: a number is not finite and positive, or ``keys`` is not whole.
    """

    def __init__(
        self,
        rate: float,
        per: float = 1.0,
        *,
        key: Callable[[], Hashable] | None = None,
        wait: bool = True,
        keys: int = 10_000,
    ) -> None:
        self._rate = above_zero("RateLimit: rate", rate)
        self._per = above_zero("RateLimit: per", per)
        above_zero("RateLimit: rate / per", self._rate / self._per)
        self._keys = whole("RateLimit: keys", keys)
        self._key = key
        self._wait = wait
        #: Those not used for longest come first.
        self._buckets: dict[Hashable, LeakyBucket] = {}

    def _bucket(self, key: Hashable, now: float) -> LeakyBucket:
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = LeakyBucket(self._rate, self._per)
            self._forget(now)
        self._buckets[key] = bucket
        return bucket

    def _forget(self, now: float) -> None:
        """Make room for a key. Only a few are looked at; those for which somebody waits go behind all others."""
        for _ in range(min(_LOOKS, len(self._buckets))):
            oldest = next(iter(self._buckets))
            bucket = self._buckets[oldest]
            if not len(bucket.queue) and len(self._buckets) < self._keys and not bucket.empty(now):
                return
            del self._buckets[oldest]
            if len(bucket.queue):
                self._buckets[oldest] = bucket

    async def run(self, attempt: Attempt[T]) -> T:
        """Do something, when it is its turn.

        Raises:
            RateLimited: it is not, and calls do not wait.
            BadOption: what ``key`` returned cannot be a key.
        """
        key = None if self._key is None else _key(self._key())
        now = asyncio.get_running_loop().time()
        bucket = self._bucket(key, now)
        if not bucket.fill(now):
            if not self._wait:
                raise RateLimited(key, self._rate, self._per)
            await bucket.turn()
        return await attempt()


def _key(found: Hashable) -> Hashable:
    if isinstance(found, Coroutine):
        found.close()
        raise BadOption("RateLimit: key", "a coroutine", "give a plain function, not an async one")
    key: Hashable = usable_key("RateLimit: key", found)
    return key


class Bulkhead(Guard):
    """At most so many calls at once; so many more may wait for their turn, in order.

    A place is free again when its call has ended, however it ended. One that gives up waiting makes room for the next
    at once.

    Args:
        most: how many at once.
        waiting: how many may wait.
        name: how it is called in errors.

    Raises:
        BadOption: a number is not whole, or too small.
    """

    def __init__(self, most: int, waiting: int = 0, name: str = "bulkhead") -> None:
        self._most = whole("Bulkhead: most", most)
        self._waiting = whole("Bulkhead: waiting", waiting, 0)
        self.name = name
        self._busy = 0
        self._queue = WaitQueue(self._left)

    async def run(self, attempt: Attempt[T]) -> T:
        """Do something, when there is room.

        Raises:
            BulkheadFull: there is none, and as many wait as may.
        """
        if self._busy < self._most:
            self._busy += 1
        else:
            waiting = len(self._queue)
            if waiting >= self._waiting and (waiting := self._queue.tidy()) >= self._waiting:
                raise BulkheadFull(self.name, self._most, waiting)
            await self._queue.turn()
        try:
            return await attempt()
        finally:
            self._leave()

    def _leave(self) -> None:
        if not self._queue.call():  # who is called has the place
            self._busy -= 1

    def _left(self, called: bool) -> None:
        if called:
            self._leave()


class TimeLimit(Guard):
    """At most so many seconds.

    Args:
        seconds: how long. What takes longer is cancelled.

    Raises:
        BadOption: it is no length of time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = above_zero("TimeLimit: seconds", seconds)

    async def run(self, attempt: Attempt[T]) -> T:
        """Do something, but not for too long.

        Raises:
            TimeLimitExceeded: it took too long.
        """
        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                return await attempt()
        except TimeoutError as error:
            if limit.expired():
                raise TimeLimitExceeded(self._seconds) from error
            raise


class LeakyBucket:
    """A leaky bucket (Turner, "New directions in communications", 1986) that allows a burst of ``rate``.

    Args:
        rate: how many drops run out in ``per`` seconds; below 1 there is room for one all the same.
        per: in seconds.
    """

    def __init__(self, rate: float, per: float) -> None:
        self._leak = rate / per
        self._room = max(1.0, rate) * (1 + _EPSILON)
        self._level = 0.0
        self._at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.queue = WaitQueue(self._left)

    def fill(self, now: float) -> bool:
        """Take a turn at once; tell whether there was one, and nobody waits for it."""
        self._run_out(now)
        if self._level + 1 > self._room or (len(self.queue) and self.queue.tidy()):
            return False
        self._level += 1
        return True

    async def turn(self) -> None:
        """Wait for a turn."""
        self._look_later()
        await self.queue.turn()

    def empty(self, now: float) -> bool:
        """Tell whether it is as good as new."""
        self._run_out(now)
        return self._level == 0.0 and not len(self.queue)

    def _run_out(self, now: float) -> None:
        self._level = max(0.0, self._level - max(0.0, now - self._at) * self._leak)
        self._at = now

    def _serve(self) -> None:
        self._timer = None
        self._run_out(asyncio.get_running_loop().time())
        while self._level + 1 <= self._room and self.queue.call():
            self._level += 1
        if len(self.queue):
            self._look_later()

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is None or self._loop is not loop:
            self._loop = loop
            self._run_out(loop.time())
            wait = max(_SHORTEST, (self._level + 1 - self._room) / self._leak)
            self._timer = loop.call_later(wait, self._serve)

    def _left(self, called: bool) -> None:
        """Give the turn of a waiter that left to the next, and cancel the timer when nobody waits."""
        self._level = max(0.0, self._level - called)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if len(self.queue):
            self._serve()


class WaitQueue:
    """Those who wait. A waiter that gives up is skipped, also if it was just called and has not heard it yet.

    Args:
        left: called when somebody has left; gets whether it had been called, so that its turn is free again.
    """

    def __init__(self, left: Callable[[bool], None]) -> None:
        self._left = left
        self._waiting: dict[asyncio.Future[None], None] = {}

    def __len__(self) -> int:
        """How many wait, with those who have given up just now."""
        return len(self._waiting)

    def tidy(self) -> int:
        """Forget those who have given up just now, or whose loop is closed; return how many are left."""
        self._waiting = {one: None for one in self._waiting if not _gone(one)}
        return len(self._waiting)

    async def turn(self) -> None:
        """Wait for a turn."""
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[called] = None
        try:
            await called
        except BaseException:
            self._waiting.pop(called, None)
            self._left(called.done() and not called.cancelled())
            raise

    def call(self) -> bool:
        """Call the first one; tell whether there was one."""
        while self._waiting:
            first = next(iter(self._waiting))
            del self._waiting[first]
            if not _gone(first):
                first.set_result(None)
                return True
        return False


def _gone(one: asyncio.Future[None]) -> bool:
    return one.done() or one.get_loop().is_closed()
