"""Keys and values: one thing each, in memory, on disk and in every answer; and what cannot be kept is refused first."""

from __future__ import annotations

import contextlib
import datetime
import enum
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.store import (
    BadKey,
    BadValue,
    Database,
    NoTable,
    RowUnreadable,
    Store,
    StoreSnapshot,
    TooLarge,
)
from foundation.store.file import StoreFile
from foundation.store.keys import as_key, decoded_key, encoded_key
from foundation.store.messages import Commit
from foundation.store.snapshot import unchangeable
from foundation.store.trie import Trie
from supervision import BadTime, Runtime, StartError
from supervision.errors import BadName, BadOption
from tests.foundation.test_store import put, rows

NAN = float("nan")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the file is."""
    return tmp_path / "x.db"


@pytest.fixture
async def store(runtime: Runtime, path: Path) -> Database:
    """A store with a table."""
    await runtime.spawn(Store, path, ["log", "other"])
    return Database.of(runtime)


async def again(runtime: Runtime, path: Path, tables: Any = ("log", "other"), name: str = "again") -> Database:
    """Stop the store, and start another one on its file."""
    ref = runtime.whereis("store")
    if ref is not None:
        await ref.stop()
    await runtime.spawn(Store, path, tables, name=name)
    return Database.of(runtime, name)


# -- keys --------------------------------------------------------------------------------------------------------------


class Number(enum.IntEnum):
    """Numbers that are numbers."""

    ONE = 1


class Text(str):
    """Text that is text."""

    __slots__ = ()


class Pair(tuple):  # type: ignore[type-arg]
    """A tuple that is a tuple."""

    __slots__ = ()


class Half(float):
    """A number that is a number."""

    __slots__ = ()


class Octets(bytes):
    """Bytes that are bytes."""


SAME = [
    (1, [1.0, True, Number.ONE, Half(1)]),
    (0, [-0.0, 0.0, False]),
    (2**63, [float(2**63)]),
    ((1, ("a", 0)), [(True, ("a", -0.0)), Pair((1.0, Pair(("a", False))))]),
    ("a", [Text("a")]),
    (b"a", [Octets(b"a")]),
    (0.5, [Half(0.5)]),
]


@pytest.mark.parametrize(("key", "others"), SAME)
async def test_equal_keys_are_one_key_everywhere(
    runtime: Runtime, store: Database, path: Path, key: Any, others: list[Any]
) -> None:
    for n, other in enumerate(others):
        await put(store, other, n)
        await put(store, key, "newest")
        async with store.transaction() as tx:
            assert tx.get("log", other) == "newest"
            tx.put("log", other, "mine")
            assert (tx.get("log", key), dict(tx.items("log"))) == ("mine", {key: "mine"})
        assert rows(store) == {key: "mine"}
        assert [type(one) for one in rows(store)] == [type(key)]
        async with store.transaction() as tx:
            tx.delete("log", other)
        assert rows(store) == {}
        await put(store, other, "last")
    shown = rows(store)
    assert [type(one) for one in shown] == [type(one) for one in rows(await again(runtime, path))]
    assert rows(Database.of(runtime, "again")) == shown == {key: "last"}


KEYS = st.recursive(
    st.text() | st.binary() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.booleans(),
    lambda keys: st.lists(keys, max_size=3).map(tuple),
    max_leaves=4,
)


@given(KEYS, KEYS)
def test_keys_are_equal_when_they_are_equal_on_disk(one: Any, two: Any) -> None:
    kept = as_key("t", one)
    assert kept == one
    assert decoded_key(encoded_key("t", kept)) == one
    assert type(decoded_key(encoded_key("t", kept))) is type(kept)
    assert (one == two) is (encoded_key("t", kept) == encoded_key("t", as_key("t", two)))


class Evil:
    """Says nothing about itself."""

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    def __hash__(self) -> int:
        return 1

    def __repr__(self) -> str:
        raise ZeroDivisionError

    __str__ = __repr__


class Unhashable(Evil):
    """And is no key at all."""

    def __hash__(self) -> int:
        raise ZeroDivisionError


class Pretender(Evil):
    """Says that it is text."""

    __class__ = str  # type: ignore[assignment]


def nested(depth: int) -> Any:
    """Return a tuple in a tuple in a tuple."""
    key: Any = "a"
    for _ in range(depth):
        key = (key,)
    return key


BAD_KEYS = [
    NAN, (1, NAN), 10**400, -(10**400), 2**64, None, [], {}, {1}, (1, None), object(), Evil(), Unhashable(),
    Pretender(), "\ud800", ("a", "\ud800"), 1j, nested(20), nested(10_000), datetime.date(2026, 1, 1), bytearray(b"a"),
]  # fmt: skip


@pytest.mark.parametrize("key", BAD_KEYS, ids=lambda key: type(key).__name__)
async def test_what_can_be_no_key_is_refused_before_anything_changes(
    runtime: Runtime, store: Database, path: Path, key: Any
) -> None:
    await put(store, 1, "one")
    before = runtime.whereis("store")
    async with store.transaction() as tx:
        for use in (lambda: tx.put("log", key, 1), lambda: tx.delete("log", key)):
            with pytest.raises(BadKey, match="a key is text, a number of 64 bits"):
                use()  # type: ignore[no-untyped-call]
        with contextlib.suppress(BadKey):
            assert tx.get("log", key, "nothing") == "nothing"
        with contextlib.suppress(BadKey):
            assert store.table("log").get(key, "nothing") == "nothing"
        tx.put("log", "fine", 1)
    assert rows(store) == {1: "one", "fine": 1}
    assert runtime.whereis("store") is before
    assert rows(await again(runtime, path)) == {1: "one", "fine": 1}


@pytest.mark.parametrize(
    "name",
    [NAN, 10**400, None, [], Evil(), Unhashable(), "", "nothing", ("log",)],
    ids=lambda name: type(name).__name__,
)
async def test_what_is_no_table_is_said(store: Database, name: Any) -> None:
    async with store.transaction() as tx:
        for use in (
            lambda: tx.get(name, 1),
            lambda: tx.put(name, 1, 1),
            lambda: tx.delete(name, 1),
            lambda: tx.items(name),
            lambda: store.table(name),
        ):
            with pytest.raises(NoTable, match="there are: log, other"):
                use()


# -- values ------------------------------------------------------------------------------------------------------------


class Point(msgspec.Struct, frozen=True):
    """Cannot be changed, but what is in it can, perhaps."""

    x: Any = 0


class Loose(msgspec.Struct):
    """Can be changed."""

    x: int = 0


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (None, True), (1, True), ("a", True), (b"a", True), (2.5, True), ((1, "a"), True), (frozenset({1}), True),
        (Point(1), True), (Point(("a", Point())), True), (Number.ONE, True), (datetime.date(2026, 1, 1), True),
        ([], False), ({}, False), (set(), False), (bytearray(b"a"), False), (([],), False), (Point([]), False),
        (Loose(), False), (Pair(), False), (object(), False),
    ],
)  # fmt: skip
def test_what_nobody_can_change_is_shared_and_the_rest_is_not(value: Any, plain: bool) -> None:
    assert unchangeable(value) is plain


async def test_a_reader_has_its_own_copy_of_what_can_be_changed(runtime: Runtime, path: Path) -> None:
    await runtime.spawn(Store, path, {"log": None, "points": Point, "loose": Loose})
    store = Database.of(runtime)
    mine = {"a": [1]}
    await put(store, "k", mine)
    mine["a"].append(2)
    async with store.transaction() as tx:
        tx.put("points", 1, Point([1]))
        tx.put("points", 2, Point("shared"))
        tx.put("loose", 1, Loose(1))
    for read in (lambda: store.table("log").get("k"), lambda: dict(store.table("log").items())["k"]):
        assert read() == {"a": [1]}  # type: ignore[no-untyped-call]
        read()["a"].append("somebody else's")  # type: ignore[no-untyped-call]
    async with store.transaction() as tx:
        tx.get("log", "k")["a"].append("a reader's")
        next(tx.items("log"))[1]["a"].append("another reader's")
        own = [1]
        tx.put("log", "new", own)
        own.append(2)
        tx.get("log", "new").append(3)
        assert tx.get("log", "new") == [1]
        assert dict(tx.items("log"))["new"] == [1]
    points, loose = store.table("points"), store.table("loose")
    points.get(1).x.append(2)
    loose.get(1).x = 7
    assert (points.get(1), loose.get(1)) == (Point([1]), Loose(1))
    assert points.get(2) is points.get(2)
    assert rows(store) == {"k": {"a": [1]}, "new": [1]}
    assert rows(await again(runtime, path)) == {"k": {"a": [1]}, "new": [1]}


async def test_a_retry_begins_from_what_is_committed(store: Database) -> None:
    await put(store, "list", [])
    tries: list[int] = []

    async def book(tx: Any) -> None:
        tries.append(1)
        log = tx.get("log", "list")
        log.append("booked")
        if len(tries) == 1:
            await put(store, "list", ["another's"])
        tx.put("log", "list", log)

    await store.transact(book)
    assert len(tries) == 2
    assert store.table("log").get("list") == ["another's", "booked"]


class Recursive(dict):  # type: ignore[type-arg]
    """Contains itself."""


def endless() -> Any:
    """Return a list that contains itself."""
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value",
    [object(), 10**400, [object()], {1: Evil()}, Evil(), Unhashable(), endless(), "\ud800", 1j, {(1, 2): [{}, Evil()]}],
    ids=lambda value: type(value).__name__,
)
async def test_what_can_be_no_value_is_refused_before_anything_changes(
    runtime: Runtime, store: Database, path: Path, value: Any
) -> None:
    async with store.transaction() as tx:
        with pytest.raises(BadValue, match="give what msgspec encodes, and the table takes"):
            tx.put("log", "a", value)
        tx.put("log", "b", 1)
    assert rows(store) == {"b": 1}
    assert rows(await again(runtime, path)) == {"b": 1}


async def test_odd_values_are_read_as_they_were_written(runtime: Runtime, store: Database, path: Path) -> None:
    odd = {
        "nan": NAN,
        "inf": math.inf,
        "empty": "",
        "nul": "\0",
        "deep": nested(300),
        "bytes": b"\0" * 1000,
        "map": {1: 2, "1": 3},
    }
    async with store.transaction() as tx:
        for name, value in odd.items():
            tx.put("log", name, value)
    shown = repr(sorted(rows(store).items()))
    assert repr(sorted(rows(await again(runtime, path)).items())) == shown


async def test_a_value_that_is_too_deep_for_the_start_is_decoded_when_it_is_read(
    runtime: Runtime, store: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, "deep", nested(50))

    def too_deep(value: Any) -> bool:
        raise RecursionError

    with monkeypatch.context() as patch:
        patch.setattr("foundation.store.snapshot.unchangeable", too_deep)
        later = await again(runtime, path)
    assert str(later.table("log").get("deep")).count("[") == 50


async def test_a_transaction_has_a_size(store: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foundation.store.database.MOST_BYTES", 1000)
    undone: list[int] = []
    with pytest.raises(TooLarge, match=r"writes 1,.* bytes, and may write 1,000; nothing was done: write less"):
        async with store.transaction() as tx:
            tx.on_rollback(lambda: undone.append(1))
            tx.put("log", 1, b"x" * 1000)
            tx.delete("log", 2)
    assert (undone, rows(store)) == ([1], {})


async def test_a_row_that_is_not_of_its_tables_type_any_more_is_named(
    runtime: Runtime, store: Database, path: Path, expect_crash: Any
) -> None:
    expect_crash(reason="RowUnreadable")
    await put(store, ("a", 1), {"y": 1})
    await runtime.whereis("store").stop()  # type: ignore[union-attr]
    with pytest.raises(
        StartError, match=r"RowUnreadable.*log\[\('a', 1\)\] is not of the table's type .*: give new fields"
    ) as caught:
        await runtime.spawn(Store, path, {"log": list[int]})
    assert isinstance(caught.value.__cause__, RowUnreadable)
    assert rows(await again(runtime, path)) == {("a", 1): {"y": 1}}


# -- nasty arguments elsewhere -----------------------------------------------------------------------------------------

NASTY = [NAN, math.inf, -1, 10**400, True, "x", [], {}, Evil(), Unhashable(), object(), b"\0"]


@pytest.mark.parametrize("value", NASTY, ids=lambda value: type(value).__name__)
async def test_times_and_numbers_are_checked(store: Database, value: Any) -> None:
    with pytest.raises(BadTime, match="transaction: timeout"):
        store.transaction(value)

    async def work(tx: Any) -> None:
        raise AssertionError

    if value != 10**400 if isinstance(value, int) else True:
        with pytest.raises(BadOption, match="attempts"):
            await store.transact(work, attempts=value)
    with pytest.raises(BadOption, match=r"transact: work"):
        await store.transact(value)


async def test_a_plain_function_is_no_work(store: Database) -> None:
    with pytest.raises(BadOption, match="give an async function"):
        await store.transact(lambda tx: tx.put("log", 1, 1))  # type: ignore[arg-type, return-value]
    assert rows(store) == {}


@pytest.mark.parametrize(
    "value", [NAN, 10**400, [], {}, Evil(), object(), "a\0b", ""], ids=lambda value: type(value).__name__
)
async def test_paths_and_names_are_checked(runtime: Runtime, store: Database, value: Any) -> None:
    with pytest.raises(BadOption, match="back_up: path"):
        await store.back_up(value)
    with pytest.raises((BadOption, StartError), match="Store: path"):
        await runtime.spawn(Store, value, ["t"], name="other")
    if not isinstance(value, str) or not value:
        with pytest.raises(BadName):
            Database.of(runtime, value)
    with pytest.raises(BadOption, match="give the Runtime"):
        Database.of(value)


async def test_a_backup_to_where_it_cannot_be_is_refused_to_its_caller(
    store: Database, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(BadOption, match="this is the one that is to be copied"):
        await store.back_up(path)
    with pytest.raises(Exception, match="is no store's file"):
        await store.back_up(tmp_path / "text")
    await put(store, 1, 1)


@pytest.mark.parametrize(
    "tables",
    [
        "abc",
        b"abc",
        5,
        None,
        [],
        {},
        [""],
        ["a\nb"],
        ["\ud800"],
        [5],
        [NAN],
        {"": None},
        {"a": 5},
        {"a": object()},
        [[]],
        [Text("a")],
    ],
    ids=lambda value: repr(value).partition(" at 0x")[0],
)
async def test_what_are_no_tables_is_said(runtime: Runtime, path: Path, tables: Any) -> None:
    with pytest.raises((BadOption, StartError), match="Store: tables"):
        await runtime.spawn(Store, path, tables)
    assert not path.exists()


async def test_a_disk_is_a_disk(runtime: Runtime, path: Path) -> None:
    with pytest.raises((BadOption, StartError), match="Store: disk"):
        await runtime.spawn(Store, path, ["t"], disk=open)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [NAN, [], Evil(), Unhashable(), None], ids=lambda value: type(value).__name__)
async def test_what_a_transaction_asks_of_others_is_checked_at_once(
    runtime: Runtime, store: Database, value: Any
) -> None:
    async with store.transaction() as tx:
        with pytest.raises(BadOption, match="on_rollback"):
            tx.on_rollback(value)
        with pytest.raises(BadOption, match="effect: undo"):
            await tx.effect(lambda: 1 / 0, value)
        with pytest.raises(BadOption, match="effect: do"):
            await tx.effect(value, print)
        with pytest.raises(BadOption, match="transaction: registry"):
            tx.unregister("a", registry=value)
        if type(value) in (list, Unhashable):
            with pytest.raises(BadOption, match="give something that can be a dictionary key"):
                tx.unregister(value)


async def test_a_commit_that_nobody_has_made_is_refused(runtime: Runtime, store: Database) -> None:
    with pytest.raises(BadOption, match=r"use Database\.transaction"):
        await store.address.call(Commit({}, {}, {}, {}, None))  # type: ignore[arg-type]


async def test_a_table_that_is_gone_is_said_to_a_transaction_that_has_read_it(
    runtime: Runtime, store: Database, path: Path
) -> None:
    async with store.transaction() as tx:
        await put(store, 1, 1)
        tx.put("other", 1, 1)
        await runtime.whereis("store").stop()  # type: ignore[union-attr]
        await runtime.spawn(Store, path, ["log"])
        with pytest.raises(NoTable):
            async with store.transaction() as another:
                another._writes[("other", 1)] = tx._writes[("other", 1)]
        tx._writes.clear()
    assert rows(store) == {1: 1}


# -- the map behind it -------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 200) | st.text(max_size=2) | st.binary(max_size=2), st.integers(), max_size=60),
        st.lists(st.integers(0, 200), max_size=40),
    ),
    max_size=8,
)


@given(STEPS)
def test_a_trie_is_a_dictionary_that_never_changes(steps: Any) -> None:
    trie: Trie[Any, int] = Trie()
    model: dict[Any, int] = {}
    held: list[tuple[Trie[Any, int], dict[Any, int]]] = []
    for changes, removed in steps:
        trie = trie.changed(changes, removed)
        model = {key: value for key, value in {**model, **changes}.items() if key not in removed}
        held.append((trie, model))
    for one, other in held:
        assert dict(one.pairs()) == dict(one.items()) == other == dict(Trie(other))
        assert len(one) == len(other)
        assert all(one[key] == one.get(key) == value for key, value in other.items())
        assert one.get("nothing", 7) == other.get("nothing", 7)


def test_keys_with_one_hash_are_kept_apart() -> None:
    class Same(int):
        def __hash__(self) -> int:
            return 7

    keys = [Same(n) for n in range(100)]
    trie = Trie({key: key for key in keys})
    assert all(trie[key] == key for key in keys)
    smaller = trie.changed({}, keys)
    assert (len(smaller), dict(smaller)) == (0, {})
    with pytest.raises(KeyError):
        smaller[keys[0]]


def test_what_is_empty_again_takes_no_room() -> None:
    trie = Trie({n: n for n in range(10_000)})
    assert trie.changed({}, range(10_000))._root == {}


def test_a_snapshot_of_nothing_has_no_tables() -> None:
    assert StoreSnapshot().version == 0
    with pytest.raises(NoTable, match="there are: none"):
        StoreSnapshot().table("t")


def test_the_keys_of_a_file_are_encoded_once(path: Path) -> None:
    file = StoreFile(path, fold_after=1)
    file.append([[("t", encoded_key("t", as_key("t", 1.0)), b"\x01")]])
    file.append([[("t", encoded_key("t", as_key("t", True)), b"\x02")]])
    file.close()
    assert StoreFile(path).content.rows == {"t": {b"\x01": b"\x02"}}
