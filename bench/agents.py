"""Suite ``agents``: turns beside a plain actor, routing, memory, a crowd that crashes, and waking from SQLite."""

from __future__ import annotations

import asyncio
import gc
import random
import sqlite3
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

from agents import Action, AgentServer, AgentType, Context, Router, Signal, start_agent, whereis
from agents.durability import Durability, EverySeconds, SqliteStorage
from agents.server import Ask
from bench.agents_bus import bus
from bench.figure import Figure, compare, percentile, timed
from supervision import Abnormal, Actor, ChildSpec, DynamicSupervisor, Ref, Request, Runtime, handle, start_child

TURNS = 20_000
CALLS = 5_000
CROWD = 100_000
THAWED = 10_000


class Count(msgspec.Struct, frozen=True):
    """The state of a counter."""

    count: int = 0


class Add(Action[Count]):
    """Count."""

    amount: int = 1

    def run(self, context: Context[Count]) -> Count:
        """Count."""
        return Count(context.state.count + self.amount)


class Counter(AgentType[Count]):
    """Counts."""

    name = "counter"
    routes = {"counter.add": Add}  # noqa: RUF012 - as users write it


class Asked(Request[Count], frozen=True):
    """A signal that wants an answer."""

    signal: Signal


class Plain(Actor):
    """Does the same without being an agent."""

    def __init__(self) -> None:
        self.state = Count()

    @handle
    def add(self, signal: Signal) -> None:
        """Count."""
        self.state = Count(self.state.count + signal.data["amount"])

    @handle
    def asked(self, request: Asked) -> Count:
        """Count, and tell."""
        self.add(request.signal)
        return self.state


ADD = Signal(type="counter.add", source="/", id="1", data={"amount": 1})


class Last(Request[None], frozen=True):
    """Comes behind all else."""


async def _casts(ref: Ref, behind: Request[Any]) -> float:
    async def work() -> None:
        cast = ref.cast
        for _ in range(TURNS):
            cast(ADD)
        await ref.call(behind, None)

    return TURNS / await timed(work)


async def _calls(ref: Ref, request: Request[Any]) -> float:
    async def work() -> None:
        for _ in range(CALLS):
            await ref.call(request)

    return CALLS / await timed(work)


async def cast() -> Figure:
    """Turns a second by cast, beside the same actor without the agent layer."""
    async with Runtime(reports=False, watchdog=None) as runtime:
        agent, plain = await runtime.spawn(AgentServer, Counter), await runtime.spawn(Plain)
        return await compare(
            lambda: _casts(agent, Ask(ADD)),
            lambda: _casts(plain, Asked(ADD)),
            unit="turns/s",
            reach=0.33,
        )


async def call() -> Figure:
    """Turns a second by call, beside the same actor without the agent layer."""
    async with Runtime(reports=False, watchdog=None) as runtime:
        agent, plain = await runtime.spawn(AgentServer, Counter), await runtime.spawn(Plain)
        return await compare(
            lambda: _calls(agent, Ask(ADD)), lambda: _calls(plain, Asked(ADD)), unit="turns/s", reach=0.33
        )


def _router(n: int) -> Router[int]:
    kinds = ("shop.{}.order.placed", "shop.{}.order.*", "shop.{}.**")
    return Router([(kinds[k % 3].format(k // 3), k) for k in range(n)])


def _routing(n: int, *, met: bool) -> Any:
    async def measure() -> Figure:
        routers = {size: _router(size) for size in (10, n)}

        async def routed(size: int) -> float:
            router = routers[size]
            types = [f"shop.{k % max(1, size // 3)}.order.placed" for k in range(2000)]

            async def work() -> None:
                for type in types:
                    if not met:
                        router._known.clear()
                    router.route(type)

            return len(types) / await timed(work)

        return await compare(lambda: routed(n), lambda: routed(10), unit="signals/s", reach=0.33)

    return measure


async def memory() -> Figure:
    """Bytes that an idle agent takes above an idle actor; 3 KiB is the mark."""
    used = {}
    kinds: list[tuple[Callable[..., Actor], tuple[Any, ...]]] = [(Plain, ()), (AgentServer, (Counter,))]
    for kind, args in kinds:
        async with Runtime(reports=False, watchdog=None) as runtime:
            await runtime.spawn(kind, *args)
            gc.collect()
            tracemalloc.start()
            for _ in range(5000):
                await runtime.spawn(kind, *args)
            gc.collect()
            used[kind] = tracemalloc.get_traced_memory()[0] / 5000
            tracemalloc.stop()
    above = used[AgentServer] - used[Plain]
    return Figure(value=above, unit="B", limit=3072.0, ratio=above / 3072.0, reach=1.0, better="lower")


async def _crowd(runtime: Runtime, storage: SqliteStorage, n: int) -> None:
    supervisor = await runtime.spawn(DynamicSupervisor, max_restarts=10**9, max_seconds=1.0)
    durability = Durability(storage, EverySeconds(600.0))
    ids = [f"a{k}" for k in range(n)]
    for begin in range(0, n, 1000):
        specs = [
            ChildSpec(id, AgentServer, (Counter,), {"id": id, "durability": durability})
            for id in ids[begin : begin + 1000]
        ]
        await asyncio.gather(*(start_child(supervisor, spec) for spec in specs))


async def crowd() -> Figure:
    """The 99th percentile of a call among 100,000 agents of which 1 % crash each second, and come back as they were."""
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        storage = SqliteStorage(Path(folder) / "agents.db", sync="normal")
        async with Runtime(reports=False, watchdog=None) as runtime:
            await _crowd(runtime, storage, CROWD)
            samples: list[float] = []
            crashed = wrong = 0
            counts = dict.fromkeys((f"a{k}" for k in range(CROWD)), 0)
            end = perf_counter() + 10.0
            due = perf_counter()
            while perf_counter() < end:
                if perf_counter() >= due:
                    due += 0.01
                    for _ in range(CROWD // 10_000):
                        ref = whereis(runtime, f"a{chance.randrange(CROWD)}")
                        if ref is not None:
                            ref.exit(Abnormal("crash"))
                            crashed += 1
                id = f"a{chance.randrange(CROWD)}"
                ref = whereis(runtime, id)
                if ref is not None:
                    ask = Ask(Signal(type="counter.add", source="/", id=str(len(samples)), data={"amount": 1}))
                    began = perf_counter()
                    try:
                        reply = await ref.call(ask)
                    except Exception:
                        continue
                    samples.append(perf_counter() - began)
                    counts[id] += 1
                    wrong += reply.agent.state.count != counts[id]
                await asyncio.sleep(0)
        storage.close()
    p99 = percentile(samples, 0.99) * 1000
    more = {"calls": len(samples), "crashes": crashed, "lost": wrong, "p50_ms": percentile(samples, 0.5) * 1000}
    return Figure(value=p99, unit="ms (p99)", limit=10.0, ratio=p99 / 10.0, reach=1.0, better="lower", more=more)


async def thaw() -> Figure:
    """Seconds to wake 10,000 agents from SQLite, beside reading their rows alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "agents.db"
        storage = SqliteStorage(path, sync="normal")
        durability = Durability(storage)
        ids = [f"a{n}" for n in range(THAWED)]

        async def wake() -> float:
            async with Runtime(reports=False, watchdog=None) as runtime:

                async def work() -> None:
                    for begin in range(0, THAWED, 500):
                        some = ids[begin : begin + 500]
                        await asyncio.gather(
                            *(runtime.spawn(AgentServer, Counter, id=id, durability=durability) for id in some)
                        )

                took = await timed(work, collect=True)
                for ref in list(runtime.actors()):
                    ref.kill()
            return took

        async def rows() -> float:
            database = sqlite3.connect(path)

            async def work() -> None:
                for id in ids:
                    database.execute("SELECT body FROM snapshots WHERE key = ?", (f"/counter/{id}",)).fetchall()

            took = await timed(work, collect=True)
            database.close()
            return took

        async with Runtime(reports=False, watchdog=None) as runtime:
            for id in ids:
                agent = await start_agent(runtime, Counter, id=id, durability=Durability(storage, EverySeconds(600.0)))
                agent.cast(ADD)
        figure = await compare(wake, rows, unit="s", reach=40.0, better="lower", repeats=3)
        storage.close()
    return figure


class Stock(msgspec.Struct, frozen=True):
    """Many items."""

    items: dict[str, Count] = {}


class Take(Action[Stock]):
    """Change one item."""

    item: str

    def run(self, context: Context[Stock]) -> Stock:
        """Change it."""
        items = context.state.items
        return Stock({**items, self.item: Count(items[self.item].count + 1)})


class Shop(AgentType[Stock]):
    """Has many items."""

    name = "shop"
    routes = {"take": Take}  # noqa: RUF012 - as users write it


async def commit_large() -> Figure:
    """Milliseconds of a call that changes one item of 30,000, saved before it is answered; beside one that is not."""
    items = {f"item {n}": Count(n) for n in range(30_000)}
    took: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory() as folder:
        storage = SqliteStorage(Path(folder) / "agents.db")
        async with Runtime(reports=False, watchdog=None) as runtime:
            for durable in (True, False):
                durability = Durability(storage) if durable else None
                shop = await start_agent(runtime, Shop, id="s", state={"items": items}, durability=durability)
                for n in range(101):
                    began = perf_counter()
                    reply = await shop.call(shop.signal("take", {"item": f"item {n * 7}"}))
                    took[durable].append(perf_counter() - began)
                    assert not reply.errors
                await shop.stop()
        storage.close()
    # The first one writes all.
    middle, plain = (percentile(took[durable][1:], 0.5) * 1000 for durable in (True, False))
    more = {"not_durable_ms": plain, "p99_ms": percentile(took[True][1:], 0.99) * 1000}
    return Figure(value=middle, unit="ms", limit=5.0, ratio=middle / 5.0, reach=1.0, better="lower", more=more)


async def commit_small() -> Figure:
    """The 99th percentile of a durable call with a small state, beside bare appends to SQLite in the same run."""
    calls, appends = [], []
    with tempfile.TemporaryDirectory() as folder:
        storage = SqliteStorage(Path(folder) / "agents.db")
        bare = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
        bare.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE log (n, body)")
        async with Runtime(reports=False, watchdog=None) as runtime:
            counter = await start_agent(runtime, Counter, id="c", durability=Durability(storage))
            for n in range(1000):
                began = perf_counter()
                bare.execute("INSERT INTO log VALUES (?, ?)", (n, b"x" * 100))
                between = perf_counter()
                await counter.call(counter.signal("counter.add", {"amount": 1}))
                calls.append(perf_counter() - between)
                appends.append(between - began)
        storage.close()
        bare.close()
    mine, raw = (percentile(some, 0.99) * 1000 for some in (calls, appends))
    more = {"p50_ms": percentile(calls, 0.5) * 1000, "append_p50_ms": percentile(appends, 0.5) * 1000}
    return Figure(value=mine, unit="ms (p99)", limit=raw, ratio=mine / raw, reach=3.0, better="lower", more=more)


FIGURES = {
    "cast": cast,
    "call": call,
    "routes_1000": _routing(1000, met=False),
    "routes_10000": _routing(10_000, met=False),
    "routes_met": _routing(10_000, met=True),
    "memory": memory,
    "crowd": crowd,
    "thaw": thaw,
    "commit_large": commit_large,
    "commit_small": commit_small,
    "bus": bus,
}
