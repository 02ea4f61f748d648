"""What to do while a language model is away: wait, all together, and let one ask whether it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dspex._compat import is_infrastructure, retry_hint
from dspex.teleprompt.errors import Suspended
from dspex.teleprompt.events import OptimisationResumed, OptimisationSuspended
from supervision import Runtime
from supervision.clock import seconds

T = TypeVar("T")


class Gate:
    """Lets calls pass while their language model is there.

    When a call fails for want of the model, the gate closes: calls wait, and none of them is made. The call that has
    closed it is made again after a while, and then after twice as long, until it succeeds; then all go on. An outage
    so costs the calls that were on their way when it began, and one call for each look whether it is over.

    Args:
        runtime: whose clock, chance and events are used.
        patience: after how many seconds of an outage to give up; None for never.
        first: seconds until the first look.
        most: seconds between two looks, at most. What the model itself asks for (``Retry-After``) counts more.
    """

    def __init__(
        self, runtime: Runtime, patience: float | None = 600.0, first: float = 0.5, most: float = 30.0
    ) -> None:
        self._runtime = runtime
        self._patience = None if patience is None else seconds("patience", patience)
        self._first = seconds("first", first, zero=False)
        self._most = seconds("most", most, zero=False)
        self._opened: asyncio.Event | None = None
        self._since = 0.0
        self.outages = 0
        self.failed_calls = 0

    @property
    def suspended(self) -> float | None:
        """For how many seconds the gate has been closed; None if it is open."""
        return None if self._opened is None else self._runtime.clock.time() - self._since

    async def run(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call, as often as it takes until the model has answered it.

        Raises:
            Suspended: the outage has lasted for longer than the patience.
            Exception: what the call has raised, if it is no failure of the infrastructure.
        """
        while True:
            while self._opened is not None:
                await self._opened.wait()
            try:
                return await call()
            except Exception as error:
                if not is_infrastructure(error):
                    raise
                self.failed_calls += 1
                if self._opened is None:
                    return await self._look(call, error)

    async def pause(self, error: Exception) -> None:
        """Wait until the next look is due, and look by doing nothing: whoever waited tries again."""
        await self._runtime.sleep(_pause(error, self._first))

    async def _look(self, call: Callable[[], Awaitable[T]], error: Exception) -> T:
        """Close the gate, look from time to time whether the model is back, and open it."""
        clock, events = self._runtime.clock, self._runtime.events
        opened = self._opened = asyncio.Event()
        self._since, self.outages, delay = clock.time(), self.outages + 1, self._first
        try:
            while True:
                pause = _pause(error, delay)
                away = clock.time() - self._since
                if self._patience is not None and away + pause > self._patience:
                    raise Suspended(away, error) from error
                events.emit(OptimisationSuspended, why=f"{type(error).__name__}: {error}", seconds=away, next=pause)
                await self._runtime.sleep(pause)
                try:
                    answer = await call()
                except Exception as again:
                    if not is_infrastructure(again):
                        raise
                    self.failed_calls += 1
                    error, delay = again, min(2 * delay, self._most)
                else:
                    events.emit(OptimisationResumed, seconds=clock.time() - self._since)
                    return answer
        finally:
            self._opened = None
            opened.set()


def _pause(error: Exception, delay: float) -> float:
    """Return the seconds to wait after a failure: what the model has asked for, or else ``delay``."""
    hint = retry_hint(error)
    return delay if hint is None else max(hint, 0.0)
