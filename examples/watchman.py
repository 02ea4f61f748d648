"""A monitoring agent: sensors measure the event loop and the process, a cron job writes a report, alerts go to a bus.

Run it: ``python -m examples.watchman --seconds 5``; Ctrl-C ends it sooner.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec

from agents import (
    Action,
    AgentType,
    Context,
    Cron,
    Emit,
    Plugin,
    Result,
    Sensor,
    SensorContext,
    SetState,
    Signal,
    StartSensor,
    start_agent,
)
from agents.signals import Bus, publish, read_log, subscribe
from agents.signals.sinks import LogSink
from supervision import Runtime


class Seen(msgspec.Struct, frozen=True):
    """What the watchman knows: the last measurement of each thing, and what has been too high."""

    last: dict[str, float] = {}
    alerts: tuple[str, ...] = ()
    reports: int = 0


class LoopLag(Sensor):
    """Measures how late the event loop is."""

    every: float = 0.1

    def interval(self) -> float:
        """Return it."""
        return self.every

    def poll(self, context: SensorContext) -> Iterable[Emit]:
        """Compare the time with the time at which this poll was due."""
        now = context.runtime.clock.time()
        due = context.memory.get("due", now)
        context.memory["due"] = now + self.every
        return [Emit("measured", {"what": "loop lag", "value": round(max(0.0, now - due), 4), "unit": "s"})]


class Memory(Sensor):
    """Measures the memory of the process."""

    every: float = 0.5

    def interval(self) -> float:
        """Return it."""
        return self.every

    def poll(self, context: SensorContext) -> Iterable[Emit]:
        """Ask the system."""
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return [Emit("measured", {"what": "memory", "value": round(megabytes, 1), "unit": "MB"})]


class Vital(Plugin[Any]):
    """The sensors that every watchman has."""

    sensors = (StartSensor("lag", LoopLag()), StartSensor("memory", Memory()))


class Measured(Action[None]):
    """Take in a measurement; give alarm when it is too high, once until it is better."""

    what: str
    value: float
    unit: str

    def run(self, context: Context[Seen]) -> Result[None]:
        """Take it in."""
        limits = {"loop lag": 0.2, "memory": 4000.0}
        high = self.value > limits[self.what]
        known = self.what in context.state.alerts
        alerts = {*context.state.alerts, self.what} if high else {*context.state.alerts} - {self.what}
        patch = SetState({"last": {self.what: self.value}, "alerts": sorted(alerts)})
        alarm = Emit("alert.raised", {"what": self.what, "value": self.value, "unit": self.unit}, to="bus")
        return Result(None, (patch, alarm) if high and not known else (patch,))


class Report(Action[None]):
    """Write a report."""

    def run(self, context: Context[Seen]) -> Result[None]:
        """Write it."""
        number = context.state.reports + 1
        report = Emit("report.written", {"number": number, **context.state.last}, to="bus")
        return Result(None, (SetState({"reports": number}), report))


class Watchman(AgentType[Seen]):
    """Watches a process, and reports every two seconds."""

    plugins = (Vital,)
    routes = {"measured": Measured, "report.due": Report}
    schedules = (Cron("*/2 * * * * *", "report.due"),)


async def main(seconds: float = 5.0) -> list[Signal]:
    """Watch for some seconds, in which one measurement is too high; return what was published."""
    async with Runtime() as runtime:
        bus = await runtime.spawn(Bus, name="bus")
        await subscribe(bus, "**", await runtime.spawn(LogSink, "warning"))
        watchman = await start_agent(runtime, Watchman, id="watchman")
        await runtime.sleep(seconds / 2)
        watchman.cast(watchman.signal("measured", {"what": "loop lag", "value": 0.5, "unit": "s"}))
        await runtime.sleep(seconds / 2)
        await publish(bus, watchman.signal("watch.over", {"reports": watchman.state.reports}))
        published = [one.signal for one in await read_log(bus)]
        print(f"{len(published)} signals on the bus; last measured: {watchman.state.last}")
        return published


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A monitoring agent with sensors and cron.")
    parser.add_argument("--seconds", type=float, default=5.0, help="for how long it watches (5)")
    with suppress(KeyboardInterrupt):
        asyncio.run(main(parser.parse_args().seconds))
