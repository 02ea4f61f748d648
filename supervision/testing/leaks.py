"""Leaks: counts of everything that can leak, to compare before and after."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Self

import msgspec

from supervision._core.cell import Cell
from supervision.groups import Groups
from supervision.runtime import Runtime


class ResourceCounts(msgspec.Struct, frozen=True):
    """Counts of what can leak, in a runtime and in its process.

    ``deferred`` counts requests whose answer was deferred, ``members`` those of process groups.

    >>> import asyncio
    >>> async def main() -> None:
    ...     async with Runtime(watchdog=None) as runtime:
    ...         before = ResourceCounts.of(runtime)
    ...         runtime.spawn_nowait(Groups, name="mine")
    ...         print(before.leaks(ResourceCounts.of(runtime)))
    >>> asyncio.run(main())
    {'actors': 1, 'names': 1}
    """

    actors: int
    names: int
    links: int
    monitors: int
    members: int
    timers: int
    zombies: int
    tasks: int
    threads: int
    files: int
    deferred: int = 0

    @classmethod
    def of(cls, runtime: Runtime) -> Self:
        """Count. Workers of the runtime's own pool are no leak and do not count among the tasks."""
        cells = [cell for cell in runtime.actors() if isinstance(cell, Cell)]
        numbers = runtime.statistics()
        own = f"{runtime.label}-worker"
        return cls(
            len(cells),
            numbers.names,
            sum(sum(1 for _ in cell.peers()) for cell in cells) // 2,
            sum(len(cell.watching or ()) for cell in cells),
            sum(len(group) for cell in cells if isinstance(cell.actor, Groups) for group in cell.actor.groups.values()),
            numbers.timers,
            numbers.zombies,
            sum(task.get_name() != own for task in asyncio.all_tasks()),
            threading.active_count(),
            _open_files(),
            sum(len(cell.deferred or ()) for cell in cells),
        )

    def leaks(self, after: ResourceCounts) -> dict[str, int]:
        """Return what has grown, and by how much."""
        grown = {name: getattr(after, name) - getattr(self, name) for name in self.__struct_fields__}
        return {name: number for name, number in grown.items() if number > 0}


def _open_files() -> int:
    """Count open file handles, where the system tells; 0 elsewhere."""
    listing = Path("/proc/self/fd")
    return sum(1 for _ in listing.iterdir()) if listing.exists() else 0
