"""Dawid and Skene's estimate from answers as they come."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest

from dspex.teams import BadWeights, ExpectedCounts, MemberVote, OnlineDawidSkene
from dspex.teams.dawid_skene import dawid_skene
from supervision.errors import BadOption

SAID = {"a": "11001100", "b": "11001101", "c": "00110011", "d": "11000100"}
ITEMS = [{member: said[item] for member, said in SAID.items()} for item in range(8)]


def drawn(number: int, chance: Random, **skills: float) -> tuple[list[dict[str, str]], list[str]]:
    """Answers of members that are right so often, and the labels."""
    labels = [chance.choice("xyz") for _ in range(number)]
    items = [
        {
            m: label if chance.random() < skill else chance.choice("xyz".replace(label, ""))
            for m, skill in skills.items()
        }
        for label in labels
    ]
    return items, labels


def test_the_first_estimate_is_the_one_from_all() -> None:
    """Nothing is known before it."""
    online = OnlineDawidSkene(every=8)
    for item in ITEMS:
        assert not online.due
        online.add(item)
    assert online.due
    assert online.refit() == dawid_skene(ITEMS)
    assert not online.due


def test_what_was_learned_tells_who_is_right_among_few() -> None:
    """Two members of whom one inverts, whom nobody could tell apart; and the same again after it was kept."""
    online = OnlineDawidSkene()
    for item in ITEMS:
        online.add(item)
    kept = online.refit().counts
    again = OnlineDawidSkene(counts=kept)
    again.add({"a": "1", "c": "0"})
    found = again.refit()
    assert found.labels == ("1",)
    assert found.rule.confusion.keys() == {*"abcd"}
    assert sum(found.counts.labels.values()) == pytest.approx(9)
    assert sum(sum(row.values()) for row in found.counts.answers["b"].values()) == pytest.approx(8)


def test_in_parts_it_finds_out_nearly_as_much_as_at_once() -> None:
    """Who is right, and mostly what."""
    items, labels = drawn(600, Random(3), a=0.9, b=0.7, c=0.6, d=0.2)
    online = OnlineDawidSkene(every=100, decay=1.0)
    found: list[Any] = []
    for item in items:
        online.add(item)
        if online.due:
            estimate = online.refit(days=5)
            found.extend(estimate.labels)
    right = {
        name: [one == other for one, other in zip(of, labels, strict=True)].count(True)
        for name, of in (("parts", found), ("whole", dawid_skene(items).labels))
    }
    assert right["parts"] > 0.95 * right["whole"] > 500
    skills = {member: sum(estimate.rule.confusion[member][label][label] for label in "xyz") / 3 for member in "abcd"}
    assert sorted(skills, key=skills.__getitem__, reverse=True) == list("abcd")


def test_a_member_that_has_become_worse_is_found_out_as_the_past_counts_less() -> None:
    """Sooner than if it counted as much."""
    chance = Random(5)
    before, after = drawn(300, chance, a=0.9, b=0.8, c=0.8)[0], drawn(100, chance, a=0.2, b=0.8, c=0.8)[0]
    shares = []
    for decay in (0.5, 1.0):
        online = OnlineDawidSkene(decay=decay)
        for item in before:
            online.add(item)
        online.refit()
        for item in after:
            online.add(item)
        shares.append(online.refit(days=5).rule.confusion["a"]["x"]["x"])
    assert shares[0] < 0.45 < 0.6 < shares[1]


def test_labels_that_are_known_hold_and_new_members_and_labels_may_come() -> None:
    """Nobody has to be there from the beginning."""
    online = OnlineDawidSkene()
    for item in ITEMS:
        online.add(item)
    online.refit()
    online.add({"a": "1", "new": "2"}, "2")
    online.add({})
    found = online.refit(days=1)
    assert found.labels[0] == "2"
    assert found.rule.confusion["new"]["2"]["2"] > 0.9
    assert found.rule.decide([MemberVote("c", "0")]).form == "1"


def test_items_that_do_not_tell_enough_are_kept_for_the_next_time() -> None:
    """Of two members nobody knows who is right, until there is a third."""
    online = OnlineDawidSkene(every=2)
    online.add({"a": "x", "b": "x"})
    with pytest.raises(BadWeights, match="three"):
        online.refit()
    online.add({"a": "y", "b": "y", "c": "y"})
    assert online.refit().labels == ("x", "y")
    with pytest.raises(BadWeights, match="no new items"):
        online.refit()


def test_what_is_never_estimated_is_forgotten() -> None:
    """The oldest first."""
    online = OnlineDawidSkene(every=1)
    for number in range(20):
        online.add({"a": str(number), "b": str(number), "c": str(number)})
    assert online.refit().labels == tuple(map(str, range(10, 20)))


def test_counts_that_count_less() -> None:
    """All of them."""
    counts = ExpectedCounts({"x": 2.0}, {"a": {"x": {"x": 4.0}}})
    assert counts.times(0.5) == ExpectedCounts({"x": 1.0}, {"a": {"x": {"x": 2.0}}})


@pytest.mark.parametrize("options", [{"every": 0}, {"decay": 0}, {"decay": 1.1}, {"decay": math.nan}, {"smoothing": 0}])
def test_numbers_make_sense(options: dict[str, Any]) -> None:
    """Or are refused."""
    with pytest.raises(BadOption, match="OnlineDawidSkene"):
        OnlineDawidSkene(**options)


@pytest.mark.parametrize("days", [-1, math.nan, math.inf, "1"])
def test_days_make_sense(days: Any) -> None:
    """Or are refused, and nothing is changed."""
    online = OnlineDawidSkene(counts=ExpectedCounts({"x": 1.0}, {"a": {"x": {"x": 1.0}}}))
    online.add({"a": "x"})
    with pytest.raises(BadOption, match="days"):
        online.refit(days=days)
    assert online.refit(days=1).labels == ("x",)
