"""The interruption explorer: does work hold wherever it is cut off?

It runs a scenario again and again, and interrupts the work in it at the first point, the second, the third, until there
is none left: cancelled, out of time, its actor killed, a service that it uses restarted. Points are where the work is
about to wait, every turn of the loop while it waits, and every piece of work in a thread, such as the write of a
journal, as it begins and before the loop has processed its result. Everything happens on virtual time, in a schedule of
its own, so that a point is the same in the next run.

Sweeps over all points of cancellation are known from other places (``assert_cancel_safe`` of monarch, CancelLens for
asyncio). This one knows actors, restarts, threads and time as well, and looks for what is left over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeAlias

import msgspec

from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.testing.interruptions.scenario import Kind, ScenarioRun, Wrong
from supervision.testing.virtual_time.virtual_loop import VirtualClockLoop, no_loop_here

#: Sets a world up, has a piece of work interrupted by `ScenarioRun.interrupt`, and raises if the world is wrong then.
Scenario: TypeAlias = Callable[[ScenarioRun], Awaitable[object]]

WAYS = ("cancel", "timeout", "kill", "restart")


class InterruptionFailure(msgspec.Struct, frozen=True):
    """A point at which an interruption does harm.

    Attributes:
        at: how, and at which point, such as ``cancel@3``: for `explore`.
        where: the line at which the work waited.
        kind: whether the work did not end (``hang``), left something behind (``leak``), or anything else (``wrong``).
        why: what went wrong.
    """

    at: str
    where: str
    kind: Kind
    why: str


class Exploration(msgspec.Struct, frozen=True):
    """What was explored.

    Attributes:
        points: how many points there are, by the way in which the work was interrupted there.
        failures: where that does harm.
    """

    points: dict[str, int]
    failures: tuple[InterruptionFailure, ...] = ()

    @property
    def visited(self) -> int:
        """How many points there are in all."""
        return sum(self.points.values())

    def __str__(self) -> str:
        ways = ", ".join(f"{way} {number}" for way, number in self.points.items())
        return f"{self.visited} points ({ways}), {len(self.failures)} failures"


class BrokenByInterruption(AssertionError):
    """Interruptions do harm. ``exploration`` says where; the text has a line for each to run it again."""

    def __init__(self, name: str, exploration: Exploration) -> None:
        self.exploration = exploration
        lines = [
            f"{each.kind} at {each.where}: {each.why}\n    again with: explore({name}, at={each.at!r})"
            for each in exploration.failures
        ]
        super().__init__("\n".join([f"{name}: {exploration}", *lines]))


def explore(
    scenario: Scenario,
    *,
    ways: Collection[str] = WAYS,
    at: str | None = None,
    limit: float = 3600.0,
    grace: float = 60.0,
    most: int = 10_000,
) -> Exploration:
    """Interrupt a piece of work at each of its points, one in each run, and see whether that does harm.

    To be called from a plain function, such as a test: it makes event loops of its own.

    >>> import asyncio
    >>> class Bank:
    ...     def __init__(self) -> None:
    ...         self.ada, self.bob = 100, 0
    ...
    ...     async def transfer(self, amount: int) -> None:
    ...         self.ada -= amount
    ...         await asyncio.sleep(0.1)
    ...         self.bob += amount
    >>> async def transfer(run: ScenarioRun) -> None:
    ...     bank = Bank()
    ...     await run.interrupt(lambda: bank.transfer(30))
    ...     assert bank.ada + bank.bob == 100, f"{bank.ada} and {bank.bob} is not 100"
    >>> explore(transfer, ways=["cancel"])
    Traceback (most recent call last):
        ...
    supervision.testing.interruptions.explorer.BrokenByInterruption: transfer: 3 points (cancel 3), 3 failures
    wrong at ... in transfer: AssertionError: 70 and 0 is not 100
        again with: explore(transfer, at='cancel@1')
    ...

    Args:
        scenario: gets the `ScenarioRun`. It makes a new world each time.
        ways: in which ways to interrupt; those that the scenario does not offer are left out.
        at: only this point, as a failure says it.
        limit: virtual seconds after which the work is said to hang.
        grace: virtual seconds in which what is left over has to be gone.
        most: how many points there may be of each way.

    Returns:
        How many points there were.

    Raises:
        BrokenByInterruption: it does harm.
        BadOption: there are no such ways, or more points than ``most``.
        LoopRunning: a loop runs already.
        Exception: the scenario fails although nothing is interrupted.
    """
    no_loop_here("explore")
    explorer = _Explorer(scenario, seconds("limit", limit, zero=False), seconds("grace", grace))
    if at is not None:
        explorer.again(*_point(at))
    else:
        unknown = [way for way in ways if way not in WAYS]
        if unknown:
            raise BadOption("explore: ways", unknown[0], f"there are {', '.join(WAYS)}")
        explorer.everywhere(ways, most)
    exploration = Exploration(explorer.points, tuple(explorer.failures))
    if exploration.failures:
        raise BrokenByInterruption(getattr(scenario, "__name__", repr(scenario)), exploration)
    return exploration


def _point(at: str) -> tuple[str, int]:
    way, _, number = at.rpartition("@")
    if way.split(" ")[0] not in WAYS or not number.isdecimal() or int(number) < 1:
        raise BadOption("explore: at", at, "give a way and the number of a point, such as 'cancel@3'")
    return way, int(number)


class _Explorer:
    """Carries runs out, and notes what they find."""

    def __init__(self, scenario: Scenario, limit: float, grace: float) -> None:
        self._scenario = scenario
        self._limit = limit
        self._grace = grace
        self.points: dict[str, int] = {}
        self.failures: list[InterruptionFailure] = []

    def everywhere(self, ways: Collection[str], most: int) -> None:
        for way in self._once(None, 0).offered:
            if way.split(" ")[0] in ways:
                self._along(way, most)

    def _along(self, way: str, most: int) -> None:
        point = 1
        while self._once(way, point).struck:
            self.points[way] = point
            point += 1
            if point > most:
                raise BadOption("explore: most", most, f"{way}: there are more points; shorten the work, or allow more")

    def again(self, way: str, point: int) -> None:
        at = f"{way}@{point}"
        if not self._once(way, point).struck:
            raise BadOption("explore: at", at, "the work has no such point")
        self.points[at] = 1

    def _once(self, way: str | None, point: int) -> ScenarioRun:
        run = ScenarioRun(way, point, self._limit, self._grace)
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            runner.get_loop().set_exception_handler(run.unhandled)
            try:
                runner.run(run.carry_out(self._scenario))
            except Exception as error:
                if not run.struck:
                    raise
                kind = error.kind if isinstance(error, Wrong) else "wrong"
                why = str(error) if isinstance(error, Wrong) else f"{type(error).__name__}: {error}"
                self.failures.append(InterruptionFailure(f"{way}@{point}", run.where, kind, why))
        return run
