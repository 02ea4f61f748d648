"""Frames: what nodes send each other, as msgpack; and how messages, answers, errors and addresses travel in them.

What comes from another node is data. A message is decoded by a type that its receiver handles, an answer by the type
that its request promises, an error by the classes that the request declares. Nothing is imported or called because the
other node named it. Fields of frames are only ever appended, and readers ignore more.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from typing import Annotated, Any, NamedTuple

import msgspec

from foundation.cluster.link import LinkReport
from supervision.actor import Actor
from supervision.errors import ActorExited, CallError, MailboxFull, NoProcess, UnhandledMessage
from supervision.isolation.decoding import check, declared, read_error, read_reason
from supervision.isolation.frames import (
    LONGEST_TEXT,
    NOTHING,
    FailedFrame,
    NotTransferable,
    Packed,
    pack_reason,
    reply_type,
)
from supervision.messages import Down, Exit, IdleTimeout, ParentExit, SystemRequest, Wake, cut, describe
from supervision.reasons import NOPROC, ExitReason
from supervision.ref import Address, Name, Ref

#: Of the format of frames.
VERSION = 1
#: What may be wrong with bytes that another node has sent.
UNREADABLE = (msgspec.MsgspecError, ValueError, TypeError, RecursionError)
#: What only the kernel sends.
KERNEL_MESSAGES = (Down, Exit, IdleTimeout, ParentExit, SystemRequest, Wake)
#: How many bytes of a message are left for its frame and its subject.
OVERHEAD = 1024


class Kind(enum.IntEnum):
    """What a frame is."""

    HELLO = 1
    BYE = 2
    CAST = 3
    CALL = 4
    ANSWER = 5
    FAIL = 6
    CANCEL = 7
    WATCH = 8
    ENDED = 9
    EXIT = 10
    STOP = 11
    CREDIT = 12


class NodeFrame(msgspec.Struct, frozen=True, array_like=True):
    """A frame.

    Attributes:
        version: of the format.
        kind: what it is, a `Kind`.
        cluster: the id of the cluster.
        node: who sends it, in which ``epoch``.
        session: the sender's.
        number: in its session; 0 for those that open and close one.
        actor: the number of whom it is for, or is about.
        id: of the call.
        left: seconds until its deadline; None for none.
        type: the name of the message's type.
        payload: the message, the answer, a `CallFailure`, a reason or a `Hello`.
        context: what goes along with it, such as a trace.
        count: of messages, in a grant of credit.
    """

    version: int
    kind: int
    cluster: int
    node: str
    epoch: int
    session: int
    number: int
    actor: int = 0
    id: int = 0
    left: Annotated[float, msgspec.Meta(ge=0, le=1e9)] | None = None
    type: str | None = None
    payload: msgspec.Raw = NOTHING
    context: Mapping[str, str] | None = None
    count: int = 0


class Beat(msgspec.Struct, frozen=True, array_like=True):
    """A sign of life.

    Attributes:
        version: of the format.
        cluster: the id of the cluster.
        node: who sends it, in which ``epoch``.
        links: what it says of its links, by the names of the other nodes.
    """

    version: int
    cluster: int
    node: str
    epoch: int
    links: Mapping[str, LinkReport]


class CallFailure(msgspec.Struct, frozen=True, array_like=True):
    """Why a call has no answer.

    Attributes:
        why: ``error`` for one of the handler's, ``noproc``, ``exited``, ``unhandled``, ``full`` or ``payload``.
        kind: the name of the error's class.
        text: its message.
        args: its arguments.
        fields: its attributes.
        reason: of the actor's end.
        begun: whether the request was begun.
        capacity: of the mailbox.
    """

    why: str
    kind: str = ""
    text: str = ""
    args: msgspec.Raw = NOTHING
    fields: msgspec.Raw = NOTHING
    reason: Packed | None = None
    begun: bool = False
    capacity: int = 0


class RefData(NamedTuple):
    """How the address of an actor travels."""

    node: str
    epoch: int
    actor: int


def type_name(kind: type) -> str:
    """Return the name under which a type travels."""
    return f"{kind.__module__}:{kind.__qualname__}"


class Codec:
    """Encodes and decodes what is in the frames of one node.

    Args:
        data_of: returns how an address travels.
        ref_of: returns the address of what has travelled.
        name_of: returns the address of a name.
    """

    def __init__(
        self, data_of: Callable[[Ref], RefData], ref_of: Callable[[RefData], Ref], name_of: Callable[[str], Name]
    ) -> None:
        self._data_of = data_of
        self._ref_of = ref_of
        self._name_of = name_of
        self._encoder = msgspec.msgpack.Encoder(enc_hook=self._encode_address)
        self._decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}

    def encode(self, value: Any) -> msgspec.Raw:
        """Return a value as it travels.

        Raises:
            NotTransferable: it cannot.
        """
        try:
            return msgspec.Raw(self._encoder.encode(value))
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            remedy = "send frozen structs of plain values, and addresses of actors"
            if isinstance(error, OverflowError):
                remedy = "send an integer of more than 64 bits as text"
            raise NotTransferable(f"{describe(value)} cannot be sent to another node: {error}; {remedy}") from None

    def _encode_address(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return self._data_of(value)
        if isinstance(value, Name):
            return value.key
        raise TypeError(f"objects of type {type(value).__name__} are not data")

    def decode(self, data: msgspec.Raw, kind: Any) -> Any:
        """Return a value of a type.

        Raises:
            Exception: one of `UNREADABLE`; it is none.
        """
        check(data)
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = msgspec.msgpack.Decoder(kind, dec_hook=self._decode_address)
        return decoder.decode(data)

    def _decode_address(self, kind: type, value: Any) -> Any:
        if not issubclass(kind, Address):
            raise TypeError(f"objects of type {kind.__name__} are not data")
        if isinstance(value, str) and issubclass(Name, kind):
            return self._name_of(value)
        if issubclass(Ref, kind):
            return self._ref_of(msgspec.convert(value, RefData))
        raise ValueError(f"no address: {describe(value)}")

    # -- messages and answers ---------------------------------------------------------------------------------

    def read_message(self, frame: NodeFrame, actor: type[Actor]) -> Any:
        """Return the message of a frame, for an actor of a class.

        Raises:
            LookupError: the actor handles no messages of its type.
            Exception: one of `UNREADABLE`; it is not of its type.
        """
        kind = handled(actor)[frame.type]
        return self.decode(frame.payload, kind)

    def read_answer(self, frame: NodeFrame, request: type) -> Any:
        """Return the answer to a request.

        Raises:
            Exception: one of `UNREADABLE`; it is not of the type that the request promises.
        """
        promised = reply_type(request)
        found = None if frame.type is None else declared((request,)).get(frame.type)
        fits = found is not None and issubclass(found, promised if isinstance(promised, type) else object)
        return self.decode(frame.payload, found if fits else promised)

    # -- failures ---------------------------------------------------------------------------------------------

    def failure_of(self, error: BaseException, asked: Ref) -> CallFailure:
        """Return why a call to an actor of this node has no answer, as it travels."""
        if isinstance(error, CallError) and error.target is asked:
            match error:
                case ActorExited():
                    return CallFailure("exited", reason=pack_reason(error.reason), begun=error.begun)
                case MailboxFull():
                    return CallFailure("full", capacity=error.capacity)
                case UnhandledMessage():
                    return CallFailure("unhandled")
                case NoProcess():
                    return CallFailure("noproc")
                case _:
                    pass
        fields = {name: value for name, value in vars(error).items() if not name.startswith("_")}
        text = describe(error, LONGEST_TEXT // 100, str)
        return CallFailure(
            "error", cut(type_name(type(error)), 200), text, self._plain(error.args), self._plain(fields)
        )

    def _plain(self, value: Any) -> msgspec.Raw:
        with suppress(NotTransferable):
            return self.encode(value)
        return NOTHING

    def error_of(self, failure: CallFailure, target: Ref, request: Any) -> Exception:
        """Return the error with which a call to an actor of another node ends."""
        match failure.why:
            case "exited":
                reason = NOPROC if failure.reason is None else read_reason(failure.reason)
                return ActorExited(target, request, reason, begun=failure.begun)
            case "full":
                return MailboxFull(target, request, failure.capacity)
            case "unhandled":
                return UnhandledMessage(target, request)
            case "noproc":
                return NoProcess(target, request)
            case "payload":
                unfit = NotTransferable(failure.text)
                unfit.begun = failure.begun
                return unfit
            case _:
                error = FailedFrame(0, failure.kind, failure.text, "", failure.args, failure.fields)
                return read_error(error, getattr(type(request), "raises", ()))


def answer_name(value: Any) -> str | None:
    """Return the name of the type of an answer, if it has one of its own."""
    own = isinstance(value, (msgspec.Struct, enum.Enum)) or is_dataclass(value)
    return type_name(type(value)) if own else None


def reason_of(payload: msgspec.Raw) -> ExitReason:
    """Return the exit reason in a frame.

    Raises:
        Exception: one of `UNREADABLE`; it is none.
    """
    return read_reason(msgspec.msgpack.decode(payload, type=Packed))


def packed_reason(reason: ExitReason) -> msgspec.Raw:
    """Return an exit reason as it travels."""
    return msgspec.Raw(msgspec.msgpack.encode(pack_reason(reason, LONGEST_TEXT)))


_HANDLED: dict[type[Actor], Mapping[str | None, type]] = {}


def handled(actor: type[Actor]) -> Mapping[str | None, type]:
    """Return the types of messages that a class declares handlers for, by their names; not those of the kernel."""
    found = _HANDLED.get(actor)
    if found is None:
        declaring = getattr(actor, "original", actor)  # of one in a process of its own, that of the process
        kinds = (kind for kind in declaring.__behaviour__.handles if not issubclass(kind, KERNEL_MESSAGES))
        found = _HANDLED[actor] = {type_name(kind): kind for kind in kinds}
    return found
