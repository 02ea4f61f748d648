"""Letters: messages that are kept for a receiver that is not there, and the table rows that hold them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from foundation.errors import Category, FoundationError
from foundation.options import is_a
from foundation.store import Database
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
    """Return a text of an error that can be stored, whatever characters are in it."""
    return describe(what, form=str).encode(errors="replace").decode()


def read_letter(row: Any) -> Letter | None:
    """Return a row of the table as a letter; None if there is none, or if it is no letter."""
    try:
        return None if row is None else msgspec.convert(row, Letter)
    except msgspec.ValidationError:
        return None


def letter_rows(database: Database, table: str) -> list[tuple[int, Any]]:
    """Return all rows with letters, by number, in the order in which they were kept."""
    return sorted(
        (number, row) for number, row in database.table(table).items() if isinstance(number, int) and number > 0
    )


def letters_in_state(database: Database, table: str, state: str) -> dict[int, Letter]:
    """Return all letters in a state with their numbers, in the order in which they were kept."""
    every = ((number, read_letter(row)) for number, row in letter_rows(database, table))
    return {number: letter for number, letter in every if letter is not None and letter.state == state}


def letter_state(row: Any) -> str:
    """Return the state of a row of the table; what cannot be read is not delivered any more."""
    letter = read_letter(row)
    return "given up" if letter is None else letter.state
