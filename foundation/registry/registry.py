"""The registry's actor: the only writer of a directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from foundation.naming import own_name, usable_key
from foundation.options import above_zero, is_a, whole
from foundation.registry.directory import Directory, Prepared
from foundation.registry.errors import BadMetadata, BatchFailed, KeyNotFound, KeyTaken, RegistryFull
from foundation.registry.indexes import INDEX_KINDS, IndexKind
from foundation.registry.messages import (
    Decided,
    EntryRegistered,
    EntryUnregistered,
    EntryUpdated,
    InDoubt,
    Prepare,
    PublishSnapshot,
    PutMeta,
    Register,
    SetLimits,
    Unregister,
    Update,
    WriteBatch,
)
from foundation.registry.metadata import changed_metadata, checked_metadata, frozen
from foundation.registry.tables import Entry, RegistrySnapshot, Tables, size_of
from supervision import Actor, Address, Down, Message, Monitor, NoProcess, NotRunning, Ref, Refuse, ReplyTo, handle
from supervision.errors import BadName, BadOption
from supervision.messages import describe

R = TypeVar("R")
KeyKind: TypeAlias = Literal["unique", "duplicate"]

_KEY = "registry: key"
#: What may come in one step, and how they are given.
_WRITES = "give a list of Register, Update and Unregister"
_REFUSALS = (BadMetadata, BadOption, BatchFailed, KeyNotFound, KeyTaken, NoProcess, RegistryFull)


class Registry(Actor):
    """Writes a `Directory`: enters, changes and removes entries in the order of the requests, and removes the dead.

    It is found by its name, and so is its directory: ``Directory.of(runtime, name)``. Started without a name, it takes
    the name ``registry``.

    Writes that wait together are published together, and each is answered when it can be read.

    A crash heals by taking over what was published. The tables are in the directory, as one immutable value in which no
    write is half done, so a new incarnation goes on from there: it removes those who ended in the meantime and watches
    the others. What was acknowledged stays, readers notice nothing, and nobody has to register again. (OTP instead lets
    the registered processes die with their registry: there, the tables are gone with their owner.) A write that was
    under way fails with `ActorExited` and has either been published as a whole or not at all.

    Args:
        indexes: the paths of the fields of metadata that are indexed, such as ``"capabilities"`` or
            ``"resources.gpu"``: a hash index of each; or a mapping from path to ``"hash"`` or ``"ordered"`` (for ranges
            and order). If the value is a collection, each of its members is in the index.
        keys: whether a key has one entry (``unique``) or any number (``duplicate``).
        metadata: the struct that all metadata has to be; None for any.
        max_entries: how many entries there may be; None for any number.
        max_bytes: how much memory keys, metadata and their places in the tables may take, as estimated; None for any.
        in_doubt: for how many seconds writes that were prepared for a transaction wait for the decision on it, before
            they are undone; longer if the store is there and still writes the transaction.
        listeners: who is told of each change, after it was published, with `EntryRegistered`, `EntryUpdated` and
            `EntryUnregistered`:
            names or addresses.

    Raises:
        BadOption: an argument is wrong.
    """

    infrastructure = True

    def __init__(
        self,
        indexes: Iterable[str] | Mapping[str, IndexKind] = ("capabilities",),
        *,
        keys: KeyKind = "unique",
        metadata: type[msgspec.Struct] | None = None,
        max_entries: int | None = None,
        max_bytes: int | None = None,
        listeners: Iterable[str | Address] = (),
        in_doubt: float = 30.0,
    ) -> None:
        self._kinds = _index_kinds(indexes)
        if keys not in ("unique", "duplicate"):
            raise BadOption("Registry: keys", keys, "give 'unique' or 'duplicate'")
        if metadata is not None and not (is_a(metadata, type) and issubclass(metadata, msgspec.Struct)):
            raise BadOption("Registry: metadata", metadata, "give a frozen msgspec.Struct class")
        self._unique = keys == "unique"
        self._metadata = metadata
        self._set_limits(SetLimits(_most("max_entries", max_entries), _most("max_bytes", max_bytes)))
        self._listener_names = _listeners(listeners)
        self._listeners: list[Address] = []
        self._in_doubt = above_zero("Registry: in_doubt", in_doubt)
        self._watched: dict[Ref, Monitor] = {}
        self._unanswered: list[tuple[ReplyTo[Any], Any]] = []
        self._news: list[Message] = []
        self._publishing = False
        self._prepared: Prepared | None = None
        self._writes: dict[type, Callable[[Any], Any]] = {
            Register: self._registered,
            Update: self._updated,
            Unregister: self._unregistered,
        }

    def init(self) -> None:
        """Take over what was published before."""
        for listener in self._listener_names:
            try:
                self._listeners.append(self.runtime.name(listener) if isinstance(listener, str) else listener)
            except BadName as error:
                raise BadOption("Registry: listeners", listener, "give names or addresses of actors") from error
        self._here = self.runtime
        self._called = own_name(self, "registry")
        self._directory = Directory.of(self.runtime, self._called)
        self._meta = self._directory.root.meta
        prepared = self._directory.prepared
        self._tables = self._taken_over(self._directory.root) if prepared is None else prepared.tables
        for entry in list(self._tables.entries.values()):
            if entry.ref not in self._watched:
                self._watched[entry.ref] = self.monitor(entry.ref)
        if prepared is None:
            self._publish()
        else:
            self._wait_for_decision(prepared)

    def _taken_over(self, root: RegistrySnapshot) -> Tables:
        """Return tables with what was published: the same ones, if they are as they should be."""
        tables = root.tables
        as_asked = (tables.unique, tables.kinds, tables.measure) == (self._unique, self._kinds, self._measured)
        if as_asked and root.kept is None:
            return tables
        fresh = Tables(self._unique, self._kinds, measure=self._measured)
        fresh.root = RegistrySnapshot(fresh)
        fresh.fill(root.entries(), root.version)
        self._directory.root = fresh.root = RegistrySnapshot(fresh, root.meta)
        return fresh

    # -- writes ----------------------------------------------------------------------------------------------------

    @handle
    def register(self, request: Register) -> Entry:
        """Enter an actor."""
        return self._written(self._registered, request)  # type: ignore[no-any-return]

    @handle
    def update(self, request: Update) -> Entry:
        """Change the metadata of an entry, or of all that have the key and belong to the actor."""
        return self._written(self._updated, request)  # type: ignore[no-any-return]

    @handle
    def unregister(self, request: Unregister) -> bool:
        """Remove an entry, or all that have the key and belong to the actor."""
        return self._written(self._unregistered, request)  # type: ignore[no-any-return]

    @handle
    def batch(self, request: WriteBatch) -> list[Any]:
        """Do several writes."""
        return self._written(self._batched, request)  # type: ignore[no-any-return]

    @handle
    def prepare(self, request: Prepare) -> Prepared:
        """Do the writes of a transaction, and wait for the decision on it."""
        if not is_a(request.writes, (list, tuple)):
            raise Refuse(BadOption("prepare: writes", request.writes, _WRITES))
        self._publish()
        self._tables.begin()
        _, errors = self._tried(request.writes, False)
        if errors:
            self._tables.end(undo=True)
            self._take_back(request.writes, 0)
            raise Refuse(BatchFailed(errors))
        prepared = Prepared(self._directory, self._tables, self._meta, request.writes)
        self._wait_for_decision(prepared)
        return prepared

    def _wait_for_decision(self, prepared: Prepared) -> None:
        self._directory.prepared = self._prepared = prepared
        self.become("prepared")
        self.send_after(self._in_doubt, InDoubt(prepared))

    @handle(when="prepared")
    def later(
        self,
        message: Register | Update | Unregister | WriteBatch | Prepare | PutMeta | SetLimits | Down | PublishSnapshot,
    ) -> None:
        """Let everything wait for the decision."""
        self.stash()

    @handle
    def decided(self, message: Decided) -> None:
        """Go on, if what was prepared is published or undone."""
        prepared = self._prepared
        if prepared is None or prepared.state == "open":
            return
        self._prepared = None
        if prepared.state == "undone":
            self._take_back(prepared.writes, 0)
        self._publish()
        self.become(None)
        self.unstash_all()

    @handle
    def undecided(self, message: InDoubt) -> None:
        """Roll back a prepared transaction whose coordinator is gone."""
        prepared = self._prepared
        if prepared is None or message.prepared is not prepared:
            return
        if prepared.coming:
            self.send_after(self._in_doubt, message)
            return
        prepared.undo()
        self.decided(Decided())

    @handle
    def put_meta(self, request: PutMeta) -> None:
        """Keep a value of the registry's own."""
        self._written(self._put_meta, request)

    @handle
    def set_limits(self, request: SetLimits) -> None:
        """Change how much it may hold. What is there stays, also if it is more."""
        try:
            limits = SetLimits(_most("max_entries", request.max_entries), _most("max_bytes", request.max_bytes))
        except BadOption as error:
            raise Refuse(error) from error
        self._publish()
        self._set_limits(limits)
        self._tables = self._taken_over(self._directory.root)

    @handle
    def ended(self, message: Down) -> None:
        """Remove the entries of an actor that has ended."""
        ref: Any = message.target
        if not is_a(ref, Ref) or self._watched.get(ref) is not message.monitor:
            return
        del self._watched[ref]
        for entry in self._tables.of_ref(ref):
            self._remove(entry)
        if self.has_waiting():
            self._publish_soon()
        else:
            self._publish()

    @handle
    def publish(self, message: PublishSnapshot) -> None:
        """Publish what was written."""
        self._publishing = False
        self._publish()

    # -- the writes themselves -------------------------------------------------------------------------------------

    def _registered(self, request: Register) -> Entry:
        key, ref = usable_key(_KEY, request.key), request.ref
        try:
            watched = ref in self._watched
        except TypeError:  # it cannot be hashed, and so is no Ref
            watched = False
        if not watched and (not is_a(ref, Ref) or ref.runtime is not self._here):
            raise BadOption("register: ref", ref, "give the Ref of an actor of this runtime")
        if not ref.alive:
            raise NoProcess(ref, request, f"it has ended: {ref.reason}")
        metadata = checked_metadata(request.metadata)
        if self._metadata is not None and type(metadata) is not self._metadata:
            raise BadMetadata("metadata", metadata, f"this registry takes {self._metadata.__name__}")
        tables = self._tables
        holder = tables.entries.get(key) if self._unique else None
        if holder is not None and holder.ref.alive:
            raise KeyTaken(key, holder.ref)
        entry = Entry(key, ref, metadata, tables.version + 2)
        if self._limited:
            self._make_sure_of_room(entry, holder)
        if holder is not None:
            tables.check(entry)
            self._remove(holder)
            watched = ref in self._watched
        tables.put(None, entry)
        if not watched:
            self._watched[ref] = self.monitor(ref)
        if self._listeners:
            self._news.append(EntryRegistered(self._called, entry))
        return entry

    def _updated(self, request: Update) -> Entry:
        held = self._held(request)
        if not held:
            raise KeyNotFound(request.key, request.ref)
        news = [msgspec.structs.replace(old, metadata=changed_metadata(old.metadata, request.changes)) for old in held]
        for old, new in zip(held, news, strict=True):
            self._tables.put(old, new)
            self._tell(EntryUpdated, new, old)
        return news[0]

    def _unregistered(self, request: Unregister) -> bool:
        held = self._held(request)
        for entry in held:
            self._remove(entry)
        return bool(held)

    def _batched(self, request: WriteBatch) -> list[Any]:
        if not is_a(request.writes, (list, tuple)):
            raise BadOption("batch: writes", request.writes, _WRITES)
        news = len(self._news)
        self._tables.begin()
        results, errors = self._tried(request.writes, request.partial)
        self._tables.end(undo=bool(errors))
        if errors:
            self._take_back(request.writes, news)
            raise BatchFailed(errors)
        return results

    def _tried(self, writes: Sequence[Any], partial: bool) -> tuple[list[Any], dict[int, Exception]]:
        """Do writes, and return the answers, and the error for which to take them back."""
        results: list[Any] = []
        for place, write in enumerate(writes):
            try:
                one = self._writes.get(type(write))
                if one is None:
                    raise BadOption("batch: write", write, "give Register, Update and Unregister")
                results.append(one(write))
            except Exception as error:
                refusal = self._refusal(write, error)
                if not partial:
                    return results, {place: refusal}
                results.append(refusal)
        return results, {}

    def _take_back(self, writes: Sequence[Any], news: int) -> None:
        """Undo what was done beside the tables for writes that were undone: news, and monitors."""
        del self._news[news:]
        for write in writes:
            if is_a(write, Register) and is_a(write.ref, Ref):
                self._unwatch(write.ref)
        for write in writes:
            with suppress(Exception):  # what cannot be a key has changed nothing
                for entry in self._tables.held(usable_key(_KEY, write.key)):
                    if entry.ref not in self._watched:  # a write had removed it
                        self._watched[entry.ref] = self.monitor(entry.ref)

    def _put_meta(self, request: PutMeta) -> None:
        name, value = usable_key("put_meta: name", request.name), frozen("put_meta: value", request.value)
        self._meta = MappingProxyType({**self._meta, name: value})
        self._tables.version += 1

    def _remove(self, entry: Entry) -> None:
        self._tables.put(entry, None)
        self._tell(EntryUnregistered, entry)
        self._unwatch(entry.ref)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _written(self, write: Callable[[R], Any], request: R) -> Any:
        """Do a write, and see to it that it is published, and then answered."""
        try:
            answer = write(request)
        except Exception as error:
            raise Refuse(self._refusal(request, error)) from error
        if not self.has_waiting():
            self._publish()
            return answer
        with suppress(NotRunning):  # it was cast, and nobody waits for an answer
            self._unanswered.append((self.defer_reply(), answer))
        self._publish_soon()
        return None

    def _refusal(self, request: Any, error: Exception) -> Exception:
        """Return the error with which a write is refused.

        Raises:
            Exception: that error itself, if it came in the middle of a change: it is a defect, and the next incarnation
                begins with what was published.
        """
        if isinstance(error, _REFUSALS):
            return error
        if self._tables.changing:
            raise error
        return BadOption("registry: write", request, f"give what can be compared and hashed: it raises {_named(error)}")

    def _set_limits(self, limits: SetLimits) -> None:
        self._limits = limits
        self._measured = limits.max_bytes is not None
        self._limited = self._measured or limits.max_entries is not None

    def _publish_soon(self) -> None:
        if not self._publishing:
            self._publishing = True
            self.ref.cast(PublishSnapshot())

    def _publish(self) -> None:
        last = self._directory.root
        if self._tables.version != last.version or last.kept is not None:
            del last  # or it would be held
            self._directory.root = root = RegistrySnapshot(self._tables, self._meta)
            self._tables.publish(root)
        if self._unanswered:
            unanswered, self._unanswered = self._unanswered, []
            for reply, answer in unanswered:
                reply.reply(answer)
        if self._news:
            news, self._news = self._news, []
            for listener in self._listeners:
                for message in news:
                    listener.cast(message)

    def _tell(self, kind: Callable[..., Message], *what: Entry) -> None:
        if self._listeners:
            self._news.append(kind(self._called, *what))

    def _held(self, request: Update | Unregister) -> list[Entry]:
        """Return the entries that are meant, whose actors live."""
        held = self._tables.held(usable_key(_KEY, request.key))
        ref = request.ref
        return [entry for entry in held if entry.ref.alive and (ref is None or ref is entry.ref)]

    def _make_sure_of_room(self, entry: Entry, holder: Entry | None) -> None:
        """Make sure that there is room for an entry, in the place of another one if there is one.

        Raises:
            RegistryFull: there is none.
        """
        most, most_bytes = self._limits.max_entries, self._limits.max_bytes
        if most is not None and holder is None and len(self._tables.entries) >= most:
            raise RegistryFull("max_entries", most)
        if most_bytes is not None:
            freed = 0 if holder is None else size_of(holder)
            if self._tables.size_bytes - freed + size_of(entry) > most_bytes:
                raise RegistryFull("max_bytes", most_bytes)

    def _unwatch(self, ref: Ref) -> None:
        if ref in self._watched and not self._tables.of_ref(ref):
            self.demonitor(self._watched.pop(ref), flush=True)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {describe(error, form=str)}"


def _listeners(listeners: Any) -> tuple[str | Address, ...]:
    if is_a(listeners, (str, Address)):
        return (listeners,)
    if not is_a(listeners, Iterable):
        raise BadOption("Registry: listeners", listeners, "give names or addresses of actors")
    every: tuple[Any, ...] = tuple(listeners)
    for listener in every:
        if not is_a(listener, (str, Address)):
            raise BadOption("Registry: listeners", listener, "give names or addresses of actors")
    return every


def _index_kinds(indexes: object) -> dict[str, IndexKind]:
    if isinstance(indexes, str):
        indexes = (indexes,)
    if not isinstance(indexes, Iterable):
        raise BadOption("Registry: indexes", indexes, "give the paths of fields")
    kinds: dict[str, IndexKind] = dict(indexes) if isinstance(indexes, Mapping) else dict.fromkeys(indexes, "hash")
    for path, kind in kinds.items():
        if not isinstance(path, str) or not all(path.split(".")):
            raise BadOption("Registry: indexes", path, "give the path of a field, such as 'resources.memory'")
        if kind not in INDEX_KINDS:
            raise BadOption(f"Registry: indexes[{path!r}]", kind, "an index is 'hash' or 'ordered'")
    return kinds


def _most(name: str, most: object) -> int | None:
    return None if most is None else whole(f"Registry: {name}", most, 0)
