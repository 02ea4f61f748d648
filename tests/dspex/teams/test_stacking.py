"""Stacking: what it learns, to the last digit that matters; and rules as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize  # type: ignore[import-untyped]

from dspex.teams import (
    BadTeam,
    BadWeights,
    CombinationRule,
    ConfusionVote,
    FirstAnswer,
    MajorityVote,
    MemberVote,
    RecordedVotes,
    SoftVote,
    Stacking,
    WeightedVote,
    read_rule,
    write_rule,
)
from dspex.teams.stacking import LEAST_TOLD
from supervision.errors import BadOption

LABELS = ("x", "y", "z")


def sure(member: str, form: str) -> MemberVote:
    return MemberVote(member, form)


def unsure(member: str, *shares: float) -> MemberVote:
    """A vote that tells how probable it finds x, y and z."""
    told = dict(zip(LABELS, shares, strict=True))
    return MemberVote(member, max(told, key=told.__getitem__), told)


#: Two members: a says x too often, b is right about z.
CAST = [
    [unsure("a", 0.7, 0.2, 0.1), unsure("b", 0.4, 0.4, 0.2)],
    [unsure("a", 0.6, 0.3, 0.1), unsure("b", 0.3, 0.5, 0.2)],
    [unsure("a", 0.5, 0.4, 0.1), unsure("b", 0.2, 0.6, 0.2)],
    [unsure("a", 0.5, 0.3, 0.2), unsure("b", 0.3, 0.2, 0.5)],
    [unsure("a", 0.6, 0.1, 0.3)],
    [unsure("b", 0.1, 0.1, 0.8)],
]
TRUTH = ["x", "y", "y", "z", "z", "z"]
RECORDS = RecordedVotes(CAST, TRUTH)


def reference(records: RecordedVotes, penalty: float) -> tuple[Any, dict[str, Any]]:
    """The same regression by another solver, written from its definition."""
    labels = list(dict.fromkeys(records.truth))
    logs = [
        {vote.member: np.log([max(LEAST_TOLD, (vote.probabilities or {})[label]) for label in labels]) for vote in cast}
        for cast in records.votes
    ]
    means = {name: np.mean([row[name] for row in logs if name in row], axis=0) for name in records.members}
    rows = np.array(
        [[*np.concatenate([row.get(name, mean) - mean for name, mean in means.items()]), 1.0] for row in logs]
    )
    right = np.array([labels.index(label) for label in records.truth])

    def loss(flat: Any) -> float:
        weights = flat.reshape(rows.shape[1], len(labels))
        scores = rows @ weights
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        return float(penalty / 2 * (weights[:-1] ** 2).sum() - logs[np.arange(len(right)), right].mean())

    found = minimize(loss, np.zeros(rows.shape[1] * len(labels)), method="BFGS", options={"gtol": 1e-9})
    weights = found.x.reshape(rows.shape[1], len(labels))
    size = len(labels)
    parts = {name: weights[n * size : (n + 1) * size].T for n, name in enumerate(means)}
    return weights[-1] - weights[-1].mean(), parts


@pytest.mark.parametrize("penalty", [0.01, 0.1, 1.0])
def test_it_is_the_penalised_logistic_regression(penalty: float) -> None:
    """As another solver finds it."""
    rule = Stacking.fitted(RECORDS, penalty=penalty)
    constant, weights = reference(RECORDS, penalty)
    assert rule.labels == LABELS
    assert rule.constant == pytest.approx(constant, abs=1e-4)
    for member, rows in weights.items():
        assert np.array(rule.weights[member]) == pytest.approx(rows, abs=1e-4)


def test_it_has_these_values() -> None:
    """To seven digits, on each machine."""
    rule = Stacking.fitted(RECORDS, penalty=0.1)
    assert rule.constant == pytest.approx((-0.53096856, -0.00755777, 0.53852633), abs=1e-7)
    assert rule.weights["a"][0] == pytest.approx((0.24031345, -0.27044054, -0.35078865), abs=1e-7)
    found = rule.decide([unsure("a", 0.5, 0.4, 0.1), unsure("b", 0.2, 0.6, 0.2)])
    assert (found.form, found.confidence) == ("y", pytest.approx(0.7296154, abs=1e-7))


def test_on_the_average_it_says_each_label_as_often_as_it_is_right() -> None:
    """The constants are not penalised."""
    rule = Stacking.fitted(RECORDS, penalty=0.5)
    shares = dict.fromkeys(LABELS, 0.0)
    for cast in CAST:
        scores = dict(zip(LABELS, rule.constant, strict=True))
        for vote in cast:
            assert vote.probabilities is not None
            apart = [math.log(vote.probabilities[label]) for label in LABELS]
            apart = [log - mean for log, mean in zip(apart, rule.usual[vote.member], strict=True)]
            for label, row in zip(LABELS, rule.weights[vote.member], strict=True):
                scores[label] += sum(weight * log for weight, log in zip(row, apart, strict=True))
        total = sum(map(math.exp, scores.values()))
        for label, score in scores.items():
            shares[label] += math.exp(score) / total / len(CAST)
    assert shares == pytest.approx({"x": 1 / 6, "y": 2 / 6, "z": 3 / 6}, abs=1e-8)


def test_it_learns_what_a_member_says_too_often() -> None:
    """It always finds x likelier; y is right where that is less than usual."""
    cast = [[unsure("a", 0.8, 0.1, 0.1)]] * 5 + [[unsure("a", 0.6, 0.3, 0.1)]] * 5
    rule = Stacking.fitted(RecordedVotes(cast, ["x"] * 5 + ["y"] * 5))
    assert rule.decide(cast[0]).form == "x"
    assert rule.decide(cast[9]).form == "y"
    assert rule.decide(cast[9]).confidence > 0.5


def test_answers_without_probabilities_are_learned_from_too() -> None:
    """Of two members, the one that is right where they differ is believed, and one that inverts is turned round."""
    cast = [[sure("a", "x"), sure("b", "y")], [sure("a", "y"), sure("b", "x")], [sure("a", "x"), sure("b", "x")]]
    rule = Stacking.fitted(RecordedVotes(cast * 4, ["x", "y", "x"] * 4))
    assert [rule.decide(votes).form for votes in cast] == ["x", "y", "x"]
    turned = Stacking.fitted(RecordedVotes([[sure("a", "x")], [sure("a", "y")]] * 4, ["y", "x"] * 4))
    assert turned.decide([sure("a", "x")]).form == "y"


def test_a_member_that_is_away_speaks_neither_for_nor_against() -> None:
    """As if it had said what it says on the average."""
    cast = [[vote for vote in votes if vote.member == "a"] + [unsure("b", 0.2, 0.5, 0.3)] for votes in CAST]
    rule = Stacking.fitted(RecordedVotes(cast, TRUTH))
    for votes in CAST[:5]:
        alone, beside = rule.decide(votes[:1]), rule.decide([votes[0], unsure("b", 0.2, 0.5, 0.3)])
        assert (alone.form, alone.confidence) == (beside.form, pytest.approx(beside.confidence))


def test_what_it_knows_nothing_of_counts_for_nothing() -> None:
    """A member, a label."""
    rule = Stacking.fitted(RECORDS)
    alone = rule.decide([unsure("a", 0.5, 0.4, 0.1)])
    assert rule.decide([unsure("a", 0.5, 0.4, 0.1), sure("b", "?"), sure("stranger", "z")]) == alone
    assert rule.decide([sure("stranger", "x")]).form == "z"  # what is right most often
    assert (rule.weight("a"), rule.weight("stranger")) == (1.0, 0.0)
    assert rule.settled([], ["stranger"])
    assert not rule.settled([unsure("a", 0.5, 0.4, 0.1)], ["b"])


def test_probabilities_near_nothing_count_as_little() -> None:
    """No single number decides for good, nor breaks a logarithm."""
    rule = Stacking.fitted(RECORDS)
    none = rule.decide([MemberVote("a", "x", {"x": 1.0, "y": 0.0})])
    little = rule.decide([MemberVote("a", "x", {"x": 1.0, "y": LEAST_TOLD / 10, "z": 1e-300})])
    assert none.form == little.form
    assert none.confidence == pytest.approx(little.confidence, abs=1e-3)


def test_a_member_that_speaks_of_no_label_is_left_out_of_the_rule() -> None:
    """There is nothing to be learned of it."""
    rule = Stacking.fitted(RecordedVotes([[sure("a", "x"), sure("b", "?")], [sure("a", "y"), sure("b", "?")]], "xy"))
    assert set(rule.weights) == {"a"}


def test_the_regression_ends_even_where_it_would_go_on_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it has by then."""
    monkeypatch.setattr("dspex.teams.stacking.MOST_ROUNDS", 3)
    rule = Stacking.fitted(RECORDS, penalty=0.1)
    assert rule.constant != pytest.approx((-0.53096856, -0.00755777, 0.53852633), abs=1e-7)
    assert rule.decide(CAST[5]).form == "z"


@pytest.mark.parametrize(
    ("cast", "truth"),
    [([[sure("a", "x")]], ["x"]), ([[], []], ["x", "y"])],
)
def test_what_nothing_can_be_learned_from_is_refused(cast: Any, truth: Sequence[str]) -> None:
    """One label, or no votes."""
    with pytest.raises(BadWeights, match="record more examples"):
        Stacking.fitted(RecordedVotes(cast, tuple(truth)))


@pytest.mark.parametrize("penalty", [1e-300, 1e-12, 1e12, 1e300])
def test_the_numbers_of_a_rule_are_finite_whatever_the_penalty_is(penalty: float) -> None:
    """Also where one member says the same as another."""
    twin = [[*cast, *(MemberVote("twin", vote.form, vote.probabilities) for vote in cast[:1])] for cast in CAST]
    rule = Stacking.fitted(RecordedVotes(twin, TRUTH), penalty=penalty)
    assert rule.decide(twin[5]).form == "z"


@pytest.mark.parametrize("penalty", [0, -1.0, math.nan, math.inf, 10**400, "1"])
def test_a_penalty_that_makes_no_sense_is_refused(penalty: Any) -> None:
    """Before anything is reckoned."""
    with pytest.raises(BadOption, match="Stacking: penalty"):
        Stacking.fitted(RECORDS, penalty=penalty)


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"labels": ("x",)}, "labels"),
        ({"labels": ("x", "x")}, "labels"),
        ({"constant": (0.0,)}, "constant"),
        ({"constant": (0.0, math.nan)}, "constant"),
        ({"usual": {}}, "usual"),
        ({"usual": {"a": (0.0,)}}, "usual of a"),
        ({"weights": {"a": ((0.0, 0.0),)}}, "weights of a"),
        ({"weights": {"a": ((0.0, 0.0), (0.0, math.inf))}}, "weights of a"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(changed: Any, what: str) -> None:
    """By name."""
    whole: dict[str, Any] = {
        "labels": ("x", "y"),
        "constant": (0.0, 0.0),
        "weights": {"a": ((0.0, 0.0), (0.0, 0.0))},
        "usual": {"a": (0.0, 0.0)},
    }
    assert isinstance(Stacking(**whole), CombinationRule)
    with pytest.raises(BadOption, match=f"Stacking: {what}"):
        Stacking(**{**whole, **changed})


# -- rules as text -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    [
        MajorityVote(),
        FirstAnswer(),
        WeightedVote({"a": 0.1 + 0.2, "b": -3.0}),
        ConfusionVote.fitted(RECORDS),
        SoftVote.fitted(RECORDS),
        Stacking.fitted(RECORDS),
    ],
)
def test_a_rule_is_written_and_read_again(rule: CombinationRule) -> None:
    """To the last digit."""
    assert read_rule(write_rule(rule)) == rule
    assert read_rule(write_rule(rule).encode()) == rule


class Own(MajorityVote, frozen=True, tag=True):
    """A rule of somebody's own."""


@pytest.mark.parametrize("rule", [Own(), object(), ConfusionVote({1: 0.5, 2: 0.5}, {}), WeightedVote({(1, 2): 1.0})])  # type: ignore[dict-item]
def test_a_rule_that_could_not_be_read_again_is_not_written(rule: Any) -> None:
    """It would be another one."""
    with pytest.raises(BadTeam, match="about forms that are texts"):
        write_rule(rule)


@pytest.mark.parametrize("text", ["", "{}", '{"type": "Own"}', '{"type": "WeightedVote", "weights": 1}', b"\xff"])
def test_a_text_that_is_no_rule_is_refused(text: str | bytes) -> None:
    """With the remedy."""
    with pytest.raises(BadTeam, match="what write_rule has written"):
        read_rule(text)


def test_numbers_that_make_no_sense_are_refused_when_read() -> None:
    """As when the rule is made."""
    with pytest.raises(BadTeam, match="constant"):
        read_rule('{"type": "Stacking", "labels": ["x", "y"], "constant": [0], "weights": {}, "usual": {}}')
