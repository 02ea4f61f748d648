"""Barriers: waiting for what has been sent to be handled, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from supervision._marks import HELD, IDLE
from supervision.ref import Address, holder
from supervision.testing.virtual_clock import VirtualClockLoop

if TYPE_CHECKING:
    from supervision.runtime import Runtime

#: After how many turns of the loop in which no actor is runnable nothing will happen any more: if nothing else is ready
#: there either; and if that is not so, or not known, for a handler that goes on may need a few turns to get to actors.
QUIET = 3
LONG_QUIET = 50


async def barrier(ref: Address) -> None:
    """Wait until an actor has handled everything that was sent to it before, or has ended.

    Raises:
        BadOption, NoProcess: it is no `Ref`, and no `Name` that somebody holds.
    """
    cell = holder("barrier", ref)
    await settled(cell.runtime, cell)


async def settled(runtime: Runtime, *refs: Address) -> None:
    """Wait until nothing can happen any more without a timer: no actor runnable, no handler ready to go on.

    Args:
        runtime: the runtime.
        refs: the actors that must be idle as well, or have ended; for a handler
            that waits for a timer, virtual time passes.

    Raises:
        BadOption, NoProcess: one of them is no actor of this runtime, or nobody holds its name.
    """
    scheduler = runtime.scheduler
    cells = [runtime.own("settled", ref) for ref in refs]
    quiet = 0
    pause = 0.0
    while quiet < LONG_QUIET:
        await asyncio.sleep(pause)
        busy = scheduler.ready or scheduler.awake or scheduler.handed_over
        waiting = any(cell.alive and cell.head not in (IDLE, HELD) for cell in cells)
        quiet = 0 if busy or waiting else quiet + 1
        if quiet >= QUIET and _nothing_ready():
            return
        pause = _until_next_timer() if waiting and not busy else 0.0


def _nothing_ready() -> bool:
    """Whether nobody else runs in this turn of the loop, or in the next; False on a loop that does not tell."""
    loop = asyncio.get_running_loop()
    return isinstance(loop, VirtualClockLoop) and not loop.has_ready()


def _until_next_timer() -> float:
    """Return the seconds until the loop's next timer, so that virtual time can jump; a moment on another loop."""
    loop = asyncio.get_running_loop()
    return loop.until_next_timer() if isinstance(loop, VirtualClockLoop) else 0.001
