"""The directory: a registry as its users see it. Reads come from the last snapshot, writes go through the mailbox."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from foundation.registry.messages import Register, Unregister, Update
from foundation.registry.metadata import Metadata
from foundation.registry.snapshot import Entry, Snapshot
from supervision import Call, Name, Ref, Runtime

_NOTHING: Mapping[str, Any] = {}


class Directory:
    """What a registry has published, and the way to change it.

    There is one for each name of a registry in a runtime. It belongs to the runtime and not to the registry's actor, so
    that readers keep it, and what it shows, while the actor is restarted.

    Guarantees:

    - A snapshot holds all tables and indexes of one moment: no reader ever sees half of a write.
    - Read your writes: an awaited write returns after its snapshot was published.
    - Monotonic: a later read never shows an earlier snapshot.
    - A snapshot that is held never changes.
    - No answer contains an actor that has ended.

    Attributes:
        address: of the actor that writes.
        root: the last snapshot. Reading this attribute is all that a read costs.
    """

    __slots__ = ("address", "root")

    def __init__(self, address: Name) -> None:
        self.address = address
        self.root = Snapshot()

    @classmethod
    def of(cls, runtime: Runtime, name: str = "registry") -> Directory:
        """Return the directory of a registry, which need not run yet.

        Args:
            runtime: where the registry runs.
            name: the name of the registry's actor.

        Raises:
            BadName: this cannot be a name.
        """
        key = (Directory, name)
        directory: Directory | None = runtime.shared.get(key)
        if directory is None:
            directory = runtime.shared[key] = cls(runtime.name(name))
        return directory

    # -- reads -----------------------------------------------------------------------------------------------------

    def lookup(self, key: Hashable) -> Entry | None:
        """Return who is registered under a key now, or None. See `Snapshot.lookup`."""
        return self.root.lookup(key)

    def find(self, field: str, value: Hashable) -> list[Entry]:
        """Return those whose ``field`` is, or has in it, ``value``, first registered first. See `Snapshot.find`."""
        return self.root.find(field, value)

    def of_ref(self, ref: Ref) -> list[Entry]:
        """Return the entries of one actor, first registered first."""
        return self.root.of_ref(ref)

    # -- writes ----------------------------------------------------------------------------------------------------

    def register(self, key: Hashable, ref: Ref, metadata: Metadata = _NOTHING) -> Call[Entry]:
        """Enter an actor under a key, until it ends or is unregistered. Await the result.

        The place of an actor that has ended is free at once.

        Args:
            key: anything that can be a dictionary key.
            ref: the actor.
            metadata: a frozen `msgspec.Struct`, whose fields are checked, or a mapping. It is frozen: in what is kept,
                lists have become tuples, sets frozen sets and mappings read-only, at any depth.

        Raises:
            KeyTaken: a living actor has the key.
            NoProcess: the actor has ended; or no registry runs, because it is being restarted.
            BadMetadata, BadOption: an argument is wrong.
        """
        return self.address.call(Register(key, ref, metadata))

    def update(self, key: Hashable, changes: Mapping[str, Any], ref: Ref | None = None) -> Call[Entry]:
        """Change some fields of an entry's metadata; the others stay. Await the result.

        The registry reads and writes in one step, so that of two updates neither undoes the other.

        Args:
            key: of the entry.
            changes: new values by the name of the field.
            ref: change only the entry of this actor, not that of another one that has the key by now.

        Raises:
            KeyNotFound: there is no such entry.
            BadMetadata: the struct has no such field, or not with such a value.
            NoProcess: no registry runs.
        """
        return self.address.call(Update(key, changes, ref))

    def unregister(self, key: Hashable, ref: Ref | None = None) -> Call[bool]:
        """Remove an entry. Await the result: whether there was one.

        Args:
            key: of the entry.
            ref: remove only the entry of this actor.

        Raises:
            NoProcess: no registry runs.
        """
        return self.address.call(Unregister(key, ref))
