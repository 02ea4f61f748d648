"""What an optimisation is known by, where it is kept, and what is said when that cannot be used."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pytest

from agents.durability import MemoryStorage, StorageConflict, StorageError
from dspex.fingerprints import NoFingerprint
from dspex.teleprompt import (
    SIMBA,
    BadOptimisationJournal,
    Durable,
    EveryExampleFailed,
    LogDirInUse,
    ModelRefused,
    ModelUnavailable,
    OptimisationStorageError,
    OtherOptimisation,
)
from dspex.teleprompt.identity import parameter
from dspex.teleprompt.rollouts import MetricGuard, MetricInterrupted
from dspex.testing.engine import Outage, exact
from supervision import Runtime
from supervision.errors import BadOption
from tests.dspex.stock import EXAMPLES, FEW, Asks, feedback, model, state

pytestmark = pytest.mark.usefixtures("quiet", "supervised")

SMALL: dict[str, Any] = {"bsize": 8, "num_candidates": 2, "max_steps": 1}


async def simba(runtime: Runtime, log_dir: Any = None, lm: Any = None, student: Any = None, **options: Any) -> Any:
    """Compile, and return the program and the report."""
    compiling = SIMBA(**{"metric": exact, "runtime": runtime, "log_dir": log_dir, **SMALL, **options})
    with dspy.context(lm=lm or model()[0]):
        program = await compiling.acompile(student or dspy.Predict("text -> label"), trainset=EXAMPLES)
    return program, compiling.report


def other(example: Any, prediction: Any, trace: Any = None) -> float:
    """Another metric."""
    return 1.0 - exact(example, prediction)


def named() -> Any:
    """A program with another instruction."""
    program: Any = dspy.Predict("text -> label")
    program.signature = program.signature.with_instructions("Name it.")
    return program


# -- what it is ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"metric": other}, r"metric: 'exact \w+' there, 'other \w+' here.*metric_id and program_id vouch"),
        (
            {"student": named()},
            r"program: 'Predict \w+' there",
        ),
        ({"student": dspy.Predict("text -> label", temperature=0.3)}, r"program: 'Predict \w+' there"),
        ({"max_demos": 2}, "max_demos: 4 there, 2 here"),
        ({"prompt_model": dspy.LM("openai/writer")}, "prompt_model: None there, {'model': 'openai/writer'"),
    ],
)
async def test_E019_what_differs_is_named(runtime: Runtime, tmp_path: Path, changed: Any, named: str) -> None:
    """Metric, program, parameters; begun anew beside it, both are kept, and each goes on."""
    await simba(runtime, tmp_path)
    with pytest.raises(OtherOptimisation, match=named) as caught:
        await simba(runtime, tmp_path, **changed)
    assert len(caught.value.differing) == 1
    assert "begin anew beside it with fresh=True" in str(caught.value)
    _, report = await simba(runtime, tmp_path, **changed, fresh=True)
    assert not report.resumed
    runs: list[dict[str, Any]] = [{}, changed]
    for more in runs:
        _, report = await simba(runtime, tmp_path, **more)
        assert (report.resumed, report.calls) == (True, 0)
    _, report = await simba(runtime, tmp_path, fresh=True)
    assert not report.resumed
    assert report.calls > 0


async def test_E019_the_model_and_the_adapter_count(runtime: Runtime, tmp_path: Path) -> None:
    """Its name and its settings; not its key, nor how many threads there are."""
    await simba(runtime, tmp_path)
    warm = model()[0].copy(temperature=0.9)
    with pytest.raises(OtherOptimisation, match=r"models: .*'temperature': 0.9"):
        await simba(runtime, tmp_path, lm=warm)
    with dspy.context(adapter=dspy.JSONAdapter()), pytest.raises(OtherOptimisation, match="adapter: 'default' there"):
        await simba(runtime, tmp_path)
    _, report = await simba(runtime, tmp_path, num_threads=2, patience=None, metric_timeout=None)
    assert (report.resumed, report.calls) == (True, 0)


async def test_E019_an_id_vouches(runtime: Runtime, tmp_path: Path) -> None:
    """For another metric, or another program, that means the same."""
    await simba(runtime, tmp_path, metric_id="v1", program_id="p1")
    _, report = await simba(
        runtime, tmp_path, metric=other, metric_id="v1", student=dspy.Predict("text -> label: str"), program_id="p1"
    )
    assert report.resumed


async def test_what_counts_of_dspys_teleprompters(runtime: Runtime, tmp_path: Path) -> None:
    """Models, settings, teleprompters inside; not their threads and folders."""
    lm = model()[0]

    async def compiled(metric: Any = exact, **options: Any) -> Any:
        inner = dspy.BootstrapFewShot(metric=metric, **{**FEW, **options})
        durable = Durable(dspy.BetterTogether(metric=exact, p=inner), runtime=runtime, log_dir=tmp_path)
        student = dspy.Predict("text -> label")
        student.set_lm(lm)
        with dspy.context(lm=lm):
            data: dict[str, Any] = {"strategy": "p", "valset_ratio": 0.4, "seed": 0}
            await durable.acompile(student, trainset=EXAMPLES, **data)
        return durable.report

    await compiled()
    assert (await compiled()).resumed
    for changed in ({"max_labeled_demos": 3}, {"metric": other}, {"teacher_settings": {"lm": dspy.LM("openai/x")}}):
        with pytest.raises(OtherOptimisation, match=r"of\.optimizers"):
            await compiled(**changed)


def test_parameters_are_what_is_in_them() -> None:
    """Examples by content, modules and code by what they do."""
    assert parameter(EXAMPLES) == parameter([example.copy() for example in EXAMPLES]) != parameter(EXAMPLES[:3])
    assert parameter(dspy.Predict("a -> b")) == parameter(dspy.Predict("a -> b")) != parameter(dspy.Predict("a -> c"))
    assert parameter([1, {"a": (None, 2.5)}]) == [1, {"a": [None, 2.5]}]
    assert parameter({1, 2}) == parameter({2, 1}) != parameter({3})
    assert parameter(exact) != parameter(other)
    assert parameter({1: 2}) == parameter({1: 2}) != parameter({1: 3})


async def test_examples_that_cannot_be_told_apart_are_refused(runtime: Runtime, tmp_path: Path) -> None:
    """Before anything is done."""
    compiling = SIMBA(metric=exact, runtime=runtime, log_dir=tmp_path, **SMALL)
    examples = [dspy.Example(text=threading.Lock()).with_inputs("text"), *EXAMPLES]
    with pytest.raises(NoFingerprint, match="lock cannot be told from others"):
        await compiling.acompile(dspy.Predict("text -> label"), trainset=examples)
    with pytest.raises(ModelRefused, match="no language model is configured"):
        await compiling.acompile(dspy.Predict("text -> label"), trainset=EXAMPLES)


# -- where it is kept ------------------------------------------------------------------------------------------


async def test_two_are_not_at_work_in_one_folder(runtime: Runtime, tmp_path: Path) -> None:
    """The second one is refused, in this process and in another; the hold ends with whoever has it."""
    loop, came, let = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    async def held(example: Any, prediction: Any) -> float:
        loop.call_soon_threadsafe(came.set)
        await let.wait()
        return 1.0

    first = asyncio.ensure_future(simba(runtime, tmp_path, metric=held))
    await came.wait()
    with pytest.raises(
        LogDirInUse, match="another optimisation is at work in this folder; wait for it, or give another"
    ):
        await simba(runtime, tmp_path)
    code = (
        "import dspy, sys; from dspex.teleprompt import SIMBA, LogDirInUse\n"
        "one = dspy.Example(a='1').with_inputs('a')\n"
        f"try: SIMBA(metric=len, bsize=1, log_dir={str(tmp_path)!r}).compile(dspy.Predict('a -> b'), trainset=[one])\n"
        "except LogDirInUse: print('refused')"
    )
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("refused", 0), done.stderr
    let.set()
    await first
    _, report = await simba(runtime, tmp_path, metric=held)
    assert report.resumed


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StorageError("database or disk is full"), "cannot be used: database or disk is full; make room on the disk"),
        (StorageConflict("optimisation", 3, 5), "another process writes it .*; end that one, and compile again"),
    ],
)
async def test_a_journal_that_cannot_be_written_says_so(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    """The file, the cause, the remedy; and with that, it goes on."""
    lm, engine = model()
    expected = state((await simba(runtime))[0])
    from agents.durability import SqliteStorage

    write = SqliteStorage.write

    async def failing(self: Any, *args: Any, **kwargs: Any) -> None:
        if engine.calls > 3:  # calls and not writes: how many entries a write holds, the machine's load decides
            raise error
        await write(self, *args, **kwargs)

    copro = Durable(dspy.COPRO(metric=exact, breadth=2, depth=1), runtime=runtime, log_dir=tmp_path / "2")
    student: Any = dspy.Predict("text -> label")
    works: list[Any] = [
        lambda: simba(runtime, tmp_path, lm),
        lambda: copro.acompile(student, trainset=EXAMPLES, eval_kwargs={}),
    ]
    for work in works:
        engine.calls = 0
        with monkeypatch.context() as patched, dspy.context(lm=lm):
            patched.setattr(SqliteStorage, "write", failing)
            with pytest.raises(OptimisationStorageError, match=said) as caught:
                await work()
        assert caught.value.path is not None
        assert caught.value.path.name == "journal.sqlite"
    assert state((await simba(runtime, tmp_path, lm))[0]) == expected


async def test_a_damaged_journal_says_so(runtime: Runtime, tmp_path: Path) -> None:
    """Another file, an entry that cannot be read, a file in the place of the folder, a damaged lock."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/journal.sqlite").write_text("no database, but long enough to be looked at" * 99)
    with pytest.raises(OptimisationStorageError, match=r"a/journal.sqlite cannot be used: .*not a database"):
        await simba(runtime, tmp_path / "a")
    await simba(runtime, tmp_path / "b")
    with sqlite3.connect(tmp_path / "b/journal.sqlite") as database:
        database.execute("UPDATE journal SET entry = '{' WHERE version = 7")
    database.close()
    with pytest.raises(BadOptimisationJournal, match=r"entry 7 of the journal .*b/journal.sqlite cannot be read"):
        await simba(runtime, tmp_path / "b")
    _, report = await simba(runtime, tmp_path / "b", fresh=True)
    assert not report.resumed
    (tmp_path / "c").write_text("")
    with pytest.raises(OptimisationStorageError, match=r"c/lock\.sqlite"):
        await simba(runtime, tmp_path / "c")
    (tmp_path / "a/lock.sqlite").write_text("no database, but long enough to be looked at" * 99)
    with pytest.raises(OptimisationStorageError, match="delete this file: it keeps nothing"):
        await simba(runtime, tmp_path / "a")


async def test_a_lock_that_cannot_be_had_says_so(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        """A connection to a disk that fails."""

        def execute(self, query: str) -> None:
            """Fail."""
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error

        def close(self) -> None:
            """End."""

    monkeypatch.setattr("dspex.teleprompt.journals.sqlite3.connect", lambda *_, **__: Broken())
    with pytest.raises(OptimisationStorageError, match="disk I/O error; make room"):
        await simba(runtime, tmp_path)


async def test_without_a_folder_it_is_told_as_well(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storage in memory has no file."""

    async def fail(*_: Any, **__: Any) -> None:
        raise StorageError("no memory")

    monkeypatch.setattr(MemoryStorage, "write", fail)
    with pytest.raises(OptimisationStorageError, match="the journal in memory cannot be used: no memory"):
        await simba(runtime)


# -- what is no result -----------------------------------------------------------------------------------------


async def test_E023_not_one_example_scored_is_an_error(runtime: Runtime, tmp_path: Path) -> None:
    """With the first cause; nothing of it is kept, so that with the cause mended it goes on."""
    broken = True

    def metric(example: Any, prediction: Any) -> float:
        if broken:
            raise FileNotFoundError("answers.csv")
        return exact(example, prediction)

    with pytest.raises(EveryExampleFailed, match=r"none of the first 16 .*metric: FileNotFoundError: answers.csv"):
        await simba(runtime, tmp_path, metric=metric)
    broken = False
    program, report = await simba(runtime, tmp_path, metric=metric, metric_id=None, fresh=True)
    assert report.failures == 0
    assert state(program) == state((await simba(runtime))[0])


@pytest.mark.parametrize(
    ("said", "score"),
    [
        (True, 1),
        (np.float32(0.5), 0.5),
        (np.bool_(True), 1),
        (np.int64(1), 1),
        (np.array(0.25), 0.25),
        (Fraction(1, 4), 0.25),
        (dspy.Prediction(score=np.float32(1), why="so"), 1),
        (dspy.Prediction(score=1.0), 1),
        (0.5, 0.5),
    ],
)
async def test_E022_all_kinds_of_numbers_are_scores(said: Any, score: float) -> None:
    found, _, failure = await MetricGuard(lambda *_: said).score(None, None)
    assert (found, failure) == (score, None)
    assert isinstance(found, (int, float))
    assert type(found).__module__ == "builtins"


@pytest.mark.parametrize(
    "said", [float("nan"), float("inf"), "good", None, 1j, 10**400, Fraction(10**400), np.array([1.0]), [1]]
)
async def test_E022_what_is_no_number_is_no_score(said: Any) -> None:
    found, _, failure = await MetricGuard(lambda *_: said).score(None, None)
    assert found == 0.0
    assert "is no score; return a finite number" in str(failure)


async def test_metrics_of_any_kind_are_asked() -> None:
    """Plain, async, objects, and functions that return what can be awaited; with a time-out of their own."""

    class Judge:
        """Async, and an object."""

        async def __call__(self, example: Any, prediction: Any) -> float:
            """Judge."""
            return 0.5

    async def late(example: Any, prediction: Any) -> float:
        raise TimeoutError("of its own")

    assert await MetricGuard(Judge(), None).judge(1, 2) == (0.5, None)
    assert await MetricGuard(late, 9.0).judge(1, 2) == (0.0, "metric: TimeoutError: of its own")
    assert await MetricGuard(_cancelled).judge(1, 2) == (0.0, "metric: CancelledError: ")


async def _cancelled(example: Any, prediction: Any) -> float:
    raise asyncio.CancelledError


async def test_the_cancellation_of_who_asks_a_metric_is_no_failure_of_it() -> None:
    async def hangs(example: Any, prediction: Any) -> float:
        asked.set()
        await asyncio.Event().wait()
        return 1.0

    asked = asyncio.Event()
    asking = asyncio.ensure_future(MetricGuard(hangs).judge(1, 2))
    await asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_metric_that_waits_for_a_model_is_not_too_slow() -> None:
    """It is asked again, when the model is back."""
    outages = iter((0, 1))

    async def hangs(example: Any, prediction: Any) -> float:
        await asyncio.Event().wait()
        return 1.0

    with pytest.raises(MetricInterrupted, match="while a language model was away"):
        await MetricGuard(hangs, 0.01, lambda: next(outages)).judge(1, 2)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), "5"])
def test_a_time_out_is_a_length_of_time(seconds: Any) -> None:
    with pytest.raises(BadOption, match="metric_timeout"):
        SIMBA(metric=exact, metric_timeout=seconds)


async def test_what_our_own_cannot_reach_ends_them(runtime: Runtime) -> None:
    """A program of which something stays away; one that exits counts 0."""
    away: Any = lambda _: (_ for _ in ()).throw(ConnectionRefusedError("the shop is closed"))  # noqa: E731
    with pytest.raises(ModelUnavailable, match="the shop is closed"):
        await simba(runtime, student=Asks(away), patience=0.0)

    def leave(text: str) -> None:
        if text in [example.text for example in EXAMPLES[::2]]:
            raise SystemExit(2)

    _, report = await simba(runtime, student=Asks(leave))
    assert report.failures > 0


async def test_metadata_of_a_metric_with_feedback(runtime: Runtime, tmp_path: Path) -> None:
    """What a metric says besides is kept, and found again."""
    lm, engine = model(outage=Outage(30))
    with pytest.raises(ModelUnavailable):
        await simba(runtime, tmp_path, lm, metric=feedback, patience=0.0)
    engine.outage.first = None
    _, report = await simba(runtime, tmp_path, lm, metric=feedback)
    assert report.resumed
