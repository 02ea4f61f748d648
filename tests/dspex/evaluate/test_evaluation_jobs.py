"""Evaluations of a served program as jobs, over HTTP: what is asked once is asked once, whoever dies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dspy
import httpx
import pytest

from agents.durability import OutcomeUnknown, SqliteStorage, StorageError
from dspex import BudgetReached, Evaluations, JobMoved, ProgramActor
from dspex._compat import lm15
from dspex.evaluate.spec import BadSpec, EvaluationJobSpec
from dspex.jobs.selection import job_settings
from dspex.testing.engine import Outage, ScriptedEngine, scripted_lm
from foundation.access import Access
from foundation.http import application
from foundation.jobs import FINAL, StartJob
from foundation.programs import AddVersion, BadVersion, GetVersion
from supervision import CallError, ChildSpec, Runtime, StartError, Supervisor
from tests.dspex.documented import DocumentedTransport
from tests.dspex.optimise.conftest import held_lm
from tests.dspex.optimise.shop import EXAMPLES, LABELS, Held, program, write

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.timeout(60)]

TOKEN = "a-token-of-some-length"
PATH = "/programs/shop/evaluations"
SPEC: dict[str, Any] = {
    "metric": "dspex.testing.engine:exact",
    "devset": {"path": "train.csv", "inputs": ["text"]},
    "num_threads": 2,
    "price": {"input": 1.0, "output": 1.0},
}


class Shop:
    """A program with two versions, and its evaluations; asked over HTTP."""

    def __init__(self, runtime: Runtime, folder: Path, client: httpx.AsyncClient) -> None:
        self.runtime, self.folder, self.client = runtime, folder, client

    async def open(self, engine: ScriptedEngine | None = None, **spec: Any) -> Shop:
        """Serve."""
        lm = held_lm(engine or ScriptedEngine(LABELS, base=0.8))
        options = {"data": self.folder, "lm": lm}
        specs = {"nightly": {**SPEC, **spec}}
        children = [
            ChildSpec("shop", ProgramActor, (program,), {"lm": lm, "versions": self.folder / "v"}, name="program:shop"),
            ChildSpec("jobs", Evaluations, ("shop", self.folder / "e", specs), options, name="evaluations:shop"),
        ]
        self.supervisor = await self.runtime.spawn(Supervisor, children, max_restarts=100)
        better = program()
        better.demos = EXAMPLES[:2]
        await self.runtime.name("program:shop").call(AddVersion(better.dump_state()))
        return self

    async def start(self, **order: Any) -> dict[str, Any]:
        """Order an evaluation."""
        made = await self.client.post(PATH, json=order)
        assert made.status_code == 202, made.text
        found: dict[str, Any] = made.json()
        return found

    async def until(self, job: dict[str, Any], *states: str) -> dict[str, Any]:
        """Wait until a job is in one of these states."""
        while job["state"] not in states:
            told = {"prefer": "wait=30", "if-none-match": f'"{job["number"]}"'}
            found = await self.client.get(job["url"], headers=told)
            job = job if found.status_code == 304 else found.json()
            assert job["state"] not in FINAL - {*states}, (job["state"], job["why"])
        return job

    async def move(self, job: dict[str, Any], **body: Any) -> httpx.Response:
        """Move a job."""
        return await self.client.put(f"{job['url']}/state", json=body, headers={"if-match": "*"})

    async def result(self, job: dict[str, Any]) -> Any:
        """Return what was found."""
        return (await self.client.get(f"{job['url']}/result")).json()

    def kill(self) -> None:
        """Kill the owner of the evaluations."""
        owner = self.runtime.whereis("evaluations:shop")
        assert owner is not None
        owner.kill()


@pytest.fixture
async def shop(runtime: Runtime, tmp_path: Path) -> AsyncIterator[Shop]:
    """A shop that is not open yet."""
    write(tmp_path)
    headers = {"authorization": f"Bearer {TOKEN}"}
    app = application(runtime, versions=True, access=Access(token=TOKEN, protect="changes"))
    transport = DocumentedTransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield Shop(runtime, tmp_path, client)


async def test_a_version_is_evaluated_and_compared_with_another(shop: Shop) -> None:
    """The job tells how far it is; the result is that of the library, with the comparison."""
    await shop.open()
    job = await shop.until(await shop.start(version=1, against=0), "succeeded")
    assert (job["progress"]["evaluating"], job["progress"]["done"], job["progress"]["total"]) == (1, 24, 24)
    assert (job["calls"], job["version"], job["order"]["against"]) == (48, None, 0)
    assert 0 < job["spent"] < 0.1
    found = await shop.result(job)
    scores = [found[which]["score"] for which in ("against", "evaluation")]
    assert scores == [sum(row["score"] for row in found[which]["examples"]) / 24 for which in ("against", "evaluation")]
    assert found["comparison"]["verdict"] in {"better", "worse", "not shown"}
    events = (await shop.client.get(f"{job['url']}/events")).text
    assert events.endswith("event: end\ndata: {}\n\n")
    assert (await shop.client.delete(job["url"])).status_code == 204
    assert not list((shop.folder / "e").glob("*/result.json"))


async def test_progress_is_told_now_and_then_however_many_examples_there_are(shop: Shop) -> None:
    await shop.open(repetitions=5)
    job = await shop.until(await shop.start(), "succeeded")
    assert (job["progress"]["done"], job["progress"]["total"], job["calls"]) == (120, 120, 120)
    assert 50 <= job["number"] <= 70


async def test_the_model_that_serves_is_the_one_that_is_measured(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of the environment; unless the specification, or the owner, names one. The job says which one it is."""
    monkeypatch.setenv("DSPEX_LM", "openai/another")
    engine = ScriptedEngine(LABELS)
    lm = held_lm(engine)
    specs = {"nightly": SPEC}
    children = [
        ChildSpec(
            "jobs", Evaluations, ("shop", shop.folder / "e", specs), {"data": shop.folder}, name="evaluations:shop"
        ),
        ChildSpec("shop", ProgramActor, (program,), {"lm": lm}, name="program:shop"),
    ]
    await shop.runtime.spawn(Supervisor, children)
    job = await shop.until(await shop.start(), "succeeded")
    assert (engine.calls, job["calls"], job["progress"]["model"]) == (24, 24, lm.model)
    assert (await job_settings(shop.runtime, "shop", None))["lm"] is lm
    assert (await job_settings(shop.runtime, "shop", "openai/named"))["lm"].model == "openai/named"
    assert (await job_settings(shop.runtime, "nobody", None))["lm"].model == "openai/another"


async def test_a_program_whose_predictors_have_their_models_is_measured_with_these(shop: Shop) -> None:
    specs = {"nightly": SPEC}
    children = [
        ChildSpec("shop", ProgramActor, ("tests.dspex.optimise.shop:owner",), name="program:shop"),
        ChildSpec(
            "jobs", Evaluations, ("shop", shop.folder / "e", specs), {"data": shop.folder}, name="evaluations:shop"
        ),
    ]
    await shop.runtime.spawn(Supervisor, children)
    job = await shop.until(await shop.start(), "succeeded")
    assert (job["calls"], job["progress"]["model"]) == (24, "")


async def test_without_a_version_it_is_the_one_that_serves_when_it_is_ordered(shop: Shop) -> None:
    engine = Held(3)
    await shop.open(engine)
    job = await shop.start()
    assert job["order"]["version"] == 0
    await shop.client.put("/programs/shop/versions/current", json={"number": 1})
    engine.open.set()
    await shop.until(job, "succeeded")
    assert (await shop.result(job))["version"] == 0
    later = await shop.until(await shop.start(), "succeeded")
    assert (await shop.result(later))["version"] == 1


async def test_whoever_is_killed_goes_on_and_asks_nothing_twice(shop: Shop) -> None:
    """Nothing but what was on its way; the result is that of an undisturbed evaluation."""
    engine = Held(30)
    await shop.open(engine)
    job = await shop.start(version=1, against=0)
    assert await asyncio.to_thread(engine.reached.wait, 30)
    shop.kill()
    engine.open.set()
    job = await shop.until(job, "succeeded")
    assert engine.calls <= 48 + SPEC["num_threads"]
    again = await shop.until(await shop.start(version=1, against=0), "succeeded")
    first, second = await shop.result(job), await shop.result(again)
    for found in (first, second):
        for which in ("evaluation", "against"):
            del found[which]["run"]
    assert first == second


async def test_a_process_that_is_next_goes_on_with_what_ran_and_leaves_what_was_paused(
    shop: Shop, tmp_path: Path
) -> None:
    engine = Held(10)
    await shop.open(engine)
    paused, running = await shop.start(), await shop.start(version=1)
    assert await asyncio.to_thread(engine.reached.wait, 30)
    assert (await shop.move(paused, state="paused")).json()["state"] == "paused"
    engine.open.set()
    await shop.until(running, "succeeded")
    asked = engine.calls
    async with Runtime(reports=False) as runtime:
        headers = {"authorization": f"Bearer {TOKEN}"}
        app = application(runtime, versions=True, access=Access(token=TOKEN, protect="changes"))
        transport = httpx.ASGITransport(app)
        await shop.supervisor.stop()
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            later = Shop(runtime, tmp_path, client)
            await later.open(engine)
            assert (await client.get(paused["url"])).json()["state"] == "paused"
            assert (await client.get(running["url"])).json()["state"] == "succeeded"
            assert (await later.move(paused, state="running")).status_code == 200
            await later.until((await client.get(paused["url"])).json(), "succeeded")
            assert engine.calls <= asked + 24


async def test_a_budget_in_calls_or_dollars_is_not_passed_and_more_goes_on(shop: Shop, runtime: Runtime) -> None:
    """What was paid for is not paid for again."""
    told: list[BudgetReached] = []
    runtime.subscribe(told.append, BudgetReached)
    engine = ScriptedEngine(LABELS)
    await shop.open(engine, max_calls=100, budget=1.0)
    job = await shop.until(await shop.start(max_calls=10), "over_budget")
    assert (job["why"], job["calls"], engine.calls) == ("10 of 10 calls are made", 10, 10)
    assert (told[0].kind, told[0].calls, told[0].max_calls) == ("evaluations", 10, 10)
    for body in ({"state": "running"}, {"state": "running", "max_calls": 10}, {"state": "running", "budget": 2.0}):
        assert (await shop.move(job, **body)).status_code == 409
    assert (await shop.move(job, state="running", max_calls=50)).status_code == 200
    job = await shop.until(job, "succeeded")
    assert (job["calls"], engine.calls) == (24, 24)
    dear = await shop.until(await shop.start(budget=0.005), "over_budget")
    assert 0 < dear["spent"] <= 0.005
    assert (await shop.move(dear, state="running", budget=0.5)).status_code == 200
    await shop.until(dear, "succeeded")
    assert engine.calls == 48


async def test_orders_that_make_no_sense_are_refused_and_the_devset_stays_in_its_folder(shop: Shop) -> None:
    await shop.open(budget=1.0, max_calls=100)
    (shop.folder / "data").mkdir()
    (shop.folder / "link.csv").symlink_to("/etc/passwd")
    (shop.folder / "other.csv").write_text("text,label\n" + "".join(f"{text},x\n" for text in list(LABELS)[:3]))
    for order, why in (
        ({"version": 9}, "there is no version 9; there are 0, 1"),
        ({"version": True}, "give the number of a version"),
        ({"version": -1}, "give the number of a version"),
        ({"against": 0}, "give another version"),
        ({"devset": "../secret.csv"}, "leads out of the folder"),
        ({"devset": "/etc/passwd"}, "leads out of the folder"),
        ({"devset": "link.csv"}, "leads out of the folder"),
        ({"devset": "a\0b"}, "give the path of a file"),
        ({"devset": 7}, "give the path of a file"),
        ({"budget": 2.0}, "give at most 1"),
        ({"budget": "all"}, "give dollars"),
        ({"max_calls": 1000}, "give at most 100"),
        ({"max_calls": 1.5}, "whole number"),
        ({"spec": "other"}, "choose one of nightly"),
        ({"seed": 1}, "an order has spec, version, against, devset, budget, max_calls"),
    ):
        refused = await shop.client.post(PATH, json=order)
        assert (refused.status_code, why in refused.text) == (422, True), (order, refused.text)
    job = await shop.until(await shop.start(devset="other.csv"), "failed", "succeeded")
    assert "none of 3 examples has a score" not in job["why"]
    job = await shop.until(await shop.start(devset="data"), "failed")
    assert "its name has to end in" in job["why"]
    job = await shop.until(await shop.start(devset="nowhere.csv"), "failed")
    assert "cannot be read" in job["why"]


async def test_a_model_that_is_away_suspends_and_one_that_refuses_fails(shop: Shop, runtime: Runtime) -> None:
    moves: list[tuple[str, str]] = []
    whys: list[str] = []
    runtime.subscribe(lambda event: moves.append((event.before, event.state)), JobMoved)
    runtime.subscribe(lambda event: whys.append(event.why), JobMoved)

    def refuse(call: int) -> None:
        if call == 40:
            raise lm15.AuthError("wrong key")

    await shop.open(ScriptedEngine(LABELS, outage=Outage(10, 11), before=refuse))
    await shop.until(await shop.start(), "succeeded")
    # Of two calls on their way, the second may fail when the first is back.
    assert moves[2:4] == [("running", "suspended"), ("suspended", "running")]
    assert moves[-1] == ("running", "succeeded")
    assert whys[2] == ("the language model known/model is away: TransportError: call 10: the model is gone")
    job = await shop.until(await shop.start(), "failed")
    assert job["why"] == (
        "the language model known/model is not to be had: AuthError: wrong key; mend that, and resume the job"
    )
    assert moves[-1] == ("running", "failed")


async def test_a_job_that_a_wrong_key_ended_goes_on_once_the_key_is_mended(shop: Shop, runtime: Runtime) -> None:
    """Over HTTP, by being resumed: nothing that was answered is asked again, and no refused call is paid for."""
    whys: list[tuple[str, str]] = []
    runtime.subscribe(lambda event: whys.append((event.state, event.why)), JobMoved)
    wrong = True

    def refuse(call: int) -> None:
        if call > 10 and wrong:
            raise lm15.AuthError("Incorrect API key provided: sk-abcdef123", status=401)

    engine = ScriptedEngine(LABELS, before=refuse)
    await shop.open(engine)
    job = await shop.until(await shop.start(), "failed")
    why = "the language model known/model is not to be had: HTTP 401, AuthError: Incorrect API key provided: ***"
    assert why in job["why"]
    assert "sk-abc" not in (await shop.client.get(f"{job['url']}/events")).text
    assert job["calls"] == 10
    tried = engine.calls
    assert (await shop.move(job, state="running")).json()["state"] == "running"
    job = await shop.until(await shop.until(job, "running"), "failed")
    assert job["calls"] == 10
    assert 0 < engine.calls - tried <= SPEC["num_threads"]
    tried, wrong = engine.calls, False
    assert (await shop.move(job, state="running")).status_code == 200
    job = await shop.until((await shop.client.get(job["url"])).json(), "succeeded")
    assert (job["calls"], engine.calls - tried) == (24, 14)
    assert [state for state, _ in whys] == ["queued", "running", *["failed", "queued", "running"] * 2, "succeeded"]


async def test_a_job_whose_order_made_no_sense_goes_on_once_the_file_is_there(shop: Shop) -> None:
    await shop.open()
    devset = (shop.folder / "train.csv").rename(shop.folder / "away.csv")
    job = await shop.until(await shop.start(), "failed")
    devset.rename(shop.folder / "train.csv")
    assert (await shop.move(job, state="running")).status_code == 200
    await shop.until((await shop.client.get(job["url"])).json(), "succeeded")


class Shut(Held):
    """A language model that waits before each call from one on, until the test lets it go on."""

    def _wait(self, call: int) -> None:
        super()._wait(min(call, self._at))


class Disk:
    """The disk of the jobs, which can be full, but for what they spend and how far they are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: StorageError | None = None
        self.left = 0
        write = SqliteStorage.write

        async def written(storage: SqliteStorage, key: str, *args: Any, **kwargs: Any) -> None:
            entries = kwargs.get("entries", ())
            passes = entries and all(b'"spent"' in data for _, data in entries)
            if key == "jobs" and self.error is not None and not passes:
                if self.left == 0:
                    raise self.error
                self.left -= 1
            await write(storage, key, *args, **kwargs)

        monkeypatch.setattr(SqliteStorage, "write", written)

    def fill(self, left: int = 0) -> None:
        """Let so many more writings pass, and then none."""
        self.error, self.left = StorageError("database or disk is full"), left


async def test_an_order_that_cannot_be_kept_is_refused_and_the_owner_lives_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    await shop.open()
    owner = shop.runtime.whereis("evaluations:shop")
    disk.fill()
    for headers in ({}, {"idempotency-key": "a"}):
        refused = await shop.client.post(PATH, json={}, headers=headers)
        assert (refused.status_code, refused.json()["type"].rpartition("#")[2]) == (503, "not-kept")
        assert "nothing was changed, as it cannot be kept: database or disk is full" in refused.json()["detail"]
    assert (await shop.client.get(PATH)).json() == {"jobs": []}
    disk.fill(1)  # the order is kept, and no more: it is taken, and begun with the next one
    taken = await shop.start()
    assert taken["state"] == "queued"
    disk.error = None
    second = await shop.start()
    await shop.until(taken, "succeeded")
    await shop.until(second, "succeeded")
    disk.fill()
    assert (await shop.client.delete(taken["url"])).status_code == 503
    assert shop.runtime.whereis("evaluations:shop") is owner


async def test_a_move_that_cannot_be_kept_is_refused_and_the_work_goes_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, engine = Disk(monkeypatch), Shut(3)
    await shop.open(engine)
    owner = shop.runtime.whereis("evaluations:shop")
    job = await shop.start()
    assert await asyncio.to_thread(engine.reached.wait, 60)
    disk.fill()
    assert (await shop.move(job, state="paused")).status_code == 503
    assert (await shop.client.get(job["url"])).json()["state"] == "running"
    disk.fill(1)  # it is being stopped, and that it was is not kept
    assert (await shop.move(job, state="cancelled")).status_code == 503
    assert (await shop.client.get(job["url"])).json()["state"] == "stopping"
    engine.open.set()
    disk.error = None
    assert (await shop.move(job, state="cancelled")).json()["state"] == "cancelled"
    assert shop.runtime.whereis("evaluations:shop") is owner


async def test_an_end_that_cannot_be_kept_is_kept_later_by_going_on(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, engine = Disk(monkeypatch), Held(3)
    await shop.open(engine)
    owner = shop.runtime.whereis("evaluations:shop")
    assert owner is not None
    job = await shop.start()
    assert await asyncio.to_thread(engine.reached.wait, 60)
    (worker,) = [ref for ref in shop.runtime.actors() if ref.path.endswith(job["id"])]
    disk.fill()
    engine.open.set()
    await worker.join()
    assert (await shop.client.get(job["url"])).json()["state"] == "running"
    disk.error = None
    second = await shop.start()
    assert (await shop.until(second, "succeeded", "failed"))["state"] == "succeeded"
    first = (await shop.client.get(job["url"])).json()
    assert (first["state"], first["calls"]) == ("succeeded", 24)
    assert shop.runtime.whereis("evaluations:shop") is owner


async def test_if_nobody_knows_whether_it_is_kept_the_owner_reads_it_anew(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    await shop.open()
    owner = shop.runtime.whereis("evaluations:shop")
    disk.error = OutcomeUnknown("disk I/O error")
    with pytest.raises(CallError, match="disk I/O error"):
        await shop.runtime.name("evaluations:shop").call(StartJob({}))
    disk.error = None
    await shop.until(await shop.start(), "succeeded")
    assert shop.runtime.whereis("evaluations:shop") is not owner


async def test_a_program_that_is_not_there_is_said(shop: Shop) -> None:
    options = {"data": shop.folder, "lm": scripted_lm(ScriptedEngine(LABELS))}
    jobs = ChildSpec("jobs", Evaluations, ("shop", shop.folder / "e", {"a": SPEC}), options, name="evaluations:shop")
    await shop.runtime.spawn(Supervisor, [jobs])
    refused = await shop.client.post(PATH, json={})
    assert (refused.status_code, "does not say which versions" in refused.json()["detail"]) == (503, True)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"metric": "dspex.testing.engine:nothing"}, "write package.module:name"),
        ({"metric": "dspex.evaluate.spec:_NUMBER"}, "write package.module:name"),
        ({"metric": "dspex.evaluate.actor:_LIST"}, "give a function, not float"),
        ({"budget": -1}, "give dollars"),
        ({"num_threads": 0}, "num_threads"),
        ({"min_coverage": -1}, "min_coverage"),
        ({"metric_timeout": 0.0}, "metric_timeout = 0.0: give a finite number above 0"),
        ({"price": {"input": float("nan"), "output": 1.0}}, "price.input = nan: give a finite number from 0"),
        ({"price": {"input": 1.0, "output": -1.0}}, "price.output = -1.0: give a finite number from 0"),
        ({"devset": {}}, "path"),
        ({"program": "x"}, "program"),
    ],
)
def test_a_specification_that_is_wrong_is_named(spec: dict[str, Any], why: str) -> None:
    with pytest.raises(BadSpec, match=why):
        EvaluationJobSpec.of("specs.a", {**SPEC, **spec})


async def test_a_specification_that_is_wrong_keeps_its_owner_from_starting(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="BadSpec"):
        await runtime.spawn(Evaluations, "shop", tmp_path, {"a": {**SPEC, "num_threads": 0}})


async def test_a_version_can_be_had_and_is_a_copy(runtime: Runtime) -> None:
    """Whoever changes it changes nothing that serves."""
    await runtime.spawn(ProgramActor, program, lm=scripted_lm(ScriptedEngine(LABELS)), name="program:shop")
    name = runtime.name("program:shop")
    found = await name.call(GetVersion())
    found.demos = [dspy.Example(text="x", label="y")]
    assert (await name.call(GetVersion(0))).demos == []
    with pytest.raises(BadVersion):
        await name.call(GetVersion(3))
    assert json.loads(json.dumps(found.dump_state()))["demos"]
