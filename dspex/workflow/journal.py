"""The journal of a run: entries in a storage, so that no step is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from agents.durability import Storage
from dspex.workflow.errors import BadJournal, OtherRun

_Entries = dict[str, dict[str, Any]]


class WorkflowEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry: of a ``kind``, under a ``key`` of its own. A later entry takes the place of an earlier one."""

    kind: str
    key: str
    value: Any = None


class _Pending(NamedTuple):
    entries: list[WorkflowEntry]
    data: list[bytes]
    flush: bool
    done: asyncio.Future[None]


class Journal:
    """Keeps entries in a storage, and all of them in memory.

    An entry is added when it is safe. Entries that come while others are written are written together. Of two that
    write to one log, the one whose write comes second gets ``StorageConflict``, and nothing of it is kept.

    Args:
        storage: where they are kept.
        key: under which.
    """

    def __init__(self, storage: Storage, key: str) -> None:
        self.storage = storage
        self.key = key
        self._version: int | None = None
        self._entries: _Entries = {}
        self._pending: list[_Pending] = []
        self._writer: asyncio.Task[None] | None = None
        self._writing = False
        #: One thing is written at any time.
        self._turn = asyncio.Lock()
        #: How many entries were appended since all were written anew.
        self.appended = 0
        #: How many bytes are stored.
        self.size = 0

    async def open(self, what: Mapping[str, Any]) -> bool:
        """Read what is there, and return whether a run has begun before.

        Args:
            what: tells the run from others: its parameters, seed, data.

        Raises:
            OtherRun: another one has been kept here.
            BadJournal: it cannot be read.
        """
        await self.read()
        known = self._entries.get("what")
        if known is None:
            await self.add_all("what", what)
            return False
        differing = {key: (known.get(key), what.get(key)) for key in {*known, *what} if known.get(key) != what.get(key)}
        if differing:
            raise OtherRun(differing)
        return True

    async def read(self) -> None:
        """Read what is there, whatever run it is of: for those who only look.

        Raises:
            BadJournal: it cannot be read.
        """
        stored = await self.storage.read(self.key)
        if stored is None:
            return
        self._version = stored.version
        if stored.checkpoint is not None:
            self._entries = _decoded(stored.at, stored.checkpoint, _Entries)
            self.size = len(stored.checkpoint)
        for version, data in stored.entries:
            entry = _decoded(version, data, WorkflowEntry)
            self._keep(entry, len(data))

    def _keep(self, entry: WorkflowEntry, size: int) -> None:
        self._entries.setdefault(entry.kind, {})[entry.key] = entry.value
        self.appended += 1
        self.size += size

    def find(self, kind: str, key: str) -> Any:
        """Return the value of an entry; None if there is none."""
        return self._entries.get(kind, {}).get(key)

    def count(self, kind: str) -> int:
        """Return how many entries of a kind there are."""
        return len(self._entries.get(kind, ()))

    def entries(self, kind: str) -> Mapping[str, Any]:
        """Return the entries of a kind, by their keys, in the order in which the keys came first."""
        return MappingProxyType(self._entries.get(kind, {}))

    async def add(self, kind: str, key: str, value: Any, *, flush: bool = True) -> None:
        """Add an entry, and return when it is safe.

        Args:
            kind: of the entry.
            key: of the entry.
            value: plain.
            flush: if not, it is safe when it survives the process; the machine it survives with the next that is
                flushed.

        Raises:
            StorageError: it cannot be written.
            TypeError, ValueError: the value cannot be encoded; nothing was written.
        """
        await self.add_all(kind, {key: value}, flush=flush)

    async def add_all(self, kind: str, values: Mapping[str, Any], *, flush: bool = True) -> None:
        """Add several entries of a kind by their keys, all or none; see `add`."""
        entries = [WorkflowEntry(kind, key, value) for key, value in values.items()]
        if not entries:
            return
        encoded = [msgspec.json.encode(entry) for entry in entries]
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._pending.append(_Pending(entries, encoded, flush, done))
        if not self._writing:
            # The task belongs to nobody: the one that adds an entry may end, and others wait for the same write. A loop
            # with eager tasks begins it, and perhaps ends it, before it is returned.
            self._writing = True
            self._writer = loop.create_task(self._write(), context=Context())
        await done

    async def _write(self) -> None:
        try:
            while self._pending:
                await self._write_all()
        finally:
            self._writing = False

    async def _write_all(self) -> None:
        async with self._turn:
            await self._write_batch()

    async def _write_batch(self) -> None:
        batch, self._pending = self._pending, []
        data = [one for pending in batch for one in pending.data]
        first = (self._version or 0) + 1
        last = first + len(data) - 1
        try:
            flush = any(pending.flush for pending in batch)
            numbered = list(enumerate(data, first))
            await self.storage.write(self.key, last, expected=self._version, entries=numbered, flush=flush)
        except Exception as error:
            for pending in batch:
                if not pending.done.done():
                    pending.done.set_exception(error)
            return
        self._version = last
        for pending in batch:
            for entry, one in zip(pending.entries, pending.data, strict=True):
                self._keep(entry, len(one))
            if not pending.done.done():
                pending.done.set_result(None)

    async def compact(self, keep: Callable[[str, str, Any], Any]) -> None:
        """Write all entries anew, as far as they are needed, and forget their history.

        Args:
            keep: returns, of a kind, a key and a value, the value to keep; None for none.

        Raises:
            StorageError: it cannot be written; nothing has changed.
        """
        async with self._turn:
            if self._version is None:
                return
            kept = {
                kind: {key: value for key, was in entries.items() if (value := keep(kind, key, was)) is not None}
                for kind, entries in self._entries.items()
            }
            data = msgspec.json.encode(kept)
            await self.storage.write(self.key, self._version, expected=self._version, checkpoint=data)
            self._entries, self.appended, self.size = kept, 0, len(data)
            await self.storage.trim(self.key, self._version)


def _decoded(version: int, data: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadJournal(version, str(error)) from error
