"""Frames: what a process and the one that started it tell each other, as bytes with their length before them.

A value travels as msgpack, with the import path of its class. What cannot travel is refused before it is sent.
"""

from __future__ import annotations

import enum
import struct
import typing
from dataclasses import is_dataclass
from typing import Any, Self

import msgspec

from supervision._import import import_path, imported
from supervision.errors import SupervisionError
from supervision.messages import Request, describe
from supervision.reasons import Abnormal, ExitReason

LENGTH = struct.Struct("!I")
#: The longest frame, in bytes.
LONGEST = 1 << 30


class NotTransferable(SupervisionError, ValueError):
    """A value cannot be sent to another process."""

    @classmethod
    def of(cls, value: object, why: str) -> Self:
        """Return the error for a value."""
        return cls(f"{describe(value)} cannot be sent to another process: {why}")


class RemoteError(SupervisionError):
    """An error of an actor in another process, whose own class cannot be rebuilt here. ``kind`` is its name."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        self.text = text
        super().__init__(f"{kind}: {text}")


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """A value on its way: its bytes, and the import path of its class if it has one of its own."""

    data: msgspec.Raw
    kind: str | None = None


class Frame(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The base of all frames."""


class Start(Frame, frozen=True):
    """To the child: start an actor of the class at an import path."""

    kind: str
    args: list[Packed]
    kwargs: dict[str, Packed]


class Deliver(Frame, frozen=True):
    """To the child: handle a message, or answer a request."""

    id: int
    message: Packed
    request: bool


class Signal(Frame, frozen=True):
    """To the child: an actor that the actor is linked to has ended."""

    reason: Packed


class Stop(Frame, frozen=True):
    """To the child: end the actor in order."""

    reason: Packed


class Started(Frame, frozen=True):
    """From the child: the actor runs."""


class NotStarted(Frame, frozen=True):
    """From the child: the actor did not start, for a reason, or it ignored the start."""

    reason: Packed
    ignored: bool = False


class Handled(Frame, frozen=True):
    """From the child: the message is handled; its answer may come later."""

    id: int


class Answered(Frame, frozen=True):
    """From the child: the answer of a request."""

    id: int
    value: Packed


class Failed(Frame, frozen=True):
    """From the child: a request was answered with an error."""

    id: int
    kind: str
    text: str
    args: Packed | None


class Ended(Frame, frozen=True):
    """From the child: the actor has ended; the process is about to."""

    reason: Packed


ToChild = Start | Deliver | Signal | Stop
FromChild = Started | NotStarted | Handled | Answered | Failed | Ended


def pack(value: Any) -> Packed:
    """Return a value as it travels.

    Raises:
        NotTransferable: it cannot.
    """
    kind = type(value)
    own = isinstance(value, (msgspec.Struct, enum.Enum)) or is_dataclass(value)
    try:
        path = import_path(kind) if own else None
        data = msgspec.msgpack.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        remedy = "send frozen structs of plain values, of classes at the top level of a module"
        raise NotTransferable.of(value, f"{error}; {remedy}") from None
    return Packed(msgspec.Raw(data), path)


def unpack(packed: Packed, expected: Any = Any) -> Any:
    """Return the value; ``expected`` is the type of one that has no class of its own, such as ``list[Point]``."""
    kind = expected if packed.kind is None else imported(packed.kind)
    return msgspec.msgpack.decode(packed.data, type=kind)


def pack_reason(reason: ExitReason) -> Packed:
    """Return an exit reason as it travels; one that holds what cannot travel, as text."""
    try:
        return pack(reason)
    except NotTransferable:
        return pack(Abnormal(str(reason)))


def unpack_reason(packed: Packed) -> ExitReason:
    """Return an exit reason."""
    reason = unpack(packed)
    assert isinstance(reason, ExitReason)
    return reason


def answer_type(request: Any) -> Any:
    """Return the type of the answer that a request says it wants: the ``R`` of its ``Request[R]``."""
    for base in type(request).__mro__:
        for generic in getattr(base, "__orig_bases__", ()):
            origin, arguments = typing.get_origin(generic), typing.get_args(generic)
            if (
                isinstance(origin, type)
                and issubclass(origin, Request)
                and not isinstance(arguments[0], typing.TypeVar)
            ):
                return _resolved(arguments[0])
    return Any


def _resolved(annotation: Any) -> Any:
    """Return a type that msgspec can decode to, Any for others: a forward reference, or an arbitrary class."""
    try:
        msgspec.msgpack.Decoder(annotation)
    except (TypeError, NameError):
        return Any
    return annotation


def encode(frame: Frame) -> bytes:
    """Return a frame with its length before it."""
    data = msgspec.msgpack.encode(frame)
    return LENGTH.pack(len(data)) + data
