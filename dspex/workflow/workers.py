"""A pool of supervised workers, each with one request at a time, and the coordinator of a long work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

from dspex._tasks import adopt_context, on_end, start_in
from supervision import Actor, ActorExited, ChildSpec, NoProcess, Request, Runtime, Supervisor

R = TypeVar("R")

#: Seconds between two looks for a worker that is being restarted.
_LOOK = 0.005


class WorkerPool:
    """Supervised workers, each with one request at a time. A request whose worker dies is made of another one.

    Args:
        runtime: where they live.
        name: of their supervisor; theirs begin with it.
        size: how many they are.
    """

    def __init__(self, runtime: Runtime, name: str, size: int) -> None:
        self._runtime = runtime
        self._idle: asyncio.Queue[str] = asyncio.Queue()
        self._name = name
        self.size = size
        self.lost = 0
        for number in range(size):
            self._idle.put_nowait(f"{name}.{number}")

    def workers(self, kind: type[Actor], *args: Any) -> ChildSpec:
        """Return the specification of their supervisor.

        Args:
            kind: what they are.
            args: for each of them.
        """
        names = [f"{self._name}.{number}" for number in range(self.size)]
        workers = [ChildSpec(name, kind, args, name=name) for name in names]
        budget = {"max_restarts": 100 + self.size, "max_seconds": 1.0}
        return ChildSpec(self._name, Supervisor, (workers,), budget, name=self._name)

    async def ask(self, request: Request[R], lost: Callable[[str], object]) -> R:
        """Have a worker answer a request, as soon as one is idle.

        Args:
            request: has to be answered.
            lost: is told how a worker has ended that had it.
        """
        name = await self._idle.get()
        try:
            while True:
                try:
                    return await self._runtime.name(name).call(request, None)
                except ActorExited as error:
                    self.lost += 1
                    lost(str(error.reason))
                except NoProcess:
                    await self._runtime.sleep(_LOOK)
        finally:
            self._idle.put_nowait(name)


class Coordinator(Actor):
    """Carries out a long work. When it dies, its successor begins again, and finds in the journal what is known.

    Args:
        begin: begins the work.
        context: in which it is done.
        result: takes what it returns, or what it has raised.
    """

    def __init__(self, begin: Callable[[], Awaitable[Any]], context: Context, result: asyncio.Future[Any]) -> None:
        self._begin = begin
        self._context = context
        self._result = result

    def init(self) -> None:
        """Begin."""
        self._task = start_in(adopt_context(self._context), self._work())
        self._guard = on_end(self.ref, self._task.cancel)

    async def _work(self) -> None:
        try:
            found = await self._begin()
        except Exception as error:
            settle = partial(self._result.set_exception, error)
        else:
            settle = partial(self._result.set_result, found)
        # What a dead coordinator has met with is not the result: its successor goes on. Nor is what nobody waits for.
        if self.ref.alive and not self._result.done():
            settle()
