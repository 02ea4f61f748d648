"""The store's actor: the only writer of its tables."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

import msgspec

from foundation.events import StoreMaintenanceFailed, StoreOpened
from foundation.naming import own_name
from foundation.registry.directory import Directory, Prepared
from foundation.registry.messages import Decided, Prepare
from foundation.store.database import Database, InFlight
from foundation.store.disk import DISK, Disk
from foundation.store.errors import (
    NoTable,
    NotWritten,
    RowUnreadable,
    StoreError,
    StoreUnreachable,
    TransactionConflict,
)
from foundation.store.file import Content, Sync, as_path
from foundation.store.keys import decoded_key
from foundation.store.messages import (
    Append,
    Appended,
    BackUp,
    Commit,
    CommitOutcome,
    Flush,
    Maintain,
    MaintainAgain,
    Maintained,
    OpenFile,
    RowWrite,
    is_well_formed,
)
from foundation.store.snapshot import Row, StoreSnapshot, Table, row_of
from foundation.store.trie import Trie
from foundation.store.writer import Writer
from supervision import Abnormal, Actor, Exit, ExitReason, Ref, Refuse, ReplyTo, handle
from supervision.errors import BadOption
from supervision.options import is_whole

#: Values of a table are of this type; None for anything that msgspec encodes.
Types = Mapping[str, "type[Any] | None"]
#: Seconds after which maintenance that has failed is tried again.
AGAIN = 10.0


class Store(Actor):
    """Tables that outlive the process: every transaction that was acknowledged is there again after ``kill -9``.

    It is found by its name, and so is its `Database`: ``Database.of(runtime, name)``. Started without a name, it takes
    the name ``store``.

    A commit is checked against what the transaction has read, written to the journal, and only then shown to readers
    and acknowledged. Commits that wait while the disk is busy are written together. What keeps the file short is done
    afterwards; if that fails, a `StoreMaintenanceFailed` event says so, and it is tried again.

    Args:
        path: of the file; it and its directory are made if they are missing, for their owner alone.
        tables: the names of the tables; or a mapping from name to the type of its values, which are checked.
        sync: when a commit is safe. ``full``: once it is acknowledged, on the disk, whatever happens. ``normal``: it
            survives the death of the process; when the machine dies, the last ones may be missing, none in part.
            ``off``: as ``normal``, but a machine that dies may leave a damaged file.
        fold_after: after so many transactions the journal is folded into rows.
        damaged: what to do at the start with a journal that is damaged: ``refuse`` to start, or ``cut`` it before the
            damage, and say how much was lost.
        disk: through which all of its writing goes; see `Disk`.

    Raises:
        BadOption: an argument is wrong.
        JournalDamaged: the file is not what was written.
        NotAStore, NewerFormat: it is another application's, or a later version's.
        RowUnreadable: a row is not of its table's type.
        StoreLocked: another store has the file open.
        StoreUnreachable: it cannot be made or opened.
    """

    infrastructure = True
    trap_exit = True

    def __init__(
        self,
        path: str | Path,
        tables: Iterable[str] | Types,
        *,
        sync: Sync = "full",
        fold_after: int = 1000,
        damaged: Literal["refuse", "cut"] = "refuse",
        disk: Disk = DISK,
    ) -> None:
        self._decoders = _decoders(tables)
        if sync not in get_args(Sync):
            raise BadOption("Store: sync", sync, f"there are {', '.join(get_args(Sync))}")
        if damaged not in ("refuse", "cut"):
            raise BadOption("Store: damaged", damaged, "give 'refuse' or 'cut'")
        if not is_whole(fold_after, 1):
            raise BadOption("Store: fold_after", fold_after, "give a whole number from 1")
        if not isinstance(disk, Disk):
            raise BadOption("Store: disk", disk, "give a Disk")
        self._path = as_path("Store: path", path)
        self._options: tuple[Any, ...] = (self._path, sync, fold_after, damaged, disk)
        #: Committed, and on its way to the disk; and what comes after that.
        self._on_its_way: list[InFlight] = []
        self._waiting: list[InFlight] = []
        self._appending: asyncio.Future[bool] | None = None
        self._flushing: list[ReplyTo[None]] = []
        self._maintaining = False

    async def init(self) -> None:
        """Read the file."""
        self._database = Database.of(self.runtime, own_name(self, "store"))
        self._writer: Ref = await self.spawn_link(Writer, self._database.opened, *self._options)
        try:
            content = await self._writer.call(OpenFile(), timeout=None)
            root = self._read(content)
            self._resolve(content)
        except StoreError as error:
            await self._writer.stop()
            raise Refuse(error) from error
        self._database.types = self._decoders
        self._database.root = self._working = root
        self._tell_of(content)

    def _tell_of(self, content: Content) -> None:
        self.runtime.events.emit(
            StoreOpened,
            ref=self.ref,
            path=self.ref.path,
            kind=type(self).__name__,
            file=str(self._path),
            version=content.sequence,
            replayed=content.replayed,
            unfinished_frames=content.tail.unfinished,
            torn_bytes=content.tail.torn_bytes,
            cut=content.cut,
            lost=content.lost,
            migrated_from=content.migrated_from,
        )
        if content.trouble is not None:
            self._maintenance_failed(content.trouble)

    def _read(self, content: Content) -> StoreSnapshot:
        tables: dict[str, Table] = {}
        for name in {**self._decoders, **content.rows}:
            decoder = self._decoders.get(name, _ANYTHING)
            rows = {
                decoded_key(key): _read_row(name, key, body, decoder, content.sequence)
                for key, body in content.rows.get(name, {}).items()
            }
            tables[name] = Table(name, Trie(rows), content.sequence)
        return StoreSnapshot(content.sequence, MappingProxyType(tables))

    def _resolve(self, content: Content) -> None:
        """Decide on what was under way when the last incarnation ended: the journal knows which of it was committed.

        Raises:
            StoreUnreachable: something of it is in the file, but the disk does not take it: it is not safe yet.
        """
        unsafe = content.trouble is not None and self._options[1] == "full"
        if unsafe and any(transaction.number <= content.sequence for transaction in self._database.in_flight):
            raise StoreUnreachable(self._path, f"transactions under way are not safe: {content.trouble}")
        for transaction in self._database.in_flight:
            self._decide(transaction, publish=transaction.number <= content.sequence)
        self._database.in_flight.clear()
        for registries in self._database.preparing.values():
            self._undo(registries)
        self._database.preparing.clear()

    # -- commits -----------------------------------------------------------------------------------------------------

    @handle
    async def commit(self, request: Commit) -> int:
        """Check a transaction, and see to it that it is written, shown and acknowledged, in this order."""
        number = self._working.version + 1
        working = self._checked(request, number)
        prepared = await self._prepare(request.registries, request.outcome) if request.registries else []
        if not request.writes:
            for one in prepared:
                one.publish()
            self._go_on(prepared)
            return self._working.version
        self._working = working
        outcome = request.outcome
        outcome.taken, outcome.number = True, number
        for one in prepared:
            one.coordinator = self._database.address
        transaction = InFlight(number, request.writes, prepared, self._working, self.defer_reply(), outcome)
        self._waiting.append(transaction)
        self._database.in_flight.append(transaction)
        if not self._on_its_way:
            self._write()
        return None  # type: ignore[return-value]

    def _checked(self, request: Commit, number: int) -> StoreSnapshot:
        """Look at a request whole, before anything changes; return the tables as they will be.

        Raises:
            Refuse: with `TransactionConflict`; with BadOption, if it was not made by a `Transaction`.
        """
        try:
            if not is_well_formed(request):
                raise TypeError("it is not what a transaction sends")  # as whatever else is wrong with it
            self._check(request)
            return _with(self._working, request.writes, number)
        except Refuse:
            raise
        except Exception as error:
            raise Refuse(BadOption("Commit", request, "use Database.transaction")) from error

    def _check(self, request: Commit) -> None:
        """Make sure that nothing of what was read has changed, also not by what is on its way to the disk.

        Raises:
            Refuse: with `TransactionConflict`.
        """
        for (name, key), version in request.reads.items():
            row = self._table(name).rows.get(key)
            if (0 if row is None else row.version) != version:
                raise Refuse(TransactionConflict(name, key))
        for name, version in request.scans.items():
            if self._table(name).version != version:
                raise Refuse(TransactionConflict(name, None))
        for name, _ in request.writes:
            self._table(name)

    def _table(self, name: str) -> Table:
        try:
            return self._working.table(name)
        except NoTable as error:  # the store was started anew, with other tables
            raise Refuse(error) from error

    async def _prepare(self, registries: Mapping[str, tuple[Any, ...]], outcome: CommitOutcome) -> list[Prepared]:
        """Let each registry do its part, unseen. In the order of their names, so that two never wait for each other."""
        prepared: list[Prepared] = []
        self._database.preparing[outcome] = registries
        try:
            for name in sorted(registries):
                done = await Directory.of(self.runtime, name).address.call(Prepare(registries[name]))
                prepared.append(done)
        except Exception as error:
            self._undo(registries)
            del self._database.preparing[outcome]
            raise Refuse(error) from error
        del self._database.preparing[outcome]  # not if it is killed: then the next incarnation undoes it
        return prepared

    def _undo(self, registries: Mapping[str, tuple[Any, ...]]) -> None:
        """Undo what registries have prepared for a transaction, also where the answer did not arrive."""
        for name, writes in registries.items():
            directory = Directory.of(self.runtime, name)
            prepared = directory.prepared
            if prepared is not None and prepared.writes is writes:
                prepared.undo()
                directory.address.cast(Decided())

    def _write(self) -> None:
        """Send what waits to the disk."""
        self._on_its_way, self._waiting = self._waiting, []
        transactions = tuple(tuple(transaction.changes()) for transaction in self._on_its_way)
        self._appending = call = self._writer.call(Append(transactions), timeout=None)
        call.add_done_callback(self._tell)

    def _tell(self, call: asyncio.Future[bool]) -> None:
        self.ref.cast(_appended(call))

    @handle
    def appended(self, message: Appended) -> None:
        """Show what is on the disk, and acknowledge it; or take back what is not, and all that was built on it."""
        if not self._settle(message):
            self.stop(Abnormal(f"nobody knows what was written: {message.error!r}"))
        elif self._waiting:
            self._write()
        else:
            flushing, self._flushing = self._flushing, []
            for reply in flushing:
                reply.reply(None)
        if message.due:
            self._maintain()

    def _settle(self, message: Appended) -> bool:
        """Decide on what was on its way. Return False if that is for the next incarnation, which reads the journal."""
        if message.error is not None and not isinstance(message.error, NotWritten):
            return False
        written, self._on_its_way = self._on_its_way, []
        if message.error is None:
            self._database.root = written[-1].root
            for transaction in written:
                self._decide(transaction, publish=True)
                transaction.reply.reply(transaction.number)
        else:
            written, self._waiting = written + self._waiting, []
            self._working = self._database.root
            for transaction in written:
                self._decide(transaction, publish=False)
                transaction.reply.fail(NotWritten(f"the transaction was not done: {message.error}"))
        del self._database.in_flight[: len(written)]
        return True

    async def terminate(self, reason: ExitReason) -> None:
        """Bring to the disk, and answer, what is on its way there."""
        while self._on_its_way:
            assert self._appending is not None
            await asyncio.wait([self._appending])
            if not self._settle(_appended(self._appending)):
                return
            if self._waiting:
                self._write()

    def _decide(self, transaction: InFlight, *, publish: bool) -> None:
        transaction.outcome.decide(publish)
        for one in transaction.prepared:
            one.publish() if publish else one.undo()
        self._go_on(transaction.prepared)

    def _go_on(self, prepared: list[Prepared]) -> None:
        for one in prepared:
            one.directory.address.cast(Decided())

    @handle
    def flush(self, request: Flush) -> None:
        """Wait for the disk."""
        if self._on_its_way:
            reply: ReplyTo[None] = self.defer_reply()
            self._flushing.append(reply)
            reply.on_abandoned(lambda: self._flushing.remove(reply) if reply in self._flushing else None)

    # -- the file ----------------------------------------------------------------------------------------------------

    @handle
    async def back_up(self, request: BackUp) -> None:
        """Write a copy of the file."""
        try:
            path = as_path("back_up: path", request.path)
            await self._writer.call(BackUp(path), timeout=None)
        except (BadOption, StoreError) as error:
            raise Refuse(error) from error

    def _maintain(self) -> None:
        if not self._maintaining:
            self._maintaining = True
            call = self._writer.call(Maintain(), timeout=None)
            call.add_done_callback(self._tell_of_maintenance)

    def _tell_of_maintenance(self, call: asyncio.Future[None]) -> None:
        self.ref.cast(Maintained(_error_of(call)))

    @handle
    def maintained(self, message: Maintained) -> None:
        """Go on; or say that it failed."""
        if message.error is None:
            self._maintaining = False
        else:
            self._maintenance_failed(str(message.error))

    def _maintenance_failed(self, why: str) -> None:
        self._maintaining = True
        self._database.failures += 1
        self.runtime.events.emit(
            StoreMaintenanceFailed,
            ref=self.ref,
            path=self.ref.path,
            kind=type(self).__name__,
            file=str(self._path),
            why=why,
        )
        self.send_after(AGAIN, MaintainAgain())

    @handle
    def maintain_again(self, message: MaintainAgain) -> None:
        """Try once more."""
        self._maintaining = False
        self._maintain()

    @handle
    def writer_ended(self, message: Exit) -> None:
        """End as well: what the writer knew of the file is gone, and the next incarnation reads it again."""
        self.stop(message.reason)


def _error_of(call: asyncio.Future[Any]) -> BaseException | None:
    return asyncio.CancelledError() if call.cancelled() else call.exception()


def _appended(call: asyncio.Future[bool]) -> Appended:
    error = _error_of(call)
    return Appended(error is None and call.result(), error)


#: For values of a table without a type.
_ANYTHING: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder()


def _decoders(tables: object) -> Mapping[str, msgspec.msgpack.Decoder[Any]]:
    """Return what decodes the values of each table.

    Raises:
        BadOption: these are no tables.
    """
    if not isinstance(tables, (Mapping, Sequence, AbstractSet)) or isinstance(tables, (str, bytes)) or not tables:
        raise BadOption("Store: tables", tables, "give the names of the tables")
    types = tables if isinstance(tables, Mapping) else dict.fromkeys(map(_table_name, tables))
    return MappingProxyType({_table_name(name): _decoder(name, kind) for name, kind in types.items()})


def _table_name(name: object) -> str:
    if type(name) is not str or not name or not name.isprintable():
        raise BadOption("Store: tables", name, "give the names of the tables, as printable text")
    return name


def _decoder(name: str, kind: Any) -> msgspec.msgpack.Decoder[Any]:
    try:
        return _ANYTHING if kind is None else msgspec.msgpack.Decoder(kind)
    except Exception as error:
        raise BadOption(
            f"Store: tables[{name!r}]", kind, f"give a type that msgspec knows, or None ({error})"
        ) from None


def _read_row(table: str, key: bytes, body: bytes, decoder: msgspec.msgpack.Decoder[Any], sequence: int) -> Row:
    try:
        return row_of(body, decoder, sequence)
    except Exception as error:
        raise RowUnreadable(table, decoded_key(key), str(error)) from error


def _with(root: StoreSnapshot, writes: Mapping[tuple[str, Any], RowWrite], number: int) -> StoreSnapshot:
    put: dict[str, dict[Any, Row]] = {}
    removed: dict[str, list[Any]] = {}
    for (name, key), written in writes.items():
        if written.row is None:
            removed.setdefault(name, []).append(key)
        else:
            put.setdefault(name, {})[key] = Row(written.row.kept, number, written.row.decoder)
    tables = {
        name: Table(name, root.table(name).rows.changed(put.get(name, {}), removed.get(name, ())), number)
        for name in {**put, **removed}
    }
    return StoreSnapshot(number, MappingProxyType({**root.tables, **tables}))
