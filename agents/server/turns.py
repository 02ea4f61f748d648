"""Turns: from a signal to a commit, and to the directives that are carried out."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

import msgspec

from agents.core.action import ActionLike, needs_loop
from agents.core.agent import Agent
from agents.core.command import Step, Turn, run_command
from agents.core.directives import Directive, ErrorDirective, StopAgent, error_directive
from agents.core.execution import Saga, driven, name_of, step_of, undo
from agents.core.failures import awaited, raise_end, raise_interrupt
from agents.core.plugin import filtered, provided
from agents.core.signal import Signal, new_signal
from agents.core.structs import differences
from agents.core.traces import in_trace
from agents.errors import AgentError, CompensationFailed, HookFailed, NoRoute
from agents.events import ActionFailed, TurnTaken
from agents.server.children import Children
from agents.server.error_policy import EmitError, TooManyErrors
from agents.server.executors import HALT, check_of, executor_of
from agents.server.messages import Reply
from agents.server.sensors import Sensors
from agents.server.timers import Timers
from agents.server.view import RecentTurns, TurnInHand, TurnRecord
from supervision import Actor, Address, Ref, Refuse, Shutdown
from supervision.logs import get_logger

if TYPE_CHECKING:
    from agents.core.agent_type import AgentType
    from agents.core.plain_turns import PlainRoutes
    from agents.durability.checkpointer import Checkpointer
    from agents.server.error_policy import ErrorCount
    from agents.server.server import AgentServer
    from agents.server.view import AgentView

_log: Any = get_logger("agents")


class Turns(Actor):
    """What an agent's server does in a turn. `AgentServer` decides when there is one.

    Attributes:
        kind: the type of the agent.
        agent: the agent at its last commit.
        view: where the agent is seen.
        emit_to: where emitted signals go that do not say so themselves.
        effect_in_hand: the id as which the directive that is being carried out is kept; None if it is not.
    """

    kind: type[AgentType[Any]]
    agent: Agent[Any]
    view: AgentView[Any]
    emit_to: Address
    _errors: ErrorCount
    _recent: RecentTurns | None
    _checkpointer: Checkpointer | None
    _idle: float | None
    effect_in_hand: str | None = None
    _saga: Saga | None = None
    _plain_routes: PlainRoutes
    _wanted: Mapping[Any, Any]

    # -- what executors use --------------------------------------------------------------------------------------

    @cached_property
    def children(self) -> Children:
        """The children of the agent."""
        return Children()

    @cached_property
    def tasks(self) -> WeakSet[Ref]:
        """The actors that do something for the agent beside its turns, and end with its server."""
        return WeakSet()

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
        signal = new_signal(self.runtime, type, data, source=self.source, subject=subject, cause=cause)
        return in_trace(self.runtime, signal)

    def address(self, to: Address | str | None) -> Address | None:
        """Return an address for one, or for a name."""
        return self.runtime.name(to) if isinstance(to, str) else to

    def replace_agent(self, agent: Agent[Any]) -> None:
        """Take over an agent that was changed outside a command, such as its parent."""
        self.agent = agent
        self._show()

    def failed(self, directive: ErrorDirective, signal: Signal) -> str | None:
        """Handle a failure: publish the event, log it, and ask the error policy."""
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
        elif callable(policy) and self._policy_stops(policy, directive):
            return HALT
        count = self._errors.record(runtime.clock.time())
        if count is not None:
            self.stop(TooManyErrors(count, error))
            return HALT
        return None

    def _policy_stops(self, policy: Any, directive: ErrorDirective) -> bool:
        try:
            said = policy(directive, self.agent)
            if said is not None and not isinstance(said, StopAgent):
                raise TypeError(f"{said!r} is neither None nor StopAgent(reason)")
        except BaseException as error:
            raise_interrupt(error)
            _log.error("error_policy_failed", error=repr(error), agent_id=self.agent.id)
            return False
        if said is not None:
            self.stop(said.reason)
        return said is not None

    # -- turns ---------------------------------------------------------------------------------------------------

    def _turn(self, signal: Signal, call: Any) -> Any:
        """Take a turn; return the reply, or a coroutine for the rest if something has to be awaited."""
        kind, facts = self.kind, _NO_FACTS
        try:
            if kind.mounted:
                signal, override = filtered(kind.mounted, signal, self.agent)
                facts = provided(kind.mounted, signal, self.agent)
                work = self._work(signal) if override is None else (override,)
            else:
                work = self._work(signal)
        except HookFailed as error:
            if call is not None:
                self.failed(error_directive(error.plugin, error), signal)
                raise Refuse(error) from error
            return self._finish(Step(self.agent, (error_directive(error.plugin, error),)), signal, None, ())
        if not work:
            return self._unrouted(signal, call)
        turn = self._turn_around(signal, facts)
        if any(map(needs_loop, work)):
            return self._slow_turn(work, msgspec.structs.replace(turn, has_loop=True), signal, call)
        if kind.direct:
            step = driven(run_command(self.agent, work, turn, kind.strategy.on_failure_of(turn)))  # type: ignore[attr-defined]
        else:
            step = self._run_command_now(work, turn)
        return self._finish(step, signal, call, work)

    def _turn_around(self, signal: Signal, facts: Mapping[str, Any]) -> Turn:
        """Return what surrounds the command of a turn."""
        return Turn(signal=signal, ref=self.ref, provided=facts, saga=Saga())

    def _work(self, signal: Signal) -> tuple[ActionLike, ...]:
        """Return the work that a signal is routed to; work without parameters of its own gets the signal's data."""
        data = signal.data
        routed = self.kind.router.route(signal.type, signal)
        return tuple(item if isinstance(item, tuple) else (item, data) for item in routed)  # type: ignore[misc]

    def _stay(self) -> None:
        """Wait anew until there was no message for so long that the server is to end: any message ends the wait."""
        if self._idle is not None:
            self.idle_timeout(self._idle)

    def _unrouted(self, signal: Signal, call: Any) -> Any:
        self._stay()
        if signal.type in _BUILT_IN:
            return _BUILT_IN[signal.type](self, signal, call)
        if call is not None and getattr(call, "wants_errors", True):
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
        return self._ticked(Turn(signal=signal, ref=self.ref, has_loop=True), signal, call)

    async def _ticked(self, turn: Turn, signal: Signal, call: Any) -> Any:
        try:
            agent, directives = await awaited(self.kind.strategy.tick(self.agent, turn))
            step = Step(agent.with_version_after(self.agent), directives)
        except BaseException as error:
            raise_end(error, self.ref)
            step = Step(self.agent, (error_directive(type(self.kind.strategy).__name__, error),))
        rest = self._finish(step, signal, call, ())
        return await rest if inspect.isawaitable(rest) else rest

    def _run_command_now(self, work: tuple[ActionLike, ...], turn: Turn) -> Step[Any]:
        try:
            return driven(self.kind.run_command(self.agent, work, turn))
        except BaseException as error:
            raise_interrupt(error)
            return Step(self.agent, (error_directive(self.kind.name, error),))

    async def _slow_turn(self, work: tuple[ActionLike, ...], turn: Turn, signal: Signal, call: Any) -> Any:
        turn_in_hand = self.view.turn = TurnInHand(signal, self.runtime.clock.wall_time())
        step, cut = Step(self.agent), None
        try:
            async with turn_in_hand:
                step = await awaited(self.kind.run_command(self.agent, work, turn))
        except BaseException as error:
            raise_end(error, self.ref)
            cut = error_directive(step_of(error) or self.kind.name, error)
        finally:
            self.view.turn = None
        if call is not None and call.done():
            await self._undo(turn.saga, AgentError("whoever asked for it has given up"), signal)
            return self._reply((), call)
        self._saga = turn.saga
        rest = self._finish(step, signal, call, work) if cut is None else self._not_committed(step, cut, signal, call)
        return await rest if inspect.isawaitable(rest) else rest

    @abstractmethod
    def _finish(self, step: Step[Any], signal: Signal, call: Any, work: tuple[ActionLike, ...]) -> Any:
        """Commit the state, and carry out the directives. Nothing comes between them."""
        ...

    def _unfit(self, directives: tuple[Any, ...]) -> ErrorDirective | None:
        """Return why a directive can surely not be carried out; None if all may be."""
        for place, directive in enumerate(directives):
            check = check_of(directive)
            if check is not None:
                try:
                    check(cast("AgentServer", self), directive, directives[:place])
                except Exception as error:
                    return error_directive(type(directive).__name__, error, "commit")
        return None

    def _not_committed(self, step: Step[Any], error: ErrorDirective, signal: Signal, call: Any) -> Any:
        """Commit nothing: a turn that cannot be saved, or carried out, is rolled back."""
        saga, self._saga = self._saga, None
        failed = Step(self.agent, (*step.errors, error))
        if saga is not None and saga.completed:
            return self._undone(saga, failed, signal, call)
        return self._commit(failed, signal, call, ())

    async def _undone(self, saga: Saga, failed: Step[Any], signal: Signal, call: Any) -> Any:
        await self._undo(saga, AgentError(str(failed.errors[-1].error)), signal)
        rest = self._commit(failed, signal, call, ())
        return await rest if inspect.isawaitable(rest) else rest

    async def _undo(self, saga: Saga | None, why: AgentError, signal: Signal) -> None:
        """Undo what a turn has done outside, as it is not committed."""
        assert saga is not None
        try:
            await undo(saga.completed, why, True, saga)
        except CompensationFailed as error:
            self.failed(error_directive("rollback", error), signal)

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
            self._recent.add(TurnRecord(now, signal, agent.version, changed, directives, errors, agent.partition))

    def _execute(self, place: int, directive: Directive, signal: Signal) -> Any:
        """Carry out a directive; return what its executor does."""
        return executor_of(directive)(cast("AgentServer", self), directive, signal)

    def _carry_out(
        self,
        directives: tuple[Any, ...],
        signal: Signal,
        call: Any,
        begin: int = 0,
        failures: tuple[ErrorDirective, ...] = (),
    ) -> Any:
        """Run directives until one must be awaited; return the reply, or a coroutine for the rest."""
        for place in range(begin, len(directives)):
            try:
                said = self._execute(place, directives[place], signal)
            except BaseException as error:
                raise_interrupt(error)
                failures = (*failures, self._effect_failed(place, directives[place], error))
                said = self.failed(failures[-1], signal)
            if said is HALT:
                break
            if said is not None:
                return self._carry_out_slowly(said, directives, place, signal, call, failures)
        return self._reply(directives, call, failures)

    async def _carry_out_slowly(
        self,
        pending: Any,
        directives: tuple[Any, ...],
        place: int,
        signal: Signal,
        call: Any,
        failures: tuple[ErrorDirective, ...],
    ) -> Any:
        try:
            said = await awaited(pending)
        except BaseException as error:
            raise_end(error, self.ref)
            failures = (*failures, self._effect_failed(place, directives[place], error))
            said = self.failed(failures[-1], signal)
        if said is HALT:
            return self._reply(directives, call, failures)
        rest = self._carry_out(directives, signal, call, place + 1, failures)
        return await rest if inspect.isawaitable(rest) else rest

    @abstractmethod
    def _effect_failed(self, place: int, directive: Any, error: BaseException) -> ErrorDirective:
        """Return what is said of a directive that has failed."""
        ...

    def _reply(
        self, directives: tuple[Any, ...], call: Any, failures: tuple[ErrorDirective, ...] = ()
    ) -> Reply[Any] | None:
        """Return the answer; None if nobody has asked."""
        if call is None:
            return None
        agent = self.agent
        for one in self.kind.mounted:
            try:
                agent = _agent(one.plugin.on_reply(agent))
            except BaseException as error:
                raise_interrupt(error)
                _log.error("plugin_failed", plugin=one.key, hook="on_reply", error=repr(error))
        return Reply(agent, (*(one for one in directives if isinstance(one, ErrorDirective)), *failures))

    def _show(self) -> None:
        view = self.view
        view.committed = self.agent
        view.ref = self.ref
        for watcher in view.watchers:
            watcher()


def _agent(said: Any) -> Agent[Any]:
    if not isinstance(said, Agent):
        raise TypeError(f"{said!r} is no agent")
    return said


_NO_FACTS: Mapping[str, Any] = {}
#: Signals that all agents understand.
_BUILT_IN = {"agent.stop": Turns._asked_to_stop, "agent.step": Turns._asked_to_step}
