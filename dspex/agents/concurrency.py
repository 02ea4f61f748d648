"""A concurrency limit with a bounded queue: how many runs an agent has at the same time, and how many may wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, NamedTuple

from dspex._tasks import adopt_context, on_end, start_in
from foundation.programs import Busy
from supervision import Ref, Refuse, ReplyTo


class _Job(NamedTuple):
    token: ReplyTo[Any]
    context: Context
    work: Callable[[], Coroutine[Any, Any, Any]]


class ConcurrencyLimit:
    """Runs the work of requests in tasks, and answers them; to be made by an actor.

    A request whose caller gives up is left out, or its task cancelled. When the actor ends, all tasks are.

    Args:
        ref: of the actor.
        name: of the program, for errors.
        concurrency: how many run at the same time.
        waiting: how many more may wait; None for any number.
    """

    def __init__(self, ref: Ref, name: str, concurrency: int, waiting: int | None = None) -> None:
        self._name = name
        self._concurrency = concurrency
        self._waiting = waiting
        self._jobs: deque[_Job] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._guard = on_end(ref, self._cancel_all)

    @property
    def running(self) -> int:
        """How many run."""
        return len(self._tasks)

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self._jobs)

    def check(self) -> None:
        """Refuse the request that is being handled if there is no room for it.

        Raises:
            Refuse: with `Busy`.
        """
        full = self._waiting is not None and len(self._jobs) >= self._waiting
        if full and len(self._tasks) >= self._concurrency:
            raise Refuse(Busy(f"{self._name} runs {len(self._tasks)} requests, and {len(self._jobs)} wait"))

    def add(self, token: ReplyTo[Any], context: Context, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Run work in the context of a caller, as soon as there is a slot, and answer with its outcome."""
        self._jobs.append(_Job(token, context, work))
        self._start()

    def _start(self) -> None:
        while self._jobs and len(self._tasks) < self._concurrency:
            job = self._jobs.popleft()
            if job.token.begin():
                task = start_in(adopt_context(job.context), self._serve(job))
                self._tasks.add(task)
                job.token.on_abandoned(task.cancel)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()
        self._start()

    async def _serve(self, job: _Job) -> None:
        token = job.token
        try:
            token.reply(await job.work())
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                token.fail(ProgramCancelled(f"{self._name} cancelled itself"))
            raise
        except (Exception, SystemExit) as error:
            token.fail(error)

    def _cancel_all(self) -> None:
        self._jobs.clear()
        for task in self._tasks:
            task.cancel()


class ProgramCancelled(Exception):
    """The program cancelled itself, and so has no answer."""
