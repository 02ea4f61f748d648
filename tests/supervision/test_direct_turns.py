"""Direct turns: an idle actor handles a call within ``call()``, and nobody can tell but by the time that it took."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    Abnormal,
    Actor,
    ActorExited,
    CallCycle,
    CallTimeout,
    ChildSpec,
    DynamicSupervisor,
    Message,
    Ref,
    Request,
    Runtime,
    StartError,
    Supervisor,
    current_actor,
    handle,
    start_child,
    system,
    which_children,
)
from supervision import events as ev
from supervision._core.scheduler import DIRECT
from supervision.errors import Fenced
from supervision.testing import SeededQueue, VirtualClockLoop, advance, run, settled
from tests.supervision.conftest import CarryAlways
from tests.supervision.probes import Do, DoAndReply, Note, Probe, do, error_of, nothing


def text(*_: Any) -> str:
    """Return an answer."""
    return "answer"


# -- when --------------------------------------------------------------------------------------------------------------


async def test_a_call_of_an_idle_actor_is_answered_when_it_has_been_made(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    call = ref.call(DoAndReply(text))
    assert call.done()
    assert await call == "answer"


async def test_it_runs_in_the_context_of_its_actor(runtime: Runtime) -> None:
    ref, caller = await runtime.spawn(Probe), await runtime.spawn(Probe)
    seen: list[Any] = []

    def ask(actor: Probe) -> None:
        call = ref.call(DoAndReply(lambda _: current_actor()))
        assert not call.done()  # a caller that has a direct turn itself
        call.add_done_callback(lambda done: seen.append(done.result()))
        seen.append(current_actor())

    await do(caller, ask)
    await settled(runtime)
    assert seen == [caller, ref]


async def test_what_was_sent_before_is_handled_before(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    ref.cast(Note("first"))
    call = ref.call(DoAndReply(lambda actor: list(actor.log)))
    assert not call.done()
    assert await call == ["first"]


async def test_a_coroutine_is_run_by_a_worker(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)

    async def answer(actor: Probe) -> asyncio.Task[Any] | None:
        await advance(1.0)
        return asyncio.current_task()

    call = ref.call(DoAndReply(answer))
    assert not call.done()
    assert await call is not asyncio.current_task()


async def test_what_an_actor_sends_itself_waits_for_its_next_turn(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    call = ref.call(DoAndReply(lambda actor: actor.ref.cast(Note("later"))))
    assert call.done()
    assert await do(ref, lambda actor: list(actor.log)) == ["later"]


async def test_an_actor_with_an_idle_time_out_is_disturbed(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    await do(ref, lambda actor: actor.idle_timeout(5.0))
    for _ in range(3):
        await advance(4.0)
        assert ref.call(DoAndReply(text)).done()
    assert ref.alive
    assert await do(ref, lambda actor: list(actor.log)) == []


async def test_a_handler_that_stops_stashes_defers_or_continues_does_what_it_does_otherwise(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)

    def stash_once(actor: Probe) -> str | None:
        if "stashed" in actor.log:
            return "at last"
        actor.log.append("stashed")
        actor.stash()
        return None

    stashed = ref.call(DoAndReply(stash_once))
    assert not stashed.done()
    await do(ref, lambda actor: actor.unstash_all())
    assert await stashed == "at last"
    tokens: list[Any] = []
    deferred = ref.call(DoAndReply(lambda actor: tokens.append(actor.defer_reply())))
    assert not deferred.done()
    tokens[0].reply("put off")
    assert await deferred == "put off"
    assert await ref.call(DoAndReply(lambda actor: nothing(actor.continue_with(Note("on"))))) is None
    assert "on" in await do(ref, lambda actor: list(actor.log))
    assert await ref.call(DoAndReply(lambda actor: actor.stop("enough"))) is None
    assert ref.reason == Abnormal("enough")


async def test_a_crash_is_told_when_the_supervisor_has_heard_of_it(runtime: Runtime) -> None:
    """So a caller that asks again by name finds the next incarnation."""
    await runtime.spawn(Supervisor, [ChildSpec("a", Probe, name="a")])
    name = runtime.name("a")
    call = name.call(DoAndReply(lambda actor: 1 // 0))
    error = await error_of(call)
    assert isinstance(error, ActorExited)
    assert error.begun
    assert call.begun
    assert await name.call(DoAndReply(text)) == "answer"


async def test_an_end_that_nobody_waits_for_any_more_is_told_to_nobody(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    call = ref.call(DoAndReply(lambda actor: 1 // 0))
    call.cancel()
    await settled(runtime)
    assert call.cancelled()
    assert runtime.statistics().dead_letters == {}


class FailsToStart(Actor):
    """Its start fails when it has begun to wait."""

    async def init(self) -> None:
        """Fail, without waiting for anything."""
        raise LookupError("no luck")


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_child_that_fails_before_its_supervisor_waits_for_it_has_failed(
    runtime: Runtime, kind: type[Actor]
) -> None:
    supervisor = await (runtime.spawn(Supervisor, []) if kind is Supervisor else runtime.spawn(DynamicSupervisor))
    error = await error_of(start_child(supervisor, ChildSpec("a", FailsToStart)))
    assert isinstance(error, StartError)
    assert "no luck" in str(error)


class Curious(Actor):
    """Its start asks the supervisor that starts it."""

    async def init(self) -> None:
        """Ask."""
        assert self.parent is not None
        await which_children(self.parent)


async def test_a_child_that_asks_its_supervisor_before_that_waits_for_it_has_failed_and_is_gone(
    runtime: Runtime,
) -> None:
    parent = await runtime.spawn(DynamicSupervisor)
    error = await error_of(start_child(parent, ChildSpec("curious", Curious, name="curious")))
    assert isinstance(error, StartError)
    assert "CallCycle" in str(error)
    await settled(runtime)
    assert list(runtime.actors()) == [parent]
    assert runtime.names() == {}
    assert await which_children(parent) == []


async def test_a_handler_that_kills_its_own_actor_leaves_nothing_behind(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    call = ref.call(DoAndReply(lambda actor: actor.ref.kill()))
    assert isinstance(await error_of(call), ActorExited)
    await settled(runtime)


async def test_what_a_handler_returns_to_be_awaited_is_awaited(runtime: Runtime) -> None:
    ref, other = await runtime.spawn(Probe), await runtime.spawn(Probe)
    assert await ref.call(DoAndReply(lambda actor: other.call(DoAndReply(text)))) == "answer"


async def test_a_caller_that_gives_up_inside_is_a_late_reply(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    tokens: list[Any] = []

    def put_off(actor: Probe) -> None:
        tokens.append(actor.defer_reply())

    call = ref.call(DoAndReply(put_off))
    call.cancel()
    tokens[0].reply("late")
    assert runtime.statistics().dead_letters == {"late_reply": 1}


# -- how often ---------------------------------------------------------------------------------------------------------


async def test_a_caller_in_a_loop_gives_way_to_everybody_else(runtime: Runtime) -> None:
    ref, other = await runtime.spawn(Probe), await runtime.spawn(Probe)
    await settled(runtime)
    loop = asyncio.get_running_loop()
    turns: list[int] = []
    made = 0
    loop.call_soon(lambda: turns.append(made))
    other.cast(Do(lambda actor: turns.append(made)))
    while made < 2 * DIRECT:
        await ref.call(DoAndReply(text))
        made += 1
    assert len(turns) == 2
    assert max(turns) <= DIRECT


async def test_a_caller_of_slow_handlers_gives_way_after_a_millisecond(runtime: Runtime) -> None:
    ref, loop = await runtime.spawn(Probe), asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    await settled(runtime)
    seen: list[bool] = []
    for _ in range(4):
        call = ref.call(DoAndReply(lambda actor: loop.jump(0.0007)))
        seen.append(call.done())
        await call
    assert seen == [True, True, False, True]


# -- where not ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("queue", [SeededQueue(1), deque()])
async def test_a_schedule_of_a_test_is_left_to_the_test(queue: Any) -> None:
    async with Runtime(watchdog=None, reports=False, run_queue=queue) as runtime:
        call = (await runtime.spawn(Probe)).call(DoAndReply(text))
        assert not call.done()
        assert await call == "answer"


async def test_what_a_propagator_puts_on_a_call_is_there_when_it_is_handled() -> None:
    async with Runtime(watchdog=None, reports=False, propagator=CarryAlways()) as runtime:
        call = (await runtime.spawn(Probe)).call(DoAndReply(text))
        assert not call.done()
        assert await call == "answer"


async def test_a_listener_does_not_set_actors_to_work_in_the_middle_of_what_the_kernel_does(runtime: Runtime) -> None:
    ref, dying = await runtime.spawn(Probe), await runtime.spawn(Probe)
    calls: list[Any] = []
    runtime.subscribe(lambda event: calls.append((call := ref.call(DoAndReply(text)), call.done())), ev.Exited)
    dying.kill()
    assert [done for _, done in calls] == [False]
    assert await calls[0][0] == "answer"
    assert ref.call(DoAndReply(text)).done()


async def test_a_listener_that_hears_of_an_end_casts_to_whoever_is_to_act(runtime: Runtime) -> None:
    ref, acting, other = [await runtime.spawn(Probe) for _ in range(3)]
    calls: list[Any] = []
    acted: list[str] = []

    async def act(actor: Probe) -> None:
        acted.append(await other.call(DoAndReply(text)))

    def hear(event: Any) -> None:
        calls.append(other.call(DoAndReply(text)))
        acting.cast(Do(act))

    listening = runtime.subscribe(hear, ev.Exited)
    await do(ref, lambda actor: actor.stop())
    await settled(runtime)
    listening.close()
    assert isinstance(await error_of(calls[0]), Fenced)
    assert acted == ["answer"]


async def test_what_a_listener_sends_to_an_actor_that_has_just_begun_is_not_lost() -> None:
    class Plain(Actor):
        handled: list[Any] = []

        @handle
        def note(self, message: Note) -> None:
            self.handled.append(message.text)

    async with Runtime(watchdog=None, reports=False) as runtime:
        runtime.subscribe(lambda event: event.ref.cast(Note("hello")), ev.Started)  # type: ignore[attr-defined]
        await runtime.spawn(Plain)
        await settled(runtime)
    assert Plain.handled == ["hello"]


async def test_a_listener_may_kill_an_actor_that_has_just_begun() -> None:
    class Plain(Actor):
        pass

    async with Runtime(watchdog=None, reports=False) as runtime:
        runtime.subscribe(lambda event: event.ref.kill(), ev.Started)  # type: ignore[attr-defined]
        assert isinstance(await error_of(runtime.spawn(Plain)), StartError)
        assert list(runtime.actors()) == []
        assert runtime.statistics().runnable == 0


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_a_call_from_another_thread_runs_nothing_there() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        ref = await runtime.spawn(Probe)
        asyncio.get_running_loop().set_debug(True)  # it minds what is done with it elsewhere
        calls: list[Any] = []
        ask = DoAndReply(lambda _: threading.get_ident())
        thread = threading.Thread(target=lambda: calls.append(ref.call(ask, timeout=None)))
        thread.start()
        await asyncio.to_thread(thread.join)
        assert await calls[0] == threading.get_ident()


async def test_an_actor_that_is_to_end_waits_for_its_answers_so_that_it_can_be_cancelled(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    ended, killed = await runtime.spawn(Probe), await runtime.spawn(Probe)
    seen: list[Any] = []

    async def end(actor: Probe) -> None:
        actor.ref.exit("over") if actor.ref is ended else actor.ref.kill()
        call = ref.call(DoAndReply(text))
        seen.append((call.done(), type(call.exception()) if call.done() else None))
        await call
        seen.append("never")  # pragma: no cover

    ended.cast(Do(end))
    killed.cast(Do(end))
    await settled(runtime)
    assert seen == [(False, None), (True, Fenced)]
    assert not ended.alive


async def test_a_suspended_actor_handles_nothing(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    await system.suspend(ref)
    call = ref.call(DoAndReply(text))
    assert not call.done()
    await system.resume(ref)
    assert await call == "answer"


async def test_an_error_of_the_kernel_itself_ends_the_actor(
    runtime: Runtime, loop_errors: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = await runtime.spawn(Probe)
    monkeypatch.setattr("supervision._core.scheduler.answer_at_once", lambda cell, call: 1 // 0)
    call = ref.call(DoAndReply(text))
    monkeypatch.undo()
    assert not ref.alive
    assert "the kernel failed" in loop_errors.pop()["message"]
    call.cancel()


# -- time --------------------------------------------------------------------------------------------------------------


async def test_a_call_whose_handler_is_a_coroutine_times_out_when_it_would(runtime: Runtime) -> None:
    ref, loop = await runtime.spawn(Probe), asyncio.get_running_loop()
    for timeout, limit in ((3.0, 3.0), (5.0, 5.0)):
        began = loop.time()
        error = await error_of(ref.call(DoAndReply(lambda actor: advance(7.0)), timeout=timeout))
        assert isinstance(error, CallTimeout)
        assert loop.time() - began == pytest.approx(limit)
        await advance(10.0)


async def test_a_call_that_took_its_time_before_it_had_to_wait_is_not_behind_those_made_meanwhile(
    runtime: Runtime,
) -> None:
    ref, other, loop = await runtime.spawn(Probe), await runtime.spawn(Probe), asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    inner: list[Any] = []

    def slow(actor: Probe) -> Any:
        loop.jump(2.0)
        question = DoAndReply(lambda actor: advance(60.0))
        inner.append(contextvars.Context().run(other.call, question))  # on nobody's behalf
        return advance(60.0)

    began = loop.time()
    await error_of(ref.call(DoAndReply(slow)))
    assert loop.time() - began == pytest.approx(5.0)
    await error_of(inner[0])
    assert loop.time() - began == pytest.approx(7.0)


async def test_a_deadline_is_inherited_from_a_request_in_a_direct_turn(runtime: Runtime) -> None:
    ref, other, loop = await runtime.spawn(Probe), await runtime.spawn(Probe), asyncio.get_running_loop()
    inner: list[Any] = []

    def ask(actor: Probe) -> None:
        inner.append(other.call(DoAndReply(lambda actor: advance(60.0))))

    began = loop.time()
    await ref.call(DoAndReply(ask), timeout=1.0)
    await error_of(inner[0])
    assert loop.time() - began == pytest.approx(1.0)


# -- the property ------------------------------------------------------------------------------------------------------


class Step(NamedTuple):
    """What a handler, or somebody outside, does: sends a job to an actor, or calls one and awaits the answer."""

    awaits: bool
    to: int
    job: Job


@dataclass(frozen=True)
class Job:
    """What an actor is to do: the steps, one after the other, and whether its handler is a coroutine."""

    name: int
    steps: tuple[Step, ...] = ()


class Told(Message):
    """A job that nobody waits for."""

    job: Any


class Asked(Request[Any]):
    """A job whose answer is awaited: how many jobs the actor has had."""

    job: Any


@dataclass
class Stage:
    """The actors of a program, and what they have seen."""

    refs: list[Ref] = field(default_factory=list)
    seen: list[list[Any]] = field(default_factory=list)


class Player(Actor):
    """Does its jobs, and writes down what it gets, and which answers."""

    def __init__(self, stage: Stage, number: int) -> None:
        self.stage = stage
        self.seen = stage.seen[number]

    @handle(Told, Asked)
    def job(self, message: Told | Asked) -> Any:
        """Do a job; with a coroutine if there is something to await."""
        self.seen.append(message.job.name)
        if any(step.awaits for step in message.job.steps):
            return self.perform(message)
        for step in message.job.steps:
            self.stage.refs[step.to].cast(Told(step.job))
        return len(self.seen) if isinstance(message, Asked) else None

    async def perform(self, message: Told | Asked) -> Any:
        """Do the steps one after the other."""
        await play(self.stage, message.job.steps, self.seen)
        return len(self.seen) if isinstance(message, Asked) else None


async def play(stage: Stage, steps: tuple[Step, ...], seen: list[Any]) -> None:
    """Do the steps of a job."""
    for step in steps:
        if not step.awaits:
            stage.refs[step.to].cast(Told(step.job))
            continue
        try:
            seen.append(("answer", await stage.refs[step.to].call(Asked(step.job), timeout=None)))
        except CallCycle:
            seen.append("ring")


def outcome(steps: tuple[Step, ...], actors: int, seed: int | None) -> Any:
    """Return what the actors and somebody outside see, with direct turns, or in the order of a seed."""

    async def main() -> Any:
        queue = None if seed is None else SeededQueue(seed)
        async with Runtime(watchdog=None, reports=False, run_queue=queue) as runtime:
            stage = Stage(seen=[[] for _ in range(actors)])
            outside: list[Any] = []
            stage.refs.extend([await runtime.spawn(Player, stage, number) for number in range(actors)])
            await play(stage, steps, outside)
            await settled(runtime)
            return stage.seen, outside

    return run(main())


ACTORS = 3
#: How many orders are tried before a program's outcome is said to be none that there can be.
SEEDS = 3000


def steps(jobs: st.SearchStrategy[Job], most: int) -> st.SearchStrategy[tuple[Step, ...]]:
    """Return a few steps with such jobs."""
    return st.lists(st.builds(Step, st.booleans(), st.integers(0, ACTORS - 1), jobs), max_size=most).map(tuple)


NUMBERS = st.integers(0, 9)
LEAVES = st.builds(Job, NUMBERS)
JOBS = st.builds(Job, NUMBERS, steps(st.builds(Job, NUMBERS, steps(LEAVES, 2)), 2))


@pytest.mark.once
@settings(deadline=None, derandomize=True, max_examples=300)
@given(steps(JOBS, 3))
def test_what_comes_of_a_program_is_what_can_come_of_it_in_some_order_of_turns(program: tuple[Step, ...]) -> None:
    """Calls are awaited where they are made. Then no order is seen that the queue could not have brought about."""
    direct = outcome(program, ACTORS, None)
    assert any(outcome(program, ACTORS, seed) == direct for seed in range(SEEDS))
