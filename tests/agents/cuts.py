"""A process that is cut at one of its points, and what it leaves behind: the next one begins with that."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Self, TypeVar

import msgspec

from agents.durability import MemoryStorage
from supervision import Runtime

P = TypeVar("P", bound="CutPlace")


class CutPlace:
    """What outlives a process, and where the one at hand is cut.

    Attributes:
        storage: what is stored.
        points: the names of those that were passed, over all lives.
        is_cut: whether the process at hand stands still.
        deaths: how many were cut.
    """

    #: The class of the storage.
    kind: ClassVar[type[CutStorage]]

    def __init__(self) -> None:
        self.storage = self.left = self.kind(self)
        self.points: list[str] = []
        self.is_cut = asyncio.Event()
        self.deaths = 0

    def cuts(self, name: str) -> bool:
        """Return whether the process is cut at the last of the points, which has this name."""
        raise NotImplementedError

    async def passed(self, name: str) -> None:
        """Do what is to happen at a point at which it is not cut."""

    async def point(self, name: str) -> None:
        """Pass a point; or be cut there, and wait for the end of the process."""
        if not self.is_cut.is_set():
            self.points.append(name)
            if self.cuts(name):
                self.left = self.storage.copy()
                self.is_cut.set()
            else:
                await self.passed(name)
        if self.is_cut.is_set():
            await asyncio.Event().wait()

    def end_life(self) -> None:
        """The process is dead; the next one finds what was stored until then."""
        self.deaths += 1
        self.storage = self.left
        self.is_cut = asyncio.Event()


class CutStorage(MemoryStorage):
    """What is stored at a place; those derived from it have a point before and behind each change.

    Args:
        place: whose points they are.
    """

    def __init__(self, place: Any) -> None:
        super().__init__()
        self.place = place

    def copy(self) -> Self:
        """Return what is stored at this moment."""
        left = type(self)(self.place)
        left._stored, left._journal = dict(self._stored), {key: list(log) for key, log in self._journal.items()}
        left._kept = {
            key: msgspec.structs.replace(kept, snapshots=dict(kept.snapshots), rows=dict(kept.rows))
            for key, kept in self._kept.items()
        }
        return left


async def one_life(place: P, life: Callable[[Runtime, P], Coroutine[Any, Any, None]]) -> bool:
    """Have one process live, until its life is over or it is cut. Return whether it was not cut."""
    async with Runtime(watchdog=None, reports=False, seed=1) as runtime:
        living = asyncio.ensure_future(life(runtime, place))
        cut = asyncio.ensure_future(place.is_cut.wait())
        await asyncio.wait([living, cut], return_when=asyncio.FIRST_COMPLETED)
        for one in (living, cut):
            one.cancel()
        outcomes = await asyncio.gather(living, cut, return_exceptions=True)
        if place.is_cut.is_set():
            for actor in list(runtime.actors()):
                actor.kill()
            place.end_life()
            return False
        if isinstance(outcomes[0], Exception):
            raise outcomes[0]
        return True
