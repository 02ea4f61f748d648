"""Suite ``population``: where population based training wins, and where it does not, on real digits without a model.

Weights of a softmax regression on the 1,797 digits of scikit-learn; ten splits by chance into 1,077 digits to train on,
360 to compare members on, and 360 to test on. Eight members are trained for twenty intervals; beside them stand eight
with the same first settings, the same chance and as many steps, of which nobody copies: a random search. The figure is
by how much the test's loss (the mean of -log p of the right digit) is less, beside how much that varies.

- ``edited``: the weights are changed at random, and what is no worse on the training digits is kept; the setting is how
  large the changes are. What one member has found others go on from.
- ``descended``: they are changed by stochastic gradients; the setting is the learning rate. A rate that is good
  from the beginning does about as well: what is won is within what varies.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import dspy
import numpy as np

from bench.federated import digits_of
from bench.figure import Figure
from dspex.search import PopulationBasedTraining, PopulationRule, TrainingStep
from dspex.variables import Float

SEEDS, MEMBERS, INTERVALS = 10, 8, 20
#: How many digits there are to compare by, and to test on.
HELD = 360


class Alone(PopulationRule, frozen=True):
    """Nobody copies."""

    def copies(self, scores: Mapping[int, float], chance: Random) -> dict[int, int]:
        """Return nothing."""
        return {}


class Weights(dspy.Module):  # type: ignore[misc]
    """A program that is weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: Any = None


class Digits:
    """What both ways of training share.

    Args:
        seed: of the split.
    """

    def __init__(self, seed: int) -> None:
        images, digits = digits_of()
        self._images, self._digits = np.c_[images, np.ones(len(images))], digits
        self._truth = np.eye(10)[digits]
        order = np.random.default_rng(seed).permutation(len(digits))
        self.test, self._compare, self._learn = order[:HELD], order[HELD : 2 * HELD], order[2 * HELD :]

    def shares(self, weights: Any, which: Any) -> Any:
        """Return the probabilities of digits."""
        scores = self._images[which] @ weights
        found = np.exp(scores - scores.max(axis=1, keepdims=True))
        return found / found.sum(axis=1, keepdims=True)

    def loss(self, weights: Any, which: Any) -> float:
        """Return the mean of -log p of the right digits."""
        right = self.shares(weights, which)[np.arange(len(which)), self._digits[which]]
        return float(-np.log(np.clip(right, 1e-12, 1.0)).mean())

    def accuracy(self, weights: Any) -> float:
        """Return how many of the test are right."""
        return float((self.shares(weights, self.test).argmax(axis=1) == self._digits[self.test]).mean())

    def begin(self, step: TrainingStep) -> Any:
        """Begin with nothing."""
        return np.zeros((65, 10)).tolist()

    def score(self, state: Any, step: TrainingStep) -> float:
        """Return the loss on the digits to compare by, below 0."""
        return -self.loss(np.array(state), self._compare)

    def program(self, student: Any, state: Any) -> Any:
        """Return the weights."""
        student.weights = np.array(state)
        return student


class Edited(Digits):
    """Forty changes in an interval, each of one weight in twenty."""

    variables = (Float(name="size", low=0.01, high=10.0, log=True, default=0.3),)

    def train(self, state: Any, step: TrainingStep) -> Any:
        """Change, and keep what is no worse."""
        weights, chance = np.array(state), np.random.default_rng(step.chance.getrandbits(64))
        least = self.loss(weights, self._learn)
        for _ in range(40):
            which = chance.random(weights.shape) < 0.05
            changed = weights + step.settings["size"] * chance.normal(size=weights.shape) * which
            loss = self.loss(changed, self._learn)
            if loss <= least:
                weights, least = changed, loss
        return weights.tolist()


class Descended(Digits):
    """Twenty-five steps in an interval, each by four digits."""

    variables = (Float(name="rate", low=0.01, high=10.0, log=True, default=0.3),)

    def train(self, state: Any, step: TrainingStep) -> Any:
        """Descend."""
        weights, chance = np.array(state), np.random.default_rng(step.chance.getrandbits(64))
        for _ in range(25):
            some = chance.choice(self._learn, 4)
            slope = self._images[some].T @ (self.shares(weights, some) - self._truth[some])
            weights = weights - step.settings["rate"] / 4 * slope
        return weights.tolist()


def _trained(kind: Callable[[int], Any], seed: int, rule: PopulationRule) -> tuple[float, float]:
    """Return loss and accuracy on the test."""
    digits = kind(seed)
    made = PopulationBasedTraining(
        digits, population=MEMBERS, intervals=INTERVALS, rule=rule, at_once=2, num_threads=1, display_progress=False
    )
    found = made.compile(Weights(), trainset=[dspy.Example(digits="all").with_inputs("digits")], seed=seed)
    return digits.loss(found.weights, digits.test), digits.accuracy(found.weights)


def _figure(kind: Callable[[int], Any], reach: float) -> Figure:
    population = [_trained(kind, seed, PopulationRule()) for seed in range(SEEDS)]
    alone = [_trained(kind, seed, Alone()) for seed in range(SEEDS)]
    gains = [other[0] - one[0] for one, other in zip(population, alone, strict=True)]
    mean, spread = statistics.fmean(gains), statistics.stdev(gains)
    more = {
        "population": statistics.fmean(one[0] for one in population),
        "random": statistics.fmean(one[0] for one in alone),
        "least": min(gains),
        "most": max(gains),
        "accuracy": statistics.fmean(one[1] for one in population),
        "random_accuracy": statistics.fmean(one[1] for one in alone),
    }
    ratio = mean / max(spread, 1e-9)
    return Figure(value=mean, unit="loss", limit=spread, ratio=ratio, reach=reach, better="higher", more=more)


async def edited() -> Figure:
    """Where it wins."""
    return await asyncio.to_thread(_figure, Edited, 1.0)


async def descended() -> Figure:
    """Where it does not."""
    return await asyncio.to_thread(_figure, Descended, 0.0)


FIGURES = {"edited": edited, "descended": descended}
