"""A storage in a file: SQLite, with what many agents write at the same time committed together."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

from agents.durability.storage import StorageConflict, StorageError, Stored

_SCHEMA = """
CREATE TABLE IF NOT EXISTS agents (
    key TEXT PRIMARY KEY, version INTEGER NOT NULL, checkpoint BLOB, at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (
    key TEXT NOT NULL, version INTEGER NOT NULL, entry BLOB NOT NULL, PRIMARY KEY (key, version)
) WITHOUT ROWID;
"""

_Work = Callable[[sqlite3.Connection], Any]


class SqliteStorage:
    """Keeps everything in one file. See `Storage`.

    All that is written during a commit goes into the next one, so that a thousand agents cost as many
    commits as the disk can make, and not a thousand.

    Args:
        path: of the file; it is made, with its folder, if it is not there.
        sync: when a write is safe. ``full``: when it is answered it is on the disk, whatever happens. ``normal``: it
            survives the death of the process, and not always that of the machine.

    Raises:
        StorageError: it cannot be opened, is locked by another process, or is no SQLite file.
    """

    def __init__(self, path: str | Path, sync: Literal["full", "normal"] = "full") -> None:
        self.path = Path(path)
        self._waiting: list[tuple[_Work, asyncio.Future[Any]]] = []
        self._flush: asyncio.Task[None] | None = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"{self.path} cannot be opened: {error}") from error
        try:
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute(f"PRAGMA synchronous = {'NORMAL' if sync == 'normal' else 'FULL'}")
            self._database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        except sqlite3.Error as error:
            self._database.close()
            raise StorageError(f"{self.path} cannot be opened: {error}") from error
        #: One thread is at the file at any time.
        self._thread = ThreadPoolExecutor(1, "agents-sqlite")

    async def read(self, key: str) -> Stored | None:
        """Return what is stored under a key."""

        def work(database: sqlite3.Connection) -> Stored | None:
            rows = database.execute("SELECT version, checkpoint, at FROM agents WHERE key = ?", (key,)).fetchall()
            if not rows:
                return None
            version, checkpoint, at = rows[0]
            return Stored(version, checkpoint, at, tuple(_entries(database, key, at, None)))

        return await self._do(work)  # type: ignore[no-any-return]

    async def write(
        self,
        key: str,
        version: int,
        *,
        expected: int | None,
        checkpoint: bytes | None = None,
        entries: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        """Store something."""

        def work(database: sqlite3.Connection) -> None:
            rows = database.execute("SELECT version, checkpoint, at FROM agents WHERE key = ?", (key,)).fetchall()
            found, before, at = rows[0] if rows else (None, None, 0)
            if found != expected:
                raise StorageConflict(key, -1 if expected is None else expected, -1 if found is None else found)
            row = (key, version, before, at) if checkpoint is None else (key, version, checkpoint, version)
            database.execute("INSERT OR REPLACE INTO agents VALUES (?, ?, ?, ?)", row)
            if entries:
                database.executemany("INSERT INTO journal VALUES (?, ?, ?)", [(key, *entry) for entry in entries])

        await self._do(work)

    async def entries(self, key: str, after: int, upto: int | None = None) -> list[tuple[int, bytes]]:
        """Return entries of the journal."""
        return await self._do(lambda database: _entries(database, key, after, upto))  # type: ignore[no-any-return]

    async def trim(self, key: str, upto: int) -> None:
        """Delete entries of the journal."""
        await self._do(
            lambda database: database.execute("DELETE FROM journal WHERE key = ? AND version <= ?", (key, upto))
        )

    async def delete(self, key: str) -> None:
        """Delete everything under a key."""

        def work(database: sqlite3.Connection) -> None:
            database.execute("DELETE FROM agents WHERE key = ?", (key,))
            database.execute("DELETE FROM journal WHERE key = ?", (key,))

        await self._do(work)

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with a text."""

        def work(database: sqlite3.Connection) -> list[str]:
            query = "SELECT key FROM agents WHERE substr(key, 1, ?) = ? ORDER BY key"
            return [key for (key,) in database.execute(query, (len(prefix), prefix))]

        return await self._do(work)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the file, when what is being written is written."""
        self._thread.shutdown()
        self._database.close()

    async def _do(self, work: _Work) -> Any:
        """Run one piece of work in the next transaction, together with what others want."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((work, answer))
        if self._flush is None:
            # Not the task of the first writer: it may be cancelled, and others wait for the same commit.
            self._flush = loop.create_task(self._write_waiting())
        return await answer

    async def _write_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    outcomes = await loop.run_in_executor(self._thread, self._commit, [work for work, _ in batch])
                except (sqlite3.Error, RuntimeError) as error:
                    outcomes = [StorageError(f"{self.path}: {error}")] * len(batch)
                for (_, answer), outcome in zip(batch, outcomes, strict=True):
                    _resolve(answer, outcome)
        finally:
            self._flush = None

    def _commit(self, batch: list[_Work]) -> list[Any]:
        """Run pieces of work in one transaction, each of them whole or not at all."""
        outcomes: list[Any] = []
        self._database.execute("BEGIN IMMEDIATE")
        try:
            for work in batch:
                self._database.execute("SAVEPOINT one")
                try:
                    outcomes.append(work(self._database))
                except (sqlite3.Error, StorageError) as error:
                    self._database.execute("ROLLBACK TO one")
                    outcomes.append(error if isinstance(error, StorageError) else StorageError(f"{error}"))
                self._database.execute("RELEASE one")
            self._database.execute("COMMIT")
        except sqlite3.Error:
            self._database.execute("ROLLBACK")
            raise
        return outcomes


def _resolve(answer: asyncio.Future[Any], outcome: Any) -> None:
    if answer.done():
        return
    if isinstance(outcome, StorageError):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def _entries(database: sqlite3.Connection, key: str, after: int, upto: int | None) -> list[tuple[int, bytes]]:
    query = "SELECT version, entry FROM journal WHERE key = ? AND version > ? AND version <= ? ORDER BY version"
    return list(database.execute(query, (key, after, 1 << 62 if upto is None else upto)))
