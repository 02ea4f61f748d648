"""The command that does one optimisation, also when it is killed; and what a specification may name."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dspy
import httpx
import pytest

from dspex import JobMoved, Optimisations, ProgramActor
from dspex._compat import lm15
from dspex.data.examples import BadExamples
from dspex.jobs.job import JobActor, WorkEnded
from dspex.jobs.owner import WorkTold
from dspex.jobs.selection import select_model
from dspex.jobs.spending import OverBudget, PaidModel, Spending, TokenPrice
from dspex.jobs.work import ModelAway
from dspex.optimise.__main__ import main
from dspex.optimise.spec import OptimisationSpec, Trainset, read_spec
from dspex.optimise.work import OptimisationWork
from dspex.teleprompt import CandidateScored, Durable
from dspex.testing.engine import ScriptedEngine, scripted_lm
from foundation.http.app import application
from foundation.jobs import GetJob, GetJobEvents
from foundation.programs import ListVersions
from foundation.store import Database, Store
from supervision import ChildSpec, Runtime, StartError, Supervisor
from supervision.errors import BadOption
from tests.dspex.optimise.conftest import NAME, Jobs
from tests.dspex.optimise.shop import LABELS, SPEC, Held, program, write
from tests.dspex.optimise.test_jobs import undisturbed

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[3]
TOML = """\
program = "tests.dspex.optimise.shop:program"
metric = "dspex.testing.engine:exact"
trainset = { path = "train.csv", inputs = ["text"] }
options = { bsize = 6, max_steps = 2, num_candidates = 2, num_threads = 2 }
price = { input = 1.0, output = 1.0 }
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A specification in a file."""
    write(tmp_path)
    (tmp_path / "small.toml").write_text(TOML)
    return tmp_path / "small.toml"


def run(spec: Path, last: int) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that kills itself at a call."""
    command = [sys.executable, "-m", "tests.dspex.optimise.killed", str(spec), str(last)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, check=False, cwd=ROOT, env=env, capture_output=True, text=True)


@pytest.mark.once
async def test_E063_a_process_that_is_killed_half_way_leaves_nothing_undone(spec: Path) -> None:
    """Run again, it goes on: the same program, and nothing paid for twice but what was on its way."""
    expected, calls = await undisturbed()
    assert run(spec, calls // 2).returncode == -9
    done = run(spec, 0)
    assert done.returncode == 0, done.stderr
    made = json.loads(Path(json.loads(done.stdout.splitlines()[-1])["file"]).read_text())
    made.pop("metadata")
    assert made == json.loads(json.dumps(expected))
    assert len(spec.with_suffix(".calls").read_text()) <= calls + SPEC["options"]["num_threads"]


def test_the_command_says_how_it_goes(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And once it is done, what came of it; a budget that is spent can be raised."""
    spec.write_text(TOML + "budget = 0.005\n")
    lm = scripted_lm(ScriptedEngine(LABELS))
    assert main([str(spec)], lm=lm) == 3
    assert "over_budget: $0.00" in capsys.readouterr().out
    spec.write_text(TOML + "budget = 1.0\n")
    assert main([str(spec)], lm=lm) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("candidate ") for line in lines)
    assert "program.json has the program; $" in lines[-1]
    engine = ScriptedEngine(LABELS)
    assert main([str(spec), "--json"], lm=scripted_lm(engine)) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["state"] == "succeeded"
    assert engine.calls == 0


def test_what_fails_ends_with_1_and_what_is_wrong_with_2(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec.with_name("train.csv").unlink()
    for _ in range(2):
        assert main([str(spec)], lm=scripted_lm(ScriptedEngine(LABELS))) == 1
        assert "failed: BadExamples" in capsys.readouterr().out
    assert main([str(spec.with_name("nowhere.toml"))]) == 2
    assert "nowhere.toml" in capsys.readouterr().err


def test_the_program_is_saved_where_it_is_wanted(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run again with another place, it is saved there without asking anything; a place that is none is said."""
    spec.write_text(TOML)
    engine = ScriptedEngine(LABELS)
    out = spec.with_name("better.json")
    assert main([str(spec), "--out", str(out)], lm=scripted_lm(engine)) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{out} has the program; $")
    program().load(out)
    calls = engine.calls
    gone = spec.with_name("gone.json")
    gone.symlink_to(spec.parent / "nowhere" / "better.json")
    assert main([str(spec), "--out", str(gone)], lm=scripted_lm(engine)) == 1
    assert "program.json has the program" in capsys.readouterr().err
    assert engine.calls == calls


def test_without_a_model_the_embedded_one_is_started(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which says what is missing, if it is."""

    def missing() -> None:
        raise LookupError("no model")

    monkeypatch.setattr("dspex.models.local.server.find_model", missing)
    monkeypatch.delenv("DSPEX_LM", raising=False)
    with pytest.raises(StartError, match="language-model"):
        main([str(spec)])


async def test_what_a_job_makes_becomes_a_version_that_serves_nobody_yet(jobs: Jobs, runtime: Runtime) -> None:
    """A candidate, for a canary; what does not fit is said."""
    await jobs.begin()
    options = {"lm": scripted_lm(ScriptedEngine(LABELS))}
    child = ChildSpec("shop", ProgramActor, (program,), options, name="program:shop")
    await runtime.spawn(Supervisor, [child])
    job = await jobs.until((await jobs.start()).id)
    assert (job.state, job.version, job.why) == ("succeeded", 1, "offered as a version")
    versions = await runtime.name("program:shop").call(ListVersions())
    assert [(version.number, version.current) for version in versions] == [(0, True), (1, False)]


async def test_what_does_not_fit_the_program_is_not_offered(jobs: Jobs, runtime: Runtime) -> None:
    await jobs.begin()
    other = ChildSpec(
        "shop", ProgramActor, (lambda: dspy.ChainOfThought("q, r -> a"),), {"lm": "openai/x"}, name="program:shop"
    )
    await runtime.spawn(Supervisor, [other])
    job = await jobs.until((await jobs.start()).id)
    assert (job.state, job.version) == ("succeeded", None)
    assert job.why.startswith("not offered as a version: ")


async def test_a_program_with_a_model_of_its_own_pays_for_it_too(jobs: Jobs) -> None:
    """And keeps it."""
    await jobs.begin(program="tests.dspex.optimise.shop:owner", budget=0.005)
    job = await jobs.until((await jobs.start()).id)
    assert job.state == "over_budget"
    assert 0 < job.spent <= 0.005


async def test_examples_may_be_rows_of_the_trees_store(runtime: Runtime, tmp_path: Path) -> None:
    """As mappings, all of which have the inputs."""
    store = ChildSpec("store", Store, (tmp_path / "shop.db", ["examples", "none", "bad"]), name="store")
    await runtime.spawn(Supervisor, [store])
    database = Database.of(runtime)
    async with database.transaction() as tx:
        tx.put("examples", 1, {"text": "a", "label": "red"})
        tx.put("examples", 2, {"text": "b", "label": "blue"})
        tx.put("bad", 1, {"label": "red"})
    found = Trainset(inputs=("text",), table="examples", limit=1).read(tmp_path, runtime)
    assert [(example.inputs().toDict(), example.labels().toDict()) for example in found] == [
        ({"text": "a"}, {"label": "red"})
    ]
    for table in ("none", "bad"):
        with pytest.raises(BadExamples):
            Trainset(inputs=("text",), table=table).read(tmp_path, runtime)


def test_an_optimiser_of_dspys_own_is_made_durable() -> None:
    changed = {"optimiser": "dspy:BootstrapFewShot", "options": {"max_bootstrapped_demos": 1}}
    assert isinstance(OptimisationSpec.of("x", {**SPEC, **changed}).teleprompter(), Durable)


def test_a_model_is_found_by_its_name(runtime: Runtime) -> None:
    """That of the gateway, or of a provider."""
    assert select_model(runtime, "openai/x").lm.model == "openai/x"
    with pytest.raises(ValueError, match="gateway"):
        select_model(runtime, "gateway/x")


def test_a_spec_that_is_no_toml_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("program = ")
    with pytest.raises(ValueError, match=r"x\.toml"):
        read_spec(tmp_path / "x.toml")


async def test_money_is_reserved_before_a_call_and_settled_after_it() -> None:
    """A call whose price depends on others waits for them."""
    saved: list[tuple[float, int]] = []

    async def save(dollars: float, calls: int) -> None:
        saved.append((dollars, calls))

    spending = Spending(1.0, 0.0, save)
    await spending.reserve(0.6)
    second = asyncio.ensure_future(spending.reserve(0.6))
    await asyncio.wait([second], timeout=0)
    assert not second.done()
    await spending.settle(0.6, 0.1)
    await second
    await spending.settle(0.6, 0.0, 0)
    assert (spending.spent, saved) == (0.1, [(0.1, 1)])
    with pytest.raises(OverBudget):
        await spending.reserve(0.95)


async def test_calls_are_counted_down_and_those_that_fail_give_theirs_back() -> None:
    """Whoever cannot know yet whether there is one left for it waits."""

    async def save(dollars: float, calls: int) -> None:
        pass

    spending = Spending(None, 0.0, save, max_calls=3, calls=1)
    await spending.reserve(0.0)
    await spending.reserve(0.0)
    third = asyncio.ensure_future(spending.reserve(0.0))
    await asyncio.wait([third], timeout=0)
    assert not third.done()
    await spending.settle(0.0, 0.0, 0)
    await third
    await spending.settle(0.0, 0.0)
    await spending.settle(0.0, 0.0)
    with pytest.raises(OverBudget, match="3 of 3 calls are made"):
        await spending.reserve(0.0)


async def test_an_answer_that_was_on_its_way_does_not_say_that_the_model_is_back() -> None:
    """One that was asked for after the outage does."""
    slow = asyncio.Event()
    told: list[Exception | None] = []

    class Away(ScriptedEngine):
        async def complete(self, request: Any) -> Any:
            self.calls += 1
            if self.calls == 1:
                await slow.wait()
            if self.calls == 2 and not slow.is_set():
                raise lm15.TransportError("gone")
            return super().complete(request)

    async def save(dollars: float, calls: int) -> None:
        pass

    lm = dspy.LM("known/x", engine=ScriptedEngine(LABELS), async_engine=Away(LABELS), cache=False)
    paid = PaidModel(lm, None, Spending(None, 0.0, save), lambda error, _: told.append(error))
    request = lm15.Request("known/x", [lm15.Message.user([lm15.TextPart("hello")])])
    first = asyncio.ensure_future(paid.answer(request))
    await asyncio.wait([first], timeout=0)
    with pytest.raises(lm15.TransportError):
        await paid.answer(request)
    slow.set()
    await first
    assert [type(each) for each in told] == [lm15.TransportError]
    await paid.answer(request)
    assert told[1:] == [None]


async def test_a_call_that_is_cut_off_has_cost_its_prompt(runtime: Runtime) -> None:
    """One that fails has cost nothing; a price that nobody knows bounds nothing."""
    waiting = asyncio.Event()

    class Slow(ScriptedEngine):
        async def complete(self, request: Any) -> Any:
            waiting.set()
            await asyncio.Event().wait()

    async def save(dollars: float, calls: int) -> None:
        pass

    spending = Spending(1.0, 0.0, save)
    lm = dspy.LM("known/x", engine=ScriptedEngine(LABELS), async_engine=Slow(LABELS), cache=False)
    paid = PaidModel(lm, TokenPrice(1.0, 1.0), spending, lambda *_: None)
    request = lm15.Request("known/x", [lm15.Message.user([lm15.TextPart("hello")])])
    asking = asyncio.ensure_future(paid.answer(request))
    await waiting.wait()
    asking.cancel()
    await asyncio.wait([asking])
    assert 0 < spending.spent < 1e-4
    with pytest.raises(BadOption, match="price"):
        PaidModel(lm, None, spending, lambda *_: None)


async def test_a_job_of_a_specification_that_is_gone_fails(tmp_path: Path) -> None:
    """It is named, and keeps nobody from starting."""
    write(tmp_path)
    engine = Held(5)
    async with Runtime(reports=False) as runtime:
        jobs = Jobs(tmp_path, runtime)
        await jobs.begin(engine)
        job = await jobs.start(spec="small")
        engine.open.set()
    async with Runtime(reports=False) as runtime:
        child = ChildSpec("jobs", Optimisations, ("shop", tmp_path / "jobs", {}), name=NAME)
        await runtime.spawn(Supervisor, [child])
        found = await Jobs(tmp_path, runtime).until(job.id)
        assert (found.state, found.why) == ("failed", "spec: choose one of none")


async def test_an_outage_that_is_told_twice_suspends_once(jobs: Jobs, runtime: Runtime) -> None:
    """And its end lets the job go on."""
    engine = Held(10)
    await jobs.begin(engine)
    job = await jobs.start()
    assert await asyncio.to_thread(engine.reached.wait, 60)
    told: list[tuple[str, str]] = []
    runtime.subscribe(lambda event: told.append((event.before, event.state)), JobMoved)
    for what in (ModelAway("away"), ModelAway("away"), None):
        runtime.name(NAME).cast(WorkTold(job.id, what))
    assert (await jobs.ask(GetJob(job.id))).state == "running"
    assert told == [("running", "suspended"), ("suspended", "running")]
    engine.open.set()
    assert (await jobs.until(job.id)).state == "succeeded"


async def test_what_is_told_too_late_counts_no_more(jobs: Jobs, runtime: Runtime, supervised: None) -> None:
    """Nor does what a neighbour's optimiser scores; and a tree's own supervisor of agents is used."""
    engine = Held(10)
    await jobs.begin(engine)
    job = await jobs.start()
    assert await asyncio.to_thread(engine.reached.wait, 60)
    owner = runtime.name(NAME)
    runtime.events.emit(CandidateScored, optimiser="x", number=1, score=1.0, examples=1, best=1.0)
    owner.cast(WorkTold("another", None))
    owner.cast(WorkTold(job.id, None))
    owner.cast(WorkEnded(job.id, None, None))  # type: ignore[arg-type]
    waiting = asyncio.ensure_future(jobs.ask(GetJob(job.id, None, 60.0)))
    await asyncio.wait([waiting], timeout=0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (await jobs.ask(GetJob(job.id))).number == 3  # queued, running, and which model it asks
    assert len([actor for actor in runtime.actors() if actor.path.endswith("dspex.agents")]) == 1
    engine.open.set()
    assert (await jobs.until(job.id)).state == "succeeded"
    found = owner.resolve()
    assert found is not None
    assert runtime.info(found) is not None


async def test_work_that_cancels_itself_has_failed_and_work_that_is_over_is_not_begun(
    jobs: Jobs, runtime: Runtime
) -> None:
    engine = Held(10)
    await jobs.begin(engine)
    job = await jobs.start()
    assert await asyncio.to_thread(engine.reached.wait, 60)
    (worker,) = [ref for ref in runtime.actors() if ref.path.endswith(job.id)]
    # Their types, and not `isinstance`: that would ask each object of all tests what its class is.
    works: list[Any] = [each for each in gc.get_objects() if type(each) is OptimisationWork]
    (work,) = [each for each in works if each.task is not None and not each.task.done()]
    work.task.cancel()
    engine.open.set()
    job = await jobs.until(job.id)
    assert (job.state, "cancelled itself" in job.why) == ("failed", True)
    await worker.join()
    work.over = True
    with pytest.raises(StartError):
        await runtime.spawn(JobActor, job.id, work, worker)


async def test_a_journal_that_has_grown_is_written_anew(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex.jobs.history._COMPACT", 5)
    await jobs.begin()
    job = await jobs.until((await jobs.start()).id)
    assert job.state == "succeeded"
    assert len(await jobs.ask(GetJobEvents(job.id))) == job.number


async def test_a_stream_shows_that_it_lives_while_nothing_happens(
    jobs: Jobs, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foundation.http.jobs.PING", 0.01)
    engine = Held(5)
    await jobs.begin(engine)
    job = await jobs.start()
    reading = asyncio.ensure_future(client.get(f"/programs/shop/optimisations/{job.id}/events"))
    await asyncio.to_thread(engine.reached.wait, 60)
    await jobs.runtime.sleep(0.1)
    engine.open.set()
    await jobs.until(job.id)
    assert ": ping" in (await reading).text


async def test_a_server_without_versions_has_no_jobs(jobs: Jobs, runtime: Runtime) -> None:
    transport = httpx.ASGITransport(application(runtime))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        response = await client.get("/programs/shop/optimisations")
    assert (response.status_code, response.json()["type"]) == (403, "about:blank#optimisations-not-served")


async def test_an_error_that_is_no_outage_is_the_callers(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs nothing, and suspends nothing."""

    class Broken(ScriptedEngine):
        async def complete(self, request: Any) -> Any:
            raise lm15.InvalidRequestError("no such thing")

    async def save(dollars: float, calls: int) -> None:
        raise AssertionError

    told: list[Any] = []
    lm = dspy.LM("known/x", engine=ScriptedEngine(LABELS), async_engine=Broken(LABELS), cache=False)
    paid = PaidModel(lm, TokenPrice(1.0, 1.0), Spending(1.0, 0.0, save), lambda *what: told.append(what))
    with pytest.raises(lm15.InvalidRequestError):
        await paid.answer(lm15.Request("known/x", [lm15.Message.user([lm15.TextPart("hello")])]))
    assert told == []
    monkeypatch.setenv("DSPEX_LM", "openai/x")
    assert select_model(runtime, None).lm.model == "openai/x"


def test_the_command_is_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dspex.optimise", str(tmp_path / "nowhere.toml")]
    assert subprocess.run(command, check=False, cwd=ROOT, capture_output=True).returncode == 2
