"""The store: tables that outlive the process, transactions over them and over registries, and a journal behind them.

Readers take ``Database.of(runtime).root``, an immutable snapshot of all tables. Writers use
``async with database.transaction() as tx``; see `Transaction`. The file is SQLite's, written by an actor of its own.
"""

# Readers and writers use the database; the actor that writes stands in a tree.
from foundation.store.database import Database as Database
from foundation.store.database import Transaction as Transaction
from foundation.store.store import Store as Store

# What is read.
from foundation.store.snapshot import StoreSnapshot as StoreSnapshot
from foundation.store.snapshot import Table as Table
from foundation.store.snapshot import Row as Row

# What a transaction raises.
from foundation.store.errors import StoreError as StoreError
from foundation.store.errors import TransactionConflict as TransactionConflict
from foundation.store.errors import NoTable as NoTable
from foundation.store.errors import BadKey as BadKey
from foundation.store.errors import BadValue as BadValue
from foundation.store.errors import TooLarge as TooLarge
from foundation.store.errors import TransactionEnded as TransactionEnded
from foundation.store.errors import RollbackFailed as RollbackFailed
from foundation.store.errors import NotWritten as NotWritten
from foundation.store.errors import OutcomeUnknown as OutcomeUnknown

# What the start of a store raises.
from foundation.store.errors import StoreLocked as StoreLocked
from foundation.store.errors import StoreUnreachable as StoreUnreachable
from foundation.store.errors import NotAStore as NotAStore
from foundation.store.errors import NewerFormat as NewerFormat
from foundation.store.errors import JournalDamaged as JournalDamaged
from foundation.store.errors import RowUnreadable as RowUnreadable

# For tests: a disk that fails or waits at any step.
from foundation.store.disk import Disk as Disk
