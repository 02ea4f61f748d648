"""What all supervisors share: how one child is started and stopped, the restart budget, and the events."""

from __future__ import annotations

import asyncio
import inspect
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from functools import wraps
from itertools import islice
from typing import Any, ClassVar

from supervision import events
from supervision._core.cell import Cell
from supervision._core.dispatch import handle
from supervision._core.phases import IGNORE
from supervision.actor import Actor, StopLimit
from supervision.call import Call
from supervision.errors import (
    AlreadyRegistered,
    AlreadyStarted,
    BadChildSpec,
    Refuse,
    SpecError,
    StartError,
    StartIgnored,
    Stop,
    UnhandledMessage,
)
from supervision.reasons import (
    KILLED,
    SHUTDOWN,
    Abnormal,
    ExitReason,
    FailedToStartChild,
    Killed,
    Shutdown,
    StartTimeout,
    as_reason,
    crashed,
)
from supervision.ref import Name, Ref, as_address
from supervision.supervisors.administration import (
    ChildCounts,
    ChildInfo,
    CountChildren,
    GetBudget,
    GetStatistics,
    SupervisorInfo,
    SupervisorRequest,
    SupervisorStatistics,
)
from supervision.supervisors.childspec import START, AutoShutdown, ChildSpec, check_significant
from supervision.supervisors.restarts import BudgetState, RestartBudget


class BaseSupervisor(Actor):
    """The base of all supervisors: starting and stopping one child, the restart budget, and the events."""

    trap_exit = True
    shutdown: ClassVar[StopLimit] = "infinity"
    is_supervisor: ClassVar[bool] = True
    infrastructure: ClassVar[bool] = True

    budget: RestartBudget

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if "init" in cls.__dict__:
            cls.init = _rolled_back(cls.init)  # type: ignore[assignment, method-assign]
        super().__init_subclass__(**kwargs)

    @abstractmethod
    async def stop_all(self) -> None:
        """Stop all children in order."""

    @abstractmethod
    def each(self) -> Iterator[ChildInfo]:
        """Yield the children's records, first started first."""

    @abstractmethod
    def size(self) -> int:
        """Return how many children there are, with those that do not run."""

    def views(self) -> list[ChildInfo]:
        """Return the children's records, first started first."""
        return list(self.each())

    @abstractmethod
    def spec_of(self, ref: Ref) -> ChildSpec | None:
        """Return the specification of the child that runs as ``ref``; None if it is none of its children."""

    @abstractmethod
    def pending(self) -> Iterable[ChildSpec]:
        """Return the specifications of the children that do not run but are about to be restarted."""

    def unhandled(self, message: Any) -> Any:
        """Refuse an order that another kind of supervisor offers.

        An unknown request crashes a supervisor, as in OTP; any other unknown message is logged and ignored.
        """
        if self._cell.call_in_hand is not None and not isinstance(message, SupervisorRequest):
            raise UnhandledMessage(self._cell, message)
        return super().unhandled(message)

    @abstractmethod
    def uncounted_restarts(self) -> Iterator[ChildSpec]:
        """Return the children whose last start has failed, and whose next one is not counted in the budget yet."""

    def tell(self, kind: type[events.SupervisorEvent], spec: ChildSpec, child: Ref | None, **fields: Any) -> None:
        """Emit an event about a child."""
        if self._cell.sched.events.listening:
            known = {"id": spec.id, "restart": spec.restart, "shutdown": spec.shutdown, "type": spec.type}
            self._cell.emit(kind, child=child, **known, **fields)

    def close_vacancy(self, spec: ChildSpec) -> None:
        """Fail calls that wait for this child's restart: there will be none."""
        if spec.name is not None:
            self.runtime.vacancies.close(spec.name, self._cell)

    def begin_one(self, spec: ChildSpec) -> Cell | Coroutine[Any, Any, tuple[Cell | None, Any]]:
        """Start a child as far as possible without waiting; return it, or a coroutine for the rest of its start.

        Raises:
            StartError, SpecError, AlreadyRegistered: it did not start.
        """
        kind = spec.kind
        if kind is None:
            return self._start_by_call(spec)
        parent = self._cell
        cell = parent.sched.runtime.begin(
            kind, spec.args, spec.kwargs, name=spec.name, parent=parent, label=spec.id, isolation=spec.isolation
        )
        if cell.starting is not None:
            return self._start_slowly(spec, cell, cell.starting)
        if parent.sched.events.listening:
            self.report_started(spec, cell)
        return cell

    async def start_one(self, spec: ChildSpec) -> tuple[Cell | None, Any]:
        """Start a child; return it and its extra information, (None, None) if it ignored the start.

        Raises:
            StartError, SpecError, AlreadyRegistered: it did not start.
        """
        try:
            begun = self.begin_one(spec)
            return (begun, None) if isinstance(begun, Cell) else await begun
        except StartIgnored:
            return None, None

    def start_refused(self, spec: ChildSpec, error: Exception) -> Refuse:
        """Emit `ChildStartFailed`, and return the refusal of the order to start a child.

        For a taken name it has the holder, as in OTP.
        """
        self.close_vacancy(spec)
        self.tell(events.ChildStartFailed, spec, None, reason=start_reason(error))
        if isinstance(error, AlreadyRegistered):
            return Refuse(AlreadyStarted(spec.id, error.ref))
        return Refuse(error)

    def first_start_failed(self, spec: ChildSpec, error: Exception) -> Stop:
        """Emit `ChildStartFailed` for a child of the first list, and return why the supervisor does not start."""
        reason = start_reason(error)
        self.tell(events.ChildStartFailed, spec, None, reason=reason)
        return Stop(Shutdown(FailedToStartChild(spec.id, reason)))

    async def _start_slowly(self, spec: ChildSpec, cell: Cell, starting: Call[None]) -> tuple[Cell | None, Any]:
        # The start may be over before the supervisor gets here.
        await self.runtime.complete(cell, spec.start_timeout, starting)
        self.report_started(spec, cell)
        return cell, None

    async def _start_by_call(self, spec: ChildSpec) -> tuple[Cell | None, Any]:
        cell, info = await self._called(spec)
        if cell is not None:
            self.report_started(spec, cell)
        return cell, info

    def report_started(self, spec: ChildSpec, cell: Cell) -> None:
        """Emit `ChildStarted`."""
        self.tell(events.ChildStarted, spec, cell, significant=spec.significant)

    async def _call(self, spec: ChildSpec) -> Any:
        try:
            result: Any = spec.start(*spec.args, **spec.kwargs)
            return await self._in_time(spec, result) if inspect.isawaitable(result) else result
        except (StartError, SpecError, AlreadyRegistered, GeneratorExit):
            raise
        except BaseException as error:
            task = asyncio.current_task()
            ending = isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling()
            if ending:  # the supervisor's own code is cancelled
                raise
            self._cell.sched.interrupt(error)
            raise StartError(f"child {spec.id!r}", raised_reason(error)) from error

    async def _in_time(self, spec: ChildSpec, starting: Awaitable[Any]) -> Any:
        if spec.start_timeout is None:
            return await starting
        task = asyncio.ensure_future(starting)
        try:
            if await self._cell.sched.wait(task, spec.start_timeout):
                return await task
        finally:
            task.cancel()
        raise StartError(f"child {spec.id!r}", StartTimeout(spec.start_timeout))

    async def _called(self, spec: ChildSpec) -> tuple[Cell | None, Any]:
        result = await self._call(spec)
        if result is IGNORE:
            return None, None
        cell, info = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
        if not isinstance(cell, Cell) or cell.sched is not self._cell.sched:
            raise StartError(f"child {spec.id!r}", Abnormal(result)) from BadChildSpec(
                f"child {spec.id!r}: start", result, START
            )
        if not cell.linked_to(self._cell):
            self.link(cell)
        if cell.label is None:
            cell.label = spec.id
        if spec.name is not None and cell.name is None:
            try:
                self.runtime.register(spec.name, cell)
            except AlreadyRegistered:
                await self.stop_one(spec, cell)
                raise
        return cell, info

    async def stop_one(self, spec: ChildSpec, cell: Cell) -> None:
        """Stop a child within its limit; report an end that was not as ordered."""
        self.order_stop(spec, cell)
        await self.wait_stopped(spec, cell)

    async def wait_stopped(self, spec: ChildSpec, cell: Cell) -> None:
        """Wait for the end that was ordered; report one that was not as ordered."""
        self.report_stopped(spec, cell, await self._wait_for_end(spec, cell))

    def order_stop(self, spec: ChildSpec, cell: Cell) -> None:
        """Order a child to stop."""
        own = self._cell
        brutal = spec.shutdown == "brutal_kill"
        if own.sched.events.listening:
            cell.emit(events.StopRequested, reason=KILLED if brutal else SHUTDOWN)
        own.unlink(cell)
        if brutal:
            cell.end_by_force(KILLED)
        else:
            cell.signal(own, SHUTDOWN, parent=True, patient=True)

    async def _wait_for_end(self, spec: ChildSpec, cell: Cell) -> ExitReason:
        if cell.reason is not None:
            return cell.reason
        end = cell.end_future()
        limit = spec.shutdown
        if isinstance(limit, (int, float)) and not await self._cell.sched.wait(end, limit):
            cell.end_by_force(KILLED)
        return await end

    def report_stopped(self, spec: ChildSpec, cell: Cell, reason: ExitReason) -> None:
        """Emit `ChildShutdownFailed` for a child that did not stop as ordered, by OTP's rules."""
        brutal = spec.shutdown == "brutal_kill"
        if isinstance(reason, Killed):
            fine = brutal
        elif reason == SHUTDOWN:
            fine = not brutal or spec.restart != "permanent"
        else:
            fine = reason.clean and spec.restart != "permanent"
        if not fine:
            self.tell(events.ChildShutdownFailed, spec, cell, reason=reason)

    def spend_restart(self, spec: ChildSpec, last: Cell | None, reason: ExitReason) -> float | None:
        """Count a restart; return the pause before it, or None if the supervisor gives up instead."""
        now = self.runtime.clock.time()
        allowed = self.budget.spend(now)
        state = self.budget.state(now)
        if not allowed:
            self.runtime.vacancies.close_all(self._cell)
            self.tell(events.GaveUp, spec, last, reason=reason, allowed=state.allowed, seconds=state.seconds)
            self.stop(SHUTDOWN)
            return None
        delay = 0.0 if spec.backoff is None else spec.backoff.delay(state.used, self.runtime.random)
        if self._cell.sched.events.listening:
            window = {"used": state.used, "allowed": state.allowed, "seconds": state.seconds}
            self.tell(events.RestartScheduled, spec, last, delay=delay, **window)
        return delay

    @handle
    def count_children(self, request: CountChildren) -> ChildCounts:
        """Count the children."""
        children = self.views()
        supervisors = sum(child.type == "supervisor" for child in children)
        active = sum(child.ref is not None for child in children)
        return ChildCounts(len(children), active, supervisors, len(children) - supervisors)

    @handle
    def statistics(self, request: GetStatistics) -> SupervisorStatistics:
        """Return the supervisor in numbers."""
        restarts = sum(child.restarts for child in self.views())
        return SupervisorStatistics(self.count_children(CountChildren()), self.get_budget(GetBudget()), restarts)

    @handle
    def get_budget(self, request: GetBudget) -> BudgetState:
        """Return how much of the restart budget is used."""
        return self.budget.state(self.runtime.clock.time())


def _rolled_back(init: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Have an ``init`` that fails, or declines the start, stop the children already started."""

    @wraps(init)
    async def checked(self: BaseSupervisor) -> Any:
        try:
            result = init(self)
            answer = await result if inspect.isawaitable(result) else result
        except Exception:
            await self.stop_all()
            raise
        if answer is IGNORE:
            await self.stop_all()
        return answer

    return checked


def raised_reason(error: BaseException) -> ExitReason:
    """Return the reason for which a start function did not start a child."""
    return as_reason(error.reason) if isinstance(error, Stop) else crashed(error)


def start_reason(error: BaseException) -> ExitReason:
    """Return why a start failed, as a reason."""
    return error.reason if isinstance(error, StartError) else crashed(error)


def checked_spec(spec: object, auto_shutdown: AutoShutdown, extra_arguments: tuple[Any, ...] = ()) -> ChildSpec:
    """Return a specification that a supervisor was asked to start, or refuse the request if it is wrong."""
    try:
        checked = spec if type(spec) is ChildSpec else ChildSpec.of(spec)
        if checked.significant:
            check_significant(checked, auto_shutdown)
        checked.check_arguments(extra_arguments)
    except SpecError as error:
        raise Refuse(error) from None
    return checked


def supervisor_info(ref: Ref | Name, limit: int | None = None) -> SupervisorInfo | None:
    """Return a snapshot of a supervisor, read without a message; None if it is no supervisor or has ended.

    Args:
        ref: the supervisor.
        limit: how many children it lists, the first ones; None for all.
    """
    supervisor = _supervisor_behind(ref)
    if supervisor is None:
        return None
    children = tuple(islice(supervisor.each(), limit))
    ids = frozenset(spec.id for spec in pending_children(ref))
    return SupervisorInfo(children, supervisor.budget.state(ref.runtime.clock.time()), ids, supervisor.size())


def pending_children(ref: Ref | Name) -> list[ChildSpec]:
    """Return the children that a supervisor is about to start or restart, without asking it, also while it is busy.

    Returns:
        Their specifications; none if ``ref`` is no supervisor, or has ended.
    """
    supervisor = _supervisor_behind(ref)
    if supervisor is None:
        return []
    if supervisor._cell.born is None:
        return [child.spec for child in supervisor.each() if child.ref is None]
    return list(supervisor.pending())


def _supervisor_behind(ref: Ref | Name) -> BaseSupervisor | None:
    """Return the supervisor behind an address, once it starts its children; else None."""
    ref = as_address("look", ref).runtime.own_cell("look", ref)
    made = ref.alive and (ref.born is not None or ref.starting is not None)
    return ref.actor if made and isinstance(ref.actor, BaseSupervisor) else None
