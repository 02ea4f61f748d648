"""Caches, and the numbers of services in the metrics."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from foundation.cache import Cache, CacheStatistics
from foundation.coordination import Elections, Locks
from foundation.events import BreakerChanged, LeaderElected, LockExpired
from foundation.registry import Directory, Registry
from foundation.store import Database, Store
from foundation.telemetry.collectors import collect_samples
from foundation.telemetry.metrics import Metrics
from supervision import Actor, Runtime
from supervision.errors import BadOption
from supervision.testing import advance


class Idle(Actor):
    """Does nothing."""


class Source:
    """Loads, after a while."""

    def __init__(self, runtime: Runtime, seconds: float = 1.0) -> None:
        self.runtime = runtime
        self.seconds = seconds
        self.loads = 0
        self.cancelled = 0
        self.fail = False

    async def __call__(self) -> int:
        """Load."""
        self.loads += 1
        number = self.loads
        try:
            await self.runtime.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.fail:
            raise ConnectionError
        return number


async def test_a_value_is_loaded_once_for_all_who_ask_and_kept_for_its_time(runtime: Runtime) -> None:
    cache: Cache[str, int] = Cache(runtime, "c", ttl=10.0)
    source = Source(runtime)
    assert await asyncio.gather(*(cache.get("a", source) for _ in range(5))) == [1] * 5
    assert await cache.get("a", source) == 1
    assert cache.statistics() == CacheStatistics(5, 1, 0, 1)
    assert cache.statistics().hit_rate == 5 / 6
    await advance(10.0)
    assert cache.peek("a") is None
    assert await cache.get("a", source) == 2
    assert cache.peek("a") == 2


async def test_errors_go_to_all_who_wait_and_are_not_kept(runtime: Runtime) -> None:
    cache: Cache[str, int] = Cache(runtime, "c")
    source = Source(runtime)
    source.fail = True
    results = await asyncio.gather(*(cache.get("a", source) for _ in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [ConnectionError] * 3
    source.fail = False
    assert await cache.get("a", source) == 2
    assert cache.statistics() == CacheStatistics(2, 2, 1, 1)
    assert Cache(runtime, "other").statistics().hit_rate == 0.0


async def test_a_load_goes_on_while_anybody_waits_and_no_longer(runtime: Runtime) -> None:
    cache: Cache[str, int] = Cache(runtime, "c")
    source = Source(runtime)
    first, second = (asyncio.ensure_future(cache.get("a", source)) for _ in range(2))
    await advance(0.5)
    first.cancel()
    assert await second == 1
    lonely = asyncio.ensure_future(cache.get("b", source))
    await advance(0.5)
    lonely.cancel()
    await asyncio.wait([lonely])
    again = asyncio.ensure_future(cache.get("b", source))
    assert await again == 3
    assert source.cancelled == 1
    never = asyncio.ensure_future(cache.get("c", source))
    cache.put("c", 7)
    assert await never == 7
    assert cache.peek("c") == 7


async def test_what_is_invalidated_while_it_is_loaded_is_not_kept(runtime: Runtime) -> None:
    cache: Cache[str, int] = Cache(runtime, "c")
    source = Source(runtime)

    def invalidate() -> None:
        cache.invalidate("a")

    def clear() -> None:
        cache.clear()

    for forget in (invalidate, clear):
        load = asyncio.ensure_future(cache.get("a", source))
        await advance(0.5)
        forget()
        assert await load == source.loads
        assert cache.peek("a") is None
    load = asyncio.ensure_future(cache.get("a", source))
    await advance(0.5)
    cache.put("a", 99)
    await load
    assert cache.peek("a") == 99
    cache.invalidate("a")
    assert cache.peek("a") is None


async def test_the_least_used_goes_first_when_it_is_full(runtime: Runtime) -> None:
    cache: Cache[int, int] = Cache(runtime, "c", size=2)
    cache.put(1, 1)
    cache.put(2, 2)
    cache.put(3, 3)
    assert [cache.peek(n) for n in (1, 2, 3)] == [None, 2, 3]


@pytest.mark.parametrize("options", [{"size": 0}, {"size": True}, {"ttl": 0.0}, {"ttl": -1.0}])
def test_options_that_make_no_sense_are_named(runtime: Runtime, options: dict[str, Any]) -> None:
    with pytest.raises(BadOption, match=f"Cache: {next(iter(options))}"):
        Cache(runtime, "c", **options)


async def test_the_numbers_of_services_are_in_the_metrics(runtime: Runtime, tmp_path: Path) -> None:
    registry = CollectorRegistry()
    await runtime.spawn(Metrics, registry)
    await runtime.spawn(Registry)
    await runtime.spawn(Store, tmp_path / "store.db", ["t"])
    await runtime.spawn(Locks)
    await runtime.spawn(Elections)
    cache: Cache[str, int] = Cache(runtime, "pages")
    await cache.get("a", Source(runtime))
    await cache.get("a", Source(runtime))
    await Directory.of(runtime).register("a", await runtime.spawn(Idle))
    async with Database.of(runtime).transaction() as tx:
        tx.put("t", 1, 1)
        tx.put("t", 2, 2)
    runtime.events.emit(BreakerChanged, name="mail", before="closed", after="open")
    runtime.events.emit(LockExpired, name="l", fence=1, holder=None)
    runtime.events.emit(LeaderElected, election="writer", term=1, leader=None)
    text = generate_latest(registry).decode()
    for line in (
        'foundation_cache_requests_total{cache="pages",result="hit"} 1.0',
        'foundation_cache_requests_total{cache="pages",result="miss"} 1.0',
        'foundation_cache_failures_total{cache="pages"} 0.0',
        'foundation_cache_entries{cache="pages"} 1.0',
        'foundation_registry_entries{registry="registry"} 1.0',
        'foundation_store_rows{store="store",table="t"} 2.0',
        'foundation_store_transactions_total{store="store"} 1.0',
        'foundation_store_maintenance_failures_total{store="store"} 0.0',
        'foundation_breaker_changes_total{breaker="mail",state="open"} 1.0',
        "foundation_lock_expirations_total 1.0",
        'foundation_leader_changes_total{election="writer"} 1.0',
    ):
        assert line in text.splitlines()
    assert len(list(collect_samples(runtime))) == 8
