"""Suite ``race``: what a race saves, and what that costs, on real headlines and a real, small model.

Sixteen hypotheses: four wordings, each asked in the model's chat format and plainly, without demonstrations and with
five. Headlines of BBC News are split by chance, forty times, into those that are raced on and those to test on; in each
split the race is run in twenty orders. *Everything* scores all hypotheses on all headlines that are raced on, and takes
the best.

``same_winner`` has the race itself, with its explorers and workers; the others its rules, over what was asked once.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from random import Random
from typing import Any, NamedTuple

import dspy

from bench.figure import Figure
from bench.quality import AsyncEngine
from bench.quality_data import TASKS
from bench.team_members import HEADLINES, SHOTS, TOPIC, Asked, asking
from dspex.models.local.adapter import CompactAdapter
from dspex.search import Asha, Halving, Hypothesis, PairedRace, Race, RaceReport, RaceRule
from dspex.search.items import stratified
from dspex.search.rules import mean, winner
from dspex.teams import Member

#: How many headlines are raced on; the others are for the test.
RACED = 200
SPLITS, ORDERS = 40, 20
#: In so many splits the race itself is run.
WHOLE = 5
WORDINGS = (TOPIC.instructions, *TASKS["topics"].instructions[:3])
#: How many workers and explorers there are, and seconds that an answer takes at most, by chance.
WIDTHS = ((1, 0.0), (4, 0.01), (16, 0.02))
RULES: Mapping[str, RaceRule] = {
    "quick": PairedRace(block=10, alpha=0.2),
    "halving": Halving(),
    "halving_of_40": Halving(first=40),
    "halving_of_10": Halving(first=10),
    "asha": Asha(),
    "paired": PairedRace(),
    "paired_corrected": PairedRace(correct=True),
    "paired_sequential": PairedRace(test="sequential"),
}

#: For each hypothesis, on which headlines it is right.
Scores = list[list[float]]


def hypotheses(asked: Asked) -> list[Member]:
    """Return the sixteen; the first is the student."""
    return [
        asked.member(f"{way} {n}, {shots} shown", TOPIC.with_instructions(wording), way, shots)
        for n, wording in enumerate(WORDINGS, 1)
        for way in ("chat", "plain")
        for shots in (0, SHOTS)
    ]


@cache
def recorded() -> tuple[Scores, list[Any]]:
    """Return the scores of all hypotheses on all headlines, and the headlines."""

    def ask(asked: Asked) -> tuple[Scores, list[Any]]:
        found = asked.record(hypotheses(asked), asked.headlines)
        rows = [
            [float(vote.form == label) for vote in cast] for cast, label in zip(found.votes, found.truth, strict=True)
        ]
        return [list(column) for column in zip(*rows, strict=True)], list(asked.headlines)

    return asking(ask)


class Split(NamedTuple):
    """The numbers of the headlines that are raced on, and of those to test on."""

    raced: list[int]
    test: list[int]


def splits() -> list[Split]:
    """Return the splits."""
    found = []
    for seed in range(SPLITS):
        numbers = list(range(HEADLINES))
        Random(seed).shuffle(numbers)
        found.append(Split(numbers[:RACED], numbers[RACED:]))
    return found


def raced(rule: RaceRule, scores: Sequence[Sequence[float]]) -> tuple[int, int]:
    """Return the winner of a race over known scores, and how many of these it has looked at."""
    decisions = rule.decisions(len(scores), len(scores[0]))
    seen: dict[int, int] = {}
    dropped: set[int] = set()
    answer: Any = None
    while True:
        try:
            order = decisions.send(answer)
        except StopIteration as end:
            dropped |= {one.hypothesis for one in end.value}
            break
        dropped |= {one.hypothesis for one in order.dropped}
        seen |= {look.hypothesis: look.items for look in order.begin}
        answer = {one: scores[one][: seen[one]] for one in order.needed}
    known = {one: scores[one][:size] for one, size in seen.items()}
    return winner(known, [one for one in known if one not in dropped]), sum(seen.values())


class Found(NamedTuple):
    """What a way to choose has come to, over all splits and orders."""

    share: float
    test: float
    lost: float
    same: float


@cache
def _policies() -> dict[str, Found]:
    scores, headlines = recorded()
    runs: dict[str, list[Found]] = {}
    for split in splits():
        everything = [[row[number] for number in split.raced] for row in scores]
        best = winner(dict(enumerate(everything)), range(len(scores)))

        def found(choice: int, calls: int, split: Split = split, best: int = best) -> Found:
            test, most = (mean([scores[one][number] for number in split.test]) for one in (choice, best))
            return Found(calls / (len(scores) * RACED), test, most - test, float(choice == best))

        runs.setdefault("everything", []).append(found(best, len(scores) * RACED))
        for seed in range(ORDERS):
            order = stratified([headlines[number] for number in split.raced], seed)
            items = [[row[at] for at in order] for row in everything]
            calls = 0
            for name, rule in RULES.items():
                choice, spent = raced(rule, items)
                runs.setdefault(name, []).append(found(choice, spent))
                calls = calls or spent
            each = calls // len(items)
            equal = winner({one: row[:each] for one, row in enumerate(items)}, range(len(items)))
            runs.setdefault("equal", []).append(found(equal, each * len(items)))
            runs.setdefault("random", []).append(found(Random(seed).randrange(len(items)), 0))
    return {name: Found(*(statistics.fmean(part) for part in zip(*each, strict=True))) for name, each in runs.items()}


async def _figure(what: Callable[[Found], float], unit: str, reach: float) -> Figure:
    found = await asyncio.to_thread(_policies)
    value = what(found["quick"])
    more = {name: what(one) for name, one in found.items() if name != "quick"}
    return Figure(value=value, unit=unit, limit=1.0, ratio=value, reach=reach, better="lower", more=more)


async def calls_share() -> Figure:
    """Which share of the calls of everything on everything a quick paired race takes; and other rules."""
    return await _figure(lambda found: found.share, "share", 0.3)


async def regret() -> Figure:
    """How much test accuracy is lost beside everything on everything; and by other rules, and ways to choose."""
    return await _figure(lambda found: found.lost, "accuracy", 0.01)


async def test_accuracy() -> Figure:
    """The test accuracy of what a race chooses, beside that of what everything on everything does."""
    found = await asyncio.to_thread(_policies)
    value, limit = found["quick"].test, found["everything"].test
    more = {name: one.test for name, one in found.items() if name not in ("quick", "everything")}
    more["same_choice"] = found["quick"].same
    ratio = value / limit
    return Figure(value=value, unit="accuracy", limit=limit, ratio=ratio, reach=0.98, better="higher", more=more)


# -- the race itself -------------------------------------------------------------------------------------------------


class Delayed(AsyncEngine):
    """Answers after a time by chance.

    Args:
        engine: that answers.
        most: seconds.
        chance: says after how many.
    """

    def __init__(self, engine: Any, most: float, chance: Random) -> None:
        super().__init__(engine)
        self._most, self._chance = most, chance

    async def complete(self, request: Any) -> Any:
        """Answer, later."""
        await asyncio.sleep(self._most * self._chance.random())
        return await super().complete(request)


def _right(example: Any, prediction: Any) -> float:
    return float(example.topic == prediction.topic)


def _programs(members: Sequence[Member], most: float, seed: int) -> list[Hypothesis]:
    delayed: dict[int, Any] = {}
    found = []
    for member in members:
        program = member.program.program.deepcopy()
        engine = member.program.program.lm._engine_spec
        if id(engine) not in delayed:
            later = Delayed(engine, most, Random(seed))
            delayed[id(engine)] = dspy.LM("known", engine=engine, async_engine=later, cache=False, temperature=0.0)
        program.lm = delayed[id(engine)]
        found.append(Hypothesis(member.name, program))
    return found


def _winners(asked: Asked, rule: RaceRule) -> list[tuple[str, ...]]:
    """Return, for each split, the winners of races of different widths, and of the rule alone."""
    members, found = hypotheses(asked), []
    scores, _ = recorded()
    for seed, split in enumerate(splits()[:WHOLE]):
        examples = [asked.headlines[number] for number in split.raced]
        names = []
        for width, most in WIDTHS:
            asked.show(f"split {seed}, {width} workers")
            student, *others = _programs(members, most, seed + width)
            race = Race(
                others,
                metric=_right,
                rule=rule,
                num_threads=width,
                explorers=width,
                display_progress=False,
                metric_id="right",
            )
            with dspy.context(adapter=CompactAdapter()):
                race.compile(student.program, trainset=examples, seed=seed)
            assert isinstance(race.report, RaceReport)
            names.append(race.report.winner)
        order = stratified(examples, seed)
        alone, _ = raced(rule, [[row[split.raced[at]] for at in order] for row in scores])
        names.append(members[alone].name if alone else "student")
        found.append(tuple(names))
    asked.show("")
    return found


async def same_winner() -> Figure:
    """Whether the race has the same winner for 1, 4 and 16 workers and delays by chance: 1 or 0; over all rules."""

    def figure() -> Figure:
        recorded()
        rules = {name: RULES[name] for name in ("quick", "halving", "asha", "paired")}
        found = asking(lambda asked: {name: _winners(asked, rule) for name, rule in rules.items()})
        same = {name: statistics.fmean(len(set(names)) == 1 for names in each) for name, each in found.items()}
        value = float(min(same.values()) == 1)
        races = float(sum(len(names) - 1 for each in found.values() for names in each))
        more = {**same, "races": races}
        return Figure(value=value, unit="", limit=1.0, ratio=value, reach=1.0, better="higher", more=more)

    return await asyncio.to_thread(figure)


FIGURES = {
    "calls_share": calls_share,
    "regret": regret,
    "test_accuracy": test_accuracy,
    "same_winner": same_winner,
}
