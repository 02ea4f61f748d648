"""The port in memory keeps the contract; its faults are its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest

from foundation.cluster import ClusterUnavailable, MemoryNetwork
from foundation.cluster.memory import MemoryPort
from supervision.errors import BadOption
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


# -- what a network is told --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "value", "why"),
    [
        ("loss", 2, "from 0 to 1"),
        ("loss", -1, "from 0 to 1"),
        ("duplicates", "x", "from 0 to 1"),
        ("lost_answers", True, "from 0 to 1"),
        ("delay", 5, "the least and the most seconds"),
        ("delay", (0.5, 0.1), "the least and the most seconds"),
        ("delay", (0.0, float("inf")), "the least and the most seconds"),
        ("keys_down", "no", "True or False"),
        ("max_payload", 0, "a number of bytes above"),
        ("los", 0.5, "there are delay, loss"),
    ],
)
def test_a_fault_that_cannot_be_is_refused(fault: str, value: object, why: str):
    network = MemoryNetwork()
    with pytest.raises(BadOption, match=why) as caught:
        setattr(network, fault, value)
    assert caught.value.field == fault
    assert not hasattr(network, "los")
    assert network.loss == 0.0


async def test_a_node_that_never_was_cannot_be_cut_off_nor_killed():
    network = MemoryNetwork()
    port = network.port()
    await port.connect("a")
    await port.subscribe("x", Heard())
    for attempt in (
        partial(network.cut, "a", "nosuch"),
        partial(network.cut, "nosuch", "a"),
        partial(network.isolate, "nosuch"),
        partial(network.kill, "nosuch"),
    ):
        with pytest.raises(BadOption, match=r"node = 'nosuch': give one that .*: a$"):
            attempt()
    network.kill("a")
    with pytest.raises(BadOption, match="none does"):
        network.kill("a")
    network.isolate("a")  # it can be started again
