"""Policies: several guards around one call, always in the same order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, TypeVar

from foundation.options import is_a
from foundation.protection.breaker import CircuitBreaker
from foundation.protection.guard import Attempt, Guard
from foundation.protection.limits import Bulkhead, RateLimit, TimeLimit
from foundation.protection.retry import Hedge, Retry
from supervision.errors import BadOption

T = TypeVar("T")


class Policy(Guard):
    """What happens to a call that fails, takes long, or comes at a bad time: all in one object, in one order.

    From the outside to the inside, whichever of them there are::

        fallback        when all else has failed: another result instead of the error
        compensate      when all else has failed: make good what was half done; the error goes on
        time limit      for everything below together
        retry           each attempt goes through everything below again
        circuit breaker sees each attempt, and refuses without making it
        rate limit
        bulkhead
        attempt limit   of time, for one attempt
        hedge           a second attempt beside a slow one

    An error that nothing here takes care of is raised as it is: to propagate is what happens by default.

    >>> import asyncio
    >>> from foundation.protection import Policy, TimeLimit
    >>> async def fetch() -> str:
    ...     raise ConnectionError("nobody there")
    >>> policy = Policy(attempt_limit=TimeLimit(1.0), fallback=lambda error: f"sorry: {error}")
    >>> asyncio.run(policy.call(fetch))
    'sorry: nobody there'

    Args:
        fallback: gets the error; what it returns, or what its awaitable results in, is the result.
        compensate: gets the error.
        time_limit: for all attempts together.
        retry: when to try again.
        breaker: when not even to try.
        rate_limit: how often.
        bulkhead: how many at once.
        attempt_limit: of time, for one attempt.
        hedge: when to make a second attempt beside the first.
    """

    def __init__(
        self,
        *,
        fallback: Callable[[Exception], Any] | None = None,
        compensate: Callable[[Exception], Awaitable[Any] | Any] | None = None,
        time_limit: TimeLimit | None = None,
        retry: Retry | None = None,
        breaker: CircuitBreaker | None = None,
        rate_limit: RateLimit | None = None,
        bulkhead: Bulkhead | None = None,
        attempt_limit: TimeLimit | None = None,
        hedge: Hedge | None = None,
    ) -> None:
        guards = (time_limit, retry, breaker, rate_limit, bulkhead, attempt_limit, hedge)
        self._inside_out = [_guard(guard) for guard in reversed(guards) if guard is not None]
        self._fallback = fallback
        self._compensate = compensate

    async def run(self, attempt: Attempt[T]) -> T:
        """Do something under all these guards."""
        for guard in self._inside_out:
            attempt = _inside(guard, attempt)
        try:
            return await attempt()
        except Exception as error:
            if self._compensate is not None:
                await _awaited(self._compensate(error))
            if self._fallback is None:
                raise
            result: T = await _awaited(self._fallback(error))
            return result


def _guard(guard: Any) -> Guard:
    if not is_a(guard, Guard):
        raise BadOption("Policy", guard, "give guards, such as TimeLimit(1.0) or Retry()")
    return guard  # type: ignore[no-any-return]


def _inside(guard: Guard, attempt: Attempt[T]) -> Attempt[T]:
    return lambda: guard.run(attempt)


async def _awaited(result: Any) -> Any:
    return await result if isawaitable(result) else result
