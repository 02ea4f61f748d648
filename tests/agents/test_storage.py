"""The contract of storages: what any backend has to keep. Run it over one of your own by adding it to `STORAGES`."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.durability import MemoryStorage, SqliteStorage, Storage, StorageConflict, StorageError, Stored

STORAGES: dict[str, Callable[[Path], Any]] = {
    "memory": lambda path: MemoryStorage(),
    "sqlite": lambda path: SqliteStorage(path / "deep" / "agents.db", sync="normal"),
}


@pytest.fixture(params=sorted(STORAGES))
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """A storage of each kind."""
    made = STORAGES[request.param](tmp_path)
    yield made
    getattr(made, "close", lambda: None)()


async def test_a_storage_is_one(storage: Storage) -> None:
    """It has what the protocol asks for, and nothing at first."""
    assert isinstance(storage, Storage)
    assert await storage.read("a") is None
    assert await storage.keys() == []
    assert await storage.entries("a", 0) == []
    await storage.delete("a")


async def test_what_was_written_is_read(storage: Storage) -> None:
    """The last checkpoint, and the entries behind it."""
    await storage.write("a", 1, expected=None, checkpoint=b"one")
    assert await storage.read("a") == Stored(1, b"one", 1)
    await storage.write("a", 3, expected=1, entries=[(2, b"two"), (3, b"three")])
    assert await storage.read("a") == Stored(3, b"one", 1, ((2, b"two"), (3, b"three")))
    await storage.write("a", 4, expected=3, checkpoint=b"four", entries=[(4, b"entry")])
    assert await storage.read("a") == Stored(4, b"four", 4)
    assert await storage.entries("a", 0) == [(2, b"two"), (3, b"three"), (4, b"entry")]
    assert await storage.entries("a", 2, 3) == [(3, b"three")]
    await storage.trim("a", 3)
    assert await storage.entries("a", 0) == [(4, b"entry")]


async def test_keys_are_apart(storage: Storage) -> None:
    """They are listed in order, by what they begin with; one is forgotten without the others."""
    for key in ("b/1", "a/2", "a/1", "a%"):
        await storage.write(key, 1, expected=None, checkpoint=key.encode(), entries=[(1, b"x")])
    assert await storage.keys() == ["a%", "a/1", "a/2", "b/1"]
    assert await storage.keys("a/") == ["a/1", "a/2"]
    await storage.delete("a/1")
    assert await storage.keys("a/") == ["a/2"]
    assert await storage.entries("a/1", 0) == []
    assert await storage.read("b/1") == Stored(1, b"b/1", 1)


async def test_somebody_elses_write_is_not_overwritten(storage: Storage) -> None:
    """Whoever expects another version than there is writes nothing."""
    await storage.write("a", 5, expected=None, checkpoint=b"five")
    for expected in (None, 4, 6):
        with pytest.raises(StorageConflict) as caught:
            await storage.write("a", 6, expected=expected, checkpoint=b"mine", entries=[(6, b"x")])
        assert caught.value.found == 5
    with pytest.raises(StorageConflict):
        await storage.write("new", 1, expected=0, checkpoint=b"x")
    assert await storage.read("a") == Stored(5, b"five", 5)
    assert await storage.entries("a", 0) == []


async def test_what_comes_at_the_same_time_is_all_there(storage: Storage) -> None:
    """Many writers, one key each, some of which conflict: each outcome is its own."""
    work = [storage.write(f"k{n % 40}", 1, expected=None, checkpoint=str(n).encode()) for n in range(50)]
    outcomes = await asyncio.gather(*work, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None)] * 40 + [StorageConflict] * 10
    assert len(await storage.keys()) == 40


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

    whole = database._database
    database._database = Broken(whole)  # type: ignore[assignment]
    with pytest.raises(StorageError, match="the disk is full"):
        await database.write("b", 1, expected=None)
    database._database = whole
    assert await database.keys() == ["a"]


async def test_a_closed_file_is_an_error(tmp_path: Path) -> None:
    """Not a silence."""
    made = SqliteStorage(tmp_path / "agents.db")
    made.close()
    with pytest.raises(StorageError):
        await made.read("a")
