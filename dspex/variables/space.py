"""Spaces: variables that are chosen together, with constraints on all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from random import Random
from typing import Any, TypeAlias

from dspex.variables.variable import (
    BadConfiguration,
    BadVariable,
    CompositeVariable,
    Configuration,
    Variable,
    VariableError,
)

#: What has to hold of a whole configuration; its name says what.
Constraint: TypeAlias = Callable[[Configuration], bool]

#: How often `Space.draw` tries to meet the constraints.
_TRIES = 1000


class Space:
    """Variables, what follows from them, and what has to hold of all together.

    >>> from dspex.variables import Choice, Float
    >>> space = Space(
    ...     [
    ...         Choice(name="model", choices={"small": "s", "large": "l"}, default="small"),
    ...         Float(name="heat", low=0.0, high=2.0, default=0.0, when=lambda found: found["model"] == "large"),
    ...     ],
    ...     constraints={"not too hot": lambda found: found["heat"] < 1.5},
    ... )
    >>> space.complete({"model": "large", "heat": 1.0})
    {'model': 'large', 'heat': 1.0}
    >>> space.complete({"heat": 1.0})
    {'model': 'small', 'heat': 0.0}

    Args:
        variables: in the order in which they are chosen: a condition sees those before it.
        composites: what follows from them.
        constraints: what has to hold, each by a name that says it.

    Raises:
        BadVariable: two have one name, a composite follows from what is not there or from itself, or a variable has no
            default.
    """

    def __init__(
        self,
        variables: Iterable[Variable],
        composites: Iterable[CompositeVariable] = (),
        constraints: Mapping[str, Constraint] | None = None,
    ) -> None:
        self.variables: dict[str, Variable] = {}
        for variable in variables:
            if variable.name in self.variables:
                raise BadVariable(variable.name, "there are two of that name")
            if variable.default is None:
                raise BadVariable(variable.name, "give a default")
            self.variables[variable.name] = variable
        found = {composite.name: composite for composite in composites}
        self.composites = [found[name] for name in self._ordered(found) if name in found]
        self.constraints = dict(constraints or {})

    def _ordered(self, composites: Mapping[str, CompositeVariable]) -> list[str]:
        for composite in composites.values():
            if composite.name in self.variables:
                raise BadVariable(composite.name, "there are two of that name")
            for name in composite.of:
                if name not in self.variables and name not in composites:
                    raise BadVariable(composite.name, f"follows from {name!r}, which is not there")
        try:
            return list(TopologicalSorter({name: found.of for name, found in composites.items()}).static_order())
        except CycleError as error:
            raise BadVariable(error.args[1][0], f"follows from itself: {' → '.join(error.args[1])}") from None

    def complete(self, values: Configuration) -> dict[str, Any]:
        """Return a whole configuration: defaults for what is not given, and what follows from the others.

        Args:
            values: by the names of variables. Where a condition does not hold, the default takes the value's place.

        Raises:
            BadConfiguration: a value is not taken, a name is unknown, or a constraint does not hold.
        """
        problems = [f"variable {name!r}: there is none" for name in values if name not in self.variables]
        found: dict[str, Any] = {}
        for name, variable in self.variables.items():
            chosen = name in values and (variable.when is None or variable.when(found))
            try:
                found[name] = variable.check(values[name]) if chosen else variable.default
            except VariableError as error:
                problems.append(str(error))
                found[name] = variable.default
        if not problems:
            for composite in self.composites:
                found[composite.name] = composite.compute(*(found[name] for name in composite.of))
            problems = [f"{name} does not hold" for name, holds in self.constraints.items() if not holds(found)]
        if problems:
            raise BadConfiguration(problems)
        return found

    @property
    def defaults(self) -> dict[str, Any]:
        """The configuration with all defaults."""
        return self.complete({})

    def draw(self, chance: Random) -> dict[str, Any]:
        """Return any configuration that meets the constraints.

        Raises:
            BadConfiguration: none was found.
        """
        left = _TRIES
        while True:
            left -= 1
            try:
                return self.complete({name: variable.draw(chance) for name, variable in self.variables.items()})
            except BadConfiguration:
                if not left:
                    raise

    def suggest(self, trial: Any) -> dict[str, Any]:
        """Return the values that a trial of Optuna suggests, asked only for those whose conditions hold."""
        found: dict[str, Any] = {}
        for name, variable in self.variables.items():
            asked = variable.when is None or variable.when(found)
            found[name] = variable.suggest(trial) if asked else variable.default
        return found

    def chosen(self, configuration: Configuration) -> dict[str, Any]:
        """Return the values of a configuration that can be chosen: not composite ones, nor those at their default."""
        return {
            name: configuration[name]
            for name, variable in self.variables.items()
            if variable.when is None or variable.when(configuration)
        }
