"""How directives are carried out: one function for each kind, and an actor for what outlives its turn.

>>> from agents import Directive
>>> class Ring(Directive, frozen=True, tag="ring"):
...     times: int
>>> @executes(Ring)
... def ring(server: AgentServer, directive: Ring, signal: Signal) -> None:
...     print("ding " * directive.times)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import msgspec

from agents.core.action import Context
from agents.core.command import Turn, context_of
from agents.core.directives import AwaitReply, Directive, Emit, ErrorDirective, RunInstruction, Spawn, StopAgent
from agents.core.execution import aexecute
from agents.core.failures import raise_end
from agents.core.plugin import emitted
from agents.errors import BadResult
from agents.server.effects import LOCAL, keep_as_it_is
from agents.server.messages import Ask, DirectiveResult
from agents.server.supervisor import supervisor_of
from supervision import Actor, Address, Message, Ref, handle, start_child

if TYPE_CHECKING:
    from agents.core.signal import Signal
    from agents.server.server import AgentServer


#: Returned by an executor: the directives behind this one are not carried out.
HALT: Final = "halt"
#: Carries out a directive. It may be ``async``: the turn then waits for it. What it raises goes to the error policy.
Executor: TypeAlias = "Callable[[AgentServer, Any, Signal], Awaitable[str | None] | str | None]"
E = TypeVar("E", bound=Callable[..., Any])

#: Looks at a directive, and at those before it in its turn, and raises if it can surely not be carried out.
DirectiveCheck: TypeAlias = "Callable[[AgentServer, Any, tuple[Any, ...]], None]"

_executors: dict[type[Directive], Executor] = {}
_checks: dict[type[Directive], DirectiveCheck] = {}


def executes(
    kind: type[Directive], *, durable: bool = False, local: bool = False, check: DirectiveCheck | None = None
) -> Callable[[E], E]:
    """Mark the function that carries out a kind of directives, and those derived from it.

    Args:
        kind: the class of directives. The function gets the server, the directive, and the signal whose turn it is; it
            returns None, or `HALT` to have nothing behind it carried out, and may be ``async``.
        durable: whether those of durable agents are kept until they are carried out, at least once; after a crash the
            signal has no data, and ``server.token_in_hand`` is the same.
        local: whether those of durable agents may be lost with the server. Without one of the two, they are refused by
            durable agents.
        check: called before the turn is committed, with the server, the directive, and those before it; if it raises,
            the turn fails, and nothing is committed.
    """

    def register(executor: E) -> E:
        _executors[kind] = executor
        if durable:
            keep_as_it_is(kind)
        if local:
            LOCAL.add(kind)
        if check is not None:
            _checks[kind] = check
        return executor

    return register


def check_of(directive: Any) -> DirectiveCheck | None:
    """Return what looks at a directive before its turn is committed."""
    return _checks.get(type(directive))


def executor_of(directive: Any) -> Executor:
    """Return the executor of a directive.

    Raises:
        BadResult: there is none.
    """
    found = _executors.get(type(directive))
    if found is None:
        for kind in type(directive).__mro__:
            if kind in _executors:
                found = _executors[type(directive)] = _executors[kind]
                break
        else:
            raise BadResult(
                type(directive).__name__, "no executor is registered for it: mark a function with @executes(...)"
            )
    return found


@executes(Emit)
def emit(server: AgentServer, directive: Emit, signal: Signal) -> None:
    """Send a signal."""
    sent = server.new_signal(directive.type, directive.data, directive.subject, signal.id)
    if server.kind.mounted:
        sent = emitted(server.kind.mounted, sent, server.agent)
    (server.address(directive.to) or server.emit_to).cast(sent)


@executes(StopAgent)
def stop(server: AgentServer, directive: StopAgent, signal: Signal) -> str:  # noqa: ARG001 - an executor's shape
    """End the server."""
    server.stop(directive.reason)
    return HALT


@executes(ErrorDirective)
def failed(server: AgentServer, directive: ErrorDirective, signal: Signal) -> str | None:
    """Apply the error policy to a failure."""
    return server.failed(directive, signal)


@executes(Spawn)
async def spawn(server: AgentServer, directive: Spawn, signal: Signal) -> None:  # noqa: ARG001 - an executor's shape
    """Start an actor that is not an agent."""
    under = server.address(directive.under) or supervisor_of(server.runtime)
    await start_child(under, directive.spec)


class BeginTask(Message, frozen=True):
    """Start an `OwnedTask`."""


class OwnedTask(Actor):
    """Runs one piece of work for its owner, and ends; or ends with its owner.

    It starts with the message `BeginTask`, so that the propagated context travels with it.

    Args:
        owner: the actor that the work is done for.
    """

    def __init__(self, owner: Ref) -> None:
        self._owner = owner

    def init(self) -> None:
        """End with the owner."""
        self.link(self._owner)

    @handle
    async def begin(self, message: BeginTask) -> None:
        """Run the work, and end."""
        await self._run()
        self.unlink(self._owner)
        self.stop()

    @abstractmethod
    async def _run(self) -> None: ...


class DirectiveTask(OwnedTask):
    """Runs one directive's async work, and sends the agent the result.

    Args:
        owner: the agent's server.
        work: what to do.
        then: the type of the signal with the result.
        meta: noted in that signal.
        cause: the id of the signal that asked for it.
        effect: the id as which the directive is kept, if it is.
    """

    def __init__(
        self,
        owner: Ref,
        work: Callable[[], Awaitable[Any]],
        then: str,
        meta: Any,
        cause: str,
        effect: str | None = None,
    ) -> None:
        super().__init__(owner)
        self._work = work
        self._then = then
        self._meta = meta
        self._cause = cause
        self._effect = effect

    async def _run(self) -> None:
        try:
            told = {"status": "ok", **await self._work()}
        except BaseException as error:
            raise_end(error, self.ref)
            told = {"status": "error", "error": f"{type(error).__name__}: {error}"}
        self._owner.cast(DirectiveResult(self._then, {**told, "meta": self._meta}, self._cause, self._effect))


async def _performed(directive: RunInstruction, context: Context[Any]) -> dict[str, Any]:
    return {"result": await aexecute(directive.work, context=context)}


async def _answered(server: Address, ask: Ask, timeout: float) -> dict[str, Any]:
    if timeout <= 0.0:
        raise TimeoutError("the time for the answer was over before it could be asked for")
    reply = await server.call(ask, timeout)
    errors = [str(one.error) for one in reply.errors]
    return {"state": msgspec.to_builtins(reply.agent.state), "errors": errors}


@executes(RunInstruction)
def run_instruction(server: AgentServer, directive: RunInstruction, signal: Signal) -> None:
    """Run work beside the agent's turns."""
    generation = server.kept_origin("", "").generation
    context = context_of(server.agent, Turn(signal=signal, ref=server.ref, has_loop=True, generation=generation))
    _start_task(server, partial(_performed, directive, context), directive, signal)


@executes(AwaitReply)
def await_reply(server: AgentServer, directive: AwaitReply, signal: Signal) -> None:
    """Ask another agent."""
    to = server.address(directive.to)
    assert to is not None
    asked, timeout = server.new_signal(directive.type, directive.data, cause=signal.id), directive.timeout
    if server.effect_in_hand is not None and server.keeping is not None:
        effect = server.keeping.open[server.effect_in_hand]
        asked = msgspec.structs.replace(asked, id=effect.token)
        timeout -= server.runtime.clock.wall_time() - effect.at
    _start_task(server, partial(_answered, to, Ask(asked), timeout), directive, signal)


def _start_task(server: AgentServer, work: Callable[[], Awaitable[Any]], directive: Any, signal: Signal) -> None:
    args = (server.ref, work, directive.then, directive.meta, signal.id, server.effect_in_hand)
    task = server.runtime.spawn_nowait(DirectiveTask, *args)
    server.tasks.add(task)
    task.cast(BeginTask())
