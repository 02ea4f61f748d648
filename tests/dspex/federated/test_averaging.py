"""Rules that make weights of those of the clients: what Flower's own code gives, and what has to hold of any."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from dspex.federated import (
    AveragingRule,
    BadFederation,
    CannotMerge,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedProx,
    FedYogi,
    Krum,
    MedianWeights,
    ServerState,
    SoftmaxLearner,
    TrimmedWeights,
    WeightArray,
    WeightedUpdate,
    Weights,
    krum_scores,
)
from dspex.federated.averaging import clipped
from supervision.errors import BadOption

REPLIES = [(1.0, 0.0, 10), (2.0, 4.0, 30), (10.0, -2.0, 10)]
RULES: list[tuple[AveragingRule, list[tuple[float, float]]]] = [
    (FedAvg(), [(3.4, 2.0), (3.4, 2.0)]),
    (FedProx(0.5), [(3.4, 2.0), (3.4, 2.0)]),
    (MedianWeights(), [(2.0, 0.0), (2.0, 0.0)]),
    (TrimmedWeights(0.34), [(2.0, 0.0), (2.0, 0.0)]),
    (TrimmedWeights(0.2), [(4.333333, 0.666667), (4.333333, 0.666667)]),
    (FedAvgM(1.0, 0.9), [(3.4, 2.0), (6.46, 3.8)]),
    (FedAdam(), [(0.074028, 0.073877), (0.159451, 0.15913)]),
    (FedYogi(), [(0.009971, 0.00995), (0.023377, 0.023336)]),
    (FedAdagrad(), [(0.099971, 0.09995), (0.169604, 0.168801)]),
    (Krum(), [(1.0, 0.0), (1.0, 0.0)]),
    (Krum(keep=2), [(1.75, 3.0), (1.75, 3.0)]),
]


def updates(replies: Any = REPLIES) -> list[WeightedUpdate]:
    return [WeightedUpdate(np.array(vector, dtype=float), n) for *vector, n in replies]


def zero() -> ServerState:
    return ServerState(Weights.of({"w": [0.0, 0.0]}))


def name(value: Any) -> str:
    return type(value).__name__ if isinstance(value, AveragingRule) else ""


@pytest.mark.parametrize(("rule", "expected"), RULES, ids=name)
def test_T063_each_rule_gives_what_flower_gives_in_both_rounds(
    rule: AveragingRule, expected: list[tuple[float, float]]
) -> None:
    state = zero()
    for number, values in enumerate(expected, 1):
        state = rule.step(state, updates())
        assert state.steps == number
        assert np.abs(state.weights.vector() - values).max() < 1e-6


@pytest.mark.parametrize("rule", [rule for rule, _ in RULES], ids=name)
def test_the_order_of_the_clients_changes_nothing(rule: AveragingRule) -> None:
    if isinstance(rule, Krum):
        return  # of two that are as near, the first one is taken
    found, other = (rule.step(zero(), updates(replies)) for replies in (REPLIES, REPLIES[::-1]))
    assert np.abs(found.weights.vector() - other.weights.vector()).max() < 1e-12


def test_a_client_split_into_two_with_the_same_weights_changes_nothing() -> None:
    split = [REPLIES[0], (2.0, 4.0, 11), (2.0, 4.0, 19), REPLIES[2]]
    found, other = (FedAvg().step(zero(), updates(replies)) for replies in (REPLIES, split))
    assert np.abs(found.weights.vector() - other.weights.vector()).max() < 1e-12


def test_a_client_without_examples_changes_nothing_and_one_alone_is_itself() -> None:
    assert FedAvg().step(zero(), updates([*REPLIES, (1e9, 1e9, 0)])) == FedAvg().step(zero(), updates())
    assert FedAvg().step(zero(), updates([(7.0, 8.0, 3)])).weights.vector().tolist() == [7.0, 8.0]


def test_without_any_example_and_with_what_is_not_finite_nothing_is_made() -> None:
    with pytest.raises(CannotMerge, match="no examples at all"):
        FedAvg().step(zero(), updates([(1.0, 1.0, 0)]))
    with pytest.raises(CannotMerge, match="not finite"):
        FedAvgM().step(zero(), updates([(1e308, np.inf, 1)]))


def test_krum_takes_the_nearest_and_needs_so_many_clients() -> None:
    scores = krum_scores([0.0, 1.0, 1.1, 10.0], faulty=1)
    assert np.abs(np.array(scores) - [1.0, 0.01, 0.01, 79.21]).max() < 1e-9
    with pytest.raises(CannotMerge, match="Krum needs 5 clients, and 3 have reported"):
        Krum(faulty=1).step(zero(), updates())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: FedProx(-1.0),
        lambda: FedAvgM(rate=0.0),
        lambda: FedAvgM(momentum=1.0),
        lambda: FedAdam(beta1=-0.1),
        lambda: FedYogi(tau=0.0),
        lambda: TrimmedWeights(0.5),
        lambda: Krum(faulty=-1),
        lambda: Krum(keep=0),
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong: Any) -> None:
    with pytest.raises((BadFederation, BadOption)):
        wrong()


def test_a_long_change_is_shortened_and_a_short_one_is_left() -> None:
    before = np.array([1.0, 1.0])
    assert clipped(np.array([4.0, 5.0]), before, 1.0).tolist() == pytest.approx([1.6, 1.8])
    assert clipped(np.array([4.0, 5.0]), before, 5.0).tolist() == [4.0, 5.0]


def test_weights_are_what_they_were_made_of() -> None:
    weights = Weights.of({"b": [[1, 2], [3, 4]], "a": 5})
    assert list(weights.parts) == ["a", "b"]
    assert weights.vector().tolist() == [5.0, 1.0, 2.0, 3.0, 4.0]
    assert weights.with_vector(weights.vector()) == weights
    swapped = Weights(dict(reversed(weights.parts.items())))
    assert list(swapped.in_order_of(weights).parts) == ["a", "b"]
    mine = weights.arrays()
    mine["b"][0, 0] = 9.0
    assert weights.arrays()["b"][0, 0] == 1.0
    assert Weights.of({}).vector().tolist() == []


def test_weights_of_other_shapes_are_refused() -> None:
    weights = Weights.of(dict.fromkeys("abcdefg", 0.0))
    with pytest.raises(ValueError, match=r"the arrays are a \[2\], and have to be a \[\], b .*, …"):
        Weights.of({"a": [1.0, 2.0]}).in_order_of(weights)
    with pytest.raises(ValueError, match=r"8 bytes are no array of the shape \[2\]"):
        WeightArray((2,), bytes(8))
    with pytest.raises(ValueError, match="are no array"):
        WeightArray((-1, -1), bytes(8))


# -- the same as if all examples were in one place ---------------------------------------------------------------------


def parts() -> list[SoftmaxLearner]:
    chance = np.random.default_rng(7)
    features = chance.normal(size=(120, 5))
    labels = (features[:, :3] @ np.array([[1.0, 0.0, -1.0], [0.0, 1.0, 0.5], [-1.0, 0.0, 1.0]])).argmax(axis=1)
    cuts = [0, 10, 30, 75, 120]
    order = np.argsort(labels, kind="stable")  # each client has other labels
    return [SoftmaxLearner(features[order[begin:end]], labels[order[begin:end]], 3) for begin, end in pairwise(cuts)]


def federated(rule: AveragingRule, rounds: int, **settings: float) -> Any:
    learners = parts()
    state = ServerState(learners[0].begin())
    for _ in range(rounds):
        found = [learner.train(state.weights.arrays(), {**settings, **rule.settings}) for learner in learners]
        state = rule.step(state, [WeightedUpdate(Weights.of(one.weights).vector(), one.examples) for one in found])
    return state.weights.vector()


def pooled(steps: int) -> Any:
    learners = parts()
    together = SoftmaxLearner(
        np.concatenate([learner.features for learner in learners]),
        np.concatenate([learner.truth.argmax(axis=1) for learner in learners]).tolist(),
        3,
    )
    return Weights.of(together.train(together.begin().arrays(), {"steps": steps, "rate": 0.5}).weights).vector()


def test_T064_with_one_full_step_of_all_clients_it_is_gradient_descent_on_all_examples() -> None:
    assert np.abs(federated(FedAvg(), 300, steps=1, rate=0.5) - pooled(300)).max() < 1e-9


def test_fedprox_holds_clients_back_and_with_nothing_is_fedavg() -> None:
    plain = federated(FedAvg(), 3, steps=10, rate=0.5)
    assert (federated(FedProx(0.0), 3, steps=10, rate=0.5) == plain).all()
    held = federated(FedProx(10.0), 3, steps=10, rate=0.05)
    assert np.abs(held).max() < np.abs(federated(FedAvg(), 3, steps=10, rate=0.05)).max()
