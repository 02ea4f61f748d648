"""Queries: what is asked of the metadata of entries.

A criterion compares what is at a path with a value. Criteria are joined with ``&``, ``|`` and ``~``.

>>> from foundation.registry import Field
>>> wanted = (Field("health") == "healthy") & ((Field("resources.memory") >= 2**30) | ~Field("tags").is_in({"slow"}))
>>> wanted
health == 'healthy' and (resources.memory >= 1073741824 or not tags in ['slow'])
>>> wanted.holds({"health": "healthy", "tags": ("quick",)})
True

What is at a path may be a collection: then a criterion holds if it holds for any member (so ``eq`` is membership). A
path that leads nowhere, or to None, has no values: no comparison holds for it but ``neq``, ``not_in`` and ``eq None``.
Values of different families (a number and a text) are never in order; whether they are equal, Python decides.
"""

from __future__ import annotations

import operator as op
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal, TypeAlias, get_args

from foundation.registry.errors import BadQuery
from foundation.registry.indexes import family
from foundation.registry.metadata import values_at

Operator: TypeAlias = Literal["eq", "neq", "gt", "lt", "gte", "lte", "in", "not_in"]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {"gt": op.gt, "lt": op.lt, "gte": op.ge, "lte": op.le}
_SIGNS = {
    "eq": "==",
    "neq": "!=",
    "gt": ">",
    "lt": "<",
    "gte": ">=",
    "lte": "<=",
    "in": "in",
    "not_in": "not in",
}


class Query(ABC):
    """What is asked: a criterion, or several joined with ``&``, ``|`` and ``~``."""

    __slots__ = ()

    @abstractmethod
    def holds(self, metadata: Any) -> bool:
        """Tell whether metadata matches the query.

        Args:
            metadata: a struct or a mapping.
        """

    def __and__(self, other: Query | tuple[str, Any, Operator]) -> Query:
        return All((*_parts(self, All), *_parts(_query(other), All)))

    def __or__(self, other: Query | tuple[str, Any, Operator]) -> Query:
        return OneOf((*_parts(self, OneOf), *_parts(_query(other), OneOf)))

    def __invert__(self) -> Query:
        return Not(self)


class Criterion(Query):
    """What is at a path compares so with a value.

    Args:
        path: the name of a field; dots lead into nested structs and mappings.
        operator: ``eq``, ``neq``, ``gt``, ``lt``, ``gte``, ``lte``, ``in`` or ``not_in``.
        value: with what it is compared: for ``in`` and ``not_in`` a collection of values.

    Raises:
        BadQuery: the path, the operator or the value is none.
    """

    __slots__ = ("_parts", "_test", "operator", "path", "value")

    def __init__(self, path: str, operator: Operator, value: Any) -> None:
        if not isinstance(path, str) or not all(path.split(".")):
            raise BadQuery("path", path, "give the path of a field, such as 'resources.memory'")
        if operator not in get_args(Operator):
            raise BadQuery("operator", operator, f"there are {', '.join(get_args(Operator))}")
        if operator in ("in", "not_in"):
            if not isinstance(value, Collection) or isinstance(value, (str, bytes)):
                raise BadQuery(f"{path} {operator}", value, "give a collection of values")
            value = tuple(map(_hashable, value))
        else:
            value = _hashable(value)
        self.path = path
        self._parts = tuple(path.split("."))
        self.operator = operator
        self.value = value
        self._test = _test(operator, value)

    def holds(self, metadata: Any) -> bool:
        """Tell whether metadata matches the query."""
        return self._test(values_at(metadata, self._parts))

    def __repr__(self) -> str:
        value = list(self.value) if self.operator in ("in", "not_in") else self.value
        return f"{self.path} {_SIGNS[self.operator]} {value!r}"


class All(Query):
    """All of several queries hold."""

    __slots__ = ("queries",)

    def __init__(self, queries: Iterable[Query]) -> None:
        self.queries = tuple(queries)

    def holds(self, metadata: Any) -> bool:
        """Tell whether metadata matches the query."""
        return all(query.holds(metadata) for query in self.queries)

    def __repr__(self) -> str:
        return " and ".join(map(_bracketed, self.queries)) or "everything"


class OneOf(Query):
    """One of several queries holds."""

    __slots__ = ("queries",)

    def __init__(self, queries: Iterable[Query]) -> None:
        self.queries = tuple(queries)

    def holds(self, metadata: Any) -> bool:
        """Tell whether metadata matches the query."""
        return any(query.holds(metadata) for query in self.queries)

    def __repr__(self) -> str:
        return " or ".join(map(_bracketed, self.queries)) or "nothing"


class Not(Query):
    """A query does not hold."""

    __slots__ = ("query",)

    def __init__(self, query: Query) -> None:
        self.query = query

    def holds(self, metadata: Any) -> bool:
        """Tell whether metadata matches the query."""
        return not self.query.holds(metadata)

    def __repr__(self) -> str:
        return f"not {_bracketed(self.query)}"


class Field:
    """The field at a path, to be compared: ``Field("load") < 0.5``.

    Args:
        path: the name of a field; dots lead into nested structs and mappings.
    """

    __slots__ = ("path",)

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, path: str) -> None:
        self.path = path

    def __eq__(self, value: object) -> Query:  # type: ignore[override]
        return Criterion(self.path, "eq", value)

    def __ne__(self, value: object) -> Query:  # type: ignore[override]
        return Criterion(self.path, "neq", value)

    def __lt__(self, value: Any) -> Query:
        return Criterion(self.path, "lt", value)

    def __le__(self, value: Any) -> Query:
        return Criterion(self.path, "lte", value)

    def __gt__(self, value: Any) -> Query:
        return Criterion(self.path, "gt", value)

    def __ge__(self, value: Any) -> Query:
        return Criterion(self.path, "gte", value)

    def is_in(self, values: Collection[Any]) -> Query:
        """Ask for one of several values."""
        return Criterion(self.path, "in", values)

    def not_in(self, values: Collection[Any]) -> Query:
        """Ask for none of several values."""
        return Criterion(self.path, "not_in", values)


#: How queries are given: made with `Field`, as ``(path, value, operator)``, or several of them, all of which hold.
Where: TypeAlias = "Query | tuple[str, Any, Operator] | Iterable[Query | tuple[str, Any, Operator]]"


def as_query(where: Where) -> Query:
    """Return a query for what was asked.

    Raises:
        BadQuery: it is none.
    """
    if isinstance(where, Query):
        return where
    if isinstance(where, tuple) and len(where) == 3 and isinstance(where[0], str):
        parts: tuple[Any, Any, Any] = where
        return Criterion(parts[0], parts[2], parts[1])
    if isinstance(where, str) or not isinstance(where, Iterable):
        raise BadQuery("where", where, "compare a field, as in Field('load') < 0.5, or give (path, value, operator)")
    queries = tuple(map(_query, where))
    return queries[0] if len(queries) == 1 else All(queries)


def _query(part: Any) -> Query:
    if isinstance(part, Query) or (isinstance(part, tuple) and len(part) == 3):
        return as_query(part)
    raise BadQuery("where", part, "compare a field, as in Field('load') < 0.5, or give (path, value, operator)")


def _parts(query: Query, kind: type[All | OneOf]) -> tuple[Query, ...]:
    return query.queries if isinstance(query, kind) else (query,)


def _bracketed(query: Query) -> str:
    return f"({query!r})" if isinstance(query, (All, OneOf)) else repr(query)


def _hashable(value: Any) -> Any:
    """Return a value as metadata would keep it.

    Raises:
        BadQuery: nothing in metadata can equal it.
    """
    if isinstance(value, list):
        value = tuple(value)
    try:
        hash(value)
    except Exception:
        raise BadQuery("value", value, "give a value that metadata can have: one that can be hashed") from None
    return value


def _test(operator: Operator, value: Any) -> Callable[[Collection[Any]], bool]:
    """Return what tells whether the values at a path match."""
    if operator == "neq":
        equal = _test("eq", value)
        return lambda values: not equal(values)
    if operator == "not_in":
        among = _test("in", value)
        return lambda values: not among(values)
    if operator == "in":
        single = [_test("eq", one) for one in value]
        return lambda values: any(test(values) for test in single)
    if operator == "eq" and value is None:
        return lambda values: not values
    if operator == "eq":
        return lambda values: any(_true(op.eq, other, value) for other in values)
    compare, of = _COMPARE[operator], family(value)
    return lambda values: any(family(other) == of and _true(compare, other, value) for other in values)


def _true(compare: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    try:
        return bool(compare(left, right))
    except Exception:  # no order; or one is a Decimal, and the other not a number
        return False
