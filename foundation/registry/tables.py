"""The tables of a registry, which its actor writes, and the snapshots that readers hold of them.

The tables change in place. Whoever holds a snapshot meanwhile gets a copy of each entry that is overwritten, at the
moment when it is: a copy on write, as small as the write. So a write costs the same however many entries there are, a
read of what is current costs one look into a dictionary, and only a snapshot that is both old and still held costs
more: it looks at its own copies first. (Baker, "Shallow binding makes functional arrays fast", 1991.)
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from heapq import nlargest, nsmallest
from itertools import islice
from sys import getsizeof
from types import MappingProxyType
from typing import Any
from weakref import ref as weak

import msgspec

from foundation.naming import key_trouble, usable_key
from foundation.options import finite, is_a
from foundation.registry.errors import BadMetadata, BadQuery, NotIndexed
from foundation.registry.indexes import (
    INDEX_KINDS,
    Index,
    IndexKind,
    OrderedIndex,
    Postings,
    add_posting,
    comparable,
    discard_posting,
    family,
)
from foundation.registry.metadata import indexed_values, values_at
from foundation.registry.plan import QueryPlan, Source, best_source, index_to_walk
from foundation.registry.query import All, Query, Where, as_query
from supervision import Ref

#: What the tables of a registry need for an entry beside its key and metadata.
ENTRY_OVERHEAD = 300


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


class RegistrySnapshot:
    """A registry at one moment.

    What is in it never changes, however long it is held: what is overwritten in the tables afterwards, it keeps.
    Because actors end at any time, every answer leaves out the entries of those who do not live at the moment of
    asking; that is all that can make two answers of one snapshot differ.

    Attributes:
        version: grows by one with each change of the registry.
        meta: what was put with `Directory.put_meta`.
        size_bytes: about how much memory keys and metadata take; 0 unless the registry limits it.
        kept: what was overwritten since, by identity: an entry, or None if there was none. None if nothing was.
        next: the next snapshot that is held too, and has the copies of what was overwritten since it.
    """

    __slots__ = ("__weakref__", "_size", "current", "kept", "meta", "next", "size_bytes", "tables", "unique", "version")

    def __init__(self, tables: Tables, meta: Mapping[Any, Any] = MappingProxyType({})) -> None:
        self.tables = tables
        self.current = tables.entries
        self.unique = tables.unique
        self.version = tables.version
        self.meta = meta
        self.size_bytes = tables.size_bytes
        self.kept: dict[Any, Entry | None] | None = None
        self.next: RegistrySnapshot | None = None
        self._size = len(tables.entries)

    def __repr__(self) -> str:
        return f"<Snapshot {self.version} with {self._size} entries>"

    # -- one key, one actor, one value -----------------------------------------------------------------------------

    def lookup(self, key: Hashable) -> Entry | None:
        """Return who is registered under a key, or None. Never an actor that has ended.

        Of several entries of one key it is the first registered.

        Raises:
            BadOption: this cannot be a key.
        """
        usable_key("registry: key", key)
        if self.unique:
            entry = self._entry(key)
            return entry if entry is not None and entry.ref.alive else None
        return next(iter(self.lookup_all(key)), None)

    def lookup_all(self, key: Hashable) -> list[Entry]:
        """Return all entries of a key, first registered first.

        Raises:
            BadOption: this cannot be a key.
        """
        usable_key("registry: key", key)
        ids: Iterable[Any] = (key,) if self.unique else self.tables.by_key.get(key, ())
        return self._living(ids, lambda entry: entry.key == key)

    def of_ref(self, ref: Ref) -> list[Entry]:
        """Return the entries of one actor, first registered first; none if it has ended."""
        return self._living(self.tables.by_ref.get(ref, ()), lambda entry: entry.ref is ref)

    def find(self, field: str, value: Hashable) -> list[Entry]:
        """Return those whose ``field`` is ``value``, or is a collection that has it in it, first registered first.

        Args:
            field: the path of an indexed field, such as ``"capabilities"``.
            value: what is looked for.

        Raises:
            NotIndexed: the registry keeps no index of this field.
            BadOption: no metadata can have such a value.
        """
        usable_key("find: value", value)
        index = self.tables.indexes.get(field) if is_a(field, str) else None
        if index is None:
            raise NotIndexed(field, self.tables.indexes)
        path = tuple(field.split("."))
        return self._living(index.having(value), lambda entry: value in values_at(entry.metadata, path))

    def all(self) -> list[Entry]:
        """Return everybody, first registered first."""
        return self._living(self.current, lambda entry: True)

    def entries(self) -> list[Entry]:
        """Return all entries, also of actors that have just ended, in no order."""
        return list(self._of(self.current))

    def __len__(self) -> int:
        """How many entries there are, with those whose actor ended so recently that they are not removed yet."""
        return self._size

    # -- queries ---------------------------------------------------------------------------------------------------

    def select(
        self,
        where: Where = (),
        *,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
    ) -> list[Entry]:
        """Return the entries whose metadata matches. Indexes are used where there are any; see `explain`.

        Args:
            where: made with `Field`; or ``(path, value, operator)``; or several of these, all of which have to hold.
            order_by: the path of a field by which the answer is ordered: by its smallest value if it has several, or
                its largest if ``descending``. Entries without a value come last. Without it, and among equal values,
                first registered is first.
            descending: the other way round, but for those without a value.
            limit: at most so many.

        Raises:
            BadQuery: the question makes no sense.
        """
        query = _asked(where, order_by, limit)
        found, walk = self._best(query, order_by, limit)
        if walk is not None and order_by is not None:
            path = tuple(order_by.split("."))
            rows = (self.current[row[2]] for row in walk.walk(reverse=descending))
            walked = list(islice(self._holding(query, _once(rows)), limit))
            if limit is not None and len(walked) < limit:
                valueless = (entry for entry in self._candidates(found) if not _sortable(entry, path))
                walked += sorted(self._holding(query, valueless), key=_order)[: limit - len(walked)]
            return walked
        holding = self._holding(query, self._candidates(found))
        if order_by is None:
            return _sorted([(entry.order, entry) for entry in holding], descending, limit)
        return in_order(holding, order_by, descending, limit)

    def count(self, where: Where = ()) -> int:
        """Return how many entries match. See `select`."""
        query = as_query(where)
        return sum(1 for _ in self._holding(query, self._candidates(best_source(query, self.tables.indexes))))

    def counts(self, field: str) -> dict[Any, int]:
        """Return for each value of a field how many entries have it; an entry counts once for each of its values."""
        path = tuple(field.split("."))
        totals: dict[Any, int] = {}
        for entry in self._holding(All(()), self._candidates(None)):
            for value in dict.fromkeys(value for value in values_at(entry.metadata, path) if _counts(value)):
                totals[value] = totals.get(value, 0) + 1
        return totals

    def explain(
        self, where: Where = (), *, order_by: str | None = None, descending: bool = False, limit: int | None = None
    ) -> QueryPlan:
        """Return how `select` would answer, without doing it. ``print`` it to read it."""
        query = _asked(where, order_by, limit)
        found, walk = self._best(query, order_by, limit)
        total = self._size
        lines = [f"of {total} entries, look at {total if found is None else found.count}: "]
        if walk is not None and order_by is not None and limit is not None:
            expected = total if found is None else found.count
            looks = min(total, limit * total // max(1, expected))
            lines = [f"walk through the ordered index of {order_by}, until {limit} match: about {looks} of {total}"]
            return QueryPlan("walk", (order_by,), looks, total, False, (*lines, f"keep those with {query!r}"))
        lines[0] += "scan" if found is None else found.text
        keep = (*lines, f"keep those with {query!r}", f"sort by {order_by or 'order of registration'}")
        if found is None:
            return QueryPlan("scan", (), total, total, True, keep)
        return QueryPlan(found.access, found.fields, found.count, total, True, keep)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _best(self, query: Query, order_by: str | None, limit: int | None) -> tuple[Source | None, OrderedIndex | None]:
        indexes = self.tables.indexes
        found = best_source(query, indexes)
        index = None if order_by is None or self._kept() else indexes.get(order_by)
        return found, index_to_walk(found, index, self._size, limit)

    def _entry(self, id: Any) -> Entry | None:
        """Return an entry as it is in this snapshot."""
        entry = self.current.get(id)  # before the copies are looked at: so it is right whoever writes in between
        for kept in self._copies():
            if id in kept:
                return kept[id]
        return entry

    def _copies(self) -> Iterator[dict[Any, Entry | None]]:
        """Return what was kept of what was overwritten since, earliest first."""
        snapshot: RegistrySnapshot | None = self
        while snapshot is not None:
            if snapshot.kept:
                yield snapshot.kept
            root = self.tables.root
            later = snapshot.next
            if later is None and snapshot is not root:  # not `or`: a snapshot without entries is false
                later = root
            snapshot = later

    def _kept(self) -> dict[Any, Entry | None]:
        """Return all that differs from the tables."""
        every: dict[Any, Entry | None] = {}
        for kept in reversed(list(self._copies())):
            every.update(kept)
        return every

    def _of(self, ids: Iterable[Any]) -> Iterator[Entry]:
        """Return those entries that the tables have under these identities, and all that differ from the tables."""
        candidates = [(id, self.current.get(id)) for id in list(ids)]
        kept = self._kept()
        for id, entry in candidates:
            if entry is not None and id not in kept:
                yield entry
        for entry in kept.values():
            if entry is not None:
                yield entry

    def _candidates(self, found: Source | None) -> Iterator[Entry]:
        return self._of(self.current if found is None else found.ids())

    def _holding(self, query: Query, candidates: Iterable[Entry]) -> Iterator[Entry]:
        return (entry for entry in candidates if entry.ref.alive and query.holds(entry.metadata))

    def _living(self, ids: Iterable[Any], meant: Callable[[Entry], bool]) -> list[Entry]:
        return sorted((entry for entry in self._of(ids) if entry.ref.alive and meant(entry)), key=_order)


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
        changing: whether an entry is being put: if that is interrupted, the tables may be inconsistent.
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

    root: RegistrySnapshot

    def __init__(
        self, unique: bool = True, kinds: Mapping[str, IndexKind] | None = None, *, measure: bool = False
    ) -> None:
        self.unique = unique
        self.kinds = dict(kinds or {})
        self.measure = measure
        self.entries: dict[Any, Entry] = {}
        self.by_ref: Postings = {}
        self.by_key: Postings = {}
        self.indexes: dict[str, Index] = {path: INDEX_KINDS[kind]() for path, kind in self.kinds.items()}
        self._fields = [(path, tuple(path.split(".")), index) for path, index in self.indexes.items()]
        self.size_bytes = 0
        self.version = 0
        self.changing = False
        self._held: weak[RegistrySnapshot] | None = None
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
            change = add_posting if old is None else discard_posting
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

    def publish(self, root: RegistrySnapshot) -> None:
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


def _asked(where: Where, order_by: object, limit: object) -> Query:
    most = 0 if limit is None else finite(limit)
    if not isinstance(most, int) or most < 0:
        raise BadQuery("limit", limit, "give a whole number from 0, or None for all")
    if order_by is not None and not is_a(order_by, str):
        raise BadQuery("order_by", order_by, "give the path of a field, such as 'resources.memory'")
    return as_query(where)


def _counts(value: Any) -> bool:
    """Tell whether something is one value, and not a mapping, or has one in it."""
    return key_trouble(value) is None


def in_order(entries: Iterable[Entry], field: str, descending: bool, limit: int | None) -> list[Entry]:
    """Return entries in the order of a field, at most so many; those without a value come last."""
    path = tuple(field.split("."))
    extreme = max if descending else min
    valued: list[tuple[Any, Entry]] = []
    last: list[Entry] = []
    for entry in entries:
        values = _sortable(entry, path)
        if values:
            valued.append(((extreme(values), entry.order), entry))
        else:
            last.append(entry)
    return [*_sorted(valued, descending, limit), *sorted(last, key=_order)][:limit]


def _order(entry: Entry) -> int:
    return entry.order


def _first(pair: tuple[Any, Entry]) -> Any:
    return pair[0]


def _sorted(pairs: list[tuple[Any, Entry]], descending: bool, limit: int | None) -> list[Entry]:
    if limit is None:
        chosen = sorted(pairs, key=_first, reverse=descending)
    else:
        chosen = (nlargest if descending else nsmallest)(limit, pairs, key=_first)
    return [entry for _, entry in chosen]


def _once(entries: Iterable[Entry]) -> Iterator[Entry]:
    seen: set[int] = set()
    for entry in entries:
        if entry.order not in seen:
            seen.add(entry.order)
            yield entry


def _sortable(entry: Entry, path: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Return the values at a path that can be compared with their like."""
    return [(family(value), value) for value in values_at(entry.metadata, path) if comparable(value)]


def size_of(entry: Entry) -> int:
    """Return about how many bytes an entry takes: its key, its metadata, and its place in the tables."""
    return ENTRY_OVERHEAD + _deep(entry.key) + _deep(entry.metadata)


def _own(value: Any) -> int:
    """Return its own size, as `getsizeof` reports it."""
    try:
        return getsizeof(value)
    except Exception:
        return ENTRY_OVERHEAD


def _deep(value: Any) -> int:
    if isinstance(value, msgspec.Struct):
        return _own(value) + sum(_deep(getattr(value, name)) for name in value.__struct_fields__)
    if isinstance(value, Mapping):
        return _own(value) + sum(_deep(name) + _deep(item) for name, item in value.items())
    if isinstance(value, (tuple, frozenset)):
        return _own(value) + sum(map(_deep, value))
    return _own(value)
