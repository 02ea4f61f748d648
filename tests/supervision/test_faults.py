"""Each fault alone: what it does, for how long, and that healing ends it."""

from __future__ import annotations

import asyncio
import threading
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
    Mailbox,
    Message,
    NoProcess,
    Ref,
    Request,
    Runtime,
    StartError,
    StartIgnored,
    Supervisor,
    handle,
    start_child,
    system,
    terminate_child,
    trace_point,
)
from supervision._core.cell import Cell
from supervision.events import ChildShutdownFailed, Exited, FencedOff, MessageDropped, StartFailed, TracePoint
from supervision.testing import (
    BlockLoop,
    Chaos,
    ChaosPlan,
    ChaosStep,
    Crash,
    Delay,
    Drop,
    Duplicate,
    Exhaust,
    ExitFault,
    FailStart,
    Fault,
    Hang,
    Injector,
    Kill,
    KillDuring,
    LateReply,
    RefuseStop,
    ResourceCounts,
    Sigkill,
    SlowStop,
    Suspend,
    SwallowCancel,
    advance,
    barrier,
    settled,
)
from supervision.testing.fault_injection.handler_faults import arm_fault
from tests.supervision.probes import Do, DoAndReply, Note, Probe, Recorder, time_of


class Narrow(Probe):
    """A puppet with room for two messages."""

    mailbox = Mailbox(capacity=2, overflow="refuse")


class Echo(Request[int], frozen=True):
    """A number to be sent back."""

    n: int


class Server(Actor):
    """Answers, and writes down what it was asked."""

    def __init__(self, log: list[int]) -> None:
        self.log = log

    @handle
    def echo(self, request: Echo) -> int:
        """Send it back."""
        self.log.append(request.n)
        return request.n


@pytest.fixture
def injector(runtime: Runtime) -> Any:
    """An injector that is closed in the end."""
    made = Injector(runtime, 1)
    yield made
    made.close()


def inflict(injector: Injector, ref: Ref | None, fault: Fault) -> Any:
    """Inflict a fault on an actor."""
    assert isinstance(ref, Cell)
    return injector.inject(ref, fault)


# -- ends --------------------------------------------------------------------------------------------------------------


async def test_kill(runtime: Runtime, injector: Injector) -> None:
    log: list[Any] = []
    puppet = await runtime.spawn(Probe, log, True)
    inflict(injector, puppet, Kill())
    assert puppet.reason == KILLED
    assert log == []


@pytest.mark.parametrize(
    ("reason", "end"),
    [("normal", None), ("shutdown", SHUTDOWN), ("kill", KILLED), ("flood", Abnormal("flood"))],
)
async def test_exit(runtime: Runtime, injector: Injector, reason: str, end: Any) -> None:
    puppet = await runtime.spawn(Probe)
    inflict(injector, puppet, ExitFault(reason))
    assert puppet.reason == end


async def test_exit_is_a_message_to_one_that_traps(runtime: Runtime, injector: Injector) -> None:
    log: list[Any] = []
    puppet = await runtime.spawn(Probe, log, True)
    inflict(injector, puppet, ExitFault("flood"))
    await barrier(puppet)
    assert log == [("exit", None, Abnormal("flood"))]


async def test_crash_at_the_next_message_or_a_later_one_or_one_of_a_class(runtime: Runtime, injector: Injector) -> None:
    for fault, survives in ((Crash("now"), 0), (Crash(skip=2), 2), (Crash(only="Do", skip=1), 3)):
        log: list[Any] = []
        puppet = await runtime.spawn(Probe, log)
        inflict(injector, puppet, fault)
        puppet.cast(Do(lambda actor: None))
        for n in range(3):
            puppet.cast(Note(n))
        puppet.cast(Do(lambda actor: None))
        await settled(runtime)
        assert isinstance(puppet.reason, Crashed)
        assert puppet.reason.kind.endswith("ChaosCrash")
        assert len(log) == max(0, survives - 1) if fault.only is None else survives


async def test_a_crash_that_is_healed_before_does_not_happen(runtime: Runtime, injector: Injector) -> None:
    puppet = await runtime.spawn(Probe)
    heal = inflict(injector, puppet, Crash())
    heal()
    heal()
    assert await puppet.call(DoAndReply(lambda actor: 1)) == 1
    inflict(injector, puppet, Crash())
    puppet.kill()
    injector.heal()


async def test_two_crashes_need_two_messages(runtime: Runtime, injector: Injector) -> None:
    puppet = await runtime.spawn(Probe)
    await system.log(puppet, 10)
    first = inflict(injector, puppet, Crash(only="Echo"))
    inflict(injector, puppet, Crash("second", skip=1))
    assert await puppet.call(DoAndReply(lambda actor: 1)) == 1
    first()
    with pytest.raises(ActorExited, match="second"):
        await puppet.call(DoAndReply(lambda actor: 1))


@pytest.mark.parametrize("phase", ["handler", "terminate", "init", "restart"])
async def test_kill_during(runtime: Runtime, injector: Injector, events: Recorder, phase: Any) -> None:
    class Slow(Probe):
        async def init(self) -> None:
            await self.runtime.sleep(0.1)

    log: list[Any] = []
    top = await runtime.spawn(Supervisor, [ChildSpec("slow", Slow, (log, True))], name="top")
    ref = next(ref for ref in runtime.actors() if ref.path == "/top/slow")
    inflict(injector, ref, KillDuring(phase))
    if phase == "handler":
        ref.cast(Do(lambda actor: log.append("done")))
        ref.cast(Note("not this"))
    elif phase == "terminate":
        await terminate_child(top, "slow")
    else:
        ref.kill()
    await advance(1)
    assert ref.reason == KILLED
    if phase == "handler":
        assert log == ["done"]  # its code ran on, behind the fence
        assert len(events.of(FencedOff)) == 1
    elif phase == "terminate":
        assert log == []
    else:
        assert [event.reason for event in events.of(StartFailed)] == [KILLED]
        assert len(events.of(Exited)) == 1


async def test_kill_during_a_start_that_is_healed_before_does_not_happen(runtime: Runtime, injector: Injector) -> None:
    await runtime.spawn(Supervisor, [ChildSpec("p", Probe, name="p")], name="top")
    inflict(injector, runtime.whereis("p"), KillDuring("init"))()
    runtime.name("p").resolve().kill()  # type: ignore[union-attr]
    await settled(runtime)
    assert runtime.whereis("p") is not None


# -- starts and stops --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "error"), [("raise", StartError), ("refuse", StartError), ("ignore", StartIgnored)])
async def test_starts_that_fail(runtime: Runtime, injector: Injector, how: Any, error: Any) -> None:
    first = await runtime.spawn(Probe, name="p")
    inflict(injector, first, FailStart(2, how))
    assert runtime.scheduler.init_hook is not None
    other = await runtime.spawn(Probe, name="q")
    await first.stop()
    for _ in range(2):
        with pytest.raises(error):
            await runtime.spawn(Probe, name="p")
    await (await runtime.spawn(Probe, name="p")).stop()
    assert runtime.scheduler.init_hook is None
    injector.heal()
    assert other.alive


async def test_starts_fail_by_a_pattern(runtime: Runtime, injector: Injector) -> None:
    first = await runtime.spawn(Probe, name="p")
    inflict(injector, first, FailStart(pattern="x.x"))
    await first.stop()
    results = []
    for _ in range(5):
        try:
            await (await runtime.spawn(Probe, name="p")).stop()
            results.append("ok")
        except StartError:
            results.append("x")
    assert results == ["x", "ok", "x", "ok", "ok"]


async def test_a_start_can_hang_or_be_slow(runtime: Runtime, injector: Injector) -> None:
    class Late(Probe):
        async def init(self) -> None:
            self.log.append("init")

    log: list[Any] = []
    for kind in (Probe, Late):
        first = await runtime.spawn(kind, log, name="p")
        inflict(injector, first, FailStart(how="slow", seconds=3))
        await first.stop()
        assert await time_of(runtime.spawn(kind, log, name="p")) == pytest.approx(3)
        second = runtime.whereis("p")
        inflict(injector, second, FailStart(how="hang"))
        await second.stop()  # type: ignore[union-attr]
        with pytest.raises(StartError, match="longer than 2 s"):
            await runtime.spawn(kind, log, name="p", timeout=2)
        await (await runtime.spawn(kind, log, name="p")).stop()
    assert log.count("init") == 3


async def test_one_can_be_slow_to_stop(runtime: Runtime, injector: Injector) -> None:
    for kind in (Probe, Narrow):
        top = await runtime.spawn(Supervisor, [ChildSpec("p", kind, name="p")])
        ref = runtime.whereis("p")
        assert ref is not None
        inflict(injector, ref, SlowStop(2))
        assert await time_of(terminate_child(top, "p")) == pytest.approx(2)
        assert ref.reason == SHUTDOWN
        await top.stop()


async def test_one_can_refuse_to_stop_and_is_killed(runtime: Runtime, injector: Injector, events: Recorder) -> None:
    top = await runtime.spawn(Supervisor, [ChildSpec("p", Probe, name="p", shutdown=2.0)])
    ref = runtime.whereis("p")
    assert ref is not None
    inflict(injector, ref, RefuseStop())
    assert await time_of(terminate_child(top, "p")) == pytest.approx(2)
    assert ref.reason == KILLED
    assert len(events.of(ChildShutdownFailed)) == 1
    assert runtime.zombies() == []


async def test_one_can_refuse_to_stop_and_live_on_as_a_zombie_until_it_is_healed(
    runtime: Runtime, injector: Injector
) -> None:
    top = await runtime.spawn(Supervisor, [ChildSpec("p", Probe, name="p", shutdown=2.0)])
    ref = runtime.whereis("p")
    assert ref is not None
    inflict(injector, ref, RefuseStop(swallow=True))
    await terminate_child(top, "p")
    assert ref.reason == KILLED
    assert [zombie.ref for zombie in runtime.zombies()] == [ref]
    injector.heal()
    await settled(runtime)
    assert runtime.zombies() == []


async def test_what_is_to_be_slow_to_stop_and_is_healed_stops_at_once(runtime: Runtime, injector: Injector) -> None:
    for fault in (SlowStop(50), RefuseStop()):
        puppet = await runtime.spawn(Probe)
        inflict(injector, puppet, fault)()
        assert await time_of(puppet.stop()) == 0
        assert puppet.reason == NORMAL


# -- handlers ----------------------------------------------------------------------------------------------------------


async def test_one_can_hang_before_a_message(runtime: Runtime, injector: Injector) -> None:
    puppet = await runtime.spawn(Probe)
    inflict(injector, puppet, Hang(3))
    assert await time_of(puppet.call(DoAndReply(lambda actor: 1))) == pytest.approx(3)
    assert await time_of(puppet.call(DoAndReply(lambda actor: 1))) == 0
    heal = inflict(injector, puppet, Hang(300))
    call = puppet.call(DoAndReply(later), timeout=None)
    await advance(1)
    heal()
    assert await time_of(call) == pytest.approx(0.5)


async def later(actor: Probe) -> int:
    """Answer in half a second."""
    await actor.runtime.sleep(0.5)
    return 1


async def test_an_answer_can_come_too_late(runtime: Runtime, injector: Injector, events: Recorder) -> None:
    puppet = await runtime.spawn(Probe)
    inflict(injector, puppet, LateReply(10))
    puppet.cast(Note("no request"))
    with pytest.raises(CallTimeout):
        await puppet.call(DoAndReply(lambda actor: "late"), timeout=1)
    assert await puppet.call(DoAndReply(lambda actor: "own"), timeout=None) == "own"
    assert [event.why for event in events.of(MessageDropped)] == ["late_reply"]


async def test_the_whole_loop_can_be_blocked(runtime: Runtime, injector: Injector, monkeypatch: Any) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    puppet = await runtime.spawn(Probe)
    inflict(injector, puppet, BlockLoop(2))
    assert await puppet.call(DoAndReply(lambda actor: 1)) == 1
    assert slept == [2]


@pytest.mark.parametrize("times", [1, 50])
async def test_cancellation_can_be_swallowed(runtime: Runtime, injector: Injector, times: int) -> None:
    puppet = await runtime.spawn(Probe)
    inflict(injector, puppet, SwallowCancel(times))
    call = puppet.call(DoAndReply(lambda actor: 1))
    await advance(0)
    puppet.kill()
    with pytest.raises(ActorExited):
        await call
    await advance(5)
    assert runtime.zombies() == []


async def test_one_that_would_swallow_its_cancellation_goes_on_when_it_is_healed(
    runtime: Runtime, injector: Injector
) -> None:
    puppet = await runtime.spawn(Probe)
    heal = inflict(injector, puppet, SwallowCancel())
    call = puppet.call(DoAndReply(lambda actor: 1))
    await advance(1)
    heal()
    assert await call == 1


async def test_one_can_be_suspended_for_a_while(runtime: Runtime, injector: Injector) -> None:
    puppet = await runtime.spawn(Probe)
    inflict(injector, puppet, Suspend(3))
    assert await time_of(puppet.call(DoAndReply(lambda actor: 1))) == pytest.approx(3)
    heal = inflict(injector, puppet, Suspend(30))
    call = puppet.call(DoAndReply(lambda actor: 1), timeout=None)
    await advance(1)
    heal()
    assert await time_of(call) == 0
    inflict(injector, puppet, Suspend(3))
    puppet.kill()
    await advance(5)


def test_a_fault_that_does_not_concern_messages_does_not_strike_there() -> None:
    with pytest.raises(TypeError, match="no fault in the handling"):
        arm_fault(Kill(), None)  # type: ignore[arg-type]


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Probe, Narrow])
async def test_messages_can_get_lost(runtime: Runtime, injector: Injector, events: Recorder, kind: type[Probe]) -> None:
    log: list[Any] = []
    puppet = await runtime.spawn(kind, log)
    place = type(puppet)
    heal = inflict(injector, puppet, Drop())
    puppet.cast(Note(1))
    await puppet.send(Note(2))
    with pytest.raises(CallTimeout):
        await puppet.call(DoAndReply(lambda actor: 1), timeout=1)
    assert (await system.get_status(puppet)).state == "running"
    heal()
    puppet.cast(Note(3))
    await barrier(puppet)
    assert log == [3]
    assert {event.why for event in events.of(MessageDropped)} == {"chaos"}
    assert type(puppet) is place


async def test_some_messages_can_get_lost(runtime: Runtime, injector: Injector) -> None:
    log: list[Any] = []
    puppet = await runtime.spawn(Probe, log)
    inflict(injector, puppet, Drop(share=0.5))
    inflict(injector, puppet, Drop(only="Do"))
    for n in range(100):
        puppet.cast(Note(n))
        puppet.cast(Do(lambda actor: actor.log.append("never")))
    await barrier(puppet)
    assert 30 < len(log) < 70
    assert log == sorted(log)


@pytest.mark.parametrize("kind", [Probe, Narrow])
async def test_messages_can_be_late_in_their_order(runtime: Runtime, injector: Injector, kind: type[Probe]) -> None:
    log: list[Any] = []
    puppet = await runtime.spawn(kind, log)
    inflict(injector, puppet, Delay(2, only="Note"))
    puppet.cast(Note(1))
    call = puppet.call(DoAndReply(lambda actor: actor.log.append("asked")))
    await advance(1)
    assert log == []
    assert await time_of(call) == pytest.approx(1)
    assert log == [1, "asked"]
    injector.heal()
    puppet.cast(Note(2))
    await barrier(puppet)
    assert log == [1, "asked", 2]


async def test_a_late_message_to_one_that_has_died_is_a_dead_letter(runtime: Runtime, injector: Injector) -> None:
    puppet = await runtime.spawn(Probe)
    inflict(injector, puppet, Delay(2))
    puppet.cast(Note(1))
    call = puppet.call(DoAndReply(lambda actor: 1))
    puppet.kill()
    with pytest.raises(NoProcess):
        await call
    assert runtime.statistics().dead_letters["noproc"] >= 1


async def test_messages_can_arrive_twice(runtime: Runtime, injector: Injector) -> None:
    log: list[int] = []
    server = await runtime.spawn(Server, log)
    inflict(injector, server, Duplicate())
    assert await server.call(Echo(1)) == 1
    await barrier(server)
    assert log == [1]  # the second is not handled, as nobody waits for its answer
    puppet = await runtime.spawn(Probe, log)
    inflict(injector, puppet, Duplicate())
    puppet.cast(Note(2))
    await barrier(puppet)
    assert log == [1, 2, 2]


async def test_a_dead_actor_sends_nothing_over_a_spoilt_wire(runtime: Runtime, injector: Injector) -> None:
    log: list[Any] = []
    puppet = await runtime.spawn(Probe, log)
    sender = await runtime.spawn(Probe)
    inflict(injector, puppet, Duplicate())

    def send(actor: Probe) -> None:
        actor.ref.kill()
        puppet.cast(Note("from the dead"))
        puppet.call(Echo(1)).exception()

    sender.cast(Do(send))
    await settled(runtime)
    assert log == []


# -- resources ---------------------------------------------------------------------------------------------------------


async def test_a_mailbox_can_be_filled(runtime: Runtime, injector: Injector, events: Recorder) -> None:
    puppet = await runtime.spawn(Narrow)
    await system.suspend(puppet)
    inflict(injector, puppet, Exhaust("mailbox", 5))
    assert puppet.mailbox_statistics().length == 2
    assert [event.why for event in events.of(MessageDropped)] == ["mailbox_full"] * 3


@pytest.mark.parametrize("what", ["files", "threads", "tasks"])
async def test_resources_can_be_used_up_for_a_while(runtime: Runtime, injector: Injector, what: Any) -> None:
    threads = threading.active_count()
    puppet = await runtime.spawn(Probe)
    before = ResourceCounts.of(runtime)
    inflict(injector, puppet, Exhaust(what, 10, seconds=3))
    during = before.leaks(ResourceCounts.of(runtime))
    assert during[what] == 10
    await advance(3)
    await settled(runtime)
    assert before.leaks(ResourceCounts.of(runtime)) == {}
    heal = inflict(injector, puppet, Exhaust(what, 10, seconds=3))
    heal()
    heal()
    await settled(runtime)
    assert before.leaks(ResourceCounts.of(runtime)) == {}
    assert threading.active_count() <= threads


# -- trace points ------------------------------------------------------------------------------------------------------


class Pay(Message, frozen=True):
    """An order to pay."""


class Till(Actor):
    """Pays in two steps."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    @handle
    async def pay(self, message: Pay) -> None:
        """Pay."""
        self.log.append("charged")
        trace_point("till:charged", amount=5)
        await self.runtime.sleep(0.1)
        self.log.append("delivered")


async def test_a_fault_strikes_at_a_point_that_the_code_names(runtime: Runtime, events: Recorder) -> None:
    trace_point("nowhere")
    log: list[str] = []
    top = await runtime.spawn(Supervisor, [], name="top")
    await start_child(top, ChildSpec("till", Till, (log,), name="till"))
    async with Chaos(runtime) as chaos:
        running = asyncio.ensure_future(
            chaos.run(ChaosPlan((ChaosStep(0, Kill(), "/top/till", on="till:charged", until=2),)))
        )
        await advance(1)
        runtime.name("till").cast(Pay())
        report = await running
    assert log == ["charged"]
    assert report.kills == 1
    assert [(event.name, event.fields) for event in events.of(TracePoint)] == [("till:charged", {"amount": 5})]


async def test_starts_of_two_can_fail_and_one_be_healed(runtime: Runtime, injector: Injector) -> None:
    refs = [await runtime.spawn(Probe, name=name) for name in "pq"]
    heals = [inflict(injector, ref, FailStart()) for ref in refs]
    for ref in refs:
        await ref.stop()
    heals[0]()
    await (await runtime.spawn(Probe, name="p")).stop()
    with pytest.raises(StartError):
        await runtime.spawn(Probe, name="q")


async def test_an_answer_that_was_put_off_gets_through_a_fault(runtime: Runtime, injector: Injector) -> None:
    puppet = await runtime.spawn(Probe)
    inflict(injector, puppet, Crash(only="Echo"))
    call = puppet.call(DoAndReply(lambda actor: setattr(actor, "state", actor.defer_reply())))
    puppet.cast(Do(lambda actor: actor.state.reply("by and by")))
    assert await call == "by and by"


async def test_sigkill_does_nothing_to_an_actor_that_has_no_process_of_its_own(
    runtime: Runtime, injector: Injector
) -> None:
    puppet = await runtime.spawn(Probe)
    inflict(injector, puppet, Sigkill())
    assert await puppet.call(DoAndReply(lambda actor: 1)) == 1
