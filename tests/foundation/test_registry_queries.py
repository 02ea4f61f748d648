"""Queries: the answer is that of a full scan, whatever indexes there are, and the plan says how it is found."""

from __future__ import annotations

import datetime
import operator
from decimal import Decimal
from math import nan
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.registry import (
    BadMetadata,
    BadQuery,
    Criterion,
    Directory,
    Entry,
    Field,
    Query,
    Register,
    Registry,
    RegistrySnapshot,
)
from foundation.registry.indexes import family
from foundation.registry.tables import _sortable
from supervision import Actor, Ref, Runtime
from supervision.testing import run


class Idle(Actor):
    """Does nothing."""


# -- a reference: what a query means, in plain words ---------------------------------------------------------------


def values(metadata: Any, path: str) -> list[Any]:
    """Return what is at a path."""
    for name in path.split("."):
        metadata = metadata.get(name) if hasattr(metadata, "get") else None
    if metadata is None:
        return []
    return list(metadata) if isinstance(metadata, (tuple, frozenset)) else [metadata]


COMPARE = {"eq": operator.eq, "gt": operator.gt, "lt": operator.lt, "gte": operator.ge, "lte": operator.le}


def holds(query: Any, metadata: Any) -> bool:
    """Tell whether a query holds: ("and", ...), ("or", ...), ("not", ...) or (path, operator, value)."""
    if query[0] == "and":
        return all(holds(part, metadata) for part in query[1])
    if query[0] == "or":
        return any(holds(part, metadata) for part in query[1])
    if query[0] == "not":
        return not holds(query[1], metadata)
    path, how, value = query
    if how == "neq":
        return not holds((path, "eq", value), metadata)
    if how == "not_in":
        return not holds((path, "in", value), metadata)
    if how == "in":
        return any(holds((path, "eq", one), metadata) for one in value)
    there = values(metadata, path)
    if how == "eq" and value is None:
        return not there
    return any(family(one) == family(value) and compared(how, one, value) for one in there)


def compared(how: str, one: Any, value: Any) -> bool:
    """Compare; what has no order does not."""
    try:
        return bool(COMPARE[how](one, value))
    except (TypeError, ArithmeticError):
        return False


def built(query: Any) -> Query:
    """Return the query of a reference."""
    if query[0] == "and":
        joined = Field("a").is_in([]) | ~Field("a").is_in([])  # everything
        for part in query[1]:
            joined = joined & built(part)
        return joined
    if query[0] == "or":
        joined = Field("a").is_in([])
        for part in query[1]:
            joined = joined | built(part)
        return joined
    if query[0] == "not":
        return ~built(query[1])
    return Criterion(*query)


SCALARS = st.one_of(
    st.integers(0, 4),
    st.sampled_from(["a", "b", "c"]),
    st.booleans(),
    st.sampled_from([0.5, 1.0, nan, Decimal(1), Decimal("2.5"), datetime.date(2026, 1, 1)]),
    st.none(),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS.filter(lambda value: value is not None), max_size=3))
METADATA = st.dictionaries(st.sampled_from(["a", "b", "n"]), VALUES, max_size=3).flatmap(
    lambda flat: st.builds(lambda inner: {**flat, "deep": inner}, st.dictionaries(st.just("c"), VALUES))
)
PATHS = st.sampled_from(["a", "b", "n", "deep.c", "missing"])
CRITERIA = st.one_of(
    st.tuples(PATHS, st.sampled_from(["eq", "neq", "gt", "lt", "gte", "lte"]), SCALARS),
    st.tuples(PATHS, st.sampled_from(["in", "not_in"]), st.lists(SCALARS, max_size=3)),
)
QUERIES = st.recursive(
    CRITERIA,
    lambda inner: st.one_of(
        st.tuples(st.just("and"), st.lists(inner, max_size=3)),
        st.tuples(st.just("or"), st.lists(inner, max_size=3)),
        st.tuples(st.just("not"), inner),
    ),
    max_leaves=6,
)
INDEXES = st.dictionaries(st.sampled_from(["a", "b", "n", "deep.c"]), st.sampled_from(["hash", "ordered"]))


@settings(max_examples=600)
@given(
    st.lists(METADATA, max_size=12),
    st.lists(st.tuples(st.integers(0, 11), METADATA), max_size=4),
    QUERIES,
    INDEXES,
    st.sampled_from([None, "a", "n", "deep.c"]),
    st.booleans(),
    st.none() | st.integers(0, 5),
)
def test_the_answer_of_any_query_is_that_of_a_full_scan(
    rows: list[Any], later: list[Any], query: Any, indexes: Any, order_by: Any, descending: bool, limit: Any
) -> None:
    """With any indexes; of the current snapshot, and of one that is held while others write."""

    async def main() -> None:
        async with Runtime(watchdog=None, reports=False) as runtime:
            await runtime.spawn(Registry, indexes)
            directory = Directory.of(runtime)
            ref = await runtime.spawn(Idle)
            await directory.batch([Register(n, ref, row) for n, row in enumerate(rows)])
            held = directory.root
            expected = answer(held, query, order_by, descending, limit)
            check(held, expected)
            for n, row in later:
                if n < len(rows):
                    await directory.unregister(n)
                    await directory.register(n, ref, row)
            check(held, expected)
            check(directory.root, answer(directory.root, query, order_by, descending, limit))

    def check(snapshot: RegistrySnapshot, expected: list[Entry]) -> None:
        wanted = built(query)
        assert snapshot.select(wanted, order_by=order_by, descending=descending, limit=limit) == expected
        assert snapshot.count(wanted) == len(answer(snapshot, query, None, False, None))
        plan = snapshot.explain(wanted, order_by=order_by, descending=descending, limit=limit)
        assert plan.total == len(snapshot)
        assert str(plan)

    def answer(snapshot: RegistrySnapshot, query: Any, order_by: Any, descending: bool, limit: Any) -> list[Entry]:
        found = sorted((e for e in snapshot.entries() if holds(query, e.metadata)), key=lambda e: e.order)
        if order_by is None:
            return (found[::-1] if descending else found)[:limit]
        path = tuple(order_by.split("."))
        extreme = max if descending else min
        first = [entry for entry in found if _sortable(entry, path)]
        first.sort(key=lambda entry: (extreme(_sortable(entry, path)), entry.order), reverse=descending)
        return [*first, *(entry for entry in found if entry not in first)][:limit]

    run(main())


# -- plans ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def full(runtime: Runtime) -> Directory:
    """A directory of 1000 entries."""
    await runtime.spawn(Registry, {"kind": "hash", "tags": "hash", "load": "ordered", "rank": "ordered"})
    directory = Directory.of(runtime)
    ref = await runtime.spawn(Idle)
    metadata = [{"kind": n % 10, "tags": (n % 2, "t"), "load": n / 1000, "rank": (n % 7, 9)} for n in range(1000)]
    await directory.batch([Register(n, ref, row) for n, row in enumerate(metadata)])
    return directory


PLANS: dict[str, tuple[Any, dict[str, Any], tuple[Any, ...]]] = {
    "nothing asked": ((), {}, ("scan", (), 1000)),
    "no index": (Field("other") == 1, {}, ("scan", (), 1000)),
    "hash": (Field("kind") == 3, {}, ("index", ("kind",), 100)),
    "the smaller of two": ([("kind", 3, "eq"), ("load", 0.01, "lt")], {}, ("index", ("load",), 10)),
    "both bounds of one field": ([Field("load") >= 0.5, Field("load") < 0.504], {}, ("index", ("load",), 4)),
    "both bounds, several values": ([Field("rank") >= 3, Field("rank") < 4], {}, ("index", ("rank",), 572)),
    "in": (Field("kind").is_in([1, 2, 2]), {}, ("union", ("kind",), 200)),
    "in one": (Field("kind").is_in([1]), {}, ("index", ("kind",), 100)),
    "in nothing": (Field("kind").is_in([]), {}, ("nothing", (), 0)),
    "in, with None": (Field("kind").is_in([1, None]), {}, ("scan", (), 1000)),
    "or": ((Field("kind") == 1) | (Field("load") > 0.995), {}, ("union", ("kind", "load"), 104)),
    "or with a part without an index": ((Field("kind") == 1) | (Field("x") == 1), {}, ("scan", (), 1000)),
    "not": (~(Field("kind") == 1), {}, ("scan", (), 1000)),
    "neq": (Field("kind") != 1, {}, ("scan", (), 1000)),
    "hash has no order": (Field("kind") < 1, {}, ("scan", (), 1000)),
    "ordered equality": (Field("load") == 0.5, {}, ("index", ("load",), 1)),
    "not a number": (("load", nan, "gt"), {}, ("nothing", (), 0)),
    "another family": (Field("load") > "a", {}, ("index", ("load",), 0)),
    "walk": ((), {"order_by": "load", "limit": 5}, ("walk", ("load",), 5)),
    "walk through those that match": (Field("kind") == 1, {"order_by": "load", "limit": 5}, ("walk", ("load",), 50)),
    "few match, so no walk": (Field("load") < 0.01, {"order_by": "rank", "limit": 5}, ("index", ("load",), 10)),
    "no limit, so no walk": ((), {"order_by": "load"}, ("scan", (), 1000)),
    "no order to walk in": ((), {"order_by": "kind", "limit": 5}, ("scan", (), 1000)),
}


@pytest.mark.parametrize("case", PLANS)
async def test_the_plan_uses_the_index_with_the_fewest_candidates(full: Directory, case: str) -> None:
    where, how, expected = PLANS[case]
    plan = full.explain(where, **how)
    assert (plan.access, plan.fields, plan.candidates) == expected
    assert plan.sorts is (plan.access != "walk")
    assert all(field in str(plan) for field in plan.fields)


async def test_a_plan_can_be_read(full: Directory) -> None:
    plan = full.explain([Field("kind") == 3, ("load", 0.5, "lt")], order_by="load")
    assert str(plan).splitlines() == [
        "of 1000 entries, look at 100: hash index of kind: kind == 3",
        "keep those with kind == 3 and load < 0.5",
        "sort by load",
    ]


async def test_a_walk_stops_early_and_goes_on_with_those_without_a_value(runtime: Runtime) -> None:
    await runtime.spawn(Registry, {"load": "ordered"})
    directory = Directory.of(runtime)
    ref = await runtime.spawn(Idle)
    for key, row in (("none", {}), ("two", {"load": 2}), ("one", {"load": (1, 5)}), ("text", {"load": "x"})):
        await directory.register(key, ref, row)
    for limit, keys in ((2, ["one", "two"]), (3, ["one", "two", "text"]), (9, ["one", "two", "text", "none"])):
        assert [entry.key for entry in directory.select(order_by="load", limit=limit)] == keys
    backwards = directory.select(order_by="load", descending=True, limit=4)
    assert [entry.key for entry in backwards] == ["text", "one", "two", "none"]


# -- bad questions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (("a", 1, "like"), "operator = 'like'"),
        (("", 1, "eq"), "path = ''"),
        (("a.", 1, "eq"), "path = 'a.'"),
        (("a", 1, "in"), "a collection of values"),
        (("a", "text", "in"), "a collection of values"),
        (("a", {}, "eq"), "that can be hashed"),
        ("a == 1", "compare a field"),
        (7, "compare a field"),
        ([7], "compare a field"),
        ([("a", 1)], "compare a field"),
    ],
)
def test_a_question_that_makes_no_sense_is_named(runtime: Runtime, where: Any, message: str) -> None:
    with pytest.raises(BadQuery, match=message) as caught:
        Directory.of(runtime).select(where)
    assert isinstance(caught.value, ValueError)


def test_queries_are_joined_with_queries_only() -> None:
    for join in (operator.and_, operator.or_):
        with pytest.raises(BadQuery, match="compare a field"):
            join(Field("a") == 1, 7)
    assert repr((Field("a") == 1) & ("b", 2, "gt")) == "a == 1 and b > 2"


def test_queries_can_be_read() -> None:
    query = ~((Field("a") != 1) | Field("b").not_in([2])) & (Field("c") >= 1) & (Field("d") <= 2) & (Field("e") > 3)
    assert repr(query) == "not (a != 1 or b not in [2]) and c >= 1 and d <= 2 and e > 3"


def test_lists_are_compared_as_they_are_kept() -> None:
    assert Criterion("a", "eq", [1, 2]).value == (1, 2)


async def test_an_ordered_index_takes_what_has_an_order(runtime: Runtime) -> None:
    await runtime.spawn(Registry, {"a": "ordered"})
    directory = Directory.of(runtime)
    ref = await runtime.spawn(Idle)
    with pytest.raises(BadMetadata, match="can be compared"):
        await directory.register("x", ref, {"a": 1j})
    await directory.register("x", ref, {"a": nan})
    assert directory.select(order_by="a", limit=1)[0].key == "x"


class Deep(msgspec.Struct, frozen=True):
    """A struct in a struct."""

    inner: Any = None


async def test_paths_lead_through_structs_and_mappings(runtime: Runtime, ref: Ref) -> None:
    await runtime.spawn(Registry)
    directory = Directory.of(runtime)
    await directory.register("x", ref, Deep(Deep({"a": 3})))
    await directory.register("y", ref, Deep(7))
    assert [entry.key for entry in directory.select(("inner.inner.a", 3, "eq"))] == ["x"]
    assert [entry.key for entry in directory.select(("inner.inner.a", None, "eq"))] == ["y"]


@pytest.fixture
async def ref(runtime: Runtime) -> Ref:
    """An actor."""
    return await runtime.spawn(Idle)
