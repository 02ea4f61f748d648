"""What recorded answers say about members: weights, confusions, biases, contributions. Pure functions, without numpy.

Answers are mappings from members to normal forms, one for each item; a member that gave none is left out.

>>> round(accuracy_weight(70, 100, labels=5), 3), round(accuracy_weight(35, 100, labels=5), 3)
(2.123, 0.736)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import combinations
from math import factorial

from dspex.teams.shares import checked_shares
from foundation.options import above_zero, whole
from supervision.errors import BadOption

#: The answers of one item.
Answers = Mapping[str, Hashable]


class BadWeights(ValueError):
    """These answers do not tell what members are worth. The text says what would."""


def accuracy_weight(right: int, total: int, *, labels: int) -> float:
    """Return the weight that a vote should have: log(p (K - 1) / (1 - p)) of the member's accuracy p among K labels.

    It is 0 for a member that guesses, and below that for one that is worse. The weight for two labels,
    log(p / (1 - p)), would make an enemy of a member that is right 35 times of 100 among five labels.

    Args:
        right: how many of its answers were right. Its accuracy is estimated as (right + 1) / (total + labels), and held
            between 0.01 and 0.99.
        total: of how many.
        labels: how many labels there are, from 2.

    Raises:
        BadOption: a number makes no sense.

    Source: the optimal rule for independent voters (Nitzan and Paroush, 1982), for K labels.
    """
    labels = whole("accuracy_weight: labels", labels, 2)
    total = whole("accuracy_weight: total", total, 0)
    if whole("accuracy_weight: right", right, 0) > total:
        raise BadOption("accuracy_weight: right", right, f"no more can be right than {total}, of which it is")
    accuracy = min(0.99, max(0.01, (right + 1) / (total + labels)))
    return math.log(accuracy * (labels - 1) / (1 - accuracy))


def accuracy_weights(items: Sequence[Answers], truth: Sequence[Hashable], *, labels: int) -> dict[str, float]:
    """Return the `accuracy_weight` of each member, from items whose labels are known."""
    _check_lengths(items, truth)
    counts: dict[str, list[int]] = {}
    for answers, label in zip(items, truth, strict=True):
        for member, form in answers.items():
            found = counts.setdefault(member, [0, 0])
            found[0] += form == label
            found[1] += 1
    return {member: accuracy_weight(right, total, labels=labels) for member, (right, total) in counts.items()}


def confusion_of(
    items: Sequence[Answers], truth: Sequence[Hashable], *, smoothing: float = 1.0
) -> tuple[dict[Hashable, float], dict[str, dict[Hashable, dict[Hashable, float]]]]:
    """Return how frequent each label is, and how often each member answers what for it; for `ConfusionVote`.

    Args:
        items: the answers.
        truth: the label of each item.
        smoothing: is added to each count, so that nothing that was not seen is impossible.
    """
    _check_lengths(items, truth)
    above_zero("confusion_of: smoothing", smoothing)
    labels = list(dict.fromkeys(truth))
    prior = {
        label: (sum(one == label for one in truth) + smoothing) / (len(truth) + smoothing * len(labels))
        for label in labels
    }
    members = dict.fromkeys(member for answers in items for member in answers)
    counts = {member: {label: dict.fromkeys(labels, smoothing) for label in labels} for member in members}
    for answers, label in zip(items, truth, strict=True):
        for member, form in answers.items():
            if form in counts[member][label]:
                counts[member][label][form] += 1
    shares = {member: {label: _shares(row) for label, row in rows.items()} for member, rows in counts.items()}
    return prior, shares


def mean_probabilities(
    items: Sequence[Mapping[str, Mapping[Hashable, float]]],
) -> dict[str, dict[Hashable, float]]:
    """Return how probable each member finds each label on the average; for `dspex.teams.SoftVote`. Takes no labels.

    Args:
        items: of each item, the probabilities of each member.

    Raises:
        BadProbabilities: they are none.
    """
    sums: dict[str, dict[Hashable, float]] = {}
    counts: dict[str, int] = {}
    for item in items:
        for member, probabilities in item.items():
            counts[member] = counts.get(member, 0) + 1
            found = sums.setdefault(member, {})
            for label, probability in checked_shares(f"probabilities of {member}", probabilities).items():
                found[label] = found.get(label, 0.0) + probability
    return {member: {label: total / counts[member] for label, total in row.items()} for member, row in sums.items()}


def agreement(items: Sequence[Answers]) -> float:
    """Return how often a member agrees with what most of the others say, over all answers.

    Members that guess among K labels agree in 1 / K of them. Where several answers are given most often, one of them
    counts in part.
    """
    total = same = 0.0
    for answers in items:
        for member, form in answers.items():
            counts = Counter(other for name, other in answers.items() if name != member)
            leading = [other for other, count in counts.items() if count == max(counts.values())]
            total += bool(leading)
            same += (form in leading) / max(1, len(leading))
    return same / total if total else 0.0


def oracle(items: Sequence[Answers], truth: Sequence[Hashable]) -> float:
    """Return how often any member was right: what no rule can exceed. Part of it is luck: see ``shuffled`` figures."""
    _check_lengths(items, truth)
    return sum(label in answers.values() for answers, label in zip(items, truth, strict=True)) / len(truth)


def shapley(members: Sequence[str], value: Callable[[frozenset[str]], float]) -> dict[str, float]:
    """Return what each member contributes: its gain, averaged over all orders in which the team could be built.

    >>> worth = {"": 0, "a": 0.6, "b": 0.7, "c": 0.5, "ab": 0.7, "ac": 0.6, "bc": 0.7, "abc": 0.8}
    >>> found = shapley("abc", lambda team: worth["".join(sorted(team))])
    >>> {member: round(share, 2) for member, share in found.items()}
    {'a': 0.25, 'b': 0.35, 'c': 0.2}

    Args:
        members: at most 8, as each of their 2^n teams is asked for.
        value: of a team, from recorded answers.

    Raises:
        BadOption: there are more.

    Source: Shapley (1953).
    """
    names = list(dict.fromkeys(members))
    if len(names) > 8:
        raise BadOption("shapley: members", len(names), "give at most 8; each team of them is looked at")
    worth = {frozenset(team): value(frozenset(team)) for n in range(len(names) + 1) for team in combinations(names, n)}
    orders = factorial(len(names))
    return {
        name: sum(
            factorial(len(team)) * factorial(len(names) - len(team) - 1) / orders * (worth[team | {name}] - worth[team])
            for team in worth
            if name not in team
        )
        for name in names
    }


def _shares(row: Mapping[Hashable, float]) -> dict[Hashable, float]:
    total = sum(row.values())
    return {label: count / total for label, count in row.items()}


def _check_lengths(items: Sequence[Answers], truth: Sequence[Hashable]) -> None:
    if len(items) != len(truth) or not items:
        raise BadWeights(f"{len(items)} items have answers, and {len(truth)} labels; give as many, and at least one")
