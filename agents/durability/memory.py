"""A storage in memory, for tests."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from agents.durability.storage import TOMBSTONE, AgentCommit, Loaded, StorageConflict, Stored, StoredRow


class _Kept(msgspec.Struct):
    """What is kept under a key that has an owner."""

    generation: str
    epoch: int = 0
    turn: int = 0
    version: int = 0
    snapshots: dict[int, bytes] = {}
    rows: dict[tuple[str, str], StoredRow] = {}


class MemoryStorage:
    """Keeps everything in memory. See `CommitStorage`."""

    def __init__(self) -> None:
        self._stored: dict[str, Stored] = {}
        self._journal: dict[str, list[tuple[int, bytes]]] = {}
        self._kept: dict[str, _Kept] = {}

    async def read(self, key: str) -> Stored | None:
        """Return what is stored under a key."""
        stored = self._stored.get(key)
        if stored is None:
            return None
        return Stored(stored.version, stored.checkpoint, stored.at, tuple(self._entries(key, stored.at)))

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
        return self._entries(key, after, upto)

    def _entries(self, key: str, after: int, upto: int | None = None) -> list[tuple[int, bytes]]:
        return [
            entry for entry in self._journal.get(key, []) if entry[0] > after and (upto is None or entry[0] <= upto)
        ]

    async def trim(self, key: str, upto: int) -> None:
        """Delete entries of the journal."""
        self._journal[key] = self._entries(key, upto)

    async def delete(self, key: str) -> None:
        """Delete everything under a key."""
        for table in (self._stored, self._journal, self._kept):
            table.pop(key, None)

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with a text."""
        return sorted(key for key in self._stored if key.startswith(prefix))

    # -- commits -----------------------------------------------------------------------------------------------------

    async def claim(self, key: str, generation: str) -> Loaded:
        """Become the owner of a key."""
        kept = self._kept.setdefault(key, _Kept(generation))
        kept.epoch += 1
        loaded = self._load(key, kept, None)
        kept.turn, kept.version = loaded.turn, loaded.version
        return loaded

    async def load(self, key: str, before: int | None = None) -> Loaded | None:
        """Return what is stored under a key."""
        if key not in self._kept and key not in self._stored:
            return None
        return self._load(key, self._kept.get(key) or _Kept(""), before)

    def _load(self, key: str, kept: _Kept, before: int | None) -> Loaded:
        turns = [turn for turn in kept.snapshots if before is None or turn < before]
        old = self._stored.get(key)
        if turns or old is None or old.checkpoint == TOMBSTONE:
            at = max(turns, default=0)
            turn, version, snapshot = kept.turn, kept.version, kept.snapshots.get(at)
        else:
            at, turn, version, snapshot = old.at, old.version, old.version, old.checkpoint
        entries = tuple(self._entries(key, at))
        rows = tuple(kept.rows[name] for name in sorted(kept.rows))
        return Loaded(kept.epoch, turn, version, kept.generation, snapshot, at, entries, rows)

    async def commit(self, commit: AgentCommit) -> None:
        """Write something, in one step."""
        key, kept = commit.key, self._kept.get(commit.key)
        if kept is None or kept.epoch != commit.epoch:
            raise StorageConflict(key, commit.epoch, -1 if kept is None else kept.epoch, "epoch")
        if commit.expected is not None:
            if kept.turn != commit.expected:
                raise StorageConflict(key, commit.expected, kept.turn, "turn")
            kept.turn, kept.version = commit.turn, commit.version
        self._journal.setdefault(key, []).extend(commit.entries)
        if commit.snapshot is not None:
            kept.snapshots[commit.turn] = commit.snapshot
            self._stored[key] = Stored(commit.version, TOMBSTONE, commit.version)
        for name in commit.drop:
            kept.rows.pop(name, None)
        kept.rows.update(((row.kind, row.id), row) for row in commit.put)
        if commit.trim is not None:
            self._journal[key] = self._entries(key, commit.trim)
            kept.snapshots = {turn: one for turn, one in kept.snapshots.items() if turn >= commit.trim}

    async def due(self, prefix: str, until: int, after: str = "", limit: int = 1000) -> list[str]:
        """Return the keys with rows that are due."""
        keys = [
            key
            for key, kept in self._kept.items()
            if key.startswith(prefix)
            and key > after
            and any(row.due is not None and row.due <= until for row in kept.rows.values())
        ]
        return sorted(keys)[:limit]

    async def next_due(self, prefix: str, after: int) -> int | None:
        """Return when the first row is due that is due after a time."""
        return min(
            (
                row.due
                for key, kept in self._kept.items()
                if key.startswith(prefix)
                for row in kept.rows.values()
                if row.due is not None and row.due > after
            ),
            default=None,
        )
