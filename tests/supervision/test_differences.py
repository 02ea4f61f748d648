"""What the semantics page says to differ from OTP is so: a test for each row of its table, named after the row."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervision import (
    SHUTDOWN,
    Actor,
    ActorExited,
    BadOption,
    CallCycle,
    CallTimeout,
    ChildNotFound,
    DynamicSupervisor,
    IdleTimeout,
    Request,
    Runtime,
    Supervisor,
    UnhandledMessage,
    handle,
    start_child,
    system,
    terminate_child,
    which_children,
)
from supervision import events as ev
from supervision.errors import BadName
from supervision.supervisors.restarts import RestartBudget
from supervision.testing import Do, DoAndReply, Note, Probe, ProbeLog, barrier, do, error_of, hang, settled
from tests.supervision.probes import Recorder, time_of

PAGE = Path(__file__).parents[2] / "docs" / "semantics.md"


def rows() -> list[str]:
    """Return the first words of each row, as names of tests."""
    table = PAGE.read_text().split("<!-- differences:")[1].split("\n\n")[0]
    titles = re.findall(r"^\| \*\*(.*?)\*\*", table, re.MULTILINE)
    return [re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_") for title in titles]


def test_each_row_of_the_table_has_a_test() -> None:
    tests = [name.removeprefix("test_") for name in globals() if name.startswith("test_")]
    assert len(rows()) > 10
    assert [row for row in rows() if row not in tests] == []


async def test_names(runtime: Runtime) -> None:
    for wrong in (7, ("via", "gproc", 1), "", b"bytes"):
        name: Any = wrong
        assert isinstance(await error_of(runtime.spawn(Probe, name=name)), BadName)
    assert list(runtime.actors()) == []


async def test_a_cast_to_a_free_name(runtime: Runtime) -> None:
    runtime.name("free").cast(Note(1))
    assert runtime.statistics().dead_letters == {"noname": 1}


async def test_hibernate(runtime: Runtime) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(100):
        await runtime.spawn(Probe)
    await settled(runtime)
    assert len(asyncio.all_tasks()) - before <= 1
    assert not hasattr(Actor, "hibernate")


async def test_selective_receive(runtime: Runtime) -> None:
    log = ProbeLog()
    probe = await runtime.spawn(Probe, log)
    probe.cast(Do(lambda me: me.log.append("first, but later") if me.log else me.stash()))
    probe.cast(Note("second"))
    probe.cast(Do(lambda me: me.unstash_all()))
    await barrier(probe)
    assert log == ["second", "first, but later"]


async def test_a_request_that_nobody_handles(runtime: Runtime) -> None:
    ref = await runtime.spawn(Actor)
    assert isinstance(await error_of(ref.call(DoAndReply(None))), UnhandledMessage)
    assert ref.alive


async def test_an_exit_signal(runtime: Runtime) -> None:
    log = ProbeLog()
    probe = await runtime.spawn(Probe, log)

    async def waits(me: Probe) -> None:
        try:
            await hang(me)
        finally:
            me.log.append("finally")

    def does_not(me: Probe) -> None:
        me.ref.exit("now")
        me.log.append("goes on")

    probe.cast(Do(waits))
    await settled(runtime)
    probe.exit("now")
    await probe.join()
    other = await runtime.spawn(Probe, log)
    other.cast(Do(does_not))
    await other.join()
    assert log == ["finally", "goes on"]


async def test_a_cancellation_of_the_actor_s_own(runtime: Runtime, events: Recorder) -> None:
    async def awaits_a_cancelled_task(me: Probe) -> None:
        task = asyncio.ensure_future(hang(me))
        task.cancel()
        await task

    async def cancels_itself(me: Probe) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await hang(me)

    for what in (awaits_a_cancelled_task, cancels_itself, asyncio.CancelledError()):
        probe = await runtime.spawn(Probe)
        assert isinstance(await error_of(do(probe, what)), ActorExited)
        assert "CancelledError" in str(probe.reason)
        assert len(events.of(ev.CrashReport, probe)) == 1


async def test_a_caller_that_gives_up(runtime: Runtime) -> None:
    log = ProbeLog()
    probe = await runtime.spawn(Probe, log)

    async def slow(me: Probe) -> None:
        await me.runtime.sleep(5)
        me.log.append("done all the same")

    caller = asyncio.ensure_future(do(probe, slow))
    await settled(runtime)
    caller.cancel()
    assert await log.next(timeout=9.0) == "done all the same"
    assert caller.cancelled()
    assert probe.alive


async def test_a_timer_that_is_cancelled(runtime: Runtime) -> None:
    log = ProbeLog()
    probe = await runtime.spawn(Probe, log)
    timer = runtime.send_after(10.0, Note(1), probe)
    assert (timer.cancel(), timer.cancel()) == (10.0, None)
    await log.nothing(20.0)
    due = runtime.send_after(0.0, Note(2), probe)
    await log.next(2)
    assert due.cancel() is None


class Sleepy(Actor):
    """Writes down when nothing has come for six seconds."""

    def __init__(self, log: list[float]) -> None:
        self.log = log

    def init(self) -> None:
        self.idle_timeout(6)

    @handle
    def idle(self, message: IdleTimeout) -> None:
        self.log.append(self.runtime.clock.time())

    @handle
    def note(self, message: Note) -> None:
        """Any message."""


async def test_an_idle_time_out_and_system_requests(runtime: Runtime) -> None:
    looked: list[float] = []
    disturbed: list[float] = []
    ref, other = await runtime.spawn(Sleepy, looked), await runtime.spawn(Sleepy, disturbed)
    await runtime.sleep(3)
    await system.get_state(ref)
    other.cast(Note(1))
    await runtime.sleep(100)
    assert (looked, disturbed) == ([9.0], [])


async def test_to_stop_a_child_twice(runtime: Runtime) -> None:
    log = ProbeLog()
    children = [Probe.child(log, "a", stops=2.0), Probe.child(log, "t", restart="temporary")]
    static, dynamic = await runtime.spawn(Supervisor, children), await runtime.spawn(DynamicSupervisor)
    assert await asyncio.gather(terminate_child(static, "a"), terminate_child(static, "a")) == [None, None]
    await terminate_child(static, "a")
    assert log == ["+a", "+t", "-a(shutdown)"]
    await terminate_child(static, "t")
    assert isinstance(await error_of(terminate_child(static, "t")), ChildNotFound)
    child = await start_child(dynamic, Probe.child(log, "x", stops=2.0))
    first = asyncio.ensure_future(terminate_child(dynamic, child))
    await settled(runtime)
    assert isinstance(await error_of(terminate_child(dynamic, child)), ChildNotFound)
    await first


async def test_simple_one_for_one(runtime: Runtime) -> None:
    log = ProbeLog()
    pool = await runtime.spawn(DynamicSupervisor, extra_arguments=(log,))
    for number in (1, 2):
        await start_child(pool, {"id": "same", "start": Probe, "kwargs": {"id": number}})
    assert log == ["+1", "+2"]
    assert [child.id for child in await which_children(pool)] == ["same", "same"]


def test_the_window_of_the_restart_budget() -> None:
    for later, allowed in ((5.0, False), (5.001, True)):
        budget = RestartBudget(1, 5.0)
        assert budget.spend(0.0)
        assert budget.spend(later) is allowed


def _end(error: BaseException) -> tuple[BaseException | None, str]:
    reasons: list[str] = []

    async def main() -> None:
        async with Runtime(watchdog=None, reports=False) as runtime:
            probe = await runtime.spawn(Probe)
            probe.cast(Do(error))
            try:
                await probe.join()
                await settled(runtime)
            finally:
                reasons.append(str(probe.reason))

    try:
        asyncio.run(main())
    except BaseException as raised:
        return raised, reasons[0]
    return None, reasons[0]


def test_ctrl_c_in_a_handler() -> None:
    raised, reason = _end(KeyboardInterrupt())
    assert isinstance(raised, KeyboardInterrupt)
    assert "KeyboardInterrupt" in reason
    raised, reason = _end(SystemExit(3))
    assert raised is None
    assert "SystemExit: 3" in reason


def test_new_code_in_a_running_process() -> None:
    assert not hasattr(Actor, "code_change")
    assert not hasattr(system, "change_code")


async def test_links_monitors_names_of_another_node(runtime: Runtime) -> None:
    async with Runtime(watchdog=None, reports=False, node="other") as other:
        there = await other.spawn(Probe)
        probe = await runtime.spawn(Probe)

        def tries(me: Probe) -> list[str]:
            uses: list[Callable[[Any], Any]] = [me.link, me.monitor, lambda ref: runtime.register("name", ref)]
            return [_refused(use, there) for use in uses]

        assert await do(probe, tries) == ["BadOption"] * 3
        assert isinstance(await error_of(runtime.shut_down(there, 1.0)), BadOption)
        assert there.alive


def _refused(use: Callable[[Any], Any], ref: Any) -> str:
    try:
        use(ref)
    except BadOption as error:
        return type(error).__name__
    return "nothing"


# -- rings of calls ----------------------------------------------------------------------------------------------------


class Ring(Request[int]):
    """Asks the actor that is asked."""

    how: str


class Asks(Actor):
    """Calls itself, in one of several ways."""

    @handle
    async def ring(self, request: Ring) -> int:
        call = self.ref.call(request)
        match request.how:
            case "plain":
                return await call
            case "timeout":
                async with asyncio.timeout(60):
                    return await call
            case "wait_for":
                return await asyncio.wait_for(call, 60)
            case "gather":
                return (await asyncio.gather(call))[0]
            case "shield":
                return await asyncio.shield(call)
            case _:
                return await asyncio.ensure_future(call)


SEEN = {"plain", "timeout", "task of the call itself"} | ({"wait_for"} if sys.version_info >= (3, 12) else set())


@pytest.mark.parametrize("how", ["plain", "timeout", "wait_for", "gather", "shield", "task of the call itself"])
async def test_cycles_of_calls_are_noticed_where_the_page_says_and_end_by_time_outs_elsewhere(
    runtime: Runtime, how: str
) -> None:
    ref = await runtime.spawn(Asks)
    error: list[BaseException] = []

    async def ask() -> None:
        error.append(await error_of(ref.call(Ring(how), timeout=50)))

    took = await time_of(ask())
    assert isinstance(error[0], ActorExited)
    expected = CallCycle if how in SEEN else CallTimeout
    assert expected.__name__ in str(error[0].reason)
    assert took == (0.0 if how in SEEN else 5.0)
    assert ref.reason != SHUTDOWN
