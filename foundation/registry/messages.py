"""The requests by which a registry is changed, which `Directory` sends, and what it tells its listeners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foundation.registry.tables import Entry
from supervision import Message, Ref, Request


class Register(Request[Entry], frozen=True):
    """Enter an actor under a key."""

    key: Any
    ref: Ref
    metadata: Any


class Update(Request[Entry], frozen=True):
    """Change some fields of an entry's metadata; only if it is the entry of ``ref``, if that is given."""

    key: Any
    changes: Mapping[str, Any]
    ref: Ref | None = None


class Unregister(Request[bool], frozen=True):
    """Remove an entry; only if it is the entry of ``ref``, if that is given. The answer tells whether there was one."""

    key: Any
    ref: Ref | None = None


class WriteBatch(Request[list[Any]], frozen=True):
    """Do several writes, which are published at once.

    Attributes:
        writes: `Register`, `Update` and `Unregister`, in order.
        partial: whether those that can be done are done, although others cannot.
    """

    writes: Sequence[Register | Update | Unregister]
    partial: bool = False


class Prepare(Request[Any], frozen=True):
    """Do several writes, all or none, and show them to nobody until it is decided whether they count.

    The answer is a `Prepared`.
    """

    writes: Sequence[Register | Update | Unregister]


class Decided(Message, frozen=True):
    """What was prepared is published, or undone."""


class InDoubt(Message, frozen=True):
    """To itself: nobody has decided for too long."""

    prepared: Any


class PutMeta(Request[None], frozen=True):
    """Keep a value of the registry's own."""

    name: Any
    value: Any


class SetLimits(Request[None], frozen=True):
    """Change how much a registry may hold; None is no limit."""

    max_entries: int | None
    max_bytes: int | None


class EntryRegistered(Message, frozen=True):
    """To listeners: an actor was entered."""

    registry: str
    entry: Entry


class EntryUpdated(Message, frozen=True):
    """To listeners: the metadata of an entry has changed."""

    registry: str
    entry: Entry
    before: Entry


class EntryUnregistered(Message, frozen=True):
    """To listeners: an entry was removed, by request or because its actor has ended (``entry.ref.reason`` says why)."""

    registry: str
    entry: Entry


class PublishSnapshot(Message, frozen=True):
    """To itself: publish what was written since the last snapshot, behind all writes that wait already."""
