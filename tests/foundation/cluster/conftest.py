"""Clusters of runtimes in one process, and a NATS server."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest

from foundation.cluster import Cluster, MemoryNetwork
from supervision import Actor, Ref, Runtime
from supervision.events import Event


class Nodes:
    """Nodes of a cluster in one process, by their names."""

    def __init__(self, network: MemoryNetwork, exits: AsyncExitStack) -> None:
        self.network = network
        self._exits = exits
        self.clusters: dict[str, Cluster] = {}
        self.events: dict[str, list[Event]] = {}

    async def start(self, *nodes: str, names: tuple[str, ...] = ()) -> list[Cluster]:
        """Start nodes that know each other."""
        for node in nodes:
            runtime = await self._exits.enter_async_context(Runtime(watchdog=None, reports=False, seed=1))
            events: list[Event] = []
            runtime.subscribe(events.append)
            self.events[node] = events
            cluster = Cluster(runtime, self.network.port(), node=node, names=names)
            self.clusters[node] = await self._exits.enter_async_context(cluster)
        for cluster in self.clusters.values():
            for node in self.clusters.keys() - {cluster.node}:
                await cluster.wait_for_node(node)
        return [self.clusters[node] for node in nodes]

    def told(self, node: str, kind: type[Event]) -> list[Event]:
        """Return what a node has told of a kind."""
        return [event for event in self.events[node] if type(event) is kind]


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    """A cluster without nodes so far."""
    async with AsyncExitStack() as exits:
        yield Nodes(MemoryNetwork(), exits)


NUMBERS = count(1)


async def remote(here: Cluster, there: Cluster, kind: type[Actor], *args: object) -> Ref:
    """Start an actor on one node, and return its address on another one."""
    ref = await there.runtime.spawn(kind, *args)
    name = f"it-{next(NUMBERS)}"
    await there.register(name, ref)
    return await here.wait_for_name(name)


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class NatsServer:
    """A NATS server of one's own."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.options: list[str] = []
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        program = shutil.which("nats-server", path=str(Path(sys.executable).parent))
        assert program is not None
        command = [program, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self._folder), *self.options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if b"Server is ready" in line:
                return
        raise AssertionError("the server has ended")

    def kill(self) -> None:
        """Kill it, as -9 does."""
        if self.process is not None:
            assert self.process.stderr is not None
            self.process.kill()
            self.process.wait()
            self.process.stderr.close()
            self.process = None


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that listens."""
    server = NatsServer(tmp_path / "nats")
    server.start()
    yield server
    server.kill()
