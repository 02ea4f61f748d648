"""Marks: what works well is marked, marks fade, and what is marked most is taken most often (stigmergy).

>>> marks = Marks(fading=0.1)
>>> for added in (0.0, 0.5, 0.0):
...     marks.tick({"a": added})
>>> round(marks["a"], 3)
1.179
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from random import Random
from typing import Any

from foundation.options import above_zero, finite, from_zero, whole
from supervision.errors import BadOption


class Marks:
    """A mark for each option, which fades with each tick: t becomes (1 - fading) t + what is added.

    It is a route of a `dspex.teams.TeamRouter` as well: a member is chosen by chance, more often the more its answers
    were worth of late. Each reward is a tick. It knows no groups.

    Args:
        fading: which share of a mark is lost at a tick.
        power: how strongly marks decide: choices are in proportion to mark ** power. With 0 all are equal.
        first: the mark of an option of which nothing is known.

    Raises:
        BadOption: a number makes no sense.

    Source: Dorigo, Maniezzo and Colorni, "Ant System" (1996).
    """

    def __init__(self, fading: float = 0.1, *, power: float = 1.0, first: float = 1.0) -> None:
        if from_zero("Marks: fading", fading) > 1:
            raise BadOption("Marks: fading", fading, "give a share from 0 to 1")
        self.fading = fading
        self.power = from_zero("Marks: power", power)
        self.first = above_zero("Marks: first", first)
        self._marks: dict[str, float] = {}

    def __getitem__(self, option: str) -> float:
        return self._marks.get(option, self.first)

    def tick(self, added: Mapping[str, float]) -> None:
        """Let all marks fade, and add to some.

        Args:
            added: how much, from 0.

        Raises:
            BadOption: it is no number from 0; nothing has changed then.
        """
        more = {option: from_zero(f"mark of {option}", amount) for option, amount in added.items()}
        for option in {**self._marks, **more}:
            self._marks[option] = (1 - self.fading) * self[option] + more.get(option, 0.0)

    def scores(self, inputs: Mapping[str, Any], members: Sequence[str], chance: Random) -> Mapping[str, float]:
        """Return a draw for each member: the highest is each as often as its mark says."""
        return {member: self._drawn(self[member], chance.random()) for member in members}

    def _drawn(self, mark: float, luck: float) -> float:
        """Return the logarithm of an exponential race: the first is each in proportion to its rate, mark ** power."""
        if mark <= 0 and self.power:
            return -1e300
        return self.power * (math.log(mark) if self.power else 0.0) - math.log(-math.log(luck or 5e-324))

    def group(self, inputs: Mapping[str, Any]) -> Hashable:
        """Return None: there are no groups."""
        return None

    def asked(self, group: Hashable, member: str) -> None:
        """Do nothing: it is rewards that fade, and who is lost has none."""

    def note(self, group: Hashable, member: str, reward: float) -> None:
        """Add a reward to the mark of a member, at one tick; one below 0 only lets marks fade."""
        self.tick({member: max(0.0, reward)})


class QuorumSensor:
    """Says when enough of something has come together: once each time, until it has become half as much.

    >>> sensor = QuorumSensor(threshold=3, window=4)
    >>> [sensor.tick(amount) for amount in (1, 1, 1, 1, 0, 0, 0, 2, 2)]
    [False, False, True, False, False, False, False, False, True]

    Args:
        threshold: how much is enough.
        window: over how many ticks it is summed up.
        hysteresis: at which share of the threshold it is ready again.

    Raises:
        BadOption: a number makes no sense.
    """

    def __init__(self, threshold: float, window: int, *, hysteresis: float = 0.5) -> None:
        self.threshold = above_zero("QuorumSensor: threshold", threshold)
        if from_zero("QuorumSensor: hysteresis", hysteresis) > 1:
            raise BadOption("QuorumSensor: hysteresis", hysteresis, "give a share from 0 to 1")
        self.hysteresis = hysteresis
        self._amounts: deque[float] = deque(maxlen=whole("QuorumSensor: window", window))
        self._ready = True

    @property
    def amount(self) -> float:
        """How much there is."""
        return math.fsum(self._amounts)

    def tick(self, amount: float) -> bool:
        """Add an amount, and return whether now is the time to act.

        Raises:
            BadOption: it is no finite number.
        """
        found = finite(amount)
        if found is None:
            raise BadOption("QuorumSensor: amount", amount, "give a finite number")
        self._amounts.append(found)
        now = self.amount
        if self._ready and now >= self.threshold:
            self._ready = False
            return True
        self._ready = self._ready or now <= self.hysteresis * self.threshold
        return False
