"""Variables: what of a program can be chosen, and among what."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, TypeAlias

import msgspec

Configuration: TypeAlias = Mapping[str, Any]


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """What all variables have.

    Attributes:
        name: tells it from the others of its space.
        default: its value where nobody has chosen.
        when: a condition on the values of the variables before it; where it does not hold, this one has its default.
    """

    name: str
    default: Any = None
    when: Callable[[Configuration], bool] | None = None

    def check(self, value: Any) -> Any:
        """Return a value as the variable takes it.

        Raises:
            BadVariableValue: it does not.
        """
        raise NotImplementedError

    def draw(self, chance: Random) -> Any:
        """Return any value, each as likely as the others."""
        raise NotImplementedError

    def suggest(self, trial: Any) -> Any:
        """Return the value that a trial of Optuna suggests."""
        raise NotImplementedError


class Number(Variable, frozen=True, kw_only=True):
    """A number in a range.

    Attributes:
        low: the least.
        high: the greatest.
        step: the distance between two values; None for any.
        log: whether small values are told apart as finely as great ones.

    Raises:
        BadVariable: there is no such range, or the default lies outside.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        """Check the range."""
        if not self.low < self.high:
            raise BadVariable(self.name, f"low = {self.low!r} has to be below high = {self.high!r}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise BadVariable(self.name, "log needs a low above 0, and no step")
        if self.step is not None and self.step <= 0:
            raise BadVariable(self.name, f"step = {self.step!r} has to be above 0")
        if self.step is not None and not math.isclose((steps := (self.high - self.low) / self.step), round(steps)):
            raise BadVariable(self.name, f"step = {self.step!r} does not lead from {self.low!r} to {self.high!r}")
        if self.default is not None:
            self.check(self.default)

    def check(self, value: Any) -> Any:
        """Return a value as the variable takes it: on a step."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise BadVariableValue(self.name, value, "give a finite number")
        if not self.low <= value <= self.high:
            raise BadVariableValue(self.name, value, f"give a number from {self.low:g} to {self.high:g}")
        return self._on_step(value)

    def _on_step(self, value: float) -> Any:
        if self.step is None:
            return value
        return min(self.high, self.low + round((value - self.low) / self.step) * self.step)

    def draw(self, chance: Random) -> Any:
        """Return any value."""
        if self.log:
            return math.exp(chance.uniform(math.log(self.low), math.log(self.high)))
        return self._on_step(chance.uniform(self.low, self.high))


class Float(Number, frozen=True, kw_only=True):
    """A real number in a range.

    >>> Float(name="temperature", low=0.0, high=2.0, step=0.5).check(0.7)
    0.5
    """

    def suggest(self, trial: Any) -> Any:
        """Return the value that a trial of Optuna suggests."""
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)


class Integer(Number, frozen=True, kw_only=True):
    """A whole number in a range.

    >>> Integer(name="demos", low=0, high=8).check(3)
    3
    """

    def check(self, value: Any) -> int:
        """Return a value as the variable takes it."""
        found = super().check(value)
        if not isinstance(value, int):
            raise BadVariableValue(self.name, value, "give a whole number")
        return int(found)

    def draw(self, chance: Random) -> int:
        """Return any value."""
        if self.log:
            return round(math.exp(chance.uniform(math.log(self.low), math.log(self.high))))
        step = int(self.step or 1)
        return int(self.low) + step * chance.randint(0, int(self.high - self.low) // step)

    def suggest(self, trial: Any) -> int:
        """Return the value that a trial of Optuna suggests."""
        step = int(self.step or 1)
        return int(trial.suggest_int(self.name, int(self.low), int(self.high), step=step, log=self.log))


class Choice(Variable, frozen=True, kw_only=True):
    """One of several values, each by a name: an instruction, an adapter, a set of demonstrations.

    >>> Choice(name="tone", choices={"short": "Be brief.", "long": "Explain."}, default="short").value("long")
    'Explain.'

    Attributes:
        choices: the values by their names.

    Raises:
        BadVariable: there are none.
        BadVariableValue: the default is not among them.
    """

    choices: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Check the choices."""
        if not self.choices:
            raise BadVariable(self.name, "give at least one choice")
        if self.default is not None:
            self.check(self.default)

    def check(self, value: Any) -> str:
        """Return a name that is among the choices."""
        if value not in self.choices:
            raise BadVariableValue(self.name, value, f"choose one of {', '.join(map(repr, self.choices))}")
        return str(value)

    def draw(self, chance: Random) -> str:
        """Return any name."""
        return chance.choice(list(self.choices))

    def suggest(self, trial: Any) -> str:
        """Return the name that a trial of Optuna suggests."""
        return str(trial.suggest_categorical(self.name, list(self.choices)))

    def value(self, name: str) -> Any:
        """Return what a name stands for."""
        return self.choices[name]


class ModuleChoice(Choice, frozen=True, kw_only=True):
    """One of several kinds of modules, each by its name: ``Predict``, ``ChainOfThought``, one of your own."""


class CompositeVariable(msgspec.Struct, frozen=True, kw_only=True):
    """A value that follows from those of other variables; nobody chooses it.

    >>> total = CompositeVariable(name="total", of=("a", "b"), compute=lambda a, b: a + b)
    >>> total.compute(1, 2)
    3

    Attributes:
        name: tells it from the others.
        of: the variables that it follows from; they may be composite as well.
        compute: returns it from their values, in that order.
    """

    name: str
    of: tuple[str, ...]
    compute: Callable[..., Any]


class VariableError(ValueError):
    """A variable, a value or a space cannot be as it was given. ``variable`` is the name of which."""

    def __init__(self, variable: str, why: str) -> None:
        self.variable = variable
        super().__init__(f"variable {variable!r}: {why}")


class BadVariable(VariableError):
    """There can be no such variable."""


class BadVariableValue(VariableError):
    """A variable does not take a value."""

    def __init__(self, variable: str, value: object, remedy: str) -> None:
        self.value = value
        super().__init__(variable, f"{value!r}: {remedy}")


class BadConfiguration(ValueError):
    """The values do not fit each other, or the space. ``problems`` has them all."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))
