"""What is seen of an agent: its last commit, read without asking its server, and records of its last turns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from agents.core.agent import Agent
from agents.core.signal import Signal
from supervision import NotRunning, Ref
from supervision.reasons import Crashed

S = TypeVar("S", bound=msgspec.Struct)


class AgentView(Generic[S]):
    """An agent at its last commit: a read is one attribute, never waits, and is never half of a commit.

    A server makes its own view, which keeps the last commit when the server has ended. Give one to the server instead
    (``AgentServer(kind, view=view)`` in a child specification), and it shows the agent of each incarnation.

    Attributes:
        committed: the agent at its last commit; None before the first server has started.
        ref: the server that published it.
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
            raise NotRunning("no server has published an agent to this view yet")
        return self.committed

    @property
    def state(self) -> S:
        """The agent's state at its last commit.

        Raises:
            NotRunning: no server has started yet.
        """
        return self.agent.state


class ChildAgent(msgspec.Struct, frozen=True):
    """A child of an agent, as the parent knows it: its tag, server, id and type, and what was noted with it."""

    tag: str
    ref: Ref
    id: str
    type: str
    meta: Any = None


class TurnRecord(msgspec.Struct, frozen=True):
    """One turn of an agent, as it was recorded.

    Attributes:
        time: when it was over, in seconds since the epoch.
        signal: what it was about.
        version: of the agent after it.
        changed: the fields of the state that it has changed, with what they are now.
        directives: the kinds of the directives, in order.
        errors: what failed in it.
        partition: of the agent.
    """

    time: float
    signal: Signal
    version: int
    changed: dict[str, Any]
    directives: tuple[str, ...]
    errors: tuple[Crashed, ...]
    partition: str = ""


class RecentTurns:
    """The last turns of an agent.

    Args:
        keep: how many.
    """

    __slots__ = ("_turns",)

    def __init__(self, keep: int) -> None:
        self._turns: deque[TurnRecord] = deque(maxlen=keep)

    def add(self, record: TurnRecord) -> None:
        """Add a turn; the oldest one is dropped if there are too many."""
        self._turns.append(record)

    def newest(self, limit: int) -> list[TurnRecord]:
        """Return the newest ones, the newest first."""
        return list(reversed(self._turns))[:limit]
