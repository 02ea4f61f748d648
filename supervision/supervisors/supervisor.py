"""Supervisors: actors that start, watch, restart and stop other actors, by OTP's rules.

The rules are those of OTP's ``supervisor`` module: ordered start with rollback, ordered stop with a limit for each
child, three strategies, one restart budget for all children, and failed restarts retried through the supervisor's own
mailbox, so that it answers orders in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from supervision import events
from supervision._core.cell import Cell
from supervision._core.dispatch import handle
from supervision.errors import (
    AlreadyPresent,
    AlreadyStarted,
    BadStrategy,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    Refuse,
)
from supervision.messages import Exit, Message
from supervision.options import check_choice
from supervision.reasons import (
    NORMAL,
    SHUTDOWN,
    ExitReason,
    FailedToStartChild,
)
from supervision.ref import Ref
from supervision.supervisors._base import BaseSupervisor, checked_spec, start_reason
from supervision.supervisors.administration import (
    ChildInfo,
    DeleteChild,
    GetChildSpec,
    RestartChild,
    StartChild,
    TerminateChild,
    WhichChild,
    WhichChildren,
)
from supervision.supervisors.childspec import AutoShutdown, ChildLike, ChildSpec, check_child_specs, hashable
from supervision.supervisors.restarts import RestartBudget, should_restart

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]


class TryAgain(Message, frozen=True):
    """A supervisor's message to itself: a restart is due."""

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

    def not_due(self) -> None:
        """No restart is due any more."""
        self.attempt = None
        self.paused = False

    def runs_or_will(self) -> bool:
        """Whether it runs, or is to be tried again."""
        return self.ref is not None or self.attempt is not None

    def view(self) -> ChildInfo:
        """Return the record that others may see."""
        return ChildInfo(self.spec.id, self.ref, self.attempt is not None, self.spec, self.info, self.restarts)


class Supervisor(BaseSupervisor):
    """A supervisor with an ordered list of children.

    Args:
        children: specifications, in the order of their start.
        strategy: ``one_for_one`` restarts the child that ended; ``one_for_all`` stops and starts all; ``rest_for_one``
            the child that ended and those started after it.
        max_restarts: how many restarts are allowed in ``max_seconds`` before the supervisor gives up: it stops its
            children and ends with `SHUTDOWN`, for its own supervisor to deal with.
        max_seconds: the length of that window.
        auto_shutdown: whether the supervisor ends when ``any_significant`` child, or ``all_significant`` children,
            ended by themselves.

    Raises:
        BadStrategy, BadBudget, BadChildSpec: an argument is wrong; nothing was started.
    """

    def __init__(
        self,
        children: Iterable[ChildLike] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
    ) -> None:
        check_choice("strategy", strategy, Strategy, BadStrategy)
        check_choice("auto_shutdown", auto_shutdown, AutoShutdown, BadStrategy)
        self.budget = RestartBudget(max_restarts, max_seconds)
        self.strategy: Strategy = strategy
        self.auto_shutdown: AutoShutdown = auto_shutdown
        self._children = {spec.id: Child(spec) for spec in check_child_specs(children, auto_shutdown)}
        self._by_cell: dict[Cell, Child] = {}
        #: The child that is being restarted, with those that go with it.
        self._reviving: Child | None = None

    async def init(self) -> None:
        """Start the children in order; if one fails, stop those that run, in reverse, and fail."""
        for child in list(self._children.values()):
            try:
                await self._start(child)
            except Exception as error:
                raise self.first_start_failed(child.spec, error) from error

    async def terminate(self, reason: ExitReason) -> None:
        """Stop the children, last started first, one after the other."""
        await self.stop_all()

    async def stop_all(self) -> None:
        """Stop the children, last started first, one after the other."""
        self.runtime.vacancies.close_all(self._cell)
        await self._stop_many(list(self._children.values()))

    # -- one child -------------------------------------------------------------------------------------------

    async def _start(self, child: Child) -> None:
        child.not_due()
        child.ref, child.info = await self.start_one(child.spec)
        child.last = child.ref
        if child.ref is not None:
            self._by_cell[child.ref] = child
        child.spec = child.spec.kept()
        if child.ref is None:
            self.close_vacancy(child.spec)
            if child.spec.restart == "temporary":
                self._children.pop(child.spec.id, None)

    async def _stop_many(self, children: Sequence[Child]) -> None:
        """Stop children in reverse order; drop temporary ones."""
        for child in reversed(children):
            child.not_due()
            if child.ref is not None:
                await self.stop_one(child.spec, child.ref)
                self._down(child)
            if child.spec.restart == "temporary":
                self._children.pop(child.spec.id, None)
                self.close_vacancy(child.spec)

    # -- deaths and restarts ---------------------------------------------------------------------------------

    @handle
    async def child_exited(self, message: Exit) -> None:
        """A child has ended by itself: restart it, or not, by its type; exits of other actors are ignored."""
        child = self._by_ref(message.sender)
        if child is None:
            return
        self._down(child)
        spec, reason = child.spec, message.reason
        restart = should_restart(spec, reason)
        if restart or not reason.clean:
            self.tell(events.ChildTerminated, spec, child.last, reason=reason)
        if restart:
            await self._restart(child, reason)
            return
        self.close_vacancy(spec)
        if spec.restart == "temporary":
            self._children.pop(spec.id, None)
        if spec.significant:
            self._shut_down_if_done()

    def _by_ref(self, ref: Ref | None) -> Child | None:
        return self._by_cell.get(ref) if isinstance(ref, Cell) else None

    def _down(self, child: Child) -> None:
        """Note that a child does not run any more."""
        assert child.ref is not None
        self._by_cell.pop(child.ref, None)
        child.ref = None

    def _shut_down_if_done(self) -> None:
        others = any(child.spec.significant and child.runs_or_will() for child in self._children.values())
        if self.auto_shutdown == "any_significant" or (self.auto_shutdown == "all_significant" and not others):
            self.stop(SHUTDOWN)

    async def _restart(self, child: Child, reason: ExitReason) -> None:
        delay = self.spend_restart(child.spec, child.last, reason)
        if delay is None:
            self._children.pop(child.spec.id, None)
            return
        self._reviving = child
        await self._stop_others(child)
        if delay > 0.0:
            child.paused = True
            self._try_again(child, delay)
        else:
            await self._start_group(child)
        self._reviving = None

    def _group(self, child: Child) -> list[Child]:
        """Return the children that are restarted with this one."""
        if self.strategy == "one_for_one":
            return [child]
        children = list(self._children.values())
        return children if self.strategy == "one_for_all" else children[children.index(child) :]

    async def _stop_others(self, child: Child) -> None:
        await self._stop_many([other for other in self._group(child) if other is not child])

    async def _start_group(self, child: Child) -> None:
        started: list[Child] = []
        for member in self._group(child):
            old = member.last
            try:
                await self._start(member)
            except Exception as error:
                member.failure = start_reason(error)
                self.tell(events.ChildStartFailed, member.spec, old, reason=member.failure)
                if self.strategy == "one_for_all":
                    await self._stop_many(started)
                self._try_again(member, 0.0)
                return
            member.restarts += 1
            started.append(member)
            if member.ref is not None:
                self.tell(events.Restarted, member.spec, member.ref, old=old)

    def _try_again(self, child: Child, delay: float) -> None:
        child.attempt = object()
        message = TryAgain(child, child.attempt)
        if delay > 0.0:
            self.send_after(delay, message)
        else:
            self.ref.cast(message)

    @handle
    async def try_again(self, message: TryAgain) -> None:
        """A restart is due: after a pause it was counted already; after a failed attempt it counts anew."""
        child = message.child
        if child.attempt is not message.attempt:
            return
        counted = child.paused
        child.not_due()
        if counted:
            self._reviving = child
            await self._stop_others(child)  # those that were started by order during the pause
            await self._start_group(child)
            self._reviving = None
        else:
            await self._restart(child, FailedToStartChild(child.spec.id, child.failure))

    # -- administration --------------------------------------------------------------------------------------

    def _known(self, id: Any) -> Child:
        child = self._children.get(id) if hashable(id) else None
        if child is None:
            raise Refuse(ChildNotFound(id))
        return child

    @handle
    async def start_child(self, request: StartChild) -> Ref | None:
        """Start a new child; its specification is kept unless the start fails."""
        spec = checked_spec(request.spec, self.auto_shutdown)
        present = self._children.get(spec.id)
        if present is not None:
            raise Refuse(AlreadyPresent(spec.id) if present.ref is None else AlreadyStarted(spec.id, present.ref))
        child = Child(spec)
        self._children[spec.id] = child
        try:
            await self._start(child)
        except Exception as error:
            self._children.pop(spec.id, None)
            raise self.start_refused(spec, error) from None
        return child.ref

    @handle
    async def restart_child(self, request: RestartChild) -> Ref | None:
        """Start a stopped child; the budget is not touched."""
        child = self._known(request.id)
        self._must_be_down(child)
        try:
            await self._start(child)
        except Exception as error:
            raise self.start_refused(child.spec, error) from None
        return child.ref

    def _must_be_down(self, child: Child) -> None:
        if child.attempt is not None:
            raise Refuse(ChildRestarting(child.spec.id))
        if child.ref is not None:
            raise Refuse(ChildRunning(child.spec.id))

    @handle
    async def terminate_child(self, request: TerminateChild) -> None:
        """Stop a child; it is fine if it does not run."""
        child = self._known(request.id)
        await self._stop_many([child])
        self.close_vacancy(child.spec)

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

    def each(self) -> Iterator[ChildInfo]:
        """Yield the children's records, first started first."""
        return (child.view() for child in self._children.values())

    def size(self) -> int:
        """Return how many children there are, with those that do not run."""
        return len(self._children)

    def spec_of(self, ref: Ref) -> ChildSpec | None:
        """Return the specification of the child that runs as ``ref``; None if it is none of its children."""
        child = self._by_ref(ref)
        return None if child is None else child.spec

    def pending(self) -> list[ChildSpec]:
        """Return the children that do not run but are about to be restarted, alone or with others."""
        due = [child for child in self._children.values() if child.attempt is not None or child is self._reviving]
        return [member.spec for child in due for member in self._group(child) if member.ref is None]

    def uncounted_restarts(self) -> Iterator[ChildSpec]:
        """Return the children whose last start has failed, and whose next one is not counted in the budget yet."""
        return (child.spec for child in self._children.values() if child.attempt is not None and not child.paused)

    @handle
    def which_child(self, request: WhichChild) -> ChildInfo:
        """Return one child."""
        return self._known(request.id).view()

    @handle
    def get_child_spec(self, request: GetChildSpec) -> ChildSpec:
        """Return the specification of a child."""
        return self._known(request.id).spec
