"""The formats of a store's file: how one is told from other files, made, and brought up to date.

A file says that it is a store's by SQLite's ``application_id``, and its format by ``user_version``. Files of format 1
said neither, and are known by their tables. A new format gets the next number and a function in `MIGRATIONS`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import msgspec

from foundation.store.errors import JournalDamaged, NewerFormat, NotAStore
from foundation.store.keys import as_key, decoded_key

#: "FNDs", as a number: whose file it is.
APPLICATION = 0x464E4473
#: The format that is written.
FORMAT = 2

_JOURNAL = "CREATE TABLE journal (sequence INTEGER PRIMARY KEY, body BLOB NOT NULL, checksum INTEGER NOT NULL)"
_ROWS = (
    "CREATE TABLE rows ( name TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, checksum INTEGER NOT NULL,"
    " PRIMARY KEY (name, key) ) WITHOUT ROWID"
)
_FOLDED_1 = "CREATE TABLE folded (sequence INTEGER NOT NULL, checksum INTEGER NOT NULL)"
_FOLDED = (
    "CREATE TABLE folded (sequence INTEGER NOT NULL, checksum INTEGER NOT NULL, length INTEGER NOT NULL,"
    " total INTEGER NOT NULL, identity BLOB NOT NULL, seal INTEGER NOT NULL)"
)
_TABLES = {1: {_JOURNAL, _ROWS, _FOLDED_1}, 2: {_JOURNAL, _ROWS, _FOLDED}}
_MAGIC = b"SQLite format 3\0"


class Folded(msgspec.Struct, frozen=True):
    """What has been folded into rows.

    Attributes:
        sequence: of the last transaction that was.
        checksum: of its record, to which that of the next one is chained.
        length: how many rows there are.
        total: the sum of their checksums.
        identity: of the file, which no other one has.
    """

    sequence: int
    checksum: int
    length: int
    total: int
    identity: bytes

    @property
    def seal(self) -> int:
        """A checksum of all this."""
        return crc32(msgspec.msgpack.encode(self))


def read_folded(database: sqlite3.Connection, path: Path) -> Folded:
    """Read what has been folded.

    Raises:
        JournalDamaged: it is not there, or not as it was written.
    """
    found = database.execute("SELECT * FROM folded").fetchall()
    if len(found) == 1:
        *fields, seal = found[0]
        folded = Folded(*fields)
        if folded.seal == seal:
            return folded
    raise JournalDamaged(path, None, "what it says of its own rows is missing, or has a wrong checksum")


def write_folded(database: sqlite3.Connection, folded: Folded) -> None:
    """Write what has been folded."""
    database.execute("DELETE FROM folded")
    database.execute("INSERT INTO folded VALUES (?, ?, ?, ?, ?, ?)", (*msgspec.structs.astuple(folded), folded.seal))


def new_identity(database: sqlite3.Connection) -> bytes:
    """Return an identity for a file."""
    return database.execute("SELECT randomblob(8)").fetchone()[0]  # type: ignore[no-any-return]


def row_checksum(name: str, key: bytes, value: bytes) -> int:
    """Return the checksum of a row."""
    return crc32(value, crc32(key, crc32(name.encode())))


# -- whose file it is --------------------------------------------------------------------------------------------------


def recognise(path: Path) -> None:
    """Make sure that a file is a store's, of a format that is known, or empty, or not there. It is not touched.

    Raises:
        NotAStore: it is something else.
        NewerFormat: it is of a later format.
        OSError, sqlite3.Error: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return
    if not head:
        return
    if len(head) < 100 or not head.startswith(_MAGIC):
        raise NotAStore(path, "it is no SQLite database")
    application, version = int.from_bytes(head[68:72], "big"), int.from_bytes(head[60:64], "big")
    if application == APPLICATION:
        if version > FORMAT:
            raise NewerFormat(path, version, FORMAT)
    elif application or version or not _may_be_format_1(path):
        raise NotAStore(path, "it is the database of another application")


def _may_be_format_1(path: Path) -> bool:
    """Return whether the tables in a file are those of format 1, or still in SQLite's log."""
    database = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
    try:
        return table_definitions(database) in (set(), _TABLES[1])
    finally:
        database.close()


def table_definitions(database: sqlite3.Connection) -> set[str]:
    """Return how the tables of a database were made."""
    found = database.execute(
        "SELECT sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    )
    return {" ".join(sql.split()) for (sql,) in found}


# -- making one, and bringing it up to date ----------------------------------------------------------------------------


def create_tables(database: sqlite3.Connection) -> None:
    """Make the tables of a new file. In one transaction, so that no file is ever half made."""
    database.execute("BEGIN IMMEDIATE")
    for statement in (_JOURNAL, _ROWS, _FOLDED):
        database.execute(statement)
    write_folded(database, Folded(0, 0, 0, 0, new_identity(database)))
    _sign(database)
    database.execute("COMMIT")


def _sign(database: sqlite3.Connection) -> None:
    database.execute(f"PRAGMA application_id = {APPLICATION}")
    database.execute(f"PRAGMA user_version = {FORMAT}")


def format_of(database: sqlite3.Connection, path: Path) -> int | None:
    """Return the format of an open file, or None if it is empty.

    Raises:
        NotAStore, NewerFormat: see `recognise`; only now, because it stood in SQLite's log.
        JournalDamaged: its tables are not those of the format.
    """
    (application,), (version,) = (
        database.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    there = table_definitions(database)
    if application == 0 and version == 0:
        if there in (set(), _TABLES[1]):
            return 1 if there else None
        raise NotAStore(path, "it is the database of another application")
    if application != APPLICATION:
        raise NotAStore(path, "it is the database of another application")
    if version > FORMAT:
        raise NewerFormat(path, version, FORMAT)
    if not there >= _TABLES.get(version, {""}):
        raise JournalDamaged(path, None, f"its tables are not those of format {version}")
    return int(version)


def _from_1(database: sqlite3.Connection) -> None:
    """Bring a file of format 1 to format 2: one key for equal keys, and sums over the rows."""
    ((sequence, checksum),) = database.execute("SELECT sequence, checksum FROM folded").fetchall()
    for name, key, value, sum_ in database.execute("SELECT * FROM rows ORDER BY name, key").fetchall():
        if sum_ == row_checksum(name, key, value) and (one := as_one_key(key)) != key:
            database.execute("DELETE FROM rows WHERE name = ? AND key = ?", (name, key))
            row = (name, one, value, row_checksum(name, one, value))
            database.execute("INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?)", row)
    length, total = database.execute("SELECT count(*), coalesce(sum(checksum), 0) FROM rows").fetchone()
    database.execute("DROP TABLE folded")
    database.execute(_FOLDED)
    write_folded(database, Folded(sequence, checksum, length, total, new_identity(database)))
    _sign(database)


def as_one_key(key: bytes) -> bytes:
    """Return an encoded key in the one form of all that are equal to it."""
    return msgspec.msgpack.encode(as_key("", decoded_key(key)))


#: What brings a file from each older format to the next one, inside a transaction.
MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _from_1}
