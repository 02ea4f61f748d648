"""A concurrency limit with a bounded queue: how many runs an agent has at the same time, and how many may wait."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import Context
from typing import Any

from dspex._tasks import adopt_context, on_end, start_in
from foundation.programs import Busy, OutOfTime
from supervision import Ref, Refuse, ReplyTo


class AnswerTimeLimit:
    """The ``seconds`` that a request may take, waiting included.

    ``passed`` says whether they are over, and ``until`` when they will be, in the time of the loop.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.until = math.inf
        self.passed = False


class _Job:
    """A request, while it waits and while it runs."""

    __slots__ = ("context", "expiry", "limit", "task", "token", "work")

    def __init__(
        self,
        token: ReplyTo[Any],
        context: Context,
        work: Callable[[], Coroutine[Any, Any, Any]],
        limit: AnswerTimeLimit | None,
    ) -> None:
        self.token = token
        self.context = context
        self.work = work
        self.limit = limit
        self.task: asyncio.Task[None] | None = None
        self.expiry: asyncio.TimerHandle | None = None

    @property
    def expired(self) -> bool:
        """Whether its caller has been told that it took too long."""
        return self.limit is not None and self.limit.passed

    def ended(self) -> None:
        """Forget the time limit."""
        if self.expiry is not None:
            self.expiry.cancel()


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

    def add(
        self,
        token: ReplyTo[Any],
        context: Context,
        work: Callable[[], Coroutine[Any, Any, Any]],
        limit: AnswerTimeLimit | None = None,
    ) -> None:
        """Run work in the context of a caller, as soon as there is a slot, and answer with its outcome.

        Args:
            token: the right to answer.
            context: the caller's.
            work: what is to be done.
            limit: when it takes longer, waiting included, its caller is told so (`OutOfTime`), and it is cancelled.
        """
        job = _Job(token, context, work, limit)
        if limit is not None:
            job.expiry = asyncio.get_running_loop().call_later(limit.seconds, self._expire, job, limit)
            limit.until = asyncio.get_running_loop().time() + limit.seconds
            token.on_abandoned(job.ended)
        self._jobs.append(job)
        self._start()

    def _start(self) -> None:
        while self._jobs and len(self._tasks) < self._concurrency:
            job = self._jobs.popleft()
            if job.token.begin():
                job.task = start_in(adopt_context(job.context), self._serve(job))
                self._tasks.add(job.task)
                job.token.on_abandoned(job.task.cancel)
                job.task.add_done_callback(self._ended)
            else:
                job.ended()

    def _expire(self, job: _Job, limit: AnswerTimeLimit) -> None:
        limit.passed = True
        if job.task is None:
            self._jobs.remove(job)
        else:
            job.task.cancel()
        job.token.fail(OutOfTime(limit.seconds))

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()
        self._start()

    async def _serve(self, job: _Job) -> None:
        token = job.token
        try:
            result = await job.work()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                token.fail(ProgramCancelled(f"{self._name} cancelled itself"))
            raise
        except BaseException as error:
            # Also what would end the process: it has ended this run.
            if not job.expired:
                token.fail(error)
        else:
            if not job.expired:
                token.reply(result)
        finally:
            job.ended()

    def _cancel_all(self) -> None:
        for job in self._jobs:
            job.ended()
        self._jobs.clear()
        for task in self._tasks:
            task.cancel()


class ProgramCancelled(Exception):
    """The program cancelled itself, and so has no answer."""


@contextmanager
def only_this_run(who: str) -> Generator[None]:
    """Run a program's code, of which nothing ends more than its run.

    Args:
        who: it is, for the error.

    Raises:
        ProgramExited: it raised what would end the process, such as ``SystemExit``, or a group with that in it.
    """
    try:
        yield
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:
        raise ProgramExited(who, error) from error


class ProgramExited(Exception):
    """A program tried to end more than its run, such as the process: that ended the run, and nothing else.

    Args:
        who: what raised it.
        error: what it raised.
    """

    def __init__(self, who: str, error: BaseException) -> None:
        super().__init__(f"{who} raised {type(error).__name__}, which ends this run, and nothing else")
