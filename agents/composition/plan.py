"""Plans: graphs of actions that depend on each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from agents.composition.parallel import check_limit, merged
from agents.errors import BadPlan
from agents.execution import Run, flowed
from agents.work import ActionLike, Composite, check_work


class Plan(Composite):
    """Steps with names, which depend on each other. A plan is a value: `add` returns another one.

    Each step gets the data that were given, and the results of the steps that it depends on, and of no others. Steps
    that do not depend on each other run side by side, phase by phase. The result has the fields of the results of all
    steps that no other depends on. The first failure ends it, and what was done is undone in reverse order.

    Args:
        limit: how many steps are run at the same time; None for any number.

    Raises:
        BadPlan: the limit is no whole number from 1.
    """

    __slots__ = ("limit", "steps")

    def __init__(self, *, limit: int | None = None) -> None:
        check_limit("Plan: limit", limit)
        self.limit = limit
        self.steps: Mapping[str, tuple[ActionLike, tuple[str, ...]]] = {}

    @property
    def parts(self) -> tuple[ActionLike, ...]:
        """What its steps do."""
        return tuple(step for step, _ in self.steps.values())

    def add(self, name: str, work: ActionLike, *, after: str | Iterable[str] = ()) -> Plan:
        """Return the plan with a step more.

        Args:
            name: of the step.
            work: what it does.
            after: the steps that it depends on; they may be added later.

        Raises:
            BadPlan: the name is taken or no text, or this is no work.
        """
        if not isinstance(name, str) or not name or name in self.steps:
            raise BadPlan("Plan: step", name, "give each step a name of its own")
        check_work(f"Plan: step {name!r}", work)
        plan = Plan(limit=self.limit)
        plan.steps = {**self.steps, name: (work, (after,) if isinstance(after, str) else tuple(after))}
        return plan

    def phases(self) -> tuple[tuple[str, ...], ...]:
        """Return the names of the steps in the order in which they are run: what is in one phase runs side by side.

        Raises:
            BadPlan: a step depends on one that is not there, or on itself, by whichever way.
        """
        if not self.steps:
            raise BadPlan("Plan", (), "add a step")
        for name, (_, after) in self.steps.items():
            for other in after:
                if other not in self.steps:
                    raise BadPlan(f"Plan: step {name!r} comes after", other, "there is no such step: add it")
        sorter = TopologicalSorter({name: after for name, (_, after) in self.steps.items()})
        try:
            sorter.prepare()
        except CycleError as error:
            way = " → ".join(reversed(error.args[1]))
            raise BadPlan("Plan", way, "these wait for each other: take one dependency away") from None
        phases = []
        while sorter.is_active():
            ready = sorter.get_ready()
            phases.append(tuple(name for name in self.steps if name in ready))
            sorter.done(*ready)
        return tuple(phases)

    async def perform(self, run: Run, data: Any) -> Any:
        """Run the steps, phase by phase."""
        results: dict[str, Any] = {}
        for phase in self.phases():
            parts = [(self.steps[name][0], self._data(name, data, results)) for name in phase]
            results.update(zip(phase, await run.together(parts, self.limit), strict=True))
        needed = {other for _, after in self.steps.values() for other in after}
        last = [name for name in self.steps if name not in needed]
        return merged(last, [results[name] for name in last])

    def _data(self, name: str, data: Any, results: Mapping[str, Any]) -> Any:
        for other in self.steps[name][1]:
            data = flowed(data, results[other])
        return data
