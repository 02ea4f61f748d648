"""The scenarios of the reference, section 4.16, that concern a registry of unique keys."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from foundation.registry import Directory, KeyNotFound, KeyTaken, Registry
from supervision import Actor, ChildSpec, Ref, Runtime, Supervisor
from supervision.testing import ResourceCounts, settled


class Idle(Actor):
    """Does nothing."""


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime with a registry."""
    async with Runtime(watchdog=None, reports=False) as made:
        await made.spawn(Supervisor, [ChildSpec("registry", Registry)])
        yield made


@pytest.fixture
def directory(runtime: Runtime) -> Directory:
    """What the registry has published."""
    return Directory.of(runtime)


async def idle(runtime: Runtime) -> Ref:
    """Start an actor."""
    return await runtime.spawn(Idle)


async def test_S255_one_who_has_a_key_already_is_told_and_nothing_changes(
    runtime: Runtime, directory: Directory
) -> None:
    ref = await idle(runtime)
    await directory.register("k", ref, {"v": 1})
    with pytest.raises(KeyTaken) as caught:
        await directory.register("k", ref, {"v": 2})
    assert caught.value.ref is ref
    assert [(entry.key, entry.metadata["v"]) for entry in directory.of_ref(ref)] == [("k", 1)]


async def test_S259_when_holders_are_killed_all_tables_are_empty(runtime: Runtime, directory: Directory) -> None:
    for key in ("a", "b"):
        ref = await idle(runtime)
        await directory.register(key, ref, {"capabilities": ("x",)})
        ref.kill()
    await settled(runtime)
    root = directory.root
    assert (len(root.entries()), len(root.tables.by_ref)) == (0, 0)
    assert directory.find("capabilities", "x") == []


async def test_S260_what_one_has_registered_can_be_counted_and_listed(runtime: Runtime, directory: Directory) -> None:
    ref, other = await idle(runtime), await idle(runtime)
    await directory.register("k1", ref, {"v": 1})
    await directory.register("k2", ref, {"v": 2})
    assert len(directory.root.entries()) == 2
    assert [entry.key for entry in directory.of_ref(ref)] == ["k1", "k2"]
    assert directory.of_ref(other) == []


async def test_S262_only_an_entry_that_is_there_and_ones_own_is_updated(runtime: Runtime, directory: Directory) -> None:
    ref, other = await idle(runtime), await idle(runtime)
    await directory.register("k", ref, {"v": 1})
    for key, whose in (("k", other), ("missing", ref)):
        with pytest.raises(KeyNotFound):
            await directory.update(key, {"v": 2}, whose)
    assert (await directory.update("k", {"v": 3}, ref)).metadata["v"] == 3


async def test_S264_unregistering_removes_ones_own_entry_and_twice_is_fine(
    runtime: Runtime, directory: Directory
) -> None:
    ref, other = await idle(runtime), await idle(runtime)
    await directory.register("k", ref)
    await directory.register("k2", ref)
    await directory.register("k4", other)
    assert await directory.unregister("k", ref)
    assert not await directory.unregister("k", ref)
    assert not await directory.unregister("unknown")
    assert not await directory.unregister("k4", ref)
    assert {entry.key for entry in directory.root.entries()} == {"k2", "k4"}


async def test_S270_refused_registrations_leave_nothing_behind(runtime: Runtime, directory: Directory) -> None:
    holder, ref = await idle(runtime), await idle(runtime)
    await directory.register("k", holder)
    before, root = ResourceCounts.of(runtime), directory.root
    for _ in range(100):
        with pytest.raises(KeyTaken):
            await directory.register("k", ref)
    assert before.leaks(ResourceCounts.of(runtime)) == {}
    assert directory.root is root
