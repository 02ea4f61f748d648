"""The journal of an optimisation: what has been paid for and found out, so that nothing is paid for twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from agents.durability import Storage
from dspex.teleprompt.errors import BadJournal, OtherOptimisation

_KEY = "optimisation"


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry: of a ``kind``, under a ``key`` of its own."""

    kind: str
    key: str
    value: Any = None


class _Pending(NamedTuple):
    entry: Entry
    done: asyncio.Future[None]


class Journal:
    """Keeps entries in a storage, and all of them in memory.

    An entry is added when it is safe. Entries that come while others are written are written together.

    Args:
        storage: where they are kept.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._version: int | None = None
        self._entries: dict[str, dict[str, Any]] = {}
        self._pending: list[_Pending] = []
        self._writer: asyncio.Task[None] | None = None

    async def open(self, what: Mapping[str, Any]) -> bool:
        """Read what is there, and return whether an optimisation has begun before.

        Args:
            what: tells the optimisation from others: its parameters, seed, data.

        Raises:
            OtherOptimisation: another one has been kept here.
            BadJournal: it cannot be read.
        """
        stored = await self._storage.read(_KEY)
        self._version = None if stored is None else stored.version
        for version, data in () if stored is None else stored.entries:
            try:
                entry = msgspec.json.decode(data, type=Entry)
            except msgspec.DecodeError as error:
                raise BadJournal(version, str(error)) from error
            self._entries.setdefault(entry.kind, {})[entry.key] = entry.value
        known = self._entries.get("what")
        if known is None:
            for key, value in what.items():
                await self.add("what", key, value)
            return False
        differing = {key: (known.get(key), what.get(key)) for key in {*known, *what} if known.get(key) != what.get(key)}
        if differing:
            raise OtherOptimisation(differing)
        return True

    def find(self, kind: str, key: str) -> Any:
        """Return the value of an entry; None if there is none."""
        return self._entries.get(kind, {}).get(key)

    def count(self, kind: str) -> int:
        """Return how many entries of a kind there are."""
        return len(self._entries.get(kind, ()))

    async def add(self, kind: str, key: str, value: Any) -> None:
        """Add an entry, and return when it is safe.

        Raises:
            StorageError: it cannot be written.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(Entry(kind, key, value), done))
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())
        await done

    async def _write(self) -> None:
        try:
            while self._pending:
                await self._write_all()
        finally:
            self._writer = None

    async def _write_all(self) -> None:
        batch, self._pending = self._pending, []
        first = (self._version or 0) + 1
        entries = [(first + n, msgspec.json.encode(pending.entry)) for n, pending in enumerate(batch)]
        try:
            await self._storage.write(_KEY, entries[-1][0], expected=self._version, entries=entries)
        except Exception as error:
            for pending in batch:
                if not pending.done.done():
                    pending.done.set_exception(error)
            return
        self._version = entries[-1][0]
        for pending in batch:
            self._entries.setdefault(pending.entry.kind, {})[pending.entry.key] = pending.entry.value
            if not pending.done.done():
                pending.done.set_result(None)
