"""Supervisors: actors that start, watch, restart and stop other actors, by OTP's rules.

The rules are those of OTP's ``supervisor`` module: ordered start with rollback, ordered stop with a limit for each
child, three strategies, one restart budget for all children, and failed restarts retried through the supervisor's own
mailbox, so that it answers orders in between.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, ClassVar, Literal, get_args

import msgspec

from supervision import events
from supervision._cell import Cell
from supervision._dispatch import handle
from supervision._marks import IGNORE
from supervision.actor import Actor
from supervision.budget import BudgetState, RestartBudget
from supervision.call import Call
from supervision.childspec import START, AutoShutdown, ChildSpec, check_child_specs, check_significant
from supervision.errors import (
    AlreadyPresent,
    AlreadyRegistered,
    AlreadyStarted,
    BadChildSpec,
    BadStrategy,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    NotRunning,
    Refuse,
    SpecError,
    StartError,
    StartIgnored,
    Stop,
    UnhandledMessage,
)
from supervision.messages import Exit, Message, Request
from supervision.reasons import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Abnormal,
    ExitReason,
    FailedToStartChild,
    Killed,
    Shutdown,
    crashed,
)
from supervision.ref import Address, Ref

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]


class ChildInfo(msgspec.Struct, frozen=True):
    """A child at this moment. ``ref`` is None while it does not run; ``restarting`` tells why that may be."""

    id: Any
    ref: Ref | None
    restarting: bool
    spec: ChildSpec
    info: Any = None
    restarts: int = 0

    @property
    def type(self) -> str:
        """``worker`` or ``supervisor``."""
        return self.spec.type or "worker"


class Counts(msgspec.Struct, frozen=True):
    """How many children: specifications, running ones, and of what type by specification."""

    specs: int
    active: int
    supervisors: int
    workers: int


class SupervisorInfo(msgspec.Struct, frozen=True):
    """A supervisor at this moment: its children, first started first, and its restart budget."""

    children: tuple[ChildInfo, ...]
    budget: BudgetState


class StartChild(Request[Ref | None], frozen=True):
    """Start a child. The answer is its address, or None if it ignored the start."""

    spec: Any


class TerminateChild(Request[None], frozen=True):
    """Stop a child and keep its specification, unless it is temporary."""

    id: Any


class RestartChild(Request[Ref | None], frozen=True):
    """Start a stopped child again."""

    id: Any


class DeleteChild(Request[None], frozen=True):
    """Forget the specification of a stopped child."""

    id: Any


class WhichChildren(Request[list[ChildInfo]], frozen=True):
    """List the children, last started first."""


class WhichChild(Request[ChildInfo], frozen=True):
    """Tell of one child."""

    id: Any


class CountChildren(Request[Counts], frozen=True):
    """Count the children."""


class GetChildSpec(Request[ChildSpec], frozen=True):
    """Return the specification of a child, with all defaults filled in."""

    id: Any


class GetBudget(Request[BudgetState], frozen=True):
    """Tell how much of the restart budget is used."""


class TryAgain(Message, frozen=True):
    """A supervisor's note to itself: a restart is due."""

    child: Child
    attempt: object


class Child:
    """A supervisor's record of one child."""

    __slots__ = ("attempt", "failure", "info", "last", "paused", "ref", "restarts", "spec")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.ref: Cell | None = None
        #: The last incarnation, while there is none.
        self.last: Cell | None = None
        #: Marks the restart that is due; None when none is.
        self.attempt: object = None
        #: Whether that restart was counted already and only waits for its pause to end.
        self.paused = False
        #: Why the last attempt to start it failed.
        self.failure: ExitReason = NORMAL
        self.info: Any = None
        self.restarts = 0

    def view(self) -> ChildInfo:
        """Return what others may see."""
        return ChildInfo(self.spec.id, self.ref, self.attempt is not None, self.spec, self.info, self.restarts)


class ChildKeeper(Actor):
    """What all supervisors share: starting and stopping one child, the budget, and what is told of it."""

    trap_exit = True
    shutdown: ClassVar[float | str] = "infinity"
    is_supervisor: ClassVar[bool] = True

    budget: RestartBudget

    @abstractmethod
    def views(self) -> list[ChildInfo]:
        """Return what others may see of the children, first started first."""

    def unhandled(self, message: Any) -> Any:
        """An unknown request crashes a supervisor, as in OTP; anything else is noted and ignored."""
        if self._cell.call_in_hand is not None:
            raise UnhandledMessage(self._cell, message)
        return super().unhandled(message)

    def tell(self, kind: type[events.SupervisorEvent], id: Any, child: Ref | None, **fields: Any) -> None:
        """Put something about a child on the event stream."""
        self._cell.emit(kind, id=id, child=child, **fields)

    def begin_one(self, spec: ChildSpec) -> Cell | Coroutine[Any, Any, tuple[Cell | None, Any]]:
        """Start a child as far as it goes without waiting: return it if that is all, else a coroutine for the rest.

        Raises:
            StartError, SpecError, AlreadyRegistered: it did not start.
        """
        kind = spec.kind
        if kind is None:
            return self._start_by_call(spec)
        cell = self.runtime.begin(kind, spec.args, spec.kwargs, name=spec.name, parent=self._cell, label=spec.id)
        if cell.starting is not None:
            return self._start_slowly(spec, cell.starting)
        self.tell_started(spec, cell)
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

    async def _start_slowly(self, spec: ChildSpec, starting: Call[None]) -> tuple[Cell | None, Any]:
        await starting
        self.tell_started(spec, starting.target)
        return starting.target, None

    async def _start_by_call(self, spec: ChildSpec) -> tuple[Cell | None, Any]:
        cell, info = await self._called(spec)
        if cell is not None:
            self.tell_started(spec, cell)
        return cell, info

    def tell_started(self, spec: ChildSpec, cell: Cell) -> None:
        """Tell of a child that was started."""
        if self._cell.sched.events.listening:
            self.tell(
                events.ChildStarted,
                spec.id,
                cell,
                restart=spec.restart,
                shutdown=spec.shutdown,
                type=spec.type,
                significant=spec.significant,
            )

    async def _called(self, spec: ChildSpec) -> tuple[Cell | None, Any]:
        result: Any = spec.start(*spec.args, **spec.kwargs)
        if inspect.isawaitable(result):
            result = await result
        if result is IGNORE:
            return None, None
        cell, info = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
        if not isinstance(cell, Cell):
            raise StartError(f"child {spec.id!r}", Abnormal(result)) from BadChildSpec(
                f"child {spec.id!r}: start", result, START
            )
        if not cell.linked_to(self._cell):
            self.link(cell)
        if cell.label is None:
            cell.label = spec.id
        if spec.name is not None and cell.name is None:
            self.runtime.register(spec.name, cell)
        return cell, info

    async def stop_one(self, spec: ChildSpec, cell: Cell) -> None:
        """Stop a child within its limit; tell if it did not stop as it should."""
        self.order_stop(spec, cell)
        await self.wait_stopped(spec, cell)

    async def wait_stopped(self, spec: ChildSpec, cell: Cell) -> None:
        """Wait for the end that was ordered, and tell if it was not as it should be."""
        self.tell_stopped(spec, cell, await self._wait_for_end(spec, cell))

    def order_stop(self, spec: ChildSpec, cell: Cell) -> None:
        """Order a child to stop."""
        cell.emit(events.StopRequested, reason=KILLED if spec.shutdown == "brutal_kill" else SHUTDOWN)
        self._cell.unlink(cell)
        if spec.shutdown == "brutal_kill":
            cell.end_by_force(KILLED)
        else:
            cell.signal(self._cell, SHUTDOWN, parent=True, patient=True)

    async def _wait_for_end(self, spec: ChildSpec, cell: Cell) -> ExitReason:
        if cell.reason is not None:
            return cell.reason
        end = cell.end_future()
        limit = spec.shutdown
        if isinstance(limit, (int, float)) and not await self._cell.sched.wait(end, limit):
            cell.end_by_force(KILLED)
        return await end

    def tell_stopped(self, spec: ChildSpec, cell: Cell, reason: ExitReason) -> None:
        """Tell of a child that did not stop as it should (the table of section 2.7 of the reference)."""
        brutal = spec.shutdown == "brutal_kill"
        if isinstance(reason, Killed):
            fine = brutal
        elif reason == SHUTDOWN:
            fine = not brutal or spec.restart != "permanent"
        else:
            fine = reason.clean and spec.restart != "permanent"
        if not fine:
            self.tell(events.ChildShutdownFailed, spec.id, cell, reason=reason)

    def spend_restart(self, spec: ChildSpec, last: Cell | None, reason: ExitReason) -> float | None:
        """Count a restart; return the pause before it, or None if the supervisor gives up instead."""
        now = self.runtime.clock.time()
        allowed = self.budget.spend(now)
        state = self.budget.state(now)
        if not allowed:
            self.tell(events.GaveUp, spec.id, last, reason=reason, allowed=state.allowed, seconds=state.seconds)
            self.stop(SHUTDOWN)
            return None
        delay = 0.0 if spec.backoff is None else spec.backoff.delay(state.used, self.runtime.random)
        self.tell(events.RestartScheduled, spec.id, last, used=state.used, allowed=state.allowed, delay=delay)
        return delay

    @handle
    def get_budget(self, request: GetBudget) -> BudgetState:
        """Tell how much of the restart budget is used."""
        return self.budget.state(self.runtime.clock.time())


def worth_a_restart(spec: ChildSpec, reason: ExitReason) -> bool:
    """Whether a child that ended for ``reason`` is to be restarted (section 2.3 of the reference)."""
    return spec.restart == "permanent" or (spec.restart == "transient" and not reason.clean)


def start_reason(error: BaseException) -> ExitReason:
    """Return why a start failed, as a reason."""
    return error.reason if isinstance(error, StartError) else crashed(error)


class Supervisor(ChildKeeper):
    """A supervisor with an ordered list of children.

    Args:
        children: specifications, in the order of their start.
        strategy: ``one_for_one`` restarts the child that ended; ``one_for_all`` stops and starts all; ``rest_for_one``
            the child that ended and those started after it.
        max_restarts: how many restarts are allowed in ``max_seconds`` before the supervisor gives up: it stops its
            children and ends with `SHUTDOWN`, for its own supervisor to deal with.
        max_seconds: the length of that window.
        auto_shutdown: whether the supervisor ends when ``any_significant`` child, or ``all_significant`` children, ended
            by themselves.

    Raises:
        BadStrategy, BadBudget, BadChildSpec: an argument is wrong; nothing was started.
    """

    def __init__(
        self,
        children: Iterable[object] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
    ) -> None:
        if strategy not in get_args(Strategy):
            raise BadStrategy("strategy", strategy, f"choose one of {', '.join(get_args(Strategy))}")
        if auto_shutdown not in get_args(AutoShutdown):
            raise BadStrategy("auto_shutdown", auto_shutdown, f"choose one of {', '.join(get_args(AutoShutdown))}")
        if isinstance(children, (str, bytes)) or not isinstance(children, Iterable):
            raise BadChildSpec("children", children, "give a list of child specifications")
        self.budget = RestartBudget(max_restarts, max_seconds)
        self.strategy: Strategy = strategy
        self.auto_shutdown: AutoShutdown = auto_shutdown
        self._children = {spec.id: Child(spec) for spec in check_child_specs(children, auto_shutdown)}

    async def init(self) -> None:
        """Start the children in order; if one fails, stop those that run, in reverse, and fail."""
        for child in list(self._children.values()):
            try:
                await self._start(child)
            except Exception as error:
                reason = start_reason(error)
                self.tell(events.ChildStartFailed, child.spec.id, None, reason=reason)
                await self._stop_all()
                raise Stop(Shutdown(FailedToStartChild(child.spec.id, reason))) from error

    async def terminate(self, reason: ExitReason) -> None:
        """Stop the children, last started first, one after the other."""
        await self._stop_all()

    async def _stop_all(self) -> None:
        await self._stop_many(list(self._children.values()))

    # -- one child -------------------------------------------------------------------------------------------

    async def _start(self, child: Child) -> None:
        child.attempt = None
        child.ref, child.info = await self.start_one(child.spec)
        child.last = child.ref
        if child.ref is None and child.spec.restart == "temporary":
            self._children.pop(child.spec.id, None)

    async def _stop_many(self, children: Sequence[Child]) -> None:
        """Stop children in reverse order; drop temporary ones."""
        for child in reversed(children):
            child.attempt = None
            if child.ref is not None:
                await self.stop_one(child.spec, child.ref)
                child.ref = None
            if child.spec.restart == "temporary":
                self._children.pop(child.spec.id, None)

    # -- deaths and restarts ---------------------------------------------------------------------------------

    @handle
    async def child_exited(self, message: Exit) -> None:
        """A child has ended by itself: restart it, or not, by its type; exits of strangers are ignored."""
        child = self._by_ref(message.sender)
        if child is None:
            return
        child.ref = None
        spec, reason = child.spec, message.reason
        restart = worth_a_restart(spec, reason)
        if restart or not reason.clean:
            self.tell(events.ChildTerminated, spec.id, child.last, reason=reason, restart=spec.restart)
        if restart:
            await self._restart(child, reason)
            return
        if spec.restart == "temporary":
            self._children.pop(spec.id, None)
        if spec.significant:
            self._shut_down_if_done()

    def _by_ref(self, ref: Ref | None) -> Child | None:
        return next((child for child in self._children.values() if child.ref is ref), None) if ref is not None else None

    def _shut_down_if_done(self) -> None:
        others = any(child.spec.significant and child.ref is not None for child in self._children.values())
        if self.auto_shutdown == "any_significant" or (self.auto_shutdown == "all_significant" and not others):
            self.stop(SHUTDOWN)

    async def _restart(self, child: Child, reason: ExitReason) -> None:
        delay = self.spend_restart(child.spec, child.last, reason)
        if delay is None:
            self._children.pop(child.spec.id, None)
            return
        group = self._group(child)
        await self._stop_many([other for other in group if other is not child])
        if delay > 0.0:
            child.paused = True
            self._try_again(child, delay)
        else:
            await self._start_group(child)

    def _group(self, child: Child) -> list[Child]:
        """Return the children that are restarted with this one."""
        children = list(self._children.values())
        if self.strategy == "one_for_one":
            return [child]
        return children if self.strategy == "one_for_all" else children[children.index(child) :]

    async def _start_group(self, child: Child) -> None:
        started: list[Child] = []
        for member in self._group(child):
            old = member.last
            try:
                await self._start(member)
            except Exception as error:
                member.failure = start_reason(error)
                self.tell(events.ChildStartFailed, member.spec.id, old, reason=member.failure)
                if self.strategy == "one_for_all":
                    await self._stop_many(started)
                self._try_again(member, 0.0)
                return
            member.restarts += 1
            started.append(member)
            if member.ref is not None:
                self.tell(events.Restarted, member.spec.id, member.ref, old=old)

    def _try_again(self, child: Child, delay: float) -> None:
        child.attempt = object()
        note = TryAgain(child, child.attempt)
        if delay > 0.0:
            self.send_after(delay, note)
        else:
            self.ref.cast(note)

    @handle
    async def try_again(self, message: TryAgain) -> None:
        """A restart is due: after a pause it was counted already; after a failed attempt it counts anew."""
        child = message.child
        if child.attempt is not message.attempt or self._children.get(child.spec.id) is not child:
            return
        if child.paused:
            child.paused = False
            await self._start_group(child)
        else:
            await self._restart(child, FailedToStartChild(child.spec.id, child.failure))

    # -- administration --------------------------------------------------------------------------------------

    def _known(self, id: Any) -> Child:
        child = self._children.get(id) if not isinstance(id, Cell) else None
        if child is None:
            raise Refuse(ChildNotFound(id))
        return child

    @handle
    async def start_child(self, request: StartChild) -> Ref | None:
        """Start a new child; its specification is kept unless the start fails."""
        spec = _checked(request.spec)
        _check(lambda: check_significant(spec, self.auto_shutdown))
        present = self._children.get(spec.id)
        if present is not None:
            raise Refuse(AlreadyPresent(spec.id) if present.ref is None else AlreadyStarted(spec.id, present.ref))
        child = Child(spec)
        self._children[spec.id] = child
        try:
            await self._start(child)
        except Exception as error:
            self._children.pop(spec.id, None)
            raise self._refusal(spec, error) from None
        return child.ref

    def _refusal(self, spec: ChildSpec, error: Exception) -> Refuse:
        self.tell(events.ChildStartFailed, spec.id, None, reason=start_reason(error))
        return start_refusal(spec, error)

    @handle
    async def restart_child(self, request: RestartChild) -> Ref | None:
        """Start a stopped child; the budget is not touched."""
        child = self._known(request.id)
        self._must_be_down(child)
        try:
            await self._start(child)
        except Exception as error:
            raise self._refusal(child.spec, error) from None
        return child.ref

    def _must_be_down(self, child: Child) -> None:
        if child.attempt is not None:
            raise Refuse(ChildRestarting(child.spec.id))
        if child.ref is not None:
            raise Refuse(ChildRunning(child.spec.id))

    @handle
    async def terminate_child(self, request: TerminateChild) -> None:
        """Stop a child; it is fine if it does not run."""
        await self._stop_many([self._known(request.id)])

    @handle
    def delete_child(self, request: DeleteChild) -> None:
        """Forget a stopped child."""
        child = self._known(request.id)
        self._must_be_down(child)
        del self._children[child.spec.id]

    @handle
    def which_children(self, request: WhichChildren) -> list[ChildInfo]:
        """List the children, last started first."""
        return self.views()[::-1]

    def views(self) -> list[ChildInfo]:
        """Return what others may see of the children, first started first."""
        return [child.view() for child in self._children.values()]

    @handle
    def which_child(self, request: WhichChild) -> ChildInfo:
        """Tell of one child."""
        return self._known(request.id).view()

    @handle
    def get_child_spec(self, request: GetChildSpec) -> ChildSpec:
        """Return the specification of a child."""
        return self._known(request.id).spec

    @handle
    def count_children(self, request: CountChildren) -> Counts:
        """Count the children."""
        children = list(self._children.values())
        supervisors = sum(child.spec.type == "supervisor" for child in children)
        active = sum(child.ref is not None for child in children)
        return Counts(len(children), active, supervisors, len(children) - supervisors)


def _check(check: Any) -> Any:
    try:
        return check()
    except SpecError as error:
        raise Refuse(error) from None


def _checked(spec: object) -> ChildSpec:
    """Return a specification, or refuse the request if it is wrong."""
    if isinstance(spec, ChildSpec):
        return spec
    checked: ChildSpec = _check(lambda: ChildSpec.of(spec))
    return checked


def start_refusal(spec: ChildSpec, error: Exception) -> Refuse:
    """Return the answer for a child that did not start: a name that is taken tells by whom, as in OTP."""
    if isinstance(error, AlreadyRegistered):
        return Refuse(AlreadyStarted(spec.id, error.ref))
    if isinstance(error, (StartError, SpecError, NotRunning)):
        return Refuse(error)
    wrapped = StartError(f"child {spec.id!r}", crashed(error))
    wrapped.__cause__ = error
    return Refuse(wrapped)


# -- orders ----------------------------------------------------------------------------------------------


async def start_child(supervisor: Address, spec: object) -> Ref | None:
    """Start a child under a supervisor.

    Args:
        supervisor: a `Supervisor` or a `DynamicSupervisor`.
        spec: a `ChildSpec`, a mapping with its fields, or an actor class.

    Returns:
        The child's address, or None if its ``init`` answered IGNORE.

    Raises:
        BadChildSpec: the specification is wrong; nothing has changed.
        AlreadyStarted, AlreadyPresent: the id is taken; or the name is, by another actor.
        MaxChildren: the dynamic supervisor is full.
        StartError: the child did not start; its specification is not kept.
        NoProcess: there is no such supervisor.
    """
    return await supervisor.call(StartChild(spec), timeout=None)


async def terminate_child(supervisor: Address, id: object) -> None:
    """Stop a child: by its id, or, under a dynamic supervisor, by its address.

    Raises:
        ChildNotFound: there is no such child.
    """
    await supervisor.call(TerminateChild(id), timeout=None)


async def restart_child(supervisor: Address, id: object) -> Ref | None:
    """Start a stopped child again; the restart budget is not touched.

    Raises:
        ChildNotFound, ChildRunning, ChildRestarting: it is not there, or not stopped.
        StartError: it did not start; its specification is kept.
    """
    return await supervisor.call(RestartChild(id), timeout=None)


async def delete_child(supervisor: Address, id: object) -> None:
    """Forget the specification of a stopped child.

    Raises:
        ChildNotFound, ChildRunning, ChildRestarting: it is not there, or not stopped.
    """
    await supervisor.call(DeleteChild(id), timeout=None)


async def which_children(supervisor: Address) -> list[ChildInfo]:
    """Return the children of a supervisor, last started first."""
    return await supervisor.call(WhichChildren(), timeout=None)


async def which_child(supervisor: Address, id: object) -> ChildInfo:
    """Return one child of a supervisor.

    Raises:
        ChildNotFound: there is no such child.
    """
    return await supervisor.call(WhichChild(id), timeout=None)


async def count_children(supervisor: Address) -> Counts:
    """Count the children of a supervisor."""
    return await supervisor.call(CountChildren(), timeout=None)


async def get_child_spec(supervisor: Address, id: object) -> ChildSpec:
    """Return the specification of a child, with defaults filled in.

    Raises:
        ChildNotFound: there is no such child.
    """
    return await supervisor.call(GetChildSpec(id), timeout=None)


def look(ref: Ref) -> SupervisorInfo | None:
    """Return what a supervisor knows at this moment, without asking it: also while it is busy. None for anybody else."""
    assert isinstance(ref, Cell)
    made = ref.alive and (ref.born is not None or ref.starting is not None)
    keeper = ref.actor if made else None
    if not isinstance(keeper, ChildKeeper):
        return None
    return SupervisorInfo(tuple(keeper.views()), keeper.budget.state(ref.runtime.clock.time()))
