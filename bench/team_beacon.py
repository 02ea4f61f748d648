"""Figures ``beacon_over_random`` and ``beacon_over_chance``: what BEACON makes of twelve ways of asking one model.

For each seed the headlines are divided anew into a half to learn from and a half to test on. BEACON has all twelve
asked about the one half, once, and chooses who is in the team, and the rule, which is fitted to these answers. Random
search has as many calls, for which it scores all twelve by themselves, and takes the best. ``beacon_over_chance`` is
BEACON beside itself with teams drawn at random: of the same ones, with as many trials, and at the same calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import statistics
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import dspy
import optuna
from msgspec.structs import replace

from bench.figure import Figure
from bench.team_members import Asked, asking
from dspex.models.local.adapter import CompactAdapter
from dspex.search import TeamVariables
from dspex.teams import FirstAnswer, RecordedVotes, Stacking, Team
from dspex.teleprompt.beacon import BEACON

#: How many splits, how many trials of BEACON in each, and how many members a team has at most.
SEEDS, TRIALS, SIZE = 12, 40, 5
Halves = Callable[[int, int], tuple[list[int], list[int]]]


class Found(NamedTuple):
    """What one search has found: accuracies of its team, and what it has cost."""

    test: float
    learned: float
    calls: int
    size: int
    rule: str


class Beside(NamedTuple):
    """Test accuracies of the best single member, and of all of them, stacked."""

    single: float
    stacked: float


def _right(example: Any, prediction: Any) -> float:
    return float(example.topic == prediction.topic)


def _at_random(seed: int) -> Any:
    return optuna.samplers.RandomSampler(seed=seed)


class _Bench:
    """The searches over all splits."""

    def __init__(self, asked: Asked, halves: Halves) -> None:
        self._asked = asked
        self._records = asked.record(asked.members(), asked.headlines)
        self._halves = [halves(seed, len(self._records.truth)) for seed in range(SEEDS)]

    def beside(self) -> list[Beside]:
        """Return what BEACON is compared with."""
        return [self._beside(*map(self._records.examples, halves)) for halves in self._halves]

    @staticmethod
    def _beside(learn: RecordedVotes, test: RecordedVotes) -> Beside:
        single = test.only([learn.best_member]).accuracy(FirstAnswer())
        return Beside(single, test.accuracy(Stacking.fitted(learn)))

    def searched(self, **options: Any) -> list[Found]:
        """Return what BEACON finds."""
        found = []
        for seed in range(SEEDS):
            self._asked.show(f"[{seed + 1}/{SEEDS}] BEACON, seed {seed}")
            found.append(self._search(seed, **options))
        self._asked.show("")
        return found

    def _search(self, seed: int, **options: Any) -> Found:
        learn, test = self._halves[seed]
        made = BEACON(
            metric=_right,
            num_trials=TRIALS,
            instructions={},
            max_bootstrapped_demos=0,
            max_labeled_demos=0,
            team=TeamVariables(SIZE),
            parallel=1,
            prune=None,
            num_threads=2,
            display_progress=False,
            **options,
        )
        student = Team("twelve", tuple(self._asked.members()), field="topic").program()
        with dspy.context(adapter=CompactAdapter()), contextlib.redirect_stderr(io.StringIO()):
            found = made.compile(student, trainset=[self._asked.headlines[number] for number in learn], seed=seed)
        report: Any = made.report
        accuracy = self._records.examples(test).only(found.members).accuracy(found.team.rule)
        return Found(accuracy, report.best, report.calls, len(found.members), found.configuration["rule"])


@cache
def _modelled(halves: Halves) -> tuple[list[Found], list[Beside]]:
    def both(asked: Asked) -> tuple[list[Found], list[Beside]]:
        bench = _Bench(asked, halves)
        return bench.searched(), bench.beside()

    return asking(both)


def _figure(found: Sequence[float], other: Sequence[float], reach: float, **more: float) -> Figure:
    """Return a mean gain beside how much it varies from seed to seed."""
    gains = [one - two for one, two in zip(found, other, strict=True)]
    mean, spread = statistics.fmean(gains), statistics.stdev(gains)
    more = {"least": min(gains), "most": max(gains), "seeds": len(gains), **more}
    ratio = mean / max(spread, 1e-9)
    return Figure(value=mean, unit="accuracy", limit=spread, ratio=ratio, reach=reach, better="higher", more=more)


def over_random(halves: Halves) -> Callable[[], Any]:
    """Return the figure: BEACON beside random search, at equal calls."""

    def figure() -> Figure:
        found, beside = _modelled(halves)
        more = {
            "beacon": statistics.fmean(one.test for one in found),
            "random": statistics.fmean(one.single for one in beside),
            "all_stacked": statistics.fmean(one.stacked for one in beside),
            "learned": statistics.fmean(one.learned for one in found),
            "size": statistics.fmean(one.size for one in found),
            "stacking": statistics.fmean(one.rule == "stacking" for one in found),
            "calls": statistics.fmean(one.calls for one in found),
        }
        gain = _figure([one.test for one in found], [one.single for one in beside], 1.0, **more)
        return replace(gain, promise=True)

    return lambda: asyncio.to_thread(figure)


def over_chance(halves: Halves) -> Callable[[], Any]:
    """Return the figure: BEACON beside as many teams drawn at random."""

    def figure() -> Figure:
        found, _ = _modelled(halves)
        drawn = asking(lambda asked: _Bench(asked, halves).searched(sampler=_at_random))
        size = statistics.fmean(one.size for one in drawn)
        return _figure([one.test for one in found], [one.test for one in drawn], 0.0, drawn_size=size)

    return lambda: asyncio.to_thread(figure)
