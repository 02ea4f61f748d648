"""Changes of a team, also of one that is served: who joins it, and who leaves.

A served team that is asked to change (`ReshapeTeam`) has a new version, which is used from the next call on. Calls
under way go on with the one that they began with; who leaves goes when the last of these has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from dspex.teams.errors import BadTeam
from dspex.teams.team import Member, Team
from foundation.programs import Version
from supervision import Request
from supervision.messages import describe


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


#: What of a team is its members' business, or is no matter of what it does.
_APART = ("name", "members", "field", "rule", "deadline", "ladder")


def why_no_version(program: Any, other: Any) -> str | None:
    """Return why a program cannot be a version of a team; None if nothing speaks against it.

    A version has the state of another program and nothing else of it, so all else has to be the same.

    Args:
        program: of the team.
        other: that is to be a version of it.
    """
    if isinstance(other, Team):
        return "it is a Team; give its program()"
    if type(other) is not type(program):
        return f"it is a {type(other).__name__}, and no {type(program).__name__}; start an actor of its own with it"
    mine, given = _settings(program), _settings(other)
    differ = [name for name in mine if name in given and not _same(mine[name], given[name])]
    for name in ("deadline", "ladder"):  # the actor has those of its own
        found = getattr(other.team, name)
        differ += [name] if found is not None and found != getattr(program.team, name) else []
    keys = {key for key, _ in program._teams()}
    if not program.uses_rule or not keys <= program.dump_state().keys():
        differ += [] if _same(program.team.rule, other.team.rule) else ["rule"]
    if not differ:
        return None
    told = ", ".join(f"{name} = {describe(given.get(name, getattr(other.team, name, None)))}" for name in differ)
    return f"a version cannot change this: {told}; start the actor anew with the program"


def _settings(program: Any) -> dict[str, Any]:
    """Return what a team does besides what its members do: its own options, and those of its pattern."""
    team = program.team
    options = {name: getattr(team, name) for name in team.__struct_fields__ if name not in _APART}
    own = {name: value for name, value in vars(program).items() if not name.startswith("_")}
    return {**options, **{name: own[name] for name in own if name not in ("members", "team", "callbacks", "history")}}


def _same(one: Any, other: Any) -> bool:
    """Return whether two settings are the same; of objects of which this cannot be said, whether they are of a kind."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, msgspec.Struct):
        return all(_same(getattr(one, name), getattr(other, name)) for name in one.__struct_fields__)
    if callable(one):
        return bool(getattr(one, "__code__", one) == getattr(other, "__code__", other))
    compared: Any = type(one).__eq__
    return compared is object.__eq__ or bool(one == other)
