"""What a rollout counts: for each step, and each objective, how many units each version had, and how many were bad.

A unit is a key: however often it asks, it counts once in a step, and is bad if one of its calls was. Calls without a
key are units of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Literal, TypeAlias

import msgspec

#: The split of the units is looked at after so many.
LOOK = 50
#: Streaks are not counted beyond this.
LONGEST_STREAK = 10


class Mark(IntEnum):
    """What a call says to an objective: nothing, that it was good, or that it was bad.

    To one that scores answers it may also say that its answer has no score, or that it has no answer.
    """

    NONE = 0
    GOOD = 1
    BAD = 2
    UNSCORED = 3
    UNANSWERED = 4


Arm: TypeAlias = Literal["canary", "baseline"]
ARMS: tuple[Arm, Arm] = ("canary", "baseline")


class ArmCounts(msgspec.Struct):
    """A number for each of the two versions."""

    canary: int = 0
    baseline: int = 0

    def add(self, arm: Arm, number: int = 1) -> None:
        """Count."""
        setattr(self, arm, getattr(self, arm) + number)

    @property
    def total(self) -> int:
        """The sum of both."""
        return self.canary + self.baseline


class SloCounts(msgspec.Struct):
    """What an objective has seen.

    Attributes:
        units: how many units have said something to it.
        bad: how many of them were bad. In the shadow: of the pairs, those in which only this version was.
        both: in the shadow: the pairs in which both were bad.
        unscored: how many units had an answer that the metric could not score.
        unanswered: how many units had a call without an answer that was to be scored.
        why: why the metric could not, the first time.
    """

    units: ArmCounts
    bad: ArmCounts
    both: int = 0
    unscored: ArmCounts = msgspec.field(default_factory=ArmCounts)
    unanswered: ArmCounts = msgspec.field(default_factory=ArmCounts)
    why: str = ""

    def note_missing(self, arm: Arm, mark: Mark) -> None:
        """Count an answer that has no score, or a call that has no answer; nothing else."""
        if mark == Mark.UNSCORED:
            self.unscored.add(arm)
        elif mark == Mark.UNANSWERED:
            self.unanswered.add(arm)


#: What counts for or against a version.
_SAID = (Mark.GOOD, Mark.BAD)


class StepCounts(msgspec.Struct):
    """What was counted in a step, or in the shadow, or after a promotion.

    Attributes:
        phase: which of them: ``canary``, ``shadow`` or ``promoted``.
        step: the number of the step.
        share: of the units, or calls, that met the new version.
        units: how many units each version had; in the shadow, pairs.
        slos: for each objective, in their order.
        calls: how many calls each version had, in whatever way they ended.
        keyless: how many calls named no key.
        streak: how many calls in a row each version had before now that were answered; below 0, that its
            infrastructure had failed.
        skipped: how many calls the shadow has left out.
        asked: how often the shadow was asked.
        spent: dollars that it has cost.
        dearest: what the dearest of its calls has cost.
        exhausted: whether it may not be asked any more.
    """

    phase: Literal["canary", "shadow", "promoted"]
    step: int
    share: float
    units: ArmCounts
    slos: list[SloCounts]
    calls: ArmCounts
    keyless: int
    streak: ArmCounts
    skipped: int = 0
    asked: int = 0
    spent: float = 0.0
    dearest: float = 0.0
    exhausted: bool = False

    @classmethod
    def empty(cls, phase: Literal["canary", "shadow", "promoted"], step: int, share: float, slos: int) -> StepCounts:
        """Return counts of nothing."""
        each = [SloCounts(ArmCounts(), ArmCounts()) for _ in range(slos)]
        return cls(phase, step, share, ArmCounts(), each, ArmCounts(), 0, ArmCounts())

    def note_outcome(self, arm: Arm, *, answered: bool) -> None:
        """Note whether what a version needs was there."""
        before = getattr(self.streak, arm)
        now = max(before, 0) + 1 if answered else min(before, 0) - 1
        setattr(self.streak, arm, max(-LONGEST_STREAK, min(LONGEST_STREAK, now)))

    def note_cost(self, dollars: float) -> None:
        """Note what a call of the shadow has cost."""
        self.spent += dollars
        self.dearest = max(self.dearest, dollars)

    def note_pair(self, canary: Sequence[Mark], baseline: Sequence[Mark]) -> None:
        """Count a call that both versions were asked. An objective needs a word of both."""
        self.units.add("canary")
        self.units.add("baseline")
        for slo, new, old in zip(self.slos, canary, baseline, strict=True):
            slo.note_missing("canary", new)
            slo.note_missing("baseline", old)
            if new in _SAID and old in _SAID:
                slo.units.add("canary")
                slo.units.add("baseline")
                slo.both += new == old == Mark.BAD
                if new != old:
                    slo.bad.add("canary" if new == Mark.BAD else "baseline")


class UnitTally:
    """Counts units into a step, each once.

    Args:
        counts: of the step; they may go on from what was counted before a restart, which remembers no units.
    """

    def __init__(self, counts: StepCounts) -> None:
        self.counts = counts
        #: By unit, a bit for each of the marks of each objective that it has been given; GOOD stands for BAD, too.
        self._seen: dict[int, int] = {}

    def note(self, arm: Arm, unit: int | None, marks: Iterable[Mark], *, new: bool = True) -> bool:
        """Count what a call says.

        Args:
            arm: of the version that ran.
            unit: who asked; None if nobody said.
            marks: what it says to each objective.
            new: whether the call itself was not counted before.

        Returns:
            Whether a decision may have become due.
        """
        counts = self.counts
        known = None if unit is None else self._seen.get(unit)
        another = new and known is None
        if another:
            counts.units.add(arm)
        # The units of the old version move nothing, but that the split is looked at now and then.
        changed = another and (arm == "canary" or counts.units.total % LOOK == 0)
        bits = known or 0
        for index, mark in enumerate(marks):
            slo = counts.slos[index]
            if mark in _SAID and not bits & _bit(index, Mark.GOOD):
                bits |= _bit(index, Mark.GOOD)
                slo.units.add(arm)
            if mark > Mark.GOOD and not bits & _bit(index, mark):
                bits |= _bit(index, mark)
                slo.bad.add(arm, mark == Mark.BAD)
                slo.note_missing(arm, mark)
                changed = True
        if unit is not None:
            self._seen[unit] = bits
        return changed


def _bit(index: int, mark: Mark) -> int:
    return 1 << len(Mark) * index + mark
