"""The agent's server: the actor that owns one agent."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import msgspec
import structlog

from agents.agent import Agent, AgentType
from agents.command import ActionLike, Step, acmd, cmd
from agents.directives import Directive, Emit, ErrorDirective, Schedule, Stop
from agents.errors import NoRoute
from agents.events import ActionFailed
from agents.ids import uuid7
from agents.policy import ErrorCount, ErrorPolicy, LogOnly, StopAfter, TooManyErrors
from agents.signal import Signal, new_signal
from agents.view import View
from supervision import Actor, Address, Message, Refuse, Request, handle
from supervision.errors import BadOption
from supervision.messages import FrozenMeta

S_co = TypeVar("S_co", bound=msgspec.Struct, covariant=True)

_log: Any = structlog.get_logger("agents")


class Reply(msgspec.Struct, Generic[S_co], metaclass=FrozenMeta, frozen=True):
    """What a signal that was sent with `Ask` led to: the agent after its turn, and the actions that failed in it."""

    agent: Agent[S_co]
    errors: tuple[ErrorDirective, ...] = ()


class Ask(Request[Reply[Any]], frozen=True):
    """Handle a signal and tell what came of it."""

    signal: Signal


class GetView(Request[View[Any]], frozen=True):
    """Where can the agent be seen?"""


class Due(Message, frozen=True):
    """A server's note to itself: a scheduled signal is due."""

    type: str
    data: Any
    cause: str


class AgentServer(Actor):
    """The actor that owns one agent. Cast it a `Signal`, or call it with `Ask`.

    A turn: the signal is routed by its type to actions, whose parameters are the signal's data; they run as one
    command; the new state is committed; then the directives are carried out, in order. Turns come one at a time, in the
    order of arrival, calls and casts alike, and also while an async action waits. A call is answered after its
    directives.

    A signal without a route is refused with `NoRoute` when it was sent with `Ask`, and noted as ``Unhandled`` when it
    was cast. A failing action never ends the server by itself: that is up to ``on_error``. A call whose sender has
    given up before the commit is not committed, though its action runs to its end.

    A restarted server begins with a fresh agent in its first state.

    Args:
        kind: the type of the agent.
        id: of the agent; if None, the name under which the server is registered; if it has none, a new UUID.
        state: the agent's first state, or some of its fields.
        emit_to: where emitted signals go that do not say so themselves: an address, or the name of an actor; None for
            the agent itself.
        on_error: what to do when an action has failed.
        view: where to show the agent; None for a view of its own.

    Raises:
        BadOption, BadAgentType, BadState: an argument is wrong.
    """

    def __init__(
        self,
        kind: type[AgentType[Any]],
        *,
        id: str | None = None,
        state: Mapping[str, Any] | msgspec.Struct | None = None,
        emit_to: Address | str | None = None,
        on_error: ErrorPolicy | None = None,
        view: View[Any] | None = None,
    ) -> None:
        if not isinstance(kind, type) or not issubclass(kind, AgentType):
            raise BadOption("AgentServer: kind", kind, "give a subclass of AgentType")
        if on_error is not None and not isinstance(on_error, (LogOnly, StopAfter)):
            raise BadOption("AgentServer: on_error", on_error, "give LogOnly() or StopAfter(errors)")
        self._kind = kind
        self._errors = ErrorCount(on_error or LogOnly())
        self._emit_to: Address = self._address(emit_to) or self.ref
        self._view: View[Any] = View() if view is None else view
        self._agent = kind.new(self._default_id() if id is None else id, state)
        self._source = f"/{kind.name}/{self._agent.id}"
        self._show()

    def _default_id(self) -> str:
        runtime = self.runtime
        info = runtime.info(self.ref)
        assert info is not None
        return info.name or uuid7(runtime.random, runtime.clock.wall_time())

    def _show(self) -> None:
        self._view.committed = self._agent
        self._view.ref = self.ref

    # -- turns -----------------------------------------------------------------------------------------------------

    @handle
    def told(self, signal: Signal) -> Coroutine[Any, Any, None] | None:
        """Take a turn for a signal that was cast."""
        work = self._work(signal)
        if not work:
            self.unhandled(signal)
            return None
        if self._waits(work):
            return self._slow_turn(signal, work)
        self._commit(cmd(self._agent, *work, signal=signal, ref=self.ref), signal)
        return None

    @handle
    def asked(self, request: Ask) -> Reply[Any] | Coroutine[Any, Any, Reply[Any]]:
        """Take a turn for a signal, and tell what came of it."""
        signal = request.signal
        work = self._work(signal)
        if not work:
            raise Refuse(NoRoute(self._agent.type, signal.type))
        if self._waits(work):
            return self._slow_answer(signal, work)
        return self._commit(cmd(self._agent, *work, signal=signal, ref=self.ref), signal)

    @handle
    def due(self, message: Due) -> Coroutine[Any, Any, None] | None:
        """Take a turn for a scheduled signal."""
        return self.told(self._signal(message.type, message.data, None, message.cause))

    @handle
    def get_view(self, request: GetView) -> View[Any]:
        """Tell where the agent can be seen."""
        return self._view

    def _work(self, signal: Signal) -> list[ActionLike]:
        return [(action, signal.data) for action in self._kind.router.route(signal.type)]

    @staticmethod
    def _waits(work: list[ActionLike]) -> bool:
        return any(item[0].is_async for item in work if isinstance(item, tuple))

    async def _slow_turn(self, signal: Signal, work: list[ActionLike]) -> None:
        self._commit(await acmd(self._agent, *work, signal=signal, ref=self.ref), signal)

    async def _slow_answer(self, signal: Signal, work: list[ActionLike]) -> Reply[Any]:
        call = self._cell.call_in_hand
        step = await acmd(self._agent, *work, signal=signal, ref=self.ref)
        if call is not None and call.done():
            return Reply(self._agent)
        return self._commit(step, signal)

    def _commit(self, step: Step[Any], signal: Signal) -> Reply[Any]:
        """Commit the state and carry out the directives. Nothing comes between them."""
        self._agent = step.agent
        self._show()
        for directive in step.directives:
            if not self._carry_out(directive, signal):
                break
        return Reply(step.agent, step.errors)

    # -- directives ------------------------------------------------------------------------------------------------

    def _carry_out(self, directive: Directive, signal: Signal) -> bool:
        """Carry out a directive; return whether to go on with the next one."""
        return self._executors[type(directive)](self, directive, signal)

    def _emit(self, directive: Emit, signal: Signal) -> bool:
        to = self._address(directive.to) or self._emit_to
        to.cast(self._signal(directive.type, directive.data, directive.subject, signal.id))
        return True

    def _schedule(self, directive: Schedule, signal: Signal) -> bool:
        self.send_after(directive.after, Due(directive.type, directive.data, signal.id))
        return True

    def _stop(self, directive: Stop, signal: Signal) -> bool:
        self.stop(directive.reason)
        return False

    def _failed(self, directive: ErrorDirective, signal: Signal) -> bool:
        agent, error = self._agent, directive.error
        runtime = self.runtime
        where = {"path": self.ref.path, "agent_id": agent.id, "agent_type": agent.type, "action": directive.action}
        runtime.events.emit(ActionFailed, ref=self.ref, error=error, signal_id=signal.id, **where)
        _log.error("action_failed", error=str(error), signal=signal.type, signal_id=signal.id, **where)
        count = self._errors.spend(runtime.clock.time())
        if count is not None:
            self.stop(TooManyErrors(count, error))
        return count is None

    _executors: ClassVar[dict[type[Directive], Callable[[Any, Any, Signal], bool]]] = {
        Emit: _emit,
        Schedule: _schedule,
        Stop: _stop,
        ErrorDirective: _failed,
    }

    def _signal(self, type: str, data: Any, subject: str | None, cause: str) -> Signal:
        return new_signal(self.runtime, type, data, source=self._source, subject=subject, cause=cause)

    def _address(self, to: Address | str | None) -> Address | None:
        return self.runtime.name(to) if isinstance(to, str) else to
