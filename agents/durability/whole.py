"""Commits in a storage that has only the six methods of `Storage`: everything of an agent is one checkpoint."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from agents.durability.checkpoint import decoded, with_checksum
from agents.durability.storage import (
    TOMBSTONE,
    AgentCommit,
    CommitStorage,
    Loaded,
    Storage,
    StorageConflict,
    Stored,
    StoredRow,
)


class _Whole(msgspec.Struct, frozen=True):
    """All that is kept under a key."""

    epoch: int
    turn: int
    version: int
    generation: str
    snapshots: tuple[tuple[int, bytes], ...] = ()
    entries: tuple[tuple[int, bytes], ...] = ()
    rows: tuple[StoredRow, ...] = ()


class WholeStorage:
    """Keeps commits in a storage that does not know them: each one writes all that there is under its key.

    That costs in proportion to the state, and `due` reads all keys.

    Args:
        inner: the storage.
    """

    def __init__(self, inner: Storage) -> None:
        self._inner = inner

    async def entries(self, key: str, after: int, upto: int | None = None) -> list[tuple[int, bytes]]:
        """Return entries of the log."""
        _, whole = await self._read(key)
        if whole is None:
            return await self._inner.entries(key, after, upto)
        return [entry for entry in whole.entries if entry[0] > after and (upto is None or entry[0] <= upto)]

    async def claim(self, key: str, generation: str) -> Loaded:
        """Become the owner of a key."""
        stored, whole = await self._read(key)
        before = whole or _adopted(stored, generation)
        claimed = msgspec.structs.replace(before, epoch=before.epoch + 1)
        await self._write(key, stored, claimed)
        return _loaded(claimed, None)

    async def load(self, key: str, before: int | None = None) -> Loaded | None:
        """Return what is stored under a key."""
        stored, whole = await self._read(key)
        return None if stored is None else _loaded(whole or _adopted(stored, ""), before)

    async def commit(self, commit: AgentCommit) -> None:
        """Write something, in one step."""
        key, (stored, whole) = commit.key, await self._read(commit.key)
        if whole is None or whole.epoch != commit.epoch:
            raise StorageConflict(key, commit.epoch, -1 if whole is None else whole.epoch, "epoch")
        if commit.expected is not None and commit.expected != whole.turn:
            raise StorageConflict(key, commit.expected, whole.turn, "turn")
        await self._write(key, stored, _changed(whole, commit))

    async def due(self, prefix: str, until: int, after: str = "", limit: int = 1000) -> list[str]:
        """Return the keys with rows that are due."""
        dues = await self._dues(prefix)
        return [key for key, due in dues.items() if key > after and any(one <= until for one in due)][:limit]

    async def next_due(self, prefix: str, after: int) -> int | None:
        """Return when the first row is due that is due after a time."""
        dues = await self._dues(prefix)
        return min((one for due in dues.values() for one in due if one > after), default=None)

    async def _dues(self, prefix: str) -> dict[str, list[int]]:
        found = {}
        for key in await self._inner.keys(prefix):
            _, whole = await self._read(key)
            if whole is not None:
                found[key] = [row.due for row in whole.rows if row.due is not None]
        return found

    async def _read(self, key: str) -> tuple[Stored | None, _Whole | None]:
        stored = await self._inner.read(key)
        data = None if stored is None else stored.checkpoint
        if data is None or not data.startswith(TOMBSTONE):
            return stored, None
        return stored, decoded(key, data[len(TOMBSTONE) :], _Whole)

    async def _write(self, key: str, stored: Stored | None, whole: _Whole) -> None:
        number = 1 if stored is None else stored.version + 1
        expected = None if stored is None else stored.version
        checkpoint = TOMBSTONE + with_checksum(msgspec.msgpack.encode(whole))
        await self._inner.write(key, number, expected=expected, checkpoint=checkpoint)


def commits_of(storage: Storage) -> CommitStorage:
    """Return a storage of commits: this one, or one that keeps them in it."""
    return storage if _knows_commits(type(storage)) else WholeStorage(storage)  # type: ignore[return-value]


@lru_cache(maxsize=64)
def _knows_commits(kind: type[Any]) -> bool:
    """Tell whether it is a storage of commits: once for each type, as that takes longer than reading an agent."""
    return issubclass(kind, CommitStorage)


def _adopted(stored: Stored | None, generation: str) -> _Whole:
    """Return what was stored without an owner."""
    if stored is None:
        return _Whole(0, 0, 0, generation)
    snapshots = () if stored.checkpoint is None else ((stored.at, stored.checkpoint),)
    return _Whole(0, stored.version, stored.version, generation, snapshots, stored.entries)


def _loaded(whole: _Whole, before: int | None) -> Loaded:
    snapshots = [one for one in whole.snapshots if before is None or one[0] < before]
    at, snapshot = snapshots[-1] if snapshots else (0, None)
    entries = tuple(entry for entry in whole.entries if entry[0] > at)
    return Loaded(whole.epoch, whole.turn, whole.version, whole.generation, snapshot, at, entries, whole.rows)


def _changed(whole: _Whole, commit: AgentCommit) -> _Whole:
    rows = {(row.kind, row.id): row for row in whole.rows if (row.kind, row.id) not in commit.drop}
    rows.update(((row.kind, row.id), row) for row in commit.put)
    entries, snapshots = (*whole.entries, *commit.entries), dict(whole.snapshots)
    if commit.snapshot is not None:
        snapshots[commit.turn] = commit.snapshot
    if commit.trim is not None:
        entries = tuple(entry for entry in entries if entry[0] > commit.trim)
        snapshots = {turn: one for turn, one in snapshots.items() if turn >= commit.trim}
    moved = commit.expected is not None
    return msgspec.structs.replace(
        whole,
        turn=commit.turn if moved else whole.turn,
        version=commit.version if moved else whole.version,
        snapshots=tuple(sorted(snapshots.items())),
        entries=entries,
        rows=tuple(rows[name] for name in sorted(rows)),
    )
