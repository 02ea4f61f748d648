"""Stacking: which label is likeliest, by a regression on how probable the members find each.

>>> cast = [[MemberVote("a", "x")], [MemberVote("a", "x")], [MemberVote("a", "y")], [MemberVote("a", "y")]]
>>> rule = Stacking.fitted(RecordedVotes(cast, ["y", "y", "x", "x"]))
>>> rule.decide([MemberVote("a", "x")]).form  # where it says x, y is right
'y'
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from operator import mul
from typing import Any

import msgspec
import numpy as np

from dspex.teams.ballot import MemberVote
from dspex.teams.records import RecordedVotes
from dspex.teams.rules import CombinedAnswer, told_of
from dspex.teams.weights import BadWeights
from foundation.options import above_zero, finite
from supervision.errors import BadOption

#: The least probability that a member is taken to give a label.
LEAST_TOLD = 0.01
#: The regression has converged when no weight changes by more, ...
TOLERANCE = 1e-10
#: ... and it ends after so many rounds in any case.
MOST_ROUNDS = 20_000

_Row = tuple[float, ...]


class Stacking(msgspec.Struct, frozen=True, tag=True):
    """The likeliest label, by a logistic regression on the logarithms of the members' probabilities.

    It learns what a member says too often, whom to believe about what, and whose errors go together, from some hundred
    examples with labels. A member that tells no probabilities counts as one that is nearly sure of its answer; one that
    has no answer counts as what it says on the average, and so speaks neither for nor against a label.

    Attributes:
        labels: that it decides among.
        constant: of each label, its score to begin with.
        weights: of each member, for each label a row: what the member's logarithm of each label adds to it.
        usual: of each member, its mean logarithm of each label.

    Raises:
        BadOption: a number is not finite, or there are not as many as there are labels.

    Source: Wolpert (1992); Böhning (1992) for the steps.
    """

    labels: tuple[Any, ...]
    constant: _Row
    weights: Mapping[str, tuple[_Row, ...]]
    usual: Mapping[str, _Row]

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels) or len(self.labels) < 2:
            raise BadOption("Stacking: labels", self.labels, "give two or more, each once")
        _check("constant", self.constant, len(self.labels))
        if set(self.weights) != set(self.usual):
            raise BadOption("Stacking: usual", sorted(self.usual), f"name the members of weights: {list(self.weights)}")
        for member, rows in self.weights.items():
            _check(f"usual of {member}", self.usual[member], len(self.labels))
            if len(rows) != len(self.labels):
                raise BadOption(f"Stacking: weights of {member}", rows, f"give {len(self.labels)} rows")
            for row in rows:
                _check(f"weights of {member}", row, len(self.labels))

    @classmethod
    def fitted(cls, records: RecordedVotes, *, penalty: float = 0.1) -> Stacking:
        """Return the rule that recorded votes make the likeliest.

        Args:
            records: the votes. Labels that nothing is the truth of are not learned.
            penalty: how much the squares of the weights count beside the mean logarithm of the probability of what is
                right; more for fewer examples, or more members.

        Raises:
            BadWeights: there are fewer than two labels, or no votes.
            BadOption: the penalty is no number above 0.
        """
        above_zero("Stacking: penalty", penalty)
        labels = tuple(dict.fromkeys(records.truth))
        if len(labels) < 2 or not records.members:
            raise BadWeights(f"the labels are {list(labels)}, of members {list(records.members)}: record more examples")
        told = [{vote.member: logarithms(vote, labels) for vote in cast} for cast in records.votes]
        usual = {member: _mean([row for item in told if (row := item.get(member))]) for member in records.members}
        usual = {member: row for member, row in usual.items() if row}
        nothing = (0.0,) * len(labels)
        features = np.array(
            [
                [value for member in usual for value in _apart(item.get(member), usual[member]) or nothing] + [1.0]
                for item in told
            ]
        )
        truth = np.array([[label == right for label in labels] for right in records.truth], dtype=float)
        found = _regression(features, truth, penalty)
        size = len(labels)
        weights = {
            member: tuple(tuple(row) for row in found[number * size : (number + 1) * size].T.tolist())
            for number, member in enumerate(usual)
        }
        return cls(labels, tuple(found[-1].tolist()), weights, usual)

    def weight(self, member: str) -> float:
        """Return 1; 0 for a member that nothing is known of."""
        return 1.0 if member in self.weights else 0.0

    def decide(self, votes: Sequence[MemberVote]) -> CombinedAnswer:
        """Return the label with the highest probability, and that."""
        scores = list(self.constant)
        for vote in votes:
            if vote.member not in self.weights:
                continue
            apart = _apart(logarithms(vote, self.labels), self.usual[vote.member])
            for number, row in enumerate(self.weights[vote.member] if apart else ()):
                scores[number] += math.fsum(map(mul, row, apart))
        best = max(scores)
        label = self.labels[scores.index(best)]
        return CombinedAnswer(label, 1.0 / sum(math.exp(score - best) for score in scores))

    def settled(self, votes: Sequence[MemberVote], outstanding: Sequence[str]) -> bool:
        """Return whether nobody is outstanding who is known."""
        return not any(map(self.weight, outstanding))


def _check(what: str, row: Sequence[float], length: int) -> None:
    if len(row) != length or any(finite(value) is None for value in row):
        raise BadOption(f"Stacking: {what}", row, f"give {length} finite numbers")


def logarithms(vote: MemberVote, labels: Sequence[Hashable]) -> _Row:
    """Return the logarithm of a vote's probability of each label; nothing if it speaks of none of them."""
    told = told_of(vote)
    shares = [told.get(label, 0.0) for label in labels]
    total = sum(shares)
    if not total > 0:
        return ()
    return tuple(math.log(max(LEAST_TOLD, share / total)) for share in shares)


def _mean(rows: Sequence[_Row]) -> _Row:
    return tuple(math.fsum(column) / len(rows) for column in zip(*rows, strict=True))


def _apart(row: _Row | None, usual: _Row) -> _Row:
    """Return how far logarithms are from the usual ones; nothing if there are none."""
    return tuple(value - mean for value, mean in zip(row, usual, strict=True)) if row else ()


def _regression(features: Any, truth: Any, penalty: float) -> Any:
    """Return the weights of a multinomial logistic regression, a row for each feature; the last is not penalised.

    Each step takes a bound for the curvature that is the same in all rounds, with the momentum of the steps before, as
    long as that leads upwards.
    """
    count, size = features.shape
    penalties = np.full((size, 1), penalty)
    penalties[-1] = 0.0
    inverse = np.linalg.pinv(features.T @ features / (2 * count) + np.diag(penalties[:, 0]), hermitian=True)
    weights = ahead = np.zeros((size, truth.shape[1]))
    rounds = 0
    for _ in range(MOST_ROUNDS):
        scores = features @ ahead
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        slope = features.T @ (truth - shares) / count - penalties * ahead
        before, weights = weights, ahead + inverse @ slope
        if np.abs(weights - ahead).max() < TOLERANCE:
            break
        rounds = rounds + 1 if (slope * (weights - before)).sum() > 0 else 0
        ahead = weights + rounds / (rounds + 3) * (weights - before)
    return weights
