"""Tasks that run in the context of a caller, and callbacks at an actor's end, also when it is killed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from supervision import Ref

T = TypeVar("T")


def adopt_context(caller: Context, kernel: str = "supervision.") -> Context:
    """Return the context in which to work for a caller: the caller's, but for which actor works.

    Args:
        caller: the caller's context.
        kernel: how the names of the kernel's context variables begin.
    """
    context = caller.copy()
    for variable, value in copy_context().items():
        if variable.name.startswith(kernel):
            context.run(variable.set, value)
    return context


def start_in(context: Context, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start a task in a given context."""
    return asyncio.get_running_loop().create_task(coroutine, context=context)


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """Do work to its end, and return its result: also when whoever waits for it is cut off, it is not."""
    task = start_in(Context(), work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(task)


def on_end(ref: Ref, action: Callable[[], object]) -> asyncio.Task[None]:
    """Call ``action`` once the actor has ended, in whatever way: also when it is killed, and its ``terminate`` not run.

    The task that waits for it belongs to nobody, so that what ends the actor does not end the task.

    Args:
        ref: the incarnation to wait for.
        action: called in the loop, right after the end. Its exceptions go to the loop's exception handler.
    """

    async def wait() -> None:
        await ref.join()
        action()

    return asyncio.get_running_loop().create_task(wait(), context=Context())
