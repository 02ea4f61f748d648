"""The store, the registry and the dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from foundation.dead_letters import DeadLetterQueue, DeadLetters
from foundation.registry import (
    Directory,
    PartitionedDirectory,
    PartitionedRegistry,
    Register,
    Registry,
)
from foundation.store import Database, Store, Transaction
from supervision import ChildSpec
from supervision.testing import ScenarioRun
from tests.foundation.interrupted.table import Echo, Worker, World, folder, line, service, world


@asynccontextmanager
async def _bank(run: ScenarioRun, *others: ChildSpec) -> AsyncGenerator[tuple[World, Database, Path]]:
    async with (
        folder() as here,
        world(run, service(Registry), _store(here), *others) as made,
    ):
        bank = Database.of(made.runtime)
        async with bank.transaction() as tx:
            tx.put("accounts", "ada", 100)
            tx.put("accounts", "bob", 0)
        yield made, bank, here


def _store(here: Path) -> ChildSpec:
    return service(Store, here / "bank.db", ["accounts", "dead_letters"], sync="off", fold_after=3)


async def _right(here: World, bank: Database, folder_: Path, *, committed: bool | None) -> None:
    """Money is neither made nor lost; what was acknowledged is there, also after a restart of the store."""
    async with asyncio.timeout(60.0):
        await bank.transact(_touch)
    seen = _accounts(bank)
    assert sum(seen.values()) == 100
    if committed is not None:
        assert seen["bob"] == (30 if committed else 0)
    store = here.runtime.whereis("store")
    assert store is not None
    store.kill()
    async with asyncio.timeout(60.0):
        while here.runtime.whereis("store") in (None, store):
            await here.runtime.sleep(0.1)
        await bank.transact(_touch)
    assert _accounts(bank) == seen
    assert Directory.of(here.runtime).prepared is None


def _accounts(bank: Database) -> dict[str, int]:
    return {key: value for key, value in bank.table("accounts").items() if key != "touched"}


async def _touch(tx: Transaction) -> None:
    tx.put("accounts", "touched", tx.get("accounts", "touched", 0) + 1)


async def _transfer(tx: Transaction) -> None:
    tx.put("accounts", "ada", tx.get("accounts", "ada") - 30)
    tx.put("accounts", "bob", tx.get("accounts", "bob") + 30)


@line("transaction", "Transaction.__aenter__", "Transaction.__aexit__", "Transaction.effect")
async def transaction(run: ScenarioRun) -> None:
    """All of it or nothing; what was done elsewhere is undone with it."""
    async with _bank(run) as (here, bank, path):
        elsewhere: list[int] = []

        async def do() -> int:
            await here.runtime.sleep(0.1)
            elsewhere.append(30)
            return 30

        async def work() -> None:
            async with bank.transaction() as tx:
                await tx.effect(do, elsewhere.remove)
                await _transfer(tx)

        outcome = await here.interrupt(work)
        await _right(here, bank, path, committed=True if outcome.done else None)
        assert (elsewhere == [30]) == (_accounts(bank)["bob"] == 30)


@line("transaction.registry")
async def transaction_with_registry(run: ScenarioRun) -> None:
    """A row and an entry, both or neither."""
    async with _bank(run) as (here, bank, path):
        directory = Directory.of(here.runtime)

        async def work() -> None:
            async with bank.transaction() as tx:
                tx.register("worker", here.worker)
                await _transfer(tx)

        outcome = await here.interrupt(work, lambda: here.monitors(directory))
        await _right(here, bank, path, committed=True if outcome.done else None)
        assert (directory.lookup("worker") is not None) == (_accounts(bank)["bob"] == 30)
        await directory.unregister("worker")


@line("database.transact", "Database.transact")
async def transact(run: ScenarioRun) -> None:
    """With a transaction of another one in the way."""
    async with _bank(run) as (here, bank, path):
        others: list[asyncio.Future[None]] = []

        async def work(tx: Transaction) -> None:
            await _transfer(tx)
            if not others:
                others.append(asyncio.ensure_future(bank.transact(_deposit)))
            await here.runtime.sleep(0.1)

        async def _deposit(tx: Transaction) -> None:
            tx.put("accounts", "ada", tx.get("accounts", "ada") + 0)

        outcome = await here.interrupt(lambda: bank.transact(work))
        await asyncio.gather(*others, return_exceptions=True)
        await _right(here, bank, path, committed=True if outcome.done else None)


@line("database.back_up", "Database.back_up")
async def back_up(run: ScenarioRun) -> None:
    """A copy is whole, or is not reported as made."""
    async with _bank(run) as (here, bank, path):
        outcome = await here.interrupt(lambda: bank.back_up(path / "copy.db"))
        await _right(here, bank, path, committed=False)
        if outcome.done:
            await here.runtime.spawn(Store, path / "copy.db", ["accounts"], name="copy")
            assert _accounts(Database.of(here.runtime, "copy")) == {"ada": 100, "bob": 0}


# -- the registry ------------------------------------------------------------------------------------------------------


@line("directory.register", "Directory.register", "Directory.update", "Directory.unregister")
async def register(run: ScenarioRun) -> None:
    """An entry comes, changes and goes, each as a whole."""
    async with world(run, service(Registry)) as here:
        directory = Directory.of(here.runtime)

        async def work() -> None:
            await directory.register("worker", here.worker, {"load": 1})
            await directory.update("worker", {"load": 2})
            await directory.unregister("worker")

        outcome = await here.interrupt(work, lambda: here.monitors(directory))
        assert not outcome.done or directory.lookup("worker") is None
        await directory.unregister("worker")
        await directory.register("worker", here.worker)
        entry = directory.lookup("worker")
        assert entry is not None
        assert entry.ref is here.worker


@line("directory.batch", "Directory.batch", "Directory.put_meta", "Directory.set_limits")
async def batch(run: ScenarioRun) -> None:
    """All entries or none."""
    async with world(run, service(Registry)) as here:
        directory = Directory.of(here.runtime)

        async def work() -> None:
            await directory.batch([Register(n, here.worker, {}) for n in range(3)])
            await directory.put_meta("colour", "red")
            await directory.set_limits(10)

        outcome = await here.interrupt(work, lambda: here.monitors(directory))
        assert directory.count() in ((3,) if outcome.done else (0, 3))
        await directory.set_limits(None)
        await directory.batch([Register(n, here.worker, {}) for n in "abc"])
        assert directory.lookup("c") is not None


@line(
    "partitions",
    "PartitionedDirectory.register",
    "PartitionedDirectory.update",
    "PartitionedDirectory.unregister",
)
async def partitions(run: ScenarioRun) -> None:
    """The same in parts."""
    spec = ChildSpec("registry", PartitionedRegistry, (2,), name="parts")
    async with world(run, spec, restart=False) as here:
        directory = PartitionedDirectory.of(here.runtime, 2)
        here.services = ["registry.0", "registry.1"]

        async def work() -> None:
            for key in "abcd":
                await directory.register(key, here.worker, {"load": 1})
                await directory.update(key, {"load": 2})
                await directory.unregister(key)

        await here.interrupt(work, lambda: here.monitors(*directory.parts))
        for key in "abcd":
            await directory.unregister(key)
            await directory.register(key, here.worker)
        assert directory.count() == 4


# -- dead letters ------------------------------------------------------------------------------------------------------


@line("dead_letters.send", "DeadLetterQueue.send")
async def send(run: ScenarioRun) -> None:
    """What was answered as kept arrives when its receiver comes."""
    async with _bank(run, service(DeadLetters, name="dead_letters")) as (here, _, _path):
        queue = DeadLetterQueue(here.runtime)
        outcome = await here.interrupt(lambda: queue.send("late", Echo(1)))
        assert queue.waiting() or not outcome.done  # twice is fine: receivers do not mind
        await here.runtime.spawn(Worker, name="late")
        await here.runtime.sleep(200.0)
        assert queue.waiting() == {}
        assert queue.given_up() == {}


@line("dead_letters.redeliver", "DeadLetterQueue.redeliver", "DeadLetterQueue.purge")
async def redeliver(run: ScenarioRun) -> None:
    """Delivered in the end, whoever asked for it."""
    async with _bank(run, service(DeadLetters, name="dead_letters")) as (here, _, _path):
        queue = DeadLetterQueue(here.runtime)
        assert await queue.send("late", Echo(1)) == "kept"
        await here.runtime.spawn(Worker, name="late")

        async def work() -> None:
            await queue.redeliver()
            await queue.purge()

        await here.interrupt(work)
        await here.runtime.sleep(200.0)
        assert queue.waiting() == {}
