"""Islands: the same program whoever is faster, and whatever dies; a ring that waits, but not for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import dspy
import pytest

from dspex.models import call_log
from dspex.search import AscentReport, ProgramMigrated, RingClosed, TeamSIMBA
from dspex.search.archipelago import Archipelago, state_digest
from dspex.teleprompt import ModelUnavailable, WorkerLost
from dspex.testing.engine import Outage, exact, scripted_lm
from supervision import Runtime
from supervision.errors import BadOption
from tests.dspex.search.conftest import EXAMPLES, slow_lm, student
from tests.dspex.search.test_team_simba import engine

pytestmark = pytest.mark.usefixtures("quiet")
ISLANDS: dict[str, Any] = {"islands": 3, "migrate_every": 1, "bsize": 6, "num_candidates": 2, "max_steps": 3}


def state(program: Any) -> Any:
    """What is compared of two programs."""
    candidates = [(found["score"], found["program"].dump_state()) for found in program.candidate_programs]
    return program.dump_state(), candidates, program.trial_logs


async def compiled(
    runtime: Runtime, lm: Any = None, program: Any = None, *, seed: int = 0, **options: Any
) -> tuple[Any, AscentReport]:
    """What comes back, and the report."""
    made = TeamSIMBA(**{"metric": exact, "num_threads": 8, "runtime": runtime, **ISLANDS, **options})
    with dspy.context(lm=lm or scripted_lm(engine())):
        found = await made.acompile(program or student(), trainset=EXAMPLES[:24], seed=seed)
    assert isinstance(made.report, AscentReport)
    return found, made.report


def outcome(report: AscentReport) -> Any:
    """What is compared of two reports."""
    return report.trials, report.migrations, report.finalists, report.best


# -- the same program --------------------------------------------------------------------------------------------------


async def test_each_island_sends_its_best_to_the_next_one(runtime: Runtime) -> None:
    """With the scores that it has: the other one does not run it again. In the end the winners of all race."""
    told: list[ProgramMigrated] = []
    runtime.subscribe(told.append, ProgramMigrated)  # type: ignore[arg-type]
    model, lone = engine(), engine()
    own = scripted_lm(model)
    found, report = await compiled(runtime, own)
    assert (found.lm, report.islands, report.stopped) == (None, 3, None)
    # After each step but the last: what is sent then would be of no use.
    sent = [(one.step, one.source, one.target) for one in report.migrations]
    assert sent == [(step, (target - 1) % 3, target) for step in (0, 1) for target in range(3)] or len(sent) >= 3
    assert {(one.step, one.source, one.target, one.score) for one in told} == set(report.migrations)
    for one in report.migrations:
        scores = [trial.score for trial in report.trials if trial.details["step"] <= one.step]
        assert one.score in scores
    assert 1 < report.finalists == len(found.candidate_programs) <= 3 * 3 + 1
    best = max(one["score"] for one in found.candidate_programs)
    assert found.candidate_programs[0]["score"] == best
    assert set(found.trial_logs) == {0, 1, 2}
    page = report.markdown()
    assert "3 islands; in the end," in page
    assert f"| {sent[0][0]} | {sent[0][1]} | {sent[0][2]} |" in page
    _, alone = await compiled(runtime, scripted_lm(lone), islands=1)
    assert model.calls < 3 * lone.calls
    assert "islands" not in alone.markdown()


async def test_the_program_is_the_same_for_any_number_of_workers_and_any_delays(runtime: Runtime) -> None:
    found = []
    for width, seed in ((1, None), (4, 1), (16, 2)):
        pauses = (lambda: 0.0) if seed is None else Random(seed).random
        lm = slow_lm(engine(), runtime, pauses)
        program, report = await compiled(runtime, lm, num_threads=width, scope="member")
        found.append((state(program), outcome(report)))
    assert found[0] == found[1] == found[2]
    program, _ = await compiled(runtime, seed=1, scope="member")
    assert state(program) != found[0][0]


@pytest.mark.once
async def test_islands_workers_and_the_coordinator_may_die(runtime: Runtime) -> None:
    """Each is started again, and nothing is paid for twice."""
    lost: list[WorkerLost] = []
    runtime.subscribe(lost.append, WorkerLost)  # type: ignore[arg-type]

    def kill(number: int) -> None:
        names = runtime.names()
        if number % 40 == 0:
            victims = [ref for name, ref in names.items() if ".islands." in name or ".workers." in name]
            victims[number // 40 % len(victims)].kill()
        if number in (60, 250):
            next(ref for ref in runtime.actors() if ref.path.endswith("/coordinator")).kill()

    whole, theirs = engine(), engine(before=kill)
    first, undisturbed = await compiled(runtime, scripted_lm(whole))
    second, report = await compiled(runtime, scripted_lm(theirs))
    assert state(second) == state(first)
    assert outcome(report) == outcome(undisturbed)
    assert theirs.calls == whole.calls
    assert any(one.job.startswith("island ") for one in lost)


@pytest.mark.once
@pytest.mark.parametrize("at", [1, 60, 150, 330])
async def test_cut_off_at_any_call_it_goes_on_where_it_was(runtime: Runtime, tmp_path: Path, at: int) -> None:
    whole = engine()
    undisturbed, expected = await compiled(runtime, scripted_lm(whole))
    cut = asyncio.Event()
    theirs = engine(before=lambda number: cut.set() if number == at else None)
    first = asyncio.ensure_future(compiled(runtime, scripted_lm(theirs), log_dir=tmp_path))
    await cut.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    found, report = await compiled(runtime, scripted_lm(theirs), log_dir=tmp_path)
    assert state(found) == state(undisturbed)
    assert outcome(report) == outcome(expected)
    assert report.resumed
    assert whole.calls <= theirs.calls <= whole.calls + 8
    again, report = await compiled(runtime, scripted_lm(theirs), log_dir=tmp_path)
    assert (state(again), report.calls) == (state(undisturbed), 0)


async def test_an_outage_is_waited_for_by_all_and_closes_no_ring(runtime: Runtime) -> None:
    """It may take longer than an island may be silent."""
    closed: list[RingClosed] = []
    runtime.subscribe(closed.append, RingClosed)  # type: ignore[arg-type]
    whole, theirs = engine(), engine(outage=Outage(100, 108))
    first, undisturbed = await compiled(runtime, scripted_lm(whole))
    second, report = await compiled(runtime, scripted_lm(theirs), ring_patience=1.0)
    assert state(second) == state(first)
    assert outcome(report) == outcome(undisturbed)
    assert report.outages >= 1
    assert closed == []
    assert theirs.calls == whole.calls + theirs.failed
    with pytest.raises(ModelUnavailable):
        await compiled(runtime, scripted_lm(engine(outage=Outage(100))), patience=30.0)


# -- the ring ----------------------------------------------------------------------------------------------------------


class Stuck:
    """A metric that does not answer on an island, from some step on, until it is let go."""

    def __init__(self, island: int, step: int) -> None:
        self._where = f"island/{island}/{step}/"
        self.free = asyncio.Event()

    async def __call__(self, example: Any, prediction: Any) -> float:
        """Say what it is worth."""
        scope = call_log._scope.get()
        if scope is not None and scope.name.startswith(self._where):
            await self.free.wait()
        return exact(example, prediction)


@pytest.mark.parametrize("back", [True, False])
async def test_a_ring_closes_around_an_island_that_makes_no_progress_and_that_is_kept(
    runtime: Runtime, tmp_path: Path, *, back: bool
) -> None:
    """The others go on; if it comes back, it takes part in what is left. Repeated, all is the same."""
    closed: list[RingClosed] = []
    stuck = Stuck(1, 1)

    def told(event: RingClosed) -> None:
        closed.append(event)
        if back:
            stuck.free.set()

    runtime.subscribe(told, RingClosed)  # type: ignore[arg-type]
    options: dict[str, Any] = {"metric": stuck, "metric_id": "m", "metric_timeout": None, "log_dir": tmp_path}
    began = runtime.clock.time()
    found, report = await compiled(runtime, num_threads=32, ring_patience=50.0, **options)
    assert 50 <= runtime.clock.time() - began < 100
    ways = [("1", (1,))] if back else [("1", (1,)), ("end", (1,))]
    assert [(one.barrier, one.without) for one in closed] == ways
    assert all(1 not in (one.source, one.target) for one in report.migrations if one.step == 1)
    stuck.free.set()
    again, report = await compiled(runtime, num_threads=32, **options)
    assert found.dump_state() == again.dump_state()
    assert [one["score"] for one in found.candidate_programs] == [one["score"] for one in again.candidate_programs]
    assert len(closed) == len(ways)
    assert all(1 not in (one.source, one.target) for one in report.migrations if one.step == 1)


async def test_one_that_is_stuck_is_not_waited_for_when_the_calls_of_another_are_made(runtime: Runtime) -> None:
    """Of the two whose calls are made, the best so far comes back."""
    stuck, began = Stuck(1, 0), runtime.clock.time()
    options: dict[str, Any] = {"metric": stuck, "metric_timeout": None, "num_threads": 32, "ring_patience": 40.0}
    found, report = await compiled(runtime, max_calls=150, **options)
    assert (report.stopped, 40 <= runtime.clock.time() - began < 60) == ("max_calls", True)
    assert {trial.details["island"] for trial in report.trials} == {0, 2}
    assert found.candidate_programs[0]["score"] == max(trial.score for trial in report.trials)


async def test_of_two_of_which_one_is_stuck_the_other_has_nobody_to_send_to(runtime: Runtime) -> None:
    stuck = Stuck(0, 0)
    _, report = await compiled(runtime, islands=2, metric=stuck, metric_timeout=None, num_threads=16, ring_patience=9.0)
    assert report.migrations == []
    assert {trial.details["island"] for trial in report.trials} == {1}


async def test_where_no_candidate_can_be_made_nobody_is_sent(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the student comes back."""

    def fail(*_: Any, **__: Any) -> None:
        raise KeyError("x")

    monkeypatch.setattr("dspex.teleprompt.simba.append_a_rule", fail)
    found, report = await compiled(runtime, max_demos=0)
    assert (report.migrations, report.finalists) == ([], 1)
    assert found.dump_state() == student().dump_state()


def test_programs_of_one_state_are_one() -> None:
    one, other = student(), student()
    one.lm, one.simba_idx = scripted_lm(engine()), 3
    assert state_digest(one) == state_digest(other)
    other.demos = [dspy.Example(text="a", label="b")]
    assert state_digest(one) != state_digest(other)


# -- how many calls ----------------------------------------------------------------------------------------------------


def test_T055_how_many_calls_it_takes_is_known_before() -> None:
    """A team of three asks three times as many; several islands race their winners."""
    from tests.dspex.search.test_team_simba import team

    made = TeamSIMBA(metric=exact)
    assert made.expected_calls(student(), 200) == 8 * (192 + 224) + 1400 == 4728
    assert made.expected_calls(team(), 200) == 3 * 4728
    islands = TeamSIMBA(metric=exact, islands=4)
    assert islands.expected_calls(student(), 200) == 4 * 3328 + 25 * 20 + 12 * 20 + 6 * 40 + 3 * 80 + 40


@pytest.mark.once
@pytest.mark.parametrize("workers", [1, 8])
async def test_T054_after_max_calls_the_best_so_far_comes_back(runtime: Runtime, tmp_path: Path, workers: int) -> None:
    """For any number of workers the same; with more on the same log, what was paid for is not paid for again."""
    alone: dict[str, Any] = {"islands": 1, "num_threads": workers, "bsize": 8, "num_candidates": 3}
    whole = engine()
    expected, _ = await compiled(runtime, scripted_lm(whole), **alone)
    model = engine()
    found, report = await compiled(runtime, scripted_lm(model), max_calls=100, log_dir=tmp_path, **alone)
    assert (report.stopped, report.calls, model.calls) == ("max_calls", 100, 100)
    assert "It was stopped: max_calls." in report.markdown()
    best = max(trial.score for trial in report.trials)
    assert found.candidate_programs[0]["score"] == best
    assert found.dump_state() == found.candidate_programs[0]["program"].dump_state()
    assert (found.lm, set(found.trial_logs) <= {0, 1, 2}) == (None, True)
    same, _ = await compiled(runtime, max_calls=100, **{**alone, "num_threads": 3})
    assert state(same) == state(found)
    more, report = await compiled(runtime, scripted_lm(model), max_calls=2000, log_dir=tmp_path, **alone)
    assert (report.stopped, report.calls) == (None, whole.calls - 100)
    assert state(more) == state(expected)
    assert report.replayed > 0


async def test_T054_if_there_is_nothing_yet_the_student_comes_back(runtime: Runtime) -> None:
    program = student()
    program.lm = scripted_lm(engine())
    found, report = await compiled(runtime, None, program, islands=1, max_calls=5)
    assert (report.stopped, found.lm, found.demos) == ("max_calls", program.lm, [])


@pytest.mark.once
async def test_T054_each_island_has_its_share_of_the_calls(runtime: Runtime, tmp_path: Path) -> None:
    """None goes further than all can; so it goes on as if it had not been stopped."""
    whole = engine()
    expected, _ = await compiled(runtime, scripted_lm(whole))
    found: list[Any] = []
    for workers in (1, 8):
        model = engine()
        program, report = await compiled(
            runtime, scripted_lm(model), max_calls=270, log_dir=tmp_path / str(workers), num_threads=workers
        )
        assert (report.stopped, model.calls <= 270) == ("max_calls", True)
        found.append((state(program), outcome(report)))
        model = engine()
        program, report = await compiled(
            runtime, scripted_lm(model), max_calls=10**300, log_dir=tmp_path / str(workers)
        )
        assert (report.stopped, state(program)) == (None, state(expected))
        assert model.calls < whole.calls
    assert found[0] == found[1]


@pytest.mark.once
async def test_T054_stopped_in_the_race_of_the_winners(runtime: Runtime) -> None:
    """The best by its mini-batch comes back; also if the coordinator dies in the race."""
    model = engine()
    await compiled(runtime, scripted_lm(model))

    def kill(number: int) -> None:
        if number == model.calls - 12:
            next(ref for ref in runtime.actors() if ref.path.endswith("/coordinator")).kill()

    again = engine(before=kill)
    program, report = await compiled(runtime, scripted_lm(again), max_calls=model.calls - 1)
    assert (report.stopped, report.finalists, again.calls) == ("max_calls", 0, model.calls - 1)
    assert program.candidate_programs[0]["score"] == max(trial.score for trial in report.trials)


@pytest.mark.once
@pytest.mark.parametrize("islands", [1, 2])
async def test_T054_whoever_begins_again_stops_at_the_same_call(runtime: Runtime, islands: int) -> None:
    """A coordinator or an island that is killed makes the same steps, from what is kept."""
    found = []
    for kills in ((), (30, 95, 99, 180)):

        def kill(number: int, kills: Any = kills) -> None:
            if number in kills:
                names = [*(ref for name, ref in runtime.names().items() if ".islands." in name)]
                names += [ref for ref in runtime.actors() if ref.path.endswith("/coordinator")]
                names[number % len(names)].kill()

        model = engine(before=kill)
        program, report = await compiled(runtime, scripted_lm(model), islands=islands, max_calls=100 * islands)
        assert report.stopped == "max_calls"
        found.append((state(program), outcome(report)))
    assert found[0] == found[1]


# -- what is shown, and what is refused --------------------------------------------------------------------------------


async def test_the_tree_shows_how_far_it_is(runtime: Runtime) -> None:
    """As a whole: the step of the slowest, the best, the calls and what they cost; and of each island."""
    shown: list[Any] = []
    islands: list[Any] = []

    def look(number: int) -> None:
        if number in (1, 200):
            for ref in runtime.actors():
                info = runtime.info(ref)
                if info is not None and info.summary and ".workers" not in ref.path:
                    (shown if ref.path.endswith("/ascent") else islands).append(info.summary)

    _, report = await compiled(runtime, scripted_lm(engine(before=look)))
    assert (shown[0]["step"], shown[0]["islands"], shown[0]["seconds_left"]) == ("0 of 3", "3", "")
    assert shown[1]["step"] in ("1 of 3", "2 of 3")
    assert float(shown[1]["best"]) > 0
    assert shown[1]["calls"].endswith(f" of about {report.expected_calls}")
    assert shown[1]["dollars"] == "0.0"
    assert shown[1]["seconds_left"].isdigit()
    assert {one["island"] for one in islands} == {"0", "1", "2"}
    assert {"island", "step", "programs", "best"} in [set(one) for one in islands]


async def test_an_island_that_has_not_begun_has_nothing_to_show(runtime: Runtime) -> None:
    class Fresh(Archipelago):
        """One whose islands have not begun."""

        def __init__(self) -> None:
            self.ascents = {}

    assert Fresh().summary_of(2) == {"island": 2}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"num_candidates": 0}, "whole number from 1"),
        ({"max_steps": -1}, "whole number from 0"),
        ({"islands": 0}, "whole number from 1"),
        ({"islands": float("nan")}, "whole number from 1"),
        ({"islands": 10**400}, "whole number from 1"),
        ({"islands": True}, "whole number from 1"),
        ({"islands": 257}, "at most 256"),
        ({"migrate_every": 0}, "whole number from 1"),
        ({"ring_patience": float("inf")}, "finite number above 0"),
        ({"max_calls": 0}, "whole number from 1"),
        ({"max_calls": 1.5}, "whole number from 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(BadOption, match=why):
        TeamSIMBA(metric=exact, **options)
