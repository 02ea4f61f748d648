"""One run of a scenario, in which a piece of work is interrupted at one point, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import msgspec

from supervision import events
from supervision._core.dispatch import handle
from supervision.actor import Actor
from supervision.errors import Refuse, SupervisionError
from supervision.messages import Request
from supervision.runtime import Runtime
from supervision.testing.barrier import settled
from supervision.testing.interruptions._points import Points
from supervision.testing.leaks import ResourceCounts
from supervision.testing.schedule import SeededQueue

T = TypeVar("T")
#: A service to restart: the name of a supervised actor, or a function that restarts it.
Service: TypeAlias = "str | Callable[[], object]"
#: Returns counts of what must not be left over, by name.
LeftoverCounts: TypeAlias = Callable[[], Mapping[str, float]]
#: What is wrong: the work did not end; something is left over; or anything else.
Kind: TypeAlias = Literal["hang", "leak", "wrong"]


class Wrong(AssertionError):
    """A scenario failed after an interruption. ``kind`` says how."""

    def __init__(self, kind: Kind, why: str) -> None:
        self.kind: Kind = kind
        super().__init__(why)


class WorkOutcome(msgspec.Struct, Generic[T], frozen=True):
    """How a piece of work ended.

    Attributes:
        value: what it returned; None if it raised.
        error: what it raised; None if it returned.
        interrupted: how and at which point, such as ``cancel@3``; None if it was left alone.
    """

    value: T | None
    error: BaseException | None
    interrupted: str | None

    @property
    def done(self) -> bool:
        """Whether it returned."""
        return self.error is None


class DoWork(Request[Any], frozen=True):
    """Do the work."""


class Caller(Actor):
    """Does a piece of work, as an actor."""

    def __init__(self, work: Callable[[], Awaitable[Any]]) -> None:
        self._work = work

    @handle
    async def do(self, request: DoWork) -> Any:
        """Do it. What it raises is its caller's concern."""
        try:
            return await self._work()
        except Exception as error:
            raise Refuse(error) from error


class ScenarioRun:
    """One run of a scenario. `explore` makes it.

    Attributes:
        way: how the work is interrupted, such as ``cancel`` or ``restart locks``; None if it is left alone.
        point: at which point; 0 for none.
        offered: the ways that there are.
    """

    def __init__(self, way: str | None, point: int, limit: float, grace: float) -> None:
        self.way = way
        self.point = point
        self.offered: list[str] = []
        self._points = Points(point)
        self._limit = limit
        self._grace = grace
        self._runtime: Runtime | None = None
        self._late = False
        self._faults: list[str] = []

    @property
    def struck(self) -> bool:
        """Whether the work was interrupted."""
        return self._points.struck

    @property
    def where(self) -> str:
        """The line at which it waited then."""
        return self._points.where

    # -- what a scenario uses ------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def runtime(self, seed: int = 0, **options: Any) -> AsyncGenerator[Runtime]:
        """Make the runtime of the scenario: ``async with run.runtime() as runtime: ...``.

        Args:
            seed: of its schedule.
            options: more arguments of `Runtime`.
        """
        queue = SeededQueue(seed)
        async with Runtime(seed=seed, watchdog=None, reports=False, run_queue=queue, **options) as runtime:
            self._runtime = runtime
            in_thread = runtime.threads.run
            hop = self._points.hop
            # One turn passes until there is room among the threads.
            runtime.threads.run = lambda cell, function: in_thread(cell, hop(function, 1))  # type: ignore[method-assign]
            runtime.subscribe(self._crashed, events.CrashReport)
            yield runtime

    async def interrupt(
        self,
        work: Callable[[], Awaitable[T]],
        *,
        services: Iterable[str] | Mapping[str, Service] = (),
        counts: LeftoverCounts | None = None,
        raises: tuple[type[BaseException], ...] = (),
    ) -> WorkOutcome[T]:
        """Do a piece of work, and interrupt it at this run's point.

        It is interrupted in one of these ways: ``cancel``, its task is cancelled; ``timeout``, the time of an
        `asyncio.timeout` around it is over; ``kill``, the actor in which it runs is killed; ``restart``, a service that
        it uses is. ``kill`` is for scenarios with a `runtime`; there, ``timeout`` strikes in an actor, which lives on.

        When this returns, the work has ended, all is quiet, and nothing is left over: no task, actor, name, link,
        monitor, timer, deferred reply or open file that was not there before.

        Args:
            work: a unit of work that leaves nothing behind: what it takes, it gives back.
            services: what is restarted: names of supervised actors; or functions that do it, by name.
            counts: more of what must not be left over, such as permits and waiters.
            raises: what the work may raise when it is interrupted, beside `asyncio.CancelledError`, TimeoutError and
                the errors of calls.

        Returns:
            How it ended, for the scenario to judge.

        Raises:
            Wrong: it does not end, leaves something behind, or raises what it should not.
            Exception: what the work raised although nobody interrupted it.
        """
        restarts: Mapping[str, Service]
        restarts = services if isinstance(services, Mapping) else {name: name for name in services}
        self.offered = self._ways(restarts)
        before = self._inventory(counts)
        with self._points.counting():
            outcome = await self._outcome(work, restarts)
        self._judge(outcome.error, raises)
        await self._nothing_left(before, counts)
        return outcome

    # -- ways ----------------------------------------------------------------------------------------------------------

    def _ways(self, restarts: Mapping[str, Service]) -> list[str]:
        ways = ["cancel", "timeout"] if self._runtime is None else ["cancel", "timeout", "kill"]
        return [*ways, *(f"restart {name}" for name in restarts)]

    async def _outcome(self, work: Callable[[], Awaitable[T]], restarts: Mapping[str, Service]) -> WorkOutcome[T]:
        way = self.way or ""
        if way.startswith("restart "):
            service = restarts[way.removeprefix("restart ")]
            self._points.strike = service if callable(service) else lambda: self._kill(service)
        in_actor = self._runtime is not None and way in ("kill", "timeout")
        task = asyncio.ensure_future(self._in_actor(work) if in_actor else self._limited(work))
        ended, _ = await asyncio.wait([task], timeout=self._limit)
        if not ended:
            where = self._points.place
            task.cancel()
            raise Wrong("hang", f"it has not ended in {self._limit:g} s: it waits at {where}")
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        at = f"{way}@{self.point}" if self.struck else None
        return WorkOutcome(task.result() if error is None else None, error, at)

    async def _in_actor(self, work: Callable[[], Awaitable[T]]) -> T:
        assert self._runtime is not None
        caller = await self._runtime.spawn(Caller, lambda: self._limited(work))
        if self.way == "kill":
            self._points.strike = caller.kill
        try:
            return await caller.call(DoWork(), timeout=None)
        finally:
            await self._quiet()
            if caller.alive:
                await caller.stop()

    def _kill(self, name: str) -> None:
        assert self._runtime is not None
        ref = self._runtime.whereis(name)
        if ref is not None:
            ref.kill()

    async def _limited(self, work: Callable[[], Awaitable[T]]) -> T:
        task = asyncio.current_task()
        assert task is not None
        if self.way == "cancel":
            self._points.strike = task.cancel
        elif self.way == "timeout":
            self._points.strike = lambda: self._time_out(task)
        try:
            return await self._points.stepped(_awaited(work))
        except asyncio.CancelledError as error:
            if self._late and task.uncancel() == 0:
                raise TimeoutError from error
            raise

    def _time_out(self, task: asyncio.Task[Any]) -> None:
        self._late = True
        task.cancel()

    # -- judgement -----------------------------------------------------------------------------------------------------

    def _judge(self, error: BaseException | None, raises: tuple[type[BaseException], ...]) -> None:
        fine: tuple[type[BaseException], ...] = (asyncio.CancelledError, TimeoutError, SupervisionError, *raises)
        if error is not None and not self.struck:
            raise error
        if error is not None and not isinstance(error, fine):
            raise Wrong("wrong", f"it raised {type(error).__name__}: {error}") from error

    async def _nothing_left(self, before: Mapping[str, float], counts: LeftoverCounts | None) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._grace
        while True:
            await self._quiet()
            after = self._inventory(counts)
            left = {name: number for name in after if (number := after[name] - before.get(name, 0)) > 0}
            if not left:
                return
            if loop.time() >= end:
                raise Wrong("leak", f"left over after {self._grace:g} s: {left}")
            await asyncio.sleep(1.0)

    async def _quiet(self) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + self._grace
        while self._points.in_threads and loop.time() < end:  # noqa: ASYNC110  # a thread does not signal its end
            await asyncio.sleep(0.001)
        for _ in range(3):
            await asyncio.sleep(0)
        if self._runtime is not None:
            await settled(self._runtime)

    def _inventory(self, counts: LeftoverCounts | None) -> dict[str, float]:
        found: dict[str, float] = {"tasks": len(asyncio.all_tasks())}
        if self._runtime is not None:
            resources = ResourceCounts.of(self._runtime)
            found = {name: getattr(resources, name) for name in resources.__struct_fields__ if name != "threads"}
        return {**found, **(counts() if counts is not None else {})}

    def _crashed(self, event: events.Event) -> None:
        assert isinstance(event, events.CrashReport)
        self._faults.append(f"{event.path} crashed: {event.reason}")

    def unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Note an error that nobody has handled."""
        self._faults.append(f"{context['message']}: {context.get('exception')!r}")

    async def carry_out(self, scenario: Callable[[ScenarioRun], Awaitable[object]]) -> None:
        """Carry a scenario out.

        Raises:
            Exception: something is wrong.
        """
        limit = asyncio.timeout(2 * self._limit + self._grace)
        try:
            async with limit:
                await scenario(self)
        except TimeoutError:
            if limit.expired():
                raise Wrong("hang", "the scenario does not end") from None
            raise
        if self._faults:
            raise Wrong("wrong", "; ".join(self._faults))


async def _awaited(work: Callable[[], Awaitable[T]]) -> T:
    return await work()
