"""What is seen of an agent: its last commit, read without asking its server, and records of its last turns."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Generic, TypeVar

import msgspec

from agents.core.agent import Agent
from agents.core.signal import Signal
from agents.errors import TurnCancelled
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
        turn: the turn under way, if it is one that waits; None while there is none.
        watchers: called after each commit.
    """

    __slots__ = ("children", "committed", "last_error", "ref", "turn", "watchers")

    def __init__(self) -> None:
        self.committed: Agent[S] | None = None
        self.ref: Ref | None = None
        self.children: Mapping[str, ChildAgent] = {}
        self.last_error: Crashed | None = None
        self.turn: TurnInHand | None = None
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


class TurnInHand:
    """A turn whose actions are waiting for something: it can be cancelled.

    Args:
        signal: what it is about.
        since: when it began, in seconds since the epoch.
    """

    __slots__ = ("_over", "_scope", "_why", "signal", "since")

    def __init__(self, signal: Signal, since: float) -> None:
        self.signal = signal
        self.since = since
        self._why: str | None = None
        self._over = False

    async def __aenter__(self) -> None:
        self._scope = asyncio.timeout(None)
        await self._scope.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over = True
        try:
            await self._scope.__aexit__(kind, error, traceback)
        except TimeoutError:
            assert self._why is not None
            raise TurnCancelled(self.signal.type, self._why) from None

    def cancel(self, why: str) -> None:
        """Cancel its actions where they wait. The turn fails with `TurnCancelled`; one that is over stays as it is."""
        if self._why is None and not self._over:
            self._why = why
            self._scope.reschedule(0.0)


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
