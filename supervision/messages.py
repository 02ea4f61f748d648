"""Messages: what actors send each other, and the messages that the kernel itself sends."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, dataclass_transform

import msgspec

if TYPE_CHECKING:
    from supervision.actor import Actor
    from supervision.reasons import ExitReason
    from supervision.ref import Monitor, Name, Ref

R_co = TypeVar("R_co", covariant=True)


if TYPE_CHECKING:

    @dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
    class FrozenMeta(msgspec.StructMeta):
        """Makes type checkers see that subclasses of a frozen struct are frozen too, as they are."""

else:
    # A class of it would lose vectorcall, and so a third of the time in which a message is made.
    FrozenMeta = msgspec.StructMeta


class Message(msgspec.Struct, metaclass=FrozenMeta, frozen=True):
    """The base of a message without an answer. Subclasses are frozen structs, as messages are shared, not copied.

    >>> class Add(Message):
    ...     n: int
    >>> Add(3)
    Add(n=3)
    """


class Request(msgspec.Struct, Generic[R_co], metaclass=FrozenMeta, frozen=True):
    """The base of a message with an answer, whose type it carries.

    >>> class Get(Request[int]):
    ...     key: str

    ``await ref.call(Get("a"))`` is then an ``int`` for a type checker.

    Attributes:
        raises: the errors with which it may be answered: an actor in another process can answer with these classes, and
            with Python's own, which need not be listed.
    """

    raises: ClassVar[tuple[type[Exception], ...]] = ()


class SystemRequest(Request[R_co], frozen=True):
    """A request to any actor, whatever it handles itself: see `supervision.system`."""

    @abstractmethod
    def carry_out(self, actor: Actor) -> R_co:
        """Carry it out, between two messages of the actor."""


class Exit(Message, frozen=True):
    """A linked actor ended, or somebody sent an exit signal, and this actor traps exits (OTP's ``'EXIT'`` message)."""

    sender: Ref | None
    reason: ExitReason


class Down(Message, frozen=True):
    """A monitored actor ended (OTP's ``'DOWN'`` message). ``target`` is what was monitored: a `Ref` or a `Name`."""

    monitor: Monitor
    target: Ref | Name
    reason: ExitReason


class IdleTimeout(Message, frozen=True):
    """Nothing arrived within the idle time-out."""


class ParentExit(Message, frozen=True):
    """The parent's exit signal on its way through the mailbox of a child that traps exits. Never seen by handlers."""

    reason: ExitReason


class StopMessage(ParentExit, frozen=True):
    """The order of `Ref.stop`, on its way through the mailbox. Never seen by handlers."""


class Wake(Message, frozen=True):
    """The head of a bounded mailbox that goes from idle to runnable. Never seen by handlers."""


def describe(message: Any, limit: int = 200, form: Callable[[Any], str] = repr) -> str:
    """Return a short, safe text for a message, for errors and logs; ``form`` is `repr` or `str`."""
    try:
        text = form(message)
    except Exception as error:
        text = f"<{type(message).__name__} whose {form.__name__} raises {type(error).__name__}>"
    return cut(text, limit)


def cut(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
