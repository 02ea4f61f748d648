"""How many restarts a fault will use up, before it strikes, and whether the supervisors can afford them.

A supervisor counts a restart when it learns of a death, or retries a failed start: later than the fault. So what has
happened and is not counted there yet is added here.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from supervision import events
from supervision._core.cell import Cell
from supervision._core.phases import IDLE, STARTING
from supervision.events import ActorEvent
from supervision.reasons import KILLED, NORMAL, SHUTDOWN, Abnormal, ExitReason
from supervision.runtime import Runtime
from supervision.supervisors._base import BaseSupervisor
from supervision.supervisors.childspec import child_key
from supervision.supervisors.restarts import should_restart
from supervision.supervisors.supervisor import Supervisor
from supervision.testing.fault_injection.faults import Crash, ExitFault, FailStart, Fault, Kill, KillDuring, Sigkill
from supervision.testing.fault_injection.victims import supervisor_of

#: The exit reason of an actor that gets an exit signal with one of these words (the fault `ExitFault`).
ENDS: dict[str, ExitReason] = {"normal": NORMAL, "shutdown": SHUTDOWN, "kill": KILLED}

#: How many restarts each supervisor will count.
Costs = Counter[Cell]


def ends_with(fault: Fault, cell: Cell) -> ExitReason | None:
    """Return for what reason an actor ends if a fault strikes it now; None if it does not end for sure."""
    match fault:
        case Kill() | KillDuring(phase="handler"):
            return KILLED
        case Crash():
            return Abnormal(fault.message)
        case Sigkill():
            return KILLED if cell in cell.runtime.processes else None
        case ExitFault():
            reason = ENDS.get(fault.reason, Abnormal(fault.reason))
            heeds = reason is KILLED or not (cell.trap_exit or reason is NORMAL)
            return reason if heeds else None
        case _:
            return None


class RestartForecast:
    """Predicts which restarts supervisors will count."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        #: By supervisor: children whose start is about to fail, or has failed, and was not retried yet.
        self._failing: defaultdict[Cell, set[object]] = defaultdict(set)

    def affordable(self, cell: Cell, fault: Fault) -> bool:
        """Whether no supervisor has to give up if a fault strikes an actor now."""
        now = self._runtime.clock.time()
        for supervisor, cost in self._costs(cell, fault).items():
            assert isinstance(supervisor.actor, BaseSupervisor)
            state = supervisor.actor.budget.state(now)
            if state.used + self._due(supervisor) + cost > state.allowed:
                return False
        return True

    def strikes(self, cell: Cell, fault: Fault) -> None:
        """Note what a fault that is about to strike an actor will cost later."""
        if _at_start(fault) or _starts_and_ends(cell, fault):
            for supervisor, id in _responsible(cell):
                self._failing[supervisor].add(id)

    def see(self, event: ActorEvent) -> None:
        """Note what supervisors have counted by now."""
        supervisor = event.ref
        if supervisor not in self._failing:
            return
        assert isinstance(supervisor, Cell)
        if isinstance(event, (events.RestartScheduled, events.ChildStarted)):
            self._failing[supervisor].discard(child_key(event.id))
        elif isinstance(event, (events.GaveUp, events.Exited)):
            del self._failing[supervisor]

    def _costs(self, cell: Cell, fault: Fault) -> Costs:
        if _at_start(fault) or _starts_and_ends(cell, fault):
            return Costs(supervisor for supervisor, _ in _responsible(cell))
        reason = ends_with(fault, cell)
        if reason is None and isinstance(fault, ExitFault) and fault.reason != "normal":
            reason = ENDS.get(fault.reason, Abnormal(fault.reason))  # it gets a message, and may well end
        return Costs() if reason is None else costs_of_an_end(cell, reason)

    def _due(self, supervisor: Cell) -> int:
        """Return how many restarts a supervisor has still to count."""
        actor = supervisor.actor
        assert isinstance(actor, BaseSupervisor)
        if supervisor.head is IDLE:
            self._failing.pop(supervisor, None)  # all failures were dealt with
        failing = {child_key(spec.id) for spec in actor.uncounted_restarts()} | self._failing.get(supervisor, set())
        return len(failing) + sum(_dead(child.ref) and _counts(child.spec, child.ref) for child in actor.each())


def costs_of_an_end(cell: Cell, reason: ExitReason) -> Costs:
    """Return the costs of an actor's end: for it, for linked actors, and for supervisors above them."""
    costs = Costs()
    seen = {cell}
    falls = [(cell, reason)]
    while falls:
        one, why = falls.pop()
        supervisor = supervisor_of(one)
        above = one.parent
        if supervisor is not None and above not in seen:
            assert isinstance(above, Cell)
            spec = supervisor.spec_of(one)
            if spec is None or should_restart(spec, why):  # None: it has started, but the supervisor does not know yet
                costs[above] += 1
            elif spec.significant and _ends_with_children(supervisor):
                seen.add(above)
                falls.append((above, SHUTDOWN))
        for peer in one.peers():
            if isinstance(peer, Cell) and peer.alive and peer not in seen and not peer.trap_exit and why is not NORMAL:
                seen.add(peer)
                falls.append((peer, why))
    return costs


def _ends_with_children(supervisor: BaseSupervisor) -> bool:
    return isinstance(supervisor, Supervisor) and supervisor.auto_shutdown != "never"


def _at_start(fault: Fault) -> bool:
    """Whether a fault lets a start fail."""
    if isinstance(fault, FailStart):
        return fault.how in ("raise", "refuse", "hang")
    return isinstance(fault, KillDuring) and fault.phase in ("init", "restart")


def _starts_and_ends(cell: Cell, fault: Fault) -> bool:
    """Whether a fault ends an actor that is still starting, or has, and its supervisor does not know that yet."""
    supervisor = supervisor_of(cell)
    young = cell.phase == STARTING or (supervisor is not None and supervisor.spec_of(cell) is None)
    return young and ends_with(fault, cell) is not None


def _responsible(cell: Cell) -> Iterator[tuple[Cell, object]]:
    """Return the supervisor that counts a failed start of an actor, the first that runs, and for which child."""
    above = cell.parent
    while isinstance(above, Cell) and above.phase == STARTING:
        cell, above = above, above.parent
    if isinstance(above, Cell) and above.alive and isinstance(above.actor, BaseSupervisor):
        yield above, child_key(cell.label)


def _dead(ref: object) -> bool:
    return isinstance(ref, Cell) and not ref.alive


def _counts(spec: object, ref: object) -> bool:
    assert isinstance(ref, Cell)
    return should_restart(spec, ref.exit_reason or KILLED)  # type: ignore[arg-type]
