"""Searches of teams survive: whatever dies, the team is the same, and nothing is paid for twice."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dspex.optimise.__main__ import main
from dspex.optimise.spec import BadOptimisationSpec, OptimisationSpec
from dspex.search import TeamSearch
from dspex.teleprompt import LogDirInUse, ModelUnavailable, OtherOptimisation, WorkerLost
from dspex.testing.engine import Outage, exact, scripted_lm
from supervision import Runtime
from tests.dspex.search.teams import (
    EXAMPLES,
    FIELDS,
    OWN,
    SETTINGS,
    WAYS,
    WORTHS,
    Voters,
    engine,
    search,
    searched,
    wordings,
)
from tests.dspex.search.test_team_search import outcome

pytestmark = pytest.mark.usefixtures("quiet")
ROOT = Path(__file__).parents[3]


async def test_explorers_workers_and_the_coordinator_may_die(runtime: Runtime) -> None:
    """What was paid for is not paid for again, and it ends as if nothing had been."""
    lost: list[WorkerLost] = []
    runtime.subscribe(lost.append, WorkerLost)  # type: ignore[arg-type]

    def kill(number: int) -> None:
        names = runtime.names()
        if number % 40 == 0:
            victims = [ref for name, ref in names.items() if ".explorers." in name or ".workers." in name]
            victims[number % len(victims)].kill()
        if number in (100, 220):
            next(ref for ref in runtime.actors() if ref.path.endswith("/coordinator")).kill()

    whole, theirs = engine(), engine(before=kill)
    first, undisturbed = await searched(search(runtime, member_metrics=OWN), whole)
    second, report = await searched(search(runtime, member_metrics=OWN), theirs)
    assert outcome(report)[1:] == outcome(undisturbed)[1:]
    assert second.dump_state() == first.dump_state()
    assert theirs.calls == whole.calls
    assert len(lost) > 0


@pytest.mark.parametrize("at", [1, 60, 130, 200, 260])
async def test_one_that_is_cancelled_goes_on_where_it_was(runtime: Runtime, tmp_path: Path, at: int) -> None:
    whole = engine()
    _, undisturbed = await searched(search(runtime, member_metrics=OWN, held_out=0.25), whole)
    cut = asyncio.Event()
    theirs = engine(before=lambda number: cut.set() if number == at else None)

    def made() -> TeamSearch:
        return search(runtime, member_metrics=OWN, held_out=0.25, log_dir=tmp_path)

    first = asyncio.ensure_future(searched(made(), theirs))
    await cut.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    _, report = await searched(made(), theirs)
    assert outcome(report) == outcome(undisturbed)
    # Those on their way when it was cut off, one for each worker.
    assert whole.calls <= theirs.calls <= whole.calls + 8
    _, again = await searched(made(), theirs)
    assert (outcome(again), again.calls) == (outcome(report), 0)


@pytest.mark.once
async def test_a_team_is_read_back_after_a_restart_with_all_its_stages(runtime: Runtime, tmp_path: Path) -> None:
    """Predictions of candidates are made again, of answers that are known."""

    voters = Voters(0.5, 0.5, 0.6)
    whole = {"optimiser": "dspex.teleprompt:SIMBA", "bsize": 8, "max_steps": 1, "num_candidates": 2}
    options: dict[str, Any] = {
        "member_metrics": exact,
        "survivors": 2,
        "whole": whole,
        "held_out": 0.1,
        "log_dir": tmp_path,
    }
    settings = {"m0": WAYS, "m1": WAYS}
    one, report = await searched(search(runtime, settings, **options), voters.engines[0], voters.team(3).program())
    asked = voters.calls
    two, again = await searched(search(runtime, settings, **options), voters.engines[0], voters.team(3).program())
    assert (again.calls, voters.calls, again.resumed) == (0, asked, True)
    assert outcome(again)[1:] == outcome(report)[1:]
    assert (wordings(two), two.team.rule) == (wordings(one), one.team.rule)
    assert [predictor.demos for predictor in two.predictors()] == [predictor.demos for predictor in one.predictors()]


@pytest.mark.once
async def test_another_search_in_the_same_folder_is_refused_by_name(runtime: Runtime, tmp_path: Path) -> None:
    """Before anything is asked; and so is a second one at the same time."""
    model = engine()
    await searched(search(runtime, log_dir=tmp_path), model)
    asked = model.calls
    for name, options, examples in (
        ("trainset", {}, EXAMPLES[:30]),
        ("settings", {"settings": {"draft": SETTINGS["draft"]}}, EXAMPLES),
        ("member_metrics", {"member_metrics": OWN}, EXAMPLES),
        ("passes", {"passes": 2}, EXAMPLES),
    ):
        with pytest.raises(OtherOptimisation, match=name):
            await searched(search(runtime, log_dir=tmp_path, **options), model, examples=examples)
    assert model.calls == asked
    begun = asyncio.Event()
    slow = engine(before=lambda number: begun.set())
    first = asyncio.ensure_future(searched(search(runtime, log_dir=tmp_path / "two"), slow))
    await begun.wait()
    with pytest.raises(LogDirInUse):
        await searched(search(runtime, log_dir=tmp_path / "two"), model)
    found, _ = await first
    assert len(wordings(found)) == 3


@pytest.mark.once
async def test_an_outage_is_waited_for_and_when_patience_ends_what_was_paid_for_is_kept(
    runtime: Runtime, tmp_path: Path
) -> None:
    whole, theirs = engine(), engine(outage=Outage(100, 103))
    first, undisturbed = await searched(search(runtime, member_metrics=OWN), whole)
    _, report = await searched(search(runtime, member_metrics=OWN), theirs)
    assert (outcome(report), report.outages) == (outcome(undisturbed), 1)
    assert theirs.calls == whole.calls + theirs.failed
    model = engine(outage=Outage(100))
    with pytest.raises(ModelUnavailable, match="compile again"):
        await searched(search(runtime, member_metrics=OWN, log_dir=tmp_path, patience=60.0), model)
    model.outage = Outage()
    found, again = await searched(search(runtime, member_metrics=OWN, log_dir=tmp_path), model)
    assert (outcome(again), wordings(found)) == (outcome(undisturbed), wordings(first))
    assert model.calls == whole.calls + model.failed


@pytest.mark.once
def test_killed_with_9_again_and_again_it_ends_with_the_same_team_and_pays_nothing_twice(tmp_path: Path) -> None:
    def run(folder: Path, kill_at: int) -> int:
        command = [sys.executable, "-m", "tests.dspex.search.killed_team", str(folder), str(kill_at)]
        return subprocess.run(command, cwd=ROOT, check=False, timeout=120, capture_output=True).returncode

    assert run(tmp_path / "whole", 0) == 0
    kills = 0
    while run(tmp_path / "killed", 30 + 25 * kills) == -signal.SIGKILL:
        kills += 1
    assert kills >= 3
    whole, killed = (tmp_path / name for name in ("whole", "killed"))
    assert (killed / "program.json").read_text() == (whole / "program.json").read_text()
    assert (killed / "report.txt").read_text() == (whole / "report.txt").read_text()
    paid, once = ((folder / "calls").read_text().splitlines() for folder in (killed, whole))
    assert set(paid) == set(once)
    assert len(once) == len(set(once))
    # One worker: at most its one call is on its way when the process is killed.
    assert len(paid) <= len(once) + kills


# -- as a job ----------------------------------------------------------------------------------------------------------

SPEC = """
program = "tests.dspex.search.searched:chain"
metric = "dspex.testing.engine:exact"
trainset = {{ path = "train.csv", inputs = ["text"] }}
optimiser = "dspex.search:TeamSearch"
max_calls = {calls}
[options]
settings = "tests.dspex.search.teams:SETTINGS"
member_metrics = {{ draft = "dspex.testing.chain:step_right", plan = "dspex.testing.chain:step_right" }}
rule = {{ kind = "halving", first = 10 }}
num_threads = 4
"""


def ordered(folder: Path, calls: int, shown: Any) -> tuple[int, dict[str, Any]]:
    """The exit status of the command, and the job."""
    (folder / "search.toml").write_text(SPEC.format(calls=calls))
    status = main([str(folder / "search.toml"), "--json"], lm=scripted_lm(engine()))
    return status, json.loads(shown.readouterr().out.splitlines()[-1])


def test_it_is_a_job_whose_budget_ends_and_that_goes_on_with_more(tmp_path: Path, capsys: Any) -> None:
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *([one.text, one.label] for one in EXAMPLES)])
    assert ordered(tmp_path, 50, capsys)[0] == 3
    status, job = ordered(tmp_path, 2000, capsys)
    assert (status, job["state"], job["why"]) == (0, "succeeded", "")
    made = json.loads(Path(job["file"]).read_text())
    said = [made[field]["signature"]["instructions"] for field in FIELDS]
    assert said[:2] == ["draft 3", "plan 3"]
    assert said[2] in WORTHS["label"]


def test_what_is_wrong_with_its_options_is_said_before_it_begins() -> None:
    spec = {
        "program": "tests.dspex.search.searched:chain",
        "metric": "dspex.testing.engine:exact",
        "trainset": {"path": "train.csv", "inputs": ["text"]},
        "optimiser": "dspex.search:TeamSearch",
    }
    for options, why in (
        ({"settings": "tests.nowhere:settings"}, "write package.module:name"),
        ({"whole": {"optimiser": "dspex.teleprompt:SIMBA", "size": 5}}, "size"),
        ({"stages": ["topology"]}, "blocks, members, whole"),
    ):
        with pytest.raises(BadOptimisationSpec, match=why):
            OptimisationSpec.of("x", {**spec, "options": options})
