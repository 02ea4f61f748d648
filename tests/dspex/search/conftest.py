"""Programs that race on virtual time, and a language model that they ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import dspy
import pytest

from dspex.agents.background import agents_supervisor
from dspex.search import Race, RaceReport
from dspex.testing.engine import AsyncScriptedEngine, ScriptedEngine, exact, scripted_lm, task
from supervision import Runtime, Supervisor
from tests.loop_factories import pytest_asyncio_loop_factories as pytest_asyncio_loop_factories

EXAMPLES, LABELS = task(64)


def advised(times: int, number: int = 0) -> Callable[[Any], None]:
    """A change of a program: so much advice, which the model takes."""

    def change(program: Any) -> None:
        said = f"Way {number}. " + "Look closely: here. " * times
        program.signature = program.signature.with_instructions(said)

    return change


#: Eight, the last but one of which is the best.
WAYS = [advised(times, number) for number, times in enumerate((0, 0, 1, 0, 1, 0, 2, 1))]


def student() -> Any:
    """What is to be made better."""
    return dspy.Predict("text -> label")


def engine(**options: Any) -> ScriptedEngine:
    """A language model for which advice is worth much."""
    return ScriptedEngine(LABELS, **{"base": 0.2, "advice": 0.35, **options})


def race(runtime: Runtime, hypotheses: Any = WAYS, **options: Any) -> Race:
    """A small race."""
    return Race(
        hypotheses,
        **{"metric": exact, "rule": {"kind": "halving", "first": 8}, "num_threads": 8, "runtime": runtime, **options},
    )


async def raced(
    made: Race,
    model: ScriptedEngine | None = None,
    program: Any = None,
    examples: Sequence[Any] = EXAMPLES,
    **data: Any,
) -> tuple[Any, RaceReport]:
    """What comes back, and the report."""
    with dspy.context(lm=scripted_lm(model or engine())):
        found = await made.acompile(program or student(), trainset=examples, **data)
    assert isinstance(made.report, RaceReport)
    return found, made.report


class Slow(AsyncScriptedEngine):
    """Answers each call after a while, by the number of the call."""

    def __init__(self, made: ScriptedEngine, runtime: Runtime, pauses: Callable[[], float]) -> None:
        super().__init__(made)
        self._runtime, self._pauses = runtime, pauses

    async def complete(self, request: Any) -> Any:
        """Answer, later."""
        await self._runtime.sleep(self._pauses())
        return await super().complete(request)


def slow_lm(made: ScriptedEngine, runtime: Runtime, pauses: Callable[[], float]) -> Any:
    """A model of that kind."""
    known = {"cache": False, "num_retries": 0, "temperature": 0.0}
    return dspy.LM("known/model", engine=made, async_engine=Slow(made, runtime, pauses), **known)


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime in which agents can be started, and that must have ended all its actors when the test is over."""
    async with Runtime(watchdog=None, reports=False, seed=1) as made:
        await made.spawn(Supervisor, [agents_supervisor()])
        yield made
    assert list(made.actors()) == []
