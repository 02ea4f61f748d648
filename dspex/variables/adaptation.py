"""How a variable learns from what its values are worth: bandits for choices, momentum for numbers."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import defaultdict
from random import Random
from typing import Any, Protocol

from dspex.variables.variable import BadVariable, Choice, Integer, Number, Variable


class Adaptation(Protocol):
    """Learns from feedback, and says what to try next."""

    def note(self, value: Any, performance: float) -> None:
        """Note what a value was worth."""
        ...

    def propose(self, current: Any, chance: Random) -> Any:
        """Return the value to try next; the current one, if there is nothing better."""
        ...


class _Bandit:
    """What all bandits know: how often each choice was tried, and what it was worth on average."""

    def __init__(self, variable: Variable) -> None:
        if not isinstance(variable, Choice):
            raise BadVariable(variable.name, "a bandit needs a Choice; numbers learn by Momentum")
        self.names = list(variable.choices)
        self.tries: dict[str, int] = defaultdict(int)
        self.means: dict[str, float] = defaultdict(float)

    def note(self, value: Any, performance: float) -> None:
        """Note what a value was worth."""
        self.tries[value] += 1
        self.means[value] += (performance - self.means[value]) / self.tries[value]

    @abstractmethod
    def scores(self, chance: Random) -> dict[str, float]:
        """Return how good a choice each is: the highest is taken. Infinity for one that was never tried."""

    def propose(self, current: Any, chance: Random) -> Any:
        """Return the value to try next."""
        found = self.scores(chance)
        return max(self.names, key=found.__getitem__)


class EpsilonGreedy(_Bandit):
    """Takes the best choice, and now and then any other (Sutton & Barto, "Reinforcement Learning", 2.2).

    Args:
        variable: a `Choice`.
        epsilon: how often any other, as a share.
    """

    def __init__(self, variable: Variable, epsilon: float = 0.1) -> None:
        super().__init__(variable)
        self.epsilon = epsilon

    def scores(self, chance: Random) -> dict[str, float]:
        """Return the means; now and then, any one before all others."""
        found = {name: self.means[name] if self.tries[name] else math.inf for name in self.names}
        if all(self.tries[name] for name in self.names) and chance.random() < self.epsilon:
            found[chance.choice(self.names)] = math.inf
        return found


class UpperConfidenceBound(_Bandit):
    """Takes the choice that could be the best (UCB1; Auer, Cesa-Bianchi & Fischer, 2002).

    Args:
        variable: a `Choice`.
        width: how much uncertainty counts.
    """

    def __init__(self, variable: Variable, width: float = math.sqrt(2)) -> None:
        super().__init__(variable)
        self.width = width

    def scores(self, chance: Random) -> dict[str, float]:
        """Return the upper bounds of what each may be worth."""
        total = math.log(max(1, sum(self.tries.values())))

        def bound(name: str) -> float:
            tries = self.tries[name]
            return self.means[name] + self.width * math.sqrt(total / tries) if tries else math.inf

        return {name: bound(name) for name in self.names}


class ThompsonSampling(_Bandit):
    """Takes each choice as often as it is likely to be the best (Thompson, 1933): performances from 0 to 1.

    Args:
        variable: a `Choice`.
    """

    def scores(self, chance: Random) -> dict[str, float]:
        """Return what each may be worth, drawn from what is known of it."""

        def drawn(name: str) -> float:
            won = self.means[name] * self.tries[name]
            return chance.betavariate(1 + max(0.0, won), 1 + max(0.0, self.tries[name] - won))

        return {name: drawn(name) for name in self.names}


class Momentum:
    """Goes where performance rises, faster the longer it does (heavy ball; Polyak, 1964), and turns round at a fall.

    Args:
        variable: a number.
        step: the first step, as a share of the range.
        decay: what is left of the speed after a step.
    """

    def __init__(self, variable: Variable, step: float = 0.1, decay: float = 0.9) -> None:
        if not isinstance(variable, Number):
            raise BadVariable(variable.name, "momentum needs a number; choices learn by bandits")
        self._variable = variable
        self._step = step * (variable.high - variable.low)
        self._decay = decay
        self._speed = self._step
        self._last: float | None = None

    def note(self, value: Any, performance: float) -> None:
        """Note what a value was worth."""
        if self._last is not None and performance < self._last:
            self._speed = -self._speed / 2
        elif self._last is not None:
            self._speed = self._decay * self._speed + math.copysign(self._step, self._speed) * (1 - self._decay)
        self._last = performance

    def propose(self, current: Any, chance: Random) -> Any:
        """Return the value to try next: at the edge of the range, it turns round."""
        found = current + self._speed
        if not self._variable.low <= found <= self._variable.high:
            self._speed = -self._speed
            found = min(max(found, self._variable.low), self._variable.high)
        return self._variable.check(round(found) if isinstance(self._variable, Integer) else found)
