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
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterator
from contextvars import Context
from math import inf
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

import msgspec

from foundation.errors import Category, FoundationError
from foundation.extras import import_extra
from foundation.naming import usable_key
from foundation.options import above_zero, text, whole
from foundation.telemetry.collectors import MetricSample
from supervision import Runtime
from supervision.errors import BadOption
from supervision.messages import describe

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_ABSENT = object()


class LoadCancelled(FoundationError):
    """What loads a value was cancelled from within, and not because nobody waited for it any more."""

    category = Category.TRANSIENT
    retryable = True
    remedy = "see what the load waits for, and who cancels that"

    def __init__(self, name: str, key: object) -> None:
        super().__init__(f"{name}: the load of {describe(key)} was cancelled from within")


class CacheStatistics(msgspec.Struct, frozen=True):
    """The statistics of a cache.

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

    It may be used by the code of the loop. Its numbers are in the metrics, under its name, for as long as anybody has
    it.

    Args:
        runtime: whose clock counts.
        name: how it is called in the metrics; another one of the same name takes its place there.
        size: how many values at most.
        ttl: seconds for which a value is good; None for any time.

    Raises:
        BadOption: a number makes no sense.
        MissingExtra: cachetools is not installed.
    """

    def __init__(self, runtime: Runtime, name: str, *, size: int = 1000, ttl: float | None = None) -> None:
        self.name = text("Cache: name", name)
        most = whole("Cache: size", size)
        good_for = inf if ttl is None else above_zero("Cache: ttl", ttl)
        cachetools: Any = import_extra("cachetools", of="foundation.cache.Cache", extra="cache")
        self._values: Any = cachetools.TTLCache(most, good_for, runtime.clock.time)
        self._runtime = runtime
        self._loads: dict[K, _Load[V]] = {}
        self._hits = 0
        self._misses = 0
        self._failures = 0
        runtime.shared.setdefault(Cache, _Caches()).known[name] = self

    async def get(self, key: K, load: Callable[[], Awaitable[V]]) -> V:
        """Return the value of a key, and load it if it is not there.

        All who ask while it is being loaded wait for the same load. It is nobody's: it has the context in which the
        runtime was entered, and none of the deadline or the fate of who asked first. It goes on while anybody waits,
        and is cancelled if nobody does any more. What it raises, all of them get, and nothing is kept.

        Args:
            key: of the value. ``1``, ``1.0`` and ``True`` are one key, as in a dictionary.
            load: loads it. All get the same object, which nobody should change.

        Raises:
            BadOption: this cannot be a key, or ``load`` is no function.
            LoadCancelled: the load was cancelled from within.
            Exception: what the load raised.
        """
        usable_key("Cache: key", key)
        if not callable(load):
            raise BadOption("Cache: load", load, "give a function that returns an awaitable")
        value: object = self._values.get(key, _ABSENT)
        if value is not _ABSENT:
            self._hits += 1
            return value  # type: ignore[return-value]
        loading = self._loads.get(key)
        if loading is None:
            self._misses += 1
            loading = self._loads[key] = _Load()
            loading.begin(self._load(key, load, loading), self._runtime.scheduler.base.copy())
        else:
            self._hits += 1
        try:
            return await loading.wait()
        finally:
            if loading.abandoned:
                self._done(key, loading)

    async def _load(self, key: K, load: Callable[[], Awaitable[V]], mine: _Load[V]) -> V:
        try:
            value = await load()
        except asyncio.CancelledError:
            if mine.abandoned:
                raise
            self._failures += 1
            raise LoadCancelled(self.name, key) from None
        except Exception:
            self._failures += 1
            raise
        else:
            if self._loads.get(key) is mine:  # it was not invalidated meanwhile
                self._values[key] = value
            return value
        finally:
            self._done(key, mine)

    def _done(self, key: K, load: _Load[V]) -> None:
        if self._loads.get(key) is load:
            del self._loads[key]

    def peek(self, key: K) -> V | None:
        """Return the value of a key if it is there, and load nothing."""
        value: V | None = self._values.get(usable_key("Cache: key", key))
        return value

    def put(self, key: K, value: V) -> None:
        """Keep a value."""
        usable_key("Cache: key", key)
        self._loads.pop(key, None)
        self._values[key] = value

    def invalidate(self, key: K) -> None:
        """Forget the value of a key. A load that is under way is answered, but not kept."""
        usable_key("Cache: key", key)
        self._loads.pop(key, None)
        self._values.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._loads.clear()
        self._values.clear()

    def statistics(self) -> CacheStatistics:
        """Return its statistics."""
        return CacheStatistics(self._hits, self._misses, self._failures, len(self._values))

    def samples(self) -> Iterator[MetricSample]:
        """Return its numbers, for the metrics."""
        numbers = self.statistics()
        name = ("cache", self.name)
        for result, value in (("hit", numbers.hits), ("miss", numbers.misses)):
            yield MetricSample(
                "cache_requests", "Values asked of caches.", "counter", (name, ("result", result)), value
            )
        yield MetricSample("cache_failures", "Loads of caches that failed.", "counter", (name,), numbers.failures)
        yield MetricSample("cache_entries", "Values in caches.", "gauge", (name,), numbers.size)


class _Load(Generic[V]):
    """A load, and how many wait for it."""

    _task: asyncio.Task[V]

    def __init__(self) -> None:
        self._waiting = 0
        self.abandoned = False

    def begin(self, load: Coroutine[Any, Any, V], context: Context) -> None:
        """Begin it, in a context that is nobody's."""
        self._task = asyncio.get_running_loop().create_task(load, context=context)

    async def wait(self) -> V:
        """Wait for the value, and cancel the load if nobody else does."""
        self._waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiting -= 1
            if not self._waiting and not self._task.done():
                self.abandoned = True
                self._task.cancel()


class _Caches:
    """The caches of a runtime that anybody has, by name."""

    def __init__(self) -> None:
        self.known: WeakValueDictionary[str, Cache[Any, Any]] = WeakValueDictionary()

    def samples(self) -> Iterator[MetricSample]:
        """Return their numbers, for the metrics."""
        for cache in list(self.known.values()):
            yield from cache.samples()
