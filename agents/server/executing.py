"""How directives are carried out: one function for each kind.

>>> from agents import Directive
>>> class Ring(Directive, frozen=True, tag="ring"):
...     times: int
>>> @executes(Ring)
... def ring(server: AgentServer, directive: Ring, signal: Signal) -> None:
...     print("ding " * directive.times)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from agents.directives import Directive, Emit, ErrorDirective, Spawn, Stop
from agents.errors import BadResult
from agents.plugin import emitted
from agents.server.agents_supervisor import supervisor_of
from supervision import start_child

if TYPE_CHECKING:
    from agents.server.server import AgentServer
    from agents.signal import Signal

#: Returned by an executor: the directives behind this one are not carried out.
HALT: Final = "halt"
#: Carries out a directive. It may be ``async``: the turn then waits for it. What it raises goes to the error policy.
Executor: TypeAlias = "Callable[[AgentServer, Any, Signal], Awaitable[str | None] | str | None]"
E = TypeVar("E", bound=Callable[..., Any])

_executors: dict[type[Directive], Executor] = {}


def executes(kind: type[Directive]) -> Callable[[E], E]:
    """Mark the function that carries out a kind of directives, and those derived from it.

    Args:
        kind: the class of directives. The function gets the server, the directive, and the signal whose turn it is; it
            returns None, or `HALT` to have nothing behind it carried out, and may be ``async``.
    """

    def register(executor: E) -> E:
        _executors[kind] = executor
        return executor

    return register


def executor_of(directive: Any) -> Executor:
    """Return what carries out a directive.

    Raises:
        BadResult: nothing does.
    """
    found = _executors.get(type(directive))
    if found is None:
        for kind in type(directive).__mro__:
            if kind in _executors:
                found = _executors[type(directive)] = _executors[kind]
                break
        else:
            raise BadResult(type(directive).__name__, "nothing carries it out: mark a function with @executes(...)")
    return found


@executes(Emit)
def emit(server: AgentServer, directive: Emit, signal: Signal) -> None:
    """Send a signal."""
    sent = server.new_signal(directive.type, directive.data, directive.subject, signal.id)
    if server.kind.mounted:
        sent = emitted(server.kind.mounted, sent, server.agent)
    (server.address(directive.to) or server.emit_to).cast(sent)


@executes(Stop)
def stop(server: AgentServer, directive: Stop, signal: Signal) -> str:  # noqa: ARG001 - an executor's shape
    """End the server."""
    server.stop(directive.reason)
    return HALT


@executes(ErrorDirective)
def failed(server: AgentServer, directive: ErrorDirective, signal: Signal) -> str | None:
    """Deal with a failure by the error policy."""
    return server.failed(directive, signal)


@executes(Spawn)
async def spawn(server: AgentServer, directive: Spawn, signal: Signal) -> None:  # noqa: ARG001 - an executor's shape
    """Start an actor that is no agent."""
    under = server.address(directive.under) or supervisor_of(server.runtime)
    await start_child(under, directive.spec)
