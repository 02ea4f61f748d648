"""Work for clients that is there already: a regression that is trained in rounds, and what it has to know before.

>>> learner = SoftmaxLearner([[0.0], [1.0]], [0, 1], classes=2)
>>> learner.train(learner.begin().arrays(), {"steps": 100, "rate": 1.0}).metrics
{'loss': 0.6931471805599453, 'accuracy': 0.5}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dspex.federated.client import LocalUpdate
from dspex.federated.errors import BadFederation
from dspex.federated.weights import Weights

#: What a learner does if the settings do not say.
STEPS, RATE = 1, 0.5


class SoftmaxLearner:
    """Trains a softmax regression by full steps down its slope.

    The weights are ``weights``, a column for each class, and ``constant``. Settings: ``steps`` and ``rate``;
    ``proximal`` of `FedProx`; ``penalty``, of the squares of the weights, but for the constant.

    Args:
        features: a row of numbers for each example.
        labels: the number of the class of each example.
        classes: how many there are.

    Raises:
        BadFederation: they do not go together.
    """

    def __init__(self, features: Any, labels: Sequence[int], classes: int) -> None:
        self.features = np.asarray(features, dtype=float)
        numbers = np.asarray(labels, dtype=int)
        if self.features.ndim != 2 or numbers.shape != (len(self.features),):
            raise BadFederation("SoftmaxLearner: features", self.features.shape, "give a row for each label")
        if ((numbers < 0) | (numbers >= classes)).any():
            raise BadFederation("SoftmaxLearner: labels", classes, "give numbers below `classes`")
        self.truth = np.eye(classes)[numbers]

    def begin(self) -> Weights:
        """Return weights to begin with, all 0: the same for all clients."""
        shape = self.features.shape[1], self.truth.shape[1]
        return Weights.of({"weights": np.zeros(shape), "constant": np.zeros(shape[1])})

    def train(self, weights: dict[str, Any], settings: Mapping[str, float]) -> LocalUpdate:
        """Make steps, and say how good the weights are that it got."""
        count, steps = len(self.features), int(settings.get("steps", STEPS))
        if not count:
            return LocalUpdate(weights, 0)
        rate, proximal = settings.get("rate", RATE), settings.get("proximal", 0.0)
        penalties = {"weights": settings.get("penalty", 0.0), "constant": 0.0}
        metrics = self.measured(weights)
        found = dict(weights)
        for _ in range(steps):
            rest = (softmax(self.features @ found["weights"] + found["constant"]) - self.truth) / count
            slopes = {"weights": self.features.T @ rest, "constant": rest.sum(axis=0)}
            for name, slope in slopes.items():
                pull = penalties[name] * found[name] + proximal * (found[name] - weights[name])
                found[name] = found[name] - rate * (slope + pull)
        return LocalUpdate(found, count, metrics, count * steps)

    def measured(self, weights: Mapping[str, Any]) -> dict[str, float]:
        """Return the mean loss of weights on the examples, and how many they have right."""
        shares = softmax(self.features @ weights["weights"] + weights["constant"])
        right = (shares * self.truth).sum(axis=1)
        hits = shares.argmax(axis=1) == self.truth.argmax(axis=1)
        loss = -np.log(np.maximum(right, 1e-300)).mean()
        return {"loss": float(loss), "accuracy": float(hits.mean())}


class MomentsLearner:
    """Tells the mean of each feature, and of its square: in one round of `FedAvg` those of all examples together.

    Args:
        features: a row of numbers for each example.
    """

    def __init__(self, features: Any) -> None:
        self.features = np.asarray(features, dtype=float)

    def begin(self) -> Weights:
        """Return weights of the right shapes."""
        size = self.features.shape[1]
        return Weights.of({"mean": np.zeros(size), "square": np.zeros(size)})

    def train(self, weights: dict[str, Any], settings: Mapping[str, float]) -> LocalUpdate:
        """Return the means."""
        if not len(self.features):
            return LocalUpdate(weights, 0)
        found = {"mean": self.features.mean(axis=0), "square": np.square(self.features).mean(axis=0)}
        return LocalUpdate(found, len(self.features))


def spread(moments: Weights) -> tuple[Any, Any]:
    """Return the mean of each feature, and its standard deviation, of what `MomentsLearner` has found; 1 for none."""
    arrays = moments.arrays()
    variance = np.maximum(arrays["square"] - np.square(arrays["mean"]), 0.0)
    deviation = np.sqrt(variance)
    return arrays["mean"], np.where(deviation > 1e-12, deviation, 1.0)


def softmax(scores: Any) -> Any:
    """Return the shares of the classes, of a row of scores for each example."""
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)
