"""Frames: the protocol between a process and its parent, as msgpack with the length before it.

A value travels as msgpack, with the import path of its class. What cannot travel is refused before it is sent. The
child imports what its parent names; the parent imports nothing: see `supervision.isolation.decoding`.
"""

from __future__ import annotations

import contextvars
import enum
import importlib
import struct
import typing
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import is_dataclass
from functools import cache
from typing import Any, Self

import msgspec

from supervision.errors import SupervisionError
from supervision.messages import Request, describe
from supervision.reasons import LONG, REASONS, Abnormal, ExitReason, Shutdown

LENGTH = struct.Struct("!I")
#: How much of a text about an error is sent, in characters.
LONGEST_TEXT = 100_000
#: A value that is not there.
NOTHING = msgspec.Raw(msgspec.msgpack.encode(None))


class NotTransferable(SupervisionError, ValueError):
    """A value cannot be sent to another process.

    Attributes:
        begun: whether a handler may have begun the request; true if it is the answer that cannot be sent.
    """

    begun = False

    @classmethod
    def of(cls, value: object, why: str) -> Self:
        """Return the error for a value."""
        return cls(f"{describe(value)} cannot be sent to another process: {why}")


class RemoteError(SupervisionError):
    """An error of another process, whose own class is not rebuilt here.

    Attributes:
        kind: the name of its class.
        text: its message.
        traceback: where it was raised there, as Python prints it; empty if it is not known.
    """

    def __init__(self, kind: str, text: str, traceback: str = "") -> None:
        self.kind = kind
        self.text = text
        self.traceback = traceback
        super().__init__(f"{kind}: {text}" if text else kind)


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """An encoded value: its bytes, and the import path of its class if that is needed to decode it."""

    data: msgspec.Raw
    kind: str | None = None


class Frame(msgspec.Struct, frozen=True, array_like=True, tag=lambda name: name.removesuffix("Frame")):
    """The base of all frames; each travels under the name of its class without ``Frame``."""


class StartFrame(Frame, frozen=True):
    """To the child: start an actor of the class at an import path."""

    kind: str
    args: list[Packed]
    kwargs: dict[str, Packed]


class DeliverFrame(Frame, frozen=True):
    """To the child: handle a message, or answer a request."""

    id: int
    message: Packed
    request: bool


class SignalFrame(Frame, frozen=True):
    """To the child: an actor that the actor is linked to has ended."""

    reason: Packed


class StopFrame(Frame, frozen=True):
    """To the child: end the actor in order."""

    reason: Packed


class StartedFrame(Frame, frozen=True):
    """From the child: the actor runs."""


class NotStartedFrame(Frame, frozen=True):
    """From the child: the actor did not start, for a reason, or it ignored the start."""

    reason: Packed
    ignored: bool = False


class HandledFrame(Frame, frozen=True):
    """From the child: the message is handled; its answer may come later."""

    id: int


class AnsweredFrame(Frame, frozen=True):
    """From the child: the answer of a request."""

    id: int
    value: Packed


class FailedFrame(Frame, frozen=True):
    """From the child: a request was answered with an error.

    ``args`` is the list of its arguments, and ``fields`` the dict of its attributes; `NOTHING` if they cannot travel.
    """

    id: int
    kind: str
    text: str
    traceback: str
    args: msgspec.Raw
    fields: msgspec.Raw


class EndedFrame(Frame, frozen=True):
    """From the child: the actor has ended; the process is about to."""

    reason: Packed


ToChild = StartFrame | DeliverFrame | SignalFrame | StopFrame
FromChild = StartedFrame | NotStartedFrame | HandledFrame | AnsweredFrame | FailedFrame | EndedFrame


def import_path(kind: Any) -> str:
    """Return the path under which another process can import a class.

    Raises:
        ValueError: it cannot: the class was made in a function, or belongs to a script.
    """
    module, name = kind.__module__, kind.__qualname__
    if "<" in name or module == "__main__":
        where = "the script that runs" if module == "__main__" else "a function"
        raise ValueError(f"its class {name} was made in {where}; put it at the top level of a module")
    return f"{module}:{name}"


def imported(path: str) -> Any:
    """Return the object at an import path."""
    module, _, name = path.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _without_context(value: Any) -> Any:
    """Encode what msgspec does not know: contexts are not sent; the receiver uses its own."""
    if isinstance(value, contextvars.Context):
        return None
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


def _own_context(kind: type, _: Any) -> Any:
    if kind is contextvars.Context:
        return contextvars.copy_context()
    raise TypeError(f"Decoding objects of type {kind.__name__} is unsupported")


def encoded(value: Any) -> msgspec.Raw:
    """Return a value as msgpack.

    Raises:
        NotTransferable: it cannot travel.
    """
    try:
        return msgspec.Raw(msgspec.msgpack.encode(value, enc_hook=_without_context))
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        remedy = "send frozen structs of plain values, of classes at the top level of a module"
        raise NotTransferable.of(value, f"{error}; {remedy}") from None


def pack(value: Any) -> Packed:
    """Return an encoded value.

    Raises:
        NotTransferable: it cannot.
    """
    kind = type(value)
    own = isinstance(value, (msgspec.Struct, enum.Enum)) or is_dataclass(value)
    try:
        path = import_path(kind) if own else None
    except ValueError as error:
        raise NotTransferable.of(value, str(error)) from None
    return Packed(encoded(value), path)


def unpack(packed: Packed, *bases: type) -> Any:
    """Return a value that this process, or its parent, has packed itself: its class is imported.

    Args:
        packed: the value.
        bases: of one of which its class has to be; none for any class.

    Raises:
        NotTransferable: its class is another one.
        Exception: it cannot be imported, or has changed.
    """
    kind: Any = Any if packed.kind is None else imported(packed.kind)
    if bases and not (isinstance(kind, type) and issubclass(kind, bases)):
        raise NotTransferable(f"{packed.kind} is no {' and no '.join(base.__name__ for base in bases)}")
    return decoded(packed.data, kind)


def decoded(data: msgspec.Raw, kind: Any) -> Any:
    """Return a value of a type."""
    return msgspec.msgpack.decode(data, type=kind, dec_hook=_own_context)


def pack_reason(reason: ExitReason, most: int | None = None) -> Packed:
    """Return an encoded exit reason: the kernel's own as it is, another or a long one as text.

    Args:
        reason: why an actor has ended.
        most: how many bytes it may have.
    """
    with suppress(NotTransferable):
        packed = pack(reason) if type(reason) in REASONS else None
        if packed is not None and (most is None or memoryview(packed.data).nbytes <= most):
            return packed
    text = describe(reason, LONG, str)
    return pack(Shutdown(text) if reason.clean else Abnormal(text))


def answer_type(request: Any) -> Any:
    """Return the type of the answer that a request promises: the ``R`` of its ``Request[R]``."""
    kind: Any = type(request)
    return reply_type(kind)


@cache
def reply_type(kind: Hashable) -> Any:
    """Return the same for a class of requests."""
    return _resolved(reply_annotation(kind))


def reply_annotation(kind: Any) -> Any:
    """Return the ``R`` of a class of requests as it is written."""
    for base in kind.__mro__:
        for generic in getattr(base, "__orig_bases__", ()):
            origin, arguments = typing.get_origin(generic), typing.get_args(generic)
            if (
                isinstance(origin, type)
                and issubclass(origin, Request)
                and not isinstance(arguments[0], typing.TypeVar)
            ):
                return arguments[0]
    return Any


def _resolved(annotation: Any) -> Any:
    """Return a type that msgspec can decode to, Any for others: a forward reference, or an arbitrary class."""
    try:
        msgspec.msgpack.Decoder(annotation, dec_hook=_own_context)
    except (TypeError, NameError):
        return Any
    return annotation


def encode(frame: Frame) -> bytes:
    """Return a frame with its length before it."""
    data = msgspec.msgpack.encode(frame)
    return LENGTH.pack(len(data)) + data
