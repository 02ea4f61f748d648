"""Recorded votes: what members have answered to examples whose labels are known. All figures of a team come of these.

Members are asked once; every rule, and every team of some of them, is then reckoned without a call.

>>> from dspex.teams.rules import MajorityVote
>>> cast = [[MemberVote("a", "x"), MemberVote("b", "y"), MemberVote("c", "y")], [MemberVote("a", "x")]]
>>> records = RecordedVotes(cast, ["y", "x"])
>>> records.accuracy(MajorityVote()), records.only(["a"]).accuracy(MajorityVote()), records.best_member
(1.0, 0.5, 'a')
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import combinations
from statistics import correlation, fmean
from typing import TYPE_CHECKING, Any

import msgspec

from dspex.teams.ballot import MemberVote
from dspex.teams.errors import BadTeam, TooFewAnswers
from dspex.teams.rules import CombinationRule, MajorityVote
from dspex.teams.weights import BadWeights, oracle
from foundation.options import whole

if TYPE_CHECKING:
    from dspex.teams.team import Team


class RecordedVotes(msgspec.Struct, frozen=True):
    """What members have answered, and what was right.

    Attributes:
        votes: of each example, those of the members that had an answer, in the team's order.
        truth: of each example, the normal form of its label.

    Raises:
        BadWeights: there are none, or not as many of these as of those.
    """

    votes: Sequence[Sequence[MemberVote]]
    truth: Sequence[Hashable]

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "votes", tuple(map(tuple, self.votes)))
        msgspec.structs.force_setattr(self, "truth", tuple(self.truth))
        if len(self.votes) != len(self.truth) or not self.truth:
            raise BadWeights(
                f"{len(self.votes)} examples have votes, and {len(self.truth)} labels; give as many, and at least one"
            )

    @property
    def members(self) -> tuple[str, ...]:
        """Who has voted at all, as they come in the votes."""
        return tuple(dict.fromkeys(vote.member for cast in self.votes for vote in cast))

    @property
    def answers(self) -> list[dict[str, Hashable]]:
        """Of each example the members' answers, as `dspex.teams.weights` takes them."""
        return [{vote.member: vote.form for vote in cast} for cast in self.votes]

    def counts(self, member: str) -> tuple[int, int]:
        """Return how often a member was right, and how often it had an answer."""
        found = [
            vote.form == label
            for cast, label in zip(self.votes, self.truth, strict=True)
            for vote in cast
            if vote.member == member
        ]
        return sum(found), len(found)

    @property
    def best_member(self) -> str:
        """Who was right most often; of equal ones the first.

        Raises:
            BadWeights: nobody has voted.
        """
        if not self.members:
            raise BadWeights("no member has an answer to any example; see why in a ballot")
        return max(self.members, key=lambda member: self.counts(member)[0])

    @property
    def oracle(self) -> float:
        """How often any member was right: what no rule that only chooses among answers can exceed."""
        return oracle(self.answers, self.truth)

    @property
    def error_correlation(self) -> float:
        """How far the members err together: φ of whether each of two was right, averaged over all pairs.

        0 for errors that are independent, so that a vote helps most; 1 for the same errors, so that it cannot help.
        Pairs of which one was always right, or never, are left out; without any other, it is 1.
        """
        right = [
            {vote.member: float(vote.form == label) for vote in cast}
            for cast, label in zip(self.votes, self.truth, strict=True)
        ]
        found = []
        for pair in combinations(self.members, 2):
            both = [[one[member] for member in pair] for one in right if all(member in one for member in pair)]
            columns = [list(column) for column in zip(*both, strict=True)]
            if all(len(set(column)) > 1 for column in columns) and columns:
                found.append(correlation(*columns))
        return fmean(found) if found else 1.0

    def accuracy(self, rule: CombinationRule) -> float:
        """Return how often what a rule makes of the votes is right. Examples without a vote are not."""
        right = sum(
            bool(cast) and rule.decide(cast).form == label for cast, label in zip(self.votes, self.truth, strict=True)
        )
        return right / len(self.truth)

    def only(self, members: Iterable[str]) -> RecordedVotes:
        """Return the votes of some members, in this order."""
        voted = [{vote.member: vote for vote in cast} for cast in self.votes]
        return RecordedVotes(
            tuple(tuple(found[member] for member in members if member in found) for found in voted), self.truth
        )

    def examples(self, numbers: Iterable[int]) -> RecordedVotes:
        """Return the votes on some examples, by their numbers, from 0."""
        chosen = list(numbers)
        return RecordedVotes(
            tuple(self.votes[number] for number in chosen), tuple(self.truth[number] for number in chosen)
        )


class Everybody(MajorityVote, frozen=True):
    """Has all members asked."""

    def settled(self, votes: Sequence[MemberVote], outstanding: Sequence[str]) -> bool:
        """Return False."""
        return False


async def record(
    team: Team, examples: Iterable[Any], *, width: int = 2, done: Callable[[int], object] | None = None
) -> RecordedVotes:
    """Ask all members of a team about examples, once.

    A member whose program fails, or abstains, has no vote there. Nothing is made of examples at which a member was
    away: that says nothing of it.

    Args:
        team: whose members are asked.
        examples: with the team's field as their label.
        width: how many examples are asked about at the same time.
        done: is told how many are done.

    Returns:
        The votes, in the order of the examples.

    Raises:
        BadTeam: this is no team; or an example is none, or has no label, or does not say what its inputs are: its
            number is told.
        BadWeights: there are no examples.
        TooFewAnswers: a member, or its language model, is away; its ballot says which.
    """
    from dspex.teams.team import Team

    if not isinstance(team, Team):
        raise BadTeam("record: team", team, "give a Team, such as Team('one', (Member('one', program),))")
    whole("record: width", width)
    everybody = msgspec.structs.replace(team, rule=Everybody(), deadline=None, max_calls=None)
    program, asked = everybody.program(), list(examples)
    inputs = [_inputs(number, example) for number, example in enumerate(asked)]
    for number, example in enumerate(asked):
        if team.normal(example.get(program.field)) is None:
            raise BadTeam("record: examples", number, f"give each example a label, as {program.field}")
    gate = asyncio.Semaphore(width)
    votes: list[tuple[MemberVote, ...] | None] = [None] * len(asked)

    async def ask(number: int) -> None:
        async with gate:
            poll = await program.poll(inputs[number])
        if any(one.outcome == "lost" for one in poll.ballot):
            raise TooFewAnswers(poll.ballot)
        votes[number] = tuple(poll.votes)
        if done is not None:
            done(sum(cast is not None for cast in votes))

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(len(asked)):
                group.create_task(ask(number))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    truth = tuple(team.normal(example[program.field]) for example in asked)
    return RecordedVotes(tuple(cast or () for cast in votes), truth)


def _inputs(number: int, example: Any) -> Any:
    try:
        return example.inputs()
    except (AttributeError, ValueError) as error:
        raise BadTeam("record: examples", number, "give a dspy.Example, made with_inputs(...)") from error
