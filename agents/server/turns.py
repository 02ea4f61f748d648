"""Turns: from a signal to a commit, and to the directives that are carried out."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import msgspec

from agents.core.action import ActionLike, needs_loop
from agents.core.command import Step, Turn, run_command
from agents.core.directives import ErrorDirective, StopAgent, error_directive
from agents.core.execution import driven, name_of
from agents.core.plugin import filtered, provided
from agents.core.signal import Signal, new_signal
from agents.core.structs import differences
from agents.durability.checkpointer import EverySeconds
from agents.errors import HookFailed, NoRoute, NotSaved
from agents.events import ActionFailed, TurnTaken
from agents.server.children import Children
from agents.server.error_policy import EmitError, TooManyErrors
from agents.server.executors import HALT, executor_of
from agents.server.messages import CheckpointDue, Reply
from agents.server.sensors import Sensors
from agents.server.timers import Timers
from agents.server.view import RecentTurns, TurnRecord
from supervision import Actor, Address, Refuse, Shutdown
from supervision.logs import get_logger

if TYPE_CHECKING:
    from agents.core.agent import Agent
    from agents.core.agent_type import AgentType, PlainRoutes
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
    """

    kind: type[AgentType[Any]]
    agent: Agent[Any]
    view: AgentView[Any]
    emit_to: Address
    _errors: ErrorCount
    _recent: RecentTurns | None
    _checkpointer: Checkpointer | None
    _idle: float | None
    _save_set: bool
    _plain_routes: PlainRoutes
    _wanted: Mapping[Any, Any]

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
        """Take over an agent that was changed outside a command, such as its parent."""
        self.agent = agent
        self._show()

    def crons_changed(self) -> Awaitable[None] | None:
        """Save the cron jobs, if the agent is durable."""
        return None if self._checkpointer is None else self._checkpointer.save(self.agent, self._crons(), whole=True)

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
        except Exception as error:
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
        turn = Turn(signal=signal, ref=self.ref, provided=facts)
        if any(map(needs_loop, work)):
            return self._slow_turn(work, msgspec.structs.replace(turn, has_loop=True), signal, call)
        if kind.direct:
            step = driven(run_command(self.agent, work, turn, kind.strategy.on_failure))  # type: ignore[attr-defined]
        else:
            step = self._run_command_now(work, turn)
        return self._finish(step, signal, call, work)

    def _work(self, signal: Signal) -> tuple[ActionLike, ...]:
        """Return the work that a signal is routed to; work without parameters of its own gets the signal's data."""
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
        return self._ticked(Turn(signal=signal, ref=self.ref, has_loop=True), signal, call)

    async def _ticked(self, turn: Turn, signal: Signal, call: Any) -> Any:
        try:
            agent, directives = await self.kind.strategy.tick(self.agent, turn)
            step = Step(agent.with_version_after(self.agent), directives)
        except Exception as error:
            step = Step(self.agent, (error_directive(type(self.kind.strategy).__name__, error),))
        rest = self._finish(step, signal, call, ())
        return await rest if inspect.isawaitable(rest) else rest

    def _run_command_now(self, work: tuple[ActionLike, ...], turn: Turn) -> Step[Any]:
        try:
            return driven(self.kind.run_command(self.agent, work, turn))
        except Exception as error:
            return Step(self.agent, (error_directive(self.kind.name, error),))

    async def _slow_turn(self, work: tuple[ActionLike, ...], turn: Turn, signal: Signal, call: Any) -> Any:
        try:
            step = await self.kind.run_command(self.agent, work, turn)
        except Exception as error:
            step = Step(self.agent, (error_directive(self.kind.name, error),))
        if call is not None and call.done():
            return self._reply((), call)
        rest = self._finish(step, signal, call, work)
        return await rest if inspect.isawaitable(rest) else rest

    def _finish(self, step: Step[Any], signal: Signal, call: Any, work: tuple[ActionLike, ...]) -> Any:
        """Commit the state, and carry out the directives. Nothing comes between them."""
        agent, before, checkpointer = step.agent, self.agent, self._checkpointer
        if checkpointer is not None and agent.version != before.version:
            try:
                if checkpointer.add(before, agent, signal, self.runtime.clock.wall_time()):
                    return self._save_first(step, signal, call, work)
            except NotSaved as error:
                return self._not_saved(step, error, signal, call)
            self._save_soon()
        return self._commit(step, signal, call, work)

    async def _save_first(self, step: Step[Any], signal: Signal, call: Any, work: tuple[ActionLike, ...]) -> Any:
        assert self._checkpointer is not None
        try:
            await self._checkpointer.save(step.agent, self._crons())
        except NotSaved as error:
            self._checkpointer.discard_last()
            rest = self._not_saved(step, error, signal, call)
        else:
            rest = self._commit(step, signal, call, work)
        return await rest if inspect.isawaitable(rest) else rest

    def _not_saved(self, step: Step[Any], error: NotSaved, signal: Signal, call: Any) -> Any:
        """Commit nothing: a commit that cannot be saved is rolled back."""
        errors = (*step.errors, error_directive("checkpoint", error))
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
            self._recent.add(TurnRecord(now, signal, agent.version, changed, directives, errors, agent.partition))

    def _carry_out(self, directives: tuple[Any, ...], signal: Signal, call: Any) -> Any:
        """Run directives until one must be awaited; return the reply, or a coroutine for the rest."""
        for number, directive in enumerate(directives):
            try:
                said = executor_of(directive)(cast("AgentServer", self), directive, signal)
            except Exception as error:
                said = self.failed(error_directive(type(directive).__name__, error), signal)
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
            said = self.failed(error_directive(type(directives[number]).__name__, error), signal)
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
        assert self._checkpointer is not None
        policy = self._checkpointer.durability.policy
        if isinstance(policy, EverySeconds) and not self._save_set:
            self._save_set = True
            self.send_after(policy.seconds, CheckpointDue())

    async def _save(self, agent: Agent[Any]) -> None:
        assert self._checkpointer is not None
        try:
            await self._checkpointer.save(agent, self._crons())
        except NotSaved as error:
            self.failed(error_directive("checkpoint", error), self.new_signal("agent.checkpoint"))


_NO_FACTS: Mapping[str, Any] = {}
#: Signals that all agents understand.
_BUILT_IN = {"agent.stop": Turns._asked_to_stop, "agent.step": Turns._asked_to_step}
