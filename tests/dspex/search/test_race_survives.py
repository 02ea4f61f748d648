"""Races survive: explorers, workers, coordinators and processes die, and language models go away."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dspex.search import HypothesisSuspended
from dspex.teleprompt import ModelUnavailable, OtherOptimisation, WorkerLost
from dspex.testing.engine import Outage, ScriptedEngine, scripted_lm
from supervision import Runtime
from tests.dspex.search.conftest import EXAMPLES, WAYS, advised, engine, race, raced, student
from tests.dspex.search.test_race import outcome

pytestmark = pytest.mark.usefixtures("quiet")
ROOT = Path(__file__).parents[3]
RULES = ("halving", "asha", "paired")


def rule(kind: str) -> Any:
    """One that has several rounds."""
    return {"kind": kind, "block": 8} if kind == "paired" else {"kind": kind, "first": 8}


# -- what dies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", RULES)
async def test_explorers_workers_and_the_coordinator_may_die(runtime: Runtime, kind: str) -> None:
    """They are started again, and what was paid for is not paid for again; the race ends as if nothing had been."""
    lost: list[WorkerLost] = []
    runtime.subscribe(lost.append, WorkerLost)  # type: ignore[arg-type]

    def kill(number: int) -> None:
        names = runtime.names()
        if number % 30 == 0:
            victims = [ref for name, ref in names.items() if ".explorers." in name or ".workers." in name]
            victims[number % len(victims)].kill()
        if number == 100:
            next(ref for ref in runtime.actors() if ref.path.endswith("/coordinator")).kill()

    whole, theirs = engine(), engine(before=kill)
    first, undisturbed = await raced(race(runtime, rule=rule(kind)), whole)
    second, report = await raced(race(runtime, rule=rule(kind)), theirs)
    assert outcome(report) == outcome(undisturbed)
    assert second.dump_state() == first.dump_state()
    assert theirs.calls == whole.calls
    assert report.workers_lost <= len(lost)
    assert len(lost) > 0


@pytest.mark.parametrize(("kind", "at"), [("halving", 75), ("asha", 40), ("paired", 1)])
async def test_a_race_that_is_cancelled_goes_on_where_it_was(
    runtime: Runtime, tmp_path: Path, kind: str, at: int
) -> None:
    whole = engine()
    _, undisturbed = await raced(race(runtime, rule=rule(kind)), whole)
    cut = asyncio.Event()
    theirs = engine(before=lambda number: cut.set() if number == at else None)
    first = asyncio.ensure_future(raced(race(runtime, rule=rule(kind), log_dir=tmp_path), theirs))
    await cut.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    _, report = await raced(race(runtime, rule=rule(kind), log_dir=tmp_path), theirs)
    assert outcome(report) == outcome(undisturbed)
    assert report.resumed
    # Those on their way when it was cut off, one for each worker.
    assert whole.calls <= theirs.calls <= whole.calls + 8
    _, again = await raced(race(runtime, rule=rule(kind), log_dir=tmp_path), theirs)
    assert (outcome(again), again.calls) == (outcome(report), 0)


@pytest.mark.once
@pytest.mark.parametrize("kind", RULES)
def test_killed_with_9_again_and_again_it_ends_with_the_same_program_and_pays_nothing_twice(
    tmp_path: Path, kind: str
) -> None:
    def run(folder: Path, kill_at: int) -> int:
        command = [sys.executable, "-m", "tests.dspex.search.killed", str(folder), kind, str(kill_at)]
        return subprocess.run(command, cwd=ROOT, check=False, timeout=120, capture_output=True).returncode

    assert run(tmp_path / "whole", 0) == 0
    kills = 0
    while run(tmp_path / "killed", 30 + 25 * kills) == -signal.SIGKILL:
        kills += 1
    assert kills >= 2
    whole, killed = (tmp_path / name for name in ("whole", "killed"))
    assert (killed / "program.json").read_text() == (whole / "program.json").read_text()
    assert (killed / "report.txt").read_text() == (whole / "report.txt").read_text()
    paid, once = ((folder / "calls").read_text().splitlines() for folder in (killed, whole))
    assert set(paid) == set(once)
    # One worker: at most its one call is on its way when the process is killed.
    assert len(paid) <= len(once) + kills


async def test_another_trainset_is_refused_by_name(runtime: Runtime, tmp_path: Path) -> None:
    """And so are other hypotheses, and another rule; before anything is run."""
    model = engine()
    await raced(race(runtime, log_dir=tmp_path), model)
    asked = model.calls
    for name, options, examples in (
        ("trainset", {}, EXAMPLES[:60]),
        ("hypotheses", {"hypotheses": WAYS[1:]}, EXAMPLES),
        ("rule", {"rule": "paired"}, EXAMPLES),
        ("held_out", {"held_out": 0.1}, EXAMPLES),
    ):
        with pytest.raises(OtherOptimisation, match=name):
            await raced(race(runtime, log_dir=tmp_path, **options), model, examples=examples)
    assert model.calls == asked


# -- language models that are away -------------------------------------------------------------------------------------


async def test_an_outage_in_the_middle_is_not_a_look(runtime: Runtime) -> None:
    """Nor a score: all wait, and then go on."""
    whole, theirs = engine(), engine(outage=Outage(100, 103))
    _, undisturbed = await raced(race(runtime), whole)
    _, report = await raced(race(runtime), theirs)
    assert outcome(report) == outcome(undisturbed)
    assert (report.outages, report.failures) == (1, undisturbed.failures)
    assert theirs.calls == whole.calls + theirs.failed


async def test_when_patience_ends_what_was_paid_for_is_kept(runtime: Runtime, tmp_path: Path) -> None:
    model = engine(outage=Outage(100))
    with pytest.raises(ModelUnavailable, match="compile again"):
        await raced(race(runtime, log_dir=tmp_path, patience=60.0), model)
    model.outage = Outage()
    _, report = await raced(race(runtime, log_dir=tmp_path), model)
    _, undisturbed = await raced(race(runtime))
    assert outcome(report) == outcome(undisturbed)
    assert model.calls == undisturbed.calls + model.failed


def others(away: ScriptedEngine) -> list[Any]:
    """The ways, of which the best two ask another model."""
    best = [student(), student()]
    for number, program in enumerate(best):
        advised(2, 10 + number)(program)
        program.lm = scripted_lm(away) if not number else best[0].lm
    return [*WAYS[:4], *best]


@pytest.mark.parametrize("kind", RULES)
async def test_T061_one_whose_model_is_away_is_suspended_and_not_dropped(runtime: Runtime, kind: str) -> None:
    """The rungs do not count it; the race ends without it."""
    told: list[HypothesisSuspended] = []
    runtime.subscribe(told.append, HypothesisSuspended)  # type: ignore[arg-type]
    away = engine(base=0.9, outage=Outage(1))
    before = runtime.clock.time()
    _, report = await raced(race(runtime, others(away), rule=rule(kind), lane_patience=60.0))
    assert 30 < runtime.clock.time() - before < 60
    fates = [one.fate for one in report.hypotheses]
    assert fates[5:] == ["suspended", "suspended"]
    assert report.hypotheses[5].items == report.hypotheses[5].score == 0
    assert report.winner == "hypothesis 3"
    assert {one.hypothesis for one in told} == {"hypothesis 5", "hypothesis 6"}
    assert "unavailable" in told[0].why
    _, without = await raced(race(runtime, WAYS[:4], rule=rule(kind)))
    assert [one for one in report.hypotheses if one.items] == without.hypotheses
    assert report.failures == 0


async def test_T061_when_its_model_is_back_it_races_on(runtime: Runtime) -> None:
    """It is asked for again at the next rung, with what it has not seen."""
    away = engine(base=0.9, outage=Outage(1))

    def back(number: int) -> None:
        if number == 50:
            away.outage = Outage()

    made = race(runtime, others(away), lane_patience=60.0)
    _, report = await raced(made, engine(before=back))
    assert report.hypotheses[5].fate in ("won", "beaten", "dropped")
    assert report.winner in ("hypothesis 5", "hypothesis 6")
    assert report.train > 0.9


async def test_T061_begun_again_with_the_model_back_it_goes_on(runtime: Runtime, tmp_path: Path) -> None:
    away = engine(base=0.9, outage=Outage(1))
    hypotheses = others(away)
    await raced(race(runtime, hypotheses, lane_patience=60.0, log_dir=tmp_path))
    away.outage = Outage()
    model = engine()
    found, report = await raced(race(runtime, hypotheses, lane_patience=60.0, log_dir=tmp_path), model)
    assert report.winner in ("hypothesis 5", "hypothesis 6")
    assert found.lm is hypotheses[4].lm
    assert model.calls == 0 or model.calls < report.runs


async def test_a_model_that_goes_away_before_the_test_leaves_the_winner_without_a_test_score(runtime: Runtime) -> None:
    away = engine(base=0.9)
    away.outage = Outage(2 * 64 + 1)
    program = student()
    program.lm = scripted_lm(away)
    made = race(runtime, [program], rule={"kind": "halving", "first": 64}, lane_patience=60.0)
    away.outage = Outage(65)
    _, report = await raced(made, testset=EXAMPLES[:8])
    assert (report.winner, report.test) == ("hypothesis 1", None)


async def test_one_whose_model_is_refused_is_not_waited_for(runtime: Runtime) -> None:
    """Nor asked again, nor dropped."""
    from dspex._compat import lm15

    class Refusing(ScriptedEngine):
        """A model with a wrong key."""

        def complete(self, request: Any) -> Any:
            self.calls += 1
            raise (lm15.AuthError("wrong key"))

    refusing = Refusing({"": ""})
    before = runtime.clock.time()
    _, report = await raced(race(runtime, others(refusing)))
    assert runtime.clock.time() - before < 5
    assert [one.fate for one in report.hypotheses[5:]] == ["suspended", "suspended"]
    assert "not to be had" in report.hypotheses[5].why
    assert refusing.calls <= 16


async def test_when_there_is_no_more_money_the_race_ends_whoever_asks(runtime: Runtime, tmp_path: Path) -> None:
    """It is no outage of a hypothesis."""
    from dspex.jobs.spending import OverBudget, Payer, Spending

    async def save(dollars: float, calls: int) -> None:
        pass

    other = engine(base=0.9)
    made = race(runtime, others(other), log_dir=tmp_path)
    made.paid = Payer(Spending(None, 0.0, save, max_calls=5)).paid
    with pytest.raises(OverBudget, match="5 of 5"):
        await raced(made)
    assert other.calls == 5
    again = race(runtime, others(other), log_dir=tmp_path)
    again.paid = Payer(Spending(None, 0.0, save)).paid
    _, report = await raced(again)
    assert report.winner in ("hypothesis 5", "hypothesis 6")
