"""Rules that choose one of several candidates by what the clients have found: exact sums, and functions of these.

>>> found = {"a": (CandidateScore.of([1, 1, 0]), CandidateScore.of([1, 0, 0])), "b": (CandidateScore.of([0]),) * 2}
>>> PooledMean().choose(found)
Choice(best=0, scores=(Fraction(1, 2), Fraction(1, 4)))
"""

from __future__ import annotations

import math
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple, TypeAlias

import msgspec

from dspex.federated.errors import BadUpdate, CannotMerge
from dspex.federated.options import trimmed_share
from dspex.statistics import wilson
from foundation.options import of_scalar
from supervision.options import is_whole

#: A sum as a text, and how long that may be: the sum of floats is a fraction of that many digits at the most.
_EXACT = re.compile(r"-?[0-9]+(/[1-9][0-9]*)?")
LONGEST = 1_500
#: What a client has found, for each candidate.
Tallies: TypeAlias = "tuple[CandidateScore, ...]"


class CandidateScore(msgspec.Struct, frozen=True):
    """What a client has found of a candidate: sums, and nothing of any single example.

    The sums are exact: whichever clients the same examples are divided among, they add up to the same.

    Attributes:
        total: of the scores, as a text such as ``7`` or ``1/3``.
        squares: of their squares.
        examples: how many there were; 0 if the client cannot resolve the candidate.
        classes: of each class of examples the sum of the scores, and how many there were; empty if it is not told.

    >>> CandidateScore.of([1.0, 0.25, 0.0], ["x", "x", "y"])
    CandidateScore(total='5/4', squares='17/16', examples=3, classes={'x': ('5/4', 2), 'y': ('0', 1)})
    """

    total: str = "0"
    squares: str = "0"
    examples: int = 0
    classes: dict[str, tuple[str, int]] = {}

    @classmethod
    def of(cls, scores: Iterable[float | Fraction], classes: Iterable[str] | None = None) -> CandidateScore:
        """Return the sums of scores, and of those of each class if that is given beside each.

        Raises:
            ValueError, OverflowError: a score is not finite, or there are not as many classes.
            TypeError: a score is no number, or the scores are a text.
        """
        if isinstance(scores, str):
            raise TypeError(f"the scores are a text: {scores[:50]!r}")
        exact = [Fraction(of_scalar(score)) for score in scores]
        found: dict[str, tuple[str, int]] = {}
        if classes is not None:
            parts: dict[str, list[Fraction]] = {}
            for label, score in zip(classes, exact, strict=True):
                parts.setdefault(label, []).append(score)
            found = {label: (str(sum(part, Fraction(0))), len(part)) for label, part in sorted(parts.items())}
        squares = sum((score * score for score in exact), Fraction(0))
        return cls(str(sum(exact, Fraction(0))), str(squares), len(exact), found)

    @property
    def sum(self) -> Fraction:
        """The sum of the scores."""
        return Fraction(self.total)

    @property
    def mean(self) -> Fraction:
        """The mean score; 0 if there is none."""
        return self.sum / self.examples if self.examples else Fraction(0)

    def check(self, most: int | None, *, noisy: bool = False) -> None:
        """Make sure that these are sums of so many scores from 0 to 1.

        Args:
            most: how many examples a client may have; None for any number.
            noisy: whether noise was added, so that a sum can be anything.

        Raises:
            BadUpdate: they are not.
        """
        parts = [(self.total, self.examples), (self.squares, self.examples), *self.classes.values()]
        for total, count in parts:
            if len(total) > LONGEST or _EXACT.fullmatch(total) is None:
                raise BadUpdate("a sum is no exact number")
            if not is_whole(count, 0) or (most is not None and count > most):
                raise BadUpdate(f"it tells of {count!r} examples, where 0 to {most} may be")
            if not noisy and not 0 <= Fraction(total) <= count:
                raise BadUpdate(f"the sum of {count} scores from 0 to 1 cannot be {float(Fraction(total)):g}")
        if self.classes and sum(count for _, count in self.classes.values()) != self.examples:
            raise BadUpdate("the classes have not as many examples as there are")


class Choice(NamedTuple):
    """What a rule has chosen.

    Attributes:
        best: the number of the candidate.
        scores: what the rule makes of each, the larger the better; None for one that nobody knows.
    """

    best: int
    scores: tuple[Fraction | None, ...]


def pooled(found: Sequence[CandidateScore]) -> Fraction:
    """Return the mean of all scores of some clients."""
    return sum((one.sum for one in found), Fraction(0)) / sum(one.examples for one in found)


def mean_of_means(found: Sequence[CandidateScore]) -> Fraction:
    """Return the mean of the clients' means."""
    return sum((one.mean for one in found), Fraction(0)) / len(found)


def median_of_means(found: Sequence[CandidateScore]) -> Fraction:
    """Return the median of the clients' means."""
    means = sorted(one.mean for one in found)
    return (means[(len(means) - 1) // 2] + means[len(means) // 2]) / 2


def macro_mean(found: Sequence[CandidateScore]) -> Fraction:
    """Return the mean, over the classes, of the mean of all scores of a class.

    Raises:
        CannotMerge: a client does not tell of classes.
    """
    sums: dict[str, tuple[Fraction, int]] = {}
    for one in found:
        if not one.classes:
            raise CannotMerge("MacroMean needs to know the scores of each class: give the scorers `classes`")
        for label, (total, count) in one.classes.items():
            before, counted = sums.get(label, (Fraction(0), 0))
            sums[label] = before + Fraction(total), counted + count
    means = [total / count for total, count in sums.values() if count]
    return sum(means, Fraction(0)) / len(means)


class _Rule(msgspec.Struct, frozen=True, tag=True):
    """The base of all rules that give each candidate a score from what the clients have found of it."""

    def choose(self, found: Mapping[str, Tallies]) -> Choice:
        """Return the best candidate; of equal ones the earliest.

        Two candidates are compared by the clients that know both, so that who is missing for one of them moves
        nothing. Where all know all, that is the highest score. Else it is the candidate that wins most comparisons.

        Args:
            found: by client, for each candidate what it has found.

        Raises:
            CannotMerge: nobody knows any candidate, or not what the rule needs.
        """
        rows = [*zip(*found.values(), strict=True)]
        known = [{who for who, tally in enumerate(row) if tally.examples} for row in rows]
        scores = tuple(self._score(row, who) if who else None for row, who in zip(rows, known, strict=True))
        there = [number for number, score in enumerate(scores) if score is not None]
        if not there:
            raise CannotMerge("no client could run any of the candidates")
        if all(known[number] == known[there[0]] for number in there):
            return Choice(max(there, key=lambda number: scores[number] or Fraction(0)), scores)
        wins = {number: sum(self._wins(rows, known, number, other) for other in there) for number in there}
        return Choice(max(there, key=lambda number: wins[number]), scores)

    def _score(self, row: Sequence[CandidateScore], who: set[int]) -> Fraction:
        return self._mean([row[client] for client in sorted(who)])

    def _wins(self, rows: Sequence[Sequence[CandidateScore]], known: Sequence[set[int]], one: int, two: int) -> int:
        both = known[one] & known[two]
        if not both:
            return 0
        first, second = (self._score(rows[number], both) for number in (one, two))
        return (first > second) - (first < second)

    @abstractmethod
    def _mean(self, found: Sequence[CandidateScore]) -> Fraction: ...


class PooledMean(_Rule, frozen=True, tag=True):
    """The mean of all scores: the choice is the same as if all examples were in one place. The rule to begin with."""

    def _mean(self, found: Sequence[CandidateScore]) -> Fraction:
        return pooled(found)


class MeanOfMeans(_Rule, frozen=True, tag=True):
    """The mean of the clients' means: each client counts alike, however many examples it has."""

    def _mean(self, found: Sequence[CandidateScore]) -> Fraction:
        return mean_of_means(found)


class MedianOfMeans(_Rule, frozen=True, tag=True):
    """The median of the clients' means."""

    def _mean(self, found: Sequence[CandidateScore]) -> Fraction:
        return median_of_means(found)


class TrimmedMeans(_Rule, frozen=True, tag=True):
    """The mean of the clients' means without the largest and the smallest ones.

    Attributes:
        share: of the clients that is left out at each end, rounded down.
    """

    share: float = 0.25

    def __post_init__(self) -> None:
        trimmed_share("TrimmedMeans: share", self.share)

    def _mean(self, found: Sequence[CandidateScore]) -> Fraction:
        means = sorted(one.mean for one in found)
        cut = math.floor(self.share * len(means))
        kept = means[cut : len(means) - cut]
        return sum(kept, Fraction(0)) / len(kept)


class MacroMean(_Rule, frozen=True, tag=True):
    """The mean, over the classes of examples, of the mean of all scores of a class: rare classes count as others."""

    def _mean(self, found: Sequence[CandidateScore]) -> Fraction:
        return macro_mean(found)


class BordaCount(msgspec.Struct, frozen=True, tag=True):
    """Each client ranks the candidates that it knows; a candidate has, on the average, the share that it beats."""

    def choose(self, found: Mapping[str, Tallies]) -> Choice:
        """Return the best candidate; see `PooledMean`."""
        points: dict[int, list[Fraction]] = {}
        for tallies in found.values():
            known = {number: tally.mean for number, tally in enumerate(tallies) if tally.examples}
            for number, mean in known.items():
                beaten = sum(Fraction(mean > other) + Fraction(mean == other, 2) for other in known.values())
                points.setdefault(number, []).append((beaten - Fraction(1, 2)) / max(1, len(known) - 1))
        return _highest(found, lambda number: mean_or_none(points.get(number, [])))


class PluralityVote(msgspec.Struct, frozen=True, tag=True):
    """Each client votes for the candidate that is best there; of equal ones, for the earliest.

    Of candidates with as many votes the one wins whose voters have more examples: often the largest client decides.
    """

    def choose(self, found: Mapping[str, Tallies]) -> Choice:
        """Return the best candidate; see `PooledMean`."""
        votes: dict[int, tuple[int, int]] = {}
        known: set[int] = set()
        for tallies in found.values():
            here = [number for number, tally in enumerate(tallies) if tally.examples]
            known.update(here)
            if here:
                best = max(here, key=lambda number: tallies[number].mean)
                count, size = votes.get(best, (0, 0))
                votes[best] = count + 1, size + tallies[best].examples
        # Sizes decide among as many votes, and so are less than one vote, taken together.
        whole = 1 + sum(size for _, size in votes.values())

        def score(number: int) -> Fraction | None:
            count, size = votes.get(number, (0, 0))
            return count + Fraction(size, whole) if number in known else None

        return _highest(found, score)


ChoiceRule: TypeAlias = PooledMean | MeanOfMeans | MedianOfMeans | TrimmedMeans | MacroMean | BordaCount | PluralityVote


def _highest(found: Mapping[str, Tallies], score: Callable[[int], Fraction | None]) -> Choice:
    count = max((len(tallies) for tallies in found.values()), default=0)
    scores = tuple(score(number) for number in range(count))
    there = [(value, -number) for number, value in enumerate(scores) if value is not None]
    if not there:
        raise CannotMerge("no client could run any of the candidates")
    return Choice(-max(there)[1], scores)


def mean_or_none(values: Sequence[Fraction]) -> Fraction | None:
    """Return the mean of numbers; None if there are none."""
    return sum(values, Fraction(0)) / len(values) if values else None


def personal_choice(tallies: Tallies, chosen: int, confidence: float = 0.95) -> int:
    """Return which candidate a client takes for itself: its own best, if that is surely better there; else the chosen.

    Args:
        tallies: what the client has found, of scores of 0 and 1.
        chosen: what was chosen for all.
        confidence: of the bound: the lower end of Wilson's interval for its own best has to be above the mean of what
            was chosen, on its examples.

    >>> personal_choice((CandidateScore.of([0] * 5 + [1] * 5), CandidateScore.of([1] * 10)), 0)
    1
    >>> personal_choice((CandidateScore.of([0, 1]), CandidateScore.of([1, 1])), 0)  # two examples make nobody sure
    0
    """
    there = [number for number, tally in enumerate(tallies) if tally.examples]
    if not there:
        return chosen
    best = max(there, key=lambda number: tallies[number].mean)
    own = tallies[best]
    successes = min(own.examples, max(0, math.floor(own.sum)))
    bound = wilson(successes, own.examples, confidence).low
    return best if chosen not in there or bound > tallies[chosen].mean else chosen
