"""Transactions: several tables and registries, all or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from inspect import isawaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import msgspec

from foundation.registry.directory import Directory
from foundation.registry.messages import Register, Unregister, Update
from foundation.store.errors import BadValue, NoTable, OutcomeUnknown, RollbackFailed, TransactionEnded
from foundation.store.messages import Commit, Outcome, Written
from supervision import CallError, Ref

if TYPE_CHECKING:
    from foundation.store.database import Database
    from foundation.store.snapshot import StoreSnapshot

T = TypeVar("T")
Compensation = Callable[[], "Awaitable[Any] | Any"]
#: Seconds to wait for a store that has ended in the middle of a commit.
PATIENCE = 30.0


class Transaction:
    """A unit of work: what it writes is done as a whole, or not at all.

    It reads one snapshot of all tables, taken when it begins, and its own writes. At the end of its ``async with``
    block it is committed: if a row or a table that it has read was changed by another one meanwhile, it is refused
    with `Conflict`, and nothing of it is done. So transactions have the effect of some order one after the other (they
    are serializable: Kung and Robinson, "On Optimistic Methods for Concurrency Control", 1981), and none ever waits for
    another one's block to end. If the block raises, it is rolled back: nothing was written, and what it did elsewhere
    is made good by the compensations that it has registered, last first.

    >>> import asyncio, tempfile
    >>> from foundation.store import Database, Store
    >>> from supervision import Runtime
    >>> async def main() -> tuple[int, int]:
    ...     async with Runtime() as runtime:
    ...         with tempfile.TemporaryDirectory() as folder:
    ...             store = await runtime.spawn(Store, f"{folder}/bank.db", ["accounts"])
    ...             bank = Database.of(runtime)
    ...             async with bank.transaction() as tx:
    ...                 tx.put("accounts", "ada", 100)
    ...                 tx.put("accounts", "bob", 0)
    ...             async with bank.transaction() as tx:
    ...                 tx.put("accounts", "ada", tx.get("accounts", "ada") - 30)
    ...                 tx.put("accounts", "bob", tx.get("accounts", "bob") + 30)
    ...             await store.stop()
    ...             return bank.table("accounts").get("ada"), bank.table("accounts").get("bob")
    >>> asyncio.run(main())
    (70, 30)
    """

    def __init__(self, database: Database, timeout: float | None, parent: Transaction | None = None) -> None:
        self._database = database
        self._parent = parent
        self._limit = asyncio.timeout(timeout)
        self._root: StoreSnapshot = database.root if parent is None else parent._root
        self._reads: dict[tuple[str, Any], int] = {} if parent is None else parent._reads
        self._scans: dict[str, int] = {} if parent is None else parent._scans
        self._writes: dict[tuple[str, Any], Written] = {}
        self._registries: dict[str, list[Any]] = {}
        self._compensations: list[Compensation] = []
        self._open = False
        #: The number of the transaction, once it is committed: 0 if it has written nothing to a table.
        self.number: int | None = None

    # -- tables --------------------------------------------------------------------------------------------------------

    def get(self, table: str, key: Any, default: Any = None) -> Any:
        """Return the value of a key, as this transaction sees it.

        Raises:
            NoTable: there is no such table.
            TransactionEnded: it has ended.
        """
        self._must_be_open()
        rows = self._root.table(table).rows
        transaction: Transaction | None = self
        while transaction is not None:
            written = transaction._writes.get((table, key))
            if written is not None:
                return default if written.body is None else written.value
            transaction = transaction._parent
        row = rows.get(key)
        self._reads[table, key] = 0 if row is None else row.version
        return default if row is None else row.value

    def items(self, table: str) -> Iterator[tuple[Any, Any]]:
        """Return all keys of a table with their values, in no order, as this transaction sees them.

        From then on any change of the table by others is a conflict.

        Raises:
            NoTable: there is no such table.
            TransactionEnded: it has ended.
        """
        self._must_be_open()
        seen = self._root.table(table)
        self._scans[table] = seen.version
        rows = dict(seen.items())
        for (name, key), written in self._all_writes().items():
            if name == table:
                if written.body is None:
                    rows.pop(key, None)
                else:
                    rows[key] = written.value
        return iter(rows.items())

    def put(self, table: str, key: Any, value: Any) -> None:
        """Write a value.

        Args:
            table: its name.
            key: text, a number, bytes or a tuple of such.
            value: what msgspec can encode; of the table's type, if it has one.

        Raises:
            BadValue: the key or the value cannot be kept.
            NoTable: there is no such table.
            TransactionEnded: it has ended.
        """
        self._must_be_open()
        kind = self._type(table)
        try:
            body = msgspec.msgpack.encode(value)
            kept = msgspec.msgpack.decode(body, type=kind)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadValue(table, key, value, str(error)) from None
        self._writes[table, key] = Written(self._key(table, key), body, kept)

    def delete(self, table: str, key: Any) -> None:
        """Take a row out, if there is one.

        Raises:
            BadValue: this cannot be a key.
            NoTable: there is no such table.
            TransactionEnded: it has ended.
        """
        self._must_be_open()
        self._type(table)
        self._writes[table, key] = Written(self._key(table, key), None, None)

    # -- registries ----------------------------------------------------------------------------------------------------

    def register(self, key: Hashable, ref: Ref, metadata: Any = None, *, registry: str = "registry") -> None:
        """Enter an actor in a registry, if and when the transaction is committed. See `Directory.register`.

        Raises:
            TransactionEnded: it has ended. What the registry refuses is raised at the end of the block.
        """
        self._to(registry, Register(key, ref, {} if metadata is None else metadata))

    def update(
        self, key: Hashable, changes: Mapping[str, Any], ref: Ref | None = None, *, registry: str = "registry"
    ) -> None:
        """Change an entry of a registry. See `register`."""
        self._to(registry, Update(key, changes, ref))

    def unregister(self, key: Hashable, ref: Ref | None = None, *, registry: str = "registry") -> None:
        """Remove an entry of a registry. See `register`."""
        self._to(registry, Unregister(key, ref))

    # -- side effects --------------------------------------------------------------------------------------------------

    def on_rollback(self, compensation: Compensation) -> None:
        """Have something done if the transaction is rolled back: what makes good what its block did elsewhere.

        Compensations are called last first; each is, also if another one fails. They are for what a process can make
        good while it lives: if it dies in the middle of the block, nobody calls them.

        Args:
            compensation: takes no arguments; plain or ``async``.

        Raises:
            TransactionEnded: it has ended.
        """
        self._must_be_open()
        self._compensations.append(compensation)

    async def effect(self, do: Callable[[], Awaitable[T] | T], undo: Callable[[T], Awaitable[Any] | Any]) -> T:
        """Do something elsewhere, which is undone if the transaction is rolled back.

        Args:
            do: plain or ``async``.
            undo: gets what ``do`` returned.

        Returns:
            What ``do`` returned.
        """
        self._must_be_open()
        result = do()
        done: Any = await result if isawaitable(result) else result
        self._compensations.append(lambda: undo(done))
        return done  # type: ignore[no-any-return]

    # -- nesting, begin and end ----------------------------------------------------------------------------------------

    def nested(self) -> Transaction:
        """Begin a part: if its block raises, what it has written is forgotten, and its own compensations are called.

        Whoever catches what it raised may go on with the rest. Its writes count when the outermost block ends.

        Raises:
            TransactionEnded: it has ended.
        """
        self._must_be_open()
        return Transaction(self._database, None, self)

    async def __aenter__(self) -> Self:
        if self._open or self.number is not None:
            raise TransactionEnded("a transaction is for one block")
        await self._limit.__aenter__()
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        self._open, failed = False, error
        try:
            await self._limit.__aexit__(kind, error, traceback)
        except TimeoutError as late:
            failed = late
        if failed is None:
            try:
                await self._end()
            except BaseException as refused:
                failed = refused
        if failed is not None:
            if self.number is None and not isinstance(failed, OutcomeUnknown):
                await self._roll_back(failed)
            if failed is not error:
                raise failed
        return None

    async def _end(self) -> None:
        parent = self._parent
        if parent is not None:
            parent._writes.update(self._writes)
            for name, writes in self._registries.items():
                parent._registries.setdefault(name, []).extend(writes)
            parent._compensations += self._compensations
        elif self._writes or self._registries:
            registries = {name: tuple(writes) for name, writes in self._registries.items()}
            commit = Commit(self._reads, self._scans, self._writes, registries, Outcome())
            await self._committed(commit)

    async def _committed(self, commit: Commit) -> None:
        """Wait for the outcome of a commit, also if the waiting task is cancelled or the store restarted meanwhile."""
        call = self._database.address.call(commit, timeout=None)
        cancelled: asyncio.CancelledError | None = None
        while not call.done():
            try:
                await asyncio.wait([call])
            except asyncio.CancelledError as late:
                cancelled = late
        refused = call.exception()
        if isinstance(refused, CallError) and commit.outcome.taken and await self._found_out(commit.outcome):
            refused = None
        if refused is not None:
            raise cancelled or refused
        self.number = commit.outcome.number
        if cancelled is not None:
            raise cancelled

    async def _found_out(self, outcome: Outcome) -> bool:
        """Wait until the next incarnation of the store knows from its journal what was done."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.shield(outcome.decided)
        except TimeoutError:
            raise OutcomeUnknown(f"transaction {outcome.number}: the store ended, and is not back") from None

    async def _roll_back(self, why: BaseException) -> None:
        errors: list[Exception] = []
        for compensation in reversed(self._compensations):
            try:
                result = compensation()
                if isawaitable(result):
                    await result
            except Exception as error:
                errors.append(error)
        self._compensations.clear()
        if errors:
            raise RollbackFailed(errors) from why

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _must_be_open(self) -> None:
        if not self._open:
            raise TransactionEnded("the transaction has not begun, or has ended: use it inside its `async with` block")

    def _all_writes(self) -> dict[tuple[str, Any], Written]:
        return self._writes if self._parent is None else {**self._parent._all_writes(), **self._writes}

    def _type(self, table: str) -> Any:
        try:
            return self._database.types[table]
        except KeyError:
            raise NoTable(table, sorted(self._database.types)) from None

    def _key(self, table: str, key: Any) -> bytes:
        try:
            hash(key)
            encoded = msgspec.msgpack.encode(key)
            if isinstance(key, (str, int, float, bytes, tuple)) and as_key(msgspec.msgpack.decode(encoded)) == key:
                return encoded
        except (TypeError, ValueError, OverflowError):
            pass
        raise BadValue(table, key, None, "a key is text, a number, bytes, or a tuple of these")

    def _to(self, registry: str, write: Any) -> None:
        self._must_be_open()
        self._registries.setdefault(Directory.of(self._database.runtime, registry).address.key, []).append(write)


def as_key(value: Any) -> Any:
    """Return a decoded key as it was: a list stands for a tuple."""
    return tuple(map(as_key, value)) if isinstance(value, list) else value
