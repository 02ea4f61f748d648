"""The database: a store as its users see it, and transactions over its tables and over registries, all or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from inspect import isawaitable
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import msgspec

from foundation.options import is_a, text
from foundation.registry.directory import Directory, Prepared
from foundation.registry.messages import Register, Unregister, Update
from foundation.store.errors import (
    BadValue,
    NoTable,
    OutcomeUnknown,
    RollbackFailed,
    TooLarge,
    TransactionConflict,
    TransactionEnded,
)
from foundation.store.file import MOST_BYTES, RowChange, StoreFile, as_path
from foundation.store.keys import as_key, encoded_key
from foundation.store.messages import BackUp, Commit, CommitOutcome, Flush, RowWrite
from foundation.store.snapshot import StoreSnapshot, Table, row_of
from foundation.telemetry.collectors import MetricSample
from supervision import CallError, Name, Ref, ReplyTo, Runtime
from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.options import is_whole

T = TypeVar("T")

Compensation = Callable[[], "Awaitable[Any] | Any"]

#: Seconds to wait for a store that has ended in the middle of a commit.
OUTCOME_TIMEOUT = 30.0


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
        self.preparing: dict[CommitOutcome, Mapping[str, tuple[Any, ...]]] = {}
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
            TransactionConflict: there was another one in the way each time.
            Exception: what the work raised; nothing was done.
        """
        if not callable(work):
            raise BadOption("transact: work", work, "give an async function of a transaction")
        if not is_whole(attempts, 1):
            raise BadOption("transact: attempts", attempts, "give a whole number from 1")
        for _ in range(attempts - 1):
            try:
                return await self._once(work, timeout)
            except TransactionConflict:
                await self.address.call(Flush(), timeout=None)  # so that the next one sees what was in the way
        return await self._once(work, timeout)

    async def _once(self, work: Callable[[Transaction], Awaitable[T]], timeout: float | None) -> T:
        async with self.transaction(timeout) as transaction:
            working = work(transaction)
            if not isawaitable(working):
                raise BadOption("transact: work", work, "give an async function of a transaction")
            return await working

    def samples(self) -> Iterator[MetricSample]:
        """Return its numbers, for the metrics."""
        store = ("store", self.address.key)
        root = self.root
        for name, table in root.tables.items():
            yield MetricSample("store_rows", "Rows of stores.", "gauge", (store, ("table", name)), len(table))
        text = "Transactions that stores have committed."
        yield MetricSample("store_transactions", text, "counter", (store,), root.version)
        text = "Times that a store's file could not be folded or its log copied back."
        yield MetricSample("store_maintenance_failures", text, "counter", (store,), self.failures)

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


class Transaction:
    """A unit of work: what it writes is done as a whole, or not at all.

    It reads one snapshot of all tables, taken when it begins, and its own writes. At the end of its ``async with``
    block it is committed: if a row or a table that it has read was changed by another one meanwhile, it is refused
    with `TransactionConflict`, and nothing of it is done. So transactions have the effect of some order one after the
    other (they are serializable: Kung and Robinson, "On Optimistic Methods for Concurrency Control", 1981), and none
    ever waits for another one's block to end. If the block raises, it is rolled back: nothing was written, and the
    compensations that it has registered are run, last first.

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
        self._limit = asyncio.timeout(None if timeout is None else seconds("transaction: timeout", timeout))
        self._root: StoreSnapshot = database.root if parent is None else parent._root
        self._reads: dict[tuple[str, Any], int] = {} if parent is None else parent._reads
        self._scans: dict[str, int] = {} if parent is None else parent._scans
        self._writes: dict[tuple[str, Any], RowWrite] = {}
        self._registries: dict[str, list[Any]] = {}
        self._compensations: list[Compensation] = []
        self._open = False
        #: What became of it. While its commit is under way nobody knows.
        self._ended: Literal["no", "committed", "rolled back", "unknown"] = "no"
        #: The number of the transaction, once it is committed: 0 if it has written nothing to a table.
        self.number: int | None = None

    # -- tables --------------------------------------------------------------------------------------------------------

    def get(self, table: str, key: Any, default: Any = None) -> Any:
        """Return the value of a key, as this transaction sees it. If it can be changed, it is the caller's own copy.

        Raises:
            BadKey: this cannot be a key.
            NoTable: there is no such table.
            TransactionEnded: it has ended.
        """
        self._must_be_open()
        seen = self._root.table(table)
        key = as_key(table, key)
        transaction: Transaction | None = self
        while transaction is not None:
            written = transaction._writes.get((table, key))
            if written is not None:
                return default if written.row is None else written.row.value
            transaction = transaction._parent
        row = seen.rows.get(key)
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
        rows = dict(seen.rows.pairs())
        for (name, key), written in self._all_writes().items():
            if name == table:
                if written.row is None:
                    rows.pop(key, None)
                else:
                    rows[key] = written.row
        return ((key, row.value) for key, row in rows.items())

    def put(self, table: str, key: Any, value: Any) -> None:
        """Write a value.

        Args:
            table: its name.
            key: text, a number, bytes or a tuple of such. Equal ones are one key: ``1.0`` and ``True`` are ``1``.
            value: what msgspec can encode; of the table's type, if it has one. It may be changed afterwards, which
                changes nothing here.

        Raises:
            BadValue: the key or the value cannot be kept.
            NoTable: there is no such table.
            TransactionEnded: it has ended.
        """
        self._must_be_open()
        decoder = self._decoder(table)
        kept = as_key(table, key)
        name = encoded_key(table, kept)
        try:
            body = msgspec.msgpack.encode(value)
            row = row_of(body, decoder, 0)
        except Exception as error:
            raise BadValue(table, key, value, f"give what msgspec encodes, and the table takes ({error})") from None
        self._writes[table, kept] = RowWrite(name, body, row)

    def delete(self, table: str, key: Any) -> None:
        """Take a row out, if there is one.

        Raises:
            BadValue: this cannot be a key.
            NoTable: there is no such table.
            TransactionEnded: it has ended.
        """
        self._must_be_open()
        self._decoder(table)
        key = as_key(table, key)
        self._writes[table, key] = RowWrite(encoded_key(table, key), None, None)

    # -- registries ----------------------------------------------------------------------------------------------------

    def register(self, key: Hashable, ref: Ref, metadata: Any = None, *, registry: str = "registry") -> None:
        """Enter an actor in a registry, if and when the transaction is committed. See `Directory.register`.

        Raises:
            BadOption, BadName: the key, or the name of the registry, cannot be one.
            TransactionEnded: it has ended. What the registry refuses is raised at the end of the block.
        """
        if not is_a(ref, Ref):
            raise BadOption("register: ref", ref, "give the Ref of an actor")
        self._to(registry, Register(_hashable(key), ref, {} if metadata is None else metadata))

    def update(
        self, key: Hashable, changes: Mapping[str, Any], ref: Ref | None = None, *, registry: str = "registry"
    ) -> None:
        """Change an entry of a registry. See `register`."""
        self._to(registry, Update(_hashable(key), changes, ref))

    def unregister(self, key: Hashable, ref: Ref | None = None, *, registry: str = "registry") -> None:
        """Remove an entry of a registry. See `register`."""
        self._to(registry, Unregister(_hashable(key), ref))

    # -- side effects --------------------------------------------------------------------------------------------------

    def on_rollback(self, compensation: Compensation) -> None:
        """Have something done if the transaction is rolled back: a compensation for side effects of the block.

        Compensations are called last first; each is, also if another one fails. Once begun they are not cut off, also
        if the waiting task is cancelled: give what may hang a limit of its own. They are for what a process can make
        good while it lives: if it dies in the middle of the block, nobody calls them.

        Args:
            compensation: takes no arguments; plain or ``async``.

        Raises:
            BadOption: it cannot be called.
            TransactionEnded: it has ended.
        """
        self._must_be_open()
        self._compensations.append(_callable("on_rollback: compensation", compensation))

    async def effect(self, do: Callable[[], Awaitable[T] | T], undo: Callable[[T], Awaitable[Any] | Any]) -> T:
        """Do something elsewhere, which is undone if the transaction is rolled back, also if that was meanwhile.

        Args:
            do: plain or ``async``. If it is cut off before it returns, what it has begun is its own to make good.
            undo: gets what ``do`` returned.

        Returns:
            What ``do`` returned.

        Raises:
            BadOption: one of them cannot be called; nothing was done.
            TransactionEnded: it has ended, and what was done is undone.
        """
        self._must_be_open()
        _callable("effect: undo", undo)
        result = _callable("effect: do", do)()
        done: Any = await result if isawaitable(result) else result
        await self._keep(lambda: undo(done))
        return done  # type: ignore[no-any-return]

    async def _keep(self, undo: Compensation) -> None:
        """Note what undoes an effect; if it is too late for that, do it."""
        if self._ended == "committed":
            if self._parent is not None:
                await self._parent._keep(undo)
            return
        self._compensations.append(undo)
        if self._ended == "rolled back":
            ended = TransactionEnded("the transaction was rolled back before this effect was done; it is undone")
            await self._roll_back(ended)
            raise ended

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
        if self._open or self._ended != "no":
            raise TransactionEnded("a transaction is for one block")
        if self._parent is None:
            self._root = self._database.root
        else:
            self._parent._must_be_open()
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
            if self._ended == "no":
                self._ended = "rolled back"
                await self._roll_back(failed)
            if failed is not error:
                raise failed
        return None

    async def _end(self) -> None:
        parent = self._parent
        if parent is not None:
            parent._must_be_open()
            parent._writes.update(self._writes)
            for name, writes in self._registries.items():
                parent._registries.setdefault(name, []).extend(writes)
            parent._compensations += self._compensations
        elif self._writes or self._registries:
            registries = {name: tuple(writes) for name, writes in self._registries.items()}
            self._must_not_be_too_large()
            await self._committed(Commit(self._reads, self._scans, self._writes, registries, CommitOutcome()))
        self._ended = "committed"

    async def _committed(self, commit: Commit) -> None:
        """Wait for the outcome of a commit, also if the waiting task is cancelled or the store restarted meanwhile."""
        call = self._database.address.call(commit, timeout=None)
        self._ended = "unknown"
        cancelled = await _outlast(call)
        refused = asyncio.CancelledError() if call.cancelled() else call.exception()
        if isinstance(refused, CallError) and commit.outcome.taken:
            cancelled = await self._found_out(commit.outcome) or cancelled
            refused = None if commit.outcome.decided.result() else refused
        self._ended = "no" if refused is not None else "committed"
        if refused is None:
            self.number = commit.outcome.number
        if cancelled is not None or refused is not None:
            raise cancelled or refused  # type: ignore[misc]

    async def _found_out(self, outcome: CommitOutcome) -> asyncio.CancelledError | None:
        """Wait until the next incarnation of the store knows from its journal what was done.

        Raises:
            OutcomeUnknown: there is none.
        """
        patience = asyncio.ensure_future(self._database.runtime.sleep(OUTCOME_TIMEOUT))
        cancelled = await _outlast(outcome.decided, patience)
        patience.cancel()
        if not outcome.decided.done():
            unknown = OutcomeUnknown(f"transaction {outcome.number}: the store ended, and is not back")
            raise cancelled or unknown from unknown
        return cancelled

    async def _roll_back(self, why: BaseException) -> None:
        """Call the compensations, also if the waiting task is cancelled meanwhile."""
        if not self._compensations:
            return
        task = asyncio.ensure_future(self._compensate())
        self._database.rolling_back.add(task)
        task.add_done_callback(self._database.rolling_back.discard)
        if isinstance(why, GeneratorExit):
            return  # this code is being closed, and cannot wait
        cancelled = await _outlast(task)
        errors = task.result()
        if errors:
            raise RollbackFailed(errors) from why
        if cancelled is not None:
            raise cancelled

    async def _compensate(self) -> list[BaseException]:
        errors: list[BaseException] = []
        while self._compensations:
            try:
                result = self._compensations.pop()()
                if isawaitable(result):
                    await result
            except (Exception, asyncio.CancelledError) as error:
                errors.append(error)
        return errors

    # -- parts ---------------------------------------------------------------------------------------------------------

    def _must_be_open(self) -> None:
        if not self._open:
            raise TransactionEnded("the transaction has not begun, or has ended: use it inside its `async with` block")

    def _all_writes(self) -> dict[tuple[str, Any], RowWrite]:
        return self._writes if self._parent is None else {**self._parent._all_writes(), **self._writes}

    def _must_not_be_too_large(self) -> None:
        size = sum(len(written.key) + len(written.body or b"") + 64 for written in self._writes.values())
        if size > MOST_BYTES:
            raise TooLarge(size, MOST_BYTES)

    def _decoder(self, table: str) -> msgspec.msgpack.Decoder[Any]:
        try:
            return self._database.types[table]
        except Exception:
            raise NoTable(table, sorted(self._database.types)) from None

    def _to(self, registry: str, write: Any) -> None:
        self._must_be_open()
        key = Directory.of(self._database.runtime, text("transaction: registry", registry)).address.key
        self._registries.setdefault(key, []).append(write)


async def _outlast(*futures: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until one of some futures is done, also if the waiting task is cancelled; return the cancellation then."""
    cancelled: asyncio.CancelledError | None = None
    while not any(future.done() for future in futures):
        try:
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError as late:
            cancelled = late
    return cancelled


def _hashable(key: Any) -> Any:
    try:
        hash(key)
    except Exception:
        raise BadOption("registry: key", key, "give something that can be a dictionary key") from None
    return key


def _callable(where: str, function: Any) -> Any:
    if not callable(function):
        raise BadOption(where, function, "give a function")
    return function


class InFlight:
    """A transaction that is committed, and not on the disk yet."""

    __slots__ = ("number", "outcome", "prepared", "reply", "root", "writes")

    def __init__(
        self,
        number: int,
        writes: Mapping[tuple[str, Any], RowWrite],
        prepared: list[Prepared],
        root: StoreSnapshot,
        reply: ReplyTo[int],
        outcome: CommitOutcome,
    ) -> None:
        self.outcome = outcome
        self.number = number
        self.writes = writes
        self.prepared = prepared
        self.root = root
        self.reply = reply

    def changes(self) -> Iterator[RowChange]:
        """Return what the journal notes of it."""
        return ((name, written.key, written.body) for (name, _), written in self.writes.items())
