"""What a bus is asked, what it sends its subscribers, and the functions that ask it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from agents.core.router import Route
from agents.core.signal import Signal
from agents.errors import BadSignal
from agents.signals.checks import LAST_PLACE, check_count, check_text, check_truth, ids_of, is_text
from supervision import Address, Message, Name, Request
from supervision.clock import seconds
from supervision.errors import BadOption


class SignalRecord(msgspec.Struct, frozen=True):
    """A signal in the log of a bus: its place, and when it was published, in seconds since the epoch."""

    sequence: int
    time: float
    signal: Signal


class Delivery(Message, frozen=True):
    """A signal for a subscriber that acknowledges what it has handled: with `ack`, or with `nack` if it has failed.

    A receiver whose class has a ``delivery_credit`` (the most deliveries that it wants at a time) says `taken` when it
    begins with one: from then on it has ``ack_within`` seconds, and more with each `working`. Of any other actor it is
    believed that it works at the oldest one it has not answered.

    Attributes:
        signal: the signal.
        sequence: its place in the log.
        attempt: how often it was tried, this time included.
        subscription: the name of the subscription.
        bus: the bus that delivers it.
        member: which of the subscribers it is for.
        ack_within: seconds that it has from when it is taken up.
    """

    signal: Signal
    sequence: int
    attempt: int
    subscription: str
    bus: Address
    member: str = ""
    ack_within: float = 30.0

    def taken(self) -> None:
        """Say that it is taken up: its time begins."""
        self.bus.cast(TakenUp(self.subscription, self.sequence, self.attempt))

    def working(self) -> None:
        """Say that it is being worked at: its time begins anew, from now."""
        self.bus.cast(StillWorking(self.subscription, self.sequence, self.attempt))

    def ack(self) -> None:
        """Acknowledge it: it is not delivered again."""
        self.bus.cast(Acknowledgement(self.subscription, self.sequence, self.attempt, None))

    def nack(self, why: str, *, final: bool = False, delay: float | None = None) -> None:
        """Refuse it: it is delivered again, or becomes a dead letter.

        Args:
            why: for people.
            final: whether it can never be handled: it becomes a dead letter at once.
            delay: seconds before it is delivered again; None for what the subscription says.

        Raises:
            BadOption, BadTime: an argument is wrong.
        """
        if why is None:
            raise BadOption("nack: why", why, "give a text: without one it would be acknowledged")
        self.bus.cast(Acknowledgement(self.subscription, self.sequence, self.attempt, why, final, delay))

    def grant(self, credit: int) -> None:
        """Say how many deliveries the receiver wants at a time from now on.

        Raises:
            BadOption: it is not a whole number.
        """
        self.bus.cast(GrantCredit(self.subscription, self.member, credit))


class Deliver(Request[None], frozen=True):
    """Take a signal from the outbox of a durable agent; the answer is the receipt.

    Attributes:
        signal: the signal. Its id is the same whenever it comes again.
        stream: which stream of the outbox it is in.
        number: its number there.
        floor: the lowest number that may still come, or come again.

    Raises:
        BadOption: one of them is something else.
    """

    signal: Signal
    stream: str
    number: int
    floor: int

    def __post_init__(self) -> None:
        if not isinstance(self.signal, Signal):
            raise BadOption("Deliver.signal", self.signal, "give a Signal")
        check_text("Deliver.stream", self.stream)
        check_count("Deliver.number", self.number, 0, LAST_PLACE)
        check_count("Deliver.floor", self.floor, 0, LAST_PLACE)


class DeadLetter(msgspec.Struct, frozen=True):
    """A signal that a subscriber has not acknowledged, however often it was delivered.

    Its work may have been done all the same, when its receiver died before it could say so.

    Attributes:
        subscription: the name of the subscription.
        recorded: the signal and its place.
        attempts: how often it was tried.
        why: what was said the last time.
        time: when it became one, in seconds since the epoch.
        redriven: how often it was delivered again before, by `redrive`.
    """

    subscription: str
    recorded: SignalRecord
    attempts: int
    why: str
    time: float = 0.0
    redriven: int = 0


class SubscriptionStatus(msgspec.Struct, frozen=True):
    """A subscription at this moment, in numbers of signals.

    Attributes:
        waiting: to be sent.
        sent: to a receiver that has not begun with them.
        taken: being worked at.
        backing_off: to be tried again after a pause.
        dead: dead letters.
        suspects: of the open ones, those that were out when the program, or the bus, last died; each is sent alone.
        late_answers: answers that came too late to count.
        members: by name of the subscriber, how many it has.
        oldest: when the first open one was published, in seconds since the epoch; None if none is open.
    """

    waiting: int
    sent: int
    taken: int
    backing_off: int
    dead: int
    suspects: int
    late_answers: int
    members: dict[str, int]
    oldest: float | None = None


class Publish(Request[tuple[SignalRecord, ...]], frozen=True):
    """Publish signals."""

    signals: tuple[Signal, ...]

    def __post_init__(self) -> None:
        if type(self.signals) is not tuple:
            raise BadOption("publish: signals", self.signals, "give a tuple of signals")
        for signal in self.signals:
            if not issubclass(type(signal), Signal):
                raise BadSignal("publish: signal", signal, "give a Signal(type=..., source=..., id=...)")


class SubscriptionOptions(msgspec.Struct, frozen=True):
    """What a subscription is. See `subscribe`."""

    pattern: str
    key: str | None = None
    in_flight: int | None = None
    attempts: int = 5
    retry: float = 0.1
    ack_within: float = 30.0
    max_lease: float = 3600.0


class Subscribe(Request[str], frozen=True):
    """Subscribe; the answer is the name of the subscription."""

    options: SubscriptionOptions
    to: Address | str
    name: str | None
    since: int | None
    member: str | None

    def __post_init__(self) -> None:
        if type(self.options) is not SubscriptionOptions:
            raise BadOption("subscribe: options", self.options, "give SubscriptionOptions(...)")
        given = msgspec.structs.asdict(self.options)
        checked = checked_subscription(given.pop("pattern"), self.name, since=self.since, member=self.member, **given)
        msgspec.structs.force_setattr(self, "options", checked)
        if not issubclass(type(self.to), Address):
            if not is_text(self.to):
                raise BadOption("subscribe: to", self.to, "give an address, or the name of an actor")
            check_text("subscribe: to", self.to)
        elif isinstance(self.to, Name):
            check_text("subscribe: to", self.to.key)


class Unsubscribe(Request[bool], frozen=True):
    """Remove a subscription, or one of its members; the answer says whether there was one."""

    name: str
    member: str | None

    def __post_init__(self) -> None:
        check_text("unsubscribe: name", self.name)
        check_text("unsubscribe: member", self.member, optional=True, empty=True)


class Acknowledgement(Message, frozen=True):
    """A subscriber has handled a signal (``why`` is None), or has not, and says why."""

    subscription: str
    sequence: int
    attempt: int
    why: str | None
    final: bool = False
    delay: float | None = None

    def __post_init__(self) -> None:
        _check_answer(self.subscription, self.sequence, self.attempt)
        if self.why is not None and not issubclass(type(self.why), str):
            raise BadOption("nack: why", self.why, "give a text")
        check_truth("nack: final", self.final)
        if self.delay is not None:
            seconds("nack: delay", self.delay)


class TakenUp(Message, frozen=True):
    """A subscriber has begun with a signal."""

    subscription: str
    sequence: int
    attempt: int

    def __post_init__(self) -> None:
        _check_answer(self.subscription, self.sequence, self.attempt)


class StillWorking(Message, frozen=True):
    """A subscriber is still working at a signal."""

    subscription: str
    sequence: int
    attempt: int

    def __post_init__(self) -> None:
        _check_answer(self.subscription, self.sequence, self.attempt)


class GrantCredit(Message, frozen=True):
    """A subscriber wants so many deliveries at a time."""

    subscription: str
    member: str
    credit: int

    def __post_init__(self) -> None:
        _check_answer(self.subscription, 0, 0)
        check_text("grant: member", self.member, empty=True)
        check_count("grant: credit", self.credit, 0)


class ReadLog(Request[tuple[SignalRecord, ...]], frozen=True):
    """Which signals of the log match a pattern?"""

    pattern: str
    since: int
    limit: int | None

    def __post_init__(self) -> None:
        _check_pattern(self.pattern)
        check_count("read_log: since", self.since, 0, LAST_PLACE)
        check_count("read_log: limit", self.limit, 1, LAST_PLACE, optional=True)


class GetDeadLetters(Request[tuple[DeadLetter, ...]], frozen=True):
    """Which signals have become dead letters?"""

    subscription: str | None

    def __post_init__(self) -> None:
        check_text("dead_letters: subscription", self.subscription, optional=True)


class GetSubscriptions(Request[dict[str, SubscriptionStatus]], frozen=True):
    """How are the subscriptions with names?"""


class Redrive(Request[int], frozen=True):
    """Deliver dead letters again; or forget them. The answer is how many."""

    subscription: str
    limit: int | None
    ids: frozenset[str] | None
    forget: bool

    def __post_init__(self) -> None:
        check_text("redrive: subscription", self.subscription)
        check_count("redrive: limit", self.limit, 1, LAST_PLACE, optional=True)
        if self.ids is not None and (type(self.ids) is not frozenset or not all(map(is_text, self.ids))):
            raise BadOption("redrive: ids", self.ids, "give a frozenset of ids, or None")
        check_truth("redrive: forget", self.forget)


class Replay(Request[int], frozen=True):
    """Deliver signals of the log again, acknowledged or not. The answer is how many."""

    subscription: str
    since: int
    until: int | None
    limit: int | None

    def __post_init__(self) -> None:
        check_text("replay: subscription", self.subscription)
        check_count("replay: since", self.since, 0, LAST_PLACE)
        check_count("replay: until", self.until, 0, LAST_PLACE, optional=True)
        check_count("replay: limit", self.limit, 1, LAST_PLACE, optional=True)


class GetCausalChain(Request[tuple[Signal, ...]], frozen=True):
    """Which signals has one caused, or which have caused it?"""

    id: str
    direction: Literal["causes", "effects"]

    def __post_init__(self) -> None:
        check_text("causal_chain: id", self.id)
        if not is_text(self.direction) or self.direction not in ("causes", "effects"):
            raise BadOption("causal_chain: direction", self.direction, "give causes or effects")


def _check_answer(subscription: object, sequence: object, attempt: object) -> None:
    """Check what an answer to a delivery is about."""
    if type(subscription) is not str:
        raise BadOption("delivery: subscription", subscription, "give the name of a subscription")
    if type(sequence) is not int or type(attempt) is not int:
        raise BadOption("delivery: sequence, attempt", (sequence, attempt), "give those of the delivery")


def _check_pattern(pattern: object) -> None:
    Route(pattern if is_text(pattern) else None, None)  # type: ignore[arg-type]
    check_text("pattern", pattern)


async def publish(bus: Address, *signals: Signal) -> tuple[SignalRecord, ...]:
    """Publish signals, in this order. When this returns they are as safe as the storage of the bus says.

    A signal that the log has already, by its source and id, is not published again: its record is that of the first
    time. A signal that is cast to the bus is published as well, without an answer.

    Raises:
        BadSignal: one of them is no signal; none is published.
        PublishRefused: one of them cannot be kept, or the log is full of what was not acknowledged; none is published.
        StorageError: they could not be written, and are not published.
    """
    return await bus.call(Publish(signals))


async def subscribe(
    bus: Address,
    pattern: str,
    to: Address | str,
    *,
    name: str | None = None,
    since: int | None = None,
    member: str | None = None,
    key: str | None = None,
    in_flight: int | None = None,
    attempts: int = 5,
    retry: float = 0.1,
    ack_within: float = 30.0,
    max_lease: float = 3600.0,
) -> str:
    """Subscribe to signals.

    Without a name, the subscriber is cast each `Signal` that matches, until it ends. With one, it gets a `Delivery`,
    which it has to acknowledge; the subscription stays when the subscriber ends, and after a restart of the bus, if
    that has a storage. A subscriber given as a `Name` is found again in each incarnation, and by a bus that is started
    again; one given as a `Ref` has to subscribe again, under the name of the subscription. Agents' servers, pools,
    starters of instances, webhooks and other sinks acknowledge by themselves.

    Args:
        bus: the bus.
        pattern: of the types of signals. Another one than before counts for signals from now on.
        to: the subscriber: an address, or the name of an actor.
        name: of the subscription.
        since: the place in the log from which a new subscription begins; None for what comes from now on, 0 for all.
        member: the subscriber's name among several that share the signals of one subscription. Without one, it takes
            the place of all that were there before.
        key: what has to stay in order: ``"subject"``, or a path such as ``"data.order.id"``. Of the signals with one
            key, one is out at a time, and the next one not before it is acknowledged, or dead. None for no order.
        in_flight: how many signals may be with a member at the same time; None for what its class says
            (``delivery_credit``), or 100.
        attempts: how often a signal is tried before it becomes a dead letter.
        retry: seconds before a signal is delivered again; they double from one time to the next, up to a minute.
        ack_within: seconds from the moment in which the receiver takes a signal up to its acknowledgement, or to its
            word that it is still working.
        max_lease: seconds after which a receiver that says that it is still working is believed no longer.

    Returns:
        The name of the subscription, for `unsubscribe`.

    Raises:
        BadRoute: the pattern is invalid.
        BadOption, BadTime: an option is wrong.
    """
    options = checked_subscription(
        pattern,
        name,
        since=since,
        member=member,
        key=key,
        in_flight=in_flight,
        attempts=attempts,
        retry=retry,
        ack_within=ack_within,
        max_lease=max_lease,
    )
    return await bus.call(Subscribe(options, to, name, since, member))


def checked_subscription(
    pattern: str,
    name: str | None,
    *,
    since: int | None = None,
    member: str | None = None,
    key: str | None = None,
    in_flight: int | None = None,
    attempts: int = 5,
    retry: float = 0.1,
    ack_within: float = 30.0,
    max_lease: float = 3600.0,
) -> SubscriptionOptions:
    """Return the options of a subscription, checked. See `subscribe`."""
    _check_pattern(pattern)
    check_count("subscribe: since", since, 0, LAST_PLACE, optional=True)
    check_count("subscribe: in_flight", in_flight, 1, optional=True)
    check_count("subscribe: attempts", attempts, 1)
    for what, text in (("name", name), ("member", member), ("key", key)):
        check_text(f"subscribe: {what}", text, optional=True)
    if name is None and (member is not None or key is not None):
        raise BadOption("subscribe: name", name, "a subscription with members, or a key, needs a name")
    if key is not None and key != "subject" and not key.startswith("data."):
        raise BadOption("subscribe: key", key, "give 'subject', or a path such as 'data.order.id'")
    pause, within = seconds("subscribe: retry", retry), seconds("subscribe: ack_within", ack_within, zero=False)
    lease = seconds("subscribe: max_lease", max_lease, zero=False)
    return SubscriptionOptions(pattern, key, in_flight, attempts, pause, within, lease)


async def unsubscribe(bus: Address, name: str, member: str | None = None) -> bool:
    """Remove a subscription, and what waits for it, or one of its members; return whether there was one.

    What a member has goes to the others, or waits.
    """
    return await bus.call(Unsubscribe(name, member))


async def read_log(
    bus: Address, pattern: str = "**", since: int = 0, *, limit: int | None = None
) -> tuple[SignalRecord, ...]:
    """Return the signals of the log that match a pattern, the oldest first.

    Args:
        bus: the bus.
        pattern: of their types.
        since: only those behind this place in the log.
        limit: at most so many.

    Raises:
        BadRoute: the pattern is invalid.
        BadOption: an argument is wrong.
    """
    return await bus.call(ReadLog(pattern, since, limit))


async def dead_letters(bus: Address, subscription: str | None = None) -> tuple[DeadLetter, ...]:
    """Return the dead letters of a subscription, or of all."""
    return await bus.call(GetDeadLetters(subscription))


async def subscriptions(bus: Address) -> dict[str, SubscriptionStatus]:
    """Return how the subscriptions with names are."""
    return await bus.call(GetSubscriptions())


async def redrive(
    bus: Address,
    subscription: str,
    *,
    limit: int | None = None,
    ids: Iterable[str] | None = None,
    forget: bool = False,
) -> int:
    """Deliver the dead letters of a subscription again, or forget them; return how many, when that is written.

    A letter that is delivered again has lost its place among those with its key. It may be one whose work was done:
    that is harmless for receivers that know what they have done, such as durable agents.

    Args:
        bus: the bus.
        subscription: its name.
        limit: at most so many, the oldest first; None for all.
        ids: only the signals with these ids; None for all.
        forget: whether they are forgotten instead.

    Raises:
        BadOption: an argument is wrong.
    """
    return await bus.call(Redrive(subscription, limit, ids_of("redrive: ids", ids), forget), None)


async def replay(
    bus: Address, subscription: str, *, since: int = 0, until: int | None = None, limit: int | None = None
) -> int:
    """Deliver signals that the log still has to a subscription again; return how many, when that is written.

    Args:
        bus: the bus.
        subscription: its name.
        since: only those behind this place in the log.
        until: only those up to this place.
        limit: at most so many, the oldest first.

    Raises:
        BadOption: an argument is wrong.
    """
    return await bus.call(Replay(subscription, since, until, limit), None)


async def causal_chain(bus: Address, id: str, direction: Literal["causes", "effects"] = "causes") -> tuple[Signal, ...]:
    """Return the signals in the log that have caused one, the first cause first; or all that it has caused.

    Args:
        bus: the bus.
        id: of the signal.
        direction: ``causes`` or ``effects``.
    """
    return await bus.call(GetCausalChain(id, direction))
