"""The actor that does one job."""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING

from dspex._tasks import on_end
from dspex.jobs.work import JobWork
from supervision import NORMAL, Actor, Message, Ref, Stop, handle

if TYPE_CHECKING:
    from supervision import ExitReason


class WorkEnded(Message, frozen=True):
    """The work on a job has come to its end: with an ``error``, or without."""

    job: str
    work: JobWork
    error: BaseException | None


class TaskEnded(Message, frozen=True):
    """To itself: the task has ended."""

    task: asyncio.Task[None]


class JobActor(Actor):
    """Does one job, and tells its owner how it has ended. Restarted, it goes on where it was.

    Args:
        id: of the job.
        work: what is to be done.
        owner: is told.
    """

    def __init__(self, id: str, work: JobWork, owner: Ref) -> None:
        self._id, self._work, self._owner = id, work, owner

    async def init(self) -> None:
        """Begin, once nothing is left of an earlier incarnation that was killed."""
        await self._work.stop()
        if self._work.over:
            raise Stop(NORMAL)
        task = self._work.task = asyncio.get_running_loop().create_task(self._work.run(), context=Context())
        ref = self.ref
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # looked at, whoever is left
        task.add_done_callback(lambda done: ref.cast(TaskEnded(done)))
        on_end(ref, task.cancel)

    @handle
    def task_ended(self, message: TaskEnded) -> None:
        """Tell the owner, and end."""
        task = message.task
        error = asyncio.CancelledError("it has cancelled itself") if task.cancelled() else task.exception()
        self._owner.cast(WorkEnded(self._id, self._work, error))
        self.stop(NORMAL)

    async def terminate(self, reason: ExitReason) -> None:
        """Stop the work, so that it can be begun again elsewhere."""
        await self._work.stop()
