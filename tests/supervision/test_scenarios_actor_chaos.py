"""Scenarios of the reference, section 4.20, as far as they concern one actor and its supervisor."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from unittest import mock

import pytest

from supervision import (
    KILLED,
    Actor,
    ActorExited,
    AlreadyRegistered,
    CallTimeout,
    ChildSpec,
    Crashed,
    Down,
    ExitReason,
    Ref,
    Runtime,
    StartError,
    Supervisor,
    handle,
    restart_child,
    start_child,
    terminate_child,
    which_child,
    which_children,
)
from supervision import events as ev
from supervision.testing import barrier, settled
from tests.supervision.probes import Do, DoAndReply, Note, Probe, Recorder, do, error_of, nothing, time_of

U = 1.0


class SlowStarter(Actor):
    """Takes ten units to start."""

    async def init(self) -> None:
        """Wait."""
        await self.runtime.sleep(10 * U)


async def test_S327_kill_during_init(runtime: Runtime) -> None:
    """A child that is killed while it starts: the order fails at once, the name is free, nothing is kept."""
    log: list[Any] = []
    supervisor = await runtime.spawn(Supervisor)
    watcher = await runtime.spawn(Probe, log)
    order = asyncio.ensure_future(start_child(supervisor, ChildSpec("a", SlowStarter, name="n")))
    await runtime.sleep(2 * U)
    child = runtime.whereis("n")
    assert child is not None
    await do(watcher, lambda actor: nothing(actor.monitor(child)))
    child.kill()
    assert runtime.whereis("n") is None

    async def wait() -> None:
        error = await error_of(order)
        assert isinstance(error, StartError)
        assert error.reason == KILLED

    assert await time_of(wait()) == 0.0
    assert await which_children(supervisor) == []
    await barrier(watcher)
    assert log == [("down", child, KILLED)]


async def test_S329_kill_during_a_call(runtime: Runtime) -> None:
    """The caller of an actor that is killed hears it at once, with the request; the successor never sees the
    request."""
    log: list[Any] = []
    supervisor = await runtime.spawn(Supervisor, [ChildSpec("a", Probe, args=(log,))])
    first = (await which_child(supervisor, "a")).ref
    assert first is not None
    request = DoAndReply(lambda actor: actor.runtime.sleep(10 * U))
    call = first.call(request, timeout=20 * U)
    waiting = first.call(DoAndReply(lambda actor: actor.log.append("seen")), timeout=20 * U)
    await runtime.sleep(2 * U)
    first.kill()
    for each in (call, waiting):
        error = await error_of(each)
        assert isinstance(error, ActorExited)
        assert (error.reason, error.target) == (KILLED, first)
    assert asyncio.get_running_loop().time() == pytest.approx(2 * U)
    second = (await which_child(supervisor, "a")).ref
    assert second is not None
    assert second is not first
    await do(second, lambda actor: 1)
    assert log == []


async def test_S332_swallowed_cancellation(runtime: Runtime, events: Recorder) -> None:
    """A child that swallows its cancellation is stopped in time all the same; what it tries later has no effect."""
    stubborn: list[Any] = []
    attempts: list[Any] = []
    log: list[Any] = []

    async def swallow(actor: Probe) -> None:
        token = actor.defer_reply() if actor.state is None else actor.state
        while len(stubborn) < 3:
            try:
                await actor.runtime.sleep(100 * U)
            except asyncio.CancelledError:
                stubborn.append("swallowed")
        other.cast(Note("from the dead"))
        token.reply("from the dead")
        attempts.append(token.waiting)
        attempts.append(_error_of(lambda: runtime.register("ghost", other)))
        attempts.append(await error_of(other.call(DoAndReply(lambda _: 1))))
        attempts.append(await error_of(actor.spawn(Probe)))

    other = await runtime.spawn(Probe, log)
    supervisor = await runtime.spawn(Supervisor, [ChildSpec("a", Probe, shutdown=2 * U)])
    first = (await which_child(supervisor, "a")).ref
    assert first is not None
    call = first.call(DoAndReply(swallow), timeout=None)
    await settled(runtime)

    assert 2 * U <= await time_of(terminate_child(supervisor, "a")) <= 5 * U
    (failed,) = events.of(ev.ChildShutdownFailed)
    assert (failed.id, failed.reason) == ("a", KILLED)
    assert [zombie.ref for zombie in runtime.zombies()] == [first]
    second = await restart_child(supervisor, "a")
    assert second is not None
    assert await do(second, lambda actor: "well") == "well"
    assert isinstance(await error_of(call), ActorExited)

    await runtime.sleep(2 * U)
    assert runtime.zombies() == []
    assert log == []
    assert stubborn == ["swallowed"] * 3
    assert attempts[0] is False
    assert [type(error).__name__ for error in attempts[1:]] == ["Fenced", "Fenced", "NotRunning"]
    assert runtime.whereis("ghost") is None
    dropped = [(event.message, event.why) for event in events.of(ev.MessageDropped)]
    assert ("Note(text='from the dead')", "fenced") in dropped


def _error_of(what: Any) -> BaseException:
    with pytest.raises(BaseException) as caught:
        what()
    return caught.value


async def test_S334_a_cleanup_that_waits_for_ever(runtime: Runtime, events: Recorder) -> None:
    """A child whose cleanup never ends, without swallowing, is killed when its limit is over, and leaves no zombie."""

    class Endless(Probe):
        async def terminate(self, reason: ExitReason) -> None:
            await asyncio.Event().wait()

    supervisor = await runtime.spawn(Supervisor, [ChildSpec("a", Endless, kwargs={"trap_exit": True}, shutdown=2 * U)])
    assert await time_of(terminate_child(supervisor, "a")) == pytest.approx(2 * U)
    (failed,) = events.of(ev.ChildShutdownFailed)
    assert failed.reason == KILLED
    await settled(runtime)
    assert runtime.zombies() == []


class Heart(Actor):
    """Beats ten times a second."""

    def __init__(self, beats: list[float]) -> None:
        self.beats = beats

    def init(self) -> None:
        """Set the pace."""
        self.send_interval(0.01, Note("beat"))

    @handle
    def beat(self, message: Note) -> None:
        """Beat."""
        self.beats.append(self.runtime.clock.time())


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_S335_a_blocked_loop(loop_errors: list[Any]) -> None:
    """The watchdog names the actor and the line that block the loop; everything goes on afterwards, nothing
    restarts."""
    seen = Recorder()
    async with Runtime(watchdog=0.05, reports=False) as runtime:
        runtime.subscribe(seen)
        beats: list[list[float]] = [[] for _ in range(10)]
        children = [ChildSpec(number, Heart, args=(beats[number],)) for number in range(10)]
        await runtime.spawn(Supervisor, children, name="hearts")
        noticed = threading.Event()
        runtime.subscribe(lambda event: noticed.set(), ev.LoopBlocked)
        blocker = await runtime.spawn(Probe, name="blocker")
        victim = await runtime.spawn(Probe)

        def block(actor: Probe) -> None:
            noticed.wait(30)

        blocker.cast(Do(block))
        error = await error_of(victim.call(DoAndReply(lambda actor: actor.runtime.sleep(9.0)), timeout=0.01))
        over = runtime.clock.time()
        while any(not each or each[-1] < over for each in beats):
            await runtime.sleep(0.01)
    blocked = seen.of(ev.LoopBlocked)
    assert [event.path for event in blocked] == ["/blocker"]
    assert blocked[0].file == threading.__file__
    assert blocked[0].seconds >= 0.05
    assert "noticed.wait(30)" in blocked[0].stack
    assert len(seen.of(ev.LoopUnblocked)) == 1
    assert seen.of(ev.Restarted) == []
    assert isinstance(error, CallTimeout)
    assert error.lag > 0.0


async def test_S337_crashes_that_look_dangerous(runtime: Runtime, events: Recorder) -> None:
    """Endless recursion and lack of memory are ordinary crashes: one report, one restart each."""

    def recurse(actor: Probe) -> Any:
        return recurse(actor)

    def starve(actor: Probe) -> None:
        raise MemoryError

    supervisor = await runtime.spawn(Supervisor, [ChildSpec("a", Probe)])
    for what, kind in ((recurse, "RecursionError"), (starve, "MemoryError")):
        child = (await which_child(supervisor, "a")).ref
        assert child is not None
        child.cast(Do(what))
        await settled(runtime)
        assert isinstance(child.reason, Crashed)
        assert child.reason.kind == kind
        assert child.reason.frames[-1].file == __file__
    assert len(events.of(ev.ChildTerminated)) == 2
    assert len(events.of(ev.Restarted)) == 2
    assert (await which_child(supervisor, "a")).ref is not None


@pytest.mark.parametrize("moved", [3600.0, -3600.0], ids=["ahead", "back"])
async def test_S340_the_wall_clock_decides_nothing(runtime: Runtime, events: Recorder, moved: float) -> None:
    """Two crashes within the window end a supervisor that allows one, however the wall clock is set between them."""
    supervisor = await runtime.spawn(Supervisor, [ChildSpec("a", Probe, name="a")], max_restarts=1, max_seconds=10 * U)
    runtime.name("a").cast(Do(lambda actor: 1 / 0))
    await settled(runtime)
    with mock.patch.object(runtime.clock, "wall_time", return_value=moved):
        await runtime.sleep(2 * U)
        assert runtime.clock.wall_time() == moved
        runtime.name("a").cast(Do(lambda actor: 1 / 0))
        await settled(runtime)
    assert not supervisor.alive
    assert len(events.of(ev.GaveUp)) == 1


class Watcher(Probe):
    """Logs a `Down` with its monitor."""

    @handle
    def down(self, message: Down) -> None:
        """Write it down."""
        self.log.append(message.monitor)


async def test_S332_nothing_of_a_killed_actor_is_seen(runtime: Runtime) -> None:
    """What the code of a killed actor still tries has no effect: links, monitors, timers, signals, orders."""
    log: list[Any] = []
    other = await runtime.spawn(Probe, log, trap_exit=True, name="other")
    tried: list[Any] = []

    async def haunt(actor: Probe) -> None:
        try:
            await actor.runtime.sleep(100 * U)
        except asyncio.CancelledError:
            actor.link(other)
            actor.monitor(other)
            other.exit("boo")
            other.kill()
            actor.send_after(1 * U, Note("boo"), to=other)
            actor.send_interval(1 * U, Note("boo"), to=runtime.name("other"))
            runtime.unregister("other")
            tried.append(await error_of(other.stop()))
            await other.send(Note("boo"))
            tried.append(_error_of(lambda: runtime.spawn_nowait(Probe)))
            tried.append("end")

    ghost = await runtime.spawn(Probe)
    ghost.cast(Do(haunt))
    await settled(runtime)
    ghost.kill()
    await runtime.sleep(5 * U)
    assert tried[-1] == "end"
    assert [type(error).__name__ for error in tried[:-1]] == ["Fenced", "NotRunning"]
    assert log == []
    assert other.alive
    assert runtime.whereis("other") is other
    info = runtime.info(other)
    assert info is not None
    assert (info.links, info.monitors) == (0, 0)
    assert runtime.statistics().timers == 0


def refs(*given: Ref | None) -> list[Ref]:
    """The addresses that are there."""
    return [ref for ref in given if ref is not None]


async def test_S332_a_token_in_the_hands_of_the_dead(runtime: Runtime) -> None:
    """A reply token that was handed to an actor which is then killed is worth nothing in its hands."""

    async def take_and_wait(actor: Probe) -> None:
        try:
            await actor.runtime.sleep(100 * U)
        except asyncio.CancelledError:
            tokens[0].reply("from the dead")

    tokens: list[Any] = []
    owner = await runtime.spawn(Probe)
    helper = await runtime.spawn(Probe)
    call = owner.call(DoAndReply(lambda actor: tokens.append(actor.defer_reply())), timeout=None)
    helper.cast(Do(take_and_wait))
    await settled(runtime)
    helper.kill()
    await settled(runtime)
    assert not call.done()
    owner.cast(Do(lambda actor: tokens[0].reply("well")))
    assert await call == "well"


async def test_an_already_taken_name_is_told(runtime: Runtime) -> None:
    """The error of a start under a taken name tells who holds it; nothing was started."""
    holder = await runtime.spawn(Probe, name="n")
    error = await error_of(runtime.spawn(Probe, name="n"))
    assert isinstance(error, AlreadyRegistered)
    assert error.ref is holder
    assert runtime.statistics().actors == 1
