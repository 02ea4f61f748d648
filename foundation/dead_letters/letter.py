"""Letters: messages whose receiver is not there."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from foundation.errors import Category, FoundationError
from foundation.options import is_a
from supervision import Message, Request
from supervision.isolation import NotTransferable
from supervision.isolation.frames import Packed, pack, unpack
from supervision.messages import describe


class Letter(msgspec.Struct, frozen=True):
    """A message that is kept.

    Attributes:
        to: the name of the receiver.
        kind: the import path of the class of the message.
        body: the message, encoded.
        reason: why it could not be delivered the last time.
        attempts: how often that was tried.
        kept_at: when it was kept, in seconds since the epoch.
        state: ``waiting`` for a receiver, or ``given up``.
    """

    to: str
    kind: str
    body: bytes
    reason: str
    attempts: int
    kept_at: float
    state: Literal["waiting", "given up"] = "waiting"

    @property
    def message(self) -> Any:
        """The message itself.

        Raises:
            Exception: its class cannot be imported any more, is no message, or has changed.
        """
        return unpack(Packed(msgspec.Raw(self.body), self.kind), Message, Request)


class NotSerializable(FoundationError, ValueError):
    """A message cannot be kept, as it could not be read again. Nothing was done."""

    category = Category.DATA
    remedy = "send frozen structs of plain values, of classes at the top level of a module"


def letter_for(to: str, message: object, reason: str, kept_at: float) -> Letter:
    """Return a letter with a message.

    Raises:
        NotSerializable: it is no message, or cannot be encoded.
    """
    if not is_a(message, (Message, Request)):
        raise NotSerializable(f"{describe(message)} is no Message and no Request")
    try:
        packed = pack(message)
        unpack(packed)
    except NotTransferable as error:
        raise NotSerializable(str(error)) from None
    except Exception as error:
        why = describe(error, form=str)
        raise NotSerializable(f"{describe(message)} cannot be read again when it is written: {why}") from None
    assert packed.kind is not None
    letter = Letter(to, packed.kind, bytes(packed.data), reason, 1, kept_at)
    try:
        msgspec.msgpack.encode(letter)
    except UnicodeEncodeError as error:
        raise NotSerializable(f"{describe(to)} cannot be written: {error}") from None
    return letter


def storable_text(what: object) -> str:
    """Return what an error, or whatever it is, says: a text that can be written, whatever is in it."""
    return describe(what, form=str).encode(errors="replace").decode()
