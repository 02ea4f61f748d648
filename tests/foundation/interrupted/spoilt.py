"""The second table: calls and messages, with arguments that are right, of which one at a time is a nasty one."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, chdir
from pathlib import Path
from typing import Any

import msgspec
from structlog.testing import capture_logs

from foundation.cache import Cache
from foundation.coordination import (
    Ascending,
    Auction,
    Auctions,
    Barrier,
    Barriers,
    Consensus,
    Descending,
    Election,
    Elections,
    Grant,
    Lock,
    Locks,
    Majority,
    Market,
    Markets,
    Quorum,
    Sealed,
    Weighted,
    propose,
)
from foundation.dead_letters import DeadLetterQueue, DeadLetters
from foundation.errors import FoundationError
from foundation.protection import (
    BreakerOptions,
    Breakers,
    Bulkhead,
    CircuitBreaker,
    Hedge,
    Policy,
    RateLimit,
    Retry,
    RetryBudget,
    TimeLimit,
)
from foundation.registry import Directory, PartitionedDirectory, PartitionedRegistry, Register, Registry
from foundation.resources import Lease, Limit, Resource, Resources
from foundation.store import Database, Store
from foundation.store.messages import CommitOutcome, RowWrite
from foundation.store.snapshot import Row
from supervision import ChildSpec, Ref, Request, Runtime, Supervisor, events
from supervision.errors import SupervisionError
from supervision.testing import NASTY, SeededQueue, run
from tests.foundation.interrupted.coordination import Voter
from tests.foundation.interrupted.public import messages, services
from tests.foundation.interrupted.table import MEMORY, Echo, Worker, service

Arguments = Mapping[str, Any]


class World:
    """All services under one supervisor.

    Attributes:
        runtime: where they run.
        worker: an actor that lives on.
        voter: one that is asked.
        folder: for files.
    """

    runtime: Runtime
    worker: Ref
    voter: Ref
    folder: Path

    def __init__(self) -> None:
        self.deaths: list[str] = []
        self.unhandled: list[str] = []

    def died(self, event: events.Event) -> None:
        """Note the end of an actor."""
        assert isinstance(event, events.Exited)
        self.deaths.append(f"{event.path}: {event.reason}")

    async def probe(self) -> None:
        """Use every service, as somebody does who has nothing to do with what was sent.

        Raises:
            Exception: one of them does not work.
        """
        runtime = self.runtime
        async with asyncio.timeout(120.0):
            async with Lock(runtime, "other").held(timeout=5.0):
                pass
            other = Barrier(runtime, "other", parties=2)
            await asyncio.gather(other.arrive(), other.arrive())
            election = Election(runtime, "other")
            assert (await election.stand(self.voter)).ref is self.voter
            await election.resign(self.voter)
            assert (await propose(runtime, "x", [self.voter], Majority())).accepted
            auction = Auction(runtime, "other")
            await auction.open(Sealed(), seconds=1.0)
            await auction.bid(1, bidder="eve")
            assert await auction.outcome(timeout=10.0) is not None
            market = Market(runtime, "other")
            await market.sell(1, price=1, trader="sue")
            assert len(await market.buy(1, price=1, trader="ben")) == 1
            assert await CircuitBreaker(runtime, "other").call(_answer) == 1
            assert await Resource(runtime, "work", priority="high").run(_answer) == 1
            directory = Directory.of(runtime)
            await runtime.sleep(31.0)  # what was prepared, and not decided on
            await directory.register("other", self.voter, {"load": 1})
            await directory.unregister("other")
            assert await Database.of(runtime).transact(_write) == 1
            queue = DeadLetterQueue(runtime)
            assert await queue.send("worker", Echo()) == "delivered"

    async def restarted(self) -> None:
        """Let every service start again with what it has accepted.

        Raises:
            Exception: one of them does not.
        """
        names = [name for name in self.runtime.names() if name not in ("services", "worker", "voter")]
        before = self.take_deaths()
        for name in names:
            ref = self.runtime.whereis(name)
            if ref is not None:
                ref.kill()
                await self.runtime.sleep(100.0)
        self.deaths = before
        await self.probe()

    def take_deaths(self) -> list[str]:
        """Return who has ended since this was asked the last time."""
        deaths, self.deaths = self.deaths, []
        return deaths


async def _answer() -> int:
    return 1


async def _write(tx: Any) -> int:
    tx.put("table", "other", 1)
    return tx.get("table", "other")


@asynccontextmanager
async def world() -> AsyncGenerator[World]:
    """Start everything."""
    made = World()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, chdir(folder), capture_logs():
        made.folder = Path(folder)
        specs = [
            service(Store, made.folder / "store.db", ["table", "dead_letters"], sync="off"),
            service(Registry),
            ChildSpec("parts", PartitionedRegistry, (2,), {"prefix": "part"}),
            *(service(kind) for kind in (Locks, Barriers, Elections, Consensus, Auctions, Markets, Breakers)),
            service(Resources, {"work": 10}),
            service(DeadLetters, name="dead_letters"),
        ]
        queue = SeededQueue(0)
        async with Runtime(watchdog=None, reports=False, run_queue=queue, threads=4) as runtime:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: made.unhandled.append(str(context["message"])))
            made.runtime = runtime
            await runtime.spawn(Supervisor, specs, name="services", max_restarts=1000)
            made.worker = await runtime.spawn(Worker, name="worker")
            made.voter = await runtime.spawn(Voter, name="voter")
            watching = runtime.subscribe(made.died, events.Exited)
            try:
                yield made
            finally:
                watching.close()


class Spoilt(msgspec.Struct, frozen=True):
    """A call that is tried with nasty arguments.

    Attributes:
        name: of the call: ``Class.method``, or ``Service < Message``.
        call: makes it.
        valid: right arguments; each is made nasty, one at a time.
        functions: those of them that are functions; Python says itself that something cannot be called.
    """

    name: str
    call: Callable[..., Any]
    valid: Arguments
    functions: tuple[str, ...] = ()


SPOILT: dict[str, Spoilt] = {}


def spoilt(name: str, /, *functions: str, **valid: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a call in the table; valid arguments that are functions of a `World` are called."""

    def enter(call: Callable[..., Any]) -> Callable[..., Any]:
        assert name not in SPOILT, name
        SPOILT[name] = Spoilt(name, call, valid, functions)
        return call

    return enter


class Late(msgspec.Struct, frozen=True):
    """A valid argument that needs the world."""

    make: Callable[[World], Any]


def _made(valid: Arguments, here: World) -> dict[str, Any]:
    return {name: value.make(here) if isinstance(value, Late) else value for name, value in valid.items()}


WORKER = Late(lambda here: here.worker)


# -- coordination ------------------------------------------------------------------------------------------------------


@spoilt("Lock", name="x", capacity=1)
async def _(here: World, **given: Any) -> None:
    async with Lock(here.runtime, **given).held(timeout=1.0):
        pass


@spoilt("Lock.acquire", amount=1, lease=5.0, timeout=1.0, holder=WORKER)
async def _(here: World, **given: Any) -> None:
    lock = Lock(here.runtime, "x")
    await lock.release(await lock.acquire(**given))


@spoilt("Lock.held", amount=1, lease=5.0, timeout=1.0, holder=WORKER)
async def _(here: World, **given: Any) -> None:
    async with Lock(here.runtime, "x").held(**given):
        pass


@spoilt("Lock.release", grant=Grant("x", 1, 1, None, None))
async def _(here: World, **given: Any) -> None:
    await Lock(here.runtime, "x").release(**given)


@spoilt("Lock.release: Grant", name="x", fence=1, amount=1, holder=WORKER, expires=1.0)
async def _(here: World, **given: Any) -> None:
    await Lock(here.runtime, "x").release(Grant(**given))


@spoilt("Lock.renew", grant=Late(lambda here: Grant("x", 1, 1, here.worker, None)), lease=5.0)
async def _(here: World, grant: Any, lease: Any) -> None:
    lock = Lock(here.runtime, "x")
    real = await lock.acquire(lease=1.0, timeout=5.0)
    try:
        await lock.renew(real if isinstance(grant, Grant) else grant, lease)
    finally:
        await lock.release(real)


@spoilt("Barrier", name="x", parties=1)
async def _(here: World, **given: Any) -> None:
    await Barrier(here.runtime, **given).arrive(timeout=1.0)


@spoilt("Barrier.arrive", timeout=1.0, who=WORKER)
async def _(here: World, **given: Any) -> None:
    await Barrier(here.runtime, "x", parties=2).arrive(**given)


@spoilt("Election", name="x")
async def _(here: World, **given: Any) -> None:
    election = Election(here.runtime, **given)
    await election.stand(here.worker)
    await election.resign(here.worker)


@spoilt("Election.stand", candidate=WORKER, priority=0)
async def _(here: World, **given: Any) -> None:
    election = Election(here.runtime, "x")
    await election.stand(here.voter, 1)
    await election.stand(**given)
    await election.resign(here.voter)


@spoilt("Election.resign", candidate=WORKER)
async def _(here: World, **given: Any) -> None:
    await Election(here.runtime, "x").resign(**given)


@spoilt("Election.leader_after", term=0, timeout=1.0)
async def _(here: World, **given: Any) -> None:
    await Election(here.runtime, "nobody").leader_after(**given)


@spoilt("Election.follow", follower=WORKER)
async def _(here: World, **given: Any) -> None:
    election = Election(here.runtime, "x")
    await election.follow(here.worker)
    await election.follow(**given)
    await election.stand(here.worker)
    await election.resign(here.worker)


@spoilt("Election.unfollow", follower=WORKER)
async def _(here: World, **given: Any) -> None:
    await Election(here.runtime, "x").unfollow(**given)


@spoilt("propose", proposal="x", participants=Late(lambda here: [here.voter]), rule=Majority(), time_limit=5.0)
async def _(here: World, **given: Any) -> None:
    await propose(here.runtime, **given)


@spoilt("propose: weights and rules", one=WORKER, weight=1, quorum=1, share=0.5)
async def _(here: World, one: Any, weight: Any, quorum: Any, share: Any) -> None:
    await propose(here.runtime, "x", [one, here.voter], Majority(), time_limit=5.0)
    await propose(here.runtime, "x", {here.voter: weight}, Majority(), time_limit=5.0)
    await propose(here.runtime, "x", [here.voter], Quorum(quorum), time_limit=5.0)
    await propose(here.runtime, "x", [here.voter], Weighted(share), time_limit=5.0)


@spoilt("Auction", name="x")
async def _(here: World, **given: Any) -> None:
    auction = Auction(here.runtime, **given)
    await auction.open(Sealed(), seconds=1.0)
    await auction.bid(1, bidder="eve")
    await auction.outcome(timeout=5.0)


@spoilt("Auction.open", terms=Sealed(), seconds=1.0)
async def _(here: World, **given: Any) -> None:
    await _opened(here, **given)


@spoilt("Auction.open: Sealed", reserve=0.0, second_price=False)
async def _(here: World, **given: Any) -> None:
    await _opened(here, Sealed(**given), 1.0)


@spoilt("Auction.open: Ascending", reserve=0.0, increment=1.0)
async def _(here: World, **given: Any) -> None:
    await _opened(here, Ascending(**given), 1.0)


@spoilt("Auction.open: Descending", start=10.0, step=1.0, floor=0.0, every=1.0)
async def _(here: World, **given: Any) -> None:
    await _opened(here, Descending(**given), 1.0)


async def _opened(here: World, terms: Any, seconds: Any) -> None:
    auction = Auction(here.runtime, "x")
    await auction.open(terms, seconds=seconds)
    await auction.bid(100, bidder="eve")
    await auction.outcome(timeout=5.0)


@spoilt("Auction.bid", amount=5, bidder="eve", who=WORKER)
async def _(here: World, **given: Any) -> None:
    every: tuple[Any, ...] = (Sealed(), Ascending(), Descending(10, 1))
    for number, terms in enumerate(every):
        auction = Auction(here.runtime, f"x{number}")
        await auction.open(terms, seconds=1.0)
        try:
            await auction.bid(3, bidder="bob")
            await auction.bid(**given)
        finally:
            await auction.outcome(timeout=5.0)


@spoilt("Auction.outcome", timeout=1.0)
async def _(here: World, **given: Any) -> None:
    auction = Auction(here.runtime, "x")
    await auction.open(Sealed(), seconds=0.5)
    try:
        await auction.asked()
        await auction.outcome(**given)
    finally:
        await here.runtime.sleep(1.0)


@spoilt("Market", name="x")
async def _(here: World, **given: Any) -> None:
    market = Market(here.runtime, **given)
    await market.sell(1, price=1, trader="sue")
    await market.quote()
    await market.cancel("sue")


@spoilt("Market.buy", units=1, price=1, trader="ben", who=WORKER)
async def _(here: World, **given: Any) -> None:
    await Market(here.runtime, "x").buy(**given)


@spoilt("Market.sell", units=1, price=1, trader="sue", who=WORKER)
async def _(here: World, **given: Any) -> None:
    await Market(here.runtime, "x").sell(**given)


@spoilt("Market.cancel", trader="sue")
async def _(here: World, **given: Any) -> None:
    market = Market(here.runtime, "x")
    await market.cancel(**given)
    await market.quote()


# -- protection --------------------------------------------------------------------------------------------------------


@spoilt("CircuitBreaker", name="x", options=BreakerOptions())
async def _(here: World, **given: Any) -> None:
    await CircuitBreaker(here.runtime, **given).call(_answer)


@spoilt("CircuitBreaker: BreakerOptions", failures=5, window=60.0, reset_after=30.0, probes=1, successes=1)
async def _(here: World, **given: Any) -> None:
    name = f"breaker {len(here.runtime.shared)} {id(given)}"
    breaker = CircuitBreaker(here.runtime, name, BreakerOptions(**given))
    for _ in range(2):
        with Expected(ConnectionError):
            await breaker.call(_fail)


@spoilt("CircuitBreaker: outcome", outcome="success")
async def _(here: World, outcome: Any) -> None:
    breaker = CircuitBreaker(here.runtime, "classified", classify=lambda result, error: outcome)
    await breaker.call(_answer)


@spoilt("CircuitBreaker.run", "attempt", attempt=_answer)
async def _(here: World, **given: Any) -> None:
    await CircuitBreaker(here.runtime, "x").run(**given)


@spoilt("Guard.call", "function", function=_answer)
async def _(here: World, function: Any) -> None:
    await Bulkhead(1).call(function)


@spoilt("Guarded.call", request=Echo(1), timeout=1.0)
async def _(here: World, **given: Any) -> None:
    await Bulkhead(1).around(here.worker).call(**given)


@spoilt("RateLimit", rate=5, per=1.0, wait=True, keys=10)
async def _(here: World, **given: Any) -> None:
    await RateLimit(**given).call(_answer)


@spoilt("RateLimit.run", "attempt", attempt=_answer)
async def _(here: World, **given: Any) -> None:
    await RateLimit(5).run(**given)


@spoilt("RateLimit: key", "key", key=lambda: "x")
async def _(here: World, key: Any) -> None:
    await RateLimit(5, key=key).call(_answer)


@spoilt("RateLimit: what key returns", value="x")
async def _(here: World, value: Any) -> None:
    limit = RateLimit(5, key=lambda: value)
    await limit.call(_answer)
    await limit.call(_answer)


@spoilt("Bulkhead", most=1, waiting=0, name="x")
async def _(here: World, **given: Any) -> None:
    await Bulkhead(**given).call(_answer)


@spoilt("Bulkhead.run", "attempt", attempt=_answer)
async def _(here: World, **given: Any) -> None:
    await Bulkhead(1).run(**given)


@spoilt("TimeLimit", seconds=5.0)
async def _(here: World, **given: Any) -> None:
    await TimeLimit(**given).call(_answer)


@spoilt("TimeLimit.run", "attempt", attempt=_answer)
async def _(here: World, **given: Any) -> None:
    await TimeLimit(1.0).run(**given)


@spoilt("Retry", "on", attempts=3, on=lambda _: True, wait=0.1, wait_max=5.0, jitter=0.1, budget=None)
async def _(here: World, **given: Any) -> None:
    with Expected(ConnectionError):
        await Retry(**given).call(_fail)


@spoilt("Retry.run", "attempt", attempt=_answer)
async def _(here: World, **given: Any) -> None:
    await Retry(1).run(**given)


@spoilt("RetryBudget", share=0.1, least=10, window=10.0)
async def _(here: World, **given: Any) -> None:
    with Expected(ConnectionError):
        await Retry(2, budget=RetryBudget(**given)).call(_fail)


@spoilt("Hedge", after=1.0, most=2)
async def _(here: World, **given: Any) -> None:
    await Hedge(**given).call(_answer)


@spoilt("Hedge.run", "attempt", attempt=_answer)
async def _(here: World, **given: Any) -> None:
    await Hedge(1.0).run(**given)


@spoilt("Policy", "fallback", "compensate", fallback=lambda _: 1, compensate=lambda _: None)
async def _(here: World, **given: Any) -> None:
    await Policy(**given).call(_fail)


@spoilt("Policy: guards", time_limit=None, retry=None, breaker=None, rate_limit=None, bulkhead=None, hedge=None)
async def _(here: World, **given: Any) -> None:
    await Policy(**given).call(_answer)


@spoilt("Policy.run", "attempt", attempt=_answer)
async def _(here: World, **given: Any) -> None:
    await Policy(bulkhead=Bulkhead(1)).run(**given)


# -- resources and caches ----------------------------------------------------------------------------------------------


@spoilt("Resource", name="work", amount=1, priority="high")
async def _(here: World, **given: Any) -> None:
    await Resource(here.runtime, **given).run(_answer)


@spoilt("Resource.acquire", amount=1, holder=WORKER)
async def _(here: World, **given: Any) -> None:
    work = Resource(here.runtime, "work", priority="high")
    await work.release(await work.acquire(**given))


@spoilt("Resource.release", lease=Lease("work", 1, 1, None))
async def _(here: World, **given: Any) -> None:
    await Resource(here.runtime, "work").release(**given)


@spoilt("Resource.release: Lease", name="work", number=1, amount=1, holder=WORKER)
async def _(here: World, **given: Any) -> None:
    await Resource(here.runtime, "work").release(Lease(**given))


@spoilt("Resource.set_limit", limit=10)
async def _(here: World, **given: Any) -> None:
    await _limited(here, **given)


@spoilt("Resource.set_limit: Limit", most=10, moderate=0.8, severe=0.95, relief=0.05)
async def _(here: World, **given: Any) -> None:
    await _limited(here, Limit(**given))


async def _limited(here: World, limit: Any) -> None:
    work = Resource(here.runtime, "work", priority="high")
    try:
        await work.set_limit(limit)
    finally:
        await work.set_limit(10)


@spoilt("Resource.run", "attempt", attempt=_answer)
async def _(here: World, **given: Any) -> None:
    await Resource(here.runtime, "work", priority="high").run(**given)


@spoilt("Cache", name="x", size=10, ttl=1.0)
async def _(here: World, **given: Any) -> None:
    cache: Cache[Any, Any] = Cache(here.runtime, **given)
    await cache.get("x", _answer)


@spoilt("Cache.get", "load", key="x", load=_answer)
async def _(here: World, **given: Any) -> None:
    cache: Cache[Any, Any] = Cache(here.runtime, "x")
    cache.put("y", 1)
    await cache.get(**given)
    assert await cache.get("y", _answer) == 1


# -- the store ---------------------------------------------------------------------------------------------------------


@spoilt("Database.transact", "work", work=_write, attempts=3, timeout=5.0)
async def _(here: World, **given: Any) -> None:
    await Database.of(here.runtime).transact(**given)


@spoilt("Database.transaction", timeout=5.0)
async def _(here: World, **given: Any) -> None:
    async with Database.of(here.runtime).transaction(**given) as tx:
        tx.put("table", "y", 1)


@spoilt("Database.back_up", path=Late(lambda here: here.folder / "copy.db"))
async def _(here: World, **given: Any) -> None:
    await Database.of(here.runtime).back_up(**given)


@spoilt("Transaction.put", table="table", key="x", value=1)
async def _(here: World, table: Any, key: Any, value: Any) -> None:
    async with Database.of(here.runtime).transaction() as tx:
        tx.put(table, key, value)
    async with Database.of(here.runtime).transaction() as tx:
        tx.get(table, key)
        list(tx.items(table))
        tx.delete(table, key)


@spoilt("Transaction.get", table="table", key="x")
async def _(here: World, **given: Any) -> None:
    async with Database.of(here.runtime).transaction() as tx:
        tx.put("table", "y", 1)
        tx.get(**given)


@spoilt("Transaction.delete", table="table", key="x")
async def _(here: World, **given: Any) -> None:
    async with Database.of(here.runtime).transaction() as tx:
        tx.delete(**given)


@spoilt("Transaction.register", key="x", ref=WORKER, metadata=None, registry="registry")
async def _(here: World, **given: Any) -> None:
    async with Database.of(here.runtime).transaction() as tx:
        tx.register(**given)
    await Directory.of(here.runtime).unregister(given["key"])


@spoilt("Transaction.update", key="x", changes={"load": 1}, ref=WORKER)
async def _(here: World, **given: Any) -> None:
    async with Database.of(here.runtime).transaction() as tx:
        tx.update(**given)


@spoilt("Transaction.unregister", key="x", ref=WORKER)
async def _(here: World, **given: Any) -> None:
    async with Database.of(here.runtime).transaction() as tx:
        tx.unregister(**given)


@spoilt("Transaction.effect", "do", "undo", do=_answer, undo=lambda _: None)
async def _(here: World, **given: Any) -> None:
    async with Database.of(here.runtime).transaction() as tx:
        await tx.effect(**given)


# -- the registry ------------------------------------------------------------------------------------------------------


@spoilt("Directory.register", key="x", ref=WORKER, metadata={"load": 1})
async def _(here: World, **given: Any) -> None:
    directory = Directory.of(here.runtime)
    entry = await directory.register(**given)
    directory.find("capabilities", "x")
    await directory.unregister(entry.key)


@spoilt("Directory.register: metadata", value=1, capability="x")
async def _(here: World, value: Any, capability: Any) -> None:
    directory = Directory.of(here.runtime)
    await directory.register("y", here.worker, {"load": value, "capabilities": (capability,)})
    try:
        directory.select([("load", 0, "gt")])
    finally:
        await directory.unregister("y")


@spoilt("Directory.update", key="x", changes={"load": 1}, ref=WORKER)
async def _(here: World, **given: Any) -> None:
    await _entered(here, lambda directory: directory.update(**given))


@spoilt("Directory.unregister", key="x", ref=WORKER)
async def _(here: World, **given: Any) -> None:
    await _entered(here, lambda directory: directory.unregister(**given))


async def _entered(here: World, do: Callable[[Directory], Awaitable[Any]]) -> None:
    directory = Directory.of(here.runtime)
    await directory.register("x", here.worker, {"load": 0})
    try:
        await do(directory)
    finally:
        await directory.unregister("x")


@spoilt("Directory.batch", writes=Late(lambda here: [Register("x", here.worker, {})]), partial=False)
async def _(here: World, **given: Any) -> None:
    directory = Directory.of(here.runtime)
    try:
        await directory.batch(**given)
    finally:
        await directory.unregister("x")


@spoilt("Directory.batch: Register", key="x", ref=WORKER, metadata={})
async def _(here: World, **given: Any) -> None:
    await Directory.of(here.runtime).batch([Register(**given), Register("y", here.voter, {})], partial=True)
    await Directory.of(here.runtime).unregister("y")
    await Directory.of(here.runtime).unregister(given["key"])


@spoilt("Directory.put_meta", name="x", value=1)
async def _(here: World, **given: Any) -> None:
    await Directory.of(here.runtime).put_meta(**given)


@spoilt("Directory.set_limits", max_entries=100, max_bytes=1_000_000)
async def _(here: World, **given: Any) -> None:
    try:
        await Directory.of(here.runtime).set_limits(**given)
    finally:
        await Directory.of(here.runtime).set_limits()


@spoilt("PartitionedDirectory.register", key="x", ref=WORKER, metadata={"load": 1})
async def _(here: World, **given: Any) -> None:
    parts = PartitionedDirectory.of(here.runtime, 2, "part")
    await parts.register(**given)
    await parts.unregister(given["key"])


@spoilt("PartitionedDirectory.update", key="x", changes={"load": 1}, ref=WORKER)
async def _(here: World, **given: Any) -> None:
    await PartitionedDirectory.of(here.runtime, 2, "part").update(**given)


@spoilt("PartitionedDirectory.unregister", key="x", ref=WORKER)
async def _(here: World, **given: Any) -> None:
    await PartitionedDirectory.of(here.runtime, 2, "part").unregister(**given)


# -- dead letters ------------------------------------------------------------------------------------------------------


@spoilt("DeadLetterQueue.send", to="nobody", message=Echo(1), timeout=1.0)
async def _(here: World, **given: Any) -> None:
    await DeadLetterQueue(here.runtime).send(**given)


@spoilt("DeadLetterQueue.send: value", value=1)
async def _(here: World, value: Any) -> None:
    await DeadLetterQueue(here.runtime).send("nobody", Echo(value))


@spoilt("DeadLetterQueue.redeliver", to="nobody")
async def _(here: World, **given: Any) -> None:
    await DeadLetterQueue(here.runtime).redeliver(**given)


@spoilt("DeadLetterQueue.purge")
async def _(here: World) -> None:
    await DeadLetterQueue(here.runtime).purge()


# -- running them ------------------------------------------------------------------------------------------------------


class Expected:
    """Lets an exception pass that is what should happen."""

    def __init__(self, kind: type[Exception]) -> None:
        self._kind = kind

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool:
        return kind is not None and issubclass(kind, self._kind)


async def _fail() -> None:
    raise ConnectionError("nobody there")


#: Right values for the fields of messages, by the name of the field, or by message and field.
FIELDS: Arguments = {
    "after": 0,
    "amount": 1,
    "auction": None,
    "bidder": "eve",
    "candidate": WORKER,
    "capacity": 1,
    "changes": {"load": 1},
    "follower": WORKER,
    "grant": Grant("x", 1, 1, None, None),
    "holder": WORKER,
    "key": "x",
    "lease": 5.0,
    "limit": Limit(10),
    "market": "x",
    "max_bytes": 1_000_000,
    "max_entries": 100,
    "message": Echo(1),
    "metadata": {},
    "name": "x",
    "SetLimit.name": "more work",
    "number": None,
    "outcome": "success",
    "Commit.outcome": Late(lambda here: CommitOutcome()),
    "partial": False,
    "parties": 2,
    "withdrawal": None,
    "path": Late(lambda here: here.folder / "copy.db"),
    "price": 1,
    "priority": 0,
    "Take.priority": "high",
    "Take.name": "work",
    "probe": False,
    "proposal": "x",
    "reads": {},
    "reason": "nobody there",
    "ref": WORKER,
    "registries": {},
    "rule": Majority(),
    "scans": {},
    "seconds": 1.0,
    "side": "buy",
    "terms": Sealed(),
    "time_limit": 1.0,
    "to": "nobody",
    "trader": "ben",
    "tried": None,
    "units": 1,
    "value": 1,
    "weights": Late(lambda here: {here.voter: 1}),
    "who": WORKER,
    "writes": Late(lambda here: [Register("x", here.worker, {})]),
    "Commit.writes": {("table", "x"): RowWrite(b"\xa1x", b"\x01", Row(1, 1))},
}


def _message(name: str, kind: type) -> Callable[..., Any]:
    async def send(here: World, **given: Any) -> None:
        address = here.runtime.name(name)
        message = kind(**given)
        if isinstance(message, Request):
            await address.call(message, 5.0)
        else:
            address.cast(message)

    return send


def _right(kind: type) -> dict[str, Any]:
    fields: tuple[str, ...] = kind.__struct_fields__  # type: ignore[attr-defined]
    return {field: FIELDS.get(f"{kind.__name__}.{field}", FIELDS.get(field, MISSING)) for field in fields}


MISSING = object()
#: The names of services, where they are not those of their classes.
NAMES = {"DeadLetters": "dead_letters"}

for _service in sorted(services(), key=lambda one: one.__name__):
    for _kind in sorted(messages(_service), key=lambda one: one.__name__):
        _named = NAMES.get(_service.__name__, _service.__name__.lower())
        spoilt(f"{_service.__name__} < {_kind.__name__}", **_right(_kind))(_message(_named, _kind))


class Finding(msgspec.Struct, frozen=True):
    """What a nasty argument has done.

    Attributes:
        call: which call.
        argument: which of its arguments.
        value: the name of the nasty value.
        kind: whether a service has ended (``death``), or the caller was not told what is wrong (``wrong``).
        why: what happened.
    """

    call: str
    argument: str
    value: str
    kind: str
    why: str


def arguments(case: Spoilt) -> list[str]:
    """Return the arguments of a call that are made nasty."""
    return list(case.valid)


def try_all(case: Spoilt, argument: str) -> list[Finding]:
    """Try all nasty values for one argument, in a world of its own; see whether everything works after that."""
    return run(tried(case, argument, NASTY))


async def tried(case: Spoilt, argument: str, values: Mapping[str, Callable[[], Any]]) -> list[Finding]:
    """Try nasty values for one argument; then see whether everything works, also after a restart."""
    found: list[Finding] = []

    def note(value: str, kind: str, why: Iterable[str]) -> None:
        found.extend(Finding(case.name, argument, value, kind, one) for one in why)

    async with world() as here:
        for name, make in values.items():
            note(name, "wrong", await _once(case, here, argument, make()))
            await here.runtime.sleep(1.0)
            note(name, "death", here.take_deaths())
        for step in (here.probe, here.restarted):
            try:
                await step()
            except Exception as error:
                note("all of them", "wrong", [f"{step.__name__}: {type(error).__name__}: {_shown(error)}"])
                break
        note("all of them", "death", here.take_deaths())
        note("all of them", "wrong", here.unhandled)
    return found


async def _once(case: Spoilt, here: World, argument: str, value: Any) -> list[str]:
    given = {**_made(case.valid, here), argument: value}
    try:
        async with asyncio.timeout(1000.0):
            await case.call(here, **given)
    except (SupervisionError, FoundationError) as error:
        str(error)
    except TimeoutError:
        pass  # it waits, as it was told to
    except Exception as error:
        if argument not in case.functions:
            return [f"{type(error).__name__}: {_shown(error)}"]
    return []


def _shown(error: BaseException) -> str:
    try:
        return str(error)[:200]
    except Exception:
        return "cannot be shown"
