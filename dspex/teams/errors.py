"""What goes wrong with teams."""

from __future__ import annotations

from collections.abc import Sequence

import dspy

from dspex.teams.ballot import MemberAnswer
from supervision.errors import SpecError


class BadTeam(SpecError):
    """A team cannot be made of this."""


class NoAnswer(Exception):
    """The members' programs have failed, or abstained, and so many that the team has no answer.

    Attributes:
        ballot: what became of each member.
    """

    def __init__(self, ballot: Sequence[MemberAnswer], what: str = "too few members have an answer") -> None:
        self.ballot = tuple(ballot)
        super().__init__(f"{what}: {_told(ballot)}")


class AlreadyHandedOff(Exception):
    """A conversation was handed off by another handoff before this one.

    Attributes:
        member: who has it.
        to: who was to get it.
    """

    def __init__(self, member: str, to: str) -> None:
        self.member = member
        self.to = to
        super().__init__(f"the conversation is {member}'s by now, and cannot be handed to {to}; ask who has it")


class TooFewAnswers(dspy.LMTransportError):  # type: ignore[misc]
    """Too few members have answered, as some are away or too slow at the moment. It is worth another try.

    It is an error of the kind that a language model has which is away: no optimiser takes it for a score of 0.

    Attributes:
        ballot: what became of each member.
        asked: how many were asked.
        answered: how many have answered.
    """

    def __init__(self, ballot: Sequence[MemberAnswer]) -> None:
        self.ballot = tuple(ballot)
        self.asked = sum(one.outcome != "unasked" for one in ballot)
        self.answered = sum(one.outcome == "answered" for one in ballot)
        super().__init__(f"{self.answered} of {self.asked} members have answered: {_told(ballot)}")


def _told(ballot: Sequence[MemberAnswer]) -> str:
    return "; ".join(f"{one.member} {_outcome(one)}" + (f" ({one.why})" if one.why else "") for one in ballot)


def _outcome(one: MemberAnswer) -> str:
    return "answered with nothing" if one.outcome == "answered" and one.value is None else one.outcome
