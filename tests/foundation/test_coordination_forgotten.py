"""Names are forgotten when nobody needs them, and an end costs what was held, not what was ever used."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from foundation.coordination import (
    Ascending,
    Auction,
    BadArgument,
    Barrier,
    Election,
    LeaderChanged,
    Lock,
    Market,
    Sealed,
    Unanimity,
    Vote,
    propose,
)
from foundation.coordination.auction_rules import Sale
from foundation.coordination.markets import REMEMBERED, CancelOrders, Quote
from foundation.events import AuctionClosed, LeaderElected, LockExpired
from supervision import Actor, CallTimeout, Ref, Runtime, handle
from supervision.testing import advance, settled
from tests.foundation.test_coordination_interrupted import KINDS, left, soon


class Idle(Actor):
    """Does nothing, but agree."""

    @handle
    def vote(self, request: Vote) -> bool | None:
        """Agree."""
        return True

    @handle
    def changed(self, message: LeaderChanged) -> None:
        """Hear it."""


@pytest.fixture
async def bare() -> AsyncIterator[Runtime]:
    """A runtime with all coordinators."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        for kind in KINDS:
            await runtime.spawn(kind)
        yield runtime


async def nothing_left(runtime: Runtime) -> None:
    """Make sure that the coordinators keep nothing for anybody."""
    await settled(runtime)
    found = {key: value for key, value in (await left(runtime)).items() if value}
    assert not found


async def use(runtime: Runtime, name: str, who: Ref) -> None:
    """Use everything of a name, and have done with it."""
    async with Lock(runtime, name).held(holder=who, lease=100.0):
        pass
    barrier = Barrier(runtime, name, parties=2)
    await asyncio.gather(barrier.arrive(who=who), barrier.arrive())
    election = Election(runtime, name)
    await election.follow(who)
    await election.stand(who)
    await election.resign(who)
    await election.unfollow(who)
    market = Market(runtime, name)
    await market.sell(1, price=1, trader=name, who=who)
    await market.buy(1, price=1, trader="ben")
    await market.buy(1, price=1, trader="ben", who=who)
    await market.cancel("ben")
    auction = Auction(runtime, name)
    await auction.open(Sealed(), seconds=1)
    await auction.bid(1, bidder=name, who=who)
    assert await auction.outcome() == Sale(name, 1)
    assert (await propose(runtime, name, [who], Unanimity())).accepted


async def test_what_was_used_and_is_not_any_more_is_forgotten(bare: Runtime) -> None:
    who = await bare.spawn(Idle)
    for n in range(20):
        await use(bare, f"name {n}", who)
    await nothing_left(bare)


async def test_what_was_forgotten_gets_larger_numbers_than_before(bare: Runtime) -> None:
    """Tokens, terms and generations only grow, over restarts too: whoever has seen one can refuse smaller ones."""
    one = await bare.spawn(Idle)
    seen: list[tuple[int, ...]] = []
    for _ in range(3):
        async with Lock(bare, "a").held() as grant, Lock(bare, "b").held():
            barrier = Barrier(bare, "a", parties=1)
            leader = await Election(bare, "a").stand(one)
            seen.append((grant.fence, (await barrier.arrive()).generation, leader.term))
            await Election(bare, "a").resign(one)
        await nothing_left(bare)
        for name in ("locks", "barriers", "elections"):
            ref = bare.whereis(name)
            assert ref is not None
            ref.kill()
            await bare.spawn(ref.kind)
    assert seen == [(1, 1, 1), (2, 2, 2), (3, 3, 3)]


async def test_who_waits_for_a_later_term_than_any_gets_one(bare: Runtime) -> None:
    one, two = await bare.spawn(Idle), await bare.spawn(Idle)
    election = Election(bare, "writer")
    first = await election.stand(one)
    await election.resign(one)
    waiting = soon(election.leader_after(first.term))
    await settled(bare)
    await election.stand(two)
    assert (await waiting).term == first.term + 1


async def test_a_capacity_is_agreed_on_among_those_who_use_a_lock_now(bare: Runtime) -> None:
    grant = await Lock(bare, "a").acquire()
    with pytest.raises(BadArgument, match="capacity of a = 3: all who use this lock at a time say the same"):
        await Lock(bare, "a", capacity=3).acquire()
    await Lock(bare, "a").release(grant)
    assert (await Lock(bare, "a", capacity=3).acquire(2)).amount == 2


async def test_an_end_ends_all_that_was_held_and_nothing_else(bare: Runtime) -> None:
    """In several places at once, and also for who waits."""
    one, two = await bare.spawn(Idle), await bare.spawn(Idle)
    lock, market, auction = Lock(bare, "a", capacity=3), Market(bare, "m"), Auction(bare, "x")
    for who in (one, two):
        await lock.acquire(holder=who)
        await market.sell(2, price=5, trader="sue", who=who)
        await Election(bare, "e").stand(who)
        await Election(bare, "e").follow(who)
    await auction.open(Ascending(), seconds=1e5)
    for amount, who in ((1, one), (2, two), (3, one)):
        await auction.bid(amount, bidder="ada", who=who)
    waiting = soon(lock.acquire(2, holder=one))
    await settled(bare)
    one.kill()
    await asyncio.wait([waiting])
    await settled(bare)
    assert [grant.holder for grant in lock.grants] == [two]
    assert await auction.asked() == 3, "the bid of two, who is another actor of the same name"
    assert await market.cancel("sue") == 2
    two.kill()
    await settled(bare)
    found = await left(bare)
    assert [key for key, value in found.items() if value] == ["auctions", "auctions _timers"]
    assert await auction.asked() == 0


async def test_a_lease_that_is_renewed_or_given_back_leaves_no_timer(bare: Runtime) -> None:
    lock = Lock(bare, "a")
    before = len(bare.scheduler.timers)
    for _ in range(100):
        async with lock.held(lease=1e5) as grant:
            for lease in (1e5, 1e4):
                await lock.renew(grant, lease)
            assert len(bare.scheduler.timers) <= before + 3
    await settled(bare)
    assert len(bare.scheduler.timers) <= before + 1, "that of the calls of this test"


async def test_a_lease_ends_at_its_time_whatever_the_time_is(bare: Runtime) -> None:
    """Sums of floats are not exact, and loops are early by a nanosecond: neither holds up the end."""
    for n in range(1, 200):
        lock = Lock(bare, f"lock {n}")
        for lease in (0.1 * n, 1 / n, 1e-9 / n, 1e5 / n):
            grant = await lock.acquire(lease=lease)
            await advance(lease)
            await settled(bare)
            assert not lock.is_valid(grant)


async def test_a_lease_can_be_made_shorter(bare: Runtime) -> None:
    lock = Lock(bare, "a")
    grant = await lock.renew(await lock.acquire(lease=1e5), 1.0)
    await advance(1.0)
    await settled(bare)
    assert not lock.is_valid(grant)


async def test_the_last_price_of_a_market_is_remembered_for_a_while(bare: Runtime) -> None:
    for number in range(REMEMBERED + 1):
        market = Market(bare, str(number))
        await market.sell(1, price=number + 1, trader="sue")
        await market.buy(1, price=number + 1, trader="ben")
    assert await Market(bare, str(REMEMBERED)).quote() == Quote(None, None, REMEMBERED + 1)
    assert await Market(bare, "0").quote() == Quote(None, None, None)
    again = Market(bare, "1")
    await again.sell(1, price=9, trader="sue")
    assert await again.quote() == Quote(None, 9, 2)


async def test_an_order_can_be_taken_back_by_its_number_once(bare: Runtime) -> None:
    market, markets = Market(bare, "m"), bare.name("markets")
    await market.sell(2, price=5, trader="sue")
    await market.sell(3, price=6, trader="sue")
    assert [await markets.call(CancelOrders("m", None, 1)) for _ in range(2)] == [2, 0]
    assert await market.cancel("sue") == 3


# -- requests that were given up -------------------------------------------------------------------------------------


ABANDONED: dict[str, Callable[[Runtime, Ref], Awaitable[Any]]] = {
    "locks": lambda runtime, who: Lock(runtime, "held").acquire(timeout=0.05),
    "locks of actors": lambda runtime, who: Lock(runtime, "held").acquire(timeout=0.05, holder=who),
    "barriers": lambda runtime, who: Barrier(runtime, "start", parties=10_000).arrive(timeout=0.05, who=who),
    "elections": lambda runtime, who: Election(runtime, "writer").leader_after(9, timeout=0.05),
    "auctions": lambda runtime, who: Auction(runtime, "gpu").outcome(timeout=0.05),
    "consensus": lambda runtime, who: asyncio.wait_for(propose(runtime, 1, [runtime.name("deaf")], Unanimity()), 0.05),
}


class Deaf(Actor):
    """Does not answer."""

    @handle
    async def vote(self, request: Vote) -> bool | None:
        """Think."""
        await self.runtime.sleep(1e9)
        return None


@pytest.mark.parametrize("what", ABANDONED)
async def test_requests_that_were_given_up_leave_nothing(bare: Runtime, what: str) -> None:
    who, deaf = await bare.spawn(Idle), await bare.spawn(Deaf, name="deaf")
    await Lock(bare, "held").acquire(holder=deaf)
    await Auction(bare, "gpu").open(Sealed(), seconds=1e9)
    before = await left(bare)
    works = [ABANDONED[what](bare, who) for _ in range(500)]
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    assert all(isinstance(outcome, CallTimeout | TimeoutError) for outcome in outcomes)
    await settled(bare)
    assert await left(bare) == before
    assert len(bare.scheduler.waiting) == 0


# -- what an end costs -----------------------------------------------------------------------------------------------


async def steps(runtime: Runtime, work: Callable[[], object]) -> int:
    """Return how many functions are called until what ``work`` begins is done."""
    counted = 0

    def count(*_: object) -> None:
        nonlocal counted
        counted += 1

    sys.setprofile(count)
    try:
        work()
        await settled(runtime)
    finally:
        sys.setprofile(None)
    return counted


async def hold(runtime: Runtime, names: range, who: Ref) -> list[Any]:
    """Hold, stand, follow, wait, bid and trade under many names."""
    waiting = []
    for n in names:
        await Lock(runtime, f"lock {n}").acquire(holder=who, lease=1e6)
        await Election(runtime, f"election {n}").stand(who)
        await Election(runtime, f"election {n}").follow(who)
        await Market(runtime, f"market {n}").sell(1, price=1, trader=n, who=who)
        await Market(runtime, "market").sell(1, price=1, trader=n, who=who)
        await Election(runtime, "election").stand(who)
        await Auction(runtime, f"auction {n}").open(Sealed(), seconds=1e6)
        await Auction(runtime, f"auction {n}").bid(1, bidder=n, who=who)
        await Auction(runtime, "auction").bid(1, bidder=n, who=who)
        waiting.append(soon(Barrier(runtime, f"barrier {n}", parties=2).arrive(who=who)))
        waiting.append(soon(Lock(runtime, "lock", capacity=10).acquire(10, holder=who)))
    await settled(runtime)
    return waiting


async def test_an_end_costs_what_was_held_and_not_what_others_hold(bare: Runtime) -> None:
    first, other = await bare.spawn(Idle), await bare.spawn(Idle)
    await Auction(bare, "auction").open(Sealed(), seconds=1e6)
    await Lock(bare, "lock", capacity=10).acquire(holder=first)
    costs, waiting = [], []
    for begin, end in ((0, 20), (20, 420)):
        waiting += await hold(bare, range(begin, end), other)
        who = await bare.spawn(Idle)
        waiting += await hold(bare, range(-begin - 2, -begin), who)
        costs.append(await steps(bare, who.kill))
    assert costs[1] <= 1.2 * costs[0], costs
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_the_end_of_many_candidates_costs_so_much_for_each(bare: Runtime) -> None:
    costs = []
    for many in (20, 200):
        candidates = [await bare.spawn(Idle) for _ in range(many)]
        for candidate in candidates:
            await Election(bare, f"writer {many}").stand(candidate)

        def kill_all(candidates: list[Ref] = candidates) -> None:
            for candidate in candidates:
                candidate.kill()

        costs.append(await steps(bare, kill_all) / many)
    assert costs[1] <= 1.5 * costs[0], costs
    await nothing_left(bare)


# -- a coordinator that is killed by who hears of what it does -------------------------------------------------------


async def test_what_a_coordinator_tells_of_is_done_already(bare: Runtime) -> None:
    """Whoever kills it on hearing of it changes nothing: those who waited are answered, followers are told."""
    heard: list[Any] = []

    class Follower(Idle):
        @handle
        def changed(self, message: LeaderChanged) -> None:
            heard.append(message.leader)

    names: dict[str, str] = {"LockExpired": "locks", "LeaderElected": "elections", "AuctionClosed": "auctions"}

    def kill(event: Any) -> None:
        bare.whereis(names[type(event).__name__]).kill()  # type: ignore[union-attr]

    lock, election, auction = Lock(bare, "a"), Election(bare, "e"), Auction(bare, "x")
    await lock.acquire(lease=1.0)
    await election.follow(await bare.spawn(Follower))
    await auction.open(Sealed(), seconds=1.0)
    waiting = [soon(work) for work in (lock.acquire(), election.leader_after(0), auction.outcome())]
    await settled(bare)
    bare.subscribe(kill, LockExpired, LeaderElected, AuctionClosed)
    soon(election.stand(await bare.spawn(Idle)))
    await advance(1.0)
    await settled(bare)
    grant, leader, sale = [task.result() for task in waiting]
    assert (lock.grants, election.leader, sale) == ([grant], leader, None)
    assert heard == [None, leader]
    for kind in KINDS:
        if bare.whereis(kind.__name__.lower()) is None:
            await bare.spawn(kind)
    assert lock.grants == [grant]
    assert election.leader == leader
    assert await auction.outcome() is None


async def test_a_restart_forgets_who_only_waited(bare: Runtime) -> None:
    election = Election(bare, "writer")
    waiting = soon(election.leader_after(0))
    await settled(bare)
    bare.whereis("elections").kill()  # type: ignore[union-attr]
    await asyncio.wait([waiting])
    await bare.spawn(KINDS[2])
    await nothing_left(bare)
