"""A storage in memory: for tests, and for agents that have to survive crashes but not the process."""

from __future__ import annotations

from collections.abc import Sequence

from agents.durability.storage import StorageConflict, Stored


class MemoryStorage:
    """Keeps everything in memory. See `Storage`."""

    def __init__(self) -> None:
        self._kept: dict[str, Stored] = {}
        self._journal: dict[str, list[tuple[int, bytes]]] = {}

    async def read(self, key: str) -> Stored | None:
        """Return what is stored under a key."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        return Stored(kept.version, kept.checkpoint, kept.at, tuple(await self.entries(key, kept.at)))

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
        kept = self._kept.get(key)
        found = None if kept is None else kept.version
        if found != expected:
            raise StorageConflict(key, -1 if expected is None else expected, -1 if found is None else found)
        before = kept or Stored(version, None, 0)
        if checkpoint is None:
            self._kept[key] = Stored(version, before.checkpoint, before.at)
        else:
            self._kept[key] = Stored(version, checkpoint, version)
        self._journal.setdefault(key, []).extend(entries)

    async def entries(self, key: str, after: int, upto: int | None = None) -> list[tuple[int, bytes]]:
        """Return entries of the journal."""
        return [
            entry for entry in self._journal.get(key, []) if entry[0] > after and (upto is None or entry[0] <= upto)
        ]

    async def trim(self, key: str, upto: int) -> None:
        """Forget entries of the journal."""
        self._journal[key] = await self.entries(key, upto)

    async def delete(self, key: str) -> None:
        """Forget everything under a key."""
        self._kept.pop(key, None)
        self._journal.pop(key, None)

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with a text."""
        return sorted(key for key in self._kept if key.startswith(prefix))
