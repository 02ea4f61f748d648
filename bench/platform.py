"""Suite ``platform``: what each operation takes at its 99th percentile, at 100,000 entries, while others go on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from bench.figure import Figure, percentile
from bench.registry import INDEXED, Empty, card, filled
from foundation.coordination import (
    Barrier,
    Barriers,
    Consensus,
    Election,
    Elections,
    Lock,
    Locks,
    Unanimity,
    Vote,
    propose,
)
from foundation.protection import BreakerOptions, Breakers, Bulkhead, CircuitBreaker, RateLimit
from foundation.registry import Directory, Field, Register
from supervision import Actor, Ref, Runtime, handle

ENTRIES = 100_000
SAMPLES = 3_000
#: What goes on beside what is measured, in turns of the loop: a registration, a lock, a breaker's failure.
BESIDE = 3

Operation = Callable[[int], Awaitable[Any]]


class Member(Actor):
    """Agrees."""

    @handle
    def vote(self, request: Vote) -> bool | None:
        """Say yes."""
        return True


class World:
    """A runtime with all services, 100,000 entries and 100,000 locks that are held."""

    runtime: Runtime
    directory: Directory
    refs: list[Ref]
    members: list[Ref]

    async def fill(self, runtime: Runtime) -> None:
        """Start everything."""
        self.runtime = runtime
        for kind in (Breakers, Locks, Barriers, Elections, Consensus):
            await runtime.spawn(kind)
        self.directory, self.refs = await filled(runtime, ENTRIES, INDEXED)
        self.members = [await runtime.spawn(Member) for _ in range(3)]
        self.lock = Lock(runtime, "measured")
        for begin in range(0, ENTRIES, 1000):
            await asyncio.gather(*(Lock(runtime, f"held {n}").acquire() for n in range(begin, begin + 1000)))
        self.breaker = CircuitBreaker(runtime, "measured", BreakerOptions(failures=10**9))
        self.barrier = Barrier(runtime, "measured", parties=2)
        self.election = Election(runtime, "measured")
        self.bulkhead = Bulkhead(10)
        self.rate_limit = RateLimit(10**9)

    # -- what is measured --------------------------------------------------------------------------------------------

    async def bare_call(self, n: int) -> None:
        """Ask an actor that does nothing: what any operation through a mailbox costs at least."""
        await self.refs[0].call(Empty())

    async def lookup(self, n: int) -> None:
        """Look up a key."""
        self.directory.lookup(n * 37 % ENTRIES)

    async def select(self, n: int) -> None:
        """Ask for ten entries by an ordered index."""
        low = n % 9_000 / 10_000
        self.directory.select([Field("load") >= low, Field("load") < low + 0.0001])

    async def register(self, n: int) -> None:
        """Enter an actor."""
        await self.directory.register(("measured", n), self.refs[n % 1000], card(n))

    async def update(self, n: int) -> None:
        """Change an entry."""
        await self.directory.update(n, {"load": n / SAMPLES})

    async def unregister(self, n: int) -> None:
        """Remove an entry."""
        await self.directory.unregister(("measured", n))

    async def batch(self, n: int) -> None:
        """Enter ten actors at once."""
        await self.directory.batch([Register(("batch", n, m), self.refs[m], card(m)) for m in range(10)])

    async def acquire_release(self, n: int) -> None:
        """Take a lock and give it back."""
        await self.lock.release(await self.lock.acquire(lease=60.0))

    async def guarded(self, n: int) -> None:
        """Call through a breaker, a limit of rate and a bulkhead."""
        await self.breaker.run(lambda: self.rate_limit.run(lambda: self.bulkhead.run(_nothing)))

    async def barrier_of_two(self, n: int) -> None:
        """Arrive, both."""
        await asyncio.gather(self.barrier.arrive(), self.barrier.arrive())

    async def election_term(self, n: int) -> None:
        """Stand, lead and resign."""
        await self.election.stand(self.refs[n % 1000])
        await self.election.resign(self.refs[n % 1000])

    async def consensus_of_three(self, n: int) -> None:
        """Ask three for their consent."""
        await propose(self.runtime, n, self.members, Unanimity())

    # -- what goes on beside -----------------------------------------------------------------------------------------

    async def beside(self) -> None:
        """Write, lock and fail, again and again."""
        n = 0
        lock = Lock(self.runtime, "beside")
        while True:
            n += 1
            await self.directory.register(("beside", n), self.refs[n % 1000], card(n))
            async with lock.held():
                pass
            await self.directory.unregister(("beside", n))
            await asyncio.sleep(0)


async def _nothing() -> None:
    return None


def measured(name: str) -> Callable[[], Awaitable[Figure]]:
    """Return what measures one operation."""

    async def measure() -> Figure:
        async with Runtime(watchdog=None, reports=False) as runtime:
            world = World()
            await world.fill(runtime)
            gc.collect()
            gc.freeze()
            beside = [asyncio.ensure_future(world.beside()) for _ in range(BESIDE)]
            bare = await _sampled(world.bare_call)
            taken = await _sampled(getattr(world, name))
            for task in beside:
                task.cancel()
            await asyncio.wait(beside)
            gc.unfreeze()
        value = percentile(taken, 0.99)
        more = {
            "p50_us": percentile(taken, 0.5),
            "p999_us": percentile(taken, 0.999),
            "bare_call_p50_us": percentile(bare, 0.5),
            "bare_call_p99_us": percentile(bare, 0.99),
        }
        return Figure(
            value=value, unit="µs at p99", limit=1000.0, ratio=value / 1000, reach=1.0, better="lower", more=more
        )

    return measure


async def _sampled(operation: Operation) -> list[float]:
    taken = []
    for n in range(SAMPLES):
        began = perf_counter()
        await operation(n)
        taken.append((perf_counter() - began) * 1e6)
        await asyncio.sleep(0)
    return taken


NAMES = (
    "bare_call",
    "lookup",
    "select",
    "register",
    "update",
    "unregister",
    "batch",
    "acquire_release",
    "guarded",
    "barrier_of_two",
    "election_term",
    "consensus_of_three",
)
FIGURES = {name: measured(name) for name in NAMES}
