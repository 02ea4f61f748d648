"""A disk that fails, at any step, before or after the deed: what was told is true, also after restarts."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.events import StoreMaintenanceFailed, StoreOpened
from foundation.store import Database, NotWritten, OutcomeUnknown, Store
from foundation.store.disk import Disk
from foundation.store.file import StoreFile
from foundation.store.messages import Appended
from supervision import ActorExited, ChildSpec, Runtime, StartError, Supervisor
from supervision.testing import EventLog, advance
from tests.foundation.test_store import put, rows, until
from tests.foundation.test_store_format import Failing, change, table

STEPS = ("append", "commit", "mark", "fold", "checkpoint")


class Scripted(Disk):
    """A disk that fails where a script says so: for each step in turn, ``before`` or ``after`` the deed, or not."""

    def __init__(self, script: list[str | None]) -> None:
        self.script = script

    def step(self, what: Any, path: Path, do: Any) -> Any:
        fails = self.script.pop(0) if self.script and what not in ("open", "close") else None
        if fails == "before":
            raise sqlite3.OperationalError("disk I/O error")
        result = do()
        if fails == "after":
            raise OSError("fsync failed")
        return result


@settings(max_examples=150)
@given(
    script=st.lists(st.sampled_from([None, None, "before", "after"]), max_size=30),
    restarts=st.sets(st.integers(0, 9)),
)
def test_what_was_told_of_a_commit_is_true_ever_after(script: list[str | None], restarts: set[int]) -> None:
    """Ten commits on a disk that fails here and there; after some of them the process is killed, and starts anew."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "0" / "x.db"
        disk = Scripted(script)
        file = StoreFile(path, "off", 3, disk=disk)
        done: set[int] = set()
        for n in range(10):
            try:
                file.append([[change(n, n)], [change((n, "two"), n)]])
                done |= {n}
            except NotWritten:
                pass
            except (sqlite3.Error, OSError):  # nobody knows; the next one does
                file.close()
                file = StoreFile(path, "off", 3, disk=Disk())
                done |= {key for key in table(file) if key == n}
            if n in restarts:
                shutil.copytree(path.parent, Path(folder) / str(n + 1))
                file.close()
                path = Path(folder) / str(n + 1) / "x.db"
                file = StoreFile(path, "off", 3, disk=disk)
                assert set(table(file)) == {key for n in done for key in (n, (n, "two"))}
        file.close()
        last = StoreFile(path)
        assert set(table(last)) == {key for n in done for key in (n, (n, "two"))}
        assert last.content.lost == 0
        last.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is."""
    return tmp_path / "x.db"


async def supervised(runtime: Runtime, path: Path, disk: Disk, **options: Any) -> Database:
    """Start a store that is restarted when it ends."""
    spec = ChildSpec("store", Store, (path, ["log"]), {"disk": disk, **options}, name="store")
    await runtime.spawn(Supervisor, [spec], max_restarts=100)
    return Database.of(runtime)


async def restarted(runtime: Runtime, database: Database) -> None:
    """Kill a store, and wait until it is back."""
    log = EventLog(runtime)
    runtime.whereis("store").kill()  # type: ignore[union-attr]
    await until(lambda: log.of(StoreOpened))


@pytest.mark.parametrize("step", ["mark", "fold", "checkpoint"])
@pytest.mark.parametrize("after", [False, True])
async def test_maintenance_that_fails_is_told_and_tried_again_and_no_commit_is_harmed(
    runtime: Runtime, path: Path, step: str, after: bool
) -> None:
    log = EventLog(runtime)
    disk = Failing(step, after=after, times=2)
    bank = await supervised(runtime, path, disk, fold_after=2)
    for n in range(4):
        await put(bank, n, n)
    await until(lambda: log.of(StoreMaintenanceFailed) or not disk.times)
    await advance(60.0)
    await put(bank, 4, 4)
    await until(lambda: not bank.in_flight)
    await advance(60.0)
    assert disk.times <= 0
    told = log.of(StoreMaintenanceFailed)
    assert told
    assert bank.failures == len(told)
    for event in told:
        assert (event.file, event.why) == (str(path), f"{path}: disk I/O error")
    assert rows(bank) == {n: n for n in range(5)}
    await restarted(runtime, bank)
    assert rows(bank) == {n: n for n in range(5)}
    assert bank.root.version == 5


async def test_maintenance_that_fails_for_long_is_told_each_time_and_commits_go_on(
    runtime: Runtime, path: Path
) -> None:
    log = EventLog(runtime)
    disk = Failing("fold", "mark")
    bank = await supervised(runtime, path, disk, fold_after=1)
    for n in range(3):
        await put(bank, n, n)
        await advance(10.5)
    assert len(log.of(StoreMaintenanceFailed)) >= 3
    assert rows(bank) == {0: 0, 1: 1, 2: 2}
    await restarted(runtime, bank)
    assert rows(bank) == {0: 0, 1: 1, 2: 2}


async def test_much_in_the_log_is_copied_to_its_place_before_there_is_something_to_fold(
    runtime: Runtime, path: Path
) -> None:
    disk = Failing()
    bank = await supervised(runtime, path, disk)
    await put(bank, 1, b"x" * 5_000_000)
    await until(lambda: "checkpoint" in disk.seen)
    assert "fold" not in disk.seen


@pytest.mark.parametrize("step", ["append", "commit"])
async def test_what_the_disk_did_not_take_was_not_done_and_is_not_found_later(
    runtime: Runtime, path: Path, step: str
) -> None:
    undone: list[int] = []
    bank = await supervised(runtime, path, Failing(step, times=1))
    with pytest.raises(NotWritten, match=r"the transaction was not done: .*disk I/O error; make room"):
        async with bank.transaction() as tx:
            tx.put("log", "a", 1)
            tx.on_rollback(lambda: undone.append(1))
    assert undone == [1]
    await put(bank, "b", 1)
    await restarted(runtime, bank)
    assert rows(bank) == {"b": 1}
    assert bank.root.version == 1


async def test_what_reached_the_disk_although_it_said_otherwise_is_done(runtime: Runtime, path: Path) -> None:
    bank = await supervised(runtime, path, Failing("commit", after=True, times=1))
    async with bank.transaction() as tx:
        tx.put("log", "a", 1)
    assert tx.number == 1
    await put(bank, "b", 1)
    await restarted(runtime, bank)
    assert rows(bank) == {"a": 1, "b": 1}


async def test_what_nobody_knows_is_decided_by_the_next_incarnation(
    runtime: Runtime, path: Path, expect_crash: Any
) -> None:
    """The commit fails after the deed, and so does what would make it safe: the store ends, and is started anew."""
    expect_crash(reason="OperationalError")
    disk = Failing("commit", "checkpoint", after=True, times=2)
    bank = await supervised(runtime, path, disk)
    await put(bank, "a", 1)
    assert rows(bank) == {"a": 1}
    assert bank.root.version == 1


class Unsafe(Disk):
    """A disk whose log has a transaction that was not safe, and cannot be copied from there, so often."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.kept: dict[Path, bytes] = {}

    def step(self, what: Any, path: Path, do: Any) -> Any:
        if what == "open" and self.times:
            for part, content in self.kept.items():
                part.write_bytes(content)
        if what == "checkpoint" and self.times:
            self.times -= 1
            raise sqlite3.OperationalError("disk I/O error")
        result = do()
        if what == "commit" and self.times:
            self.kept = {part: part.read_bytes() for part in (path, path.with_name(f"{path.name}-wal"))}
            raise OSError("fsync failed")
        return result


async def test_what_is_in_the_file_but_not_safe_is_not_acknowledged(
    runtime: Runtime, path: Path, expect_crash: Any
) -> None:
    """The store starts anew again and again, until the disk takes it."""
    expect_crash(reason="OperationalError")
    expect_crash(reason="StoreUnreachable")
    disk = Unsafe(5)
    bank = await supervised(runtime, path, disk)
    await put(bank, "a", 1)
    assert disk.times == 0
    assert rows(bank) == {"a": 1}


async def test_a_disk_that_never_recovers_leaves_the_outcome_unknown(
    runtime: Runtime, path: Path, expect_crash: Any
) -> None:
    expect_crash(reason="OperationalError")
    expect_crash(reason="StoreUnreachable")
    spec = ChildSpec("store", Store, (path, ["log"]), {"disk": Unsafe(10**9)}, name="store")
    await runtime.spawn(Supervisor, [spec], max_restarts=3)
    undone: list[int] = []
    with pytest.raises(OutcomeUnknown):
        async with Database.of(runtime).transaction() as tx:
            tx.put("log", "a", 1)
            tx.on_rollback(lambda: undone.append(1))
    assert undone == [], "it may be done"


async def test_a_full_disk_keeps_nobody_from_starting_and_reading(runtime: Runtime, path: Path, tmp_path: Path) -> None:
    file = StoreFile(path)
    for n in range(3):
        file.append([[("log", b"%d" % n, b"\x01")]])
    shutil.copytree(tmp_path, tmp_path / "killed")
    file.close()
    log = EventLog(runtime)
    bank = await supervised(
        runtime, tmp_path / "killed" / "x.db", Failing("append", "commit", "mark", "fold", "checkpoint")
    )
    assert len(rows(bank)) == 3
    assert [event.why for event in log.of(StoreMaintenanceFailed)] == ["disk I/O error"]
    with pytest.raises(NotWritten):
        await put(bank, "a", 1)


async def test_a_store_that_stops_in_order_writes_and_answers_what_is_on_its_way(runtime: Runtime, path: Path) -> None:
    gate = threading.Event()

    class Slow(Disk):
        def step(self, what: Any, path: Path, do: Any) -> Any:
            if what == "commit":
                gate.wait()
            return do()

    store = await runtime.spawn(Store, path, ["log"], disk=Slow())
    bank = Database.of(runtime)
    tasks = [asyncio.ensure_future(put(bank, n, n)) for n in range(3)]
    await until(lambda: len(bank.in_flight) == 3)
    stopping = asyncio.ensure_future(store.stop())
    gate.set()
    await asyncio.gather(*tasks, stopping)
    assert rows(bank) == {0: 0, 1: 1, 2: 2}
    assert bank.in_flight == []


async def test_a_store_whose_disk_fails_while_it_stops_says_so(runtime: Runtime, path: Path, expect_crash: Any) -> None:
    expect_crash(reason="OperationalError")
    store = await runtime.spawn(Store, path, ["log"], disk=Failing("commit", "checkpoint", after=True))
    bank = Database.of(runtime)
    task = asyncio.ensure_future(put(bank, 1, 1))
    await until(lambda: bank.in_flight)
    outcome = (await asyncio.gather(store.stop(), task, return_exceptions=True))[1]
    assert isinstance(outcome, OutcomeUnknown)


async def test_a_store_that_cannot_open_its_file_says_why(runtime: Runtime, path: Path, expect_crash: Any) -> None:
    expect_crash(reason="StoreUnreachable")
    with pytest.raises(StartError, match=r"cannot be opened \(disk I/O error\)"):
        await runtime.spawn(Store, path, ["log"], disk=Failing("open"))


async def test_an_answer_of_the_writer_that_says_nothing_ends_the_store_which_reads_its_file_again(
    runtime: Runtime, path: Path, expect_crash: Any
) -> None:
    expect_crash("/Supervisor-1/store", "nobody knows what was written")
    bank = await supervised(runtime, path, Disk())
    await put(bank, "a", 1)
    log = EventLog(runtime)
    bank.address.cast(Appended(False, RuntimeError("what?")))
    await until(lambda: log.of(StoreOpened))
    await put(bank, "b", 2)
    assert rows(bank) == {"a": 1, "b": 2}


async def test_the_end_of_the_writer_is_no_answer(runtime: Runtime, path: Path) -> None:
    """It is killed while it writes; what it wrote is done."""
    gate, written = threading.Event(), threading.Event()

    class Late(Disk):
        def step(self, what: Any, path: Path, do: Any) -> Any:
            result = do()
            if what == "commit" and not gate.is_set():
                written.set()
                gate.wait()
            return result

    bank = await supervised(runtime, path, Late())
    task = asyncio.ensure_future(put(bank, "a", 1))
    await until(written.is_set)
    next(ref for ref in runtime.actors() if "Writer" in ref.path).kill()
    gate.set()
    await asyncio.wait([task])
    assert task.exception() is None or isinstance(task.exception(), ActorExited)
    assert (task.exception() is None) is ("a" in rows(bank)), "who committed knows what became of it"
    assert rows(bank) == {"a": 1}
    await until(lambda: runtime.statistics().leaked_threads == 0)
