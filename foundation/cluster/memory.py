"""A cluster within one process: the port for tests, on the loop's time, with faults by seed.

>>> import asyncio
>>> from foundation.cluster import Cluster, MemoryNetwork
>>> from supervision import Actor, Request, Runtime, handle
>>> class Greet(Request[str]):
...     name: str
>>> class Greeter(Actor):
...     @handle
...     def greet(self, request: Greet) -> str:
...         return f"hello, {request.name}"
>>> async def main() -> str:
...     network = MemoryNetwork()
...     async with Runtime() as here, Runtime() as there:
...         async with Cluster(here, network.port(), node="a") as a, Cluster(there, network.port(), node="b") as b:
...             await b.register("greeter", await there.spawn(Greeter))
...             await a.wait_for_name("greeter")
...             return await here.name("greeter").call(Greet("Ada"))
>>> asyncio.run(main())
'hello, Ada'
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from foundation.cluster.errors import ClusterUnavailable, WrongRevision
from foundation.cluster.port import Entry, Keys, Watcher
from foundation.cluster.wire import OVERHEAD
from supervision.errors import BadOption

#: Seconds until a request to the keys that gets no answer fails.
NO_ANSWER = 1.0


class MemoryNetwork:
    """What stands between the nodes of a cluster in one process. Its faults can be set at any time.

    Messages from one node to another keep their order, whatever their delay. With the same seed, and the same calls in
    the same order, the same messages are lost.

    Args:
        seed: for chance.
        delay: seconds that a message takes, from and to.
        max_payload: the most bytes of a message.

    Attributes:
        loss: the share of messages between nodes that are lost.
        duplicates: the share that arrives twice.
        lost_answers: the share of writes of keys that are carried out, and whose answer is lost.
        keys_down: whether the keys answer nobody.
    """

    random: Random
    delay: tuple[float, float]
    max_payload: int
    loss: float
    duplicates: float
    lost_answers: float
    keys_down: bool

    def __init__(self, seed: int = 0, delay: tuple[float, float] = (0.001, 0.001), max_payload: int = 1 << 20) -> None:
        self.random = Random(seed)
        self.delay = delay
        self.max_payload = max_payload
        self.loss = 0.0
        self.duplicates = 0.0
        self.lost_answers = 0.0
        self.keys_down = False
        self._ports: dict[str, MemoryPort] = {}
        self._nodes: set[str] = set()
        self._cut: set[tuple[str, str]] = set()
        self._pipes: dict[tuple[str, str], _Pipe] = {}
        self._buckets: dict[str, _Bucket] = {}

    def __setattr__(self, name: str, value: object) -> None:
        """Take a setting; a fault that is misspelt would be none."""
        why = _wrong(name, value)
        if why:
            raise BadOption(name, value, why)
        super().__setattr__(name, value)

    def port(self) -> MemoryPort:
        """Return the port of one more node."""
        return MemoryPort(self)

    def cut(self, sender: str, receiver: str) -> None:
        """Lose all messages from one node to another, in this direction; ``*`` stands for the keys, and all nodes.

        Raises:
            BadOption: there was never a node of this name.
        """
        for node in {sender, receiver} - {"*"}:
            self._see_known(node)
        self._cut.add((sender, receiver))

    def isolate(self, node: str) -> None:
        """Lose all messages from and to a node; nor do the keys answer it.

        Raises:
            BadOption: there was never a node of this name.
        """
        self._see_known(node)
        self._cut |= {(node, "*"), ("*", node)}

    def heal(self) -> None:
        """End what `cut` and `isolate` have begun."""
        self._cut.clear()

    def kill(self, node: str) -> None:
        """Let a node say and hear nothing any more, as if its process had been killed.

        Raises:
            BadOption: no node of this name runs.
        """
        if node not in self._ports:
            raise BadOption("node", node, f"give one that runs: {', '.join(sorted(self._ports)) or 'none does'}")
        port = self._ports.pop(node)
        port.detach()
        port.network = MemoryNetwork(max_payload=self.max_payload)
        port.network.keys_down = True

    def reaches(self, sender: str, receiver: str) -> bool:
        """Whether messages get from one node to another."""
        return not self._cut & {(sender, receiver), (sender, "*"), ("*", receiver)}

    def meet(self, node: str) -> None:
        """Note that there is a node of this name."""
        self._nodes.add(node)

    def _see_known(self, node: str) -> None:
        if node not in self._nodes:
            raise BadOption("node", node, f"give one that has begun: {', '.join(sorted(self._nodes)) or 'none has'}")

    def join(self, node: str, port: MemoryPort) -> None:
        """Let a port receive what is sent to a node of this name."""
        self._ports[node] = port

    def send(self, sender: str, subject: str, data: bytes) -> None:
        """Send a message to all who listen, faults included."""
        for node, port in self._ports.items():
            for pattern, receive in port.subscriptions:
                if _fits(subject, pattern) and self._passes(sender, node):
                    self._deliver((sender, node), receive, data)

    def _passes(self, sender: str, node: str) -> bool:
        return sender == node or (self.reaches(sender, node) and self.random.random() >= self.loss)

    def _deliver(self, pair: tuple[str, str], receive: Callable[[bytes], None], data: bytes) -> None:
        for _ in range(2 if self.random.random() < self.duplicates else 1):
            self.pass_on(pair, partial(receive, data))

    def pass_on(self, pair: tuple[str, str], arrive: Callable[[], None]) -> None:
        """Have something arrive, behind all that is under way from the same sender to the same receiver."""
        self._pipes.setdefault(pair, _Pipe()).put(arrive, self.random.uniform(*self.delay))

    async def ask_keys(self, node: str, what: str) -> None:
        """Wait as long as a request to the keys takes.

        Raises:
            ClusterUnavailable: they do not answer this node.
        """
        await _pass_time(self.random.uniform(*self.delay))
        if self.keys_down or not self.reaches(node, "*"):
            await _pass_time(NO_ANSWER)
            raise ClusterUnavailable(what, "no answer")

    async def answer_of_keys(self, what: str) -> None:
        """Wait for the answer to a write, which may be lost.

        Raises:
            ClusterUnavailable: it is.
        """
        if self.random.random() < self.lost_answers:
            await _pass_time(NO_ANSWER)
            raise ClusterUnavailable(what, "no answer")

    def bucket(self, name: str, ttl: float | None) -> _Bucket:
        """Return the keys of a bucket."""
        return self._buckets.setdefault(name, _Bucket(self, ttl))


class _Pipe:
    """The way from a sender to a receiver: what is under way keeps its order."""

    def __init__(self) -> None:
        self._under_way: deque[Callable[[], None]] = deque()
        self._last = 0.0

    def put(self, arrive: Callable[[], None], delay: float) -> None:
        """Have something arrive after a delay, or with what is before it."""
        loop = asyncio.get_running_loop()
        self._under_way.append(arrive)
        self._last = max(self._last, loop.time() + delay)
        loop.call_at(self._last, self._arrive)

    def _arrive(self) -> None:
        self._under_way.popleft()()


class _Bucket:
    """Keys, as the server has them."""

    def __init__(self, network: MemoryNetwork, ttl: float | None) -> None:
        self._network = network
        self._ttl = ttl
        self._revision = 0
        self.entries: dict[str, Entry] = {}
        self.watchers: list[tuple[str, Watcher]] = []

    def put(self, key: str, value: bytes | None, revision: int) -> int:
        """Write a key, or delete it, if it is at a revision."""
        held = self.entries.get(key)
        if (0 if held is None else held.revision) != revision:
            raise WrongRevision(key, revision)
        self._revision += 1
        entry = self.entries[key] = Entry(key, value, self._revision)
        for node, watcher in self.watchers:
            if self._network.reaches("*", node):
                self._network.pass_on(("*", node), partial(watcher.changed, entry))
        if self._ttl is not None and value is not None:
            asyncio.get_running_loop().call_later(self._ttl, self._expire, entry)
        return self._revision

    def _expire(self, entry: Entry) -> None:
        if self.entries.get(entry.key) is entry:
            self.put(entry.key, None, entry.revision)


class MemoryKeys:
    """The keys of a bucket, as one node sees them."""

    def __init__(self, port: MemoryPort, bucket: _Bucket) -> None:
        self._port = port
        self._bucket = bucket

    async def get(self, key: str) -> Entry | None:
        """See `Keys.get`."""
        await self._port.network.ask_keys(self._port.node, key)
        return self._bucket.entries.get(key)

    async def write(self, key: str, value: bytes, revision: int) -> int:
        """See `Keys.write`."""
        return await self._put(key, value, revision)

    async def delete(self, key: str, revision: int) -> None:
        """See `Keys.delete`."""
        await self._put(key, None, revision)

    async def _put(self, key: str, value: bytes | None, revision: int) -> int:
        await self._port.network.ask_keys(self._port.node, key)
        written = self._bucket.put(key, value, revision)
        await self._port.network.answer_of_keys(key)
        return written

    async def watch(self, watcher: Watcher) -> None:
        """See `Keys.watch`."""
        await self._port.network.ask_keys(self._port.node, "watch")
        self._bucket.watchers.append((self._port.node, watcher))
        self._port.watched.append((self._bucket, watcher))
        watcher.loaded(tuple(self._bucket.entries.values()))


class MemoryPort:
    """The port of one node of a cluster in one process."""

    def __init__(self, network: MemoryNetwork) -> None:
        self.network = network
        self.max_payload = network.max_payload
        self.node = ""
        self.subscriptions: list[tuple[str, Callable[[bytes], None]]] = []
        self.watched: list[tuple[_Bucket, Watcher]] = []

    async def connect(self, node: str) -> None:
        """See `Port.connect`."""
        self.node = node
        self.network.meet(node)

    async def subscribe(self, subject: str, receive: Callable[[bytes], None]) -> None:
        """See `Port.subscribe`."""
        self.subscriptions.append((subject, receive))
        self.network.join(self.node, self)

    def publish(self, subject: str, data: bytes) -> None:
        """See `Port.publish`."""
        self.network.send(self.node, subject, data)

    async def keys(self, bucket: str, ttl: float | None = None) -> Keys:
        """See `Port.keys`."""
        return MemoryKeys(self, self.network.bucket(bucket, ttl))

    def reload(self) -> None:
        """Tell the watchers of all that there is, as after a reconnect."""
        for bucket, watcher in self.watched:
            watcher.loaded(tuple(bucket.entries.values()))

    async def close(self) -> None:
        """See `Port.close`."""
        self.detach()

    def detach(self) -> None:
        """Hear nothing any more."""
        self.subscriptions.clear()
        for bucket, watcher in self.watched:
            bucket.watchers.remove((self.node, watcher))
        self.watched.clear()


def _wrong(name: str, value: Any) -> str:
    """Return what is wrong with a setting of the network, and what to give; empty if nothing is."""
    if name in ("loss", "duplicates", "lost_answers"):
        return "" if _number(value) and value <= 1 else "give a share, from 0 to 1"
    if name == "delay":
        right = isinstance(value, tuple) and len(value) == 2 and all(map(_number, value)) and value[0] <= value[1]
        return "" if right else "give the least and the most seconds, such as (0.0, 0.5)"
    if name == "max_payload":
        return "" if type(value) is int and value > OVERHEAD else f"give a number of bytes above {OVERHEAD}"
    if name == "keys_down":
        return "" if isinstance(value, bool) else "give True or False"
    known = name == "random" or name.startswith("_")
    return "" if known else "there are delay, loss, duplicates, lost_answers, keys_down and max_payload"


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _fits(subject: str, pattern: str) -> bool:
    """Whether a subject is the one that is listened to; ``*`` stands for its last word."""
    first, _, last = pattern.rpartition(".")
    return subject == pattern or (last == "*" and subject.rpartition(".")[0] == first)


async def _pass_time(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    passed = loop.create_future()
    handle = loop.call_later(seconds, passed.set_result, None)
    try:
        await passed
    finally:
        handle.cancel()
