"""The event stream as metrics."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from foundation.events import HttpHandled
from foundation.telemetry.metrics import Metrics, instruments, reason_label
from supervision import (
    NORMAL,
    Actor,
    ChildSpec,
    Crashed,
    Mailbox,
    Runtime,
    StartError,
    Supervisor,
    events,
)
from supervision.testing import settled
from tests.foundation.parts import Do, Failing, Probe
from tests.supervision.probes import error_of


class Long(Actor):
    """Its mailbox is soon long."""

    mailbox = Mailbox(high_water=2)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"foundation_{name}", labels)


async def test_what_happens_is_counted() -> None:
    registry = CollectorRegistry()
    async with Runtime(watchdog=None, reports=False) as runtime:
        metrics = await runtime.spawn(Metrics, registry)
        await runtime.spawn(Supervisor, [ChildSpec("p", Probe, name="p")], max_restarts=1, name="top")
        for _ in range(2):
            runtime.name("p").cast(Do(lambda actor: 1 / 0))
            await settled(runtime)
        assert isinstance(await error_of(runtime.spawn(Failing)), StartError)
        long = await runtime.spawn(Long)
        for _ in range(4):
            long.cast("unknown")
        await settled(runtime)
        await long.stop()
        long.cast("too late")
        runtime.events.emit(HttpHandled, method="GET", route="/", status=200, seconds=0.5)
        for again in (False, True):
            about = {"path": "/x", "file": "f", "line": 1, "stack": "", "again": again}
            runtime.events.emit(events.LoopBlocked, seconds=1.0, **about)
        runtime.events.emit(events.LoopUnblocked, seconds=1.5)
        assert value(registry, "actor_starts_total", kind="Probe") == 2
        assert value(registry, "actor_start_failures_total", kind="Failing") == 1
        assert value(registry, "actor_exits_total", kind="Probe", reason="crashed") == 2
        assert value(registry, "actor_exits_total", kind="Long", reason="normal") == 1
        assert value(registry, "restarts_total", kind="Supervisor") == 1
        assert value(registry, "give_ups_total", kind="Supervisor") == 1
        assert value(registry, "high_water_total", kind="Long") == 1
        assert value(registry, "unhandled_messages_total", kind="Long") == 4
        assert value(registry, "dead_letters_total", reason="noproc") == 1
        assert value(registry, "http_requests_total", method="GET", route="/", status="200") == 1
        assert value(registry, "http_request_duration_seconds_sum", method="GET", route="/") == 0.5
        assert value(registry, "loop_blocks_total") == 1
        assert value(registry, "loop_blocked_seconds_total") == 1.5
        assert value(registry, "actors") == 1
        assert value(registry, "names") == 0
        await metrics.stop()
        assert value(registry, "actors") == 0
        assert value(registry, "dead_letters_total", reason="noproc") == 1


async def test_two_counters_in_one_runtime_count_once_and_two_runtimes_are_added_up() -> None:
    registry = CollectorRegistry()
    options: dict[str, Any] = {"watchdog": None, "reports": False}
    async with Runtime(**options) as one, Runtime(**options) as two:
        first, _ = await one.spawn(Metrics, registry), await one.spawn(Metrics, registry)
        await two.spawn(Metrics, registry)
        await one.spawn(Actor)
        await two.spawn(Actor)
        assert value(registry, "actor_starts_total", kind="Actor") == 2
        assert value(registry, "actors") == 5
        await first.stop()
        await one.spawn(Actor)
        assert value(registry, "actor_starts_total", kind="Actor") == 3
    assert value(registry, "actors") == 0
    assert instruments(registry) is instruments(registry)


async def test_a_counter_that_is_killed_does_not_go_on_counting() -> None:
    registry = CollectorRegistry()
    async with Runtime(watchdog=None, reports=False) as runtime:
        metrics = await runtime.spawn(Metrics, registry)
        metrics.kill()
        assert value(registry, "actors") == 0
        await runtime.spawn(Actor)
        assert value(registry, "actor_starts_total", kind="Actor") is None


def test_a_reason_is_one_word() -> None:
    assert reason_label(NORMAL) == "normal"
    assert reason_label(Crashed("ValueError", "a long text that must not become a label")) == "crashed"
