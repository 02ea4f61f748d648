"""Killing: the fence comes first, then the ladder of attempts to end the code, then the list of zombies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from supervision import (
    KILL,
    KILLED,
    NORMAL,
    Abnormal,
    ActorExited,
    Exit,
    ExitReason,
    Ref,
    Runtime,
    Supervisor,
)
from supervision import events as ev
from supervision.testing import advance, barrier, settled
from tests.supervision.probes import Do, DoAndReply, Note, Probe, Recorder, do, error_of, nothing


class Swallower:
    """Does something, then waits, and goes on waiting when that is interrupted, ``times`` times."""

    def __init__(self, kind: type[BaseException], times: int = 1000, first: Any = nothing) -> None:
        self.kind = kind
        self.times = times
        self.first = first
        self.swallowed: list[str] = []
        self.release = asyncio.Event()

    async def __call__(self, actor: Probe) -> str:
        self.first(actor)
        while True:
            try:
                await self.release.wait()
            except self.kind as error:
                self.swallowed.append(type(error).__name__)
                if len(self.swallowed) > self.times:
                    raise
            else:
                return "released"


async def kill_in(ref: Ref, what: Any) -> None:
    """Let a puppet begin something and kill it in the middle."""
    ref.cast(Do(what))
    await settled(ref.runtime)
    ref.kill()


async def test_a_kill_is_done_when_it_returns(runtime: Runtime, events: Recorder) -> None:
    """When `kill` returns the actor is dead, its name free, its links and monitors told, its callers answered."""
    log: list[Any] = []
    watcher = await runtime.spawn(Probe, log, trap_exit=True)
    ref = await runtime.spawn(Probe, name="n")
    await do(watcher, lambda actor: nothing(actor.link(ref), actor.monitor(ref)))
    call = ref.call(DoAndReply(Swallower(asyncio.CancelledError, 1)), timeout=None)
    await settled(runtime)
    ref.kill()
    assert (ref.alive, ref.reason, runtime.whereis("n"), runtime.info(ref)) == (False, KILLED, None, None)
    assert isinstance(call.exception(), ActorExited)
    assert [zombie.ref for zombie in runtime.zombies()] == [ref]
    assert watcher.mailbox_statistics().length == 2
    names = events.names()
    assert names.index("FencedOff") < names.index("Unregistered") < names.index("Exited")
    await barrier(watcher)
    assert log == [("exit", ref, KILLED), ("down", ref, KILLED)]
    await runtime.sleep(1.0)
    assert runtime.zombies() == []


async def test_code_that_does_not_swallow_ends_at_once(runtime: Runtime, events: Recorder) -> None:
    """A killed handler that lets the cancellation through runs its ``finally`` and is gone at the next step of the
    loop."""
    log: list[str] = []

    async def wait(actor: Probe) -> None:
        try:
            await actor.runtime.sleep(100.0)
        finally:
            log.append("finally")

    ref = await runtime.spawn(Probe)
    await kill_in(ref, wait)
    await settled(runtime)
    assert log == ["finally"]
    assert runtime.zombies() == []
    assert events.of(ev.Zombie) == []
    assert asyncio.get_running_loop().time() == 0.0


@pytest.mark.parametrize("times", [1, 2])
async def test_the_second_and_third_cancel(runtime: Runtime, times: int) -> None:
    """Code that swallows one or two cancellations is cancelled again, a grace time later."""
    swallower = Swallower(asyncio.CancelledError, times)
    ref = await runtime.spawn(Probe)
    await kill_in(ref, swallower)
    await runtime.sleep(times * runtime.kill_grace - 0.01)
    assert [zombie.given_up for zombie in runtime.zombies()] == [False]
    await runtime.sleep(0.02)
    assert runtime.zombies() == []
    assert swallower.swallowed == ["CancelledError"] * (times + 1)


@pytest.mark.parametrize("kind", [asyncio.CancelledError, Exception], ids=["CancelledError", "Exception"])
async def test_close_gets_past_what_swallows_cancellation(runtime: Runtime, events: Recorder, kind: Any) -> None:
    """Code that always swallows ``CancelledError``, or ``Exception``, is closed after three cancellations."""

    async def swallow(actor: Probe) -> None:
        while True:
            try:
                await actor.runtime.sleep(100.0)
            except (asyncio.CancelledError, kind) as error:
                log.append(type(error).__name__)

    log: list[str] = []
    ref = await runtime.spawn(Probe)
    await kill_in(ref, swallow)
    await runtime.sleep(1.0)
    assert log == ["CancelledError"] * 3
    assert runtime.zombies() == []
    assert events.of(ev.Zombie) == []


async def test_what_swallows_everything_is_a_zombie(runtime: Runtime, events: Recorder) -> None:
    """Code that swallows even ``GeneratorExit`` is listed as a zombie, told of once, and leaves the list when it
    ends."""
    swallower = Swallower(BaseException)
    ref = await runtime.spawn(Probe)
    await kill_in(ref, swallower)
    await runtime.sleep(10.0)
    (zombie,) = runtime.zombies()
    assert (zombie.ref, zombie.path, zombie.reason, zombie.given_up) == (ref, ref.path, KILLED, True)
    assert zombie.age == pytest.approx(10.0)
    assert "in Swallower.__call__" in zombie.stack
    assert zombie.stack.splitlines()[-1].endswith("in Event.wait")
    assert runtime.statistics().zombies == 1
    (event,) = events.of(ev.Zombie)
    assert event.ref is ref
    assert event.stack == zombie.stack
    assert swallower.swallowed == [*["CancelledError"] * 3, "GeneratorExit", "CancelledError"]
    swallower.release.set()
    await settled(runtime)
    assert runtime.zombies() == []
    (ended,) = events.of(ev.ZombieEnded)
    assert ended.seconds == pytest.approx(10.0)


async def test_a_zombie_that_awaits_a_generator_shows_where(runtime: Runtime) -> None:
    """The stack of a zombie goes on into awaited generators, and stops where nothing more can be seen."""

    class Odd:
        def __await__(self) -> Any:
            yield from advance(100.0).__await__()

    async def wait(actor: Probe) -> None:
        await Odd()

    ref = await runtime.spawn(Probe)
    await kill_in(ref, wait)
    stack = runtime.zombies()[0].stack
    assert [line.split(", in ")[1] for line in stack.splitlines()][1:] == [
        f"{Odd.__qualname__}.__await__",
    ]
    await settled(runtime)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_nested_coroutine_that_swallows_everything(runtime: Runtime, events: Recorder) -> None:
    """If what swallows everything is awaited by code that does not, closing that code ends both."""
    swallower = Swallower(BaseException)

    async def outer(actor: Probe) -> None:
        await swallower(actor)

    ref = await runtime.spawn(Probe)
    await kill_in(ref, outer)
    await runtime.sleep(10.0)
    assert runtime.zombies() == []
    assert events.of(ev.Zombie) == []


async def test_kill_while_the_handler_runs(runtime: Runtime, events: Recorder) -> None:
    """An actor that kills itself in a plain handler is dead at once; the rest of the handler has no effect."""
    log: list[Any] = []
    watcher = await runtime.spawn(Probe, log, trap_exit=True)
    ref = await runtime.spawn(Probe)
    await do(watcher, lambda actor: nothing(actor.link(ref), actor.monitor(ref)))

    def suicide(actor: Probe) -> str:
        actor.ref.kill()
        watcher.cast(Note("from the dead"))
        assert runtime.zombies() != []
        actor.stop("again")
        actor.continue_with(Note("again"))
        actor.idle_timeout(0)
        return "answer"

    error = await error_of(do(ref, suicide))
    assert isinstance(error, ActorExited)
    assert error.reason == KILLED
    await barrier(watcher)
    assert log == [("exit", ref, KILLED), ("down", ref, KILLED)]
    assert runtime.zombies() == []
    assert runtime.statistics().dead_letters == {"fenced": 1}
    assert len(events.of(ev.Exited, ref)) == 1


@pytest.mark.parametrize("warm", [False, True], ids=["handed over", "in the drain"])
@pytest.mark.parametrize("step", [0, 1], ids=["first step", "later step"])
@pytest.mark.parametrize("order", ["kill", "exit"])
async def test_an_async_handler_that_ends_its_own_actor(
    runtime: Runtime, events: Recorder, warm: bool, step: int, order: str
) -> None:
    """An async handler that kills or exits its own actor is cancelled where it waits next, and only as often as due."""
    cancelled: list[str] = []

    async def suicide(actor: Probe) -> None:
        for _ in range(step):
            await advance(0)
        if order == "kill":
            actor.ref.kill()
        else:
            actor.ref.exit("x")
        try:
            await actor.runtime.sleep(100.0)
        except asyncio.CancelledError:
            cancelled.append("once")
            await actor.runtime.sleep(0.05)
            raise

    if warm:
        # A first coroutine makes a worker drain the queue, so that the next handler begins inside it.
        first = await runtime.spawn(Probe)
        await do(first, lambda actor: advance(0))
    ref = await runtime.spawn(Probe)
    ref.cast(Do(suicide))
    assert await ref.join() == (KILLED if order == "kill" else Abnormal("x"))
    await runtime.sleep(1.0)
    assert cancelled == ["once"]
    assert runtime.zombies() == []
    assert events.of(ev.Zombie) == []


@pytest.mark.parametrize("warm", [False, True], ids=["handed over", "in the drain"])
async def test_a_zombie_by_its_own_hand_is_told_of_once(runtime: Runtime, events: Recorder, warm: bool) -> None:
    """An actor that kills itself and swallows everything climbs one ladder: three cancels, one close, one event."""
    swallower = Swallower(BaseException, first=lambda actor: actor.ref.kill())
    if warm:
        first = await runtime.spawn(Probe)
        await do(first, lambda actor: advance(0))
    ref = await runtime.spawn(Probe)
    ref.cast(Do(swallower))
    await runtime.sleep(2.5 * runtime.kill_grace)
    assert swallower.swallowed == ["CancelledError"] * 3
    await runtime.sleep(5.0)
    assert swallower.swallowed == [*["CancelledError"] * 3, "GeneratorExit", "CancelledError"]
    assert len(events.of(ev.Zombie)) == 1
    swallower.release.set()
    await settled(runtime)
    assert runtime.zombies() == []


@pytest.mark.parametrize("order", ["kill", "exit"])
async def test_kill_before_the_coroutine_began(runtime: Runtime, events: Recorder, order: str) -> None:
    """A killed actor whose async handler waits for a worker never runs it, and is no zombie."""
    log: list[str] = []

    async def never(actor: Probe) -> None:
        log.append("ran")

    ref = await runtime.spawn(Probe)
    ref.cast(Do(never))
    await advance(0)
    if order == "kill":
        ref.kill()
    else:
        ref.exit("x")
    assert ref.reason == (KILLED if order == "kill" else Abnormal("x"))
    await settled(runtime)
    assert log == []
    assert runtime.zombies() == []
    assert events.of(ev.FencedOff) == []


@pytest.mark.parametrize("how", ["kill", "exit", "kill itself", "exit itself"])
async def test_the_end_in_the_middle_of_a_start(runtime: Runtime, how: str) -> None:
    """An actor that ends, or is ended, while its `init` runs: the starter hears the reason, and no code of it goes
    on."""
    log: list[str] = []

    class Slow(Probe):
        async def init(self) -> None:
            if how == "kill itself":
                self.ref.kill()
            elif how == "exit itself":
                self.ref.exit("x")
            await self.runtime.sleep(10.0)
            log.append("started")

    starting = asyncio.ensure_future(runtime.spawn(Slow, name="n"))
    await settled(runtime)
    ref = runtime.whereis("n")
    if ref is not None:
        getattr(ref, how)(*(["x"] if how == "exit" else []))
    error = await error_of(starting)
    assert error.reason == (KILLED if how.startswith("kill") else Abnormal("x"))  # type: ignore[attr-defined]
    await runtime.sleep(20.0)
    assert log == []
    assert runtime.zombies() == []


@pytest.mark.parametrize("how", ["kill", "exit"])
@pytest.mark.parametrize("coroutine", [False, True])
async def test_the_end_in_the_middle_of_a_plain_init(runtime: Runtime, how: str, coroutine: bool) -> None:
    """A plain `init` that ends its own actor makes the start fail, also if it returns a coroutine."""
    log: list[str] = []

    async def never() -> None:
        log.append("ran")

    class Quick(Probe):
        def init(self) -> Any:
            if how == "kill":
                self.ref.kill()
            else:
                self.ref.exit("x")
            return never() if coroutine else None

    error = await error_of(runtime.spawn(Quick))
    assert error.reason == (KILLED if how == "kill" else Abnormal("x"))  # type: ignore[attr-defined]
    await settled(runtime)
    assert log == []
    assert runtime.zombies() == []


# -- exit signals to code that waits -----------------------------------------------------------------------------------


async def test_an_exit_signal_waits_for_a_slow_finally(runtime: Runtime) -> None:
    """An exit signal to a waiting handler: the name is free and callers are answered at once; links hear when it
    ends."""
    log: list[Any] = []
    watcher = await runtime.spawn(Probe, log, trap_exit=True)
    ref = await runtime.spawn(Probe, name="n")
    await do(watcher, lambda actor: nothing(actor.link(ref), actor.monitor(ref)))

    async def slow(actor: Probe) -> None:
        try:
            await actor.runtime.sleep(100.0)
        finally:
            await actor.runtime.sleep(2.0)
            watcher.cast(Note("cleaned up"))

    call = ref.call(DoAndReply(slow), timeout=None)
    waiting = ref.call(DoAndReply(slow), timeout=None)
    await settled(runtime)
    ref.exit("x")
    assert (ref.alive, ref.reason, runtime.whereis("n")) == (False, None, None)
    for each in (call, waiting):
        error = each.exception()
        assert isinstance(error, ActorExited)
        assert error.reason == Abnormal("x")
    ref.cast(Note("nobody reads this"))
    assert "it ended: 'x'" in str(await error_of(do(ref, lambda actor: 1)))
    await runtime.sleep(1.9)
    assert log == []
    await runtime.sleep(0.2)
    assert log == ["cleaned up", ("exit", ref, Abnormal("x")), ("down", ref, Abnormal("x"))]


async def test_an_exit_signal_does_not_wait_for_ever(runtime: Runtime, events: Recorder) -> None:
    """Code that does not end within the exit grace after an exit signal is fenced off; the reason stays."""

    async def stubborn(actor: Probe) -> None:
        try:
            await actor.runtime.sleep(100.0)
        finally:
            await actor.runtime.sleep(100.0)

    ref = await runtime.spawn(Probe)
    ref.cast(Do(stubborn))
    await settled(runtime)
    ref.exit("x")
    assert await ref.join() == Abnormal("x")
    assert asyncio.get_running_loop().time() == pytest.approx(runtime.exit_grace)
    assert len(events.of(ev.FencedOff)) == 1
    await settled(runtime)
    assert runtime.zombies() == []


@pytest.mark.parametrize("order", [KILL, None], ids=["exit with KILL", "kill"])
async def test_a_kill_after_an_exit_signal(runtime: Runtime, order: ExitReason | None) -> None:
    """A kill ends an actor that is busy with its cleanup at once; the first signal still gives the reason."""

    async def slow(actor: Probe) -> None:
        try:
            await actor.runtime.sleep(100.0)
        finally:
            await actor.runtime.sleep(3.0)

    ref = await runtime.spawn(Probe)
    ref.cast(Do(slow))
    await settled(runtime)
    ref.exit("x")
    if order is None:
        ref.kill()
    else:
        ref.exit(order)
    assert ref.reason == Abnormal("x")


class SlowEnd(Probe):
    """Takes its time to end."""

    async def terminate(self, reason: ExitReason) -> None:
        """Wait."""
        self.log.append("begun")
        try:
            await self.runtime.sleep(10.0)
        finally:
            self.log.append("over")


@pytest.mark.parametrize("trap", [False, True])
@pytest.mark.parametrize("warm", [False, True], ids=["handed over", "in the drain"])
async def test_an_exit_signal_during_terminate(runtime: Runtime, trap: bool, warm: bool) -> None:
    """A signal cuts the `terminate` of an actor short unless it traps; a caller whose answer waits for it is told."""
    log: list[Any] = []
    if warm:
        first = await runtime.spawn(Probe)
        await do(first, lambda actor: advance(0))
    ref = await runtime.spawn(SlowEnd, log, trap_exit=trap)

    def bye(actor: Probe) -> str:
        actor.stop("own")
        return "bye"

    call = ref.call(DoAndReply(bye), timeout=None)
    await runtime.sleep(1.0)
    ref.exit("x")
    if trap:
        assert await call == "bye"
        assert ref.reason == Abnormal("own")
        assert asyncio.get_running_loop().time() == 10.0
    else:
        error = await error_of(call)
        assert isinstance(error, ActorExited)
        assert error.reason == Abnormal("x")
        assert await ref.join() == Abnormal("x")
    assert log == ["begun", "over"]


@pytest.mark.parametrize("how", ["kill", "exit"])
@pytest.mark.parametrize("kind", ["plain", "async", "returns a coroutine"])
@pytest.mark.parametrize("warm", [False, True], ids=["handed over", "in the drain"])
async def test_a_terminate_that_ends_its_own_actor(runtime: Runtime, how: str, kind: str, warm: bool) -> None:
    """An actor that kills or exits itself in `terminate` ends for that reason, whatever kind of function it is."""

    class Odd(Probe):
        def terminate(self, reason: ExitReason) -> Any:
            if kind == "async":
                return self.end_and_wait()
            self.end()
            return self.wait() if kind == "returns a coroutine" else None

        def end(self) -> None:
            if how == "kill":
                self.ref.kill()
            else:
                self.ref.exit("x")

        async def end_and_wait(self) -> None:
            self.end()
            await self.wait()

        async def wait(self) -> None:
            await self.runtime.sleep(1.0)

    if warm:
        first = await runtime.spawn(Probe)
        await do(first, lambda actor: advance(0))
    ref = await runtime.spawn(Odd)
    call = ref.call(DoAndReply(lambda actor: actor.stop("own")), timeout=None)
    assert await ref.join() == (KILLED if how == "kill" else Abnormal("x"))
    assert isinstance(await error_of(call), ActorExited)
    await runtime.sleep(2.0)
    assert runtime.zombies() == []


async def test_a_cycle_error_caught_by_an_actor_that_then_exits(runtime: Runtime) -> None:
    """An actor that gets `CallCycle` in the first step of its handler can still end itself there."""

    async def call_itself(actor: Probe) -> None:
        await error_of(actor.ref.call(DoAndReply(str)))
        actor.ref.exit("x")
        await actor.runtime.sleep(100.0)

    first = await runtime.spawn(Probe)
    await do(first, lambda actor: advance(0))
    ref = await runtime.spawn(Probe)
    ref.cast(Do(call_itself))
    assert await ref.join() == Abnormal("x")


# -- the fence ---------------------------------------------------------------------------------------------------------


async def test_a_task_of_a_killed_actor_is_fenced_as_long_as_its_handler_lives(runtime: Runtime) -> None:
    """Tasks that a handler created belong to its actor: after the kill they have no effect either."""
    log: list[Any] = []
    other = await runtime.spawn(Probe, log)

    async def background() -> None:
        await advance(1.0)
        other.cast(Note("from the dead"))

    tasks: list[asyncio.Task[None]] = []
    swallower = Swallower(BaseException, first=lambda actor: tasks.append(asyncio.create_task(background())))
    ref = await runtime.spawn(Probe)
    await kill_in(ref, swallower)
    await tasks[0]
    await settled(runtime)
    assert log == []
    swallower.release.set()
    await settled(runtime)


async def test_kill_by_a_killed_actor(runtime: Runtime) -> None:
    """A kill, or a timer that was set before, does its work although there are zombies: only the dead are fenced."""
    log: list[Any] = []
    ghost = await runtime.spawn(Probe)
    other = await runtime.spawn(Probe, log)

    def set_timers(actor: Probe) -> None:
        actor.send_after(1.0, Note("set in life"), to=other)
        actor.runtime.send_after(5.0, Note("set in life as well"), other)

    swallower = Swallower(BaseException, first=set_timers)
    ghost.cast(Do(swallower))
    await settled(runtime)
    await do(other, lambda actor: nothing(actor.send_after(2.0, Note("own"))))
    ghost.kill()
    await runtime.sleep(10.0)
    assert log == ["set in life", "own", "set in life as well"]
    assert len(runtime.zombies()) == 1
    swallower.release.set()
    await settled(runtime)


async def test_a_fenced_send_to_a_full_mailbox(runtime: Runtime) -> None:
    """A killed actor that tries to send to a full mailbox neither waits nor gets in."""
    from supervision import Mailbox

    class Narrow(Probe):
        mailbox = Mailbox(capacity=1)

    log: list[Any] = []
    narrow = await runtime.spawn(Narrow, log)
    narrow.cast(Do(lambda actor: actor.runtime.sleep(10.0)))
    await settled(runtime)
    narrow.cast(Note("waits"))
    sent: list[str] = []

    async def haunt(actor: Probe) -> None:
        try:
            await actor.runtime.sleep(100.0)
        except asyncio.CancelledError:
            narrow.cast(Note("from the dead"))
            await error_of(narrow.call(DoAndReply(str)))
            await narrow.send(Note("from the dead"))
            sent.append("done")

    ghost = await runtime.spawn(Probe)
    await kill_in(ghost, haunt)
    await settled(runtime)
    assert sent == ["done"]
    await runtime.sleep(20.0)
    await barrier(narrow)
    assert log == ["waits"]


async def test_a_sender_that_waits_for_room_and_is_killed(runtime: Runtime) -> None:
    """The message of an actor that was killed while it waited for room never gets in."""
    from supervision import Mailbox

    class Narrow(Probe):
        mailbox = Mailbox(capacity=1)

    log: list[Any] = []
    narrow = await runtime.spawn(Narrow, log)
    narrow.cast(Do(lambda actor: actor.runtime.sleep(10.0)))
    await settled(runtime)
    narrow.cast(Note("waits"))
    for order in ("kill", "exit"):
        sender = await runtime.spawn(Probe)
        sender.cast(Do(lambda actor: narrow.send(Note("too late"))))
        await settled(runtime)
        sender.exit(KILL if order == "kill" else "x")
    await runtime.sleep(20.0)
    assert log == ["waits"]


async def test_an_interrupted_reply_to_the_dead(runtime: Runtime) -> None:
    """The answer to a killed caller vanishes, and the actor that answers lives on."""
    ref = await runtime.spawn(Probe)
    client = await runtime.spawn(Probe)

    async def slow(actor: Probe) -> str:
        await actor.runtime.sleep(1.0)
        return "answer"

    await kill_in(client, lambda actor: ref.call(DoAndReply(slow)))
    client.kill()
    await runtime.sleep(2.0)
    assert ref.alive
    assert not client.alive


# -- the end of the runtime --------------------------------------------------------------------------------------------


@pytest.fixture
async def closing() -> AsyncIterator[Runtime]:
    """A runtime that a test closes by itself."""
    made = Runtime(watchdog=None, reports=False)
    await made.__aenter__()
    yield made
    await made.close()


async def test_closing_ends_what_swallows_cancellation(closing: Runtime) -> None:
    """`close` goes up the whole ladder: code that swallows cancellations does not outlive the runtime."""

    async def swallow(actor: Probe) -> None:
        while True:
            try:
                await advance(100.0)
            except asyncio.CancelledError:
                log.append("swallowed")

    log: list[str] = []
    ref = await closing.spawn(Probe)
    ref.cast(Do(swallow))
    await settled(closing)
    await closing.close()
    assert closing.zombies() == []
    assert log != []
    assert [task for task in asyncio.all_tasks() if "worker" in task.get_name()] == []


async def test_closing_gives_up_on_what_cannot_be_ended(closing: Runtime) -> None:
    """`close` does not hang on code that swallows everything; it stays listed."""
    seen = Recorder()
    closing.subscribe(seen)
    swallower = Swallower(BaseException)
    ref = await closing.spawn(Probe)
    ref.cast(Do(swallower))
    await settled(closing)
    await asyncio.wait_for(closing.close(), 60.0)
    assert [zombie.given_up for zombie in closing.zombies()] == [True]
    assert len(seen.of(ev.Zombie)) == 1
    swallower.release.set()
    await advance(1.0)
    assert closing.zombies() == []


async def test_closing_stops_linked_children_in_order(closing: Runtime) -> None:
    """`close` gives the children of plain actors their time as well: their `terminate` runs to its end."""
    log: list[Any] = []
    parent = await closing.spawn(Probe)
    child = await do(parent, lambda actor: actor.spawn_link(SlowEnd, log, trap_exit=True))
    plain = await do(parent, lambda actor: actor.spawn_link(Probe, log))
    closing_task = asyncio.ensure_future(closing.close())
    await advance(0.5)
    assert log == ["begun"]
    await closing_task
    assert log == ["begun", "over"]
    assert str(child.reason) == "killed"  # its terminate needs 10 s, an actor's default limit is 5 s
    assert not plain.alive
    assert isinstance(parent.reason, ExitReason)


async def test_a_linked_supervisor_ends_its_children_at_close(closing: Runtime) -> None:
    """The supervisor of a plain actor ends with it at close, its children before it."""
    log: list[Any] = []

    class Child(Probe):
        def terminate(self, reason: ExitReason) -> None:
            self.log.append(reason)

    parent = await closing.spawn(Probe)
    await do(parent, lambda actor: actor.spawn_link(Supervisor, [{"id": 1, "start": Child, "args": (log, True)}]))
    await closing.close()
    assert [str(reason) for reason in log] == ["shutdown"]


async def test_an_exit_message_can_be_made_by_hand() -> None:
    """`Exit` is an ordinary message: tests of a handler can make one."""
    assert Exit(None, NORMAL).reason is NORMAL
