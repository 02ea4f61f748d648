"""Learners that are there already."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dspex.federated import (
    BadFederation,
    FedAvg,
    MomentsLearner,
    ServerState,
    SoftmaxLearner,
    WeightedUpdate,
    Weights,
    spread,
)


def test_training_lowers_the_loss_and_a_penalty_keeps_weights_small() -> None:
    learner = SoftmaxLearner([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1], 2)
    start = learner.begin().arrays()
    free, bound = (learner.train(start, {"steps": 200, "penalty": penalty}).weights for penalty in (0.0, 1.0))
    assert learner.measured(free)["loss"] < learner.measured(start)["loss"]
    assert learner.measured(free)["accuracy"] == 1.0
    assert np.abs(bound["weights"]).max() < np.abs(free["weights"]).max()
    assert (start["weights"] == 0.0).all()


def test_without_examples_it_says_so() -> None:
    empty = SoftmaxLearner(np.empty((0, 2)), [], 2)
    update = empty.train(empty.begin().arrays(), {})
    assert (update.examples, update.metrics) == (0, {})
    nothing = MomentsLearner(np.empty((0, 2)))
    assert nothing.train(nothing.begin().arrays(), {}).examples == 0


@pytest.mark.parametrize(
    ("features", "labels"), [([1.0, 2.0], [0, 1]), ([[1.0], [2.0]], [0]), ([[1.0]], [2]), ([[1.0]], [-1])]
)
def test_what_does_not_go_together_is_refused(features: Any, labels: Any) -> None:
    with pytest.raises(BadFederation):
        SoftmaxLearner(features, labels, 2)


def test_moments_of_the_clients_are_those_of_all_examples() -> None:
    features = np.random.default_rng(1).normal(3.0, 2.0, size=(50, 4))
    features[:, 3] = 7.0
    learners = [MomentsLearner(part) for part in (features[:5], features[5:30], features[30:])]
    state = ServerState(learners[0].begin())
    updates = [learner.train(state.weights.arrays(), {}) for learner in learners]
    found = FedAvg().step(state, [WeightedUpdate(Weights.of(one.weights).vector(), one.examples) for one in updates])
    mean, deviation = spread(found.weights)
    assert np.abs(mean - features.mean(axis=0)).max() < 1e-12
    assert np.abs(deviation - [*features[:, :3].std(axis=0), 1.0]).max() < 1e-7
