"""Suite ``platform``: what each operation takes at its 99th percentile, at 100,000 entries, while others go on.

And what the end of a holder costs with many names in use, and what is left of requests that were given up.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from statistics import median
from time import perf_counter, thread_time
from typing import Any

from bench.figure import Figure, percentile
from bench.registry import INDEXED, Empty, card, filled
from foundation.coordination import (
    Auction,
    Auctions,
    Barrier,
    Barriers,
    Consensus,
    Election,
    Elections,
    Lock,
    Locks,
    Sealed,
    Unanimity,
    Vote,
    propose,
)
from foundation.protection import BreakerOptions, Breakers, Bulkhead, CircuitBreaker, RateLimit
from foundation.registry import Directory, Field, Register
from supervision import Actor, Ref, Runtime, handle

ENTRIES = 100_000
SAMPLES = 3_000
#: So many locks are held, and so many elections have a leader, when a holder ends; and so few to compare with.
NAMES_IN_USE = 30_000
FEW_NAMES = 300
#: So often the end of a holder is measured anew.
ROUNDS = 3
#: So many requests are given up, and so many bytes were left of them when each left something.
ABANDONED = 20_000
ONCE_LEFT = 18e6
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


async def death() -> Figure:
    """Measure the end of a holder: until its lock is granted to who waits, and there is another leader.

    In time of the loop's thread, as it is told what a death costs, and not what else the machine does; by the clock it
    took what ``more`` says.
    """
    async with Runtime(watchdog=None, reports=False) as runtime:
        await _use_names(runtime, NAMES_IN_USE)
        taken = [pair for _ in range(ROUNDS) for pair in await _deaths(runtime)]
    cost, clock = [cost for cost, _ in taken], [clock for _, clock in taken]
    value = percentile(cost, 0.99)
    more = {
        "p50_us": percentile(cost, 0.5),
        "p999_us": percentile(cost, 0.999),
        "clock_p50_us": percentile(clock, 0.5),
        "clock_p99_us": percentile(clock, 0.99),
    }
    return Figure(value=value, unit="µs at p99", limit=1000.0, ratio=value / 1000, reach=1.0, better="lower", more=more)


async def names_at_death() -> Figure:
    """Measure the median of the same with many names, beside that with few."""
    options: dict[str, Any] = {"watchdog": None, "reports": False}
    async with Runtime(**options) as full, Runtime(**options) as empty:
        await _use_names(full, NAMES_IN_USE)
        await _use_names(empty, FEW_NAMES)
        pairs = [
            [median([cost for cost, _ in await _deaths(runtime)]) for runtime in (full, empty)] for _ in range(ROUNDS)
        ]
    many, few = (median([pair[n] for pair in pairs]) for n in range(2))
    ratio = median([many / few for many, few in pairs])
    return Figure(value=many, unit="µs", limit=few, ratio=ratio, reach=2.0, better="lower")


async def _use_names(runtime: Runtime, names: int) -> None:
    for kind in (Locks, Elections):
        await runtime.spawn(kind)
    holders = [await runtime.spawn(Member) for _ in range(min(names, 1000))]
    for n in range(names):
        await _hold(runtime, n, holders[n % len(holders)])


async def _deaths(runtime: Runtime) -> list[tuple[float, float]]:
    """Return what each took, in microseconds: of the thread's time, and by the clock."""
    gc.collect()
    gc.freeze()
    taken = [await _death(runtime, NAMES_IN_USE + n) for n in range(SAMPLES // ROUNDS)]
    gc.unfreeze()
    return taken


async def _hold(runtime: Runtime, n: int, holder: Ref) -> None:
    await Lock(runtime, f"lock {n}").acquire(holder=holder)
    await Election(runtime, f"election {n}").stand(holder)


async def _death(runtime: Runtime, n: int) -> tuple[float, float]:
    one, two = await runtime.spawn(Member), await runtime.spawn(Member)
    await _hold(runtime, n, one)
    await Election(runtime, f"election {n}").stand(two)
    waiting = [
        asyncio.ensure_future(Lock(runtime, f"lock {n}").acquire(holder=two)),
        asyncio.ensure_future(Election(runtime, f"election {n}").leader_after(1)),
    ]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    cost, clock = thread_time(), perf_counter()
    one.kill()
    for task in waiting:
        await task
    taken = ((thread_time() - cost) * 1e6, (perf_counter() - clock) * 1e6)
    two.kill()
    return taken


async def abandoned() -> Figure:
    """Measure the bytes that are left of requests whose callers gave up: of locks, barriers, elections and auctions."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        for kind in (Locks, Barriers, Elections, Auctions):
            await runtime.spawn(kind)
        await Lock(runtime, "held").acquire()
        await Auction(runtime, "open").open(Sealed(), seconds=1e6)
        works: list[Callable[[], Awaitable[Any]]] = [
            lambda: Lock(runtime, "held").acquire(timeout=0.01),
            lambda: Barrier(runtime, "start", parties=ABANDONED).arrive(timeout=0.01),
            lambda: Election(runtime, "nobody").leader_after(timeout=0.01),
            lambda: Auction(runtime, "open").outcome(timeout=0.01),
        ]
        await _give_up(works, 100)
        tracemalloc.start()
        await _give_up(works, 100)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        await _give_up(works, ABANDONED)
        gc.collect()
        left = float(max(0, tracemalloc.get_traced_memory()[0] - before))
        tracemalloc.stop()
    return Figure(value=left, unit="bytes", limit=ONCE_LEFT, ratio=left / ONCE_LEFT, reach=0.01, better="lower")


async def _give_up(works: list[Callable[[], Awaitable[Any]]], times: int) -> None:
    for _ in range(times // 100):
        await asyncio.gather(*(works[n % len(works)]() for n in range(100)), return_exceptions=True)
    await asyncio.sleep(0.1)


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
FIGURES: dict[str, Callable[[], Awaitable[Figure]]] = {
    **{name: measured(name) for name in NAMES},
    "death": death,
    "names_at_death": names_at_death,
    "abandoned": abandoned,
}
