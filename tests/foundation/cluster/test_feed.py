"""The feed of NATS: changes in order and without holes, whatever comes when. Without a server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from foundation.cluster import ClusterUnavailable
from foundation.cluster.nats import NatsFeed
from foundation.cluster.port import Entry
from tests.foundation.cluster.contract import Seen


class Keys:
    """What the server has; whoever asks waits for its gate."""

    def __init__(self) -> None:
        self.number = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = 0

    async def last(self) -> int:
        await self.gate.wait()
        if self.fails:
            self.fails -= 1
            raise ClusterUnavailable("k", "no answer")
        return self.number

    async def all(self) -> list[Entry]:
        return [Entry("k", b"%d" % self.number, self.number)]


class Change:
    def __init__(self, number: int) -> None:
        self.headers = {"Nats-Sequence": str(number)}
        self.subject = "feed.k"
        self.data = b"%d" % number


async def feed_of(keys: Keys) -> tuple[NatsFeed, Seen]:
    seen = Seen()
    feed = NatsFeed(keys, seen, "feed.")  # type: ignore[arg-type]
    await feed.load()
    return feed, seen


async def passes(condition: Any) -> None:
    """Let time pass until something holds."""
    loop = asyncio.get_running_loop()
    while not condition():
        passed = loop.create_future()
        loop.call_later(0.1, passed.set_result, None)
        await passed


async def test_what_comes_during_a_load_is_told_behind_it():
    keys = Keys()
    feed, seen = await feed_of(keys)
    keys.gate.clear()
    feed.reload()
    feed.reload()  # one is enough
    await asyncio.wait([asyncio.ensure_future(keys.gate.wait())], timeout=0.1)
    keys.number = 1
    for number in (1, 2, 3):
        feed.take(Change(number))
    keys.gate.set()
    await passes(lambda: len(seen.loads) == 2)
    assert seen.revisions == [2, 3]
    assert seen.state == {"k": b"3"}
    feed.close()


async def test_a_hole_in_what_came_during_a_load_loads_once_more():
    keys = Keys()
    feed, seen = await feed_of(keys)
    keys.gate.clear()
    feed.reload()
    await asyncio.wait([asyncio.ensure_future(keys.gate.wait())], timeout=0.1)
    feed.take(Change(1))
    feed.take(Change(3))
    feed.take(Change(4))
    keys.gate.set()
    await passes(lambda: len(seen.loads) == 2)
    keys.number = 4
    await passes(lambda: len(seen.loads) == 3)
    assert seen.state == {"k": b"4"}
    feed.take(Change(5))
    assert seen.state == {"k": b"5"}
    feed.close()


async def test_a_load_without_an_answer_is_tried_again():
    keys = Keys()
    feed, seen = await feed_of(keys)
    keys.number, keys.fails = 5, 2
    feed.take(Change(5))
    await passes(lambda: len(seen.loads) == 2)
    assert seen.state == {"k": b"5"}
    feed.close()


async def test_a_look_without_an_answer_changes_nothing():
    keys = Keys()
    feed, seen = await feed_of(keys)
    keys.fails = 1
    loop = asyncio.get_running_loop()
    until = loop.time() + 100.0
    await passes(lambda: loop.time() > until)
    assert len(seen.loads) == 1
    keys.number = 7  # and nothing of it was told
    await passes(lambda: len(seen.loads) == 2)
    feed.close()


async def test_a_feed_that_never_loaded_is_closed():
    keys = Keys()
    keys.fails = 1
    feed = NatsFeed(keys, Seen(), "feed.")  # type: ignore[arg-type]
    with pytest.raises(ClusterUnavailable):
        await feed.load()
    feed.close()
