"""Handles: an agent as its users see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from agents.agent import Agent, AgentType
from agents.policy import ErrorPolicy
from agents.server import AgentServer, Ask, GetView, Reply
from agents.signal import Signal, new_signal
from agents.view import View
from supervision import Address, Call, Name, Ref, Runtime
from supervision.call import DEFAULT_TIMEOUT

S = TypeVar("S", bound=msgspec.Struct)


class AgentHandle(Generic[S]):
    """An agent that runs: signals go to its server, reads come from its last commit without asking it.

    Attributes:
        address: of the server: one incarnation, or whoever holds a name.
        view: where the agent is seen. See `View` for what it shows after a restart.
    """

    __slots__ = ("address", "view")

    def __init__(self, address: Ref | Name, view: View[S]) -> None:
        self.address = address
        self.view = view

    @property
    def agent(self) -> Agent[S]:
        """The agent at its last commit."""
        return self.view.agent

    @property
    def state(self) -> S:
        """The agent's state at its last commit."""
        return self.view.state

    def signal(self, type: str, data: Any = None, *, source: str = "/", subject: str | None = None) -> Signal:
        """Return a new signal, with an id and the time.

        Args:
            type: what happened, such as ``"order.placed"``.
            data: more about it: the parameters of the actions that it is routed to.
            source: where, as a URI reference.
            subject: about what in the source.

        Raises:
            BadSignal: an argument is wrong.
        """
        return new_signal(self.address.runtime, type, data, source=source, subject=subject)

    def cast(self, signal: Signal) -> None:
        """Send a signal and forget it. Never fails and never waits."""
        self.address.cast(signal)

    def call(self, signal: Signal, timeout: float | None = DEFAULT_TIMEOUT) -> Call[Reply[S]]:
        """Send a signal; await what this returns for what came of it.

        A failed action is no error of the call: it is in ``reply.errors``.

        Args:
            signal: the signal.
            timeout: seconds to wait for the answer; None waits as long as the server lives.

        Raises:
            NoRoute: the agent has no route for it.
            CallError: no answer, for one of the reasons that `Address.call` lists.
        """
        return self.address.call(Ask(signal), timeout)


async def start_agent(
    runtime: Runtime,
    kind: type[AgentType[S]],
    *,
    id: str | None = None,
    state: S | Mapping[str, Any] | None = None,
    name: str | None = None,
    emit_to: Address | str | None = None,
    on_error: ErrorPolicy | None = None,
) -> AgentHandle[S]:
    """Start an agent's server that is not supervised, and return a handle.

    A supervised one is a child specification: ``ChildSpec("c1", AgentServer, (Counter,), name="c1")``; `connect` then
    returns a handle.

    Args:
        runtime: where.
        kind: the type of the agent.
        id: of the agent; see `AgentServer`.
        state: its first state, or some of its fields.
        name: under which the server is registered.
        emit_to: where emitted signals go; see `AgentServer`.
        on_error: the error policy.

    Raises:
        BadOption: an argument is wrong.
        StartError: it did not start, for example with `BadState` as its cause.
        AlreadyRegistered: the name is taken.
    """
    view: View[S] = View()
    server = await runtime.spawn(
        AgentServer, kind, id=id, state=state, emit_to=emit_to, on_error=on_error, view=view, name=name
    )
    return AgentHandle(server, view)


async def connect(address: Ref | Name, kind: type[AgentType[S]]) -> AgentHandle[S]:  # noqa: ARG001 - types alone
    """Return a handle of an agent whose server runs.

    Args:
        address: of the server. With a `Name`, signals reach the server that holds the name when they are sent; what is
            seen is the view of the one that holds it now.
        kind: the type of the agent, for type checkers.

    Raises:
        NoProcess: there is no such server.
        UnhandledMessage: it is no agent's server.
    """
    return AgentHandle(address, await address.call(GetView()))
