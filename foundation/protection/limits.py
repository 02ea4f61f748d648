"""Limits: of how often, of how many at once, and of how long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from aiolimiter import AsyncLimiter
from anyio import CapacityLimiter
from cachetools import TTLCache

from foundation.protection.errors import BulkheadFull, RateLimited, TimeLimitExceeded
from foundation.protection.guard import Attempt, Guard
from supervision.errors import BadOption

T = TypeVar("T")


class RateLimit(Guard):
    """At most so many calls in a time, for each key: a leaky bucket (aiolimiter), which allows a burst of ``rate``.

    Args:
        rate: how many calls.
        per: in how many seconds.
        key: returns what has a limit of its own, such as the caller; asked at each call. Without it there is one limit.
        wait: whether a call too many waits for its turn, or is refused.
        keys: limits for at most so many keys are remembered. One that is not used for ``per`` seconds is full again and
            can be forgotten.

    Raises:
        BadOption: a number is not positive.
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
        for name, value in (("rate", rate), ("per", per), ("keys", keys)):
            positive("RateLimit", name, value)
        self._rate = rate
        self._per = per
        self._key = key
        self._wait = wait
        self._limiters: TTLCache[Hashable, AsyncLimiter] = TTLCache(keys, per * 2, _loop_time)

    def _limiter(self, key: Hashable) -> AsyncLimiter:
        limiter = self._limiters.get(key)
        if limiter is None:
            limiter = AsyncLimiter(self._rate, self._per)
        self._limiters[key] = limiter
        return limiter

    async def run(self, attempt: Attempt[T]) -> T:
        """Do something, when it is its turn.

        Raises:
            RateLimited: it is not, and calls do not wait.
        """
        key = None if self._key is None else self._key()
        limiter = self._limiter(key)
        if not self._wait and not limiter.has_capacity():
            raise RateLimited(key, self._rate, self._per)
        await limiter.acquire()
        return await attempt()


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


class Bulkhead(Guard):
    """At most so many calls at once; so many more may wait for their turn, in order.

    Args:
        most: how many at once.
        waiting: how many may wait.
        name: how it is called in errors.

    Raises:
        BadOption: a number makes no sense.
    """

    def __init__(self, most: int, waiting: int = 0, name: str = "bulkhead") -> None:
        positive("Bulkhead", "most", most)
        if waiting < 0:
            raise BadOption("Bulkhead: waiting", waiting, "give a number from 0")
        self.name = name
        self._most = most
        self._waiting = waiting
        self._limiter: CapacityLimiter | None = None

    async def run(self, attempt: Attempt[T]) -> T:
        """Do something, when there is room.

        Raises:
            BulkheadFull: there is none, and as many wait as may.
        """
        if self._limiter is None:
            self._limiter = CapacityLimiter(self._most)
        limiter = self._limiter
        waiting = limiter.statistics().tasks_waiting
        if limiter.borrowed_tokens >= self._most and waiting >= self._waiting:
            raise BulkheadFull(self.name, self._most, waiting)
        borrower: Any = object()
        await limiter.acquire_on_behalf_of(borrower)
        try:
            return await attempt()
        finally:
            limiter.release_on_behalf_of(borrower)


class TimeLimit(Guard):
    """At most so many seconds.

    Args:
        seconds: how long. What takes longer is cancelled.

    Raises:
        BadOption: it is no length of time.
    """

    def __init__(self, seconds: float) -> None:
        positive("TimeLimit", "seconds", seconds)
        self._seconds = seconds

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


def positive(what: str, name: str, value: float) -> None:
    """Make sure that an option is a number above 0.

    Raises:
        BadOption: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise BadOption(f"{what}: {name}", value, "give a number above 0")
