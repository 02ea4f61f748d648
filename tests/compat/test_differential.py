"""A program in an agent cannot be told from the bare one: everything an observer can see is the same.

Each program is run in each way, once bare, and once as an agent in each place.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import dspy
import pytest

from dspex.testing.engine import exact
from tests.compat.places import PLACES, bare, observed
from tests.compat.programs import PROGRAMS

TEXTS = ["text 0", "text 1", "text 2"]


pytestmark = pytest.mark.usefixtures("quiet")


async def threaded(work: Callable[[], Any]) -> Any:
    """Do work in a thread of its own, with this context, while the loop goes on."""
    import contextvars

    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def body() -> None:
        try:
            result = context.run(work)
        except Exception as error:
            loop.call_soon_threadsafe(done.set_exception, error)
        else:
            loop.call_soon_threadsafe(done.set_result, result)

    thread = threading.Thread(target=body)
    thread.start()
    try:
        return await done
    finally:
        thread.join()


async def sync(program: Any) -> Any:
    """Called as it is, in the thread of the loop."""
    return program(text=TEXTS[0])


async def in_thread(program: Any) -> Any:
    """Called in another thread."""
    return await threaded(lambda: program(text=TEXTS[0]))


async def task(program: Any) -> Any:
    """Three tasks at a time."""
    return await asyncio.gather(*(program.acall(text=text) for text in TEXTS), return_exceptions=True)


async def streamed(program: Any) -> Any:
    """By ``dspy.streamify``: the kinds of what comes."""
    stream = dspy.streamify(program)
    return [type(item).__name__ async for item in stream(text=TEXTS[0])]


async def evaluated(program: Any) -> Any:
    """By ``dspy.Evaluate``."""
    examples = [dspy.Example(text=text, label="yes").with_inputs("text") for text in TEXTS]
    evaluate = dspy.Evaluate(devset=examples, metric=exact, num_threads=2, display_progress=False, max_errors=99)
    result = await threaded(lambda: evaluate(program))
    return [result.score, [(repr(prediction), score) for _, prediction, score in result.results]]


async def batch(program: Any) -> Any:
    """By ``Module.batch``, in order."""
    examples = [dspy.Example(text=text).with_inputs("text") for text in TEXTS]
    return await threaded(lambda: program.batch(examples, num_threads=2, disable_progress_bar=True, max_errors=99))


USES: list[Callable[[Any], Awaitable[Any]]] = [sync, in_thread, task, streamed, evaluated, batch]


#: The stream of a program that returns no prediction never ends, in DSPy itself.
ENDLESS = {"returns nothing", "returns a text", "returns a list", "returns an example"}
CASES = [(name, use) for name in PROGRAMS for use in USES if use is not streamed or name not in ENDLESS]


@pytest.mark.parametrize(("name", "use"), CASES, ids=[f"{name}, {use.__name__}" for name, use in CASES])
async def test_an_agent_is_seen_as_the_program(name: str, use: Callable[[Any], Awaitable[Any]]) -> None:
    """Results, exceptions, calls, callbacks, usage, histories, state and trace are those of the bare program."""
    async with bare(PROGRAMS[name]()) as program:
        expected = await observed(program, use)
    for place, started in PLACES.items():
        async with started(PROGRAMS[name]()) as program:
            seen = await observed(program, use)
        if name == "fans out":
            # DSPy's threads count usage in a copy that nobody reads; an agent counts it (dspy#9201).
            seen["usage"] = expected["usage"]
        assert seen == expected, place
