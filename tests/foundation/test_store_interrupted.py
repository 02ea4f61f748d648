"""Whoever is cut off in a transaction, wherever: all parts of it, and its compensations, agree on what became of it."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import pytest

from foundation.registry import Directory, Registry
from foundation.registry.messages import Prepare
from foundation.store import Database, Disk, RollbackFailed, Store, TransactionConflict, TransactionEnded
from foundation.store.messages import Flush
from foundation.store.store import Store as StoreActor
from supervision import Actor, ActorExited, ChildSpec, Message, Ref, Runtime, Supervisor, handle
from supervision.testing import settled
from tests.foundation.test_store import Idle, put, rows, some_turns, until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is."""
    return tmp_path / "x.db"


@pytest.fixture
async def bank(runtime: Runtime, path: Path) -> Database:
    """A supervised store, with a supervised registry beside it."""
    children = [
        ChildSpec("registry", Registry, name="registry"),
        ChildSpec("store", Store, (path, ["log"]), name="store"),
    ]
    await runtime.spawn(Supervisor, children, max_restarts=100)
    return Database.of(runtime)


class Work:
    """A transaction over a table and a registry, with an effect and a slow compensation."""

    def __init__(self, bank: Database, ref: Ref) -> None:
        self.bank = bank
        self.ref = ref
        self.done: list[str] = []
        self.undone: list[str] = []
        self.transaction: Any = None

    async def do(self) -> str:
        """Do something elsewhere."""
        await some_turns()
        self.done.append("effect")
        return "effect"

    async def undo(self, what: str) -> None:
        """Make it good again."""
        await some_turns()
        self.undone.append(what)

    async def run(self) -> None:
        """Do it all."""
        async with self.bank.transaction(timeout=None) as tx:
            self.transaction = tx
            tx.put("log", "a", tx.get("log", "a", 0) + 1)
            tx.register("a", self.ref)
            async with tx.nested() as part:
                await part.effect(self.do, self.undo)
            await some_turns()
            tx.put("log", "b", 1)

    def consistent(self) -> None:
        """Check that all parts agree on what became of it."""
        number = None if self.transaction is None else self.transaction.number
        done = number is not None
        assert rows(self.bank) == ({"a": 1, "b": 1} if done else {})
        assert (Directory.of(self.bank.runtime).lookup("a") is not None) is done
        assert self.undone == ([] if done else self.done)
        assert self.bank.in_flight == []
        assert self.bank.preparing == {}
        assert Directory.of(self.bank.runtime).prepared is None
        assert not self.bank.rolling_back


async def turns(count: int) -> None:
    """Let the loop run for so many turns."""
    left = iter(range(count))
    await until(lambda: next(left, None) is None)


POINTS = range(0, 60, 1)


@pytest.mark.parametrize("at", POINTS)
async def test_a_task_that_is_cancelled_anywhere_leaves_all_parts_in_agreement(
    runtime: Runtime, bank: Database, at: int
) -> None:
    work = Work(bank, await runtime.spawn(Idle))
    task = asyncio.ensure_future(work.run())
    await turns(at)
    task.cancel()
    await asyncio.wait([task])
    work.consistent()


class Begin(Message, frozen=True):
    """To a worker."""


class Worker(Actor):
    """Works."""

    def __init__(self, work: Work) -> None:
        self.work = work

    @handle
    async def begin(self, message: Begin) -> None:
        """Do it."""
        await self.work.run()


@pytest.mark.parametrize("at", POINTS[::2])
async def test_an_actor_that_is_killed_anywhere_leaves_all_parts_in_agreement(
    runtime: Runtime, bank: Database, at: int
) -> None:
    work = Work(bank, await runtime.spawn(Idle))
    worker = await runtime.spawn(Worker, work)
    worker.cast(Begin())
    await turns(at)
    worker.kill()
    await until(lambda: not runtime.zombies())
    await until(lambda: not bank.in_flight and not bank.rolling_back)
    await settled(runtime)
    work.consistent()


@pytest.mark.parametrize("at", POINTS[::3])
@pytest.mark.parametrize("who", ["store", "registry"])
async def test_a_service_that_is_killed_anywhere_leaves_all_parts_in_agreement(
    runtime: Runtime, bank: Database, at: int, who: str
) -> None:
    work = Work(bank, await runtime.spawn(Idle))
    task = asyncio.ensure_future(work.run())
    await turns(at)
    runtime.whereis(who).kill()  # type: ignore[union-attr]
    await asyncio.wait([task])
    await until(lambda: runtime.whereis("store") is not None and runtime.whereis("registry") is not None)
    await until(lambda: runtime.statistics().leaked_threads == 0)
    await bank.address.call(Flush(), timeout=None)  # it has read its file
    await settled(runtime)
    work.consistent()
    await put(bank, "a", 7)
    await asyncio.wait_for(Directory.of(runtime).register("next", work.ref), 1.0)


async def test_compensations_are_not_cut_off(bank: Database) -> None:
    undone: list[int] = []

    async def slow(n: int) -> None:
        await some_turns()
        undone.append(n)

    async def main() -> None:
        async with bank.transaction() as tx:
            for n in (1, 2):
                tx.on_rollback(lambda n=n: slow(n))
            raise KeyError

    task = asyncio.ensure_future(main())
    await until(lambda: bank.rolling_back)
    for _ in range(3):
        task.cancel()
        await turns(2)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert undone == [2, 1]


async def test_a_compensation_that_cancels_itself_does_not_keep_the_others_from_being_done(bank: Database) -> None:
    undone: list[int] = []

    def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(RollbackFailed, match="CancelledError"):
        async with bank.transaction() as tx:
            tx.on_rollback(lambda: undone.append(1))
            tx.on_rollback(cancelled)
            raise KeyError
    assert undone == [1]


async def test_code_that_is_closed_is_made_good_behind_it(bank: Database) -> None:
    """As the code of a killed actor is that takes no notice: nobody can wait in it any more."""
    undone: list[int] = []

    async def slow() -> None:
        await some_turns()
        undone.append(1)

    async def main() -> None:
        async with bank.transaction(timeout=None) as tx:
            tx.on_rollback(slow)
            await asyncio.get_running_loop().create_future()

    coroutine = main()
    coroutine.send(None)
    coroutine.close()
    gc.collect()
    await until(lambda: undone)
    await until(lambda: not bank.rolling_back)


async def test_a_commit_whose_code_is_closed_is_not_made_good(
    runtime: Runtime, bank: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    undone: list[int] = []

    async def main() -> None:
        async with bank.transaction(timeout=None) as tx:
            tx.put("log", "a", 1)
            tx.on_rollback(lambda: undone.append(1))

    coroutine = main()
    coroutine.send(None)
    coroutine.close()
    await until(lambda: rows(bank) == {"a": 1})
    assert undone == []


async def test_who_is_cancelled_while_the_outcome_is_unknown_is_not_made_good(
    runtime: Runtime, path: Path, expect_crash: Any
) -> None:
    gate = threading.Event()

    class Slow(Disk):
        def step(self, what: Any, path: Path, do: Any) -> Any:
            if what == "commit":
                gate.wait()
            return do()

    store = await runtime.spawn(Store, path, ["log"], disk=Slow())
    bank = Database.of(runtime)
    undone: list[int] = []

    async def main() -> None:
        async with bank.transaction() as tx:
            tx.put("log", "a", 1)
            tx.on_rollback(lambda: undone.append(1))

    task = asyncio.ensure_future(main())
    await until(lambda: bank.in_flight)
    store.kill()
    gate.set()
    await some_turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert "is not back" in str(caught.value.__cause__)
    assert undone == []
    await until(lambda: runtime.statistics().leaked_threads == 0)


async def test_an_effect_that_comes_too_late_is_undone(bank: Database) -> None:
    undone: list[str] = []
    late: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def do() -> str:
        return await late

    with pytest.raises(KeyError):
        async with bank.transaction() as tx:
            task = asyncio.ensure_future(tx.effect(do, undone.append))
            await some_turns()
            raise KeyError
    assert undone == []
    late.set_result("late")
    with pytest.raises(TransactionEnded, match="it is undone"):
        await task
    assert undone == ["late"]


@pytest.mark.parametrize("fails", [True, False])
async def test_an_effect_of_a_part_that_comes_after_it_belongs_to_the_whole(bank: Database, fails: bool) -> None:
    undone: list[str] = []
    late: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def do() -> str:
        return await late

    async def main() -> None:
        async with bank.transaction() as tx:
            async with tx.nested() as part:
                task = asyncio.ensure_future(part.effect(do, undone.append))
                await some_turns()
            late.set_result("late")
            assert await task == "late"
            tx.put("log", "a", 1)
            if fails:
                raise KeyError

    outcome = (await asyncio.gather(main(), return_exceptions=True))[0]
    assert isinstance(outcome, KeyError) is fails
    assert undone == (["late"] if fails else [])


async def test_an_effect_that_comes_after_the_commit_stays(bank: Database) -> None:
    undone: list[str] = []
    late: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def do() -> str:
        return await late

    async with bank.transaction() as tx:
        tx.put("log", "a", 1)
        task = asyncio.ensure_future(tx.effect(do, undone.append))
        await some_turns()
    late.set_result("late")
    assert await task == "late"
    assert undone == []


async def test_a_part_cannot_outlive_the_whole(bank: Database) -> None:
    undone: list[int] = []
    async with bank.transaction() as tx:
        part, unused = tx.nested(), tx.nested()
        await part.__aenter__()
        part.put("log", "a", 1)
        part.on_rollback(lambda: undone.append(1))
        tx.put("log", "b", 1)
    with pytest.raises(TransactionEnded):
        await part.__aexit__(None, None, None)
    with pytest.raises(TransactionEnded):
        await unused.__aenter__()
    assert rows(bank) == {"b": 1}
    assert undone == [1]


async def test_a_transaction_sees_what_is_there_when_it_begins_not_when_it_is_made(bank: Database) -> None:
    tx = bank.transaction()
    await put(bank, "a", 1)
    async with tx:
        assert tx.get("log", "a") == 1
        tx.put("log", "b", 1)
    assert tx.number == 2


async def test_who_no_longer_waits_for_the_disk_is_forgotten(
    runtime: Runtime, bank: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    step = Disk.step

    def slow(self: Disk, what: Any, path: Path, do: Any) -> Any:
        if what == "commit":
            gate.wait()
        return step(self, what, path, do)

    monkeypatch.setattr(Disk, "step", slow)
    task = asyncio.ensure_future(put(bank, "a", 1))
    await until(lambda: bank.in_flight)
    actors: list[StoreActor] = [one for one in gc.get_objects() if type(one) is StoreActor and one._database is bank]
    calls = [bank.address.call(Flush(), timeout=None) for _ in range(10)]
    await some_turns()
    assert len(actors[0]._flushing) == 10
    for call in calls[1:]:
        call.cancel()
    await some_turns()
    assert len(actors[0]._flushing) == 1
    gate.set()
    await task
    await calls[0]
    assert actors[0]._flushing == []


async def test_what_a_registry_has_prepared_is_undone_if_its_answer_does_not_arrive(
    runtime: Runtime, bank: Database, monkeypatch: pytest.MonkeyPatch, expect_crash: Any
) -> None:
    """It ends after it has prepared, and before it has said so."""
    expect_crash(reason="ZeroDivisionError")
    ref = await runtime.spawn(Idle)
    directory = Directory.of(runtime)
    wait = Registry._wait_for_decision

    def ends(self: Registry, prepared: Any) -> None:
        wait(self, prepared)
        if self._unanswered == []:
            raise ZeroDivisionError

    monkeypatch.setattr(Registry, "_wait_for_decision", ends)
    with pytest.raises(ActorExited):
        async with bank.transaction() as tx:
            tx.put("log", "a", 1)
            tx.register("a", ref)
    monkeypatch.setattr(Registry, "_wait_for_decision", wait)
    assert directory.prepared is None
    await until(lambda: runtime.whereis("registry") is not None)
    assert (await directory.register("b", ref)).key == "b"
    assert rows(bank) == {}


async def test_what_a_registry_has_prepared_for_a_store_that_was_killed_is_undone_by_the_next_one(
    runtime: Runtime, bank: Database
) -> None:
    ref = await runtime.spawn(Idle)
    directory = Directory.of(runtime)
    await runtime.spawn(Registry, name="slow")
    runtime.whereis("slow").kill()  # type: ignore[union-attr]

    class Silent(Actor):
        @handle
        async def prepare(self, request: Prepare) -> Any:
            await self.runtime.sleep(3600.0)

    await runtime.spawn(Silent, name="slow")

    async def main() -> None:
        async with bank.transaction() as tx:
            tx.register("a", ref)
            tx.register("a", ref, registry="slow")

    task = asyncio.ensure_future(main())
    await until(lambda: directory.prepared is not None)
    await some_turns()
    before = runtime.whereis("store")
    before.kill()  # type: ignore[union-attr]
    with pytest.raises(ActorExited):
        await task
    await until(lambda: runtime.whereis("store") not in (None, before) and not bank.preparing)
    await asyncio.wait_for(directory.register("b", ref), 1.0)
    assert directory.lookup("a") is None


async def test_a_conflict_of_a_cancelled_task_is_made_good(bank: Database) -> None:
    undone: list[int] = []

    async def main() -> None:
        async with bank.transaction() as tx:
            tx.get("log", "a")
            await put(bank, "a", 1)
            tx.put("log", "b", 1)
            tx.on_rollback(lambda: undone.append(1))
            asyncio.current_task().cancel()  # type: ignore[union-attr]

    with pytest.raises((asyncio.CancelledError, TransactionConflict)):
        await asyncio.ensure_future(main())
    assert undone == [1]
    assert rows(bank) == {"a": 1}
