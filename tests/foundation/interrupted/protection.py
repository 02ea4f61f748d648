"""Breakers, limits, retries, resources and caches."""

from __future__ import annotations

import asyncio

import pytest

from foundation.cache import Cache
from foundation.protection import (
    BreakerOptions,
    Breakers,
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Guard,
    Hedge,
    Policy,
    RateLimit,
    Retry,
    TimeLimit,
)
from foundation.resources import Resource, Resources
from supervision.testing import ScenarioRun
from tests.foundation.interrupted.table import Echo, World, line, service, world


async def _guarded(here: World, guard: Guard) -> None:
    """A call under guard: in the end, others get through."""

    async def attempt() -> str:
        await here.runtime.sleep(0.1)
        return "done"

    await here.interrupt(lambda: guard.call(attempt))
    async with asyncio.timeout(30.0):
        assert await guard.call(attempt) == "done"


async def _fails() -> None:
    raise ConnectionError("nobody there")


@line("breaker.closed", "CircuitBreaker.run", "Guard.call")
async def breaker(run: ScenarioRun) -> None:
    """A breaker that is closed stays so."""
    async with world(run, service(Breakers)) as here:
        guard = CircuitBreaker(here.runtime, "db", BreakerOptions(failures=1))
        await _guarded(here, guard)
        assert guard.state == "closed"


@line("breaker.half_open")
async def breaker_half_open(run: ScenarioRun) -> None:
    """A probe that is cut off makes room for the next one, which closes the breaker."""
    async with world(run, service(Breakers)) as here:
        guard = CircuitBreaker(here.runtime, "db", BreakerOptions(failures=1, reset_after=5.0))
        with pytest.raises(ConnectionError):
            await guard.call(_fails)
        await here.runtime.sleep(0.1)
        assert guard.state == "open"
        await here.runtime.sleep(10.0)

        async def probe() -> str:
            await here.runtime.sleep(0.1)
            return "done"

        async def attempt() -> str:
            return await guard.call(probe)

        await here.interrupt(attempt)
        for _ in range(3):
            await here.runtime.sleep(10.0)
            try:
                assert await guard.call(probe) == "done"
                break
            except CircuitOpen:
                continue
        await here.runtime.sleep(0.1)
        assert guard.state == "closed"


@line("breaker.failing")
async def breaker_failing(run: ScenarioRun) -> None:
    """A call that fails counts at most once."""
    async with world(run, service(Breakers)) as here:
        guard = CircuitBreaker(here.runtime, "db", BreakerOptions(failures=2))

        async def fail() -> None:
            await here.runtime.sleep(0.1)
            raise FailedOnPurpose("nobody there")

        async def attempt() -> None:
            with pytest.raises(FailedOnPurpose):
                await guard.call(fail)

        await here.interrupt(attempt)
        await here.runtime.sleep(0.1)
        assert guard.state == "closed"


class FailedOnPurpose(Exception):
    """What fails, fails by this."""


@line("bulkhead", "Bulkhead.run")
async def bulkhead(run: ScenarioRun) -> None:
    """A place is free again, also for who waits in the queue."""
    async with world(run, service(Breakers)) as here:
        guard = Bulkhead(1, waiting=1)
        other = asyncio.ensure_future(guard.call(lambda: here.runtime.sleep(1.0)))
        await here.runtime.sleep(0.1)
        await _guarded(here, guard)
        await other


@line("rate_limit", "RateLimit.run")
async def rate_limit(run: ScenarioRun) -> None:
    """Who waits for its turn and leaves holds up nobody."""
    async with world(run, service(Breakers)) as here:
        guard = RateLimit(1, per=1.0)
        await guard.call(lambda: here.runtime.sleep(0.1))
        await _guarded(here, guard)


@line("time_limit", "TimeLimit.run")
async def time_limit(run: ScenarioRun) -> None:
    """A limit of time inside another one."""
    async with world(run, service(Breakers)) as here:
        await _guarded(here, TimeLimit(5.0))


@line("retry", "Retry.run")
async def retry(run: ScenarioRun) -> None:
    """Cut off between two attempts."""
    async with world(run, service(Breakers)) as here:
        attempts = []

        async def attempt() -> str:
            attempts.append(1)
            await here.runtime.sleep(0.1)
            if len(attempts) < 3:
                raise ConnectionError("nobody there")
            return "done"

        outcome = await here.interrupt(lambda: Retry(3, on=lambda _: True).run(attempt))
        tried = len(attempts)
        await here.runtime.sleep(60.0)
        assert not (outcome.done and run.way == "cancel" and run.struck), "it goes on although it is cancelled"
        assert len(attempts) == tried, "it goes on after its end"
        assert not outcome.done or outcome.value == "done"


@line("hedge", "Hedge.run")
async def hedge(run: ScenarioRun) -> None:
    """Neither attempt is left running."""
    async with world(run, service(Breakers)) as here:
        await _guarded(here, Hedge(0.05, most=3))


@line("policy", "Policy.run", "Guarded.call")
async def policy(run: ScenarioRun) -> None:
    """All guards together, around an actor."""
    async with world(run, service(Breakers), service(Resources, {"work": 1})) as here:
        bulkhead = Bulkhead(1, waiting=1)
        guard = Policy(
            time_limit=TimeLimit(30.0),
            retry=Retry(2),
            breaker=CircuitBreaker(here.runtime, "db"),
            rate_limit=RateLimit(10),
            bulkhead=bulkhead,
            attempt_limit=TimeLimit(5.0),
            hedge=Hedge(1.0),
        )
        await here.interrupt(lambda: guard.around(here.worker).call(Echo(1)))
        async with asyncio.timeout(30.0):
            assert await guard.around(here.worker).call(Echo(2)) == 2
            assert await bulkhead.around(here.worker).call(Echo(3)) == 3


# -- resources ---------------------------------------------------------------------------------------------------------


@line("resource.run", "Resource.run")
async def resource(run: ScenarioRun) -> None:
    """What is taken for a call is given back."""
    async with world(run, service(Resources, {"work": 1})) as here:
        work = Resource(here.runtime, "work", priority="high")

        async def attempt() -> None:
            await work.run(lambda: here.runtime.sleep(0.1))

        await here.interrupt(attempt, lambda: {"used": work.used})
        await work.run(lambda: here.runtime.sleep(0.1))


@line("resource.acquire", "Resource.acquire", "Resource.release")
async def leases(run: ScenarioRun) -> None:
    """What is taken is given back, whoever holds it."""
    async with world(run, service(Resources, {"work": 1})) as here:
        work = Resource(here.runtime, "work", priority="high")

        async def use() -> None:
            lease = await work.acquire(holder=here.worker)
            try:
                await here.runtime.sleep(0.1)
            finally:
                await work.release(lease)

        await here.interrupt(use, lambda: {"used": work.used})
        lease = await work.acquire()
        assert await work.release(lease)


@line("resource.set_limit", "Resource.set_limit")
async def set_limit(run: ScenarioRun) -> None:
    """A limit is the old or the new one."""
    async with world(run, service(Resources, {"work": 1})) as here:
        work = Resource(here.runtime, "work", priority="high")

        async def change() -> None:
            await work.set_limit(2)
            await here.runtime.sleep(0.1)  # it does not wait itself

        await here.interrupt(change)
        await work.set_limit(3)
        lease = await work.acquire(3)
        assert await work.release(lease)


# -- caches ------------------------------------------------------------------------------------------------------------


@line("cache.get", "Cache.get")
async def cache(run: ScenarioRun) -> None:
    """The others who wait for the same load get their value."""
    async with world(run, service(Breakers), restart=False) as here:
        pages: Cache[str, int] = Cache(here.runtime, "pages")
        loads = []

        async def load() -> int:
            loads.append(1)
            await here.runtime.sleep(1.0)
            return 7

        others = []

        async def ask() -> int:
            others.append(asyncio.ensure_future(_later()))
            return await pages.get("key", load)

        async def _later() -> int:
            await here.runtime.sleep(0.5)
            return await pages.get("key", load)

        await here.interrupt(ask)
        assert [await other for other in others] == [7] * len(others)
        assert await pages.get("key", load) == 7


@line("cache.get_alone")
async def cache_alone(run: ScenarioRun) -> None:
    """A load that nobody waits for any more leaves nothing behind."""
    async with world(run, service(Breakers), restart=False) as here:
        pages: Cache[str, int] = Cache(here.runtime, "pages")

        async def load() -> int:
            await here.runtime.sleep(1.0)
            return 7

        await here.interrupt(lambda: pages.get("key", load))
        assert await pages.get("key", load) == 7
