"""Partitions: one registry in several parts, each with an actor of its own.

All actors share one thread, so parts do not make writes faster. They keep apart what should not wait for each other: a
part that is restarted, or has a long batch to do, holds up the writers of its own keys only.

>>> import asyncio
>>> from supervision import Actor, Runtime
>>> class Worker(Actor):
...     pass
>>> async def main() -> tuple[int, str]:
...     async with Runtime() as runtime:
...         await runtime.spawn(PartitionedRegistry, 4)
...         directory = PartitionedDirectory.of(runtime, 4)
...         for n in range(10):
...             await directory.register(f"worker {n}", await runtime.spawn(Worker), {"load": n / 10})
...         return directory.count(("load", 0.5, "lt")), directory.select(order_by="load", descending=True)[0].key
>>> asyncio.run(main())
(5, 'worker 9')
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, ClassVar

from foundation.naming import usable_key
from foundation.registry.directory import Directory
from foundation.registry.metadata import Metadata
from foundation.registry.query import Where
from foundation.registry.registry import Registry
from foundation.registry.tables import Entry, RegistrySnapshot, in_order
from supervision import Call, ChildSpec, Ref, Runtime, Supervisor
from supervision.errors import BadOption
from supervision.options import is_whole
from supervision.supervisors.partition_supervisor import number_of

_NOTHING: Mapping[str, Any] = {}


class PartitionedRegistry(Supervisor):
    """The supervisor of the parts of a registry. A part that crashes is restarted alone.

    Args:
        partitions: how many parts, at least 1.
        args: for each `Registry`.
        prefix: the parts are named ``registry.0``, ``registry.1``, … if it is ``registry``.
        max_restarts: as for `Supervisor`.
        max_seconds: as for `Supervisor`.
        options: for each `Registry`. Limits count for each part.

    Raises:
        BadOption: an argument is wrong.
    """

    def __init__(
        self,
        partitions: int,
        *args: Any,
        prefix: str = "registry",
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        **options: Any,
    ) -> None:
        names = _names(prefix, partitions)
        children = [ChildSpec(name, Registry, args, options, name=name) for name in names]
        super().__init__(children, max_restarts=max_restarts, max_seconds=max_seconds)


class PartitionedDirectory:
    """The directory of a registry in parts. The part of an entry is found by its key.

    What `Directory` guarantees, it guarantees for each part. A question to all parts sees each of them at the same
    moment, as nothing is awaited in between; but two writes to different parts are two writes.

    Attributes:
        parts: the directory of each part.
    """

    #: The version of the registry's protocol; see `foundation.facade`.
    protocol_version: ClassVar[tuple[int, int]] = Directory.protocol_version

    def __init__(self, parts: tuple[Directory, ...]) -> None:
        self.parts = parts

    @classmethod
    def of(cls, runtime: Runtime, partitions: int, prefix: str = "registry") -> PartitionedDirectory:
        """Return the directory of a `PartitionedRegistry`, which need not run yet.

        Args:
            runtime: where it runs.
            partitions: how many parts it has.
            prefix: of their names.

        Raises:
            BadOption: there is no such number of parts.
        """
        return cls(tuple(Directory.of(runtime, name) for name in _names(prefix, partitions)))

    def part(self, key: Hashable) -> Directory:
        """Return the part where a key is.

        Raises:
            BadOption: this cannot be a key.
        """
        return self.parts[number_of(usable_key("registry: key", key)) % len(self.parts)]

    @property
    def roots(self) -> tuple[RegistrySnapshot, ...]:
        """The last snapshot of each part, all of this moment."""
        return tuple(part.root for part in self.parts)

    # -- reads -----------------------------------------------------------------------------------------------------

    def lookup(self, key: Hashable) -> Entry | None:
        """Return who is registered under a key now, or None."""
        return self.part(key).lookup(key)

    def lookup_all(self, key: Hashable) -> list[Entry]:
        """Return all entries of a key, first registered first."""
        return self.part(key).lookup_all(key)

    def find(self, field: str, value: Hashable) -> list[Entry]:
        """Return those whose ``field`` is, or has in it, ``value``, part after part."""
        return [entry for part in self.parts for entry in part.find(field, value)]

    def of_ref(self, ref: Ref) -> list[Entry]:
        """Return the entries of one actor, part after part."""
        return [entry for part in self.parts for entry in part.of_ref(ref)]

    def select(
        self,
        where: Where = (),
        *,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
    ) -> list[Entry]:
        """Return the entries that match; without ``order_by``, part after part. See `RegistrySnapshot.select`."""
        of_parts = [part.select(where, order_by=order_by, descending=descending, limit=limit) for part in self.parts]
        every = [entry for entries in of_parts for entry in entries]
        return every[:limit] if order_by is None else in_order(every, order_by, descending, limit)

    def count(self, where: Where = ()) -> int:
        """Return how many entries match."""
        return sum(part.count(where) for part in self.parts)

    # -- writes ----------------------------------------------------------------------------------------------------

    def register(self, key: Hashable, ref: Ref, metadata: Metadata = _NOTHING) -> Call[Entry]:
        """Enter an actor under a key. See `Directory.register`."""
        return self.part(key).register(key, ref, metadata)

    def update(self, key: Hashable, changes: Mapping[str, Any], ref: Ref | None = None) -> Call[Entry]:
        """Change some fields of an entry's metadata. See `Directory.update`."""
        return self.part(key).update(key, changes, ref)

    def unregister(self, key: Hashable, ref: Ref | None = None) -> Call[bool]:
        """Remove an entry. See `Directory.unregister`."""
        return self.part(key).unregister(key, ref)


def _names(prefix: str, partitions: object) -> list[str]:
    if not is_whole(partitions, 1):
        raise BadOption("partitions", partitions, "give a whole number, 1 or more")
    return [f"{prefix}.{number}" for number in range(partitions)]
