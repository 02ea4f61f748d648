"""The persistent map against a plain dictionary."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.persistent_map import PersistentMap


class Awkward:
    """A key whose hash is chosen, so that keys meet in one leaf or share all but the last digits of their hash."""

    def __init__(self, name: int, hash_of: int) -> None:
        self.name = name
        self.hash_of = hash_of

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Awkward) and other.name == self.name

    def __hash__(self) -> int:
        return self.hash_of

    def __repr__(self) -> str:
        return f"Awkward({self.name}, {self.hash_of})"


KEYS = [
    *range(-40, 40),
    *(n << 10 for n in range(200)),
    *(Awkward(n, 7) for n in range(80)),
    *(Awkward(100 + n, n << 59) for n in range(80)),
    *"abcdefgh",
]

CHANGES = st.lists(st.tuples(st.integers(0, len(KEYS) - 1), st.one_of(st.none(), st.integers())), max_size=400)


def leaves_and_depth(node: Any, depth: int = 0) -> tuple[list[tuple[int, int]], int]:
    """Return (size, depth) of all leaves."""
    if not isinstance(node, tuple):
        return [(len(node), depth)], depth
    found = [leaves_and_depth(child, depth + 1) for child in node]
    return [leaf for leaves, _ in found for leaf in leaves], max(deepest for _, deepest in found)


@given(CHANGES, st.integers(0, 2**30))
def test_it_is_a_dictionary_whose_old_versions_stay(changes: list[tuple[int, int | None]], rotate: int) -> None:
    """After any changes it has the items of a dictionary with the same changes, and each earlier map still has its
    own."""
    model: dict[Any, int] = {}
    made: PersistentMap[Any, int] = PersistentMap()
    history: list[tuple[PersistentMap[Any, int], dict[Any, int]]] = []
    for index, value in changes:
        key = KEYS[(index + rotate) % len(KEYS)]
        history.append((made, dict(model)))
        if value is None:
            made = made.discard(key)
            model.pop(key, None)
        else:
            made = made.set(key, value)
            model[key] = value
    history.append((made, model))
    for old, expected in history[:: max(1, len(history) // 5)]:
        assert old == expected
        assert len(old) == len(expected)
        assert set(old) == set(expected)
        for key in KEYS:
            assert (key in old) == (key in expected)
            assert old.get(key, "absent") == expected.get(key, "absent")


@given(st.sets(st.integers(0, len(KEYS) - 1)), st.sets(st.integers(0, len(KEYS) - 1)))
def test_it_can_be_made_of_items_and_emptied(first: set[int], removed: set[int]) -> None:
    """A map made at once equals one made step by step, and one that lost all its keys has no branches any more."""
    at_once = PersistentMap((KEYS[n], n) for n in sorted(first))
    steps: PersistentMap[Any, int] = PersistentMap()
    for n in sorted(first | removed):
        steps = steps.set(KEYS[n], n)
    for n in sorted(removed - first):
        steps = steps.discard(KEYS[n])
    assert at_once == steps
    for n in sorted(first):
        steps = steps.discard(KEYS[n])
    assert steps._root == {}


def test_it_grows_in_breadth_not_in_depth() -> None:
    """Of a hundred thousand keys, each is at most four branches and a small leaf away, and a change shares the rest."""
    large = PersistentMap((f"key {n}", n) for n in range(100_000))
    leaves, depth = leaves_and_depth(large._root)
    assert depth <= 4
    assert max(size for size, _ in leaves) <= 32
    changed = large.set("one more", 1)
    assert sum(a is not b for a, b in zip(large._root, changed._root, strict=True)) == 1


def test_equal_hashes_share_one_leaf() -> None:
    """Keys that all have the same hash are kept, found and removed, though no branch can tell them apart."""
    made: PersistentMap[Any, int] = PersistentMap()
    for n in range(100):
        made = made.set(Awkward(n, -1), n)
    assert [made[Awkward(n, -1)] for n in range(100)] == list(range(100))
    for n in range(99):
        made = made.discard(Awkward(n, -1))
    assert dict(made) == {Awkward(99, -1): 99}


def test_a_key_that_does_not_equal_itself_can_be_removed() -> None:
    """A key is found by identity before equality, as in a dictionary, so that NaN is no trap."""
    nan = float("nan")
    assert len(PersistentMap[Any, int]([(nan, 1)]).set("a", 2).discard(nan)) == 1


def test_what_it_refuses_and_how_it_looks() -> None:
    """A missing key is a KeyError, an unhashable one a TypeError, an absent one discarded is the same map; it
    prints."""
    made = PersistentMap([("a", 1)])
    with pytest.raises(KeyError):
        made["b"]
    with pytest.raises(TypeError):
        made.set([], 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        hash(made)
    assert made.discard("b") is made
    assert repr(made) == "PersistentMap({'a': 1})"
    assert made.get("b") is None
