"""Rules: how the answers of several members become one. Values without a clock, a model or chance.

All of them depend on the members' order in the team, never on who was faster; ties go to the answer of the earliest
member.

>>> votes = [MemberVote("a", "sport"), MemberVote("b", "tech"), MemberVote("c", "tech")]
>>> MajorityVote().decide(votes).form
'tech'
>>> WeightedVote({"a": 2.5}).decide(votes).form
'sport'
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

from dspex.teams.ballot import MemberVote
from dspex.teams.weights import accuracy_weights, confusion_of, mean_probabilities
from foundation.options import finite
from supervision.errors import BadOption

if TYPE_CHECKING:
    from dspex.teams.records import RecordedVotes

#: Forms, and the score that each has.
Scores = dict[Hashable, float]
#: The least probability that a rule reckons with: no single answer decides for good.
LEAST = 1e-9


class CombinedAnswer(msgspec.Struct, frozen=True):
    """What a rule makes of votes.

    Attributes:
        form: the normal form of the winning answer.
        confidence: its share: of the weight that has voted, or its probability, as the rule reckons. 0 if more weight
            has voted against it than for it, as that of members does that are worse than chance.
    """

    form: Hashable
    confidence: float


@runtime_checkable
class CombinationRule(Protocol):
    """How votes become a decision."""

    def weight(self, member: str) -> float:
        """Return how much a member's vote counts; of rules that do not weigh members, 1."""
        ...

    def decide(self, votes: Sequence[MemberVote]) -> CombinedAnswer:
        """Return what votes come to.

        Args:
            votes: in the team's order; at least one.
        """
        ...

    def settled(self, votes: Sequence[MemberVote], outstanding: Sequence[str]) -> bool:
        """Return whether the members that have not answered yet can change nothing any more.

        Args:
            votes: of the first members, in the team's order.
            outstanding: all members behind these.
        """
        ...


class _Additive(msgspec.Struct, frozen=True, tag=True):
    """The answer with the most weight."""

    def weight(self, member: str) -> float:
        """Return 1."""
        return 1.0

    def decide(self, votes: Sequence[MemberVote]) -> CombinedAnswer:
        """Return the answer with the most weight."""
        totals, cast = _totals(votes, self.weight), sum(abs(self.weight(vote.member)) for vote in votes)
        form = max(totals, key=totals.__getitem__)  # of equal ones the first, which the earliest member gave
        return CombinedAnswer(form, max(0.0, totals[form]) / cast if cast else 0.0)

    def settled(self, votes: Sequence[MemberVote], outstanding: Sequence[str]) -> bool:
        """Return whether the leader has more than the next one could get."""
        return _beyond_reach(_totals(votes, self.weight), sum(abs(self.weight(member)) for member in outstanding))


class MajorityVote(_Additive, frozen=True, tag=True):
    """The answer that most members give. It helps as far as their errors are independent, and no further."""


class WeightedVote(_Additive, frozen=True, tag=True):
    """The answer with the most weight.

    Attributes:
        weights: of members, by their names; 1 of those that are not named. `dspex.teams.weights.accuracy_weight` says
            what a member of a known accuracy should have; one that is worse than chance has less than 0.

    Raises:
        BadOption: a weight is no finite number.
    """

    weights: Mapping[str, float] = {}

    def __post_init__(self) -> None:
        for member, weight in self.weights.items():
            if finite(weight) is None:
                raise BadOption(f"WeightedVote: the weight of {member}", weight, "give a finite number")

    @classmethod
    def fitted(cls, records: RecordedVotes) -> WeightedVote:
        """Return the rule with the `accuracy_weight` of each member."""
        labels = max(2, len(set(records.truth)))
        return cls(accuracy_weights(records.answers, records.truth, labels=labels))

    def weight(self, member: str) -> float:
        """Return the weight of a member."""
        return float(self.weights.get(member, 1.0))


class FirstAnswer(msgspec.Struct, frozen=True, tag=True):
    """The answer of the earliest member that has one: a chain of stand-ins."""

    def weight(self, member: str) -> float:
        """Return 1."""
        return 1.0

    def decide(self, votes: Sequence[MemberVote]) -> CombinedAnswer:
        """Return the first answer."""
        return CombinedAnswer(votes[0].form, 1.0)

    def settled(self, votes: Sequence[MemberVote], outstanding: Sequence[str]) -> bool:
        """Return whether there is an answer."""
        return bool(votes)


class ConfusionVote(msgspec.Struct, frozen=True, tag=True):
    """The likeliest label, by how often each member takes one label for another (naive Bayes).

    Members whose errors go together are over-trusted. An answer that is none of the labels counts for nothing.

    Attributes:
        prior: how frequent each label is; the numbers add up to 1.
        confusion: of each member: for each true label, the probability of each answer. Of `confusion_of`, or of
            `dspex.teams.dawid_skene`.

    Raises:
        BadOption: a share is none.

    Source: Dawid and Skene (1979), the E-step.
    """

    prior: Mapping[Any, float]
    confusion: Mapping[str, Mapping[Any, Mapping[Any, float]]]

    def __post_init__(self) -> None:
        if not self.prior or not all((finite(share) or 0) > 0 for share in self.prior.values()):
            raise BadOption("ConfusionVote: prior", self.prior, "give each label a share above 0")
        for member, rows in self.confusion.items():
            for label, row in rows.items():
                _check_row(f"ConfusionVote: confusion of {member} for {label}", row)

    @classmethod
    def fitted(cls, records: RecordedVotes) -> ConfusionVote:
        """Return the rule with what `confusion_of` counts."""
        return cls(*confusion_of(records.answers, records.truth))

    def weight(self, member: str) -> float:
        """Return 1; 0 for a member that nothing is known of."""
        return 1.0 if member in self.confusion else 0.0

    def decide(self, votes: Sequence[MemberVote]) -> CombinedAnswer:
        """Return the label with the highest probability, and that."""
        scores = {label: math.log(share) for label, share in self.prior.items()}
        for vote in votes:
            rows = self.confusion.get(vote.member)
            if rows is None or vote.form not in self.prior:
                continue
            for label in scores:
                scores[label] += math.log(max(LEAST, rows.get(label, {}).get(vote.form, 0.0)))
        return _likeliest(scores)

    def settled(self, votes: Sequence[MemberVote], outstanding: Sequence[str]) -> bool:
        """Return whether nobody is outstanding who is known."""
        return not any(map(self.weight, outstanding))


class SoftVote(msgspec.Struct, frozen=True, tag=True):
    """The label with the highest sum of the members' log-probabilities, each corrected for its member's bias.

    A small model says some labels too often, whatever it is asked. Divided by how probable a member finds each label
    on the average, which takes no labelled example, its probabilities say what is special about *this* input. On topics
    of headlines that was worth more than any vote.

    Attributes:
        mean: of each member, the mean probability of each label; see `mean_probabilities`. Members that are not named
            are taken as they are.

    Raises:
        BadOption: one of these is no number from 0.
    """

    mean: Mapping[str, Mapping[Any, float]] = {}

    def __post_init__(self) -> None:
        for member, row in self.mean.items():
            _check_row(f"SoftVote: mean of {member}", row)

    @classmethod
    def fitted(cls, records: RecordedVotes) -> SoftVote:
        """Return the rule with the members' `mean_probabilities`. The labels are not looked at."""
        return cls(mean_probabilities([{vote.member: told_of(vote) for vote in cast} for cast in records.votes]))

    def weight(self, member: str) -> float:
        """Return 1."""
        return 1.0

    def decide(self, votes: Sequence[MemberVote]) -> CombinedAnswer:
        """Return the label with the highest score. A vote without probabilities counts as one of 1 for its answer."""
        shares = [(vote.member, told_of(vote)) for vote in votes]
        labels = list(dict.fromkeys(label for _, found in shares for label in found))
        scores = dict.fromkeys(labels, 0.0)
        for member, found in shares:
            means = self.mean.get(member, {})
            for label in labels:
                scores[label] += math.log(max(LEAST, found.get(label, 0.0)) / max(LEAST, means.get(label, 1.0)))
        return _likeliest(scores)

    def settled(self, votes: Sequence[MemberVote], outstanding: Sequence[str]) -> bool:
        """Return whether nobody is outstanding."""
        return not outstanding


def told_of(vote: MemberVote) -> Mapping[Hashable, float]:
    """Return how probable a vote says each label is: if it does not say, its answer is certain."""
    return vote.probabilities or {vote.form: 1.0}


def _check_row(what: str, row: Any) -> None:
    """Check the shares of labels, each by itself: what is small may be none at all."""
    if not isinstance(row, Mapping) or any(
        (finite(share) or 0.0) < 0 or finite(share) is None for share in row.values()
    ):
        raise BadOption(what, row, "give each label a finite number from 0")


def _totals(votes: Sequence[MemberVote], weight: Callable[[str], float]) -> Scores:
    totals: Scores = {}
    for vote in votes:
        totals[vote.form] = totals.get(vote.form, 0.0) + weight(vote.member)
    return totals


def _beyond_reach(totals: Scores, outstanding: float) -> bool:
    """Return whether the leader cannot be reached.

    The next one may be an answer that nobody has given yet, of which the outstanding weight is all there is.
    """
    ranked = sorted(totals.values(), reverse=True)
    return bool(ranked) and ranked[0] > max([0.0, *ranked[1:2]]) + outstanding


def _likeliest(scores: Scores) -> CombinedAnswer:
    """Return the form with the highest logarithmic score, and the probability that this is."""
    form = max(scores, key=scores.__getitem__)
    return CombinedAnswer(form, 1.0 / sum(math.exp(score - scores[form]) for score in scores.values()))
