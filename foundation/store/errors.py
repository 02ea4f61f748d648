"""The errors of the store. Each says what was wrong, and the remedy where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foundation.errors import Category, FoundationError, Severity
from supervision.messages import describe


class StoreError(FoundationError):
    """The root of all errors of the store."""

    category = Category.DATA


class NoTable(StoreError, LookupError):
    """The store has no such table."""

    remedy = "name one of the tables that the store was started with"

    def __init__(self, table: object, tables: Sequence[str]) -> None:
        self.table = table
        super().__init__(f"no table {describe(table)}; there are: {', '.join(tables) or 'none'}")


class BadValue(StoreError, ValueError):
    """A key or a value cannot be kept."""

    def __init__(self, table: str, key: object, value: object, remedy: str) -> None:
        self.table = table
        self.key = key
        self.value = value
        self.remedy = remedy
        super().__init__(f"{table}[{describe(key)}] = {describe(value)}: {remedy}")


class BadKey(BadValue):
    """This cannot be a key."""

    def __init__(self, table: str, key: object) -> None:
        super().__init__(table, key, None, "a key is text, a number of 64 bits (not NaN), bytes, or a tuple of these")


class TooLarge(StoreError, ValueError):
    """A transaction writes more than one record of the journal can hold. Nothing was done."""

    remedy = "write less in one transaction"

    def __init__(self, size: int, most: int) -> None:
        self.size = size
        super().__init__(
            f"the transaction writes {size:,} bytes, and may write {most:,}; nothing was done: {self.remedy}"
        )


class TransactionConflict(StoreError):
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

    def __init__(self, errors: Sequence[BaseException]) -> None:
        self.errors = tuple(errors)
        super().__init__(f"rolled back, but {len(self.errors)} compensations failed: {describe(self.errors[0])}")


class JournalDamaged(StoreError):
    """What is on disk is not what was written. Nothing was changed, and nothing of it is used.

    Attributes:
        path: of the file.
        sequence: of the first record that is damaged or missing, if it is known.
        lost: how many acknowledged transactions are gone or behind the damage, as far as it is known.
        can_be_cut: whether ``damaged="cut"`` helps: what comes before the damage is whole.
    """

    category = Category.SYSTEM
    severity = Severity.CRITICAL

    def __init__(self, path: Path, sequence: int | None, why: str, *, lost: int = 0) -> None:
        self.path = path
        self.sequence = sequence
        self.lost = lost
        self.can_be_cut = sequence is not None
        where = "" if sequence is None else f", record {sequence}"
        self.remedy = "restore a backup"
        if self.can_be_cut:
            self.remedy += f", or start with damaged='cut' to go on without the last {lost} transactions"
        super().__init__(f"{path}{where}: {why}; {self.remedy}")


class NotAStore(StoreError):
    """The file is not a store's. It was not touched."""

    category = Category.CONFIG
    severity = Severity.HIGH
    remedy = "give the store a file of its own; if this was one, restore a backup"

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        super().__init__(f"{path} is no store's file ({why}), and was not touched: {self.remedy}")


class NewerFormat(StoreError):
    """The file was written by a later version. It was not touched.

    Attributes:
        format: that of the file.
    """

    category = Category.CONFIG
    severity = Severity.HIGH
    remedy = "use the version that wrote it, or a later one; or restore a backup of before the upgrade"

    def __init__(self, path: Path, found: int, known: int) -> None:
        self.path = path
        self.format = found
        why = f"has format {found}, and this version knows formats up to {known}"
        super().__init__(f"{path} {why}; it was not touched: {self.remedy}")


class RowUnreadable(StoreError):
    """A row is as it was written, but is not of the type that its table has now."""

    category = Category.CONFIG
    severity = Severity.HIGH
    remedy = "give new fields a default, or read the table once without a type and write it anew"

    def __init__(self, table: str, key: object, why: str) -> None:
        self.table = table
        self.key = key
        super().__init__(f"{table}[{describe(key)}] is not of the table's type ({why}): {self.remedy}")


class OutcomeUnknown(StoreError):
    """The store ended while it wrote the transaction, and did not come back: it may be done, or not.

    Compensations were not called. When the store runs again, look at what is there.
    """

    category = Category.SYSTEM
    severity = Severity.CRITICAL
    remedy = "when the store runs again, look at what is there"


class NotWritten(StoreError):
    """The disk did not take it. A transaction was not done, and is not found later."""

    category = Category.RESOURCE
    severity = Severity.CRITICAL
    retryable = True
    remedy = "make room on the disk, or repair it; then try again"


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
    remedy = "name a directory that can be written to, with room on its disk"

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        super().__init__(f"{path} cannot be opened ({why}): {self.remedy}")
