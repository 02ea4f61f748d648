"""A team's stacking rule, found by clients that keep their votes, is that of all votes in one place."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from dspex.federated import (
    BadFederation,
    FedAvg,
    ServerState,
    StackingLearner,
    WeightedUpdate,
    Weights,
    stacking_moments,
    stacking_rule,
    stacking_weights,
)
from dspex.teams import MajorityVote, MemberVote, RecordedVotes

LABELS, MEMBERS = ("x", "y"), ("a", "b")


def records(count: int, seed: int) -> RecordedVotes:
    """Return votes of a member that says `x` too often, and of one that only says what it finds likely."""
    chance, votes, truth = random.Random(seed), [], []
    for _ in range(count):
        right = chance.choice(LABELS)
        share = 0.9 if right == "x" else 0.6
        other = chance.uniform(0.4, 0.8)
        cast = [MemberVote("a", "x", {"x": share, "y": 1 - share})]
        cast.append(MemberVote("b", "x" if other > 0.5 else "y", {"x": other, "y": 1 - other}))
        votes.append(cast)
        truth.append(right)
    return RecordedVotes(votes, truth)


def rounds(works: list[StackingLearner], weights: Weights, count: int, **settings: float) -> Weights:
    state = ServerState(weights)
    for _ in range(count):
        found = [work.train(state.weights.arrays(), settings) for work in works]
        updates = [
            WeightedUpdate(Weights.of(one.weights).in_order_of(weights).vector(), one.examples)
            for one in found
            if one.examples
        ]
        state = FedAvg().step(state, updates)
    return state.weights


def fitted(parts: list[RecordedVotes | None]) -> Any:
    works = [StackingLearner(part, MEMBERS, LABELS) for part in parts]
    moments = rounds(works, stacking_moments(MEMBERS, LABELS), 1)
    return stacking_rule(
        rounds(works, stacking_weights(moments, LABELS), 60, steps=1, rate=0.5, penalty=0.01), MEMBERS, LABELS
    )


def test_it_is_the_rule_of_all_votes_in_one_place() -> None:
    whole = records(80, 1)
    by_label = [[n for n, right in enumerate(whole.truth) if right == label] for label in LABELS]
    apart, together = fitted([*(whole.examples(part) for part in by_label), None]), fitted([whole])
    assert np.abs(np.array(apart.constant) - together.constant).max() < 1e-9
    for member in MEMBERS:
        assert np.abs(np.array(apart.weights[member]) - together.weights[member]).max() < 1e-9
    test = records(100, 2)
    assert test.accuracy(apart) == 1.0
    assert test.accuracy(MajorityVote()) < 0.7


def test_examples_that_lack_a_vote_are_left_out() -> None:
    votes = [[MemberVote("a", "x"), MemberVote("b", "x")], [MemberVote("a", "x")]]
    learner = StackingLearner(RecordedVotes(votes, ["x", "y"]), MEMBERS, LABELS)
    assert learner.features.shape == (1, 4)
    assert StackingLearner(RecordedVotes(votes[:1], ["z"]), MEMBERS, LABELS).features.shape == (0, 4)


@pytest.mark.parametrize(("members", "labels"), [((), LABELS), (MEMBERS, ("x",)), (MEMBERS, ("x", "y", "x"))])
def test_what_makes_no_team_is_refused(members: Any, labels: Any) -> None:
    with pytest.raises(BadFederation):
        stacking_moments(members, labels)
    with pytest.raises(BadFederation):
        StackingLearner(None, members, labels)
