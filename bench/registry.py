"""Suite ``registry``: both read patterns on the same work, and what writes, queries and memory cost."""

from __future__ import annotations

import asyncio
import gc
import random
import tracemalloc
from collections.abc import Awaitable, Callable
from functools import lru_cache
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import msgspec

from bench.figure import Figure, compare, percentile, timed
from foundation.registry import Directory, Field, Register, Registry
from supervision import Actor, Ref, Request, Runtime, handle

SIZES = (1_000, 10_000, 100_000, 1_000_000)
#: Percent of the operations that are writes.
WRITES = (0, 1, 10)
#: So many different keys are read in turn, spread over the whole registry, whatever its size.
WORKING_SET = 100


class Card(msgspec.Struct, frozen=True):
    """Metadata as agents have it."""

    capability: str
    health: str
    load: float


class Empty(Request[None], frozen=True):
    """Nothing to be done."""


class Read(Request[Any], frozen=True):
    """The same read as a lookup, by way of the mailbox."""

    key: Any


class Idle(Actor):
    """Is registered, and does nothing."""

    @handle
    def empty(self, request: Empty) -> None:
        """Do nothing."""


class Owner(Actor):
    """The other pattern: the tables belong to the actor, and readers ask it. A plain dictionary, so the best case."""

    def __init__(self) -> None:
        self.entries: dict[Any, Any] = {}

    @handle
    def read(self, request: Read) -> Any:
        """Answer a lookup."""
        entry = self.entries.get(request.key)
        return entry if entry is not None and entry.ref.alive else None

    @handle
    def register(self, request: Register) -> Any:
        """Enter an actor."""
        entry = Entered(request.key, request.ref, request.metadata)
        self.entries[request.key] = entry
        return entry


class Entered(msgspec.Struct, frozen=True):
    """An entry of the other pattern."""

    key: Any
    ref: Ref
    metadata: Any


def card(n: int) -> Card:
    """Return the n-th metadata: 100 capabilities, one in ten unhealthy, loads from 0 to 1."""
    return Card(f"capability {n % 100}", "healthy" if n % 10 else "down", n * 7919 % 10_000 / 10_000)


INDEXED = {"capability": "hash", "health": "hash", "load": "ordered"}


async def filled(runtime: Runtime, size: int, indexes: Any = ()) -> tuple[Directory, list[Ref]]:
    """Return a registry with so many entries of 1000 actors."""
    name = f"r{len(runtime.shared)}"
    await runtime.spawn(Registry, indexes, name=name)
    directory = Directory.of(runtime, name)
    refs = [await runtime.spawn(Idle) for _ in range(1000)]
    gc.disable()
    for begin in range(0, size, 1000):
        some = range(begin, min(begin + 1000, size))
        await directory.batch([Register(n, refs[n % 1000], card(n)) for n in some])
    gc.enable()
    return directory, refs


@lru_cache
def working_set(size: int) -> list[int]:
    """Return the keys that are read."""
    return random.Random(1).sample(range(size), WORKING_SET)


def lookups(read: Callable[[Any], Any], keys: list[int], rounds: int = 200) -> Callable[[], Awaitable[float]]:
    """Return what measures a read: nanoseconds each."""

    async def work() -> float:
        async def reads() -> None:
            for _ in range(rounds):
                for key in keys:
                    read(key)

        return await timed(reads) / rounds / len(keys) * 1e9

    return work


async def lookup() -> Figure:
    """Lookups, 1k to 1M entries, against a dictionary of the same size."""
    more: dict[str, float] = {}
    figure = Figure(value=0, unit="ns", limit=0, ratio=0, reach=6.0, better="lower")
    for size in SIZES:
        async with Runtime(watchdog=None, reports=False) as runtime:
            directory, _ = await filled(runtime, size)
            plain = dict(directory.root.current)
            keys = working_set(size)
            figure = await compare(
                lookups(directory.lookup, keys), lookups(plain.get, keys), unit="ns", reach=6.0, better="lower"
            )
        more[f"at_{size}_ns"] = figure.value
    more["growth_1k_to_1M"] = more[f"at_{SIZES[-1]}_ns"] / more[f"at_{SIZES[0]}_ns"]
    return msgspec.structs.replace(figure, more=more)


async def lookup_vs_mailbox() -> Figure:
    """The same read through the mailbox of an actor, at 100k."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        directory, _ = await filled(runtime, 100_000)
        owner = await runtime.spawn(Owner)
        keys = working_set(100_000)
        await owner.call(Register(0, owner, None))

        async def mailbox() -> float:
            async def reads() -> None:
                for key in keys:
                    await owner.call(Read(key))

            return len(keys) / await timed(reads)

        async def ours() -> float:
            return 1e9 / await lookups(directory.lookup, keys)()

        return await compare(ours, mailbox, unit="reads/s", reach=15.0)


async def register() -> Figure:
    """Awaited registrations one after the other, at 100k entries of as many actors."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        directory, refs = await filled(runtime, 100_000, ("capability",))
        empty = refs[0]
        keys = iter(range(1_000_000, 100_000_000))

        async def calls() -> None:
            for _ in range(2000):
                await empty.call(Empty())

        cards = [card(n) for n in range(2000)]

        async def registrations() -> None:
            for n in range(2000):
                await directory.register(next(keys), refs[n % 1000], cards[n])

        async def ours() -> float:
            return await timed(registrations) / 2000 * 1e6

        async def raw() -> float:
            return await timed(calls) / 2000 * 1e6

        collected = await timed(registrations, collect=True) / 2000 * 1e6
        figure = await compare(ours, raw, unit="µs", reach=2.0, better="lower")
        return msgspec.structs.replace(figure, more={"with_collector_us": collected})


async def register_batch() -> Figure:
    """Batches of 1000, at 100k entries; the limit is the figure to reach."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        directory, refs = await filled(runtime, 100_000, ("capability",))
        keys = iter(range(1_000_000, 100_000_000))
        writes: list[list[Register]] = []

        async def batches() -> None:
            for batch in writes:
                await directory.batch(batch)

        async def ours() -> float:
            writes[:] = [[Register(next(keys), refs[n], card(n)) for n in range(1000)] for _ in range(5)]
            return 5000 / await timed(batches)

        async def wanted() -> float:
            return 100_000.0

        return await compare(ours, wanted, unit="entries/s", reach=1.0, repeats=9)


async def query_indexed() -> Figure:
    """A query with 10 results of 100k, against the same by a scan of everything."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        directory, _ = await filled(runtime, 100_000, INDEXED)
        where = (Field("load") > 0.5) & (Field("load") < 0.5002) & (Field("health") == "healthy")
        assert len(directory.select(where)) == 10
        entries = directory.root.current

        async def queries() -> None:
            for _ in range(100):
                directory.select(where)

        async def scan() -> None:
            [entry for entry in entries.values() if entry.ref.alive and where.holds(entry.metadata)]

        async def ours() -> float:
            return 100 / await timed(queries)

        async def raw() -> float:
            return 1 / await timed(scan)

        return await compare(ours, raw, unit="queries/s", reach=500.0, repeats=7)


async def read_under_writes() -> Figure:
    """Lookups while 10,000 entries a second are written, against the same with no writer."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        directory, refs = await filled(runtime, 100_000, ("capability",))
        keys = working_set(100_000)
        fresh = iter(range(1_000_000, 100_000_000))

        async def reads(rate: int) -> float:
            """Read for 0.3 seconds, in slices of a millisecond, after each of which writes are let in."""
            began = perf_counter()
            done, written = 0, 0
            while (now := perf_counter()) - began < 0.3:
                while written < rate * (now - began):
                    directory.register(next(fresh), refs[written % 1000], card(written))
                    written += 1
                await asyncio.sleep(0)
                for _ in range(3):
                    for key in keys:
                        directory.lookup(key)
                done += 3 * len(keys)
            return (perf_counter() - began) / done * 1e9

        async def ours() -> float:
            return await reads(10_000)

        async def raw() -> float:
            return await reads(0)

        return await compare(ours, raw, unit="ns/read", reach=1.5, better="lower", repeats=7)


async def memory_entry() -> Figure:
    """Bytes an entry with 3 indexed fields takes, against a dictionary of the same structs."""
    size = 20_000
    async with Runtime(watchdog=None, reports=False) as runtime:
        _, refs = await filled(runtime, 0)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        plain = {n: Entered(n, refs[n % 1000], card(n)) for n in range(size)}
        limit = (tracemalloc.get_traced_memory()[0] - before) / size
        del plain
        before = tracemalloc.get_traced_memory()[0]
        directory, _ = await filled(runtime, size, INDEXED)
        value = (tracemalloc.get_traced_memory()[0] - before) / size
        tracemalloc.stop()
        assert len(directory.root) == size
    return Figure(value=value, unit="bytes/entry", limit=limit, ratio=value / limit, reach=3.0, better="lower")


def mix(size: int, percent: int) -> Callable[[], Awaitable[Figure]]:
    """Return what measures both patterns on the same work: reads with so many writes among them."""

    async def measure() -> Figure:
        async with Runtime(watchdog=None, reports=False) as runtime:
            directory, refs = await filled(runtime, size)
            owner = await runtime.spawn(Owner)
            for entry in directory.root.entries():
                owner.cast(Register(entry.key, entry.ref, entry.metadata))
            keys = working_set(size)
            fresh = iter(range(10_000_000, 100_000_000))
            draw = random.Random(1)
            writes = [draw.random() * 100 < percent for _ in range(5000)]

            async def by_snapshot(n: int) -> None:
                if writes[n]:
                    await directory.register(next(fresh), refs[n % 1000], card(n))
                else:
                    directory.lookup(keys[n % len(keys)])

            async def by_mailbox(n: int) -> None:
                if writes[n]:
                    await owner.call(Register(next(fresh), refs[n % 1000], card(n)))
                else:
                    await owner.call(Read(keys[n % len(keys)]))

            def throughput(operation: Callable[[int], Awaitable[None]]) -> Callable[[], Awaitable[float]]:
                async def all_of_them() -> None:
                    for n in range(len(writes)):
                        await operation(n)

                async def work() -> float:
                    return len(writes) / await timed(all_of_them)

                return work

            async def percentiles(operation: Callable[[int], Awaitable[None]]) -> list[float]:
                taken: list[float] = []

                async def all_of_them() -> None:
                    for n in range(len(writes)):
                        began = perf_counter()
                        await operation(n)
                        taken.append((perf_counter() - began) * 1e6)

                await timed(all_of_them)
                return [percentile(taken, 0.5), percentile(taken, 0.99)]

            (p50, p99), (mailbox_p50, mailbox_p99) = await percentiles(by_snapshot), await percentiles(by_mailbox)
            more = {"p50_us": p50, "p99_us": p99, "mailbox_p50_us": mailbox_p50, "mailbox_p99_us": mailbox_p99}
            figure = await compare(
                throughput(by_snapshot), throughput(by_mailbox), unit="operations/s", reach=1.0, repeats=5
            )
            return msgspec.structs.replace(figure, more=more)

    return measure


class Chunks:
    """A persistent map of dictionaries: a change copies one of them, and the list of all."""

    def __init__(self, chunks: tuple[dict[Any, Any], ...]) -> None:
        self.chunks = chunks

    def get(self, key: Any) -> Any:
        """Return the value of a key."""
        return self.chunks[hash(key) & 1023].get(key)

    def set(self, key: Any, value: Any) -> Chunks:
        """Return a map with a change."""
        at = hash(key) & 1023
        return Chunks((*self.chunks[:at], {**self.chunks[at], key: value}, *self.chunks[at + 1 :]))


def persistent_map(make: Callable[[dict[Any, Any]], Any]) -> Callable[[], Awaitable[Figure]]:
    """Return what measures a change of a map with 100,000 text keys, against that of a dictionary."""

    async def measure() -> Figure:
        content = {f"key {n}": n for n in range(100_000)}
        draw = random.Random(1)
        keys = draw.sample(list(content), 20_000)
        made = make(content)
        change = made.insert if hasattr(made, "insert") else made.set

        async def changes() -> None:
            for key in keys:
                change(key, 0)

        async def plain_changes() -> None:
            for key in keys:
                content[key] = 0

        async def looks() -> None:
            for key in keys:
                made.get(key)

        async def ours() -> float:
            return await timed(changes) / len(keys) * 1e9

        async def raw() -> float:
            return await timed(plain_changes) / len(keys) * 1e9

        look = await timed(looks) / len(keys) * 1e9
        figure = await compare(ours, raw, unit="ns/change", reach=1000.0, better="lower", repeats=5)
        return msgspec.structs.replace(figure, more={"look_ns": look})

    return measure


def _trie(content: dict[Any, Any]) -> Any:
    from foundation.store.trie import Trie

    trie: Trie[Any, Any] = Trie(content)
    return SimpleNamespace(get=trie.get, insert=lambda key, value: trie.changed({key: value}))


def _rpds(content: dict[Any, Any]) -> Any:
    from rpds import HashTrieMap

    return HashTrieMap(content)


def _chunks(content: dict[Any, Any]) -> Any:
    chunks: list[dict[Any, Any]] = [{} for _ in range(1024)]
    for key, value in content.items():
        chunks[hash(key) & 1023][key] = value
    return Chunks(tuple(chunks))


FIGURES = {
    "lookup": lookup,
    "lookup_vs_mailbox": lookup_vs_mailbox,
    "register": register,
    "register_batch": register_batch,
    "query_indexed": query_indexed,
    "read_under_writes": read_under_writes,
    "memory_entry": memory_entry,
    "map_trie": persistent_map(_trie),
    "map_rpds": persistent_map(_rpds),
    "map_chunks": persistent_map(_chunks),
    **{f"mix_{size}_{percent}%": mix(size, percent) for size in SIZES for percent in WRITES},
}
