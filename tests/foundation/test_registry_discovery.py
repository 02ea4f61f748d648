"""Discovery, and registries in parts."""

from __future__ import annotations

from typing import Any

import pytest

from foundation.registry import (
    DISCOVERY_INDEXES,
    Directory,
    Discovery,
    PartitionedDirectory,
    PartitionedRegistry,
    Registry,
)
from supervision import Actor, Ref, Runtime
from supervision.errors import BadOption
from supervision.testing import settled


class Idle(Actor):
    """Does nothing."""


AGENTS: dict[str, dict[str, Any]] = {
    "a": {"capabilities": ["solve"], "health": "healthy", "node": "n1", "resources": {"memory_usage": 0.5, "cpu": 0.5}},
    "b": {"capabilities": ["solve", "spell"], "health": "healthy", "node": "n2", "resources": {"memory_usage": 0.1}},
    "c": {"capabilities": ["solve"], "health": "unhealthy", "node": "n1", "resources": {"memory_usage": 0.0}},
    "d": {"capabilities": ["spell"], "health": "healthy", "resources": {"memory_usage": 0.9, "memory_available": 0.1}},
    "e": {"capabilities": ["solve"], "health": "healthy", "node": "n1"},
}


@pytest.fixture
async def directory(runtime: Runtime) -> Directory:
    """A directory with some agents."""
    await runtime.spawn(Registry, DISCOVERY_INDEXES)
    directory = Directory.of(runtime)
    for key, metadata in AGENTS.items():
        await directory.register(key, await runtime.spawn(Idle), metadata)
    return directory


def keys(entries: list[Any]) -> str:
    """Return the keys of entries as one word."""
    return "".join(entry.key for entry in entries)


async def test_who_can_do_what_and_is_well(directory: Directory) -> None:
    discovery = Discovery(directory)
    assert keys(discovery.capable("solve")) == "abe"
    assert keys(discovery.capable("solve", "spell")) == "b"
    assert keys(discovery.capable()) == "abde"
    assert keys(discovery.on("n1")) == "ace"


async def test_who_has_the_resources(directory: Directory) -> None:
    discovery = Discovery(directory)
    assert keys(discovery.with_resources({"memory_available": 0.05})) == "d"
    assert keys(discovery.with_resources({"memory_usage": 0.1}, "solve")) == "ab"
    assert keys(discovery.within({"memory_usage": (0.1, 0.5)})) == "ab"
    assert keys(discovery.within({"memory_usage": (0.0, 1.0), "cpu": (0.5, 0.5)})) == "a"


async def test_who_has_least_to_do(directory: Directory) -> None:
    discovery = Discovery(directory)
    assert keys(discovery.least_loaded("solve")) == "bae"
    assert keys(discovery.least_loaded("solve", 1)) == "b"
    assert keys(discovery.least_loaded("solve", loads=("memory_usage", "cpu"))) == "abe"


async def test_how_all_are(runtime: Runtime, directory: Directory) -> None:
    discovery = Discovery(directory)
    assert discovery.count_by_capability() == {"solve": 4, "spell": 2}
    health = discovery.health()
    assert (health.total, health.healthy) == (5, 0.8)
    assert health.by_health == {"healthy": 4, "unhealthy": 1}
    assert health.by_node == {"n1": 3, "n2": 1}
    assert discovery.utilisation("memory_usage", "disk") == {"memory_usage": 0.5, "disk": 0.0}
    assert Discovery(Directory.of(runtime, "nobody")).health().healthy == 1.0


async def test_several_questions_about_one_moment_and_fields_of_other_names(
    runtime: Runtime, directory: Directory
) -> None:
    held = Discovery(directory.root)
    await directory.update("a", {"health": "degraded"})
    assert keys(held.capable("solve")) == "abe"
    assert keys(Discovery(directory).capable("solve")) == "be"
    other = Discovery(directory, capabilities="node", health="health")
    assert keys(other.capable("n1")) == "e"


async def test_each_question_uses_the_indexes(directory: Directory) -> None:
    assert set(DISCOVERY_INDEXES) == set(directory.root.tables.indexes)


# -- parts -----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def parts(runtime: Runtime) -> PartitionedDirectory:
    """A directory in three parts."""
    await runtime.spawn(PartitionedRegistry, 3, {"load": "ordered"}, max_restarts=100)
    return PartitionedDirectory.of(runtime, 3)


async def test_parts_answer_like_one_registry(runtime: Runtime, parts: PartitionedDirectory) -> None:
    refs: list[Ref] = [await runtime.spawn(Idle) for _ in range(3)]
    for n in range(30):
        await parts.register(f"k{n}", refs[n % 3], {"load": n % 10})
    assert [len(root) for root in parts.roots] == [len(part.root) for part in parts.parts]
    assert all(5 <= len(root) <= 15 for root in parts.roots)
    for n in range(30):
        entry = parts.lookup(f"k{n}")
        assert entry is not None
        assert parts.lookup_all(f"k{n}") == [entry]
    assert parts.lookup("missing") is None
    assert parts.count() == 30
    assert parts.count(("load", 3, "lt")) == 9
    assert len(parts.find("load", 3)) == 3
    assert len(parts.of_ref(refs[0])) == 10
    assert len(parts.select(("load", 3, "lt"))) == 9
    assert len(parts.select(limit=7)) == 7
    loads = [entry.metadata["load"] for entry in parts.select(order_by="load", descending=True, limit=4)]
    assert loads == [9, 9, 9, 8]
    await parts.update("k0", {"load": 99})
    assert [entry.key for entry in parts.find("load", 99)] == ["k0"]
    assert await parts.unregister("k0")
    assert parts.count() == 29


async def test_a_part_that_crashes_is_restarted_alone_and_loses_nothing(
    runtime: Runtime, parts: PartitionedDirectory
) -> None:
    ref = await runtime.spawn(Idle)
    for n in range(30):
        await parts.register(n, ref)
    before = [part.address.resolve() for part in parts.parts]
    before[1].kill()  # type: ignore[union-attr]
    await settled(runtime)
    after = [part.address.resolve() for part in parts.parts]
    assert (after[0], after[2]) == (before[0], before[2])
    assert after[1] is not before[1]
    assert parts.count() == 30


@pytest.mark.parametrize("partitions", [0, True, "3"])
async def test_there_is_at_least_one_part(runtime: Runtime, partitions: Any) -> None:
    with pytest.raises(BadOption, match="partitions"):
        PartitionedDirectory.of(runtime, partitions)
