"""Which members make a team: reckoned from recorded votes, without a call.

>>> from dspex.teams.ballot import MemberVote
>>> rows = {"a": "xxxxx...", "b": "xxx..xxx", "c": "...xxxxx"}
>>> cast = [[MemberVote(name, row[n]) for name, row in rows.items()] for n in range(8)]
>>> found = compose(Need(), [Member("a", None), Member("b", None), Member("c", None)], RecordedVotes(cast, "x" * 8))
>>> [member.name for member in found.members], [step.accuracy for step in found.steps]
(['b', 'a', 'c'], [0.75, 1.0])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations

import msgspec

from dspex.statistics import wilson
from dspex.teams.errors import BadTeam
from dspex.teams.records import RecordedVotes
from dspex.teams.rules import CombinationRule, MajorityVote
from dspex.teams.team import Member
from foundation.options import from_zero, whole

#: Makes a rule of recorded votes.
Fit = Callable[[RecordedVotes], CombinationRule]
#: Of so many candidates at most, each team is looked at.
MOST_CANDIDATES = 12


class Need(msgspec.Struct, frozen=True):
    """What a team has to be.

    Attributes:
        roles: each of which one member must have.
        max_size: how many members there are at most.
        least_gain: how much accuracy a member, or two together, must add that no role needs.

    Raises:
        BadTeam, BadOption: it makes no sense.
    """

    roles: tuple[str, ...] = ()
    max_size: int = 5
    least_gain: float = 0.01

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "roles", tuple(self.roles))
        from_zero("Need: least_gain", self.least_gain)
        if whole("Need: max_size", self.max_size) < len(self.roles):
            raise BadTeam("Need: max_size", self.max_size, f"there are {len(self.roles)} roles; allow as many members")


class CompositionStep(msgspec.Struct, frozen=True):
    """Why there are members in a team.

    Attributes:
        members: one, or two that gain something only together.
        role: for which; None if for what they add.
        accuracy: of the team with them.
    """

    members: tuple[str, ...]
    role: str | None
    accuracy: float


class Composition(msgspec.Struct, frozen=True):
    """A team that was composed.

    Attributes:
        members: in the order in which they were taken.
        accuracy: on the votes that it was composed by; on others it is less, as it was chosen by these.
        steps: how it came to be.
    """

    members: tuple[Member, ...]
    accuracy: float
    steps: tuple[CompositionStep, ...]


def compose(
    need: Need, candidates: Iterable[Member], measures: RecordedVotes, *, fit: Fit = lambda _: MajorityVote()
) -> Composition:
    """Choose members by what they have answered.

    Each role goes to the candidate that has it and whose accuracy is the surest: the lower end of Wilson's interval
    is the highest, so that 30 of 40 is more than 9 of 10. Then whoever adds most to the team's accuracy is taken, as
    long as that is enough. In a vote one more often adds nothing, and two do: where one adds too little, two are tried.
    Of candidates that are ``correlated_with`` the same, there is one in the team.

    Args:
        need: roles, and bounds.
        candidates: ties go to the earlier one.
        measures: their votes.
        fit: the rule by which they are to be combined, fitted for each team that is looked at.

    Raises:
        BadTeam: no candidate was measured, or those that were cannot fill the roles.

    Source: the greedy choice is that of Caruana et al. (2004).
    """
    measured = set(measures.members)
    able = [member for member in candidates if member.name in measured]
    if not able:
        raise BadTeam("compose: candidates", list(measured), "give members of which there are votes: these have some")
    surest = sorted(able, key=lambda member: -wilson(*measures.counts(member.name)).low)
    team = _in_roles(need.roles, surest)
    if team is None:
        told = {member.name: (member.role, member.correlated_with) for member in able}
        raise BadTeam("compose: roles", need.roles, f"give for each a candidate of its own; there are {told}")

    def accuracy(members: Sequence[Member]) -> float:
        chosen = measures.only([member.name for member in members])
        return chosen.accuracy(fit(chosen))

    steps = [
        CompositionStep((member.name,), role, accuracy(team[: n + 1]))
        for n, (member, role) in enumerate(zip(team, need.roles, strict=True))
    ]
    reached = steps[-1].accuracy if steps else 0.0
    while found := _best(team, able, accuracy, need, reached):
        reached = accuracy([*team, *found])
        team = [*team, *found]
        steps.append(CompositionStep(tuple(member.name for member in found), None, reached))
    if not team:
        raise BadTeam("compose: least_gain", need.least_gain, "no candidate is right so often; ask for less")
    return Composition(tuple(team), reached, tuple(steps))


def _in_roles(roles: Sequence[str], surest: Sequence[Member], team: Sequence[Member] = ()) -> list[Member] | None:
    """Return a member for each role, the surest first; None if they cannot all be filled."""
    if len(team) == len(roles):
        return list(team)
    for member in surest:
        if member.role == roles[len(team)] and _goes_with(member, team):
            found = _in_roles(roles, surest, [*team, member])
            if found is not None:
                return found
    return None


def _goes_with(member: Member, team: Iterable[Member]) -> bool:
    group = member.correlated_with
    return all(member.name != other.name and (not group or group != other.correlated_with) for other in team)


def _best(
    team: Sequence[Member],
    able: Sequence[Member],
    accuracy: Callable[[Sequence[Member]], float],
    need: Need,
    reached: float,
) -> tuple[Member, ...]:
    """Return who adds most, and enough: one candidate, or else two; nobody if there is none."""
    others = [member for member in able if _goes_with(member, team)]
    for size in (1, 2):
        if len(team) + size > need.max_size:
            break
        pairs = [found for found in combinations(others, size) if _goes_with(found[-1], found[:-1])]
        gains = [accuracy([*team, *found]) - reached for found in pairs]
        if gains and max(gains) > 0 and max(gains) >= need.least_gain:
            return pairs[gains.index(max(gains))]
    return ()


class ScoredTeam(msgspec.Struct, frozen=True):
    """A team that was looked at.

    Attributes:
        members: their names.
        rule: the name of the rule.
        learned: its accuracy on the votes that its rule was fitted to.
        accuracy: that on the votes by which it is judged.
    """

    members: tuple[str, ...]
    rule: str
    learned: float
    accuracy: float


def best_teams(
    learn: RecordedVotes, judge: RecordedVotes, fits: Mapping[str, Fit], *, max_size: int | None = None
) -> list[ScoredTeam]:
    """Look at each team of the members with each rule, the best first; of equal ones the smaller, then the earlier.

    The best of many is good by luck, too: measure it on votes that are in neither of these.

    Args:
        learn: the votes to which rules are fitted, for each team anew.
        judge: the votes by which teams are judged.
        fits: the rules, by a name for each.
        max_size: how many members a team has at most; None for all.

    Raises:
        BadTeam: there are more than 12 members; `compose` takes more.
        BadOption: ``max_size`` is no whole number from 1.
    """
    names = learn.members
    whole("best_teams: max_size", len(names) if max_size is None else max_size)
    if len(names) > MOST_CANDIDATES:
        raise BadTeam("best_teams: learn", len(names), f"give votes of at most {MOST_CANDIDATES} members, or compose")
    found = []
    for size in range(1, min(len(names), max_size or len(names)) + 1):
        for members in combinations(names, size):
            learned, judged = learn.only(members), judge.only(members)
            for name, fit in fits.items():
                rule = fit(learned)
                found.append(ScoredTeam(members, name, learned.accuracy(rule), judged.accuracy(rule)))
    return sorted(found, key=lambda one: -one.accuracy)
