"""Actors in processes of their own: the same contract, and no crash that reaches further."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from supervision import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Abnormal,
    Actor,
    ActorExited,
    CallTimeout,
    ChildSpec,
    Crashed,
    Request,
    Runtime,
    StartError,
    StartIgnored,
    Supervisor,
    UnhandledMessage,
    count_children,
    handle,
    system,
    terminate_child,
)
from supervision.events import CrashReport, Restarted
from supervision.isolation import NotTransferable, RemoteError, pid_of
from supervision.reasons import ProcessExited
from supervision.testing import Chaos, ChaosPlan, ChaosStep, Client, Sigkill
from tests.supervision.isolated import Cast, Do, Echo, Isolated, Pid, Point, Points, Slowly, Strange, Trapping

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])
real = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


@pytest.fixture
async def world() -> AsyncIterator[Runtime]:
    """A runtime that leaves no process behind."""
    async with Runtime(watchdog=None, reports=False) as made:
        yield made
        for ref in list(made.processes):
            if ref.parent is None:
                await ref.stop()
    assert children() == []
    assert made.processes == {}


def children() -> list[int]:
    """Return the child processes of this one that have not been reaped."""
    listing = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text(encoding="ascii")
    return [int(pid) for pid in listing.split()]


@real
async def test_it_lives_in_another_process_behind_the_same_address(world: Runtime) -> None:
    ref = await world.spawn(Isolated, name="far")
    pid = await world.name("far").call(Pid())
    assert pid != os.getpid()
    assert pid_of(ref) == pid
    assert world.statistics().processes == 1
    assert str(ref) == "<Isolated /far#1>"
    assert (await system.get_status(ref)).status == {"process": pid, "kind": "Isolated"}
    await ref.stop()
    assert (ref.reason, pid_of(ref)) == (NORMAL, None)


async def test_messages_and_answers_travel_with_their_types(world: Runtime) -> None:
    ref = await world.spawn(Isolated, point=Point(7))
    assert await ref.call(Echo({"a": [1, 2.5, None, "x"]})) == {"a": [1, 2.5, None, "x"]}
    assert await ref.call(Points(2)) == [Point(0), Point(1)]
    ref.cast(Point(1))
    assert await ref.call(Do("seen")) == ["Point", 7]
    assert await ref.call(Do("path")) == sys.path


async def test_handlers_see_messages_in_order_also_when_many_wait(world: Runtime) -> None:
    ref = await world.spawn(Isolated)
    for _ in range(20):
        ref.cast(Point(1))
    assert await ref.call(Do("seen")) == ["Point"] * 20 + [None]


async def test_an_answer_of_another_type_than_promised_is_an_error_of_the_caller(world: Runtime) -> None:
    ref = await world.spawn(Isolated)
    with pytest.raises(NotTransferable, match="Expected `array`"):
        await ref.call(Points(-1))
    assert await ref.call(Echo(1)) == 1


async def test_what_waits_when_the_process_has_ended_is_not_handled(world: Runtime) -> None:
    ref = await world.spawn(Isolated)
    pid = pid_of(ref)
    assert pid is not None
    await system.suspend(ref)
    ref.cast(Point(1))
    os.kill(pid, signal.SIGTERM)
    await next(iter(world.processes.values())).exited
    await system.resume(ref)
    assert await ref.join() == ProcessExited(-signal.SIGTERM, "SIGTERM")


async def test_what_cannot_travel_is_refused_and_harms_nobody(world: Runtime) -> None:
    class Local(Request[int], frozen=True):
        pass

    ref = await world.spawn(Isolated)
    with pytest.raises(NotTransferable, match="made in a function"):
        await ref.call(Local())
    with pytest.raises(NotTransferable, match="send frozen structs of plain values"):
        await ref.call(Echo(ref))
    assert await ref.call(Echo(1)) == 1
    with pytest.raises(NotTransferable):
        await ref.call(Do("unsendable"))
    assert await ref.call(Echo(1)) == 1
    with pytest.raises(StartError) as caught:
        await world.spawn(Isolated, ref)  # type: ignore[call-overload]
    assert isinstance(caught.value.__cause__, NotTransferable)


async def test_a_message_that_cannot_travel_and_wants_no_answer_is_a_crash_that_says_so(world: Runtime) -> None:
    ref = await world.spawn(Isolated)
    ref.cast(ref)
    reason = await ref.join()
    assert "cannot be sent to another process" in str(reason)


async def test_a_local_class_cannot_be_isolated(world: Runtime) -> None:
    class Local(Actor):
        isolation = "process"

    with pytest.raises(StartError, match="top level of a module"):
        await world.spawn(Local)


async def test_a_message_of_a_class_that_the_child_cannot_import_is_an_error_of_the_caller(world: Runtime) -> None:
    ref = await world.spawn(Isolated)
    sys.modules["only_here"] = sys.modules[__name__]
    OnlyHere.__module__ = "only_here"
    try:
        with pytest.raises(NotTransferable, match="No module named 'only_here'"):
            await ref.call(OnlyHere())
        assert await ref.call(Echo(1)) == 1
        with pytest.raises(StartError, match="No module named 'only_here'"):
            await world.spawn(Isolated, point=OnlyHere())  # type: ignore[call-overload]
        ref.cast(OnlyHere())
        assert "No module named 'only_here'" in str(await ref.join())
    finally:
        del sys.modules["only_here"]


class OnlyHere(Request[int], frozen=True):
    """A request of a module that is not there elsewhere."""


async def test_errors_that_are_answers_come_back_as_they_were_if_they_can_be_rebuilt(world: Runtime) -> None:
    ref = await world.spawn(Isolated)
    with pytest.raises(KeyError, match="nothing there"):
        await ref.call(Do("refuse"))
    with pytest.raises(RemoteError, match=r"tests\.supervision\.isolated\.Odd: 1 and 2"):
        await ref.call(Do("odd"))
    with pytest.raises(RemoteError, match="LookupError: <unlocked"):
        await ref.call(Do("closed"))
    with pytest.raises((UnhandledMessage, RemoteError), match="no handler for Strange"):
        await ref.call(Strange())
    assert await ref.call(Echo(1)) == 1


async def test_what_an_async_handler_refuses_or_stops_is_the_same(world: Runtime) -> None:
    ref = await world.spawn(Isolated)
    with pytest.raises(KeyError, match="later"):
        await ref.call(Slowly("refuse"))
    assert await ref.call(Slowly("stop")) == "stopped"
    assert await ref.join() == NORMAL


async def test_an_answer_can_come_later(world: Runtime) -> None:
    ref = await world.spawn(Isolated)
    later = ref.call(Do("defer"))
    assert await ref.call(Echo(1)) == 1
    ref.cast(Cast("answer"))
    assert await later == "by and by"


async def test_a_time_out_is_the_callers_affair(world: Runtime) -> None:
    ref = await world.spawn(Isolated)
    with pytest.raises(CallTimeout):
        await ref.call(Do("defer"), timeout=0.05)
    assert await ref.call(Echo(1), timeout=None) == 1


# -- ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("segfault", ProcessExited(-signal.SIGSEGV, "SIGSEGV")),
        ("exit", ProcessExited(0)),
        ("exit5", ProcessExited(5)),
    ],
)
async def test_the_way_the_process_ends_is_the_reason(world: Runtime, what: str, reason: Any) -> None:
    ref = await world.spawn(Isolated)
    with pytest.raises(ActorExited) as caught:
        await ref.call(Do(what))
    assert caught.value.reason == reason == await ref.join()
    assert not reason.clean
    assert str(reason).startswith("its process ")


async def test_a_crash_is_reported_with_the_message_in_hand_and_where_it_was(world: Runtime) -> None:
    reports: list[CrashReport] = []
    world.subscribe(reports.append, CrashReport)
    ref = await world.spawn(Isolated)
    ref.cast(Cast("raise"))
    ref.cast(Point(1))
    reason = await ref.join()
    assert isinstance(reason, Crashed)
    assert (reason.kind, reason.message) == ("LookupError", "no such thing")
    assert reason.frames[-1].function == "Isolated.do_raise"
    (report,) = reports
    assert (report.message, report.waiting) == ("Cast(what='raise')", ("Point(x=1)",))


async def test_it_can_end_by_itself_with_an_answer_or_when_nobody_asks(world: Runtime, tmp_path: Path) -> None:
    ref = await world.spawn(Isolated)
    assert await ref.call(Do("stop")) == "stopped"
    assert await ref.join() == NORMAL
    idle = await world.spawn(Isolated, str(tmp_path / "log"))
    idle.cast(Cast("idle"))
    assert await idle.join() == Abnormal("idle")
    assert (tmp_path / "log").read_text() == "idle\nterminate 'idle'\n"
    odd = await world.spawn(Isolated)
    odd.cast(Cast("stop_oddly"))
    assert "lock" in str(await odd.join())


@pytest.mark.parametrize(
    ("kind", "end", "written"),
    [
        (Trapping, "stop", "terminate normal\n"),
        (Trapping, "shutdown", "terminate shutdown\n"),
        (Isolated, "stop", "terminate normal\n"),
        (Isolated, "shutdown", ""),
        (Trapping, "kill", ""),
        (Isolated, "kill", ""),
    ],
)
async def test_terminate_runs_there_by_the_same_rules(
    world: Runtime, tmp_path: Path, kind: type[Actor], end: str, written: str
) -> None:
    log = tmp_path / "log"
    log.touch()
    top = await world.spawn(Supervisor, [ChildSpec("far", kind, (str(log),), name="far")])
    ref = world.whereis("far")
    assert ref is not None
    if end == "kill":
        ref.kill()
        assert await ref.join() == KILLED
    elif end == "stop":
        await ref.stop()
    else:
        await terminate_child(top, "far")
        assert ref.reason == SHUTDOWN
    assert log.read_text() == written


async def test_a_stop_with_a_reason_that_cannot_travel_is_a_stop_all_the_same(world: Runtime) -> None:
    ref = await world.spawn(Trapping)
    with contextlib.suppress(ActorExited):
        await ref.stop(object())
    assert "object" in str(ref.reason)


async def test_one_that_hangs_is_killed_when_its_time_is_over(world: Runtime, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    spec = ChildSpec("far", Trapping, (str(tmp_path / "log"),), name="far", shutdown=0.1)
    top = await world.spawn(Supervisor, [spec])
    ref = world.whereis("far")
    assert ref is not None
    reading = asyncio.get_running_loop().run_in_executor(None, (tmp_path / "log").read_text)
    ref.cast(Cast("hang"))
    assert await reading == "hangs\n"
    await terminate_child(top, "far")
    assert ref.reason == KILLED


async def test_the_end_of_a_linked_actor_is_an_exit_signal_there_too(world: Runtime) -> None:
    for kind, end in ((Isolated, Abnormal("gone")), (Trapping, None)):
        friend, far = await world.spawn(Friend), await world.spawn(kind)
        await friend.call(Befriend(far))
        friend.exit("gone")
        if end is None:
            assert await far.call(Do("seen")) == ["Exit", None]
            await far.stop()
        else:
            assert await far.join() == end


class Befriend(Request[None], frozen=True):
    """An actor to be linked to."""

    ref: Any


class Friend(Actor):
    """Links itself to others."""

    @handle
    def befriend(self, request: Befriend) -> None:
        """Link."""
        self.link(request.ref)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("half_a_frame", "killed"),
        ("nonsense", "no frame"),
        ("too_long", "a frame of 4294967295 bytes"),
        ("wrong", "an unexpected Started"),
    ],
)
async def test_what_is_no_frame_ends_the_actor_and_half_of_one_is_discarded(
    world: Runtime, what: str, reason: str
) -> None:
    ref = await world.spawn(Isolated)
    ref.cast(Cast(what))
    assert reason in str(await ref.join())


# -- starts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "error", "text"),
    [
        ("ignore", StartIgnored, "did not start"),
        ("raise", StartError, "LookupError: no start"),
        ("refuse", StartError, "does not want to"),
        ("die", StartError, "its process ended with status 7"),
    ],
)
async def test_a_start_that_fails_there_fails_here(world: Runtime, how: str, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        await world.spawn(Isolated, init=how)
    assert await (await world.spawn(Isolated, init="slow")).call(Echo(1)) == 1


async def test_a_start_with_wrong_arguments_or_one_that_takes_too_long_fails(world: Runtime) -> None:
    with pytest.raises(StartError, match="unexpected keyword argument"):
        await world.spawn(Isolated, nonsense=1)  # type: ignore[call-overload]
    with pytest.raises(StartError, match=r"longer than 0\.5 s"):
        await world.spawn(Isolated, init="hang", timeout=0.5)


async def test_a_process_that_cannot_be_made_is_a_failed_start(world: Runtime, monkeypatch: Any) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(StartError, match="FileNotFoundError"):
        await world.spawn(Isolated)


async def test_a_specification_can_isolate_an_ordinary_class_and_the_other_way_round(world: Runtime) -> None:
    far = ChildSpec("far", Plain, name="far", isolation="process")
    near = ChildSpec("near", Isolated, name="near", isolation="none")
    await world.spawn(Supervisor, [far, near])
    assert await world.name("far").call(Pid()) != os.getpid()
    assert await world.name("near").call(Pid()) == os.getpid()


class Plain(Actor):
    """An ordinary actor."""

    @handle
    def pid(self, request: Pid) -> int:
        """Say it."""
        return os.getpid()


# -- supervised --------------------------------------------------------------------------------------------------------


async def test_S339_a_process_that_is_killed_in_the_middle_of_a_frame_costs_one_restart(world: Runtime) -> None:
    restarts: list[Restarted] = []
    world.subscribe(restarts.append, Restarted)
    await world.spawn(Supervisor, [ChildSpec("far", Isolated, name="far")], max_restarts=2)
    with pytest.raises(ActorExited) as caught:
        await world.name("far").call(Do("half_a_frame"))
    assert caught.value.reason == KILLED
    assert await Client(world).call(world.name("far"), Echo(1)) == 1
    assert len(restarts) == 1
    with pytest.raises(ActorExited) as caught:
        await world.name("far").call(Do("exit"))
    assert not caught.value.reason.clean
    assert await Client(world).call(world.name("far"), Echo(1)) == 1
    assert len(children()) == 1


async def test_the_process_of_a_victim_can_be_killed_by_chaos(world: Runtime) -> None:
    await world.spawn(Supervisor, [ChildSpec("far", Isolated, name="far")], name="top")
    async with Chaos(world) as chaos:
        report = await chaos.run(ChaosPlan((ChaosStep(0, Sigkill(), "/top/far"),)))
        assert await chaos.client().call(world.name("far"), Echo(1)) == 1
        report = chaos.report()
    assert (report.kills, report.replacements, report.violations) == (1, 1, ())


async def test_a_crash_in_c_code_costs_one_restart_and_nothing_else(world: Runtime) -> None:
    specs = [ChildSpec("far", Isolated, name="far"), ChildSpec("near", Plain, name="near")]
    top = await world.spawn(Supervisor, specs)
    before = world.whereis("near")
    world.name("far").cast(Cast("segfault"))
    assert await Client(world).call(world.name("far"), Echo(1)) == 1
    assert world.whereis("near") is before
    assert (await count_children(top)).active == 2
