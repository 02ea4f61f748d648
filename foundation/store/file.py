"""The file of a store: a journal of transactions and the rows they make, in SQLite.

A transaction is one record of the journal with a checksum, which is chained to the one before, so that no record can
be changed, lost or put elsewhere unseen. From time to time records are folded into rows, which are counted and summed.
SQLite's own write-ahead log is what makes an append one atomic write; how far it was acknowledged stands beside it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp
from threading import RLock
from typing import Literal, TypeAlias
from zlib import crc32

import msgspec

from foundation.store.disk import DISK, Disk
from foundation.store.errors import JournalDamaged, NotWritten, StoreError, StoreLocked, StoreUnreachable
from foundation.store.formats import (
    FORMAT,
    MIGRATIONS,
    Folded,
    as_one_key,
    create_tables,
    format_of,
    new_identity,
    read_folded,
    recognise,
    row_checksum,
    write_folded,
)
from foundation.store.recovery import CommitMark, LogTail, log_tail
from supervision.errors import BadOption

#: When a commit is safe. ``full``: when it is answered, it is on the disk (fsync), whatever happens. ``normal``: it
#: survives the death of the process, and not always that of the machine, after which the last ones may be missing,
#: none of them in part. ``off``: as ``normal``, and a machine that dies may leave a damaged file.
Sync: TypeAlias = Literal["full", "normal", "off"]
#: A table, a key and a value, each encoded; None if the row goes.
RowChange: TypeAlias = "tuple[str, bytes, bytes | None]"

#: So many bytes may a transaction write (SQLite takes a thousand million in one place).
MOST_BYTES = 500_000_000
#: After so many bytes in SQLite's log they are copied to where they belong.
CHECKPOINT_BYTES = 4_000_000
#: Errors that damaged content causes while it is read.
_UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, msgspec.MsgspecError)
#: SQLite's codes for a file that is locked, and for one that is not as it should be.
_BUSY, _DAMAGED = (5, 6), (1, 11, 20, 26)


class Content(msgspec.Struct):
    """What was found in a file.

    Attributes:
        rows: the values, by table and key, all encoded.
        sequence: of the last transaction.
        replayed: how many transactions were in the journal.
        tail: how SQLite's log ended.
        cut: how many records of the journal were left out because they are damaged.
        lost: how many transactions that were acknowledged are not there, as far as it is known.
        migrated_from: the format that it had, if it was brought up to date.
        trouble: why SQLite's log could not be copied to where it belongs, if that failed: nothing is lost by it.
    """

    rows: dict[str, dict[bytes, bytes]]
    sequence: int
    replayed: int
    tail: LogTail
    cut: int
    lost: int = 0
    migrated_from: int | None = None
    trouble: str | None = None


class StoreFile:
    """A file with a journal, open.

    Args:
        path: where it is, or is to be. It, and directories that are made for it, are its owner's alone.
        sync: when a commit is safe.
        fold_after: so many records in the journal are folded into rows; None if somebody else calls `maintain`.
        damaged: what to do with a journal that is damaged: ``refuse`` it, or ``cut`` it before the damage.
        wait: for how many seconds to wait for whoever has the file open.
        disk: through which all steps go.

    Raises:
        JournalDamaged: it is damaged, and is refused.
        NotAStore: it is something else.
        NewerFormat: it was written by a later version.
        StoreLocked: somebody else has it open.
        StoreUnreachable: it cannot be made or opened.
    """

    def __init__(
        self,
        path: Path,
        sync: Sync = "full",
        fold_after: int | None = 1000,
        damaged: Literal["refuse", "cut"] = "refuse",
        wait: float = 5.0,
        disk: Disk = DISK,
    ) -> None:
        self.path = path
        #: Why the last maintenance failed, if it did.
        self.trouble: Exception | None = None
        self._sync = sync
        self._fold_after = fold_after
        self._wait = wait
        self._disk = disk
        #: The thread of a writer that was killed may still be at it when the next one closes the file.
        self._lock = RLock()
        self._database: sqlite3.Connection | None = None
        self._mark = CommitMark(path)
        self._unmarked = False
        self._unchecked = 0
        try:
            recognise(path)
            _make_private(path)
            self.content = disk.step("open", path, lambda: self._open(damaged))
        except BaseException as error:
            self.close()
            raise _typed(path, error) from error
        self.length = self.content.replayed

    # -- opening and reading -------------------------------------------------------------------------------------------

    def _connect(self) -> sqlite3.Connection:
        self._database = database = sqlite3.connect(
            self.path, timeout=self._wait, isolation_level=None, check_same_thread=False
        )
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute(f"PRAGMA synchronous = {self._sync}")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        return database

    def _open(self, damaged: str) -> Content:
        tail = log_tail(self.path)
        database = self._connect()
        before = format_of(database, self.path)
        if before is None:
            create_tables(database)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("BEGIN IMMEDIATE")
        for step in range(before or FORMAT, FORMAT):
            MIGRATIONS[step](database)
        content = self._read(database, tail, damaged)
        if before not in (None, FORMAT):
            self._folded = self._fold_into_rows(database, as_one_key, content.sequence)
            content.rows, content.migrated_from, content.replayed = self._rows(database), before, 0
        database.execute("COMMIT")
        if content.lost:
            self._forget_what_is_lost(content.sequence)
        if tail.committed or content.migrated_from:
            try:
                self._checkpoint()
            except (sqlite3.Error, OSError) as error:
                content.trouble = str(error)
        return content

    def _forget_what_is_lost(self, sequence: int) -> None:
        for _ in range(2):  # both of its places
            self._mark.write(self._folded.identity, sequence)

    def _read(self, database: sqlite3.Connection, tail: LogTail, damaged: str) -> Content:
        self._folded = folded = read_folded(database, self.path)
        rows = self._rows(database)
        sequence, self._checksum, replayed = folded.sequence, folded.checksum, 0
        records = database.execute(
            "SELECT sequence, CAST(body AS BLOB), checksum FROM journal ORDER BY sequence"
        ).fetchall()
        for number, body, checksum in records:
            if number != sequence + 1 or checksum != _chained(self._checksum, number, body):
                break
            _apply(rows, msgspec.msgpack.decode(body))
            sequence, self._checksum, replayed = number, checksum, replayed + 1
        left = len(records) - replayed
        lost = max(left, self._mark.read(folded.identity) - sequence, 0)
        if lost and damaged == "refuse" and (left or self._sync == "full"):
            why = "it is missing, or its checksum is wrong" if left else "it was acknowledged, and is missing"
            raise JournalDamaged(self.path, sequence + 1, why, lost=lost)
        database.execute("DELETE FROM journal WHERE sequence > ?", (sequence,))
        return Content(rows, sequence, replayed, tail, left, lost)

    def _rows(self, database: sqlite3.Connection) -> dict[str, dict[bytes, bytes]]:
        rows: dict[str, dict[bytes, bytes]] = {}
        length = total = 0
        for name, key, value, checksum in database.execute("SELECT CAST(name AS BLOB), key, value, checksum FROM rows"):
            table = name.decode()
            if checksum != row_checksum(table, key, value):
                raise JournalDamaged(self.path, None, f"a row of table {table!r} has a wrong checksum")
            rows.setdefault(table, {})[key] = value
            length, total = length + 1, total + checksum
        if (length, total) != (self._folded.length, self._folded.total):
            why = f"there are {length} rows, and there should be {self._folded.length}, or others"
            raise JournalDamaged(self.path, None, why)
        return rows

    # -- commits -------------------------------------------------------------------------------------------------------

    def append(self, transactions: Sequence[Sequence[RowChange]]) -> None:
        """Write transactions, all in one step. When this returns they are as safe as ``sync`` says.

        Raises:
            NotWritten: they could not be written, none of them was, and none will be found later.
            sqlite3.Error, OSError, StoreError: nobody knows, because the file cannot be read any more. Open it again.
        """
        with self._lock:
            database = self._opened()
            records, sequence, checksum = [], self.content.sequence, self._checksum
            for changes in transactions:
                sequence += 1
                body = msgspec.msgpack.encode(changes)
                checksum = _chained(checksum, sequence, body)
                records.append((sequence, body, checksum))
                self._unchecked += len(body)
            try:
                self._disk.step("append", self.path, lambda: _insert(database, records))
                self._disk.step("commit", self.path, lambda: database.execute("COMMIT"))
            except (sqlite3.Error, OSError) as error:
                self._settle(sequence, checksum, error)
            self.content.sequence, self._checksum = sequence, checksum
            self.length += len(records)
            self._note()
            if self._fold_after is not None and self.length >= self._fold_after:
                self._try_to_maintain()

    def _settle(self, sequence: int, checksum: int, error: Exception) -> None:
        """After a failure: see from the file itself what was written. An error may be reported after the write.

        SQLite's log may hold what this connection takes for undone, and the next one for done. The next one counts.
        """
        database = self._reopened()
        written = database.execute("SELECT checksum FROM journal WHERE sequence = ?", (sequence,)).fetchall()
        if written != [(checksum,)]:
            raise NotWritten(f"{self.path}: {error}; {NotWritten.remedy}") from error
        self._checkpoint()  # which writes it anew: what a failed fsync has left is not safe

    def _reopened(self) -> sqlite3.Connection:
        assert self._database is not None
        self._database.close()
        database = self._connect()
        self._folded = read_folded(database, self.path)
        (self.length,) = database.execute("SELECT count(*) FROM journal").fetchone()
        return database

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            raise NotWritten(f"{self.path} was closed")
        return self._database

    def _note(self) -> None:
        """Move the mark. If that fails, the commit is done all the same, and maintenance tries again."""
        self._unmarked = True
        with suppress(OSError, sqlite3.Error):
            self._move_mark()

    def _move_mark(self) -> None:
        identity, sequence = self._folded.identity, self.content.sequence
        self._disk.step("mark", self.path, lambda: self._mark.write(identity, sequence))
        self._unmarked = False

    # -- maintenance ---------------------------------------------------------------------------------------------------

    def is_due(self, fold_after: int) -> bool:
        """Return whether there is something to do for `maintain`, if so many records are to be folded."""
        return self.length >= fold_after or self._unchecked >= CHECKPOINT_BYTES or self._unmarked

    def maintain(self, fold_after: int = 1) -> None:
        """Do what keeps the file short. No commit depends on it.

        Args:
            fold_after: so many records are folded, fewer are left.

        Raises:
            sqlite3.Error, OSError: it failed, and can be tried again. Nothing is lost.
        """
        with self._lock:
            self._opened()
            if self._unmarked:
                self._move_mark()
            if self.length >= fold_after:
                self.fold()
            self._checkpoint()

    def _try_to_maintain(self) -> None:
        try:
            self.maintain()
            self.trouble = None
        except (sqlite3.Error, OSError) as error:
            self.trouble = error

    def fold(self) -> None:
        """Fold the journal into rows.

        Raises:
            sqlite3.Error, OSError: it could not be done; the journal is as it was.
        """
        with self._lock:
            database = self._opened()
            try:
                self._disk.step("fold", self.path, lambda: self._fold(database))
            except (sqlite3.Error, OSError):
                self._reopened()
                raise

    def _fold(self, database: sqlite3.Connection) -> None:
        database.execute("BEGIN IMMEDIATE")
        folded = self._fold_into_rows(database, bytes, self.content.sequence)
        database.execute("COMMIT")
        self._folded, self.length = folded, 0

    def _fold_into_rows(self, database: sqlite3.Connection, as_kept: Callable[[bytes], bytes], sequence: int) -> Folded:
        last: dict[tuple[str, bytes], bytes | None] = {}
        for (body,) in database.execute("SELECT body FROM journal ORDER BY sequence").fetchall():
            for name, key, value in msgspec.msgpack.decode(body):
                last[name, as_kept(key)] = value
        length, total = self._put_rows(database, last)
        folded = Folded(sequence, self._checksum, length, total, self._folded.identity)
        write_folded(database, folded)
        database.execute("DELETE FROM journal")
        return folded

    def _put_rows(
        self, database: sqlite3.Connection, changes: Mapping[tuple[str, bytes], bytes | None]
    ) -> tuple[int, int]:
        length, total = self._folded.length, self._folded.total
        for (name, key), value in changes.items():
            for (old,) in database.execute(
                "SELECT checksum FROM rows WHERE name = ? AND key = ?", (name, key)
            ).fetchall():
                length, total = length - 1, total - old
            if value is None:
                database.execute("DELETE FROM rows WHERE name = ? AND key = ?", (name, key))
            else:
                checksum = row_checksum(name, key, value)
                database.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", (name, key, value, checksum))
                length, total = length + 1, total + checksum
        return length, total

    def _checkpoint(self) -> None:
        """Copy SQLite's log to where it belongs."""
        database = self._opened()
        self._disk.step("checkpoint", self.path, lambda: database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall())
        self._unchecked = 0

    def back_up(self, path: Path) -> None:
        """Write a copy of everything to another file, while this one goes on being used.

        A file that is there is replaced once the copy is whole, if it is a store's, and not in use.

        Args:
            path: of the copy.

        Raises:
            NotAStore: what is there is something else.
            BadOption: it is this very file, or another store is using it.
            sqlite3.Error, OSError: it could not be written. What was there still is.
        """
        recognise(path)
        if path.exists() and path.samefile(self.path):
            raise BadOption("back_up: path", path, "name another file: this is the one that is to be copied")
        if path.with_name(f"{path.name}-wal").exists():
            raise BadOption("back_up: path", path, "name another file: this one has a -wal, so it is in use")
        with self._lock:
            database = self._opened()
            self._disk.step("back_up", self.path, lambda: _copy(database, path, self._folded))

    def close(self) -> None:
        """Close the file, when what is being written is written."""
        with self._lock:
            database, self._database = self._database, None
            with suppress(sqlite3.Error, OSError):
                self._disk.step("close", self.path, self._mark.close)
            if database is not None:
                database.close()

    def __del__(self) -> None:
        """Close it, where nobody did: a store that was killed, and not started again, leaves it open."""
        self.close()


def _make_private(path: Path) -> None:
    """Make a file and its directories, if they are missing, for their owner alone."""
    missing = [folder for folder in (path.parent, *path.parent.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        _sync_directory(path.parent)


def _sync_directory(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _typed(path: Path, error: BaseException) -> BaseException:
    """Return an error that came up while a file was opened as one of the store's."""
    if isinstance(error, StoreError) or not isinstance(error, Exception):
        return error
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _BUSY:
            return StoreLocked(path)
        return JournalDamaged(path, None, str(error)) if code in _DAMAGED else StoreUnreachable(path, str(error))
    if isinstance(error, _UNREADABLE):
        return JournalDamaged(path, None, f"it cannot be read: {error}")
    return StoreUnreachable(path, str(error))


def _copy(database: sqlite3.Connection, path: Path, folded: Folded) -> None:
    descriptor, name = mkstemp(prefix=f"{path.name}-", dir=path.parent)
    os.close(descriptor)
    try:
        copy = sqlite3.connect(name, isolation_level=None)
        try:
            database.backup(copy)
            copy.execute("PRAGMA locking_mode = EXCLUSIVE")
            copy.execute("PRAGMA journal_mode = DELETE")
            write_folded(copy, msgspec.structs.replace(folded, identity=new_identity(copy)))
        finally:
            copy.close()
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise
    _sync_directory(path.parent)


def _insert(database: sqlite3.Connection, records: Iterable[tuple[int, bytes, int]]) -> None:
    database.execute("BEGIN IMMEDIATE")
    database.executemany("INSERT INTO journal VALUES (?, ?, ?)", records)


def _chained(before: int, sequence: int, body: bytes) -> int:
    return crc32(body, crc32(sequence.to_bytes(8, "big"), before))


def _apply(rows: dict[str, dict[bytes, bytes]], changes: Iterable[RowChange]) -> None:
    for name, key, value in changes:
        table = rows.setdefault(name, {})
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value


def as_path(where: str, path: object) -> Path:
    """Return a path.

    Args:
        where: what it is, for the error.
        path: as it was given.

    Raises:
        BadOption: it is none.
    """
    named = str.__str__(path) if isinstance(path, str) else path
    if not isinstance(named, (str, Path)) or not str(named) or "\0" in str(named):
        raise BadOption(where, path, "give the path of a file")
    return Path(named)
