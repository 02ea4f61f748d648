"""Programs of the suite ``quality`` that see how probable each label is: corrected for a bias, or put together.

- ``corrected``: one wording, each label's probability divided by its mean over texts without labels.
- ``together``: all wordings, each corrected, and their logarithms added.
- ``stacked``: a logistic regression on the logarithms of all wordings, fitted to the examples to learn from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy

#: How a program makes an answer of probabilities.
WAYS = ("as it is", "corrected", "together", "stacked")
#: The weight of the penalty, the steps and their size, of the regression.
PENALTY, STEPS, RATE = 0.05, 300, 0.5

Shares = Mapping[str, float]


class Listening:
    """An engine that notes how probable each answer was.

    Args:
        engine: that is asked, and has ``shares_of``.
    """

    supports_response_schema = True

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.supported_params = engine.supported_params
        self.noted: Shares = {}

    def complete(self, request: Any) -> Any:
        """Answer a request."""
        self.noted = self._engine.shares_of(request)
        return self._engine.complete(request)

    def stream(self, request: Any) -> Any:
        """Answer in one piece."""
        self.noted = self._engine.shares_of(request)
        return self._engine.stream(request)


class Known:
    """What was computed of the examples to learn from, by wording; shared by all copies of a program."""

    def __init__(self) -> None:
        self.means: dict[str, dict[str, float]] = {}
        self.weights: list[list[float]] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Known:
        return self


class Chooses(dspy.Module):  # type: ignore[misc]
    """Chooses a label by how probable the model finds each.

    Args:
        task: the task.
        train: the examples to learn from; for means, their labels are not looked at.
        way: one of `WAYS`.
        listen: makes a language model that listens, and returns it with its `Listening`.
    """

    def __init__(self, task: Any, train: Sequence[Any], way: str, listen: Callable[[], tuple[Any, Listening]]) -> None:
        super().__init__()
        self.predict = dspy.Predict(task.signature)
        self.way = way
        self._task, self._train, self._listen, self._known = task, train, listen, Known()

    def forward(self, **inputs: Any) -> Any:
        """Return the label that is the most probable."""
        scores = self._scores(inputs)
        return dspy.Prediction(**{self._task.field(): max(scores, key=lambda label: scores[label])})

    def _scores(self, inputs: Mapping[str, Any]) -> Shares:
        if self.way == "as it is":
            return self._shares(self.predict, inputs)
        if self.way == "corrected":
            return self._corrected(self.predict, inputs)
        if self.way == "together":
            found = [self._corrected(one, inputs) for one in self._wordings()]
            return {label: sum(math.log(shares[label]) for shares in found) for label in found[0]}
        if self._known.weights is None:
            self._known.weights = self._fitted()
        features = self._features(inputs)
        labels = self._labels()
        return {label: _dot(row, features) for label, row in zip(labels, self._known.weights, strict=True)}

    def _labels(self) -> list[str]:
        return list(self._task.signature.output_fields[self._task.field()].annotation.__args__)

    def _wordings(self) -> list[Any]:
        own = self._task.signature.instructions
        return [dspy.Predict(self._task.signature.with_instructions(text)) for text in (own, *self._task.instructions)]

    def _shares(self, predict: Any, inputs: Mapping[str, Any]) -> dict[str, float]:
        lm, listening = self._listen()
        with dspy.context(lm=lm, trace=[]):
            predict(**inputs)
        return {label: max(share, 1e-9) for label, share in listening.noted.items()}

    def _corrected(self, predict: Any, inputs: Mapping[str, Any]) -> dict[str, float]:
        mean, shares = self._mean(predict), self._shares(predict, inputs)
        return {label: share / mean[label] for label, share in shares.items()}

    def _mean(self, predict: Any) -> dict[str, float]:
        """Return how probable each label is on average, with a wording and its demonstrations."""
        key = json.dumps([predict.signature.instructions, [dict(demo.items()) for demo in predict.demos]], default=str)
        if key not in self._known.means:
            found = [self._shares(predict, example.inputs()) for example in self._train]
            self._known.means[key] = {label: sum(one[label] for one in found) / len(found) for label in found[0]}
        return self._known.means[key]

    # -- stacking --------------------------------------------------------------------------------------------------

    def _features(self, inputs: Mapping[str, Any]) -> list[float]:
        """Return the logarithms of the corrected shares of all wordings, and a constant."""
        found = [self._corrected(one, inputs) for one in self._wordings()]
        return [*(math.log(shares[label]) / len(found) for shares in found for label in self._labels()), 1.0]

    def _fitted(self) -> list[list[float]]:
        rows = [self._features(example.inputs()) for example in self._train]
        answers = [self._labels().index(example[self._task.field()]) for example in self._train]
        return _regression(rows, answers, len(self._labels()))


def _dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def _regression(rows: Sequence[Sequence[float]], answers: Sequence[int], classes: int) -> list[list[float]]:
    """Return the weights of a logistic regression, of each class, by gradient descent with a penalty.

    It begins with the sum of each class over the wordings, which is what the shares say without it.
    """
    size = len(rows[0])
    start = [[float(at % classes == label and at < size - 1) for at in range(size)] for label in range(classes)]
    weights = [list(row) for row in start]
    for _ in range(STEPS):
        gradient = [
            [PENALTY * (w - s) for w, s in zip(*pair, strict=True)] for pair in zip(weights, start, strict=True)
        ]
        for row, answer in zip(rows, answers, strict=True):
            scores = [_dot(one, row) for one in weights]
            most = max(scores)
            exponents = [math.exp(score - most) for score in scores]
            for label, exponent in enumerate(exponents):
                off = (exponent / sum(exponents) - (label == answer)) / len(rows)
                for at, value in enumerate(row):
                    gradient[label][at] += off * value
        weights = [[w - RATE * g for w, g in zip(*pair, strict=True)] for pair in zip(weights, gradient, strict=True)]
    return weights
