"""One question to a team: whom to ask, when it is decided, and what became of each member.

What comes of it depends on what was answered, on the members' order, and on the deadline; not on who was faster. So
answers count in the team's order: a later one only when all before it are known.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import dspy

from dspex._compat import is_refused
from dspex.teams.ballot import MemberAnswer, MemberVote, coverage
from dspex.teams.errors import NoAnswer, TooFewAnswers
from dspex.teams.missing import degradation_reason, unanswered
from dspex.teams.rules import CombinedAnswer
from dspex.teams.shares import PROBABILITIES, BadProbabilities, told_shares
from dspex.teams.team import Team

#: Outcomes that come of what is away for a while.
_AWAY = ("lost", "late")


class Poll:
    """What is known of the members' answers to one question.

    Args:
        team: that is asked.
        field: the output that is combined.
        labels: what it may be, if that can be listed.
    """

    def __init__(self, team: Team, field: str, labels: Iterable[Any] = ()) -> None:
        self._team = team
        self._field = field
        #: What a form stands for, where no member has said it.
        self._labels: dict[Hashable, Any] = {team.normal(label): label for label in labels}
        self._names = [member.name for member in team.members][: team.max_calls]
        self._known: dict[str, MemberAnswer] = {}
        #: What each member has answered, by its name.
        self.predictions: dict[str, Any] = {}
        self._shares: dict[str, dict[Hashable, float] | None] = {}
        self._refused: BaseException | None = None
        #: How many members, in order, are known: only these count.
        self._counted = 0

    @property
    def waiting(self) -> list[str]:
        """The members that are not known yet, in order; none if the rest can change nothing."""
        return [] if self.decided else [name for name in self._names if name not in self._known]

    def answered(self, member: str, prediction: Any, seconds: float | None = None) -> None:
        """Record what a member has answered."""
        fields = prediction_fields(prediction, self._field)
        try:
            self._shares[member] = told_shares(fields, self._field, self._team.normal)
        except BadProbabilities as error:
            self.failed(member, error, seconds)
            return
        for label in fields.get(PROBABILITIES) or ():
            self._labels.setdefault(self._team.normal(label), label)
        self.predictions[member] = prediction
        value, why = fields.get(self._field), lacking(fields, self._field)
        self._add(MemberAnswer(member, "answered", value, why, seconds))

    def failed(self, member: str, error: BaseException, seconds: float | None = None) -> None:
        """Record what a member's program has raised: it has failed, or is away."""
        if is_refused(error):
            self._refused = self._refused or error
        self._add(unanswered(member, error, seconds))

    def close(self, seconds: float) -> None:
        """Record that the deadline has come: who is not known is late."""
        for name in self.waiting:
            self._add(MemberAnswer(name, "late", seconds=seconds))

    def _add(self, answer: MemberAnswer) -> None:
        self._known[answer.member] = answer
        while not self.decided and self._counted < len(self._names) and self._names[self._counted] in self._known:
            self._counted += 1

    @property
    def decided(self) -> bool:
        """Whether those that count decide, whatever the others say."""
        votes = self.votes
        outstanding = self._names[self._counted :]
        if not outstanding:
            return True
        return bool(votes) and self._enough() and self._team.rule.settled(votes, outstanding)

    @property
    def votes(self) -> list[MemberVote]:
        """What counts, in the team's order."""
        found = []
        for name in self._names[: self._counted]:
            answer = self._known[name]
            form = self._team.normal(answer.value) if answer.outcome == "answered" else None
            if form is not None:
                found.append(MemberVote(name, form, self._shares[name]))
        return found

    def _enough(self) -> bool:
        """Whether those that count are enough of all that may be asked."""
        weight = self._team.rule.weight
        known = [self._known[name] for name in self._names[: self._counted]]
        answered = sum(abs(weight(one.member)) for one in known if one.outcome == "answered")
        return self._team.enough(answered / (sum(abs(weight(name)) for name in self._names) or 1.0))

    @property
    def ballot(self) -> tuple[MemberAnswer, ...]:
        """What became of each member, in the team's order."""
        counted = self._names[: self._counted]
        members = (member.name for member in self._team.members)
        return tuple(self._known[name] if name in counted else MemberAnswer(name, "unasked") for name in members)

    def result(self) -> Any:
        """Return the team's prediction: the fields of the winner, and how it came to be.

        Raises:
            TooFewAnswers: too few have answered, as some are away.
            NoAnswer: too few have answered, and nobody is away.
            BaseException: too few have answered, and this is what says that a language model of theirs is not to be
                had until somebody changes something: it is not waited for.
        """
        votes, ballot = self.votes, self.ballot
        if not votes or not self._enough():
            if self._refused is not None:
                raise self._refused
            away = any(one.outcome in _AWAY for one in ballot)
            raise TooFewAnswers(ballot) if away else NoAnswer(ballot)
        decision = self._team.rule.decide(votes)
        return self._prediction(decision, votes, ballot)

    def _prediction(self, decision: CombinedAnswer, votes: list[MemberVote], ballot: tuple[MemberAnswer, ...]) -> Any:
        winner = next((vote.member for vote in votes if vote.form == decision.form), None)
        found = self.predictions.get(winner) if winner is not None else None
        fields = prediction_fields(found, self._field)
        if winner is None:
            # A label that the rule finds likelier than what any member has said.
            fields = {self._field: self._labels.get(decision.form, decision.form)}
        return dspy.Prediction(
            **{
                **fields,
                "ballot": ballot,
                "coverage": coverage(ballot, self._team.rule.weight),
                "confidence": decision.confidence,
                "degraded": _degraded(ballot),
            }
        )


def prediction_fields(prediction: Any, field: str) -> dict[str, Any]:
    """Return what a program has answered as fields: something else than fields is the field that is combined."""
    return dict(prediction.items()) if isinstance(prediction, (dspy.Example, Mapping)) else {field: prediction}


def lacking(fields: Mapping[str, Any], field: str) -> str | None:
    """Return what is said instead, if nothing is said in a field; None if something is."""
    if field in fields:
        return None
    return f"it has no {field}, but {', '.join(map(str, fields)) or 'nothing'}"


def _degraded(ballot: tuple[MemberAnswer, ...]) -> str | None:
    """Return why the answer is one of fewer members than it should be, such as ``quorum:lost 1 of 3``."""
    reason = degradation_reason(ballot)
    return None if reason is None else f"quorum:{reason}"
