"""Rules that make new weights of those of the clients: pure functions of values.

>>> replies = [WeightedUpdate(np.array(w), n) for w, n in (([1.0, 0.0], 10), ([2.0, 4.0], 30), ([10.0, -2.0], 10))]
>>> before = ServerState(Weights.of({"w": [0.0, 0.0]}))
>>> [rule.step(before, replies).weights.vector().round(6).tolist() for rule in (FedAvg(), MedianWeights(), Krum())]
[[3.4, 2.0], [2.0, 0.0], [1.0, 0.0]]
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias

import msgspec
import numpy as np

from dspex.federated.errors import CannotMerge
from dspex.federated.options import kept_share, trimmed_share
from dspex.federated.weights import Weights
from foundation.options import above_zero, from_zero, whole


class WeightedUpdate(NamedTuple):
    """The weights of a client after its own steps, and of how many examples they are."""

    vector: Any
    examples: int


class ServerState(msgspec.Struct, frozen=True):
    """What goes from one round to the next.

    Attributes:
        weights: that the clients get.
        steps: how many rounds have changed them.
        momentum: what a rule remembers of the changes; None if it has not begun.
        second: what it remembers of their squares.
    """

    weights: Weights
    steps: int = 0
    momentum: Weights | None = None
    second: Weights | None = None


class _Rule(msgspec.Struct, frozen=True, tag=True):
    """The base of all rules."""

    #: How many clients have to report, at least.
    needs: ClassVar[int] = 1

    @property
    def settings(self) -> Mapping[str, float]:
        """What clients have to know of the rule."""
        return {}

    def step(self, state: ServerState, updates: Sequence[WeightedUpdate]) -> ServerState:
        """Return the state after a round.

        Args:
            state: before it.
            updates: of the clients, in the federation's order.

        Raises:
            CannotMerge: there are too few, or nothing finite comes of them.
        """
        needed = self.least
        if len(updates) < needed:
            raise CannotMerge(f"{type(self).__name__} needs {needed} clients, and {len(updates)} have reported")
        with np.errstate(over="ignore", invalid="ignore"):
            found = self._step(state, updates)
        if not all(np.isfinite(part.vector()).all() for part in (found.weights, found.momentum, found.second) if part):
            raise CannotMerge("the new weights are not finite: clip the updates")
        return found

    @property
    def least(self) -> int:
        """How many clients it takes."""
        return self.needs

    @abstractmethod
    def _step(self, state: ServerState, updates: Sequence[WeightedUpdate]) -> ServerState: ...


def _mean(updates: Sequence[WeightedUpdate]) -> Any:
    """Return the mean, weighted by examples."""
    total = sum(update.examples for update in updates)
    if total <= 0:
        raise CannotMerge("the clients have no examples at all")
    return sum(update.vector * (update.examples / total) for update in updates)


def _moved(state: ServerState, vector: Any, momentum: Any = None, second: Any = None) -> ServerState:
    like = state.weights.with_vector
    kept = (None if part is None else like(part) for part in (momentum, second))
    return ServerState(like(vector), state.steps + 1, *kept)


def _vector(part: Weights | None, state: ServerState) -> Any:
    return np.zeros_like(state.weights.vector()) if part is None else part.vector()


class FedAvg(_Rule, frozen=True, tag=True):
    """The mean of the clients' weights, each as much as it has examples (McMahan and others, 2017).

    With one full step of all clients in each round, it is gradient descent on all examples together.
    """

    def _step(self, state: ServerState, updates: Sequence[WeightedUpdate]) -> ServerState:
        return _moved(state, _mean(updates))


class FedProx(_Rule, frozen=True, tag=True):
    """`FedAvg` of clients that are held back: each adds ``proximal / 2 · |w - w₀|²`` to its loss (Li and others, 2020).

    Attributes:
        proximal: how much (μ). The learner has to use it; 0 is `FedAvg`.
    """

    proximal: float = 0.1

    def __post_init__(self) -> None:
        from_zero("FedProx: proximal", self.proximal)

    @property
    def settings(self) -> Mapping[str, float]:
        """What the learners add to their loss."""
        return {"proximal": self.proximal}

    def _step(self, state: ServerState, updates: Sequence[WeightedUpdate]) -> ServerState:
        return _moved(state, _mean(updates))


class FedAvgM(_Rule, frozen=True, tag=True):
    """`FedAvg` with momentum at the server (Hsu and others, 2019).

    Attributes:
        rate: of the server.
        momentum: which share of the change before is made again.
    """

    rate: float = 1.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        above_zero("FedAvgM: rate", self.rate)
        kept_share("FedAvgM: momentum", self.momentum)

    def _step(self, state: ServerState, updates: Sequence[WeightedUpdate]) -> ServerState:
        before = state.weights.vector()
        momentum = self.momentum * _vector(state.momentum, state) + (before - _mean(updates))
        return _moved(state, before - self.rate * momentum, momentum)


class _Adaptive(_Rule, frozen=True):
    """A step of the server that is larger where changes were small (Reddi and others, 2021).

    Attributes:
        rate: of the server.
        beta1: which share of the mean change is kept.
        beta2: which share of the mean square is kept.
        tau: below which size changes are small.
    """

    rate: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        name = type(self).__name__
        above_zero(f"{name}: rate", self.rate)
        above_zero(f"{name}: tau", self.tau)
        kept_share(f"{name}: beta1", self.beta1)
        kept_share(f"{name}: beta2", self.beta2)

    def _step(self, state: ServerState, updates: Sequence[WeightedUpdate]) -> ServerState:
        before = state.weights.vector()
        change = _mean(updates) - before
        momentum = self.beta1 * _vector(state.momentum, state) + (1 - self.beta1) * change
        second = self._second(_vector(state.second, state), change * change)
        after = before + self._rate(state.steps + 1) * momentum / (np.sqrt(second) + self.tau)
        return _moved(state, after, momentum, second)

    @abstractmethod
    def _second(self, second: Any, square: Any) -> Any: ...

    def _rate(self, step: int) -> float:
        return self.rate


class FedAdam(_Adaptive, frozen=True, tag=True):
    """Adam at the server. Its first step is not Adam's: as in Flower, the exponent is the round and one."""

    def _second(self, second: Any, square: Any) -> Any:
        return self.beta2 * second + (1 - self.beta2) * square

    def _rate(self, step: int) -> float:
        return self.rate * math.sqrt(1 - self.beta2 ** (step + 1)) / (1 - self.beta1 ** (step + 1))


class FedYogi(_Adaptive, frozen=True, tag=True):
    """Yogi at the server: the mean square changes by a bounded amount."""

    rate: float = 0.01

    def _second(self, second: Any, square: Any) -> Any:
        return second - (1 - self.beta2) * square * np.sign(second - square)


class FedAdagrad(_Adaptive, frozen=True, tag=True):
    """Adagrad at the server: squares are added up, and never forgotten."""

    beta1: float = 0.0

    def _second(self, second: Any, square: Any) -> Any:
        return second + square


class MedianWeights(_Rule, frozen=True, tag=True):
    """The median of each number, of all clients alike, however many examples they have.

    A hostile minority moves it no further than the honest ones lie apart. If they have different labels, that is far,
    and the only client that knows a label is outvoted.
    """

    def _step(self, state: ServerState, updates: Sequence[WeightedUpdate]) -> ServerState:
        return _moved(state, np.median([update.vector for update in updates], axis=0))


class TrimmedWeights(_Rule, frozen=True, tag=True):
    """The mean of each number without the largest and the smallest ones, of all clients alike.

    Attributes:
        share: of the clients that is left out at each end, rounded down: .2 of four are none.
    """

    share: float = 0.2

    def __post_init__(self) -> None:
        trimmed_share("TrimmedWeights: share", self.share)

    def _step(self, state: ServerState, updates: Sequence[WeightedUpdate]) -> ServerState:
        cut = math.floor(self.share * len(updates))
        ordered = np.sort([update.vector for update in updates], axis=0)
        return _moved(state, ordered[cut : len(updates) - cut].mean(axis=0))


class Krum(_Rule, frozen=True, tag=True):
    """The weights of the client that is nearest to its neighbours (Blanchard and others, 2017).

    Attributes:
        faulty: how many clients may lie; so many and three more than that again have to report.
        keep: of how many the mean is taken, weighted by examples: multi-Krum.
    """

    faulty: int = 0
    keep: int = 1

    def __post_init__(self) -> None:
        whole("Krum: faulty", self.faulty, 0)
        whole("Krum: keep", self.keep)

    @property
    def least(self) -> int:
        """How many clients it takes."""
        return max(2 * self.faulty + 3, self.keep)

    def _step(self, state: ServerState, updates: Sequence[WeightedUpdate]) -> ServerState:
        scores = krum_scores([update.vector for update in updates], self.faulty)
        nearest = sorted(range(len(updates)), key=lambda number: scores[number])[: self.keep]
        if self.keep == 1:
            return _moved(state, updates[nearest[0]].vector)
        return _moved(state, _mean([updates[number] for number in sorted(nearest)]))


AveragingRule: TypeAlias = (
    FedAvg | FedProx | FedAvgM | FedAdam | FedYogi | FedAdagrad | MedianWeights | TrimmedWeights | Krum
)


def krum_scores(vectors: Sequence[Any], faulty: int) -> list[float]:
    """Return how far each vector is from its nearest neighbours: the sum of so many squared distances.

    >>> [round(score, 6) for score in krum_scores([0.0, 1.0, 1.1, 10.0], faulty=1)]
    [1.0, 0.01, 0.01, 79.21]
    """
    near = max(1, len(vectors) - faulty - 2)

    def score(number: int) -> float:
        apart = [float(np.square(vectors[number] - other).sum()) for at, other in enumerate(vectors) if at != number]
        return math.fsum(sorted(apart)[:near])

    return [score(number) for number in range(len(vectors))]


def clipped(vector: Any, before: Any, most: float) -> Any:
    """Return a client's weights with their change from the ones before made no longer than ``most``."""
    change = vector - before
    norm = float(np.sqrt(np.square(change).sum()))
    return vector if norm <= most else before + change * (most / norm)
