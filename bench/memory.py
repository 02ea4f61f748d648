"""Memory of idle actors and of idle tasks, each measured in a process of its own.

``python -m bench.memory actor 100000`` prints bytes allocated for each (tracemalloc); with ``--resident`` the resident
memory of the process, in bytes.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import tracemalloc
from collections import deque
from typing import Any

from supervision import Actor, ChildSpec, DynamicSupervisor, Runtime, start_child


class Idle(Actor):
    """Does nothing."""

    __slots__ = ()


async def actors(n: int, resident: bool) -> float:
    """Start ``n`` supervised actors and measure."""
    async with Runtime(reports=False, watchdog=None) as runtime:
        supervisor = await runtime.spawn(DynamicSupervisor)
        spec = ChildSpec("idle", Idle)
        await start_child(supervisor, spec)
        begin(resident)
        for _ in range(n):
            await start_child(supervisor, spec)
        used = measure(resident)
    return used if resident else used / n


async def tasks(n: int, resident: bool) -> float:
    """Make ``n`` tasks, each with a deque and the future it waits for, and measure."""

    async def idle(box: deque[Any], gate: asyncio.Future[None]) -> None:
        await gate
        box.clear()

    loop = asyncio.get_running_loop()
    begin(resident)
    kept = []
    for _ in range(n):
        gate: asyncio.Future[None] = loop.create_future()
        kept.append(loop.create_task(idle(deque(), gate)))
    await asyncio.sleep(0)
    used = measure(resident)
    for task in kept:
        task.cancel()
    await asyncio.wait(kept)
    return used if resident else used / n


def begin(resident: bool) -> None:
    """Start counting."""
    gc.collect()
    if not resident:
        tracemalloc.start()


def measure(resident: bool) -> float:
    """Return bytes: the process's resident memory, or what was allocated since the beginning."""
    gc.collect()
    if resident:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return used


def _elsewhere(*arguments: str) -> float:
    command = [sys.executable, "-m", "bench.memory", *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def bytes_each(kind: str, n: int = 100_000) -> float:
    """Return the bytes that one idle ``actor`` or ``task`` takes, at ``n`` of them."""
    return _elsewhere(kind, str(n))


def resident_of_a_million() -> float:
    """Return the resident memory, in bytes, of a process with a million supervised actors."""
    return _elsewhere("actor", "1000000", "--resident")


def main() -> None:
    """Measure and print one number."""
    work = {"actor": actors, "task": tasks}[sys.argv[1]]
    print(asyncio.run(work(int(sys.argv[2]), "--resident" in sys.argv)))


if __name__ == "__main__":
    main()
