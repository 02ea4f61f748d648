"""Suite ``kernel``: messages, calls, starts, restarts, memory and names of the actor kernel."""

from __future__ import annotations

import asyncio
import statistics
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter
from typing import Any

import msgspec

from bench.figure import Figure, compare, percentile, timed
from bench.memory import bytes_each, resident_of_a_million
from supervision import (
    Actor,
    ChildSpec,
    DynamicSupervisor,
    Message,
    Ref,
    Request,
    Runtime,
    Supervisor,
    handle,
    start_child,
)

ACTORS = 1000


class Tell(Message):
    """A message that says nothing."""


class Done(Request[None]):
    """Answered when everything before it is handled."""


class Ask(Request[int]):
    """A request with a small answer."""


class Ring(Message):
    """The token, with the hops it has still to go."""

    hops: int


class Crash(Message):
    """Ends the actor by an exception."""


class Sink(Actor):
    """Handles messages with a plain function."""

    __slots__ = ("handled",)

    def __init__(self) -> None:
        self.handled = 0

    @handle
    def tell(self, message: Tell) -> None:
        """Count it."""
        self.handled += 1

    @handle
    def ask(self, request: Ask) -> int:
        """Answer."""
        return 1

    @handle
    def done(self, request: Done) -> None:
        """Answer."""


class AsyncSink(Actor):
    """Handles messages with an ``async def`` that does not wait."""

    __slots__ = ("handled",)

    def __init__(self) -> None:
        self.handled = 0

    @handle
    async def tell(self, message: Tell) -> None:
        """Count it."""
        self.handled += 1

    @handle
    def done(self, request: Done) -> None:
        """Answer."""


class Asker(Actor):
    """Calls another actor many times in one handler."""

    def __init__(self, other: Ref, times: int) -> None:
        self.other = other
        self.times = times

    @handle
    async def go(self, request: Done) -> None:
        """Call, one after the other."""
        other = self.other
        ask = Ask()
        for _ in range(self.times):
            await other.call(ask)


class Link(Actor):
    """Passes a token on."""

    def __init__(self, end: asyncio.Future[None]) -> None:
        self.end = end
        self.next: Ref | None = None

    @handle
    def token(self, message: Ring) -> None:
        """Pass it on, or end."""
        if message.hops and self.next is not None:
            self.next.cast(Ring(message.hops - 1))
        else:
            self.end.set_result(None)


class Idle(Actor):
    """Does nothing."""

    __slots__ = ()


class Fragile(Actor):
    """Crashes when told so."""

    @handle
    def crash(self, message: Crash) -> None:
        """Raise."""
        raise ValueError("crash")

    @handle
    def ask(self, request: Ask) -> int:
        """Answer."""
        return 1


@asynccontextmanager
async def quiet() -> AsyncGenerator[Runtime]:
    """A runtime with nobody listening."""
    async with Runtime(reports=False, watchdog=None) as runtime:
        yield runtime


class Raw:
    """What the limits call instead of an actor."""

    __slots__ = ("handled",)

    def __init__(self) -> None:
        self.handled = 0

    def tell(self, message: Tell) -> None:
        """Count it."""
        self.handled += 1


async def raw_deque(n: int = 200_000) -> float:
    """Append, popleft and a method call, 1000 at a time; messages per second."""
    box: deque[Tell] = deque()
    sink, message = Raw(), Tell()

    async def work() -> None:
        for _ in range(n // 1000):
            for _ in range(1000):
                box.append(message)
            while box:
                sink.tell(box.popleft())

    return n / await timed(work)


async def raw_deques(rounds: int = 200) -> float:
    """The same over 1000 deques, one message each."""
    boxes = [(deque[Tell](), Raw()) for _ in range(ACTORS)]
    message = Tell()

    async def work() -> None:
        for _ in range(rounds):
            for box, _ in boxes:
                box.append(message)
            for box, sink in boxes:
                sink.tell(box.popleft())

    return rounds * ACTORS / await timed(work)


async def tell_one() -> Figure:
    """One producer, one actor."""
    n = 200_000

    async def ours() -> float:
        async with quiet() as runtime:
            ref = await runtime.spawn(Sink)
            message = Tell()

            async def work() -> None:
                cast = ref.cast
                for _ in range(n // 1000):
                    for _ in range(1000):
                        cast(message)
                    await asyncio.sleep(0)
                await ref.call(Done())

            return n / await timed(work)

    return await compare(ours, raw_deque, unit="messages/s", reach=0.36)


async def fan(kind: type[Actor], rounds: int = 200) -> float:
    """One message each to 1000 actors, many rounds."""
    async with quiet() as runtime:
        refs = [await runtime.spawn(kind) for _ in range(ACTORS)]
        message = Tell()

        async def work() -> None:
            for _ in range(rounds):
                for ref in refs:
                    ref.cast(message)
                await asyncio.sleep(0)
            for ref in refs:
                await ref.call(Done())

        return rounds * ACTORS / await timed(work)


async def tell_fan() -> Figure:
    """One message each to 1000 actors with plain handlers."""
    return await compare(lambda: fan(Sink), raw_deques, unit="messages/s", reach=0.28)


async def tell_fan_async() -> Figure:
    """One message each to 1000 actors with ``async def`` handlers that do not wait."""
    return await compare(lambda: fan(AsyncSink), raw_deques, unit="messages/s", reach=0.16)


async def raw_future(n: int = 30_000) -> float:
    """A future that a ``call_soon`` callback resolves; round trips per second."""
    loop = asyncio.get_running_loop()

    async def work() -> None:
        for _ in range(n):
            future = loop.create_future()
            loop.call_soon(future.set_result, None)
            await future

    return n / await timed(work)


async def ask_seq() -> Figure:
    """Sequential calls from outside, with the default time-out."""
    n = 30_000
    latencies: list[float] = []

    async def ours() -> float:
        async with quiet() as runtime:
            ref = await runtime.spawn(Sink)
            ask = Ask()

            async def work() -> None:
                for _ in range(n):
                    await ref.call(ask)

            rate = n / await timed(work)
            for _ in range(2000):
                began = perf_counter()
                await ref.call(ask)
                latencies.append(perf_counter() - began)
            return rate

    figure = await compare(ours, raw_future, unit="calls/s", reach=1.6)
    return with_latency(figure, latencies)


def with_latency(figure: Figure, latencies: list[float]) -> Figure:
    """Add percentiles of latency, in seconds."""
    more = {"p50_s": percentile(latencies, 0.5), "p99_s": percentile(latencies, 0.99)}
    return msgspec.structs.replace(figure, more=more)


async def ask_pair() -> Figure:
    """An actor calls another actor in its handler."""
    n = 30_000

    async def ours() -> float:
        async with quiet() as runtime:
            other = await runtime.spawn(Sink)
            asker = await runtime.spawn(Asker, other, n)

            async def work() -> None:
                await asker.call(Done(), timeout=None)

            return n / await timed(work)

    return await compare(ours, raw_future, unit="calls/s", reach=1.5)


async def ring() -> Figure:
    """100 actors pass a token for 100,000 hops."""
    hops = 100_000

    async def raw() -> float:
        loop = asyncio.get_running_loop()

        async def work() -> None:
            end = loop.create_future()

            def hop(left: int) -> None:
                if left:
                    loop.call_soon(hop, left - 1)
                else:
                    end.set_result(None)

            hop(hops)
            await end

        return hops / await timed(work)

    async def ours() -> float:
        async with quiet() as runtime:
            end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            made: list[Link] = []

            class Remembered(Link):
                def __init__(self, end: asyncio.Future[None]) -> None:
                    super().__init__(end)
                    made.append(self)

            refs = [await runtime.spawn(Remembered, end) for _ in range(100)]
            for n, link in enumerate(made):
                link.next = refs[(n + 1) % 100]

            async def work() -> None:
                refs[0].cast(Ring(hops))
                await end

            return hops / await timed(work)

    return await compare(ours, raw, unit="hops/s", reach=1.8)


SPAWNS = 100_000


class Slotted:
    """What the limit of spawning makes."""

    __slots__ = ("state", "task")


async def raw_tasks(collect: bool = True) -> float:
    """Make as many slotted objects with a task each, and cancel them; per second."""
    loop = asyncio.get_running_loop()

    async def idle(gate: asyncio.Future[None]) -> None:
        await gate

    async def work() -> None:
        gate: asyncio.Future[None] = loop.create_future()
        objects = []
        for _ in range(SPAWNS):
            item = Slotted()
            item.task = loop.create_task(idle(gate))  # type: ignore[attr-defined]
            objects.append(item)
        await asyncio.sleep(0)
        for item in objects:
            item.task.cancel()  # type: ignore[attr-defined]
        await asyncio.wait([item.task for item in objects])  # type: ignore[attr-defined]

    return SPAWNS / await timed(work, collect=collect)


async def both_ways(ours: Callable[[bool], Awaitable[float]], reach: float) -> Figure:
    """Compare with the garbage collector on, as programs run; ``ratio_gc_off`` tells what it is without."""
    without = await compare(
        lambda: ours(False), lambda: raw_tasks(collect=False), unit="actors/s", reach=reach, repeats=3
    )
    figure = await compare(lambda: ours(True), raw_tasks, unit="actors/s", reach=reach, repeats=3)
    return msgspec.structs.replace(figure, more={"ratio_gc_off": without.ratio})


async def spawn() -> Figure:
    """Start and stop 100,000 idle actors."""

    async def ours(collect: bool) -> float:
        async with quiet() as runtime:

            async def work() -> None:
                refs = [await runtime.spawn(Idle) for _ in range(SPAWNS)]
                for ref in refs:
                    ref.exit("over")

            return SPAWNS / await timed(work, collect=collect)

    return await both_ways(ours, 2.0)


async def spawn_supervised() -> Figure:
    """Start 100,000 idle actors, one awaited order each, under a dynamic supervisor, and stop them all with it."""

    async def ours(collect: bool) -> float:
        async with quiet() as runtime:
            supervisor = await runtime.spawn(DynamicSupervisor)
            spec = ChildSpec("idle", Idle)

            async def work() -> None:
                for _ in range(SPAWNS):
                    await start_child(supervisor, spec)
                await supervisor.stop()

            return SPAWNS / await timed(work, collect=collect)

    return await both_ways(ours, 2.5)


async def memory_idle() -> Figure:
    """Bytes of an idle supervised actor, at 100,000; and the resident memory of a process with 1,000,000."""
    ours, raw = await asyncio.to_thread(bytes_each, "actor"), await asyncio.to_thread(bytes_each, "task")
    million = await asyncio.to_thread(resident_of_a_million)
    return Figure(
        value=ours,
        unit="bytes/actor",
        limit=raw,
        ratio=ours / raw,
        reach=0.5,
        better="lower",
        more={"million_actors_gib": million / 2**30},
    )


async def restart() -> Figure:
    """From the message that crashes an actor to the answer of its replacement, over 10,000 crashes."""
    n = 10_000
    latencies: list[float] = []

    async def raw() -> float:
        loop = asyncio.get_running_loop()
        boxes: list[tuple[deque[Any], asyncio.Event]] = []
        tasks: list[asyncio.Task[None]] = []

        async def actor(box: deque[Any], wake: asyncio.Event) -> None:
            while True:
                while box:
                    message = box.popleft()
                    if message is None:
                        raise ValueError("crash")
                    message.set_result(1)
                wake.clear()
                await wake.wait()

        def start() -> None:
            box: deque[Any] = deque()
            wake = asyncio.Event()
            boxes[:] = [(box, wake)]
            tasks[:] = [loop.create_task(actor(box, wake))]
            tasks[0].add_done_callback(crashed)

        replaced: asyncio.Future[None] = loop.create_future()

        def crashed(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and task.exception() is not None:
                start()
                replaced.set_result(None)

        async def work() -> None:
            nonlocal replaced
            for _ in range(n):
                replaced = loop.create_future()
                box, wake = boxes[0]
                box.append(None)
                wake.set()
                await replaced
                answer = loop.create_future()
                box, wake = boxes[0]
                box.append(answer)
                wake.set()
                await answer

        start()
        seconds = await timed(work)
        tasks[0].cancel()
        return seconds / n

    async def ours() -> float:
        async with quiet() as runtime:
            spec = ChildSpec("fragile", Fragile, name="fragile")
            await runtime.spawn(Supervisor, [spec], max_restarts=10**9)
            name = runtime.name("fragile")
            crash, ask = Crash(), Ask()

            async def work() -> None:
                for _ in range(n):
                    began = perf_counter()
                    old = runtime.whereis("fragile")
                    name.cast(crash)
                    while runtime.whereis("fragile") in (old, None):
                        await asyncio.sleep(0)
                    await name.call(ask)
                    latencies.append(perf_counter() - began)

            return await timed(work) / n

    figure = await compare(ours, raw, unit="s/restart", reach=1.8, better="lower")
    more = {
        "median_s": percentile(latencies, 0.5),
        "p99_s": percentile(latencies, 0.99),
        "crashes_per_s": 1 / figure.value,
    }
    return msgspec.structs.replace(figure, more=more)


def lookups(look: Callable[[str], Any], known: list[str], rounds: int = 800) -> float:
    """Return the nanoseconds that ``look`` takes for each of 256 names spread over all that are known.

    A working set of this size stays in the caches of the processor, so that what grows is the table's own cost.
    """
    keys = [known[n * 7919 % len(known)] for n in range(256)]
    began = perf_counter()
    for _ in range(rounds):
        for key in keys:
            look(key)
    return (perf_counter() - began) / (rounds * len(keys)) * 1e9


async def name_lookup() -> Figure:
    """Name to address, with 100,000 names; ``growth_from_1000`` is how much slower than with 1,000."""
    many = [f"name-{n}" for n in range(100_000)]
    few = many[:1000]
    async with quiet() as large, quiet() as small:
        for runtime, known in ((large, many), (small, few)):
            for name in known:
                await runtime.spawn(Idle, name=name)
        table = {name: object() for name in many}
        rounds = [
            (lookups(table.get, many), lookups(large.whereis, many), lookups(small.whereis, few)) for _ in range(9)
        ]
    limit, value, at_1000 = (statistics.median(numbers) for numbers in zip(*rounds, strict=True))
    ratio = statistics.median(ours / raw for raw, ours, _ in rounds)
    growth = statistics.median(ours / less for _, ours, less in rounds)
    more = {"at_1000_ns": at_1000, "growth_from_1000": growth}
    return Figure(value=value, unit="ns", limit=limit, ratio=ratio, reach=6.0, better="lower", more=more)


FIGURES: dict[str, Callable[[], Awaitable[Figure]]] = {
    work.__name__: work
    for work in (
        tell_one,
        tell_fan,
        tell_fan_async,
        ask_seq,
        ask_pair,
        ring,
        spawn,
        spawn_supervised,
        memory_idle,
        restart,
        name_lookup,
    )
}
