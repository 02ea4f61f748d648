"""Directives: what the outside world is to do. They describe it as data; the agent's server does it.

A directive never changes the agent that returns it. Those of one turn are carried out in order, after the new state is
committed and before the next turn.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agents.errors import BadSignal
from agents.router import segments
from supervision import NORMAL, Address
from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.messages import FrozenMeta
from supervision.reasons import Crashed


class Directive(msgspec.Struct, metaclass=FrozenMeta, frozen=True, tag_field="kind"):
    """The base of all directives. A server carries out the kinds that are defined here and no others."""


class Emit(Directive, frozen=True, tag="emit"):
    """Send a signal. It gets its id, time and source from the server, and the id of the signal that caused it.

    Attributes:
        type: of the signal, such as ``"order.placed"``.
        data: of the signal.
        subject: of the signal.
        to: an address, or the name of an actor; None for where the server sends what its agent emits: the ``emit_to``
            with which it was started, or the agent itself.

    Raises:
        BadSignal: this cannot be the type of a signal.
        BadOption: ``to`` is no destination.
    """

    type: str
    data: Any = None
    subject: str | None = None
    to: Address | str | None = None

    def __post_init__(self) -> None:
        segments("Emit.type", self.type, BadSignal)
        if not (self.to is None or isinstance(self.to, Address) or (isinstance(self.to, str) and self.to)):
            raise BadOption("Emit.to", self.to, "give an address, the name of an actor, or None")


class Schedule(Directive, frozen=True, tag="schedule"):
    """Send the agent itself a signal later. It is forgotten when the agent's server ends.

    Attributes:
        after: how many seconds later.
        type: of the signal.
        data: of the signal.

    Raises:
        BadTime: ``after`` is no length of time.
        BadSignal: this cannot be the type of a signal.
    """

    after: float
    type: str
    data: Any = None

    def __post_init__(self) -> None:
        seconds("Schedule.after", self.after)
        segments("Schedule.type", self.type, BadSignal)


class Stop(Directive, frozen=True, tag="stop"):
    """End the agent's server. Directives behind it are not carried out.

    That work is done is better told by the agent's state: a permanent child that stops is started again.

    Attributes:
        reason: an `ExitReason`, or anything else, which becomes ``Abnormal``.
    """

    reason: Any = NORMAL


class ErrorDirective(Directive, frozen=True, tag="error"):
    """An action failed. The server deals with it by its error policy.

    Attributes:
        action: the name of its class.
        error: the exception as data.
    """

    action: str
    error: Crashed


#: The kinds of directives that a server carries out.
KINDS = (Emit, Schedule, Stop, ErrorDirective)
