"""Waiting for several tasks at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, cast

from supervision.clock import seconds
from supervision.errors import BadOption, TaskTimeout
from supervision.options import check_choice, is_whole
from supervision.tasks.task import Done, Exited, Task

R = TypeVar("R")

OnTimeout = Literal["nothing", "ignore", "kill_task"]


async def yield_many(
    tasks: Sequence[Task[R]],
    timeout: float | None = 5.0,
    *,
    limit: int | None = None,
    on_timeout: OnTimeout = "nothing",
) -> list[Done[R] | Exited | None]:
    """Wait for several tasks, or for ``timeout`` seconds.

    Args:
        tasks: tasks of the actor in which this code runs.
        timeout: seconds; None waits for all of them.
        limit: return as soon as so many have ended; None for all.
        on_timeout: what is done about those that have not ended by then: ``nothing``, ``ignore`` or ``kill_task``.

    Returns:
        The outcome of each, in their order; None for those that have not ended.

    Raises:
        BadOption, BadTime: an argument is wrong.
        NotOwner: another actor started one of them.
    """
    check_choice("on_timeout", on_timeout, OnTimeout)
    if limit is not None and not is_whole(limit, 1):
        raise BadOption("limit", limit, "give a whole number, 1 or more, or None")
    pause = None if timeout is None else seconds("timeout", timeout)
    for task in tasks:
        task.check_owner()
    await _some_ended(tasks, len(tasks) if limit is None else min(limit, len(tasks)), pause)
    return [await _taken(task, on_timeout) for task in tasks]


async def _taken(task: Task[R], on_timeout: OnTimeout) -> Done[R] | Exited | None:
    if task.outcome.done():
        return await task.yield_(0)
    if on_timeout == "nothing":
        return None
    return task.ignore() if on_timeout == "ignore" else await task.shutdown("brutal_kill")


async def _some_ended(tasks: Sequence[Task[Any]], count: int, timeout: float | None) -> None:
    """Wait until ``count`` of the tasks have ended, or for ``timeout`` seconds."""
    left = count
    enough: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ended(_: object = None) -> None:
        nonlocal left
        left -= 1
        if left <= 0 and not enough.done():
            enough.set_result(None)

    for task in tasks:
        task.outcome.add_done_callback(ended)
    try:
        if not tasks:
            return
        if timeout is None:
            await enough
        else:
            await tasks[0].ref.sched.wait(enough, timeout)
    finally:
        for task in tasks:
            task.outcome.remove_done_callback(ended)


async def await_many(tasks: Sequence[Task[R]], timeout: float | None = 5.0) -> list[R]:
    """Wait for the results of several tasks.

    Args:
        tasks: tasks of the actor in which this code runs.
        timeout: seconds for all of them together; None waits as long as they live.

    Returns:
        The results, in the order of the tasks.

    Raises:
        TaskExited: one of them ended without a result; raised at once. The others go on.
        TaskTimeout: they have not all ended in time. They go on, and what becomes of them is not told any more.
        NotOwner: another actor started one of them.
    """
    limit = None if timeout is None else seconds("timeout", timeout)
    for task in tasks:
        task.check_owner()
    pending = list(tasks)
    deadline = None if limit is None or not tasks else tasks[0].ref.sched.now() + limit
    while pending:
        await _some_ended(pending, 1, None if deadline is None else max(0.0, deadline - pending[0].ref.sched.now()))
        ended = [task for task in pending if task.outcome.done()]
        if not ended:
            for task in pending:
                task.close()
            raise TaskTimeout(f"{len(pending)} of {len(tasks)} tasks", timeout or 0.0)
        for task in ended:
            pending.remove(task)
            await task.wait(0)
    return [cast("R", task.outcome.result().result()) for task in tasks]
