"""Calls that wait while what all of them need is unavailable; one call probes whether it is available again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dspex.workflow.retry import Failures, RetryPolicy
from supervision import Runtime

T = TypeVar("T")


class Suspension:
    """Lets calls pass while what they need is available, such as a language model.

    When a call fails for want of it, calls are suspended: they wait, and none of them is made. The call that has failed
    is made again after a while, and then after twice as long, until it succeeds; then all go on. An outage so costs the
    calls that were on their way when it began, and one call for each probe.

    Args:
        runtime: whose clock and chance are used.
        retry: when to probe, which errors say that it is unavailable, and how long to be patient.
    """

    def __init__(self, runtime: Runtime, retry: RetryPolicy) -> None:
        self._runtime = runtime
        self._retry = retry
        self._opened: asyncio.Event | None = None
        self._since = 0.0
        self.outages = 0
        self.failed_calls = 0

    @property
    def suspended(self) -> float | None:
        """For how many seconds calls have been suspended; None if they are not."""
        return None if self._opened is None else self._runtime.clock.time() - self._since

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, as often as it takes until it is answered.

        Raises:
            Exception: what the call has raised, if it is no failure of the infrastructure; or what `give_up_error`
                returns.
        """
        while True:
            while self._opened is not None:
                await self._opened.wait()
            try:
                return await call()
            except Exception as error:
                if not self._retry.on(error):
                    raise
                self.failed_calls += 1
                if self._opened is None:
                    return await self._probe(call, error)

    async def pause(self, error: Exception) -> None:
        """Wait until the next probe is due, and leave the probe to the caller, who tries again."""
        await self._runtime.sleep(self._retry.pause(1, error, self._runtime.random))

    def give_up_error(self, seconds: float, error: Exception) -> Exception:
        """Return what to raise when the patience is over: by default, the last failure.

        Args:
            seconds: for how many it has been unavailable.
            error: the last failure.
        """
        return error

    def on_suspended(self, seconds: float, error: Exception, pause: float) -> None:
        """Called before each probe; the next one is in ``pause`` seconds."""

    def on_resumed(self, seconds: float) -> None:
        """Called when the outage is over, after so many seconds."""

    async def _probe(self, call: Callable[[], Awaitable[T]], error: Exception) -> T:
        """Suspend calls, probe from time to time whether they can be made, and let them go on."""
        clock, failures = self._runtime.clock, Failures(self._retry, self._runtime)
        opened = self._opened = asyncio.Event()
        self._since = clock.time()
        self.outages += 1
        try:
            while True:
                pause = failures.next_pause(error)
                if pause is None:
                    raise self.give_up_error(failures.seconds, error) from error
                self.on_suspended(failures.seconds, error, pause)
                await self._runtime.sleep(pause)
                try:
                    answer = await call()
                except Exception as again:
                    if not self._retry.on(again):
                        raise
                    self.failed_calls += 1
                    error = again
                else:
                    self.on_resumed(clock.time() - self._since)
                    return answer
        finally:
            self._opened = None
            opened.set()
