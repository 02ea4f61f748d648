"""Work that belongs to one event loop, called from another loop or thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from dspex._compat import lm15

T = TypeVar("T")


def is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether this code runs in an event loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


async def await_in_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T]) -> T:
    """Do work in an event loop; called in any."""
    if is_running_here(loop):
        return await work
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))


def block_on_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, T], what: str) -> T:
    """Do work in an event loop; called in another thread, which waits.

    Raises:
        lm15.ConfigurationError: it is called in the loop itself, which would wait for itself; ``what`` says what it is.
    """
    if is_running_here(loop):
        work.close()
        raise lm15.ConfigurationError(
            f"{what} was called without await in the thread of the event loop that is to answer: it would wait for"
            " itself. Use acall there, or run the program in a thread (asyncio.to_thread, dspy.asyncify)"
        )
    return asyncio.run_coroutine_threadsafe(work, loop).result()


async def next_of(items: AsyncIterator[Any]) -> Any:
    """Return the next item; None after the last one. A coroutine, so that it can run in the loop of the items."""
    return await anext(items, None)
