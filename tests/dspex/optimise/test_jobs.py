"""Optimisations as jobs: their states, money, restarts, and what the HTTP server says of them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import dspy
import httpx
import pytest

from dspex import BudgetReached, JobMoved
from dspex._compat import lm15
from dspex.agents.background import PROGRAM_AGENTS
from dspex.optimise.spec import BadOptimisationSpec, OptimisationSpec
from dspex.teleprompt import SIMBA
from dspex.testing.engine import Outage, ScriptedEngine, exact, scripted_lm
from foundation.jobs import GetJob, GetJobEvents, GetJobResult, JobError, ListJobs, MoveJob
from supervision import Actor, ChildSpec, ExitReason, Ref, Runtime
from supervision.supervisors.administration import StartChild
from tests.dspex.optimise.conftest import NAME, Jobs
from tests.dspex.optimise.shop import EXAMPLES, LABELS, SPEC, Held, program

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.timeout(120)]

PATH = "/programs/shop/optimisations"


async def undisturbed() -> tuple[Any, int]:
    """The program that the optimiser makes without a job around it, and what it asks."""
    engine = ScriptedEngine(LABELS)
    with dspy.context(lm=scripted_lm(engine)):
        optimiser = SIMBA(metric=exact, display_progress=False, **SPEC["options"])
        found = await optimiser.acompile(program(), trainset=EXAMPLES)
    return found.dump_state(), engine.calls


def kill(runtime: Runtime) -> None:
    """Kill the owner of the jobs."""
    owner = runtime.whereis(NAME)
    assert owner is not None
    owner.kill()


@pytest.fixture
def moves(runtime: Runtime) -> list[tuple[str, str]]:
    """From which state to which jobs have moved."""
    found: list[tuple[str, str]] = []
    runtime.subscribe(lambda event: found.append((event.before, event.state)), JobMoved)
    return found


async def test_a_job_makes_the_program_that_the_optimiser_makes(
    jobs: Jobs, runtime: Runtime, moves: list[tuple[str, str]]
) -> None:
    """And tells how far it is, and what it has spent."""
    await jobs.begin()
    job = await jobs.until((await jobs.start()).id)
    assert job.state == "succeeded"
    assert moves == [("", "queued"), ("queued", "running"), ("running", "succeeded")]
    state, calls = await undisturbed()
    made = await jobs.ask(GetJobResult(job.id))
    made.pop("metadata")
    assert made == json.loads(json.dumps(state))
    assert (job.progress["best"], job.progress["calls"]) == (max(0.0, job.progress["best"]), job.progress["calls"])
    assert 0 < job.progress["calls"] <= calls
    assert 0 < job.spent < 0.1
    assert [event.number for event in await jobs.ask(GetJobEvents(job.id))] == list(range(1, job.number + 1))


# -- E062, E063, E065 ------------------------------------------------------------------------------------------


async def test_E062_the_same_request_makes_one_job_also_after_a_restart(
    jobs: Jobs, client: httpx.AsyncClient, runtime: Runtime
) -> None:
    """202 with the same place to look; another body with its key is a 422."""
    engine = Held(3)
    await jobs.begin(engine)
    key = {"idempotency-key": "mine"}
    first = await client.post(PATH, json={"seed": 1}, headers=key)
    assert (first.status_code, first.headers["retry-after"]) == (202, "5")
    kill(runtime)
    engine.open.set()
    again = await client.post(PATH, json={"seed": 1}, headers=key)
    assert (again.status_code, again.headers["location"]) == (202, first.headers["location"])
    other = await client.post(PATH, json={"seed": 2}, headers=key)
    assert (other.status_code, other.json()["type"]) == (422, "about:blank#key-reused")
    assert len((await client.get(PATH)).json()["jobs"]) == 1
    assert (await client.post(PATH, json={"seed": 1}, headers={"idempotency-key": "other"})).status_code == 202
    assert len((await client.get(PATH)).json()["jobs"]) == 2


async def test_E063_what_was_running_goes_on_by_itself_and_what_was_paused_stays(
    jobs: Jobs, client: httpx.AsyncClient, runtime: Runtime
) -> None:
    """The program is that of an undisturbed run, and nothing is paid for twice but what was on its way."""
    expected, calls = await undisturbed()
    engine = Held(40)
    await jobs.begin(engine)
    job = await jobs.start()
    assert await asyncio.to_thread(engine.reached.wait, 60)
    kill(runtime)
    engine.open.set()
    found = await client.get(f"{PATH}/{job.id}")
    assert (found.status_code, found.json()["state"]) == (200, "running")
    assert (await jobs.until(job.id)).state == "succeeded"
    made = await jobs.ask(GetJobResult(job.id))
    made.pop("metadata")
    assert made == json.loads(json.dumps(expected))
    assert engine.calls <= calls + SPEC["options"]["num_threads"]


async def test_E063_paused_before_it_stays_paused(jobs: Jobs, runtime: Runtime) -> None:
    engine = Held(10)
    await jobs.begin(engine)
    job = await jobs.start()
    assert await asyncio.to_thread(engine.reached.wait, 60)
    paused = asyncio.ensure_future(jobs.ask(MoveJob(job.id, "paused")))
    engine.open.set()
    assert (await paused).state == "paused"
    kill(runtime)
    calls = engine.calls
    assert (await jobs.ask(GetJob(job.id))).state == "paused"
    assert engine.calls == calls
    assert (await jobs.ask(MoveJob(job.id, "running"))).state == "running"
    assert (await jobs.until(job.id)).state == "succeeded"


async def test_E065_an_unchanged_job_is_a_304_and_a_change_can_be_waited_for(
    jobs: Jobs, client: httpx.AsyncClient
) -> None:
    """A wait ends at the change, and at its time."""
    engine = Held(10)
    await jobs.begin(engine)
    url = (await client.post(PATH, json={})).headers["location"]
    assert await asyncio.to_thread(engine.reached.wait, 60)
    found = await client.get(url)
    same = await client.get(url, headers={"if-none-match": found.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    headers = {"if-none-match": found.headers["etag"], "prefer": "respond-async, wait=30"}
    waiting = asyncio.ensure_future(client.get(url, headers=headers))
    engine.open.set()
    changed = await waiting
    assert changed.status_code == 200
    assert changed.headers["etag"] != found.headers["etag"]
    over = await client.get(url, headers={"prefer": "wait=30"})
    while over.json()["state"] == "running":
        over = await client.get(url, headers={"prefer": "wait=30"})
    assert over.json()["state"] == "succeeded"
    result = await client.get(over.json()["result"])
    assert result.json()["signature"]["fields"]
    assert (await client.get(url, headers={"if-none-match": '"of somebody else"'})).status_code == 200


async def read(client: httpx.AsyncClient, url: str, after: int | None = None) -> list[tuple[str, str]]:
    """The events of a stream, up to its end: their ids and kinds."""
    headers = {} if after is None else {"last-event-id": str(after)}
    text = (await client.get(url, headers=headers)).text
    parts = [dict(line.split(": ", 1) for line in block.split("\n") if ": " in line) for block in text.split("\n\n")]
    return [(part.get("id", ""), part["event"]) for part in parts if "event" in part]


async def test_E065_a_stream_of_events_goes_on_after_the_last_one_that_was_seen(
    jobs: Jobs, client: httpx.AsyncClient
) -> None:
    """None is seen twice, and the last one says that it is over."""
    await jobs.begin()
    url = (await client.post(PATH, json={})).headers["location"] + "/events"
    whole = await read(client, url)
    assert [id for id, _ in whole[:-1]] == [str(number) for number in range(1, len(whole))]
    assert whole[-1] == ("", "end")
    assert {kind for _, kind in whole} == {"moved", "progress", "end"}
    assert await read(client, url, 7) == whole[7:]
    assert await read(client, url, 10**6) == [("", "end")]


# -- states ----------------------------------------------------------------------------------------------------


async def test_one_runs_and_the_next_waits_for_it(jobs: Jobs, moves: list[tuple[str, str]]) -> None:
    engine = Held(5)
    await jobs.begin(engine)
    first, second = await jobs.start(), await jobs.start(seed=1)
    assert (first.state, second.state) == ("running", "queued")
    engine.open.set()
    assert (await jobs.until(second.id)).state == "succeeded"
    assert (await jobs.ask(GetJob(first.id))).state == "succeeded"
    assert [job.id for job in await jobs.ask(ListJobs())] == [second.id, first.id]
    assert [job.id for job in await jobs.ask(ListJobs(before=second.id))] == [first.id]
    assert await jobs.ask(ListJobs(before="nobody")) == []


async def test_a_job_is_cancelled_and_forgotten(jobs: Jobs, client: httpx.AsyncClient) -> None:
    """While it runs, and while it waits; what was kept of it is gone then."""
    engine = Held(5)
    await jobs.begin(engine)
    first, second = await jobs.start("key"), await jobs.start(seed=1)
    assert (await client.delete(f"{PATH}/{second.id}")).status_code == 409
    assert (await jobs.ask(MoveJob(second.id, "cancelled"))).state == "cancelled"
    cancelled = asyncio.ensure_future(jobs.ask(MoveJob(first.id, "cancelled")))
    engine.open.set()
    assert (await cancelled).state == "cancelled"
    assert [event.data["state"] for event in await jobs.ask(GetJobEvents(first.id)) if event.kind == "moved"] == [
        "queued",
        "running",
        "stopping",
        "cancelled",
    ]
    assert (await client.delete(f"{PATH}/{first.id}")).status_code == 204
    assert not (jobs.folder / "jobs" / first.id).exists()
    assert (await client.get(f"{PATH}/{first.id}")).status_code == 404
    assert [job.id for job in await jobs.ask(ListJobs())] == [second.id]
    assert (await jobs.start("key")).id != first.id


async def test_a_job_that_was_being_stopped_is_cancelled_at_the_next_start(jobs: Jobs, runtime: Runtime) -> None:
    """A state in between is left behind by nobody."""
    engine = Held(5)
    await jobs.begin(engine)
    job = await jobs.start()
    assert await asyncio.to_thread(engine.reached.wait, 60)
    stopping = asyncio.ensure_future(jobs.ask(MoveJob(job.id, "cancelled")))
    while (await asyncio.to_thread(_state, jobs.folder)) != "stopping":
        await runtime.sleep(0)
    kill(runtime)
    engine.open.set()
    await asyncio.wait([stopping])
    stopping.exception()
    assert (await jobs.until(job.id)).state == "cancelled"


def _state(folder: Path) -> str:
    """The last state in the journal."""
    data = (folder / "jobs" / "jobs.sqlite-wal").read_bytes() if (folder / "jobs" / "jobs.sqlite-wal").exists() else b""
    return "stopping" if b"stopping" in data else ""


@pytest.mark.parametrize(
    ("state", "body", "status", "word"),
    [
        ("succeeded", {"state": "paused"}, 409, "bad-move"),
        ("succeeded", {"state": "running"}, 409, "bad-move"),
        ("succeeded", {"state": "flying"}, 409, "bad-move"),
    ],
)
async def test_what_cannot_become_of_a_job_is_a_409(
    jobs: Jobs, client: httpx.AsyncClient, state: str, body: dict[str, Any], status: int, word: str
) -> None:
    await jobs.begin()
    job = await jobs.until((await jobs.start()).id)
    assert job.state == state
    response = await client.put(f"{PATH}/{job.id}/state", json=body, headers={"if-match": "*"})
    assert (response.status_code, response.json()["type"]) == (status, f"about:blank#{word}")
    assert response.json()["state"] == state


async def test_who_moves_a_job_has_to_have_seen_it(jobs: Jobs, client: httpx.AsyncClient) -> None:
    """Without `If-Match` a 428, with an old one a 412; nothing changes."""
    engine = Held(5)
    await jobs.begin(engine)
    url = (await client.post(PATH, json={})).headers["location"]
    assert (await client.put(f"{url}/state", json={"state": "paused"})).status_code == 428
    stale = await client.put(f"{url}/state", json={"state": "paused"}, headers={"if-match": '"0"'})
    assert (stale.status_code, (await client.get(url)).json()["state"]) == (412, "running")
    engine.open.set()
    now = await client.get(url)
    while now.json()["state"] == "running":
        moved = await client.put(f"{url}/state", json={"state": "paused"}, headers={"if-match": now.headers["etag"]})
        assert moved.status_code in (200, 409, 412)
        now = await client.get(url)
    assert now.json()["state"] in ("paused", "succeeded")


async def test_without_the_token_or_the_setting_there_are_no_jobs(jobs: Jobs, client: httpx.AsyncClient) -> None:
    await jobs.begin()
    assert (await client.get(PATH, headers={"authorization": ""})).status_code == 401
    missing = await client.get("/programs/other/optimisations")
    assert (missing.status_code, missing.json()["type"]) == (404, "about:blank#no-optimisations")


ORDERS: list[dict[str, Any]] = [
    {"spec": "big"},
    {"spec": 5},
    {"seed": -1},
    {"seed": True},
    {"seed": 2**40},
    {"budget": -1},
    {"program": "os:system"},
]


@pytest.mark.parametrize("order", ORDERS)
async def test_an_order_that_cannot_be_had_is_a_422(jobs: Jobs, client: httpx.AsyncClient, order: Any) -> None:
    """Nothing is named over HTTP but what the tree declares."""
    await jobs.begin()
    response = await client.post(PATH, json=order)
    assert (response.status_code, response.json()["type"]) == (422, "about:blank#bad-order")
    assert (await client.get(PATH)).json() == {"jobs": []}


async def test_bad_parameters_are_named(jobs: Jobs, client: httpx.AsyncClient) -> None:
    await jobs.begin()
    job = await jobs.start()
    for response in (
        await client.get(PATH, params={"limit": "0"}),
        await client.get(f"{PATH}/{job.id}/events", headers={"last-event-id": "x"}),
        await client.post(PATH, json={}, headers={"idempotency-key": "k" * 300}),
    ):
        assert (response.status_code, response.json()["type"]) == (422, "about:blank#bad-parameter")
    page = (await client.get(PATH, params={"limit": "1"})).json()
    assert (await client.get(page["next"])).json() == {"jobs": []}
    assert (await client.get(f"{PATH}/{job.id}/result")).status_code == 409
    await jobs.until(job.id)


# -- the model is away, the work is wrong, the worker dies -----------------------------------------------------


async def test_while_the_model_is_away_the_job_is_suspended_and_goes_on_by_itself(
    jobs: Jobs, runtime: Runtime, moves: list[tuple[str, str]]
) -> None:
    expected, _ = await undisturbed()
    await jobs.begin(ScriptedEngine(LABELS, outage=Outage(20, 21)))
    job = await jobs.until((await jobs.start()).id)
    assert job.state == "succeeded"
    assert moves[2:4] == [("running", "suspended"), ("suspended", "running")]
    assert moves[-1] == ("running", "succeeded")
    made = await jobs.ask(GetJobResult(job.id))
    assert {name: made[name] for name in expected} == json.loads(json.dumps(expected))


async def test_a_model_that_is_refused_fails_the_job_at_once(jobs: Jobs, moves: list[tuple[str, str]]) -> None:
    """It is not told as one that is away, which somebody might wait for."""

    def refuse(call: int) -> None:
        if call == 20:
            raise lm15.AuthError("wrong key")

    await jobs.begin(ScriptedEngine(LABELS, before=refuse))
    job = await jobs.until((await jobs.start()).id)
    assert job.why == (
        "the language model known/model is not to be had: AuthError: wrong key; mend that, and resume the job"
    )
    assert moves == [("", "queued"), ("queued", "running"), ("running", "failed")]
    await jobs.ask(MoveJob(job.id, "running"))
    job = await jobs.until(job.id)
    assert job.state == "succeeded"
    expected, _ = await undisturbed()
    assert json.loads(json.dumps(expected)).items() <= (await jobs.ask(GetJobResult(job.id))).items()


async def test_a_job_whose_actor_is_killed_goes_on(jobs: Jobs, runtime: Runtime, moves: list[tuple[str, str]]) -> None:
    """Its supervisor starts it again; nobody notices."""
    engine = Held(30)
    await jobs.begin(engine)
    job = await jobs.start()
    assert await asyncio.to_thread(engine.reached.wait, 60)
    (worker,) = [ref for ref in runtime.actors() if ref.path.endswith(job.id)]
    worker.kill()
    engine.open.set()
    assert (await jobs.until(job.id)).state == "succeeded"
    assert ("running", "failed") not in moves


async def test_agents_of_the_owner_that_was_killed_are_waited_for(
    jobs: Jobs, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They end with it, which may take a while; who takes them for those of the tree would be left without."""
    waited, end = asyncio.Event(), asyncio.Event()

    class Slow(Actor):
        """Ends when it may."""

        trap_exit = True

        async def terminate(self, reason: object) -> None:
            """Wait for that."""
            await end.wait()

    await jobs.begin()
    await jobs.ask(ListJobs())
    agents = runtime.whereis(PROGRAM_AGENTS)
    assert agents is not None
    await agents.call(StartChild(ChildSpec("slow", Slow, shutdown=60.0)))
    join = type(agents).join

    async def watched(ref: Ref) -> ExitReason:
        """Tell that somebody waits."""
        if ref is agents:
            waited.set()
        return await join(ref)

    monkeypatch.setattr(type(agents), "join", watched)
    kill(runtime)
    await asyncio.wait_for(waited.wait(), 60)
    end.set()
    assert (await jobs.until((await jobs.start()).id)).state == "succeeded"
    assert runtime.whereis(PROGRAM_AGENTS) not in {agents, None}


async def test_what_goes_wrong_for_good_fails_the_job_with_the_reason(jobs: Jobs) -> None:
    """And the next one has its turn."""
    await jobs.begin(trainset={"path": "nowhere.csv", "inputs": ["text"]})
    job = await jobs.until((await jobs.start()).id)
    assert (job.state, "nowhere.csv" in job.why) == ("failed", True)
    with pytest.raises(JobError):
        await jobs.ask(GetJobResult(job.id))


# -- money -----------------------------------------------------------------------------------------------------


async def test_a_budget_is_never_passed_and_more_money_goes_on(jobs: Jobs, runtime: Runtime) -> None:
    """What a call may cost at most is reserved before it; what was paid for is not paid for again."""
    told: list[BudgetReached] = []
    runtime.subscribe(told.append, BudgetReached)
    engine = ScriptedEngine(LABELS)
    await jobs.begin(engine, budget=1.0)
    job = await jobs.until((await jobs.start(budget=0.01)).id)
    assert job.state == "over_budget"
    assert 0 < job.spent <= 0.01
    assert [(event.job, event.budget, event.spent) for event in told] == [(job.id, 0.01, job.spent)]
    calls = engine.calls
    for budget in (None, 0.001):
        with pytest.raises(JobError, match="give a budget above that"):
            await jobs.ask(MoveJob(job.id, "running", budget=budget))
    await jobs.ask(MoveJob(job.id, "running", budget=1.0))
    job = await jobs.until(job.id)
    expected, whole = await undisturbed()
    assert job.state == "succeeded"
    assert engine.calls <= whole + SPEC["options"]["num_threads"]
    assert calls < engine.calls
    assert json.loads(json.dumps(expected)).items() <= (await jobs.ask(GetJobResult(job.id))).items()


async def test_nobody_orders_more_than_the_tree_allows(jobs: Jobs, client: httpx.AsyncClient) -> None:
    await jobs.begin(budget=0.5)
    assert (await client.post(PATH, json={"budget": 0.6})).status_code == 422
    assert (await client.post(PATH, json={"budget": 0.4})).json()["budget"] == 0.4


async def test_a_budget_without_a_price_says_nothing_and_is_refused(jobs: Jobs) -> None:
    await jobs.begin(budget=0.5, price=None)
    job = await jobs.until((await jobs.start()).id)
    assert (job.state, "price" in job.why) == ("failed", True)


# -- specifications --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"program": "no:where"}, "program"),
        ({"metric": "os:name"}, "no function"),
        ({"metric": "no.module:x"}, "package.module:name"),
        ({"optimiser": "os:getcwd"}, "no optimiser"),
        ({"options": {"speed": 2}}, "options"),
        ({"trainset": {"inputs": ["text"]}}, "give the path"),
        ({"trainset": {"inputs": ["text"], "path": "a", "table": "b"}}, "give the path"),
        ({"budget": float("nan")}, "budget"),
        ({"price": {"input": float("inf"), "output": 1.0}}, "price.input = inf: give a finite number from 0"),
        ({"colour": "red"}, "colour"),
        ({"seed": "1"}, "seed"),
    ],
)
def test_a_specification_that_cannot_be_used_is_named(changed: dict[str, Any], why: str) -> None:
    """When it is read, and not when somebody orders it."""
    with pytest.raises(BadOptimisationSpec, match=why):
        OptimisationSpec.of("specs.x", {**SPEC, **changed})
