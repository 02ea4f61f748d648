"""Storages: the public contract over all that there are, and what SQLite does besides."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.durability import MemoryStorage, SqliteStorage, StorageConflict, StorageError, Stored
from agents.testing import ContractCheck, storage_contract


class SixMethods:
    """A storage of a user, from before there were commits."""

    def __init__(self) -> None:
        inner = MemoryStorage()
        for name in ("read", "write", "entries", "trim", "delete", "keys"):
            setattr(self, name, getattr(inner, name))


class InAFile(SqliteStorage):
    """A file that goes with its storage."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory()
        super().__init__(Path(self._folder.name) / "deep" / "agents.db", sync="normal")

    def close(self) -> None:
        """Close it, and remove the file."""
        super().close()
        self._folder.cleanup()


STORAGES: dict[str, Callable[[], Any]] = {"memory": MemoryStorage, "sqlite": InAFile, "six methods": SixMethods}


@pytest.mark.parametrize(
    "check",
    [pytest.param(check, id=f"{name}: {check}") for name, make in STORAGES.items() for check in storage_contract(make)],
)
async def test_every_storage_keeps_the_contract(check: ContractCheck) -> None:
    """Each promise of it."""
    await check()


async def test_a_storage_that_breaks_the_contract_is_told_so() -> None:
    """By the check whose name says what is broken."""

    class Forgetful(MemoryStorage):
        async def read(self, key: str) -> Stored | None:
            return None

        async def write(self, *args: Any, **more: Any) -> None:
            """Forget it."""

    broken = []
    for check in storage_contract(Forgetful):
        try:
            await check()
        except AssertionError as error:
            broken.append((str(check), str(error)))
    assert ("what_was_written_is_read", f"a checkpoint: None, not {Stored(1, b'one', 1)!r}") in broken
    assert ("nobody_elses_write_is_overwritten", "expected None: no StorageConflict") in broken


WRITES = st.lists(
    st.tuples(st.sampled_from("ab"), st.booleans(), st.integers(0, 2), st.sampled_from(["right", "wrong"])), max_size=12
)


@given(WRITES)
def test_any_row_of_writes_leaves_what_a_dictionary_would(writes: list[tuple[str, bool, int, str]]) -> None:
    """Against a model, in memory; SQLite below is held against this one."""
    kept: dict[str, tuple[int, bytes | None, int, list[tuple[int, bytes]]]] = {}

    async def scenario() -> None:
        storage = MemoryStorage()
        for number, (key, whole, entries, expected) in enumerate(writes):
            version, checkpoint, at, journal = kept.get(key, (None, None, 0, []))
            new = (version or 0) + entries
            added = [((version or 0) + n + 1, f"{number}.{n}".encode()) for n in range(entries)]
            body = f"c{number}".encode() if whole else None
            wanted = version if expected == "right" else 99
            if wanted == version:
                await storage.write(key, new, expected=wanted, checkpoint=body, entries=added)
                kept[key] = (new, body or checkpoint, new if whole else at, [*journal, *added])
            else:
                with pytest.raises(StorageConflict):
                    await storage.write(key, new, expected=wanted, checkpoint=body, entries=added)
        for key, (version, checkpoint, at, journal) in kept.items():
            behind = tuple(entry for entry in journal if entry[0] > at)
            assert await storage.read(key) == Stored(version or 0, checkpoint, at, behind)

    asyncio.run(scenario())


# -- SQLite ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteStorage]:
    """A storage in a file."""
    made = SqliteStorage(tmp_path / "agents.db")
    yield made
    made.close()


async def test_a_file_is_found_again(tmp_path: Path) -> None:
    """What was written is there when the file is opened again."""
    first = SqliteStorage(tmp_path / "agents.db")
    await first.write("a", 1, expected=None, checkpoint=b"one")
    first.close()
    second = SqliteStorage(tmp_path / "agents.db")
    assert await second.read("a") == Stored(1, b"one", 1)
    second.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    """With an error that names the file, and nothing is done to it."""
    path = tmp_path / "poem.txt"
    path.write_text("so much depends upon a red wheel barrow" * 100)
    with pytest.raises(StorageError, match=r"poem\.txt cannot be opened"):
        SqliteStorage(path)
    assert path.read_text().startswith("so much")
    with pytest.raises(StorageError):
        SqliteStorage(path / "below")
    for wrong in (5, None, b"x", "a\0b", "a\0b/c"):
        with pytest.raises(StorageError, match="cannot be the path of a file"):
            SqliteStorage(wrong)  # type: ignore[arg-type]


async def test_a_write_that_fails_fails_alone(database: SqliteStorage) -> None:
    """What is written together with it is written; an entry that is there already is an error of its own."""
    await database.write("a", 1, expected=None, entries=[(1, b"x")])
    outcomes = await asyncio.gather(
        database.write("b", 1, expected=None, checkpoint=b"b"),
        database.write("a", 1, expected=1, entries=[(1, b"again")]),
        database.write("c", 1, expected=None, checkpoint=b"c"),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), StorageError, type(None)]
    assert await database.keys() == ["a", "b", "c"]


async def test_a_commit_that_fails_is_an_error_for_all_in_it(database: SqliteStorage, tmp_path: Path) -> None:
    """Nothing of it is there; whoever has given up does not matter; the next commit works."""
    lock = sqlite3.connect(tmp_path / "agents.db", isolation_level=None)
    database._database.execute("PRAGMA busy_timeout = 0")
    lock.execute("BEGIN IMMEDIATE")
    given_up = asyncio.ensure_future(database.write("x", 1, expected=None))
    both = [asyncio.ensure_future(database.write(key, 1, expected=None)) for key in "ab"]
    await asyncio.wait([given_up], timeout=0)
    given_up.cancel()
    outcomes = await asyncio.gather(*both, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StorageError] * 2
    lock.execute("ROLLBACK")
    lock.close()
    await database.write("a", 1, expected=None)
    assert await database.keys() == ["a"]


async def test_a_broken_commit_leaves_nothing(database: SqliteStorage) -> None:
    """Not even what was done before it in the same transaction."""
    await database.write("a", 1, expected=None)

    class Broken:
        def __init__(self, inner: sqlite3.Connection) -> None:
            self.inner = inner

        def execute(self, text: str, *values: Any) -> Any:
            if text == "COMMIT":
                raise sqlite3.OperationalError("the disk is full")
            return self.inner.execute(text, *values)

        @property
        def in_transaction(self) -> bool:
            return self.inner.in_transaction

    whole = database._database
    database._database = Broken(whole)  # type: ignore[assignment]
    with pytest.raises(StorageError, match="the disk is full"):
        await database.write("b", 1, expected=None)
    database._database = whole
    assert await database.keys() == ["a"]


async def test_what_sqlite_has_rolled_back_by_itself_says_why(database: SqliteStorage) -> None:
    """As it does when the disk is full: alone, or beside others, of which nothing is written then."""
    await database.write("a", 1, expected=None)
    full = "BEGIN SELECT RAISE(ROLLBACK, 'database or disk is full'); END"
    database._database.execute(f"CREATE TRIGGER full BEFORE INSERT ON agents WHEN NEW.key = 'big' {full}")
    why = r"agents\.db: database or disk is full"
    with pytest.raises(StorageError, match=why):
        await database.write("big", 1, expected=None)
    writes = [database.write(key, 1, expected=None) for key in ("b", "big", "c")]
    _, *outcomes = await asyncio.gather(database.keys(), *writes, return_exceptions=True)
    assert [(type(one), str(one)[-24:]) for one in outcomes] == [(StorageError, "database or disk is full")] * 3
    assert await database.keys() == ["a"]
    await database.write("b", 1, expected=None)
    assert await database.keys() == ["a", "b"]


async def test_a_key_that_sqlite_cannot_take_is_an_error_and_the_next_write_works(database: SqliteStorage) -> None:
    """Alone in its transaction, or beside others."""
    with pytest.raises(StorageError, match="too large"):
        await database.write("a", 10**40, expected=None)
    wrong, right = await asyncio.gather(
        database.write("a", 10**40, expected=None), database.write("b", 1, expected=None), return_exceptions=True
    )
    assert isinstance(wrong, StorageError)
    assert right is None
    assert await database.keys() == ["b"]


async def test_only_a_write_that_is_to_be_flushed_waits_for_the_disk(database: SqliteStorage) -> None:
    """One that need only outlive the process does not; together with one that is flushed it is flushed."""
    said: list[str] = []
    database._database.set_trace_callback(said.append)
    await database.write("a", 1, expected=None, flush=False)
    await database.write("a", 2, expected=1)
    await asyncio.gather(
        database.write("a", 3, expected=2, flush=False),
        database.write("b", 1, expected=None, flush=False),
        database.write("c", 1, expected=None),
    )
    await database.read("a")
    told = [text for text in said if text.startswith(("PRAGMA", "COMMIT"))]
    full, normal = "PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"
    assert told == ["COMMIT", full, "COMMIT", normal, "COMMIT", full, "COMMIT", normal, "COMMIT"]


async def test_a_storage_that_was_told_not_to_wait_for_the_disk_never_does(tmp_path: Path) -> None:
    """Whoever writes."""
    made = SqliteStorage(tmp_path / "agents.db", "normal")
    said: list[str] = []
    made._database.set_trace_callback(said.append)
    await made.write("a", 1, expected=None)
    assert not [text for text in said if text.startswith("PRAGMA")]
    made.close()


def test_a_loop_that_is_closed_while_the_disk_is_slow_hurts_nothing(tmp_path: Path) -> None:
    """What was asked for is written all the same."""
    made = SqliteStorage(tmp_path / "agents.db")
    held = threading.Event()

    async def leave() -> None:
        made._thread.submit(held.wait)
        task = asyncio.ensure_future(made.write("a", 1, expected=None))
        await asyncio.wait([task], timeout=0)
        task.cancel()

    asyncio.run(leave())
    held.set()
    made.close()
    again = SqliteStorage(tmp_path / "agents.db")
    assert asyncio.run(again.keys()) == ["a"]
    again.close()


async def test_a_storage_that_is_forgotten_leaves_no_file_open(tmp_path: Path) -> None:
    """As that of an actor that was killed."""
    made = SqliteStorage(tmp_path / "agents.db")
    await made.keys()
    database = made._database
    del made
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        database.execute("SELECT 1")


async def test_a_closed_file_is_an_error(tmp_path: Path) -> None:
    """Not a silence."""
    made = SqliteStorage(tmp_path / "agents.db")
    made.close()
    for _ in range(2):
        with pytest.raises(StorageError, match=r"agents\.db: this storage was closed"):
            await made.read("a")


async def test_who_gives_up_a_write_hurts_nobody(database: SqliteStorage) -> None:
    """It is written all the same, and those that wait are answered."""
    held = threading.Event()
    database._thread.submit(held.wait)
    given_up = asyncio.ensure_future(database.write("a", 1, expected=None))
    other = asyncio.ensure_future(database.write("b", 1, expected=None))
    await asyncio.wait([given_up], timeout=0)
    given_up.cancel()
    held.set()
    await other
    assert await database.keys() == ["a", "b"]
