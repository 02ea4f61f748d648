"""What is granted comes back, wherever its caller is cut off; and whoever waits and leaves is in nobody's way."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from foundation.cache import Cache, LoadCancelled
from foundation.events import MeasureFailed
from foundation.holders import WatchHolder
from foundation.protection import (
    BreakerOptions,
    Breakers,
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Guard,
    Hedge,
    RateLimit,
    RateLimited,
)
from foundation.protection.breaker import breaker_table
from foundation.resources import Limit, Resource, ResourceExhausted, Resources
from foundation.resources.resources import ResourceUsage
from foundation.telemetry.collectors import collect_samples
from supervision import Actor, ChildSpec, Message, NoProcess, Ref, Request, Runtime, Supervisor, handle
from supervision.errors import BadOption
from supervision.testing import EventLog, advance, settled


class Go(Message, frozen=True):
    """Do something under guard."""


class Ask(Request[int], frozen=True):
    """The same, and answer."""


class Caller(Actor):
    """Does something under guard."""

    def __init__(self, guard: Guard, work: Callable[[], Awaitable[Any]]) -> None:
        self.guard = guard
        self.work = work

    @handle
    async def go(self, message: Go) -> None:
        """Do it."""
        await self.guard.call(self.work)

    @handle
    async def ask(self, request: Ask) -> Any:
        """Do it, and answer."""
        return await self.guard.call(self.work)


@pytest.fixture
async def platform(runtime: Runtime) -> Runtime:
    """Breakers and resources, supervised."""
    specs = [
        ChildSpec("breakers", Breakers, name="breakers"),
        ChildSpec("resources", Resources, ({"work": 2},), name="resources"),
    ]
    await runtime.spawn(Supervisor, specs, max_restarts=1000)
    return runtime


def whereis(runtime: Runtime, name: str) -> Ref:
    """Return the holder of a name."""
    ref = runtime.whereis(name)
    assert ref is not None
    return ref


async def cancelled_after(turns: int, work: Awaitable[Any]) -> None:
    """Begin something, and cancel it after so many turns of the loop."""
    task = asyncio.ensure_future(work)
    for _ in range(turns):
        await advance(0.0)
    task.cancel()
    await asyncio.wait([task])


async def quick() -> str:
    """Wait for two turns of the loop."""
    for _ in range(2):
        turn = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turn.set_result, None)
        await turn
    return "ok"


async def failing() -> None:
    """Fail."""
    raise ConnectionError


async def opened(runtime: Runtime, name: str = "mail", **options: Any) -> CircuitBreaker:
    """Return a breaker that lets a probe through."""
    breaker = CircuitBreaker(runtime, name, BreakerOptions(failures=1, reset_after=1.0, **options))
    with pytest.raises(ConnectionError):
        await breaker.call(failing)
    await advance(1.0)
    return breaker


@pytest.mark.parametrize("turns", range(5))
async def test_a_guard_cut_off_at_any_point_holds_nothing(platform: Runtime, turns: int) -> None:
    breaker, bulkhead, work = await opened(platform), Bulkhead(1, 10), Resource(platform, "work", amount=2)
    for guard in (breaker, bulkhead, work):
        await cancelled_after(turns, guard.call(quick))
        assert await guard.call(quick) == "ok"
    assert breaker.state == "closed"
    assert work.used == 0


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("away", [False, True])
async def test_a_killed_actor_holds_nothing_also_if_nobody_watches_at_that_moment(
    platform: Runtime, turns: int, away: bool
) -> None:
    breaker, bulkhead, work = await opened(platform), Bulkhead(1, 10), Resource(platform, "work", amount=2)
    for guard in (breaker, bulkhead, work):
        caller = await platform.spawn(Caller, guard, lambda: platform.sleep(1000.0))
        caller.cast(Go())
        for _ in range(turns):
            await advance(0.0)
        if away:
            whereis(platform, "breakers").kill()
            whereis(platform, "resources").kill()
        caller.kill()
        await settled(platform)
        assert await guard.call(quick) == "ok"
    assert breaker.state == "closed"
    assert work.used == 0


@pytest.mark.parametrize("away", [False, True])
async def test_what_a_killed_actor_held_comes_back_though_its_code_goes_on(platform: Runtime, away: bool) -> None:
    """Also if nobody watches at that moment, as the watcher is being restarted."""
    breaker, work = await opened(platform), Resource(platform, "work", amount=2)
    gate = asyncio.get_running_loop().create_future()

    async def stubborn() -> None:
        while not gate.done():
            try:
                await asyncio.shield(gate)
            except asyncio.CancelledError:
                continue

    for guard in (breaker, work):
        caller = await platform.spawn(Caller, guard, stubborn)
        caller.cast(Go())
        await settled(platform)
        with pytest.raises((CircuitOpen, ResourceExhausted)):
            await guard.call(quick)
        if away:
            whereis(platform, "breakers").kill()
            whereis(platform, "resources").kill()
        caller.kill()
        await advance(0.0)
        assert await guard.call(quick) == "ok"
    gate.set_result(None)
    await advance(1.0)
    assert breaker.state == "closed"
    assert work.used == 0


async def test_a_call_whose_coroutine_is_thrown_away_holds_nothing(platform: Runtime) -> None:
    breaker, bulkhead, work = await opened(platform), Bulkhead(1), Resource(platform, "work", amount=2)
    for guard in (breaker, bulkhead, work):
        call = guard.call(quick)
        call.send(None)
        call.close()
        assert await guard.call(quick) == "ok"


async def test_probes_of_an_earlier_time_say_nothing(platform: Runtime) -> None:
    """A breaker that opened again gives no place twice, and hears nothing of who was under way before."""
    breaker = await opened(platform, probes=2)
    slow = asyncio.ensure_future(breaker.call(lambda: platform.sleep(1.5)))
    await advance(0.1)
    with pytest.raises(ConnectionError):
        await breaker.call(failing)
    assert breaker.state == "open"
    await advance(1.0)
    probe = asyncio.ensure_future(breaker.call(lambda: platform.sleep(10.0)))
    await advance(0.5)
    await slow
    assert breaker.state == "half_open"
    probe.cancel()
    await asyncio.wait([probe])


async def test_what_a_killed_actor_goes_on_to_do_does_not_count(platform: Runtime) -> None:
    closed, ready = CircuitBreaker(platform, "closed", BreakerOptions(failures=1)), await opened(platform)
    errors: list[Any] = []

    async def stubborn() -> None:
        try:
            await platform.sleep(1000.0)
        except asyncio.CancelledError:
            errors.extend(await asyncio.gather(closed.call(failing), ready.call(quick), return_exceptions=True))

    caller = await platform.spawn(Caller, Bulkhead(1), stubborn)
    caller.cast(Go())
    await settled(platform)
    caller.kill()
    await advance(0.1)
    assert [type(error) for error in errors] == [ConnectionError, CircuitOpen]
    assert (closed.state, ready.state) == ("closed", "open")


async def test_breakers_are_forgotten_when_nobody_needs_them(platform: Runtime) -> None:
    options = BreakerOptions(failures=1, window=10.0, reset_after=20.0)
    known = breaker_table(platform, "breakers")
    for n in range(100):
        with pytest.raises(ConnectionError):
            await CircuitBreaker(platform, f"user {n}", options).call(failing)
    kept = CircuitBreaker(platform, "user 1", options)
    await advance(5.0)
    assert CircuitBreaker(platform, "user 2").state == "open", "what is known outlives the objects of its users"
    assert len(known) == 100
    for n in range(1000):
        assert await CircuitBreaker(platform, f"good {n}").call(quick) == "ok"
    await advance(120.0)
    gc.collect()
    assert len(known) == 1
    assert known["user 1"].state == "open"
    assert kept.state == "open"
    probe = asyncio.ensure_future(kept.call(lambda: platform.sleep(1000.0)))
    await advance(0.1)
    del kept
    await advance(300.0)
    assert "user 1" in known, "a probe is under way"
    probe.cancel()
    await asyncio.wait([probe])


async def test_a_breaker_wants_to_hear_an_outcome(platform: Runtime) -> None:
    breaker = await opened(platform)
    odd = CircuitBreaker(platform, "mail", classify=lambda result, error: "perhaps")  # type: ignore[arg-type, return-value]
    with pytest.raises(BadOption, match="return one of success, failure, ignore"):
        await odd.call(quick)
    assert await breaker.call(quick) == "ok"
    assert len(breaker_table(platform, "breakers")) == 1


# -- those who wait --------------------------------------------------------------------------------------------------


async def test_who_leaves_a_bulkhead_makes_room_at_once(runtime: Runtime) -> None:
    bulkhead = Bulkhead(1, waiting=2)
    gate = asyncio.get_running_loop().create_future()

    async def until_opened() -> None:
        await asyncio.shield(gate)

    first = asyncio.ensure_future(bulkhead.call(until_opened))
    await advance(0.0)
    order: list[int] = []

    async def note(n: int) -> None:
        order.append(n)

    waiting = [asyncio.ensure_future(bulkhead.call(note, n)) for n in range(2)]
    await advance(0.0)
    waiting[0].cancel()
    late = asyncio.ensure_future(bulkhead.call(note, 2))  # there is room for it, without a turn of the loop between
    await advance(0.0)
    assert not late.done()
    gate.set_result(None)
    await asyncio.gather(first, *waiting[1:], late)
    assert order == [1, 2]


async def test_a_place_in_a_bulkhead_is_not_lost_if_its_next_holder_leaves_as_it_is_called(runtime: Runtime) -> None:
    bulkhead = Bulkhead(1, waiting=2)
    gate = asyncio.get_running_loop().create_future()

    async def until_opened() -> None:
        await asyncio.shield(gate)

    holder = asyncio.ensure_future(bulkhead.call(until_opened))
    await advance(0.0)
    waiting = [asyncio.ensure_future(bulkhead.call(quick)) for _ in range(2)]
    await advance(0.0)
    holder.add_done_callback(lambda _: waiting[0].cancel())  # after it was called, and before it has heard it
    gate.set_result(None)
    assert await waiting[1] == "ok"
    assert waiting[0].cancelled()
    assert await bulkhead.call(quick) == "ok"


async def test_those_who_wait_for_a_rate_are_served_in_order_and_leave_nothing(runtime: Runtime) -> None:
    limit = RateLimit(1, per=10.0, key=lambda: "k")
    order: list[tuple[int, float]] = []

    async def note(n: int) -> None:
        order.append((n, round(runtime.clock.time() - began)))

    began = runtime.clock.time()
    calls = [asyncio.ensure_future(limit.call(note, n)) for n in range(20_000)]
    await advance(0.1)
    for n, call in enumerate(calls):
        if n not in (0, 7, 15_000):
            call.cancel()
    await advance(0.0)
    bucket = limit._buckets["k"]
    assert len(bucket.queue) == 2, "who has left is not there any more"
    late = asyncio.ensure_future(limit.call(note, -1))
    await advance(50.0)
    assert order == [(0, 0), (7, 10), (15_000, 20), (-1, 30)]
    await late
    assert len(bucket.queue) == 0
    assert bucket._timer is None


async def test_a_turn_is_not_lost_if_who_is_called_leaves_as_it_hears_it(runtime: Runtime) -> None:
    limit = RateLimit(1, per=10.0)
    await limit.call(quick)
    first, second = (asyncio.ensure_future(limit.call(quick)) for _ in range(2))
    await advance(0.0)
    bucket = limit._buckets[None]
    began = runtime.clock.time()
    assert bucket._timer is not None
    asyncio.get_running_loop().call_at(bucket._timer.when(), first.cancel)  # after it is called, before it hears it
    await asyncio.wait([first])
    await second
    assert runtime.clock.time() - began == pytest.approx(10.0, abs=0.1)
    alone = asyncio.ensure_future(limit.call(quick))
    await advance(1.0)
    alone.cancel()
    await asyncio.wait([alone])
    assert bucket._timer is None, "nobody waits"


async def test_less_than_one_call_in_a_time_can_be_allowed(runtime: Runtime) -> None:
    limit = RateLimit(0.5, per=1.0)
    began = runtime.clock.time()
    for _ in range(3):
        await limit.call(quick)
    assert runtime.clock.time() - began == pytest.approx(4.0, abs=0.01)


async def test_a_limit_in_which_somebody_waits_is_not_forgotten(runtime: Runtime) -> None:
    keys = ["a"]
    limit = RateLimit(1, per=1000.0, key=lambda: keys[-1], keys=2)
    refusing = RateLimit(1, per=1000.0, key=lambda: keys[-1], keys=2, wait=False)
    await limit.call(quick)
    waiting = asyncio.ensure_future(limit.call(quick))
    await advance(0.0)
    for key in "bcdef":
        keys.append(key)
        await limit.call(quick)
        await refusing.call(quick)
    keys.append("a")
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(limit.call(quick), 900.0)
    assert len(limit._buckets) <= 3
    assert not waiting.done()
    keys.append("f")
    with pytest.raises(RateLimited):
        await refusing.call(quick)
    await waiting
    await advance(3000.0)
    keys.append("g")
    await refusing.call(quick)
    assert set(refusing._buckets) == {"g"}, "what is full again is forgotten"


def test_limits_go_to_another_loop_with_those_who_use_them() -> None:
    """Nobody of a loop that is closed stands in the way, and its timer serves nobody."""
    limit, bulkhead = RateLimit(1, per=0.01), Bulkhead(1, 1)
    loop = asyncio.new_event_loop()

    async def leave_behind() -> None:
        calls = [*(limit.call(quick) for _ in range(3)), *(bulkhead.call(quick) for _ in range(2))]
        left.extend(map(asyncio.ensure_future, calls))
        await quick()

    left: list[asyncio.Future[Any]] = []
    loop.run_until_complete(leave_behind())
    loop.close()
    assert asyncio.run(limit.call(quick)) == "ok"
    for task in left:
        task.get_coro().close()  # type: ignore[attr-defined]
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    assert asyncio.run(bulkhead.call(quick)) == "ok"


async def test_errors_of_attempts_that_nobody_waits_for_are_not_reported(runtime: Runtime) -> None:
    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda *what: reported.append(what))

    async def fails_when_cancelled() -> str:
        try:
            await runtime.sleep(10.0)
        except asyncio.CancelledError:
            raise ConnectionError from None
        return "late"

    attempts = iter([fails_when_cancelled(), quick()])
    assert await Hedge(1.0).run(lambda: next(attempts)) == "ok"
    gc.collect()
    assert reported == []


# -- resources -------------------------------------------------------------------------------------------------------


async def test_tokens_come_back_while_nobody_watches(platform: Runtime) -> None:
    work = Resource(platform, "work")
    token = await work.acquire(2)
    assert work.limited
    whereis(platform, "resources").kill()
    assert not work.limited
    with pytest.raises(NoProcess):
        await work.acquire()
    with pytest.raises(NoProcess):
        await work.set_limit(3)
    assert await work.release(token), "what is granted can always be given back"
    await settled(platform)
    await work.acquire(2)


async def test_nothing_is_taken_for_who_has_ended_nor_for_a_stranger(platform: Runtime) -> None:
    work, other = Resource(platform, "work"), Runtime(reports=False)
    idle = await platform.spawn(Breakers, name="idle")
    async with other:
        stranger = await other.spawn(Breakers)
        with pytest.raises(BadOption, match="this runtime"):
            await work.acquire(holder=stranger)
        caller = await other.spawn(Caller, work, quick)
        assert await caller.call(Ask()) == "ok", "somebody of another runtime holds it for nobody"
    idle.kill()
    with pytest.raises(NoProcess, match="the holder has ended"):
        await work.acquire(holder=idle)
    assert work.used == 0


async def test_fractions_add_up(platform: Runtime) -> None:
    work = Resource(platform, "other", priority="high")
    await work.set_limit(Limit(1, moderate=1, severe=1))
    for _ in range(3):
        tokens = [await work.acquire(0.1) for _ in range(10)]
        assert work.used == 1.0
        with pytest.raises(ResourceExhausted):
            await work.acquire(1e-9)
        for token in tokens:
            await work.release(token)
        assert work.used == 0.0


async def test_huge_amounts_are_too_much(platform: Runtime) -> None:
    work = Resource(platform, "other", priority="high")
    await work.set_limit(1.7e308)
    await work.acquire(1e308)
    with pytest.raises(ResourceExhausted):
        await work.acquire(1e308)
    for rate, per in ((5e-324, 1e10), (1e308, 1e-308)):
        with pytest.raises(BadOption, match="rate / per"):
            RateLimit(rate, per)


async def test_a_limit_can_be_taken_away_and_nothing_is_left_of_it(platform: Runtime) -> None:
    book = ResourceUsage.of(platform)
    for n in range(100):
        user = Resource(platform, f"user {n}", priority="high")
        await user.set_limit(1)
        token = await user.acquire()
        await user.set_limit(None)
        assert await user.release(token)
        with pytest.raises(BadOption, match="there are: work"):
            await user.acquire()
    assert set(book.limits) == set(book.used) == {"work"}
    assert (book.levels, book.leases, book._taken) == ({}, {}, {})


async def test_a_limit_changed_at_run_time_survives_a_restart(platform: Runtime) -> None:
    work = Resource(platform, "work", priority="high")
    await work.set_limit(10)
    whereis(platform, "resources").kill()
    await settled(platform)
    await work.acquire(10)
    whereis(platform, "resources").kill()
    await settled(platform)
    assert work.used == 10


async def test_who_held_something_is_watched_no_longer(platform: Runtime) -> None:
    work = Resource(platform, "work", priority="high")
    caller = await platform.spawn(Caller, work, quick)
    for _ in range(10):
        await caller.call(Ask())
    await settled(platform)
    watching: Any = whereis(platform, "resources")
    assert not watching.watching
    whereis(platform, "resources").cast(WatchHolder(caller))
    await settled(platform)
    assert not watching.watching
    token = await work.acquire(holder=caller)
    more = await work.acquire(holder=caller)
    await work.release(token)
    whereis(platform, "resources").cast(WatchHolder(caller))
    await settled(platform)
    assert len(watching.watching) == 1
    await work.release(more)


async def test_a_measure_that_fails_is_told_once_and_ends_nothing(runtime: Runtime) -> None:
    log = EventLog(runtime, MeasureFailed)
    values: list[Any] = [0.5]

    def measure(runtime: Runtime) -> Any:
        if isinstance(values[-1], Exception):
            raise values[-1]
        return values[-1]

    spec = ChildSpec("r", Resources, ({"load": 1},), {"measures": {"load": measure}, "interval": 1.0}, name="resources")
    await runtime.spawn(Supervisor, [spec])
    load = Resource(runtime, "load")
    for value in (KeyError("x"), KeyError("y"), float("nan"), 0.7, "text", 10**400):
        values.append(value)
        await advance(1.0)
        whereis(runtime, "resources")
    assert load.used == 0.7
    assert [event.resource for event in log.of(MeasureFailed)] == ["load", "load"]
    whereis(runtime, "resources").kill()
    await settled(runtime)
    assert load.used == 0.7


# -- caches ----------------------------------------------------------------------------------------------------------


WHO: ContextVar[str] = ContextVar("WHO", default="nobody")


async def test_a_load_is_nobodys(runtime: Runtime) -> None:
    """It outlives its first caller, whatever becomes of that, and has none of its context, deadline or fence."""
    cache: Cache[str, str] = Cache(runtime, "c")
    source = await runtime.spawn(Caller, Bulkhead(10), quick)

    async def load() -> Any:
        await runtime.sleep(1.0)
        return WHO.get(), await source.call(Ask())

    async def asks() -> Any:
        WHO.set("first")
        return await cache.get("k", load)

    for ending in ("killed", "exits", "late", "cancelled"):
        first = await runtime.spawn(Caller, Bulkhead(1), asks)
        call = first.call(Ask(), timeout=0.5 if ending == "late" else 60.0)
        await advance(0.1)
        other = asyncio.ensure_future(cache.get("k", load))
        await advance(0.1)
        if ending == "killed":
            first.kill()
        elif ending == "exits":
            first.exit("boom")
        elif ending == "cancelled":
            call.cancel()
        assert await other == ("nobody", "ok"), ending
        await asyncio.wait([call])
        if not call.cancelled():
            call.exception()
        cache.invalidate("k")


async def test_a_load_that_is_cancelled_from_within_is_an_error(runtime: Runtime) -> None:
    cache: Cache[str, str] = Cache(runtime, "c")

    async def load() -> str:
        raise asyncio.CancelledError

    with pytest.raises(LoadCancelled, match="c: the load of 'k' was cancelled from within"):
        await cache.get("k", load)
    assert cache.statistics().failures == 1


async def test_a_load_that_does_not_end_is_replaced_and_nothing_is_kept_of_it(runtime: Runtime) -> None:
    cache: Cache[str, str] = Cache(runtime, "c")
    gate = asyncio.get_running_loop().create_future()

    async def stubborn() -> str:
        try:
            await runtime.sleep(1000.0)
        except asyncio.CancelledError:
            await asyncio.shield(gate)
        return "stubborn"

    await cancelled_after(2, cache.get("k", stubborn))
    assert cache._loads == {}
    assert await cache.get("k", quick) == "ok"
    gate.set_result(None)
    await advance(0.0)
    assert cache.peek("k") == "ok"


async def test_caches_are_forgotten_with_their_users(runtime: Runtime) -> None:
    def of(name: str) -> list[Any]:
        return [reading for reading in collect_samples(runtime) if ("cache", name) in reading.labels]

    cache: Cache[str, str] = Cache(runtime, "mine")
    assert len(of("mine")) == 4
    del cache
    gc.collect()
    assert of("mine") == []
