"""What an error of a call says about the request: whether a handler has begun it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    KILL,
    NORMAL,
    Actor,
    ActorExited,
    Call,
    CallCycle,
    CallError,
    CallTimeout,
    ChildSpec,
    Mailbox,
    MailboxFull,
    NoProcess,
    Ref,
    Refuse,
    ReplyTo,
    Request,
    Runtime,
    StartError,
    Supervisor,
    UnhandledMessage,
    handle,
    system,
)
from supervision.mailbox import Overflow
from supervision.testing import SeededQueue, advance, run, settled
from tests.supervision.probes import Do, DoAndReply, Probe, Question, error_of


class Work(Request[int], frozen=True):
    """Write down ``n``, and then do as ``how`` says."""

    n: int
    how: str = "answer"


class Worker(Actor):
    """Writes down each request that it begins, first of all, into a log that outlives it."""

    def __init__(self, log: list[int]) -> None:
        self.log = log
        self.tokens: list[Any] = []
        self.queue: deque[ReplyTo[Any]] = deque()

    def next(self) -> None:
        """Begin the oldest request in the queue of its own for whose answer somebody waits."""
        while self.queue:
            token = self.queue.popleft()
            if token.begin():
                self.log.append(token.request.n)
                token.reply(token.request.n)
                return

    def begin(self, request: Work) -> Any:
        """Write it down, and do what can be done at once."""
        if request.how == "queue":
            return self.queue.append(self.defer_reply(begun=False))
        self.log.append(request.n)
        if request.how == "stash" and self.log.count(request.n) < 3:
            return self.stash()
        if request.how == "defer":
            return self.tokens.append(self.defer_reply())
        if request.how == "next":
            self.next()
        elif request.how == "unstash":
            self.unstash_all()
        elif request.how == "stop":
            self.stop()
        elif request.how == "kill":
            self.ref.kill()
        elif request.how == "crash":
            raise RuntimeError(str(request.n))
        elif request.how == "refuse":
            raise Refuse(ActorExited(self.ref, request, NORMAL, begun=False))
        return request.n

    @handle
    def work(self, request: Work) -> Any:
        """Begin, and maybe wait."""
        result = self.begin(request)
        return self.wait(result) if request.how == "wait" else result

    async def wait(self, result: Any) -> Any:
        """Take a second."""
        await self.runtime.sleep(1.0)
        return result


class AsyncWorker(Worker):
    """The same with a handler that is a coroutine."""

    @handle
    async def work(self, request: Work) -> Any:
        """Begin, and maybe wait."""
        answer: Any = self.begin(request)
        return await self.wait(answer) if request.how == "wait" else answer


async def outcome(call: Call[Any]) -> Any:
    """Return the error of a call, or its answer."""
    results = await asyncio.gather(call, return_exceptions=True)
    return results[0]


# -- one way after the other -------------------------------------------------------------------------------------------


async def busy(runtime: Runtime, kind: type[Worker] = Worker, **options: Any) -> tuple[Ref, list[int], Call[int]]:
    """An actor in the middle of a request, its log, and the call in hand."""
    log: list[int] = []
    ref = await runtime.spawn(kind, log, **options)
    in_hand = ref.call(Work(0, "wait"))
    await settled(runtime)
    return ref, log, in_hand


@pytest.mark.parametrize("end", [lambda ref: ref.kill(), lambda ref: ref.exit("enough"), lambda ref: ref.exit(KILL)])
@pytest.mark.parametrize("kind", [Worker, AsyncWorker])
async def test_the_request_in_hand_was_begun_and_those_that_wait_were_not(
    runtime: Runtime, kind: type[Worker], end: Callable[[Ref], None]
) -> None:
    """However an actor ends: only what its handler had in hand was begun."""
    ref, log, in_hand = await busy(runtime, kind)
    waiting = [ref.call(Work(n)) for n in (1, 2)]
    end(ref)
    errors = [await outcome(call) for call in (in_hand, *waiting)]
    assert [(type(error), error.begun) for error in errors] == [
        (ActorExited, True),
        (ActorExited, False),
        (ActorExited, False),
    ]
    assert log == [0]
    assert "before it answered" in str(errors[0])
    assert "before it began with this" in str(errors[1])


async def test_a_request_that_nobody_could_take_was_not_begun(runtime: Runtime) -> None:
    """Neither one to an ended actor, nor one to a free name."""
    ref = await runtime.spawn(Probe)
    ref.kill()
    for call in (ref.call(DoAndReply(str)), runtime.name("free").call(DoAndReply(str))):
        error = await outcome(call)
        assert isinstance(error, NoProcess)
        assert not error.begun
        assert not call.begun


async def test_a_request_that_ran_out_of_time_says_whether_it_was_begun(runtime: Runtime) -> None:
    """Its caller may know; whatever was not begun by then is never handled."""
    ref, log, _ = await busy(runtime)
    short = ref.call(Work(1), timeout=0.5)
    error = await outcome(short)
    assert isinstance(error, CallTimeout)
    assert not error.begun
    begun = await runtime.spawn(Worker, log)
    error = await outcome(begun.call(Work(2, "wait"), timeout=0.5))
    assert isinstance(error, CallTimeout)
    assert error.begun
    await advance(5.0)
    assert log == [0, 2]


async def test_a_full_mailbox_has_not_begun_what_it_refuses(runtime: Runtime) -> None:
    """The newest that finds no room, or the oldest that makes room."""
    for overflow, refused in (("refuse", 2), ("drop_newest", 2), ("drop_oldest", 1)):
        kind = type("Bounded", (Worker,), {"mailbox": Mailbox(1, overflow)})  # type: ignore[arg-type]
        ref, log, _ = await busy(runtime, kind)
        calls = {n: ref.call(Work(n)) for n in (1, 2)}
        error = await outcome(calls[refused])
        assert isinstance(error, MailboxFull)
        assert not error.begun
        await calls[3 - refused]
        assert log == [0, 3 - refused]


async def test_what_waits_for_room_was_not_begun(runtime: Runtime) -> None:
    """Its actor ends before there is any."""
    kind = type("Bounded", (Worker,), {"mailbox": Mailbox(1, "wait")})
    ref, log, in_hand = await busy(runtime, kind)
    calls = [ref.call(Work(n)) for n in (1, 2, 3)]
    ref.kill()
    assert [(await outcome(call)).begun for call in (in_hand, *calls)] == [True, False, False, False]
    assert log == [0]


@pytest.mark.parametrize("how", ["stash", "defer"])
async def test_what_was_put_aside_was_begun(runtime: Runtime, how: str) -> None:
    """A handler has seen it, whatever it did: it may have left a trace."""
    log: list[int] = []
    ref = await runtime.spawn(Worker, log)
    aside = ref.call(Work(1, how))
    await settled(runtime)
    ref.kill()
    error = await outcome(aside)
    assert isinstance(error, ActorExited)
    assert error.begun


async def test_what_was_taken_up_again_and_waits_was_begun(runtime: Runtime) -> None:
    """It stands in the mailbox like new, but a handler has seen it."""

    class Hasty(Worker):
        @handle
        def all_again(self, request: DoAndReply) -> None:
            self.unstash_all()
            self.ref.kill()

    ref = await runtime.spawn(Hasty, [])
    aside, last = ref.call(Work(1, "stash")), ref.call(DoAndReply(str))
    for call in (aside, last):
        error = await outcome(call)
        assert isinstance(error, ActorExited)
        assert error.begun


async def test_what_an_actor_has_in_a_queue_of_its_own_was_not_begun(runtime: Runtime) -> None:
    """If it says so: until it begins with it, which it must not when nobody waits for it any more."""
    log: list[int] = []
    made: list[Worker] = []

    class Remembered(Worker):
        def init(self) -> None:
            made.append(self)

    ref = await runtime.spawn(Remembered, log)
    given_up, first, second = (ref.call(Work(n, "queue")) for n in range(3))
    await settled(runtime)
    given_up.cancel()
    assert await ref.call(Work(3, "next")) == 3
    assert await first == 1
    assert first.begun
    ref.kill()
    error = await outcome(second)
    assert isinstance(error, ActorExited)
    assert not error.begun
    made[0].next()  # its code goes on, as that of a killed actor may
    assert log == [3, 1]


async def test_what_was_answered_cannot_be_begun(runtime: Runtime) -> None:
    """The token is used up."""
    tokens: list[ReplyTo[Any]] = []
    ref = await runtime.spawn(Probe)
    call = ref.call(DoAndReply(lambda actor: tokens.append(actor.defer_reply(begun=False))))
    await settled(runtime)
    tokens[0].reply("there")
    assert not tokens[0].begin()
    assert await call == "there"


async def test_what_a_suspended_actor_has_in_its_mailbox_was_not_begun(runtime: Runtime) -> None:
    """Nor a question of the system that waits."""
    log: list[int] = []
    ref = await runtime.spawn(Worker, log)
    await system.suspend(ref)
    call = ref.call(Work(1))
    await settled(runtime)
    ref.kill()
    assert not (await outcome(call)).begun
    assert log == []


async def test_what_came_while_its_actor_began_was_not_begun(runtime: Runtime) -> None:
    """Killed in ``init``, or failed there."""

    class Slow(Worker):
        async def init(self) -> None:
            await self.runtime.sleep(1.0)
            raise RuntimeError("no")

    for kills in (True, False):
        log: list[int] = []
        starting = asyncio.ensure_future(runtime.spawn(Slow, log, name="slow"))
        await settled(runtime)
        call = runtime.name("slow").call(Work(1), timeout=None)
        await settled(runtime)
        ref = runtime.whereis("slow")
        assert ref is not None
        if kills:
            ref.kill()
        await advance(1.0)
        with pytest.raises(StartError):
            await starting
        assert not (await outcome(call)).begun
        assert log == []


async def test_what_waits_behind_an_order_to_end_was_not_begun(runtime: Runtime) -> None:
    """It came while the actor cleaned up."""

    class Tidying(Worker):
        async def terminate(self, reason: object) -> None:
            await self.runtime.sleep(1.0)

    log: list[int] = []
    ref = await runtime.spawn(Tidying, log)
    answered = ref.call(Work(1, "stop"))
    ending = asyncio.ensure_future(ref.join())
    await settled(runtime)
    late = ref.call(Work(2))
    await ending
    assert await answered == 1
    assert not (await outcome(late)).begun
    assert log == [1]


async def test_the_answer_of_an_actor_that_fails_to_end_in_order(runtime: Runtime) -> None:
    """It was about to be sent: the request was begun."""

    class Failing(Worker):
        async def terminate(self, reason: object) -> None:
            raise RuntimeError("no")

    ref = await runtime.spawn(Failing, [])
    error = await outcome(ref.call(Work(1, "stop")))
    assert isinstance(error, ActorExited)
    assert error.begun


async def test_a_request_that_is_traced_is_begun_like_others(runtime: Runtime) -> None:
    """Observers stand between the mailbox and the handler."""
    ref, log, in_hand = await busy(runtime)
    await advance(1.0)
    assert await in_hand == 0
    await system.trace(ref, lambda line: None)
    calls = [ref.call(Work(1, "wait")), ref.call(Work(2))]
    await settled(runtime)
    ref.kill()
    assert [(await outcome(call)).begun for call in calls] == [True, False]
    assert log == [0, 1]


async def test_a_cycle_of_callers_says_whether_the_request_was_begun(runtime: Runtime) -> None:
    """One that waits in the mailbox of somebody who waits was not; one that is in hand there was."""
    one = two = await runtime.spawn(Probe)
    errors: list[CallError] = []

    async def ask_back(actor: Probe) -> Any:
        return await one.call(DoAndReply(str), timeout=2.0)

    async def behind(actor: Probe) -> None:
        two.cast(Do(ask_back))
        await close_the_ring(actor, two.call(DoAndReply(str)))

    async def at_once(actor: Probe) -> None:
        await close_the_ring(actor, two.call(DoAndReply(ask_back)))

    async def close_the_ring(actor: Probe, call: Call[Any]) -> None:
        await actor.runtime.sleep(1.0)
        with pytest.raises(CallCycle) as caught:
            await call
        errors.append(caught.value)

    for ask in (behind, at_once):
        two = await runtime.spawn(Probe)
        one.cast(Do(ask))
        await advance(5.0)
    assert [error.begun for error in errors] == [False, True]


async def test_a_question_without_a_handler_is_answered(runtime: Runtime) -> None:
    """That is an answer, and sending it again would not change it."""
    ref = await runtime.spawn(Probe)
    error = await error_of(ref.call(Question()))
    assert isinstance(error, UnhandledMessage)
    assert error.begun


async def test_what_a_fenced_caller_sends_is_not_begun(runtime: Runtime) -> None:
    """It never arrives."""
    other = await runtime.spawn(Probe)
    errors: list[CallError] = []

    def try_after_the_end(actor: Probe) -> None:
        actor.ref.kill()
        call = other.call(DoAndReply(str))
        error = call.exception()
        assert isinstance(error, CallError)
        errors.append(error)

    ref = await runtime.spawn(Probe)
    ref.cast(Do(try_after_the_end))
    await ref.join()
    assert [error.begun for error in errors] == [False]


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_an_actor_in_a_thread_has_begun_what_is_in_its_thread(runtime: Runtime) -> None:
    """And nothing that waits for it."""
    import threading

    gate = threading.Event()
    entered = asyncio.Event()

    class Blocking(Actor):
        isolation = "thread"

        @handle
        def ask(self, request: DoAndReply) -> Any:
            runtime.scheduler.loop.call_soon_threadsafe(entered.set)
            gate.wait(10)

    ref = await runtime.spawn(Blocking)
    calls = [ref.call(DoAndReply(str)), ref.call(DoAndReply(str))]
    await entered.wait()
    ref.kill()
    assert [(await outcome(call)).begun for call in calls] == [True, False]
    gate.set()


# -- any way at all ----------------------------------------------------------------------------------------------------

HOWS = ("answer", "wait", "queue", "queue", "next", "stash", "unstash", "defer", "stop", "kill", "crash", "refuse")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("call"), st.sampled_from(HOWS), st.sampled_from([5.0, 0.5, 0.0, None])),
        st.tuples(st.just("burst"), st.lists(st.sampled_from(HOWS), min_size=2, max_size=5), st.just(5.0)),
        st.tuples(st.sampled_from(["kill", "exit", "stop", "suspend", "resume", "trace"]), st.just(""), st.none()),
        st.tuples(st.just("sleep"), st.just(""), st.sampled_from([0.0, 0.1, 0.6, 2.0])),
    ),
    max_size=30,
)


@given(
    steps=STEPS,
    seed=st.integers(0, 10**6),
    kind=st.sampled_from([Worker, AsyncWorker]),
    overflow=st.one_of(st.none(), st.sampled_from(get_args(Overflow))),
)
@settings(max_examples=300)
def test_what_is_said_to_be_not_begun_has_left_no_trace(
    steps: list[Any], seed: int, kind: type[Worker], overflow: Overflow | None
) -> None:
    """Under any schedule, with ends at any moment; and what was begun is said to be."""

    async def main() -> None:
        log: list[int] = []
        calls: dict[int, Call[int]] = {}
        beside: list[Any] = []
        chosen = kind if overflow is None else type("Bounded", (kind,), {"mailbox": Mailbox(2, overflow)})
        queue = SeededQueue(seed, pauses=0.3)
        async with Runtime(watchdog=None, reports=False, seed=seed, run_queue=queue) as runtime:
            spec = ChildSpec("worker", chosen, (log,), name="worker")
            await runtime.spawn(Supervisor, [spec], max_restarts=10**6)
            for what, how, number in steps:
                await _step(runtime, calls, beside, what, how, number)
            await advance(20.0)
            ref = runtime.whereis("worker")
            if ref is not None:
                ref.kill()
            outcomes = {n: await outcome(call) for n, call in calls.items()}
        for n, result in outcomes.items():
            assert calls[n].begun == (n in log), (n, result)
            if isinstance(result, CallError) and calls[n].exception() is result and not _refused(result, calls[n]):
                assert result.begun == (n in log), (n, result)

    run(main())


def _refused(error: CallError, call: Call[Any]) -> bool:
    """Whether an error is the handler's own answer."""
    return call.message.how == "refuse" and isinstance(error, ActorExited) and error.reason == NORMAL


async def _step(
    runtime: Runtime, calls: dict[int, Call[int]], beside: list[Any], what: str, how: Any, number: float | None
) -> None:
    ref = runtime.whereis("worker")
    if what in ("call", "burst"):
        for each in how if what == "burst" else (how,):
            calls[len(calls)] = runtime.name("worker").call(Work(len(calls), each), number)
    elif what == "sleep":
        assert number is not None
        await runtime.sleep(number)
    elif ref is None:
        return
    elif what == "kill":
        ref.kill()
    elif what == "exit":
        ref.exit("enough")
    elif what == "stop":
        beside.append(asyncio.gather(ref.stop(), return_exceptions=True))
    else:
        request: Any = {"suspend": system.Suspend(), "resume": system.Resume()}.get(what)
        request = system.Install(object(), lambda event: None) if request is None else request
        beside.append(asyncio.gather(ref.call(request), return_exceptions=True))
