"""Answers that arrive piece by piece: what a client sees, and what it costs when it is slow or goes away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from foundation.http import application
from foundation.programs import Answer, Busy, Chunk, ProgramStatus, RunProgram, StreamProgram, program_name
from foundation.resources import Resource, Resources
from supervision import Actor, Refuse, Runtime, handle
from supervision.testing import advance, settled


class Teller(Actor):
    """A program that writes an answer of as many words as it is told, or does worse."""

    def __init__(self) -> None:
        self.sent = 0
        self.cancelled = False

    @handle
    async def stream(self, request: StreamProgram) -> Answer:
        """Tell."""
        match request.inputs["do"]:
            case "refuse":
                raise Refuse(Busy("two run, and three wait", 7.0))
            case "break":
                await request.send(Chunk("text", "Once "))
                raise Refuse(LookupError("the thread"))
            case "die":
                await request.send(ProgramStatus("dying"))
                raise ValueError("dead")
            case "think":
                await self.runtime.sleep(40)
            case int(words):
                for word in range(words):
                    await request.send(Chunk("text", f"{word} ", "self", word == words - 1))
                    self.sent += 1
        return Answer({"text": "all"})


class Waiter(Actor):
    """A program that does nothing, until it is not wanted any more."""

    def __init__(self, over: asyncio.Event, piece: bool) -> None:
        self._over = over
        self._piece = piece

    @handle
    async def stream(self, request: StreamProgram) -> None:
        """Wait."""
        if self._piece:
            await request.send(ProgramStatus("waiting"))
        self.defer_reply().on_abandoned(self._over.set)


class Plain(Actor):
    """A program that cannot stream."""

    @handle
    def run(self, request: RunProgram) -> Answer:
        """Answer."""
        return Answer({"text": "plain"})


class Reader:
    """A client that reads as fast as it is let, and may go away."""

    def __init__(self, runtime: Runtime, program: str, do: Any = None, **options: Any) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.going = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self._parts: list[dict[str, Any]] = [{"type": "http.request", "body": json.dumps({"do": do}).encode()}]
        scope = {"type": "http", "method": "POST", "path": f"/programs/{program}", "query_string": b""}
        headers = [
            (b"host", b"localhost"),
            (b"accept", b"text/event-stream"),
            (b"content-type", b"application/json"),
        ]
        app: Any = application(runtime, **options)
        self.over = asyncio.ensure_future(app({**scope, "headers": headers}, self.receive, self.send))

    async def receive(self) -> dict[str, Any]:
        if self._parts:
            return self._parts.pop()
        await self.going.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {key.decode(): value.decode() for key, value in message["headers"]}
        self.body += message.get("body", b"")
        await self.reading.wait()

    @property
    def events(self) -> list[tuple[str, Any]]:
        """The events so far, each with its data; signs of life are named ``ping``."""
        found = []
        for block in self.body.decode().split("\n\n")[:-1]:
            if block == ": ping":
                found.append(("ping", None))
            else:
                name, *ids, data = block.split("\n")
                assert ids in ([], [f"id: {self.headers['x-call-id']}"])
                found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
        return found


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime with two programs, of which one can stream."""
    async with Runtime(watchdog=None, reports=False) as made:
        await made.spawn(Teller, name=program_name("teller"))
        await made.spawn(Plain, name=program_name("plain"))
        yield made


async def test_the_pieces_of_an_answer_come_in_order_and_then_the_answer(runtime: Runtime) -> None:
    reader = Reader(runtime, "teller", 2)
    await reader.over
    assert (reader.status, reader.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (reader.headers["cache-control"], reader.headers["vary"]) == ("no-store", "accept")
    assert reader.events == [
        ("chunk", {"field": "text", "text": "0 ", "predictor": "self", "last": False}),
        ("chunk", {"field": "text", "text": "1 ", "predictor": "self", "last": True}),
        ("answer", {"text": "all"}),
    ]


@pytest.mark.parametrize(("program", "text"), [("teller", "all"), ("plain", "plain")])
async def test_an_answer_without_pieces_is_one_event(runtime: Runtime, program: str, text: str) -> None:
    """So it is with a program that cannot stream; a client need not know."""
    reader = Reader(runtime, program, 0)
    await reader.over
    assert reader.events == [("answer", {"text": text})]


async def test_an_error_before_anything_was_sent_has_its_status(runtime: Runtime) -> None:
    reader = Reader(runtime, "teller", "refuse")
    await reader.over
    assert (reader.status, reader.headers["retry-after"]) == (429, "7")
    assert json.loads(reader.body)["type"] == "about:blank#busy"
    reader = Reader(runtime, "nobody")
    await reader.over
    assert reader.status == 404


@pytest.mark.parametrize(("do", "status", "word"), [("break", 500, "program-failed"), ("die", 503, "unavailable")])
async def test_an_error_in_the_middle_is_an_event(runtime: Runtime, do: str, status: int, word: str) -> None:
    reader = Reader(runtime, "teller", do)
    await reader.over
    assert reader.status == 200
    name, problem = reader.events[-1]
    assert (name, problem["status"], problem["type"]) == ("error", status, f"about:blank#{word}")


async def test_a_program_that_thinks_shows_that_it_lives(runtime: Runtime) -> None:
    """Every fifteen seconds; what takes too long ends with an error all the same."""
    reader = Reader(runtime, "teller", "think", program_timeout=60.0)
    await advance(41)
    await reader.over
    assert reader.events == [("ping", None), ("ping", None), ("answer", {"text": "all"})]
    reader = Reader(runtime, "teller", "think", program_timeout=20.0)
    await advance(21)
    await reader.over
    assert [(name, data and data["status"]) for name, data in reader.events] == [("ping", None), ("error", 504)]


async def test_a_slow_reader_slows_the_program(runtime: Runtime) -> None:
    """No more is kept for it than a few pieces."""
    reader = Reader(runtime, "teller", 1000)
    reader.reading.clear()
    await settled(runtime)
    ref = runtime.whereis(program_name("teller"))
    assert ref is not None
    assert 0 < len(reader.events) + 16 < 20
    reader.reading.set()
    await reader.over
    assert len(reader.events) == 1001


@pytest.mark.parametrize("piece", [False, True])
async def test_a_client_that_goes_away_cancels_the_work(runtime: Runtime, piece: bool) -> None:
    """Before the first piece as well as after it."""
    over = asyncio.Event()
    await runtime.spawn(Waiter, over, piece, name=program_name("waiter"))
    reader = Reader(runtime, "waiter", program_timeout=100.0)
    await advance(1)
    assert bool(reader.status) is piece
    reader.going.set()
    await over.wait()
    await reader.over


async def test_a_stream_counts_as_work_until_it_ends(runtime: Runtime) -> None:
    """What limits the work limits streams, too."""
    over = asyncio.Event()
    await runtime.spawn(Resources, {"work": 1}, name="resources")
    await runtime.spawn(Waiter, over, True, name=program_name("waiter"))
    first = Reader(runtime, "waiter", program_timeout=100.0)
    await advance(1)
    second = Reader(runtime, "teller", 1)
    await second.over
    assert second.status == 503
    first.going.set()
    await first.over
    await settled(runtime)
    assert Resource(runtime, "work").used == 0
