"""Storages: the narrow protocols that any backend keeps.

`Storage` keeps checkpoints and entries under keys: a bus and a workflow need no more. `CommitStorage` adds what agents
that keep their word need: an owner, and several kinds of rows in one write. An agent can be kept in either.
`agents.testing.storage_contract` is the contract: run it over a backend of your own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias, runtime_checkable
from zlib import crc32

import msgspec

from agents.errors import AgentError


class StorageError(AgentError):
    """A storage cannot do what it was asked for. Unless it is `OutcomeUnknown`, nothing was written."""


class OutcomeUnknown(StorageError):
    """It is not known whether something was written: read it again before anything else is done."""


class StorageConflict(StorageError):
    """What is stored is not what was expected: another writer was first. Nothing has changed."""

    def __init__(self, key: str, expected: int, found: int, what: str = "version") -> None:
        self.key = key
        self.expected = expected
        self.found = found
        super().__init__(f"{key} is at {what} {found}, not {expected}: another writer was first")


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

    When a `write` returns, it is as safe as the storage says, and a `read` finds it, all of it or nothing. What was
    written first is never lost while what was written later is kept.
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
        flush: bool = True,
    ) -> None:
        """Store something, in one step.

        Args:
            key: under which.
            version: of what is stored then.
            expected: the version that was read or written last; None if there was nothing.
            checkpoint: takes the place of the last one, unless it is None.
            entries: of the journal, with their versions, which are appended.
            flush: if not, it need only survive the death of the process. That of the machine it survives from the next
                write on that is flushed. A storage may flush all the same.

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


class StoredRow(msgspec.Struct, frozen=True):
    """Something that is kept beside the state of an agent: an open effect, a timer, an id that was seen.

    Attributes:
        kind: of the row, such as ``"timer"``.
        id: distinguishes it from others of its kind and key.
        body: what it says.
        due: when somebody has to look at it, in milliseconds since the epoch; None for never.
    """

    kind: str
    id: str
    body: bytes
    due: int | None = None


#: Which row: its kind and its id.
RowName: TypeAlias = tuple[str, str]


class AgentCommit(msgspec.Struct, frozen=True, kw_only=True):
    """One write of the owner of a key: all of it, or nothing.

    Attributes:
        key: under which.
        epoch: of the owner, from `CommitStorage.claim`.
        expected: the turn that is stored; None for a write that is no turn, and leaves turn and version as they are.
        turn: the last one that is in it.
        version: of the agent then.
        entries: of the log, with their turns, which are appended.
        snapshot: the whole as it is after ``turn``.
        drop: rows that go; what is not there is ignored.
        put: rows that come, or take the place of those with the same kind and id.
        trim: entries of the log up to this turn go, and snapshots of turns before it.
        flush: see `Storage.write`.
    """

    key: str
    epoch: int
    expected: int | None
    turn: int
    version: int
    entries: tuple[tuple[int, bytes], ...] = ()
    snapshot: bytes | None = None
    drop: tuple[RowName, ...] = ()
    put: tuple[StoredRow, ...] = ()
    trim: int | None = None
    flush: bool = True


class Loaded(msgspec.Struct, frozen=True):
    """What is stored under a key.

    Attributes:
        epoch: of its owner; 0 if it never had one.
        turn: that was written last; 0 if none was.
        version: of the agent then.
        generation: chosen by its first owner.
        snapshot: the last one; None if there is none.
        at: the turn of the snapshot.
        entries: of the log behind the snapshot, the oldest first, with their turns.
        rows: all, by kind and id.
    """

    epoch: int
    turn: int
    version: int
    generation: str
    snapshot: bytes | None = None
    at: int = 0
    entries: tuple[tuple[int, bytes], ...] = ()
    rows: tuple[StoredRow, ...] = ()


@runtime_checkable
class CommitStorage(Storage, Protocol):
    """A storage that knows owners, and writes several kinds of rows at once.

    What was written by `Storage.write` before is the state of a first owner: its version is the turn then, its
    checkpoint the snapshot, and its entries the log. It is left as it is until the first snapshot; then `Storage.read`
    finds `TOMBSTONE`, so that a program that does not know owners refuses it.
    """

    async def claim(self, key: str, generation: str) -> Loaded:
        """Become the owner of a key: from now on, all commits of earlier owners are conflicts.

        Args:
            key: which.
            generation: noted if it has had no owner before.

        Raises:
            OutcomeUnknown, StorageError: it cannot be read or written.
        """
        ...

    async def load(self, key: str, before: int | None = None) -> Loaded | None:
        """Return what is stored under a key; None if it has never had an owner, and nothing is stored.

        Args:
            key: which.
            before: read the last snapshot of a turn before this one, and the log behind it; None for the last of all.

        Raises:
            StorageError: it cannot be read.
        """
        ...

    async def commit(self, commit: AgentCommit) -> None:
        """Write something, in one step.

        Raises:
            StorageConflict: another owner was first, or another turn is stored. Nothing has changed.
            OutcomeUnknown: it may be written, or not.
            StorageError: it cannot be written. Nothing has changed.
        """
        ...

    async def due(self, prefix: str, until: int, after: str = "", limit: int = 1000) -> list[str]:
        """Return the keys with rows that are due, sorted.

        Args:
            prefix: what they begin with.
            until: due by then, in milliseconds since the epoch.
            after: only keys behind this one.
            limit: at most so many.
        """
        ...

    async def next_due(self, prefix: str, after: int) -> int | None:
        """Return when the first row is due that is due after a time; None if there is none.

        Args:
            prefix: what its key begins with.
            after: in milliseconds since the epoch.
        """
        ...


_REFUSED = msgspec.msgpack.encode({"format": 2, "type": "", "id": "", "partition": "", "version": 0, "state": None})
#: What a program that does not know owners reads as a checkpoint, and refuses: it has format 2.
TOMBSTONE = crc32(_REFUSED).to_bytes(4, "big") + _REFUSED
