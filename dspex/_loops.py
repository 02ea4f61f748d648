"""Work that belongs to one event loop, called from another loop or thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from dspex._compat import lm15, wait_wanted

T = TypeVar("T")


def is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this code runs in an event loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def start_in_loop(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]
) -> Future[tuple[T, BaseException | None]]:
    """Start work in an event loop; called in another thread.

    Returns:
        What comes to be its result, see `result_of`. Nothing that the work raises ends the event loop.
    """
    return asyncio.run_coroutine_threadsafe(_outcome(work), loop)


async def _outcome(work: Coroutine[Any, Any, T]) -> tuple[T, BaseException | None]:
    try:
        return await work, None
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:  # a task that ends with SystemExit ends its loop
        return None, error  # type: ignore[return-value]


def result_of(outcome: tuple[T, BaseException | None]) -> T:
    """Return what the work has returned, or raise what it has raised."""
    result, error = outcome
    if error is not None:
        raise error
    return result


class WorkInLoop(Generic[T]):
    """Work that was begun in an event loop; made in another thread. It can be cancelled, and its end waited for.

    Args:
        loop: in which it is done.
        work: what is done. Nothing that it raises ends the event loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> None:
        self._loop, self._work = loop, work
        self._task: asyncio.Task[tuple[T, BaseException | None]] | None = None
        #: Done when the work has ended; `result` says how.
        self.ended: Future[None] = Future()
        self.ended.set_running_or_notify_cancel()  # whoever waits no longer does not end it
        loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(_outcome(self._work))
        self._task.add_done_callback(lambda _: self.ended.set_result(None))

    def cancel(self) -> None:
        """Cancel it. It has not ended yet then."""
        self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        assert self._task is not None
        self._task.cancel()

    def result(self) -> T:
        """Return what it has returned, or raise what it has raised, once it has ended."""
        assert self._task is not None
        return result_of(self._task.result())


async def await_in_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Do work in an event loop; called in any. Whoever is cancelled goes on when the work has ended."""
    if is_running_here(loop):
        return await work
    begun = WorkInLoop(loop, work)
    ended = asyncio.wrap_future(begun.ended)
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        begun.cancel()
        await ended
        raise
    return begun.result()


def run_in_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Do work in an event loop; called in another thread, which waits.

    A Ctrl-C there cancels the work, and is raised once that has ended; a second one is raised at once.
    """
    begun = WorkInLoop(loop, work)
    try:
        begun.ended.result()
    except BaseException:
        begun.cancel()
        begun.ended.result()
        raise
    return begun.result()


def block_on_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], what: str) -> T:
    """Do work in an event loop; called in another thread, which waits.

    Raises:
        asyncio.CancelledError: nobody waits any more for the run that waits for it.
        lm15.ConfigurationError: it is called in the loop itself, which would wait for itself; ``what`` says what it is.
    """
    if is_running_here(loop):
        work.close()
        raise lm15.ConfigurationError(
            f"{what} was called without await in the thread of the event loop that is to answer: it would wait for"
            " itself. Use acall there, or run the program in a thread (asyncio.to_thread, dspy.asyncify)"
        )
    return result_of(wait_wanted(start_in_loop(loop, work)))


async def next_of(items: AsyncIterator[Any]) -> Any:
    """Return the next item; None after the last one. A coroutine, so that it can run in the loop of the items."""
    return await anext(items, None)
