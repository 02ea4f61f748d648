"""Retry with backoff: the one policy by which steps, items and suspensions are tried again."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

from foundation.errors import describe_error
from foundation.options import finite, whole
from supervision import Backoff, Runtime
from supervision.clock import seconds
from supervision.errors import BadOption

#: What an operating system says of a file is about the file: it says the same a moment later.
_FINAL = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
_TRANSIENT: set[type[Exception]] = set()
_REFUSALS: list[Callable[[BaseException], bool]] = []


def count_as_transient(*kinds: type[Exception]) -> None:
    """Have errors of a library count as failures of the infrastructure; see `is_transient`."""
    _TRANSIENT.update(kinds)


def count_as_refusal(check: Callable[[BaseException], bool]) -> None:
    """Have the errors of which a function says so count as refusals; see `is_refusal`."""
    _REFUSALS.append(check)


def is_refusal(error: BaseException) -> bool:
    """Return whether what is needed is not to be had until somebody changes something, such as a key.

    It is of the infrastructure (`is_transient`), so it is no outcome of the work; but it is not waited for: a run is
    suspended at once.
    """
    return any(check(error) for check in _REFUSALS)


def is_transient(error: Exception) -> bool:
    """Return whether an error is one of the infrastructure: it says nothing of the work, which may be done later.

    These are what `foundation.errors.describe_error` calls retryable, but for what is said of a file, and what a
    library's own errors were told to be (`count_as_transient`); those of language models are.

    >>> is_transient(ConnectionResetError()), is_transient(FileNotFoundError()), is_transient(ValueError())
    (True, False, False)
    """
    if isinstance(error, tuple(_TRANSIENT)) or is_refusal(error):
        return True
    return describe_error(error).retryable and not isinstance(error, _FINAL)


def retry_after(error: BaseException) -> float | None:
    """Return the seconds after which an error asks to be tried again (``Retry-After``); None if it does not.

    `dspex._compat.retry_hint` is the same for errors of language models, by DSPy's own rule, which is not known here.
    """
    hint: Any = getattr(error, "retry_after", None)
    try:
        value = finite(float(hint)) if isinstance(hint, (int, float, str)) and not isinstance(hint, bool) else None
    except (ValueError, OverflowError):
        return None
    return None if value is None or value < 0 else float(value)


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often, and when, what the infrastructure has failed in is tried again.

    Attributes:
        attempts: how often it is tried, at most, before a run is suspended; None for as long as ``patience`` lasts.
        backoff: the pauses between.
        patience: seconds from the first failure on after which it is not tried again; None for no limit.
        on: which errors are worth it. All others are errors of the program, and final.

    Raises:
        BadOption: ``attempts`` is no whole number from 1, or ``on`` no function.
        BadTime: ``patience`` is no length of time.

    >>> steady = RetryPolicy(attempts=9, backoff=Backoff(0.5, 30.0, jitter=0.0))
    >>> [steady.pause(failed, ConnectionError(), random.Random(1)) for failed in range(1, 9)]
    [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    """

    attempts: int | None = 5
    backoff: Backoff = Backoff(0.5, 30.0)
    patience: float | None = None
    on: Callable[[Exception], bool] = is_transient

    def __post_init__(self) -> None:
        if self.attempts is not None:
            whole("RetryPolicy.attempts", self.attempts)
        if not isinstance(self.backoff, Backoff):
            raise BadOption("RetryPolicy.backoff", self.backoff, "give a supervision.Backoff")
        if self.patience is not None:
            seconds("RetryPolicy.patience", self.patience)
        if not callable(self.on):
            raise BadOption("RetryPolicy.on", self.on, "give a function of an error")

    def pause(self, failed: int, error: BaseException, chance: random.Random) -> float:
        """Return the seconds to wait after so many failures: what the error asks for, or else the backoff's.

        Args:
            failed: how many attempts have failed, from 1.
            error: the last one.
            chance: for the jitter.
        """
        hint = retry_after(error)
        return self.backoff.delay(failed, chance) if hint is None else hint

    def again(self, failed: int, since: float, pause: float) -> bool:
        """Return whether to try again.

        Args:
            failed: how many attempts have failed.
            since: seconds since the first failure.
            pause: how long would be waited.
        """
        if self.attempts is not None and failed >= self.attempts:
            return False
        return self.patience is None or since + pause <= self.patience


class Failures:
    """Failures of one piece of work in a row, and what a policy says of the next attempt.

    Args:
        policy: how often it is tried.
        runtime: whose clock and chance are used.
    """

    def __init__(self, policy: RetryPolicy, runtime: Runtime) -> None:
        self._policy, self._runtime = policy, runtime
        #: How many there were.
        self.count = 0
        #: When the first one was.
        self.since = 0.0
        #: Seconds from the first to the last one.
        self.seconds = 0.0

    def next_pause(self, error: BaseException) -> float | None:
        """Count a failure, and return the seconds to wait before the next attempt; None if there is to be none.

        A refusal (`is_refusal`) is not waited for.
        """
        now = self._runtime.clock.time()
        if not self.count:
            self.since = now
        self.count += 1
        self.seconds = now - self.since
        pause = self._policy.pause(self.count, error, self._runtime.random)
        if is_refusal(error):
            return None
        return pause if self._policy.again(self.count, self.seconds, pause) else None
