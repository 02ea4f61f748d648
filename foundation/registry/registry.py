"""The registry's actor: the only writer of a directory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from foundation.registry.directory import Directory
from foundation.registry.errors import BadMetadata, KeyNotFound, KeyTaken
from foundation.registry.messages import Register, Unregister, Update
from foundation.registry.metadata import changed, checked
from foundation.registry.snapshot import Entry, Snapshot
from supervision import Actor, Down, Monitor, NoProcess, Ref, Refuse, handle
from supervision.errors import BadOption

R = TypeVar("R")


class Registry(Actor):
    """Writes a `Directory`: enters, changes and removes entries in the order of the requests, and removes the dead.

    It is found by its name, and so is its directory: ``Directory.of(runtime, name)``. Started without a name, it takes
    the name ``registry``.

    A crash heals by taking over what was published. The tables are in the directory, as one immutable value in which no
    write is half done, so a new incarnation goes on from there: it removes those who ended in the meantime and watches
    the others. What was acknowledged stays, readers notice nothing, and nobody has to register again. (OTP instead lets
    the registered processes die with their registry: there, the tables are gone with their owner.) A write that was
    under way fails with `ActorExited` and has either been published as a whole or not at all.

    Args:
        indexes: the paths of the fields of metadata by which entries can be found, such as ``"capabilities"`` or
            ``"resources.gpu"``. If the value is a collection, by each of its members.

    Raises:
        BadOption: an index is not the path of a field.
    """

    infrastructure = True

    def __init__(self, indexes: Iterable[str] = ("capabilities",)) -> None:
        self._indexes = tuple(dict.fromkeys(indexes if not isinstance(indexes, str) else (indexes,)))
        for path in self._indexes:
            if not isinstance(path, str) or not all(path.split(".")):
                raise BadOption("Registry: indexes", path, "give the path of a field, such as 'resources.memory'")
        self._watched: dict[Ref, Monitor] = {}

    def init(self) -> None:
        """Take over what was published before."""
        self._directory = Directory.of(self.runtime, self._name())
        root = self._directory.root.indexed_by(self._indexes)
        refs = list(root.by_ref)
        self._publish(root.without([entry.key for entry in root.entries.values() if not entry.ref.alive]))
        for ref in refs:
            if ref.alive:
                self._watch(ref)

    def _name(self) -> str:
        info = self.runtime.info(self.ref)
        assert info is not None
        if info.name is None:
            self.runtime.register("registry", self.ref)
        return info.name or "registry"

    # -- writes ----------------------------------------------------------------------------------------------------

    @handle
    def register(self, request: Register) -> Entry:
        """Enter an actor."""
        key, ref = _usable(request.key), request.ref
        if not isinstance(ref, Ref) or ref.runtime is not self.runtime:
            raise Refuse(BadOption("register: ref", ref, "give the Ref of an actor of this runtime"))
        if not ref.alive:
            raise Refuse(NoProcess(ref, request, f"it has ended: {ref.reason}"))
        root = self._directory.root
        holder = root.lookup(key)
        if holder is not None:
            raise Refuse(KeyTaken(key, holder.ref))
        try:
            entry = Entry(key, ref, checked(request.metadata), root.version + 1)
            self._publish(root.with_entry(entry))
        except BadMetadata as error:
            raise Refuse(error) from error
        self._watch(ref)
        return entry

    @handle
    def update(self, request: Update) -> Entry:
        """Change the metadata of an entry."""
        root = self._directory.root
        old = self._entry(request.key, request.ref)
        if old is None:
            raise Refuse(KeyNotFound(request.key, request.ref))
        try:
            entry = msgspec.structs.replace(old, metadata=changed(old.metadata, request.changes))
            self._publish(root.with_entry(entry))
        except BadMetadata as error:
            raise Refuse(error) from error
        return entry

    @handle
    def unregister(self, request: Unregister) -> bool:
        """Remove an entry."""
        entry = self._entry(request.key, request.ref)
        if entry is None:
            return False
        root = self._directory.root.without([entry.key])
        self._publish(root)
        if entry.ref not in root.by_ref:
            self.demonitor(self._watched.pop(entry.ref), flush=True)
        return True

    @handle
    def ended(self, message: Down) -> None:
        """Remove the entries of an actor that has ended."""
        ref = message.target
        assert isinstance(ref, Ref)
        del self._watched[ref]
        root = self._directory.root
        keys = root.by_ref.get(ref)
        if keys is not None:
            self._publish(root.without(keys))

    # -- parts -----------------------------------------------------------------------------------------------------

    def _entry(self, key: Any, ref: Ref | None) -> Entry | None:
        entry = self._directory.root.lookup(_usable(key))
        return entry if entry is not None and (ref is None or entry.ref is ref) else None

    def _publish(self, root: Snapshot) -> None:
        self._directory.root = root

    def _watch(self, ref: Ref) -> None:
        if ref not in self._watched:
            self._watched[ref] = self.monitor(ref)


def _usable(key: Any) -> Any:
    try:
        hash(key)
    except TypeError:
        raise Refuse(BadOption("registry: key", key, "give something that can be a dictionary key")) from None
    return key
