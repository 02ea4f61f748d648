"""The tables of a registry: what its actor writes, and what all its snapshots share.

The tables change in place. Whoever holds a snapshot meanwhile gets a copy of each entry that is overwritten, at the
moment when it is: a copy on write, as small as the write. So a write costs the same however many entries there are, a
read of what is current costs one look into a dictionary, and only a snapshot that is both old and still held costs
more: it looks at its own copies first. (Baker, "Shallow binding makes functional arrays fast", 1991.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import ref as weak

import msgspec

from foundation.registry.errors import BadMetadata
from foundation.registry.indexes import KINDS, Index, IndexKind, Postings, note, strike
from foundation.registry.metadata import indexed_values
from foundation.registry.size import size_of
from supervision import Ref

if TYPE_CHECKING:
    from foundation.registry.snapshot import Snapshot


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


class Tables:
    """All entries and indexes. Each change is done as a whole, or refused before anything has changed.

    Args:
        unique: whether a key has one entry, or any number.
        kinds: which fields are indexed, and how.
        measure: whether to keep account of the memory that keys and metadata take.

    Attributes:
        root: the current snapshot.
        entries: by key if keys are unique, else by order.
        by_ref: for each actor, which entries are its own.
        changing: whether an entry is being put: if that is interrupted, the tables are not to be trusted.
        by_key: for each key, which entries have it, if keys need not be unique.
        indexes: those of the declared fields, by path.
    """

    __slots__ = (
        "_begun",
        "_fields",
        "_held",
        "_journal",
        "by_key",
        "by_ref",
        "changing",
        "entries",
        "indexes",
        "kinds",
        "measure",
        "root",
        "size_bytes",
        "unique",
        "version",
    )

    root: Snapshot

    def __init__(
        self, unique: bool = True, kinds: Mapping[str, IndexKind] | None = None, *, measure: bool = False
    ) -> None:
        self.unique = unique
        self.kinds = dict(kinds or {})
        self.measure = measure
        self.entries: dict[Any, Entry] = {}
        self.by_ref: Postings = {}
        self.by_key: Postings = {}
        self.indexes: dict[str, Index] = {path: KINDS[kind]() for path, kind in self.kinds.items()}
        self._fields = [(path, tuple(path.split(".")), index) for path, index in self.indexes.items()]
        self.size_bytes = 0
        self.version = 0
        self.changing = False
        self._held: weak[Snapshot] | None = None
        self._journal: dict[Any, Entry | None] | None = None

    def fill(self, entries: Iterable[Entry], version: int) -> None:
        """Enter what there is, before the first snapshot.

        Raises:
            BadMetadata: a value cannot be in an index.
        """
        for entry in sorted(entries, key=lambda entry: entry.order):
            if self.unique and entry.key in self.entries:
                raise BadMetadata("key", entry.key, "it has several entries: start the registry with keys='duplicate'")
            self.put(None, entry)
        self.version = version

    # -- what there is, also what is not published yet ---------------------------------------------------------------

    def held(self, key: Any) -> list[Entry]:
        """Return the entries of a key, first registered first, also of actors that have ended."""
        if self.unique:
            entry = self.entries.get(key)
            return [] if entry is None else [entry]
        return sorted((self.entries[id] for id in self.by_key.get(key, ())), key=lambda entry: entry.order)

    def of_ref(self, ref: Ref) -> list[Entry]:
        """Return the entries of an actor."""
        return [self.entries[id] for id in self.by_ref.get(ref, ())]

    # -- changes -----------------------------------------------------------------------------------------------------

    def check(self, entry: Entry) -> None:
        """Make sure that an entry can be put.

        Raises:
            BadMetadata: a value cannot be in an index.
        """
        for path, names, index in self._fields:
            index.check(path, indexed_values(entry.metadata, names))

    def put(self, old: Entry | None, new: Entry | None) -> None:
        """Put an entry in the place of another one of the same key, actor and order.

        Args:
            old: the entry that goes; None to enter a new one.
            new: the entry that comes; None to take one out.

        Raises:
            BadMetadata: a value cannot be in an index.
        """
        entry = new or old
        assert entry is not None
        changes = []
        for path, names, index in self._fields:
            before = () if old is None else indexed_values(old.metadata, names)
            after = () if new is None else indexed_values(new.metadata, names)
            if before != after:
                index.check(path, after)
                changes.append((index, before, after))
        id = entry.key if self.unique else entry.order
        if not self.unique:
            self.by_key.get(entry.key)  # what comparing it raises, it raises before anything has changed
        if self._journal is not None and id not in self._journal:
            self._journal[id] = old
        self.changing = True
        # The current snapshot keeps what is about to be overwritten.
        kept = self.root.kept
        if kept is None:
            self.root.kept = {id: old}
        elif id not in kept:
            kept[id] = old
        if new is None:
            del self.entries[id]
        else:
            self.entries[id] = new
        if old is None or new is None:
            change = note if old is None else strike
            change(self.by_ref, entry.ref, id)
            if not self.unique:
                change(self.by_key, entry.key, id)
        for index, before, after in changes:
            index.change(id, entry.order, before, after)
        if self.measure:
            self.size_bytes += (0 if new is None else size_of(new)) - (0 if old is None else size_of(old))
        self.version += 1
        self.changing = False

    def begin(self) -> None:
        """Begin something that can be undone."""
        self._journal = {}
        self._begun = self.version

    def end(self, *, undo: bool) -> None:
        """End it.

        Args:
            undo: put everything back to what it was.
        """
        journal, self._journal = self._journal, None
        if not undo:
            return
        assert journal is not None
        for id, old in journal.items():
            now = self.entries.get(id)
            if now is not old:
                if now is not None:
                    self.put(now, None)
                if old is not None:
                    self.put(None, old)
            kept = self.root.kept
            assert kept is not None
            if kept[id] is old:
                del kept[id]
        self.root.kept = self.root.kept or None
        self.version = self._begun

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def publish(self, root: Snapshot) -> None:
        """Make a snapshot the current one. What was changed since the last one is in it.

        Whoever holds the last one goes on with its copies. If nobody does, they go to who holds an earlier one.
        """
        held = None if self._held is None else self._held()
        if held is not None and self.root.kept is not None:
            assert held.kept is not None
            for id, old in self.root.kept.items():
                held.kept.setdefault(id, old)
        last = weak(self.root)
        self.root = root
        survivor = last()
        if survivor is not None:
            if survivor.kept is None:
                survivor.kept = {}
            if held is not None:
                held.next = survivor
            self._held = last
