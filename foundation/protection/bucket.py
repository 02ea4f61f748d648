"""Leaky buckets: how often something may be done, with those who wait for it."""

from __future__ import annotations

import asyncio

from foundation.protection.line import Line

#: What the clock cannot tell apart is no reason to wait.
_EPSILON = 1e-9
#: Seconds between two looks at the least, as a clock may not move in less.
_SHORTEST = 1e-6


class Bucket:
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
        self.line = Line(self._left)

    def fill(self, now: float) -> bool:
        """Take a turn at once; tell whether there was one, and nobody waits for it."""
        self._run_out(now)
        if self._level + 1 > self._room or (len(self.line) and self.line.tidy()):
            return False
        self._level += 1
        return True

    async def turn(self) -> None:
        """Wait for a turn."""
        self._look_later()
        await self.line.turn()

    def empty(self, now: float) -> bool:
        """Tell whether it is as good as new."""
        self._run_out(now)
        return self._level == 0.0 and not len(self.line)

    def _run_out(self, now: float) -> None:
        self._level = max(0.0, self._level - max(0.0, now - self._at) * self._leak)
        self._at = now

    def _serve(self) -> None:
        self._timer = None
        self._run_out(asyncio.get_running_loop().time())
        while self._level + 1 <= self._room and self.line.call():
            self._level += 1
        if len(self.line):
            self._look_later()

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is None or self._loop is not loop:
            self._loop = loop
            self._run_out(loop.time())
            wait = max(_SHORTEST, (self._level + 1 - self._room) / self._leak)
            self._timer = loop.call_later(wait, self._serve)

    def _left(self, called: bool) -> None:
        """Give the turn of somebody to the next, and do not look after nobody."""
        self._level = max(0.0, self._level - called)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if len(self.line):
            self._serve()
