"""The store's actor: the only writer of its tables."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
from immutables import Map

from foundation.events import StoreOpened
from foundation.naming import own_name
from foundation.registry.directory import Directory
from foundation.registry.messages import Decided, Prepare
from foundation.registry.prepared import Prepared
from foundation.store.database import Database, InFlight
from foundation.store.errors import Conflict, JournalDamaged, NotWritten, StoreLocked, StoreUnreachable
from foundation.store.file import Content, Sync
from foundation.store.messages import Append, Appended, BackUp, Commit, Flush, Open, Written
from foundation.store.snapshot import Row, StoreSnapshot, Table
from foundation.store.transaction import as_key
from foundation.store.writer import Writer
from supervision import Actor, Exit, Ref, Refuse, ReplyTo, handle
from supervision.errors import BadOption

#: Values of a table are of this type; None for anything that msgspec encodes.
Types = Mapping[str, "type[Any] | None"]


class Store(Actor):
    """Tables that outlive the process: every transaction that was acknowledged is there again after ``kill -9``.

    It is found by its name, and so is its `Database`: ``Database.of(runtime, name)``. Started without a name, it takes
    the name ``store``.

    A commit is checked against what the transaction has read, written to the journal, and only then shown to readers
    and acknowledged. Commits that wait while the disk is busy are written together.

    Args:
        path: of the file; it and its directory are made if they are missing.
        tables: the names of the tables; or a mapping from name to the type of its values, which are checked.
        sync: when a commit is safe. ``full``: once it is acknowledged, on the disk, whatever happens. ``normal``: it
            survives the death of the process; when the machine dies, the last ones may be missing, none in part.
            ``off``: as ``normal``, but a machine that dies may leave a damaged file.
        fold_after: after so many transactions the journal is folded into rows.
        damaged: what to do at the start with a journal that is damaged: ``refuse`` to start, or ``cut`` it before the
            damage, and say how much was lost.

    Raises:
        BadOption: an argument is wrong.
        JournalDamaged: the file is not what was written.
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
    ) -> None:
        self._types: Types = dict(tables) if isinstance(tables, Mapping) else dict.fromkeys(tables)
        if not self._types or not all(isinstance(name, str) and name for name in self._types):
            raise BadOption("Store: tables", tables, "give the names of the tables")
        if sync not in get_args(Sync):
            raise BadOption("Store: sync", sync, f"there are {', '.join(get_args(Sync))}")
        if damaged not in ("refuse", "cut"):
            raise BadOption("Store: damaged", damaged, "give 'refuse' or 'cut'")
        if not isinstance(fold_after, int) or isinstance(fold_after, bool) or fold_after < 1:
            raise BadOption("Store: fold_after", fold_after, "give a whole number from 1")
        self._options: tuple[Any, ...] = (Path(path), sync, fold_after, damaged)
        #: Committed, and on its way to the disk; and what comes after that.
        self._on_its_way: list[InFlight] = []
        self._waiting: list[InFlight] = []
        self._flushing: list[ReplyTo[None]] = []

    async def init(self) -> None:
        """Read the file."""
        self._database = Database.of(self.runtime, own_name(self, "store"))
        self._writer: Ref = await self.spawn_link(Writer, self._database.opened, *self._options)
        try:
            content = await self._writer.call(Open(), timeout=None)
        except (JournalDamaged, StoreLocked, StoreUnreachable) as error:
            await self._writer.stop()
            raise Refuse(error) from error
        root = self._read(content)
        self._resolve(content.sequence)
        self._database.types = {name: kind or Any for name, kind in self._types.items()}
        self._database.root = self._working = root
        self.runtime.events.emit(
            StoreOpened,
            ref=self.ref,
            path=self.ref.path,
            kind=type(self).__name__,
            file=str(self._options[0]),
            version=content.sequence,
            replayed=content.replayed,
            unfinished_frames=content.tail.unfinished,
            torn_bytes=content.tail.torn_bytes,
            cut=content.cut,
        )

    def _read(self, content: Content) -> StoreSnapshot:
        tables: dict[str, Table] = {}
        for name in {**self._types, **content.rows}:
            kind = self._types.get(name) or Any
            rows = {
                as_key(msgspec.msgpack.decode(key)): Row(msgspec.msgpack.decode(body, type=kind), content.sequence)
                for key, body in content.rows.get(name, {}).items()
            }
            tables[name] = Table(Map(rows), content.sequence)
        return StoreSnapshot(content.sequence, Map(tables))

    def _resolve(self, sequence: int) -> None:
        """Decide on what was under way when the last incarnation ended: the journal knows which of it was committed."""
        for transaction in self._database.in_flight:
            self._decide(transaction, publish=transaction.number <= sequence)
        self._database.in_flight.clear()

    # -- commits -----------------------------------------------------------------------------------------------------

    @handle
    async def commit(self, request: Commit) -> int:
        """Check a transaction, and see to it that it is written, shown and acknowledged, in this order."""
        self._check(request)
        prepared = await self._prepare(request.registries)
        if not request.writes:
            for one in prepared:
                one.publish()
            self._go_on(prepared)
            return self._working.version
        number = self._working.version + 1
        self._working = _with(self._working, request.writes, number)
        outcome = request.outcome
        outcome.taken, outcome.number = True, number
        transaction = InFlight(number, request.writes, prepared, self._working, self.defer_reply(), outcome)
        self._waiting.append(transaction)
        self._database.in_flight.append(transaction)
        if not self._on_its_way:
            self._write()
        return None  # type: ignore[return-value]

    def _check(self, request: Commit) -> None:
        """Make sure that nothing of what was read has changed, also not by what is on its way to the disk.

        Raises:
            Refuse: with `Conflict`.
        """
        for (name, key), version in request.reads.items():
            row = self._working.table(name).rows.get(key)
            if (0 if row is None else row.version) != version:
                raise Refuse(Conflict(name, key))
        for name, version in request.scans.items():
            if self._working.table(name).version != version:
                raise Refuse(Conflict(name, None))

    async def _prepare(self, registries: Mapping[str, tuple[Any, ...]]) -> list[Prepared]:
        """Let each registry do its part, unseen. In the order of their names, so that two never wait for each other."""
        prepared: list[Prepared] = []
        try:
            for name in sorted(registries):
                done = await Directory.of(self.runtime, name).address.call(Prepare(registries[name]))
                prepared.append(done)
        except Exception as error:
            for one in prepared:
                one.undo()
            self._go_on(prepared)
            raise Refuse(error) from error
        return prepared

    def _write(self) -> None:
        """Send what waits to the disk."""
        self._on_its_way, self._waiting = self._waiting, []
        transactions = tuple(tuple(transaction.changes()) for transaction in self._on_its_way)
        call = self._writer.call(Append(transactions), timeout=None)
        call.add_done_callback(self._tell)

    def _tell(self, call: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if call.cancelled() else call.exception()
        self.ref.cast(Appended(error))

    @handle
    def appended(self, message: Appended) -> None:
        """Show what is on the disk, and acknowledge it; or take back what is not, and all that was built on it."""
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
        if self._waiting:
            self._write()
        else:
            flushing, self._flushing = self._flushing, []
            for reply in flushing:
                reply.reply(None)

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
            self._flushing.append(self.defer_reply())

    @handle
    async def back_up(self, request: BackUp) -> None:
        """Write a copy of the file."""
        try:
            await self._writer.call(request, timeout=None)
        except NotWritten as error:
            raise Refuse(error) from error

    @handle
    def writer_ended(self, message: Exit) -> None:
        """End as well: what the writer knew of the file is gone, and the next incarnation reads it again."""
        self.stop(message.reason)


def _with(root: StoreSnapshot, writes: Mapping[tuple[str, Any], Written], number: int) -> StoreSnapshot:
    changed: dict[str, Any] = {}
    for (name, key), written in writes.items():
        rows = changed.setdefault(name, root.table(name).rows.mutate())
        if written.body is None:
            rows.pop(key, None)
        else:
            rows[key] = Row(written.value, number)
    tables = root.tables.mutate()
    for name, rows in changed.items():
        tables[name] = Table(rows.finish(), number)
    return StoreSnapshot(number, tables.finish())
