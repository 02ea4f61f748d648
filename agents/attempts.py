"""How often, and for how long, an action is tried."""

from __future__ import annotations

import msgspec

from supervision.clock import seconds
from supervision.errors import BadOption


class Attempts(msgspec.Struct, frozen=True, kw_only=True):
    """How often, and for how long, an action is tried: ``attempts = Attempts(retries=2, timeout=10.0)`` in its class.

    Attributes:
        retries: how many times it is tried again.
        backoff: seconds before the first retry. They double from one to the next.
        max_backoff: more than so many seconds are never waited.
        timeout: seconds for each try of an async action; None for no limit. A sync one cannot be interrupted.
        retry_on: the errors that are worth another try.

    Raises:
        BadOption: ``retries`` is no whole number from 0, or ``timeout`` is given to what cannot keep it.
        BadTime: a length of time is none.

    >>> [Attempts(retries=3, backoff=0.5, max_backoff=1.5).pause(n) for n in (1, 2, 3)]
    [0.5, 1.0, 1.5]
    """

    retries: int = 0
    backoff: float = 0.25
    max_backoff: float = 30.0
    timeout: float | None = None
    retry_on: type[Exception] | tuple[type[Exception], ...] = Exception

    def __post_init__(self) -> None:
        if not isinstance(self.retries, int) or isinstance(self.retries, bool) or self.retries < 0:
            raise BadOption("Attempts.retries", self.retries, "give a whole number from 0")
        seconds("Attempts.backoff", self.backoff)
        seconds("Attempts.max_backoff", self.max_backoff)
        if self.timeout is not None:
            seconds("Attempts.timeout", self.timeout, zero=False)

    def pause(self, retry: int) -> float:
        """Return the seconds to wait before a retry, the first of which is number 1."""
        return float(min(self.backoff * 2 ** min(retry - 1, 64), self.max_backoff))

    def again(self, failed: int, error: Exception) -> bool:
        """Return whether to try again after so many failures, the last of which was ``error``."""
        return failed <= self.retries and isinstance(error, self.retry_on)
