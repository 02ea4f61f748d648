"""Time, as the runtime sees it. No other module asks the machine for the time.

A runtime takes its clock from its loop, so that on a loop with virtual time everything in it is virtual too.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Callable
from time import monotonic, time
from typing import Protocol

from supervision.errors import BadTime


class Clock(Protocol):
    """What the runtime needs of time: to read it, and to be called at a point of it."""

    def time(self) -> float:
        """Return monotonic seconds."""
        ...

    def wall_time(self) -> float:
        """Return seconds since the epoch, for people; nothing is decided by it."""
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
        """Call ``callback`` at ``when``, rounded up to a millisecond so that it is never early."""
        delay = max(0.0, when - monotonic())
        return self._loop.call_later(math.ceil(delay * 1000.0) / 1000.0, callback)


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
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value <= sys.float_info.max or (value == 0 and not zero):  # type: ignore[operator]
        raise BadTime(field, value, f"give a finite number of seconds, {'0 or more' if zero else 'more than 0'}")
    return float(value)  # type: ignore[arg-type]
