"""DSPy's own teleprompters, made durable."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex.teleprompt import Durable
from dspex.testing.engine import Outage, ScriptedEngine, exact, scripted_lm, task
from supervision import Runtime

EXAMPLES, LABELS = task(30)


pytestmark = pytest.mark.usefixtures("quiet", "supervised")


def search() -> Any:
    """A random search, with a teacher of its own."""
    return dspy.BootstrapFewShotWithRandomSearch(
        metric=exact,
        num_candidate_programs=3,
        num_threads=4,
        max_bootstrapped_demos=2,
        max_labeled_demos=2,
        teacher_settings={"lm": scripted_lm(ScriptedEngine(LABELS, base=0.9))},
    )


def simba() -> Any:
    """DSPy's own SIMBA, which takes a seed, and writes with a model of its own."""
    model = scripted_lm(ScriptedEngine(LABELS))
    return dspy.SIMBA(metric=exact, bsize=10, num_candidates=2, max_steps=2, num_threads=4, prompt_model=model)


async def bare(make: Any, engine: ScriptedEngine, **data: Any) -> Any:
    """What it compiles by itself."""
    with dspy.context(lm=scripted_lm(engine)):
        program = dspy.Predict("text -> label")
        return await asyncio.to_thread(lambda: make().compile(program, trainset=EXAMPLES, **data).dump_state())


async def durable(runtime: Runtime, make: Any, engine: ScriptedEngine, log_dir: Any = None, **data: Any) -> Any:
    """What it compiles when it is durable; and the report."""
    compiling = Durable(make(), runtime=runtime, log_dir=log_dir)
    with dspy.context(lm=scripted_lm(engine)):
        program = await compiling.acompile(dspy.Predict("text -> label"), trainset=EXAMPLES, **data)
    return program.dump_state(), compiling.report


@pytest.mark.parametrize("make", [search, simba])
async def test_it_compiles_the_same_program(runtime: Runtime, make: Any) -> None:
    """With the same calls; and with an outage in the middle, of which it sees nothing."""
    theirs, ours, gone = ScriptedEngine(LABELS), ScriptedEngine(LABELS), ScriptedEngine(LABELS, outage=Outage(40, 41))
    expected = await bare(make, theirs)
    assert (await durable(runtime, make, ours))[0] == expected
    assert ours.calls == theirs.calls
    found, report = await durable(runtime, make, gone)
    assert found == expected
    assert report.outages == 1


async def test_a_teacher_is_durable_as_well(runtime: Runtime) -> None:
    """A module among what it is compiled with is taken as it is, with a model that is durable."""
    teacher = dspy.Predict("text -> label")
    engine = ScriptedEngine(LABELS, base=0.9)
    teacher.lm = scripted_lm(engine)
    make: Any = lambda: dspy.BootstrapFewShot(metric=exact, max_bootstrapped_demos=2, max_labeled_demos=0)  # noqa: E731
    expected = await bare(make, ScriptedEngine(LABELS), teacher=teacher.deepcopy())
    found, report = await durable(runtime, make, ScriptedEngine(LABELS), teacher=teacher)
    assert found == expected
    assert report.calls > 0


async def test_after_a_crash_it_pays_for_nothing_twice(runtime: Runtime, tmp_path: Path) -> None:
    """Begun again, it has every finished answer from the journal."""
    theirs = ScriptedEngine(LABELS)
    expected = await bare(search, theirs)
    cut = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if number == 60:
            loop.call_soon_threadsafe(cut.set)

    engine = ScriptedEngine(LABELS, before=stop)
    first = asyncio.ensure_future(durable(runtime, search, engine, tmp_path))
    await cut.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    again = ScriptedEngine(LABELS)
    found, report = await durable(runtime, search, again, tmp_path)
    assert found == expected
    assert report.replayed > 0
    assert again.calls < theirs.calls
    assert engine.calls + again.calls <= theirs.calls + 8
