"""The rows of a subscription of a bus, its members, and what has changed in them, as it is kept."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from agents.signals.messages import DeadLetter, SignalRecord, SubscriptionOptions

if TYPE_CHECKING:
    from supervision import Monitor, Ref

#: Into so many parts the keys of a subscription are divided; each part is with one member.
_BUCKETS = 256

RowState = Literal["waiting", "sent", "taken", "backing_off"]


class DeliveryRow:
    """One signal of a subscription that is neither done nor dead.

    Attributes:
        record: the signal and its place.
        key: what has to stay in order; None for nothing.
        state: see the module.
        attempt: how often it was taken up.
        deaths: at how many deaths of the program it was out.
        member: who has it.
        since: when it was taken up.
        extra: whether it was dead or done before; how often it was redriven, counted from 1.
        held: whether it waits for the write that says so.
    """

    __slots__ = ("attempt", "deaths", "extra", "held", "key", "member", "record", "since", "state")

    def __init__(self, record: SignalRecord, key: str | None) -> None:
        self.record = record
        self.key = key
        self.state: RowState = "waiting"
        self.attempt = 0
        self.deaths = 0
        self.member: SubscriptionMember | None = None
        self.since = 0.0
        self.extra = 0
        self.held = False


class SubscriptionMember:
    """One of the subscribers that share a subscription.

    Attributes:
        name: its name among them.
        credit: how many signals it wants at a time; 0 while it is not there.
        tells: whether it says when it takes a signal up.
        leaving: whether it ends what it has, and gets nothing more.
        out: what it has, in the order in which it was sent.
        to: its actor, and the bus's monitor of it.
    """

    __slots__ = ("credit", "leaving", "monitor", "name", "out", "tells", "to")

    def __init__(self, name: str) -> None:
        self.name = name
        self.to: Ref | None = None
        self.monitor: Monitor | None = None
        self.credit = 0
        self.tells = False
        self.leaving = False
        self.out: dict[int, DeliveryRow] = {}

    @property
    def free(self) -> int:
        """How many signals more it wants."""
        return self.credit - len(self.out)


class ExtraRow(msgspec.Struct, frozen=True):
    """A signal that is delivered again though it was done or dead: it is kept by itself, as the log may drop it."""

    recorded: SignalRecord
    redriven: int


class SubscriptionChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What has changed in a subscription since the last time; or all of it, seen from nothing.

    Attributes:
        name: of the subscription.
        options: if they have changed.
        patterns: with the options: from behind which place in the log each pattern counts.
        members: with the options: the names of members, each with the name of the actor.
        floor: everything up to this place is done or dead.
        settled: places behind it that are done or dead.
        tried: attempts and deaths, by place, where they have changed.
        extra: what is delivered again.
        dead: new dead letters.
        revived: places of dead letters that are none any more.
        out: the suspect that is out alone.
        gone: whether the subscription was removed.
    """

    name: str
    options: SubscriptionOptions | None = None
    patterns: tuple[tuple[int, str], ...] = ()
    members: Mapping[str, str] = {}
    floor: int = 0
    settled: tuple[int, ...] = ()
    tried: Mapping[int, tuple[int, int]] = {}
    extra: tuple[ExtraRow, ...] = ()
    dead: tuple[DeadLetter, ...] = ()
    revived: tuple[int, ...] = ()
    out: int | None = None
    gone: bool = False


def key_of(record: SignalRecord, path: str | None) -> str | None:
    """Return what has to stay in order of a signal: a text that is the same for equal keys; None for nothing."""
    if path is None:
        return None
    signal = record.signal
    if path == "subject":
        return signal.subject
    value: Any = signal.data
    try:
        for part in path.split(".")[1:]:
            value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
    except Exception:  # what cannot be looked at has no key
        return None
    try:
        return None if value is None else repr(value)
    except Exception:
        return object.__repr__(value)


def bucket_of(key: str) -> int:
    """Return the part of the keys that a key belongs to."""
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0] % _BUCKETS


_weights: dict[tuple[str, int], int] = {}


def weight(member: str, bucket: int) -> int:
    """Return how much a member wants a bucket: the one that wants it most has it (rendezvous hashing)."""
    known = _weights.get((member, bucket))
    if known is None:
        if len(_weights) > 100_000:
            _weights.clear()
        known = _weights[member, bucket] = int.from_bytes(
            blake2b(f"{bucket}:{member}".encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"
        )
    return known
