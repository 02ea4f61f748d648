"""The agent's server: which messages it handles, and when it takes a turn for one."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from agents.core.agent import Agent
from agents.core.agent_type import AgentType
from agents.core.command import Step
from agents.core.directives import SpawnAgent, error_directive
from agents.core.failures import hook, raise_interrupt
from agents.core.signal import Signal, uuid7
from agents.durability.checkpointer import Checkpointer, Durability
from agents.errors import BadAgentType, DebugOff, NoRoute, NotAdopted, NotSaved
from agents.events import TurnTaken
from agents.server.children import Binding, adopt, attach, orphaned
from agents.server.deliveries import answer
from agents.server.directory import AgentEntry, directory_of
from agents.server.durable_server import DurableServer
from agents.server.durable_turns import PATIENT_CALLER
from agents.server.error_policy import ErrorCount, ErrorPolicy, LogOnly
from agents.server.kept import Cause
from agents.server.messages import (
    Adopt,
    Ask,
    Attach,
    AttachOwner,
    CarryOn,
    ChildAgentStarted,
    CronDue,
    DirectiveResult,
    EndChild,
    GetRecentTurns,
    GetView,
    Reply,
    Reset,
    ScheduleDue,
    SetDebug,
)
from agents.server.options import check_options, checked_kind
from agents.server.timers import declared_crons
from agents.server.view import AgentView, ChildAgent, RecentTurns, TurnRecord
from agents.signals.heartbeat import at_work
from agents.signals.messages import Delivery
from supervision import IGNORE, SHUTDOWN, Address, Down, Exit, IdleTimeout, Message, Refuse, handle, resume_context
from supervision.errors import BadOption
from supervision.logs import get_logger

if TYPE_CHECKING:
    from supervision import ExitReason, Monitor, Ref

_log: Any = get_logger("agents")
_NO_ERRORS = LogOnly()


class _InitialDirectives(Message, frozen=True):
    """Message of a server to itself: the directives to carry out first."""

    directives: tuple[Any, ...]


class AgentServer(DurableServer):
    """The actor that owns one agent. Cast it a `Signal`, or call it with `Ask`.

    A turn: the signal is routed by its type to actions, whose parameters are the signal's data; they run as one
    command; the new state is committed; then the directives are carried out, in order. Turns come one at a time, in the
    order of arrival, calls and casts alike, and also while an async action or a directive waits. A call is answered
    after its directives.

    A signal without a route is refused with `NoRoute` when it was sent with `Ask`, and noted as ``Unhandled`` when it
    was cast; signals of agents' own lives (``agent.…``) are ignored without an event. A failing action never ends the
    server by itself, nor does a failing hook or directive: that is up to ``on_error``. A call whose sender has given up
    before the commit is not committed, though its action runs to its end.

    Two signals are understood by all agents: ``agent.stop`` ends the server, with its data's ``reason`` if there is
    one, and ``agent.step`` lets the strategy go one step on.

    A restarted server begins with a fresh agent in its first state; or, with ``durability``, with what was saved last.

    Args:
        kind: the type of the agent; or where to import it from, for tree files, such as ``"shop.orders:Order"``.
        id: of the agent; if None, the name under which the server is registered; if it has none, a new UUID. No other
            agent of its type in its partition may have it.
        state: the agent's first state, or some of its fields.
        partition: keeps the agents of tenants apart.
        agent: a ready agent, instead of an id, a state and a partition.
        emit_to: where emitted signals go that do not say so themselves: an address, or the name of an actor; None for
            the agent itself.
        on_error: what to do when an action has failed.
        view: where to show the agent; None for a view of its own.
        binding: whose child it is.
        durability: where and when the agent is saved; None for never.
        idle_timeout: the server ends when there was no message for so many seconds and nobody is attached; None for
            never.
        debug: how many turns are recorded for `AgentHandle.recent_turns`.

    Raises:
        BadOption, BadAgentType, BadState: an argument is wrong.
        AgentExists: an agent of this type with this id runs already.
        BadCheckpoint: what was saved cannot be read; nothing is overwritten.
    """

    #: The children that it has from its start on.
    declared_children: tuple[SpawnAgent, ...] = ()
    #: How many deliveries of a bus it wants at a time: one in hand, and some to go on with.
    delivery_credit: ClassVar[int] = 9

    def __init__(
        self,
        kind: type[AgentType[Any]] | str,
        *,
        id: str | None = None,
        state: Mapping[str, Any] | msgspec.Struct | None = None,
        partition: str = "",
        agent: Agent[Any] | None = None,
        emit_to: Address | str | None = None,
        on_error: ErrorPolicy = _NO_ERRORS,
        view: AgentView[Any] | None = None,
        binding: Binding | None = None,
        durability: Durability | None = None,
        idle_timeout: float | None = None,
        debug: int = 0,
    ) -> None:
        kind = checked_kind("AgentServer", _imported(kind) if isinstance(kind, str) else kind)
        given = {"emit_to": emit_to, "on_error": on_error, "view": view, "durability": durability}
        check_options("AgentServer", {**given, "idle_timeout": idle_timeout, "debug": debug})
        #: The type of the agent.
        self.kind = kind
        #: Where the agent is seen.
        self.view: AgentView[Any] = AgentView() if view is None else view
        #: Whose child it is.
        self.binding = binding
        #: The agent at its last commit.
        self.agent: Agent[Any] = self._first(id, state, partition, agent)
        self._first_state = self.agent.state if state is not None or agent is not None else None
        #: Where emitted signals go that do not say so themselves.
        self.emit_to: Address = self.address(emit_to) or self.ref
        self._errors = ErrorCount(on_error)
        self._parent_watch: Monitor | None = None
        self._recent = RecentTurns(debug) if debug else None
        self._checkpointer = None if durability is None else Checkpointer(durability, kind)
        self._idle = None if idle_timeout is None else float(idle_timeout)
        self._owners: dict[Ref, Monitor] | None = None
        self._plain_routes = kind.plain_routes if self._checkpointer is None else _NO_PLAIN_ROUTES
        self._wanted = self.runtime.events.wanted
        #: Whether a turn is also saved or recorded.
        self._slow = self._checkpointer is not None or debug > 0

    @classmethod
    def check_arguments(cls, kind: Any, **options: Any) -> None:
        """Check what stands in a tree file, without starting an agent.

        Raises:
            BadOption, BadTime, BadAgentType, BadState: an argument is wrong.
        """
        kind = checked_kind("AgentServer", _imported(kind) if isinstance(kind, str) else kind)
        check_options("AgentServer", options)
        if options.get("agent") is None:
            id, state, partition = options.get("id"), options.get("state"), options.get("partition", "")
            kind.new("checked" if id is None else id, state, partition=partition)

    def _first(self, id: str | None, state: Any, partition: str, agent: Agent[Any] | None) -> Agent[Any]:
        if agent is None:
            return self.kind.new(self._default_id() if id is None else id, state, partition=partition)
        if not isinstance(agent, Agent) or agent.type != self.kind.name:
            raise BadAgentType(f"{self.kind.name}: agent", agent, "give an agent that this type has made")
        if partition not in ("", agent.partition):
            raise BadAgentType(f"{self.kind.name}: partition", partition, f"the agent is of {agent.partition!r}")
        return agent

    def _default_id(self) -> str:
        runtime = self.runtime
        info = runtime.info(self.ref)
        assert info is not None
        return info.name or uuid7(runtime.random, runtime.clock.wall_time())

    @property
    def durability(self) -> Durability | None:
        """Where and when the agent is saved."""
        return None if self._checkpointer is None else self._checkpointer.durability

    @property
    def kind_of_children(self) -> type[AgentServer]:
        """The class of the servers of its children."""
        return type(self)

    # -- life --------------------------------------------------------------------------------------------------------

    def init(self) -> Any:
        """Load what was saved, then start the strategy, plugins and schedules."""
        if self.binding is not None and self.binding.ended:
            return IGNORE
        agent = self.agent
        directory_of(self.runtime).enter(AgentEntry(self.ref, self.kind, self.view), agent.partition, agent.id)
        return self._begin() if self._checkpointer is None else self._begin_again()

    async def _begin_again(self) -> None:
        await self._load()
        self._begin()

    def _begin(self) -> None:
        kind = self.kind
        binding = self.binding
        if binding is not None and binding.parent is not None:
            self.agent = msgspec.structs.replace(self.agent, parent=binding.parent)
            self._parent_watch = attach(self, binding.parent)
        with hook(type(kind.strategy).__name__, "init"):
            step = kind.strategy.init(self.agent, self.ref)
        self.agent = step.agent
        self._show()
        for one in kind.mounted:
            with hook(one.key, "on_start"):
                one.plugin.on_start(self.agent, self.ref)
        sensors = (sensor for one in kind.mounted for sensor in one.plugin.sensors)
        directives = (*step.directives, *sensors, *self.declared_children)
        if self.keeping is None:
            for cron in declared_crons(kind):
                self.timers.repeat(self, cron)
        if self.keeping is not None:
            self.continue_with(CarryOn(directives))
        elif directives:
            self.continue_with(_InitialDirectives(directives))
        if self._idle is not None:
            self.idle_timeout(self._idle)

    @handle
    def begun(self, message: _InitialDirectives) -> Any:
        """Carry out the directives that the strategy and the plugins begin with."""
        return self._carry_out(message.directives, self.new_signal("agent.init"), None)

    def terminate(self, reason: ExitReason) -> Any:
        """Leave the directory, end what is done beside the turns, and save unsaved commits."""
        agent = self.agent
        for task in list(self.tasks):
            task.exit(SHUTDOWN)
        directory_of(self.runtime).leave(self.ref)
        for one in self.kind.mounted:
            try:
                one.plugin.on_stop(agent, reason)
            except BaseException as error:
                raise_interrupt(error)
                _log.error("plugin_failed", plugin=one.key, hook="on_stop", error=repr(error), agent_id=agent.id)
        if self._checkpointer is not None and self._checkpointer.unsaved:
            return self._save_last(self._checkpointer)
        return None

    @handle
    def linked_ended(self, message: Exit) -> None:
        """End with an actor that it is linked to."""
        self._stay()
        if not message.reason.clean:
            self.stop(message.reason)

    @handle
    def ended(self, message: Down) -> Any:
        """Handle the end of a parent, a child, a sensor, or an owner."""
        self._stay()
        monitor = message.monitor
        if monitor is self._parent_watch and self.binding is not None and self.binding.parent is not None:
            self._parent_watch = None
            signal = orphaned(self, message, self.binding.parent)
            return None if signal is None else self._turn(signal, None)
        child = self.children.ended(self, monitor)
        if child is not None:
            if self.keeping is not None:
                self.keeping.child_ended(child.tag, clean=message.reason.clean)
            data = {"tag": child.tag, "id": child.id, "reason": str(message.reason), "clean": message.reason.clean}
            return self._turn(self.new_signal("agent.child.exit", data), None)
        sensor = self.sensors.ended(monitor)
        if sensor is None:
            return self._owner_gone(monitor)
        if sensor[1] and not message.reason.clean:
            self.stop(message.reason)
        data = {"tag": sensor[0], "reason": str(message.reason)}
        return self._turn(self.new_signal("agent.sensor.exit", data), None)

    @handle
    def end_child(self, message: EndChild) -> None:
        """End for good."""
        assert self.binding is not None
        self.binding.ended = True
        self.stop(message.reason)

    @handle
    async def idle(self, message: IdleTimeout) -> None:
        """End, unless an owner is attached, or it cannot be saved."""
        if not self._owners and not (self.keeping is not None and self.keeping.busy):
            try:
                if await self._sleep("idle_timeout"):
                    return
            except NotSaved as error:
                self.failed(error_directive("checkpoint", error), self.new_signal("agent.checkpoint"))
        self._stay()

    @handle
    def attach_owner(self, request: AttachOwner) -> None:
        """Disable the idle time-out while the owner lives; or no longer."""
        owners = self._owners = {} if self._owners is None else self._owners
        known = owners.pop(request.owner, None)
        if known is not None:
            self.demonitor(known, flush=True)
        if request.attached:
            owners[request.owner] = self.monitor(request.owner)
        self._stay()

    def _owner_gone(self, monitor: Monitor) -> None:
        owners = self._owners or {}
        for owner, watch in list(owners.items()):
            if watch is monitor:
                del owners[owner]
        self._stay()

    # -- messages ------------------------------------------------------------------------------------------------

    @handle
    def on_cast(self, signal: Signal) -> Any:
        """Take a turn for a signal that was cast."""
        turn = self._plain_routes[signal.type]
        if turn is None:
            return self._take(signal, None)
        after = turn(self.agent, signal, self._cell)
        view = self.view
        if type(after) is not Agent or self._slow or view.watchers or self._wanted[TurnTaken]:
            return self._finish(after if isinstance(after, Step) else Step(after), signal, None, self._work(signal))
        self.agent = view.committed = after
        if self._idle is not None:
            self.idle_timeout(self._idle)
        return None

    @handle
    def on_call(self, request: Ask) -> Any:
        """Take a turn for a signal, and reply when it is over."""
        signal = request.signal
        if not isinstance(signal, Signal):
            raise Refuse(BadOption("Ask.signal", signal, "give a Signal, such as agent.signal('order.place', data)"))
        turn = self._plain_routes[signal.type]
        call = self._cell.call_in_hand
        if turn is None:
            return self._take(signal, call)
        after = turn(self.agent, signal, self._cell)
        view = self.view
        if type(after) is not Agent or self._slow or view.watchers or self._wanted[TurnTaken]:
            return self._finish(after if isinstance(after, Step) else Step(after), signal, call, self._work(signal))
        self.agent = view.committed = after
        if self._idle is not None:
            self.idle_timeout(self._idle)
        return Reply(after)

    @handle
    def delivered(self, delivery: Delivery) -> Any:
        """Take a turn for a signal from a bus, and acknowledge it when nothing in it has failed."""
        again = Cause(delivery.signal, again=True)
        delivery.taken()
        try:
            turn = self._take(delivery.signal, PATIENT_CALLER, again)
        except Refuse as refused:
            delivery.nack(str(refused.error), final=isinstance(refused.error, NoRoute))
            return None
        if inspect.isawaitable(turn):
            return self._acknowledge_later(turn, delivery)
        return self._acknowledge(turn, delivery)

    async def _acknowledge_later(self, turn: Awaitable[Any], delivery: Delivery) -> None:
        try:
            with at_work(self.ref, delivery):
                reply = await turn
        except Refuse:
            return  # another owner has the agent, or nobody knows what is saved: it is delivered again
        else:
            self._acknowledge(reply, delivery)

    def _acknowledge(self, reply: Reply[Any], delivery: Delivery) -> None:
        """Acknowledge what is done for good: if not all has failed, a durable agent remembers the signal."""
        if reply.errors and not (self.keeping is not None and self.keeping.inbox.remembers(delivery.signal)):
            answer(reply, delivery)
        else:
            delivery.ack()

    @handle
    def on_schedule_due(self, message: ScheduleDue) -> Any:
        """Take a turn for a scheduled signal."""
        if message.id is not None:
            self.timers.fired(message.id)
        return self._late_turn(message) if message.trace else self._scheduled_turn(message)

    def _scheduled_turn(self, message: ScheduleDue) -> Any:
        return self._turn(self.new_signal(message.type, message.data, cause=message.cause), None)

    async def _late_turn(self, message: ScheduleDue) -> Any:
        """Take it in the trace in which it was asked for."""
        with resume_context(self.runtime, message.trace, self.ref, message):
            turn = self._scheduled_turn(message)
            return await turn if inspect.isawaitable(turn) else turn

    @handle
    def on_directive_result(self, message: DirectiveResult) -> Any:
        """Take a turn for the result of a directive that outlived its turn."""
        self._stay()
        return self._take_result(message)

    @handle
    def on_cron_due(self, message: CronDue) -> Any:
        """Take a turn for a tick of a cron job, then wait for the next one."""
        job = message.job
        if not self.timers.runs(job) or not job.is_due():
            return None
        turn = self._turn(self.new_signal(job.cron.type, job.cron.data), None)
        if inspect.isawaitable(turn):
            return self._then_arm(turn, job)
        job.arm()
        return None

    async def _then_arm(self, turn: Awaitable[Any], job: Any) -> None:
        await turn
        if self.timers.runs(job):
            job.arm()

    @handle
    def child_started(self, message: ChildAgentStarted) -> Any:
        """Add a child that has started, and take a turn for the signal that says so."""
        self.children.add(self, ChildAgent(message.tag, message.ref, message.id, message.type, message.meta))
        data = {"tag": message.tag, "id": message.id, "type": message.type, "meta": message.meta}
        return self._turn(self.new_signal("agent.child.started", data), None)

    @handle
    async def adopt(self, request: Adopt) -> None:
        """Make an agent without a parent a child."""
        self._stay()
        try:
            await adopt(self, request.child, request.tag, request.meta)
        except Exception as error:
            raise Refuse(error) from error

    @handle
    def attach(self, request: Attach) -> tuple[str, str]:
        """Become the child of an agent."""
        self._stay()
        binding = self.binding = self.binding or Binding()
        if binding.parent is not None and binding.parent.ref.reason is None:
            raise Refuse(NotAdopted(self.agent.id, f"it is a child of {binding.parent.id!r}"))
        binding.parent = request.parent
        self._parent_watch = self.monitor(request.parent.ref)
        self.replace_agent(msgspec.structs.replace(self.agent, parent=request.parent))
        return self.agent.id, self.agent.type

    @handle
    def reset(self, message: Reset) -> Any:
        """Put the agent back into its first state."""
        agent = self.agent
        fresh = self.kind.new(agent.id, self._first_state, partition=agent.partition)
        fresh = msgspec.structs.replace(fresh, version=agent.version + 1, parent=agent.parent)
        return self._finish(Step(fresh), self.new_signal("agent.reset"), None, ())

    @handle
    def get_view(self, request: GetView) -> AgentView[Any]:
        """Return the agent's view."""
        self._stay()
        return self.view

    @handle
    def set_debug(self, request: SetDebug) -> None:
        """Record turns, or no longer."""
        self._stay()
        self._recent = RecentTurns(request.keep) if request.keep else None
        self._slow = self._checkpointer is not None or request.keep > 0

    @handle
    def get_recent(self, request: GetRecentTurns) -> list[TurnRecord]:
        """Return the last turns."""
        self._stay()
        if self._recent is None:
            raise Refuse(DebugOff(self.agent.id))
        return self._recent.newest(request.limit)

    def summary(self) -> Mapping[str, object]:
        """Return whose server it is, how the agent is, and what failed last."""
        agent, error = self.agent, self.view.last_error
        words = {"agent": agent.id, "type": agent.type, "version": agent.version, "state": agent.state}
        return words if error is None else {**words, "last_error": error}

    def format_status(self) -> Any:
        """Return the agent, the tags of its children, what failed last, and how much is kept beside its state."""
        agent, view, keeping = self.agent, self.view, self.keeping
        return {
            "kept": None if keeping is None else keeping.counts(),
            "agent": agent.id,
            "type": agent.type,
            "version": agent.version,
            "state": agent.state,
            "children": sorted(view.children),
            "last_error": None if view.last_error is None else str(view.last_error),
        }


def _imported(path: str) -> Any:
    try:
        return resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadOption("AgentServer: kind", path, f"give package.module:Type ({error})") from None


class _NoPlainRoutes(dict[str, None]):
    """No signal type of a durable agent is handled without planning its commit."""

    def __missing__(self, type: str) -> None:
        return None


_NO_PLAIN_ROUTES: Any = _NoPlainRoutes()
