"""What every port promises: one suite for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from foundation.cluster.errors import WrongRevision
from foundation.cluster.port import Entry, Port

#: Returns a port that is connected, as a node of a name.
MakePort = Callable[[str], Awaitable[Port]]


class Heard:
    """What was received, and a way to wait for more."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self._more = asyncio.Event()

    def __call__(self, data: bytes) -> None:
        self.messages.append(data)
        self._more.set()

    async def until(self, count: int) -> list[bytes]:
        """Wait for so many."""
        while len(self.messages) < count:
            self._more.clear()
            await self._more.wait()
        return self.messages


class Seen:
    """What a watcher was told, and a way to wait for more."""

    def __init__(self) -> None:
        self.loads: list[dict[str, bytes | None]] = []
        self.state: dict[str, bytes | None] = {}
        self.revisions: list[int] = []
        self._more = asyncio.Event()

    def loaded(self, entries: Sequence[Entry]) -> None:
        self.state = {entry.key: entry.value for entry in entries}
        self.loads.append(self.state)
        self._more.set()

    def changed(self, entry: Entry) -> None:
        self.state[entry.key] = entry.value
        self.revisions.append(entry.revision)
        self._more.set()

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait until something is seen."""
        while not reached():
            self._more.clear()
            await self._more.wait()


async def messages_arrive_in_order_at_all_who_listen(make: MakePort) -> None:
    a, b, c = [await make(node) for node in "abc"]
    exact, wild, others = Heard(), Heard(), Heard()
    await a.subscribe("there.a.1", exact)
    await b.subscribe("there.*", wild)
    await b.subscribe("elsewhere", others)
    for n in range(200):
        c.publish("there.a.1", b"%d" % n)
        c.publish("there.x", b"%d" % n)
    assert await exact.until(200) == [b"%d" % n for n in range(200)]
    assert [data for data in await wild.until(200) if data.isdigit()][:5] == [b"0", b"1", b"2", b"3", b"4"]
    assert others.messages == []


async def who_sends_hears_itself(make: MakePort) -> None:
    a = await make("a")
    heard = Heard()
    await a.subscribe("there.*", heard)
    a.publish("there.a", b"x")
    assert await heard.until(1) == [b"x"]


async def a_message_as_large_as_is_allowed_arrives(make: MakePort) -> None:
    a = await make("a")
    heard = Heard()
    await a.subscribe("large", heard)
    a.publish("large", b"x" * (a.max_payload - 1024))
    assert len((await heard.until(1))[0]) == a.max_payload - 1024


async def keys_are_written_by_compare_and_set(make: MakePort) -> None:
    keys = await (await make("a")).keys("contract")
    assert await keys.get("k") is None
    first = await keys.write("k", b"1", 0)
    assert await keys.get("k") == Entry("k", b"1", first)
    with pytest.raises(WrongRevision):
        await keys.write("k", b"2", 0)
    second = await keys.write("k", b"2", first)
    assert second > first
    with pytest.raises(WrongRevision):
        await keys.write("k", b"3", first)
    with pytest.raises(WrongRevision):
        await keys.delete("k", first)
    assert await keys.get("k") == Entry("k", b"2", second)


async def of_many_who_write_at_once_one_wins(make: MakePort) -> None:
    every = [await (await make(node)).keys("contract") for node in "abc"]
    revision = 0
    for n in range(20):
        writes = (keys.write("k", b"%d by %d" % (n, who), revision) for who, keys in enumerate(every))
        outcomes = await asyncio.gather(*writes, return_exceptions=True)
        won = [outcome for outcome in outcomes if isinstance(outcome, int)]
        assert len(won) == 1
        assert [type(outcome) for outcome in outcomes].count(WrongRevision) == 2
        revision = won[0]


async def a_key_that_was_deleted_keeps_a_revision_and_can_be_written_again(make: MakePort) -> None:
    keys = await (await make("a")).keys("contract")
    first = await keys.write("k", b"1", 0)
    await keys.delete("k", first)
    gone = await keys.get("k")
    assert gone is not None
    assert gone.value is None
    assert gone.revision > first
    with pytest.raises(WrongRevision):
        await keys.write("k", b"2", 0)
    assert await keys.write("k", b"2", gone.revision) > gone.revision


async def a_key_that_is_not_written_again_in_time_expires(make: MakePort) -> None:
    """M2: the trap of ``create`` after an expiry."""
    keys, seen = await (await make("a")).keys("contract_ttl", ttl=1.0), Seen()
    await keys.watch(seen)
    first = await keys.write("k", b"1", 0)
    await seen.until(lambda: seen.state.get("k") == b"1")
    await seen.until(lambda: seen.state["k"] is None)
    gone = await keys.get("k")
    assert gone is not None
    assert gone.value is None
    assert await keys.write("k", b"2", gone.revision) > first


async def a_watcher_is_told_of_all_keys_and_then_of_each_change(make: MakePort) -> None:
    mine, theirs = [await (await make(node)).keys("contract") for node in "ab"]
    await mine.write("a.b", b"1", 0)
    gone = await mine.write("gone", b"1", 0)
    await mine.delete("gone", gone)
    seen = Seen()
    await theirs.watch(seen)
    assert seen.loads == [{"a.b": b"1", "gone": None}]
    revision = 0
    for n in range(50):
        revision = await mine.write("k", b"%d" % n, revision)
    await mine.delete("k", revision)
    await seen.until(lambda: seen.state.get("k", b"") is None)
    assert len(seen.loads) == 1
    assert seen.revisions == sorted(seen.revisions)
    assert len(seen.revisions) == 51


async def a_watcher_of_no_keys_is_told_so(make: MakePort) -> None:
    keys, seen = await (await make("a")).keys("contract"), Seen()
    await keys.watch(seen)
    assert seen.loads == [{}]


CONTRACT = [
    messages_arrive_in_order_at_all_who_listen,
    who_sends_hears_itself,
    a_message_as_large_as_is_allowed_arrives,
    keys_are_written_by_compare_and_set,
    of_many_who_write_at_once_one_wins,
    a_key_that_was_deleted_keeps_a_revision_and_can_be_written_again,
    a_key_that_is_not_written_again_in_time_expires,
    a_watcher_is_told_of_all_keys_and_then_of_each_change,
    a_watcher_of_no_keys_is_told_so,
]
