"""A team's stacking rule, learned from votes that stay with the clients.

It takes two federations: the first finds how the members' logarithms lie (`stacking_moments`), the second the weights
(`stacking_weights` of what the first has found); `stacking_rule` makes the rule.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from dspex.federated.client import LocalUpdate
from dspex.federated.errors import BadFederation
from dspex.federated.learners import MomentsLearner, SoftmaxLearner, spread
from dspex.federated.weights import Weights
from dspex.teams.records import RecordedVotes
from dspex.teams.stacking import Stacking, logarithms


class StackingLearner:
    """Learns a stacking rule from recorded votes. Examples on which a member has no vote are left out.

    Args:
        records: what members have answered here, and what was right; None for a client that has none.
        members: of the team, in the order of all clients.
        labels: among which it decides, in the order of all clients.

    Raises:
        BadFederation: there are fewer than two labels, or no members.
    """

    def __init__(self, records: RecordedVotes | None, members: Sequence[str], labels: Sequence[Hashable]) -> None:
        _check(members, labels)
        rows, truth = [], []
        examples = () if records is None else zip(records.votes, records.truth, strict=True)
        for votes, right in examples:
            told = {vote.member: logarithms(vote, labels) for vote in votes}
            if right in labels and all(told.get(member) for member in members):
                rows.append([value for member in members for value in told[member]])
                truth.append([*labels].index(right))
        self.features = np.reshape(np.array(rows, dtype=float), (len(rows), len(members) * len(labels)))
        self._truth, self._labels = truth, len(labels)

    def train(self, weights: dict[str, Any], settings: Mapping[str, float]) -> LocalUpdate:
        """Tell how the logarithms lie here, or make steps, by which weights it gets."""
        if "square" in weights:
            return MomentsLearner(self.features).train(weights, settings)
        fixed = {name: weights[name] for name in ("usual", "scale")}
        features = (self.features - fixed["usual"]) / fixed["scale"]
        learner = SoftmaxLearner(features, self._truth, self._labels)
        update = learner.train({name: weights[name] for name in ("weights", "constant")}, settings)
        return LocalUpdate({**update.weights, **fixed}, update.examples, update.metrics, update.runs)


def stacking_moments(members: Sequence[str], labels: Sequence[Hashable]) -> Weights:
    """Return what the first federation begins with; it takes one round of `FedAvg`.

    Raises:
        BadFederation: there are fewer than two labels, or no members.
    """
    _check(members, labels)
    size = len(members) * len(labels)
    return Weights.of({"mean": np.zeros(size), "square": np.zeros(size)})


def stacking_weights(moments: Weights, labels: Sequence[Hashable]) -> Weights:
    """Return what the second federation begins with."""
    mean, deviation = spread(moments)
    start = {"weights": np.zeros((len(mean), len(labels))), "constant": np.zeros(len(labels))}
    return Weights.of({**start, "usual": mean, "scale": deviation})


def stacking_rule(found: Weights, members: Sequence[str], labels: Sequence[Hashable]) -> Stacking:
    """Return the rule that the second federation has found."""
    arrays, size = found.arrays(), len(labels)
    rows = arrays["weights"] / arrays["scale"][:, None]
    weights, usual = {}, {}
    for number, member in enumerate(members):
        part = slice(number * size, (number + 1) * size)
        weights[member] = tuple(tuple(row) for row in rows[part].T.tolist())
        usual[member] = tuple(arrays["usual"][part].tolist())
    return Stacking(tuple(labels), tuple(arrays["constant"].tolist()), weights, usual)


def _check(members: Sequence[str], labels: Sequence[Hashable]) -> None:
    if not members or len(set(labels)) < 2 or len(set(labels)) != len(labels):
        raise BadFederation(
            "StackingLearner: members, labels", (members, labels), "name members, and two labels or more"
        )
