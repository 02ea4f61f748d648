"""Virtual time waits for whoever works for the loop, and for nobody who only could."""

from __future__ import annotations

import asyncio
import os
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import anyio.from_thread
import anyio.to_thread
import pytest

from supervision.testing import VirtualClockLoop, run
from supervision.testing.virtual_time._files import awaited, sent
from supervision.testing.virtual_time._threads import at_work, name_of, waits_for_others

HOUR = 3600.0
#: Real seconds that the world needs in these tests.
MOMENT = 0.05


def work() -> int:
    time.sleep(MOMENT)
    return 7


async def in_to_thread() -> int:
    return await asyncio.to_thread(work)


async def in_anyio() -> int:
    return await anyio.to_thread.run_sync(work)


async def in_a_process() -> int:
    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(1) as pool:
        return await loop.run_in_executor(pool, int, "7")


async def in_a_thread_that_calls_back() -> int:
    loop = asyncio.get_running_loop()
    result: asyncio.Future[int] = loop.create_future()
    threading.Thread(target=lambda: loop.call_soon_threadsafe(result.set_result, work())).start()
    return await result


async def in_a_pool_that_calls_back() -> int:
    loop = asyncio.get_running_loop()
    result: asyncio.Future[int] = loop.create_future()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()  # its thread is there, and waits
        pool.submit(lambda: loop.call_soon_threadsafe(result.set_result, work()))
        return await result


async def in_a_subprocess() -> int:
    command = (sys.executable, "-c", "print(7)")
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    return int(output)


async def at_a_server() -> int:
    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            work()
            connection.send(b"7")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, name="server").start()
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    return int(answer)


@pytest.mark.parametrize(
    "wait",
    [
        in_to_thread,
        in_anyio,
        in_a_process,
        in_a_thread_that_calls_back,
        in_a_pool_that_calls_back,
        in_a_subprocess,
        at_a_server,
    ],
)
def test_a_time_limit_does_not_strike_while_the_world_works(wait: Callable[[], Awaitable[int]]) -> None:
    async def main() -> int:
        async with asyncio.timeout(HOUR):
            return await wait()

    assert run(main()) == 7


def test_a_thread_that_waits_for_the_loop_does_not_hold_time_up() -> None:
    async def asleep() -> float:
        await asyncio.sleep(HOUR)
        return asyncio.get_running_loop().time()

    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        first = await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(asleep(), loop).result())
        return first, await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(asleep))

    began = time.monotonic()
    assert run(main()) == pytest.approx((HOUR, 2 * HOUR), abs=1.0)
    assert time.monotonic() - began < 30


def test_an_idle_thread_that_its_pool_counts_as_busy_does_not_hold_time_up() -> None:
    """Python 3.12 and later may lose count; work that is given to the pool afterwards is waited for as ever."""

    async def main(pool: ThreadPoolExecutor) -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        for _ in range(100):
            await asyncio.sleep(HOUR)
        result: asyncio.Future[int] = loop.create_future()
        pool.submit(lambda: loop.call_soon_threadsafe(result.set_result, work()))
        async with asyncio.timeout(HOUR):
            return await result, loop.time()

    with ThreadPoolExecutor(2) as pool:
        together = threading.Barrier(2)
        for each in [pool.submit(together.wait, 30) for _ in range(2)]:
            each.result()
        while not pool._idle_semaphore.acquire(timeout=0):  # type: ignore[attr-defined]
            time.sleep(0)  # a thread says that it is idle after the result is there
        began = time.monotonic()
        found, passed = run(main(pool))
        assert (found, passed >= 100 * HOUR) == (7, True)
        assert time.monotonic() - began < 30


def test_a_pool_whose_threads_have_ended_before_it_was_clear_holds_no_later_loop_up() -> None:
    """Each would wait for what nobody tells any more."""
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()
    while not pool._idle_semaphore.acquire(timeout=0):
        time.sleep(0)
    at_work(())  # it is seen once that a thread is missing in the count
    pool.shutdown()
    began = time.monotonic()
    for _ in range(100):
        run(asyncio.sleep(HOUR))
    assert time.monotonic() - began < 30


def _spin(begun: threading.Event, over: threading.Event) -> None:
    begun.set()
    while not over.is_set():
        time.sleep(0.001)


@pytest.mark.parametrize("seconds", [None, HOUR])
def test_threads_that_wait_or_were_there_before_hold_nothing_up(seconds: float | None) -> None:
    begun, over = threading.Event(), threading.Event()
    before = threading.Thread(target=_spin, args=(begun, over))
    before.start()
    begun.wait()

    async def main() -> float:
        idle = threading.Thread(target=over.wait, args=(seconds,))
        idle.start()
        follower = threading.Thread(target=idle.join)
        follower.start()
        other = asyncio.new_event_loop()
        looping = threading.Thread(target=other.run_forever)
        looping.start()
        await asyncio.sleep(HOUR)
        over.set()
        follower.join()
        other.call_soon_threadsafe(other.stop)
        looping.join()
        other.close()
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(HOUR, abs=1.0)
    before.join()


def test_connections_of_many_kinds_are_looked_at() -> None:
    async def main() -> dict[str, bool]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        found = {}
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname())
            served, _ = listening.accept()
            client.setblocking(False)
            reading = asyncio.ensure_future(loop.sock_recv(client, 1))
            await asyncio.sleep(0)
            found["a read of a bare socket"] = loop._awaited_files() == [client.fileno()]
            waits = (sys.executable, "-c", "input()")
            process = await asyncio.create_subprocess_exec(*waits, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            await asyncio.sleep(0)
            found["a process beside it"] = len(loop._awaited_files()) > 1
            await process.communicate(b"\n")  # it ends no earlier, however slow this one is
            served.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            served.close()  # a reset
            found["one that was reset"] = client.fileno() in loop._awaited_files()
            with pytest.raises(ConnectionResetError):
                await reading
            client.close()
        return found

    assert all(run(main()).values())


class Silent(asyncio.Protocol):
    """A protocol of which nobody knows whether it waits for anything."""


def test_open_connections_on_which_nothing_happens_hold_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supervision.testing.virtual_time._files.SILENT", MOMENT)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            await asyncio.sleep(HOUR)
            writer.write(line)
        writer.close()

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        transport, _ = await loop.create_connection(Silent, *address)
        times = []
        for _ in range(2):
            writer.write(b"line\n")
            assert await reader.readline() == b"line\n"
            await asyncio.sleep(HOUR)
            times.append(loop.time())
        transport.close()
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        return times

    began = time.monotonic()
    assert run(main()) == pytest.approx([2 * HOUR, 4 * HOUR], abs=1.0)
    assert time.monotonic() - began < 30


def test_a_connection_to_another_process_is_waited_for_as_long_as_somebody_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("supervision.testing.virtual_time._files.SILENT", MOMENT)

    async def main() -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        found = {}
        with socket.create_server(("127.0.0.1", 0)) as listening:
            address = listening.getsockname()
            reader, writer = await asyncio.open_connection(*address)
            found["nobody reads"] = bool(loop._awaited_files())
            reading = asyncio.ensure_future(reader.read())
            await asyncio.sleep(0)
            found["somebody reads"] = bool(loop._awaited_files())
            reading.cancel()
            stream = await anyio.connect_tcp(*address)
            await asyncio.sleep(0)
            found["anyio: nobody reads"] = bool(loop._awaited_files())
            receiving = asyncio.ensure_future(stream.receive())
            await asyncio.sleep(0)
            found["anyio: somebody reads"] = bool(loop._awaited_files())
            receiving.cancel()
            await asyncio.sleep(0)
            transport, _ = await loop.create_connection(Silent, *address)
            found["unknown, a moment ago"] = bool(loop._awaited_files())
            await asyncio.to_thread(time.sleep, 2 * MOMENT)
            found["unknown, silent"] = bool(loop._awaited_files())
            transport.close()
            writer.close()
            await stream.aclose()
        return found

    assert run(main()) == {
        "nobody reads": False,
        "somebody reads": True,
        "anyio: nobody reads": False,
        "anyio: somebody reads": True,
        "unknown, a moment ago": True,
        "unknown, silent": False,
    }


class Listener(asyncio.Protocol):
    """A protocol of which nobody knows whether it waits for anything: it hears."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.heard.set()


class Answering(Listener):
    """One that answers as well."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)
        super().data_received(data)


_SERVER = """
import socket, sys, time
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
connection, _ = listening.accept()
while data := connection.recv(10):
    time.sleep(0.1)
    connection.send(data)
"""


def test_a_question_is_waited_for_and_a_connection_that_is_kept_alive_after_the_answer_is_not() -> None:
    """The server is a process of its own, and no protocol of asyncio's says whether it reads."""

    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        spent = []
        transport, protocol = await loop.create_connection(Listener, "127.0.0.1", port)
        for _ in range(3):
            protocol.heard.clear()
            transport.write(b"question")
            async with asyncio.timeout(HOUR):
                await protocol.heard.wait()
            began = time.monotonic()
            await asyncio.sleep(HOUR)
            spent.append(time.monotonic() - began)
        transport.close()
        await asyncio.sleep(1)
        return spent

    with subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        spent = run(main())
    assert max(spent) < 1


def test_a_connection_that_a_server_keeps_open_for_the_next_request_holds_nothing_up() -> None:
    """The client is a process of its own."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        served: list[Answering] = []

        def serve() -> Answering:
            served.append(Answering())
            return served[-1]

        server = await loop.create_server(serve, sock=listening)
        command = (sys.executable, "-c", _CLIENT, str(listening.getsockname()[1]))
        process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE)
        async with asyncio.timeout(HOUR):
            while not served:
                await asyncio.to_thread(time.sleep, 0.01)
            await served[0].heard.wait()
        assert isinstance(loop, VirtualClockLoop)
        idle = served[0].transport.get_extra_info("socket").fileno()
        await asyncio.to_thread(time.sleep, 0.1)
        assert idle not in loop._awaited_files()
        await process.communicate(b"end")
        served[0].transport.close()
        server.close()
        await server.wait_closed()
        return loop.time()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert run(main()) < HOUR


_CLIENT = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    connection.send(b"request")
    connection.recv(10)
    sys.stdin.read()
"""


def test_a_job_that_cannot_be_begun_holds_nothing_up() -> None:
    async def main() -> list[str]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        pool = ThreadPoolExecutor(1)
        pool.shutdown()
        with pytest.raises(RuntimeError, match="shutdown"):
            loop.run_in_executor(pool, work)
        return loop.held_up_by()

    assert run(main()) == []


def test_threads_and_files_that_have_gone_are_not_waited_for() -> None:
    thread = threading.Thread(target=work, name="worker")
    thread.start()
    ident = thread.ident
    assert ident is not None
    assert name_of(ident) == "thread 'worker'"
    assert not waits_for_others(ident)
    thread.join()
    assert waits_for_others(ident)
    assert ident not in at_work(())
    assert name_of(ident) == f"thread {ident}"
    assert awaited([], {}) == []


def test_ends_of_which_the_system_tells_nothing_are_waited_for() -> None:
    one, other = socket.socketpair()
    reading, writing = os.pipe()
    assert sent(one.fileno()) is None
    assert sent(reading) is None
    selector = selectors.DefaultSelector()
    key = selector.register(one, selectors.EVENT_READ, (None, None))
    assert awaited([key], {}) == [one.fileno()]
    selector.close()
    for each in (one, other):
        each.close()
    for file in (reading, writing):
        os.close(file)
