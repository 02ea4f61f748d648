"""Routers: one member is asked, as a function, a fitted classifier or a bandit says.

>>> import dspy
>>> from dspex.teams import Member, Team
>>> class Says(dspy.Module):
...     def __init__(self, label):
...         super().__init__()
...         self.label = label
...
...     def forward(self, text):
...         return dspy.Prediction(label=self.label)
>>> desk = Team("desk", (Member("short", Says("a")), Member("long", Says("b"))), field="label")
>>> answer = TeamRouter(desk, RouteBy(lambda inputs: "long" if len(inputs["text"]) > 9 else "short"))(
...     text="Brazil wins"
... )
>>> answer.label, [one.outcome for one in answer.ballot]
('b', ['unasked', 'answered'])
"""

from __future__ import annotations

import math
import sys
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Protocol, cast, runtime_checkable

import msgspec

from dspex.teams.errors import BadTeam
from dspex.teams.patterns.in_turn import AskedInTurn, Conversation, Question, Replies
from dspex.teams.team import Team
from dspex.variables import Choice, UpperConfidenceBound
from foundation.options import finite, from_zero, text, whole
from supervision.errors import BadOption
from supervision.options import is_whole

#: How many calls may wait for their reward; older ones are forgotten.
MOST_WAITING = 10_000
_COUNTING = threading.Lock()


class Routed(msgspec.Struct, frozen=True):
    """Why a member was asked.

    Attributes:
        first: whom the route has chosen.
        group: of which group of inputs, if the route tells groups apart.
        explored: whether the choice was chance's, each member as likely as the others. What is learnt from such calls
            alone is not a picture of the route's own choices.
    """

    first: str
    group: Hashable = None
    explored: bool = False


@runtime_checkable
class MemberRoute(Protocol):
    """Says whom to ask."""

    def scores(self, inputs: Mapping[str, Any], members: Sequence[str], chance: Random) -> Mapping[str, float]:
        """Return how good a choice each member is; whoever is not named is asked last."""
        ...


@runtime_checkable
class LearningRoute(MemberRoute, Protocol):
    """Learns from what its choices were worth."""

    def group(self, inputs: Mapping[str, Any]) -> Hashable:
        """Return of which group of inputs these are."""
        ...

    def asked(self, group: Hashable, member: str) -> None:
        """Note that a member is asked; what it is worth is not known yet, and may never be."""
        ...

    def note(self, group: Hashable, member: str, reward: float) -> None:
        """Note what a member's answer was worth in a group."""
        ...


class RouteBy(msgspec.Struct, frozen=True):
    """Asks whom a function names.

    Attributes:
        choose: makes of the inputs the name of a member, or a score for each.
    """

    choose: Callable[[Mapping[str, Any]], str | Mapping[str, float]]

    def scores(self, inputs: Mapping[str, Any], members: Sequence[str], chance: Random) -> Mapping[str, float]:
        """Return what the function says."""
        found = self.choose(inputs)
        return {found: 1.0} if isinstance(found, str) else found


class BanditRoute:
    """Learns by trying which member is best, in each group of inputs by itself.

    Args:
        by: makes of the inputs their group; None for one group.
        bandit: of `dspex.variables`: `UpperConfidenceBound`, `ThompsonSampling` or `EpsilonGreedy`, or what makes one
            of a `Choice`.
        learned: what another one has learned; see `learned`.

    Raises:
        BadTeam: this was not learned by another one.
    """

    def __init__(
        self,
        by: Callable[[Mapping[str, Any]], Hashable] | None = None,
        bandit: Callable[[Choice], Any] = UpperConfidenceBound,
        learned: Iterable[tuple[Hashable, str, int, float]] = (),
    ) -> None:
        self._by = by
        self._make = bandit
        self._bandits: dict[Hashable, Any] = {}
        self._asked: Counter[tuple[Hashable, str]] = Counter()
        self._learned: dict[Hashable, dict[str, tuple[int, float]]] = {}
        for group, member, tries, mean in map(_learned_row, learned):
            self._learned.setdefault(group, {})[member] = (tries, mean)

    def group(self, inputs: Mapping[str, Any]) -> Hashable:
        """Return of which group of inputs these are.

        Raises:
            BadTeam: ``by`` returns what is no group.
        """
        return _group(None if self._by is None else self._by(inputs))

    def scores(self, inputs: Mapping[str, Any], members: Sequence[str], chance: Random) -> Mapping[str, float]:
        """Return how promising each member is in the group of these inputs.

        Of those of which nothing is known yet, who was asked less often comes first: rewards may be late, or never be.
        """
        group = self.group(inputs)
        found: Mapping[str, float] = self._bandit(group, members).scores(chance)
        most = sys.float_info.max
        return {name: min(found[name], most / (1 + self._asked[group, name])) for name in members}

    def asked(self, group: Hashable, member: str) -> None:
        """Note that a member is asked."""
        self._asked[group, member] += 1

    def note(self, group: Hashable, member: str, reward: float) -> None:
        """Note what a member's answer was worth in a group."""
        self._bandit(group, [member]).note(member, reward)

    def _bandit(self, group: Hashable, members: Sequence[str]) -> Any:
        """Return the bandit of a group, which knows these members."""
        found = self._bandits.get(group)
        if found is None or not {*members} <= {*found.names}:
            known = self._known(group)
            found = self._make(Choice(name="member", choices=dict.fromkeys([*known, *members])))
            for name, (tries, mean) in known.items():
                found.tries[name], found.means[name] = tries, mean
            self._bandits[group] = found
        return found

    def _known(self, group: Hashable) -> Mapping[str, tuple[int, float]]:
        found = self._bandits.get(group)
        if found is None:
            return self._learned.get(group, {})
        return {name: (found.tries[name], found.means[name]) for name in found.names if found.tries[name]}

    @property
    def learned(self) -> list[tuple[Hashable, str, int, float]]:
        """What it has learned: of each group and member, how many rewards there were, and their mean."""
        groups = dict.fromkeys([*self._learned, *self._bandits])
        return [(group, name, *row) for group in groups for name, row in self._known(group).items()]

    @property
    def regret(self) -> float:
        """How much more the best member of each group would have brought, by all that is known of it now."""
        rows, best = self.learned, dict[Hashable, float]()
        for group, _, _, mean in rows:
            best[group] = max(mean, best.get(group, mean))
        return sum(tries * (best[group] - mean) for group, _, tries, mean in rows)


class TeamRouter(AskedInTurn):
    """A team of which one member is asked; if it is lost, the next by score.

    Its answer is that of a `TeamProgram`, with ``degraded`` such as ``next:lost 1 of 2`` if it is not of the first
    choice, and besides

    - ``routed``: why that member was asked, see `Routed`;
    - ``call``: its number, for `reward`.

    Args:
        team: whose members' programs are copied.
        route: says whom to ask; ties go to the earlier member.
        explore: in which share of the calls chance says whom to ask.
        seed: of what is left to chance.

    Raises:
        BadTeam, BadOption: it makes no sense; the text says what, and what would.
    """

    def __init__(self, team: Team, route: MemberRoute, *, explore: float = 0.0, seed: int = 0) -> None:
        super().__init__(team)
        if isinstance(route, type) or not isinstance(route, MemberRoute):
            raise BadTeam("TeamRouter: route", route, "give RouteBy(function), BanditRoute() or TextRoute.fitted(...)")
        if from_zero("TeamRouter: explore", explore) > 1:
            raise BadOption("TeamRouter: explore", explore, "give a share from 0 to 1")
        self.route = route
        self.explore = explore
        self.seed = whole("TeamRouter: seed", seed, 0)
        self._calls = _Calls()
        #: Whether rewards tell the route something; of a member that answers alone they do not.
        self._learns = True
        self.check_ladder()

    def alone(self, member: str) -> Any:
        """Return the team as one in which a member answers, whatever the route says: which learns nothing of that."""
        found = super().alone(member)
        found._learns = False
        return found

    def conversation(self, inputs: Mapping[str, Any], replies: Replies) -> Conversation:
        """Ask the members by their scores, until one is not lost."""
        learner = self.route if isinstance(self.route, LearningRoute) and self._learns else None
        group = None if learner is None else learner.group(inputs)
        call = self._calls.begin()
        order, explored = self._order(inputs, Random(f"{self.seed}/{call}"))
        for lost, name in enumerate(order):
            if learner is not None:
                learner.asked(group, name)
            reply = yield Question(name, inputs)
            if reply.usable:
                if self._learns:
                    self._calls.waits(call, group, name)
                degraded = f"next:lost {lost} of {lost + 1}" if lost else None
                return replies.prediction(name, degraded=degraded, routed=Routed(order[0], group, explored), call=call)
            if learner is not None and reply.answer.outcome == "failed":
                learner.note(group, name, 0.0)
            if reply.answer.outcome != "lost":
                break
        raise replies.missing()

    def _order(self, inputs: Mapping[str, Any], chance: Random) -> tuple[list[str], bool]:
        """Return whom to ask, and in which order; and whether chance has said so."""
        members = [member.name for member in self.team.members]
        if not self._learns:
            return members, False
        if self.explore and chance.random() < self.explore:
            return chance.sample(members, len(members)), True
        scores = _scores(self.route.scores(inputs, members, chance), members)
        return sorted(members, key=lambda name: -scores.get(name, -math.inf)), False

    def reward(self, call: int, reward: float) -> bool:
        """Tell the route what the answer to a call was worth. A call that was lost has none, and 0 is not the same.

        Args:
            call: its number, which its answer has.
            reward: what it was worth: for most bandits from 0 to 1.

        Returns:
            Whether it counts: not if the call is unknown, has had its reward, or was too long ago; nor if the route
            does not learn.

        Raises:
            BadOption: it is no finite number.
        """
        worth = finite(reward)
        if worth is None:
            raise BadOption("TeamRouter: reward", reward, "give a finite number")
        found = self._calls.settle(call)
        if found is None or not isinstance(self.route, LearningRoute):
            return False
        self.route.note(*found, worth)
        return True


class _Calls:
    """The calls of a router, and those that wait for a reward. Copies of the router, shallow ones, share them."""

    def __init__(self) -> None:
        self._last = 0
        self._waiting: dict[int, tuple[Hashable, str]] = {}

    def begin(self) -> int:
        """Return the number of the next call."""
        with _COUNTING:
            self._last += 1
            return self._last

    def waits(self, call: int, group: Hashable, member: str) -> None:
        """Note that a call may get a reward."""
        with _COUNTING:
            self._waiting[call] = (group, member)
            if len(self._waiting) > MOST_WAITING:
                del self._waiting[next(iter(self._waiting))]

    def settle(self, call: object) -> tuple[Hashable, str] | None:
        """Return whose reward it is, once."""
        with _COUNTING:
            return self._waiting.pop(call, None) if is_whole(call, 1) else None


def _group(found: Any) -> Hashable:
    try:
        hash(found)
    except TypeError as error:
        raise BadTeam("BanditRoute: by", found, "return a group that is hashable, such as a text") from error
    return cast(Hashable, found)


def _learned_row(row: Any) -> tuple[Hashable, str, int, float]:
    try:
        group, member, tries, mean = row
    except (TypeError, ValueError) as error:
        raise BadTeam(
            "BanditRoute: learned", row, "give rows of group, member, tries and mean, as learned has"
        ) from error
    if not is_whole(tries, 1) or finite(mean) is None:
        raise BadTeam("BanditRoute: learned", row, "give how many tries there were, from 1, and their mean, a number")
    return _group(group), text("BanditRoute: learned: member", member), tries, mean


def _scores(found: Any, members: Sequence[str]) -> Mapping[str, float]:
    """Return what a route says, if it makes sense."""
    if not isinstance(found, Mapping):
        raise BadTeam("TeamRouter: route", found, f"name one of {', '.join(members)}, or give each a score")
    if stray := [name for name in found if name not in members]:
        raise BadTeam("TeamRouter: route", stray, f"name one of {', '.join(members)}")
    if bad := {name: score for name, score in found.items() if finite(score) is None}:
        raise BadTeam("TeamRouter: route", bad, "give each member a score that is a finite number")
    return cast(Mapping[str, float], found)
