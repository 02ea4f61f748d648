"""The port: what a cluster needs of the engine below it. Nothing above it knows which engine that is.

Messages are sent at most once, in the order of their sender, to whoever listens; nobody is told that one was lost.
Keys are written by compare-and-set, and are what all nodes agree on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec


class Entry(msgspec.Struct, frozen=True):
    """What is known of a key.

    Attributes:
        key: its name.
        value: None if it was deleted, or is older than the keys' time to live.
        revision: grows with each change of any of the keys; the next write of this one has to name it.
    """

    key: str
    value: bytes | None
    revision: int


class Watcher(Protocol):
    """Who hears of the changes of keys."""

    def loaded(self, entries: Sequence[Entry]) -> None:
        """Take all that there is: at first, and again whenever a change may have been missed."""
        ...

    def changed(self, entry: Entry) -> None:
        """Take a change."""
        ...


class Keys(Protocol):
    """Keys with compare-and-set, the same for all nodes."""

    async def get(self, key: str) -> Entry | None:
        """Return what is known of a key; None if it was never written.

        Raises:
            ClusterUnavailable: there is no answer.
        """
        ...

    async def write(self, key: str, value: bytes, revision: int) -> int:
        """Write a key if it is still at a revision, 0 for one that was never written, and return the new one.

        Raises:
            WrongRevision: it is not; nothing was written.
            ClusterUnavailable: there is no answer, and nobody knows whether it was written.
        """
        ...

    async def delete(self, key: str, revision: int) -> None:
        """Delete a key if it is still at a revision.

        Raises:
            WrongRevision: it is not.
            ClusterUnavailable: there is no answer, and nobody knows whether it was deleted.
        """
        ...

    async def watch(self, watcher: Watcher) -> None:
        """Tell a watcher of all keys, and of all changes from now on, until the port is closed.

        Raises:
            ClusterUnavailable: there is no answer.
        """
        ...


class Port(Protocol):
    """An engine, as one node sees it."""

    #: The most bytes that a message may have.
    max_payload: int

    async def connect(self, node: str) -> None:
        """Connect, as a node of this name.

        Raises:
            ClusterUnavailable: no server is reached.
        """
        ...

    async def subscribe(self, subject: str, receive: Callable[[bytes], None]) -> None:
        """Have all messages for a subject received; its last word may be ``*``, for any."""
        ...

    def publish(self, subject: str, data: bytes) -> None:
        """Send a message. It does not wait, and tells nobody if the message is lost."""
        ...

    async def keys(self, bucket: str, ttl: float | None = None) -> Keys:
        """Return the keys of a bucket, made if there is none.

        Args:
            bucket: its name.
            ttl: seconds after which a key is deleted that was not written again; None for never.

        Raises:
            ClusterUnavailable: there is no answer.
        """
        ...

    async def close(self) -> None:
        """Send what waits, and disconnect."""
        ...
