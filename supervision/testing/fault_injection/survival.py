"""Survival: does a service live through faults? With many seeds, and the smallest plan that kills it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from supervision.clock import seconds as seconds_of
from supervision.errors import BadOption, SupervisionError
from supervision.options import is_whole
from supervision.runtime import Runtime
from supervision.testing.checks import raise_first
from supervision.testing.fault_injection.chaos import Chaos
from supervision.testing.fault_injection.faults import AnyFault, Kill
from supervision.testing.fault_injection.plan import BadChaosPlan, ChaosPlan, Mode
from supervision.testing.fault_injection.report import Report
from supervision.testing.fault_injection.shrink import kind_of, shrink
from supervision.testing.fault_injection.victims import Victims
from supervision.testing.schedule import SeededQueue
from supervision.testing.virtual_time.virtual_loop import VirtualClockLoop, no_loop_here, run

#: Starts what is to be tested.
Start = Callable[[Runtime], Awaitable[object]]
#: Draws a plan for a tree that has been started, from a seed.
Draw = Callable[[Runtime, int], ChaosPlan]
#: Uses it while faults happen, and raises if it does not do what it should.
Use = Callable[[Runtime, Chaos], Awaitable[object]]

#: Virtual seconds in which the tasks of actors have to end after the runtime is closed.
GRACE = 60.0
#: How many events a failure shows.
TAIL = 20


class FailedPlan(msgspec.Struct, frozen=True):
    """How a plan failed: with which error, and the last events."""

    plan: ChaosPlan
    error: Any
    tail: Sequence[str]


class NeverEnds(SupervisionError, TimeoutError):
    """The use of a service did not return within ``seconds`` after the last fault; ``waits`` says who waits."""

    def __init__(self, seconds: float, waits: Sequence[str]) -> None:
        self.seconds = seconds
        self.waits = tuple(waits)
        super().__init__(
            f"use() has not returned {seconds:g} virtual seconds after the last fault (limit=...); " + "; ".join(waits)
        )


class NotSurvived(AssertionError):
    """A service did not live through a plan.

    Attributes:
        seed: the seed.
        plan: the smallest plan found that fails in the same way as the first one did.
        cause: what went wrong with that.
    """

    def __init__(self, seed: int, plan: ChaosPlan, cause: BaseException, tail: Sequence[str]) -> None:
        self.seed = seed
        self.plan = plan
        self.cause = cause
        lines = "\n  ".join(tail)
        super().__init__(
            f"seed {seed}: {type(cause).__name__}: {cause}\n"
            f"again with: survives(start, use, plan=ChaosPlan.of({str(plan)!r}), seeds=[{seed}])\n"
            f"the last events:\n  {lines}"
        )


def survives(
    start: Start,
    use: Use,
    *,
    seeds: Iterable[int] = range(20),
    faults: Sequence[AnyFault] = (Kill(),),
    steps: int = 20,
    seconds: float = 30.0,
    victims: Victims | None = None,
    mode: Mode = "within_budget",
    plan: ChaosPlan | None = None,
    limit: float | None = 3600.0,
    tries: int = 500,
) -> list[Report]:
    """Test a service under faults: once for each seed, in a fresh runtime, on virtual time, in a seeded schedule.

    Args:
        start: starts the service in a runtime.
        use: uses it while the faults happen. It returns when it is content, and raises if something is wrong.
        seeds: for schedules and plans.
        faults: see `ChaosPlan.random`, as for the next four.
        steps: how many faults.
        seconds: in which time.
        victims: to whom.
        mode: whether supervisors may be brought to give up.
        plan: carried out instead of random ones. An empty one is a run without faults.
        limit: virtual seconds after the last fault in which ``use`` has to return; None for any time.
        tries: with how many smaller plans a failure is looked for.

    Returns:
        A report for each seed.

    Raises:
        NotSurvived: ``start`` or ``use`` raised, ``use`` did not return (`NeverEnds`), nothing went on any more
            (`Standstill`), a check found a violation, or tasks of actors, or actors that cannot be killed, were left
            over. It has the smallest plan that fails in the same way.
        BadChaosPlan: the plan has no victims; or nothing of it has struck with any seed, so that nothing was tested.
        BadOption, BadTime: an argument is wrong; there are no seeds, or no steps.
        LoopRunning: a loop runs already in this thread.

    >>> from supervision import Actor, ChildSpec, Request, Supervisor, handle
    >>> class Ping(Request[str]):
    ...     pass
    >>> class Server(Actor):
    ...     @handle
    ...     def ping(self, request: Ping) -> str:
    ...         return "pong"
    >>> async def start(runtime: Runtime) -> None:
    ...     await runtime.spawn(Supervisor, [ChildSpec("server", Server, name="server")], name="app")
    >>> async def use(runtime: Runtime, chaos: Chaos) -> None:
    ...     client = chaos.client()
    ...     for _ in range(100):
    ...         assert await client.call(runtime.name("server"), Ping()) == "pong"
    ...         await runtime.sleep(0.3)
    >>> all(report.kills > 0 for report in survives(start, use, seeds=range(3)))
    True
    """
    no_loop_here("survives")
    chosen = list(seeds) if isinstance(seeds, Iterable) else []
    if not chosen or not all(isinstance(seed, int) for seed in chosen):
        raise BadOption("survives: seeds", seeds, "give whole numbers, at least one, such as range(20)")
    if plan is not None and not isinstance(plan, ChaosPlan):
        raise BadOption("survives: plan", plan, "give a ChaosPlan; ChaosPlan.of reads one that was printed")
    if plan is None and steps == 0:
        raise BadOption("survives: steps", steps, "give at least one: without faults nothing is tested")
    if not is_whole(tries, 0):
        raise BadOption("survives: tries", tries, "give a whole number, 0 or more")
    draw = (
        None
        if plan is not None
        else lambda runtime, seed: ChaosPlan.random(
            runtime, seed, faults=faults, steps=steps, seconds=seconds, victims=victims, mode=mode
        )
    )
    patience = None if limit is None else seconds_of("limit", limit)
    reports = [_Trial(start, use, seed, patience, tries).survive(plan, draw) for seed in chosen]
    _must_have_struck(reports)
    return reports


def _must_have_struck(reports: Sequence[Report]) -> None:
    """Refuse the assurance of runs in which nothing has gone wrong."""
    planned = sum(report.planned for report in reports)
    if planned and not any(report.done for report in reports):
        held_back = sum(report.held_back for report in reports)
        raise BadChaosPlan(
            "plan",
            reports[0].plan,
            f"nothing has struck with any seed: {planned - held_back} faults waited in vain, {held_back} were held "
            "back as a supervisor would have given up; name other faults, allow more restarts, or use mode='unlimited'",
        )


class _Trial:
    """One seed."""

    def __init__(self, start: Start, use: Use, seed: int, limit: float | None, tries: int) -> None:
        self._start = start
        self._use = use
        self._seed = seed
        self._limit = limit
        self._tries = tries
        self._plan = ChaosPlan()
        self._tail: list[str] = []

    def survive(self, plan: ChaosPlan | None, draw: Draw | None) -> Report:
        try:
            return run(self._once(plan, draw))
        except BadChaosPlan:
            raise
        except BaseException as error:
            if not _is_failure(error):
                raise
            found = FailedPlan(self._plan, error, self._tail)
        smallest = self._smallest(found)
        raise NotSurvived(self._seed, smallest.plan, smallest.error, smallest.tail) from smallest.error

    def _smallest(self, found: FailedPlan) -> FailedPlan:
        """Return the same failure with the smallest plan that still leads to it."""
        kind = kind_of(found.error)
        best = found

        async def fails(plan: ChaosPlan) -> bool:
            nonlocal best
            failure = self._failure(plan)
            if failure is None or kind_of(failure.error) != kind:
                return False
            best = failure
            return True

        with suppress(StopIteration):  # it waits for nothing: each try runs a loop of its own, in this thread
            shrink(found.plan, fails, tries=self._tries).send(None)
        return best

    def _failure(self, plan: ChaosPlan) -> FailedPlan | None:
        try:
            run(self._once(plan, None))
        except BaseException as error:
            return FailedPlan(plan, error, self._tail)
        return None

    async def _once(self, plan: ChaosPlan | None, draw: Draw | None) -> Report:
        queue = SeededQueue(self._seed)
        self._plan = plan or ChaosPlan()
        async with Runtime(seed=self._seed, watchdog=None, reports=False, run_queue=queue) as runtime:
            # The judge listens from before the first start until after the last end.
            async with Chaos(runtime) as chaos:
                self._tail = []
                try:
                    await self._start(runtime)
                    if plan is None and draw is not None:
                        self._plan = draw(runtime, self._seed)
                    await self._carry_out(runtime, chaos)
                    _must_have_victims(self._plan, chaos.met)
                    report = chaos.report()
                    raise_first(report.violations)
                    _must_be_mortal(report.zombies)
                except BaseException:
                    self._tail = chaos.log.tail(TAIL)
                    raise
            runtime.subscribe(chaos.judge)
        self._tail = chaos.log.tail(TAIL)
        raise_first(chaos.judge.end())
        await _must_leave_no_tasks()
        return report

    async def _carry_out(self, runtime: Runtime, chaos: Chaos) -> None:
        """Carry the plan out, and use the service meanwhile, as long as it may take."""
        both = asyncio.ensure_future(_together(chaos.run(self._plan), self._use(runtime, chaos)))
        try:
            limit = None if self._limit is None else self._plan.duration + self._limit
            done, _ = await asyncio.wait([both], timeout=limit)
            if not done:
                loop = asyncio.get_running_loop()
                assert isinstance(loop, VirtualClockLoop)
                assert self._limit is not None
                raise NeverEnds(self._limit, loop.who_waits())
            await both
        finally:
            both.cancel()
            await asyncio.gather(both, return_exceptions=True)


def _is_failure(error: BaseException) -> bool:
    """Whether an exception tells of the service: what `pytest.fail` raises is no `Exception`."""
    return isinstance(error, Exception) or type(error).__name__ == "Failed"


async def _together(*parts: Awaitable[Any]) -> None:
    """Wait for all; when one fails, do not wait for the others."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        for task in asyncio.as_completed(tasks):
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _must_have_victims(plan: ChaosPlan, met: set[str]) -> None:
    """Refuse a plan that fits no actor."""
    for step in plan.steps:
        if any(fnmatchcase(path, step.path) for path in met):
            return
    if plan.steps:
        known = ", ".join(sorted(met)[:10]) or "nobody"
        raise BadChaosPlan(
            "plan", plan, f"it has no victims: no actor was ever at {plan.steps[0].path!r}; there were {known}"
        )


def _must_be_mortal(zombies: Iterable[str]) -> None:
    for path in zombies:
        raise AssertionError(f"zombie: {path} was killed, and its code goes on all the same: it catches CancelledError")


async def _must_leave_no_tasks() -> None:
    """Fail if tasks that actors have made outlive the whole runtime."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    if loop.tasks_of_actors():
        await asyncio.sleep(GRACE)
    for text in loop.tasks_of_actors():
        raise AssertionError(
            f"leak: {text}; it runs on after its actor, and the whole runtime, have ended: cancel it in terminate, or "
            "let a TaskGroup, a linked actor or a TaskSupervisor do the work"
        )
