"""Discovery: queries of services about each other, in words that say what they mean.

They are about metadata with these fields, any of which may be missing: ``capabilities``,
``health`` (``healthy``, ``degraded`` or ``unhealthy``), ``node``, and ``resources`` with numbers in it, such as
``memory_available`` and ``memory_usage`` (fractions of 1). Give the registry an index of the fields you ask for:

>>> from foundation.registry import Registry
>>> from supervision import ChildSpec
>>> registry = ChildSpec("registry", Registry, (DISCOVERY_INDEXES,))

and then:

>>> import asyncio
>>> from foundation.registry import Directory
>>> from supervision import Actor, Runtime, Supervisor
>>> class Worker(Actor):
...     pass
>>> async def main() -> list[str]:
...     async with Runtime() as runtime:
...         await runtime.spawn(Supervisor, [registry])
...         directory = Directory.of(runtime)
...         for name, health, used in (("a", "healthy", 0.9), ("b", "healthy", 0.2), ("c", "unhealthy", 0.1)):
...             metadata = {"capabilities": ["solve"], "health": health, "resources": {"memory_usage": used}}
...             await directory.register(name, await runtime.spawn(Worker), metadata)
...         return [entry.key for entry in Discovery(directory).least_loaded("solve", 2)]
>>> asyncio.run(main())
['b', 'a']
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from foundation.options import finite
from foundation.registry.directory import Directory
from foundation.registry.indexes import IndexKind
from foundation.registry.metadata import values_at
from foundation.registry.query import All, Criterion, Field, Query
from foundation.registry.tables import Entry, RegistrySnapshot

#: The indexes with which each of these questions is answered without a scan.
DISCOVERY_INDEXES: Mapping[str, IndexKind] = {
    "capabilities": "hash",
    "health": "hash",
    "node": "hash",
    "resources.memory_available": "ordered",
    "resources.memory_usage": "ordered",
}


class HealthSummary(msgspec.Struct, frozen=True):
    """How many actors there are, and in which state of health.

    Attributes:
        total: how many entries there are.
        by_health: how many of each health.
        by_node: how many on each node.
        healthy: the fraction that is healthy, from 0 to 1; 1 if there is nobody.
    """

    total: int
    by_health: Mapping[str, int]
    by_node: Mapping[str, int]
    healthy: float


class Discovery:
    """Queries for registered actors. Each answer is of the moment when it is asked, and only of actors that live.

    Args:
        source: a directory, or a snapshot if several questions are to be about the same moment.
        capabilities: the path of the field with what an actor can do.
        health: the path of the field with how it is.
        node: the path of the field with where it is.
        resources: the path of the field with what it has and uses.
    """

    def __init__(
        self,
        source: Directory | RegistrySnapshot,
        *,
        capabilities: str = "capabilities",
        health: str = "health",
        node: str = "node",
        resources: str = "resources",
    ) -> None:
        self._source = source
        self._capabilities = capabilities
        self._health = health
        self._node = node
        self._resources = resources

    @property
    def _root(self) -> RegistrySnapshot:
        return self._source.root if isinstance(self._source, Directory) else self._source

    def _able(self, *capabilities: str) -> Query:
        able = (Criterion(self._capabilities, "eq", capability) for capability in capabilities)
        return All([*able, Criterion(self._health, "eq", "healthy")])

    def capable(self, *capabilities: str) -> list[Entry]:
        """Return those who have all these capabilities and are healthy, first registered first."""
        return self._root.select(self._able(*capabilities))

    def with_resources(self, least: Mapping[str, float], *capabilities: str) -> list[Entry]:
        """Return those who have at least so much of each resource, the capabilities, and health.

        Args:
            least: by the name of the resource, such as ``{"memory_available": 0.5}``.
            capabilities: all of which are needed.
        """
        enough = [Field(f"{self._resources}.{name}") >= amount for name, amount in least.items()]
        return self._root.select([self._able(*capabilities), *enough])

    def within(self, ranges: Mapping[str, tuple[float, float]]) -> list[Entry]:
        """Return the healthy ones, each of whose named resources is inside its range, both ends included.

        Args:
            ranges: by the name of the resource, such as ``{"memory_usage": (0.2, 0.5)}``.
        """
        bounds: list[Query] = []
        for name, (low, high) in ranges.items():
            path = Field(f"{self._resources}.{name}")
            bounds += [path >= low, path <= high]
        return self._root.select([self._able(), *bounds])

    def least_loaded(self, capability: str, count: int = 5, loads: Iterable[str] = ("memory_usage",)) -> list[Entry]:
        """Return those with a capability and health who have least to do, the least loaded first.

        Args:
            capability: that is needed.
            count: at most so many.
            loads: the resources whose sum is the load. What does not say, or not as a number, counts as 1: as full.
        """
        paths = [(*self._resources.split("."), name) for name in loads]

        def load(entry: Entry) -> float:
            return sum(next(_numbers(entry, path), 1.0) for path in paths)

        return sorted(self.capable(capability), key=load)[:count]

    def on(self, node: str) -> list[Entry]:
        """Return those on a node, whatever their health."""
        return self._root.select(Criterion(self._node, "eq", node))

    def count_by_capability(self) -> dict[Any, int]:
        """Return how many have each capability; who has several counts for each."""
        return self._root.counts(self._capabilities)

    def health(self) -> HealthSummary:
        """Return how many actors are in which state of health."""
        root = self._root
        by_health = root.counts(self._health)
        total = root.count()
        healthy = by_health.get("healthy", 0) / total if total else 1.0
        return HealthSummary(total, by_health, root.counts(self._node), healthy)

    def utilisation(self, *resources: str) -> dict[str, float]:
        """Return the mean of each resource over the healthy ones that say it; 0 if nobody does."""
        healthy = self.capable()
        means = {}
        for name in resources:
            path = (*self._resources.split("."), name)
            values = [value for entry in healthy for value in _numbers(entry, path)]
            means[name] = sum(values) / len(values) if values else 0.0
        return means


def _numbers(entry: Entry, path: tuple[str, ...]) -> Iterator[float]:
    """Return the numbers at a path: whatever else is there is somebody's mistake, and no reason to fail others."""
    numbers = (finite(value) for value in values_at(entry.metadata, path))
    return (number for number in numbers if number is not None)
