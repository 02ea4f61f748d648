"""Suite ``team``: when a team of programs is worth its calls, on real headlines and a real, small model.

300 headlines of BBC News, of five sections; five splits by chance into a half to learn from and a half to test on.
All is chosen and fitted by the one half, and each accuracy is that on the other, averaged over the splits; ``spread``
is the standard deviation over these. Each is beside that of the best single member, chosen by the half to learn from.

The team are the five members that were best there, of twelve ways of asking one model (`team_members`). Whatever is
combined was asked once.
"""

from __future__ import annotations

import asyncio
import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any, NamedTuple

import dspy

from bench.figure import Better, Figure
from bench.quality_data import TASKS
from bench.team_beacon import over_chance, over_random
from bench.team_members import HEADLINES, LABELS, asking
from dspex.teams import (
    CombinationRule,
    ConfusionVote,
    FirstAnswer,
    MajorityVote,
    Member,
    MemberVote,
    Need,
    RecordedVotes,
    SoftVote,
    Stacking,
    Team,
    WeightedVote,
    compose,
    dawid_skene,
)

SPLITS, SIZE = 5, 5
#: By so much accuracy a rule has to beat the best single member of a split to have won.
MARGIN = 0.05


class Split(NamedTuple):
    """One half to learn from, the other, and the members, the best on the first half first."""

    learn: RecordedVotes
    test: RecordedVotes
    ranked: list[str]

    def best(self, size: int) -> Split:
        """Return it with the best members only."""
        names = self.ranked[:size]
        return Split(self.learn.only(names), self.test.only(names), names)


def _halves(seed: int, count: int) -> tuple[list[int], list[int]]:
    """Return the numbers of the examples to learn from, and of those to test on."""
    numbers = list(range(count))
    Random(seed).shuffle(numbers)
    return numbers[0::2], numbers[1::2]


def _splits(records: RecordedVotes) -> list[Split]:
    found = []
    for seed in range(SPLITS):
        learn, test = (records.examples(half) for half in _halves(seed, len(records.truth)))
        ranked = sorted(learn.members, key=lambda member: -learn.counts(member)[0])
        found.append(Split(learn, test, ranked))
    return found


@cache
def _members() -> list[Split]:
    return _splits(asking(lambda asked: asked.record(asked.members(), asked.headlines)))


# -- one rule --------------------------------------------------------------------------------------------------------

Fit = Callable[[RecordedVotes], CombinationRule]


def _accuracies(fit: Fit, size: int = SIZE) -> list[float]:
    """Return the accuracy of a rule in each split, fitted to the other half."""
    return [split.test.accuracy(fit(split.learn)) for split in (one.best(size) for one in _members())]


def _singles() -> list[float]:
    return _accuracies(lambda _: FirstAnswer(), 1)


def _figure(found: Sequence[float], reach: float, better: Better = "higher", **more: float) -> Figure:
    """Return an accuracy beside that of the best single member."""
    single = _singles()
    mean, limit = statistics.fmean(found), statistics.fmean(single)
    gains = [one - other for one, other in zip(found, single, strict=True)]
    more = {"spread": statistics.stdev(found), "least_gain": min(gains), "most_gain": max(gains), **more}
    return Figure(value=mean, unit="accuracy", limit=limit, ratio=mean / limit, reach=reach, better=better, more=more)


def _rule(fit: Fit, reach: float, better: Better = "higher") -> Callable[[], Any]:
    """Return the figure of a rule, of the best five; beside it that of all twelve."""

    async def figure() -> Figure:
        return await asyncio.to_thread(
            lambda: _figure(_accuracies(fit), reach, better, all=_mean(_accuracies(fit, 12)))
        )

    return figure


def _of_one(fit: Fit, reach: float) -> Callable[[], Any]:
    """Return the figure of a rule of the best single member alone, which costs one call."""

    async def figure() -> Figure:
        return await asyncio.to_thread(lambda: _figure(_accuracies(fit, 1), reach))

    return figure


async def best_single() -> Figure:
    """The best single member, beside what chance is."""
    found = await asyncio.to_thread(_singles)
    mean, chance = _mean(found), 1 / len(LABELS)
    more = {"spread": statistics.stdev(found), "every": _mean([_every(split) for split in _members()])}
    ratio = mean / chance
    return Figure(value=mean, unit="accuracy", limit=chance, ratio=ratio, reach=1.0, better="higher", more=more)


def _every(split: Split) -> float:
    """Return the mean accuracy of all members."""
    return _mean([split.test.only([member]).accuracy(FirstAnswer()) for member in split.ranked])


async def oracle() -> Figure:
    """How often any of the five is right; and how often that is with their answers given to other headlines: luck."""

    def shuffled(split: Split) -> float:
        truth = list(split.test.truth)
        Random(0).shuffle(truth)
        return RecordedVotes(split.test.votes, tuple(truth)).oracle

    def figure() -> Figure:
        best = [split.best(SIZE) for split in _members()]
        luck, together = _mean([shuffled(one) for one in best]), _mean([one.test.error_correlation for one in best])
        return _figure([one.test.oracle for one in best], 1.0, luck=luck, error_correlation=together)

    return await asyncio.to_thread(figure)


async def stacking_wins() -> Figure:
    """In how many splits stacking beats the best single member by the margin."""
    pairs = await asyncio.to_thread(lambda: list(zip(_accuracies(Stacking.fitted), _singles(), strict=True)))
    wins = sum(one - other >= MARGIN for one, other in pairs)
    more = {f"split_{n}": one - other for n, (one, other) in enumerate(pairs, 1)}
    ratio = wins / SPLITS
    return Figure(value=wins, unit="splits", limit=SPLITS, ratio=ratio, reach=0.8, better="higher", more=more)


async def composed() -> Figure:
    """A team that is composed of all twelve for a majority, as `compose` does."""

    def one(split: Split) -> tuple[float, int, float]:
        found = compose(Need(), [Member(name, None) for name in split.ranked], split.learn)
        names = [member.name for member in found.members]
        return split.test.only(names).accuracy(MajorityVote()), len(names), found.accuracy

    teams = await asyncio.to_thread(lambda: [one(split) for split in _members()])
    size, learned = _mean([float(team[1]) for team in teams]), _mean([team[2] for team in teams])
    return _figure([team[0] for team in teams], 0.95, size=size, learned=learned)


async def words() -> Figure:
    """What the words of the headline tell without a model: naive Bayes, learned from the same half."""

    def one(seed: int) -> float:
        headlines = [(example.headline.casefold().split(), example.topic) for example in TASKS["topics"].examples()]
        learn, test = ([headlines[number] for number in half] for half in _halves(seed, HEADLINES))
        counts = {label: Counter(word for said, topic in learn if topic == label for word in said) for label in LABELS}
        known = {word for said, _ in learn for word in said}

        def score(said: Sequence[str], label: str) -> float:
            total = counts[label].total() + len(known)
            return sum(math.log((counts[label][word] + 1) / total) for word in said if word in known)

        found = [max(LABELS, key=lambda label: score(said, label)) == topic for said, topic in test]
        return float(sum(found) / len(found))

    return await asyncio.to_thread(lambda: _figure([one(seed) for seed in range(SPLITS)], 1.0, "lower"))


# -- what is asked of a team that is decided early -------------------------------------------------------------------


class Replays(dspy.Module):  # type: ignore[misc]
    """Answers as a member did."""

    def __init__(self, member: str, votes: Sequence[Sequence[MemberVote]]) -> None:
        super().__init__()
        self._said = [next(vote.form for vote in cast if vote.member == member) for cast in votes]

    def forward(self, number: int) -> Any:
        """Answer the question of a number."""
        return dspy.Prediction(topic=self._said[number])


class Early(NamedTuple):
    """How many members were asked of those that might have been, and how many answers were the same."""

    asked: int
    members: int
    same: int
    answers: int


@cache
def _early() -> Early:
    """Ask teams of the best five in turn until it is decided, about all headlines of the test halves."""
    asked = same = answers = 0
    for split in (one.best(SIZE) for one in _members()):
        votes = split.test.votes
        members = tuple(Member(name, Replays(name, votes)) for name in split.ranked)
        program = Team("replay", members, field="topic").program()
        for number, cast in enumerate(votes):
            found = program(number=number)
            asked += sum(one.outcome != "unasked" for one in found.ballot)
            same += found.topic == MajorityVote().decide(cast).form
            answers += 1
    return Early(asked, answers * SIZE, same, answers)


async def calls() -> Figure:
    """Calls for each answer: of the five, which stacking needs; a majority that ends when it is decided needs fewer."""
    early = await asyncio.to_thread(_early)
    more = {"majority": early.asked / early.answers}
    return Figure(value=SIZE, unit="calls", limit=1, ratio=SIZE, reach=SIZE, better="lower", more=more)


async def early_end_saved() -> Figure:
    """Which share of the calls of a majority is saved when nobody is asked who can change nothing."""
    early = await asyncio.to_thread(_early)
    saved = early.members - early.asked
    ratio = saved / early.members
    return Figure(value=saved, unit="calls", limit=early.members, ratio=ratio, reach=0.2, better="higher")


async def early_end_equal() -> Figure:
    """Which share of the answers is the same as if all had been asked."""
    early = await asyncio.to_thread(_early)
    ratio = early.same / early.answers
    return Figure(value=early.same, unit="answers", limit=early.answers, ratio=ratio, reach=1.0, better="higher")


# -- what does not pay -----------------------------------------------------------------------------------------------


async def sampled() -> Figure:
    """The best member asked five times at temperature 1, and the majority of that."""

    def one(split: Split) -> float:
        chance, right = Random(0), 0
        for cast, label in zip(split.best(1).test.votes, split.test.truth, strict=True):
            shares = cast[0].probabilities or {}
            drawn = chance.choices(list(shares), list(shares.values()), k=SIZE)
            right += MajorityVote().decide([MemberVote(str(n), form) for n, form in enumerate(drawn)]).form == label
        return right / len(split.test.truth)

    return await asyncio.to_thread(lambda: _figure([one(split) for split in _members()], 1.0, "lower"))


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values)


FIGURES = {
    "best_single": best_single,
    "majority": _rule(lambda _: MajorityVote(), 0.95),
    "weighted": _rule(WeightedVote.fitted, 0.95),
    "dawid_skene": _rule(lambda records: dawid_skene(records.answers).rule, 0.95),
    "confusion": _rule(ConfusionVote.fitted, 1.0),
    "soft": _rule(lambda _: SoftVote(), 0.95),
    "bias_corrected": _rule(SoftVote.fitted, 1.05),
    "stacking": _rule(Stacking.fitted, 1.08),
    "corrected_single": _of_one(SoftVote.fitted, 1.0),
    "stacked_single": _of_one(Stacking.fitted, 1.0),
    "words": words,
    "composed": composed,
    "oracle": oracle,
    "calls": calls,
    "stacking_wins": stacking_wins,
    "early_end_saved": early_end_saved,
    "early_end_equal": early_end_equal,
    "sampled": sampled,
    "beacon_over_random": over_random(_halves),
    "beacon_over_chance": over_chance(_halves),
}
