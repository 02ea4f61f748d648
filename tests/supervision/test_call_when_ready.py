"""Calls by name that go to the next incarnation when the one that had them in its mailbox ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from supervision import (
    IGNORE,
    NORMAL,
    ActorExited,
    Backoff,
    BadTime,
    Call,
    CallTimeout,
    ChildSpec,
    DynamicSupervisor,
    NoProcess,
    Ref,
    Refuse,
    Runtime,
    StartError,
    Supervisor,
    call_when_ready,
    handle,
    restart_child,
    start_child,
    terminate_child,
)
from supervision.errors import Fenced
from supervision.testing import SeededQueue, advance, run, settled
from tests.supervision.conftest import CarryAlways
from tests.supervision.probes import Do, DoAndReply, Probe
from tests.supervision.test_begun import Work, Worker


def later(work: Awaitable[Any]) -> asyncio.Future[Any]:
    """Do something beside the test."""
    return asyncio.ensure_future(work)


async def supervised(runtime: Runtime, kind: Any = Worker, *args: Any, **fields: Any) -> tuple[Ref, list[int]]:
    """A supervisor with one child that is called ``worker``, and its log."""
    options = {name: fields.pop(name) for name in ("max_restarts", "max_seconds") if name in fields}
    log: list[int] = []
    spec = ChildSpec("worker", kind, (log, *args), name="worker", **fields)
    return await runtime.spawn(Supervisor, [spec], **options), log


def holder(runtime: Runtime) -> Ref:
    """Whoever is called ``worker``."""
    ref = runtime.whereis("worker")
    assert ref is not None
    return ref


async def test_a_kill_costs_the_request_in_hand_and_not_the_queue(runtime: Runtime) -> None:
    """Those that waited are answered by the next incarnation, once, in their order."""
    _, log = await supervised(runtime)
    name = runtime.name("worker")
    calls = [later(call_when_ready(name, Work(n, "wait" if n == 0 else "answer"))) for n in range(100)]
    await settled(runtime)
    holder(runtime).kill()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[0], ActorExited)
    assert results[0].begun
    assert results[1:] == list(range(1, 100))
    assert log == list(range(100))


async def test_a_request_for_an_actor_that_is_being_restarted_waits_for_it(runtime: Runtime) -> None:
    """Without looking again and again: nothing happens until the pause before the restart is over."""
    await supervised(runtime, backoff=Backoff(2.0, 2.0, jitter=0.0))
    holder(runtime).kill()
    await settled(runtime)
    assert runtime.expected("worker")
    call = later(call_when_ready(runtime.name("worker"), Work(1)))
    await settled(runtime)
    assert runtime.statistics().timers == 1  # that of the pause; that of calls is nobody's
    await advance(1.9)
    assert not call.done()
    await advance(0.2)
    assert await call == 1
    assert not runtime.expected("worker")


async def test_a_request_goes_to_whoever_holds_the_name_when_its_turn_comes(runtime: Runtime) -> None:
    """Also to a stranger, which has nothing else to do and takes the name."""
    supervisor, _ = await supervised(runtime, backoff=Backoff(60.0, 60.0, jitter=0.0))
    holder(runtime).kill()
    call = later(call_when_ready(runtime.name("worker"), Work(1), timeout=None))
    await settled(runtime)
    log: list[int] = []
    stranger = await runtime.spawn(Worker, log)
    runtime.register("worker", stranger)
    assert await call == 1
    assert log == [1]
    await terminate_child(supervisor, "worker")
    assert holder(runtime) is stranger


async def test_a_request_waits_no_longer_than_its_caller_says(runtime: Runtime) -> None:
    """And leaves nothing behind."""
    await supervised(runtime, backoff=Backoff(60.0, 60.0, jitter=0.0))
    holder(runtime).kill()
    await settled(runtime)
    with pytest.raises(CallTimeout, match="no answer within 3 s") as caught:
        await call_when_ready(runtime.name("worker"), Work(1), timeout=3.0)
    assert not caught.value.begun
    call = later(call_when_ready(runtime.name("worker"), Work(2), timeout=None))
    await advance(5.0)
    call.cancel()
    await asyncio.wait([call])
    assert runtime.vacancies.waiting == 0


async def test_a_request_of_a_handler_waits_no_longer_than_the_request_it_answers(runtime: Runtime) -> None:
    """As for a plain call."""
    await supervised(runtime, backoff=Backoff(60.0, 60.0, jitter=0.0))
    holder(runtime).kill()
    errors: list[CallTimeout] = []

    async def asking(actor: Probe) -> None:
        with pytest.raises(CallTimeout) as caught:
            await call_when_ready(runtime.name("worker"), Work(1), timeout)
        errors.append(caught.value)

    for timeout in (None, 30.0, 1.0):
        between = await runtime.spawn(Probe)
        with pytest.raises(CallTimeout):
            await between.call(DoAndReply(asking), timeout=2.0 if timeout != 1.0 else None)
            raise CallTimeout(between, "it is answered, as its own handler gave up", 0.0)
    assert [error.seconds for error in errors] == [2.0, 2.0, 1.0]


async def test_the_wait_ends_when_the_supervisor_gives_up(runtime: Runtime) -> None:
    """At once, for all, long before their time is over, and before the other children have ended."""

    class Slow(Probe):
        def terminate(self, reason: object) -> Any:
            return self.runtime.sleep(4.0)

    log: list[int] = []
    children = [ChildSpec("worker", Worker, (log,), name="worker"), ChildSpec("slow", Slow, ([], True))]
    supervisor = await runtime.spawn(Supervisor, children, max_restarts=0)
    calls = [later(call_when_ready(runtime.name("worker"), Work(n, "wait"), timeout=None)) for n in range(3)]
    await settled(runtime)
    holder(runtime).kill()
    await settled(runtime)
    assert all(call.done() for call in calls)
    assert supervisor.alive
    assert [call.exception().begun for call in calls] == [True, False, False]  # type: ignore[union-attr]
    assert not runtime.expected("worker")
    await supervisor.join()


async def kill_supervisor(runtime: Runtime, supervisor: Ref) -> None:
    """End it by force."""
    supervisor.kill()


async def stop_supervisor(runtime: Runtime, supervisor: Ref) -> None:
    """End it in order."""
    await supervisor.stop()


async def stop_child(runtime: Runtime, supervisor: Ref) -> None:
    """Have it end its child."""
    await terminate_child(supervisor, "worker" if supervisor.kind is Supervisor else runtime.whereis("worker"))


ENDS = [kill_supervisor, stop_supervisor, stop_child]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_request_does_not_wait_for_an_actor_that_was_ended_for_good(
    runtime: Runtime, kind: Any, end: Callable[[Runtime, Ref], Any]
) -> None:
    """Whoever ended it, and in whatever way."""
    supervisor = await runtime.spawn(kind, [ChildSpec("worker", Worker, ([],), name="worker")])
    calls = [later(call_when_ready(runtime.name("worker"), Work(n, "wait"), timeout=None)) for n in range(2)]
    await settled(runtime)
    await end(runtime, supervisor)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [result.begun for result in results if isinstance(result, ActorExited)] == [True, False]
    assert not runtime.expected("worker")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_request_that_waits_hears_that_its_actor_will_not_come_back(
    runtime: Runtime, kind: Any, end: Callable[[Runtime, Ref], Any]
) -> None:
    """Its supervisor pauses before the restart, and then something else happens."""
    spec = ChildSpec("worker", Worker, ([],), name="worker", backoff=Backoff(60.0, 60.0, jitter=0.0))
    supervisor = await runtime.spawn(kind, [spec])
    last = holder(runtime)
    last.kill()
    call = later(call_when_ready(runtime.name("worker"), Work(1), timeout=None))
    await settled(runtime)
    assert not call.done()
    if end is stop_child:
        await terminate_child(supervisor, "worker" if kind is Supervisor else last)
    else:
        await end(runtime, supervisor)
    await settled(runtime)
    assert isinstance(call.exception(), (NoProcess, ActorExited))
    assert not runtime.expected("worker")


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
@pytest.mark.parametrize(("restart", "reason"), [("temporary", "crash"), ("transient", NORMAL)])
async def test_a_request_does_not_wait_for_an_actor_that_is_not_restarted(
    runtime: Runtime, kind: Any, restart: Any, reason: Any
) -> None:
    """By the type of its specification."""
    await runtime.spawn(kind, [ChildSpec("worker", Probe, name="worker", restart=restart)])

    async def end(actor: Probe) -> None:
        await actor.runtime.sleep(1.0)
        actor.stop(reason)

    holder(runtime).cast(Do(end))
    call = later(call_when_ready(runtime.name("worker"), DoAndReply(str), timeout=None))
    await advance(2.0)
    assert isinstance(call.exception(), ActorExited)
    assert not runtime.expected("worker")


class Moody(Worker):
    """Does at its n-th start what the n-th entry of its plan says."""

    def __init__(self, log: list[int], plan: list[Any]) -> None:
        super().__init__(log)
        self.plan = plan

    async def init(self) -> Any:
        """Take a second."""
        step = self.plan.pop(0)
        await self.runtime.sleep(1.0)
        if isinstance(step, Exception):
            raise step
        return step


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_request_outlives_starts_that_fail(runtime: Runtime, kind: Any) -> None:
    """It stands in the mailbox of each incarnation that begins, and none of them has begun it."""
    log: list[int] = []
    plan = [None, RuntimeError("no"), Refuse("not yet"), None]
    spec = ChildSpec("worker", Moody, (log, plan), name="worker")
    await runtime.spawn(kind, [spec], max_restarts=5)
    holder(runtime).kill()
    assert await call_when_ready(runtime.name("worker"), Work(1)) == 1
    assert log == [1]


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_request_does_not_wait_for_an_actor_that_does_not_want_to_run(runtime: Runtime, kind: Any) -> None:
    """Its restart is ignored."""
    spec = ChildSpec("worker", Moody, ([], [None, IGNORE]), name="worker")
    await runtime.spawn(kind, [spec], max_restarts=5)
    holder(runtime).kill()
    with pytest.raises((NoProcess, ActorExited)):
        await call_when_ready(runtime.name("worker"), Work(1), timeout=None)
    assert not runtime.expected("worker")


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_request_does_not_wait_for_an_actor_whose_first_start_fails(runtime: Runtime, kind: Any) -> None:
    """Ordered by hand: nobody tries it again."""
    supervisor = await runtime.spawn(kind)
    order = later(start_child(supervisor, ChildSpec("worker", Moody, ([], [RuntimeError("no")]), name="worker")))
    await settled(runtime)
    call = later(call_when_ready(runtime.name("worker"), Work(1), timeout=None))
    with pytest.raises(StartError):
        await order
    await settled(runtime)
    assert isinstance(call.exception(), ActorExited)
    assert not runtime.expected("worker")


async def test_a_request_does_not_wait_for_a_restart_by_hand_that_fails(runtime: Runtime) -> None:
    """The same for a child that is known already."""
    supervisor, _ = await supervised(runtime, Moody, [None, RuntimeError("no")])
    await terminate_child(supervisor, "worker")
    with pytest.raises(StartError):
        await restart_child(supervisor, "worker")
    assert not runtime.expected("worker")


async def test_a_temporary_sibling_that_goes_with_the_group_does_not_come_back(runtime: Runtime) -> None:
    """What was in its mailbox fails; the group itself is restarted."""
    log: list[int] = []
    spec = ChildSpec("worker", Worker, (log,), name="worker", restart="temporary")
    first = ChildSpec("first", Probe, name="first")
    await runtime.spawn(Supervisor, [spec, first], strategy="one_for_all")
    in_hand = holder(runtime).call(Work(0, "wait"))
    call = later(call_when_ready(runtime.name("worker"), Work(1), timeout=None))
    await settled(runtime)
    leader = runtime.whereis("first")
    assert leader is not None
    leader.kill()
    assert await call_when_ready(runtime.name("first"), DoAndReply(lambda actor: "back")) == "back"
    await settled(runtime)
    assert isinstance(call.exception(), ActorExited)
    assert isinstance(in_hand.exception(), ActorExited)


async def test_a_name_that_nobody_is_about_to_hold_fails_at_once(runtime: Runtime) -> None:
    """Free ones, those of actors without a supervisor, and those that were taken away."""
    with pytest.raises(NoProcess):
        await call_when_ready(runtime.name("nobody"), Work(1), timeout=None)
    await runtime.spawn(Worker, [], name="worker")
    holder(runtime).kill()
    assert not runtime.expected("worker")
    supervisor, _ = await supervised(runtime)
    runtime.unregister("worker")
    with pytest.raises(NoProcess):
        await call_when_ready(runtime.name("worker"), Work(1), timeout=None)
    await supervisor.stop()


async def test_a_request_that_is_given_up_while_it_waits_leaves_nothing_and_is_not_handled(runtime: Runtime) -> None:
    """Before the death, between two incarnations, and in the instant in which the next one comes, or never will."""
    supervisor, log = await supervised(runtime, backoff=Backoff(60.0, 60.0, jitter=0.0))
    name = runtime.name("worker")
    calls = [call_when_ready(name, Work(n, "wait" if n == 0 else "answer"), timeout=None) for n in range(5)]
    await settled(runtime)
    calls[1].cancel()
    holder(runtime).kill()
    await settled(runtime)
    calls[2].cancel()
    await settled(runtime)
    calls[3].cancel()
    stranger = await runtime.spawn(Worker, log, name="worker")
    assert await calls[4] == 4
    assert log == [0, 4]
    stranger.kill()
    await terminate_child(supervisor, "worker")
    with pytest.raises(ActorExited):
        await calls[0]
    await restart_child(supervisor, "worker")
    holder(runtime).kill()
    last = [call_when_ready(name, Work(n), timeout=None) for n in (5, 6)]
    last[0].cancel()
    await terminate_child(supervisor, "worker")
    with pytest.raises(ActorExited):
        await last[1]
    assert log == [0, 4]
    assert last[0].cancelled()


async def test_somebody_can_wait_for_the_first_of_several_names(runtime: Runtime) -> None:
    """Also when two of them are taken in one instant."""
    waiting = later(runtime.wait_for_name("one", "two", until=10.0))
    await settled(runtime)
    for name in ("one", "two"):
        runtime.spawn_nowait(Probe, name=name)
    assert await waiting
    assert not await runtime.wait_for_name("three", until=20.0)
    assert runtime.vacancies.waiting == 0


async def test_a_request_that_waits_carries_nothing_if_there_is_nothing_to_carry() -> None:
    """As when it is sent at once."""

    class CarryNothing(CarryAlways):
        def send(self, target: Ref, message: Any, call: Call[Any] | None) -> Any:
            return None

    async with Runtime(watchdog=None, reports=False, propagator=CarryNothing()) as runtime:
        await supervised(runtime, backoff=Backoff(1.0, 1.0, jitter=0.0))
        holder(runtime).kill()
        await settled(runtime)
        assert await call_when_ready(runtime.name("worker"), Work(1)) == 1


async def test_what_a_killed_actor_still_asks_goes_to_nobody(runtime: Runtime) -> None:
    """Not to the next incarnation of somebody else, either."""
    _, log = await supervised(runtime, backoff=Backoff(1.0, 1.0, jitter=0.0))
    holder(runtime).kill()
    errors: list[object] = []

    def ask(actor: Probe) -> None:
        actor.ref.kill()
        errors.append(call_when_ready(runtime.name("worker"), Work(1)).exception())

    ref = await runtime.spawn(Probe)
    ref.cast(Do(ask))
    await ref.join()
    await advance(5.0)
    assert [type(error) for error in errors] == [Fenced]
    assert log == []


async def test_one_incarnation_has_no_next_one(runtime: Runtime) -> None:
    """A `Ref` is called as it is."""
    await supervised(runtime)
    ref = holder(runtime)
    assert await call_when_ready(ref, Work(1)) == 1
    ref.kill()
    with pytest.raises(NoProcess):
        await call_when_ready(ref, Work(2))


async def test_a_request_that_was_begun_is_not_sent_again(runtime: Runtime) -> None:
    """Neither after a crash, nor when the handler answers with somebody else's error that was not."""
    _, log = await supervised(runtime, max_restarts=10)
    for how in ("crash", "kill", "refuse", "stash", "defer"):
        log.clear()
        call = later(call_when_ready(runtime.name("worker"), Work(1, how), timeout=2.0))
        await settled(runtime)
        holder(runtime).kill()
        with pytest.raises(ActorExited):
            await call
        assert log == [1]


async def test_a_wrong_time_is_refused_before_anything_is_sent(runtime: Runtime) -> None:
    """As for a call."""
    _, log = await supervised(runtime)
    for wrong in (-1.0, float("nan"), float("inf"), 10**400, "soon"):
        with pytest.raises(BadTime):
            await call_when_ready(runtime.name("worker"), Work(1), wrong)  # type: ignore[arg-type]
    assert log == []


@pytest.mark.parametrize("seed", range(20))
def test_every_request_is_begun_at_most_once_and_only_those_in_hand_are_lost(seed: int) -> None:
    """Under any schedule and kills at any moment, with starts that take their time."""

    class Late(Worker):
        async def init(self) -> None:
            await self.runtime.sleep(0.05)

        @handle
        async def work(self, request: Work) -> Any:
            self.log.append(request.n)
            await self.runtime.sleep(0.01)
            return request.n

    async def main() -> None:
        chance = Random(seed)
        log: list[int] = []
        async with Runtime(watchdog=None, reports=False, seed=seed, run_queue=SeededQueue(seed)) as runtime:
            await runtime.spawn(Supervisor, [ChildSpec("worker", Late, (log,), name="worker")], max_restarts=10**6)
            calls: list[asyncio.Future[Any]] = []
            kills = 0
            for n in range(200):
                calls.append(later(call_when_ready(runtime.name("worker"), Work(n), timeout=60.0)))
                if chance.random() < 0.1 and (ref := runtime.whereis("worker")) is not None:
                    ref.kill()
                    kills += 1
                await runtime.sleep(chance.choice([0.0, 0.0, 0.01, 0.03]))
            results = await asyncio.gather(*calls, return_exceptions=True)
        assert sorted(log) == sorted(set(log))
        lost = [n for n, result in enumerate(results) if isinstance(result, ActorExited) and result.begun]
        assert [result for n, result in enumerate(results) if n not in lost] == [n for n in range(200) if n not in lost]
        assert set(log) == set(range(200))
        assert len(lost) <= kills

    run(main())
