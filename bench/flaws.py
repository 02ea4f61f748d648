"""Flaws: the mistakes that people make, one each, in parts of generated services and in supervisors."""

from __future__ import annotations

import asyncio
from typing import Any

from bench.parts import Delegate, Late, Put, Row, Store, Watcher, answer
from supervision import (
    Actor,
    CallError,
    ChildSpec,
    Down,
    Ref,
    Supervisor,
    handle,
)
from supervision.ref import Address
from supervision.supervisors.supervisor import Child

#: Virtual seconds for which what cannot be killed goes on.
LONG = 50.0


class LostJob(Store):
    """Answers before it has written."""

    @handle
    async def put(self, request: Put) -> int:
        """Put the writing off."""
        await self.runtime.sleep(self.pause)
        self.send_after(1.0, Late(lambda: self.write(request.id)))
        return answer(request.id)


class DoubleWork(Store):
    """Does not look whether it has done a job."""

    def write(self, id: int) -> None:
        """Write a job down."""
        self.disk.written[self.key][id] += 1


class WrongAnswer(Store):
    """Is off by one when it has started again."""

    @handle
    async def put(self, request: Put) -> int:
        """Answer a little too much."""
        await self.runtime.sleep(self.pause)
        self.write(request.id)
        return answer(request.id) + (self.disk.starts[self.key] > 1)


class KeptState(Store):
    """Remembers what it has begun in a place that outlives it, and takes that for done."""

    @handle
    async def put(self, request: Put) -> int:
        """Write a job down, unless it was begun."""
        begun = self.runtime.shared.setdefault(("begun", self.key), set())
        if request.id not in begun:
            begun.add(request.id)
            await self.runtime.sleep(self.pause)
            self.write(request.id)
        return answer(request.id)


class Deadlock(Store):
    """Takes a lock that nobody gives back if it dies."""

    @handle
    async def put(self, request: Put) -> int:
        """Write a job down under the lock."""
        while self.key in self.disk.locked:
            await self.runtime.sleep(0.2)
        self.disk.locked.add(self.key)
        await self.runtime.sleep(self.pause)
        self.write(request.id)
        self.disk.locked.discard(self.key)
        return answer(request.id)


class NeverStarts(Store):
    """Waits, when it starts for the second time, for what comes only once."""

    async def init(self) -> None:
        """Wait."""
        super().init()
        if self.disk.starts[self.key] > 1:
            await asyncio.Event().wait()


class LeaksActors(Store):
    """Starts a helper that belongs to nobody."""

    def init(self) -> None:
        """Start it."""
        super().init()
        self.runtime.spawn_nowait(Actor)


class LeaksTasks(Store):
    """Starts a task that never ends."""

    def init(self) -> None:
        """Start it."""
        super().init()
        self.task = asyncio.get_running_loop().create_task(asyncio.Event().wait())


class Immortal(Store):
    """Goes on with a job for long, whatever is done to end it."""

    @handle
    async def put(self, request: Put) -> int:
        """Write a job down."""
        begun = self.runtime.clock.time()
        over = begun + self.pause
        while self.runtime.clock.time() < over:
            try:
                await self.runtime.sleep(self.pause)
            except BaseException:
                over = begun + LONG
        self.write(request.id)
        return answer(request.id)


class StaleName(Delegate):
    """Looks its store up once."""

    store: Ref | None = None

    def address(self) -> Address:
        """Return whom it knows."""
        self.store = self.store or self.runtime.whereis(self.target)
        return self.store or self.runtime.name(self.target)


class Swallows(Delegate):
    """Takes no answer for a good one."""

    @handle
    async def put(self, request: Put) -> int:
        """Pass a job on, and hope."""
        try:
            return await self.runtime.name(self.target).call(request, timeout=2.0)
        except CallError:
            return answer(request.id)


class WrongOrder(Row):
    """When it starts again, it deals with what is new before what was left."""

    def init(self) -> None:
        """Put aside what is left."""
        super().init()
        outbox = self.disk.outbox[self.key]
        left = list(outbox)
        outbox.clear()
        self.send_after(3.0, Late(lambda: self.disk.rows[self.key].extend(left)))


class LostMonitor(Watcher):
    """Watches once."""

    @handle
    def down(self, message: Down) -> None:
        """Note the end."""


class _Flawed(Supervisor):
    """A supervisor with a mistake."""


class StartsTwice(_Flawed):
    """Starts a child that was restarted once more."""

    async def _start(self, child: Child) -> None:
        again = child.last is not None
        await super()._start(child)
        if again:
            await super()._start(child)


class WrongRestartOrder(_Flawed):
    """Restarts a group from its end."""

    def _group(self, child: Child) -> list[Child]:
        return super()._group(child)[::-1]


class ForgetsSiblings(_Flawed):
    """Restarts the one that has died, whatever its strategy."""

    def _group(self, child: Child) -> list[Child]:
        return [child]


class WrongStopOrder(_Flawed):
    """Stops its children first to last."""

    async def stop_all(self) -> None:
        """Stop them."""
        await self._stop_many(list(self._children.values())[::-1])


class CountsNothing(_Flawed):
    """Has a budget that is never used up."""

    def spend_restart(self, spec: ChildSpec, last: Any, reason: Any) -> float | None:
        """Forget all restarts before."""
        self.budget._times.clear()
        return super().spend_restart(spec, last, reason)


STORES: dict[str, type[Store]] = {
    "lost job": LostJob,
    "double work": DoubleWork,
    "wrong answer": WrongAnswer,
    "kept state": KeptState,
    "deadlock": Deadlock,
    "never starts": NeverStarts,
    "leak of actors": LeaksActors,
    "leak of tasks": LeaksTasks,
    "cannot be killed": Immortal,
}
DELEGATES: dict[str, type[Delegate]] = {"stale name": StaleName, "swallowed failure": Swallows}
SUPERVISORS: dict[str, type[Supervisor]] = {
    "child started twice": StartsTwice,
    "wrong restart order": WrongRestartOrder,
    "siblings forgotten": ForgetsSiblings,
    "wrong stop order": WrongStopOrder,
    "restarts not counted": CountsNothing,
}
#: All kinds of mistakes.
FLAWS = (*STORES, *DELEGATES, *SUPERVISORS, "wrong order", "lost monitor", "not restarted")
