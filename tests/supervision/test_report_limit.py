"""A storm of crashes cannot flood the log."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from supervision import Actor, ChildSpec, Message, Runtime, Supervisor, handle
from supervision.events import CrashReport
from supervision.reports import REPORTS, Reports
from supervision.testing import advance, settled


class Crash(Message, frozen=True):
    """An order to crash."""


class Frail(Actor):
    """Crashes when told to."""

    @handle
    def crash(self, message: Crash) -> None:
        """Crash."""
        raise LookupError("again")


async def storm(runtime: Runtime, crashes: int) -> None:
    """Let a supervised actor crash again and again."""
    await runtime.spawn(Supervisor, [ChildSpec("frail", Frail, name="frail")], max_restarts=10_000, name="top")
    await more(runtime, crashes)


async def more(runtime: Runtime, crashes: int) -> None:
    """Let it crash more often."""
    for _ in range(crashes):
        runtime.name("frail").cast(Crash())
        await settled(runtime)


def titles(entries: Any) -> dict[str, int]:
    """Count log lines by what they tell."""
    return {title: sum(entry["event"] == title for entry in entries) for title in {entry["event"] for entry in entries}}


async def test_of_each_kind_twenty_a_second_are_logged_and_the_rest_is_counted_when_the_second_is_over() -> None:
    with capture_logs() as entries:
        async with Runtime(watchdog=None) as runtime:
            await storm(runtime, 500)
            assert titles(entries) == {"crash_report": 20, "child_terminated": 20}
            await advance(1)
            assert titles(entries) == {"crash_report": 20, "child_terminated": 20, "reports_left_out": 1}
            (line,) = [entry for entry in entries if entry["event"] == "reports_left_out"]
            assert (line["reports"], line["CrashReport"], line["ChildTerminated"]) == (960, 480, 480)
            await advance(5)
            assert len(entries) == 41


async def test_a_few_crashes_are_logged_whole_and_nothing_is_said_of_more() -> None:
    with capture_logs() as entries:
        async with Runtime(watchdog=None) as runtime:
            for _ in range(5):
                await (storm if runtime.whereis("top") is None else more)(runtime, 20)
                await advance(1)
    assert titles(entries) == {"crash_report": 100, "child_terminated": 100}


async def test_what_was_left_out_is_told_when_the_runtime_ends_or_at_the_next_report() -> None:
    with capture_logs() as entries:
        async with Runtime(watchdog=None) as runtime:
            await storm(runtime, 25)
    assert titles(entries) == {"crash_report": 20, "child_terminated": 20, "reports_left_out": 1}
    with capture_logs() as entries:
        async with Runtime(watchdog=None, reports=False) as runtime:
            runtime.subscribe(Reports(limit=3), *REPORTS)
            await storm(runtime, 5)
            await advance(3)
            assert titles(entries) == {"crash_report": 3, "child_terminated": 3}
            await more(runtime, 1)
    assert titles(entries) == {"crash_report": 4, "child_terminated": 4, "reports_left_out": 1}


async def test_the_events_themselves_are_all_told() -> None:
    told: list[Any] = []
    with capture_logs():
        async with Runtime(watchdog=None) as runtime:
            runtime.subscribe(told.append, CrashReport)
            await storm(runtime, 50)
    assert len(told) == 50
