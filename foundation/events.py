"""What the platform adds to the event stream of a runtime."""

from __future__ import annotations

from typing import Any

from supervision import Ref
from supervision.events import ActorEvent, Event


class Serving(ActorEvent, frozen=True, kw_only=True):
    """An actor serves at a URL from now on."""

    url: str


class StoreOpened(ActorEvent, frozen=True, kw_only=True):
    """A store has read its file.

    Attributes:
        file: its path.
        version: how many transactions are in it.
        replayed: how many of them were in the journal.
        unfinished_frames: pages of a write that was not finished when the process or the machine died. Nobody was told
            that it was done, and it is left out.
        torn_bytes: the same, of a page that is not whole or does not check.
        cut: how many damaged transactions were left out, because ``damaged="cut"`` said so. They had been acknowledged.
        lost: how many transactions that had been acknowledged are not there, as far as it is known: those that were
            cut, and what the end of the file has lost. With ``sync="normal"`` or ``"off"`` the death of the machine may
            do so.
        migrated_from: the format that the file had, if it was brought up to date.
    """

    file: str
    version: int
    replayed: int
    unfinished_frames: int
    torn_bytes: int
    cut: int
    lost: int
    migrated_from: int | None


class StoreMaintenanceFailed(ActorEvent, frozen=True, kw_only=True):
    """A store's file could not be folded, or its log not be copied. No commit is harmed, and it is tried again.

    Attributes:
        file: its path.
        why: what the disk said.
    """

    file: str
    why: str


class BreakerChanged(Event, frozen=True, kw_only=True):
    """A circuit breaker is ``closed``, ``open`` or ``half_open`` from now on."""

    name: str
    before: str
    after: str


class LockExpired(Event, frozen=True, kw_only=True):
    """The lease of a lock was over before its holder gave it back: it is free."""

    name: str
    fence: int
    holder: Ref | None


class LeaderElected(Event, frozen=True, kw_only=True):
    """An election has a new leader, or none any more."""

    election: str
    term: int
    leader: Ref | None


class AuctionClosed(Event, frozen=True, kw_only=True):
    """An auction is over. ``winner`` and ``price`` are None if nothing was sold."""

    auction: str
    winner: Any
    price: float | None


class PressureChanged(Event, frozen=True, kw_only=True):
    """The use of a resource has come near its limit, or has gone back: ``normal``, ``moderate`` or ``severe``."""

    resource: str
    before: str
    after: str
    used: float
    most: float


class MeasureFailed(Event, frozen=True, kw_only=True):
    """A measure of a resource has raised, or has given no finite number: what it said last counts until it does."""

    resource: str
    error: str


class LetterGivenUp(Event, frozen=True, kw_only=True):
    """A dead letter will not be delivered: it was tried too often, is too old, or cannot be read any more."""

    number: int
    to: str
    reason: str
    attempts: int


class LettersNotWritten(Event, frozen=True, kw_only=True):
    """The store did not take what became of dead letters: it is tried again, and they may arrive twice."""

    letters: int
    error: str


class HttpHandled(Event, frozen=True, kw_only=True):
    """An HTTP request was answered, after ``seconds``. ``route`` is the pattern that matched, not the path."""

    method: str
    route: str
    status: int
    seconds: float


class NodeUp(Event, frozen=True, kw_only=True):
    """Another node of the cluster can be reached from now on.

    Attributes:
        node: its name.
        epoch: counts the processes that have been this node.
    """

    node: str
    epoch: int


class NodeDown(Event, frozen=True, kw_only=True):
    """Another node of the cluster cannot be reached any more; it may live all the same.

    Attributes:
        node: its name.
        epoch: counts the processes that have been this node.
        why: what was noticed; ``left`` if it has left in order.
    """

    node: str
    epoch: int
    why: str


class NodeFenced(Event, frozen=True, kw_only=True):
    """This node has given up the names that it held in the cluster.

    Attributes:
        why: because it could not say for too long that it lives, say.
        names: those that it held.
    """

    why: str
    names: tuple[str, ...]


class NodeWithdrawn(Event, frozen=True, kw_only=True):
    """This node takes no part in the cluster any more, and never again: its process is to be started anew.

    Attributes:
        why: another process is this node, or the keys of the cluster are lost.
    """

    why: str


class NameClaimed(Event, frozen=True, kw_only=True):
    """An actor of this node holds a name in the cluster.

    Attributes:
        name: it.
        epoch: one more than that of the claim before it: the fencing token.
    """

    name: str
    epoch: int


class NameGivenUp(Event, frozen=True, kw_only=True):
    """A name in the cluster is no longer held by an actor of this node.

    Attributes:
        name: it.
        epoch: of the claim.
        why: it was released, its holder has ended, or this node was fenced.
    """

    name: str
    epoch: int
    why: str
