"""Indexes: who has which value in one field. They change in place; what a held snapshot needs is kept by it.

A hash index (the default) answers which entries have a value. An ordered one answers ranges and gives order as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from math import inf
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

from foundation.extras import import_extra
from foundation.registry.errors import BadMetadata

IndexKind: TypeAlias = Literal["hash", "ordered"]
#: A value, the order of an entry, and its identity: in this order an ordered index keeps them.
IndexRow: TypeAlias = "tuple[Any, int, Any]"
#: Under each value, who has it. A few are a tuple, as most values have few, and many a dictionary.
Postings: TypeAlias = "dict[Any, tuple[Any, ...] | dict[Any, None]]"

#: The longest posting that is a tuple.
_SHORT = 8


def add_posting(postings: Postings, value: Any, id: Any) -> None:
    """Add an entry to those that have a value."""
    ids = postings.get(value, ())
    if type(ids) is dict:
        ids[id] = None
    elif len(ids) < _SHORT:
        postings[value] = (*ids, id)
    else:
        postings[value] = dict.fromkeys((*ids, id))


def discard_posting(postings: Postings, value: Any, id: Any) -> None:
    """Take an entry out of those that have a value."""
    ids = postings[value]
    if type(ids) is dict:
        del ids[id]
    else:
        postings[value] = ids = tuple(other for other in ids if other != id)
    if not ids:
        del postings[value]


class HashIndex:
    """For each value, who has it."""

    __slots__ = ("postings",)

    kind: ClassVar[IndexKind] = "hash"

    def __init__(self) -> None:
        self.postings: Postings = {}

    def having(self, value: Any) -> Collection[Any]:
        """Return those who have a value."""
        return self.postings.get(value, ())

    def change(self, id: Any, order: int, old: tuple[Any, ...], new: tuple[Any, ...]) -> None:
        """Note that an entry has the values ``new`` instead of ``old``."""
        if not old and len(new) == 1:  # as most do that come in
            add_posting(self.postings, new[0], id)
            return
        for value in old:
            if value not in new:
                discard_posting(self.postings, value, id)
        for value in new:
            if value not in old:
                add_posting(self.postings, value, id)

    def check(self, path: str, values: tuple[Any, ...]) -> None:
        """Make sure that values can be kept: whatever they raise when they are compared, they raise here."""
        for value in values:
            if type(value) is not str:
                self.postings.get(value)


class OrderedIndex:
    """All values in order, and who has them.

    Values of different families (numbers, texts, days, ...) cannot be compared; each family has an order of its own.
    It needs sortedcontainers.

    Raises:
        MissingExtra: that is not installed.

    Attributes:
        families: the rows of each family.
        several: how many entries have more than one value.
    """

    __slots__ = ("_rows", "families", "several")

    kind: ClassVar[IndexKind] = "ordered"

    def __init__(self) -> None:
        self._rows: Any = import_extra(
            "sortedcontainers", of="an ordered index of a registry", extra="registry"
        ).SortedList
        self.families: dict[str, Any] = {}
        self.several = 0

    def having(self, value: Any) -> Collection[Any]:
        """Return those who have a value."""
        return tuple(row[2] for row in self.rows(Range.of("eq", value)))

    def rows(self, within: Range) -> Iterator[IndexRow]:
        """Walk through the rows of a range."""
        rows = self.families.get(within.family, ())
        return rows.irange(within.low, within.high) if rows else iter(())

    def count(self, within: Range) -> int:
        """Return how many rows there are in a range."""
        rows = self.families.get(within.family, ())
        if not rows:
            return 0
        end = len(rows) if within.high is None else rows.bisect_left(within.high)
        return max(0, end - (0 if within.low is None else rows.bisect_left(within.low)))

    def walk(self, *, reverse: bool) -> Iterator[IndexRow]:
        """Walk through all rows in order: of values, and of registration among equal ones."""
        for name in sorted(self.families, reverse=reverse):
            yield from reversed(self.families[name]) if reverse else self.families[name]

    def change(self, id: Any, order: int, old: tuple[Any, ...], new: tuple[Any, ...]) -> None:
        """Note that an entry has the values ``new`` instead of ``old``."""
        self.several += (len(new) > 1) - (len(old) > 1)
        for value in old:
            if value not in new and comparable(value):
                rows = self.families[family(value)]
                rows.remove((value, order, id))
                if not rows:
                    del self.families[family(value)]
        for value in new:
            if value not in old and comparable(value):
                rows = self.families.get(family(value))
                if rows is None:
                    rows = self.families[family(value)] = self._rows()
                rows.add((value, order, id))

    def check(self, path: str, values: tuple[Any, ...]) -> None:
        """Make sure that values can be kept.

        Raises:
            BadMetadata: a value cannot be compared with its like.
        """
        for value in values:
            if value == value and not comparable(value):
                remedy = "values of an ordered index can be compared: numbers, texts, bytes, times, tuples of these"
                raise BadMetadata(f"metadata.{path}", value, remedy)


Index: TypeAlias = HashIndex | OrderedIndex
INDEX_KINDS: dict[str, type[HashIndex | OrderedIndex]] = {"hash": HashIndex, "ordered": OrderedIndex}


def family(value: Any) -> str:
    """Return with what a value can be compared: numbers with numbers, texts with texts, all else with its own type.

    Instants with and without a time zone have no common order, nor have tuples with different things in them.

    >>> [family(value) for value in (1, 0.5, "a", (1, "a"), None)]
    ['number', 'number', 'text', '(number, text)', 'NoneType']
    """
    if isinstance(value, (int, float, Decimal)):
        return "number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, (datetime, time)):
        return f"{type(value).__qualname__} {'without' if value.utcoffset() is None else 'with'} a time zone"
    if isinstance(value, tuple):
        return f"({', '.join(map(family, value))})"
    return type(value).__qualname__


def comparable(value: Any) -> bool:
    """Tell whether a value has a place in the order of its like: what is not a number, or has no order, has none."""
    if isinstance(value, tuple):
        return all(map(comparable, value))
    ordered: Any = _ORDERED
    try:
        return isinstance(value, ordered) and bool(value == value and not value < value)
    except Exception:
        return False


#: Of these types any two values of a family can be compared.
_ORDERED = (int, float, Decimal, str, bytes, date, time, timedelta)


class Range(NamedTuple):
    """Between which rows of an ordered index something is.

    Attributes:
        family: of the values.
        low: smaller than the first row; None if there is no bound.
        high: larger than the last row; None if there is no bound.
    """

    family: str
    low: tuple[Any, ...] | None
    high: tuple[Any, ...] | None

    @classmethod
    def of(cls, operator: str, value: Any) -> Range:
        """Return where the rows are that compare so with a value: ``eq``, ``gt``, ``gte``, ``lt`` or ``lte``."""
        below, above = (value,), (value, inf)
        low = {"gt": above, "gte": below, "eq": below}.get(operator)
        high = {"lt": below, "lte": above, "eq": above}.get(operator)
        return cls(family(value), low, high)

    def narrowed(self, other: Range) -> Range:
        """Return where both are, if they are of one family."""
        lows = [low for low in (self.low, other.low) if low is not None]
        highs = [high for high in (self.high, other.high) if high is not None]
        return Range(self.family, max(lows, default=None), min(highs, default=None))
