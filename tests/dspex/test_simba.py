"""SIMBA on supervised workers: equal to DSPy's own, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import pytest

from agents.durability import MemoryStorage
from dspex._compat import models_for_sampling
from dspex.agents.background import PROGRAM_AGENTS
from dspex.models.call_log import CallLog
from dspex.teleprompt import (
    SIMBA,
    BadOptimisationJournal,
    BadTrainset,
    CandidateScored,
    Durable,
    DurableTeleprompter,
    ModelUnavailable,
    OptimisationResumed,
    OptimisationSuspended,
    OtherOptimisation,
    WorkerLost,
)
from dspex.teleprompt.rollouts import MetricGuard, RolloutJob, RolloutPool
from dspex.teleprompt.run import OptimisationRun
from dspex.testing.engine import Outage, ScriptedEngine, exact, scripted_lm, task
from dspex.workflow.workers import Coordinator
from supervision import Runtime, start_child
from supervision.errors import BadOption

EXAMPLES, LABELS = task(48)
SMALL: dict[str, Any] = {"bsize": 12, "num_candidates": 3, "max_steps": 3}


pytestmark = pytest.mark.usefixtures("quiet", "supervised")


class Two(dspy.Module):  # type: ignore[misc]
    """Two predictors, one behind the other; sync only."""

    def __init__(self) -> None:
        super().__init__()
        self.first = dspy.Predict("text -> label")
        self.second = dspy.Predict("text -> label")

    def forward(self, text: str) -> Any:
        """Ask twice, and trust the second."""
        self.first(text=text)
        return self.second(text=text)


def predictor() -> Any:
    """One predictor."""
    return dspy.Predict("text -> label")


def state(program: Any) -> Any:
    """What is compared of a compiled program."""
    candidates = [(found["score"], found["program"].dump_state()) for found in program.candidate_programs]
    return program.dump_state(), candidates, program.trial_logs, program.simba_idx


def healthy(student: Any, engine: ScriptedEngine | None = None, **options: Any) -> Any:
    """What DSPy's own SIMBA makes of a student."""
    with dspy.context(lm=scripted_lm(engine or ScriptedEngine(LABELS))):
        return dspy.SIMBA(metric=exact, num_threads=4, **{**SMALL, **options}).compile(student, trainset=EXAMPLES)


async def compiled(runtime: Runtime, engine: ScriptedEngine, student: Any = None, **options: Any) -> tuple[Any, SIMBA]:
    """What ours makes of it."""
    simba = SIMBA(**{"metric": exact, "num_threads": 8, "runtime": runtime, **SMALL, **options})
    with dspy.context(lm=scripted_lm(engine)):
        return await simba.acompile(student or predictor(), trainset=EXAMPLES), simba


# -- equality ------------------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("student", [predictor, Two])
@pytest.mark.parametrize("workers", [1, 4, 8])
@pytest.mark.parametrize("demos", [4, 0])
async def test_T047_with_one_model_it_is_dspys_simba_step_by_step(
    runtime: Runtime, student: Callable[[], Any], workers: int, demos: int
) -> None:
    """The same program, candidates, scores and logs, with the same calls, however many workers there are."""
    theirs, ours = ScriptedEngine(LABELS), ScriptedEngine(LABELS)
    program, simba = await compiled(runtime, ours, student(), num_threads=workers, max_demos=demos)
    assert state(program) == state(healthy(student(), theirs, max_demos=demos))
    assert simba.report is not None
    assert (ours.calls, simba.report.calls, simba.report.replayed) == (theirs.calls, theirs.calls, 0)


class Asked:
    """Two models of one name, and which of their answers were asked for, by rollout id."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engines = [ScriptedEngine(LABELS), ScriptedEngine(LABELS, seed=1)]
        self.lms = [scripted_lm(self.engines[0]), scripted_lm(self.engines[1], rollout_id=7, temperature=0.1)]
        self.rollout_ids: defaultdict[int, set[Any]] = defaultdict(set)
        answer = CallLog.answer

        async def told(log: CallLog, asked: Any, request: Any, variant: Any, number: int = 0) -> Any:
            if "module_advice" not in str(request):
                self.rollout_ids[id(asked.lm)].add(variant)
            return await answer(log, asked, request, variant, number)

        monkeypatch.setattr(CallLog, "answer", told)

    def student(self) -> Any:
        """Two predictors, each with its own model."""
        made = Two()
        made.first.lm, made.second.lm = self.lms
        return made

    @property
    def calls(self) -> int:
        """How many they had."""
        return sum(engine.calls for engine in self.engines)


def stock(*, runtime: Runtime, log_dir: Path | None = None, **options: Any) -> Durable:
    """DSPy's own, durable."""
    return Durable(dspy.SIMBA(**options), runtime=runtime, log_dir=log_dir)


@pytest.mark.once
@pytest.mark.parametrize("make", [SIMBA, stock])
async def test_T048_each_of_several_models_is_sampled_and_each_predictor_keeps_its_own(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any]
) -> None:
    """Ours, and DSPy's own where it is durable; by itself, DSPy's refuses such a program."""
    asked = Asked(monkeypatch)
    with dspy.context(lm=asked.lms[0]):
        with pytest.raises(ValueError, match="Multiple LMs"):
            dspy.SIMBA(metric=exact, **SMALL).compile(asked.student(), trainset=EXAMPLES)
        found = await make(metric=exact, runtime=runtime, **SMALL).acompile(asked.student(), trainset=EXAMPLES)
    for program in (found, *(one["program"] for one in found.candidate_programs)):
        assert [program.first.lm, program.second.lm] == asked.lms
    # The first has no rollout id by itself, and the second begins at 7.
    assert asked.rollout_ids == {id(asked.lms[0]): {None, 0, 1, 2}, id(asked.lms[1]): {7, 8, 9}}


@pytest.mark.once
async def test_several_models_of_one_name_are_told_apart_by_the_journal(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both SIMBAs make the same program, and one that is begun again pays for nothing."""
    found = []
    for make, folder in ((SIMBA, "ours"), (stock, "theirs"), (SIMBA, "ours"), (stock, "theirs")):
        asked = Asked(monkeypatch)
        simba = make(metric=exact, runtime=runtime, log_dir=tmp_path / folder, **SMALL)
        with dspy.context(lm=asked.lms[0]):
            program = await simba.acompile(asked.student(), trainset=EXAMPLES)
        for one in (program, *(candidate["program"] for candidate in program.candidate_programs)):
            one.set_lm(None)  # engines of tests cannot be saved
        found.append((state(program), asked.calls > 0))
    assert [paid for _, paid in found] == [True, True, False, False]
    assert all(made == found[0][0] for made, _ in found)


def test_a_teacher_makes_the_first_sample_in_the_place_of_all_models() -> None:
    """With the rollout id of the first model; the others are copies, one for each model however many share it."""
    first, second, teacher = (
        scripted_lm(ScriptedEngine(LABELS), **more) for more in ({"rollout_id": 3, "temperature": 0.1}, {}, {})
    )
    student = Two()
    student.third = dspy.Predict("text -> label")
    student.first.lm, student.second.lm, student.third.lm = first, second, first
    taught, sampled = models_for_sampling(student, 2, {"lm": teacher})
    assert set(taught.values()) == {teacher}
    assert teacher.kwargs["rollout_id"] == 3
    assert [sampled[name].kwargs["rollout_id"] for name in ("first", "second", "third")] == [4, 1, 4]
    assert sampled["first"] is sampled["third"]


@pytest.mark.once
async def test_rules_are_dspys_as_well(runtime: Runtime) -> None:
    """A longer run, in which batches are shuffled anew and rules are written."""
    examples, labels = task(80)
    more: dict[str, Any] = {"metric": exact, "bsize": 16, "num_candidates": 4, "max_steps": 6}
    states = []
    for simba in (dspy.SIMBA(num_threads=4, **more), SIMBA(runtime=runtime, **more)):
        engine = ScriptedEngine(labels)
        with dspy.context(lm=scripted_lm(engine)):
            compiling = simba.acompile if isinstance(simba, SIMBA) else _in_thread(simba.compile)
            states.append((state(await compiling(predictor(), trainset=examples)), engine.calls))
    assert isinstance(simba, SIMBA)
    assert simba.report is not None
    assert simba.report.markdown().count("| 16 | 0 | step") == 30
    assert simba.report.left_out == []
    assert states[0] == states[1]
    written = [found for found in states[0][0][1] if "Look closely" in str(found)]
    assert written


def _in_thread(work: Callable[..., Any]) -> Callable[..., Any]:
    async def threaded(*args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(lambda: work(*args, **kwargs))

    return threaded


async def test_where_no_candidate_can_be_made_the_student_stays(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strategies that raise are left out, and told of."""

    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("x")

    monkeypatch.setattr("dspex.teleprompt.simba.append_a_rule", fail)
    program, simba = await compiled(runtime, ScriptedEngine(LABELS), max_demos=0)
    assert program.dump_state() == predictor().dump_state()
    assert simba.report is not None
    assert len(simba.report.left_out) == 36
    assert "KeyError" in simba.report.left_out[0]


def test_it_is_compiled_as_dspy_compiles() -> None:
    """``compile`` works in a plain script, on a program with a language model of its own, which it keeps."""
    engine = ScriptedEngine(LABELS)
    student, twin = predictor(), predictor()
    lm = scripted_lm(engine)
    student.lm = twin.lm = lm
    ours = SIMBA(metric=exact, teacher_settings={"lm": scripted_lm(engine)}, **SMALL).compile(
        student, trainset=EXAMPLES
    )
    theirs = dspy.SIMBA(metric=exact, teacher_settings={"lm": scripted_lm(engine)}, num_threads=1, **SMALL)
    found = theirs.compile(twin, trainset=EXAMPLES)
    assert ours.lm is lm
    assert [demo.toDict() for demo in ours.demos] == [demo.toDict() for demo in found.demos]
    assert ours.signature.instructions == found.signature.instructions
    assert student.demos == []


async def test_another_seed_is_another_run(runtime: Runtime) -> None:
    """Chance comes from the seed alone."""
    programs = []
    for seed in (0, 1, 1):
        with dspy.context(lm=scripted_lm(ScriptedEngine(LABELS))):
            simba = SIMBA(metric=exact, runtime=runtime, **SMALL)
            programs.append(state(await simba.acompile(predictor(), trainset=EXAMPLES, seed=seed)))
    assert programs[0] != programs[1] == programs[2]


# -- what dies -----------------------------------------------------------------------------------------------


async def test_workers_may_die(runtime: Runtime) -> None:
    """A killed worker's rollout is made by another, its finished calls are not made again; the program is the same."""
    lost: list[WorkerLost] = []
    runtime.subscribe(lost.append, WorkerLost)  # type: ignore[arg-type]

    def kill(number: int) -> None:
        if number % 40 == 0:
            victims = [ref for name, ref in runtime.names().items() if ".workers." in name]
            victims[number % len(victims)].kill()

    engine = ScriptedEngine(LABELS, before=kill)
    program, simba = await compiled(runtime, engine)
    theirs = ScriptedEngine(LABELS)
    assert state(program) == state(healthy(predictor(), theirs))
    assert simba.report is not None
    assert simba.report.workers_lost == len(lost) > 0
    assert simba.report.calls == theirs.calls


async def test_the_coordinator_may_die(runtime: Runtime) -> None:
    """Its successor begins again, has everything from the journal, and pays for nothing twice."""

    def kill(number: int) -> None:
        if number in (50, 200):
            coordinator = next(ref for ref in runtime.actors() if ref.path.endswith("/coordinator"))
            coordinator.kill()

    engine, theirs = ScriptedEngine(LABELS, before=kill), ScriptedEngine(LABELS)
    program, simba = await compiled(runtime, engine)
    assert state(program) == state(healthy(predictor(), theirs))
    assert engine.calls == theirs.calls
    assert simba.report is not None
    assert len(simba.report.trials) == 12


async def test_the_process_may_die(runtime: Runtime, tmp_path: Path) -> None:
    """A second compilation with the same folder goes on where the first was cut off."""

    class Cut(BaseException):
        """The end of a process."""

    theirs = ScriptedEngine(LABELS)
    whole = state(healthy(predictor(), theirs))
    cut = asyncio.Event()
    engine = ScriptedEngine(LABELS, before=lambda number: cut.set() if number == 150 else None)
    first = asyncio.ensure_future(compiled(runtime, engine, log_dir=tmp_path))
    await cut.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    paid = engine.calls
    program, simba = await compiled(runtime, engine, log_dir=tmp_path)
    assert state(program) == whole
    assert simba.report is not None
    assert simba.report.resumed
    assert simba.report.replayed > 0
    assert engine.calls - paid == simba.report.calls
    assert theirs.calls <= engine.calls <= theirs.calls + 8
    assert "| LM calls made |" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "trials.png").stat().st_size > 1000
    again, simba = await compiled(runtime, engine, log_dir=tmp_path)
    assert simba.report is not None
    assert (state(again), simba.report.calls) == (whole, 0)


# -- the model is unavailable ---------------------------------------------------------------------------------------


async def test_an_outage_is_not_a_score(runtime: Runtime) -> None:
    """While the model is unavailable, only probes are made; then all goes on, to the same program."""
    told: list[Any] = []
    runtime.subscribe(told.append, OptimisationSuspended, OptimisationResumed)
    engine, theirs = ScriptedEngine(LABELS, outage=Outage(100, 101)), ScriptedEngine(LABELS)
    program, simba = await compiled(runtime, engine)
    assert state(program) == state(healthy(predictor(), theirs))
    assert simba.report is not None
    assert (simba.report.outages, simba.report.failed_calls) == (1, 2)
    assert engine.calls == theirs.calls + 2
    assert [type(event).__name__ for event in told] == [
        "OptimisationSuspended",
        "OptimisationSuspended",
        "OptimisationResumed",
    ]


async def test_patience_ends(runtime: Runtime, tmp_path: Path) -> None:
    """A model that does not come back ends the compilation, which can be gone on with later."""
    engine, theirs = ScriptedEngine(LABELS, outage=Outage(100)), ScriptedEngine(LABELS)
    with pytest.raises(
        ModelUnavailable, match=r"unavailable for 0 s \(TransportError: .*compile again with the same log_dir"
    ):
        await compiled(runtime, engine, log_dir=tmp_path, patience=0.0)
    engine.outage = Outage()
    program, _ = await compiled(runtime, engine, log_dir=tmp_path)
    assert state(program) == state(healthy(predictor(), theirs))


# -- metrics -------------------------------------------------------------------------------------------------


async def test_a_bad_metric_costs_its_example(runtime: Runtime) -> None:
    """One that raises, says nonsense, or does not answer counts 0 there; it is counted and shown."""
    forever = asyncio.Event()

    async def metric(example: Any, prediction: Any) -> Any:
        number = EXAMPLES.index(example)
        if number == 1:
            raise KeyError("x")
        if number == 2:
            return float("nan")
        if number == 3:
            await forever.wait()
        if number == 4:
            return "good"
        return dspy.Prediction(score=exact(example, prediction), why="so")

    scored: list[CandidateScored] = []
    runtime.subscribe(scored.append, CandidateScored)  # type: ignore[arg-type]
    _, simba = await compiled(runtime, ScriptedEngine(LABELS), metric=metric, metric_timeout=0.05)
    assert simba.report is not None
    assert simba.report.failures == sum(trial.failures for trial in simba.report.trials) > 0
    assert f"| rollouts that failed, and count 0 | {simba.report.failures} |" in simba.report.markdown()
    assert max(event.best for event in scored) == simba.report.best
    forever.set()


class Broken(dspy.Module):  # type: ignore[misc]
    """Fails on one text."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("text -> label")

    async def aforward(self, text: str) -> Any:
        """Fail, or ask."""
        if text == EXAMPLES[7].text:
            raise RuntimeError(text)
        return await self.ask.acall(text=text)

    def forward(self, text: str) -> Any:
        """Fail, or ask."""
        if text == EXAMPLES[7].text:
            raise RuntimeError(text)
        return self.ask(text=text)


async def test_a_program_that_fails_counts_nothing_there(runtime: Runtime) -> None:
    """As with DSPy's own: the metric is asked about nothing, and fails as well."""
    program, simba = await compiled(runtime, ScriptedEngine(LABELS), Broken())
    assert state(program) == state(healthy(Broken()))
    assert simba.report is not None
    assert simba.report.left_out == []


class Flaky(dspy.Module):  # type: ignore[misc]
    """Asks something that is unavailable at first, and is not durable."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("text -> label")
        self.left = [dspy.LMRateLimitError("slow down", retry_after=0.001)] * 3

    def __deepcopy__(self, memo: Any) -> Any:
        """Keep the list in all copies."""
        copied = Flaky()
        copied.ask, copied.left = self.ask.deepcopy(), self.left
        return copied

    async def aforward(self, text: str) -> Any:
        """Fail, or ask."""
        if self.left:
            raise self.left.pop()
        return await self.ask.acall(text=text)


async def test_what_a_program_itself_cannot_reach_is_waited_for(runtime: Runtime) -> None:
    """A failure of the infrastructure is no score, wherever it comes from."""
    program, simba = await compiled(runtime, ScriptedEngine(LABELS), Flaky())
    assert simba.report is not None
    assert simba.report.failures == 0
    assert program.dump_state() == (await compiled(runtime, ScriptedEngine(LABELS), Asks()))[0].dump_state()


class Asks(dspy.Module):  # type: ignore[misc]
    """Only asks."""

    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("text -> label")

    async def aforward(self, text: str) -> Any:
        """Ask."""
        return await self.ask.acall(text=text)


# -- teleprompters of one's own ------------------------------------------------------------------------------


class Best(DurableTeleprompter):
    """Tries each demonstration by itself."""

    def parameters(self) -> dict[str, Any]:
        """None."""
        return {}

    async def search(self, run: OptimisationRun, student: Any, trainset: list[Any], seed: int, **data: Any) -> Any:
        """Return the best."""
        found = []
        with run.settings():
            for number, demo in enumerate(trainset):
                program = run.durable_program(student)
                program.demos = [demo]
                jobs = [RolloutJob(f"{number}/{n}", program, example) for n, example in enumerate(data["valset"])]
                found.append((run.scored(number, await run.rollouts(jobs), seed=seed), number, program))
        return run.original_program(max(found, key=lambda entry: entry[:2])[2])


async def test_one_of_ones_own(runtime: Runtime) -> None:
    """A search is all that has to be written; called from another loop, it runs in the shared runtime."""
    best = Best(metric=exact)
    with dspy.context(lm=scripted_lm(ScriptedEngine(LABELS))):
        program = await best.acompile(predictor(), trainset=EXAMPLES[:3], valset=EXAMPLES[10:20], note="x")
    assert best.report is not None
    assert program.demos[0] in EXAMPLES[:3]
    assert len(best.report.trials) == 3
    nothing = DurableTeleprompter(metric=exact, runtime=runtime)
    with pytest.raises(NotImplementedError):
        await nothing.acompile(predictor(), trainset=EXAMPLES)
    nothing.parameters = dict  # type: ignore[method-assign]
    with pytest.raises(NotImplementedError):
        await nothing.acompile(predictor(), trainset=EXAMPLES)


async def test_a_crew_waits_for_its_workers(runtime: Runtime) -> None:
    """A rollout is made as soon as there is somebody to make it."""
    pool = RolloutPool(runtime, "late", 1)
    with dspy.context(lm=scripted_lm(ScriptedEngine(LABELS))):
        made = asyncio.ensure_future(pool.make(RolloutJob("1", predictor(), EXAMPLES[0]), contextvars.copy_context()))
        await runtime.sleep(0.01)
        assert not made.done()
        await start_child(runtime.name(PROGRAM_AGENTS), pool.spec(MetricGuard(exact)))
        assert (await made).failure is None


async def test_a_dead_coordinator_has_no_say(runtime: Runtime) -> None:
    """What it meets with after its end is not the result."""
    ended = asyncio.Event()
    result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def search() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
            raise KeyError("x")

    ref = await runtime.spawn(Coordinator, search, contextvars.copy_context(), result)
    ref.kill()
    await ended.wait()
    await runtime.sleep(0.001)
    assert not result.done()


# -- what is refused -----------------------------------------------------------------------------------------


async def test_too_few_examples(runtime: Runtime) -> None:
    """A mini-batch has to be had."""
    with pytest.raises(BadTrainset, match="48 examples: at least 99"):
        await compiled(runtime, ScriptedEngine(LABELS), bsize=99)


def test_no_workers() -> None:
    """At least one has to do the work."""
    with pytest.raises(BadOption, match="num_threads = 0"):
        SIMBA(metric=exact, num_threads=0)


async def test_a_folder_is_for_one_optimisation(runtime: Runtime, tmp_path: Path) -> None:
    """With another seed or parameter, it is another one; what differs is named, and nothing is changed."""
    await compiled(runtime, ScriptedEngine(LABELS), log_dir=tmp_path, max_steps=1)
    with pytest.raises(OtherOptimisation, match="max_steps: 1 there, 2 here") as caught:
        await compiled(runtime, ScriptedEngine(LABELS), log_dir=tmp_path, max_steps=2)
    assert caught.value.differing == {"max_steps": (1, 2)}


async def test_a_spoilt_journal_is_refused(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read is named, and not guessed at."""
    storage = MemoryStorage()
    await storage.write("optimisation", 1, expected=None, entries=[(1, b"{")])
    monkeypatch.setattr(SIMBA, "_storage", lambda self: storage)
    with pytest.raises(BadOptimisationJournal, match="entry 1 of the journal"):
        await compiled(runtime, ScriptedEngine(LABELS))
    assert PROGRAM_AGENTS in runtime.names()
