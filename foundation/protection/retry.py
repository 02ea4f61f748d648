"""Retries with backoff after a failure, and hedged requests beside an attempt that takes long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from foundation.errors import describe_error
from foundation.extras import import_extra
from foundation.options import above_zero, from_zero, is_a, whole
from foundation.protection.guard import Attempt, Guard
from supervision.errors import BadOption

T = TypeVar("T")


def is_retryable(error: Exception) -> bool:
    """Tell whether the same may succeed a moment later. See `foundation.errors.describe_error`."""
    return describe_error(error).retryable


class RetryBudget:
    """How many retries there may be, beside the calls: what keeps them from making an overload worse.

    Args:
        share: retries may be so large a part of the calls of the last ``window`` seconds.
        least: so many are allowed at any rate.
        window: in seconds.

    Raises:
        BadOption: a number makes no sense.
    """

    def __init__(self, share: float = 0.1, least: int = 10, window: float = 10.0) -> None:
        self._share = from_zero("RetryBudget: share", share)
        self._least = from_zero("RetryBudget: least", least)
        self._window = above_zero("RetryBudget: window", window)
        self._calls: deque[float] = deque()
        self._retries: deque[float] = deque()

    def call(self) -> None:
        """Note a call."""
        self._note(self._calls)

    def spend(self) -> bool:
        """Take a retry out of the budget; tell whether there was one left."""
        now = self._recent(self._calls)
        self._recent(self._retries)
        if len(self._retries) >= max(self._least, self._share * len(self._calls)):
            return False
        self._retries.append(now)
        return True

    def _note(self, times: deque[float]) -> None:
        times.append(self._recent(times))

    def _recent(self, times: deque[float]) -> float:
        now = asyncio.get_running_loop().time()
        while times and times[0] <= now - self._window:
            times.popleft()
        return now


class Retry(Guard):
    """Tries again what failed and may succeed a moment later, with growing pauses (stamina).

    Args:
        attempts: how often, at most.
        on: which errors are worth it.
        wait: seconds before the second attempt; doubled each time.
        wait_max: seconds between two attempts at most.
        jitter: up to so many seconds more, at random, so that not all come back at once.
        budget: how many retries there may be, beside the calls. It may be shared.

    Raises:
        BadOption: a number makes no sense.
        MissingExtra: stamina is not installed.
    """

    def __init__(
        self,
        attempts: int = 3,
        *,
        on: Callable[[Exception], bool] = is_retryable,
        wait: float = 0.1,
        wait_max: float = 5.0,
        jitter: float = 0.1,
        budget: RetryBudget | None = None,
    ) -> None:
        if budget is not None and not is_a(budget, RetryBudget):
            raise BadOption("Retry: budget", budget, "give a RetryBudget, or None")
        self._on = on
        self._budget = budget
        options = {
            "attempts": whole("Retry: attempts", attempts),
            "wait_initial": from_zero("Retry: wait", wait),
            "wait_max": from_zero("Retry: wait_max", wait_max),
            "wait_jitter": from_zero("Retry: jitter", jitter),
        }
        stamina = import_extra("stamina", of="foundation.protection.Retry", extra="protection")
        self._caller: Any = stamina.AsyncRetryingCaller(timeout=None, **options)

    async def run(self, attempt: Attempt[T]) -> T:
        """Do something, until it succeeds, or is not worth another attempt."""
        if self._budget is not None:
            self._budget.call()
        result: T = await self._caller(self._worth_it, attempt)
        return result

    def _worth_it(self, error: Exception) -> bool:
        # A caller that is cancelled goes, whatever ``on`` would say.
        return isinstance(error, Exception) and self._on(error) and (self._budget is None or self._budget.spend())


class Hedge(Guard):
    """Makes a second attempt beside one that takes long, and takes the first result.

    For what can be done twice without harm. (Dean and Barroso, "The Tail at Scale", 2013.)

    Args:
        after: seconds after which another attempt is made.
        most: how many attempts at most.

    Raises:
        BadOption: a number makes no sense.
    """

    def __init__(self, after: float, most: int = 2) -> None:
        self._after = above_zero("Hedge: after", after)
        self._most = whole("Hedge: most", most)

    async def run(self, attempt: Attempt[T]) -> T:
        """Do something, and again beside it if it takes long. An attempt that fails is not waited for.

        Raises:
            Exception: that of the last attempt, if all fail.
        """
        running: set[asyncio.Future[T]] = set()
        made = 0
        try:
            while True:
                if made < self._most:
                    running.add(asyncio.ensure_future(attempt()))
                    made += 1
                patience = self._after if made < self._most else None
                done, running = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                succeeded = [one for one in done if not one.cancelled() and one.exception() is None]
                if succeeded:
                    return succeeded[0].result()
                if done and not running and made >= self._most:
                    return done.pop().result()
        finally:
            for one in running:
                one.cancel()
                one.add_done_callback(_heard)
            if running:
                await asyncio.wait(running)


def _heard(one: asyncio.Future[T]) -> None:
    """Take note of an error that nobody is interested in."""
    if not one.cancelled():
        one.exception()
