"""Corners: what happens at the same instant, in the middle of an end, or to those who end themselves."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from typing import Any

import pytest

from supervision import (
    IGNORE,
    KILLED,
    NOPROC,
    Abnormal,
    Actor,
    BadChildSpec,
    BadTime,
    Call,
    ChildCounts,
    ChildSpec,
    Crashed,
    DynamicSupervisor,
    ExitReason,
    Mailbox,
    MailboxFull,
    Runtime,
    Shutdown,
    StartError,
    Supervisor,
    count_children,
    start_child,
    system,
    which_children,
)
from supervision import events as ev
from supervision._core.cell import Cell
from supervision._core.scheduler import SLICE
from supervision.errors import BadBudget, NotOwner
from supervision.reasons import FailedToStartChild
from supervision.supervisors.restarts import RestartBudget
from supervision.testing import SeededQueue, advance, barrier, settled
from tests.supervision.probes import Do, DoAndReply, Note, Probe, Recorder, do, error_of, nothing


class Small(Probe):
    """Has room for one message."""

    mailbox = Mailbox(1, "drop_oldest")


async def test_what_reaches_an_actor_in_the_middle_of_its_end_is_lost(runtime: Runtime) -> None:
    """Its monitors fire until it has ended; what they say is a dead letter then."""

    async def end_slowly(actor: Probe) -> None:
        try:
            await advance(100)
        finally:
            await advance(1)

    other = await runtime.spawn(Probe)
    ref = await runtime.spawn(Small)
    await do(ref, lambda actor: actor.monitor(other))
    ref.cast(Do(end_slowly))
    await settled(runtime)
    ref.exit("x")
    other.kill()
    assert await ref.join() == Abnormal("x")
    assert runtime.statistics().dead_letters == {"noproc": 1}


async def test_a_request_that_nobody_waits_for_is_dropped_without_an_answer(runtime: Runtime) -> None:
    gate = asyncio.Event()
    ref = await runtime.spawn(Small)

    async def hold(actor: Probe) -> None:
        await gate.wait()

    ref.cast(Do(hold))
    await settled(runtime)
    call = ref.call(DoAndReply(str), timeout=None)
    call.cancel()
    other = ref.call(DoAndReply(lambda actor: "answer"), timeout=None)
    gate.set()
    assert await other == "answer"
    full = ref.call(DoAndReply(str), timeout=None)
    ref.cast(Note(1))
    assert isinstance(await error_of(full), MailboxFull)


async def test_a_handler_that_kills_its_actor_and_then_waits_does_not_run_on(runtime: Runtime) -> None:
    ran: list[str] = []

    async def never() -> None:
        ran.append("ran")

    def kill_and_wait(actor: Probe) -> Any:
        actor.ref.kill()
        return never()

    ref = await runtime.spawn(Probe)
    ref.cast(Do(kill_and_wait))
    assert await ref.join() == KILLED
    await settled(runtime)
    assert ran == []


async def test_a_handler_that_kills_its_actor_and_then_raises_was_killed(runtime: Runtime) -> None:
    def kill_and_raise(actor: Probe) -> None:
        actor.ref.kill()
        raise ValueError("too late")

    ref = await runtime.spawn(Probe)
    ref.cast(Do(kill_and_raise))
    assert await ref.join() == KILLED


async def test_a_chain_of_calls_whose_end_is_answered_already_is_no_cycle(runtime: Runtime) -> None:
    """A calls B, which waits for C, which has just answered."""
    a, b, c = [await runtime.spawn(Probe) for _ in range(3)]
    got: list[Any] = []

    async def a_calls_b(actor: Probe) -> None:
        got.append(await b.call(DoAndReply(lambda other: "b")))

    def c_answers(actor: Probe) -> str:
        a.cast(Do(a_calls_b))
        return "c"

    async def b_calls_c(actor: Probe) -> None:
        got.append(await c.call(DoAndReply(c_answers)))

    b.cast(Do(b_calls_c))
    await settled(runtime)
    assert got == ["c", "b"]


async def test_an_exception_that_is_sent_as_a_reason_is_reported_as_a_crash_of_an_idle_actor(
    runtime: Runtime, events: Recorder
) -> None:
    ref = await runtime.spawn(Actor)
    ref.exit(ValueError("from outside"))
    reason = await ref.join()
    assert isinstance(reason, Crashed)
    (report,) = events.of(ev.CrashReport)
    assert report.message is None


async def test_a_message_that_comes_at_the_same_instant_cancels_the_idle_time_out(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    runtime.send_after(5, Note("message"), ref)
    ref.cast(Do(lambda actor: actor.idle_timeout(5)))
    await advance(9)
    assert await do(ref, lambda actor: actor.log) == ["message"]


async def test_a_start_time_out_that_fires_when_the_actor_runs_is_void(runtime: Runtime) -> None:
    ref = await runtime.spawn(Actor)
    assert isinstance(ref, Cell)
    ref.start_timed_out(1.0)
    assert ref.alive


async def test_only_the_watcher_may_remove_a_monitor(runtime: Runtime) -> None:
    a, b = await runtime.spawn(Probe), await runtime.spawn(Probe)
    monitor = await do(a, lambda actor: actor.monitor(b))
    ref = await runtime.spawn(Probe)

    def steal(actor: Probe) -> None:
        with pytest.raises(NotOwner):
            actor.demonitor(monitor)

    await do(ref, steal)
    assert await do(a, lambda actor: actor.demonitor(monitor)) is True
    assert await do(a, lambda actor: actor.demonitor(monitor)) is False


async def test_an_answer_that_the_handler_itself_has_made_unwanted_is_a_late_reply(runtime: Runtime) -> None:
    calls: list[Call[Any]] = []
    ref = await runtime.spawn(Probe)

    def cancel(actor: Probe) -> str:
        calls[0].cancel()
        return "too late"

    ref.cast(Do(nothing))  # for the call to wait its turn
    calls.append(ref.call(DoAndReply(cancel)))
    await settled(runtime)
    assert runtime.statistics().dead_letters == {"late_reply": 1}


async def test_an_async_handler_that_stops_its_actor_waits_for_an_async_terminate(runtime: Runtime) -> None:
    log: list[str] = []

    class Slow(Probe):
        async def terminate(self, reason: ExitReason) -> None:
            await advance(5)
            log.append("over")

    async def stop(actor: Probe) -> None:
        await advance(1)
        actor.stop("done")

    ref = await runtime.spawn(Slow)
    ref.cast(Do(stop))
    assert await ref.join() == Abnormal("done")
    assert asyncio.get_running_loop().time() == pytest.approx(6)
    assert log == ["over"]


async def test_whether_it_traps_exits_can_be_asked_and_changed_at_any_time(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)
    assert await do(ref, lambda actor: actor.trap_exit) is False

    def trap(actor: Probe) -> bool:
        actor.trap_exit = True
        return actor.trap_exit

    assert await do(ref, trap) is True
    ref.exit("x")
    assert await do(ref, lambda actor: actor.log) == [("exit", None, Abnormal("x"))]


async def test_an_event_that_nobody_wants_is_not_made(runtime: Runtime) -> None:
    before = runtime.events.seq
    runtime.events.emit(ev.LoopUnblocked, seconds=1.0)
    assert runtime.events.seq == before
    assert (str(NOPROC), repr(IGNORE)) == ("no such actor", "<IGNORE>")


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_the_wall_clock_is_the_worlds() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        assert runtime.clock.wall_time() > 1.7e9


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_a_time_that_no_loop_can_wait_for_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        ref = await runtime.spawn(Probe)
        runtime.send_after(1.7e308, Note("never"), ref)
        call = ref.call(DoAndReply(lambda actor: actor.runtime.sleep(1e300)), timeout=1e308)
        await runtime.sleep(0.001)
        assert not call.done()
        call.cancel()
    assert not caplog.records


class Own(float):
    """A number that raises when it is looked at."""

    __float__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf"), Own(1), True, "1", None])
async def test_what_is_no_length_of_time_is_named(runtime: Runtime, value: Any) -> None:
    ref = await runtime.spawn(Probe)
    with pytest.raises(BadTime, match=r"delay = .*: give a finite number of seconds"):
        runtime.send_after(value, Note("never"), ref)


async def test_a_sleep_that_is_cancelled_at_the_instant_it_ends_is_cancelled(runtime: Runtime) -> None:
    sleeping = asyncio.ensure_future(runtime.sleep(10))
    asyncio.get_running_loop().call_later(10, sleeping.cancel)
    await asyncio.wait([sleeping])
    assert sleeping.cancelled()


async def test_what_is_started_while_a_runtime_closes_is_ended_by_force() -> None:
    class Child(Probe):
        async def terminate(self, reason: ExitReason) -> None:
            started.append(await self.spawn_link(Late, trap_exit=True))

    class Late(Probe):
        async def terminate(self, reason: ExitReason) -> None:
            await advance(1000)

    started: list[Any] = []
    async with Runtime(watchdog=None, reports=False) as runtime:
        parent = await runtime.spawn(Probe)
        await do(parent, lambda actor: actor.spawn_link(Child, trap_exit=True))
    assert started[0].reason is not None
    assert asyncio.get_running_loop().time() < 100


def test_the_watchdog_of_a_loop_that_has_gone_ends() -> None:
    loop = asyncio.new_event_loop()
    runtime = Runtime(watchdog=0.001, reports=False)
    loop.run_until_complete(runtime.__aenter__())
    loop.close()
    assert runtime._watchdog is not None
    runtime._watchdog._thread.join(30)
    assert not runtime._watchdog._thread.is_alive()


def test_the_watchdog_of_a_loop_that_was_closed_before_it_answered_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, asked, ask = asyncio.new_event_loop(), threading.Event(), asyncio.BaseEventLoop.call_soon_threadsafe

    def ask_in_vain(self: Any, *arguments: Any, **more: Any) -> Any:
        if asked.is_set():
            return ask(self, *arguments, **more)
        asked.set()
        return None

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", ask_in_vain)
    runtime = Runtime(watchdog=0.001, reports=False)
    loop.run_until_complete(runtime.__aenter__())
    asked.wait(30)
    loop.close()
    assert runtime._watchdog is not None
    runtime._watchdog._thread.join(30)
    assert not runtime._watchdog._thread.is_alive()


# -- turns from the queue ----------------------------------------------------------------------------------------------


async def test_an_awaitable_that_is_returned_in_a_turn_from_the_queue_is_awaited() -> None:
    """By a worker, whether one gave the turn or not."""
    async with Runtime(watchdog=None, reports=False, run_queue=deque()) as runtime:
        ref, other = await runtime.spawn(Probe), await runtime.spawn(Probe)

        def ask(actor: Probe) -> Any:
            return other.call(DoAndReply(lambda _: "answer"))

        assert await ref.call(DoAndReply(ask)) == "answer"
        waiting = ref.call(DoAndReply(lambda actor: advance(1.0)))  # from now on workers give the turns
        calls = [ref.call(DoAndReply(ask)), ref.call(DoAndReply(lambda actor: 1))]
        assert [await waiting, *[await call for call in calls]] == [None, "answer", 1]


async def test_a_handler_that_cancels_its_own_task_in_a_turn_from_the_queue_harms_nobody_else() -> None:
    def cancel(actor: Probe) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async with Runtime(watchdog=None, reports=False, run_queue=deque()) as runtime:
        refs = [await runtime.spawn(Probe) for _ in range(3)]
        await do(refs[0], lambda actor: advance(0))  # from now on workers give the turns
        refs[0].cast(Do(cancel))
        calls = [ref.call(DoAndReply(lambda actor: "well")) for ref in refs[1:]]
        assert [await call for call in calls] == ["well", "well"]


async def test_a_queue_that_does_not_pause_gives_way_all_the_same() -> None:
    async with Runtime(watchdog=None, reports=False, run_queue=SeededQueue(1, pauses=0.0)) as runtime:
        ref, log = await runtime.spawn(Probe), []

        def again(actor: Probe) -> None:
            log.append(1)
            if len(log) < 5000:
                actor.ref.cast(Do(again))

        ref.cast(Do(again))
        await asyncio.wait_for(asyncio.ensure_future(_passes(2)), 5.0)
        assert 0 < len(log) < 5000
        await settled(runtime)
        assert len(log) == 5000


async def test_turns_that_take_neither_long_nor_short_leave_the_pace_as_it_is(runtime: Runtime) -> None:
    scheduler = runtime.scheduler

    def pace() -> tuple[int, int]:
        return scheduler._turns, scheduler.budget

    scheduler._pace(SLICE)
    slow = pace()
    scheduler._pace(SLICE / 4)
    assert pace() == slow
    scheduler._pace(0.0)
    assert pace() > slow


async def _passes(times: int) -> None:
    gate = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(gate.set_result, None)
    await gate
    if times > 1:
        await _passes(times - 1)


@pytest.mark.parametrize("wrong", [-1, 1.5, True, None, "3"])
def test_a_number_of_restarts_must_be_whole_and_not_negative(wrong: Any) -> None:
    with pytest.raises(BadBudget, match="max_restarts"):
        RestartBudget(wrong, 5.0)


@pytest.mark.parametrize("wrong", [0, -1.0, True, None, "5", float("inf"), float("nan")])
def test_a_window_must_be_a_length_of_time(wrong: Any) -> None:
    with pytest.raises(BadBudget, match="max_seconds"):
        RestartBudget(3, wrong)


# -- dynamic supervisors that begin with children ------------------------------------------------


class Failing(Actor):
    """Does not start."""

    def init(self) -> None:
        """Fail."""
        raise ValueError("no luck")


class Unwilling(Actor):
    """Does not want to run."""

    def init(self) -> Any:
        """Ignore the start."""
        return IGNORE


async def test_a_dynamic_supervisor_begins_with_its_first_children_and_again_when_it_is_restarted(
    runtime: Runtime,
) -> None:
    first = [ChildSpec("a", Probe, name="a"), ChildSpec("u", Unwilling), ChildSpec("b", Probe, name="b")]
    top = await runtime.spawn(Supervisor, [ChildSpec("d", DynamicSupervisor, (first,), name="d")])
    supervisor = runtime.whereis("d")
    assert supervisor is not None
    assert await count_children(supervisor) == ChildCounts(2, 2, 0, 2)
    await start_child(supervisor, ChildSpec("c", Probe, name="c"))
    supervisor.kill()
    await barrier(top)
    again = runtime.whereis("d")
    assert again is not None
    assert again is not supervisor
    assert [child.id for child in await which_children(again)] == ["b", "a"]
    assert runtime.whereis("c") is None


async def test_a_dynamic_supervisor_whose_first_children_do_not_start_does_not_either(
    runtime: Runtime, events: Recorder
) -> None:
    first = [ChildSpec("a", Probe, name="a"), ChildSpec("f", Failing), ChildSpec("b", Probe)]
    error = await error_of(runtime.spawn(DynamicSupervisor, first))
    assert isinstance(error, StartError)
    assert isinstance(error.reason, Shutdown)
    assert isinstance(error.reason.note, FailedToStartChild)
    assert error.reason.note.id == "f"
    assert list(runtime.actors()) == []
    assert [event.id for event in events.of(ev.ChildStartFailed)] == ["f"]


async def test_the_first_children_must_fit(runtime: Runtime) -> None:
    specs = [ChildSpec(n, Actor) for n in range(3)]
    assert isinstance(await error_of(runtime.spawn(DynamicSupervisor, specs, max_children=2)), BadBudget)
    assert isinstance(await error_of(runtime.spawn(DynamicSupervisor, [specs[0]] * 2)), BadChildSpec)
    given: list[Any] = [-1, 1.5, True, "3"]
    for wrong in given:
        error = await error_of(runtime.spawn(DynamicSupervisor, max_children=wrong))
        assert isinstance(error, BadBudget)
        assert repr(wrong) in str(error)


@pytest.mark.parametrize("orders", ["SR", "SSR", "SRSR", "SSRRSR", "SRSRSR"])
async def test_whoever_is_suspended_and_resumed_again_and_again_while_it_starts_runs_in_the_end(
    runtime: Runtime, orders: str
) -> None:
    class Slow(Actor):
        async def init(self) -> None:
            await advance(1)

    ref = runtime.spawn_nowait(Slow)
    calls = [ref.call(system.Suspend() if order == "S" else system.Resume(), timeout=None) for order in orders]
    await asyncio.gather(*calls)
    assert (await system.get_status(ref)).state == "running"
