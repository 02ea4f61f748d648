"""Monitoring: a supervised actor for each monitored one, which checks it at intervals and keeps its health up to date.

Because each actor has a monitor of its own, the checks run side by side, and one that hangs delays no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from contextlib import suppress

from bridge.events import HealthChanged
from bridge.health import CheckResult, HealthCheck, HealthRecord, HealthStatus, Thresholds, responds
from bridge.registration import AgentMetadata
from foundation.registry import Directory, Entry, KeyNotFound
from supervision import Actor, Address, CallError, ChildSpec, Down, Message, Ref, Timer, handle, start_child
from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.messages import describe


class CheckNow(Message, frozen=True):
    """Timer message: check now."""


class HealthMonitor(Actor):
    """Checks who is registered under a key, writes its health into the registry, and ends when it is removed.

    When the actor has ended, the next one under the key is watched, if there is one by the time of the next check;
    if not, the monitor ends. Each change of health is a `HealthChanged` event. A dead actor has no entry in the
    registry: the event alone reports its death. When the registry does not run, the change is written after a later
    check. See `setup_monitoring`.
    """

    def __init__(
        self,
        directory: Directory,
        key: Hashable,
        ref: Ref,
        check: HealthCheck,
        pace: tuple[float, float],
        limits: Thresholds,
    ) -> None:
        self._directory, self._key, self._ref, self._check = directory, key, ref, check
        self._interval, self._limit = pace
        entry = directory.lookup(key)
        self._record = HealthRecord(limits, "healthy" if entry is None else entry.metadata.health)
        self._dead = False
        self._timer: Timer | None = None

    def init(self) -> None:
        """Watch the actor, and begin with a check."""
        self.monitor(self._ref)
        self.ref.cast(CheckNow())

    @handle
    async def check(self, message: CheckNow) -> None:
        """Check, write a changed health into the registry, and set the timer of the next check."""
        if not self._ref.alive and not self._dead:
            return
        if (self._dead and not self._next()) or self._entry() is None:
            self.stop()
            return
        outcome = await self._outcome()
        before = self._record.health
        health = self._record.add(outcome)
        if not self._ref.alive:
            return
        if health != before:
            self._tell(before, health, outcome.why)
        await self._note(health)
        self._timer = self.send_after(self._interval, CheckNow())

    @handle
    def ended(self, message: Down) -> None:
        """The actor has ended: look for the next one under its key when the next check would be due."""
        self._tell(self._record.health, "dead", str(message.reason))
        self._dead = True
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.send_after(self._interval, CheckNow())

    def _next(self) -> bool:
        """Watch the actor that stands under the key now; return whether there is one."""
        entry = self._directory.lookup(self._key)
        if entry is None or not entry.ref.alive:
            return False
        self._ref, self._record, self._dead = entry.ref, HealthRecord(self._record.thresholds, "dead"), False
        self.monitor(self._ref)
        return True

    async def _outcome(self) -> CheckResult:
        clock = self.runtime.clock
        began = clock.time()
        try:
            async with asyncio.timeout(self._limit):
                well = await self._check(self._ref)
        except TimeoutError:
            return CheckResult(answered=False, why=f"no answer within {self._limit:g} s")
        except Exception as error:
            return CheckResult(answered=True, why=f"{type(error).__name__}: {error}")
        took = clock.time() - began
        slow = self._record.thresholds.slow
        if not well:
            return CheckResult(answered=True, why=f"the check said {describe(well)}")
        return CheckResult(answered=True, why="" if slow is None or took < slow else f"slow: {took:.3g} s")

    def _entry(self) -> Entry | None:
        entry = self._directory.lookup(self._key)
        return entry if entry is not None and entry.ref is self._ref else None

    async def _note(self, health: HealthStatus) -> None:
        """Write the health into the registry. If that fails, the next check tries again."""
        entry = self._entry()
        if entry is not None and entry.metadata.health != health:
            with suppress(CallError, KeyNotFound):
                await self._directory.update(self._key, {"health": health}, self._ref)

    def _tell(self, before: HealthStatus, health: HealthStatus, why: str) -> None:
        ref = self._ref
        self.runtime.events.emit(
            HealthChanged, ref=ref, path=ref.path, key=self._key, before=before, health=health, why=why
        )


async def setup_monitoring(
    supervisor: Address,
    directory: Directory,
    key: Hashable,
    *,
    check: HealthCheck = responds,
    interval: float = 30.0,
    limit: float = 5.0,
    thresholds: Thresholds | None = None,
) -> Ref:
    """Start to monitor an actor that was registered with `register_agent`, and return its monitor.

    Args:
        supervisor: a `DynamicSupervisor` to start the monitor under.
        directory: of the registry.
        key: of the actor's entry.
        check: an async function of the actor's ref: whether it is well. Any actor can be monitored; give one that is
            not from ``agents`` a check that it can answer.
        interval: seconds between the end of a check and the next.
        limit: seconds that a check may take.
        thresholds: how many checks say what; the defaults if None.

    Raises:
        KeyNotFound, BadOption: nobody is registered under the key, or not with `register_agent`.
        BadTime, MaxChildren, NoProcess: a time is invalid, or the supervisor cannot start the monitor.
    """
    every, at_most = seconds("interval", interval, zero=False), seconds("limit", limit, zero=False)
    entry = directory.lookup(key)
    if entry is None:
        raise KeyNotFound(key)
    if not isinstance(entry.metadata, AgentMetadata):
        raise BadOption("setup_monitoring: key", key, "register the actor with register_agent")
    args = (directory, key, entry.ref, check, (every, at_most), thresholds or Thresholds())
    monitor = await start_child(supervisor, ChildSpec(f"health of {key}", HealthMonitor, args, restart="transient"))
    assert monitor is not None
    return monitor
