"""What a bus is asked, what it sends its subscribers, and the functions that ask it."""

from __future__ import annotations

from typing import Literal

import msgspec

from agents.core.router import Route
from agents.core.signal import Signal
from supervision import Address, Message, Ref, Request
from supervision.errors import BadOption
from supervision.options import is_whole


class SignalRecord(msgspec.Struct, frozen=True):
    """A signal in the log of a bus: its place, and when it was published, in seconds since the epoch."""

    sequence: int
    time: float
    signal: Signal


class Delivery(Message, frozen=True):
    """A signal for a subscriber that acknowledges what it has handled: with `ack`, or with `nack` if it has failed.

    Attributes:
        signal: the signal.
        sequence: its place in the log.
        attempt: how often it was delivered, this time included.
        subscription: the name of the subscription.
        bus: the bus that delivers it.
    """

    signal: Signal
    sequence: int
    attempt: int
    subscription: str
    bus: Ref

    def ack(self) -> None:
        """Acknowledge it: it is not delivered again."""
        self.bus.cast(Acknowledgement(self.subscription, self.sequence, None))

    def nack(self, why: str) -> None:
        """Refuse it: it is delivered again, or becomes a dead letter."""
        self.bus.cast(Acknowledgement(self.subscription, self.sequence, why))


class DeadLetter(msgspec.Struct, frozen=True):
    """A signal that a subscriber has not acknowledged, however often it was delivered.

    Attributes:
        subscription: the name of the subscription.
        recorded: the signal and its place.
        attempts: how often it was delivered.
        why: what was said the last time.
    """

    subscription: str
    recorded: SignalRecord
    attempts: int
    why: str


class Publish(Request[tuple[SignalRecord, ...]], frozen=True):
    """Publish signals."""

    signals: tuple[Signal, ...]


class Subscribe(Request[str], frozen=True):
    """Subscribe; the answer is the name of the subscription."""

    pattern: str
    to: Address
    name: str | None
    since: int | None
    in_flight: int
    attempts: int
    retry: float
    ack_within: float


class Unsubscribe(Request[bool], frozen=True):
    """Remove a subscription; the answer says whether there was one."""

    name: str


class Acknowledgement(Message, frozen=True):
    """A subscriber has handled a signal (``why`` is None), or has not, and says why."""

    subscription: str
    sequence: int
    why: str | None


class RedeliveryDue(Message, frozen=True):
    """Timer message: deliver a signal again, or see that it was not acknowledged in time (``late``)."""

    subscription: str
    sequence: int
    attempt: int
    late: bool


class ReadLog(Request[tuple[SignalRecord, ...]], frozen=True):
    """Which signals of the log match a pattern?"""

    pattern: str
    since: int


class GetDeadLetters(Request[tuple[DeadLetter, ...]], frozen=True):
    """Which signals have become dead letters?"""

    subscription: str | None


class Redrive(Request[int], frozen=True):
    """Deliver dead letters again; or forget them. The answer is how many."""

    subscription: str
    forget: bool


class GetCausalChain(Request[tuple[Signal, ...]], frozen=True):
    """Which signals has one caused, or which have caused it?"""

    id: str
    direction: Literal["causes", "effects"]


async def publish(bus: Address, *signals: Signal) -> tuple[SignalRecord, ...]:
    """Publish signals, in this order. When this returns they are as safe as the storage of the bus says.

    A signal that is cast to the bus is published as well, without an answer.

    Raises:
        StorageError: they could not be written, and are not published.
    """
    return await bus.call(Publish(signals))


async def subscribe(
    bus: Address,
    pattern: str,
    to: Address,
    *,
    name: str | None = None,
    since: int | None = None,
    in_flight: int = 100,
    attempts: int = 5,
    retry: float = 0.1,
    ack_within: float = 30.0,
) -> str:
    """Subscribe to signals.

    Without a name, the subscriber is cast each `Signal` that matches, until it ends. With one, it gets a `Delivery`,
    which it has to acknowledge; the subscription stays when the subscriber ends, and the next subscriber under
    the name goes on where it was: after a restart of the bus too, if that has a storage. An agent's server acknowledges
    when its turn is over, or says that it failed.

    Args:
        bus: the bus.
        pattern: of the types of signals.
        to: the subscriber: a `Name` finds its next incarnation as well.
        name: of the subscription.
        since: the place in the log from which a new subscription begins; None for what comes from now on, 0 for all.
        in_flight: how many signals may be with the subscriber at the same time.
        attempts: how often a signal is delivered before it becomes a dead letter.
        retry: seconds before a signal is delivered again; they double from one time to the next.
        ack_within: seconds to wait for an acknowledgement.

    Returns:
        The name of the subscription, for `unsubscribe`.

    Raises:
        BadRoute: the pattern is invalid.
        BadOption: a number is out of range.
    """
    Route(pattern, None)
    for field, number in (("in_flight", in_flight), ("attempts", attempts)):
        if not is_whole(number, 1):
            raise BadOption(f"subscribe: {field}", number, "give a whole number from 1")
    return await bus.call(Subscribe(pattern, to, name, since, in_flight, attempts, retry, ack_within))


async def unsubscribe(bus: Address, name: str) -> bool:
    """Remove a subscription, and what waits for it; return whether there was one."""
    return await bus.call(Unsubscribe(name))


async def read_log(bus: Address, pattern: str = "**", since: int = 0) -> tuple[SignalRecord, ...]:
    """Return the signals of the log that match a pattern, the oldest first.

    Args:
        bus: the bus.
        pattern: of their types.
        since: only those behind this place in the log.

    Raises:
        BadRoute: the pattern is invalid.
    """
    Route(pattern, None)
    return await bus.call(ReadLog(pattern, since))


async def dead_letters(bus: Address, subscription: str | None = None) -> tuple[DeadLetter, ...]:
    """Return the dead letters of a subscription, or of all."""
    return await bus.call(GetDeadLetters(subscription))


async def redrive(bus: Address, subscription: str, *, forget: bool = False) -> int:
    """Deliver the dead letters of a subscription again, or forget them; return how many."""
    return await bus.call(Redrive(subscription, forget))


async def causal_chain(bus: Address, id: str, direction: Literal["causes", "effects"] = "causes") -> tuple[Signal, ...]:
    """Return the signals in the log that have caused one, the first cause first; or all that it has caused.

    Args:
        bus: the bus.
        id: of the signal.
        direction: ``causes`` or ``effects``.
    """
    return await bus.call(GetCausalChain(id, direction))
