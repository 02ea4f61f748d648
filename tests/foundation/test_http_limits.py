"""The limits of the HTTP server, seen from inside: what the tests with sockets cannot time."""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import AsyncIterator
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from foundation.http import application
from foundation.http.cancellation import Disconnects
from foundation.http.connections import SPARE_DESCRIPTORS, connection_class, make_room
from foundation.http.limits import Limits, ProgramLimits
from foundation.http.problems import LONGEST_WAIT, Problem, error_text, fault
from foundation.programs import (
    Answer,
    Busy,
    Chunk,
    DescribeProgram,
    Interface,
    NobodyReads,
    ProgramField,
    RunProgram,
    StreamProgram,
    program_name,
)
from foundation.telemetry.context import keep_text_private
from supervision import Actor, Refuse, Runtime, handle
from supervision.errors import BadOption
from supervision.testing import advance, settled

JSON = {"content-type": "application/json"}


class Unspeakable:
    """Cannot even be shown."""

    def __str__(self) -> str:
        raise ValueError("no")


class Program(Actor):
    """Does what it is told."""

    described = 0

    @handle
    async def describe(self, request: DescribeProgram) -> Interface:
        """Say what it takes, after a while."""
        self.described += 1
        await self.runtime.sleep(1.0)
        return Interface("Program", "", (ProgramField("do", "str"),), ())

    @handle
    async def run(self, request: RunProgram) -> Answer:
        """Do it."""
        match request.inputs["do"]:
            case "hang":
                await self.runtime.sleep(1000)
            case "half a character":
                return Answer({"text": "\ud800"})
            case "unspeakable":
                return Answer({"text": Unspeakable()})
            case "overloaded":
                busy = Busy("no more", 3.0)
                busy.__cause__ = LookupError("the model's provider says: sk-SECRET")
                raise Refuse(busy)
        return Answer({"done": True})

    @handle
    async def stream(self, request: StreamProgram) -> Answer:
        """Do it piece by piece."""
        await request.send(Chunk("text", "a"))
        if request.inputs["do"] == "half a character":
            return Answer({"text": "\ud800"})
        if request.inputs["do"] == "late":
            await self.runtime.sleep(10)
            with pytest.raises(Refuse) as caught:
                await request.send(Chunk("text", "b"))
            assert isinstance(caught.value.error, NobodyReads)
            raise caught.value
        return Answer({})


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime with a program."""
    async with Runtime(watchdog=None, reports=False) as made:
        await made.spawn(Program, name=program_name("p"))
        yield made


@pytest.fixture
async def client(runtime: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    limits = Limits(max_body=1000, max_requests=2, programs={"p": ProgramLimits(max_body=500)})
    app = application(runtime, program_timeout=5.0, limits=limits)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as made:
        yield made


async def do(client: httpx.AsyncClient, what: str, **headers: str) -> httpx.Response:
    return await client.post("/programs/p", json={"do": what}, headers=headers)


# -- settings ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_body": 0},
        {"max_body": True},
        {"max_body": 1.5},
        {"max_body": 10**400},
        {"header_timeout": float("nan")},
        {"header_timeout": float("inf")},
        {"write_timeout": -1},
        {"idle_timeout": "soon"},
        {"programs": {"p": ProgramLimits(max_requests=0)}},
    ],
)
def test_a_limit_that_makes_no_sense_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadOption, match="give a") as caught:
        Limits(**wrong)
    assert next(iter(wrong)) in str(caught.value)


def test_limits_are_a_table_in_a_tree_file() -> None:
    limits = Limits.of({"max_body": 5, "programs": {"p": {"max_body": 70}}})
    assert (limits.body_of("p"), limits.body_of("q"), limits.longest) == (70, 5, 70)
    assert (limits.requests_of("p"), Limits.of(None)) == (600, Limits())
    assert Limits.of(limits) is limits
    assert Limits(programs={"p": ProgramLimits(max_requests=7)}).requests_of("p") == 7
    with pytest.raises(BadOption, match=r"unknown field `body`.*there are header_timeout"):
        Limits.of({"body": 1})
    with pytest.raises(BadOption, match="give a whole number above 0"):
        Limits.of({"max_body": -1})


def test_there_are_no_more_connections_than_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (SPARE_DESCRIPTORS + 50, 4096))
    with capture_logs() as logs:
        assert connection_class(Limits()).most == 50  # type: ignore[attr-defined]
        assert connection_class(Limits(max_connections=40)).most == 40  # type: ignore[attr-defined]
    assert [log["event"] for log in logs] == ["few_descriptors"]
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert connection_class(Limits()).most == 1000  # type: ignore[attr-defined]


def connection(*, closing: bool = False, waiting: bool = True, since: float = 0.0) -> Any:
    """Something like a connection."""
    aborted: list[bool] = []
    transport = SimpleNamespace(is_closing=lambda: closing or bool(aborted), abort=lambda: aborted.append(True))
    return SimpleNamespace(transport=transport, waiting=waiting, since=since, aborted=aborted)


def room(others: list[Any], most: int) -> bool:
    new: Any = connection()
    new.connections = [new, *others]
    return make_room(new, most)


def test_room_is_made_by_those_that_have_waited_longest_and_only_if_need_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foundation.http.connections.ROOM", 1)
    assert room([connection(closing=True), connection()], 2)
    others = [connection(since=3.0), connection(since=1.0), connection(since=2.0), connection(waiting=False)]
    assert room(others, 4)
    assert [bool(one.aborted) for one in others] == [False, True, True, False]
    assert not room([connection(waiting=False), connection(waiting=False)], 2)


# -- bodies --------------------------------------------------------------------------------------------------


async def test_each_program_has_its_own_longest_body(client: httpx.AsyncClient) -> None:
    for length, expected in ((500, 200), (501, 413)):
        body = json.dumps({"do": ""}).encode().ljust(length)
        response = await client.post("/programs/p", content=body, headers=JSON)
        assert response.status_code == expected
    assert response.headers["connection"] == "close"


async def test_a_body_without_a_length_is_read_piece_by_piece_up_to_its_limit(client: httpx.AsyncClient) -> None:
    async def pieces(count: int) -> AsyncIterator[bytes]:
        yield b'{"do": "x"}'
        for _ in range(count):
            yield b" " * 100

    for count, expected in ((4, 200), (5, 413)):
        response = await client.post("/programs/p", content=pieces(count), headers=JSON)
        assert response.status_code == expected


async def test_a_body_that_does_not_come_is_waited_for_so_long(runtime: Runtime) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        await runtime.sleep(1000)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/programs/p", "headers": headers, "query_string": b""}
    asked = asyncio.ensure_future(application(runtime)(scope, receive, send))
    await advance(29)
    assert not asked.done()
    await advance(2)
    assert sent[0]["status"] == 408


async def test_a_body_may_be_nested_so_deep(client: httpx.AsyncClient) -> None:
    """Whether the brackets are few or many."""
    for value, expected in (
        ("[" * 99 + "]" * 99, 200),
        ("[" * 100 + "]" * 100, 400),
        ('{"a":[' * 50 + "]}" * 50, 400),
        ("[" + "[],{}," * 70 + "1]", 200),
        ('"' + "[" * 200 + '"', 200),
    ):
        response = await client.post("/programs/p", content=f'{{"do": {value}}}', headers=JSON)
        assert (response.status_code, value) == (expected, value)


# -- requests ------------------------------------------------------------------------------------------------


async def test_more_requests_than_may_wait_are_refused_at_once(runtime: Runtime, client: httpx.AsyncClient) -> None:
    waiting = [asyncio.ensure_future(do(client, "hang")) for _ in range(2)]
    await advance(1)
    refused = await do(client, "x")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["detail"] == "program 'p' has too much to do; try again"
    await advance(5)
    assert [response.result().status_code for response in waiting] == [504, 504]


async def test_requests_that_nobody_waits_for_any_more_count_while_they_lie_in_the_mailbox(
    runtime: Runtime, client: httpx.AsyncClient
) -> None:
    hanging = asyncio.ensure_future(runtime.name("program:p").call(RunProgram({"do": "hang"}), None))
    await settled(runtime)
    for _ in range(2):
        assert (await do(client, "x")).status_code == 504
    assert (await do(client, "x")).status_code == 429
    await advance(1000)
    await hanging
    assert (await do(client, "x")).status_code == 200
    assert (await do(client, "x")).status_code == 200


async def test_a_program_is_asked_once_what_it_takes_however_many_want_to_know(
    runtime: Runtime, client: httpx.AsyncClient
) -> None:
    program: Any = runtime.whereis("program:p")
    asked = [asyncio.ensure_future(client.get("/programs/p")) for _ in range(5)]
    await advance(1.5)
    assert {response.result().status_code for response in asked} == {200}
    assert (await client.get("/programs")).json()["programs"][0]["state"] == "running"
    assert program.actor.described == 1
    program.kill()
    await settled(runtime)
    await runtime.spawn(Program, name=program_name("p"))
    again = asyncio.ensure_future(client.get("/programs/p"))
    await advance(1.5)
    assert again.result().status_code == 200


async def test_many_programs_are_not_all_named(runtime: Runtime, client: httpx.AsyncClient) -> None:
    for number in range(30):
        await runtime.spawn(Program, name=program_name(f"q{number:02}"))
    body = (await client.post("/programs/none", json={})).json()
    assert (len(body["programs"]), body["detail"][-13:]) == (20, ", and 11 more")


# -- answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["half a character", "unspeakable"])
async def test_an_answer_that_cannot_be_written_is_the_programs_fault(client: httpx.AsyncClient, what: str) -> None:
    response = await do(client, what)
    assert (response.status_code, response.json()["type"]) == (500, "about:blank#program-failed")


async def test_a_stream_whose_answer_cannot_be_written_ends_with_an_error(client: httpx.AsyncClient) -> None:
    response = await do(client, "half a character", accept="text/event-stream")
    assert response.text.splitlines()[-4:-2] == ["event: error", f"id: {response.headers['x-call-id']}"]
    assert json.loads(response.text.splitlines()[-2][6:])["type"] == "about:blank#internal-error"


async def test_why_a_model_takes_no_more_stands_in_the_log(client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        response = await do(client, "overloaded")
    assert (response.status_code, response.headers["retry-after"]) == (429, "3")
    assert "SECRET" not in response.text
    assert logs[-1]["id"] == response.json()["id"]


async def test_a_piece_that_comes_too_late_refuses_the_request_and_ends_nobody(
    runtime: Runtime, client: httpx.AsyncClient
) -> None:
    before = runtime.whereis("program:p")
    asked = asyncio.ensure_future(do(client, "late", accept="text/event-stream"))
    await advance(11)
    assert "event: error" in (await asked).text
    assert runtime.whereis("program:p") is before
    assert before is not None
    assert before.reason is None


@pytest.mark.parametrize(
    ("wait", "said"),
    [(2.1, 3), (0.0, 1), (-5.0, 1), (float("nan"), 1), (float("inf"), LONGEST_WAIT), (1e300, LONGEST_WAIT)],
)
def test_any_wait_can_be_told(wait: float, said: int) -> None:
    problem = Problem(HTTPStatus.TOO_MANY_REQUESTS, "busy", "", retry_after=wait)
    assert problem.retry_after == said


async def test_a_cause_that_cannot_be_shown_is_no_trouble(runtime: Runtime) -> None:
    assert error_text(Unspeakable()) == "Unspeakable without a text"
    with capture_logs() as logs:
        problem = fault(runtime, HTTPStatus.OK, "x", "detail", Unspeakable())
    assert logs[0]["reason"] == "Unspeakable without a text"
    assert problem.fields["id"] in problem.detail


async def test_what_an_error_says_in_private_is_not_in_the_log(runtime: Runtime) -> None:
    """Only what it is, and where it was."""
    error = ValueError("what somebody has asked")
    keep_text_private(error)
    with capture_logs() as logs:
        try:
            raise error
        except ValueError as raised:
            fault(runtime, HTTPStatus.INTERNAL_SERVER_ERROR, "x", "detail", raised)
    assert logs[0]["error"] == "ValueError"
    assert "test_http_limits" in logs[0]["frames"]
    assert "somebody" not in str(logs)


# -- going away ----------------------------------------------------------------------------------------------


async def test_work_is_cancelled_when_its_client_goes_and_only_then(runtime: Runtime) -> None:
    gone = asyncio.Event()
    parts = [{"type": "http.request"}]

    async def receive() -> Any:
        if parts:
            return parts.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def work() -> str:
        await runtime.sleep(10)
        return "done"

    first = asyncio.ensure_future(Disconnects().cancel_on_disconnect(receive, work()))
    await advance(11)
    assert await first == "done"
    second = asyncio.ensure_future(Disconnects().cancel_on_disconnect(receive, work()))
    await advance(1)
    gone.set()
    with pytest.raises(Problem, match="closed in the middle"):
        await second
    assert second.done()
    gone.clear()
    third = asyncio.ensure_future(Disconnects().cancel_on_disconnect(receive, work()))
    await advance(1)
    third.cancel()
    with pytest.raises(asyncio.CancelledError):
        await third
