"""Work that belongs to one event loop, called from another loop or thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

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
    return asyncio.run_coroutine_threadsafe(_outcome(work), loop)  # type: ignore[arg-type]


async def _outcome(work: Coroutine[Any, Any, T]) -> tuple[T | None, BaseException | None]:
    try:
        return await work, None
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:  # a task that ends with SystemExit ends its loop
        return None, error


def result_of(outcome: tuple[T, BaseException | None]) -> T:
    """Return what the work has returned, or raise what it has raised."""
    result, error = outcome
    if error is not None:
        raise error
    return result


async def await_in_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Do work in an event loop; called in any."""
    if is_running_here(loop):
        return await work
    return result_of(await asyncio.wrap_future(start_in_loop(loop, work)))


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
