"""Snapshots: all tables and indexes of a registry at one moment."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from heapq import nlargest, nsmallest
from itertools import islice
from types import MappingProxyType
from typing import Any

from foundation.keys import trouble, usable
from foundation.options import finite, is_a
from foundation.registry.errors import BadQuery, NotIndexed
from foundation.registry.indexes import OrderedIndex, comparable, family
from foundation.registry.metadata import values_at
from foundation.registry.plan import Plan, Source, source, walks
from foundation.registry.query import All, Query, Where, asked
from foundation.registry.tables import Entry, Tables
from supervision import Ref


class Snapshot:
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
        self.next: Snapshot | None = None
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
        usable("registry: key", key)
        if self.unique:
            entry = self._entry(key)
            return entry if entry is not None and entry.ref.alive else None
        return next(iter(self.lookup_all(key)), None)

    def lookup_all(self, key: Hashable) -> list[Entry]:
        """Return all entries of a key, first registered first.

        Raises:
            BadOption: this cannot be a key.
        """
        usable("registry: key", key)
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
        usable("find: value", value)
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
        """Return the entries whose metadata is as is asked. Indexes are used where there are any; see `explain`.

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
        """Return how many entries are as is asked. See `select`."""
        query = asked(where)
        return sum(1 for _ in self._holding(query, self._candidates(source(query, self.tables.indexes))))

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
    ) -> Plan:
        """Return how `select` would answer, without doing it. ``print`` it to read it."""
        query = _asked(where, order_by, limit)
        found, walk = self._best(query, order_by, limit)
        total = self._size
        lines = [f"of {total} entries, look at {total if found is None else found.count}: "]
        if walk is not None and order_by is not None and limit is not None:
            expected = total if found is None else found.count
            looks = min(total, limit * total // max(1, expected))
            lines = [f"walk through the ordered index of {order_by}, until {limit} match: about {looks} of {total}"]
            return Plan("walk", (order_by,), looks, total, False, (*lines, f"keep those with {query!r}"))
        lines[0] += "scan" if found is None else found.text
        keep = (*lines, f"keep those with {query!r}", f"sort by {order_by or 'order of registration'}")
        if found is None:
            return Plan("scan", (), total, total, True, keep)
        return Plan(found.access, found.fields, found.count, total, True, keep)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _best(self, query: Query, order_by: str | None, limit: int | None) -> tuple[Source | None, OrderedIndex | None]:
        indexes = self.tables.indexes
        found = source(query, indexes)
        index = None if order_by is None or self._kept() else indexes.get(order_by)
        return found, walks(found, index, self._size, limit)

    def _entry(self, id: Any) -> Entry | None:
        """Return an entry as it is in this snapshot."""
        entry = self.current.get(id)  # before the copies are looked at: so it is right whoever writes in between
        for kept in self._copies():
            if id in kept:
                return kept[id]
        return entry

    def _copies(self) -> Iterator[dict[Any, Entry | None]]:
        """Return what was kept of what was overwritten since, earliest first."""
        snapshot: Snapshot | None = self
        while snapshot is not None:
            if snapshot.kept:
                yield snapshot.kept
            root = self.tables.root
            snapshot = snapshot.next or (None if snapshot is root else root)

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


def _asked(where: Where, order_by: object, limit: object) -> Query:
    most = 0 if limit is None else finite(limit)
    if not isinstance(most, int) or most < 0:
        raise BadQuery("limit", limit, "give a whole number from 0, or None for all")
    if order_by is not None and not is_a(order_by, str):
        raise BadQuery("order_by", order_by, "give the path of a field, such as 'resources.memory'")
    return asked(where)


def _counts(value: Any) -> bool:
    """Tell whether something is one value, and not a mapping, or has one in it."""
    return trouble(value) is None


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
