"""Moves in the structure of a team that votes: a member leaves or joins, or another rule combines the answers.

What the members have answered is recorded already: what a move would have made of that is reckoned without a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import dspy
import msgspec

from dspex.teams.ballot import MemberVote
from dspex.teams.program import TeamProgram
from dspex.teams.reshaping import AddMember, DropMember, TeamChange
from dspex.teams.rules import CombinationRule
from dspex.teams.team import Member


class StructureMove(NamedTuple):
    """A move: ``what`` it does, in words, by a ``change`` of the members or a new ``rule``."""

    what: str
    change: TeamChange | None = None
    rule: CombinationRule | None = None

    @property
    def is_recorded(self) -> bool:
        """Whether the answers of all members that are left are recorded: not those of one that joins."""
        return not isinstance(self.change, AddMember)

    def made(self, program: Any) -> Any:
        """Return a copy of a team's program after the move.

        Raises:
            BadTeam: the team cannot be so.
        """
        if self.change is not None:
            return program.reshaped(self.change)
        found = program.deepcopy()
        found.team = msgspec.structs.replace(program.team, rule=self.rule)
        return found


def votes(program: Any) -> bool:
    """Return whether a program is a team whose members vote."""
    return type(program) is TeamProgram


def moves_of(
    program: Any, candidates: Sequence[Member] = (), rules: Sequence[CombinationRule] = ()
) -> list[StructureMove]:
    """Return the moves that there are, in an order that depends on nothing else.

    >>> from dspex.teams.rules import FirstAnswer
    >>> from dspex.teams.team import Team
    >>> members = [Member(name, dspy.Predict("text -> label")) for name in "abc"]
    >>> found = moves_of(Team("desk", tuple(members[:2])).program(), members, [FirstAnswer()])
    >>> [move.what for move in found]
    ['drop a', 'drop b', 'add c', 'rule FirstAnswer']

    Args:
        program: of a team that votes.
        candidates: who may join.
        rules: what may combine the answers.
    """
    team = program.team
    names = [member.name for member in team.members]
    leave = [StructureMove(f"drop {name}", DropMember(name)) for name in names if len(names) > 1]
    join = [StructureMove(f"add {one.name}", AddMember(one)) for one in candidates if one.name not in names]
    others = [StructureMove(f"rule {type(rule).__name__}", rule=rule) for rule in rules if rule != team.rule]
    return [*leave, *join, *others]


def revoted(program: Any, prediction: Any) -> Any:
    """Return what a team would have said, by what its members have answered to another one; None if it had no answer.

    Args:
        program: of the team.
        prediction: of the other one, with its ballot.
    """
    team, known = program.team, {one.member: one for one in prediction.ballot if one.outcome == "answered"}
    forms = {member.name: team.normal(known[member.name].value) for member in team.members if member.name in known}
    cast = [MemberVote(name, form) for name, form in forms.items() if form is not None]
    if not cast:
        return None
    form = team.rule.decide(cast).form
    value = next((known[vote.member].value for vote in cast if vote.form == form), form)
    return dspy.Prediction(**{**dict(prediction.items()), program.field: value})
