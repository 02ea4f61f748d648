"""Where calls and feedback are kept: one SQLite file, written by a thread of its own.

What waits while a transaction is written goes into the next one. A transaction is on the disk when it is answered.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")

#: The file in the folder.
FILE = "calls.sqlite"
#: So many records may wait for the disk; what is over is left out of the file, and counted.
MOST_WAITING = 10_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (id TEXT PRIMARY KEY, at REAL NOT NULL, key TEXT, record BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS calls_at ON calls (at);
CREATE INDEX IF NOT EXISTS calls_key ON calls (key);
CREATE TABLE IF NOT EXISTS feedback (
    number INTEGER PRIMARY KEY AUTOINCREMENT, call TEXT NOT NULL, at REAL NOT NULL, key TEXT, body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS feedback_call ON feedback (call);
CREATE INDEX IF NOT EXISTS feedback_key ON feedback (key);
"""

_Work = Callable[[sqlite3.Connection], Any]


class CallStoreError(Exception):
    """The file cannot be opened, read or written: it says why."""


class _Pending(NamedTuple):
    work: _Work
    done: asyncio.Future[Any]


class CallStore:
    """Keeps records of calls, and feedback. Made in an event loop.

    Args:
        folder: where the file is; None to keep everything in memory, until the process ends.

    Attributes:
        dropped: how many records of calls were left out, as the disk did not follow.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.path = None if folder is None else Path(folder) / FILE
        self.dropped = 0
        self._thread = ThreadPoolExecutor(1, "dspex-calls")
        self._pending: list[_Pending] = []
        self._writing: asyncio.Task[None] | None = None
        self._database: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the file; it is made, with its folder, if it is not there.

        Raises:
            CallStoreError: it cannot be opened, or is no such file.
        """
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    def _open(self) -> None:
        try:
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            place = ":memory:" if self.path is None else self.path
            database = sqlite3.connect(place, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise CallStoreError(f"{self.path}: {error}; move it away, or mend the folder") from error
        try:
            for setting in ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
                database.execute(f"PRAGMA {setting}")
            database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        except sqlite3.Error as error:
            database.close()
            raise CallStoreError(f"{self.path}: {error}; move it away, or mend the folder") from error
        self._database = database

    def close(self) -> None:
        """Close the file, when what waits is written. Does not wait for that."""
        self._thread.submit(self._close)
        self._thread.shutdown(wait=False)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()

    # -- calls ---------------------------------------------------------------------------------------------------------

    def add_call(self, id: str, at: float, key: str | None, record: bytes) -> None:
        """Keep the record of a call, soon: nobody waits for it."""
        if len(self._pending) >= MOST_WAITING:
            self.dropped += 1
            return
        statement = "INSERT OR REPLACE INTO calls VALUES (?, ?, ?, ?)"
        self._add(lambda database: database.execute(statement, (id, at, key, record))).add_done_callback(_seen)

    async def calls(self, last: int, oldest: float) -> list[bytes]:
        """Forget calls and feedback that are too many, or too old, and return the records of the rest, oldest first."""

        def work(database: sqlite3.Connection) -> list[bytes]:
            _forget(database, last, oldest)
            return [record for (record,) in database.execute("SELECT record FROM calls ORDER BY at, rowid")]

        return await self._do(work)

    async def forget_old(self, last: int, oldest: float) -> None:
        """Forget calls that are too many, and calls and feedback that are too old."""
        await self._do(lambda database: _forget(database, last, oldest))

    # -- feedback ------------------------------------------------------------------------------------------------------

    async def add_feedback(self, call: str, at: float, key: str | None, body: bytes, *, first: bool) -> bool:
        """Keep feedback, and return, when it is safe, whether it was taken: with ``first``, only a call's first is."""

        def work(database: sqlite3.Connection) -> bool:
            known = first and database.execute("SELECT 1 FROM feedback WHERE call = ?", (call,)).fetchone()
            if not known:
                values = (call, at, key, body)
                database.execute("INSERT INTO feedback (call, at, key, body) VALUES (?, ?, ?, ?)", values)
            return not known

        return await self._do(work)

    async def feedback(self, after: int, number: int) -> list[tuple[int, bytes]]:
        """Return feedback, the oldest first."""
        query = "SELECT number, body FROM feedback WHERE number > ? ORDER BY number LIMIT ?"
        return await self._do(lambda database: list(database.execute(query, (after, number))))

    # -- deletion ------------------------------------------------------------------------------------------------------

    async def forget(self, column: str, value: str) -> int:
        """Delete calls and feedback, and overwrite them in the file; return how many rows that were.

        Args:
            column: ``id`` of a call, or ``key`` of whoever asked.
            value: its value.
        """

        def work(database: sqlite3.Connection) -> int:
            calls = database.execute(f"DELETE FROM calls WHERE {column} = ?", (value,))  # noqa: S608 (one of ours)
            column_there = "call" if column == "id" else column
            said = database.execute(f"DELETE FROM feedback WHERE {column_there} = ?", (value,))  # noqa: S608
            return calls.rowcount + said.rowcount

        count = await self._do(work)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._checkpoint)
        return count

    def _checkpoint(self) -> None:
        """Take what was deleted out of the write-ahead log, too."""
        self._there().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # -- transactions --------------------------------------------------------------------------------------------------

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run one piece of work in the next transaction, together with what others want.

        Raises:
            CallStoreError: the file cannot be read or written; nothing of it was.
        """
        # A caller that is cut off does not take back what others wait for, too.
        found: T = await asyncio.shield(self._add(work))
        return found

    def _add(self, work: _Work) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        self._pending.append(_Pending(work, done))
        if self._writing is None:
            self._writing = loop.create_task(self._write(), context=Context())
        return done

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._pending:
                batch, self._pending = self._pending, []
                try:
                    outcomes = await loop.run_in_executor(self._thread, self._commit, [each.work for each in batch])
                except (sqlite3.Error, RuntimeError, OSError) as error:
                    outcomes = [CallStoreError(f"{self.path}: {error}")] * len(batch)
                for each, outcome in zip(batch, outcomes, strict=True):
                    _resolve(each.done, outcome)
        finally:
            self._writing = None

    def _commit(self, batch: list[_Work]) -> list[Any]:
        database = self._there()
        database.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [work(database) for work in batch]
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:  # else SQLite has rolled back by itself, as the disk is full
                database.execute("ROLLBACK")
            raise
        return outcomes

    def _there(self) -> sqlite3.Connection:
        if self._database is None:
            raise sqlite3.ProgrammingError("it is not open")
        return self._database


def _resolve(done: asyncio.Future[Any], outcome: Any) -> None:
    if isinstance(outcome, CallStoreError):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)


def _seen(done: asyncio.Future[Any]) -> None:
    """Nobody waits for a record: that it cannot be written is told by what somebody waits for."""
    with suppress(asyncio.CancelledError):
        done.exception()


def _forget(database: sqlite3.Connection, last: int, oldest: float) -> None:
    database.execute("DELETE FROM feedback WHERE at < ?", (oldest,))
    database.execute("DELETE FROM calls WHERE at < ?", (oldest,))
    newest = "SELECT rowid FROM calls ORDER BY at DESC, rowid DESC LIMIT -1 OFFSET ?"
    database.execute(f"DELETE FROM calls WHERE rowid IN ({newest})", (last,))  # noqa: S608 (all of it ours)
