"""The fixtures of one test: its seed, its runtime, its chaos. The pytest plugin is built on it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from typing import Any

from supervision.events import CrashReport
from supervision.runtime import Runtime
from supervision.testing.event_log import EventLog
from supervision.testing.fault_injection.chaos import Chaos
from supervision.testing.fault_injection.plan import ChaosPlan, Mode
from supervision.testing.fault_injection.report import Report
from supervision.testing.leaks import ResourceCounts
from supervision.testing.schedule import SeededQueue

#: What the failure of a test shows of its event log.
TAIL = 25


class World:
    """The seed, runtime and expectations of one test."""

    def __init__(self, seed: int, mode: Mode) -> None:
        self.seed = seed
        self.mode = mode
        self.log: EventLog | None = None
        self.plans: list[ChaosPlan] = []
        self.expected: list[tuple[str, str]] = []

    def sections(self) -> Iterator[tuple[str, str]]:
        """Return what to show when the test has failed."""
        yield "supervision: seed", f"@pytest.mark.chaos(seed={self.seed}, mode={self.mode!r})"
        for plan in self.plans:
            yield "supervision: plan", f"ChaosPlan.of({str(plan)!r})"
        if self.log is not None:
            yield f"supervision: the last {TAIL} events", "\n".join(self.log.tail(TAIL))

    def expect(self, path: str = "*", reason: str = "") -> None:
        """Declare which crashes are expected.

        Args:
            path: a pattern.
            reason: a part of the text of its reason.
        """
        self.expected.append((path, reason))

    @asynccontextmanager
    async def runtime(self) -> AsyncGenerator[Runtime]:
        """Run the test's own runtime, in a seeded schedule.

        Raises:
            AssertionError: something is left when it is closed, or an actor crashed unexpectedly.
        """
        async with Runtime(seed=self.seed, watchdog=None, run_queue=SeededQueue(self.seed)) as made:
            self.log = EventLog(made)
            before = ResourceCounts.of(made)
            yield made
        leaks = before.leaks(ResourceCounts.of(made))
        assert not leaks, f"left over: {leaks}"
        crashes = self.unexpected()
        assert not crashes, f"{crashes[0].path} crashed: {crashes[0].reason}; say expect_crash({crashes[0].path!r})"

    def unexpected(self) -> list[CrashReport]:
        """Return the unexpected crashes."""
        crashes = [] if self.log is None else self.log.of(CrashReport)
        return [crash for crash in crashes if not any(_fits(crash, path, what) for path, what in self.expected)]


def _fits(crash: CrashReport, path: str, what: str) -> bool:
    return fnmatchcase(crash.path, path) and what in str(crash.reason)


class ChaosFixture:
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

    def plan(self, **options: Any) -> ChaosPlan:
        """Draw a plan as `ChaosPlan.random` does."""
        return ChaosPlan.random(self._runtime, self.seed, **{"mode": self._world.mode, **options})

    async def run(self, plan: ChaosPlan | None = None, **options: Any) -> Report:
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
