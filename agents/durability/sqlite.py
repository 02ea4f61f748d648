"""A storage in a file: SQLite, with what many agents write at the same time committed together."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from typing import Any, Literal, NamedTuple
from weakref import finalize

from agents.durability.storage import (
    TOMBSTONE,
    AgentCommit,
    Loaded,
    OutcomeUnknown,
    StorageConflict,
    StorageError,
    Stored,
    StoredRow,
)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS agents (
    key TEXT PRIMARY KEY, version INTEGER NOT NULL, checkpoint BLOB, at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (
    key TEXT NOT NULL, version INTEGER NOT NULL, entry BLOB NOT NULL, PRIMARY KEY (key, version)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS heads (
    key TEXT PRIMARY KEY, epoch INTEGER NOT NULL, turn INTEGER NOT NULL, version INTEGER NOT NULL,
    generation TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshots (key TEXT NOT NULL, turn INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (key, turn));
CREATE TABLE IF NOT EXISTS rows (
    key TEXT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL, due INTEGER, body BLOB NOT NULL,
    PRIMARY KEY (key, kind, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rows_due ON rows (due, key) WHERE due IS NOT NULL;
"""

_DELETE = tuple(
    f"DELETE FROM {table} WHERE key = ?"  # noqa: S608 - no text of others is in it
    for table in ("agents", "journal", "heads", "snapshots", "rows")
)

#: Behind all turns.
_LAST = 1 << 62

_Work = Callable[[sqlite3.Connection], Any]


class _Waiting(NamedTuple):
    work: _Work
    flush: bool
    answer: asyncio.Future[Any]


class SqliteStorage:
    """Keeps everything in one file. See `CommitStorage`.

    All that is written during a commit goes into the next one, so that a thousand agents cost as many
    commits as the disk can make, and not a thousand.

    Args:
        path: of the file; it is made, with its folder, if it is not there.
        sync: when a write is safe. ``full``: when it is answered it is on the disk, whatever happens. ``normal``: it
            survives the death of the process, and not always that of the machine.

    Raises:
        StorageError: it cannot be opened, is locked by another process, is no SQLite file, or the path is none.
    """

    def __init__(self, path: str | Path, sync: Literal["full", "normal"] = "full") -> None:
        self._waiting: list[_Waiting] = []
        self._busy = False
        try:
            self.path = Path(path)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"{self.path} cannot be opened: {error}") from error
        except (TypeError, ValueError) as error:
            raise StorageError(f"{path!r} cannot be the path of a file: {error}") from error
        try:
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        except sqlite3.Error as error:
            self._database.close()
            raise StorageError(f"{self.path} cannot be opened: {error}") from error
        self._full = sync == "full"
        self._synchronous = "NORMAL"
        #: One thread is at the file at any time.
        self._thread = ThreadPoolExecutor(1, "agents-sqlite")
        # Whoever forgets it, such as an actor that is killed, leaves no file open.
        self._closing = finalize(self, _close, self._thread, self._database)

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
        flush: bool = True,
    ) -> None:
        """Store something."""

        def work(database: sqlite3.Connection) -> None:
            _move(database, key, version, expected, checkpoint)
            if entries:
                database.executemany("INSERT INTO journal VALUES (?, ?, ?)", [(key, *entry) for entry in entries])

        await self._do(work, flush)

    async def entries(self, key: str, after: int, upto: int | None = None) -> list[tuple[int, bytes]]:
        """Return entries of the journal."""
        return await self._do(lambda database: _entries(database, key, after, upto))  # type: ignore[no-any-return]

    async def trim(self, key: str, upto: int) -> None:
        """Delete entries of the journal."""
        query = "DELETE FROM journal WHERE key = ? AND version <= ?"
        await self._do(lambda database: database.execute(query, (key, upto)), flush=True)

    async def delete(self, key: str) -> None:
        """Delete everything under a key."""

        def work(database: sqlite3.Connection) -> None:
            for query in _DELETE:
                database.execute(query, (key,))

        await self._do(work, flush=True)

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with a text."""

        def work(database: sqlite3.Connection) -> list[str]:
            query = "SELECT key FROM agents WHERE substr(key, 1, ?) = ? ORDER BY key"
            return [key for (key,) in database.execute(query, (len(prefix), prefix))]

        return await self._do(work)  # type: ignore[no-any-return]

    # -- commits -----------------------------------------------------------------------------------------------------

    async def claim(self, key: str, generation: str) -> Loaded:
        """Become the owner of a key."""

        def work(database: sqlite3.Connection) -> Loaded:
            claim = """INSERT INTO heads VALUES (?, 1, 0, 0, ?) ON CONFLICT (key) DO UPDATE SET epoch = epoch + 1
                RETURNING epoch, turn, version, generation"""
            head = database.execute(claim, (key, generation)).fetchall()[0]
            loaded = _loaded(database, key, None, head)
            if (loaded.turn, loaded.version) != head[1:3]:
                moved = (loaded.turn, loaded.version, key)
                database.execute("UPDATE heads SET turn = ?, version = ? WHERE key = ?", moved)
            return loaded

        return await self._do(work)  # type: ignore[no-any-return]

    async def load(self, key: str, before: int | None = None) -> Loaded | None:
        """Return what is stored under a key."""
        return await self._do(lambda database: _load(database, key, before))  # type: ignore[no-any-return]

    async def commit(self, commit: AgentCommit) -> None:
        """Write something, in one step."""
        await self._do(lambda database: _commit(database, commit), commit.flush)

    async def due(self, prefix: str, until: int, after: str = "", limit: int = 1000) -> list[str]:
        """Return the keys with rows that are due."""
        query = """SELECT DISTINCT key FROM rows WHERE due IS NOT NULL AND due <= ? AND key > ?
            AND substr(key, 1, ?) = ? ORDER BY key LIMIT ?"""
        values = (until, after, len(prefix), prefix, limit)
        return await self._do(  # type: ignore[no-any-return]
            lambda database: [key for (key,) in database.execute(query, values)]
        )

    async def next_due(self, prefix: str, after: int) -> int | None:
        """Return when the first row is due that is due after a time."""
        query = """SELECT due FROM rows WHERE due IS NOT NULL AND due > ? AND substr(key, 1, ?) = ?
            ORDER BY due LIMIT 1"""

        def work(database: sqlite3.Connection) -> int | None:
            found = database.execute(query, (after, len(prefix), prefix)).fetchall()
            return found[0][0] if found else None

        return await self._do(work)  # type: ignore[no-any-return]

    def close(self) -> None:
        """Close the file, when what is being written is written."""
        self._thread.shutdown()
        self._closing()

    async def _do(self, work: _Work, flush: bool = False) -> Any:
        """Run one piece of work in the next transaction, together with what others want."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(_Waiting(work, flush, answer))
        if not self._busy:
            self._busy = True
            self._begin(loop)
        return await answer

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        batch, self._waiting = self._waiting, []
        if not batch:
            self._busy = False
            return
        try:
            done = self._thread.submit(self._commit, batch)
        except RuntimeError:
            closed = StorageError(f"{self.path}: this storage was closed, or its process is ending")
            self._answer(loop, batch, [closed] * len(batch))
        else:
            done.add_done_callback(lambda done: self._written(loop, batch, done.result()))

    def _written(self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting], outcomes: list[Any]) -> None:
        """Tell the loop, from the thread. On a loop that was closed in the meantime nobody waits."""
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._answer, loop, batch, outcomes, context=Context())

    def _answer(self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting], outcomes: list[Any]) -> None:
        for one, outcome in zip(batch, outcomes, strict=True):
            if one.answer.done():
                continue
            if isinstance(outcome, StorageError):
                one.answer.set_exception(outcome)
            else:
                one.answer.set_result(outcome)
        self._begin(loop)

    def _commit(self, batch: list[_Waiting]) -> list[Any]:
        """Run pieces of work in one transaction, each of them whole or not at all."""
        try:
            self._flush_next(any(one.flush for one in batch))
            self._database.execute("BEGIN IMMEDIATE")
            try:
                alone = len(batch) == 1
                outcomes = [batch[0].work(self._database)] if alone else [self._one(one.work) for one in batch]
                self._database.execute("COMMIT")
            except Exception:
                if self._database.in_transaction:  # else SQLite has rolled back by itself, as the disk is full
                    self._database.execute("ROLLBACK")
                raise
        except Exception as error:
            return [self._error(error)] * len(batch)
        return outcomes

    def _one(self, work: _Work) -> Any:
        self._database.execute("SAVEPOINT one")
        try:
            outcome = work(self._database)
        except Exception as error:
            if not self._database.in_transaction:
                raise  # SQLite has rolled back what the others have written, too
            self._database.execute("ROLLBACK TO one")
            outcome = self._error(error)
        self._database.execute("RELEASE one")
        return outcome

    def _flush_next(self, flush: bool) -> None:
        """Have the next commit wait for the disk, or not. With it, all that was committed before is flushed."""
        synchronous = "FULL" if flush and self._full else "NORMAL"
        if synchronous != self._synchronous:
            self._database.execute(f"PRAGMA synchronous = {synchronous}")
            self._synchronous = synchronous

    def _error(self, error: Exception) -> StorageError:
        if isinstance(error, StorageError):
            return error
        return (OutcomeUnknown if _may_be_written(error) else StorageError)(f"{self.path}: {error}")


def _may_be_written(error: Exception) -> bool:
    """Return whether a transaction that has ended with an error may be on the disk: the disk itself has failed."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_IOERR


def _load(database: sqlite3.Connection, key: str, before: int | None) -> Loaded | None:
    heads = database.execute("SELECT epoch, turn, version, generation FROM heads WHERE key = ?", (key,)).fetchall()
    if not heads and not _olds(database, key):
        return None
    return _loaded(database, key, before, heads[0] if heads else (0, 0, 0, ""))


def _loaded(database: sqlite3.Connection, key: str, before: int | None, head: tuple[int, int, int, str]) -> Loaded:
    """Return what is stored under a key with that head, in as few queries as can be: a start waits for each."""
    epoch, turn, version, generation = head
    at, snapshot = 0, None
    query = "SELECT turn, body FROM snapshots WHERE key = ? AND turn < ? ORDER BY turn DESC LIMIT 1"
    found = database.execute(query, (key, _LAST if before is None else before)).fetchall()
    if found:
        at, snapshot = found[0]
    else:
        olds = _olds(database, key)
        if olds and olds[0][1] != TOMBSTONE:
            version, snapshot, at = olds[0]
            turn = version
    query = "SELECT kind, id, body, due FROM rows WHERE key = ? ORDER BY kind, id"
    rows = tuple(StoredRow(*row) for row in database.execute(query, (key,)))
    return Loaded(epoch, turn, version, generation, snapshot, at, tuple(_entries(database, key, at, None)), rows)


def _olds(database: sqlite3.Connection, key: str) -> list[Any]:
    """Return the version, the checkpoint and its version, as `Storage.write` has written them."""
    return database.execute("SELECT version, checkpoint, at FROM agents WHERE key = ?", (key,)).fetchall()


def _commit(database: sqlite3.Connection, commit: AgentCommit) -> None:
    key, turn = commit.key, commit.turn
    heads = database.execute("SELECT epoch, turn FROM heads WHERE key = ?", (key,)).fetchall()
    epoch, found = heads[0] if heads else (-1, -1)
    if epoch != commit.epoch:
        raise StorageConflict(key, commit.epoch, epoch, "epoch")
    if commit.expected is not None:
        if found != commit.expected:
            raise StorageConflict(key, commit.expected, found, "turn")
        database.execute("UPDATE heads SET turn = ?, version = ? WHERE key = ?", (turn, commit.version, key))
    if commit.entries:
        database.executemany("INSERT INTO journal VALUES (?, ?, ?)", [(key, *entry) for entry in commit.entries])
    if commit.snapshot is not None:
        database.execute("INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?)", (key, turn, commit.snapshot))
        row = (key, commit.version, TOMBSTONE, commit.version)
        database.execute("INSERT OR REPLACE INTO agents VALUES (?, ?, ?, ?)", row)
    if commit.drop:
        query = "DELETE FROM rows WHERE key = ? AND kind = ? AND id = ?"
        database.executemany(query, [(key, *name) for name in commit.drop])
    if commit.put:
        put = [(key, row.kind, row.id, row.due, row.body) for row in commit.put]
        database.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?)", put)
    if commit.trim is not None:
        database.execute("DELETE FROM journal WHERE key = ? AND version <= ?", (key, commit.trim))
        database.execute("DELETE FROM snapshots WHERE key = ? AND turn < ?", (key, commit.trim))


def _move(database: sqlite3.Connection, key: str, version: int, expected: int | None, checkpoint: bytes | None) -> None:
    """Set the version of a key, and its checkpoint, if it is at the expected one."""
    if expected is None:
        row = (key, version, checkpoint, 0 if checkpoint is None else version)
        moved = database.execute("INSERT OR IGNORE INTO agents VALUES (?, ?, ?, ?)", row)
    elif checkpoint is None:
        moved = database.execute(
            "UPDATE agents SET version = ? WHERE key = ? AND version = ?", (version, key, expected)
        )
    else:
        update = "UPDATE agents SET version = ?, checkpoint = ?, at = ? WHERE key = ? AND version = ?"
        moved = database.execute(update, (version, checkpoint, version, key, expected))
    if moved.rowcount != 1:
        rows = database.execute("SELECT version FROM agents WHERE key = ?", (key,)).fetchall()
        raise StorageConflict(key, -1 if expected is None else expected, rows[0][0] if rows else -1)


def _entries(database: sqlite3.Connection, key: str, after: int, upto: int | None) -> list[tuple[int, bytes]]:
    query = "SELECT version, entry FROM journal WHERE key = ? AND version > ? AND version <= ? ORDER BY version"
    return list(database.execute(query, (key, after, _LAST if upto is None else upto)))


def _close(thread: ThreadPoolExecutor, database: sqlite3.Connection) -> None:
    # It has nothing to do any more; and it may be the one that lets go of the storage last.
    thread.shutdown(wait=False)
    database.close()
