"""The file of a store: a journal of transactions and the rows they make, in SQLite.

A transaction is one record of the journal with a checksum, which is chained to the one before, so that no record can
be changed, lost or put elsewhere unseen. From time to time records are folded into rows. SQLite's own write-ahead log
is what makes an append one atomic write.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import RLock
from typing import Literal, TypeAlias
from zlib import crc32

import msgspec

from foundation.store.errors import JournalDamaged, StoreLocked, StoreUnreachable
from foundation.store.tail import Tail, tail_of

#: When a commit is safe. ``full``: when it is answered, it is on the disk (fsync), whatever happens. ``normal``: it
#: survives the death of the process, and not always that of the machine, after which the last ones may be missing,
#: none of them in part. ``off``: as ``normal``, and a machine that dies may leave a damaged file.
Sync: TypeAlias = Literal["full", "normal", "off"]
#: A table, a key and a value, each encoded; None if the row goes.
Change: TypeAlias = "tuple[str, bytes, bytes | None]"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS journal (sequence INTEGER PRIMARY KEY, body BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS rows (
    name TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (name, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS folded (sequence INTEGER NOT NULL, checksum INTEGER NOT NULL);
INSERT INTO folded SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM folded);
"""


class Content(msgspec.Struct):
    """What was found in a file.

    Attributes:
        rows: the values, by table and key, all encoded.
        sequence: of the last transaction.
        replayed: how many transactions were in the journal.
        tail: how SQLite's log ended.
        cut: how many records of the journal were left out because they are damaged.
    """

    rows: dict[str, dict[bytes, bytes]]
    sequence: int
    replayed: int
    tail: Tail
    cut: int


class StoreFile:
    """A file with a journal, open.

    Args:
        path: where it is, or is to be.
        sync: when a commit is safe.
        fold_after: so many records in the journal are folded into rows.
        damaged: what to do with a journal that is damaged: ``refuse`` it, or ``cut`` it before the damage.
        wait: for how many seconds to wait for whoever has the file open.

    Raises:
        JournalDamaged: it is damaged, and is refused.
        StoreLocked: somebody else has it open.
        StoreUnreachable: it cannot be made or opened.
    """

    def __init__(
        self,
        path: Path,
        sync: Sync = "full",
        fold_after: int = 1000,
        damaged: Literal["refuse", "cut"] = "refuse",
        wait: float = 5.0,
    ) -> None:
        self.path = path
        self._fold_after = fold_after
        #: The thread of a writer that was killed may still be at it when the next one closes the file.
        self._lock = RLock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            tail = tail_of(path)
            self._database = sqlite3.connect(path, wait, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StoreUnreachable(path, str(error)) from error
        try:
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute(f"PRAGMA synchronous = {sync}")
            self._database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            self.content = self._read(tail, damaged)
        except JournalDamaged:
            self._database.close()
            raise
        except sqlite3.Error as error:
            self._database.close()
            raise (StoreLocked(path) if "locked" in str(error) else JournalDamaged(path, None, str(error))) from error
        self._length = self.content.replayed

    def _read(self, tail: Tail, damaged: str) -> Content:
        rows: dict[str, dict[bytes, bytes]] = {}
        for name, key, value, checksum in self._database.execute("SELECT name, key, value, checksum FROM rows"):
            if checksum != crc32(value, crc32(key, crc32(name.encode()))):
                raise JournalDamaged(self.path, None, f"a row of table {name!r} has a wrong checksum")
            rows.setdefault(name, {})[key] = value
        (sequence, self._checksum), *_ = self._database.execute("SELECT sequence, checksum FROM folded")
        replayed = 0
        for number, body, checksum in list(self._database.execute("SELECT * FROM journal ORDER BY sequence")):
            if number != sequence + 1 or checksum != _chained(self._checksum, number, body):
                return self._damaged(Content(rows, sequence, replayed, tail, 0), damaged)
            _apply(rows, msgspec.msgpack.decode(body))
            sequence, self._checksum = number, checksum
            replayed += 1
        return Content(rows, sequence, replayed, tail, 0)

    def _damaged(self, content: Content, damaged: str) -> Content:
        if damaged == "refuse":
            why = "it is missing, or its checksum is wrong"
            raise JournalDamaged(self.path, content.sequence + 1, why)
        content.cut = self._database.execute("DELETE FROM journal WHERE sequence > ?", (content.sequence,)).rowcount
        return content

    def append(self, transactions: Sequence[Sequence[Change]]) -> None:
        """Write transactions, all in one step. When this returns they are as safe as ``sync`` says.

        Raises:
            sqlite3.Error: they could not be written, and none of them was.
        """
        with self._lock:
            self._append(transactions)

    def _append(self, transactions: Sequence[Sequence[Change]]) -> None:
        records, sequence, checksum = [], self.content.sequence, self._checksum
        for changes in transactions:
            sequence += 1
            body = msgspec.msgpack.encode(changes)
            checksum = _chained(checksum, sequence, body)
            records.append((sequence, body, checksum))
        with _Transaction(self._database):
            self._database.executemany("INSERT INTO journal VALUES (?, ?, ?)", records)
        self.content.sequence, self._checksum = sequence, checksum
        self._length += len(records)
        if self._length >= self._fold_after:
            self.fold()

    def fold(self) -> None:
        """Fold the journal into rows."""
        with _Transaction(self._database):
            for body in list(self._database.execute("SELECT body FROM journal ORDER BY sequence")):
                for name, key, value in msgspec.msgpack.decode(body[0]):
                    if value is None:
                        self._database.execute("DELETE FROM rows WHERE name = ? AND key = ?", (name, key))
                    else:
                        row = (name, key, value, crc32(value, crc32(key, crc32(name.encode()))))
                        self._database.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", row)
            self._database.execute(
                "UPDATE folded SET sequence = ?, checksum = ?", (self.content.sequence, self._checksum)
            )
            self._database.execute("DELETE FROM journal")
        self._length = 0

    def back_up(self, path: Path) -> None:
        """Write a copy of everything to another file, while this one goes on being used."""
        copy = sqlite3.connect(path)
        try:
            with self._lock:
                self._database.backup(copy)
        finally:
            copy.close()

    def close(self) -> None:
        """Close the file, when what is being written is written."""
        with self._lock:
            self._database.close()


class _Transaction:
    """A transaction of SQLite's, rolled back if what is in it fails."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._database.execute("COMMIT" if kind is None else "ROLLBACK")


def _chained(before: int, sequence: int, body: bytes) -> int:
    return crc32(body, crc32(sequence.to_bytes(8, "big"), before))


def _apply(rows: dict[str, dict[bytes, bytes]], changes: Iterator[Change]) -> None:
    for name, key, value in changes:
        table = rows.setdefault(name, {})
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
