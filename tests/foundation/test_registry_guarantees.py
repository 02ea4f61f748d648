"""What a directory guarantees, checked on histories of concurrent writers, deaths and restarts against a plain
model."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from foundation.registry import Directory, Entry, KeyNotFound, KeyTaken, Registry, Snapshot
from foundation.registry.metadata import values_at
from supervision import Actor, ChildSpec, NoProcess, Ref, Runtime, Supervisor
from supervision.testing import run, settled

KEYS = ("a", "b", "c", 1)
ACTORS = 4
CAPABILITIES = ("read", "write", "run")


class Idle(Actor):
    """Does nothing."""


class Known(msgspec.Struct, frozen=True):
    """Metadata with an indexed field."""

    capabilities: frozenset[str] = frozenset()


class Watched(Directory):
    """A directory that keeps every root it is given, as nobody can read more often than it is written."""

    def __init__(self, address: Any) -> None:
        self.history: list[Snapshot] = []
        super().__init__(address)

    @property
    def root(self) -> Snapshot:
        """The last snapshot."""
        return self.history[-1]

    @root.setter
    def root(self, root: Snapshot) -> None:
        self.history.append(root)


def assert_whole(snapshot: Snapshot) -> None:
    """Every table and index of a snapshot says the same."""
    by_ref: dict[Any, dict[Any, None]] = {}
    indexes: dict[str, dict[Any, dict[Any, None]]] = {field: {} for field in snapshot.indexes}
    for key, entry in snapshot.entries.items():
        assert entry.key == key
        by_ref.setdefault(entry.ref, {})[key] = None
        for field, index in indexes.items():
            for value in values_at(entry.metadata, field):
                index.setdefault(value, {})[key] = None
    assert snapshot.by_ref == by_ref
    assert snapshot.indexes == indexes


def content(snapshot: Snapshot) -> Any:
    """Return all that is in a snapshot, copied."""
    by_ref = {ref: set(keys) for ref, keys in snapshot.by_ref.items()}
    indexes = {f: {v: set(keys) for v, keys in postings.items()} for f, postings in snapshot.indexes.items()}
    return snapshot.version, dict(snapshot.entries), by_ref, indexes


class World:
    """A runtime with a registry, some actors, and a model of what should be in the directory."""

    def __init__(self, runtime: Runtime, directory: Watched) -> None:
        self.runtime = runtime
        self.directory = directory
        self.actors: list[Ref] = []
        self.model: dict[Any, tuple[Ref, frozenset[str]]] = {}
        self.pending: list[tuple[tuple[Any, ...], Any]] = []

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
        else:
            self.pending.append(self._sent(what, *rest))

    def _sent(self, what: str, key: Any, actor: int | None, capabilities: frozenset[str]) -> Any:
        ref = None if actor is None else self.actors[actor]
        if what == "register":
            ref = ref or self.actors[0]
            return (what, key, ref, capabilities), self.directory.register(key, ref, Known(capabilities))
        if what == "update":
            return (what, key, ref, capabilities), self.directory.update(key, {"capabilities": capabilities}, ref)
        return (what, key, ref, capabilities), self.directory.unregister(key, ref)

    async def settle(self) -> None:
        """Await all writes, compare their answers and what can be read with the model."""
        for write, call in self.pending:
            try:
                answer: Any = await call
            except Exception as error:
                answer = type(error)
            expected = self._modelled(*write)
            assert (Entry if isinstance(answer, Entry) else answer) == expected
        self.pending.clear()
        await settled(self.runtime)
        self.model = {key: held for key, held in self.model.items() if held[0].alive}
        self.compare()

    def _modelled(self, what: str, key: Any, ref: Ref | None, capabilities: frozenset[str]) -> Any:
        held = self.model.get(key)
        if held is not None and not held[0].alive:
            held = None
        if what == "register":
            assert ref is not None
            if not ref.alive:
                return NoProcess
            if held is not None:
                return KeyTaken
            self.model[key] = (ref, capabilities)
            return Entry
        mine = held is not None and (ref is None or held[0] is ref)
        if what == "unregister":
            if mine:
                del self.model[key]
            return mine
        if not mine:
            return KeyNotFound
        assert held is not None
        self.model[key] = (held[0], capabilities)
        return Entry

    def compare(self) -> None:
        """What is read is what the model says, and nobody in it is dead."""
        root = self.directory.root
        assert {key: (entry.ref, entry.metadata.capabilities) for key, entry in root.entries.items()} == self.model
        for key in KEYS:
            entry = self.directory.lookup(key)
            assert (None if entry is None else entry.ref) == self.model.get(key, (None,))[0]
        for capability in CAPABILITIES:
            found = {entry.key for entry in self.directory.find("capabilities", capability)}
            assert found == {key for key, (_, capabilities) in self.model.items() if capability in capabilities}
        for ref in self.actors:
            keys = {entry.key for entry in self.directory.of_ref(ref)}
            assert keys == {key for key, (holder, _) in self.model.items() if holder is ref}


KEY = st.sampled_from(KEYS)
ACTOR = st.integers(0, ACTORS - 1)
SOME = st.frozensets(st.sampled_from(CAPABILITIES))
ORDERS = st.lists(
    st.one_of(
        st.tuples(st.just("register"), KEY, ACTOR, SOME),
        st.tuples(st.just("update"), KEY, st.none() | ACTOR, SOME),
        st.tuples(st.just("unregister"), KEY, st.none() | ACTOR, SOME),
        st.tuples(st.just("kill"), ACTOR),
        st.just(("settle",)),
        st.just(("crash",)),
    ),
    max_size=60,
)


@given(ORDERS)
def test_histories_of_writers_readers_deaths_and_crashes(orders: list[tuple[Any, ...]]) -> None:
    """Whatever writers, deaths and restarts do, the directory is what a sequential model says, and each snapshot
    whole."""

    async def main() -> None:
        async with Runtime(watchdog=None, reports=False, seed=1) as runtime:
            directory = Watched(runtime.name("registry"))
            runtime.shared[(Directory, "registry")] = directory
            await runtime.spawn(Supervisor, [ChildSpec("registry", Registry)], max_restarts=1000)
            world = World(runtime, directory)
            world.actors = [await runtime.spawn(Idle) for _ in range(ACTORS)]
            held: list[tuple[Snapshot, Any]] = []
            for order in [*orders, ("settle",)]:
                await world.step(order)
                held.append((directory.root, content(directory.root)))
            for snapshot in directory.history:
                assert_whole(snapshot)
            versions = [snapshot.version for snapshot in directory.history]
            assert versions == sorted(versions), "a later read never shows an earlier snapshot"
            for snapshot, before in held:
                assert content(snapshot) == before, "a snapshot that is held never changes"

    run(main())
