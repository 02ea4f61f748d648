"""The pytest plugin: a runtime for each test, chaos, virtual time. It is found by pytest as soon as this is installed.

Fixtures: ``runtime``, ``chaos``, ``virtual_clock``, ``expect_crash``, ``event_log``. Markers: ``chaos(seed=…, mode=…)``
and ``real_clock``. With ``virtual_clock = true`` in the settings of pytest, the loops of all asynchronous tests have
virtual time, but for those marked ``real_clock``. Works with pytest-asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, get_args

import pytest
import pytest_asyncio

from supervision.events import CrashReport
from supervision.runtime import Runtime
from supervision.testing.census import Census
from supervision.testing.chaos import Chaos
from supervision.testing.event_log import EventLog
from supervision.testing.plan import Mode, Plan
from supervision.testing.report import Report
from supervision.testing.schedule import SeededQueue
from supervision.testing.virtual_clock import VirtualClockLoop, advance

#: What the failure of a test shows of its event log.
TAIL = 25

_WORLD = pytest.StashKey["World"]()


class World:
    """What belongs to one test."""

    def __init__(self, seed: int, mode: Mode) -> None:
        self.seed = seed
        self.mode = mode
        self.log: EventLog | None = None
        self.plans: list[Plan] = []
        self.expected: list[tuple[str, str]] = []

    def sections(self) -> Iterator[tuple[str, str]]:
        """Return what to show when the test has failed."""
        yield "supervision: seed", f"@pytest.mark.chaos(seed={self.seed}, mode={self.mode!r})"
        for plan in self.plans:
            yield "supervision: plan", f"Plan.of({str(plan)!r})"
        if self.log is not None:
            yield f"supervision: the last {TAIL} events", "\n".join(self.log.tail(TAIL))

    def unexpected(self) -> list[CrashReport]:
        """Return the crashes that nobody expected."""
        crashes = [] if self.log is None else self.log.of(CrashReport)
        return [crash for crash in crashes if not any(_fits(crash, path, what) for path, what in self.expected)]


def _fits(crash: CrashReport, path: str, what: str) -> bool:
    return fnmatchcase(crash.path, path) and what in str(crash.reason)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings."""
    parser.addini("virtual_clock", "virtual time for asynchronous tests", type="bool", default=False)
    group = parser.getgroup("supervision")
    group.addoption("--chaos-seed", type=int, default=None, help="the seed for all tests that use chaos or a runtime")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, and give loops virtual time if the settings say so."""
    config.addinivalue_line("markers", "chaos(seed=0, mode='within_budget'): the seed and the mode of a chaos test")
    config.addinivalue_line("markers", "real_clock: real time, where virtual time is the rule")
    if config.getini("virtual_clock"):
        config.pluginmanager.register(VirtualClocks(), "supervision-virtual-clocks")


class VirtualClocks:
    """Chooses the loops of asynchronous tests."""

    @pytest.hookimpl(trylast=True)
    def pytest_asyncio_loop_factories(self, item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
        """Return loops with virtual time, unless the test is marked."""
        if item.get_closest_marker("real_clock") is not None:
            return {"real": asyncio.new_event_loop}
        return {"virtual": VirtualClockLoop}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show seed, plans and the last events when a test has failed."""
    report = yield
    world = item.stash.get(_WORLD, None)
    if report.failed and world is not None:
        report.sections.extend(world.sections())
    return report


@pytest.fixture
def chaos_world(request: pytest.FixtureRequest) -> World:
    """The seed and the mode of this test, and what belongs to it."""
    marker = request.node.get_closest_marker("chaos")
    given = {} if marker is None else marker.kwargs
    seed = request.config.getoption("--chaos-seed")
    world = World(given.get("seed", 0) if seed is None else seed, given.get("mode", "within_budget"))
    if world.mode not in get_args(Mode):
        raise pytest.UsageError(f"chaos: mode = {world.mode!r}: choose one of {', '.join(get_args(Mode))}")
    request.node.stash[_WORLD] = world
    return world


@pytest_asyncio.fixture
async def runtime(chaos_world: World) -> AsyncIterator[Runtime]:
    """A runtime of this test's own, in a seeded schedule.

    When the test is over, it is closed; the test fails if anything of it is left, or if an actor crashed and nobody
    expected that (see ``expect_crash``).
    """
    seed = chaos_world.seed
    async with Runtime(seed=seed, watchdog=None, run_queue=SeededQueue(seed)) as made:
        chaos_world.log = EventLog(made)
        before = Census.of(made)
        yield made
    leaks = before.leaks(Census.of(made))
    assert not leaks, f"left over: {leaks}"
    crashes = chaos_world.unexpected()
    assert not crashes, f"{crashes[0].path} crashed: {crashes[0].reason}; say expect_crash({crashes[0].path!r})"


@pytest.fixture
def event_log(runtime: Runtime, chaos_world: World) -> EventLog:
    """All events of the runtime."""
    log = chaos_world.log
    assert log is not None
    assert log.runtime is runtime
    return log


@pytest.fixture
def expect_crash(chaos_world: World) -> Callable[..., None]:
    """A function that says which crashes are fine: ``expect_crash(path="*", reason="")``.

    The path is a pattern, the reason a part of what the crash says.
    """

    def expect(path: str = "*", reason: str = "") -> None:
        chaos_world.expected.append((path, reason))

    return expect


class ChaosOfTest:
    """Chaos with the seed and the mode of the test."""

    def __init__(self, runtime: Runtime, world: World) -> None:
        self._runtime = runtime
        self._world = world
        self._open: list[Chaos] = []
        self.seed = world.seed

    async def begin(self, **options: Any) -> Chaos:
        """Return chaos that has begun to watch, with the arguments of `Chaos`; it is healed when the test is over."""
        made = await Chaos(self._runtime, log=self._world.log, **options).__aenter__()
        self._open.append(made)
        return made

    def plan(self, **options: Any) -> Plan:
        """Draw a plan as `Plan.random` does."""
        return Plan.random(self._runtime, self.seed, **{"mode": self._world.mode, **options})

    async def run(self, plan: Plan | None = None, **options: Any) -> Report:
        """Carry out a plan, or a random one with these options; fail if any check is violated."""
        drawn = self.plan(**options) if plan is None else plan
        self._world.plans.append(drawn)
        chaos = await self.begin()
        report = await chaos.run(drawn)
        assert not report.violations, "\n".join(f"{v.check}: {v.what}\n  {v.event}" for v in report.violations)
        return report

    def heal(self) -> None:
        """Heal all that lasts."""
        for chaos in self._open:
            chaos.heal()


@pytest.fixture
def chaos(runtime: Runtime, chaos_world: World) -> Iterator[ChaosOfTest]:
    """Chaos on the runtime of this test: ``await chaos.run(steps=50, seconds=60)``."""
    made = ChaosOfTest(runtime, chaos_world)
    yield made
    made.heal()


@pytest.fixture
def virtual_clock() -> Callable[[float], Awaitable[None]]:
    """`advance`: lets virtual time pass. The loop must have virtual time: ``virtual_clock = true`` in the settings."""
    return advance
