"""DSPy's own teleprompters, made durable: the same programs, whatever is away meanwhile."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex._compat import ItemOutcome, Routed, lm15
from dspex.teleprompt import Durable, EveryExampleFailed, ModelRefused, ModelUnavailable, WorkerLost, teleprompter
from dspex.teleprompt.errors import OptimisationOver
from dspex.testing.engine import Outage, ScriptedEngine, exact, scripted_lm
from supervision import NoProcess, Runtime, start_child
from tests.dspex.stock import DATA, EXAMPLES, FEW, LABELS, OPTIMISERS, Asks, compiled, model, state, student

pytestmark = pytest.mark.usefixtures("quiet", "supervised")


async def bare(name: str, metric: Any = exact, program: Any = None) -> tuple[Any, int]:
    """What an optimiser makes by itself, and in how many calls."""
    lm, engine = model()
    with dspy.context(lm=lm):
        made = OPTIMISERS[name](metric, lm, {})
        found = await asyncio.to_thread(compiled, name, made, student(name, lm, program))
    return state(found), engine.calls


async def durable(
    runtime: Runtime, name: str, lm: Any, metric: Any = exact, program: Any = None, more: Any = None, **options: Any
) -> tuple[Any, Any]:
    """What it makes when it is durable; and the report."""
    with dspy.context(lm=lm):
        teleprompter = OPTIMISERS[name](metric, lm, more or {})
        compiling = Durable(teleprompter, runtime=runtime, **options)
        found = await compiling.acompile(student(name, lm, program), trainset=EXAMPLES, **DATA.get(name, {}))
    for one in [found, *(each["program"] for each in getattr(found, "candidate_programs", ()))]:
        assert all(predictor.lm in (None, lm) for predictor in one.predictors())
        assert not isinstance(one, Routed)
    return found, compiling.report


# -- equality ------------------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("name", OPTIMISERS)
async def test_it_makes_the_same_program_with_the_same_calls(runtime: Runtime, name: str) -> None:
    """Side by side as one after the other; and with an outage in the middle, of which it sees nothing."""
    expected, calls = await bare(name)
    lm, engine = model()
    found, report = await durable(runtime, name, lm)
    assert (state(found), engine.calls, report.calls) == (expected, calls, calls)
    middle = max(1, calls // 2)
    lm, engine = model(outage=Outage(middle, middle + 1))
    found, report = await durable(
        runtime, name, lm, more={} if name in ("GEPA", "COPRO", "SIMBA") else {"max_errors": 1000}
    )
    assert state(found) == expected
    assert (report.outages, engine.calls) == (1, calls + 2)


async def test_what_it_has_tried_is_reported(runtime: Runtime) -> None:
    """Each program, with its score."""
    _, report = await durable(runtime, "MIPROv2", model()[0])
    assert [trial.examples for trial in report.trials] == [16, 8, 8, 8, 16]
    assert all(0 < trial.score <= 1 and trial.failures == 0 for trial in report.trials)


async def test_a_teacher_is_durable_as_well(runtime: Runtime) -> None:
    """Modules among what it is compiled with are taken as they are, with a model that is durable."""
    teacher = dspy.Predict("text -> label")
    teacher.lm = scripted_lm(ScriptedEngine(LABELS, base=0.9))
    lm = model()[0]
    with dspy.context(lm=lm):
        make: Any = lambda: dspy.BootstrapFewShot(metric=exact, teacher_settings={"temperature": 0.5}, **FEW)  # noqa: E731
        expected = make().compile(dspy.Predict("text -> label"), teacher=teacher.deepcopy(), trainset=EXAMPLES)
        compiling = Durable(make(), runtime=runtime)
        found = await compiling.acompile(dspy.Predict("text -> label"), teacher=teacher, trainset=EXAMPLES)
        assert state(found) == state(expected)
        assert compiling.report is not None
        assert compiling.report.calls > 0
        both = dspy.BetterTogether(metric=exact, p=make())
        data: dict[str, Any] = {"teacher": [teacher], "strategy": "p", "valset_ratio": 0.4, "seed": 0}
        expected = both.compile(student("BetterTogether", lm), trainset=EXAMPLES, **data)
        found = await Durable(both, runtime=runtime).acompile(student("BetterTogether", lm), trainset=EXAMPLES, **data)
        assert state(found) == state(expected)


async def test_rounds_and_errors_of_bootstrapping_are_dspys(runtime: Runtime) -> None:
    """An example may be tried more than once; so many errors end it, and fewer do not."""

    def fail(text: str) -> None:
        if text in (EXAMPLES[0].text, EXAMPLES[2].text):
            raise KeyError(text)

    lm = model()[0]
    make: Any = lambda **more: dspy.BootstrapFewShot(metric=exact, max_rounds=2, **FEW, **more)  # noqa: E731
    with dspy.context(lm=lm):
        expected = make().compile(Asks(fail), trainset=EXAMPLES)
        found = await Durable(make(), runtime=runtime).acompile(Asks(fail), trainset=EXAMPLES)
        assert state(found) == state(expected)
        with pytest.raises(KeyError):
            await Durable(make(max_errors=1), runtime=runtime).acompile(Asks(fail), trainset=EXAMPLES)
        everywhere = Durable(make(max_errors=1000), runtime=runtime)
        with pytest.raises(EveryExampleFailed, match="program: ZeroDivisionError"):
            await everywhere.acompile(Asks(lambda _: 1 / 0), trainset=EXAMPLES)
        alone = Durable(dspy.BootstrapFewShot(metric=None, **FEW), runtime=runtime)
        assert len((await alone.acompile(Asks(fail), trainset=EXAMPLES)).ask.demos) == 2


# -- what dies -----------------------------------------------------------------------------------------------


async def test_after_a_crash_it_pays_for_nothing_twice(runtime: Runtime, tmp_path: Path) -> None:
    """Begun again, it has every finished answer from the journal."""
    name = "BootstrapFewShotWithRandomSearch"
    expected, calls = await bare(name)
    cut = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if number == 50:
            loop.call_soon_threadsafe(cut.set)

    lm, engine = model(before=stop)
    first = asyncio.ensure_future(durable(runtime, name, lm, log_dir=tmp_path))
    await cut.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    lm, again = model()
    found, report = await durable(runtime, name, lm, log_dir=tmp_path, num_threads=3)
    assert state(found) == expected
    assert report.replayed > 0
    assert again.calls < calls
    assert engine.calls + again.calls <= calls + 20


async def test_workers_may_die(runtime: Runtime) -> None:
    """What a killed worker ran is run by another, and its finished calls are not made again."""
    lost: list[WorkerLost] = []
    runtime.subscribe(lost.append, WorkerLost)  # type: ignore[arg-type]
    expected, calls = await bare("SIMBA")
    loop = asyncio.get_running_loop()

    def kill() -> None:
        next(ref for name, ref in runtime.names().items() if name.endswith(".workers.1")).kill()

    lm, engine = model(before=lambda number: number in (8, 30) and loop.call_soon_threadsafe(kill))
    found, report = await durable(runtime, "SIMBA", lm, num_threads=2)
    assert state(found) == expected
    assert report.workers_lost == len(lost) > 0
    assert engine.calls == calls


# -- outages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize("first", [1, 12])
async def test_a_model_that_is_gone_ends_it(runtime: Runtime, tmp_path: Path, name: str, first: int) -> None:
    """No program comes out that the outage has shaped, however many errors are let pass; later it goes on."""
    more: dict[str, Any] = {} if name in ("GEPA", "COPRO", "SIMBA") else {"max_errors": 1000}
    first = 2 if name == "BootstrapFewShot" and first == 12 else first
    lm, engine = model(outage=Outage(first))
    with pytest.raises(ModelUnavailable, match="compile again with the same log_dir"):
        await durable(runtime, name, lm, patience=0.0, log_dir=tmp_path, more=more)
    engine.outage.first = None
    found, report = await durable(runtime, name, lm, log_dir=tmp_path, more=more)
    assert state(found) == (await bare(name))[0]
    assert report.resumed


class Away:
    """Something that fails for some calls, counted over all copies of a program."""

    def __init__(self, first: int, last: int, error: Callable[[], Exception]) -> None:
        self.calls, self.first, self.last, self.error = 0, first, last, error

    def __deepcopy__(self, memo: Any) -> Away:
        return self

    def __call__(self, text: str) -> None:
        """Fail, or not."""
        self.calls += 1
        if self.first <= self.calls <= self.last:
            raise self.error()


def own_model(first: int, last: int, let_pass: bool) -> Callable[[str], None]:
    """A language model that a program has kept for itself, and whose failure it may let pass."""
    lm = scripted_lm(ScriptedEngine(LABELS, outage=Outage(first, last)))

    def reach(text: str) -> None:
        try:
            lm(text)
        except dspy.LMTransportError as error:
            if not let_pass:
                raise RuntimeError("no hint") from error

    return reach


OWN: dict[str, Callable[[int, int], Callable[[str], object]]] = {
    "a connection": lambda first, last: Away(first, last, ConnectionResetError),
    "a model of its own": lambda first, last: own_model(first, last, False),
    "a model that it can do without": lambda first, last: own_model(first, last, True),
    "a rate limit": lambda first, last: Away(first, last, lambda: dspy.LMRateLimitError("slow", retry_after=0.001)),
}


@pytest.mark.parametrize("reach", OWN)
@pytest.mark.parametrize("name", ["BootstrapFewShot", "SIMBA", "BetterTogether"])
async def test_what_a_program_reaches_by_itself_is_waited_for(runtime: Runtime, name: str, reach: str) -> None:
    """It is run again, and what came of the first attempt is no part of its trace."""
    expected, _ = await bare(name, program=Asks())
    found, report = await durable(runtime, name, model()[0], program=Asks(OWN[reach](2, 3)))
    assert state(found) == expected
    assert report.outages > 0
    if name != "BootstrapFewShot":
        with pytest.raises(ModelUnavailable):
            await durable(runtime, name, model()[0], program=Asks(OWN[reach](20, 10_000)), patience=0.0)


async def test_a_judge_is_waited_for(runtime: Runtime) -> None:
    """A metric that asks a language model of its own is asked again, and is not cut off for an outage."""
    reach = own_model(3, 4, False)

    def judged(example: Any, prediction: Any, trace: Any = None) -> float:
        reach(example.text)
        return exact(example, prediction)

    expected, _ = await bare("COPRO")
    assert state((await durable(runtime, "COPRO", model()[0], judged))[0]) == expected
    asked = own_model(1, 1, True)

    async def later(example: Any, prediction: Any, trace: Any = None) -> Any:
        await asyncio.to_thread(asked, example.text)
        return dspy.Prediction(score=exact(example, prediction))

    assert state((await durable(runtime, "SIMBA", model()[0], later))[0]) == (await bare("SIMBA"))[0]


@pytest.mark.parametrize("name", OPTIMISERS)
@pytest.mark.parametrize(
    "error",
    [
        lambda: lm15.AuthError("wrong key"),
        lambda: lm15.InvalidRequestError("no such model", status=404),
        lambda: dspy.LMBillingError("no money"),
    ],
)
async def test_a_model_that_refuses_is_told_at_once(runtime: Runtime, name: str, error: Any) -> None:
    """A wrong key, a missing model: there is nothing to wait for."""

    def refuse(number: int) -> None:
        raise error()

    with pytest.raises(ModelRefused, match="mend that, and compile again"):
        await durable(runtime, name, model(before=refuse)[0], patience=None)


async def test_an_answer_to_the_question_whether_it_is_back_counts(runtime: Runtime) -> None:
    """A model that is away, and then knows the key no more, is not waited for; nor is one of a program's own."""

    def answer(number: int) -> None:
        if number > 5:
            raise lm15.TransportError("gone") if number < 7 else lm15.AuthError("wrong key")

    with pytest.raises(ModelRefused, match="wrong key"):
        await durable(runtime, "SIMBA", model(before=answer)[0], patience=None)
    reach = Away(3, 9, lambda: dspy.LMAuthError("wrong key"))
    for name in ("BootstrapFewShotWithRandomSearch", "SIMBA"):
        with pytest.raises(ModelRefused, match="wrong key"):
            await durable(runtime, name, model()[0], program=Asks(reach), patience=None)
        reach.calls = 0


async def test_no_model_is_told_at_once(runtime: Runtime) -> None:
    with pytest.raises(ModelRefused, match="No LM is loaded"):
        await durable(runtime, "BootstrapFewShotWithRandomSearch", None)


# -- metrics -------------------------------------------------------------------------------------------------


def typo(example: Any, prediction: Any, *rest: Any) -> Any:
    """A metric that always fails."""
    return example.labl == prediction.label


@pytest.mark.parametrize("name", OPTIMISERS)
async def test_a_metric_that_always_fails_is_no_result(runtime: Runtime, name: str) -> None:
    """The first cause is shown."""
    with pytest.raises(EveryExampleFailed, match=r"could be scored; the first one: metric: AttributeError: .*labl"):
        await durable(runtime, name, model()[0], typo)


async def test_a_program_that_always_fails_is_no_result(runtime: Runtime) -> None:
    for name in ("BootstrapFewShotWithRandomSearch", "SIMBA", "GEPA"):
        with pytest.raises(EveryExampleFailed, match="program: ZeroDivisionError"):
            await durable(runtime, name, model()[0], program=Asks(lambda _: 1 / 0))


async def test_metrics_mean_the_same_as_in_our_own(runtime: Runtime) -> None:
    """One that is async, that raises, hangs, or says nonsense for some: these count 0, and are reported."""
    never = asyncio.Event()

    async def metric(example: Any, prediction: Any, trace: Any = None) -> Any:
        number = EXAMPLES.index(example)
        if number == 1:
            raise SystemExit(3)
        if number == 2:
            return float("nan")
        if number == 3:
            await never.wait()
        return exact(example, prediction) == 1.0

    found, report = await durable(runtime, "BootstrapFewShotWithRandomSearch", model()[0], metric, metric_timeout=0.2)
    assert len(found.demos) == 2
    assert [trial.failures for trial in report.trials] == [3] * 4
    assert all(trial.examples == 20 for trial in report.trials)


class Ends(dspy.Module):  # type: ignore[misc]
    """Ends the process, or would like to."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("text -> label")

    def forward(self, text: str) -> Any:
        """Ask, or end."""
        if text == EXAMPLES[4].text:
            raise SystemExit(text)
        return self.ask(text=text)


async def test_a_program_that_exits_costs_its_example(runtime: Runtime) -> None:
    """And nothing else; programs may run others side by side."""
    _, report = await durable(runtime, "BootstrapFewShotWithRandomSearch", model()[0], program=Ends())
    assert [trial.failures for trial in report.trials][:2] == [1, 1]
    lm = model()[0]
    with dspy.context(lm=lm), pytest.raises(RuntimeError, match="1 of 20 have failed, the first with RuntimeError"):
        teleprompter = dspy.BootstrapFewShotWithRandomSearch(metric=exact, num_candidate_programs=0, max_errors=1)
        await Durable(teleprompter, runtime=runtime).acompile(Ends(), trainset=EXAMPLES)


class Side(dspy.Module):  # type: ignore[misc]
    """Runs two predictors side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("text -> label")

    def forward(self, text: str) -> Any:
        """Ask twice."""
        return dspy.Parallel(num_threads=2, disable_progress_bar=True)([(self.ask, {"text": text})] * 2)[0]

    async def aforward(self, text: str) -> Any:
        """Ask."""
        return await self.ask.acall(text=text)


async def test_a_program_may_run_others_side_by_side(runtime: Runtime) -> None:
    """With fewer workers than it runs; and asked asynchronously, it is run as it is."""
    _, report = await durable(runtime, "COPRO", model()[0], program=Side(), num_threads=1)
    assert [trial.failures for trial in report.trials] == [0, 0]


async def test_a_guarded_program_can_be_awaited(runtime: Runtime) -> None:
    """DSPy's optimisers do not; a program that is given to them might."""

    class Awaits(dspy.teleprompt.Teleprompter):  # type: ignore[misc]
        """Awaits a program."""

        def compile(self, student: Any, *, trainset: Any) -> Any:
            """Await."""
            assert asyncio.run(student.acall(text=trainset[0].text)).label
            student.notes = [ItemOutcome(1)]
            return student

    with dspy.context(lm=model()[0]):
        found = await Durable(Awaits(), runtime=runtime).acompile(Side(), trainset=EXAMPLES)
    assert found.notes == [ItemOutcome(1)]


async def test_who_ends_it_ends_its_threads(runtime: Runtime) -> None:
    """Also one that waits for a metric: what it is told is no error that an optimiser lets pass."""
    asked, ended, told = asyncio.Event(), asyncio.Event(), list[BaseException]()
    loop = asyncio.get_running_loop()

    async def metric(*_: Any) -> float:
        asked.set()
        await asyncio.Event().wait()
        return 1.0

    class Judges(dspy.teleprompt.Teleprompter):  # type: ignore[misc]
        """Asks its metric, whatever happens."""

        def __init__(self) -> None:
            self.metric: Any = metric

        def compile(self, student: Any, *, trainset: Any) -> Any:
            """Ask."""
            for _ in range(2):
                try:
                    self.metric(trainset[0], None)
                except BaseException as error:
                    told.append(error)
            loop.call_soon_threadsafe(ended.set)

    with dspy.context(lm=model()[0]):
        compiling = Durable(Judges(), runtime=runtime, metric_timeout=None)
        work = asyncio.ensure_future(compiling.acompile(Asks(), trainset=EXAMPLES))
    await asked.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    await ended.wait()
    assert [type(error) for error in told] == [OptimisationOver, OptimisationOver]


async def test_a_program_may_fail_after_an_outage(runtime: Runtime) -> None:
    """That is its own failure, and counts."""
    reach = iter([ConnectionResetError("reset"), KeyError("shelf")])

    def fail_twice(text: str) -> None:
        error = next(reach, None)
        if error is not None:
            raise error

    class Same:
        """The same in all copies of a program."""

        def __deepcopy__(self, memo: Any) -> Same:
            return self

        def __call__(self, text: str) -> None:
            fail_twice(text)

    with dspy.context(lm=model()[0]):
        compiling = Durable(dspy.BootstrapFewShot(metric=exact, max_bootstrapped_demos=1), runtime=runtime)
        found = await compiling.acompile(Asks(Same()), trainset=EXAMPLES)
    assert compiling.report is not None
    assert compiling.report.outages == 1
    assert next(reach, None) is None
    assert [demo.text for demo in found.ask.demos if demo.get("augmented")] != [EXAMPLES[0].text]


async def test_a_guarded_program_may_call_another(runtime: Runtime) -> None:
    """The outer one is the one that waits."""

    class Nests(dspy.teleprompt.Teleprompter):  # type: ignore[misc]
        """Has one program call another."""

        def compile(self, student: Any, *, trainset: Any) -> Any:
            """Nest."""
            inner = student.deepcopy()
            student.reach = lambda text: inner(text=text)
            assert student(text=trainset[0].text).label
            student.reach = str
            return student

    lm, engine = model()
    with dspy.context(lm=lm):
        await Durable(Nests(), runtime=runtime).acompile(Asks(), trainset=EXAMPLES)
    assert engine.calls == 2


async def test_what_is_cancelled_while_it_starts_leaves_nobody_at_work(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no error that nobody looks at: it has been told to nobody, and is none of the event loop's."""
    loop = asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, about: told.append(about))
    started, go_on = asyncio.Event(), asyncio.Event()
    start = start_child

    async def held(*args: Any) -> Any:
        found = await start(*args)
        started.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(teleprompter, "start_child", held)
    with dspy.context(lm=model()[0]):
        compiling = Durable(dspy.LabeledFewShot(), runtime=runtime)
        work = asyncio.ensure_future(compiling.acompile(Asks(), trainset=EXAMPLES))
    await started.wait()
    assert any("dspex.optimisation" in name for name in runtime.names())
    work.cancel()
    await asyncio.wait([work], timeout=0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert not any("dspex.optimisation" in name for name in runtime.names())
    gc.collect()
    assert told == []


async def test_without_a_supervisor_for_agents_nothing_is_begun() -> None:
    async with Runtime(reports=False) as bare:
        with pytest.raises(NoProcess), dspy.context(lm=model()[0]):
            await Durable(dspy.LabeledFewShot(), runtime=bare).acompile(Asks(), trainset=EXAMPLES)
        assert list(bare.actors()) == []
