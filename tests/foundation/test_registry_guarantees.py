"""What a directory guarantees, checked on histories of concurrent writers, deaths and restarts against a plain
model."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.registry import (
    BatchFailed,
    Directory,
    Entry,
    Field,
    KeyNotFound,
    KeyTaken,
    Register,
    Registry,
    RegistrySnapshot,
    Unregister,
    Update,
)
from foundation.registry.indexes import HashIndex, OrderedIndex
from foundation.registry.metadata import values_at
from supervision import Actor, ChildSpec, NoProcess, Ref, Runtime, Supervisor
from supervision.testing import run, settled

KEYS = ("a", "b", "c", 1)
ACTORS = 4
CAPABILITIES = ("read", "write", "run")


class Idle(Actor):
    """Does nothing."""


class Known(msgspec.Struct, frozen=True):
    """Metadata with two indexed fields."""

    capabilities: frozenset[str] = frozenset()
    load: int = 0


class Watched(Directory):
    """A directory that keeps every root it is given, as nobody can read more often than it is written."""

    def __init__(self, address: Any) -> None:
        self.history: list[RegistrySnapshot] = []
        super().__init__(address)

    @property
    def root(self) -> RegistrySnapshot:
        """The last snapshot."""
        return self.history[-1]

    @root.setter
    def root(self, root: RegistrySnapshot) -> None:
        self.history.append(root)


def assert_whole(snapshot: RegistrySnapshot) -> None:
    """Whatever is asked of a snapshot, the answers agree with each other."""
    everybody = [entry for entry in snapshot.select() if entry.ref.alive]
    assert [entry.order for entry in everybody] == sorted({entry.order for entry in everybody})
    for key in KEYS:
        assert snapshot.lookup_all(key) == [entry for entry in everybody if entry.key == key]
    for ref in {entry.ref for entry in everybody}:
        assert snapshot.of_ref(ref) == [entry for entry in everybody if entry.ref is ref]
    for capability in CAPABILITIES:
        having = [entry for entry in everybody if capability in entry.metadata.capabilities]
        assert snapshot.find("capabilities", capability) == having
    for load in range(4):
        assert snapshot.select(Field("load") <= load) == [entry for entry in everybody if entry.metadata.load <= load]


def assert_tables(snapshot: RegistrySnapshot) -> None:
    """Every table and index of the current snapshot says the same."""
    tables = snapshot.tables
    by_ref: dict[Any, set[Any]] = {}
    by_key: dict[Any, set[Any]] = {}
    postings: dict[Any, set[Any]] = {}
    for id, entry in tables.entries.items():
        assert id == (entry.key if tables.unique else entry.order)
        by_ref.setdefault(entry.ref, set()).add(id)
        by_key.setdefault(entry.key, set()).add(id)
        for value in values_at(entry.metadata, ("capabilities",)):
            postings.setdefault(value, set()).add(id)
    assert plain(tables.by_ref) == by_ref
    assert plain(tables.by_key) == ({} if tables.unique else by_key)
    hashed, ordered = tables.indexes.values()
    assert isinstance(hashed, HashIndex)
    assert isinstance(ordered, OrderedIndex)
    assert plain(hashed.postings) == postings
    rows = [(entry.metadata.load, entry.order, id) for id, entry in tables.entries.items()]
    assert list(ordered.walk(reverse=False)) == sorted(rows, key=lambda row: row[:2])
    assert len(snapshot) == len(tables.entries)
    assert not snapshot.kept


def plain(postings: Any) -> dict[Any, set[Any]]:
    """Return postings as a dictionary of sets."""
    return {value: set(ids) for value, ids in postings.items()}


def content(snapshot: RegistrySnapshot) -> Any:
    """Return all that is in a snapshot, copied."""
    entries = sorted(snapshot.entries(), key=lambda entry: entry.order)
    return snapshot.version, len(snapshot), dict(snapshot.meta), entries


class Row(msgspec.Struct):
    """What the model knows of an entry."""

    key: Any
    ref: Ref
    known: Known


class World:
    """A runtime with a registry, some actors, and a model of what should be in the directory: a list of rows."""

    def __init__(self, runtime: Runtime, directory: Watched, *, unique: bool) -> None:
        self.runtime = runtime
        self.directory = directory
        self.unique = unique
        self.actors: list[Ref] = []
        self.model: list[Row] = []
        self.pending: list[tuple[Any, Any]] = []

    async def step(self, order: tuple[Any, ...]) -> None:
        """Do one thing; writes are sent and not awaited."""
        what, *rest = order
        if what == "settle":
            await self.settle()
        elif what == "crash":
            await self.settle()
            self.runtime.name("registry").resolve().kill()  # type: ignore[union-attr]
            await settled(self.runtime)
        elif what == "kill":
            self.actors[rest[0]].kill()
            self.actors[rest[0]] = await self.runtime.spawn(Idle)
        elif what == "batch":
            writes, partial = [self._write(*write) for write in rest[0]], rest[1]
            self.pending.append(((writes, partial), self.directory.batch(writes, partial=partial)))
        else:
            write = self._write(*order)
            self.pending.append((write, self.directory.address.call(write)))

    def _write(self, what: str, key: Any, actor: int | None, known: Known) -> Any:
        ref = None if actor is None else self.actors[actor]
        if what == "register":
            return Register(key, ref or self.actors[0], known)
        if what == "update":
            return Update(key, {"capabilities": known.capabilities, "load": known.load}, ref)
        return Unregister(key, ref)

    async def settle(self) -> None:
        """Await all writes, compare their answers and what can be read with the model."""
        for write, call in self.pending:
            try:
                answer: Any = await call
            except Exception as error:
                answer = error
            expected = self._batch(*write) if isinstance(write, tuple) else self._one(write)
            assert plainly(answer) == expected
        self.pending.clear()
        await settled(self.runtime)
        self.model = [row for row in self.model if row.ref.alive]
        self.compare()

    def _batch(self, writes: list[Any], partial: bool) -> Any:
        before = [Row(row.key, row.ref, row.known) for row in self.model]
        answers = [self._one(write) for write in writes]
        if partial or not any(isinstance(answer, type) and issubclass(answer, Exception) for answer in answers):
            return answers
        self.model = before
        return BatchFailed

    def _one(self, write: Any) -> Any:
        held = [row for row in self.model if row.key == write.key and row.ref.alive]
        if isinstance(write, Register):
            if not write.ref.alive:
                return NoProcess
            if held and self.unique:
                return KeyTaken
            self.model.append(Row(write.key, write.ref, write.metadata))
            return Entry
        mine = [row for row in held if write.ref is None or row.ref is write.ref]
        if isinstance(write, Unregister):
            self.model = [row for row in self.model if row not in mine]
            return bool(mine)
        for row in mine:
            row.known = Known(**write.changes)
        return Entry if mine else KeyNotFound

    def compare(self) -> None:
        """What is read is what the model says, and nobody in it is dead."""
        directory = self.directory
        assert shown(directory.select()) == self._rows(lambda row: True)
        assert len(directory.root) == len(self.model) == directory.count()
        for key in KEYS:
            rows = self._rows(lambda row, key=key: row.key == key)
            assert shown(directory.lookup_all(key)) == rows
            first = directory.lookup(key)
            assert ([] if first is None else shown([first])) == rows[:1]
        for capability in CAPABILITIES:
            rows = self._rows(lambda row, c=capability: c in row.known.capabilities)
            assert shown(directory.find("capabilities", capability)) == rows
        assert shown(directory.select(Field("load") > 1)) == self._rows(lambda row: row.known.load > 1)
        ordered = shown(directory.select(order_by="load", limit=3))
        assert ordered == sorted(self._rows(lambda row: True), key=lambda row: row[2].load)[:3]
        for ref in self.actors:
            assert shown(directory.of_ref(ref)) == self._rows(lambda row, ref=ref: row.ref is ref)

    def _rows(self, wanted: Any) -> list[Any]:
        return [(row.key, row.ref, row.known) for row in self.model if wanted(row)]


def shown(entries: list[Entry]) -> list[Any]:
    """Return entries as the model has them."""
    return [(entry.key, entry.ref, entry.metadata) for entry in entries]


def plainly(answer: Any) -> Any:
    """Return an answer as the model gives it: entries and errors by their types."""
    if isinstance(answer, list):
        return [plainly(one) for one in answer]
    return type(answer) if isinstance(answer, (Entry, Exception)) else answer


KEY = st.sampled_from(KEYS)
ACTOR = st.integers(0, ACTORS - 1)
KNOWN = st.builds(Known, st.frozensets(st.sampled_from(CAPABILITIES)), st.integers(0, 3))
WRITES = st.one_of(
    st.tuples(st.just("register"), KEY, ACTOR, KNOWN),
    st.tuples(st.just("update"), KEY, st.none() | ACTOR, KNOWN),
    st.tuples(st.just("unregister"), KEY, st.none() | ACTOR, KNOWN),
)
ORDERS = st.lists(
    st.one_of(
        WRITES,
        st.tuples(st.just("batch"), st.lists(WRITES, max_size=5), st.booleans()),
        st.tuples(st.just("kill"), ACTOR),
        st.just(("settle",)),
        st.just(("crash",)),
    ),
    max_size=60,
)


@settings(max_examples=500)
@given(ORDERS, st.booleans())
def test_histories_of_writers_readers_deaths_and_crashes(orders: list[tuple[Any, ...]], unique: bool) -> None:
    """Whatever writers, deaths and restarts do, the directory is what a sequential model says, and each snapshot
    whole."""

    async def main() -> None:
        # Calls wait their turn, so that deaths and crashes come in between.
        async with Runtime(watchdog=None, reports=False, seed=1, run_queue=deque()) as runtime:
            directory = Watched(runtime.name("registry"))
            runtime.shared[(Directory, "registry")] = directory
            indexes = {"capabilities": "hash", "load": "ordered"}
            options = {"keys": "unique" if unique else "duplicate"}
            spec = ChildSpec("registry", Registry, (indexes,), options)
            await runtime.spawn(Supervisor, [spec], max_restarts=1000)
            world = World(runtime, directory, unique=unique)
            world.actors = [await runtime.spawn(Idle) for _ in range(ACTORS)]
            held: list[tuple[RegistrySnapshot, Any]] = []
            for order in [*orders, ("settle",)]:
                await world.step(order)
                assert_whole(directory.root)
                held.append((directory.root, content(directory.root)))
            assert_tables(directory.root)
            for snapshot in directory.history[1::10]:
                assert_whole(snapshot)
            versions = [snapshot.version for snapshot in directory.history]
            assert versions == sorted(versions), "a later read never shows an earlier snapshot"
            for snapshot, before in held:
                assert content(snapshot) == before, "a snapshot that is held never changes"

    run(main())
