"""Who copies from whom in a population, and what becomes of the settings that were copied: values, without a clock.

>>> from random import Random
>>> rule = PopulationRule()
>>> rule.count(10), rule.count(4), rule.count(1)
(3, 1, 1)
>>> rule.copies({0: 0.9, 1: 0.2, 2: 0.5, 3: 0.4}, Random(0))
{1: 0}
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from random import Random
from typing import Any

import msgspec

from dspex.variables import BadConfiguration, Choice, Integer, Number, Space, Variable
from foundation.options import finite
from supervision.errors import BadOption

#: How often settings are explored until the constraints of their space hold.
_TRIES = 100


class PopulationRule(msgspec.Struct, frozen=True):
    """Who copies, and how what was copied is changed.

    Attributes:
        quantile: which share of the members is replaced, and which is copied from: above 0, at most a half.
        resample: how often a setting is drawn anew; else it is changed a little.
        factors: a number that is changed a little is multiplied by one of these.

    Raises:
        BadOption: a number makes no sense.

    Source: Jaderberg et al., "Population Based Training of Neural Networks" (2017); the defaults are Ray Tune's.
    """

    quantile: float = 0.25
    resample: float = 0.25
    factors: tuple[float, ...] = (1.2, 0.8)

    def __post_init__(self) -> None:
        quantile, resample = finite(self.quantile), finite(self.resample)
        if quantile is None or not 0 < quantile <= 0.5:
            raise BadOption("PopulationRule: quantile", self.quantile, "give a share above 0, and at most 0.5")
        if resample is None or not 0 <= resample <= 1:
            raise BadOption("PopulationRule: resample", self.resample, "give a share from 0 to 1")
        if not self.factors or any((finite(factor) or 0) <= 0 for factor in self.factors):
            raise BadOption("PopulationRule: factors", self.factors, "give at least one number, all above 0")

    def count(self, members: int) -> int:
        """Return how many of so many members are the worst, and how many the best."""
        return ceil(members * Fraction(str(self.quantile)))

    def copies(self, scores: Mapping[int, float], chance: Random) -> dict[int, int]:
        """Return for each member that copies, from which it does: never from itself, nor from one that is no better.

        Args:
            scores: of the members that are there; minus infinity of one that has failed. Of equal ones the earlier is
                the better.
            chance: says which of the best.
        """
        ranked = sorted(scores, key=lambda member: (-scores[member], member))
        count = self.count(len(ranked))
        found = {}
        for worst in reversed(ranked[-count:] if ranked else []):
            better = [best for best in ranked[:count] if scores[best] > scores[worst]]
            if better:
                found[worst] = chance.choice(better)
        return found

    def explored(self, space: Space, settings: Mapping[str, Any], chance: Random) -> dict[str, Any]:
        """Return settings near those that were copied; these themselves, if nothing else meets the constraints.

        >>> from dspex.variables import Choice, Integer
        >>> tone = Choice(name="tone", choices={"dry": 0, "warm": 1, "hot": 2}, default="warm")
        >>> space = Space([Integer(name="size", low=1, high=8, default=8), tone])
        >>> PopulationRule(resample=0).explored(space, {"size": 8, "tone": "warm"}, Random(1))
        {'size': 8, 'tone': 'hot'}
        """
        known = space.complete(settings)
        for _ in range(_TRIES):
            found = {name: self._explored(one, known[name], chance) for name, one in space.variables.items()}
            try:
                return space.chosen(space.complete(found))
            except BadConfiguration:
                continue
        return dict(settings)

    def _explored(self, variable: Variable, value: Any, chance: Random) -> Any:
        if chance.random() < self.resample:
            return variable.draw(chance)
        if isinstance(variable, Number):
            found = value * chance.choice(self.factors)
            if isinstance(variable, Integer):
                return variable.check(int(min(max(round(found), variable.low), variable.high)))
            return variable.check(min(max(found, variable.low), variable.high))
        assert isinstance(variable, Choice)
        names = list(variable.choices)
        place = names.index(value) + chance.choice((-1, 1))
        return names[min(max(place, 0), len(names) - 1)]
