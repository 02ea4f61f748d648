"""The agent's server."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping
from functools import cached_property
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from agents.agent import Agent
from agents.agent_type import AgentType
from agents.bus.messages import Delivery
from agents.command import Step, Turn, run_command, run_plain
from agents.directives import ErrorDirective, Stop
from agents.directory import directory_of
from agents.durability.durability import Durability, EverySeconds, Keeper
from agents.errors import BadAgentType, DebugOff, HookFailed, NoRoute, NotAdopted, NotKept
from agents.events import ActionFailed, TurnTaken
from agents.execution import driven, name_of
from agents.ids import uuid7
from agents.plugin import passed, provided
from agents.policy import EmitError, ErrorCount, ErrorPolicy, LogOnly, StopAfter, TooManyErrors
from agents.server.children import Binding, Children, adopt, attach, failure, orphaned
from agents.server.executing import HALT, executor_of
from agents.server.messages import (
    Adopt,
    Ask,
    Attach,
    AttachOwner,
    ChildStarted,
    CronDue,
    Due,
    EndChild,
    GetRecent,
    GetView,
    Reply,
    Reset,
    SaveDue,
    SetDebug,
    Told,
)
from agents.server.recent import Recent, TurnRecord
from agents.server.sensing import Sensors
from agents.server.timers import Timers, begin_all
from agents.signal import Signal, new_signal
from agents.typed import differences
from agents.view import ChildAgent, View
from agents.work import ActionLike, waits
from supervision import IGNORE, Actor, Address, Down, Exit, IdleTimeout, Message, Refuse, Shutdown, handle
from supervision.clock import seconds
from supervision.errors import BadOption

if TYPE_CHECKING:
    from supervision import ExitReason, Monitor, Ref

_log: Any = structlog.get_logger("agents")
_NO_ERRORS = LogOnly()


class _Begun(Message, frozen=True):
    """A server's note to itself: it has begun, and this is to be carried out first."""

    directives: tuple[Any, ...]


class AgentServer(Actor):
    """The actor that owns one agent. Cast it a `Signal`, or call it with `Ask`.

    A turn: the signal is routed by its type to actions, whose parameters are the signal's data; they run as one
    command; the new state is committed; then the directives are carried out, in order. Turns come one at a time, in the
    order of arrival, calls and casts alike, and also while an async action or a directive waits. A call is answered
    after its directives.

    A signal without a route is refused with `NoRoute` when it was sent with `Ask`, and noted as ``Unhandled`` when it
    was cast; signals of agents' own lives (``agent.…``) are passed over in silence. A failing action never ends the
    server by itself, nor does a failing hook or directive: that is up to ``on_error``. A call whose sender has given up
    before the commit is not committed, though its action runs to its end.

    Two signals are understood by all agents: ``agent.stop`` ends the server, with its data's ``reason`` if there is
    one, and ``agent.step`` lets the strategy go one step on.

    A restarted server begins with a fresh agent in its first state; or, with ``durability``, with what was saved last.

    Args:
        kind: the type of the agent; or where to import it from, for tree files, such as ``"shop.orders:Order"``.
        id: of the agent; if None, the name under which the server is registered; if it has none, a new UUID. No other
            agent in its partition may have it.
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
        AgentExists: an agent with this id runs already.
        BadCheckpoint: what was saved cannot be read; nothing is overwritten.
    """

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
        view: View[Any] | None = None,
        binding: Binding | None = None,
        durability: Durability | None = None,
        idle_timeout: float | None = None,
        debug: int = 0,
    ) -> None:
        if isinstance(kind, str):
            kind = _imported(kind)
        if not isinstance(kind, type) or not issubclass(kind, AgentType):
            raise BadOption("AgentServer: kind", kind, "give a subclass of AgentType")
        if not isinstance(on_error, (LogOnly, StopAfter, EmitError)) and not callable(on_error):
            raise BadOption("AgentServer: on_error", on_error, "give LogOnly(), StopAfter(errors), or a function")
        #: The type of the agent.
        self.kind = kind
        #: Where the agent is seen.
        self.view: View[Any] = View() if view is None else view
        #: Whose child it is.
        self.binding = binding
        #: The agent at its last commit.
        self.agent: Agent[Any] = self._first(id, state, partition, agent)
        self._first_state = self.agent.state if state is not None or agent is not None else None
        #: Where emitted signals go that do not say so themselves.
        self.emit_to: Address = self.address(emit_to) or self.ref
        self._errors = ErrorCount(on_error)
        self._parent_watch: Monitor | None = None
        self._recent = Recent(debug) if debug else None
        self._keeper = Keeper(durability, kind) if isinstance(durability, Durability) else None
        self._idle = None if idle_timeout is None else seconds("idle_timeout", idle_timeout)
        self._owners: dict[Ref, Monitor] | None = None
        self._save_set = False
        self._quick = kind.quick
        self._wanted = self.runtime.events.wanted
        #: Whether more than the state is to be thought of after a turn.
        self._slow = self._keeper is not None or self._idle is not None or debug > 0
        if durability is not None and self._keeper is None:
            raise BadOption("AgentServer: durability", durability, "give Durability(storage)")

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

    # -- life --------------------------------------------------------------------------------------------------------

    def init(self) -> Any:
        """Begin: load what was saved, then let the strategy, plugins and schedules begin."""
        if self.binding is not None and self.binding.ended:
            return IGNORE
        agent = self.agent
        directory_of(self.runtime).enter(self.ref, agent.partition, agent.id, self.kind.capabilities)
        return self._begin() if self._keeper is None else self._load()

    async def _load(self) -> None:
        assert self._keeper is not None
        self.trap_exit = True
        loaded = await self._keeper.load(self.agent)
        if loaded is None:
            self._begin()
        else:
            self.agent, crons = loaded
            self._begin(crons)

    def _begin(self, crons: Any = ()) -> None:
        kind = self.kind
        binding = self.binding
        if binding is not None and binding.parent is not None:
            self.agent = msgspec.structs.replace(self.agent, parent=binding.parent)
            self._parent_watch = attach(self, binding.parent)
        step = kind.strategy.init(self.agent, self.ref)
        self.agent = step.agent
        self._show()
        for one in kind.mounted:
            one.plugin.on_start(self.agent, self.ref)
        directives = (*step.directives, *(sensor for one in kind.mounted for sensor in one.plugin.sensors))
        if crons or kind.schedules or kind.mounted:
            begin_all(self, crons)
        if directives:
            self.continue_with(_Begun(directives))
        if self._idle is not None:
            self.idle_timeout(self._idle)

    @handle
    def begun(self, message: _Begun) -> Any:
        """Carry out what the strategy, and the plugins, begin with."""
        return self._carry_out(message.directives, self.new_signal("agent.init"), None)

    def terminate(self, reason: ExitReason) -> Any:
        """Save the agent if it is not, and take leave."""
        agent = self.agent
        directory_of(self.runtime).leave(self.ref, agent.partition, agent.id, self.kind.capabilities)
        for one in self.kind.mounted:
            one.plugin.on_stop(agent, reason)
        if self._keeper is not None and self._keeper.unsaved:
            return self._keeper.save(agent, self._crons(), whole=True)
        return None

    @handle
    def linked_ended(self, message: Exit) -> None:
        """End with whoever it is linked to."""
        if not message.reason.clean:
            self.stop(message.reason)

    @handle
    def ended(self, message: Down) -> Any:
        """Take note of the end of a parent, a child, a sensor, or an owner."""
        monitor = message.monitor
        if monitor is self._parent_watch and self.binding is not None and self.binding.parent is not None:
            self._parent_watch = None
            told = orphaned(self, message, self.binding.parent)
            return None if told is None else self._turn(told, None)
        child = self.children.ended(self, monitor)
        if child is not None:
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
    def idle(self, message: IdleTimeout) -> None:
        """End, unless somebody is attached."""
        if not self._owners:
            self.stop(Shutdown("idle_timeout"))

    @handle
    def attach_owner(self, request: AttachOwner) -> None:
        """Stay while somebody lives who needs the agent; or no longer."""
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

    def _stay(self) -> None:
        if self._idle is not None:
            self.idle_timeout(self._idle)

    # -- what executors use --------------------------------------------------------------------------------------

    @cached_property
    def children(self) -> Children:
        """The children of the agent."""
        return Children()

    @cached_property
    def timers(self) -> Timers:
        """What is scheduled."""
        return Timers()

    @cached_property
    def sensors(self) -> Sensors:
        """The sensors of the agent."""
        return Sensors()

    @property
    def source(self) -> str:
        """What the agent's signals have as their source."""
        return f"/{self.kind.name}/{self.agent.id}"

    def new_signal(self, type: str, data: Any = None, subject: str | None = None, cause: str | None = None) -> Signal:
        """Return a signal of the agent."""
        return new_signal(self.runtime, type, data, source=self.source, subject=subject, cause=cause)

    def address(self, to: Address | str | None) -> Address | None:
        """Return an address for one, or for a name."""
        return self.runtime.name(to) if isinstance(to, str) else to

    def replace_agent(self, agent: Agent[Any]) -> None:
        """Take over an agent in which something has changed that is no business of a command."""
        self.agent = agent
        self._show()

    def crons_changed(self) -> Awaitable[None] | None:
        """Save the cron jobs, if the agent is kept."""
        return None if self._keeper is None else self._keeper.save(self.agent, self._crons(), whole=True)

    def failed(self, directive: ErrorDirective, signal: Signal) -> str | None:
        """Deal with a failure: tell it, log it, and ask the error policy."""
        agent, error = self.agent, directive.error
        runtime = self.runtime
        self.view.last_error = error
        about = {"agent_id": agent.id, "agent_type": agent.type, "action": directive.action, "path": self.ref.path}
        runtime.events.emit(
            ActionFailed, ref=self.ref, error=error, signal_id=signal.id, partition=agent.partition, **about
        )
        _log.error("action_failed", error=str(error), signal=signal.type, signal_id=signal.id, **about)
        policy = self._errors.policy
        if isinstance(policy, EmitError):
            to = self.address(policy.to)
            assert to is not None
            data = {"agent_id": agent.id, "action": directive.action, "error": str(error)}
            to.cast(self.new_signal("agent.error", data, cause=signal.id))
        elif callable(policy) and self._asked_policy(policy, directive):
            return HALT
        count = self._errors.spend(runtime.clock.time())
        if count is not None:
            self.stop(TooManyErrors(count, error))
            return HALT
        return None

    def _asked_policy(self, policy: Any, directive: ErrorDirective) -> bool:
        try:
            said = policy(directive, self.agent)
            if said is not None and not isinstance(said, Stop):
                raise TypeError(f"{said!r} is neither None nor Stop(reason)")
        except Exception as error:
            _log.error("error_policy_failed", error=repr(error), agent_id=self.agent.id)
            return False
        if said is not None:
            self.stop(said.reason)
        return said is not None

    # -- messages ------------------------------------------------------------------------------------------------

    @handle
    def told(self, signal: Signal) -> Any:
        """Take a turn for a signal that was cast."""
        kind = self._quick[signal.type]
        if kind is None:
            return self._turn(signal, None)
        after = run_plain(self.agent, kind, signal, self._cell)
        view = self.view
        if type(after) is not Agent or self._slow or view.watchers or self._wanted[TurnTaken]:
            return self._settle(after if isinstance(after, Step) else Step(after), signal, None, (kind,))
        self.agent = view.committed = after
        return None

    @handle
    def asked(self, request: Ask) -> Any:
        """Take a turn for a signal, and tell what came of it."""
        signal = request.signal
        kind = self._quick[signal.type]
        call = self._cell.call_in_hand
        if kind is None:
            return self._turn(signal, call)
        after = run_plain(self.agent, kind, signal, self._cell)
        return self._settle(after if isinstance(after, Step) else Step(after), signal, call, (kind,))

    @handle
    def delivered(self, delivery: Delivery) -> Any:
        """Take a turn for a signal from a bus, and acknowledge it when nothing in it has failed."""
        try:
            turn = self._turn(delivery.signal, _SOMEBODY)
        except Refuse as refused:
            delivery.nack(str(refused.error))
            return None
        if inspect.isawaitable(turn):
            return self._acknowledge_later(turn, delivery)
        return _acknowledge(turn, delivery)

    @staticmethod
    async def _acknowledge_later(turn: Awaitable[Any], delivery: Delivery) -> None:
        _acknowledge(await turn, delivery)

    @handle
    def due(self, message: Due) -> Any:
        """Take a turn for a scheduled signal."""
        if message.id is not None:
            self.timers.fired(message.id)
        return self._turn(self.new_signal(message.type, message.data, cause=message.cause), None)

    @handle
    def told_later(self, message: Told) -> Any:
        """Take a turn for what came of something that an earlier one has begun."""
        return self._turn(self.new_signal(message.type, message.data, cause=message.cause), None)

    @handle
    def cron_due(self, message: CronDue) -> Any:
        """Take a turn for a tick of a cron job, then wait for the next one."""
        job = message.job
        if not self.timers.runs(job):
            return None
        if not job.is_due(self):
            job.wait(self)
            return None
        turn = self._turn(self.new_signal(job.cron.type, job.cron.data), None)
        if inspect.isawaitable(turn):
            return self._then_arm(turn, job)
        job.arm(self)
        return None

    async def _then_arm(self, turn: Awaitable[Any], job: Any) -> None:
        await turn
        if self.timers.runs(job):
            job.arm(self)

    @handle
    def child_started(self, message: ChildStarted) -> Any:
        """Take note of a child that has started, and tell the agent."""
        self.children.note(self, ChildAgent(message.tag, message.ref, message.id, message.type, message.meta))
        data = {"tag": message.tag, "id": message.id, "type": message.type, "meta": message.meta}
        return self._turn(self.new_signal("agent.child.started", data), None)

    @handle
    async def adopt(self, request: Adopt) -> None:
        """Make an agent without a parent a child."""
        try:
            await adopt(self, request.child, request.tag, request.meta)
        except Exception as error:
            raise Refuse(error) from error

    @handle
    def attach(self, request: Attach) -> tuple[str, str]:
        """Become the child of an agent."""
        binding = self.binding = self.binding or Binding()
        if binding.parent is not None and binding.parent.ref.reason is None:
            raise Refuse(NotAdopted(self.agent.id, f"it is a child of {binding.parent.id!r}"))
        binding.parent = request.parent
        self._parent_watch = self.monitor(request.parent.ref)
        self.replace_agent(msgspec.structs.replace(self.agent, parent=request.parent))
        return self.agent.id, self.agent.type

    @handle
    def reset(self, message: Reset) -> Any:
        """Begin anew, in the first state."""
        agent = self.agent
        fresh = self.kind.new(agent.id, self._first_state, partition=agent.partition)
        fresh = msgspec.structs.replace(fresh, version=agent.version + 1, parent=agent.parent)
        return self._settle(Step(fresh), self.new_signal("agent.reset"), None, ())

    @handle
    def get_view(self, request: GetView) -> View[Any]:
        """Tell where the agent can be seen."""
        return self.view

    @handle
    def set_debug(self, request: SetDebug) -> None:
        """Record turns, or no longer."""
        self._recent = Recent(request.keep) if request.keep else None
        self._slow = self._keeper is not None or self._idle is not None or request.keep > 0

    @handle
    def get_recent(self, request: GetRecent) -> list[TurnRecord]:
        """Tell of the last turns."""
        if self._recent is None:
            raise Refuse(DebugOff(self.agent.id))
        return self._recent.newest(request.limit)

    @handle
    async def save_due(self, message: SaveDue) -> None:
        """Write a checkpoint."""
        self._save_set = False
        assert self._keeper is not None
        if self._keeper.unsaved:
            await self._save(self.agent)

    # -- turns ---------------------------------------------------------------------------------------------------

    def _turn(self, signal: Signal, call: Any) -> Any:
        """Take a turn. What does not have to wait is done when this returns; else it returns the rest."""
        kind, facts = self.kind, _NO_FACTS
        try:
            if kind.mounted:
                signal, instead = passed(kind.mounted, signal, self.agent)
                facts = provided(kind.mounted, signal, self.agent)
                work = self._work(signal) if instead is None else (instead,)
            else:
                work = self._work(signal)
        except HookFailed as error:
            if call is not None:
                self.failed(failure(error.plugin, error), signal)
                raise Refuse(error) from error
            return self._settle(Step(self.agent, (failure(error.plugin, error),)), signal, None, ())
        if not work:
            return self._unrouted(signal, call)
        turn = Turn(signal=signal, ref=self.ref, provided=facts)
        if any(map(waits, work)):
            return self._slow_turn(work, msgspec.structs.replace(turn, waits=True), signal, call)
        if kind.direct:
            step = driven(run_command(self.agent, work, turn, kind.strategy.on_failure))  # type: ignore[attr-defined]
        else:
            step = self._commanded_now(work, turn)
        return self._settle(step, signal, call, work)

    def _work(self, signal: Signal) -> tuple[ActionLike, ...]:
        """Return what a signal is routed to: what has no parameters of its own gets the signal's data."""
        data = signal.data
        routed = self.kind.router.route(signal.type, signal)
        return tuple(item if isinstance(item, tuple) else (item, data) for item in routed)  # type: ignore[misc]

    def _unrouted(self, signal: Signal, call: Any) -> Any:
        if signal.type in _BUILT_IN:
            return _BUILT_IN[signal.type](self, signal, call)
        if call is not None:
            raise Refuse(NoRoute(self.agent.type, signal.type))
        if not signal.type.startswith("agent."):
            self.unhandled(signal)
        return None

    def _asked_to_stop(self, signal: Signal, call: Any) -> Any:
        data = signal.data if isinstance(signal.data, Mapping) else {}
        reason = data.get("reason")
        self.stop(*(() if reason is None else (Shutdown(None if reason == "shutdown" else reason),)))
        return self._reply((), call)

    def _asked_to_step(self, signal: Signal, call: Any) -> Any:
        return self._ticked(Turn(signal=signal, ref=self.ref, waits=True), signal, call)

    async def _ticked(self, turn: Turn, signal: Signal, call: Any) -> Any:
        try:
            step = await self.kind.strategy.tick(self.agent, turn)
        except Exception as error:
            step = Step(self.agent, (failure(type(self.kind.strategy).__name__, error),))
        rest = self._settle(step, signal, call, ())
        return await rest if inspect.isawaitable(rest) else rest

    def _commanded_now(self, work: tuple[ActionLike, ...], turn: Turn) -> Step[Any]:
        try:
            return driven(self.kind.commanded(self.agent, work, turn))
        except Exception as error:
            return Step(self.agent, (failure(self.kind.name, error),))

    async def _slow_turn(self, work: tuple[ActionLike, ...], turn: Turn, signal: Signal, call: Any) -> Any:
        try:
            step = await self.kind.commanded(self.agent, work, turn)
        except Exception as error:
            step = Step(self.agent, (failure(self.kind.name, error),))
        if call is not None and call.done():
            return self._reply((), call)
        rest = self._settle(step, signal, call, work)
        return await rest if inspect.isawaitable(rest) else rest

    def _settle(self, step: Step[Any], signal: Signal, call: Any, work: tuple[ActionLike, ...]) -> Any:
        """Commit the state, and carry out the directives. Nothing comes between them."""
        agent, before, keeper = step.agent, self.agent, self._keeper
        if keeper is not None and agent is not before:
            try:
                if keeper.note(before, agent, signal, self.runtime.clock.wall_time()):
                    return self._save_first(step, signal, call, work)
            except NotKept as error:
                return self._not_kept(step, error, signal, call)
            self._save_soon()
        return self._commit(step, signal, call, work)

    async def _save_first(self, step: Step[Any], signal: Signal, call: Any, work: tuple[ActionLike, ...]) -> Any:
        assert self._keeper is not None
        try:
            await self._keeper.save(step.agent, self._crons())
        except NotKept as error:
            self._keeper.forget_last()
            rest = self._not_kept(step, error, signal, call)
        else:
            rest = self._commit(step, signal, call, work)
        return await rest if inspect.isawaitable(rest) else rest

    def _not_kept(self, step: Step[Any], error: NotKept, signal: Signal, call: Any) -> Any:
        """Commit nothing: what cannot be kept has not happened."""
        errors = (*step.errors, failure("checkpoint", error))
        return self._commit(Step(self.agent, errors), signal, call, ())

    def _commit(self, step: Step[Any], signal: Signal, call: Any, work: tuple[ActionLike, ...]) -> Any:
        before = self.agent
        self.agent = step.agent
        self._show()
        if self._idle is not None:
            self.idle_timeout(self._idle)
        if self._recent is not None or self._wanted[TurnTaken]:
            self._note(before, step, signal, work)
        directives = step.directives
        return self._carry_out(directives, signal, call) if directives else self._reply((), call)

    def _note(self, before: Agent[Any], step: Step[Any], signal: Signal, work: tuple[ActionLike, ...]) -> None:
        agent, runtime = step.agent, self.runtime
        directives = tuple(type(directive).__name__ for directive in step.directives)
        runtime.events.emit(
            TurnTaken,
            ref=self.ref,
            agent_id=agent.id,
            agent_type=agent.type,
            partition=agent.partition,
            signal_type=signal.type,
            signal_id=signal.id,
            cause_id=signal.extensions.get("causationid"),
            actions=tuple(name_of(item) for item in work),
            directives=directives,
            version=agent.version,
        )
        if self._recent is not None:
            now = runtime.clock.wall_time()
            changed = differences(before.state, agent.state)
            errors = tuple(one.error for one in step.errors)
            self._recent.note(TurnRecord(now, signal, agent.version, changed, directives, errors, agent.partition))

    def _carry_out(self, directives: tuple[Any, ...], signal: Signal, call: Any) -> Any:
        """Carry out directives in order, as far as it goes without waiting; return the answer, or the rest."""
        for number, directive in enumerate(directives):
            try:
                said = executor_of(directive)(self, directive, signal)
            except Exception as error:
                said = self.failed(failure(type(directive).__name__, error), signal)
            if said is HALT:
                break
            if said is not None:
                return self._carry_out_slowly(said, directives, number, signal, call)
        return self._reply(directives, call)

    async def _carry_out_slowly(
        self, pending: Any, directives: tuple[Any, ...], number: int, signal: Signal, call: Any
    ) -> Any:
        try:
            said = await pending
        except Exception as error:
            said = self.failed(failure(type(directives[number]).__name__, error), signal)
        if said is not HALT:
            rest = self._carry_out(directives[number + 1 :], signal, None)
            if inspect.isawaitable(rest):
                await rest
        return self._reply(directives, call)

    def _reply(self, directives: tuple[Any, ...], call: Any) -> Reply[Any] | None:
        """Return the answer; None if nobody has asked."""
        if call is None:
            return None
        agent = self.agent
        for one in self.kind.mounted:
            try:
                agent = one.plugin.on_reply(agent)
            except Exception as error:
                _log.error("plugin_failed", plugin=one.key, hook="on_reply", error=repr(error))
        return Reply(agent, tuple(one for one in directives if isinstance(one, ErrorDirective)))

    def _show(self) -> None:
        view = self.view
        view.committed = self.agent
        view.ref = self.ref
        for watcher in view.watchers:
            watcher()

    # -- saving --------------------------------------------------------------------------------------------------

    def _crons(self) -> Any:
        return self.timers.crons() if "timers" in self.__dict__ else ()

    def _save_soon(self) -> None:
        assert self._keeper is not None
        policy = self._keeper.durability.policy
        if isinstance(policy, EverySeconds) and not self._save_set:
            self._save_set = True
            self.send_after(policy.seconds, SaveDue())

    async def _save(self, agent: Agent[Any]) -> None:
        assert self._keeper is not None
        try:
            await self._keeper.save(agent, self._crons())
        except NotKept as error:
            self.failed(failure("checkpoint", error), self.new_signal("agent.checkpoint"))

    def summary(self) -> Mapping[str, object]:
        """Return whose server it is, how the agent is, and what failed last."""
        agent, error = self.agent, self.view.last_error
        words = {"agent": agent.id, "type": agent.type, "version": agent.version, "state": agent.state}
        return words if error is None else {**words, "last_error": error}

    def format_status(self) -> Any:
        """Return what is worth to be seen of it: the agent, its children, and what failed last."""
        agent, view = self.agent, self.view
        return {
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


class _Somebody:
    """Somebody who wants an answer, and does not give up."""

    def done(self) -> bool:
        """Tell that the answer is waited for."""
        return False


def _acknowledge(reply: Reply[Any], delivery: Delivery) -> None:
    if reply.errors:
        delivery.nack(str(reply.errors[-1].error))
    else:
        delivery.ack()


_SOMEBODY = _Somebody()
_NO_FACTS: Mapping[str, Any] = {}
_BUILT_IN = {"agent.stop": AgentServer._asked_to_stop, "agent.step": AgentServer._asked_to_step}
