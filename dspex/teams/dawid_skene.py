"""Dawid and Skene's estimate of labels, and of what each member takes for what, from answers alone."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Mapping, Sequence

import msgspec

from dspex.teams.rules import ConfusionVote
from dspex.teams.weights import Answers, BadWeights, agreement
from foundation.options import above_zero, from_zero, whole
from supervision.errors import BadOption
from supervision.options import is_whole

#: One weight for each label.
_Row = list[float]


class ExpectedCounts(msgspec.Struct, frozen=True):
    """How often what was said, as far as is known: what an estimate leaves to the next one.

    Attributes:
        labels: how many items had each label.
        answers: of each member: for each label, how often it gave each answer.
    """

    labels: Mapping[Hashable, float] = {}
    answers: Mapping[str, Mapping[Hashable, Mapping[Hashable, float]]] = {}

    def times(self, share: float) -> ExpectedCounts:
        """Return the same, counted as a share of what it was."""
        answers = {
            member: {label: _times(row, share) for label, row in rows.items()} for member, rows in self.answers.items()
        }
        return ExpectedCounts(_times(self.labels, share), answers)


class DawidSkene(msgspec.Struct, frozen=True):
    """What answers say, without labels.

    Attributes:
        labels: the likeliest label of each item.
        rule: combines the answers of further items.
        rounds: how many it took.
        counts: for the estimate from the next items.
    """

    labels: tuple[Hashable, ...]
    rule: ConfusionVote
    rounds: int
    counts: ExpectedCounts


def dawid_skene(
    items: Sequence[Answers],
    *,
    gold: Mapping[int, Hashable] | None = None,
    earlier: ExpectedCounts | None = None,
    smoothing: float = 0.01,
    tolerance: float = 1e-5,
    most_rounds: int = 100,
) -> DawidSkene:
    """Estimate the labels of items, and how each member confuses them, by expectation maximisation from the majority.

    Args:
        items: the answers of each.
        gold: the labels of some items, by their numbers, which are known.
        earlier: what the estimate from earlier items has left (``counts``). It is added to the counts, and is where
            this one begins, instead of the majority: who is right is known then, so that members may be two.
        smoothing: is added to the counts.
        tolerance: it ends when the bound for each answer rises by less.
        most_rounds: it ends in any case.

    Raises:
        BadWeights: they are fewer than three members, or agree hardly more than by chance: the labels may then come out
            exchanged.
        BadOption: a number makes no sense, or an item of ``gold`` is none.

    Source: Dawid and Skene (1979).
    """
    above_zero("dawid_skene: smoothing", smoothing)
    above_zero("dawid_skene: tolerance", tolerance)
    whole("dawid_skene: most_rounds", most_rounds)
    members = list(dict.fromkeys(member for answers in items for member in answers))
    gold = dict(gold or {})
    if stray := [item for item in gold if not (is_whole(item, 0) and item < len(items))]:
        raise BadOption("dawid_skene: gold", stray, f"number the items from 0 to {len(items) - 1}")
    labels = list(dict.fromkeys([*(form for answers in items for form in answers.values()), *gold.values()]))
    if earlier is None:
        _check(items, members, labels)
    before = earlier or ExpectedCounts()
    members = list(dict.fromkeys([*before.answers, *members]))
    labels = list(dict.fromkeys([*before.labels, *labels]))
    base = _base(before, members, labels, smoothing)
    place = {label: index for index, label in enumerate(labels)}
    known = {item: [float(label == other) for other in labels] for item, label in gold.items()}
    cast = [[(member, place[form]) for member, form in answers.items()] for answers in items]
    counts, shares = base, [known.get(item, _majority(votes, len(labels))) for item, votes in enumerate(cast)]
    if earlier is None:
        counts = _counts(cast, shares, base)
    prior, confusion = _maximise(counts)
    count, bound = max(1, sum(map(len, cast))), -math.inf
    rounds, rise = 0, math.inf
    while rise / count >= tolerance and rounds < most_rounds:
        rounds += 1
        shares, reached = _expect(cast, prior, confusion)
        shares = [known.get(item, row) for item, row in enumerate(shares)]
        counts = _counts(cast, shares, base)
        prior, confusion = _maximise(counts)
        rise, bound = reached - bound, reached
    found = tuple(labels[row.index(max(row))] for row in shares)
    rows = {
        member: {label: dict(zip(labels, row, strict=True)) for label, row in zip(labels, table, strict=True)}
        for member, table in confusion.items()
    }
    rule = ConfusionVote(dict(zip(labels, prior, strict=True)), rows)
    return DawidSkene(found, rule, rounds, _left(counts, labels, smoothing))


def _check(items: Sequence[Answers], members: Sequence[str], labels: Sequence[Hashable]) -> None:
    if len(members) < 3:
        raise BadWeights(f"there are {len(members)} members; without labels it takes three to tell who is right")
    least = 1 / len(labels) + 0.05
    if agreement(items) < least:
        raise BadWeights(
            f"the members agree in {agreement(items):.0%} of the answers, by chance in {1 / len(labels):.0%}: "
            "take members that know more, or label some items and use confusion_of"
        )


def _majority(votes: Sequence[tuple[str, int]], labels: int) -> _Row:
    counts = [0.0] * labels
    for _, form in votes:
        counts[form] += 1
    total = sum(counts)
    return [count / total for count in counts] if total else [1 / labels] * labels


class _Counts(msgspec.Struct, frozen=True):
    """Expected counts: of labels, and of each member of its answers for each label."""

    prior: _Row
    answers: dict[str, list[_Row]]


def _base(earlier: ExpectedCounts, members: Sequence[str], labels: Sequence[Hashable], smoothing: float) -> _Counts:
    """Return the counts without those of these items."""
    return _Counts(
        [smoothing + earlier.labels.get(label, 0.0) for label in labels],
        {
            member: [
                [smoothing + earlier.answers.get(member, {}).get(label, {}).get(form, 0.0) for form in labels]
                for label in labels
            ]
            for member in members
        },
    )


def _counts(cast: Sequence[Sequence[tuple[str, int]]], shares: Sequence[_Row], base: _Counts) -> _Counts:
    """Return the counts with those of these items, as the labels are thought to be."""
    prior = list(base.prior)
    answers = {member: [list(row) for row in table] for member, table in base.answers.items()}
    for votes, row in zip(cast, shares, strict=True):
        for label, share in enumerate(row):
            prior[label] += share
            for member, form in votes:
                answers[member][label][form] += share
    return _Counts(prior, answers)


def _maximise(counts: _Counts) -> tuple[_Row, dict[str, list[_Row]]]:
    """Return prior and confusions, as the expected counts have them."""
    confusion = {member: [_shares(row) for row in table] for member, table in counts.answers.items()}
    return _shares(counts.prior), confusion


def _shares(row: _Row) -> _Row:
    total = sum(row)
    return [one / total for one in row]


def _left(counts: _Counts, labels: Sequence[Hashable], smoothing: float) -> ExpectedCounts:
    """Return the counts without what they were smoothed by."""
    return ExpectedCounts(
        {label: count - smoothing for label, count in zip(labels, counts.prior, strict=True)},
        {
            member: {
                label: {form: count - smoothing for form, count in zip(labels, row, strict=True)}
                for label, row in zip(labels, table, strict=True)
            }
            for member, table in counts.answers.items()
        },
    )


def _times(row: Mapping[Hashable, float], share: float) -> dict[Hashable, float]:
    return {label: share * count for label, count in row.items()}


def _expect(
    cast: Sequence[Sequence[tuple[str, int]]], prior: _Row, confusion: Mapping[str, list[_Row]]
) -> tuple[list[_Row], float]:
    """Return the probability of each label for each item, and the logarithm of how probable the answers are."""
    shares, bound = [], 0.0
    for votes in cast:
        logs = [
            math.log(share) + sum(math.log(confusion[member][label][form]) for member, form in votes)
            for label, share in enumerate(prior)
        ]
        most = max(logs)
        total = sum(math.exp(log - most) for log in logs)
        bound += most + math.log(total)
        shares.append([math.exp(log - most) / total for log in logs])
    return shares, bound


class OnlineDawidSkene:
    """The same from answers as they come: each estimate goes on from the one before, which counts less each day.

    ``add`` notes answers and costs nothing; ``refit`` estimates, and is not for the middle of a call: have it run now
    and then, when ``due``. What is noted and never estimated is forgotten after ten times ``every``, the oldest first.

    >>> online = OnlineDawidSkene(every=3)
    >>> for said in ({"a": "x", "b": "x", "c": "x"}, {"a": "y", "b": "y", "c": "x"}, {"a": "y", "b": "y", "c": "y"}):
    ...     online.add(said)
    >>> online.due, online.refit().labels, online.due
    (True, ('x', 'y', 'y'), False)

    Args:
        every: after how many items an estimate is due.
        decay: how much what is known counts a day later, up to 1 for as much.
        counts: what an earlier one knows (``counts``).
        smoothing: see `dawid_skene`.

    Raises:
        BadOption: a number makes no sense.
    """

    def __init__(
        self, *, every: int = 100, decay: float = 0.99, counts: ExpectedCounts | None = None, smoothing: float = 0.01
    ) -> None:
        self._every = whole("OnlineDawidSkene: every", every)
        if above_zero("OnlineDawidSkene: decay", decay) > 1:
            raise BadOption("OnlineDawidSkene: decay", decay, "give a share above 0, and at most 1")
        self._decay = decay
        self._smoothing = above_zero("OnlineDawidSkene: smoothing", smoothing)
        self._items: deque[tuple[Answers, Hashable]] = deque(maxlen=10 * self._every)
        #: What is known; None before the first estimate.
        self.counts = counts

    def add(self, answers: Answers, label: Hashable = None) -> None:
        """Note the answers to an item, and its label if it is known.

        Answers of a call that was degraded tell less than they seem to: leave them out.
        """
        self._items.append((dict(answers), label))

    @property
    def due(self) -> bool:
        """Whether there are enough new items for an estimate."""
        return len(self._items) >= self._every

    def refit(self, *, days: float = 0.0) -> DawidSkene:
        """Estimate from the items that are new, and from what is known.

        Args:
            days: how long ago the last estimate was.

        Raises:
            BadWeights: there are no items; or, at first, they do not tell enough: they are kept for the next time.
            BadOption: the days make no sense.
        """
        if not self._items:
            raise BadWeights("there are no new items; add some")
        known = None if self.counts is None else self.counts.times(self._decay ** from_zero("refit: days", days))
        items = [answers for answers, _ in self._items]
        gold = {number: label for number, (_, label) in enumerate(self._items) if label is not None}
        found = dawid_skene(items, gold=gold, earlier=known, smoothing=self._smoothing)
        self.counts = found.counts
        self._items.clear()
        return found
