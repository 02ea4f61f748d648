"""Calls: answers, deadlines, cycles of callers, deferred answers, and answers that nobody waits for."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from supervision import (
    Abnormal,
    ActorExited,
    AlreadyReplied,
    BadTime,
    CallCycle,
    CallError,
    CallTimeout,
    NoProcess,
    NotRunning,
    Ref,
    Refuse,
    Runtime,
    SupervisionError,
)
from supervision import events as ev
from supervision.testing import VirtualClockLoop, advance, barrier, hang, settled
from tests.supervision.probes import Do, DoAndReply, Note, Probe, Recorder, do, error_of, time_of


def jump(seconds: float) -> None:
    """Let virtual time pass without giving the loop a chance: what a blocked loop looks like."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    loop.jump(seconds)


async def wait(actor: Probe) -> str:
    """Answer after ten seconds."""
    await actor.runtime.sleep(10.0)
    return "answer"


# -- answers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [5.0, 2.5, None])
async def test_an_answer(runtime: Runtime, timeout: float | None) -> None:
    """A call of a plain and of an async handler gets what it returns, None included."""
    ref = await runtime.spawn(Probe)

    async def slow(actor: Probe) -> str:
        await actor.runtime.sleep(1.0)
        return "slow"

    assert await ref.call(DoAndReply(lambda actor: "quick"), timeout) == "quick"
    assert await ref.call(DoAndReply(slow), timeout) == "slow"
    assert await ref.call(DoAndReply(lambda actor: None), timeout) is None
    assert runtime.statistics().timers <= 1


async def test_the_request_is_on_its_way_when_call_returns(runtime: Runtime) -> None:
    """`call` sends at once; the answer can be awaited later, or never."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log)
    call = ref.call(DoAndReply(lambda actor: actor.log.append("asked")))
    await settled(runtime)
    assert log == ["asked"]
    assert call.done()
    assert await call is None


async def test_an_expected_failure_is_an_answer(runtime: Runtime) -> None:
    """`Refuse` in a request handler, plain or async, raises at the caller, and the actor lives on."""
    ref = await runtime.spawn(Probe)

    def refuse(actor: Probe) -> None:
        raise Refuse(KeyError("no such key"))

    async def refuse_later(actor: Probe) -> None:
        await actor.runtime.sleep(1.0)
        raise Refuse("why not")

    with pytest.raises(KeyError, match="no such key"):
        await do(ref, refuse)
    with pytest.raises(SupervisionError, match="why not"):
        await do(ref, refuse_later)
    assert ref.alive
    for refusing in (refuse, refuse_later):
        ref.cast(DoAndReply(refusing))
        await settled(runtime)
        await advance(1.0)
        assert ref.alive
    assert runtime.statistics().dead_letters["refused"] == 2
    ref.cast(Do(refuse))
    assert "Refuse" in str(await ref.join()), "no request, no answer: it is a crash"


@pytest.mark.parametrize("error", [StopIteration("x"), StopAsyncIteration("x")])
async def test_errors_that_cannot_be_awaited_are_wrapped(runtime: Runtime, error: Exception) -> None:
    """``StopIteration`` cannot be raised by an ``await``: the caller gets a ``RuntimeError`` with it as the cause."""
    ref = await runtime.spawn(Probe)

    def refuse(actor: Probe) -> None:
        raise Refuse(error)

    with pytest.raises(RuntimeError, match=type(error).__name__) as caught:
        await do(ref, refuse)
    assert caught.value.__cause__ is error


# -- time-outs and deadlines -------------------------------------------------------------------------------------------


async def test_the_default_time_out(runtime: Runtime) -> None:
    """A call that says nothing waits five seconds; the error names target, request and time."""
    ref = await runtime.spawn(Probe)
    call = ref.call(DoAndReply(wait))
    error = await error_of(call)
    assert asyncio.get_running_loop().time() == pytest.approx(5.0)
    assert isinstance(error, CallTimeout)
    assert isinstance(error, TimeoutError)
    assert isinstance(error, CallError)
    assert (error.target, error.seconds, error.lag) == (ref, 5.0, pytest.approx(0.0, abs=1e-6))
    assert "no answer within 5 s" in str(error)
    assert "blocked" not in str(error)


async def test_calls_with_the_default_time_out_end_each_in_its_time(runtime: Runtime) -> None:
    """Many calls with the default time-out share one timer, and each ends after its own five seconds."""
    ref = await runtime.spawn(Probe)
    ends: list[float] = []
    loop = asyncio.get_running_loop()
    calls = []
    for _ in range(4):
        call = ref.call(DoAndReply(lambda actor: actor.runtime.sleep(100.0)))
        call.add_done_callback(lambda _: ends.append(loop.time()))
        calls.append(call)
        await runtime.sleep(1.5)
        assert runtime.statistics().timers <= 2
    await asyncio.gather(*calls, return_exceptions=True)
    assert ends == pytest.approx([5.0, 6.5, 8.0, 9.5])


async def test_calls_one_after_the_other_set_one_timer_that_is_nobodys(runtime: Runtime) -> None:
    """A thousand calls, one after the other, do not leave a thousand timers, and none that is taken for a leak."""
    ref = await runtime.spawn(Probe)
    for _ in range(1000):
        await ref.call(DoAndReply(lambda actor: 1))
    assert len(runtime.scheduler.timers) == 1
    assert runtime.statistics().timers == 0
    await runtime.sleep(6.0)
    assert len(runtime.scheduler.timers) == 0


async def test_a_deadline_that_is_the_least_bit_away_is_waited_for(runtime: Runtime) -> None:
    """So near to another one that the difference is lost in the time of day: time goes on all the same."""
    ref, loop = await runtime.spawn(Probe), asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    loop.jump(22.087640998000005 - loop.time())
    calls = [ref.call(DoAndReply(hang)), ref.call(DoAndReply(hang))]
    calls[1].deadline = math.nextafter(loop.time() + 5.0 + 1e-9, math.inf)
    assert [type(await error_of(call)) for call in calls] == [CallTimeout, CallTimeout]


async def test_own_time_out(runtime: Runtime) -> None:
    """A call with a limit of its own ends after it, one without any waits as long as it takes."""
    ref = await runtime.spawn(Probe)
    assert await time_of(error_of(ref.call(DoAndReply(wait), timeout=1.0))) == pytest.approx(1.0)
    assert await time_of(ref.call(DoAndReply(wait), timeout=None)) == pytest.approx(19.0)


async def test_a_time_out_of_zero(runtime: Runtime) -> None:
    """A call with a limit of zero times out, and its request is not handled."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log)
    error = await error_of(ref.call(DoAndReply(lambda actor: actor.log.append("asked")), timeout=0))
    assert isinstance(error, CallTimeout)
    await barrier(ref)
    assert log == []


async def test_an_expired_request_is_not_handled(runtime: Runtime, events: Recorder) -> None:
    """A request whose caller gave up while it waited is not handled, whether the time-out was noticed or not yet."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log)
    ref.cast(Do(lambda actor: actor.runtime.sleep(2.0)))
    error = await error_of(ref.call(DoAndReply(lambda actor: actor.log.append("noticed")), timeout=1.0))
    assert isinstance(error, CallTimeout)
    ref.cast(Do(lambda actor: jump(3.0)))
    call = ref.call(DoAndReply(lambda actor: actor.log.append("not yet noticed")), timeout=2.5)
    await runtime.sleep(0.0)
    await barrier(ref)
    error = await error_of(call)
    assert isinstance(error, CallTimeout)
    assert log == []
    assert runtime.statistics().dead_letters == {"expired": 1}
    assert [event.why for event in events.of(ev.MessageDropped)] == ["expired"]


async def test_a_late_notice_is_marked(runtime: Runtime) -> None:
    """A time-out that is noticed late because the loop was blocked says so."""
    ref = await runtime.spawn(Probe)
    for timeout in (1.0, 5.0):
        call = ref.call(DoAndReply(wait), timeout=timeout) if timeout == 1.0 else ref.call(DoAndReply(wait))
        await settled(runtime)
        jump(timeout + 3.0)
        error = await error_of(call)
        assert isinstance(error, CallTimeout)
        assert error.lag == pytest.approx(3.0)
        assert "the event loop was blocked: noticed 3 s late" in str(error)


async def test_an_answer_that_came_in_time_wins(runtime: Runtime) -> None:
    """An answer that is there when the limit passes unnoticed is the answer."""
    ref = await runtime.spawn(Probe)
    for timeout in (1.0, 5.0):
        call = ref.call(DoAndReply(lambda actor: "in time"), timeout=timeout)
        await settled(runtime)
        jump(10.0)
        assert await call == "in time"


async def test_a_cancelled_call_is_not_handled(runtime: Runtime) -> None:
    """A request whose caller was cancelled before its turn is not handled; an answer to one in hand vanishes."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log)
    in_hand = ref.call(DoAndReply(wait))
    waiting = ref.call(DoAndReply(lambda actor: actor.log.append("asked")))
    await settled(runtime)
    in_hand.cancel()
    waiting.cancel()
    await runtime.sleep(11.0)
    await barrier(ref)
    assert log == []
    assert runtime.statistics().dead_letters == {"late_reply": 1}


async def test_a_late_refusal_vanishes(runtime: Runtime, events: Recorder) -> None:
    """A refusal that comes after the caller gave up vanishes like any late answer."""

    async def refuse_late(actor: Probe) -> None:
        await actor.runtime.sleep(2.0)
        raise Refuse("too late")

    ref = await runtime.spawn(Probe)
    assert isinstance(await error_of(ref.call(DoAndReply(refuse_late), timeout=1.0)), CallTimeout)
    await runtime.sleep(5.0)
    assert ref.alive
    assert runtime.statistics().dead_letters == {"late_reply": 1}
    assert len(events.of(ev.MessageDropped)) == 1


async def test_nested_calls_inherit_the_deadline(runtime: Runtime) -> None:
    """A call made for another call ends with it: the shorter of the two limits counts."""
    last = await runtime.spawn(Probe)
    middle = await runtime.spawn(Probe)
    seen: list[Any] = []

    def ask_with(timeout: float | None, default: bool = False) -> Any:
        async def ask(actor: Probe) -> str:
            call = last.call(DoAndReply(wait)) if default else last.call(DoAndReply(wait), timeout)
            began = runtime.clock.time()
            error = await error_of(call)
            seen.append((runtime.clock.time() - began, type(error)))
            return "answer"

        return ask

    for outer, inner, end in (
        (2.0, None, 2.0),
        (2.0, 7.0, 2.0),
        (7.0, 2.0, 2.0),
        (2.0, "default", 2.0),
        (8.0, "default", 5.0),
    ):
        seen.clear()
        default = inner == "default"
        call = middle.call(DoAndReply(ask_with(None if default else inner, default)), timeout=outer)  # type: ignore[arg-type]
        await asyncio.wait([call])
        await settled(runtime)
        assert seen == [(pytest.approx(end), CallTimeout)]
        call.exception()
        await runtime.sleep(20.0)


async def test_what_a_message_sets_going_is_no_part_of_the_request_before_it(runtime: Runtime) -> None:
    """Also if that one was put aside, and is in hand again by then: a task of the message has time of its own."""
    ref, other = await runtime.spawn(Probe), await runtime.spawn(Probe)
    again, asked = asyncio.Event(), asyncio.Event()
    deadlines: list[float | None] = []
    tasks: list[asyncio.Task[None]] = []

    async def put_aside_once(actor: Probe) -> str | None:
        if not tasks:
            actor.stash()
            return None
        again.set()
        await asked.wait()
        return "answer"

    async def ask_later() -> None:
        await again.wait()
        deadlines.append(other.call(DoAndReply(lambda actor: "asked"), timeout=None).deadline)
        asked.set()

    async def begin_a_task(actor: Probe) -> None:
        tasks.append(asyncio.create_task(ask_later()))
        actor.unstash_all()

    call = ref.call(DoAndReply(put_aside_once), timeout=5.0)
    ref.cast(Do(begin_a_task))
    assert await call == "answer"
    assert deadlines == [None]


async def test_a_call_without_a_deadline_passes_none_on(runtime: Runtime) -> None:
    """A call made for one that waits for ever keeps its own limit; so does one made for nobody."""
    last = await runtime.spawn(Probe)
    middle = await runtime.spawn(Probe)

    async def ask(actor: Probe) -> str:
        return await last.call(DoAndReply(wait), timeout=None)

    assert await middle.call(DoAndReply(ask), timeout=None) == "answer"
    middle.cast(Do(lambda actor: last.call(DoAndReply(lambda other: other.log.append("handled")))))
    await settled(runtime)
    assert await do(last, lambda actor: actor.log) == ["handled"]


async def test_a_request_that_expired_on_its_way_is_not_passed_on(runtime: Runtime) -> None:
    """A call made when the deadline of the request in hand has passed fails without being handled."""
    log: list[Any] = []
    last = await runtime.spawn(Probe, log)
    middle = await runtime.spawn(Probe)

    async def ask_late(actor: Probe) -> BaseException:
        jump(3.0)
        return await error_of(last.call(DoAndReply(lambda other: other.log.append("asked")), timeout=10.0))

    assert isinstance(await error_of(middle.call(DoAndReply(ask_late), timeout=2.0)), CallTimeout)
    await settled(runtime, last, middle)
    assert log == []


# -- cycles ------------------------------------------------------------------------------------------------------------


def ask_next(cycle: list[Ref], found: list[BaseException], catch: bool = True) -> Any:
    """Return a function that makes each actor of a cycle call the next one."""

    async def ask(actor: Probe) -> Any:
        after = cycle[(cycle.index(actor.ref) + 1) % len(cycle)]
        try:
            return await after.call(DoAndReply(ask), timeout=None)
        except CallCycle as error:
            found.append(error)
            if not catch:
                raise
            return "a cycle"

    return ask


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 5])
async def test_a_cycle_of_callers_is_named(runtime: Runtime, length: int, warm: bool) -> None:
    """A call that would close a cycle of actors waiting for each other fails at once, and names them in order."""
    cycle = [await runtime.spawn(Probe) for _ in range(length)]
    if warm:
        await do(cycle[0], lambda actor: advance(0))
    found: list[Any] = []
    assert await do(cycle[0], ask_next(cycle, found)) == "a cycle"
    (error,) = found
    last = cycle[-1]
    assert error.cycle == (last, *cycle)
    assert error.target is cycle[0]
    assert " → ".join(str(ref) for ref in (last, *cycle)) in str(error)
    assert all(ref.alive for ref in cycle)
    assert asyncio.get_running_loop().time() == 0.0
    assert runtime.statistics().dead_letters == {}


@pytest.mark.parametrize("warm", [False, True])
async def test_a_cycle_that_nobody_catches(runtime: Runtime, warm: bool) -> None:
    """An actor that lets `CallCycle` through crashes; its callers get the reason, not an answer."""
    cycle = [await runtime.spawn(Probe) for _ in range(2)]
    if warm:
        await do(cycle[0], lambda actor: advance(0))
    found: list[BaseException] = []
    error = await error_of(do(cycle[0], ask_next(cycle, found, catch=False)))
    assert isinstance(error, ActorExited)
    assert "CallCycle" in str(cycle[1].reason)


@pytest.mark.parametrize("warm", [False, True])
async def test_an_actor_that_calls_itself_and_lets_it_through(runtime: Runtime, warm: bool) -> None:
    """An actor that calls itself crashes with the name of the cycle, and its caller hears of the crash."""
    ref = await runtime.spawn(Probe)
    if warm:
        await do(ref, lambda actor: advance(0))

    async def ask_itself(actor: Probe) -> Any:
        return await do(actor.ref, lambda other: 1)

    error = await error_of(do(ref, ask_itself))
    assert isinstance(error, ActorExited)
    assert "CallCycle" in str(error.reason)
    assert "each waits for the next" in str(error.reason)


async def test_an_actor_whose_init_calls_its_starter(runtime: Runtime) -> None:
    """An actor that calls, in `init`, the actor that waits for its start, is told of the cycle."""
    found: list[Any] = []

    class Child(Probe):
        async def init(self) -> None:
            found.append(await error_of(do(parent, lambda actor: 1)))

    parent = await runtime.spawn(Probe)
    child = await do(parent, lambda actor: actor.spawn_link(Child))
    assert isinstance(found[0], CallCycle)
    assert found[0].cycle == (child, parent, child)


@pytest.mark.parametrize("what", ["stop", "join"])
async def test_an_actor_that_waits_for_its_own_end(runtime: Runtime, what: str) -> None:
    """An actor that waits, in a handler, for its own end would wait for ever: it is told so. A task of it may wait."""
    ref = await runtime.spawn(Probe)

    async def wait_for_itself(actor: Probe) -> BaseException:
        return await error_of(getattr(actor.ref, what)())

    assert isinstance(await do(ref, wait_for_itself), CallCycle)

    def wait_in_a_task(actor: Probe) -> list[asyncio.Task[Any]]:
        return [asyncio.ensure_future(getattr(actor.ref, what)())]

    (task,) = await do(ref, wait_in_a_task)
    await settled(runtime)
    if what == "join":
        await ref.stop()
    await task
    assert not ref.alive


async def test_no_cycle_where_the_answer_may_come_from_elsewhere(runtime: Runtime) -> None:
    """An actor that deferred its answer, and gave the token away, may call back the one that waits for it."""
    helper = await runtime.spawn(Probe)
    server = await runtime.spawn(Probe)
    client = await runtime.spawn(Probe)

    def defer(actor: Probe) -> None:
        token = actor.defer_reply()
        actor.continue_with(Do(call_back))
        helper.cast(Do(lambda other: other.runtime.send_after(1.0, Do(lambda _: token.reply("answer")), other.ref)))

    async def call_back(actor: Probe) -> None:
        actor.log.append(await do(client, lambda other: "called back"))

    async def ask(actor: Probe) -> str:
        return await server.call(DoAndReply(defer), timeout=None)

    assert await client.call(DoAndReply(ask), timeout=None) == "answer"
    assert await do(server, lambda actor: actor.log) == ["called back"]


async def test_no_cycle_where_a_call_is_not_awaited(runtime: Runtime) -> None:
    """A call back whose answer nobody waits for yet is no cycle."""
    server = await runtime.spawn(Probe)
    client = await runtime.spawn(Probe)
    calls: list[Any] = []

    def call_back(actor: Probe) -> str:
        calls.append(do_later(client))
        return "answer"

    def do_later(ref: Ref) -> Any:
        return ref.call(DoAndReply(lambda actor: "later"), timeout=None)

    async def ask(actor: Probe) -> str:
        return await server.call(DoAndReply(call_back), timeout=None)

    assert await do(client, ask) == "answer"
    assert await calls[0] == "later"


async def test_a_caller_outside_a_ring(runtime: Runtime) -> None:
    """A call into a cycle of actors that wait for each other through tasks is no part of it, and just waits."""
    first = await runtime.spawn(Probe)
    second = await runtime.spawn(Probe)
    outsider = await runtime.spawn(Probe)

    async def hidden(actor: Probe) -> Any:
        after = second if actor.ref is first else first
        return await asyncio.wait_for(asyncio.shield(after.call(DoAndReply(hidden), timeout=None)), 3.0)

    async def ask(actor: Probe) -> BaseException:
        return await error_of(first.call(DoAndReply(hidden), timeout=1.0))

    assert isinstance(await do(outsider, ask), CallTimeout)


# -- deferred answers --------------------------------------------------------------------------------------------------


async def test_a_deferred_answer(runtime: Runtime) -> None:
    """A token tells its request, its deadline and whether somebody still waits, until it is used."""
    ref = await runtime.spawn(Probe)
    tokens: list[Any] = []
    request = DoAndReply(lambda actor: tokens.append(actor.defer_reply()))
    call = ref.call(request, timeout=4.0)
    await settled(runtime)
    (token,) = tokens
    assert (token.request, token.waiting, token.deadline) == (request, True, pytest.approx(4.0))
    token.reply("answer")
    assert (token.request, token.waiting, token.deadline) == (None, False, None)
    assert await call == "answer"
    for again in (token.reply, token.fail):
        with pytest.raises(AlreadyReplied, match="answered already"):
            again(ValueError())


async def test_a_deferred_failure(runtime: Runtime) -> None:
    """A token can fail: the caller's ``await`` raises it."""
    ref = await runtime.spawn(Probe)
    tokens: list[Any] = []
    call = ref.call(DoAndReply(lambda actor: tokens.append(actor.defer_reply())))
    await settled(runtime)
    tokens[0].fail(KeyError("why"))
    with pytest.raises(KeyError, match="why"):
        await call
    assert ref.alive


async def test_a_token_for_somebody_who_gave_up(runtime: Runtime) -> None:
    """A token whose caller gave up says so; its answer vanishes."""
    ref = await runtime.spawn(Probe)
    tokens: list[Any] = []
    await error_of(ref.call(DoAndReply(lambda actor: tokens.append(actor.defer_reply())), timeout=1.0))
    assert tokens[0].waiting is False
    tokens[0].reply("too late")
    assert runtime.statistics().dead_letters == {"late_reply": 1}


async def test_an_actor_learns_that_nobody_waits_any_more(runtime: Runtime) -> None:
    """Whether the caller has given up or its time is over; not if it was answered, before or after."""
    tokens: list[Any] = []
    told: list[str] = []
    ref = await runtime.spawn(Probe)

    def ask() -> Any:
        return ref.call(DoAndReply(lambda actor: tokens.append(actor.defer_reply())), timeout=1.0)

    for what in ("cancelled", "late", "answered", "answered before"):
        call = asyncio.ensure_future(ask())
        await settled(runtime)
        token = tokens.pop()
        if what == "answered before":
            token.reply(1)
        token.on_abandoned(lambda what=what: told.append(what))
        if what == "cancelled":
            call.cancel()
        elif what == "late":
            await advance(1.0)
        elif what == "answered":
            token.reply(1)
        await asyncio.gather(call, return_exceptions=True)
        await settled(runtime)
    assert told == ["cancelled", "late"]


async def test_a_request_that_nobody_waits_for_is_not_kept_for_the_actor_that_learns_of_it(runtime: Runtime) -> None:
    """An answer that comes all the same vanishes, and so does one after the end of the actor."""
    tokens: list[Any] = []
    told: list[bool] = []

    def defer(actor: Probe) -> None:
        tokens.append(actor.defer_reply())
        tokens[-1].on_abandoned(lambda: told.append(actor.ref.alive))

    ref: Any = await runtime.spawn(Probe)
    calls = [ref.call(DoAndReply(defer), timeout=1.0) for _ in range(3)]
    await settled(runtime)
    calls[0].cancel()
    await settled(runtime)
    assert len(ref.deferred) == 2
    before = dict(runtime.statistics().dead_letters)
    tokens[0].reply("too late")
    assert (before, runtime.statistics().dead_letters) == ({}, {"late_reply": 1})
    await advance(1.0)
    await settled(runtime)
    assert len(ref.deferred) == 0
    last = ref.call(DoAndReply(defer), timeout=None)
    await settled(runtime)
    ref.kill()
    assert isinstance(await error_of(last), ActorExited)
    await settled(runtime)
    assert told == [True, True, True, False]
    for call in calls[1:]:
        assert isinstance(await error_of(call), CallTimeout)


async def test_deferring_where_there_is_no_request(runtime: Runtime) -> None:
    """Only a handler that was called by a request can defer its answer, and only once."""
    ref = await runtime.spawn(Probe)

    def defer_twice(actor: Probe) -> None:
        actor.defer_reply().reply("first")
        actor.defer_reply()

    ref.cast(Do(lambda actor: actor.defer_reply()))
    assert "NotRunning" in str(await ref.join())
    other = await runtime.spawn(Probe)
    assert await do(other, defer_twice) == "first"
    assert "NotRunning" in str(await other.join())


async def test_deferred_answers_die_with_the_actor(runtime: Runtime) -> None:
    """All who wait for deferred answers hear of the end of the actor; the tokens are worth nothing then."""
    ref = await runtime.spawn(Probe)
    tokens: list[Any] = []
    calls = [ref.call(DoAndReply(lambda actor: tokens.append(actor.defer_reply())), timeout=None) for _ in range(3)]
    await settled(runtime)
    tokens[0].reply("in time")
    ref.exit("x")
    assert await calls[0] == "in time"
    for call in calls[1:]:
        error = await error_of(call)
        assert isinstance(error, ActorExited)
        assert error.reason == Abnormal("x")
    tokens[1].reply("too late")
    tokens[2].fail(ValueError("too late"))
    assert runtime.statistics().dead_letters == {"late_reply": 2}


async def test_an_answer_before_a_stop_in_the_other_order(runtime: Runtime) -> None:
    """An explicit answer before the stop goes out before `terminate`; a returned one after it."""
    log: list[Any] = []

    class Slow(Probe):
        async def terminate(self, reason: Any) -> None:
            await self.runtime.sleep(1.0)
            self.log.append("terminated")

    def explicit(actor: Probe) -> None:
        token = actor.defer_reply()
        token.reply("explicit")
        actor.stop()

    ref = await runtime.spawn(Slow, log)
    log.append(await do(ref, explicit))
    await ref.join()
    assert log == ["explicit", "terminated"]


# -- who is called -----------------------------------------------------------------------------------------------------


async def test_calls_of_those_who_are_not_there(runtime: Runtime) -> None:
    """A call of a name with a wrong time-out raises at once, as does one of a ref."""
    ref = await runtime.spawn(Probe)
    for target in (ref, runtime.name("nobody")):
        for timeout in (-1, 10**400, float("nan"), float("inf"), True):
            with pytest.raises(BadTime):
                target.call(DoAndReply(str), timeout=timeout)
    ref.kill()
    error = await error_of(ref.call(DoAndReply(str), timeout=3.0))
    assert isinstance(error, NoProcess)
    assert "killed" in str(error)
    await settled(runtime)
    assert runtime.statistics().timers == 0


async def test_calls_wait_for_an_actor_that_starts(runtime: Runtime) -> None:
    """Requests and messages that come while `init` waits are handled after it, in order."""

    class Slow(Probe):
        async def init(self) -> None:
            await self.runtime.sleep(2.0)
            self.log.append("started")

    log: list[Any] = []
    starting = asyncio.ensure_future(runtime.spawn(Slow, log, name="n"))
    await settled(runtime)
    name = runtime.name("n")
    name.cast(Note("first"))
    call = name.call(DoAndReply(lambda actor: actor.log.append("second")))
    await name.send(Note("third"))
    await call
    ref = await starting
    await barrier(ref)
    assert log == ["started", "first", "second", "third"]


async def test_callers_of_a_start_that_fails(runtime: Runtime) -> None:
    """Those who called an actor whose start fails hear the reason."""

    class Failing(Probe):
        async def init(self) -> None:
            await self.runtime.sleep(2.0)
            raise OSError("no start")

    starting = asyncio.ensure_future(runtime.spawn(Failing, name="n"))
    await settled(runtime)
    call = runtime.name("n").call(DoAndReply(str))
    runtime.name("n").cast(Note("lost"))
    error = await error_of(call)
    assert isinstance(error, ActorExited)
    assert "no start" in str(error)
    await error_of(starting)
    assert runtime.statistics().dead_letters == {"died": 1}


async def test_a_call_in_a_plain_handler(runtime: Runtime) -> None:
    """A plain handler can send a request and leave the answer to a callback."""
    log: list[Any] = []
    other = await runtime.spawn(Probe)
    ref = await runtime.spawn(Probe, log)

    def ask(actor: Probe) -> None:
        call = other.call(DoAndReply(lambda _: "answer"))
        call.add_done_callback(lambda done: actor.ref.cast(Note(done.result())))

    ref.cast(Do(ask))
    await settled(runtime)
    assert log == ["answer"]


async def test_a_runtime_that_is_not_started() -> None:
    """A runtime that was not started says how to start it."""
    runtime = Runtime()
    with pytest.raises(NotRunning, match="async with"):
        runtime.name("n").cast(Note("x"))
    with pytest.raises(NotRunning):
        await runtime.spawn(Probe)
