"""The messages of the dead-letter actor, and the questions that decide whether a message is kept.

Senders ask it to keep, to redeliver and to purge. The rest it sends to itself, one step of a delivery at a time, so
that no receiver holds up another.
"""

from __future__ import annotations

from typing import Any

from foundation.options import is_a
from supervision import Actor, CallError, MailboxFull, Message, Ref, Request, UnhandledMessage
from supervision.errors import BadName
from supervision.messages import SystemRequest


class KeepLetter(Request[int], frozen=True):
    """Keep a message. The answer is the number of the letter, once it is on the disk."""

    to: str
    message: Any
    reason: str
    tried: Ref | None = None


class RedeliverLetters(Request[int], frozen=True):
    """Try again what waits, for one receiver or for all. The answer is how many letters those are."""

    to: str | None = None


class PurgeLetters(Request[int], frozen=True):
    """Forget letters that were given up. The answer is how many those were."""


class DeliverNext(Message, frozen=True):
    """To itself: go on with what waits for a receiver."""

    to: str


class DeliveryAttempted(Message, frozen=True):
    """To itself: an attempt has ended."""

    to: str
    number: int
    attempt: Any


class AwaitHandled(SystemRequest[None], frozen=True):
    """To a receiver, behind a message without an answer: it is answered when that was handled."""

    def carry_out(self, actor: Actor) -> None:
        """Do nothing: what came before is done."""


class ReceiverArrived(Message, frozen=True):
    """To itself: somebody has taken a name."""

    name: str


class RetryRound(Message, frozen=True):
    """To itself: try again what waits, and give up what is too old."""


class WriteOutcomes(Message, frozen=True):
    """To itself: write down what is new, and what became of letters."""


def worth_keeping(error: BaseException) -> bool:
    """Tell whether a request may be answered another time: whether its receiver was not there, or too busy."""
    return isinstance(error, CallError) and not isinstance(error, UnhandledMessage)


def has_room(ref: Ref) -> bool:
    """Tell whether the mailbox of a receiver takes a message now."""
    box = ref.mailbox_statistics()
    return box.capacity is None or box.length < box.capacity


def mailbox_full(ref: Ref, message: Any) -> MailboxFull:
    """Return the error of a mailbox without room."""
    return MailboxFull(ref, message, ref.mailbox_statistics().capacity or 0)


def receiver_name(to: Any) -> str:
    """Return the name of a receiver.

    Raises:
        BadName: this cannot be one.
    """
    if not is_a(to, str) or not str.__len__(to):
        raise BadName("name", to, "a name is a string that is not empty")
    return str.__str__(to)
