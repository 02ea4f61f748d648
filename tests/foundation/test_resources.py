"""Resources: what is used is measured, pressure does not flutter, and leases come back."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from foundation.events import PressureChanged
from foundation.registry import Directory, Registry
from foundation.resources import Level, Limit, Overloaded, Resource, ResourceError, ResourceExhausted, Resources
from foundation.resources.limits import actors, memory, registry_entries, waiting_messages
from foundation.telemetry.metrics import Metrics
from supervision import Actor, ChildSpec, NoProcess, Request, Runtime, Supervisor, handle
from supervision.errors import BadOption
from supervision.testing import EventLog, advance, settled


class Work(Request[None], frozen=True):
    """Something to be done."""


class Worker(Actor):
    """Takes a lease and keeps it."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource

    @handle
    async def work(self, request: Work) -> None:
        """Take a lease."""
        await self.resource.acquire(2)


class Idle(Actor):
    """Does nothing."""

    @handle
    def work(self, request: Work) -> None:
        """Do nothing."""


class Load:
    """A measure that is what a test says."""

    def __init__(self) -> None:
        self.value = 0.0

    def __call__(self, runtime: Runtime) -> float:
        """Return it."""
        return self.value


async def started(runtime: Runtime, limits: Any, **options: Any) -> None:
    """Start supervised resources."""
    spec = ChildSpec("resources", Resources, (limits,), options, name="resources")
    await runtime.spawn(Supervisor, [spec], max_restarts=100)


async def test_there_is_no_more_than_there_is_and_it_comes_back(runtime: Runtime) -> None:
    await started(runtime, {"disk": Limit(4, moderate=1, severe=1, relief=0.1)})
    disk = Resource(runtime, "disk")
    first = await disk.acquire(3)
    assert disk.used == 3
    with pytest.raises(ResourceExhausted, match="disk: 2 asked for, 3 of 4 are taken") as caught:
        await disk.acquire(2)
    assert isinstance(caught.value, ResourceError)
    assert await disk.release(first)
    assert not await disk.release(first)
    assert disk.used == 0


async def test_tokens_are_tied_to_the_life_of_their_holder_also_over_a_restart(runtime: Runtime) -> None:
    await started(runtime, {"disk": 10})
    disk = Resource(runtime, "disk")
    worker, idle = await runtime.spawn(Worker, disk), await runtime.spawn(Idle)
    await worker.call(Work())
    await disk.acquire(1, holder=idle)
    await disk.acquire(1, holder=idle)
    assert disk.used == 4
    worker.kill()
    await settled(runtime)
    assert disk.used == 2
    runtime.whereis("resources").kill()  # type: ignore[union-attr]
    await settled(runtime)
    assert disk.used == 2
    idle.kill()
    await settled(runtime)
    assert disk.used == 0


async def test_pressure_is_announced_and_enforced_by_priority(runtime: Runtime) -> None:
    log = EventLog(runtime, PressureChanged)
    load = Load()
    await started(runtime, {"load": 100, "work": 1000}, interval=1.0, measures={"load": load})
    by = {priority: Resource(runtime, "work", priority=priority) for priority in ("low", "normal", "high")}  # type: ignore[arg-type]
    served: dict[float, str] = {}
    for load.value in (50, 80, 96, 91, 89, 76, 74):
        await advance(1.0)
        allowed = []
        for priority, resource in by.items():
            with suppress(Overloaded):
                await resource.release(await resource.acquire())
                allowed.append(priority)
        served[load.value] = " ".join(allowed)
    assert served == {
        50: "low normal high",
        80: "normal high",
        96: "high",
        91: "high",
        89: "normal high",
        76: "normal high",
        74: "low normal high",
    }
    load.value = 99
    await advance(1.0)
    with pytest.raises(Overloaded, match="pressure is severe because of load: no work of normal priority is taken"):
        await by["normal"].acquire()
    assert [(event.before, event.after) for event in log.of(PressureChanged)][:4] == [
        ("normal", "moderate"),
        ("moderate", "severe"),
        ("severe", "moderate"),
        ("moderate", "normal"),
    ]


@given(st.lists(st.floats(0, 2), max_size=30))
def test_a_level_changes_only_beyond_its_mark_or_below_its_relief(fractions: list[float]) -> None:
    limit = Limit(1.0, moderate=0.5, severe=0.9, relief=0.1)
    level = Level.NORMAL
    for fraction in fractions:
        before, level = level, limit.level(fraction, level)
        if level > before:
            assert fraction >= (0.5 if level is Level.MODERATE else 0.9)
        if level < before:
            assert fraction < (0.9 if before is Level.SEVERE else 0.5) - 0.1 + 1e-9
        assert (level is Level.SEVERE) or fraction < 0.9
        assert (level is not Level.NORMAL) or fraction < 0.5


async def test_a_call_can_be_guarded_by_a_resource(runtime: Runtime) -> None:
    await started(runtime, {"work": Limit(2, moderate=2, severe=2, relief=0.5)})
    work = Resource(runtime, "work", amount=2)

    async def busy() -> float:
        return work.used

    assert await work.call(busy) == 2
    idle = await runtime.spawn(Idle)
    await settled(runtime)
    assert work.used == 0
    await work.around(idle).call(Work())
    blocked = asyncio.ensure_future(work.call(lambda: runtime.sleep(1.0)))
    await advance(0.5)
    with pytest.raises(ResourceExhausted):
        await work.call(busy)
    await blocked


async def test_limits_can_be_changed_while_it_runs(runtime: Runtime) -> None:
    await started(runtime, {"work": 1})
    work = Resource(runtime, "work", priority="high")
    await work.acquire()
    assert work.level is Level.SEVERE
    await work.set_limit(10)
    assert work.level is Level.NORMAL
    await work.acquire()
    await Resource(runtime, "new").set_limit(Limit(1))
    await Resource(runtime, "new").acquire()
    with pytest.raises(BadOption, match="marks"):
        await work.set_limit(Limit(1, moderate=0.9, severe=0.5))
    with pytest.raises(BadOption, match="'unknown': there are: work, new"):
        await Resource(runtime, "unknown").acquire()
    assert (Resource(runtime, "unknown").used, Resource(runtime, "unknown").level) == (0.0, Level.NORMAL)


async def test_what_the_platform_uses_is_measured(runtime: Runtime) -> None:
    await runtime.spawn(Registry)
    idle = await runtime.spawn(Idle)
    await Directory.of(runtime).register("a", idle)
    assert memory(runtime) > 10_000_000
    assert actors(runtime) == 2
    assert registry_entries(runtime) == 1
    calls = [idle.call(Work()) for _ in range(3)]
    assert waiting_messages(runtime) == 3
    await asyncio.gather(*calls)


async def test_memory_is_zero_where_the_system_does_not_tell(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr("foundation.resources.limits._STATM", tmp_path / "none")
    assert memory(runtime) == 0.0


async def test_the_numbers_are_in_the_metrics(runtime: Runtime) -> None:
    registry = CollectorRegistry()
    await runtime.spawn(Metrics, registry)
    await runtime.spawn(Resources, {"work": 4})
    await Resource(runtime, "work").acquire(4)
    lines = generate_latest(registry).decode().splitlines()
    assert 'foundation_resource_used{resource="work"} 4.0' in lines
    assert 'foundation_resource_limit{resource="work"} 4.0' in lines
    assert 'foundation_resource_pressure{resource="work"} 2.0' in lines


@pytest.mark.parametrize(
    "make",
    [
        lambda runtime: Resources({"a": 0}),
        lambda runtime: Resources({"a": Limit(1, moderate=0.1, relief=0.2)}),
        lambda runtime: Resources({}, interval=0),
        lambda runtime: Resource(runtime, "a", amount=0),
        lambda runtime: Resource(runtime, "a", priority="urgent"),  # type: ignore[arg-type]
    ],
)
def test_options_that_make_no_sense_are_named(runtime: Runtime, make: Any) -> None:
    with pytest.raises(BadOption):
        make(runtime)


async def test_without_the_actor_nothing_is_taken(runtime: Runtime) -> None:
    with pytest.raises(NoProcess):
        await Resource(runtime, "work").acquire()
