"""Workers: the tasks in which ``async def`` handlers run.

A worker drains the run queue like the scheduler's callback does, but inside a task, so that code in a handler finds a
current task, can be cancelled, and can use timeouts, task groups and cancel scopes. When a handler waits, its worker
waits with it, and another one goes on with the queue. Before that, actors with
plain handlers get their turns within this worker: once one of them has answered the awaited call, the handler goes on
at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextvars import Context
from typing import TYPE_CHECKING, Any

from supervision._core.cell import Cell
from supervision._core.phases import EXITING
from supervision._core.turns import resume
from supervision.call import Call

if TYPE_CHECKING:
    from supervision._core.scheduler import Scheduler


class Worker:
    """One task of the pool. ``draining`` is set in the one that drains the queue."""

    __slots__ = ("_begun", "_parked", "_sched", "_spoilt", "draining", "task")

    def __init__(self, sched: Scheduler) -> None:
        self._sched = sched
        self._parked: asyncio.Future[None] | None = None
        self._spoilt = False
        self.draining = True
        # Not in a copy of the context in which the need arose: that is some actor's, which may end long before. And not
        # by the loop's task factory: an eager one would run the work here and now, within whatever runs already.
        self.task: asyncio.Task[None] = asyncio.Task(
            self._work(), loop=sched.loop, name=f"{sched.runtime.label}-worker", context=sched.base.copy()
        )
        self._begun = False
        self.task.add_done_callback(self._ended)

    async def _work(self) -> None:
        await self

    def cancel(self) -> None:
        """Cancel the code that runs in this worker; the worker ends with it."""
        self._spoilt = True
        self.task.cancel()

    def wake(self) -> bool:
        """End the pause of an idle worker, who then drains the queue. False if it is ending."""
        if self._parked is None or self._parked.done():
            return False
        self.draining = True
        self._parked.set_result(None)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Let another worker take over if this one's task was cancelled before its first step.

        `asyncio.run` cancels all tasks of a loop after a Ctrl-C. No code of the task has run then, not even a
        ``finally``, and the queue would wait for a worker that never comes.
        """
        if not self._begun:
            self._sched.waking -= 1
            self._sched.retire(self)

    def _rest(self) -> None:
        if self.draining:
            self.draining = self._sched.awake = False

    def __await__(self) -> Generator[Any, Any, None]:
        sched = self._sched
        sched.waking -= 1
        self._begun = True
        try:
            while not self._spoilt:
                cell = sched.next_handed_over()
                if cell is not None:
                    yield from self._run(cell, started=False)
                elif sched.ready and (self.draining or not sched.awake):
                    self.draining = sched.awake = True
                    cell = sched.drain(self.task)
                    if cell is not None:
                        yield from self._run(cell, started=True)
                    elif self.task.cancelling():
                        return
                    elif sched.ready:
                        yield
                else:
                    self._rest()
                    if not sched.park(self):
                        return
                    self._parked = sched.loop.create_future()
                    self._parked._asyncio_future_blocking = True
                    try:
                        yield self._parked
                    finally:
                        # One that was woken counts, also if it was cancelled since.
                        sched.waking -= 0 if self._parked.cancelled() else 1
        finally:
            sched.retire(self)

    def _resume(self, cell: Cell, context: Context, error: BaseException | None) -> bool:
        sched = self._sched
        sched.going_on = self
        try:
            return context.run(resume, cell, error)
        except Exception as failure:
            sched.turn_failed(cell, failure)
            return False
        finally:
            sched.going_on = None

    def _answered(self, awaiting: Any) -> bool:
        """Whether an awaited call is answered once the runnable actors have had their turns.

        Then the code goes on without a wait: the answer of a plain handler does not cost two passes of the loop.
        """
        return (
            isinstance(awaiting, Call)
            and self._sched.turns_in_place(awaiting, self.task)
            and not self.task.cancelling()
        )

    def _run(self, cell: Cell, started: bool) -> Generator[Any, Any, None]:
        """Run the code of one actor, as often as it waits, until it ends."""
        context = cell.context_of()
        cell.worker = self
        waits = started or self._resume(cell, context, None)
        if started and cell.phase >= EXITING:
            self._sched.stop_waiting_code(cell)
        while waits:
            error: BaseException | None = None
            if self.draining and self._answered(cell.awaiting):
                waits = self._resume(cell, context, None)
                continue
            self._sched.worker_waits(self)
            try:
                yield cell.awaiting
            except BaseException as thrown:
                error = thrown
            waits = cell.body is not None and self._resume(cell, context, error)
        cell.worker = None
        if self.task.cancelling():
            self._spoilt = True
