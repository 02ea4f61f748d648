"""Locks, barriers, elections and consensus: who waits is served, and who ends holds up nobody."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.coordination import (
    BadArgument,
    Barrier,
    BarrierBroken,
    Barriers,
    Consensus,
    Decision,
    Election,
    Elections,
    Grant,
    LeaderChanged,
    Lock,
    Locks,
    Majority,
    NotHeld,
    Quorum,
    Rule,
    Unanimity,
    Vote,
    Weighted,
    propose,
)
from foundation.coordination.consensus import RoundTimeout, Tally
from foundation.events import LeaderElected, LockExpired
from supervision import (
    Actor,
    ActorExited,
    CallTimeout,
    ChildSpec,
    NoProcess,
    Ref,
    Request,
    Runtime,
    Supervisor,
    handle,
)
from supervision.testing import EventLog, advance, run, settled


class Idle(Actor):
    """Does nothing."""


@pytest.fixture
async def world(runtime: Runtime) -> Runtime:
    """A runtime with all coordinators, supervised."""
    children = [ChildSpec(kind.__name__.lower(), kind, name=kind.__name__.lower()) for kind in KINDS]
    await runtime.spawn(Supervisor, children, max_restarts=1000)
    return runtime


KINDS: list[type[Actor]] = [Locks, Barriers, Elections, Consensus]


async def restart(runtime: Runtime, name: str) -> None:
    """Kill a coordinator and wait for the next."""
    runtime.whereis(name).kill()  # type: ignore[union-attr]
    await settled(runtime)


def soon(coroutine: Any) -> Any:
    """Begin something."""
    return asyncio.ensure_future(coroutine)


# -- locks -----------------------------------------------------------------------------------------------------------


async def test_one_holds_it_and_the_others_follow_in_order_with_growing_tokens(world: Runtime) -> None:
    lock = Lock(world, "printer")
    first = await lock.acquire()
    waiting = [soon(lock.acquire()) for _ in range(3)]
    await settled(world)
    assert lock.grants == [first]
    fences = [first.fence]
    grant = first
    for task in waiting:
        assert await lock.release(grant)
        grant = await task
        assert lock.is_valid(grant)
        fences.append(grant.fence)
    assert fences == [1, 2, 3, 4]
    assert not await lock.release(first)
    assert not await Lock(world, "unknown").release(first.__class__("unknown", 1, 1, None, None))
    assert await lock.release(grant)
    assert lock.grants == Lock(world, "unknown").grants == []
    assert not Lock(world, "nobody").is_valid(grant)


async def test_a_counting_lock_has_so_many_permits_and_nobody_overtakes(world: Runtime) -> None:
    lock = Lock(world, "disk", capacity=3)
    two = await lock.acquire(2)
    large, small = soon(lock.acquire(3)), soon(lock.acquire(1))
    await settled(world)
    assert not large.done()
    assert not small.done(), "the large one came first"
    await lock.release(two)
    await lock.release(await large)
    assert (await small).amount == 1


async def test_who_gives_up_waiting_is_passed_over(world: Runtime) -> None:
    lock = Lock(world, "a")
    first = await lock.acquire()
    with pytest.raises(CallTimeout):
        await lock.acquire(timeout=1.0)
    cancelled, patient = soon(lock.acquire()), soon(lock.acquire())
    await settled(world)
    cancelled.cancel()
    await asyncio.wait([cancelled])
    await lock.release(first)
    assert (await patient).fence == 2


async def test_a_grant_that_arrives_as_its_caller_is_cancelled_is_given_back(
    world: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one turn of the loop it is granted, and who asked is cancelled before it can see that."""
    lock = Lock(world, "a")
    locks: Any = world.whereis("locks")
    calls: list[Any] = []

    class Noting:
        def call(self, request: Any, timeout: Any) -> Any:
            calls.append(locks.call(request, timeout))
            calls[0].add_done_callback(lambda call: task.cancel())
            return calls[0]

        cast = locks.cast

    monkeypatch.setattr(lock, "_address", Noting())
    task = soon(lock.acquire())
    await asyncio.wait([task])
    assert task.cancelled()
    assert calls[0].result().fence == 1
    await settled(world)
    assert lock.grants == []


async def test_a_lock_is_free_when_its_holder_ends_and_the_dead_do_not_wait(world: Runtime) -> None:
    lock = Lock(world, "a")
    holder, waiter = await world.spawn(Idle), await world.spawn(Idle)
    await lock.acquire(holder=holder)
    dead, alive = soon(lock.acquire(holder=waiter)), soon(lock.acquire())
    await settled(world)
    waiter.kill()
    await settled(world)
    holder.kill()
    grant = await alive
    assert grant.holder is None
    assert lock.grants == [grant]
    with pytest.raises(NoProcess, match="the holder has ended"):
        await dead
    with pytest.raises(NoProcess, match="the holder has ended"):
        await lock.acquire(holder=holder)


class Take(Request[Grant], frozen=True):
    """Take the lock."""


class Holding(Actor):
    """Acquires a lock in its handler."""

    def __init__(self, lock: Lock) -> None:
        self.lock = lock

    @handle
    async def take(self, request: Take) -> Grant:
        """Take it."""
        return await self.lock.acquire()


async def test_the_actor_that_asks_is_the_holder(world: Runtime) -> None:
    lock = Lock(world, "a")
    actor = await world.spawn(Holding, lock)
    assert (await actor.call(Take())).holder is actor
    actor.kill()
    await settled(world)
    assert lock.grants == []


async def test_a_lease_ends_unless_it_is_renewed(world: Runtime) -> None:
    log = EventLog(world, LockExpired)
    lock = Lock(world, "a")
    grant = await lock.acquire(lease=5.0)
    await advance(4.0)
    grant = await lock.renew(grant, 5.0)
    await advance(4.0)
    assert lock.is_valid(grant)
    waiting = soon(lock.acquire(lease=1.0))
    await advance(1.5)
    assert not lock.is_valid(grant)
    with pytest.raises(NotHeld, match="nobody holds it with token 1"):
        await lock.renew(grant, 1.0)
    with pytest.raises(NotHeld):
        await Lock(world, "b").renew(Grant("b", 1, 1, None, None), 1.0)
    second = await waiting
    await lock.release(second)
    await advance(5.0)
    assert [event.fence for event in log.of(LockExpired)] == [1]


async def test_a_block_holds_a_lock_whatever_happens_in_it(world: Runtime) -> None:
    lock = Lock(world, "a")
    with pytest.raises(ZeroDivisionError):
        async with lock.held():
            raise ZeroDivisionError
    async with lock.held(timeout=1.0) as grant:
        assert lock.grants == [grant]


async def test_a_restart_takes_no_lock_away(world: Runtime) -> None:
    lock = Lock(world, "a", capacity=3)
    holder = await world.spawn(Idle)
    forever, leased, held = await lock.acquire(), await lock.acquire(lease=5.0), await lock.acquire(holder=holder)
    waiting = soon(lock.acquire())
    await settled(world)
    await restart(world, "locks")
    with pytest.raises(ActorExited):
        await waiting
    assert lock.grants == [forever, leased, held]
    holder.kill()
    await advance(5.0)
    assert lock.grants == [forever]
    assert (await lock.acquire()).fence == 4


@pytest.mark.parametrize(
    "use",
    [
        lambda world: Lock(world, "a", capacity=0).acquire(),
        lambda world: Lock(world, "a", capacity=2).acquire(3),
        lambda world: Lock(world, "a").acquire(0),
        lambda world: Lock(world, "a").acquire(True),
        lambda world: Lock(world, "a").acquire(lease=0.0),
        lambda world: Lock(world, "a").renew(Grant("a", 1, 1, None, None), -1.0),
        lambda world: Lock(world, "used", capacity=2).acquire(),
        lambda world: Barrier(world, "a", parties=0).arrive(),
        lambda world: propose(world, 1, [], Majority()),
        lambda world: propose(world, 1, {world.name("x"): 0.0}, Majority()),
        lambda world: propose(world, 1, [world.name("x")], Quorum(2)),
        lambda world: propose(world, 1, [world.name("x")], Weighted(0.0)),
        lambda world: propose(world, 1, [world.name("x")], Majority(), time_limit=0.0),
    ],
)
async def test_what_makes_no_sense_is_named(world: Runtime, use: Any) -> None:
    await Lock(world, "used").acquire()
    with pytest.raises(BadArgument) as caught:
        await use(world)
    assert caught.value.remedy


LOCK_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["acquire", "release", "kill", "restart", "give up"]), st.integers(0, 4), st.integers(1, 2)
    ),
    max_size=40,
)


@settings(max_examples=100)
@given(LOCK_STEPS)
def test_never_more_permits_than_there_are_and_nobody_waits_for_nothing(steps: list[Any]) -> None:
    """Whoever asks, releases, dies or gives up, and whenever the actor is restarted."""

    async def main() -> None:
        async with Runtime(watchdog=None, reports=False) as runtime:
            await runtime.spawn(Supervisor, [ChildSpec("locks", Locks, name="locks")], max_restarts=1000)
            lock = Lock(runtime, "a", capacity=2)
            actors = [await runtime.spawn(Idle) for _ in range(5)]
            waiting: list[tuple[Ref, int, Any]] = []
            tasks: list[Any] = []
            fences: list[int] = []
            for what, who, amount in steps:
                if what == "acquire":
                    tasks.append(soon(lock.acquire(amount, holder=actors[who])))
                    waiting.append((actors[who], amount, tasks[-1]))
                elif what == "release" and lock.grants:
                    await lock.release(lock.grants[who % len(lock.grants)])
                elif what == "kill":
                    actors[who].kill()
                    actors[who] = await runtime.spawn(Idle)
                elif what == "restart":
                    await restart(runtime, "locks")
                elif what == "give up" and waiting:
                    waiting[who % len(waiting)][2].cancel()
                await settled(runtime)
                assert sum(grant.amount for grant in lock.grants) <= 2
                assert all(grant.holder is not None and grant.holder.alive for grant in lock.grants)
                fences += [grant.fence for grant in lock.grants if grant.fence not in fences]
                assert fences == sorted(fences)
                waiting = [one for one in waiting if not one[2].done() and one[0].alive]
                if waiting:
                    free = 2 - sum(grant.amount for grant in lock.grants)
                    assert waiting[0][1] > free, "the first who waits cannot be served"
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run(main())


# -- barriers --------------------------------------------------------------------------------------------------------


async def test_all_pass_when_all_are_there_again_and_again(world: Runtime) -> None:
    barrier = Barrier(world, "start", parties=3)
    for generation in (1, 2):
        arrivals = [soon(barrier.arrive()) for _ in range(2)]
        await settled(world)
        assert not any(arrival.done() for arrival in arrivals)
        last = await barrier.arrive()
        crossings = [await arrival for arrival in arrivals]
        assert [(one.generation, one.place) for one in [*crossings, last]] == [(generation, n) for n in (1, 2, 3)]
    await restart(world, "barriers")
    assert (await asyncio.gather(*(barrier.arrive() for _ in range(3))))[0].generation == 3


async def test_who_gives_up_has_not_arrived(world: Runtime) -> None:
    barrier = Barrier(world, "start", parties=2)
    with pytest.raises(CallTimeout):
        await barrier.arrive(timeout=1.0)
    waiting = soon(barrier.arrive())
    await settled(world)
    assert not waiting.done()
    assert (await barrier.arrive()).place == 2
    assert (await waiting).place == 1


async def test_the_death_of_one_who_had_arrived_breaks_the_barrier_for_those_who_wait(world: Runtime) -> None:
    barrier, other = Barrier(world, "start", parties=3), Barrier(world, "other", parties=2)
    one, two = await world.spawn(Idle), await world.spawn(Idle)
    arrivals = [soon(barrier.arrive(who=who)) for who in (one, two)]
    elsewhere = soon(other.arrive(who=two))
    await settled(world)
    one.kill()
    for arrival in arrivals:
        with pytest.raises(BarrierBroken, match=r"start: <Idle .* has ended after it had arrived"):
            await arrival
    assert not elsewhere.done()
    await other.arrive(who=two)
    await elsewhere
    two.kill()
    await settled(world)
    assert len(await asyncio.gather(*(barrier.arrive() for _ in range(3)))) == 3


async def test_all_say_the_same_number(world: Runtime) -> None:
    waiting = soon(Barrier(world, "start", parties=3).arrive())
    await settled(world)
    with pytest.raises(BadArgument, match="the first said 3"):
        await Barrier(world, "start", parties=2).arrive()
    waiting.cancel()
    await asyncio.wait([waiting])
    two = Barrier(world, "start", parties=2)
    assert len(await asyncio.gather(two.arrive(), two.arrive())) == 2


# -- elections -------------------------------------------------------------------------------------------------------


class Follower(Actor):
    """Notes who leads."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    @handle
    def changed(self, message: LeaderChanged) -> None:
        """Note it."""
        self.log.append(None if message.leader is None else message.leader.term)


async def test_there_is_one_leader_and_another_when_it_ends(world: Runtime) -> None:
    events = EventLog(world, LeaderElected)
    log: list[Any] = []
    election = Election(world, "writer")
    follower = await world.spawn(Follower, log)
    await election.follow(follower)
    await election.follow(follower)
    assert election.leader is None
    one, two, three = [await world.spawn(Idle) for _ in range(3)]
    waiting = soon(election.leader_after(0))
    later = soon(election.leader_after(2))
    await settled(world)
    first = await election.stand(one)
    assert (first.ref, first.term, await waiting) == (one, 1, first)
    assert await election.stand(two) == await election.stand(three, priority=1) == first
    one.kill()
    assert election.leader is None, "never one that has ended"
    assert (await election.leader_after(1)).ref is three
    assert await election.resign(three)
    assert not await election.resign(three)
    assert (await later).ref is two
    assert (await election.leader_after(0)).term == 3
    two.kill()
    await settled(world)
    assert election.leader is None
    assert await election.stand(three) == election.leader
    assert log == [None, None, 1, 2, 3, None, 4]
    assert [event.term for event in events.of(LeaderElected)] == [1, 2, 3, 3, 4]
    follower.kill()
    await settled(world)
    with pytest.raises(NoProcess):
        await election.stand(one)
    with pytest.raises(CallTimeout):
        await election.leader_after(4, timeout=1.0)
    assert not await Election(world, "other").resign(three)


async def test_leaders_candidates_and_terms_survive_a_restart(world: Runtime) -> None:
    election = Election(world, "writer")
    one, two = await world.spawn(Idle), await world.spawn(Idle)
    leader = await election.stand(one)
    await election.stand(two)
    await restart(world, "elections")
    assert election.leader == leader
    world.whereis("elections").kill()  # type: ignore[union-attr]
    one.kill()
    await settled(world)
    assert election.leader is not None
    assert (election.leader.ref, election.leader.term) == (two, 2)


async def test_each_election_is_for_itself_and_nobody_is_elected_who_has_ended(world: Runtime) -> None:
    one, two = await world.spawn(Idle), await world.spawn(Idle)
    writer, reader = Election(world, "writer"), Election(world, "reader")
    for candidate in (one, two):
        await writer.stand(candidate)
    await reader.stand(two)
    one.kill()
    two.kill()
    await settled(world)
    assert writer.leader is reader.leader is None
    three = await world.spawn(Idle)
    assert ((await writer.stand(three)).term, (await reader.stand(three)).term) == (2, 2)
    three.kill()
    await settled(world)
    four = await world.spawn(Idle)
    await reader.stand(four)
    four.kill()
    await settled(world)
    assert reader.leader is None


# -- consensus -------------------------------------------------------------------------------------------------------


class Member(Actor):
    """Votes as it is told: yes, no, abstain; waits for ever; crashes; or says nonsense."""

    def __init__(self, vote: Any) -> None:
        self.answer = vote

    @handle
    async def vote(self, request: Vote) -> Any:
        """Vote."""
        if self.answer == "crash":
            raise ZeroDivisionError
        if self.answer == "wait":
            await self.runtime.sleep(1000.0)
        return self.answer


async def decide(world: Runtime, rule: Rule, *votes: Any, weights: Any = None) -> Decision:
    """Hold a round among members that vote so."""
    members = [await world.spawn(Member, vote) for vote in votes]
    participants = members if weights is None else dict(zip(members, weights, strict=True))
    return await propose(world, "?", participants, rule, time_limit=10.0)


@pytest.mark.parametrize(
    ("rule", "votes", "accepted", "why"),
    [
        (Unanimity(), [True, True], True, "accepted"),
        (Unanimity(), [True, None], False, "rejected"),
        (Unanimity(), [True, "wait"], False, "late"),
        (Majority(), [True, True, False], True, "accepted"),
        (Majority(), [True, False], False, "rejected"),
        (Majority(), [True, True, "wait"], True, "accepted"),
        (Majority(), [False, False, "wait"], False, "rejected"),
        (Majority(), [True, None, None], False, "rejected"),
        (Quorum(2), [True, "wait", True, "wait"], True, "accepted"),
        (Quorum(2), [True, False, False], False, "rejected"),
        (Weighted(0.5), [True, False], True, "accepted"),
        (Majority(), [True, "nonsense", "nonsense"], False, "rejected"),
    ],
)
async def test_a_rule_decides_as_early_as_it_can(
    world: Runtime, rule: Rule, votes: list[Any], accepted: bool, why: str
) -> None:
    began = world.clock.time()
    decision = await decide(world, rule, *votes)
    assert (decision.accepted, decision.why) == (accepted, why)
    assert (world.clock.time() - began >= 10.0) is (why == "late")


async def test_who_ends_is_absent_and_the_round_ends_all_the_same(world: Runtime, expect_crash: Any) -> None:
    expect_crash(reason="ZeroDivisionError")
    decision = await decide(world, Majority(), True, "crash", "crash", "wait")
    assert (decision.accepted, decision.why) == (False, "rejected")
    assert (len(decision.yes), len(decision.absent), len(decision.unasked)) == (1, 2, 1)
    dying = [await world.spawn(Member, "wait") for _ in range(2)]
    task = soon(propose(world, "?", dying, Majority()))
    await settled(world)
    dying[0].kill()
    assert (await task).why == "rejected"
    gone = await propose(world, "?", [world.name("nobody")], Unanimity())
    assert gone.absent == (world.name("nobody"),)


async def test_a_limit_that_is_over_when_the_round_has_ended_changes_nothing(world: Runtime) -> None:
    world.name("consensus").cast(RoundTimeout(99))
    assert (await decide(world, Unanimity(), True)).accepted


async def test_weights_count(world: Runtime) -> None:
    decision = await decide(world, Weighted(0.6), True, False, False, weights=[6, 2, 2])
    assert decision.accepted
    assert not (await decide(world, Majority(), True, False, False, weights=[5, 3, 2])).accepted


async def test_rounds_do_not_wait_for_each_other_and_end_with_their_actor(world: Runtime) -> None:
    slow = soon(decide(world, Unanimity(), "wait", "wait"))
    await settled(world)
    assert (await decide(world, Unanimity(), True)).accepted
    await restart(world, "consensus")
    with pytest.raises(ActorExited):
        await slow


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from([True, False, None, "absent"])), min_size=1, max_size=6))
def test_a_decision_that_was_made_early_is_that_of_all_votes(members: list[tuple[int, Any]]) -> None:
    for rule in (Unanimity(), Majority(), Quorum(1), Weighted(0.7)):
        tally = Tally(rule, {n: weight for n, (weight, _) in enumerate(members)})
        total = sum(weight for weight, _ in members)
        yes = sum(weight for weight, vote in members if vote is True)
        final = {
            Unanimity: yes == total,
            Majority: 2 * yes > total,
            Quorum: yes >= 1,
            Weighted: yes >= 0.7 * total,
        }[type(rule)]
        for n, (_, vote) in enumerate(members):
            tally.vote(n, vote)
            tally.vote("stranger", True)
            tally.vote(n, True)
            assert tally.decided in (None, final)
        assert tally.decided is final


def test_a_rule_says_how_much_is_needed() -> None:
    with pytest.raises(NotImplementedError):
        Tally(Rule(), {1: 1})
