"""Snapshots: all tables and indexes of a registry at one moment, as one immutable value."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from foundation.persistent_map import PersistentMap
from foundation.registry.errors import NotIndexed
from foundation.registry.metadata import values_at
from supervision import Ref

Keys = PersistentMap[Any, None]
Postings = PersistentMap[Any, Keys]

_NOBODY: Keys = PersistentMap()
_NOTHING: Postings = PersistentMap()


class Entry(msgspec.Struct, frozen=True):
    """A registered actor.

    Attributes:
        key: under which it is found; anything that can be a dictionary key.
        ref: the actor: one incarnation.
        metadata: what is known of it: a frozen struct, or a read-only mapping.
        order: grows with each registration; answers of many entries come in this order.
    """

    key: Any
    ref: Ref
    metadata: Any
    order: int


class Snapshot(msgspec.Struct, frozen=True):
    """A registry at one moment.

    What is in it never changes, however long it is held. Because actors end at any time, every answer leaves out the
    entries of those who do not live at the moment of asking; that is all that can make two answers of one snapshot
    differ.

    Attributes:
        version: grows by one with each change of the registry.
        entries: all entries by key, also those whose actor has just ended.
        by_ref: for each actor, its keys.
        indexes: for each indexed field, the keys by value.
    """

    version: int = 0
    entries: PersistentMap[Any, Entry] = PersistentMap()
    by_ref: Postings = _NOTHING
    indexes: Mapping[str, Postings] = MappingProxyType({})

    def lookup(self, key: Hashable) -> Entry | None:
        """Return who is registered under a key, or None. Never an actor that has ended."""
        entry = self.entries.get(key)
        return entry if entry is not None and entry.ref.alive else None

    def find(self, field: str, value: Hashable) -> list[Entry]:
        """Return those whose ``field`` is ``value``, or is a collection that has it in it, first registered first.

        Args:
            field: the path of an indexed field, such as ``"capabilities"``.
            value: what is looked for.

        Raises:
            NotIndexed: the registry keeps no index of this field.
        """
        postings = self.indexes.get(field)
        if postings is None:
            raise NotIndexed(field, self.indexes)
        return self._living(postings.get(value, _NOBODY))

    def of_ref(self, ref: Ref) -> list[Entry]:
        """Return the entries of one actor, first registered first; none if it has ended."""
        return self._living(self.by_ref.get(ref, _NOBODY))

    def all(self) -> list[Entry]:
        """Return everybody, first registered first."""
        return self._living(self.entries)

    def __len__(self) -> int:
        """How many entries there are, with those whose actor ended so recently that they are not removed yet."""
        return len(self.entries)

    def _living(self, keys: PersistentMap[Any, Any]) -> list[Entry]:
        entries = self.entries
        return sorted((entry for key in keys if (entry := entries[key]).ref.alive), key=_order)

    # -- the next snapshot -----------------------------------------------------------------------------------------

    def indexed_by(self, fields: tuple[str, ...]) -> Snapshot:
        """Return a snapshot with the same entries and indexes of other fields.

        Raises:
            BadMetadata: a value cannot be in an index.
        """
        if fields == tuple(self.indexes):
            return self
        indexes = dict.fromkeys(fields, _NOTHING)
        for entry in self.entries.values():
            for field in fields:
                indexes[field] = _noted(indexes[field], entry.key, (), values_at(entry.metadata, field))
        return msgspec.structs.replace(self, version=self.version + 1, indexes=MappingProxyType(indexes))

    def with_entry(self, entry: Entry) -> Snapshot:
        """Return a snapshot with an entry, which takes the place of the one with the same key.

        Raises:
            BadMetadata: a value cannot be in an index.
        """
        old = self.entries.get(entry.key)
        return Snapshot(
            self.version + 1,
            self.entries.set(entry.key, entry),
            _noted(self.by_ref, entry.key, () if old is None else (old.ref,), (entry.ref,)),
            self._reindexed(entry.key, old, entry),
        )

    def without(self, keys: Iterable[Any]) -> Snapshot:
        """Return a snapshot without the entries of these keys, all of which it has."""
        entries, by_ref, indexes = self.entries, self.by_ref, dict(self.indexes)
        for key in keys:
            old = entries[key]
            entries = entries.discard(key)
            by_ref = _noted(by_ref, key, (old.ref,), ())
            for field, postings in indexes.items():
                indexes[field] = _noted(postings, key, values_at(old.metadata, field), ())
        return Snapshot(self.version + 1, entries, by_ref, MappingProxyType(indexes))

    def _reindexed(self, key: Any, old: Entry | None, new: Entry) -> Mapping[str, Postings]:
        indexes: dict[str, Postings] = {}
        for field, postings in self.indexes.items():
            before = () if old is None else values_at(old.metadata, field)
            indexes[field] = _noted(postings, key, before, values_at(new.metadata, field))
        return MappingProxyType(indexes)


def _order(entry: Entry) -> int:
    return entry.order


def _noted(postings: Postings, key: Any, old: tuple[Any, ...], new: tuple[Any, ...]) -> Postings:
    """Return an index in which ``key`` stands under the values ``new`` instead of ``old``."""
    if old == new:
        return postings
    for value in old:
        keys = postings[value].discard(key)
        postings = postings.set(value, keys) if keys else postings.discard(value)
    for value in new:
        postings = postings.set(value, postings.get(value, _NOBODY).set(key, None))
    return postings
