"""Plans: how a query is answered with the indexes there are.

An index gives candidates, and whether a candidate is meant is decided by the query itself; so an answer is always that
of a full scan. Of several ways the planner takes the one with the fewest candidates, which it counts exactly: postings
know how many they are, and an ordered index counts a range in O(log n).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import reduce
from itertools import chain
from typing import Any, Literal, TypeAlias, TypeGuard

import msgspec

from foundation.registry.indexes import HashIndex, Index, OrderedIndex, Range, comparable
from foundation.registry.query import All, Criterion, OneOf, Query

AccessPath: TypeAlias = Literal["scan", "index", "union", "walk", "nothing"]


class QueryPlan(msgspec.Struct, frozen=True):
    """How a query is answered.

    Attributes:
        access: where the candidates come from: a ``scan`` of all entries, one ``index``, the ``union`` of several, a
            ``walk`` through an ordered index in the order that was asked for, or ``nothing``, as none can match.
        fields: the indexed fields that are used.
        candidates: how many entries are looked at; of a walk that ends early, how many are expected to be.
        total: how many entries there are.
        sorts: whether the answer has to be sorted afterwards.
        text: what each step does.
    """

    access: AccessPath
    fields: tuple[str, ...]
    candidates: int
    total: int
    sorts: bool = True
    text: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join(self.text)


class Source(msgspec.Struct, frozen=True):
    """Where candidates come from: how many there are, and a function that gives them."""

    access: AccessPath
    fields: tuple[str, ...]
    count: int
    ids: Callable[[], Iterable[Any]]
    text: str


def best_source(query: Query, indexes: Mapping[str, Index]) -> Source | None:
    """Return the best source of candidates for a query that the indexes give, or None if they give none."""
    if isinstance(query, Criterion):
        index = indexes.get(query.path)
        return None if index is None else _by(index, query)
    if isinstance(query, All):
        found = [part for part in (best_source(query, indexes) for query in query.queries) if part is not None]
        found += _between(query, indexes)
        return min(found, key=lambda part: part.count, default=None)
    if isinstance(query, OneOf):
        parts = [best_source(query, indexes) for query in query.queries]
        return None if None in parts else _union([part for part in parts if part is not None])
    return None


def _by(index: Index, query: Criterion) -> Source | None:
    path, operator, value = query.path, query.operator, query.value
    if operator == "in" and None not in value:
        parts = [_by(index, Criterion(path, "eq", one)) for one in dict.fromkeys(value)]
        return None if None in parts else _union([part for part in parts if part is not None])
    if operator in ("neq", "not_in", "in") or value is None:
        return None
    if isinstance(index, HashIndex):
        if operator != "eq":
            return None
        found = index.having(value)
        return Source("index", (path,), len(found), lambda: found, f"hash index of {path}: {query!r}")
    if comparable(value):
        return _rows(path, index, Range.of(operator, value), repr(query))
    return None if operator == "eq" else _union([])  # it may equal what can be compared: 1+0j does


def _between(query: All, indexes: Mapping[str, Index]) -> Iterator[Source]:
    """Return sources that join several bounds of one field, such as ``1 <= load`` and ``load < 2``.

    This is right only as long as no entry has several values there, of which one could keep to each bound.
    """
    for path, index in indexes.items():
        if isinstance(index, OrderedIndex) and not index.several:
            bounds = [part for part in query.queries if _is_bound(part, path)]
            ranges = [Range.of(part.operator, part.value) for part in bounds]
            if len({found.family for found in ranges}) == 1 and len(ranges) > 1:
                yield _rows(path, index, reduce(Range.narrowed, ranges), " and ".join(map(repr, bounds)))


def _is_bound(query: Query, path: str) -> TypeGuard[Criterion]:
    return (
        isinstance(query, Criterion)
        and query.path == path
        and query.operator in ("gt", "gte", "lt", "lte")
        and comparable(query.value)
    )


def _rows(path: str, index: OrderedIndex, within: Range, text: str) -> Source:
    return Source(
        "index",
        (path,),
        index.count(within),
        lambda: dict.fromkeys(row[2] for row in index.rows(within)),
        f"ordered index of {path}: {text}",
    )


def _union(parts: list[Source]) -> Source:
    if len(parts) == 1:
        return parts[0]
    fields = tuple(dict.fromkeys(chain.from_iterable(part.fields for part in parts)))
    text = " + ".join(part.text for part in parts) or "nothing can match"
    return Source(
        "union" if parts else "nothing",
        fields,
        sum(part.count for part in parts),
        lambda: dict.fromkeys(chain.from_iterable(part.ids() for part in parts)),
        text,
    )


def index_to_walk(found: Source | None, index: Index | None, total: int, limit: int | None) -> OrderedIndex | None:
    """Return the ordered index through which it is best to walk in the order asked for, or None if it is not.

    A walk ends as soon as it has enough: it is expected to look at ``limit * total / candidates`` entries.

    Args:
        found: the best source without a walk.
        index: that of the field by which the answer is ordered.
        total: how many entries there are.
        limit: how many are wanted.
    """
    if not isinstance(index, OrderedIndex) or limit is None:
        return None
    candidates = total if found is None else found.count
    return index if candidates * candidates > total * limit else None
