"""Survival: does a service live through faults? With many seeds, and the smallest plan that kills it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from supervision.runtime import Runtime
from supervision.testing.chaos import Chaos
from supervision.testing.faults import AnyFault, Kill
from supervision.testing.plan import Mode, Plan
from supervision.testing.report import Report
from supervision.testing.schedule import SeededQueue
from supervision.testing.shrink import shrink
from supervision.testing.victims import Victims
from supervision.testing.virtual_clock import run

#: Starts what is to be tested.
Start = Callable[[Runtime], Awaitable[object]]
#: Uses it while faults happen, and raises if it does not do what it should.
Use = Callable[[Runtime, Chaos], Awaitable[object]]


class NotSurvived(AssertionError):
    """A service did not live through a plan. ``plan`` is the smallest one found, ``cause`` what went wrong."""

    def __init__(self, seed: int, plan: Plan, cause: BaseException, tail: Sequence[str]) -> None:
        self.seed = seed
        self.plan = plan
        self.cause = cause
        lines = "\n  ".join(tail)
        super().__init__(
            f"seed {seed}: {type(cause).__name__}: {cause}\n"
            f"again with: survives(start, use, plan=Plan.of({str(plan)!r}), seeds=[{seed}])\n"
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
    plan: Plan | None = None,
) -> list[Report]:
    """Test a service under faults: once for each seed, in a fresh runtime, on virtual time, in a seeded schedule.

    Args:
        start: starts the service in a runtime.
        use: uses it while the faults happen. It returns when it is content, and raises if something is wrong.
        seeds: for schedules and plans.
        faults: see `Plan.random`, as for the next four.
        steps: how many faults.
        seconds: in which time.
        victims: to whom.
        mode: whether supervisors may be brought to give up.
        plan: carried out instead of random ones.

    Returns:
        A report for each seed.

    Raises:
        NotSurvived: ``use`` raised, or a check found a violation. It has the smallest plan that still fails.

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
    draw = (
        None
        if plan is not None
        else lambda runtime, seed: Plan.random(
            runtime, seed, faults=faults, steps=steps, seconds=seconds, victims=victims, mode=mode
        )
    )
    return [_Trial(start, use, seed).survive(plan, draw) for seed in seeds]


class _Trial:
    """One seed."""

    def __init__(self, start: Start, use: Use, seed: int) -> None:
        self._start = start
        self._use = use
        self._seed = seed
        self._plan = Plan()
        self._tail: list[str] = []

    def survive(self, plan: Plan | None, draw: Callable[[Runtime, int], Plan] | None) -> Report:
        try:
            return run(self._once(plan, draw))
        except Exception as error:
            failed = self._plan
            smallest = run(shrink(failed, self._fails))
            raise NotSurvived(self._seed, smallest, error, self._tail) from error

    async def _fails(self, plan: Plan) -> bool:
        # In a thread, as this loop runs already; each try has a loop of its own.
        return await asyncio.get_running_loop().run_in_executor(None, self._fails_in_a_fresh_world, plan)

    def _fails_in_a_fresh_world(self, plan: Plan) -> bool:
        try:
            run(self._once(plan, None))
        except Exception:
            return True
        return False

    async def _once(self, plan: Plan | None, draw: Callable[[Runtime, int], Plan] | None) -> Report:
        queue = SeededQueue(self._seed)
        async with Runtime(seed=self._seed, watchdog=None, reports=False, run_queue=queue) as runtime:
            await self._start(runtime)
            self._plan = chosen = draw(runtime, self._seed) if plan is None and draw is not None else plan or Plan()
            async with Chaos(runtime) as chaos:
                try:
                    await self._together(chaos.run(chosen), self._use(runtime, chaos))
                    report = chaos.report()
                    for violation in report.violations:
                        raise AssertionError(f"{violation.check}: {violation.what}\n  {violation.event}")
                except Exception:
                    self._tail = chaos.log.tail(20)
                    raise
        return report

    async def _together(self, *parts: Awaitable[Any]) -> None:
        """Wait for all; when one fails, do not wait for the others."""
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            for task in asyncio.as_completed(tasks):
                await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
