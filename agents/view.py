"""Views: the last commit of an agent, to be read by anybody at any time without asking its server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from agents.agent import Agent
from supervision import NotRunning, Ref
from supervision.reasons import Crashed

S = TypeVar("S", bound=msgspec.Struct)


class ChildAgent(msgspec.Struct, frozen=True):
    """A child of an agent, as the parent knows it: its tag, server, id and type, and what was noted with it."""

    tag: str
    ref: Ref
    id: str
    type: str
    meta: Any = None


class View(Generic[S]):
    """Where a server shows its agent: a read is one attribute, never waits, and is never half of a commit.

    A server makes its own, which shows its agent's last commit also when it has ended. Give one to the server instead
    (``AgentServer(kind, view=view)`` in a child specification) and it shows the agent of whichever incarnation runs.

    Attributes:
        committed: the agent at its last commit; None before the first server has started.
        ref: the server that showed it.
        children: of the agent, by tag.
        last_error: what failed last; None if nothing has.
        watchers: called after each commit.
    """

    __slots__ = ("children", "committed", "last_error", "ref", "watchers")

    def __init__(self) -> None:
        self.committed: Agent[S] | None = None
        self.ref: Ref | None = None
        self.children: Mapping[str, ChildAgent] = {}
        self.last_error: Crashed | None = None
        self.watchers: tuple[Callable[[], None], ...] = ()

    @property
    def agent(self) -> Agent[S]:
        """The agent at its last commit.

        Raises:
            NotRunning: no server has started yet.
        """
        if self.committed is None:
            raise NotRunning("no server has shown an agent in this view yet")
        return self.committed

    @property
    def state(self) -> S:
        """The agent's state at its last commit.

        Raises:
            NotRunning: no server has started yet.
        """
        return self.agent.state
