"""Handlers in threads: they may block, and the loop goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from anyio import CapacityLimiter

if TYPE_CHECKING:
    from supervision._cell import Cell


class ThreadPool:
    """The threads in which the handlers of a runtime's actors run: at most so many at once.

    A thread cannot be ended by force. One whose actor was killed goes on until its handler returns; it is counted in
    ``leaked`` until then, and takes no place of the others.

    Args:
        limit: how many at once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.leaked = 0
        self._limiter: CapacityLimiter | None = None

    async def run(self, cell: Cell, function: Callable[[], Any]) -> Any:
        """Run a function in a thread, in the context of the actor, and return what it returns."""
        if self._limiter is None:
            self._limiter = CapacityLimiter(self.limit)
        loop = cell.sched.loop
        hold = getattr(loop, "hold", None)
        release = None if hold is None else hold("a thread")
        work = _Work(function, lambda: loop.call_soon_threadsafe(self._unleak))
        try:
            return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)
        finally:
            if release is not None:
                release()
            if work.abandon():
                self.leaked += 1

    def _unleak(self) -> None:
        self.leaked -= 1


class _Work:
    """A function that runs in a thread, or has run; or is left to itself there."""

    def __init__(self, function: Callable[[], Any], when_over: Callable[[], object]) -> None:
        self._function = function
        self._when_over = when_over
        self._lock = threading.Lock()
        self._runs = False
        self._abandoned = False

    def __call__(self) -> Any:
        with self._lock:
            self._runs = True
        try:
            return self._function()
        finally:
            with self._lock:
                self._runs = False
                abandoned = self._abandoned
            if abandoned:
                self._when_over()

    def abandon(self) -> bool:
        """Leave it to itself; tell whether it still runs."""
        with self._lock:
            self._abandoned = self._runs
            return self._runs


def in_thread(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Coroutine[Any, Any, Any]]:
    """Return a handler that does in a thread what a plain one does."""

    @wraps(handler)
    async def offloaded(actor: Any, message: Any) -> Any:
        cell: Cell = actor._cell
        return await cell.sched.runtime.threads.run(cell, lambda: handler(actor, message))

    return offloaded
