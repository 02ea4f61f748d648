"""Chaos: carries a plan out on a runtime, and reports.

>>> import asyncio
>>> from supervision import Actor, ChildSpec, Runtime, Supervisor
>>> from supervision.testing import Chaos, Kill, ChaosPlan, run
>>> async def main() -> None:
...     async with Runtime(watchdog=None, reports=False) as runtime:
...         await runtime.spawn(Supervisor, [ChildSpec("a", Actor), ChildSpec("b", Actor)], name="app")
...         async with Chaos(runtime) as chaos:
...             report = await chaos.run(ChaosPlan.random(runtime, seed=7, steps=100, seconds=600))
...             print(report.done + report.held_back, report.kills == report.replacements, report.gave_up)
>>> run(main())
100 True ()
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Self

from supervision import events
from supervision._core.cell import Cell
from supervision.events import ActorEvent, Event
from supervision.reasons import Abnormal
from supervision.ref import Ref
from supervision.runtime import Runtime
from supervision.testing.barrier import settled
from supervision.testing.checks import ALWAYS, Judge, NewCheck
from supervision.testing.event_log import EventLog
from supervision.testing.fault_injection.client import Client, together
from supervision.testing.fault_injection.faults import (
    Delay,
    Drop,
    Duplicate,
    Exhaust,
    ExitFault,
    Fault,
    Kill,
    KillDuring,
    Sigkill,
    Suspend,
)
from supervision.testing.fault_injection.injector import Injector
from supervision.testing.fault_injection.plan import ChaosPlan, ChaosStep
from supervision.testing.fault_injection.report import FaultRecord, Report, ReportBuilder
from supervision.testing.fault_injection.restart_costs import RestartForecast, ends_with

#: The faults that strike at once. The others wait for something: a message, an order to end, the next start.
AT_ONCE = (Kill, ExitFault, Sigkill, Drop, Delay, Duplicate, Suspend, Exhaust)


class Chaos:
    """Carries out plans. What lasts is healed when the block is left, whatever happened in it.

    Args:
        runtime: on whose actors.
        log: the event log of the run; one with the last 10,000 events if None.
        may_hit: asked before each fault; False spares the actor.
        dry: whether nothing is done but to tell, by `before`, what would be.
        before: called with each step and the actor it is about to hit.
        clients: whose requests are in the report.
        checks: what the run is judged by, from the moment the block is entered.
    """

    def __init__(
        self,
        runtime: Runtime,
        *,
        log: EventLog | None = None,
        may_hit: Callable[[Ref], bool] | None = None,
        dry: bool = False,
        before: Callable[[ChaosStep, Ref], object] | None = None,
        clients: Iterable[Client] = (),
        checks: Iterable[NewCheck] = ALWAYS,
    ) -> None:
        self._runtime = runtime
        self._log = log
        self._may_hit = may_hit
        self._dry = dry
        self._before = before
        self._clients = list(clients)
        #: By which the run is judged.
        self.judge = Judge(checks)

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        runtime = self._runtime
        self.log = EventLog(runtime, keep=10_000) if self._log is None else self._log
        self._report = ReportBuilder(runtime)
        self._paths: dict[str, Cell] = {}
        for cell in runtime.actors():
            assert isinstance(cell, Cell)
            self._paths[cell.path] = cell
        self._restarts = RestartForecast(runtime)
        #: The paths at which there has ever been an actor.
        self.met = set(self._paths)
        self._triggers: list[tuple[ChaosStep, Injector]] = []
        self._injectors: list[Injector] = []
        self._plan = ChaosPlan()
        self._subscriptions = [runtime.subscribe(self.judge), runtime.subscribe(self._watch, ActorEvent)]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Heal all that lasts."""
        self.heal()

    def client(self, **options: object) -> Client:
        """Return a new client that takes part; the arguments are those of `Client`."""
        client = Client(self._runtime, **options)  # type: ignore[arg-type]
        self._clients.append(client)
        return client

    def heal(self) -> None:
        """Heal all that lasts, and do no more harm."""
        self._triggers.clear()
        for injector in self._injectors:
            injector.close()
        self._injectors.clear()
        for subscription in self._subscriptions:
            subscription.close()
        self._report.close()

    # -- a plan ----------------------------------------------------------------------------------------------

    async def run(self, plan: ChaosPlan) -> Report:
        """Carry a plan out, heal what lasts, wait until all is quiet, and report."""
        self._plan = plan
        self._report.complete = False
        injector = Injector(self._runtime, plan.seed)
        self._injectors = [each for each in self._injectors if not each.closed]
        self._injectors.append(injector)
        began = self._runtime.clock.time()
        for step in sorted(plan.steps, key=lambda step: step.at):
            await self._until(began + step.at)
            self._take(step, injector)
        await self._until(began + plan.duration)
        self._report.complete = not self._triggers
        self._triggers.clear()
        injector.close()
        await settled(self._runtime)
        return self.report()

    async def _until(self, time: float) -> None:
        now = self._runtime.clock.time()
        if time > now:
            await self._runtime.sleep(time - now)
        else:
            await asyncio.sleep(0)  # so that what the last fault did takes effect

    def _take(self, step: ChaosStep, injector: Injector) -> None:
        if step.on is not None:
            self._triggers.append((step, injector))
            return
        if any(sign in step.path for sign in "*?["):
            victims = [cell for path, cell in sorted(self._paths.items()) if fnmatchcase(path, step.path)]
        else:
            victims = [self._paths[step.path]] if step.path in self._paths else []
        if not victims:
            self._report.planned += 1
        for cell in victims:
            self._hit(step, cell, injector)

    def _hit(self, step: ChaosStep, cell: Cell, injector: Injector) -> None:
        fault = step.fault
        record = self._report.book()
        at_once = isinstance(fault, AT_ONCE)
        if (self._may_hit is not None and not self._may_hit(cell)) or (at_once and not self._allowed(cell, fault)):
            record.held_back()
            return
        if self._before is not None:
            self._before(step, cell)
        if self._dry:
            record.done()
            return
        if at_once:
            self._strikes(record, fault, cell)
        heal = injector.inject(cell, fault, lambda struck: self._may_strike(record, fault, struck))
        if step.until is not None:
            left = max(0.0, step.until - step.at)
            self._runtime.scheduler.timers.after(left, heal)

    def _allowed(self, cell: Cell, fault: Fault) -> bool:
        return self._plan.mode != "within_budget" or self._restarts.affordable(cell, fault)

    def _may_strike(self, record: FaultRecord, fault: Fault, cell: Cell) -> bool:
        """Let a fault strike whose moment has come, unless a supervisor would have to give up now."""
        if not self._allowed(cell, fault):
            record.held_back()
            return False
        self._strikes(record, fault, cell)
        return True

    def _strikes(self, record: FaultRecord, fault: Fault, cell: Cell) -> None:
        record.done()
        self._restarts.strikes(cell, fault)
        if isinstance(fault, KillDuring):
            self._report.hit(cell, for_good=fault.phase != "terminate")
        elif ends_with(fault, cell) is not None:
            self._report.hit(cell)
        elif isinstance(fault, ExitFault) and fault.reason not in ("normal", "shutdown"):
            self._report.hit(cell, reason=Abnormal(fault.reason))  # it gets a message, and may or may not end

    def report(self) -> Report:
        """Return what has happened so far."""
        return self._report.report(self._plan, together(self._clients), self.judge.end(), self.log.digest())

    # -- events ----------------------------------------------------------------------------------------------

    def _watch(self, event: Event) -> None:
        assert isinstance(event, ActorEvent)
        match event:
            case events.StartAttempt():
                assert isinstance(event.ref, Cell)
                self._paths[event.path] = event.ref
                self.met.add(event.path)
            case events.Exited() | events.StartFailed() | events.StartIgnored():
                self._forget(event)
            case _:
                pass
        self._restarts.see(event)
        if self._triggers:
            self._trigger(event)

    def _forget(self, event: ActorEvent) -> None:
        if self._paths.get(event.path) is event.ref:
            del self._paths[event.path]

    def _trigger(self, event: ActorEvent) -> None:
        name = event.name if isinstance(event, events.TracePoint) else type(event).__name__
        for trigger in list(self._triggers):
            step, injector = trigger
            if step.on == name and fnmatchcase(event.path, step.path):
                self._triggers.remove(trigger)
                assert isinstance(event.ref, Cell)
                self._hit(step, event.ref, injector)
