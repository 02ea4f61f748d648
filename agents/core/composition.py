"""Composition: actions made of actions, which a command runs as one: chains, branches, parallels, plans.

>>> from typing import Any
>>> from agents import Action, Context, execute
>>> class Fetch(Action[dict[str, Any]]):
...     page: str
...
...     def run(self, context: Context[Any]) -> dict[str, Any]:
...         return {"text": f"words of {self.page}"}
>>> class Count(Action[dict[str, Any]]):
...     text: str
...
...     def run(self, context: Context[Any]) -> dict[str, Any]:
...         return {"words": len(self.text.split())}
>>> class Language(Action[dict[str, Any]]):
...     text: str
...
...     def run(self, context: Context[Any]) -> dict[str, Any]:
...         return {"language": "en"}
>>> execute(Chain(Fetch, Parallel(Count, Language)), {"page": "home"})
{'words': 3, 'language': 'en'}
>>> plan = Plan().add("fetch", Fetch).add("count", Count, after=["fetch"]).add("language", Language, after=["fetch"])
>>> plan.phases()
(('fetch',), ('count', 'language'))
>>> execute(plan, {"page": "home"})
{'words': 3, 'language': 'en'}
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from agents.core.action import ActionLike, CompositeAction, Context, check_work
from agents.core.execution import Execution, merged_data, name_of, note_step
from agents.errors import BadPlan, ResultConflict
from supervision.options import is_whole


class Chain(CompositeAction):
    """Actions one after the other: each gets the data that were given, and the results of those before it.

    Its result is that of the last part that has one. The first failure ends it, and what was done is undone.

    Args:
        steps: the parts: actions, their classes, compositions, or pairs of one of those and some of its parameters.

    Raises:
        BadPlan: there are no parts, or one is not work.
    """

    __slots__ = ("steps",)

    def __init__(self, *steps: ActionLike) -> None:
        check_work("Chain", *steps)
        self.steps = steps

    @property
    def parts(self) -> tuple[ActionLike, ...]:
        """Its steps."""
        return self.steps

    async def perform(self, run: Execution, data: Any) -> Any:
        """Run the steps, and return the last result."""
        last = None
        for number, step in enumerate(self.steps, 1):
            try:
                result = await run.step(step, data)
            except BaseException as error:
                note_step(error, f"step {number}, {name_of(step)}")
                raise
            data = merged_data(data, result)
            last = last if result is None else result
        return last


class Branch(CompositeAction):
    """One action if a condition holds, and another one, or nothing, if it does not.

    Args:
        when: the condition, given the context and the data so far. If it raises, the branch fails.
        then: what to run if it holds.
        otherwise: what to run if it does not; None for nothing.

    Raises:
        BadPlan: the condition cannot be called, or a part is not work.
    """

    __slots__ = ("otherwise", "then", "when")

    def __init__(
        self, when: Callable[[Context[Any], Any], object], then: ActionLike, otherwise: ActionLike | None = None
    ) -> None:
        if not callable(when):
            raise BadPlan("Branch: when", when, "give a function of the context and the data")
        self.when = when
        self.then = then
        self.otherwise = otherwise
        check_work("Branch", *self.parts)

    @property
    def parts(self) -> tuple[ActionLike, ...]:
        """One, or both."""
        return (self.then,) if self.otherwise is None else (self.then, self.otherwise)

    async def perform(self, run: Execution, data: Any) -> Any:
        """Run one of them."""
        part = self.then if self.when(run.context, data) else self.otherwise
        return None if part is None else await run.step(part, data)


class Parallel(CompositeAction):
    """Actions side by side, each with the same data. The first failure cancels the others, and what was done is undone.

    Its result has the fields of all results; two parts that return the same field are a failure, as none can be the
    last. Without a loop they are run one after the other.

    Args:
        branches: the parts.
        limit: how many are run at the same time; None for all.

    Raises:
        BadPlan: there are no parts, one is not work, or the limit is not a whole number from 1.
    """

    __slots__ = ("branches", "limit")

    def __init__(self, *branches: ActionLike, limit: int | None = None) -> None:
        check_work("Parallel", *branches)
        check_limit("Parallel: limit", limit)
        self.branches = branches
        self.limit = limit

    @property
    def parts(self) -> tuple[ActionLike, ...]:
        """The branches."""
        return self.branches

    async def perform(self, run: Execution, data: Any) -> Any:
        """Run them, and return what all of them return."""
        results = await run.together([(branch, data) for branch in self.branches], self.limit)
        return merged([name_of(branch) for branch in self.branches], results)


class Plan(CompositeAction):
    """Steps with names, which depend on each other. A plan is a value: `add` returns another one.

    Each step gets the data that were given, and the results of the steps that it depends on, and of no others. Steps
    that do not depend on each other run side by side, phase by phase. The result has the fields of the results of all
    steps that no other depends on. The first failure ends it, and what was done is undone in reverse order.

    Args:
        limit: how many steps are run at the same time; None for any number.

    Raises:
        BadPlan: the limit is not a whole number from 1.
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
            BadPlan: the name is taken or not a string, or this is not work.
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
            BadPlan: a step depends on one that is not there, or the steps form a cycle.
        """
        if not self.steps:
            raise BadPlan("Plan", (), "add a step")
        for name, (_, after) in self.steps.items():
            for other in after:
                if other not in self.steps:
                    raise BadPlan(f"Plan: step {name!r} comes after", other, "there is no such step: add it")
        try:
            return waves({name: after for name, (_, after) in self.steps.items()})
        except CycleError as error:
            remedy = "these depend on each other in a cycle: take one dependency away"
            raise BadPlan("Plan", cycle_in(error), remedy) from None

    async def perform(self, run: Execution, data: Any) -> Any:
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
            data = merged_data(data, results[other])
        return data


def waves(needs: Mapping[str, Iterable[str]]) -> tuple[tuple[str, ...], ...]:
    """Return names in waves: each wave needs earlier ones alone. Within a wave they are in the order of the mapping.

    Args:
        needs: for each name those that it needs.

    Raises:
        CycleError: some need each other.
    """
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    found = []
    while sorter.is_active():
        ready = sorter.get_ready()
        found.append(tuple(name for name in needs if name in ready))
        sorter.done(*ready)
    return tuple(found)


def cycle_in(error: CycleError) -> str:
    """Return the names of a cycle, for people."""
    return " → ".join(reversed(error.args[1]))


def check_limit(where: str, limit: int | None) -> None:
    """Check how many may run at the same time.

    Raises:
        BadPlan: the limit is not a whole number from 1.
    """
    if limit is not None and not is_whole(limit, 1):
        raise BadPlan(where, limit, "give a whole number from 1, or None")


def merged(names: Sequence[str], results: Sequence[Any]) -> Any:
    """Return one result with the fields of all; None if there are none.

    Raises:
        ResultConflict: two of them have the same field.
    """
    found: dict[str, tuple[str, Any]] = {}
    for name, result in zip(names, results, strict=True):
        fields = merged_data({}, result)
        twice = sorted(field for field in fields if field in found)
        if twice:
            raise ResultConflict(twice, [found[twice[0]][0], name])
        found.update((field, (name, value)) for field, value in fields.items())
    return {field: value for field, (_, value) in found.items()} or None
