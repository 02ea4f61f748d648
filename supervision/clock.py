"""Time as the runtime sees it. No other module reads the machine's clocks.

A runtime takes its clock from its loop, so that on a loop with virtual time everything in it is virtual too.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from time import monotonic, time
from typing import Protocol

from supervision.errors import BadTime

#: Seconds in a year: no loop is asked to wait longer at a time.
YEAR = 365 * 86400.0

#: The machine's own monotonic seconds: for what watches a loop from outside, whatever time it is in there.
machine_time = monotonic

#: A wall clock that moved by more seconds than this from one reading to the next was stepped, not slewed.
CLOCK_STEP = 180.0


class Clock(Protocol):
    """What the runtime needs of time: to read it, and to be called at a point of it."""

    def time(self) -> float:
        """Return monotonic seconds."""
        ...

    def wall_time(self) -> float:
        """Return seconds since the epoch.

        It is for people, for what is due at a time of the day, and for what has to be compared after a restart. It can
        be set at any time, forwards and backwards: how long something lasts is measured by `time`.
        """
        ...

    def call_at(self, when: float, callback: Callable[[], object], /) -> asyncio.TimerHandle:
        """Call ``callback`` when `time` reaches ``when``."""
        ...


class LoopClock:
    """The loop's own time: real on an ordinary loop, virtual on a loop with virtual time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.time: Callable[[], float] = loop.time
        self.call_at: Callable[[float, Callable[[], object]], asyncio.TimerHandle] = loop.call_at
        #: Seconds since the epoch; a loop with virtual time has its own.
        self.wall_time: Callable[[], float] = getattr(loop, "wall_time", time)


class MonotonicClock:
    """The machine's monotonic clock, for loops that keep a coarse copy of it (uvloop: milliseconds, once a pass)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.time: Callable[[], float] = monotonic

    def wall_time(self) -> float:
        """Return seconds since the epoch."""
        return time()

    def call_at(self, when: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Call ``callback`` at ``when``, rounded up to a millisecond so that it is never early.

        But in a year at the latest: no loop can wait for any number of seconds.
        """
        delay = min(max(0.0, when - monotonic()), YEAR)
        return self._loop.call_later(math.ceil(delay * 1000.0) / 1000.0, callback)


class ClockStepDetector:
    """Detects steps of the wall clock (NTP: step, not slew).

    A machine that slept looks the same as a clock that was set forwards.

    Args:
        clock: whose.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = self._now()

    def _now(self) -> float:
        return self._clock.wall_time() - self._clock.time()

    def step(self, least: float = CLOCK_STEP) -> float:
        """Return by how many seconds the clock was stepped since the last call, negative for backwards; 0 if not.

        Args:
            least: up to so many seconds count as slew, as time servers adjust clocks all the time.
        """
        before, self._offset = self._offset, self._now()
        moved = self._offset - before
        return moved if abs(moved) > least else 0.0


def clock_of(loop: asyncio.AbstractEventLoop) -> Clock:
    """Return the clock that fits a loop."""
    if type(loop).__module__.partition(".")[0] == "uvloop" or type(loop).time is asyncio.BaseEventLoop.time:
        return MonotonicClock(loop)
    return LoopClock(loop)


def seconds(field: str, value: object, *, zero: bool = True) -> float:
    """Return ``value`` as a length of time in seconds.

    Args:
        field: what it is, for the error.
        value: a finite number, not negative.
        zero: whether 0 is allowed.

    Raises:
        BadTime: it is something else.
    """
    try:
        number = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    except Exception:  # too large for a float; or a number of somebody's own that raises
        number = math.nan
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise BadTime(field, value, f"give a finite number of seconds, {'0 or more' if zero else 'more than 0'}")
    return number
