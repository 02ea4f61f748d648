"""The HTTP server as an unknown client meets it: raw sockets, and nothing that a library would put right first.

Each test is a row of the table in ``docs/production.md``: what was tried, how often, and what came of it.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec import structs
from structlog.testing import capture_logs
from uvicorn.protocols.http.h11_impl import H11Protocol

from foundation.events import HttpHandled, Serving
from foundation.http import HttpServer
from foundation.http.limits import Limits
from foundation.programs import (
    Answer,
    Chunk,
    DescribeProgram,
    Interface,
    InvalidInputs,
    ProgramField,
    RunProgram,
    StreamProgram,
    program_name,
)
from supervision import Actor, Refuse, Runtime, handle

PAGE = Path(__file__).parents[2] / "docs/production.md"
TOKEN = "0123456789abcdefghij"
SECRET = "sk-SECRET"
JSON = "Content-Type: application/json"
#: How long a long answer is, in bytes: more than the buffers on its way hold.
LONG = 20_000_000

on_both_loops = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
pytestmark = pytest.mark.timeout(60)


class Row(NamedTuple):
    """A row of the table."""

    tried: str
    times: int
    outcome: str


ROWS: list[Row] = []


def attack(tried: str, times: int, outcome: str) -> Callable[[Any], Any]:
    """Make a test a row of the table; it is given how often it is to try."""
    ROWS.append(Row(tried, times, outcome))

    def marked(test: Any) -> Any:
        return on_both_loops(pytest.mark.parametrize("times", [times], ids=[""])(test))

    return marked


class Program(Actor):
    """Says what it was told, or waits until it is not wanted any more, or fails with a secret."""

    def __init__(self) -> None:
        self.running = 0
        self.begun = 0
        self.changed = asyncio.Event()

    @handle
    def describe(self, request: DescribeProgram) -> Interface:
        """Say what it takes."""
        text = ProgramField("text", "str", schema={"type": "string"})
        return Interface("Program", "Says it again.", (text,), (ProgramField("said", "str"),))

    @handle
    def run(self, request: RunProgram) -> Answer | None:
        """Answer, or do worse."""
        if set(request.inputs) != {"text"}:
            raise Refuse(InvalidInputs(unexpected=tuple(request.inputs)))
        text = request.inputs["text"]
        if text == "fail":
            raise Refuse(LookupError(f"no answer from http://model/?key={SECRET}"))
        if text == "crash":
            raise ValueError(SECRET)
        if text == "wait":
            self._begin()
            return None
        return Answer({"said": "x" * LONG if text == "long" else text})

    @handle
    async def stream(self, request: StreamProgram) -> Answer | None:
        """Wait, or write without an end."""
        if request.inputs["text"] == "wait":
            await request.send(Chunk("said", "so far"))
            self._begin()
            return None
        while True:
            await request.send(Chunk("said", "x" * 10_000))

    def _begin(self) -> None:
        self.running += 1
        self.begun += 1
        self.defer_reply().on_abandoned(self._end)

    def _end(self) -> None:
        self.running -= 1
        self.changed.set()

    async def idle(self, begun: int) -> None:
        """Wait until so many have begun, and none runs."""
        while self.running or self.begun < begun:
            self.changed.clear()
            await self.changed.wait()


class Victim:
    """A server that serves, and what a client can do to it."""

    def __init__(self, runtime: Runtime, url: str, program: Program) -> None:
        self.runtime = runtime
        self.port = int(url.rpartition(":")[2])
        self.program = program

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Make a connection."""
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)

    async def send(self, data: bytes) -> bytes:
        """Send something, and return all that comes until the server ends the connection."""
        reader, writer = await self.open()
        try:
            writer.write(data)
            return await read_all(reader)
        finally:
            writer.close()

    async def ask(self, head: str, body: bytes = b"", *, host: str | None = "localhost") -> tuple[int, bytes]:
        """Make a request, and return status and body of the answer."""
        lines = [head, *([f"Host: {host}"] if host is not None else []), "Connection: close"]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        answer = await self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        return status(answer), answer.partition(b"\r\n\r\n")[2]

    async def run(self, body: bytes, *headers: str) -> tuple[int, bytes]:
        """Run the program."""
        return await self.ask("\r\n".join(["POST /programs/p HTTP/1.1", JSON, *headers]), body)

    async def lives(self) -> bool:
        """Whether somebody decent is served."""
        return await self.run(b'{"text": "hello"}') == (200, b'{"said":"hello"}\n')


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the end, also if that is rough."""
    found = b""
    try:
        while part := await reader.read(1 << 16):
            found += part
    except ConnectionError:
        pass
    return found


def status(answer: bytes) -> int:
    """Return the status of an answer; 0 if there is none."""
    found = re.match(rb"HTTP/1.1 (\d+)", answer)
    return int(found[1]) if found else 0


PARSERS = ["h11", *(["httptools"] if util.find_spec("httptools") else [])]


@pytest.fixture(params=PARSERS)
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each parser that is installed."""
    if request.param == "h11":
        monkeypatch.setattr("foundation.http.connections.AutoHTTPProtocol", H11Protocol)
    return str(request.param)


LIMITS = Limits(
    header_timeout=0.4,
    idle_timeout=0.2,
    body_timeout=0.4,
    write_timeout=0.4,
    max_connections=100,
    max_requests=20,
    max_body=10_000,
)


@asynccontextmanager
async def serving(limits: Limits) -> AsyncIterator[Victim]:
    """Serve a program."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        urls: list[str] = []
        runtime.subscribe(lambda event: urls.append(event.url), Serving)
        ref = await runtime.spawn(Program, name=program_name("p"))
        access = {"token": TOKEN, "protect": "changes"}
        server = await runtime.spawn(HttpServer, port=0, limits=limits, versions=True, grace=1.0, access=access)
        yield Victim(runtime, urls[0], ref.actor)  # type: ignore[attr-defined]
        await server.stop()


@pytest.fixture
async def server(parser: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Victim]:
    """A server with short time-outs."""
    monkeypatch.setattr("foundation.http.server.LOOK", 0.05)
    async with serving(LIMITS) as victim:
        yield victim


# -- who may ask ---------------------------------------------------------------------------------------------

HOSTS = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example:8000",
    "10.0.0.1",
    "",
    "[::2]",
]


@attack("a name of somebody else that leads here (DNS rebinding)", len(HOSTS), "421")
async def test_a_name_that_is_not_ours_is_misdirected(server: Victim, times: int) -> None:
    for host in HOSTS:
        assert (await server.run(b'{"text": "x"}', f"X-Host: {host}"))[0] == 200
        found, body = await server.ask(f"POST /programs/p HTTP/1.1\r\n{JSON}", b'{"text": "x"}', host=host)
        assert (found, b"hello" in body) == (421, False)
        assert (await server.ask("GET /healthz HTTP/1.1", host=host))[0] == 200
        assert (await server.ask("GET /readyz HTTP/1.1", host=host))[0] == 200
        assert (await server.ask("GET /metrics HTTP/1.1", host=host))[0] == 421
    assert times == len(HOSTS)


@attack("no name, or two of them", 3, "400 or 421")
async def test_no_host_and_two_hosts_are_refused(server: Victim, times: int) -> None:
    for head in ("GET /tree HTTP/1.1", "GET /tree HTTP/1.0", "GET /tree HTTP/1.1\r\nHost: localhost\r\nHost: evil"):
        assert (await server.ask(head, host=None))[0] in (400, 421)


FORMS = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json", ""]


@attack("a form, or text, as a page can send it without asking (CSRF)", 2 * (len(FORMS) + 1), "415, or 401")
async def test_a_body_that_a_page_can_send_is_refused(server: Victim, times: int) -> None:
    for kind in [f"\r\nContent-Type: {form}" for form in FORMS] + [""]:
        assert (await server.ask(f"POST /programs/p HTTP/1.1{kind}", b'{"text": "x"}'))[0] == 415
        assert (await server.ask(f"POST /programs/p/versions HTTP/1.1{kind}", b"{}"))[0] == 401
    assert times == 2 * (len(FORMS) + 1)


def origins(port: int) -> list[str]:
    """Return origins that are not the server's."""
    return [
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: ",
        f"Origin: http://localhost:{port + 1}",
        f"Origin: http://localhost:{port}.evil.example",
        f"Origin: http://evil.example/localhost:{port}",
        f"Origin: http://evil@localhost:{port}x",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors",
    ]


@attack("a page of another origin or site, with each method", 9 * 3, "403")
async def test_a_page_of_somebody_else_is_refused(server: Victim, times: int) -> None:
    host = f"localhost:{server.port}"
    for header in origins(server.port):
        for head in ("GET /tree HTTP/1.1", f"POST /programs/p HTTP/1.1\r\n{JSON}", "PUT /x HTTP/1.1"):
            body = b'{"text": "x"}' if head.startswith("POST") else b""
            assert (await server.ask(f"{head}\r\n{header}", body, host=host))[0] == 403
        assert (await server.ask(f"GET /healthz HTTP/1.1\r\n{header}", host=host))[0] == 200
    own = f"POST /programs/p HTTP/1.1\r\n{JSON}\r\nOrigin: http://{host}\r\nSec-Fetch-Site: same-origin"
    assert (await server.ask(own, b'{"text": "x"}', host=host))[0] == 200
    assert times == 3 * len(origins(server.port))


PLACES = [
    "/",
    "//evil.example",
    "//evil.example/..",
    "/tree/",
    "/programs/",
    "/\\evil.example",
    "/healthz/",
    "/%2f/evil",
]


@attack("being sent to somebody else by a redirect", len(PLACES) * 2, "no redirect names the stranger")
async def test_no_redirect_leads_away(server: Victim, times: int) -> None:
    for place in PLACES:
        for host in ("localhost", "evil.example"):
            raw = f"GET {place} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
            where = re.findall(rb"(?im)^location: (.*)\r$", await server.send(raw))
            assert where in ([], [b"/tree"])


@attack("a target with somebody else's name in it", 4, "nothing, or what the name in `Host` allows")
async def test_a_whole_url_as_target_is_no_way_around(server: Victim, times: int) -> None:
    for target in ("http://evil.example/tree", "https://evil.example:1/", "http://localhost@evil.example/tree"):
        assert (await server.ask(f"GET {target} HTTP/1.1", host="evil.example"))[0] in (400, 421)
    assert (await server.ask("CONNECT evil.example:80 HTTP/1.1"))[0] in (400, 404, 405)
    assert await server.lives()


TOKENS = ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "Bearer", "\xff" * 20, "x" * 20_000]


@attack("changing a program with another token, or none", 2 * (len(TOKENS) + 2), "401")
async def test_another_token_opens_nothing(server: Victim, times: int) -> None:
    heads = [f"Authorization: Bearer {token}" for token in TOKENS] + ["X-No: token", f"Authorization: Basic {TOKEN}"]
    for header in heads:
        for head in ("POST /programs/p/versions HTTP/1.1", "PUT /programs/p/versions/current HTTP/1.1"):
            assert (await server.ask(f"{head}\r\n{JSON}\r\n{header}", b"{}"))[0] == 401
    right = f"POST /programs/p/versions HTTP/1.1\r\n{JSON}\r\nAuthorization: Bearer {TOKEN}"
    assert (await server.ask(right, b"{}"))[0] == 501
    assert times == 2 * len(heads)


# -- what may be asked ---------------------------------------------------------------------------------------

BODIES = [
    b'{"text": NaN}',
    b'{"text": Infinity}',
    b'{"text": -Infinity}',
    b'{"text": 1e999}',
    b'{"text": ' + b"9" * 5000 + b"}",
    b'{"text": "\xff\xfe"}',
    b'{"text": "\\ud800"}',
    b'{"text": "\x00"}',
    b'\xef\xbb\xbf{"text": "x"}',
    b'{"text": "x"}{"text": "y"}',
    b'{"text": "x",}',
    b"{'text': 'x'}",
    b"[]",
    b"null",
    b"",
]


@attack("what is no JSON, or JSON that means different things to different readers", len(BODIES), "400")
async def test_what_is_no_json_object_is_refused(server: Victim, times: int) -> None:
    for body in BODIES:
        found, _ = (
            await server.ask(f"POST /programs/p HTTP/1.1\r\n{JSON}\r\nContent-Length: {len(body)}")
            if not body
            else (await server.run(body))
        )
        assert (found, body) == (400, body)
    assert await server.lives()


@attack("JSON nested a thousand to five thousand levels deep", 6, "400")
async def test_json_that_is_nested_too_deep_is_refused(server: Victim, times: int) -> None:
    for depth in (1000, 2000, 4900):
        for opening, closing in (("[", "]"), ('{"a":', "}")):
            body = f'{{"text": {opening * depth}1{closing * depth}}}'.encode()[:9_999]
            assert (await server.run(body))[0] == 400
    assert await server.lives()


@attack("one key twice", 2, "the last one counts, for what checks it and for what runs it")
async def test_of_two_keys_the_last_one_counts_everywhere(server: Victim, times: int) -> None:
    assert await server.run(b'{"text": "a", "text": "b"}') == (200, b'{"said":"b"}\n')
    assert (await server.run(b'{"text": "a", "lm": 1, "lm": 2}'))[0] == 422


TARGETS = [
    "/programs/%zz",
    "/programs/%",
    "/programs/%00",
    "/programs/%ff%fe",
    "/programs/..%2f..%2fetc",
    "/%2e%2e/",
    "/*",
]


@attack("paths that are escaped wrongly, or lead upwards", len(TARGETS) * 2, "400, 404, 405 or 415")
async def test_a_strange_path_is_not_found(server: Victim, times: int) -> None:
    for target in TARGETS:
        assert (await server.ask(f"GET {target} HTTP/1.1"))[0] in (400, 404)
        assert (await server.ask(f"POST {target} HTTP/1.1", b"{}"))[0] in (400, 404, 405, 415)
    assert await server.lives()


@attack("an error with a secret in it, a crash with one", 2, "an id that leads to it in the log")
async def test_no_cause_stands_in_an_answer(server: Victim, times: int) -> None:
    with capture_logs() as logs:
        for text, expected in (("fail", 500), ("crash", 503)):
            found, body = await server.run(json.dumps({"text": text}).encode())
            assert (found, SECRET.encode() in body, b"LookupError" in body) == (expected, False, False)
            assert json.loads(body)["id"] == logs[-1]["id"]


# -- two readers of one connection ---------------------------------------------------------------------------

HIDDEN = b"GET /healthz?hidden HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMUGGLED = [
    b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
    b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n",
    b"Content-Length: 0, %d\r\n\r\n",
    b"Content-Length: +%d\r\n\r\n",
    b"Content-Length: -%d\r\n\r\n",
    b"Content-Length: 0x%x\r\n\r\n",
    b"Content-Length : %d\r\n\r\n",
    b"Transfer-Encoding: xchunked\r\nContent-Length: %d\r\n\r\n",
    b"Transfer-Encoding: chunked, identity\r\nContent-Length: %d\r\n\r\n",
    b"Transfer-Encoding:\x0bchunked\r\nContent-Length: %d\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
    b"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n",
    b"X: y\rTransfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
]


@attack(
    "two lengths, a length and chunks, and other ways to hide a request in a body", len(SMUGGLED), "not one was found"
)
async def test_no_request_hides_in_the_body_of_another(server: Victim, times: int) -> None:
    seen: list[str] = []
    server.runtime.subscribe(lambda event: seen.append(event.route), HttpHandled)
    for headers in SMUGGLED:
        head = f"POST /programs/p HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\n".encode()
        answer = await server.send(head + headers % len(HIDDEN) + HIDDEN)
        assert (status(answer) in (0, 400, 408), headers) == (True, headers)
        assert "/healthz" not in seen
    assert await server.lives()


@attack("many requests in one packet (pipelining)", 100, "answered in order, or the connection ends")
async def test_pipelined_requests_are_answered_in_order(server: Victim, times: int) -> None:
    numbers = range(times)
    parts = []
    for number in numbers:
        body = json.dumps({"text": f"n{number}"}).encode()
        last = "Connection: close\r\n" if number == times - 1 else ""
        head = f"POST /programs/p HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\n{last}Content-Length: {len(body)}\r\n\r\n"
        parts.append(head.encode() + body)
    answer = await server.send(b"".join(parts))
    assert re.findall(rb'"said":"n(\d+)"', answer) == [b"%d" % number for number in numbers]


# -- how much ------------------------------------------------------------------------------------------------


@attack("silent connections, ten times as many as may be open", 1000, "somebody decent is served all the while")
async def test_silent_connections_shut_nobody_out(server: Victim, times: int) -> None:
    silent = []
    for number in range(times):
        silent.append(await server.open())
        if number % 100 == 0:
            assert await server.lives()
    assert await server.lives()
    for reader, writer in silent:
        assert status(await read_all(reader)) in (0, 503)
        writer.close()


@attack("heads that come a byte at a time (slowloris)", 50, "ended after the time for a head")
async def test_a_slow_head_does_not_hold_a_connection(server: Victim, times: int) -> None:
    async def drip() -> bytes:
        reader, writer = await server.open()
        over = asyncio.ensure_future(read_all(reader))
        for byte in b"GET /healthz HTTP/1.1\r\nX: " + b"y" * 1000:
            writer.write(bytes([byte]))
            await asyncio.wait([over], timeout=0.05)
            if over.done():
                break
        writer.close()
        return await over

    slow = [asyncio.ensure_future(drip()) for _ in range(times)]
    assert await server.lives()
    assert {status(answer) for answer in await asyncio.gather(*slow)} == {0}


@attack("bodies that do not come, or not to their end", 50, "408")
async def test_a_body_that_does_not_come_is_not_waited_for(server: Victim, times: int) -> None:
    head = f"POST /programs/p HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\n".encode()
    halves = (head + b'Content-Length: 99\r\n\r\n{"te', head + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{")
    slow = [asyncio.ensure_future(server.send(halves[number % 2])) for number in range(times)]
    assert await server.lives()
    assert {status(answer) for answer in await asyncio.gather(*slow)} == {408}


@attack("heads without an end: long lines, many lines, a long target, a long method", 4, "400 or 431")
async def test_a_head_without_an_end_is_refused(server: Victim, times: int) -> None:
    for head in (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 1_000_000,
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 100_000,
        b"GET /" + b"x" * 1_000_000,
        b"G" * 1_000_000,
    ):
        assert status(await server.send(head)) in (0, 400, 431)
    assert await server.lives()
    assert (await server.run(b'{"text": "x"}'.ljust(9_000), "X: " + "x" * 30_000))[0] == 200


@attack("bodies that are too long: said, chunked, without an end, with an end that is too long", 4, "413, or cut off")
async def test_a_body_that_is_too_long_is_refused_before_it_is_read(server: Victim, times: int) -> None:
    head = f"POST /programs/p HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\n".encode()
    chunk = b"3e8\r\n" + b" " * 1000 + b"\r\n"
    for rest in (
        b"Content-Length: 1000000000000\r\n\r\n{",
        b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 20,
        b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 5000,
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: y\r\n" * 100_000,
    ):
        assert status(await server.send(head + rest)) in (0, 400, 413)
    assert await server.lives()


@attack("more requests for one program than may wait", 200, "20 wait, 180 times 429 with `Retry-After`, at once")
async def test_more_requests_than_may_wait_are_told_to_come_again(server: Victim, times: int) -> None:
    body = b'{"text": "wait"}'
    raw = (
        f"POST /programs/p HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )
    waiting: list[asyncio.StreamWriter] = []
    refused = 0
    for _ in range(times):
        reader, writer = await server.open()
        writer.write(raw)
        if len(waiting) < 20:
            while server.program.begun <= len(waiting):
                await asyncio.wait([asyncio.ensure_future(reader.read(1))], timeout=0.01)
            waiting.append(writer)
        else:
            answer = await reader.readuntil(b"\r\n\r\n")
            refused += status(answer) == 429 and b"retry-after: 1" in answer
            writer.close()
    assert (len(waiting), refused) == (20, times - 20)
    assert server.program.running == 20
    for writer in waiting:
        writer.close()
    await server.program.idle(20)
    assert await server.lives()


@attack("going away while the program runs, with and without a stream", 40, "each run is cancelled")
async def test_who_goes_away_leaves_nothing_running(server: Victim, times: int) -> None:
    body = b'{"text": "wait"}'
    for number in range(times):
        accept = "Accept: text/event-stream\r\n" if number % 2 else ""
        head = f"POST /programs/p HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\n{accept}Content-Length: {len(body)}\r\n\r\n"
        reader, writer = await server.open()
        writer.write(head.encode() + body)
        while server.program.begun <= number:
            await asyncio.wait([asyncio.ensure_future(server.lives())])
        if number % 3:
            writer.transport.abort()
        else:
            writer.close()
        await server.program.idle(number + 1)
        del reader
    assert await server.lives()


@attack("breaking off a request after each of its bytes", 150, "nothing is left, nobody else notices")
async def test_breaking_off_anywhere_leaves_nothing(server: Victim, times: int) -> None:
    body = b'{"text": "hello"}'
    head = f"POST /programs/p HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: {len(body)}\r\n\r\n"
    raw = (head.encode() + body).ljust(times)
    for length in range(times):
        _, writer = await server.open()
        writer.write(raw[:length])
        writer.transport.abort() if length % 2 else writer.close()
    assert await server.lives()
    assert server.program.running == 0


@attack("connections with half a request each, as many as may be open", 10, "one more: 503; then they end")
async def test_one_more_than_all_busy_connections_is_told_so(parser: str, times: int) -> None:
    async with serving(structs.replace(LIMITS, max_connections=times, body_timeout=2.0)) as server:
        head = f"POST /programs/p HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: 9\r\n\r\n"
        busy = []
        for _ in range(times):
            reader, writer = await server.open()
            writer.write(head.encode() + b"{")
            busy.append((asyncio.ensure_future(read_all(reader)), writer))
        refused = b""
        while status(refused) != 503:
            refused = await server.send(b"GET /tree HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b"retry-after: 1" in refused
        for answer, writer in busy:
            await answer
            writer.close()
        assert await server.lives()


@attack("streams that nobody reads", 5, "ended after the time for reading")
async def test_a_stream_that_nobody_reads_ends(server: Victim, times: int) -> None:
    body = b'{"text": "write"}'
    head = f"POST /programs/p HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nAccept: text/event-stream\r\n"
    told: list[HttpHandled] = []
    over = asyncio.Event()

    def note(event: HttpHandled) -> None:
        told.append(event)
        over.set()

    server.runtime.subscribe(note, HttpHandled)  # type: ignore[arg-type]
    with ExitStack() as deaf:
        for _ in range(times):
            one = deaf.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            one.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        # The program handles one message at a time: the next begins to write when the one before has ended.
        while len(told) < times:
            over.clear()
            await over.wait()
    assert await server.lives()
    assert all(event.seconds < 15 for event in told)
    assert server.runtime.statistics().dead_letters.get("died", 0) == 0


ASK_LONG = (
    f'POST /programs/p HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\nContent-Length: 16\r\n\r\n{{"text": "long"}}'.encode()
)


@on_both_loops
async def test_who_reads_late_gets_all_of_a_long_answer(parser: str) -> None:
    async with serving(structs.replace(LIMITS, write_timeout=60.0)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1000)
        writer.write(ASK_LONG)
        assert status(await reader.readuntil(b"\r\n\r\n")) == 200
        assert await server.lives()
        assert len(await reader.readexactly(LONG)) == LONG
        writer.close()


@on_both_loops
async def test_a_front_that_stops_does_not_wait_for_ever_for_who_does_not_read(parser: str) -> None:
    async with serving(structs.replace(LIMITS, write_timeout=600.0)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1000)
        writer.write(ASK_LONG)
        await reader.readuntil(b"\r\n\r\n")
    assert len(await read_all(reader)) < LONG
    writer.close()


@attack("protocols that are not spoken here: websockets, HTTP/2, TLS, noise", 5, "refused")
async def test_other_protocols_are_not_spoken(server: Victim, times: int) -> None:
    for raw in (
        (
            b"GET /tree HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        bytes(range(256)) * 10,
        b"\r\n" * 10_000,
    ):
        assert b"101 Switching" not in await server.send(raw)
    assert await server.lives()


def test_the_table_in_the_documents_is_what_is_tried_here() -> None:
    table = PAGE.read_text().partition("<!-- attacks: tests/foundation/test_attacks.py")[2].partition("\n\n")[0]
    shown = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines()[3:]]
    assert shown == [(row.tried, str(row.times), row.outcome) for row in ROWS]
