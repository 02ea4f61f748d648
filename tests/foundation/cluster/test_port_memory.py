"""The port in memory keeps the contract; its faults are its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from foundation.cluster import ClusterUnavailable, MemoryNetwork
from foundation.cluster.memory import MemoryPort
from tests.foundation.cluster.contract import CONTRACT, Heard, MakePort, Seen


@pytest.fixture
async def make() -> AsyncIterator[MakePort]:
    network, ports = MemoryNetwork(), []

    async def made(node: str) -> MemoryPort:
        port = network.port()
        await port.connect(node)
        ports.append(port)
        return port

    yield made
    for port in ports:
        await port.close()


@pytest.mark.parametrize("promise", CONTRACT, ids=lambda promise: promise.__name__)
async def test_the_port_in_memory_promises_that(promise, make: MakePort):
    await promise(make)


async def test_equal_seeds_lose_the_same_messages():
    async def lost(seed: int) -> list[bytes]:
        network = MemoryNetwork(seed, delay=(0.001, 0.5))
        network.loss, network.duplicates = 0.3, 0.1
        a, b = network.port(), network.port()
        await a.connect("a")
        await b.connect("b")
        heard = Heard()
        await b.subscribe("x", heard)
        for n in range(100):
            a.publish("x", b"%d" % n)
        asyncio.get_running_loop().call_later(1.0, heard, b"end")
        while heard.messages[-1:] != [b"end"]:
            await heard.until(len(heard.messages) + 1)
        return heard.messages

    assert await lost(1) == await lost(1)
    assert await lost(1) != await lost(2)
    assert [int(n) for n in (await lost(1))[:-1]] == sorted(int(n) for n in (await lost(1))[:-1])


async def test_keys_answer_nobody_who_is_cut_off_and_tell_them_nothing():
    network = MemoryNetwork()
    a, b = network.port(), network.port()
    await a.connect("a")
    await b.connect("b")
    mine, theirs, seen = await a.keys("k"), await b.keys("k"), Seen()
    await theirs.watch(seen)
    network.isolate("b")
    await mine.write("x", b"1", 0)
    with pytest.raises(ClusterUnavailable):
        await theirs.get("x")
    assert seen.state == {}
    network.heal()
    b.reload()
    assert seen.state == {"x": b"1"}
    await b.close()
