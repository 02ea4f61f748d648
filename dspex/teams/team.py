"""Teams as values: members, and how their answers become one.

>>> import dspy
>>> from dspy.utils.dummies import DummyLM
>>> def member(answer):
...     program = dspy.Predict("text -> label")
...     program.set_lm(DummyLM([{"label": answer}]))
...     return program
>>> desk = Team("desk", [Member("a", member("sport")), Member("b", member("tech")), Member("c", member("Sport"))])
>>> answer = desk.program()(text="Brazil wins")
>>> answer.label, round(answer.confidence, 2), [one.value for one in answer.ballot]
('sport', 0.67, ['sport', 'tech', 'Sport'])
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.teams.ballot import normal_form
from dspex.teams.errors import BadTeam
from dspex.teams.ladder import TeamLadder
from dspex.teams.records import RecordedVotes
from dspex.teams.rules import CombinationRule, MajorityVote
from dspex.teams.stacking import Stacking
from foundation.options import above_zero, finite, text, whole

if TYPE_CHECKING:
    from dspex.teams.program import TeamProgram


class Member(msgspec.Struct, frozen=True):
    """One member of a team.

    Attributes:
        name: in the team: of ballots, weights, and the team's saved state.
        program: a ``dspy.Module``, or what makes one; see `dspex.agents.agent.load`.
        role: what it is there for, for whoever looks at the team, and for `compose`.
        correlated_with: what its errors depend on, such as a language model: `compose` takes one member of each.
    """

    name: str
    program: Any
    role: str = ""
    correlated_with: str = ""

    def __post_init__(self) -> None:
        text("Member: name", self.name)


class Team(msgspec.Struct, frozen=True):
    """Several programs that answer the same question.

    Attributes:
        name: of the team.
        members: in the order that decides ties. Their inputs are the same.
        rule: how their answers become one.
        field: the output that is combined; by default the last one of the first member.
        min_answers: which share of the members' weight must have answered; by default more than half.
        deadline: seconds after which members are late; None for none.
        side_by_side: how many are asked at the same time; None for all. Where the first answers often decide, two
            or three save calls.
        max_calls: how many are asked at most.
        normal: makes of an answer what is compared, and None of an abstention.
        ladder: which lesser answers it gives when it is served and has no full one; see `dspex.teams.TeamActor`.
            What evaluates or optimises it never sees one.

    Raises:
        BadTeam, BadOption: it makes no sense; the text says what, and what would.
    """

    name: str
    members: tuple[Member, ...]
    rule: CombinationRule = MajorityVote()
    field: str | None = None
    min_answers: float | None = None
    deadline: float | None = None
    side_by_side: int | None = None
    max_calls: int | None = None
    normal: Callable[[Any], Hashable] = normal_form
    ladder: TeamLadder | None = None

    def __post_init__(self) -> None:
        text("Team: name", self.name)
        msgspec.structs.force_setattr(self, "members", _members(self.members))
        if isinstance(self.rule, type) or not isinstance(self.rule, CombinationRule):
            raise BadTeam("Team: rule", self.rule, "give a rule, such as MajorityVote()")
        if self.min_answers is not None and not 0 < (finite(self.min_answers) or 0) <= 1:
            raise BadTeam("Team: min_answers", self.min_answers, "give a share above 0, and at most 1")
        if self.deadline is not None:
            above_zero("Team: deadline", self.deadline)
        if self.ladder is not None:
            msgspec.structs.force_setattr(self, "ladder", TeamLadder.of(self.ladder))
            self.ladder.check([member.name for member in self.members], self.field)
        for option in ("side_by_side", "max_calls"):
            if getattr(self, option) is not None:
                whole(f"Team: {option}", getattr(self, option))

    def program(self) -> TeamProgram:
        """Return the team as a program: a ``dspy.Module`` with the members' programs, copied, as its parts."""
        from dspex.teams.program import TeamProgram

        return TeamProgram(self)

    def fitted(self, records: RecordedVotes, fit: Callable[[RecordedVotes], CombinationRule] = Stacking.fitted) -> Team:
        """Return the team with a rule that is fitted to recorded votes; no member is asked for it.

        Args:
            records: votes of its members; see `record`. Measure what comes of it on others.
            fit: makes the rule, such as ``SoftVote.fitted``.

        Raises:
            BadWeights: the votes do not tell enough.
        """
        return msgspec.structs.replace(self, rule=fit(records))

    def enough(self, share: float) -> bool:
        """Return whether so much of the weight is enough for an answer."""
        return share > 0.5 if self.min_answers is None else share >= self.min_answers


def _members(given: Iterable[Member]) -> tuple[Member, ...]:
    try:
        members = tuple(given)
    except TypeError as error:
        raise BadTeam("Team: members", given, "give several Member") from error
    if not members or not all(isinstance(member, Member) for member in members):
        raise BadTeam("Team: members", members, "give at least one Member, each with a name and a program")
    names = [member.name for member in members]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BadTeam("Team: members", sorted(twice), "give each member a name of its own")
    return members
