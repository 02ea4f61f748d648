"""Locks, barriers, elections, consensus, auctions and markets."""

from __future__ import annotations

import asyncio

import pytest

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
    Majority,
    Market,
    Markets,
    Sealed,
    Vote,
    propose,
)
from supervision import Actor, CallTimeout, handle
from supervision.testing import ResourceCounts, ScenarioRun
from tests.foundation.interrupted.table import Worker, line, service, world


class Voter(Actor):
    """Agrees, after a while."""

    @handle
    async def vote(self, request: Vote) -> bool | None:
        """Agree."""
        await self.runtime.sleep(1.0)
        return True


# -- locks -------------------------------------------------------------------------------------------------------------


async def _locked(run: ScenarioRun, contended: bool, lease: float | None) -> None:
    async with world(run, service(Locks)) as here:
        lock = Lock(here.runtime, "printer")
        other = await lock.acquire(lease=1.0) if contended else None

        async def use() -> None:
            grant = await lock.acquire(lease=lease)
            try:
                await here.runtime.sleep(0.1)
            finally:
                await lock.release(grant)

        await here.interrupt(use, lambda: {"grants": sum(grant != other for grant in lock.grants)})
        async with lock.held(timeout=5.0):
            assert len(lock.grants) == 1


@line("lock.acquire", "Lock.acquire", "Lock.release")
async def acquire(run: ScenarioRun) -> None:
    """A lock that is free."""
    await _locked(run, contended=False, lease=None)


@line("lock.acquire_waiting")
async def acquire_waiting(run: ScenarioRun) -> None:
    """A lock that somebody else holds for a second."""
    await _locked(run, contended=True, lease=None)


@line("lock.acquire_lease")
async def acquire_lease(run: ScenarioRun) -> None:
    """A lock for a time."""
    await _locked(run, contended=True, lease=5.0)


@line("lock.held", "Lock.held")
async def held(run: ScenarioRun) -> None:
    """A block."""
    async with world(run, service(Locks)) as here:
        lock = Lock(here.runtime, "printer", capacity=2)

        async def use() -> None:
            async with lock.held(2, holder=here.worker):
                await here.runtime.sleep(0.1)

        await here.interrupt(use, lambda: {"grants": len(lock.grants)})
        async with lock.held(2, timeout=5.0):
            pass


@line("lock.renew", "Lock.renew")
async def renew(run: ScenarioRun) -> None:
    """More time."""
    async with world(run, service(Locks)) as here:
        lock = Lock(here.runtime, "printer")
        grant = await lock.acquire(lease=10.0)
        await here.interrupt(lambda: lock.renew(grant, 20.0))
        await here.runtime.sleep(30.0)
        assert lock.grants == []
        async with lock.held(timeout=1.0):
            pass


# -- barriers ----------------------------------------------------------------------------------------------------------


@line("barrier.arrive", "Barrier.arrive")
async def arrive(run: ScenarioRun) -> None:
    """Who gives up has not arrived: two others pass together, and not with it."""
    async with world(run, service(Barriers)) as here:
        barrier = Barrier(here.runtime, "start", parties=2)

        async def give_up() -> None:
            with pytest.raises(CallTimeout):
                await barrier.arrive(timeout=10.0)

        await here.interrupt(give_up)
        async with asyncio.timeout(5.0):
            crossings = await asyncio.gather(barrier.arrive(), barrier.arrive())
        assert {crossing.place for crossing in crossings} == {1, 2}
        assert len({crossing.generation for crossing in crossings}) == 1


@line("barrier.arrive_last")
async def arrive_last(run: ScenarioRun) -> None:
    """With the last one all pass, or it gives up and the first goes on waiting."""
    async with world(run, service(Barriers), restart=False) as here:
        barrier = Barrier(here.runtime, "start", parties=2)
        first = asyncio.ensure_future(barrier.arrive())
        await here.runtime.sleep(0.1)
        outcome = await here.interrupt(barrier.arrive)
        if outcome.done or first.done():
            assert (await first).place == 1
        else:
            async with asyncio.timeout(5.0):
                crossings = await asyncio.gather(first, barrier.arrive())
            assert sorted(crossing.place for crossing in crossings) == [1, 2]


# -- elections ---------------------------------------------------------------------------------------------------------


@line("election.stand", "Election.stand", "Election.resign")
async def stand(run: ScenarioRun) -> None:
    """To stand and resign: in the end another one can lead."""
    async with world(run, service(Elections)) as here:
        election = Election(here.runtime, "writer")
        candidate = await here.runtime.spawn(Worker)

        async def term() -> None:
            await election.stand(candidate)
            await election.resign(candidate)

        await here.interrupt(term)
        await election.resign(candidate)
        leader = await election.stand(here.worker)
        assert leader.ref is here.worker
        assert election.leader == leader


@line("election.leader_after", "Election.leader_after")
async def leader_after(run: ScenarioRun) -> None:
    """To wait for a leader."""
    async with world(run, service(Elections)) as here:
        election = Election(here.runtime, "writer")

        async def give_up() -> None:
            with pytest.raises(CallTimeout):
                await election.leader_after(timeout=10.0)

        await here.interrupt(give_up)
        await election.stand(here.worker)
        assert (await election.leader_after(timeout=1.0)).ref is here.worker


@line("election.follow", "Election.follow", "Election.unfollow")
async def follow(run: ScenarioRun) -> None:
    """To be told of leaders, and no more; a second time changes nothing."""
    async with world(run, service(Elections)) as here:
        election = Election(here.runtime, "writer")
        follower = await here.runtime.spawn(Worker)

        async def follow_for_a_while() -> None:
            try:
                await election.follow(follower)
                await election.unfollow(follower)
            finally:
                follower.kill()

        before = ResourceCounts.of(here.runtime).monitors
        await here.interrupt(follow_for_a_while, lambda: {"monitors": 0.0})
        follower.kill()
        await here.runtime.sleep(1.0)
        assert ResourceCounts.of(here.runtime).monitors == before
        await election.follow(here.worker)
        assert (await election.stand(here.worker)).term == 1


# -- consensus ---------------------------------------------------------------------------------------------------------


@line("consensus.propose", "propose")
async def proposed(run: ScenarioRun) -> None:
    """A round: whatever becomes of it, the next one is decided."""
    async with world(run, service(Consensus)) as here:
        voters = [await here.runtime.spawn(Voter) for _ in range(3)]
        await here.interrupt(lambda: propose(here.runtime, "x", voters, Majority(), time_limit=5.0))
        decision = await propose(here.runtime, "y", voters, Majority(), time_limit=5.0)
        assert decision.accepted


# -- auctions and markets ----------------------------------------------------------------------------------------------


@line("auction.open", "Auction.open")
async def open_auction(run: ScenarioRun) -> None:
    """An auction is open, or it is not."""
    async with world(run, service(Auctions)) as here:
        auction = Auction(here.runtime, "gpu")
        await here.interrupt(lambda: auction.open(Sealed(), seconds=5.0))
        await here.runtime.sleep(10.0)
        await auction.open(Sealed(), seconds=1.0)
        await auction.bid(3, bidder="eve")
        sale = await auction.outcome(timeout=5.0)
        assert sale is not None
        assert (sale.winner, sale.price) == ("eve", 3)


@line("auction.bid", "Auction.bid", "Auction.asked", "Auction.outcome")
async def bid(run: ScenarioRun) -> None:
    """A bid counts, or it does not; the auction ends."""
    async with world(run, service(Auctions)) as here:
        auction = Auction(here.runtime, "gpu")
        await auction.open(Sealed(), seconds=5.0)

        async def take_part() -> None:
            await auction.asked()
            await auction.bid(3, bidder="eve", who=here.worker)
            await auction.outcome(timeout=10.0)

        await here.interrupt(take_part)
        here.worker.kill()
        sale = await auction.outcome(timeout=10.0)
        assert sale is None or sale.winner == "eve"


@line("market.trade", "Market.buy", "Market.sell", "Market.quote", "Market.cancel")
async def trade(run: ScenarioRun) -> None:
    """Orders that are taken back are gone; no unit is made or lost."""
    async with world(run, service(Markets)) as here:
        market = Market(here.runtime, "hours")
        await market.sell(5, price=10, trader="sue")

        async def deal() -> None:
            await market.buy(3, price=12, trader="ben")
            await market.sell(1, price=20, trader="ben")
            await market.quote()
            await market.cancel("ben")

        await here.interrupt(deal)
        await market.cancel("ben")
        quote = await market.quote()
        left = await market.cancel("sue")
        assert quote.bid is None
        assert left in (2, 5)
        assert (left == 2) == (quote.last == 10)
