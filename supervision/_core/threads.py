"""Handlers in threads, which may block while the loop goes on; and the variants of a class isolated otherwise."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from contextvars import copy_context
from functools import cache, wraps
from inspect import isawaitable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from anyio import CapacityLimiter

from supervision.errors import Fenced, NotRunning

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from supervision._core.cell import Cell
    from supervision.actor import Actor


T = TypeVar("T")
#: What a function returned, and what it raised.
ThreadResult = tuple[Any, BaseException | None]


class _Here(threading.local):
    """The actor for which a thread of the pool works."""

    cell: Cell | None = None


_here = _Here()


class ThreadPool:
    """The threads in which the handlers of a runtime's actors run: at most so many at once.

    A thread cannot be ended by force. One whose actor was killed goes on until its handler returns; it is counted in
    ``leaked`` until then, takes no place of the others, and does not keep the interpreter from ending.

    Args:
        limit: how many at once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.leaked = 0
        self._limiter: CapacityLimiter | None = None
        self._idle: list[_Worker] = []
        self._closed = False

    async def run(self, cell: Cell, function: Callable[[], Any]) -> Any:
        """Run a function in a thread, in the context of the actor, and return what it returns."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(self.limit)
        loop = cell.sched.loop
        hold = getattr(loop, "hold", None)
        async with self._limiter:
            worker = self._idle.pop() if self._idle else _Worker(loop)
            release = None if hold is None else hold("a thread")
            over: Future[ThreadResult] = loop.create_future()
            worker.take(cell, function, lambda outcome: self._over(worker, over, outcome))
            try:
                result, error = await over
            except BaseException:  # the actor is killed, or ends
                self.leaked += over.cancelled() or over.cancel()
                raise
            finally:
                if release is not None:
                    release()
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame
        return result

    def _over(self, worker: _Worker, over: Future[ThreadResult], outcome: ThreadResult) -> None:
        if over.cancelled():
            self.leaked -= 1
        else:
            over.set_result(outcome)
        if self._closed:
            worker.end()
        else:
            self._idle.append(worker)

    def close(self) -> None:
        """End the threads; those that still run a handler, after it."""
        self._closed = True
        idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()
        for worker in idle:
            worker.thread.join()


class _Worker:
    """A thread that runs one function after the other, and tells the loop how each ended."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._work: SimpleQueue[Callable[[], bool] | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="actor-thread", daemon=True)
        self.thread.start()

    def take(self, cell: Cell, function: Callable[[], Any], over: Callable[[ThreadResult], object]) -> None:
        """Run a function for an actor, in the caller's context, and have the loop call another with its outcome."""
        context = copy_context()
        self._work.put(lambda: self._do(cell, lambda: context.run(function), over))

    def end(self) -> None:
        """End after the current function."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None and work():
            del work

    def _do(self, cell: Cell, function: Callable[[], Any], over: Callable[[ThreadResult], object]) -> bool:
        _here.cell = cell
        outcome: ThreadResult
        try:
            outcome = function(), None
        except BaseException as error:
            outcome = None, error
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(over, outcome)
            return True
        return False


def in_thread(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Coroutine[Any, Any, Any]]:
    """Return a handler that runs a plain one in a thread."""

    @wraps(handler)
    async def offloaded(actor: Any, message: Any) -> Any:
        cell: Cell = actor._cell
        return await cell.sched.runtime.threads.run(cell, lambda: handler(actor, message))

    return offloaded


def run_in_loop(function: Callable[..., Awaitable[T] | T], /, *args: Any, **kwargs: Any) -> T:
    """From a handler in a thread: have the loop call a function, as this actor, and wait for what it returns.

    Only the loop may send, call, spawn, link, watch and register: ``run_in_loop(ref.cast, message)``.

    Args:
        function: plain or ``async``. What it returns is awaited if it can be, so ``run_in_loop(ref.call, Get())`` is
            the answer.
        args: passed to it.
        kwargs: passed to it.

    Raises:
        NotRunning: this code does not run in such a thread.
        Fenced: the actor has been killed in the meantime.
        Exception: what the function raised.
    """
    cell = _here.cell
    if cell is None:
        raise NotRunning("run_in_loop is for handlers of actors with isolation = 'thread'; in the loop, just call it")

    async def called() -> Any:
        if not cell.alive:
            raise Fenced(cell, function)
        result = function(*args, **kwargs)
        return await result if isawaitable(result) else result

    outcome: T = asyncio.run_coroutine_threadsafe(called(), cell.sched.loop).result()
    return outcome


#: Where the handlers of an actor run: in the loop; in threads, if they are plain; in a process of their own.
Isolation = Literal["none", "thread", "process"]


def isolated(
    kind: Any, isolation: Isolation, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[type[Actor], tuple[Any, ...], Mapping[str, Any]]:
    """Return the class and arguments with which an isolated actor is started."""
    if isolation == "process":
        from supervision.isolation.process import proxy_class

        return proxy_class(kind), (args, kwargs), {}
    return (kind if kind.__behaviour__.isolation == isolation else _variant(kind, isolation)), args, kwargs


@cache
def _variant(kind: Any, isolation: Isolation) -> type[Actor]:
    """Return a subclass that differs in its isolation only."""
    attributes = {
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__slots__": (),
        "isolation": isolation,
        "isolated_from": kind,
    }
    return type(kind.__name__, (kind,), attributes)
