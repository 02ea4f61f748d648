"""Work that is begun in a turn and goes on beside the agent's other turns; a signal tells what came of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from agents.action import Context
from agents.command import Turn, context_of
from agents.directives import AwaitReply, RunInstruction
from agents.execution import Run, undo
from agents.server.executing import executes
from agents.server.messages import Ask, Told
from supervision import Actor, Address, Message, Ref, handle

if TYPE_CHECKING:
    from agents.server.server import AgentServer
    from agents.signal import Signal


class _Begin(Message, frozen=True):
    """Begin."""


class Errand(Actor):
    """Does one thing for an agent, tells it what came of it, and ends; or ends with the agent's server.

    Args:
        owner: the agent's server.
        work: what to do.
        then: the type of the signal that tells what came of it.
        meta: noted in that signal.
        cause: the id of the signal that asked for it.
    """

    def __init__(self, owner: Ref, work: Callable[[], Awaitable[Any]], then: str, meta: Any, cause: str) -> None:
        self._owner = owner
        self._work = work
        self._then = then
        self._meta = meta
        self._cause = cause

    def init(self) -> None:
        """End with the agent's server."""
        self.link(self._owner)

    @handle
    async def begin(self, message: _Begin) -> None:
        """Do it."""
        try:
            told = {"status": "ok", **await self._work()}
        except Exception as error:
            told = {"status": "error", "error": f"{type(error).__name__}: {error}"}
        self._owner.cast(Told(self._then, {**told, "meta": self._meta}, self._cause))
        self.unlink(self._owner)
        self.stop()


async def _performed(directive: RunInstruction, context: Context[Any]) -> dict[str, Any]:
    run = Run(context, waits=True)
    try:
        return {"result": await run.step(directive.work, {})}
    except Exception as error:
        await undo(run.done, error, waits=True)
        raise


async def _answered(server: Address, ask: Ask, timeout: float) -> dict[str, Any]:
    reply = await server.call(ask, timeout)
    errors = [str(one.error) for one in reply.errors]
    return {"state": msgspec.to_builtins(reply.agent.state), "errors": errors}


@executes(RunInstruction)
def run_instruction(server: AgentServer, directive: RunInstruction, signal: Signal) -> None:
    """Run work beside the agent's turns."""
    context = context_of(server.agent, Turn(signal=signal, ref=server.ref, waits=True))
    _send(server, partial(_performed, directive, context), directive, signal)


@executes(AwaitReply)
def await_reply(server: AgentServer, directive: AwaitReply, signal: Signal) -> None:
    """Ask another agent."""
    to = server.address(directive.to)
    assert to is not None
    ask = Ask(server.new_signal(directive.type, directive.data, cause=signal.id))
    _send(server, partial(_answered, to, ask, directive.timeout), directive, signal)


def _send(server: AgentServer, work: Callable[[], Awaitable[Any]], directive: Any, signal: Signal) -> None:
    """Send an errand on its way. It is told to begin by a message, with which go facts and traces of this turn."""
    errand = server.runtime.spawn_nowait(Errand, server.ref, work, directive.then, directive.meta, signal.id)
    errand.cast(_Begin())
