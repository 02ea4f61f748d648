"""Handlers in threads: they may block, and nothing else changes."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest
from structlog.testing import capture_logs

from supervision import (
    KILLED,
    Abnormal,
    Actor,
    ActorExited,
    BadOption,
    ChildSpec,
    Crashed,
    Message,
    NotRunning,
    Refuse,
    Request,
    Runtime,
    Supervisor,
    current_actor,
    handle,
)
from supervision.errors import Fenced
from supervision.isolation import run_in_loop
from supervision.testing import barrier, settled
from supervision.testing.virtual_time import virtual_loop
from tests.supervision.probes import DoAndReply, Note, Probe, nothing

pytestmark = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop", "virtual"])


class Do(Request[Any], frozen=True):
    """A function to be called in a thread."""

    what: Any


class Tell(Message, frozen=True):
    """The same, without an answer."""

    what: Any


class Near(Request[int], frozen=True):
    """A request that is handled in the loop."""


class Threaded(Actor):
    """Does what it is told, in a thread."""

    isolation = "thread"

    @handle
    def do(self, request: Do) -> Any:
        """Do it."""
        return request.what(self)

    @handle
    def tell(self, message: Tell) -> None:
        """Do it."""
        message.what(self)

    @handle
    async def near(self, request: Near) -> int:
        """Say in which thread this is."""
        return threading.get_ident()


class Ordinary(Actor):
    """Would block the loop."""

    @handle
    def do(self, request: Do) -> Any:
        """Do it."""
        return request.what(self)


async def test_plain_handlers_run_in_threads_and_the_loop_goes_on(runtime: Runtime) -> None:
    ref = await runtime.spawn(Threaded)
    gate = threading.Event()
    call = ref.call(Do(lambda actor: (gate.wait(), threading.get_ident())[1]))
    other = await runtime.spawn(Probe)
    await barrier(other)
    assert not call.done()
    gate.set()
    assert await call != threading.get_ident()
    assert await ref.call(Near()) == threading.get_ident()


async def test_messages_are_handled_one_at_a_time_in_order(runtime: Runtime) -> None:
    ref = await runtime.spawn(Threaded)
    log: list[int] = []
    for n in range(50):
        ref.cast(Tell(lambda actor, n=n: log.append(n)))
    await ref.call(Do(lambda actor: None))
    assert log == list(range(50))


async def test_who_it_is_is_known_in_the_thread(runtime: Runtime) -> None:
    ref = await runtime.spawn(Threaded)
    assert await ref.call(Do(lambda actor: current_actor())) is ref


async def test_refusals_crashes_stops_and_late_answers_are_as_ever(runtime: Runtime) -> None:
    def refuse(actor: Any) -> None:
        raise Refuse(KeyError("no"))

    ref = await runtime.spawn(Threaded)
    with pytest.raises(KeyError):
        await ref.call(Do(refuse))
    tokens: list[Any] = []
    later = ref.call(Do(lambda actor: tokens.append(actor.defer_reply())))
    await ref.call(Do(lambda actor: None))
    tokens[0].reply("late")
    assert await later == "late"
    assert await ref.call(Do(lambda actor: actor.stop("enough") or "bye")) == "bye"
    assert await ref.join() == Abnormal("enough")
    crashing = await runtime.spawn(Threaded)
    with pytest.raises(ActorExited, match="ZeroDivisionError"):
        await crashing.call(Do(lambda actor: 1 / 0))
    assert isinstance(crashing.reason, Crashed)


async def test_a_thread_casts_and_calls_through_the_loop(runtime: Runtime) -> None:
    log: list[Any] = []
    other = await runtime.spawn(Probe, log)
    ref, server = await runtime.spawn(Threaded), await runtime.spawn(Threaded)

    def work(actor: Any) -> Any:
        run_in_loop(other.cast, Note("from a thread"))
        with pytest.raises(KeyError):
            run_in_loop({}.__getitem__, "missing")
        return run_in_loop(server.call, Do(lambda actor: "asked"), timeout=None)

    assert await ref.call(Do(work)) == "asked"
    await barrier(other)
    assert log == ["from a thread"]
    with pytest.raises(NotRunning, match="isolation = 'thread'"):
        run_in_loop(other.cast, Note("from the loop"))


async def test_the_thread_of_a_dead_actor_has_no_effect_through_the_loop(runtime: Runtime) -> None:
    log: list[Any] = []
    refused: list[BaseException] = []
    gate, in_hand, over = threading.Event(), asyncio.Event(), asyncio.Event()
    other = await runtime.spawn(Probe, log)
    ref = await runtime.spawn(Threaded)
    loop = asyncio.get_running_loop()

    def work(actor: Any) -> None:
        loop.call_soon_threadsafe(in_hand.set)
        gate.wait()
        for what in (lambda: other.cast(Note("from the dead")), lambda: other.call(DoAndReply(nothing))):
            try:
                run_in_loop(what)
            except Fenced as error:
                refused.append(error)
        loop.call_soon_threadsafe(over.set)

    ref.cast(Tell(work))
    await in_hand.wait()
    ref.kill()
    gate.set()
    await over.wait()
    await barrier(other)
    assert log == []
    assert len(refused) == 2


async def test_a_killed_actor_leaves_its_thread_behind_counted_and_in_nobodys_place(runtime: Runtime) -> None:
    async with Runtime(threads=1, watchdog=None, reports=False) as small:
        gate, in_hand = threading.Event(), asyncio.Event()
        ref = await small.spawn(Threaded)
        loop = asyncio.get_running_loop()

        def block(actor: Any) -> None:
            loop.call_soon_threadsafe(in_hand.set)
            gate.wait()
            over.set()

        over = threading.Event()
        call = ref.call(Do(block), timeout=None)
        await in_hand.wait()
        ref.kill()
        with pytest.raises(ActorExited):
            await call
        assert ref.reason == KILLED
        await settled(small)
        assert small.statistics().leaked_threads == 1
        other = await small.spawn(Threaded)
        assert await other.call(Do(lambda actor: "there is room")) == "there is room"
        gate.set()
        await loop.run_in_executor(None, over.wait)
        await until(lambda: small.statistics().leaked_threads == 0)
        assert small.zombies() == []


async def until(true: Any) -> None:
    """Let the loop run until something is true."""
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()

    def look() -> None:
        if true():
            ready.set()
        else:
            loop.call_later(0.001, look)

    look()
    await ready.wait()


async def test_one_that_is_killed_before_its_turn_in_a_thread_leaves_none_behind(runtime: Runtime) -> None:
    async with Runtime(threads=1, watchdog=None, reports=False) as small:
        gate = threading.Event()
        first, second = await small.spawn(Threaded), await small.spawn(Threaded)
        call = first.call(Do(lambda actor: gate.wait()), timeout=None)
        waiting = second.call(Do(lambda actor: None), timeout=None)
        await settled(small)
        second.kill()
        with pytest.raises(ActorExited):
            await waiting
        assert small.statistics().leaked_threads == 0
        gate.set()
        assert await call


async def test_a_specification_can_put_an_ordinary_class_into_threads(runtime: Runtime) -> None:
    specs = [
        ChildSpec("t", Ordinary, name="t", isolation="thread"),
        ChildSpec("n", Threaded, name="n", isolation="none"),
    ]
    await runtime.spawn(Supervisor, specs)
    assert await runtime.name("t").call(Do(lambda actor: threading.get_ident())) != threading.get_ident()
    assert await runtime.name("n").call(Do(lambda actor: threading.get_ident())) == threading.get_ident()
    assert str(runtime.whereis("t")).startswith("<Ordinary ")


@pytest.mark.parametrize("threads", [0, True, 1.5])
async def test_there_is_at_least_one_thread(threads: Any) -> None:
    with pytest.raises(BadOption, match="from 1"):
        Runtime(threads=threads)


@pytest.mark.asyncio(loop_factories=["virtual"])
async def test_time_that_stands_still_says_for_whom(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_loop, "PATIENCE", 0.01)
    ref = await runtime.spawn(Threaded, name="busy")
    gate = threading.Event()
    loop = asyncio.get_running_loop()
    assert isinstance(loop, virtual_loop.VirtualClockLoop)
    call = ref.call(Do(lambda actor: gate.wait()), timeout=None)
    ours, theirs = socket.socketpair()
    with ours, theirs, capture_logs() as entries:
        ours.setblocking(False)
        reading = asyncio.ensure_future(loop.sock_recv(ours, 1))
        await settled(runtime)
        assert {"a thread of /busy", f"file {ours.fileno()} of no actor"} <= set(loop.held_up_by())
        threading.Timer(0.05, theirs.send, (b"x",)).start()
        assert await reading == b"x"
        gate.set()
        assert await call
    while loop.held_up_by():  # a thread that has told its result may be there for a moment
        await settled(runtime)
    held = [entry["held_up_by"] for entry in entries if entry["event"] == "virtual_time_stands_still"]
    assert "a thread of /busy" in held[0]
