"""The database: a store as its users see it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from inspect import isawaitable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from foundation.readings import Reading
from foundation.registry.prepared import Prepared
from foundation.store.errors import Conflict
from foundation.store.file import Change, StoreFile
from foundation.store.messages import BackUp, Flush, Outcome, Written
from foundation.store.snapshot import StoreSnapshot, Table
from foundation.store.transaction import Transaction
from supervision import Name, ReplyTo, Runtime
from supervision.errors import BadOption

T = TypeVar("T")


class InFlight:
    """A transaction that is committed, and not on the disk yet."""

    __slots__ = ("number", "outcome", "prepared", "reply", "root", "writes")

    def __init__(
        self,
        number: int,
        writes: Mapping[tuple[str, Any], Written],
        prepared: list[Prepared],
        root: StoreSnapshot,
        reply: ReplyTo[int],
        outcome: Outcome,
    ) -> None:
        self.outcome = outcome
        self.number = number
        self.writes = writes
        self.prepared = prepared
        self.root = root
        self.reply = reply

    def changes(self) -> Iterator[Change]:
        """Return what the journal notes of it."""
        return ((name, written.key, written.body) for (name, _), written in self.writes.items())


class Database:
    """What a store has published, and the way to change it.

    There is one for each name of a store in a runtime. It belongs to the runtime and not to the store's actor, so that
    readers keep it, and what it shows, while the actor is restarted.

    Attributes:
        address: of the actor that writes.
        root: the last snapshot: all tables, as they are on the disk. Reading this attribute is all that a read costs.
        types: what decodes the values, by table.
        in_flight: transactions that are committed, and not on the disk yet.
        preparing: what registries are being asked to prepare, by transaction.
        opened: the file, while it is open.
        failures: how often maintenance of the file has failed.
        rolling_back: tasks in which compensations are being called.
    """

    def __init__(self, runtime: Runtime, address: Name) -> None:
        self.runtime = runtime
        self.address = address
        self.root = StoreSnapshot()
        self.types: Mapping[str, msgspec.msgpack.Decoder[Any]] = {}
        self.in_flight: list[InFlight] = []
        self.preparing: dict[Outcome, Mapping[str, tuple[Any, ...]]] = {}
        self.opened: list[StoreFile] = []
        self.failures = 0
        self.rolling_back: set[asyncio.Future[Any]] = set()

    @classmethod
    def of(cls, runtime: Runtime, name: str = "store") -> Database:
        """Return the database of a store, which need not run yet.

        Args:
            runtime: where the store runs.
            name: the name of the store's actor.

        Raises:
            BadName: this cannot be a name.
            BadOption: this is no runtime.
        """
        if not isinstance(runtime, Runtime):
            raise BadOption("Database.of: runtime", runtime, "give the Runtime in which the store runs")
        key = (Database, name if isinstance(name, str) else runtime.name(name))
        database: Database | None = runtime.shared.get(key)
        if database is None:
            database = runtime.shared[key] = cls(runtime, runtime.name(name))
        return database

    def table(self, name: str) -> Table:
        """Return a table as it is now. It never changes; ask again for what comes later.

        Raises:
            NoTable: there is none of this name.
        """
        return self.root.table(name)

    def transaction(self, timeout: float | None = 5.0) -> Transaction:
        """Begin a transaction: ``async with database.transaction() as tx: ...``.

        It is committed at the end of the block, or rolled back if the block raises. See `Transaction`.

        Args:
            timeout: seconds until the block is cancelled, rolled back, and raises TimeoutError. Once the block has
                ended, the outcome of the commit is waited for, however long that takes. None for no limit.

        Raises:
            BadTime: this is no length of time.
        """
        return Transaction(self, timeout)

    async def transact(
        self, work: Callable[[Transaction], Awaitable[T]], *, attempts: int = 10, timeout: float | None = 5.0
    ) -> T:
        """Do a transaction, and again if another one was in the way.

        Args:
            work: gets the transaction; what it returns is the result. It may be called several times.
            attempts: so often at most.
            timeout: seconds for each attempt.

        Raises:
            BadOption: an argument is wrong, or the work is no ``async`` function.
            Conflict: there was another one in the way each time.
            Exception: what the work raised; nothing was done.
        """
        if not callable(work):
            raise BadOption("transact: work", work, "give an async function of a transaction")
        if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
            raise BadOption("transact: attempts", attempts, "give a whole number from 1")
        for _ in range(attempts - 1):
            try:
                return await self._once(work, timeout)
            except Conflict:
                await self.address.call(Flush(), timeout=None)  # so that the next one sees what was in the way
        return await self._once(work, timeout)

    async def _once(self, work: Callable[[Transaction], Awaitable[T]], timeout: float | None) -> T:
        async with self.transaction(timeout) as transaction:
            working = work(transaction)
            if not isawaitable(working):
                raise BadOption("transact: work", work, "give an async function of a transaction")
            return await working

    def readings(self) -> Iterator[Reading]:
        """Return its numbers, for the metrics."""
        store = ("store", self.address.key)
        root = self.root
        for name, table in root.tables.items():
            yield Reading("store_rows", "Rows of stores.", "gauge", (store, ("table", name)), len(table))
        text = "Transactions that stores have committed."
        yield Reading("store_transactions", text, "counter", (store,), root.version)
        text = "Times that a store's file could not be folded or its log copied back."
        yield Reading("store_maintenance_failures", text, "counter", (store,), self.failures)

    async def back_up(self, path: str | Path) -> None:
        """Write a copy of the whole store to a file, while it goes on being used.

        A copy that is there already is replaced once the new one is whole.

        Args:
            path: of the copy; its directory has to be there.

        Raises:
            BadOption: this is no path, or that of a file in use.
            NotAStore: there is a file, and it is not a store's.
            NotWritten: it could not be written. What was there still is.
        """
        await self.address.call(BackUp(as_path("back_up: path", path)), timeout=None)


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
