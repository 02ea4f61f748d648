"""Rules and weights: reference values, and what holds of any ballot."""

from __future__ import annotations

import math
from enum import Enum
from fractions import Fraction
from itertools import product
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.teams import (
    BadWeights,
    CombinationRule,
    ConfusionVote,
    FirstAnswer,
    MajorityVote,
    MemberAnswer,
    MemberVote,
    SoftVote,
    WeightedVote,
    accuracy_weight,
    accuracy_weights,
    agreement,
    confusion_of,
    dawid_skene,
    mean_probabilities,
    normal_form,
    oracle,
    shapley,
)
from dspex.teams.ballot import coverage
from supervision.errors import BadOption

LABELS = ("x", "y", "z")
ballots = st.lists(st.sampled_from(LABELS), min_size=1, max_size=7)
weights = st.lists(st.integers(1, 9), min_size=7, max_size=7)


def votes(answers: Any) -> list[MemberVote]:
    """One vote for each answer, of members m0, m1 and so on."""
    return [MemberVote(f"m{number}", answer) for number, answer in enumerate(answers)]


def weighted(given: list[int]) -> WeightedVote:
    return WeightedVote({f"m{number}": float(weight) for number, weight in enumerate(given)})


# -- what holds of any ballot --------------------------------------------------------------------------------------


@given(ballots)
def test_equal_weights_are_a_majority(answers: list[str]) -> None:
    """Whatever they are."""
    assert weighted([3] * 7).decide(votes(answers)) == MajorityVote().decide(votes(answers))


@given(ballots, weights, st.integers(2, 50))
def test_what_multiplies_all_weights_changes_nothing(answers: list[str], given: list[int], times: int) -> None:
    """Only their proportions count."""
    small, large = weighted(given), weighted([weight * times for weight in given])
    assert small.decide(votes(answers)).form == large.decide(votes(answers)).form


@given(ballots, weights, st.sampled_from(LABELS))
def test_T012_a_member_that_guesses_has_no_weight_and_changes_nothing(
    answers: list[str], given: list[int], guess: str
) -> None:
    """Right once of K: that is chance."""
    assert accuracy_weight(19, 99, labels=5) == pytest.approx(math.log(20 / 104 * 4 / (84 / 104)))
    chance = accuracy_weight(1, 2, labels=4)
    rule = WeightedVote({**weighted(given).weights, "guesser": 0.0})
    assert abs(chance) < 0.6
    assert accuracy_weight(0, 0, labels=5) == pytest.approx(0.0)
    found = rule.decide([*votes(answers), MemberVote("guesser", guess)])
    assert found.form == rule.decide(votes(answers)).form


@given(ballots, weights)
def test_what_is_settled_early_is_what_all_come_to(answers: list[str], given: list[int]) -> None:
    """Whatever those say that were not waited for."""
    for rule in (MajorityVote(), weighted(given), FirstAnswer()):
        whole = votes(answers)
        for known in range(1, len(whole)):
            if rule.settled(whole[:known], [f"m{number}" for number in range(known, len(whole))]):
                assert rule.decide(whole[:known]).form == rule.decide(whole).form


def test_T004_who_might_be_reached_is_not_settled_and_a_tie_goes_to_the_earliest() -> None:
    """Two of A, one of B, one outstanding: 2 > 1 + 1 is false."""
    rule = MajorityVote()
    assert not rule.settled(votes("AAB"), ["m3"])
    assert rule.settled(votes("AAA"), ["m3"])
    assert rule.decide(votes("AABB")).form == "A"
    assert rule.decide(votes("BBAA")).form == "B"


def test_an_answer_that_nobody_has_given_yet_may_still_win() -> None:
    """A lone vote is not settled while more weight is outstanding than it has."""
    assert not MajorityVote().settled(votes("A"), ["m1", "m2"])
    assert not WeightedVote({"m1": -3.0}).settled(votes("A"), ["m1"])


# -- reference values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "accuracy", "expected"),
    [(3, 0.7, 0.784), (5, 0.7, 0.83692), (7, 0.7, 0.873964), (11, 0.7, 0.921775), (3, 0.4, 0.352), (5, 0.4, 0.31744)],
)
def test_T013_majorities_are_as_good_as_condorcet_says(members: int, accuracy: float, expected: float) -> None:
    """Enumerated: the chance that most of so many are right."""
    found = 0.0
    for rights in product((True, False), repeat=members):
        chance = math.prod(accuracy if right else 1 - accuracy for right in rights)
        if MajorityVote().decide(votes("r" if right else "w" for right in rights)).form == "r":
            found += chance
    assert found == pytest.approx(expected, abs=1e-6)


def test_accuracy_weights_of_unequal_members_beat_the_majority() -> None:
    """0.9, 0.8, 0.6, 0.6, 0.6: 0.84672 by majority, 0.90576 weighted."""
    accuracies = (0.9, 0.8, 0.6, 0.6, 0.6)
    rule = WeightedVote({f"m{n}": math.log(p / (1 - p)) for n, p in enumerate(accuracies)})
    found = {"majority": 0.0, "weighted": 0.0}
    for rights in product((True, False), repeat=5):
        chance = math.prod(p if right else 1 - p for p, right in zip(accuracies, rights, strict=True))
        cast = votes("r" if right else "w" for right in rights)
        found["majority"] += chance * (MajorityVote().decide(cast).form == "r")
        found["weighted"] += chance * (rule.decide(cast).form == "r")
    assert found == pytest.approx({"majority": 0.84672, "weighted": 0.90576})


def test_the_weight_for_two_labels_would_make_an_enemy_of_a_member_among_five() -> None:
    """Right 35 times of 100 among five labels is worth something; among two it is worse than chance."""
    assert accuracy_weight(35, 100, labels=5) > 0
    assert accuracy_weight(35, 100, labels=2) < 0
    assert accuracy_weight(10**6, 10**6, labels=5) == pytest.approx(math.log(0.99 * 4 / 0.01))
    assert accuracy_weight(0, 10**6, labels=5) == pytest.approx(math.log(0.01 * 4 / 0.99))


@pytest.mark.parametrize(("right", "total", "labels"), [(3, 2, 5), (-1, 2, 5), (1, 2, 1), (1, -1, 2), (0.5, 1, 2)])
def test_weights_of_counts_that_make_no_sense_are_refused(right: Any, total: Any, labels: Any) -> None:
    """By name."""
    with pytest.raises(BadOption, match="accuracy_weight"):
        accuracy_weight(right, total, labels=labels)


ITEMS = [
    dict(zip("abcd", row, strict=True)) for row in zip("11001100", "11001101", "00110011", "11000100", strict=True)
]


@pytest.mark.parametrize(("smoothing", "expected"), [(0.01, 0.2512), (1e-9, 0.25)])
def test_T015_dawid_skene_finds_who_inverts_and_what_is_right(smoothing: float, expected: float) -> None:
    """Without a label."""
    found = dawid_skene(ITEMS, smoothing=smoothing)
    assert "".join(map(str, found.labels)) == "11001100"
    assert found.rounds <= 6
    assert found.rule.confusion["b"]["0"]["1"] == pytest.approx(expected, abs=1e-4)
    assert found.rule.confusion["c"]["0"]["1"] > 0.99
    assert found.rule.confusion["c"]["1"]["0"] > 0.99
    assert found.rule.decide([MemberVote("c", "0")]).form == "1"


def test_gold_labels_hold() -> None:
    """What is known is not estimated, and draws the rest after it."""
    found = dawid_skene(ITEMS, gold={7: "1"})
    assert found.labels[7] == "1"
    assert dawid_skene(ITEMS).labels[7] == "0"
    assert dawid_skene(ITEMS, gold={0: "a label that nobody gave"}).labels[0] == "a label that nobody gave"
    for stray in (8, -1, "a", True):
        with pytest.raises(BadOption, match="from 0 to 7"):
            dawid_skene(ITEMS, gold={stray: "1"})  # type: ignore[dict-item]


def test_an_item_without_an_answer_has_the_prior() -> None:
    """It hurts nobody."""
    assert len(dawid_skene([*ITEMS, {}], most_rounds=3).labels) == 9


def test_T017_two_members_or_agreement_at_chance_are_refused() -> None:
    """The remedy is named."""
    with pytest.raises(BadWeights, match="it takes three"):
        dawid_skene([{"a": "x", "b": "x"}])
    with pytest.raises(BadWeights, match="label some items"):
        dawid_skene([{"a": "x", "b": "y", "c": "z"}, {"a": "y", "b": "z", "c": "x"}])
    with pytest.raises(BadWeights, match="it takes three"):
        dawid_skene([])


def test_T039_shares_of_the_gain() -> None:
    """Shapley's."""
    worth = {"": 0, "a": 6, "b": 7, "c": 5, "ab": 7, "ac": 6, "bc": 7, "abc": 8}
    found = shapley("abc", lambda team: worth["".join(sorted(team))])
    assert {name: round(share, 9) for name, share in found.items()} == {"a": 2.5, "b": 3.5, "c": 2.0}
    assert sum(found.values()) == pytest.approx(8)
    with pytest.raises(BadOption, match="at most 8"):
        shapley("abcdefghi", len)


# -- what rules do with what they are given ------------------------------------------------------------------------


def test_confusions_are_counted_and_combine_as_bayes_says() -> None:
    """A member that takes y for x is believed where it says y."""
    items = [{"a": "x"}, {"a": "x"}, {"a": "x"}, {"a": "y"}]
    prior, confusion = confusion_of(items, ["x", "x", "y", "y"])
    assert prior == {"x": 0.5, "y": 0.5}
    assert confusion["a"]["x"] == {"x": 0.75, "y": 0.25}
    assert confusion["a"]["y"] == {"x": 0.5, "y": 0.5}
    rule = ConfusionVote(prior, confusion)
    assert rule.decide([MemberVote("a", "y")]).form == "y"
    assert rule.decide([MemberVote("a", "y")]).confidence == pytest.approx(2 / 3)
    assert rule.decide([MemberVote("a", "nothing known"), MemberVote("stranger", "x")]).form == "x"
    assert (rule.weight("a"), rule.weight("stranger")) == (1.0, 0.0)
    assert rule.settled([MemberVote("a", "x")], ["stranger"])
    assert not rule.settled([], ["a"])
    assert confusion_of([{"a": "none of them"}], ["x"])[1]["a"]["x"] == {"x": 1.0}


def test_dividing_by_what_a_member_always_says_tells_what_is_special() -> None:
    """It always finds x likelier; here less than usual."""
    means = mean_probabilities([{"a": {"x": 0.9, "y": 0.1}}, {"a": {"x": 0.7, "y": 0.3}}, {}])
    assert means["a"] == pytest.approx({"x": 0.8, "y": 0.2})
    vote = MemberVote("a", "x", {"x": 0.6, "y": 0.4})
    assert SoftVote().decide([vote]).form == "x"
    found = SoftVote(means).decide([vote])
    assert found.form == "y"
    assert found.confidence == pytest.approx((0.4 / 0.2) / (0.4 / 0.2 + 0.6 / 0.8))
    assert SoftVote().decide([MemberVote("a", "x"), MemberVote("b", "x")]).form == "x"
    assert SoftVote().settled([vote], [])
    assert not SoftVote().settled([vote], ["b"])
    assert SoftVote().weight("a") == 1.0


def test_the_first_that_answers_is_enough() -> None:
    """A chain of stand-ins."""
    assert FirstAnswer().decide(votes("BA")).form == "B"
    assert FirstAnswer().settled(votes("B"), ["m1"])
    assert not FirstAnswer().settled([], ["m1"])
    assert FirstAnswer().weight("any") == 1.0


def test_votes_that_all_weigh_nothing_have_no_confidence() -> None:
    """And go to the earliest."""
    assert WeightedVote({"m0": 0.0, "m1": 0.0}).decide(votes("AB")) == MajorityVote().decide(votes("A")).__class__(
        "A", 0.0
    )


@pytest.mark.parametrize("weight", [math.nan, math.inf, 10**400, "2", None])
def test_weights_that_cannot_be_counted_with_are_refused(weight: Any) -> None:
    """When the rule is made."""
    with pytest.raises(BadOption, match="the weight of a"):
        WeightedVote({"a": weight})


@pytest.mark.parametrize("prior", [{}, {"x": 0.0}, {"x": math.nan}, {"x": -1}])
def test_a_prior_in_which_something_is_impossible_is_refused(prior: Any) -> None:
    """Nothing could ever say it then."""
    with pytest.raises(BadOption, match="prior"):
        ConfusionVote(prior, {})


def test_rules_are_rules() -> None:
    """Those of users too."""
    assert all(
        isinstance(rule, CombinationRule)
        for rule in (MajorityVote(), WeightedVote(), FirstAnswer(), SoftVote(), ConfusionVote({"x": 1.0}, {}))
    )


def test_answers_of_no_items_tell_nothing() -> None:
    """An error, and no figure."""
    for tell in (accuracy_weights, confusion_of, oracle):
        with pytest.raises(BadWeights, match="at least one"):
            tell([], [], **({"labels": 2} if tell is accuracy_weights else {}))  # type: ignore[operator]
    assert accuracy_weights([{"a": 1}], [1], labels=2)["a"] == accuracy_weight(1, 1, labels=2)
    assert oracle([{"a": 1, "b": 2}, {"a": 1}], [2, 2]) == 0.5
    assert agreement([]) == 0.0
    assert agreement([{"a": 1, "b": 1, "c": 2}]) == pytest.approx((0.5 + 0.5 + 0) / 3)


# -- normal forms, coverage ----------------------------------------------------------------------------------------


class Colour(Enum):
    RED = " Red "


class Model(pydantic.BaseModel):
    a: int


class Odd:
    """Cannot be written."""

    def __repr__(self) -> str:
        return "odd"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (" Sport", "sport ", True),
        (Colour.RED, "red", True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ([1, 2], [2, 1], False),
        (1, True, False),
        (1, 1.0, False),
        (Model(a=1), Model(a=1), True),
        (Odd(), Odd(), True),
        (10**400, 10**400, True),
        (Fraction(1, 2), Fraction(1, 2), True),
    ],
)
def test_what_makes_answers_the_same(first: object, second: object, same: bool) -> None:
    """They need not be hashable, nor comparable."""
    assert (normal_form(first) == normal_form(second)) is same
    assert isinstance(hash(normal_form(first)), int)


def test_coverage_leaves_out_whom_nobody_needed() -> None:
    """And takes weights as they are, whatever their signs."""
    ballot = [MemberAnswer("a", "answered"), MemberAnswer("b", "late"), MemberAnswer("c", "unasked")]
    assert coverage(ballot, {"a": -3.0, "b": 1.0, "c": 5.0}.__getitem__) == 0.75
    assert coverage([], lambda _: 1.0) == 0.0
