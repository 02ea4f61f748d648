"""The directory: a registry as its users see it. Reads come from the last snapshot, writes go through the mailbox.

The writes of a transaction are prepared first (`Prepared`): done in the tables, seen by nobody, and then published or
undone by the transaction's coordinator.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

from foundation.naming import key_trouble, usable_key
from foundation.options import is_a
from foundation.registry.messages import PutMeta, Register, SetLimits, Unregister, Update, WriteBatch
from foundation.registry.metadata import Metadata
from foundation.registry.plan import QueryPlan
from foundation.registry.query import Where
from foundation.registry.tables import Entry, RegistrySnapshot, Tables
from foundation.telemetry.collectors import MetricSample
from supervision import Call, Name, Ref, Runtime
from supervision.errors import BadOption
from supervision.messages import describe

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
        prepared: writes that wait for the decision on a transaction, or None.
    """

    __slots__ = ("address", "prepared", "root")

    #: The version of the registry's protocol; see `foundation.facade`.
    protocol_version: ClassVar[tuple[int, int]] = (1, 1)

    def __init__(self, address: Name) -> None:
        self.address = address
        self.prepared: Prepared | None = None
        tables = Tables()
        self.root = tables.root = RegistrySnapshot(tables)

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
        """Return who is registered under a key now, or None. See `RegistrySnapshot.lookup`.

        Raises:
            BadOption: this cannot be a key.
        """
        root = self.root
        try:
            entry = root.current.get(key)
        except Exception as error:
            raise BadOption("registry: key", key, key_trouble(key) or describe(error)) from None
        if root.kept is None and root.unique:
            return entry if entry is not None and entry.ref.alive else None
        return root.lookup(key)  # a write is under way, or keys are not unique

    def lookup_all(self, key: Hashable) -> list[Entry]:
        """Return all entries of a key, first registered first."""
        return self.root.lookup_all(key)

    def find(self, field: str, value: Hashable) -> list[Entry]:
        """Return those whose ``field`` is, or contains, ``value``, first registered first: `RegistrySnapshot.find`."""
        return self.root.find(field, value)

    def of_ref(self, ref: Ref) -> list[Entry]:
        """Return the entries of one actor, first registered first."""
        return self.root.of_ref(ref)

    def select(
        self,
        where: Where = (),
        *,
        order_by: str | None = None,
        descending: bool = False,
        limit: int | None = None,
    ) -> list[Entry]:
        """Return the entries whose metadata matches, ordered, at most ``limit``. See `RegistrySnapshot.select`."""
        return self.root.select(where, order_by=order_by, descending=descending, limit=limit)

    def count(self, where: Where = ()) -> int:
        """Return how many entries are as is asked."""
        return self.root.count(where)

    def explain(
        self, where: Where = (), *, order_by: str | None = None, descending: bool = False, limit: int | None = None
    ) -> QueryPlan:
        """Return how `select` would answer."""
        return self.root.explain(where, order_by=order_by, descending=descending, limit=limit)

    def meta(self, name: Hashable, default: Any = None) -> Any:
        """Return a value of the registry's own, put there by `put_meta`."""
        return self.root.meta.get(usable_key("meta: name", name), default)

    def samples(self) -> Iterator[MetricSample]:
        """Return its numbers, for the metrics."""
        labels = (("registry", self.address.key),)
        yield MetricSample("registry_entries", "Entries of registries.", "gauge", labels, len(self.root))

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
            KeyTaken: a living actor has the key, and keys are unique.
            NoProcess: the actor has ended; or no registry runs, because it is being restarted.
            RegistryFull: a limit is reached.
            BadMetadata, BadOption: an argument is wrong.
        """
        return self.address.call(Register(key, ref, metadata))

    def update(self, key: Hashable, changes: Mapping[str, Any], ref: Ref | None = None) -> Call[Entry]:
        """Change some fields of an entry's metadata; the others stay. Await the result.

        The registry reads and writes in one step, so that of two updates neither undoes the other.

        Args:
            key: of the entry. If several have it, each is changed, and the first is returned.
            changes: new values by the name of the field.
            ref: change only what this actor has, not that of another one that has the key by now.

        Raises:
            KeyNotFound: there is no such entry.
            BadMetadata: the struct has no such field, or not with such a value.
            NoProcess: no registry runs.
        """
        return self.address.call(Update(key, changes, ref))

    def unregister(self, key: Hashable, ref: Ref | None = None) -> Call[bool]:
        """Remove an entry. Await the result: whether there was one.

        Args:
            key: of the entry, or of all entries that have it.
            ref: remove only what this actor has.

        Raises:
            NoProcess: no registry runs.
        """
        return self.address.call(Unregister(key, ref))

    def batch(self, writes: Iterable[Register | Update | Unregister], *, partial: bool = False) -> Call[list[Any]]:
        """Do several writes in one step, which readers see at once. Await the result: the answer of each, in order.

        Args:
            writes: `Register`, `Update` and `Unregister`.
            partial: do those that can be done, although others cannot; in the place of an answer there is an error
                then. Otherwise all are done, or none.

        Raises:
            BatchFailed: one of them cannot be done, and so none was.
            NoProcess: no registry runs.
        """
        if not is_a(writes, Iterable):
            raise BadOption("batch: writes", writes, "give Register, Update and Unregister")
        try:
            every = tuple(writes)
        except Exception as error:
            raise BadOption("batch: writes", writes, f"it raises {type(error).__name__}") from error
        return self.address.call(WriteBatch(every, partial))

    def put_meta(self, name: Hashable, value: Any) -> Call[None]:
        """Keep a value of the registry's own, which is part of every snapshot. Await the result.

        Args:
            name: of the value.
            value: it is frozen, as metadata is.

        Raises:
            BadOption: this cannot be a name.
            BadMetadata: there is something in the value that can be changed.
            NoProcess: no registry runs.
        """
        return self.address.call(PutMeta(name, value))

    def set_limits(self, max_entries: int | None = None, max_bytes: int | None = None) -> Call[None]:
        """Change how much the registry may hold, until it is restarted. Await the result. What is there stays."""
        return self.address.call(SetLimits(max_entries, max_bytes))


class Prepared:
    """Writes of a registry that wait for a decision. Until then its other writes wait; readers see what was.

    It belongs to the directory and not to the registry's actor, so that it outlives a restart of that.

    Attributes:
        directory: whose writes these are.
        tables: in which they are done.
        writes: what was asked for.
        state: ``open``, ``published`` or ``undone``.
        coordinator: who will decide, once it has said yes and writes it down: while it lives, nobody else does.
    """

    def __init__(self, directory: Directory, tables: Tables, meta: Mapping[Any, Any], writes: Sequence[Any]) -> None:
        self.directory = directory
        self.tables = tables
        self.writes = writes
        self._meta = meta
        self.state: Literal["open", "published", "undone"] = "open"
        self.coordinator: Name | None = None

    @property
    def coming(self) -> bool:
        """Whether a decision is on its way, however long the disk takes."""
        coordinator = self.coordinator
        return self.state == "open" and coordinator is not None and coordinator.resolve() is not None

    def publish(self) -> None:
        """Let everybody see the writes. It takes no time, so that several registries can be published at one moment."""
        if self.state == "open":
            self.state = "published"
            self.tables.end(undo=False)
            self.directory.root = root = RegistrySnapshot(self.tables, self._meta)
            self.tables.publish(root)
            self.directory.prepared = None

    def undo(self) -> None:
        """Take the writes back."""
        if self.state == "open":
            self.state = "undone"
            self.tables.end(undo=True)
            self.directory.prepared = None
