"""What an agent's server is sent and asked, besides signals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec

from agents.core.agent import Agent, Parent
from agents.core.directives import ErrorDirective
from agents.core.signal import Signal
from agents.server.view import AgentView, TurnRecord
from agents.signals.checks import check_count, check_text, is_text
from supervision import ExitReason, Message, Ref, Request
from supervision.errors import BadOption
from supervision.messages import FrozenMeta

S_co = TypeVar("S_co", bound=msgspec.Struct, covariant=True)


class Reply(msgspec.Struct, Generic[S_co], metaclass=FrozenMeta, frozen=True):
    """The answer to `Ask`: the agent after the signal's turn, and the failures in that turn.

    Attributes:
        agent: as it is after the turn.
        errors: what has failed, and where (`ErrorDirective.stage`): in an action or the commit, and nothing is changed,
            unless the agent's type keeps what was done before; or an effect, after the commit.
        kept: whether the turn is saved; not if it has failed and is not committed. With `EveryTurns` and `EverySeconds`
            it is, a little later.
        duplicate: whether the signal had been taken before, and was not done again.
        pending: how many signals of a durable agent are not delivered yet.
    """

    agent: Agent[S_co]
    errors: tuple[ErrorDirective, ...] = ()
    kept: bool = False
    duplicate: bool = False
    pending: int = 0


class Ask(Request[Reply[Any]], frozen=True):
    """Handle a signal, and reply when its turn is over."""

    signal: Signal


class GetView(Request[AgentView[Any]], frozen=True):
    """Where can the agent be seen?"""


class SetDebug(Request[None], frozen=True):
    """Record the turns of the agent from now on, the last so many of them; 0 for none.

    Raises:
        BadOption: ``keep`` is not a whole number from 0.
    """

    keep: int

    def __post_init__(self) -> None:
        check_count("SetDebug.keep", self.keep, 0)


class GetRecentTurns(Request[list[TurnRecord]], frozen=True):
    """What were the last turns, the newest first?

    Raises:
        BadOption: ``limit`` is not a whole number from 0.
    """

    limit: int

    def __post_init__(self) -> None:
        check_count("GetRecentTurns.limit", self.limit, 0)


class Attach(Request[tuple[str, str]], frozen=True):
    """Become the child of an agent; the answer is the id and the type of the child.

    Raises:
        BadOption: ``parent`` is none.
    """

    parent: Parent

    def __post_init__(self) -> None:
        if not isinstance(self.parent, Parent):
            raise BadOption("Attach.parent", self.parent, "give a Parent")


class Adopt(Request[None], frozen=True):
    """Make an agent without a parent a child of this one.

    Raises:
        BadOption: ``tag`` is no text.
    """

    child: Ref
    tag: str
    meta: Any

    def __post_init__(self) -> None:
        check_text("Adopt.tag", self.tag)


class AttachOwner(Request[None], frozen=True):
    """Disable the idle time-out while the owner lives; with ``attached=False``, no longer.

    Raises:
        BadOption: ``owner`` is no actor.
    """

    owner: Ref
    attached: bool

    def __post_init__(self) -> None:
        if not isinstance(self.owner, Ref):
            raise BadOption("AttachOwner.owner", self.owner, "give the Ref of an actor")


class Hibernate(Request[bool], frozen=True):
    """Save the agent and end, unless something waits to be handled: then ask again. The answer says whether it ends."""


class ScheduleDue(Message, frozen=True):
    """Timer message: a scheduled signal is due."""

    type: str
    data: Any
    cause: str
    id: str | None = None
    trace: Mapping[str, str] = {}


class CronDue(Message, frozen=True):
    """Timer message: a cron job is due."""

    job: Any


class CheckpointDue(Message, frozen=True):
    """Timer message: save a checkpoint now."""


class TimersDue(Message, frozen=True):
    """Timer message: a timer of a durable agent may be due."""


class CarryOn(Message, frozen=True):
    """Carry on with what a durable agent has kept, as its server has begun, and then with these directives."""

    directives: tuple[Any, ...] = ()


class EffectDue(Message, frozen=True):
    """Carry out an effect that is kept."""

    id: str


class FlushMarks(Message, frozen=True):
    """Timer message: write what was marked."""


class GetDeadEffects(Request[tuple[Any, ...]], frozen=True):
    """Which effects were given up?"""


class RedriveEffects(Request[int], frozen=True):
    """Try effects again that were given up, or forget them; the answer is how many.

    Attributes:
        tokens: which; None for all.
        forget: whether to forget them.

    Raises:
        BadOption: ``tokens`` are no texts.
    """

    tokens: tuple[str, ...] | None = None
    forget: bool = False

    def __post_init__(self) -> None:
        if self.tokens is not None and not (isinstance(self.tokens, tuple) and all(map(is_text, self.tokens))):
            raise BadOption("RedriveEffects.tokens", self.tokens, "give the tokens of effects, or None for all")


class DirectiveResult(Message, frozen=True):
    """The result of a directive that outlived its turn: a signal for the agent itself.

    ``effect`` is the id as which the directive is kept, if it is.
    """

    type: str
    data: Any
    cause: str
    effect: str | None = None


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
