"""The HTTP server as an actor: a real server on a real port."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import pytest

from foundation.events import Serving
from foundation.http import HttpServer, PortTaken
from foundation.http.listener import ListeningSocket, listening_socket
from foundation.http.server import ServerEnded, UvicornServer
from supervision import Abnormal, Actor, ChildSpec, Crashed, Ref, Runtime, StartError, Supervisor
from supervision.events import Restarted
from tests.supervision.probes import error_of

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])


class Slow(Actor):
    """Cannot be stopped at once."""


async def get(url: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(url, **options)


def urls(runtime: Runtime) -> list[str]:
    found: list[str] = []
    runtime.subscribe(lambda event: found.append(event.url), Serving)  # type: ignore[attr-defined]
    return found


async def test_a_front_serves_from_its_start_to_its_end_and_says_where() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        served = urls(runtime)
        server = await runtime.spawn(HttpServer, port=0)
        (url,) = served
        assert url.startswith("http://127.0.0.1:")
        assert (await get(f"{url}/healthz")).json() == {"status": "ok"}
        await server.stop()
        with pytest.raises(httpx.ConnectError):
            await get(f"{url}/healthz")


async def test_a_front_that_is_killed_is_restarted_at_the_same_port_and_refuses_nobody() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        served = urls(runtime)
        restarted = asyncio.Event()
        runtime.subscribe(lambda _: restarted.set(), Restarted)
        top = await runtime.spawn(Supervisor, [ChildSpec("http", HttpServer, kwargs={"port": 0}, name="http")])
        server = runtime.whereis("http")
        assert server is not None
        server.kill()
        waiting = asyncio.ensure_future(get(f"{served[0]}/healthz"))
        await restarted.wait()
        assert (await waiting).status_code == 200
        assert served[0] == served[1]
        await top.stop()


async def test_a_front_that_is_killed_and_not_restarted_leaves_the_port_free() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        served = urls(runtime)
        server = await runtime.spawn(HttpServer, port=0)
        assert isinstance(server, Ref)
        ends = ends_of(server)
        server.kill()
        await asyncio.gather(*ends)
        port = int(served[0].rpartition(":")[2])
        with socket.create_server(("127.0.0.1", port)):
            pass


def ends_of(server: Any) -> list[asyncio.Task[None]]:
    """Return the tasks that outlive a killed server for a moment."""
    return [server.actor._serving, server.actor._guard]


async def test_a_port_that_is_taken_is_said_in_one_line_with_the_next_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with Runtime(watchdog=None, reports=False) as runtime:
            error = await error_of(runtime.spawn(HttpServer, port=port))
    assert isinstance(error, StartError)
    assert isinstance(error.__cause__, PortTaken)
    assert str(error.__cause__) == (
        f"port {port} on 127.0.0.1 is taken; choose another: --port {port + 1}, or --port 0 for any"
    )


async def test_an_address_that_is_not_ours_is_said_in_one_line() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        error = await error_of(runtime.spawn(HttpServer, "192.0.2.1", 0))
    assert "cannot listen on 192.0.2.1 port 0" in str(error)
    assert "--host" in str(error)


async def test_a_server_that_ends_by_itself_takes_the_front_with_it() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        server = await runtime.spawn(HttpServer, port=0)
        server.cast(ServerEnded("it returned"))
        assert await server.join() == Abnormal("the web server ended by itself: it returned")


async def test_a_server_that_cannot_start_is_a_start_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: UvicornServer, sockets: object = None) -> None:
        raise ValueError("no server today")

    monkeypatch.setattr("uvicorn.Server.startup", fail)
    async with Runtime(watchdog=None, reports=False) as runtime:
        error = await error_of(runtime.spawn(HttpServer, port=0))
    assert isinstance(error, StartError)
    assert isinstance(error.reason, Crashed)
    assert "no server today" in error.reason.message


async def test_a_server_that_fails_later_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: UvicornServer) -> None:
        raise ValueError("the disk is full")

    monkeypatch.setattr("uvicorn.Server.main_loop", fail)
    async with Runtime(watchdog=None, reports=False) as runtime:
        server = await runtime.spawn(HttpServer, port=0)
        assert await server.join() == Abnormal("the web server ended by itself: ValueError: the disk is full")


async def test_each_write_to_a_connection_is_sent_at_once() -> None:
    """Else the second one of two waits until the client has acknowledged the first, for some 40 ms."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        listener, owner = listening_socket(runtime, "127.0.0.1", 0), await runtime.spawn(Slow)
        with listener.listen(owner) as listening, socket.create_connection(listening.getsockname()):
            connection, _ = listening.accept()
            with connection:
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        listener.close(owner)


async def test_a_listening_socket_is_written_as_a_url_also_for_version_6() -> None:
    assert ListeningSocket("::1", 80).url == "http://[::1]:80"
    if socket.has_ipv6:
        async with Runtime(watchdog=None, reports=False) as runtime:
            listener = listening_socket(runtime, "::1", 0)
            assert listening_socket(runtime, "::1", 0) is listener
            owner, other = await runtime.spawn(Slow), await runtime.spawn(Slow)
            listener.listen(owner).close()
            listener.close(other)
            listener.listen(other).close()
            listener.close(owner)
            listener.close(other)
            listener.close(other)
