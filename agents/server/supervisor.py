"""The supervisor of agents: each has a budget of restarts and a pause of its own, so that none costs its neighbours."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import msgspec

from agents.errors import AgentExists
from agents.events import AgentParked
from supervision import Backoff, ChildSpec, DynamicSupervisor, Message, Ref, Runtime, handle
from supervision.call import ReplyTo
from supervision.clock import seconds
from supervision.errors import BadOption, StartIgnored
from supervision.events import RestartScheduled
from supervision.reasons import ExitReason
from supervision.supervisors.dynamic_supervisor import PendingRestart
from supervision.supervisors.restarts import RestartBudget

#: The name of the supervisor of the agents that agents start.
AGENT_SUPERVISOR = "agents"

_BACKOFF = Backoff(initial=0.1, maximum=5.0)


class ParkedAgent(msgspec.Struct, frozen=True):
    """An agent that has crashed, or could not start, too often: it is tried again from time to time.

    Attributes:
        id: of its child specification, such as ``cart/joe``.
        reason: of its last end, or why it did not start.
        since: when its budget was used up, in seconds since the epoch.
        attempts: how often it was tried since.
    """

    id: Any
    reason: ExitReason
    since: float
    attempts: int


class _Budget:
    """The restarts of one agent, and how it is parked, if it is."""

    __slots__ = ("parked", "pending", "restarts", "spec")

    def __init__(self, spec: ChildSpec, restarts: RestartBudget) -> None:
        self.spec = spec
        self.restarts = restarts
        #: Whether its restart is due, or under way.
        self.pending = True
        self.parked: ParkedAgent | None = None


class _Begun(Message, frozen=True):
    """A start that took its time is over."""

    task: asyncio.Future[Any]
    error: BaseException | None


def _begun(task: asyncio.Future[Any]) -> _Begun:
    return _Begun(task, asyncio.CancelledError() if task.cancelled() else task.exception())


class AgentSupervisor(DynamicSupervisor):
    """The supervisor of the agents that agents start: children, keyed instances, the nodes of pods, workers of pools.

    A tree has one under the name ``"agents"``; where there is none, the first agent that needs one starts it.

    Agents start side by side: one that takes long to load keeps no other waiting. The first restart of an agent comes
    at once, the next ones after a growing pause. One that needs more restarts than its budget has is parked: an event
    `AgentParked` says so, `parked_agents` lists it, and it is tried again every ``retry_every`` seconds. The
    supervisor itself never gives up.

    Args:
        max_restarts: how many restarts each agent has in ``max_seconds`` before it is parked.
        max_seconds: the length of that window.
        retry_every: seconds from one try to the next of an agent that is parked.
        backoff: the pause before each restart in the budget but the first; that of a child specification counts more.

    Raises:
        BadBudget, BadTime, BadOption: an argument is wrong.
    """

    def __init__(
        self,
        *,
        max_restarts: int = 5,
        max_seconds: float = 60.0,
        retry_every: float = 60.0,
        backoff: Backoff = _BACKOFF,
    ) -> None:
        super().__init__(max_restarts=max_restarts, max_seconds=max_seconds)
        self._retry_every = seconds("AgentSupervisor: retry_every", retry_every, zero=False)
        if not isinstance(backoff, Backoff):
            raise BadOption("AgentSupervisor: backoff", backoff, "give a Backoff(...)")
        self._backoff = backoff
        #: By the identity of a specification, which stays the same in all incarnations: ids need not differ.
        self._budgets: dict[int, _Budget] = {}
        self._sweep_at = 1024
        self._begun: dict[asyncio.Future[Any], tuple[Any, PendingRestart] | tuple[ChildSpec, ReplyTo[Any]]] = {}

    async def init(self) -> None:
        """Let itself be found."""
        self.runtime.shared[AgentSupervisor] = self
        await super().init()

    # -- starts, side by side ------------------------------------------------------------------------------------

    def _finish_start(self, spec: ChildSpec, rest: Coroutine[Any, Any, tuple[Any, Any]]) -> Any:
        self._aside(rest, (spec, self.defer_reply()))

    async def _start_again(self, last: Any, child: PendingRestart) -> None:
        try:
            begun = self.begin_one(child.spec)
        except StartIgnored:
            self.restarted(last, child, None)
        except Exception as error:
            self.restart_failed(last, child, error)
        else:
            if isinstance(begun, Ref):
                self.restarted(last, child, begun)
            else:
                self._restarting[last] = child
                self._aside(begun, (last, child))

    def _aside(self, rest: Coroutine[Any, Any, Any], about: Any) -> None:
        task = asyncio.ensure_future(rest)
        self._begun[task] = about
        task.add_done_callback(lambda done: self.ref.cast(_begun(done)))

    @handle
    async def start_is_over(self, message: _Begun) -> None:
        """A start that took its time is over."""
        task = message.task
        about = self._begun.pop(task)
        error = message.error
        cell = None if error is not None else task.result()[0]
        if isinstance(about[1], PendingRestart):
            await self._restart_is_over(about[0], about[1], cell, error)
        else:
            self._first_start_is_over(about[0], about[1], cell, error)

    def _first_start_is_over(self, spec: ChildSpec, reply: ReplyTo[Any], cell: Any, error: Any) -> None:
        if error is None:
            if cell is not None and cell.reason is None:
                self._running[cell] = spec.kept()
            reply.reply(cell)
        elif isinstance(error, StartIgnored):
            reply.reply(None)
        else:
            reply.fail(self.start_refused(spec, error).error)

    async def _restart_is_over(self, last: Any, child: PendingRestart, cell: Any, error: Any) -> None:
        if last not in self._restarting:  # it was stopped meanwhile
            if cell is not None:
                await self.stop_one(child.spec, cell)
        elif error is None or isinstance(error, StartIgnored):
            self.restarted(last, child, cell)
        else:
            self.restart_failed(last, child, error)

    # -- budgets -------------------------------------------------------------------------------------------------

    def restart_failed(self, last: Any, child: PendingRestart, error: Exception) -> None:
        """Count it; or forget the child, if its agent runs elsewhere."""
        if isinstance(error.__cause__, AgentExists):
            self._restarting.pop(last, None)
            self._restarts.pop(last, None)
            self.close_vacancy(child.spec)
        else:
            super().restart_failed(last, child, error)

    def spend_restart(self, spec: ChildSpec, last: Any, reason: ExitReason) -> float | None:
        """Count a restart in the budget of its agent; return the pause before it."""
        now = self.runtime.clock.time()
        budget = self._budgets.get(id(spec))
        if budget is None:
            self._sweep(now)
            fresh = RestartBudget(self.budget.allowed, self.budget.seconds)
            budget = self._budgets[id(spec)] = _Budget(spec, fresh)
        budget.pending = True
        if budget.parked is None and budget.restarts.spend(now):
            used = budget.restarts.state(now).used
            delay = self._pause(spec, used)
        else:
            self._park(budget, last, reason)
            used = budget.restarts.state(now).used
            delay = self._retry_every * (1.0 - 0.2 * self.runtime.random.random())
        window = {"used": used, "allowed": budget.restarts.allowed, "seconds": budget.restarts.seconds}
        self.tell(RestartScheduled, spec, last, delay=delay, **window)
        return delay

    def _pause(self, spec: ChildSpec, used: int) -> float:
        if spec.backoff is not None:
            return spec.backoff.delay(used, self.runtime.random)
        return 0.0 if used == 1 else self._backoff.delay(used - 1, self.runtime.random)

    def _park(self, budget: _Budget, last: Any, reason: ExitReason) -> None:
        spec, known = budget.spec, budget.parked
        if known is not None:
            budget.parked = msgspec.structs.replace(known, reason=reason, attempts=known.attempts + 1)
            return
        budget.parked = ParkedAgent(spec.id, reason, self.runtime.clock.wall_time(), 0)
        self.runtime.events.emit(
            AgentParked, ref=self.ref, path=self.ref.path, id=spec.id, reason=reason, retry_every=self._retry_every
        )

    def restarted(self, last: Any, child: PendingRestart, cell: Any) -> None:
        """An agent runs again: it is parked no longer."""
        budget = self._budgets[id(child.spec)]
        budget.parked, budget.pending = None, False
        super().restarted(last, child, cell)

    def close_vacancy(self, spec: ChildSpec) -> None:
        """Forget the budget of an agent that is not started again."""
        self._budgets.pop(id(spec), None)
        super().close_vacancy(spec)

    def _sweep(self, now: float) -> None:
        """Forget the budgets of agents that have been well for the length of a window."""
        if len(self._budgets) >= self._sweep_at:
            self._budgets = {
                key: one for key, one in self._budgets.items() if one.pending or one.restarts.state(now).used > 0
            }
            self._sweep_at = max(1024, 2 * len(self._budgets))

    def parked(self) -> Iterator[ParkedAgent]:
        """Yield the agents that are parked."""
        return (one.parked for one in self._budgets.values() if one.parked is not None)

    def format_status(self) -> Any:
        """Return how many agents there are, and which are parked."""
        return {"agents": self.size(), "parked": {str(one.id): str(one.reason) for one in self.parked()}}

    async def stop_all(self) -> None:
        """Stop all agents at once, also those that are starting."""
        for task in self._begun:
            task.cancel()
        await super().stop_all()


def supervisor_of(runtime: Runtime) -> Ref:
    """Return the supervisor of the agents of a runtime; start it if there is none."""
    found = runtime.whereis(AGENT_SUPERVISOR)
    return runtime.spawn_nowait(AgentSupervisor, name=AGENT_SUPERVISOR) if found is None else found


def parked_agents(runtime: Runtime) -> list[ParkedAgent]:
    """Return the agents that are parked, read without asking their supervisor."""
    found: AgentSupervisor | None = runtime.shared.get(AgentSupervisor)
    return [] if found is None or not found.ref.alive else list(found.parked())
