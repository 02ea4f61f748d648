"""How one member is asked: whatever it raises ends nothing but its answer.

Who is asked next is said by a generator, which knows neither threads nor tasks: a plain call and ``acall`` do the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import dspy

from dspex._compat import is_async

Q = TypeVar("Q")
R = TypeVar("R")

#: What a member has answered, and what it raised.
Asked = tuple[Any, BaseException | None]


def ask(program: Any, inputs: Mapping[str, Any], trace: list[Any] | None) -> Asked:
    """Ask a member, and return what it has answered, or what it raised.

    Args:
        program: of the member.
        inputs: what is asked.
        trace: gets what its predictors were asked; None for nothing.
    """
    with dspy.context(trace=trace):
        try:
            return program(**inputs), None
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return None, error


async def ask_async(
    program: Any, inputs: Mapping[str, Any], trace: list[Any] | None, limiter: anyio.CapacityLimiter
) -> Asked:
    """Do the same in a coroutine: of the program, or around a thread that it runs in.

    Args:
        program: of the member.
        inputs: what is asked.
        trace: gets what its predictors were asked; None for nothing.
        limiter: of threads.

    Raises:
        CancelledError: whoever asks was cancelled; a member that cancels itself has failed.
    """
    try:
        with dspy.context(trace=trace):
            if is_async(program):
                return await program.acall(**inputs), None
            call = partial(program, **inputs)
            return await anyio.to_thread.run_sync(call, limiter=limiter, abandon_on_cancel=True), None
    except BaseException as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        return None, error


def new_trace() -> list[Any] | None:
    """Return a trace for one member; None if nobody wants one."""
    return None if dspy.settings.trace is None else []


def next_step(questions: Generator[Q, R, Any], reply: R | None) -> tuple[Q | None, Any]:
    """Return what is asked next; or None, and the result.

    Args:
        questions: yields what is asked, gets what came of it, and returns the result.
        reply: what came of the last question; None before the first.
    """
    try:
        return (next(questions) if reply is None else questions.send(reply)), None
    except StopIteration as end:
        return None, end.value
