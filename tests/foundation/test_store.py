"""The store: transactions are all or nothing, serializable, and still there afterwards."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.events import StoreOpened
from foundation.registry import BatchFailed, Directory, KeyTaken, Registry
from foundation.registry.messages import Decided, InDoubt, Prepare, Register
from foundation.store import (
    BadValue,
    Database,
    Disk,
    NoTable,
    NotWritten,
    OutcomeUnknown,
    RollbackFailed,
    Store,
    StoreLocked,
    Transaction,
    TransactionConflict,
    TransactionEnded,
)
from foundation.store.file import StoreFile
from supervision import Actor, ActorExited, ChildSpec, NoProcess, Ref, Runtime, StartError, Supervisor
from supervision.errors import BadOption
from supervision.testing import EventLog, advance, run, settled


class Idle(Actor):
    """Does nothing."""


class Account(msgspec.Struct, frozen=True):
    """A row."""

    owner: str
    balance: int = 0


TABLES = {"accounts": Account, "log": None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is."""
    return tmp_path / "stores" / "bank.db"


@pytest.fixture
async def bank(runtime: Runtime, path: Path) -> Database:
    """A supervised store, with a supervised registry beside it."""
    children = [
        ChildSpec("registry", Registry, name="registry"),
        ChildSpec("store", Store, (path, TABLES), name="store"),
    ]
    await runtime.spawn(Supervisor, children, max_restarts=100)
    return Database.of(runtime)


async def put(bank: Database, key: Any, value: Any, table: str = "log") -> None:
    """Write one row."""
    async with bank.transaction() as tx:
        tx.put(table, key, value)


def rows(bank: Database, table: str = "log") -> dict[Any, Any]:
    """Return a table as a dictionary."""
    return dict(bank.table(table).items())


# -- what is written is there ----------------------------------------------------------------------------------------


async def test_what_was_committed_is_there_after_a_restart_with_its_types(
    runtime: Runtime, bank: Database, path: Path
) -> None:
    async with bank.transaction() as tx:
        tx.put("accounts", ("de", 7), Account("ada", 100))
        tx.put("log", b"bytes", [1, {"a": None}])
        tx.put("log", 1, "one")
        assert tx.number is None
    assert tx.number == 1
    await put(bank, 2, "two")
    async with bank.transaction() as tx:
        tx.delete("log", 1)
        tx.delete("log", "was never there")
    before = bank.root
    runtime.whereis("store").kill()  # type: ignore[union-attr]
    assert bank.root is before
    await until(lambda: bank.root is not before)
    assert rows(bank) == {b"bytes": [1, {"a": None}], 2: "two"}
    assert bank.table("accounts").get(("de", 7)) == Account("ada", 100)
    assert bank.root.version == 3
    assert len(bank.table("log")) == 2


async def test_nothing_is_done_if_the_block_raises(bank: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with bank.transaction() as tx:
            tx.put("log", "a", 1)
            raise ZeroDivisionError
    assert rows(bank) == {}
    assert bank.root.version == 0


async def test_a_transaction_sees_its_own_writes_and_one_moment(bank: Database) -> None:
    await put(bank, "a", 1)
    await put(bank, "b", 1)
    async with bank.transaction() as tx:
        tx.put("log", "a", 2)
        tx.put("log", "c", 3)
        tx.delete("log", "b")
        assert [tx.get("log", key, "nothing") for key in "abcd"] == [2, "nothing", 3, "nothing"]
        assert dict(tx.items("log")) == {"a": 2, "c": 3}
        assert rows(bank) == {"a": 1, "b": 1}
    async with bank.transaction() as tx:
        assert dict(tx.items("log")) == {"a": 2, "c": 3}
    assert tx.number is None


async def test_a_snapshot_never_changes(bank: Database) -> None:
    await put(bank, "a", 1)
    held = bank.root
    await put(bank, "a", 2)
    assert (held.table("log").get("a"), bank.table("log").get("a"), bank.table("log").get("b", 7)) == (1, 2, 7)


# -- conflicts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", ["row", "absent row", "table"])
async def test_what_was_read_and_then_changed_by_another_is_a_conflict(bank: Database, read: str) -> None:
    await put(bank, "a", 1)
    with pytest.raises(TransactionConflict, match="nothing was done: try it again") as caught:
        async with bank.transaction() as tx:
            if read == "table":
                tx.items("log")
            else:
                tx.get("log", "a" if read == "row" else "b")
            await put(bank, "a" if read == "row" else "b", 2)
            tx.put("log", "mine", 1)
    assert caught.value.table == "log"
    assert "mine" not in rows(bank)
    async with bank.transaction() as tx:
        tx.get("log", "a")
        await put(bank, "other", 2)
        tx.put("log", "mine", 1)
    assert rows(bank)["mine"] == 1


async def test_of_two_that_are_on_their_way_together_one_is_refused(bank: Database) -> None:
    async def increment() -> None:
        async with bank.transaction() as tx:
            tx.put("log", "n", tx.get("log", "n", 0) + 1)

    results = await asyncio.gather(increment(), increment(), return_exceptions=True)
    assert {type(result) for result in results} == {type(None), TransactionConflict}
    assert rows(bank) == {"n": 1}


async def test_transact_tries_again_until_it_is_done(bank: Database) -> None:
    async def increment(tx: Transaction) -> int:
        n: int = tx.get("log", "n", 0) + 1
        tx.put("log", "n", n)
        return n

    results = await asyncio.gather(*(bank.transact(increment) for _ in range(8)))
    assert sorted(results) == list(range(1, 9))
    assert rows(bank) == {"n": 8}

    async def hopeless(tx: Transaction) -> None:
        tx.put("log", "x", tx.get("log", "n"))
        await bank.transact(increment)

    with pytest.raises(TransactionConflict):
        await bank.transact(hopeless, attempts=3)
    assert rows(bank) == {"n": 11}


KEYS = "abc"
STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["read", "write", "scan", "delete", "end"]), st.sampled_from(KEYS)),
    max_size=30,
)


def effect(slot: int, seen: list[Any]) -> str:
    """Return what a transaction writes: it depends on all that it has read."""
    return f"{slot}:{seen}"


def one_after_the_other(scripts: list[list[Any]]) -> dict[str, str]:
    """Return what transactions do if none begins before the last has ended."""
    model: dict[str, str] = {}
    for script in scripts:
        seen: list[Any] = []
        for what, key, slot in script:
            if what == "read":
                seen.append(model.get(key))
            elif what == "scan":
                seen.append(sorted(model.items()))
            elif what == "write":
                model[key] = effect(slot, seen)
            else:
                model.pop(key, None)
    return model


class Interleaved:
    """Several transactions at a time."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.open: dict[int, tuple[Transaction, list[Any], list[Any]]] = {}
        self.done: list[tuple[int, list[Any]]] = []

    async def step(self, slot: int, what: str, key: str) -> None:
        """Do one thing in one of them."""
        if slot not in self.open:
            self.open[slot] = (await self.database.transaction().__aenter__(), [], [])
        tx, script, seen = self.open[slot]
        if what == "end":
            await self.end(slot)
            return
        script.append((what, key, slot))
        if what == "read":
            seen.append(tx.get("t", key))
        elif what == "scan":
            seen.append(sorted(tx.items("t")))
        elif what == "write":
            tx.put("t", key, effect(slot, seen))
        else:
            tx.delete("t", key)

    async def end(self, slot: int) -> None:
        """Commit one."""
        tx, script, _ = self.open.pop(slot)
        with suppress(TransactionConflict):
            await tx.__aexit__(None, None, None)
        if tx.number is not None:
            self.done.append((tx.number, script))


@settings(max_examples=150)
@given(STEPS)
def test_whatever_is_interleaved_has_the_effect_of_one_after_the_other(steps: list[Any]) -> None:
    """Four transactions at a time, each writing what depends on all that it has read so far."""

    async def main(path: Path) -> None:
        async with Runtime(watchdog=None, reports=False) as runtime:
            store = await runtime.spawn(Store, path, ["t"], sync="off")
            database = Database.of(runtime)
            world = Interleaved(database)
            for slot, what, key in steps:
                await world.step(slot, what, key)
            for slot in list(world.open):
                await world.end(slot)
            model = one_after_the_other([script for _, script in sorted(world.done)])
            assert dict(database.table("t").items()) == model
            await store.stop()
        file = StoreFile(path)
        file.close()
        decode = msgspec.msgpack.decode
        assert {decode(key): decode(value) for key, value in file.content.rows.get("t", {}).items()} == model

    with TemporaryDirectory() as folder:
        run(main(Path(folder, "file.db")))


# -- nesting and compensation ----------------------------------------------------------------------------------------


async def test_a_nested_part_may_fail_alone(bank: Database) -> None:
    undone: list[str] = []
    async with bank.transaction() as tx:
        tx.put("log", "a", 1)
        tx.on_rollback(lambda: undone.append("outer"))
        with pytest.raises(ZeroDivisionError):
            async with tx.nested() as part:
                part.put("log", "a", 2)
                part.on_rollback(lambda: undone.append("inner"))
                assert part.get("log", "a") == 2
                raise ZeroDivisionError
        assert undone == ["inner"]
        assert tx.get("log", "a") == 1
        async with tx.nested() as part:
            part.put("log", "b", part.get("log", "a") + 1)
            part.delete("log", "c")
            assert dict(part.items("log")) == {"a": 1, "b": 2}
            async with part.nested() as deeper:
                deeper.put("log", "c", 3)
    assert rows(bank) == {"a": 1, "b": 2, "c": 3}
    assert undone == ["inner"]


async def test_what_a_nested_part_did_is_made_good_if_the_whole_fails(bank: Database) -> None:
    undone: list[str] = []

    async def later(what: str) -> None:
        undone.append(what)

    async def did() -> str:
        return "third"

    with pytest.raises(ZeroDivisionError):
        async with bank.transaction() as tx:
            tx.on_rollback(lambda: undone.append("first"))
            async with tx.nested() as part:
                part.on_rollback(lambda: later("second"))
            assert await tx.effect(did, later) == "third"
            assert await tx.effect(lambda: "fourth", undone.append) == "fourth"
            raise ZeroDivisionError
    assert undone == ["fourth", "third", "second", "first"]


async def test_a_conflict_calls_the_compensations_too(bank: Database) -> None:
    undone: list[int] = []
    with pytest.raises(TransactionConflict):
        async with bank.transaction() as tx:
            tx.get("log", "a")
            tx.on_rollback(lambda: undone.append(1))
            await put(bank, "a", 1)
            tx.put("log", "b", 1)
    assert undone == [1]


async def test_compensations_that_fail_do_not_keep_the_others_from_being_done(bank: Database) -> None:
    undone: list[int] = []
    with pytest.raises(RollbackFailed, match="1 compensations failed: ZeroDivisionError") as caught:
        async with bank.transaction() as tx:
            tx.on_rollback(lambda: undone.append(1))
            tx.on_rollback(lambda: 1 / 0)
            raise KeyError
    assert undone == [1]
    assert isinstance(caught.value.__cause__, KeyError)
    assert isinstance(caught.value.errors[0], ZeroDivisionError)


async def test_a_transaction_has_a_limit_of_time(runtime: Runtime, bank: Database) -> None:
    undone: list[int] = []
    with pytest.raises(TimeoutError):
        async with bank.transaction(timeout=1.0) as tx:
            tx.put("log", "a", 1)
            tx.on_rollback(lambda: undone.append(1))
            await runtime.sleep(2.0)
    assert undone == [1]
    assert rows(bank) == {}


# -- bad use ---------------------------------------------------------------------------------------------------------


async def test_what_a_nested_part_asks_of_a_registry_is_done_with_the_rest(runtime: Runtime, bank: Database) -> None:
    ref = await runtime.spawn(Idle)
    async with bank.transaction() as tx:
        tx.on_rollback(lambda: 1 / 0)
        tx.put("accounts", "a", Account("ada"))
        async with tx.nested() as part:
            part.register("a", ref)
            assert dict(part.items("log")) == {}
    assert Directory.of(runtime).lookup("a") is not None


async def test_a_transaction_is_for_one_block(bank: Database) -> None:
    tx = bank.transaction()
    with pytest.raises(TransactionEnded, match="inside its `async with` block"):
        tx.put("log", "a", 1)
    async with tx:
        tx.put("log", "a", 1)
        with pytest.raises(TransactionEnded, match="one block"):
            await tx.__aenter__()
    for use in (
        lambda: tx.get("log", "a"),
        lambda: tx.items("log"),
        lambda: tx.delete("log", "a"),
        lambda: tx.on_rollback(list),
        tx.nested,
        lambda: tx.unregister("a"),
    ):
        with pytest.raises(TransactionEnded):
            use()
    with pytest.raises(TransactionEnded, match="one block"):
        await tx.__aenter__()


async def test_bad_keys_values_and_tables_are_named_before_anything_changes(bank: Database) -> None:
    async with bank.transaction() as tx:
        keys: list[Any] = [[], {}, None, 1 << 70]
        for key in keys:
            with pytest.raises(BadValue, match="a key is text"):
                tx.put("log", key, 1)
        with pytest.raises(BadValue, match="a key is text"):
            tx.delete("log", [])
        for table, value in (("log", object()), ("log", 1 << 70), ("accounts", {"owner": 7})):
            with pytest.raises(BadValue, match=table):
                tx.put(table, "a", value)
        for use in (tx.items, lambda table: tx.get(table, 1), lambda table: tx.put(table, 1, 1)):
            with pytest.raises(NoTable, match="no table 'nothing'; there are: accounts, log"):
                list(use("nothing") or ())
    with pytest.raises(NoTable):
        bank.table("nothing")
    assert bank.root.version == 0


@pytest.mark.parametrize(
    "options",
    [{"tables": []}, {"tables": [""]}, {"sync": "sometimes"}, {"damaged": "ignore"}, {"fold_after": 0}],
)
async def test_options_that_make_no_sense_are_named(runtime: Runtime, path: Path, options: dict[str, Any]) -> None:
    arguments = {"tables": ["t"], **options}
    with pytest.raises(BadOption, match=next(iter(options))):
        await runtime.spawn(Store, path, **arguments)


# -- tables and registries together ----------------------------------------------------------------------------------


async def test_tables_and_registries_change_at_one_moment(runtime: Runtime, bank: Database) -> None:
    await runtime.spawn(Registry, name="other")
    directory, other = Directory.of(runtime), Directory.of(runtime, "other")
    ref = await runtime.spawn(Idle)
    await directory.register("old", ref, {"n": 1})
    seen: list[Any] = []

    class Watched(type(bank)):  # type: ignore[misc]
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "root":
                seen.append((len(value.table("log")), directory.lookup("new"), other.lookup("there")))

    bank.__class__ = Watched
    async with bank.transaction() as tx:
        tx.put("log", "a", 1)
        tx.register("new", ref, {"capabilities": ["x"]})
        tx.update("old", {"n": 2})
        tx.unregister("missing")
        tx.register("there", ref, registry="other")
    assert [entry.key for entry in directory.find("capabilities", "x")] == ["new"]
    entry = directory.lookup("old")
    assert entry is not None
    assert entry.metadata == {"n": 2}
    assert other.lookup("there") is not None
    assert rows(bank) == {"a": 1}
    await directory.register("after", ref)
    assert seen == [(1, None, None)], "one attribute after the other, and nothing awaited in between"


async def test_what_a_registry_refuses_undoes_all(runtime: Runtime, bank: Database) -> None:
    await runtime.spawn(Registry, name="a")
    directory, first = Directory.of(runtime), Directory.of(runtime, "a")
    ref, other = await runtime.spawn(Idle), await runtime.spawn(Idle)
    await directory.register("taken", ref)
    with pytest.raises(BatchFailed) as caught:
        async with bank.transaction() as tx:
            tx.put("log", "a", 1)
            tx.register("mine", other, registry="a")
            tx.register("free", other)
            tx.register("taken", other)
    assert isinstance(caught.value.errors[1], KeyTaken)
    assert rows(bank) == {}
    assert first.lookup("mine") is directory.lookup("free") is None
    await first.register("mine", ref)
    other.kill()
    await settled(runtime)
    assert first.count() == directory.count() == 1


async def test_a_transaction_may_be_about_registries_only(runtime: Runtime, bank: Database) -> None:
    ref = await runtime.spawn(Idle)
    async with bank.transaction() as tx:
        tx.register("a", ref)
    assert Directory.of(runtime).lookup("a") is not None
    assert bank.root.version == 0


async def test_other_writes_of_a_registry_wait_for_the_decision_and_readers_do_not(
    runtime: Runtime, bank: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = hold(monkeypatch)
    directory = Directory.of(runtime)
    ref, dying = await runtime.spawn(Idle), await runtime.spawn(Idle)
    await directory.register("dying", dying)
    task = asyncio.ensure_future(register_and_put(bank, ref))
    await prepared(directory)
    waiting = directory.register("b", ref)
    dying.kill()
    await some_turns()
    assert not waiting.done()
    assert directory.lookup("a") is directory.lookup("dying") is None
    assert [entry.key for entry in directory.select()] == []
    gate.set()
    await task
    assert (await waiting).key == "b"
    assert [entry.key for entry in directory.select()] == ["a", "b"]
    await settled(runtime)
    assert len(directory.root) == 2


@pytest.mark.parametrize("who", ["registry", "store"])
async def test_whoever_crashes_in_the_middle_of_a_commit_the_parts_agree(
    runtime: Runtime, bank: Database, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """The journal is being written when the registry, or the store, is killed; then it turns out to be written."""
    gate = hold(monkeypatch)
    directory = Directory.of(runtime)
    ref = await runtime.spawn(Idle)
    task = asyncio.ensure_future(register_and_put(bank, ref))
    await prepared(directory)
    runtime.whereis(who).kill()  # type: ignore[union-attr]
    gate.set()
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    await until(lambda: runtime.whereis("store") is not None and directory.prepared is None)
    assert outcome is None or isinstance(outcome, ActorExited)
    assert (outcome is None) is ("a" in rows(bank)), "who committed knows what became of it"
    await directory.register("next", ref)
    assert ("a" in rows(bank)) is (directory.lookup("a") is not None)
    assert directory.prepared is None
    await until(lambda: runtime.statistics().leaked_threads == 0)


async def commit_while_the_disk_waits(bank: Database, undone: list[int]) -> asyncio.Task[None]:
    """Begin a commit, and return when the store has taken it."""

    async def main() -> None:
        async with bank.transaction(timeout=1.0) as tx:
            tx.put("log", "a", 1)
            tx.on_rollback(lambda: undone.append(1))

    task = asyncio.ensure_future(main())
    await until(lambda: bank.in_flight)
    return task


async def test_a_commit_that_takes_longer_than_the_limit_is_waited_for(
    runtime: Runtime, bank: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = hold(monkeypatch)
    undone: list[int] = []
    task = await commit_while_the_disk_waits(bank, undone)
    for _ in range(3):
        task.cancel()
        await some_turns()
    assert not task.done(), "whether it is done is not known yet"
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rows(bank) == {"a": 1}
    assert undone == [], "it was done, so nothing is to be made good"


async def test_a_commit_that_was_written_when_the_store_was_killed_is_done(
    runtime: Runtime, bank: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, written = threading.Event(), threading.Event()
    append = StoreFile.append

    def late(self: StoreFile, transactions: Any) -> None:
        append(self, transactions)
        written.set()
        gate.wait()

    monkeypatch.setattr(StoreFile, "append", late)
    undone: list[int] = []
    task = await commit_while_the_disk_waits(bank, undone)
    await until(written.is_set)
    runtime.whereis("store").kill()  # type: ignore[union-attr]
    await task
    assert (rows(bank), undone) == ({"a": 1}, [])
    gate.set()
    await until(lambda: runtime.statistics().leaked_threads == 0)


async def test_a_commit_that_was_not_written_when_the_store_was_killed_is_not_done(
    runtime: Runtime, bank: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = hold(monkeypatch)
    undone: list[int] = []
    task = await commit_while_the_disk_waits(bank, undone)
    runtime.whereis("store").kill()  # type: ignore[union-attr]
    with pytest.raises(ActorExited):
        await task
    assert (rows(bank), undone) == ({}, [1])
    gate.set()
    await until(lambda: runtime.statistics().leaked_threads == 0)


async def test_an_outcome_that_nobody_will_ever_know_is_said_to_be_unknown(
    runtime: Runtime, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await runtime.spawn(Store, path, TABLES)
    bank = Database.of(runtime)
    gate = hold(monkeypatch)
    undone: list[int] = []
    task = await commit_while_the_disk_waits(bank, undone)
    store.kill()
    gate.set()
    with pytest.raises(OutcomeUnknown, match="transaction 1: the store ended, and is not back"):
        await task
    assert undone == []
    await until(lambda: runtime.statistics().leaked_threads == 0)


async def test_what_the_store_never_took_was_not_done(runtime: Runtime, bank: Database) -> None:
    undone: list[int] = []

    async def main() -> None:
        async with bank.transaction() as tx:
            tx.put("log", "a", 1)
            tx.on_rollback(lambda: undone.append(1))
            runtime.whereis("store").kill()  # type: ignore[union-attr]

    outcome = (await asyncio.gather(main(), return_exceptions=True))[0]
    assert isinstance(outcome, (NoProcess, ActorExited)) or outcome is None
    await until(lambda: runtime.whereis("store") is not None and bank.table("log") is not None)
    assert (undone == []) is (outcome is None)


async def test_a_decision_that_never_comes_is_no(
    runtime: Runtime, bank: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = hold(monkeypatch)
    ref = await runtime.spawn(Idle)
    registry = await runtime.spawn(Registry, name="short", in_doubt=0.01)
    directory = Directory.of(runtime, "short")

    async def main() -> None:
        async with bank.transaction() as tx:
            tx.put("log", "a", 1)
            tx.register("a", ref, registry="short")

    task = asyncio.ensure_future(main())
    await prepared(directory)
    registry.cast(Decided())
    state = directory.prepared
    assert state is not None
    gate.set()
    await asyncio.gather(task, return_exceptions=True)
    state.undo()
    state.publish()
    registry.cast(Decided())
    await directory.register("b", ref)
    assert state.state == "published"


async def test_a_slow_disk_does_not_part_what_belongs_together(
    runtime: Runtime, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry waits for longer than it does for a store that is gone."""
    gate = hold(monkeypatch)
    registry = await runtime.spawn(Registry)
    await runtime.spawn(Store, path, TABLES)
    bank, directory = Database.of(runtime), Directory.of(runtime)
    task = asyncio.ensure_future(register_and_put(bank, await runtime.spawn(Idle)))
    await until(lambda: bank.in_flight)
    state = directory.prepared
    assert state is not None
    registry.cast(InDoubt(state))  # its time is over
    await some_turns()
    gate.set()
    await task
    assert rows(bank) == {"a": 1}
    assert directory.lookup("a") is not None


async def test_writes_that_nobody_decides_on_are_undone_after_a_while(runtime: Runtime, path: Path) -> None:
    registry = await runtime.spawn(Registry, in_doubt=5.0)
    directory = Directory.of(runtime)
    ref = await runtime.spawn(Idle)
    await registry.call(Prepare((Register("a", ref, {}),)))
    waiting = directory.address.call(Register("a", ref, {}), timeout=None)
    await advance(4.0)
    assert not waiting.done()
    await advance(2.0)
    assert (await waiting).key == "a"
    assert len(directory.root) == 1
    assert directory.prepared is None


def hold(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have the disk wait until somebody sets what this returns."""
    gate = threading.Event()
    append = StoreFile.append

    def held(self: StoreFile, transactions: Any) -> None:
        gate.wait()
        append(self, transactions)

    monkeypatch.setattr(StoreFile, "append", held)
    return gate


async def register_and_put(bank: Database, ref: Ref) -> None:
    """Do a transaction over a table and a registry."""
    async with bank.transaction() as tx:
        tx.put("log", "a", 1)
        tx.register("a", ref)


async def prepared(directory: Directory) -> None:
    """Wait until a registry waits for a decision."""
    await until(lambda: directory.prepared is not None)


async def until(true: Any) -> None:
    """Let the loop run until something is true."""
    loop = asyncio.get_running_loop()
    while not true():
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn


async def some_turns() -> None:
    """Let the loop run for some turns."""
    turns = iter(range(10))
    await until(lambda: next(turns, None) is None)


# -- the disk --------------------------------------------------------------------------------------------------------


async def test_commits_that_wait_for_the_disk_are_written_together(
    runtime: Runtime, bank: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    append = StoreFile.append

    def counted(self: StoreFile, transactions: Any) -> None:
        sizes.append(len(transactions))
        append(self, transactions)

    monkeypatch.setattr(StoreFile, "append", counted)
    await asyncio.gather(*(put(bank, n, n) for n in range(50)))
    assert sum(sizes) == 50
    assert len(sizes) <= 3
    assert len(rows(bank)) == 50


async def test_what_the_disk_refuses_was_not_done_nor_what_was_built_on_it(
    runtime: Runtime, bank: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = await runtime.spawn(Idle)
    gate = hold(monkeypatch)
    full = [True]
    step = Disk.step

    def failing(self: Disk, what: Any, path: Path, do: Any) -> Any:
        if what == "commit" and full:
            raise sqlite3.OperationalError("database or disk is full")
        return step(self, what, path, do)

    monkeypatch.setattr(Disk, "step", failing)
    commits = [register_and_put(bank, ref), put(bank, "b", 1), put(bank, "c", 1)]
    tasks = [asyncio.ensure_future(commit) for commit in commits]
    await until(lambda: len(bank.in_flight) == 3)
    gate.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    full.clear()
    assert [type(outcome) for outcome in outcomes] == [NotWritten] * 3
    assert "database or disk is full" in str(outcomes[0])
    assert rows(bank) == {}
    assert Directory.of(runtime).lookup("a") is None
    await put(bank, "d", 1)
    assert rows(bank) == {"d": 1}
    assert bank.in_flight == []


async def test_the_end_of_the_writer_is_the_end_of_the_store_which_reads_the_file_again(
    runtime: Runtime, bank: Database
) -> None:
    await put(bank, "a", 1)
    store = runtime.whereis("store")
    writer = next(ref for ref in runtime.actors() if "Writer" in ref.path)
    writer.kill()
    await until(lambda: runtime.whereis("store") not in (store, None) and bank.root.version == 1)
    await put(bank, "b", 2)
    assert rows(bank) == {"a": 1, "b": 2}


async def test_a_call_to_the_writer_that_is_cancelled_fails_the_transactions(
    runtime: Runtime, bank: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = hold(monkeypatch)
    task = asyncio.ensure_future(put(bank, "a", 1))
    await until(lambda: bank.in_flight)
    writer = next(ref for ref in runtime.actors() if "Writer" in ref.path)
    writer.kill()
    gate.set()
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    assert outcome is None or isinstance(outcome, (NotWritten, ActorExited))
    assert (outcome is None) is ("a" in rows(bank))
    await until(lambda: runtime.statistics().leaked_threads == 0)


async def test_a_backup_is_a_store_of_its_own(runtime: Runtime, bank: Database, tmp_path: Path) -> None:
    await put(bank, "a", 1)
    await bank.back_up(tmp_path / "copy.db")
    await put(bank, "b", 2)
    await runtime.spawn(Store, tmp_path / "copy.db", TABLES, name="copy")
    assert rows(Database.of(runtime, "copy")) == {"a": 1}
    with pytest.raises(NotWritten, match="No such file or directory"):
        await bank.back_up(tmp_path / "no" / "such" / "folder.db")


async def test_the_file_belongs_to_one_store(runtime: Runtime, bank: Database, path: Path) -> None:
    with pytest.raises(StoreLocked, match="is open elsewhere: stop the other one"):
        StoreFile(path, wait=0.01)


async def test_a_store_that_finds_its_file_damaged_does_not_start(
    runtime: Runtime, path: Path, expect_crash: Any
) -> None:
    expect_crash(reason="NotAStore")
    path.parent.mkdir()
    path.write_bytes(b"this is no database, " * 100)
    with pytest.raises(StartError, match=r"NotAStore.*it is no SQLite database.*restore a backup"):
        await runtime.spawn(Store, path, TABLES)


async def test_an_opened_store_says_what_it_found(runtime: Runtime, path: Path) -> None:
    log = EventLog(runtime)
    first = await runtime.spawn(Store, path, ["t"], name="s", fold_after=3)
    for n in range(5):
        async with Database.of(runtime, "s").transaction() as tx:
            tx.put("t", n, n)
    await first.stop()
    await runtime.spawn(Store, path, ["t"], name="s")
    opened = log.of(StoreOpened)
    assert [(event.version, event.replayed, event.cut) for event in opened] == [(0, 0, 0), (5, 2, 0)]
    assert opened[1].torn_bytes == opened[1].unfinished_frames == 0
    assert opened[1].file == str(path)
