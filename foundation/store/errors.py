"""The errors of the store. Each says what was wrong, and the remedy where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foundation.errors import Category, FoundationError, Severity


class StoreError(FoundationError):
    """The root of all errors of the store."""

    category = Category.DATA


class NoTable(StoreError, LookupError):
    """The store has no such table."""

    def __init__(self, table: str, tables: Sequence[str]) -> None:
        self.table = table
        super().__init__(f"no table {table!r}; there are: {', '.join(tables) or 'none'}")


class BadValue(StoreError, ValueError):
    """A key or a value cannot be kept."""

    def __init__(self, table: str, key: object, value: object, remedy: str) -> None:
        self.table = table
        self.key = key
        self.value = value
        super().__init__(f"{table}[{key!r}] = {value!r}: {remedy}")


class Conflict(StoreError):
    """Something that the transaction has read was changed before it was committed. Nothing was done; try it again."""

    category = Category.TRANSIENT
    severity = Severity.LOW
    retryable = True
    remedy = "try the transaction again, as Database.transact does"

    def __init__(self, table: str, key: Any) -> None:
        self.table = table
        self.key = key
        what = f"{table}[{key!r}]" if key is not None else f"the table {table}"
        super().__init__(f"{what} was changed by another transaction meanwhile; nothing was done: try it again")


class TransactionEnded(StoreError):
    """The transaction was committed or rolled back before, or has run out of time, and can do nothing more."""


class RollbackFailed(StoreError):
    """A compensation failed while a transaction was rolled back: ``errors`` says how. The others were done."""

    category = Category.SYSTEM
    severity = Severity.CRITICAL
    remedy = "make good by hand what the compensation was for"

    def __init__(self, errors: Sequence[Exception]) -> None:
        self.errors = tuple(errors)
        super().__init__(f"rolled back, but {len(self.errors)} compensations failed: {self.errors[0]!r}")


class JournalDamaged(StoreError):
    """What is on disk is not what was written. Nothing was changed, and nothing of it is used.

    Attributes:
        path: of the file.
        sequence: of the first record that is damaged, if it is known.
    """

    category = Category.SYSTEM
    severity = Severity.CRITICAL
    remedy = "restore a backup, or start with damaged='cut' to go on without the rest"

    def __init__(self, path: Path, sequence: int | None, why: str) -> None:
        self.path = path
        self.sequence = sequence
        where = "" if sequence is None else f", record {sequence}"
        super().__init__(
            f"{path}{where}: {why}; restore a backup, or start with damaged='cut' to go on without the rest"
        )


class OutcomeUnknown(StoreError):
    """The store ended while it wrote the transaction, and did not come back: it may be done, or not.

    Compensations were not called. When the store runs again, look at what is there.
    """

    category = Category.SYSTEM
    severity = Severity.CRITICAL
    remedy = "when the store runs again, look at what is there"


class NotWritten(StoreError):
    """The journal could not be written. The transaction was not done."""

    category = Category.RESOURCE
    severity = Severity.CRITICAL
    retryable = True
    remedy = "make room on the disk"


class StoreLocked(StoreError):
    """Another process, or another store, has the file open."""

    category = Category.CONFIG
    severity = Severity.HIGH
    remedy = "stop the other one, or give each store a file of its own"

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} is open elsewhere: {self.remedy}")


class StoreUnreachable(StoreError):
    """The file, or its directory, cannot be made or opened."""

    category = Category.CONFIG
    severity = Severity.HIGH
    remedy = "name a directory that can be written to"

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        super().__init__(f"{path} cannot be opened ({why}): {self.remedy}")
