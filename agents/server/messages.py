"""What an agent's server is told and asked, besides signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from agents.core.agent import Agent, Parent
from agents.core.directives import ErrorDirective
from agents.core.signal import Signal
from agents.server.view import AgentView, TurnRecord
from supervision import ExitReason, Message, Request
from supervision.messages import FrozenMeta

if TYPE_CHECKING:
    from supervision import Ref

S_co = TypeVar("S_co", bound=msgspec.Struct, covariant=True)


class Reply(msgspec.Struct, Generic[S_co], metaclass=FrozenMeta, frozen=True):
    """What a signal that was sent with `Ask` led to: the agent after its turn, and the actions that failed in it."""

    agent: Agent[S_co]
    errors: tuple[ErrorDirective, ...] = ()


class Ask(Request[Reply[Any]], frozen=True):
    """Handle a signal and tell what came of it."""

    signal: Signal


class GetView(Request[AgentView[Any]], frozen=True):
    """Where can the agent be seen?"""


class SetDebug(Request[None], frozen=True):
    """Record the turns of the agent from now on, the last so many of them; 0 for none."""

    keep: int


class GetRecentTurns(Request[list[TurnRecord]], frozen=True):
    """What were the last turns, the newest first?"""

    limit: int


class Attach(Request[tuple[str, str]], frozen=True):
    """Become the child of an agent; the answer is the id and the type of the child."""

    parent: Parent


class Adopt(Request[None], frozen=True):
    """Make an agent without a parent a child of this one."""

    child: Ref
    tag: str
    meta: Any


class AttachOwner(Request[None], frozen=True):
    """Stay, however idle, while somebody lives who needs the agent; an owner that is None detaches one again."""

    owner: Ref
    attached: bool


class ScheduleDue(Message, frozen=True):
    """A server's note to itself: something that was scheduled is due."""

    type: str
    data: Any
    cause: str
    id: str | None = None


class CronDue(Message, frozen=True):
    """A server's note to itself: a cron job is due."""

    job: Any


class CheckpointDue(Message, frozen=True):
    """A server's note to itself: it is time for a checkpoint."""


class DirectiveResult(Message, frozen=True):
    """What came of something that was begun in a turn: a signal for the agent itself."""

    type: str
    data: Any
    cause: str


class ChildAgentStarted(Message, frozen=True):
    """A child says that it has started, or has started again."""

    tag: str
    ref: Ref
    id: str
    type: str
    meta: Any


class EndChild(Message, frozen=True):
    """A child is to end for good, when it has handled what was sent before."""

    reason: ExitReason


class Reset(Message, frozen=True):
    """The agent is to begin anew, in its first state."""
