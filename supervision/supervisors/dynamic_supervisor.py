"""Dynamic supervisors: many children that come and go, each with its own specification, restarted one for one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any

from supervision import events
from supervision._core.cell import Cell
from supervision._core.dispatch import handle
from supervision.errors import BadBudget, BadOption, ChildNotFound, MaxChildren, NotOffered, Refuse, StartIgnored
from supervision.messages import Exit, Message
from supervision.options import is_whole
from supervision.reasons import NORMAL, SHUTDOWN, ExitReason, FailedToStartChild, Shutdown
from supervision.ref import Name, Ref
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
from supervision.supervisors.childspec import ChildLike, ChildSpec, check_child_specs
from supervision.supervisors.restarts import RestartBudget, should_restart


class TryAgain(Message, frozen=True):
    """A dynamic supervisor's message to itself: the restart of a child is due."""

    last: Cell


class PendingRestart:
    """A child that waits for its restart."""

    __slots__ = ("failure", "paused", "spec")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.paused = False
        self.failure: ExitReason = NORMAL


class DynamicSupervisor(BaseSupervisor):
    """A supervisor for children that are started on demand (Elixir's ``DynamicSupervisor``).

    Children are told apart by their address; ids need not differ. At its end all are stopped at once, each within its
    own limit. When its own supervisor restarts it, it starts the children of its arguments alone.

    Args:
        children: specifications of children that are started with it, in order; if one fails, it does not start.
        max_children: how many children it may have, counting those that wait for a restart; None for any number.
        max_restarts: how many restarts are allowed in ``max_seconds`` before it gives up.
        max_seconds: the length of that window.
        extra_arguments: put before the arguments of every child.

    Raises:
        BadBudget, BadChildSpec, BadOption: an argument is wrong; nothing was started.
    """

    def __init__(
        self,
        children: Iterable[ChildLike] = (),
        *,
        max_children: int | None = None,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        extra_arguments: tuple[Any, ...] = (),
    ) -> None:
        if max_children is not None and not is_whole(max_children, 0):
            raise BadBudget("max_children", max_children, "give a whole number, 0 or more, or None")
        if not isinstance(extra_arguments, (tuple, list)):
            raise BadOption("extra_arguments", extra_arguments, "give a tuple of arguments")
        self.extra_arguments = tuple(extra_arguments)
        self._first = check_child_specs(children, "never", self.extra_arguments)
        if max_children is not None and len(self._first) > max_children:
            raise BadBudget("max_children", max_children, f"it begins with {len(self._first)} children")
        self.budget = RestartBudget(max_restarts, max_seconds)
        self.max_children = max_children
        self._running: dict[Cell, ChildSpec] = {}
        self._restarting: dict[Cell, PendingRestart] = {}
        self._restarts: dict[Cell, int] = {}

    async def init(self) -> None:
        """Start the first children in order; if one fails, stop those that run, and fail."""
        for spec in self._first:
            try:
                cell, _ = await self.start_one(self._with_extras(spec))
            except Exception as error:
                raise self.first_start_failed(spec, error) from error
            if cell is not None:
                self._running[cell] = spec.kept()

    # -- orders ----------------------------------------------------------------------------------------------

    @handle
    def start_child(self, request: StartChild) -> Any:
        """Start a child, unless there are too many."""
        spec = checked_spec(request.spec, "never", self.extra_arguments)
        if self.max_children is not None and len(self._running) + len(self._restarting) >= self.max_children:
            raise Refuse(MaxChildren(spec.id, self.max_children))
        try:
            begun = self.begin_one(self._with_extras(spec) if self.extra_arguments else spec)
        except StartIgnored:
            return None
        except Exception as error:
            raise self.start_refused(spec, error) from None
        if not isinstance(begun, Cell):
            return self._finish_start(spec, begun)
        self._running[begun] = spec.kept()
        return begun

    async def _finish_start(self, spec: ChildSpec, rest: Coroutine[Any, Any, tuple[Cell | None, Any]]) -> Ref | None:
        try:
            cell, _ = await rest
        except StartIgnored:
            return None
        except Exception as error:
            raise self.start_refused(spec, error) from None
        if cell is not None:
            self._running[cell] = spec.kept()
        return cell

    def _with_extras(self, spec: ChildSpec) -> ChildSpec:
        if not self.extra_arguments:
            return spec
        return ChildSpec.of(
            {
                **{f: getattr(spec, f) for f in spec.__struct_fields__},
                "args": (*self.extra_arguments, *spec.args),
            }
        )

    @handle
    async def terminate_child(self, request: TerminateChild) -> None:
        """Stop a child for good, by its address; a restarting one by its last address."""
        cell = self._addressed(request.id)
        if not isinstance(cell, Cell) or (cell not in self._running and cell not in self._restarting):
            raise Refuse(ChildNotFound(cell))
        waiting = self._restarting.pop(cell, None)
        self._restarts.pop(cell, None)
        if waiting is not None:
            self.close_vacancy(waiting.spec)
            return
        spec = self._running.pop(cell)
        await self.stop_one(spec, cell)
        self.close_vacancy(spec)

    def _addressed(self, id: Any) -> Any:
        """Return the actor that an id means: that of a name is its holder."""
        return id.resolve() or id if isinstance(id, Name) and id.runtime is self.runtime else id

    def _known(self, id: Any) -> ChildInfo:
        ref = self._addressed(id)
        found = next((child for child in self.views() if child.ref is not None and child.ref is ref), None)
        if found is None:
            raise Refuse(ChildNotFound(id))
        return found

    @handle
    def which_child(self, request: WhichChild) -> ChildInfo:
        """Return a child, by its address."""
        return self._known(request.id)

    @handle
    def get_child_spec(self, request: GetChildSpec) -> ChildSpec:
        """Return the specification of a child, by its address."""
        return self._known(request.id).spec

    @handle
    def restart_child(self, request: RestartChild) -> None:
        """Refuse: a child that was stopped is forgotten."""
        raise Refuse(NotOffered(request.id, "restart_child", "start_child starts another one"))

    @handle
    def delete_child(self, request: DeleteChild) -> None:
        """Refuse: a child that was stopped is forgotten."""
        raise Refuse(NotOffered(request.id, "delete_child", "terminate_child stops and forgets it"))

    @handle
    def which_children(self, request: WhichChildren) -> list[ChildInfo]:
        """List the children; those that wait for a restart without an address."""
        views = self.views()
        running = len(self._running)
        return views[:running][::-1] + views[running:]

    def spec_of(self, ref: Ref) -> ChildSpec | None:
        """Return the specification of the child that runs as ``ref``; None if it is none of its children."""
        return self._running.get(ref) if isinstance(ref, Cell) else None

    def each(self) -> Iterator[ChildInfo]:
        """Yield the children's records, first started first, those that wait for a restart last."""
        for cell, spec in self._running.items():
            yield ChildInfo(spec.id, cell, restarting=False, spec=spec, restarts=self._restarts.get(cell, 0))
        for cell, child in self._restarting.items():
            yield ChildInfo(child.spec.id, None, restarting=True, spec=child.spec, restarts=self._restarts.get(cell, 0))

    def size(self) -> int:
        """Return how many children there are, with those that wait for a restart."""
        return len(self._running) + len(self._restarting)

    def pending(self) -> list[ChildSpec]:
        """Return the children that wait for their restart."""
        return [child.spec for child in self._restarting.values()]

    def uncounted_restarts(self) -> Iterator[ChildSpec]:
        """Return the children whose last start has failed, and whose next one is not counted in the budget yet."""
        return (child.spec for child in self._restarting.values() if not child.paused)

    # -- deaths and restarts ---------------------------------------------------------------------------------

    @handle
    async def child_exited(self, message: Exit) -> None:
        """A child has ended by itself: restart it, or forget it."""
        cell = message.sender
        if not isinstance(cell, Cell):
            return
        spec = self._running.pop(cell, None)
        if spec is None:
            return
        reason = message.reason
        restart = should_restart(spec, reason)
        if restart or not reason.clean:
            self.tell(events.ChildTerminated, spec, cell, reason=reason)
        if restart:
            await self._restart(cell, PendingRestart(spec), reason)
        else:
            self._restarts.pop(cell, None)
            self.close_vacancy(spec)

    async def _restart(self, last: Cell, child: PendingRestart, reason: ExitReason) -> None:
        delay = self.spend_restart(child.spec, last, reason)
        if delay is None:
            self._restarting.pop(last, None)
        elif delay > 0.0:
            child.paused = True
            self._restarting[last] = child
            self.send_after(delay, TryAgain(last))
        else:
            await self._start_again(last, child)

    async def _start_again(self, last: Cell, child: PendingRestart) -> None:
        try:
            cell, _ = await self.start_one(self._with_extras(child.spec))
        except Exception as error:
            self.restart_failed(last, child, error)
        else:
            self.restarted(last, child, cell)

    def restart_failed(self, last: Cell, child: PendingRestart, error: Exception) -> None:
        """A restart has failed: the next one counts anew."""
        child.failure = start_reason(error)
        self.tell(events.ChildStartFailed, child.spec, last, reason=child.failure)
        self._restarting[last] = child
        self.ref.cast(TryAgain(last))

    def restarted(self, last: Cell, child: PendingRestart, cell: Cell | None) -> None:
        """A restart is done; None if the child has ignored it."""
        spec = child.spec
        self._restarting.pop(last, None)
        restarts = self._restarts.pop(last, 0) + 1
        if cell is not None:
            self._running[cell] = spec
            self._restarts[cell] = restarts
            self.tell(events.Restarted, spec, cell, old=last)
        else:
            self.close_vacancy(spec)

    @handle
    async def try_again(self, message: TryAgain) -> None:
        """A restart is due: after a pause it was counted already; after a failed attempt it counts anew."""
        child = self._restarting.get(message.last)
        if child is None:
            return
        if child.paused:
            child.paused = False
            await self._start_again(message.last, child)
        else:
            await self._restart(message.last, child, FailedToStartChild(child.spec.id, child.failure))

    def report_stopped(self, spec: ChildSpec, cell: Cell, reason: ExitReason) -> None:
        """Report a child that did not stop as ordered; an end with ``shutdown`` and a term is fine here."""
        if not isinstance(reason, Shutdown):
            super().report_stopped(spec, cell, reason)

    # -- the end ---------------------------------------------------------------------------------------------

    async def terminate(self, reason: ExitReason) -> None:
        """Stop all children at once, each within its own limit."""
        await self.stop_all()

    async def stop_all(self) -> None:
        """Stop all children at once, each within its own limit."""
        self._restarting.clear()
        self.runtime.vacancies.close_all(self._cell)
        running, self._running = self._running, {}
        slow: list[tuple[ChildSpec, Cell]] = []
        for cell, spec in running.items():
            self.order_stop(spec, cell)
            reason = cell.reason
            if reason is None:
                slow.append((spec, cell))
            elif reason is not SHUTDOWN:
                self.report_stopped(spec, cell, reason)
        await asyncio.gather(*(self.wait_stopped(spec, cell) for spec, cell in slow))
