"""Islands: ascents side by side, in a ring in which each sends its best program to the next one.

The barriers of the ring are logical: after so many steps, whatever time it is. Who has taken part in one is in the
journal before anybody goes on, so that it is the same when all is repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

from dspex._tasks import adopt_context, start_in
from dspex.search.events import RingClosed
from dspex.teleprompt.events import WorkerLost
from dspex.workflow.workers import WorkerPool
from supervision import Actor, ChildSpec, Refuse, Request, handle

if TYPE_CHECKING:
    from dspex.search.archipelago import Archipelago
    from dspex.teleprompt.run import OptimisationRun

#: In the journal, who has taken part in a barrier.
_RING = "ring"


class Emigrant(NamedTuple):
    """A program that is sent to another island, and its scores on the mini-batch by which it was chosen."""

    program: Any
    scores: list[float]


class RingStopped(Exception):
    """An island has ended before the others: there is nobody to wait for any more."""


class _Barrier:
    """Where all islands wait for each other.

    Args:
        decide: returns who takes part, once that is known.
    """

    def __init__(self, decide: Callable[[_Barrier], Coroutine[Any, Any, list[int]]]) -> None:
        self.brought: dict[int, Any] = {}
        self.changed = asyncio.Event()
        self.decided = asyncio.get_running_loop().create_task(decide(self))
        self.decided.add_done_callback(lambda done: done.cancelled() or done.exception())


class Ring:
    """The islands, and where they wait for each other.

    An island that makes no progress for as long as the patience is not waited for: the ring closes around it. Time in
    which a language model is away is none.

    Args:
        run: whose clock, journal and events are used.
        size: how many islands there are.
        patience: seconds.
    """

    def __init__(self, run: OptimisationRun, size: int, patience: float) -> None:
        self._run, self._size, self._patience = run, size, patience
        self._barriers: dict[str, _Barrier] = {}
        self._outages = run.outages()
        self._stopped: set[int] = set()
        self._seen: dict[int, float] = {}
        for island in range(size):
            self.alive(island)

    def alive(self, island: int) -> None:
        """Note that an island makes progress."""
        self._seen[island] = self._run.runtime.clock.time()

    def stop(self, island: int) -> None:
        """Note that an island goes no further: barriers that it has not reached are none."""
        self._stopped.add(island)
        for barrier in self._barriers.values():
            barrier.changed.set()

    async def meet(self, name: str, island: int, brings: Any) -> dict[int, Any]:
        """Bring something to a barrier, and return what all who take part have brought, by their numbers, in order.

        Raises:
            RingStopped: another island will never come.
            StorageError: who takes part cannot be kept.
        """
        barrier = self._barrier(name)
        barrier.brought[island] = brings
        barrier.changed.set()
        found = await self.met(name)
        self.alive(island)
        return found

    async def met(self, name: str) -> dict[int, Any]:
        """Return the same as `meet`, and bring nothing."""
        barrier = self._barrier(name)
        taking_part = await asyncio.shield(barrier.decided)
        return {island: barrier.brought[island] for island in taking_part}

    def _barrier(self, name: str) -> _Barrier:
        found = self._barriers.get(name)
        if found is None:
            found = self._barriers[name] = _Barrier(lambda barrier: self._decide(name, barrier))
        return found

    async def _decide(self, name: str, barrier: _Barrier) -> list[int]:
        taking_part: list[int] = await self._run.recorded(_RING, name, lambda: self._here(name, barrier))
        await self._all(barrier, taking_part)
        return taking_part

    async def _here(self, name: str, barrier: _Barrier) -> list[int]:
        """Return who takes part: all, but for those who make no progress for too long."""
        await self._all(barrier, range(self._size), self._patience)
        without = tuple(island for island in range(self._size) if island not in barrier.brought)
        if without:
            optimiser = self._run.report.optimiser
            self._run.runtime.events.emit(RingClosed, optimiser=optimiser, barrier=name, without=without)
        return sorted(barrier.brought)

    async def _all(self, barrier: _Barrier, wanted: Iterable[int], patience: float | None = None) -> None:
        """Wait until all that are wanted have come, or, if there is a patience, the others make no progress."""
        wanted = list(wanted)
        while missing := [island for island in wanted if island not in barrier.brought]:
            if self._stopped & set(missing):
                raise RingStopped
            # Whoever comes first has others to wait for; before that, there is nobody to wait.
            left = self._left(missing, patience) if patience is not None and barrier.brought else None
            if left is not None and left <= 0:
                return
            barrier.changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await barrier.changed.wait()

    async def ended(self, asked: Mapping[int, asyncio.Future[None]]) -> None:
        """Wait until islands have ended, or those that have not make no progress.

        Args:
            asked: is done when an island has ended, by its number.
        """
        while waiting := {island: one for island, one in asked.items() if not one.done()}:
            left = self._left(list(waiting), self._patience)
            if left <= 0:
                break
            await asyncio.wait(waiting.values(), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        for one in asked.values():
            if one.done():
                one.result()

    def _left(self, missing: list[int], patience: float) -> float:
        """Return for how many seconds those who are missing may still make no progress."""
        outages, self._outages = self._outages, self._run.outages()
        if outages != self._outages or any(suspended for _, suspended in outages):
            for island in range(self._size):
                self.alive(island)
        return max(self._seen[island] for island in missing) + patience - self._run.runtime.clock.time()

    def close(self) -> None:
        """Have nobody wait any more."""
        for barrier in self._barriers.values():
            barrier.decided.cancel()


class Ascend(Request[None], frozen=True):
    """Ascend on an island, for a caller in a context; whoever begins again finds in the journal what is known."""

    archipelago: Archipelago
    island: int
    context: Context


class Island(Actor):
    """Ascends, for one caller after another."""

    def __init__(self) -> None:
        self._busy: Ascend | None = None

    @handle
    async def ascend(self, request: Ascend) -> None:
        """Ascend."""
        self._busy = request
        try:
            await start_in(adopt_context(request.context), request.archipelago.ascend(request.island))
        except Exception as error:
            raise Refuse(error) from None
        finally:
            self._busy = None

    def summary(self) -> Mapping[str, object]:
        """Return how far it is, for ``/tree``."""
        return {} if self._busy is None else self._busy.archipelago.summary_of(self._busy.island)


class IslandPool(WorkerPool):
    """Supervised islands. What one that dies was at is begun again by its successor."""

    def spec(self) -> ChildSpec:
        """Return the specification of their supervisor."""
        return self.workers(Island)

    async def ascend(self, archipelago: Archipelago, island: int) -> None:
        """Have an island ascend."""
        lost: Callable[[str], object] = lambda why: self._runtime.events.emit(  # noqa: E731
            WorkerLost, job=f"island {island}", why=why
        )
        await self.ask(Ascend(archipelago, island, copy_context()), lost)
