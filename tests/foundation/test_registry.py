"""The registry: entries, metadata, indexes, deaths and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest

from foundation.registry import (
    BadMetadata,
    Directory,
    KeyNotFound,
    KeyTaken,
    Metadata,
    NotIndexed,
    Register,
    Registry,
    RegistryError,
    RegistrySnapshot,
)
from foundation.registry.tables import Tables
from supervision import (
    Actor,
    ActorExited,
    AlreadyRegistered,
    ChildSpec,
    NoProcess,
    Ref,
    Runtime,
    StartError,
    Supervisor,
)
from supervision._core.phases import WAKE
from supervision.errors import BadName, BadOption
from supervision.testing import barrier, settled


class Idle(Actor):
    """Does nothing."""


class Self(Actor):
    """Registers itself when it starts, and so is registered after each restart."""

    async def init(self) -> None:
        """Register."""
        await Directory.of(self.runtime).register("me", self.ref, {"capabilities": ["be"]})


class Place(msgspec.Struct, frozen=True):
    """Nested metadata."""

    city: str
    tags: tuple[str, ...] = ()


class Profile(msgspec.Struct, frozen=True, rename="camel"):
    """Typed metadata."""

    capabilities: frozenset[str] = frozenset()
    home_place: Place | None = None
    notes: list[str] = []
    load: float = 0.0


class Loose(msgspec.Struct):
    """A struct that can be changed."""

    capabilities: frozenset[str] = frozenset()


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime with a supervised registry."""
    async with Runtime(watchdog=None, reports=False, seed=1) as made:
        registry = ChildSpec("registry", Registry, (("capabilities", "home_place.city", "load"),))
        await made.spawn(Supervisor, [registry], name="top", max_restarts=100)
        yield made


@pytest.fixture
def directory(runtime: Runtime) -> Directory:
    """Its directory."""
    return Directory.of(runtime)


@pytest.fixture
async def idle(runtime: Runtime) -> Ref:
    """An actor."""
    return await runtime.spawn(Idle)


def registry(runtime: Runtime) -> Ref:
    """Return the registry's actor."""
    ref = runtime.whereis("registry")
    assert ref is not None
    return ref


def keep_busy(runtime: Runtime) -> None:
    """Let the registry have something to do, so that the next write waits."""
    registry(runtime).cast(WAKE)


async def crash(runtime: Runtime) -> None:
    """Kill the registry's actor, and wait until there is another one."""
    old = registry(runtime)
    old.kill()
    await settled(runtime)
    assert registry(runtime) is not old


# -- writes and reads ------------------------------------------------------------------------------------


async def test_an_awaited_write_can_be_read(directory: Directory, idle: Ref) -> None:
    """Read your writes: when a write returns, every later read shows it, and so does every table."""
    entry = await directory.register("a", idle, {"capabilities": ("read", "write")})
    assert entry == directory.lookup("a") == directory.root.lookup("a")
    assert directory.find("capabilities", "read") == directory.find("capabilities", "write") == [entry]
    assert directory.of_ref(idle) == directory.root.all() == [entry]
    assert len(directory.root) == 1
    changed = await directory.update("a", {"capabilities": ("run",)})
    assert directory.find("capabilities", "read") == []
    assert directory.find("capabilities", "run") == [changed]
    assert changed.order == entry.order
    assert await directory.unregister("a") is True
    assert directory.root.all() == directory.find("capabilities", "run") == directory.of_ref(idle) == []
    assert directory.lookup("a") is None


async def test_writes_take_effect_in_the_order_of_sending(directory: Directory, idle: Ref) -> None:
    """Writes that are sent without waiting are done one after the other, in that order."""
    calls: list[Any] = [
        directory.register("a", idle),
        directory.unregister("a"),
        directory.register("a", idle, {"n": 2}),
        directory.update("a", {"m": 3}),
    ]
    await asyncio.gather(*calls)
    entry = directory.lookup("a")
    assert entry is not None
    assert entry.metadata == {"n": 2, "m": 3}


async def test_readers_do_not_use_the_mailbox(runtime: Runtime, directory: Directory, idle: Ref) -> None:
    """While a write waits in the mailbox, reads answer from the last snapshot, and the mailbox does not grow."""
    await directory.register("a", idle)
    keep_busy(runtime)
    writing = directory.register("b", idle)
    assert directory.lookup("a") is not None
    assert directory.lookup("b") is None
    assert registry(runtime).mailbox_statistics().length == 1
    await writing
    assert directory.lookup("b") is not None


async def test_a_key_belongs_to_one_living_actor(runtime: Runtime, directory: Directory, idle: Ref) -> None:
    """A taken key is refused, with the holder in the error, also to the holder, and nothing grows by trying."""
    await directory.register("a", idle, {"capabilities": ("read",)})
    other = await runtime.spawn(Idle)
    before = directory.root
    for ref in (other, idle):
        for _ in range(100):
            with pytest.raises(KeyTaken, match="'a' is taken by") as error:
                await directory.register("a", ref)
            assert (error.value.key, error.value.ref) == ("a", idle)
    assert directory.root is before
    info = runtime.info(idle)
    assert info is not None
    assert info.monitors == 1


async def test_answers_come_in_the_order_of_registration(runtime: Runtime, directory: Directory) -> None:
    """Answers of many entries are ordered by registration, whatever the hashes of the keys say."""
    keys = [f"key {n}" for n in range(100)]
    refs = [await runtime.spawn(Idle) for _ in keys]
    await asyncio.gather(*(directory.register(k, r, {"capabilities": ("x",)}) for k, r in zip(keys, refs, strict=True)))
    assert [entry.key for entry in directory.find("capabilities", "x")] == keys
    assert [entry.key for entry in directory.root.all()] == keys


async def test_only_the_entry_that_was_meant_is_changed(runtime: Runtime, directory: Directory, idle: Ref) -> None:
    """A write that names the actor leaves the entry of another one with the same key alone."""
    other = await runtime.spawn(Idle)
    await directory.register("a", idle)
    with pytest.raises(KeyNotFound, match="is not registered as 'a'"):
        await directory.update("a", {"n": 1}, other)
    assert await directory.unregister("a", other) is False
    await directory.update("a", {"n": 1}, idle)
    assert await directory.unregister("a", idle) is True
    assert await directory.unregister("a", idle) is False
    with pytest.raises(KeyNotFound, match="nobody is registered as 'a'"):
        await directory.update("a", {"n": 1})


async def test_two_updates_do_not_undo_each_other(directory: Directory, idle: Ref) -> None:
    """Updates of different fields by different writers at the same time are both there afterwards."""
    await directory.register("a", idle, Profile())
    await asyncio.gather(directory.update("a", {"load": 0.5}), directory.update("a", {"notes": ["busy"]}))
    entry = directory.lookup("a")
    assert entry is not None
    assert entry.metadata == Profile(load=0.5, notes=("busy",))  # type: ignore[arg-type]


# -- metadata --------------------------------------------------------------------------------------------


async def test_metadata_is_frozen_when_it_comes_in(directory: Directory, idle: Ref) -> None:
    """What the owner does to the metadata it gave changes nothing that readers see, at any depth."""
    inner: dict[str, Any] = {"list": [1, 2], "set": {3}}
    given: dict[str, Any] = {"inner": inner, "capabilities": ["read"]}
    await directory.register("a", idle, given)
    inner["list"].append(3)
    inner["new"] = 1
    given["capabilities"].append("write")
    entry = directory.lookup("a")
    assert entry is not None
    assert entry.metadata == {"inner": {"list": (1, 2), "set": frozenset({3})}, "capabilities": ("read",)}
    with pytest.raises(TypeError):
        entry.metadata["new"] = 1
    assert directory.find("capabilities", "write") == []


async def test_structs_are_frozen_at_any_depth(directory: Directory, idle: Ref) -> None:
    """A list in a typed struct is kept as a tuple; a struct with nothing to freeze is equal to what was given."""
    notes = ["one"]
    await directory.register("a", idle, Profile(notes=notes, home_place=Place("Riga", ("x",))))
    notes.append("two")
    entry = directory.lookup("a")
    assert entry is not None
    assert entry.metadata.notes == ("one",)
    assert entry.metadata.home_place == Place("Riga", ("x",))
    assert directory.find("home_place.city", "Riga") == [entry]


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (Loose(), "frozen=True"),
        ({"inner": Loose()}, "metadata.inner = .*frozen=True"),
        ("text", "give a frozen"),
        (None, "give a frozen"),
        ({1: "one"}, "strings"),
        (Profile(load="heavy"), "Expected `float`"),  # type: ignore[arg-type]
        ({"load": {"a": 1}}, "hashable"),
        ({"capabilities": [{"a": 1}]}, "hashable"),
    ],
)
async def test_metadata_that_cannot_be_kept_is_refused(
    directory: Directory, idle: Ref, metadata: Any, says: str
) -> None:
    """Metadata of a wrong kind, not frozen, not as declared or not indexable is refused, and nothing is registered."""
    before = directory.root
    with pytest.raises(BadMetadata, match=says) as error:
        await directory.register("a", idle, metadata)
    assert error.value.remedy
    assert directory.root is before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"colour": "red"}, "has no such field"),
        ({"load": "heavy"}, "Expected `float`"),
        ({"notes": [1]}, "Expected `str`"),
    ],
)
async def test_updates_of_a_struct_are_checked(
    directory: Directory, idle: Ref, changes: Mapping[str, Any], says: str
) -> None:
    """An update that does not fit the declared fields is refused, and the entry stays as it was."""
    await directory.register("a", idle, Profile())
    before = directory.root
    with pytest.raises(BadMetadata, match=says):
        await directory.update("a", changes)
    assert directory.root is before


# -- bad input -------------------------------------------------------------------------------------------


async def test_bad_arguments_are_named(runtime: Runtime, directory: Directory, idle: Ref) -> None:
    """A key that cannot be a key, a ref that is none or from elsewhere, and an unknown index are typed errors."""
    for write in (directory.register([], idle), directory.update([], {}), directory.unregister([])):  # type: ignore[arg-type]
        with pytest.raises(BadOption, match="dictionary key"):
            await write  # type: ignore[misc]
    with pytest.raises(BadOption, match="give the Ref"):
        await directory.address.call(Register("a", "nobody", {}))  # type: ignore[arg-type]
    async with Runtime(watchdog=None, reports=False) as elsewhere:
        with pytest.raises(BadOption, match="of this runtime"):
            await directory.register("a", await elsewhere.spawn(Idle))
    with pytest.raises(NotIndexed, match=r"'colour' is not indexed; indexed are: capabilities, home_place.city, load"):
        directory.find("colour", "red")
    with pytest.raises(NotIndexed, match="no fields"):
        RegistrySnapshot(Tables()).find("colour", "red")
    assert registry(runtime).alive
    assert issubclass(NotIndexed, RegistryError)


@pytest.mark.parametrize("path", ["", "a.", ".", 3])
async def test_an_index_is_the_path_of_a_field(path: Any) -> None:
    """A registry whose index is no path does not start, and says which."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        with pytest.raises(BadOption, match="give the path of a field"):
            await runtime.spawn(Registry, (path,))


async def test_one_path_may_be_given_as_text(runtime: Runtime, idle: Ref) -> None:
    """A single index is not taken for a list of letters, and an index given twice counts once."""
    await runtime.spawn(Registry, "role", name="people")
    people = Directory.of(runtime, "people")
    assert list(people.root.tables.indexes) == ["role"]
    await people.register(1, idle, {"role": "cook"})
    assert [entry.key for entry in people.find("role", "cook")] == [1]


async def test_registries_have_names(runtime: Runtime, directory: Directory, idle: Ref) -> None:
    """Registries with different names are apart, one directory for each; a second one without a name does not start."""
    await runtime.spawn(Registry, name="other")
    other = Directory.of(runtime, "other")
    assert other is Directory.of(runtime, "other")
    assert other is not directory
    await other.register("a", idle)
    assert directory.lookup("a") is None
    with pytest.raises(StartError) as error:
        await runtime.spawn(Registry)
    assert isinstance(error.value.__cause__, AlreadyRegistered)
    with pytest.raises(BadName):
        Directory.of(runtime, "")


# -- deaths ----------------------------------------------------------------------------------------------


async def test_the_dead_are_removed(runtime: Runtime, directory: Directory, idle: Ref) -> None:
    """All entries of an actor go when it ends, from all tables; those of others stay."""
    other = await runtime.spawn(Idle)
    await directory.register("a", idle, {"capabilities": ("x",)})
    await directory.register("b", idle, {"capabilities": ("x", "y")})
    await directory.register("c", other, {"capabilities": ("x",)})
    await idle.stop()
    await barrier(registry(runtime))
    assert {entry.key for entry in directory.root.entries()} == {"c"}
    assert set(directory.root.tables.by_ref) == {other}
    assert list(directory.root.counts("capabilities")) == ["x"]
    assert directory.find("capabilities", "y") == []


async def test_no_answer_contains_the_dead(runtime: Runtime, directory: Directory, idle: Ref) -> None:
    """From the moment of its death an actor is in no answer, also before the registry has heard of it, and in a held
    snapshot, whose tables do not change."""
    await directory.register("a", idle, {"capabilities": ("x",)})
    held = directory.root
    idle.kill()
    assert directory.root is held
    assert len(held) == 1
    assert held.lookup("a") is directory.lookup("a") is None
    assert held.find("capabilities", "x") == held.of_ref(idle) == held.all() == []
    assert {entry.key for entry in held.entries()} == {"a"}


async def test_held_snapshots_stay_as_they_were_past_one_that_is_empty(
    runtime: Runtime, directory: Directory, idle: Ref
) -> None:
    """The copies of a held snapshot without entries count, as those of any other."""
    snapshots = [directory.root]
    for key in ("a", "b"):
        await directory.register(key, idle)
        snapshots.append(directory.root)
        await directory.unregister(key)
        snapshots.append(directory.root)
    assert [[entry.key for entry in snapshot.all()] for snapshot in snapshots] == [[], ["a"], [], ["b"], []]
    await directory.register("c", idle)
    assert [[entry.key for entry in snapshot.all()] for snapshot in snapshots] == [[], ["a"], [], ["b"], []]


async def test_s257_the_place_of_the_dead_is_free_at_once(runtime: Runtime, directory: Directory, idle: Ref) -> None:
    """Another actor can have the key before the registry has heard of the holder's death, and keeps it afterwards."""
    other = await runtime.spawn(Idle)
    await directory.register("a", idle, {"capabilities": ("x",)})
    keep_busy(runtime)
    registering = directory.register("a", other, {"capabilities": ("y",)})
    idle.kill()
    await registering
    await settled(runtime)
    assert [entry.ref for entry in directory.root.all()] == [other]
    assert directory.find("capabilities", "x") == []
    assert list(directory.root.tables.by_ref) == [other]


async def test_a_dead_actor_is_not_registered(runtime: Runtime, directory: Directory, idle: Ref) -> None:
    """Who has ended cannot be registered, also if it ended while the request was on its way."""
    keep_busy(runtime)
    registering = directory.register("a", idle)
    idle.kill()
    for call in (registering, directory.register("a", idle)):
        with pytest.raises(NoProcess, match="it has ended: killed"):
            await call
    assert len(directory.root) == 0


async def test_who_is_unregistered_is_not_watched(runtime: Runtime, directory: Directory, idle: Ref) -> None:
    """With its last key an actor's monitor goes, and its death then is of no interest."""
    await directory.register("a", idle)
    await directory.register("b", idle)
    await directory.unregister("a")
    info = runtime.info(idle)
    assert info is not None
    assert info.monitors == 1
    unregistering = directory.unregister("b")
    await unregistering
    info = runtime.info(idle)
    assert info is not None
    assert info.monitors == 0
    version = directory.root.version
    idle.kill()
    await settled(runtime)
    assert directory.root.version == version


async def test_s274_a_supervised_actor_finds_its_key_free(runtime: Runtime, directory: Directory) -> None:
    """An actor that registers itself when it starts can be killed a hundred times: its key is free each time."""
    await runtime.spawn(Supervisor, [ChildSpec("self", Self)], max_restarts=1000)
    for _ in range(100):
        entry = directory.lookup("me")
        assert entry is not None
        entry.ref.kill()
        await settled(runtime)
    assert len(directory.find("capabilities", "be")) == 1


# -- restarts of the registry ----------------------------------------------------------------------------


async def test_a_crash_loses_nothing(runtime: Runtime, directory: Directory, idle: Ref) -> None:
    """After a restart of the registry every acknowledged entry is there, and readers have not noticed."""
    entry = await directory.register("a", idle, {"capabilities": ("x",)})
    old = registry(runtime)
    old.kill()
    assert directory.lookup("a") == entry
    await settled(runtime)
    assert Directory.of(runtime) is directory
    assert directory.find("capabilities", "x") == [entry]
    idle.kill()
    await settled(runtime)
    assert len(directory.root) == 0


async def test_deaths_during_the_restart_are_noticed(runtime: Runtime, directory: Directory, idle: Ref) -> None:
    """Who ends while there is no registry is removed by the next one."""
    other = await runtime.spawn(Idle)
    await directory.register("a", idle, {"capabilities": ("x",)})
    await directory.register("b", other, {"capabilities": ("x",)})
    registry(runtime).kill()
    idle.kill()
    await settled(runtime)
    assert {entry.key for entry in directory.root.entries()} == {"b"}
    assert list(directory.root.tables.by_ref) == [other]


async def test_versions_go_on_after_a_restart(runtime: Runtime, directory: Directory, idle: Ref) -> None:
    """Monotonic reads: the version grows over restarts, and new entries come after old ones."""
    seen = []
    for n in range(3):
        await directory.register(n, idle)
        seen.append(directory.root.version)
        await crash(runtime)
        seen.append(directory.root.version)
    assert seen == sorted(seen)
    assert len(set(seen)) == 3
    assert [entry.key for entry in directory.root.all()] == [0, 1, 2]


async def test_a_write_meets_no_registry(runtime: Runtime, directory: Directory, idle: Ref) -> None:
    """A write that was waiting when the registry was killed fails with ActorExited, one sent later with NoProcess;
    neither
    has happened."""
    keep_busy(runtime)
    waiting = directory.register("a", idle)
    registry(runtime).kill()
    late = directory.register("b", idle)
    with pytest.raises(ActorExited):
        await waiting
    with pytest.raises(NoProcess):
        await late
    await settled(runtime)
    assert len(directory.root) == 0
    await directory.register("a", idle)


async def test_a_registry_may_come_back_with_other_indexes(runtime: Runtime, directory: Directory, idle: Ref) -> None:
    """A registry that is started again with other indexes makes them of what is there."""
    first = await runtime.spawn(Registry, ("role",), name="people")
    people = Directory.of(runtime, "people")
    await people.register(1, idle, {"role": "cook", "town": "Riga"})
    await first.stop()
    await runtime.spawn(Registry, ("town",), name="people")
    assert [entry.key for entry in people.find("town", "Riga")] == [1]
    with pytest.raises(NotIndexed):
        people.find("role", "cook")


async def test_a_write_that_crashes_the_registry_is_not_half_done(
    runtime: Runtime, directory: Directory, idle: Ref, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails in the middle, here by a defect in an index, publishes nothing, and the registry heals."""
    await directory.register(1, idle, {"capabilities": ("x",)})
    before = directory.root.all()

    class Defect(BaseException):
        """What no code expects."""

    def change(self: Any, *args: Any) -> None:
        monkeypatch.undo()
        raise defects.pop()

    defects: list[type[BaseException]] = [Defect, RuntimeError]
    while defects:
        monkeypatch.setattr("foundation.registry.indexes.HashIndex.change", change)
        with pytest.raises(ActorExited):
            await directory.register(2, idle, {"capabilities": ("x",)})
        await settled(runtime)
        assert directory.root.all() == before
    assert directory.root.all() == before
    await directory.register(2, idle)


def test_the_types_say_what_metadata_is() -> None:
    """`Metadata` is a struct or a mapping."""
    metadata: list[Metadata] = [Profile(), {"a": 1}]
    assert len(metadata) == 2
