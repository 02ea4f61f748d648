"""Changes of a team, also of one that is served: who joins it, and who leaves.

A served team that is asked to change (`ReshapeTeam`) has a new version, which is used from the next call on. Calls
under way go on with the one that they began with; who leaves goes when the last of these has ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import msgspec

from dspex.teams.errors import BadTeam
from dspex.teams.team import Member, Team
from foundation.programs import Version
from supervision import Request


class AddMember(msgspec.Struct, frozen=True):
    """A ``member`` joins a team, behind the others; or takes the place of the one that ``instead_of`` names."""

    member: Member
    instead_of: str | None = None


class DropMember(msgspec.Struct, frozen=True):
    """A member leaves a team: ``name`` is its name."""

    name: str


TeamChange: TypeAlias = AddMember | DropMember


class ReshapeTeam(Request[Version], frozen=True):
    """Have a served team change. The answer is its new version.

    Attributes:
        changes: who joins, and who leaves, one after the other.
        why: is told by the event `TeamReshaped`.
        force: whether a rollout that is under way ends with that.

    Raises:
        BadTeam: the changes are no tuple.
    """

    changes: tuple[TeamChange, ...]
    why: str = ""
    force: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.changes, (tuple, list)):
            raise BadTeam("ReshapeTeam: changes", self.changes, "give a tuple of AddMember and DropMember")


def changed_team(team: Team, changes: Iterable[TeamChange]) -> Team:
    """Return a team after changes.

    Raises:
        BadTeam: nobody changes; somebody leaves, or gives its place, who is not there; somebody joins under a name that
            is taken; nobody is left; or the ladder names somebody who has left.
    """
    members = list(team.members)
    found = list(changes)
    if not found or not all(isinstance(change, (AddMember, DropMember)) for change in found):
        raise BadTeam("ReshapeTeam: changes", found, "give at least one AddMember or DropMember")
    for change in found:
        leaving = change.instead_of if isinstance(change, AddMember) else change.name
        names = [member.name for member in members]
        if leaving is not None and leaving not in names:
            raise BadTeam("ReshapeTeam: member", leaving, f"choose among {', '.join(names)}")
        place = len(names) if leaving is None else names.index(leaving)
        joining = [change.member] if isinstance(change, AddMember) else []
        members[place : place + (leaving is not None)] = joining
    return msgspec.structs.replace(team, members=tuple(members))
