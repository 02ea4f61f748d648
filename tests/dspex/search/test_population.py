"""Populations: what is trained, what is copied, and what survives."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pytest

from agents.durability import StorageError
from dspex.search import (
    EveryMemberFailed,
    PopulationBasedTraining,
    PopulationMemberCopied,
    PopulationMemberLost,
    PopulationReport,
    PopulationRule,
    TrainingStep,
)
from dspex.search.metrics import PopulationCounts
from dspex.search.population import PopulationView, Trainer
from dspex.teleprompt import LogDirInUse, ModelUnavailable, OptimisationStorageError, OtherOptimisation, WorkerLost
from dspex.testing.engine import Outage, ScriptedEngine, exact, scripted_lm
from dspex.variables import Float, Space
from dspex.workflow.journal import Journal
from supervision import Runtime
from supervision.errors import BadOption
from tests.dspex.search.populations import EXAMPLES, LABELS, Advice, Descent, Point, Scored, near

pytestmark = pytest.mark.usefixtures("quiet")
ROOT = Path(__file__).parents[3]


def population(runtime: Runtime, training: Any = Scored, **options: Any) -> PopulationBasedTraining:
    """A small one."""
    known = {"population": 6, "intervals": 4, "num_threads": 4, "runtime": runtime, **options}
    return PopulationBasedTraining(training, **known)


async def trained(
    made: PopulationBasedTraining, student: Any = None, model: ScriptedEngine | None = None, **data: Any
) -> tuple[Any, PopulationReport]:
    """What comes back, and the report."""
    with dspy.context(lm=None if model is None else scripted_lm(model)):
        found = await made.acompile(student or Point(), trainset=EXAMPLES, **data)
    assert isinstance(made.report, PopulationReport)
    return found, made.report


def outcome(report: PopulationReport) -> Any:
    """What is compared."""
    return report.steps, report.winner, report.copies, [(one.number, one.score, one.best) for one in report.trials]


# -- what it does ------------------------------------------------------------------------------------------------------


async def test_the_worst_go_on_from_where_the_best_are_with_settings_near_theirs(runtime: Runtime) -> None:
    """State and settings are copied; the lineage says how the best has come about, and the program has it."""
    copied: list[PopulationMemberCopied] = []
    runtime.subscribe(copied.append, PopulationMemberCopied)  # type: ignore[arg-type]
    rule = PopulationRule(resample=0.0)
    found, report = await trained(population(runtime, rule=rule, population=8, intervals=6))
    steps = {one.checkpoint: one for one in report.steps}
    assert len(steps) == 8 * 6
    assert report.copies == len(copied) > 4
    counts = PopulationCounts.of(runtime)
    assert counts.members == {"trained": 8 * 6, "copied": report.copies}
    told = {sample.labels[0][1]: sample.value for sample in counts.samples()}
    assert told == {"trained": 48, "failed": 0, "lost": 0, "copied": report.copies}
    for event in copied:
        source = steps[f"{event.interval}/{event.source}"]
        ranked = sorted(
            report.steps[8 * (event.interval - 1) : 8 * event.interval], key=lambda one: -(one.score or 0.0)
        )
        assert source in ranked[:2]
        assert steps[f"{event.interval}/{event.member}"] in ranked[-2:]
        if event.interval < 6:
            after = steps[f"{event.interval + 1}/{event.member}"]
            assert after.began == source.checkpoint
            assert after.settings == event.settings
            assert after.settings["rate"] in (source.settings["rate"] * 1.2, source.settings["rate"] * 0.8, 2.0, 0.01)
    best = max(report.steps, key=lambda one: one.score or 0.0)
    assert report.winner == best
    assert (found.configuration, -(found.where**2)) == (best.settings, best.score)
    lineage = report.lineage
    assert [one.interval for one in lineage] == list(range(1, best.interval + 1))
    assert lineage[0].began.startswith("0/")
    assert all(after.began == before.checkpoint for before, after in pairwise(lineage))
    assert best.checkpoint in report.markdown()
    assert "Members have copied" in report.markdown()


async def test_the_metric_says_what_a_state_is_worth_if_it_has_no_score(runtime: Runtime) -> None:
    """On the validation examples; what comes back is scored on the test set, too."""
    made = population(runtime, Descent, metric=near)
    found, report = await trained(made, valset=EXAMPLES[:3], testset=EXAMPLES[3:])
    assert report.winner is not None
    assert report.winner.score == pytest.approx(near(None, found()))
    assert report.test == pytest.approx(report.winner.score)
    assert "test set" in report.markdown()


async def test_the_first_member_begins_with_the_defaults_the_others_with_any(runtime: Runtime) -> None:
    _, report = await trained(population(runtime, intervals=1))
    first = [one.settings["rate"] for one in report.steps]
    assert first[0] == 0.05
    assert len(set(first)) == 6
    assert [one.began for one in report.steps] == [f"0/{member}" for member in range(6)]


async def test_one_alone_is_trained(runtime: Runtime) -> None:
    """It never copies from itself."""
    _, report = await trained(population(runtime, population=1, intervals=5))
    assert (report.copies, len(report.lineage)) == (0, report.winner.interval if report.winner else 0)


async def test_equal_ones_do_not_copy(runtime: Runtime) -> None:
    """And of equal states the one of the later interval, and of the earlier member, comes back."""

    class Equal(Scored):
        def score(self, state: Any, step: TrainingStep) -> float:
            return -1.0

    _, report = await trained(population(runtime, Equal))
    assert report.copies == 0
    assert report.winner is not None
    assert report.winner.checkpoint == "4/0"


@pytest.mark.parametrize("training", [Scored, Descent])
async def test_nothing_but_the_seed_decides(runtime: Runtime, training: Any) -> None:
    """Not how many members are trained at a time."""
    one = await trained(population(runtime, training, metric=near, at_once=1, num_threads=1))
    many = await trained(population(runtime, training, metric=near))
    other = await trained(population(runtime, training, metric=near), seed=1)
    assert outcome(one[1]) == outcome(many[1])
    assert one[0].where == many[0].where
    assert outcome(one[1]) != outcome(other[1])


async def test_methods_may_be_async_and_may_ask(runtime: Runtime) -> None:
    class Asking(Advice):
        async def train(self, state: Any, step: TrainingStep) -> Any:
            said = await step.student.acall(text=step.examples[0].text)
            return f"{state} {said.label}"

    model = ScriptedEngine(LABELS)
    found, report = await trained(
        population(runtime, Asking, metric=exact, intervals=2), dspy.Predict("text -> label"), model
    )
    assert found.signature.instructions.endswith(("red", "green", "blue"))
    assert found.lm is None
    assert model.calls == report.calls


async def test_more_intervals_go_on_from_where_fewer_have_ended(runtime: Runtime, tmp_path: Path) -> None:
    begun: list[int] = []

    class Noting(Scored):
        def train(self, state: Any, step: TrainingStep) -> Any:
            begun.append(step.interval)
            return super().train(state, step)

    whole, report = await trained(population(runtime, Noting, intervals=5))
    begun.clear()
    await trained(population(runtime, Noting, intervals=2, log_dir=tmp_path))
    again, longer = await trained(population(runtime, Noting, intervals=5, log_dir=tmp_path))
    assert sorted(begun) == [one for one in range(1, 6) for _ in range(6)]
    assert (again.where, outcome(longer)) == (whole.where, outcome(report))
    assert longer.resumed


async def test_how_far_it_is_is_seen_in_the_tree(runtime: Runtime) -> None:
    """What each trainer does, and the best so far."""
    shown: list[Any] = []
    busy: list[Any] = []

    def look(number: int) -> None:
        if number in (1, 60):
            infos = {ref.path: runtime.info(ref) for ref in runtime.actors()}
            shown.extend(info.summary for path, info in infos.items() if info and path.endswith("/population"))
            busy.extend(info.summary for path, info in infos.items() if info and ".members." in path)

    student = dspy.Predict("text -> label")
    _, report = await trained(
        population(runtime, Advice, metric=exact, population=3), student, ScriptedEngine(LABELS, before=look)
    )
    assert (shown[0]["interval"], shown[0]["members"], shown[0]["best"]) == ("1 of 4", "3", "")
    assert (shown[1]["interval"], "/" in shown[1]["best"]) == ("2 of 4", True)
    assert {"member": "0", "interval": "1"} in busy
    assert report.winner is not None


def test_before_it_begins_there_is_nothing_to_show() -> None:
    class Run:
        """One that has not begun."""

        state = None

    assert PopulationView(Run()).summary() == {}  # type: ignore[arg-type]
    assert Trainer().summary() == {}
    report = PopulationReport("PopulationBasedTraining", 0, resumed=False)
    assert (report.found(), report.lineage) == ([], [])


# -- what fails, and what is lost --------------------------------------------------------------------------------------


async def test_a_member_that_fails_is_the_worst_and_goes_on_elsewhere(runtime: Runtime) -> None:
    """Whatever it raises, and whatever score it has that is none; what it may change is its own copy."""
    scores = {1: float("nan"), 2: 10**400, 3: "much"}

    class Failing(Scored):
        def train(self, state: Any, step: TrainingStep) -> Any:
            if step.member == 4 and step.interval == 1:
                state.clear()
                raise SystemExit(3)
            return super().train(state, step)

        def score(self, state: Any, step: TrainingStep) -> Any:
            return (
                scores.get(step.member, super().score(state, step))
                if step.interval == 1
                else super().score(state, step)
            )

    found, report = await trained(population(runtime, Failing))
    first = {one.member: one for one in report.steps if one.interval == 1}
    assert {member for member, one in first.items() if one.outcome == "failed"} == {1, 2, 3, 4}
    assert "SystemExit: 3" in first[4].why
    assert "is no score" in first[1].why
    second = {one.member: one for one in report.steps if one.interval == 2}
    assert all(one.outcome == "trained" for one in second.values())
    # Two of the four have copied; the others have stayed where they were.
    assert sorted(one.began.split("/")[0] for one in second.values()) == ["0", "0", "1", "1", "1", "1"]
    assert np.isfinite(found.where)
    assert report.trials[1].failures == 1
    assert "failed" in report.markdown()


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_state_that_cannot_be_kept_is_a_failure_that_says_what_to_do(
    runtime: Runtime, asynchronous: bool
) -> None:
    """If that is so of all, it ends, and says which was the first."""

    class Arrays(Scored):
        def begin(self, step: TrainingStep) -> Any:
            return {"where": np.zeros(3)}

    class Raising(Scored):
        async def begin(self, step: TrainingStep) -> Any:
            raise SystemExit(step.member)

    with pytest.raises(EveryMemberFailed, match=r"tolist|SystemExit: 0") as raised:
        await trained(population(runtime, Raising if asynchronous else Arrays))
    assert (raised.value.interval, raised.value.members) == (1, 6)


async def test_a_metric_or_a_program_that_fails_is_a_failure(runtime: Runtime) -> None:
    """On all examples; of some it counts 0."""

    class Nowhere(Descent):
        def program(self, student: Any, state: Any) -> Any:
            if state["where"] > 14:
                raise ValueError("too far")
            return super().program(student, state)

    def odd(example: Any, prediction: Any) -> float:
        if example.text == EXAMPLES[0].text:
            return float("nan")
        return near(example, prediction)

    slow = [Float(name="rate", low=0.0001, high=0.0002, default=0.0001)]
    made = population(runtime, Nowhere(), metric=odd, intervals=1)
    made.space = Space(slow)
    _, report = await trained(made)
    assert [one.outcome for one in report.steps] == ["trained"] * 4 + ["failed"] * 2 or report.steps[-1].why
    assert "too far" in report.steps[-1].why
    with pytest.raises(EveryMemberFailed, match="metric"):
        await trained(population(runtime, Descent, metric=lambda *_: "bad"))


async def test_a_member_that_is_lost_is_passed_over(runtime: Runtime) -> None:
    """It neither copies nor is copied from; it is trained in the next interval, from where it was."""
    lost: list[PopulationMemberLost] = []
    runtime.subscribe(lost.append, PopulationMemberLost)  # type: ignore[arg-type]

    class Away(Scored):
        def train(self, state: Any, step: TrainingStep) -> Any:
            if step.member == 0 and step.interval < 3:
                raise ConnectionError("the bench is away")
            return super().train(state, step)

    _, report = await trained(population(runtime, Away, lane_patience=0.01))
    mine = [one for one in report.steps if one.member == 0]
    assert [one.outcome for one in mine] == ["lost", "lost", "trained", "trained"]
    assert mine[2].began == "0/0"
    assert [(event.interval, event.member) for event in lost] == [(1, 0), (2, 0)]
    assert "bench is away" in lost[0].why
    assert PopulationCounts.of(runtime).members["lost"] == 2
    assert all(one.began.split("/")[1] != "0" for one in report.steps if one.interval in (2, 3) and one.member)


async def test_if_all_are_lost_nothing_is_decided_and_it_goes_on_later(runtime: Runtime, tmp_path: Path) -> None:
    """And so it is where all wait, for their patience."""
    away = [True]

    class Away(Scored):
        def train(self, state: Any, step: TrainingStep) -> Any:
            if away[0] and step.interval == 2:
                raise ConnectionError("all is away")
            return super().train(state, step)

    for name, options in (("alone", {"lane_patience": 0.01}), ("all", {"patience": 0.01})):
        away[0] = True
        with pytest.raises(ModelUnavailable, match="all is away"):
            await trained(population(runtime, Away, log_dir=tmp_path / name, **options))
        away[0] = False
        _, report = await trained(population(runtime, Away, log_dir=tmp_path / name, **options))
        _, undisturbed = await trained(population(runtime, Away))
        assert (outcome(report), report.resumed) == (outcome(undisturbed), True)


async def test_what_is_no_program_is_a_failure(runtime: Runtime) -> None:
    class Text(Descent):
        def program(self, student: Any, state: Any) -> Any:
            return "text"

    with pytest.raises(EveryMemberFailed, match="return the student"):
        await trained(population(runtime, Text, metric=near))


async def test_a_program_that_cannot_be_made_for_now_is_no_failure(runtime: Runtime) -> None:
    class Away(Descent):
        def program(self, student: Any, state: Any) -> Any:
            raise ConnectionError("the shelf is away")

    with pytest.raises(ModelUnavailable, match="the shelf is away"):
        await trained(population(runtime, Away, metric=near, patience=0.01))


async def test_an_outage_of_the_model_changes_nothing(runtime: Runtime) -> None:
    student = dspy.Predict("text -> label")
    whole, undisturbed = await trained(population(runtime, Advice, metric=exact), student, ScriptedEngine(LABELS))
    model = ScriptedEngine(LABELS, outage=Outage(20, 40))
    found, report = await trained(population(runtime, Advice, metric=exact), student, model)
    assert outcome(report) == outcome(undisturbed)
    assert found.signature.instructions == whole.signature.instructions
    assert report.outages > 0


# -- what is killed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [3, 40, 90])
async def test_trainers_workers_and_the_coordinator_may_die(runtime: Runtime, at: int) -> None:
    """What was asked is not asked again, and the population ends as if nothing had been."""
    ended: list[WorkerLost] = []
    runtime.subscribe(ended.append, WorkerLost)  # type: ignore[arg-type]
    student = dspy.Predict("text -> label")

    def kill(number: int) -> None:
        if number % 25 == at % 25:
            names = runtime.names()
            victims = [ref for name, ref in names.items() if ".members." in name or ".workers." in name]
            victims[number % len(victims)].kill()
        if number == at:
            next(ref for ref in runtime.actors() if ref.path.endswith("/coordinator")).kill()

    whole, theirs = ScriptedEngine(LABELS), ScriptedEngine(LABELS, before=kill)
    first, undisturbed = await trained(population(runtime, Advice, metric=exact), student, whole)
    second, report = await trained(population(runtime, Advice, metric=exact), student, theirs)
    assert outcome(report) == outcome(undisturbed)
    assert second.signature.instructions == first.signature.instructions
    assert theirs.calls == whole.calls
    assert ended


async def test_it_may_be_cancelled_at_each_wait_and_goes_on(runtime: Runtime, tmp_path: Path) -> None:
    """And two at once in one folder are refused."""
    student = dspy.Predict("text -> label")
    whole = ScriptedEngine(LABELS)
    options: dict[str, Any] = {"metric": exact, "population": 3, "intervals": 2}
    _, undisturbed = await trained(population(runtime, Advice, **options), student, whole)
    cut = asyncio.Event()
    at = [0]

    def stop(number: int) -> None:
        if number == at[0]:
            cut.set()

    theirs = ScriptedEngine(LABELS, before=stop)
    while theirs.calls < whole.calls:
        at[0] = theirs.calls + 9
        cut.clear()
        work = asyncio.ensure_future(trained(population(runtime, Advice, log_dir=tmp_path, **options), student, theirs))
        waits = asyncio.ensure_future(cut.wait())
        await asyncio.wait([work, waits], return_when=asyncio.FIRST_COMPLETED)
        waits.cancel()
        if not work.done():
            with pytest.raises(LogDirInUse):
                await trained(population(runtime, Advice, log_dir=tmp_path, **options), student, theirs)
            work.cancel()
            with pytest.raises(asyncio.CancelledError):
                await work
    _, report = await trained(population(runtime, Advice, log_dir=tmp_path, **options), student, theirs)
    assert outcome(report) == outcome(undisturbed)
    asked = theirs.calls
    _, again = await trained(population(runtime, Advice, log_dir=tmp_path, **options), student, theirs)
    assert (outcome(again), again.calls, theirs.calls) == (outcome(undisturbed), 0, asked)
    with pytest.raises(OtherOptimisation, match="population"):
        await trained(population(runtime, Advice, log_dir=tmp_path, **{**options, "population": 4}), student, theirs)


@pytest.mark.once
async def test_it_goes_on_from_whichever_write_has_failed(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy is whole, or not there: the population ends as if every write had been made."""
    options: dict[str, Any] = {"population": 3, "intervals": 2}
    _, undisturbed = await trained(population(runtime, **options))
    write, left = Journal.add, [0]

    async def failing(self: Journal, *args: Any, **more: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise StorageError("the disk is full")
        await write(self, *args, **more)

    monkeypatch.setattr(Journal, "add", failing)
    # Three beginnings, and what was trained and scored of three members in two intervals, and what was decided in each.
    for number in range(3 + 2 * (3 + 3 + 1)):
        left[0] = number
        with pytest.raises(OptimisationStorageError, match="the disk is full"):
            await trained(population(runtime, log_dir=tmp_path / str(number), **options))
        left[0] = 1000
        _, report = await trained(population(runtime, log_dir=tmp_path / str(number), **options))
        assert outcome(report) == outcome(undisturbed)


async def test_what_came_first_counts_for_all_who_do_the_same(runtime: Runtime) -> None:
    """A trainer whose coordinator is gone may end after its successor's: what was decided by stays."""
    made = population(runtime)
    values: list[Any] = []
    go = asyncio.Event()

    async def search(run: Any, *_: Any, **__: Any) -> Any:
        async def late() -> Any:
            await go.wait()
            return 1

        async def early() -> Any:
            return 2

        first = asyncio.ensure_future(run.once("key", late))
        second = asyncio.ensure_future(run.once("key", early))
        values.append(await second)
        go.set()
        values.extend([await first, await run.once("key", late), run.known("none")])
        return Point()

    made.search = search  # type: ignore[method-assign]
    await made.acompile(Point(), trainset=EXAMPLES)
    assert values == [2, 2, 2, None]


@pytest.mark.once
def test_killed_with_9_again_and_again_it_ends_in_the_same_way_and_pays_nothing_twice(tmp_path: Path) -> None:
    def run(folder: Path, kill_at: int) -> int:
        command = [sys.executable, "-m", "tests.dspex.search.populations", str(folder), str(kill_at)]
        return subprocess.run(command, cwd=ROOT, check=False, timeout=120, capture_output=True).returncode

    assert run(tmp_path / "whole", 0) == 0
    kills = 0
    while run(tmp_path / "killed", 20 + 17 * kills) == -signal.SIGKILL:
        kills += 1
    assert kills >= 2
    whole, killed = (tmp_path / name for name in ("whole", "killed"))
    for name in ("program.json", "report.txt"):
        assert (killed / name).read_text() == (whole / name).read_text()
    paid, once = ((folder / "calls").read_text().splitlines() for folder in (killed, whole))
    assert sorted(paid) == sorted(once)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        *({"population": one} for one in (0, float("nan"), 1.5, "x", True)),
        *({"intervals": one} for one in (0, 2.5)),
        {"at_once": 0},
        {"lane_patience": 0},
        {"rule": {"quantile": 0.9}},
        {"rule": {"quantile": "x"}},
        {"rule": 3},
    ],
)
def test_options_that_make_no_sense_are_refused(runtime: Runtime, wrong: Any) -> None:
    with pytest.raises(BadOption):
        population(runtime, **wrong)


@pytest.mark.parametrize("training", [3, "no.such:thing", "dspy:Nothing", "", dspy.Predict, "dspy:Predict", object()])
def test_what_cannot_be_trained_is_refused(runtime: Runtime, training: Any) -> None:
    with pytest.raises((BadOption, TypeError), match=r"training|argument"):
        population(runtime, training)


def test_variables_that_are_none_and_a_missing_metric_are_refused(runtime: Runtime) -> None:
    class Odd(Scored):
        def __init__(self) -> None:
            self.variables: Any = 3

    with pytest.raises(BadOption, match="variables"):
        population(runtime, Odd)
    with pytest.raises(BadOption, match="metric"):
        population(runtime, Descent)
    named = population(runtime, "tests.dspex.search.populations:Scored", rule={"quantile": 0.5})
    assert isinstance(named.training, Scored)
    assert named.rule == PopulationRule(quantile=0.5)
