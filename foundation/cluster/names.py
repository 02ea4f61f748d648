"""Names of the cluster: one key each, written by compare-and-set, and a table of all from which readers read.

A claim has an *epoch*, one more than that of the claim before it. It goes as a fencing token with what the holder
writes elsewhere: a store that has seen a newer one refuses it.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

import msgspec

from foundation.cluster.port import Entry

_PLAIN = frozenset((string.ascii_letters + string.digits + "_-").encode())
#: What the keys of names begin with.
PREFIX = "name."


class NameEntry(msgspec.Struct, frozen=True):
    """The value of a name's key.

    Attributes:
        epoch: of the claim; a name that is free keeps it.
        claim: tells this claim from every other one.
        node: of the holder.
        node_epoch: of the process there.
        actor: the holder's number; 0 if the name is free.
    """

    epoch: int
    claim: str
    node: str
    node_epoch: int
    actor: int

    @property
    def free(self) -> bool:
        """Whether nobody holds the name."""
        return self.actor == 0

    def held_by(self, node: str, epoch: int) -> bool:
        """Whether an actor of this process holds it."""
        return not self.free and (self.node, self.node_epoch) == (node, epoch)


def key_of(name: str) -> str:
    """Return the key of a name: its bytes, as far as keys may have them."""
    return PREFIX + "".join(chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in name.encode())


def name_in(key: str) -> str:
    """Return the name of a key."""
    first, *rest = key.removeprefix(PREFIX).split("=")
    return b"".join((first.encode(), *(bytes.fromhex(part[:2]) + part[2:].encode() for part in rest))).decode()


class NameTable:
    """All names of the cluster, as far as this node has heard.

    Attributes:
        names: who holds each, or has held it.
    """

    def __init__(self) -> None:
        self.names: dict[str, NameEntry] = {}
        self._revisions: dict[str, int] = {}

    def loaded(self, entries: Sequence[Entry]) -> None:
        """Take all entries."""
        self._revisions = {}
        self.names = {}
        for entry in entries:
            self.changed(entry)

    def changed(self, entry: Entry) -> NameEntry | None:
        """Take an entry if it is newer than what is known; return it then."""
        if not entry.key.startswith(PREFIX) or entry.value is None:
            return None
        name = name_in(entry.key)
        if entry.revision <= self._revisions.get(name, 0):
            return None
        self._revisions[name] = entry.revision
        value = self.names[name] = msgspec.msgpack.decode(entry.value, type=NameEntry)
        return value
