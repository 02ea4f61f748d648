"""The head of an answer and its body go to the socket together, and nothing is held up for that."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from foundation.http.connections import connection_class
from foundation.http.joining import SMALL, Joining
from foundation.http.limits import Limits
from foundation.http.server import UvicornServer

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
HOST = b"host: localhost\r\n\r\n"


class Wire:
    """A transport that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.closing = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return nothing."""
        return default

    def is_closing(self) -> bool:
        """Tell whether it was closed."""
        return self.closing

    def write(self, data: bytes) -> None:
        """Write data down; h11 also writes nothing."""
        if data:
            self.told.append(data)

    def write_eof(self) -> None:
        """Write the end down."""
        self.told.append("eof")

    def close(self) -> None:
        """Be closed."""
        self.told.append("close")
        self.closing = True

    def abort(self) -> None:
        """Be closed at once."""
        self.told.append("abort")
        self.closing = True


async def a_pass() -> None:
    """Wait for the next pass of the loop."""
    loop = asyncio.get_running_loop()
    coming = loop.create_future()
    loop.call_soon(coming.set_result, None)
    await coming


@pytest.fixture(name="wire")
async def a_wire() -> Wire:
    return Wire()


@pytest.fixture
async def joining(wire: Wire) -> Joining:
    return Joining(wire, asyncio.get_running_loop())  # type: ignore[arg-type]


# -- the transport -----------------------------------------------------------------------------------------------------


async def test_a_head_goes_with_what_follows_it(wire: Wire, joining: Joining) -> None:
    joining.write(HEAD)
    assert wire.told == []
    joining.write(b"body")
    assert wire.told == [HEAD + b"body"]
    joining.write(b"more")
    assert wire.told == [HEAD + b"body", b"more"]
    await a_pass()
    assert len(wire.told) == 2


async def test_a_head_that_nothing_follows_goes_with_the_next_pass_of_the_loop(wire: Wire, joining: Joining) -> None:
    for _ in range(2):
        joining.write(HEAD)
        await a_pass()
        assert wire.told == [HEAD]
        wire.told.clear()


async def test_a_second_head_in_the_same_pass_goes_with_the_next_one_as_well(wire: Wire, joining: Joining) -> None:
    for part in (HEAD, b"body", HEAD):
        joining.write(part)
    assert wire.told == [HEAD + b"body"]
    await a_pass()
    assert wire.told == [HEAD + b"body", HEAD]


async def test_an_empty_body_sends_its_head(wire: Wire, joining: Joining) -> None:
    joining.write(HEAD)
    joining.write(b"")
    assert wire.told == [HEAD]


async def test_lines_go_behind_the_head(wire: Wire, joining: Joining) -> None:
    joining.write(HEAD)
    joining.writelines([b"a", b"b"])
    assert wire.told == [HEAD + b"ab"]


async def test_a_long_body_is_not_copied(wire: Wire, joining: Joining) -> None:
    body = b"b" * (SMALL + 1)
    joining.write(HEAD)
    joining.write(body)
    assert wire.told == [HEAD, body]
    assert wire.told[1] is body


@pytest.mark.parametrize(("end", "told"), [("close", "close"), ("write_eof", "eof")])
async def test_a_head_goes_before_the_end(wire: Wire, joining: Joining, end: str, told: str) -> None:
    joining.write(HEAD)
    getattr(joining, end)()
    assert wire.told == [HEAD, told]
    await a_pass()
    assert len(wire.told) == 2


async def test_a_connection_that_is_aborted_sends_nothing_more(wire: Wire, joining: Joining) -> None:
    joining.write(HEAD)
    joining.abort()
    await a_pass()
    assert wire.told == ["abort"]


async def test_a_head_whose_client_has_gone_meanwhile_is_thrown_away(wire: Wire, joining: Joining) -> None:
    joining.write(HEAD)
    wire.closing = True
    await a_pass()
    assert wire.told == []
    joining.close()
    assert wire.told == ["close"]


async def test_what_is_written_to_a_client_that_has_gone_goes_nowhere(wire: Wire, joining: Joining) -> None:
    joining.write(HEAD)
    wire.closing = True
    joining.write(b"body")
    joining.write(HEAD)
    wire.closing = False
    await a_pass()
    assert wire.told == []


async def test_everything_else_is_the_transports_own(wire: Wire, joining: Joining) -> None:
    assert joining.get_extra_info("peername", "nobody") == "nobody"
    assert joining.is_closing() is False
    with pytest.raises(AttributeError):
        joining.pause_reading()


# -- behind uvicorn ----------------------------------------------------------------------------------------------------


async def small(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path."""
    body = scope["path"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def connect(app: Any, base: type[asyncio.Protocol]) -> tuple[Any, Wire]:
    """Return a connection to an application, and what it writes to."""
    config = uvicorn.Config(app, lifespan="off", ws="none", log_config=None, server_header=False, date_header=False)
    config.load()
    kind: Any = connection_class(Limits(), base)
    made = kind(config=config, server_state=ServerState(), app_state={})
    wire = Wire()
    made.connection_made(wire)
    return made, wire


async def written(wire: Wire, count: int) -> list[Any]:
    """Wait until so much has been written."""
    while len(wire.told) < count:
        await a_pass()
    return wire.told


both_parsers = pytest.mark.parametrize("base", [H11Protocol, HttpToolsProtocol])


@both_parsers
async def test_a_small_answer_is_one_segment(base: type[asyncio.Protocol]) -> None:
    connection, wire = connect(small, base)
    for number in range(1, 4):
        connection.data_received(b"GET /one HTTP/1.1\r\n" + HOST)
        told = await written(wire, number)
        assert len(told) == number
        assert told[-1] == b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n/one"
    connection.transport.abort()


@both_parsers
async def test_answers_to_requests_sent_together_come_in_their_order(base: type[asyncio.Protocol]) -> None:
    connection, wire = connect(small, base)
    wire.pause_reading = wire.resume_reading = lambda: None  # type: ignore[attr-defined]
    connection.data_received(
        b"".join(b"%s /%d HTTP/1.1\r\n" % (m, n) + HOST for n, m in enumerate((b"GET", b"HEAD") * 2))
    )
    while b"".join(wire.told).count(b"\r\n\r\n") < 4:
        await a_pass()
    await a_pass()
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
    assert b"".join(wire.told) == head + b"/0" + head + head + b"/2" + head
    connection.transport.abort()


@both_parsers
async def test_the_head_of_an_answer_that_takes_its_time_does_not_wait(base: type[asyncio.Protocol]) -> None:
    more = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await more.wait()
        for number in range(2):
            await send({"type": "http.response.body", "body": b"event %d" % number, "more_body": True})
            assert wire.told[-1].count(b"event %d" % number) == 1
        await send({"type": "http.response.body", "body": b""})

    connection, wire = connect(app, base)
    connection.data_received(b"GET / HTTP/1.1\r\n" + HOST)
    told = await written(wire, 1)
    assert told[0].lower() == b"http/1.1 200 ok\r\ntransfer-encoding: chunked\r\n\r\n"
    assert len(told) == 1
    more.set()
    await written(wire, 4)
    assert told[-1] == b"0\r\n\r\n"
    connection.transport.abort()


@both_parsers
async def test_the_first_event_goes_with_its_head_and_at_once(base: type[asyncio.Protocol]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"event", "more_body": True})
        assert len(wire.told) == 1
        assert wire.told[0].endswith(b"\r\n\r\n5\r\nevent\r\n")
        seen.set_result(None)
        await receive()
        await receive()

    seen: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    connection, wire = connect(app, base)
    connection.data_received(b"GET / HTTP/1.1\r\n" + HOST)
    await seen
    wire.closing = True
    connection.connection_lost(ConnectionResetError())
    await asyncio.gather(*connection.tasks, return_exceptions=True)
    assert len(wire.told) == 1


@both_parsers
async def test_an_answer_after_which_the_connection_closes_is_sent_first(base: type[asyncio.Protocol]) -> None:
    connection, wire = connect(small, base)
    connection.data_received(b"HEAD /one HTTP/1.1\r\nconnection: close\r\n" + HOST)
    while not wire.closing:
        await a_pass()
    head, end = wire.told
    assert head.lower() == b"http/1.1 200 ok\r\ncontent-length: 4\r\nconnection: close\r\n\r\n"
    assert end == "close"


@both_parsers
async def test_a_client_that_goes_before_the_head_is_sent_gets_nothing(base: type[asyncio.Protocol]) -> None:
    more = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        wire.closing = True
        connection.connection_lost(ConnectionResetError())
        await more.wait()
        await send({"type": "http.response.body", "body": b"late"})

    connection, wire = connect(app, base)
    connection.data_received(b"GET / HTTP/1.1\r\n" + HOST)
    for _ in range(5):
        await a_pass()
    more.set()
    await asyncio.gather(*connection.tasks)
    assert wire.told == []


# -- on real loops -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, Callable[[], Any]]]:
    """Serve an application as the front does; give a client of it, and what finds its connection."""
    server = UvicornServer(app, 1.0, Limits())
    listening = socket.create_server(("127.0.0.1", 0))
    running = asyncio.ensure_future(server.serve([listening]))
    await server.ready
    reader, writer = await asyncio.open_connection(*listening.getsockname()[:2], limit=1 << 16)
    yield reader, writer, lambda: next(iter(server.server_state.connections))
    writer.close()
    server.should_exit = True
    await running
    listening.close()


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_a_body_that_its_client_reads_late_holds_its_sender_up_and_arrives_whole() -> None:
    parts = [bytes([65 + number % 26]) * 100_000 for number in range(200)]
    sent: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        size = b"%d" % sum(map(len, parts))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", size)]})
        for number, part in enumerate(parts):
            await send({"type": "http.response.body", "body": part, "more_body": number + 1 < len(parts)})
            sent.append(number)

    async with serving(app) as (reader, writer, connection):
        writer.write(b"GET / HTTP/1.1\r\n" + HOST)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        while connection().stuck is None:
            await a_pass()
        assert len(sent) < len(parts)
        assert await reader.readexactly(sum(map(len, parts))) == b"".join(parts)
        assert connection().stuck is None


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_answers_of_all_kinds_come_one_after_the_other_on_a_connection() -> None:
    async with serving(small) as (reader, writer, _):
        for method, body in ((b"GET", b"/a"), (b"HEAD", b""), (b"POST", b"/a"), (b"HEAD", b""), (b"GET", b"/a")):
            writer.write(method + b" /a HTTP/1.1\r\n" + HOST)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"content-length: 2" in head
            assert await reader.readexactly(len(body)) == body
