"""Barriers: wait until messages that were sent have been handled, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

from supervision._core.phases import IDLE, SUSPENDED
from supervision.clock import seconds
from supervision.errors import SupervisionError
from supervision.logs import get_logger
from supervision.ref import Address, as_ref
from supervision.testing.virtual_time._waiting import busy, shortened, what_it_does
from supervision.testing.virtual_time.virtual_loop import VirtualClockLoop

if TYPE_CHECKING:
    from supervision._core.cell import Cell
    from supervision.runtime import Runtime

#: After how many turns of the loop without a runnable actor it counts as quiet: if nothing else is ready there either;
#: and otherwise, or if that is not known, as a handler that goes on may need a few turns to get to actors.
QUIET = 3
LONG_QUIET = 50
#: Real seconds that it may take until all is quiet.
LIMIT = 30.0
#: Real seconds after which the log says what it waits for.
PATIENCE = 2.0
#: Real seconds for which one turn of the loop counts at the most: a debugger, or a machine that slept, does not count.
TURN = 0.1

_log: Any = get_logger("supervision.testing")


class NotSettled(SupervisionError, TimeoutError):
    """Actors have not come to rest, and may never do so.

    Attributes:
        waits: what each actor does that is not idle, a line each.
    """

    def __init__(self, why: str, waits: list[str]) -> None:
        self.waits = tuple(waits)
        super().__init__(f"not settled: {why}; {'; '.join(waits) or 'no actor is busy at this moment'}")


async def barrier(ref: Address, timeout: float | None = LIMIT) -> None:
    """Wait until an actor has handled everything that was sent to it before, or has ended.

    Args:
        ref: the actor.
        timeout: as for `settled`.

    Raises:
        NotSettled: it will never be idle, or is not in time.
        BadOption, NoProcess: it is no `Ref`, and no `Name` that somebody holds.
    """
    cell = as_ref("barrier", ref)
    await settled(cell.runtime, cell, timeout=timeout)


async def settled(runtime: Runtime, *refs: Address, timeout: float | None = LIMIT) -> None:
    """Wait until nothing can happen any more without a timer: no actor runnable, no handler ready to go on.

    Args:
        runtime: the runtime.
        refs: actors that must be idle as well, or have ended. While one waits for a timer, virtual time passes.
        timeout: real seconds that this may take, however much virtual time passes in them; None for any. A turn of the
            loop counts for a tenth of a second at the most. After two seconds the log says what it waits for.

    Raises:
        NotSettled: it has not come to rest in time; or on virtual time, an actor of ``refs`` waits for what cannot
            come any more. It names the actors.
        BadTime: ``timeout`` is no length of time.
        BadOption, NoProcess: one of ``refs`` is no actor of this runtime, or nobody holds its name.
    """
    scheduler = runtime.scheduler
    patience = _Patience(runtime, None if timeout is None else seconds("timeout", timeout))
    cells = [runtime.own_cell("settled", ref) for ref in refs]
    quiet = 0
    pause = 0.0
    while quiet < LONG_QUIET:
        await asyncio.sleep(pause)
        active = scheduler.ready or scheduler.awake or scheduler.handed_over
        waiting = [cell for cell in cells if cell.alive and cell.head not in (IDLE, SUSPENDED)]
        quiet = 0 if active or waiting else quiet + 1
        if quiet >= QUIET and _nothing_ready():
            return
        if not quiet:
            patience.check(None if active else waiting)
        pause = _until_next_timer() if waiting and not active else 0.0


class _Patience:
    """Measures for how long there is no rest; logs it, and raises at the limit."""

    def __init__(self, runtime: Runtime, limit: float | None) -> None:
        self._runtime = runtime
        self._limit = limit
        self._began = runtime._ids
        self._passed = 0.0
        self._looked = monotonic()
        self._told = False

    def check(self, waiting: list[Cell] | None) -> None:
        """Check the time that has passed.

        Args:
            waiting: the actors of ``refs`` that wait themselves; None if actors are runnable.
        """
        now = monotonic()
        self._passed += min(TURN, now - self._looked)
        self._looked = now
        loop = asyncio.get_running_loop()
        if waiting and isinstance(loop, VirtualClockLoop) and loop.stands_still():
            raise NotSettled("it waits for what cannot come any more", [what_it_does(cell) for cell in waiting])
        if self._limit is not None and self._passed >= self._limit:
            raise NotSettled(f"no rest within {self._limit:g} real seconds", self._who())
        if self._passed >= PATIENCE and not self._told:
            self._told = True
            _log.warning("still_waiting_to_settle", real_seconds=PATIENCE, waits="; ".join(self._who()))

    def _who(self) -> list[str]:
        found = shortened(list(busy(self._runtime)))
        started = self._runtime._ids - self._began
        return [*found, f"{started} actors were started meanwhile"] if started else found


def _nothing_ready() -> bool:
    """Whether nobody else runs in this turn of the loop, or in the next; False on a loop that does not tell."""
    loop = asyncio.get_running_loop()
    return isinstance(loop, VirtualClockLoop) and not loop.has_ready()


def _until_next_timer() -> float:
    """Return the seconds until the loop's next timer, so that virtual time can jump; a moment on another loop."""
    loop = asyncio.get_running_loop()
    return loop.until_next_timer() if isinstance(loop, VirtualClockLoop) else 0.001
