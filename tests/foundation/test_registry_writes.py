"""Writes of many kinds: batches, duplicate keys, limits, listeners, meta, types, and what is published together."""

from __future__ import annotations

import weakref
from typing import Any

import msgspec
import pytest

from foundation.registry import (
    BadMetadata,
    BatchFailed,
    Directory,
    Entry,
    EntryRegistered,
    EntryUnregistered,
    EntryUpdated,
    KeyNotFound,
    KeyTaken,
    Register,
    Registry,
    RegistryFull,
    Unregister,
    Update,
)
from foundation.registry.indexes import HashIndex
from foundation.registry.messages import Decided, Prepare
from foundation.registry.tables import ENTRY_OVERHEAD
from supervision import Actor, ChildSpec, NoProcess, Ref, Runtime, StartError, Supervisor, handle
from supervision._core.phases import WAKE
from supervision.errors import BadOption
from supervision.testing import barrier, settled
from tests.supervision.probes import error_of


class Idle(Actor):
    """Does nothing."""


class Listener(Actor):
    """Notes what it is told."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    @handle
    def registered(self, message: EntryRegistered) -> None:
        """Note it."""
        self.log.append(("registered", message.registry, message.entry.key))

    @handle
    def updated(self, message: EntryUpdated) -> None:
        """Note it."""
        self.log.append(("updated", message.before.metadata, message.entry.metadata))

    @handle
    def unregistered(self, message: EntryUnregistered) -> None:
        """Note it."""
        self.log.append(("unregistered", message.entry.key, message.entry.ref.alive))


class Card(msgspec.Struct, frozen=True):
    """What is known of a worker."""

    skill: str
    level: int = 0


async def started(runtime: Runtime, *args: Any, **options: Any) -> Directory:
    """Return the directory of a supervised registry."""
    await runtime.spawn(Supervisor, [ChildSpec("registry", Registry, args, options)], max_restarts=100)
    return Directory.of(runtime)


@pytest.fixture
async def ref(runtime: Runtime) -> Ref:
    """An actor."""
    return await runtime.spawn(Idle)


# -- batches -------------------------------------------------------------------------------------------------------


async def test_a_batch_is_seen_as_a_whole_and_answers_each_write(runtime: Runtime, ref: Ref) -> None:
    directory = await started(runtime)
    before = directory.root
    writes: list[Any] = [Register("a", ref, {"n": 1}), Update("a", {"n": 2}), Register("b", ref, {}), Unregister("b")]
    entered, changed, _, gone = await directory.batch(writes)
    assert (entered.metadata, changed.metadata, gone) == ({"n": 1}, {"n": 2}, True)
    assert directory.root.version == before.version + 4
    assert [entry.key for entry in directory.root.all()] == ["a"]
    assert await directory.batch([]) == []


async def test_a_batch_of_which_something_cannot_be_done_does_nothing(runtime: Runtime, ref: Ref) -> None:
    log: list[Any] = []
    listener = await runtime.spawn(Listener, log)
    directory = await started(runtime, listeners=[listener])
    await directory.register("taken", ref, {"capabilities": ["x"]})
    other = await runtime.spawn(Idle)
    before = directory.root
    writes: list[Any] = [
        Unregister("taken"),
        Register("taken", other, {"capabilities": ["y"]}),
        Register("new", other, {}),
        Update("taken", {"capabilities": ["z"]}),
        Register("new", ref, {}),
    ]
    error = await error_of(directory.batch(writes))
    assert isinstance(error, BatchFailed)
    assert isinstance(error.errors[4], KeyTaken)
    assert str(error) == f"nothing was changed: item 4: key 'new' is taken by {other}"
    assert directory.root.version == before.version
    entry = directory.lookup("taken")
    assert entry is not None
    assert entry.ref is ref
    assert [found.key for found in directory.find("capabilities", "x")] == ["taken"]
    assert directory.find("capabilities", "y") == directory.of_ref(other) == []
    await directory.register("after", ref)
    await barrier(listener)
    assert [what[-1] for what in log] == ["taken", "after"]
    other.kill()
    await settled(runtime)
    assert directory.count() == 2


async def test_a_partial_batch_does_what_it_can(runtime: Runtime, ref: Ref) -> None:
    directory = await started(runtime)
    dead = await runtime.spawn(Idle)
    dead.kill()
    writes: list[Any] = [
        Register("a", ref, {}),
        Register("b", dead, {}),
        Register([], ref, {}),
        "nonsense",
        Update("c", {}),
    ]
    first, *errors = await directory.batch(writes, partial=True)
    assert isinstance(first, Entry)
    assert [type(error) for error in errors] == [NoProcess, BadOption, BadOption, KeyNotFound]
    assert [entry.key for entry in directory.root.all()] == ["a"]


def test_a_failed_batch_says_how_much_failed() -> None:
    assert str(BatchFailed({2: ValueError("x"), 5: ValueError("y")})) == "nothing was changed: item 2: x, and 1 more"


# -- what is published together ------------------------------------------------------------------------------------


async def test_writes_that_wait_together_are_published_together(runtime: Runtime, ref: Ref) -> None:
    directory = await started(runtime)
    roots: list[Any] = []

    class Watched(Directory):
        @property
        def root(self) -> Any:
            return roots[-1]

        @root.setter
        def root(self, root: Any) -> None:
            roots.append(root)

    watched = Watched(directory.address)
    roots[:] = [directory.root]
    runtime.shared[(Directory, "registry")] = watched
    runtime.whereis("registry").kill()  # type: ignore[union-attr]
    await settled(runtime)
    del roots[:-1]
    calls = [watched.register(n, ref) for n in range(10)]
    watched.address.cast(Register("cast", ref, {}))
    answers = [await call for call in calls]
    assert [answer.key for answer in answers] == list(range(10))
    assert [len(root) for root in roots] == [0, 11]
    ref.kill()
    calls = [watched.register(n, await runtime.spawn(Idle)) for n in range(2)]
    assert [(await call).key for call in calls] == [0, 1]
    await settled(runtime)
    assert watched.count() == 2


async def test_a_batch_that_fails_does_not_undo_what_waits_to_be_published_with_it(runtime: Runtime, ref: Ref) -> None:
    directory = await started(runtime)
    await directory.register("a", ref, {"n": 1})
    directory.address.cast(WAKE)  # something to do, so that all of these wait for one publication
    first = directory.update("a", {"n": 2})
    second = directory.batch([Update("a", {"n": 3}), Unregister("a"), Update("missing", {})])
    third = directory.register("b", ref)
    assert (await first).metadata["n"] == 2
    assert isinstance(await error_of(second), BatchFailed)
    await third
    entry = directory.lookup("a")
    assert entry is not None
    assert entry.metadata["n"] == 2


async def test_a_batch_that_fails_leaves_nothing_of_what_it_made_and_took_back(runtime: Runtime, ref: Ref) -> None:
    directory = await started(runtime)
    root = directory.root
    batch = directory.batch([Register("a", ref, {}), Unregister("a"), Update("missing", {})])
    assert isinstance(await error_of(batch), BatchFailed)
    assert directory.root is root
    assert directory.lookup("a") is None


@pytest.mark.parametrize("undone", ["batch", "transaction"])
async def test_an_entry_whose_removal_was_undone_goes_when_its_actor_ends(
    runtime: Runtime, ref: Ref, undone: str
) -> None:
    directory = await started(runtime)
    await directory.register("a", ref)
    bad: Any = Unregister([], None)  # a key that is none
    writes = [Unregister("a"), bad] if undone == "batch" else [Unregister("a")]
    if undone == "batch":
        assert isinstance(await error_of(directory.batch(writes)), BatchFailed)
    else:
        prepared = await directory.address.call(Prepare(tuple(writes)))
        prepared.undo()
        directory.address.cast(Decided())
    assert directory.lookup("a") is not None
    ref.kill()
    await settled(runtime)
    assert len(directory.root) == 0


async def test_a_held_snapshot_shows_what_was(runtime: Runtime, ref: Ref) -> None:
    directory = await started(runtime)
    await directory.register("a", ref, {"n": 1})
    first = directory.root
    await directory.register("b", ref, {"n": 1})
    second = directory.root
    await directory.update("a", {"n": 2})
    await directory.unregister("b")
    await directory.update("a", {"n": 3})
    for held, a, keys in ((first, 1, "a"), (second, 1, "ab"), (directory.root, 3, "a")):
        entry = held.lookup("a")
        assert entry is not None
        assert entry.metadata["n"] == a
        assert [one.key for one in held.all()] == list(keys)
        assert held.lookup("c") is None


async def test_nothing_is_kept_for_a_snapshot_that_nobody_holds(runtime: Runtime, ref: Ref) -> None:
    directory = await started(runtime)
    held = directory.root
    for n in range(10):
        await directory.register(n, ref)
    assert (held.next, len(held.kept or {})) == (None, 10)
    released = weakref.ref(directory.root)
    await directory.register("x", ref)
    assert released() is None


# -- duplicate keys ------------------------------------------------------------------------------------------------


async def test_a_duplicate_key_has_any_number_of_entries(runtime: Runtime, ref: Ref) -> None:
    directory = await started(runtime, keys="duplicate")
    other = await runtime.spawn(Idle)
    for holder, n in ((ref, 1), (other, 2), (ref, 3)):
        await directory.register("topic", holder, {"n": n})
    assert [entry.metadata["n"] for entry in directory.lookup_all("topic")] == [1, 2, 3]
    first = directory.lookup("topic")
    assert first is not None
    assert first.metadata["n"] == 1
    assert directory.lookup("nothing") is None
    await directory.update("topic", {"n": 7}, ref)
    assert [entry.metadata["n"] for entry in directory.lookup_all("topic")] == [7, 2, 7]
    assert await directory.unregister("topic", ref)
    assert [entry.ref for entry in directory.lookup_all("topic")] == [other]
    other.kill()
    await settled(runtime)
    assert directory.lookup_all("topic") == directory.root.entries() == []


async def test_a_registry_whose_keys_have_several_entries_does_not_become_unique(runtime: Runtime, ref: Ref) -> None:
    first = await runtime.spawn(Registry, keys="duplicate", name="r")
    directory = Directory.of(runtime, "r")
    await directory.register("a", ref)
    await directory.register("a", ref)
    await first.stop()
    with pytest.raises(StartError, match="keys='duplicate'"):
        await runtime.spawn(Registry, name="r")
    await runtime.spawn(Registry, keys="duplicate", name="r")
    await directory.unregister("a")
    await directory.register("a", ref)


# -- limits --------------------------------------------------------------------------------------------------------


async def test_a_full_registry_refuses_with_the_limit_and_the_remedy(runtime: Runtime, ref: Ref) -> None:
    directory = await started(runtime, max_entries=2)
    await directory.register("a", ref)
    await directory.register("b", ref)
    with pytest.raises(RegistryFull, match="max_entries = 2; unregister entries, or raise the limit") as caught:
        await directory.register("c", ref)
    assert (caught.value.limit, caught.value.most) == ("max_entries", 2)
    await directory.unregister("a")
    await directory.register("c", ref)
    await directory.set_limits(max_entries=3)
    await directory.register("d", ref)
    assert directory.count() == 3


async def test_the_place_of_the_dead_counts_as_free(runtime: Runtime, ref: Ref) -> None:
    directory = await started(runtime, max_entries=1, max_bytes=ENTRY_OVERHEAD + 1000)
    dying = await runtime.spawn(Idle)
    await directory.register("a", dying, {"note": "x" * 500})
    dying.kill()
    entry = await directory.register("a", ref, {"note": "y" * 500})
    assert directory.lookup("a") == entry


async def test_memory_is_limited_and_given_back(runtime: Runtime, ref: Ref) -> None:
    directory = await started(runtime, max_bytes=5000)
    metadata = {"note": "x" * 500, "tags": ["a"], "card": Card("x")}
    answers = await directory.batch([Register(n, ref, metadata) for n in range(10)], partial=True)
    assert 2 < directory.count() < 6
    assert isinstance(answers[-1], RegistryFull)
    assert answers[-1].limit == "max_bytes"
    assert 0 < directory.root.size_bytes <= 5000
    for n in range(directory.count()):
        await directory.unregister(n)
    assert directory.root.size_bytes == 0
    await directory.set_limits()
    await directory.register("large", ref, {"note": "x" * 10_000})
    assert directory.root.size_bytes == 0
    await directory.set_limits(max_bytes=100)
    assert directory.root.size_bytes > 10_000


@pytest.mark.parametrize(
    "options",
    [
        {"max_entries": -1},
        {"max_bytes": True},
        {"max_bytes": 1.5},
        {"keys": "many"},
        {"metadata": dict},
        {"indexes": 7},
        {"indexes": {"a": "tree"}},
        {"listeners": [""]},
    ],
)
async def test_options_that_make_no_sense_are_named(runtime: Runtime, options: dict[str, Any]) -> None:
    with pytest.raises(BadOption, match=f"{next(iter(options))}") as caught:
        await runtime.spawn(Registry, **options)
    assert "give" in str(caught.value) or "an index is" in str(caught.value)


async def test_limits_that_make_no_sense_are_refused(runtime: Runtime) -> None:
    directory = await started(runtime)
    with pytest.raises(BadOption, match="max_entries"):
        await directory.set_limits(max_entries=-1)


# -- listeners, meta, types ----------------------------------------------------------------------------------------


async def test_listeners_are_told_of_each_change_in_order(runtime: Runtime) -> None:
    log: list[Any] = []
    await runtime.spawn(Listener, log, name="listener")
    directory = await started(runtime, listeners="listener")
    ref = await runtime.spawn(Idle)
    await directory.register("a", ref, {"n": 1})
    await directory.update("a", {"n": 2})
    await directory.register("b", ref)
    await directory.unregister("b")
    ref.kill()
    await settled(runtime)
    assert log == [
        ("registered", "registry", "a"),
        ("updated", {"n": 1}, {"n": 2}),
        ("registered", "registry", "b"),
        ("unregistered", "b", True),
        ("unregistered", "a", False),
    ]


async def test_meta_is_part_of_every_snapshot_and_survives_a_restart(runtime: Runtime) -> None:
    directory = await started(runtime)
    assert directory.meta("owner") is None
    await directory.put_meta("owner", "us")
    held = directory.root
    await directory.put_meta("owner", "them")
    assert (held.meta["owner"], directory.meta("owner"), directory.meta("x", 7)) == ("us", "them", 7)
    runtime.whereis("registry").kill()  # type: ignore[union-attr]
    await settled(runtime)
    assert directory.meta("owner") == "them"
    with pytest.raises(BadOption, match="dictionary key"):
        await directory.put_meta([], 1)  # type: ignore[arg-type]


async def test_a_registry_may_take_one_type_of_metadata_only(runtime: Runtime, ref: Ref) -> None:
    directory = await started(runtime, ("skill",), metadata=Card)
    await directory.register("a", ref, Card("solve"))
    for other in ({"skill": "solve"}, Other("solve")):
        with pytest.raises(BadMetadata, match="this registry takes Card"):
            await directory.register("b", ref, other)


class Other(msgspec.Struct, frozen=True):
    """Not a card."""

    skill: str


class Limited(msgspec.Struct, frozen=True):
    """The types alone do not say what is right."""

    level: Any
    size: int | None = None


async def test_metadata_of_known_types_is_checked_all_the_same(runtime: Runtime, ref: Ref) -> None:
    directory = await started(runtime)
    for n in range(3):
        entry = await directory.register(("card", n), ref, Card("solve", n))
        assert entry.metadata == Card("solve", n)
    with pytest.raises(BadMetadata, match="Expected `int`"):
        await directory.register("bad", ref, Card("solve", "high"))  # type: ignore[arg-type]
    for n in range(2):
        kept = await directory.register(("any", n), ref, Limited([n]))
        assert kept.metadata == Limited((n,))
    assert (await directory.register("one", ref, Other("x"))).metadata == Other("x")


async def test_a_snapshot_can_be_shown(runtime: Runtime, ref: Ref) -> None:
    directory = await started(runtime)
    await directory.register("a", ref)
    assert repr(directory.root) == "<Snapshot 1 with 1 entries>"


async def test_a_restart_undoes_what_was_not_published(
    runtime: Runtime, ref: Ref, monkeypatch: pytest.MonkeyPatch, expect_crash: Any
) -> None:
    """A write that fails half way leaves nothing: neither in what is read nor in any index."""
    directory = await started(runtime)
    await directory.register("a", ref, {"capabilities": ["x"]})
    held = directory.root

    def broken(*what: Any) -> None:
        raise ZeroDivisionError

    expect_crash(reason="ZeroDivisionError")
    with monkeypatch.context() as patch:
        patch.setattr(HashIndex, "change", broken)
        error = await error_of(directory.register("b", ref, {"capabilities": ["x"]}))
        patch.undo()
        assert "ZeroDivisionError" in str(error)
        await settled(runtime)
    assert directory.root.tables is not held.tables
    assert [entry.key for entry in directory.find("capabilities", "x")] == ["a"]
    assert directory.lookup("b") is held.lookup("b") is None
    assert len(held.all()) == len(directory.of_ref(ref)) == 1
    await directory.register("b", ref, {"capabilities": ["x"]})
