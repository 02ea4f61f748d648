"""Combinations: one service inside another."""

from __future__ import annotations

import asyncio

import pytest

from foundation.cache import Cache
from foundation.coordination import Election, Elections, Lock, Locks
from foundation.dead_letters import DeadLetterQueue, DeadLetters
from foundation.protection import (
    BreakerOptions,
    Breakers,
    Bulkhead,
    CircuitBreaker,
    Policy,
    RateLimit,
    Retry,
    TimeLimit,
)
from foundation.registry import Directory, Registry
from foundation.resources import Resource, Resources
from foundation.store import Transaction
from supervision.testing import ScenarioRun
from tests.foundation.interrupted.kept import _accounts, _bank, _right, _transfer
from tests.foundation.interrupted.table import Echo, line, service, world


@line("lock_inside_transaction")
async def lock_inside_transaction(run: ScenarioRun) -> None:
    """A lock that is held while a transaction is under way."""
    async with _bank(run, service(Locks)) as (here, bank, path):
        lock = Lock(here.runtime, "bank")

        async def work() -> None:
            async with bank.transaction() as tx, lock.held():
                await here.runtime.sleep(0.1)
                await _transfer(tx)

        outcome = await here.interrupt(work, lambda: {"grants": len(lock.grants)})
        async with lock.held(timeout=5.0):
            await _right(here, bank, path, committed=True if outcome.done else None)


@line("transaction_inside_lock")
async def transaction_inside_lock(run: ScenarioRun) -> None:
    """A transaction that is committed while a lock is held, by several."""
    async with _bank(run, service(Locks)) as (here, bank, path):
        lock = Lock(here.runtime, "bank")

        async def move() -> None:
            async with lock.held():
                await bank.transact(_transfer)

        async def back(tx: Transaction) -> None:
            tx.put("accounts", "ada", tx.get("accounts", "ada") + 30)
            tx.put("accounts", "bob", tx.get("accounts", "bob") - 30)

        async def other() -> None:
            async with lock.held():
                await bank.transact(back)

        async def both() -> None:
            await asyncio.gather(move(), other())

        await here.interrupt(both, lambda: {"grants": len(lock.grants)})
        async with lock.held(timeout=5.0):
            await _right(here, bank, path, committed=None)
        assert _accounts(bank)["bob"] in (0, 30, -30)


@line("breaker_around_bulkhead")
async def breaker_around_bulkhead(run: ScenarioRun) -> None:
    """A probe that waits for a place."""
    async with world(run, service(Breakers)) as here:
        breaker = CircuitBreaker(here.runtime, "db", BreakerOptions(failures=1, reset_after=5.0))
        bulkhead = Bulkhead(1, waiting=2)
        guard = Policy(breaker=breaker, bulkhead=bulkhead)

        async def fail() -> None:
            raise ConnectionError("nobody there")

        with pytest.raises(ConnectionError):
            await guard.call(fail)
        await here.runtime.sleep(10.0)
        other = asyncio.ensure_future(bulkhead.call(lambda: here.runtime.sleep(1.0)))
        await here.runtime.sleep(0.1)
        await here.interrupt(lambda: guard.call(lambda: here.runtime.sleep(0.1)))
        await other
        patient = Retry(5, on=lambda _: True, wait=6.0, wait_max=10.0)
        async with asyncio.timeout(120.0):
            await patient.call(lambda: guard.call(lambda: here.runtime.sleep(0.1)))
        await here.runtime.sleep(0.1)
        assert breaker.state == "closed"


@line("resource_around_lock")
async def resource_around_lock(run: ScenarioRun) -> None:
    """Work that takes a lease, and then waits for a lock."""
    async with world(run, service(Resources, {"work": 1}), service(Locks)) as here:
        work = Resource(here.runtime, "work", priority="high")
        lock = Lock(here.runtime, "printer")
        await lock.acquire(lease=1.0)

        async def locked() -> None:
            async with lock.held():
                await here.runtime.sleep(0.1)

        async def use() -> None:
            await work.run(locked)

        await here.interrupt(use, lambda: {"used": work.used, "grants": len(lock.grants)})
        async with lock.held(timeout=5.0):
            lease = await work.acquire()
            assert await work.release(lease)


@line("leader_registers")
async def leader_registers(run: ScenarioRun) -> None:
    """Who is elected enters itself, and leaves again."""
    async with world(run, service(Elections), service(Registry)) as here:
        election = Election(here.runtime, "writer")
        directory = Directory.of(here.runtime)

        async def lead() -> None:
            await election.stand(here.worker)
            await directory.register("leader", here.worker)
            await directory.unregister("leader")
            await election.resign(here.worker)

        def counts() -> dict[str, float]:
            """Monitors, but for that of who leads: whoever is cut off before it resigns, still does."""
            return {"monitors": here.monitors(directory)["monitors"] - (election.leader is not None)}

        await here.interrupt(lead, counts)
        await election.resign(here.worker)
        assert election.leader is None
        await directory.unregister("leader")
        await directory.register("leader", here.worker)


@line("cache_of_a_store")
async def cache_of_a_store(run: ScenarioRun) -> None:
    """A value that is loaded by a transaction, under a limit of time."""
    async with _bank(run) as (here, bank, path):
        cache: Cache[str, int] = Cache(here.runtime, "accounts")

        async def read(tx: Transaction) -> int:
            tx.put("accounts", "read", 0)
            amount: int = tx.get("accounts", "ada")
            return amount

        async def ask() -> int:
            return await TimeLimit(5.0).call(lambda: cache.get("ada", lambda: bank.transact(read)))

        outcome = await here.interrupt(ask)
        assert not outcome.done or outcome.value == 100
        assert await cache.get("ada", lambda: bank.transact(read)) == 100
        await _right(here, bank, path, committed=False)


@line("retry_through_dead_letters")
async def retry_through_dead_letters(run: ScenarioRun) -> None:
    """Letters that are sent under a limit of rate."""
    async with _bank(run, service(DeadLetters, name="dead_letters")) as (here, _, _path):
        queue = DeadLetterQueue(here.runtime)
        guard = Policy(retry=Retry(2), rate_limit=RateLimit(2, per=1.0))

        async def tell() -> None:
            for number in range(2):
                await guard.call(lambda number=number: queue.send("worker", Echo(number)))

        await here.interrupt(tell)
        assert await guard.call(lambda: queue.send("worker", Echo(3))) == "delivered"
        await here.runtime.sleep(200.0)
        assert queue.waiting() == {}
