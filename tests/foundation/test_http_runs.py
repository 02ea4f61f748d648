"""The fast path of a run: what it answers, what it leaves to Starlette, and what a death of the program costs."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from foundation.events import HttpHandled
from foundation.http.app import application
from foundation.http.cancellation import CHECK_AFTER, Disconnects, TimeoutQueue
from foundation.http.problems import Problem
from foundation.http.programs import Programs
from foundation.programs import Answer, RunProgram, program_name
from supervision import Actor, ChildSpec, Runtime, Supervisor, handle
from supervision.testing import advance


class Counting(Actor):
    """A program that takes its time, and writes down what it begins."""

    def __init__(self, begun: list[int]) -> None:
        self._begun = begun

    @handle
    async def run(self, request: RunProgram) -> Answer:
        """Take ten milliseconds."""
        self._begun.append(request.inputs["n"])
        await self.runtime.sleep(0.01)
        return Answer({"n": request.inputs["n"]})


async def counting(runtime: Runtime) -> list[int]:
    """Start it, supervised; return what it has begun."""
    begun: list[int] = []
    spec = ChildSpec("program", Counting, (begun,), name=program_name("count"))
    await runtime.spawn(Supervisor, [spec], max_restarts=10**6)
    return begun


def client_of(app: Any, **options: Any) -> httpx.AsyncClient:
    """A client of an application."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, **options), base_url="http://localhost")


async def test_kills_cost_the_requests_in_hand_and_no_others(runtime: Runtime) -> None:
    """64 clients, and a kill after every tenth answer: each kill costs at most one, and nothing is done twice."""
    begun = await counting(runtime)
    kills = 0

    async def kill() -> None:
        nonlocal kills
        while True:
            await runtime.sleep(0.1)
            ref = runtime.whereis(program_name("count"))
            if ref is not None:
                ref.kill()
                kills += 1

    async with client_of(application(runtime)) as client:
        killer = asyncio.ensure_future(kill())
        asked = (client.post("/programs/count", json={"n": n}) for n in range(300))
        responses = await asyncio.gather(*asked)
        killer.cancel()
    statuses = [response.status_code for response in responses]
    assert kills > 20
    assert statuses.count(503) <= kills
    assert statuses.count(200) == 300 - statuses.count(503)
    assert sorted(begun) == list(range(300))


async def test_a_run_is_told_like_every_request(runtime: Runtime) -> None:
    """With its route, its status and its time; so is one that came to nothing."""
    await counting(runtime)
    told: list[HttpHandled] = []
    runtime.subscribe(told.append, HttpHandled)
    async with client_of(application(runtime)) as client:
        found = await client.post("/programs/count", json={"n": 1}, headers={"x-request-id": "7"})
        assert (await client.post("/programs/other", json={"n": 1})).status_code == 404
    assert (found.content, found.headers["content-type"]) == (b'{"n":1}\n', "application/json")
    assert (found.headers["cache-control"], found.headers["vary"]) == ("no-store", "accept")
    shown = [(event.method, event.route, event.status, round(event.seconds, 3)) for event in told]
    assert shown == [("POST", "/programs/{name}", 200, 0.01), ("POST", "/programs/{name}", 404, 0.0)]


@pytest.mark.parametrize(("path", "status"), [("/programs/", 404), ("/programs/a/b", 404), ("/tree", 405)])
async def test_what_is_no_run_goes_the_long_way(runtime: Runtime, path: str, status: int) -> None:
    """Whatever else is posted."""
    async with client_of(application(runtime)) as client:
        assert (await client.post(path, json={"n": 1})).status_code == status


async def test_a_run_whose_deciding_header_comes_twice_is_refused(runtime: Runtime) -> None:
    """By the same guard as everything else."""
    begun = await counting(runtime)
    headers = [("origin", "http://localhost"), ("origin", "http://localhost")]
    async with client_of(application(runtime)) as client:
        assert (await client.post("/programs/count", json={"n": 1}, headers=headers)).status_code == 400
    assert begun == []


async def test_a_run_is_found_where_the_application_is_mounted(runtime: Runtime) -> None:
    """Below the path of another application, and in no other place."""
    await counting(runtime)
    outer = Starlette(routes=[Mount("/below", application(runtime))])
    async with client_of(outer) as client:
        assert (await client.post("/below/programs/count", json={"n": 1})).json() == {"n": 1}
        assert (await client.post("/programs/count", json={"n": 1})).status_code == 404


async def test_a_fault_of_the_front_is_answered_and_told_to_the_server(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a word about it to the client."""

    async def answer(*arguments: Any) -> bytes:
        raise KeyError("secret")

    monkeypatch.setattr(Programs, "answer", answer)
    async with client_of(application(runtime)) as client:
        with pytest.raises(KeyError):
            await client.post("/programs/count", json={"n": 1})
    async with client_of(application(runtime), raise_app_exceptions=False) as client:
        response = await client.post("/programs/count", json={"n": 1})
    assert response.status_code == 500
    assert "secret" not in response.text


async def test_a_run_that_is_cancelled_while_its_body_is_read_is_no_slow_body(runtime: Runtime) -> None:
    """Whoever cancels it sees that."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/programs/count",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }
    await counting(runtime)

    async def never(*message: Any) -> Any:
        await runtime.sleep(1000.0)

    asking = asyncio.ensure_future(application(runtime)(scope, never, never))
    await advance(1.0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


# -- what takes too long -----------------------------------------------------------------------------------------------


async def test_what_is_late_is_told_once_and_at_its_time(runtime: Runtime) -> None:
    """In order; what was discarded is not late, and what comes back counts anew."""
    loop = asyncio.get_running_loop()
    late: list[tuple[float, str]] = []
    overdue: TimeoutQueue[str] = TimeoutQueue(1.0, lambda one: late.append((round(loop.time(), 3), one)))
    overdue.add("first")
    await advance(0.5)
    overdue.add("second")
    overdue.add("discarded")
    overdue.discard("discarded")
    overdue.discard("discarded")
    assert len(overdue) == 2
    await advance(5.0)
    overdue.add("first")
    await advance(0.9)
    assert [one for _, one in late] == ["first", "second"]
    await advance(0.2)
    assert late == [(1.0, "first"), (1.5, "second"), (6.5, "first")]
    assert len(overdue) == 0


async def test_many_that_are_late_one_after_the_other_are_told_together(runtime: Runtime) -> None:
    """A quarter of the limit later at most."""
    loop = asyncio.get_running_loop()
    late: list[float] = []
    overdue: TimeoutQueue[int] = TimeoutQueue(1.0, lambda one: late.append(loop.time()))
    for n in range(100):
        overdue.add(n)
        await advance(0.01)
    await advance(2.0)
    assert len(late) == 100
    assert len(set(late)) <= 6
    assert all(0.0 <= when - (n * 0.01 + 1.0) <= 0.251 for n, when in enumerate(late))


class Connection:
    """What a server knows of a client, as uvicorn does."""

    def __init__(self) -> None:
        self.disconnected = False

    async def receive(self) -> dict[str, Any]:
        """Nobody has to ask."""
        raise AssertionError


async def test_a_client_of_which_the_server_knows_costs_no_task(runtime: Runtime) -> None:
    """Its going away is seen at the next look."""
    connection, leaving = Connection(), Disconnects()
    tasks = len(asyncio.all_tasks())
    work = asyncio.ensure_future(leaving.cancel_on_disconnect(connection.receive, runtime.sleep(100.0)))
    await advance(10.0)
    assert len(asyncio.all_tasks()) == tasks + 1
    connection.disconnected = True
    await advance(CHECK_AFTER)
    with pytest.raises(Problem, match="closed in the middle"):
        await work
    connection.disconnected = False
    await leaving.cancel_on_disconnect(connection.receive, runtime.sleep(10 * CHECK_AFTER))
