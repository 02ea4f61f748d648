"""How a variable learns from what its values are worth: bandits for choices, momentum for numbers."""

from __future__ import annotations

import math
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

    def _untried(self) -> list[str]:
        return [name for name in self.names if not self.tries[name]]

    def _best(self) -> str:
        return max(self.names, key=lambda name: self.means[name])


class EpsilonGreedy(_Bandit):
    """Takes the best choice, and now and then any other (Sutton & Barto, "Reinforcement Learning", 2.2).

    Args:
        variable: a `Choice`.
        epsilon: how often any other, as a share.
    """

    def __init__(self, variable: Variable, epsilon: float = 0.1) -> None:
        super().__init__(variable)
        self.epsilon = epsilon

    def propose(self, current: Any, chance: Random) -> Any:
        """Return the value to try next."""
        untried = self._untried()
        if untried:
            return untried[0]
        return chance.choice(self.names) if chance.random() < self.epsilon else self._best()


class UpperConfidenceBound(_Bandit):
    """Takes the choice that could be the best (UCB1; Auer, Cesa-Bianchi & Fischer, 2002).

    Args:
        variable: a `Choice`.
        width: how much uncertainty counts.
    """

    def __init__(self, variable: Variable, width: float = math.sqrt(2)) -> None:
        super().__init__(variable)
        self.width = width

    def propose(self, current: Any, chance: Random) -> Any:
        """Return the value to try next."""
        untried = self._untried()
        if untried:
            return untried[0]
        total = math.log(sum(self.tries.values()))
        return max(self.names, key=lambda name: self.means[name] + self.width * math.sqrt(total / self.tries[name]))


class ThompsonSampling(_Bandit):
    """Takes each choice as often as it is likely to be the best (Thompson, 1933): performances from 0 to 1.

    Args:
        variable: a `Choice`.
    """

    def propose(self, current: Any, chance: Random) -> Any:
        """Return the value to try next."""

        def drawn(name: str) -> float:
            won = self.means[name] * self.tries[name]
            return chance.betavariate(1 + max(0.0, won), 1 + max(0.0, self.tries[name] - won))

        return max(self.names, key=drawn)


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
