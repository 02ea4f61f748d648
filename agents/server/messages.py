"""What an agent's server is sent and asked, besides signals."""

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
    """The answer to `Ask`: the agent after the signal's turn, and the failures in that turn."""

    agent: Agent[S_co]
    errors: tuple[ErrorDirective, ...] = ()


class Ask(Request[Reply[Any]], frozen=True):
    """Handle a signal, and reply when its turn is over."""

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
    """Disable the idle time-out while the owner lives; with ``attached=False``, no longer."""

    owner: Ref
    attached: bool


class ScheduleDue(Message, frozen=True):
    """Timer message: a scheduled signal is due."""

    type: str
    data: Any
    cause: str
    id: str | None = None


class CronDue(Message, frozen=True):
    """Timer message: a cron job is due."""

    job: Any


class CheckpointDue(Message, frozen=True):
    """Timer message: save a checkpoint now."""


class DirectiveResult(Message, frozen=True):
    """The result of a directive that outlived its turn: a signal for the agent itself."""

    type: str
    data: Any
    cause: str


class ChildAgentStarted(Message, frozen=True):
    """A child reports that it has started or restarted."""

    tag: str
    ref: Ref
    id: str
    type: str
    meta: Any


class EndChild(Message, frozen=True):
    """End a child for good, when it has handled what was sent before."""

    reason: ExitReason


class Reset(Message, frozen=True):
    """Put the agent back into its first state."""
