"""Runtimes: their options, their life, what can be asked of them, and that two know nothing of each other."""

from __future__ import annotations

import asyncio
import contextvars
import pickle
import threading
from typing import Any

import pytest
from structlog.testing import capture_logs

from supervision import (
    IGNORE,
    KILLED,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    Abnormal,
    Actor,
    AlreadyRegistered,
    BadOption,
    BadTime,
    ChildSpec,
    Crashed,
    IdleTimeout,
    Name,
    NoProcess,
    NotRunning,
    Ref,
    Runtime,
    StartError,
    StartIgnored,
    Supervisor,
    current_actor,
    handle,
    spawn_link,
)
from supervision import events as ev
from supervision._core.watchdog import _describe
from supervision.errors import BadName, Fenced
from supervision.reasons import StartTimeout
from supervision.testing import VirtualClockLoop, advance, barrier, run, settled
from tests.supervision.probes import Do, DoAndReply, Note, Probe, Recorder, Tidy, do, error_of, nothing


class Hanging(Actor):
    """Its start takes for ever."""

    async def init(self) -> None:
        """Wait."""
        await asyncio.get_running_loop().create_future()


class Unwilling(Actor):
    """Does not want to run."""

    def init(self) -> Any:
        """Ignore the start."""
        return IGNORE


# -- options and life ------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"node": ""}, BadOption),
        ({"node": 3}, BadOption),
        ({"kill_grace": -1}, BadTime),
        ({"exit_grace": "long"}, BadTime),
        ({"watchdog": 0}, BadTime),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        Runtime(**options)


async def test_a_runtime_is_entered_once_and_closed_as_often_as_one_likes() -> None:
    runtime = Runtime(watchdog=None, reports=False)
    with pytest.raises(NotRunning, match="async with Runtime"):
        _ = runtime.clock
    assert isinstance(await error_of(runtime.spawn(Actor)), NotRunning)
    async with runtime:
        assert isinstance(await error_of(runtime.__aenter__()), NotRunning)
    await runtime.close()
    assert isinstance(await error_of(runtime.spawn(Actor)), NotRunning)


async def test_two_runtimes_know_nothing_of_each_other(runtime: Runtime) -> None:
    async with Runtime(node="two", watchdog=None, reports=False) as two:
        one_a, two_a = await runtime.spawn(Probe, name="a"), await two.spawn(Probe, name="a")
        assert (runtime.whereis("a"), two.whereis("a")) == (one_a, two_a)
        assert (one_a.node, two_a.node, two.name("a").node) == ("local", "two", "two")
        assert list(two.actors()) == [two_a]
        assert runtime.name("a") != two.name("a")
    assert one_a.alive
    assert not two_a.alive


class Brutal(Tidy):
    """Is killed at once when it is stopped from above."""

    shutdown = "brutal_kill"


async def test_at_close_each_actor_has_its_own_limit(loop_errors: list[Any]) -> None:
    log: list[Any] = []
    async with Runtime(watchdog=None, reports=False) as runtime:
        ref = await runtime.spawn(Brutal, log, trap_exit=True)
    assert ref.reason == KILLED
    assert log == []


# -- starting ------------------------------------------------


async def test_a_start_that_takes_too_long_is_ended(runtime: Runtime) -> None:
    error = await error_of(runtime.spawn(Hanging, timeout=2))
    assert isinstance(error, StartError)
    assert error.reason == StartTimeout(2.0)
    assert asyncio.get_running_loop().time() == pytest.approx(2)


async def test_a_start_whose_starter_gives_up_is_ended(runtime: Runtime) -> None:
    starting = asyncio.ensure_future(runtime.spawn(Hanging, name="h"))
    await advance(1)
    hanging = runtime.whereis("h")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert hanging is not None
    assert hanging.reason == SHUTDOWN


async def test_what_is_no_actor_class_cannot_be_started(runtime: Runtime) -> None:
    assert isinstance(await error_of(runtime.spawn(int)), BadOption)  # type: ignore[call-overload]
    assert isinstance(await error_of(runtime.spawn(Unwilling)), StartIgnored)
    assert isinstance(await error_of(spawn_link(Actor)), NotRunning)
    assert isinstance(await error_of(runtime.spawn_child(Actor)), NotRunning)


async def test_a_time_out_that_comes_when_the_actor_runs_already_is_void(runtime: Runtime) -> None:
    class Slow(Actor):
        async def init(self) -> None:
            await advance(1)

    ref = await runtime.spawn(Slow, timeout=5)
    await advance(10)
    assert ref.alive


async def test_an_actor_can_start_and_watch_another_in_one_step(runtime: Runtime) -> None:
    watcher = await runtime.spawn(Probe)
    ref, monitor = await do(watcher, lambda actor: actor.spawn_monitor(Actor))
    ref.exit("x")
    assert await do(watcher, lambda actor: actor.log) == [("down", ref, Abnormal("x"))]
    assert str(ref) in str(monitor)


# -- names ------------------------------------------------


async def test_a_name_is_taken_given_back_and_looked_up_when_it_is_used(runtime: Runtime, events: Recorder) -> None:
    a, b = await runtime.spawn(Probe), await runtime.spawn(Probe)
    name = runtime.name("n")
    assert isinstance(await error_of(name.send(Note(0))), NoProcess)
    name.cast(Note(0))
    runtime.register("n", a)
    name.cast(Note(1))
    await name.send(Note(2))
    for taken, by, error in (("n", b, AlreadyRegistered), ("m", a, AlreadyRegistered), ("", b, BadName)):
        with pytest.raises(error):
            runtime.register(taken, by)
    assert runtime.names() == {"n": a}
    runtime.unregister("n")
    runtime.unregister("n")
    runtime.register("n", b)
    name.cast(Note(3))
    b.kill()
    with pytest.raises(NoProcess):
        runtime.register("n", b)
    assert await do(a, lambda actor: actor.log) == [1, 2]
    assert runtime.statistics().dead_letters["noname"] == 1
    assert len(events.of(ev.Registered)) == len(events.of(ev.Unregistered)) == 2


def test_a_name_is_a_value() -> None:
    runtime = Runtime()
    name = runtime.name("n")
    assert name == Name(runtime, "n")
    assert hash(name) == hash(Name(runtime, "n"))
    assert name != "n"
    assert repr(name) == "<Name n>"
    with pytest.raises(BadName):
        runtime.name("")


async def test_a_killed_actor_can_neither_take_nor_give_back_names(runtime: Runtime) -> None:
    errors: list[BaseException] = []
    other = await runtime.spawn(Probe, name="other")

    async def ghost(actor: Probe) -> None:
        try:
            await actor.runtime.sleep(100.0)
        finally:
            with pytest.raises(Fenced) as caught:
                runtime.register("mine", await _ref_of(other))
            errors.append(caught.value)
            runtime.unregister("other")
            assert runtime.send_after(0.0, Note("x"), other).read() is None
            actor.ref.exit("x")
            other.kill()

    async def _ref_of(ref: Ref) -> Ref:
        return nameless

    nameless = await runtime.spawn(Probe)
    ref = await runtime.spawn(Probe)
    ref.cast(Do(ghost))
    await settled(runtime)
    ref.kill()
    await advance(1)
    assert len(errors) == 1
    assert runtime.names() == {"other": other}
    assert other.alive


# -- refs, reasons, calls ------------------------------------------------


async def test_a_ref_cannot_be_pickled_and_says_what_to_send_instead(runtime: Runtime) -> None:
    ref = await runtime.spawn(Actor)
    with pytest.raises(TypeError, match="send its path, its id or a Name instead"):
        pickle.dumps(ref)


async def test_an_exception_whose_text_cannot_be_made_is_a_reason_all_the_same(runtime: Runtime) -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    def crash(actor: Probe) -> None:
        raise Unspeakable

    ref = await runtime.spawn(Probe)
    ref.cast(Do(crash))
    reason = await ref.join()
    assert isinstance(reason, Crashed)
    assert reason.message == "<its message could not be made: ValueError>"


async def test_an_answer_that_is_an_error_may_come_later(runtime: Runtime) -> None:
    tokens: list[Any] = []
    ref = await runtime.spawn(Probe)
    call = ref.call(DoAndReply(lambda actor: tokens.append(actor.defer_reply())))
    await settled(runtime)
    tokens[0].fail(LookupError("no"))
    assert isinstance(await error_of(call), LookupError)


async def test_an_answer_by_a_killed_actor_vanishes(runtime: Runtime) -> None:
    tokens: list[Any] = []
    ref = await runtime.spawn(Probe)
    call = ref.call(DoAndReply(lambda actor: tokens.append(actor.defer_reply())))

    async def ghost(actor: Probe) -> None:
        try:
            await actor.runtime.sleep(100.0)
        finally:
            tokens[0].reply("from the dead")
            tokens[0].fail(LookupError("from the dead"))

    ref.cast(Do(ghost))
    await settled(runtime)
    ref.kill()
    assert "killed" in str(await error_of(call))
    await advance(1)


# -- listeners, timers, sleep ------------------------------------------------


async def test_a_listener_that_raises_is_reported_and_the_others_hear_the_event(
    runtime: Runtime, loop_errors: list[dict[str, Any]]
) -> None:
    def broken(event: ev.Event) -> None:
        raise ValueError("broken")

    first = runtime.subscribe(broken, ev.Started)
    heard = Recorder()
    runtime.subscribe(heard)
    await runtime.spawn(Actor)
    (report,) = loop_errors
    assert report["message"] == "a listener raised on Started"
    loop_errors.clear()
    assert len(heard.of(ev.Started)) == 1
    first.close()
    first.close()
    await runtime.spawn(Actor)


async def test_many_timers_that_were_cancelled_hold_no_memory(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    timers = [runtime.send_after(1000.0, Note(n), ref) for n in range(200)]
    kept = runtime.send_after(1.0, Note("kept"), ref)
    for timer in timers:
        timer.cancel()
    assert len(runtime.scheduler.timers._heap) < 100
    assert runtime.statistics().timers == 1
    assert kept.read() == pytest.approx(1.0)
    await advance(1)
    assert await do(ref, lambda actor: actor.log) == ["kept"]


async def test_a_timer_for_an_actor_that_has_ended_is_not_set(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    ref.kill()
    assert runtime.send_after(1.0, Note(1), ref).read() is None
    assert runtime.statistics().timers == 0


async def test_a_sleep_that_is_cancelled_leaves_no_timer(runtime: Runtime) -> None:
    sleeping = asyncio.ensure_future(runtime.sleep(10))
    await advance(1)
    sleeping.cancel()
    await asyncio.wait([sleeping])
    assert runtime.statistics().timers == 0
    assert isinstance(await error_of(runtime.sleep(-1)), BadTime)


async def test_the_idle_time_out_ends_with_its_actor_and_with_any_message(runtime: Runtime) -> None:
    class Idle(Probe):
        async def init(self) -> None:
            await advance(1)
            self.idle_timeout(5)

        @handle
        def bored(self, message: IdleTimeout) -> None:
            self.log.append("bored")

    ref = await runtime.spawn(Idle)
    await advance(4)
    ref.cast(Note("a"))
    await advance(9)
    ref.cast(Do(lambda actor: actor.idle_timeout(5)))
    ref.cast(Note("b"))
    await advance(9)
    ref.cast(Do(lambda actor: actor.idle_timeout(5)))
    await advance(5)
    assert await do(ref, lambda actor: actor.log) == ["a", "b", "bored"]
    ref.cast(Do(lambda actor: actor.idle_timeout(5)))
    await barrier(ref)
    ref.kill()
    assert runtime.statistics().timers == 0


async def test_an_idle_time_out_that_is_set_before_a_continuation_is_cancelled_by_it(runtime: Runtime) -> None:
    def both(actor: Probe) -> None:
        actor.idle_timeout(5)
        actor.continue_with(Note("next"))

    ref = await runtime.spawn(Probe)
    ref.cast(Do(both))
    await advance(9)
    assert await do(ref, lambda actor: actor.log) == ["next"]


async def test_a_long_chain_of_continuations_lets_others_have_their_turn(runtime: Runtime) -> None:
    order: list[str] = []

    def again(n: int) -> Do:
        def step(actor: Probe) -> None:
            order.append("chain")
            if n:
                actor.continue_with(again(n - 1))

        return Do(step)

    one, other = await runtime.spawn(Probe), await runtime.spawn(Probe)
    one.cast(again(200))
    other.cast(Do(lambda actor: order.append("other")))
    await settled(runtime)
    assert order.count("chain") == 201
    assert order.index("other") == 64


# -- monitors at the end ------------------------------------------------


async def test_watching_oneself_and_each_other_ends_with_the_end(runtime: Runtime) -> None:
    a, b = await runtime.spawn(Probe), await runtime.spawn(Probe)
    await do(a, lambda actor: actor.monitor(b))
    await do(b, lambda actor: actor.monitor(a))
    await do(a, lambda actor: actor.monitor(a))
    a.kill()
    assert await do(b, lambda actor: actor.log) == [("down", a, KILLED)]
    b.kill()


async def test_a_join_that_is_given_up_is_forgotten(runtime: Runtime) -> None:
    ref = await runtime.spawn(Actor)
    joining = asyncio.ensure_future(ref.join())
    await advance(0)
    joining.cancel()
    await asyncio.wait([joining])
    ref.kill()
    assert await ref.join() == KILLED


async def test_the_stop_of_an_ended_actor_says_why_it_ended(runtime: Runtime) -> None:
    ref = await runtime.spawn(Actor)
    ref.kill()
    assert "killed" in str(await error_of(ref.stop()))


# -- Ctrl-C ------------------------------------------------


def test_a_ctrl_c_that_hits_an_actor_reaches_the_user() -> None:
    async def main() -> None:
        async with Runtime(watchdog=None, reports=False) as runtime:

            def interrupt(actor: Probe) -> None:
                raise KeyboardInterrupt

            ref = await runtime.spawn(Probe)
            ref.cast(Do(interrupt))
            await ref.join()
            await advance(1)

    with pytest.raises(KeyboardInterrupt):
        run(main())


def test_after_a_ctrl_c_in_an_actor_a_tree_stops_in_order() -> None:
    """The runner of asyncio cancels all tasks then, also workers that have not begun."""

    async def interrupt(actor: Probe) -> None:
        await advance(1)
        raise KeyboardInterrupt

    async def main() -> None:
        async with Runtime(watchdog=None, reports=False) as runtime:
            await runtime.spawn(Supervisor, [ChildSpec(id, Probe, name=id) for id in "ab"])
            await do(runtime.name("a"), interrupt)

    with capture_logs() as logs, pytest.raises(KeyboardInterrupt), asyncio.Runner(loop_factory=VirtualClockLoop) as it:
        it.run(main())
    assert [line["event"] for line in logs] == []


# -- workers ------------------------------------------------


@pytest.mark.parametrize("idle", [False, True], ids=["new", "woken"])
async def test_others_take_over_from_a_worker_that_is_cancelled_before_it_begins(idle: bool) -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        ref = await runtime.spawn(Probe)
        if idle:
            await do(ref, lambda actor: advance(0))
        done: list[Probe] = []
        me = asyncio.current_task()

        def cancel_others() -> None:
            for task in asyncio.all_tasks() - {me}:
                task.cancel()

        async def work(actor: Probe) -> None:
            done.append(actor)

        ref.cast(Do(work))
        if idle:
            cancel_others()
        else:
            asyncio.get_running_loop().call_soon(cancel_others)  # when the worker has been made
        assert await do(ref, lambda actor: len(done)) == 1
        assert runtime.scheduler.waking == 0


async def test_more_workers_than_are_kept_end_when_they_are_done(runtime: Runtime) -> None:
    refs = [await runtime.spawn(Probe) for _ in range(100)]
    for ref in refs:
        ref.cast(Do(lambda actor: advance(1)))
    await advance(2)
    workers = [task for task in asyncio.all_tasks() if task.get_name() == "local-worker"]
    assert len(workers) <= 64
    assert [await do(ref, lambda actor: advance(0)) for ref in refs] == [None] * 100


async def test_an_idle_worker_that_somebody_cancels_is_replaced(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    await do(ref, lambda actor: advance(0))
    for task in asyncio.all_tasks():
        if task.get_name() == "local-worker":
            task.cancel()
    assert await do(ref, lambda actor: advance(0)) is None


async def test_a_handler_that_cancels_its_own_task_harms_nobody_else(runtime: Runtime) -> None:
    def cancel(actor: Probe) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def later(actor: Probe) -> str:
        await advance(1)
        return "well"

    async def cancel_then_nothing(actor: Probe) -> None:
        cancel(actor)

    refs = [await runtime.spawn(Probe) for _ in range(3)]
    await do(refs[0], lambda actor: advance(0))
    refs[0].cast(Do(cancel_then_nothing))
    calls = [ref.call(DoAndReply(later)) for ref in refs[1:]]
    assert [await call for call in calls] == ["well", "well"]


async def test_each_actor_has_a_context_of_its_own(runtime: Runtime) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    a, b = await runtime.spawn(Probe), await runtime.spawn(Probe)
    await do(a, lambda actor: nothing(variable.set("a")))

    async def read(actor: Probe) -> str:
        await advance(0)
        return variable.get()

    assert [await do(a, read), await do(b, read), variable.get()] == ["a", "unset", "unset"]
    assert await do(a, lambda actor: current_actor()) is a
    with pytest.raises(NotRunning):
        current_actor()


# -- virtual time ------------------------------------------------


async def test_virtual_time_does_not_jump_while_a_thread_or_a_socket_is_awaited() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    asleep = asyncio.ensure_future(asyncio.to_thread(threading.Event().wait, 0.02))
    timer = loop.create_future()
    loop.call_later(3600, timer.set_result, None)
    await asleep
    assert not timer.done()
    assert 0.0 < loop.time() < 60.0
    await loop.shutdown_default_executor()
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    assert not loop.awaits_outside()
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()
    timer.cancel()


def test_virtual_time_cannot_be_advanced_on_a_real_loop() -> None:
    with pytest.raises(RuntimeError, match="virtual time"):
        asyncio.run(advance(1))


async def test_settled_waits_for_the_timers_of_those_it_is_asked_to_wait_for(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    ref.cast(Do(lambda actor: advance(100)))
    await settled(runtime, ref)
    assert asyncio.get_running_loop().time() == pytest.approx(100)


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_settled_waits_on_a_real_loop_too() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        ref = await runtime.spawn(Probe)
        gate = asyncio.Event()
        ref.cast(Do(lambda actor: gate.wait()))
        asyncio.get_running_loop().call_later(0.01, gate.set)
        await settled(runtime, ref)
        assert gate.is_set()


# -- the watchdog ------------------------------------------------


async def test_a_loop_that_stands_still_outside_of_actors_is_reported_without_a_path() -> None:
    blocked, seen = threading.Event(), Recorder()

    def note(event: ev.Event) -> None:
        seen(event)
        blocked.set()

    async with Runtime(watchdog=0.01, reports=False) as runtime:
        runtime.subscribe(note, ev.LoopBlocked)
        blocked.wait(30)
    assert seen.of(ev.LoopBlocked)[0].path is None


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_a_loop_that_stands_still_is_reported_while_it_does_and_then_with_its_total() -> None:
    """In the log too; each time after twice the time."""
    thrice, seen = threading.Semaphore(0), Recorder()
    over = asyncio.get_running_loop().create_future()

    def note(event: ev.Event) -> None:
        seen(event)
        thrice.release()

    with capture_logs() as entries:
        async with Runtime(watchdog=0.1) as runtime:
            runtime.subscribe(note, ev.LoopBlocked)
            runtime.subscribe(over.set_result, ev.LoopUnblocked)
            for _ in range(3):
                assert thrice.acquire(timeout=30)
            total = (await over).seconds
    blocked = seen.of(ev.LoopBlocked)
    assert [event.again for event in blocked] == [False] + [True] * (len(blocked) - 1)
    assert len(blocked) >= 3
    assert [event.seconds for event in blocked] == sorted(event.seconds for event in blocked)
    assert total >= blocked[2].seconds >= 0.1 + 0.2 + 0.4
    assert [entry["event"] for entry in entries] == ["loop_blocked"] * len(blocked) + ["loop_unblocked"]
    assert entries[-1]["seconds"] == round(total, 3)


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_a_loop_that_held_the_interpreter_too_is_reported_when_it_is_over() -> None:
    """The watchdog's thread could not run meanwhile."""
    async with Runtime(watchdog=0.02, reports=False) as runtime:
        seen = Recorder()
        runtime.subscribe(seen, ev.LoopUnblocked)
        await runtime.sleep(0.01)
        sum(range(10**7))
        while not seen.all:
            await runtime.sleep(0.001)
        assert seen.of(ev.LoopUnblocked)[0].seconds >= 0.02


async def test_a_block_that_began_between_a_sign_of_life_and_its_being_heard_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered, over = threading.Event(), threading.Event()

    class HeardLate(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            heard = super().wait(timeout)
            answered.set()
            over.wait()
            return heard

    async with Runtime(watchdog=0.02, reports=False) as runtime:
        watchdog = runtime._watchdog
        assert watchdog is not None
        monkeypatch.setattr(watchdog, "_alive", HeardLate())
        seen = Recorder()
        runtime.subscribe(seen, ev.LoopUnblocked)
        while not answered.is_set():
            await runtime.sleep(0.001)
        threading.Event().wait(0.05)
        over.set()
        while not seen.all:
            await runtime.sleep(0.001)
        assert seen.of(ev.LoopUnblocked)[0].seconds >= 0.04


async def test_a_jump_of_virtual_time_is_no_block() -> None:
    seen = Recorder()
    async with Runtime(watchdog=30.0, reports=False) as runtime:
        runtime.subscribe(seen, ev.LoopBlocked, ev.LoopUnblocked)
        for _ in range(100):
            await runtime.sleep(3600.0)
    assert seen.all == []


def test_a_thread_that_has_gone_has_no_stack() -> None:
    assert _describe(None) == {"path": None, "file": "?", "line": 0, "stack": ""}


async def test_down_of_a_name_that_nobody_holds_comes_at_once(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    name = runtime.name("nobody")
    await do(ref, lambda actor: actor.monitor(name))
    assert await do(ref, lambda actor: actor.log) == [("down", name, NOPROC)]


async def test_a_supervisor_that_is_killed_takes_its_children_along_at_close() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        top = await runtime.spawn(Supervisor, [ChildSpec("a", Probe, kwargs={"trap_exit": True}, name="a")])
        child = runtime.whereis("a")
        top.kill()
    assert child is not None
    assert child.reason is not None
    assert child.reason != NORMAL


@pytest.mark.parametrize("factory", [None, getattr(asyncio, "eager_task_factory", None)])
async def test_actors_work_with_any_task_factory_of_their_loop(factory: Any) -> None:
    """Also with one that lets a task begin before it is there (``asyncio.eager_task_factory``, from Python 3.12 on)."""

    class Waits(Actor):
        async def init(self) -> None:
            await self.runtime.sleep(1)

        @handle
        async def ask(self, request: DoAndReply) -> Any:
            return await asyncio.create_task(answer())

    async def answer() -> str:
        await advance(1)
        return "answer"

    asyncio.get_running_loop().set_task_factory(factory)
    async with Runtime() as runtime:
        ref = await runtime.spawn(Waits)
        assert await ref.call(DoAndReply(lambda actor: None)) == "answer"
