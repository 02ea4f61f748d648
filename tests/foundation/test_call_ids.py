"""Call ids: what each answer of a program names its call by, and whether somebody has made one up."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import httpx
import pytest

from foundation.call_ids import CallIds, call_ids
from foundation.http import application
from foundation.programs import Answer, Busy, RunProgram, StreamProgram, program_name
from supervision import Actor, Refuse, Runtime, handle


class Teller(Actor):
    """A program that tells what it was asked under which id, and by whom."""

    @handle
    def run(self, request: RunProgram) -> Answer:
        """Tell."""
        if request.inputs:
            raise Refuse(Busy("no"))
        return Answer({"call": request.call, "key": request.key}, version=3)

    @handle
    def stream(self, request: StreamProgram) -> Answer:
        """Tell."""
        return self.run(RunProgram(request.inputs, call=request.call, key=request.key))


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime with the program."""
    async with Runtime(watchdog=None, reports=False) as made:
        await made.spawn(Teller, name=program_name("teller"))
        yield made


@pytest.fixture
async def client(runtime: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    """A client of its HTTP server."""
    transport = httpx.ASGITransport(application(runtime))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as made:
        yield made


async def test_each_answer_names_its_call(runtime: Runtime, client: httpx.AsyncClient) -> None:
    """By an id that the program was asked under, and with the version that has answered."""
    first, second = [await client.post("/programs/teller", json={}) for _ in range(2)]
    assert first.json()["call"] == first.headers["x-call-id"] != second.headers["x-call-id"]
    assert len(first.headers["x-call-id"]) == 32
    assert first.headers["x-program-version"] == "3"
    assert call_ids(runtime).has_issued(first.headers["x-call-id"])


async def test_who_asks_is_told_to_the_program(client: httpx.AsyncClient) -> None:
    """What the header says, cut if it is long; of two, the last."""
    told = await client.post(
        "/programs/teller", json={}, headers=[("x-session-key", "a"), ("x-session-key", "u" * 300)]
    )
    assert told.json()["key"] == "u" * 200
    assert (await client.post("/programs/teller", json={})).json()["key"] == ""


async def test_an_error_names_its_call_too(runtime: Runtime, client: httpx.AsyncClient) -> None:
    """Whoever has refused it: the program, or the server."""
    for name, body in (("teller", {"n": 1}), ("nobody", {}), ("teller", [])):
        refused = await client.post(f"/programs/{name}", json=body)
        assert refused.status_code >= 400
        assert call_ids(runtime).has_issued(refused.headers["x-call-id"])
    refused = await client.post("/programs/teller", json=[], headers={"accept": "text/event-stream"})
    assert call_ids(runtime).has_issued(refused.headers["x-call-id"])


async def test_a_stream_names_its_call_in_its_head_and_in_its_last_event(client: httpx.AsyncClient) -> None:
    """A reader of events has it as the id of the event."""
    told = await client.post("/programs/teller", json={}, headers={"accept": "text/event-stream"})
    name, id, data = told.text.strip().split("\n")
    call = told.headers["x-call-id"]
    assert (name, id) == ("event: answer", f"id: {call}")
    assert json.loads(data.removeprefix("data: "))["call"] == call


def test_an_id_that_was_made_up_is_told_from_one_that_was_issued() -> None:
    """Without a list of those that were, and whatever was made up."""
    ids = CallIds(b"secret" * 4)
    issued = [ids.issue() for _ in range(100)]
    assert len(set(issued)) == 100
    assert all(map(ids.has_issued, issued))
    first, *_ = issued
    made_up = [
        "",
        "x",
        "é" * 32,
        first.upper(),
        first[:-1],
        first + "0",
        first[:16] + issued[1][16:],
        "0" * 32,
        f" {first}",
    ]
    assert not any(map(ids.has_issued, made_up))
    assert not any(map(CallIds(b"another" * 4).has_issued, issued))


async def test_ids_repeat_only_where_everything_does() -> None:
    """A runtime with a seed issues the same ones, so that what is drawn by them repeats; others never do."""
    drawn = []
    for seed in (1, 1, 10**400, None, None):
        async with Runtime(watchdog=None, reports=False, seed=seed) as runtime:
            drawn.append(call_ids(runtime).issue())
            assert call_ids(runtime) is call_ids(runtime)
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 4
