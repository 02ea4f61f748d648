"""Whoever is cut off, at whatever moment, holds nothing, waits for nothing and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from foundation.coordination import (
    Ascending,
    Auction,
    Auctions,
    Barrier,
    BarrierBroken,
    Barriers,
    Consensus,
    Descending,
    Election,
    Elections,
    LeaderChanged,
    Lock,
    Locks,
    Market,
    Markets,
    Sealed,
    Unanimity,
    Vote,
    propose,
)
from foundation.coordination.auction_rules import Sale
from foundation.coordination.auctioneer import OpenAuction
from foundation.coordination.barriers import Arrive, Withdrawal
from foundation.coordination.elections import NAMELESS, Follow, Stand
from foundation.coordination.locks import Acquire, Release
from foundation.coordination.retained import UndoQueue
from supervision import (
    Actor,
    ActorExited,
    CallTimeout,
    ChildSpec,
    NoProcess,
    Runtime,
    Supervisor,
    handle,
    system,
)
from supervision.testing import DoAndReply, Probe, advance, settled
from tests.supervision.conftest import CarryAlways

KINDS: list[type[Actor]] = [Locks, Barriers, Elections, Consensus, Auctions, Markets]
#: So many turns of the loop are more than any of these needs to be answered.
TURNS = 12


class Idle(Actor):
    """Does nothing, but vote when it is asked: never."""

    @handle
    async def vote(self, request: Vote) -> bool | None:
        """Wait for ever."""
        await self.runtime.sleep(1e6)
        return True


@pytest.fixture(params=["bare", "carrying"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[Runtime]:
    """A runtime with all coordinators, supervised; its messages carry nothing, or something."""
    propagator = CarryAlways() if request.param == "carrying" else None
    async with Runtime(watchdog=None, reports=False, propagator=propagator, run_queue=deque()) as runtime:
        children = [ChildSpec(kind.__name__.lower(), kind, name=kind.__name__.lower()) for kind in KINDS]
        await runtime.spawn(Supervisor, children, max_restarts=10_000)
        yield runtime


async def turn() -> None:
    """Let everything that is ready happen, once."""
    loop = asyncio.get_running_loop()
    gate = loop.create_future()
    loop.call_soon(gate.set_result, None)
    await gate


async def unseen(owner: Any, work: Awaitable[Any], beside: Awaitable[Any] | None = None) -> None:
    """Do something in a task that is cancelled when the answer has come, just before it can be seen.

    What is done ``beside`` it is asked for right after it, and answered before it is cancelled.
    """
    address = owner._address

    class Cutting:
        def call(self, request: Any, *timeout: Any) -> Any:
            call = address.call(request, *timeout)
            call.add_done_callback(lambda _: task.cancel())
            return call

    owner._address = Cutting()
    task = soon(work)
    second = soon(nothing() if beside is None else beside)
    await asyncio.wait([task])
    assert task.cancelled()
    owner._address = address
    await second
    await settled(address.runtime)


async def nothing() -> None:
    """Do nothing."""


async def restart(runtime: Runtime, name: str) -> None:
    """Kill a coordinator and wait for the next."""
    before = runtime.whereis(name)
    assert before is not None
    before.kill()
    await settled(runtime)
    assert runtime.whereis(name) not in (None, before)


def soon(coroutine: Any) -> asyncio.Task[Any]:
    """Begin something."""
    return asyncio.ensure_future(coroutine)


async def left(runtime: Runtime) -> dict[str, Any]:
    """Return all that the coordinators keep: for those who hold, wait, stand, bid or follow."""
    found: dict[str, Any] = {}
    for (_, name), known in [
        (key, value) for key, value in runtime.shared.items() if key[0] == "foundation.coordination"
    ]:
        if not name.endswith((": numbers", ": over", ": last prices")):
            found[name] = {key: _plain(value) for key, value in known.items()}
    for kind in KINDS:
        name = kind.__name__.lower()
        ref: Any = runtime.whereis(name)
        state = await system.get_state(ref)
        for field in ("_waiting", "_barriers", "_awaiting", "_rounds", "_expiry", "_timers"):
            found[f"{name} {field}"] = len(state.get(field, ()))
        watched = state.get("_watched")
        found[f"{name} watches"] = 0 if watched is None else len(watched._theirs)
        found[f"{name} monitors"] = len(ref.watching or ())
        found[f"{name} owes"] = len(ref.deferred or ())
    return found


def _plain(known: Any) -> Any:
    """Return what can be compared: numbers that only grow do not count."""
    match type(known).__name__:
        case "LockState":
            return known.held
        case "ElectionState":
            return (
                known.leader and known.leader.ref,
                {ref: one.priority for ref, one in known.candidates.items()},
                list(known.followers),
            )
        case "RunningAuction":
            bids = [(party.value, amount) for party, amount in known.auction._newest()]
            return (bids, known.auction.asked, known.auction.holders())
        case "MarketState":
            return [(order.who, order.units, order.price) for order in (*known.book.bids, *known.book.asks)]
        case _:
            return known


class Scene:
    """What each work below finds, and has to leave as it was."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    async def fill(self) -> None:
        """Let others hold, wait, stand, bid and trade."""
        runtime = self.runtime
        self.other, self.mine = await runtime.spawn(Idle), await runtime.spawn(Idle)
        self.free, self.taken = Lock(runtime, "free"), Lock(runtime, "taken")
        self.grant = await self.taken.acquire(holder=self.other)
        self.barrier = Barrier(runtime, "start", parties=3)
        self.there = soon(self.barrier.arrive())
        self.election, self.nobody = Election(runtime, "writer"), Election(runtime, "nobody")
        await self.election.stand(self.other, 1)
        await Election(runtime, "again").stand(self.mine, 1)
        self.auction, self.gone = Auction(runtime, "gpu"), Auction(runtime, "gone")
        await self.auction.open(Ascending(), seconds=1e6)
        await self.auction.bid(5, bidder="ada", who=self.other)
        self.sealed = Auction(runtime, "sealed")
        await self.sealed.open(Sealed(), seconds=1e6)
        await self.sealed.bid(5, bidder="me", who=self.mine)
        self.market = Market(runtime, "hours")
        await self.market.sell(5, price=10, trader="sue", who=self.other)
        await settled(runtime)

    # What may be cut off, and has had no effect then.

    async def acquire(self) -> None:
        """Take a lock that is free."""
        await self.free.acquire(holder=self.mine)

    async def wait_for_lock(self) -> None:
        """Wait for a lock that somebody has."""
        await self.taken.acquire(holder=self.mine)

    async def hold(self) -> None:
        """Hold a lock for a while."""
        async with self.free.held(holder=self.other):
            for _ in range(3):
                await turn()

    async def arrive(self) -> None:
        """Wait for others at a barrier."""
        await self.barrier.arrive(who=self.mine)

    async def stand(self) -> None:
        """Stand."""
        await self.election.stand(self.mine, 7)

    async def stand_alone(self) -> None:
        """Stand where nobody else does, and lead."""
        await self.nobody.stand(self.mine)

    async def stand_again(self) -> None:
        """Stand with another priority."""
        await Election(self.runtime, "again").stand(self.mine, 9)

    async def follow(self) -> None:
        """Follow."""
        await self.election.follow(self.mine)

    async def follow_by_name(self) -> None:
        """Follow by a name."""
        await self.nobody.follow(self.runtime.name("locks"))

    async def leader_after(self) -> None:
        """Wait for a leader."""
        await self.election.leader_after(5)

    async def propose(self) -> None:
        """Ask somebody who does not answer."""
        await propose(self.runtime, 1, [self.mine, self.other], Unanimity(), time_limit=1e5)

    async def open(self) -> None:
        """Open an auction."""
        await self.gone.open(Descending(10, 1), seconds=1e5)

    async def bid(self) -> None:
        """Bid more."""
        await self.auction.bid(50, bidder="me", who=self.mine)

    async def bid_again(self) -> None:
        """Change a bid."""
        await self.sealed.bid(50, bidder="me", who=self.mine)

    async def outcome(self) -> None:
        """Wait for the end."""
        await self.auction.outcome()

    async def buy(self) -> None:
        """Give an order that stays open."""
        await self.market.buy(5, price=3, trader="ben", who=self.mine)


WORK = [
    "acquire",
    "wait_for_lock",
    "hold",
    "arrive",
    "stand",
    "stand_alone",
    "stand_again",
    "follow",
    "follow_by_name",
    "leader_after",
    "propose",
    "open",
    "bid",
    "bid_again",
    "outcome",
    "buy",
]
#: These are not over by themselves.
ENDLESS = {"wait_for_lock", "arrive", "leader_after", "propose", "outcome"}


async def begin(scene: Scene, what: str, how: str) -> tuple[asyncio.Future[Any], Callable[[], Any]]:
    """Begin a work, in a task or in an actor. Return its end, and what cuts it off."""
    work: Callable[[], Awaitable[None]] = getattr(scene, what)
    if how == "cancel":
        task = soon(work())
        return task, task.cancel
    worker = await scene.runtime.spawn(Probe)
    return worker.call(DoAndReply(lambda _: work()), timeout=None), worker.kill


@pytest.mark.parametrize("how", ["cancel", "kill"])
@pytest.mark.parametrize("what", WORK)
async def test_who_is_cut_off_at_any_moment_leaves_nothing_behind(world: Runtime, what: str, how: str) -> None:
    scene = Scene(world)
    await scene.fill()
    before = await left(world)
    cut_off = 0
    for turns in range(TURNS):
        end, cut = await begin(scene, what, how)
        for _ in range(turns):
            await turn()
        if end.done():
            break
        cut()
        await asyncio.wait([end])
        await settled(world)
        assert await left(world) == before, f"cut off after {turns} turns"
        cut_off += 1
    assert cut_off >= 2
    assert cut_off == TURNS or what not in ENDLESS
    scene.there.cancel()


@pytest.mark.parametrize("what", sorted(ENDLESS))
async def test_whose_time_is_over_leaves_nothing_behind(world: Runtime, what: str) -> None:
    scene = Scene(world)
    await scene.fill()
    before = await left(world)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(getattr(scene, what)(), 10.0)
    await settled(world)
    assert await left(world) == before
    scene.there.cancel()


NAMED = {
    "acquire": "locks",
    "wait_for_lock": "locks",
    "hold": "locks",
    "arrive": "barriers",
    "stand": "elections",
    "stand_alone": "elections",
    "stand_again": "elections",
    "follow": "elections",
    "leader_after": "elections",
    "propose": "consensus",
    "open": "auctions",
    "bid": "auctions",
    "bid_again": "auctions",
    "outcome": "auctions",
    "buy": "markets",
}


@pytest.mark.parametrize("what", sorted(NAMED))
async def test_a_restart_at_any_moment_is_told_and_takes_nothing_away(world: Runtime, what: str) -> None:
    """What was answered is so, and what was not answered is not; what others hold stays theirs."""
    scene = Scene(world)
    await scene.fill()
    scene.there.cancel()  # who waits at a barrier is told of a restart, as everybody who waits
    await settled(world)
    before = await left(world)
    turns = 0
    for turns in range(TURNS):
        end, _ = await begin(scene, what, "cancel")
        for _ in range(turns):
            await turn()
        if end.done():
            break
        await restart(world, NAMED[what])
        outcome = (await asyncio.gather(end, return_exceptions=True))[0]
        after = await left(world)
        if outcome is None and what != "hold":
            assert after != before
            break
        assert outcome is None or isinstance(outcome, ActorExited | NoProcess)
        assert after == before, f"restarted after {turns} turns"
    assert turns > 0


# -- what is given back while nobody is there to take it ---------------------------------------------------------------


class Absent:
    """A coordinator that is unavailable for a while."""

    def __init__(self, runtime: Runtime, kind: type[Actor]) -> None:
        self.runtime, self.kind = runtime, kind
        self.name = kind.__name__.lower()

    async def __aenter__(self) -> None:
        ref = self.runtime.whereis(self.name)
        assert ref is not None
        ref.kill()

    async def __aexit__(self, *_: object) -> None:
        await self.runtime.spawn(self.kind, name=self.name)


@pytest.fixture
async def bare() -> AsyncIterator[Runtime]:
    """A runtime with all coordinators, which nobody restarts."""
    async with Runtime(watchdog=None, reports=False, run_queue=deque()) as runtime:
        for kind in KINDS:
            await runtime.spawn(kind)
        yield runtime


async def test_a_block_that_ends_while_the_locks_are_away_holds_nothing_afterwards(bare: Runtime) -> None:
    lock = Lock(bare, "a")
    async with lock.held():
        away = Absent(bare, Locks)
        await away.__aenter__()
    assert len(lock.grants) == 1, "it cannot be taken back yet"
    await away.__aexit__()
    assert lock.grants == []
    assert await left(bare) == {**await left(bare), "locks: given back": {}, "locks": {}}


async def test_what_is_given_back_is_taken_back_though_the_call_fails(bare: Runtime) -> None:
    mine = await bare.spawn(Idle)
    lock, election, market = Lock(bare, "a"), Election(bare, "e"), Market(bare, "m")
    grant = await lock.acquire()
    await election.stand(mine)
    await election.follow(mine)
    await market.sell(3, price=1, trader="sue")
    for _ in range(2):
        async with Absent(bare, Locks), Absent(bare, Elections), Absent(bare, Markets):
            for back in (lock.release(grant), election.resign(mine), election.unfollow(mine), market.cancel("sue")):
                with pytest.raises(NoProcess):
                    await back
    assert lock.grants == []
    assert election.leader is None
    assert await market.cancel("sue") == 0
    found = await left(bare)
    assert not any(found.values()), found


async def test_what_is_given_back_is_taken_back_though_whoever_gives_it_is_cut_off(bare: Runtime) -> None:
    mine = await bare.spawn(Idle)
    lock, election, market = Lock(bare, "a"), Election(bare, "e"), Market(bare, "m")
    for turns in range(1, 5):
        grant = await lock.acquire()
        await election.stand(mine)
        await election.follow(mine)
        await market.sell(3, price=1, trader="sue")
        works = lock.release(grant), election.resign(mine), election.unfollow(mine), market.cancel("sue")
        tasks = [soon(work) for work in works]
        for _ in range(turns):
            await turn()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await settled(bare)
        found = await left(bare)
        assert not any(found.values()), found


async def test_what_nobody_holds_is_not_kept_for_later(bare: Runtime) -> None:
    lock = Lock(bare, "a")
    grant = await lock.acquire()
    assert await lock.release(grant)
    async with Absent(bare, Locks):
        with pytest.raises(NoProcess):
            await lock.release(grant)
        assert bare.shared["foundation.coordination", "locks: given back"] == {}


async def test_a_coroutine_that_is_thrown_away_waits_no_more(world: Runtime) -> None:
    lock = Lock(world, "a")
    await lock.acquire()
    waiting = lock.acquire()
    waiting.send(None)
    await settled(world)
    waiting.close()
    await settled(world)
    assert (await left(world))["locks _waiting"] == 0


# -- who waits ---------------------------------------------------------------------------------------------------------


async def test_when_one_who_waits_leaves_the_next_is_served_at_once(world: Runtime) -> None:
    lock = Lock(world, "a", capacity=3)
    await lock.acquire(2)
    large, small = soon(lock.acquire(2, timeout=5.0)), soon(lock.acquire(1))
    await settled(world)
    assert not small.done(), "the large one came first"
    await advance(5.0)
    await settled(world)
    assert isinstance(large.exception(), CallTimeout)
    assert small.done()


async def test_who_waits_for_an_actor_that_ends_is_told(world: Runtime) -> None:
    lock = Lock(world, "a")
    first, holder = await lock.acquire(), await world.spawn(Idle)
    waiting, next_ = soon(lock.acquire(holder=holder)), soon(lock.acquire())
    await settled(world)
    holder.kill()
    with pytest.raises(NoProcess, match="the holder has ended"):
        await waiting
    await lock.release(first)
    assert (await next_).holder is None


# In the following, something is cut off after the coordinator was asked for something else, but before it has handled
# that, and so before it can have heard of what was cut off.


async def test_nothing_is_granted_to_an_actor_whose_end_is_not_known_yet(world: Runtime) -> None:
    lock = Lock(world, "a")
    first, holder = await lock.acquire(), await world.spawn(Idle)
    waiting, next_ = soon(lock.acquire(holder=holder)), soon(lock.acquire())
    await settled(world)
    world.name("locks").call(Release(first))
    holder.kill()
    with pytest.raises(NoProcess):
        await waiting
    assert (await next_).fence == 2


async def test_nothing_is_granted_to_one_whose_leave_is_not_known_yet(world: Runtime) -> None:
    lock, locks = Lock(world, "a"), world.name("locks")
    first, holder, other = await lock.acquire(), await world.spawn(Idle), await world.spawn(Idle)
    gone, ended = [locks.call(Acquire("a", 1, 1, who, None), timeout=None) for who in (None, holder)]
    last = soon(lock.acquire())
    await settled(world)
    locks.call(Release(first))
    gone.cancel()
    assert (await ended).fence == 2
    ended = locks.call(Acquire("a", 1, 1, other, None), timeout=None)
    await settled(world)
    other.kill()
    ended.cancel()
    holder.kill()
    assert (await last).fence == 3
    assert (await left(world))["locks _waiting"] == 0


async def test_who_left_an_instant_ago_does_not_count_and_does_not_say_how_many_there_are(world: Runtime) -> None:
    barriers = world.name("barriers")
    for parties in (2, 3):
        gone = barriers.call(Arrive("start", 2, None), timeout=None)
        await settled(world)
        first = barriers.call(Arrive("start", parties, None), timeout=None)
        gone.cancel()
        await settled(world)
        assert not first.done()
        others = [barriers.call(Arrive("start", parties, None), timeout=None) for _ in range(parties - 1)]
        assert [(await arrival).place for arrival in (first, *others)] == list(range(1, parties + 1))


async def test_nobody_passes_with_one_whose_end_is_not_known_yet(world: Runtime) -> None:
    barriers, who = world.name("barriers"), await world.spawn(Idle)
    ended = barriers.call(Arrive("start", 2, who), timeout=None)
    await settled(world)
    second = barriers.call(Arrive("start", 2, None), timeout=None)
    who.kill()
    ended.cancel()
    with pytest.raises(BarrierBroken):
        await second


async def test_who_arrives_twice_and_ends_breaks_the_barrier_once(world: Runtime) -> None:
    barriers, who = world.name("barriers"), await world.spawn(Idle)
    arrivals = [barriers.call(Arrive("start", 3, who), timeout=None) for _ in range(2)]
    await settled(world)
    who.kill()
    for arrival in arrivals:
        with pytest.raises(BarrierBroken):
            await arrival


async def test_who_gives_up_and_ends_before_either_is_known_has_not_arrived(world: Runtime) -> None:
    barriers, who, patience = world.name("barriers"), await world.spawn(Idle), Withdrawal()
    gone = barriers.call(Arrive("start", 3, who, patience), timeout=None)
    second = barriers.call(Arrive("start", 3, None), timeout=None)
    await settled(world)
    patience.over = True
    who.kill()
    gone.cancel()
    await settled(world)
    assert not second.done()
    second.cancel()


async def test_of_those_who_wait_only_who_leaves_does_not_wait_any_more(world: Runtime) -> None:
    auction, election, start = Auction(world, "gpu"), Election(world, "writer"), Barrier(world, "start", parties=3)
    await auction.open(Sealed(), seconds=10)
    pairs = [
        [soon(work()) for _ in range(2)] for work in (auction.outcome, lambda: election.leader_after(0), start.arrive)
    ]
    await settled(world)
    for leaves, _ in pairs:
        leaves.cancel()
    await settled(world)
    found = await left(world)
    assert [found[f"{kind} owes"] for kind in ("auctions", "elections", "barriers")] == [1, 1, 1]
    await election.stand(await world.spawn(Idle))
    await asyncio.gather(start.arrive(), start.arrive())
    await asyncio.gather(*(stays for _, stays in pairs))


async def test_what_is_undone_may_be_gone_or_replaced_already(world: Runtime) -> None:
    """Undoing what is no more changes nothing."""
    one = await world.spawn(Idle)
    given = UndoQueue(world, "elections")
    stand, follow = Stand("writer", one, 1), Follow("writer", one)
    given.put(1, stand)
    given.put(2, follow)
    await settled(world)
    election = Election(world, "writer")
    for priority in (1, 2, 3):
        await election.stand(one, priority)
    await election.follow(one)
    given.put(1, stand)
    given.put(2, follow)
    await settled(world)
    assert election.leader is not None
    assert await election.unfollow(one)
    auctions = UndoQueue(world, "auctions")
    auctions.put(1, (OpenAuction("gone", Sealed(), 1), None))
    await settled(world)


@pytest.mark.parametrize("how", ["its time is over", "wait_for", "it is killed", "it is told to end"])
async def test_who_gave_up_and_then_ended_had_not_arrived_but_who_ended_had(world: Runtime, how: str) -> None:
    """Also if it ends in the same instant, of having given up."""
    start = Barrier(world, "start", parties=3)
    worker = await world.spawn(Probe)
    works = {
        "its time is over": lambda: start.arrive(timeout=1.0),
        "wait_for": lambda: asyncio.wait_for(start.arrive(), 1.0),
    }
    gone = worker.call(DoAndReply(lambda _: works.get(how, start.arrive)()), timeout=None)
    await settled(world)
    second = soon(start.arrive())
    await settled(world)
    if how == "it is killed":
        worker.kill()
    elif how == "it is told to end":
        worker.exit("out of luck")
    await advance(1.0)
    await settled(world)
    assert isinstance(gone.exception(), ActorExited)
    if how not in works:
        with pytest.raises(BarrierBroken):
            await second
        return
    assert not second.done()
    assert [(await one).place for one in (second, soon(start.arrive()), soon(start.arrive()))] == [1, 2, 3]


# -- followers ---------------------------------------------------------------------------------------------------------


class Follower(Actor):
    """Notes who leads."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    @handle
    def changed(self, message: LeaderChanged) -> None:
        """Note it."""
        self.log.append(None if message.leader is None else message.leader.term)


async def test_a_follower_by_name_is_told_until_nobody_has_held_the_name_for_a_minute(world: Runtime) -> None:
    log: list[Any] = []
    election, name = Election(world, "writer"), world.name("screen")
    await election.follow(name)
    await election.follow(name)
    await advance(NAMELESS - 1)
    screen = await world.spawn(Follower, log, name="screen")
    await advance(1)
    screen.kill()
    await advance(NAMELESS - 1)
    await world.spawn(Follower, log, name="screen")
    await advance(NAMELESS)
    await election.stand(await world.spawn(Idle))
    await settled(world)
    assert log == [1]
    world.whereis("screen").kill()  # type: ignore[union-attr]
    await advance(NAMELESS)
    assert not await election.unfollow(name), "it is forgotten"
    assert (await left(world))["elections watches"] == 1, "the candidate"


async def test_who_follows_no_more_is_not_told_whatever_becomes_of_its_name(world: Runtime) -> None:
    log: list[Any] = []
    election, name = Election(world, "writer"), world.name("screen")
    screen = await world.spawn(Follower, log, name="screen")
    await election.follow(name)
    await settled(world)
    assert await election.unfollow(name)
    await election.follow(name)
    world.unregister("screen")
    assert await election.unfollow(name)
    world.register("screen", await world.spawn(Idle))
    screen.kill()
    await advance(NAMELESS)
    assert log == [None, None]
    found = await left(world)
    assert not any(value for key, value in found.items() if "elections" in key), found


async def test_a_follower_that_ends_is_forgotten(world: Runtime) -> None:
    election = Election(world, "writer")
    screen = await world.spawn(Follower, [])
    await election.follow(screen)
    await restart(world, "elections")
    screen.kill()
    await settled(world)
    assert world.shared["foundation.coordination", "elections"] == {}


# -- what cannot be undone, and what was there before ----------------------------------------------------------------


async def test_what_was_sold_and_traded_stays_so(world: Runtime) -> None:
    """Others have seen it."""
    auction, market = Auction(world, "gpu"), Market(world, "hours")
    await auction.open(Descending(10, 1), seconds=100)
    await market.sell(2, price=1, trader="sue")
    await unseen(auction, auction.bid(10, bidder="ada"))
    await unseen(market, market.buy(5, price=2, trader="ben"))
    assert await auction.outcome() == Sale("ada", 10)
    assert (await market.quote()).last == 1
    assert await market.cancel("ben") == 0, "but what was left of the order is not open"


async def test_an_election_that_was_won_by_who_did_not_see_it_is_held_again(world: Runtime) -> None:
    election = Election(world, "writer")
    one, two = await world.spawn(Idle), await world.spawn(Idle)
    await unseen(election, election.stand(one), Election(world, "writer").stand(two))
    assert election.leader is not None
    assert (election.leader.ref, election.leader.term) == (two, 2)


async def test_of_two_requests_for_one_candidacy_only_the_unseen_one_is_undone(world: Runtime) -> None:
    for undone, priority in ((0, 7), (1, 3)):
        election = Election(world, f"writer {undone}")
        one, two = await world.spawn(Idle), await world.spawn(Idle)
        leader = await election.stand(await world.spawn(Idle), 100)
        await election.stand(two, 5)
        if undone == 0:
            await unseen(election, election.stand(one, 3), Election(world, election.name).stand(one, 7))
        else:
            await election.stand(one, 3)
            await unseen(election, election.stand(one, 7))
        leader.ref.kill()
        await settled(world)
        assert election.leader is not None
        assert election.leader.ref is (one if priority == 7 else two)


async def test_an_auction_that_nobody_saw_opened_stays_open_if_somebody_has_bid(world: Runtime) -> None:
    auction = Auction(world, "gpu")
    await unseen(auction, auction.open(Sealed(), seconds=10), Auction(world, "gpu").bid(5, bidder="ada"))
    assert await auction.outcome() == Sale("ada", 5)
