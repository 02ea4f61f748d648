"""Storages: the narrow protocol that any backend keeps, and the one in memory.

``tests/agents/test_storage.py`` is the contract: run it over a backend of your own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from agents.errors import AgentError


class StorageError(AgentError):
    """A storage cannot do what it was asked for."""


class StorageConflict(StorageError):
    """The stored version is not the expected one: another writer was first. Nothing has changed."""

    def __init__(self, key: str, expected: int, found: int) -> None:
        self.key = key
        self.expected = expected
        self.found = found
        super().__init__(f"{key} is at version {found}, not {expected}: another writer was first")


class Stored(msgspec.Struct, frozen=True):
    """What is stored under a key.

    Attributes:
        version: of what was written last; 0 if there is nothing but a checkpoint of a first state.
        checkpoint: the last one; None if there is none.
        at: the version of that checkpoint.
        entries: those of the journal behind that checkpoint, the oldest first, with their versions.
    """

    version: int
    checkpoint: bytes | None
    at: int
    entries: tuple[tuple[int, bytes], ...] = ()


@runtime_checkable
class Storage(Protocol):
    """Where agents are saved. It stores bytes, under keys that are texts.

    When a `write` returns, it is as safe as the storage says, and a `read` finds it, all of it or nothing.
    """

    async def read(self, key: str) -> Stored | None:
        """Return what is stored under a key; None if nothing is.

        Raises:
            StorageError: it cannot be read.
        """
        ...

    async def write(
        self,
        key: str,
        version: int,
        *,
        expected: int | None,
        checkpoint: bytes | None = None,
        entries: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        """Store something, in one step.

        Args:
            key: under which.
            version: of what is stored then.
            expected: the version that was read or written last; None if there was nothing.
            checkpoint: takes the place of the last one, unless it is None.
            entries: of the journal, with their versions, which are appended.

        Raises:
            StorageConflict: another version is stored.
            StorageError: it cannot be written. Nothing has changed.
        """
        ...

    async def entries(self, key: str, after: int, upto: int | None = None) -> list[tuple[int, bytes]]:
        """Return the entries of the journal whose versions are in a range, the oldest first."""
        ...

    async def trim(self, key: str, upto: int) -> None:
        """Delete the entries of the journal up to a version, and keep those behind it."""
        ...

    async def delete(self, key: str) -> None:
        """Delete everything under a key. If there is nothing, nothing happens."""
        ...

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with a text, sorted."""
        ...


class MemoryStorage:
    """Keeps everything in memory. See `Storage`."""

    def __init__(self) -> None:
        self._stored: dict[str, Stored] = {}
        self._journal: dict[str, list[tuple[int, bytes]]] = {}

    async def read(self, key: str) -> Stored | None:
        """Return what is stored under a key."""
        stored = self._stored.get(key)
        if stored is None:
            return None
        return Stored(stored.version, stored.checkpoint, stored.at, tuple(await self.entries(key, stored.at)))

    async def write(
        self,
        key: str,
        version: int,
        *,
        expected: int | None,
        checkpoint: bytes | None = None,
        entries: Sequence[tuple[int, bytes]] = (),
    ) -> None:
        """Store something."""
        stored = self._stored.get(key)
        found = None if stored is None else stored.version
        if found != expected:
            raise StorageConflict(key, -1 if expected is None else expected, -1 if found is None else found)
        before = stored or Stored(version, None, 0)
        if checkpoint is None:
            self._stored[key] = Stored(version, before.checkpoint, before.at)
        else:
            self._stored[key] = Stored(version, checkpoint, version)
        self._journal.setdefault(key, []).extend(entries)

    async def entries(self, key: str, after: int, upto: int | None = None) -> list[tuple[int, bytes]]:
        """Return entries of the journal."""
        return [
            entry for entry in self._journal.get(key, []) if entry[0] > after and (upto is None or entry[0] <= upto)
        ]

    async def trim(self, key: str, upto: int) -> None:
        """Delete entries of the journal."""
        self._journal[key] = await self.entries(key, upto)

    async def delete(self, key: str) -> None:
        """Delete everything under a key."""
        self._stored.pop(key, None)
        self._journal.pop(key, None)

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with a text."""
        return sorted(key for key in self._stored if key.startswith(prefix))
