"""Chaos: carries a plan out on a runtime, and reports.

>>> import asyncio
>>> from supervision import Actor, ChildSpec, Runtime, Supervisor
>>> from supervision.testing import Chaos, Kill, Plan, run
>>> async def main() -> None:
...     async with Runtime(watchdog=None, reports=False) as runtime:
...         await runtime.spawn(Supervisor, [ChildSpec("a", Actor), ChildSpec("b", Actor)], name="app")
...         async with Chaos(runtime) as chaos:
...             report = await chaos.run(Plan.random(runtime, seed=7, steps=100, seconds=600))
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
from supervision._cell import Cell
from supervision._keeper import worth_a_restart
from supervision.events import ActorEvent, Event
from supervision.reasons import KILLED
from supervision.ref import Ref
from supervision.runtime import Runtime
from supervision.testing.barrier import settled
from supervision.testing.checks import ALWAYS, Judge, NewCheck
from supervision.testing.client import Client, together
from supervision.testing.event_log import EventLog
from supervision.testing.faults import Crash, Exit, FailStart, Fault, Kill, KillDuring, Sigkill
from supervision.testing.injector import Heal, Injector
from supervision.testing.plan import Plan, Step
from supervision.testing.report import Report, Tally
from supervision.testing.victims import spec_of

#: The faults that end an actor.
DEADLY = (Kill, Exit, Crash, KillDuring, Sigkill)


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
        before: Callable[[Step, Ref], object] | None = None,
        clients: Iterable[Client] = (),
        checks: Iterable[NewCheck] = ALWAYS,
    ) -> None:
        self._runtime = runtime
        self._log = log
        self._may_hit = may_hit
        self._dry = dry
        self._before = before
        self._clients = list(clients)
        self._judge = Judge(checks)

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        runtime = self._runtime
        self.log = EventLog(runtime, keep=10_000) if self._log is None else self._log
        self._tally = Tally(runtime)
        self._paths: dict[str, Cell] = {}
        for cell in runtime.actors():
            assert isinstance(cell, Cell)
            self._paths[cell.path] = cell
        #: Restarts that were caused and that supervisors have not counted yet: the victim, and its supervisor.
        self._pending: dict[Ref, Ref] = {}
        self._triggers: list[tuple[Step, Injector]] = []
        self._injectors: list[Injector] = []
        self._plan = Plan()
        self._subscriptions = [runtime.subscribe(self._judge), runtime.subscribe(self._watch, ActorEvent)]
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
        self._tally.close()

    # -- a plan ----------------------------------------------------------------------------------------------

    async def run(self, plan: Plan) -> Report:
        """Carry a plan out, heal what lasts, wait until all is quiet, and report."""
        self._plan = plan
        injector = Injector(self._runtime, plan.seed)
        self._injectors = [each for each in self._injectors if not each.closed]
        self._injectors.append(injector)
        began = self._runtime.clock.time()
        for step in sorted(plan.steps, key=lambda step: step.at):
            await self._until(began + step.at)
            self._take(step, injector)
        await self._until(began + plan.duration)
        self._triggers.clear()
        injector.close()
        await settled(self._runtime)
        return self.report()

    async def _until(self, time: float) -> None:
        now = self._runtime.clock.time()
        if time > now:
            await self._runtime.sleep(time - now)
        else:
            await asyncio.sleep(0)  # what the last fault did gets on its way

    def _take(self, step: Step, injector: Injector) -> None:
        if step.on is not None:
            self._triggers.append((step, injector))
            return
        if any(sign in step.path for sign in "*?["):
            victims = [cell for path, cell in sorted(self._paths.items()) if fnmatchcase(path, step.path)]
        else:
            victims = [self._paths[step.path]] if step.path in self._paths else []
        if not victims:
            self._tally.planned += 1
            self._tally.missed += 1
        for cell in victims:
            self._tally.planned += 1
            self._hit(step, cell, injector)

    def _hit(self, step: Step, cell: Cell, injector: Injector) -> None:
        if self._may_hit is not None and not self._may_hit(cell):
            self._tally.held_back += 1
            return
        if self._plan.mode == "within_budget" and not self._affordable(cell, step.fault):
            self._tally.held_back += 1
            return
        if self._before is not None:
            self._before(step, cell)
        self._tally.done += 1
        if not self._dry:
            heal = self._inflict(cell, step.fault, injector)
            if step.until is not None:
                left = max(0.0, step.until - step.at)
                self._runtime.scheduler.timers.after(left, heal)

    def _inflict(self, cell: Cell, fault: Fault, injector: Injector) -> Heal:
        if isinstance(fault, DEADLY):
            self._tally.hit(cell)
            if cell.parent is not None and self._counts(cell):
                self._pending[cell] = cell.parent
        return injector.inflict(cell, fault)

    def report(self) -> Report:
        """Return what has happened so far."""
        return self._tally.report(self._plan, together(self._clients), self._judge.end(), self.log.digest())

    # -- the budget ------------------------------------------------------------------------------------------

    def _counts(self, cell: Cell) -> bool:
        """Whether its supervisor counts a restart if it is killed."""
        spec = spec_of(cell)
        return spec is not None and worth_a_restart(spec, KILLED)

    def _affordable(self, cell: Cell, fault: Fault) -> bool:
        cost = 1 if isinstance(fault, DEADLY) and self._counts(cell) else 0
        cost += fault.times if isinstance(fault, FailStart) else 0
        keeper = cell.parent
        if cost == 0 or not isinstance(keeper, Cell) or keeper.actor is None:
            return True
        state = keeper.actor.budget.state(self._runtime.clock.time())  # type: ignore[attr-defined]
        due = sum(1 for supervisor in self._pending.values() if supervisor is keeper)
        return bool(state.used + due + cost <= state.allowed)

    # -- events ----------------------------------------------------------------------------------------------

    def _watch(self, event: Event) -> None:
        assert isinstance(event, ActorEvent)
        match event:
            case events.StartAttempt():
                assert isinstance(event.ref, Cell)
                self._paths[event.path] = event.ref
            case events.Exited() | events.StartFailed() | events.StartIgnored():
                self._forget(event)
            case events.RestartScheduled() if event.child is not None:
                self._pending.pop(event.child, None)
            case events.StopRequested() | events.GaveUp():
                self._pending.pop(event.ref, None)
            case _:
                pass
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
                self._tally.planned += 1
                assert isinstance(event.ref, Cell)
                self._hit(step, event.ref, injector)
