"""Caches: bounded, with a time to live, and one load for all who ask for a key at the same time.

>>> import asyncio
>>> from supervision import Runtime
>>> async def main() -> tuple[list[str], int]:
...     loads = []
...
...     async def load() -> str:
...         loads.append(1)
...         return "value"
...
...     async with Runtime() as runtime:
...         cache: Cache[str, str] = Cache(runtime, "pages", size=100, ttl=60.0)
...         values = await asyncio.gather(*(cache.get("key", load) for _ in range(3)))
...         return values, len(loads)
>>> asyncio.run(main())
(['value', 'value', 'value'], 1)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterator
from math import inf
from typing import Generic, TypeVar

import msgspec
from cachetools import TTLCache

from foundation.readings import Reading
from supervision import Runtime
from supervision.errors import BadOption

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_ABSENT = object()


class CacheStatistics(msgspec.Struct, frozen=True):
    """How a cache does.

    Attributes:
        hits: how often a value was there, or was being loaded for somebody else.
        misses: how often it was not.
        failures: how many loads failed.
        size: how many values there are.
    """

    hits: int
    misses: int
    failures: int
    size: int

    @property
    def hit_rate(self) -> float:
        """The fraction of hits, from 0 to 1; 0 if nobody has asked."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else 0.0


class Cache(Generic[K, V]):
    """A cache. What was not used for longest goes first when it is full (cachetools).

    It may be used by the code of the loop. Its numbers are in the metrics, under its name.

    Args:
        runtime: whose clock counts.
        name: how it is called in the metrics; another one of the same name takes its place there.
        size: how many values at most.
        ttl: seconds for which a value is good; None for any time.

    Raises:
        BadOption: a number makes no sense.
    """

    def __init__(self, runtime: Runtime, name: str, *, size: int = 1000, ttl: float | None = None) -> None:
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise BadOption("Cache: size", size, "give a whole number from 1")
        if ttl is not None and not ttl > 0:
            raise BadOption("Cache: ttl", ttl, "give a number of seconds above 0, or None")
        self.name = name
        self._values: TTLCache[K, V] = TTLCache(size, inf if ttl is None else ttl, runtime.clock.time)
        self._loads: dict[K, _Load[V]] = {}
        self._hits = 0
        self._misses = 0
        self._failures = 0
        runtime.shared[Cache, name] = self

    async def get(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        """Return the value of a key, and load it if it is not there.

        All who ask while it is being loaded wait for the same load. It goes on while anybody waits, and is cancelled if
        nobody does any more. What it raises, all of them get, and nothing is kept.

        Args:
            key: of the value.
            load: loads it.
        """
        value: object = self._values.get(key, _ABSENT)
        if value is not _ABSENT:
            self._hits += 1
            return value  # type: ignore[return-value]
        loading = self._loads.get(key)
        if loading is None or loading.abandoned:
            self._misses += 1
            loading = self._loads[key] = _Load()
            loading.begin(self._load(key, load, loading))
        else:
            self._hits += 1
        return await loading.wait()

    async def _load(self, key: K, load: Callable[[], Awaitable[V]], mine: _Load[V]) -> V:
        try:
            value = await load()
        except Exception:
            self._failures += 1
            raise
        else:
            if self._loads.get(key) is mine:  # it was not invalidated meanwhile
                self._values[key] = value
            return value
        finally:
            if self._loads.get(key) is mine:
                del self._loads[key]

    def peek(self, key: K) -> V | None:
        """Return the value of a key if it is there, and load nothing."""
        return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep a value."""
        self._loads.pop(key, None)
        self._values[key] = value

    def invalidate(self, key: K) -> None:
        """Forget the value of a key. A load that is under way is answered, but not kept."""
        self._loads.pop(key, None)
        self._values.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._loads.clear()
        self._values.clear()

    def statistics(self) -> CacheStatistics:
        """Return how it does."""
        return CacheStatistics(self._hits, self._misses, self._failures, len(self._values))

    def readings(self) -> Iterator[Reading]:
        """Return its numbers, for the metrics."""
        numbers = self.statistics()
        name = ("cache", self.name)
        for result, value in (("hit", numbers.hits), ("miss", numbers.misses)):
            yield Reading("cache_requests", "Values asked of caches.", "counter", (name, ("result", result)), value)
        yield Reading("cache_failures", "Loads of caches that failed.", "counter", (name,), numbers.failures)
        yield Reading("cache_entries", "Values in caches.", "gauge", (name,), numbers.size)


class _Load(Generic[V]):
    """A load, and how many wait for it."""

    _task: asyncio.Future[V]

    def __init__(self) -> None:
        self._waiting = 0
        self.abandoned = False

    def begin(self, load: Awaitable[V]) -> None:
        self._task = asyncio.ensure_future(load)

    async def wait(self) -> V:
        self._waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiting -= 1
            if not self._waiting:
                self.abandoned = self._task.cancel()
