"""A test never hangs: barriers have limits, a standstill is an error, and both say who waits for what."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from contextlib import suppress
from typing import Any

import pytest
from structlog.testing import capture_logs

from supervision import (
    Actor,
    BadTime,
    CallError,
    ChildSpec,
    Message,
    Request,
    Runtime,
    Supervisor,
    handle,
    system,
)
from supervision.testing import (
    ChaosPlan,
    LoopRunning,
    NotSettled,
    Standstill,
    VirtualClockLoop,
    advance,
    barrier,
    explore,
    run,
    settled,
    survives,
)
from supervision.testing.virtual_time._waiting import MOST, busy

#: Not the function of the same name.
MODULE = sys.modules["supervision.testing.barrier"]
YEAR = 365 * 86400.0


class Wait(Request[None], frozen=True):
    """A request whose handler waits: so many seconds, or for ever."""

    seconds: float | None = None


class Owe(Request[None], frozen=True):
    """A request whose answer is put off, and never given."""


class Ask(Message, frozen=True):
    """An order to ask another actor."""

    whom: Any


class Again(Message, frozen=True):
    """A note to itself."""


class Waiter(Actor):
    """Waits."""

    @handle
    async def wait(self, request: Wait) -> None:
        """Wait."""
        if request.seconds is None:
            await asyncio.Event().wait()
        else:
            await self.runtime.sleep(request.seconds)

    @handle
    def owe(self, request: Owe) -> None:
        """Put the answer off."""
        self.defer_reply()

    @handle
    async def ask(self, message: Ask) -> None:
        """Ask somebody who never answers."""
        await message.whom.call(Wait(), timeout=None)

    @handle
    def again(self, message: Again) -> None:
        """Go on for ever."""
        self.continue_with(message)


class Hung(Actor):
    """Never starts."""

    async def init(self) -> None:
        """Wait for ever."""
        await asyncio.Event().wait()


class Broken(Actor):
    """Starts once, and never again."""

    started = False

    def init(self) -> None:
        """Fail, but for the first time."""
        if self.runtime.shared.setdefault("broken", False):
            raise ValueError
        self.runtime.shared["broken"] = True


# -- barriers ----------------------------------------------------------------------------------------------------------


async def test_a_barrier_for_what_can_never_come_names_the_actor_at_once(runtime: Runtime) -> None:
    ref = await runtime.spawn(Waiter, name="waiter")
    ref.cast(Wait())
    with pytest.raises(NotSettled, match=r"cannot come any more; /waiter: handles a message, waits at .* in wait"):
        await barrier(ref)
    assert asyncio.get_running_loop().time() < 1


async def test_virtual_time_that_passes_does_not_count(runtime: Runtime) -> None:
    ref = await runtime.spawn(Waiter)
    for _ in range(10):
        ref.cast(Wait(YEAR))
    await barrier(ref, timeout=1.0)
    assert asyncio.get_running_loop().time() >= 10 * YEAR


def test_virtual_time_passes_for_a_hundred_years() -> None:
    """Numbers that are so large are further apart than a loop takes for nothing."""

    async def main() -> float:
        for _ in range(10):
            await advance(0.3)
            await advance(10 * YEAR)
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(100 * YEAR, abs=100)


async def test_what_never_comes_to_rest_ends_within_the_limit_and_is_named(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "PATIENCE", 0.01)
    await runtime.spawn(Supervisor, [ChildSpec("x", Broken)], max_restarts=10**9, name="top")
    child = runtime.find("/top/x")
    assert child is not None
    child.kill()
    with capture_logs() as told, pytest.raises(NotSettled, match=r"within 0.05 real.*/top.*actors were started"):
        await settled(runtime, timeout=0.05)
    assert [line["event"] for line in told] == ["still_waiting_to_settle"]
    top = runtime.whereis("top")
    assert top is not None
    top.kill()
    await settled(runtime, timeout=None)


async def test_a_long_turn_such_as_that_of_a_debugger_counts_little(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def later() -> float:
        now[0] += 1000
        return now[0]

    monkeypatch.setattr(MODULE, "monotonic", later)
    ref = await runtime.spawn(Waiter)
    ref.cast(Wait(5))
    await barrier(ref, timeout=1.0)


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_barriers_have_limits_on_a_real_loop_too() -> None:
    async with Runtime(watchdog=None, reports=False) as runtime:
        ref = await runtime.spawn(Waiter)
        ref.cast(Wait())
        with pytest.raises(NotSettled, match=r"real seconds; /Waiter-1: handles a message, waits at"):
            await settled(runtime, ref, timeout=0.02)
        ref.kill()


async def test_a_limit_must_be_a_length_of_time(runtime: Runtime) -> None:
    with pytest.raises(BadTime):
        await settled(runtime, timeout=float("nan"))


# -- standstill --------------------------------------------------------------------------------------------------------


def stuck(kind: type[Actor], request: Any, *, watchdog: float | None = None) -> str:
    """Let a request be waited for that nobody answers; return what is said of it."""

    async def main() -> None:
        async with Runtime(watchdog=watchdog, reports=False) as runtime:
            ref = await runtime.spawn(kind, name="actor")
            await ref.call(request, timeout=None)

    with pytest.raises(Standstill) as caught:
        run(main())
    return str(caught.value)


@pytest.mark.parametrize("watchdog", [None, 0.5])
def test_a_call_that_is_never_answered_is_an_error_that_names_both_ends(watchdog: float | None) -> None:
    text = stuck(Waiter, Wait(), watchdog=watchdog)
    assert "/actor: answers Wait(seconds=None), waits at test_settling.py:" in text
    assert "in main, for the answer of /actor to Wait(seconds=None)" in text


def test_who_owes_an_answer_is_named() -> None:
    assert "/actor: owes 1 answers" in stuck(Waiter, Owe())


def test_who_starts_who_asks_who_is_held_and_who_has_messages_is_named() -> None:
    async def main() -> None:
        async with Runtime(watchdog=None, reports=False) as runtime:
            runtime.spawn_nowait(Hung, name="hung")
            held = await runtime.spawn(Waiter, name="held")
            await system.suspend(held)
            held.cast(Again())
            asked = await runtime.spawn(Waiter, name="asked")
            asking = await runtime.spawn(Waiter, name="asking")
            asking.cast(Ask(asked))
            await runtime.spawn(Waiter, name="idle")
            await asyncio.Event().wait()

    with pytest.raises(Standstill) as caught:
        run(main())
    lines = dict(line.split(": ", 1) for line in caught.value.waits)
    assert lines["/hung"].startswith("starts, waits at test_settling.py")
    assert lines["/held"] == "is suspended, 1 messages wait"
    assert lines["/asked"].startswith("answers Wait(seconds=None), waits at")
    assert lines["/asking"].endswith("in ask, for the answer of /asked to Wait(seconds=None)")
    assert "/idle" not in lines
    assert any(name.startswith("task") for name in lines)


def test_of_many_that_wait_the_first_are_named() -> None:
    async def main() -> None:
        await asyncio.gather(*(asyncio.Event().wait() for _ in range(50)))

    with pytest.raises(Standstill) as caught:
        run(main())
    assert len(caught.value.waits) == MOST + 1
    assert caught.value.waits[-1] == "and 41 more"


def test_what_waits_in_the_end_after_a_standstill_is_an_error_as_well() -> None:
    async def main() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()

    with pytest.raises(Standstill):
        run(main())


def test_a_thread_that_will_tell_is_waited_for_and_one_that_waits_is_not() -> None:
    async def told() -> bool:
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        timer = threading.Timer(0.05, loop.call_soon_threadsafe, (event.set,))
        timer.start()
        return await event.wait()

    assert run(told())
    over = threading.Event()

    async def not_told() -> None:
        threading.Thread(target=over.wait).start()
        await asyncio.Event().wait()

    with pytest.raises(Standstill):
        run(not_told())
    over.set()


def test_where_somebody_could_connect_a_long_silence_is_a_standstill(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = await asyncio.start_server(lambda reader, writer: writer.close(), sock=listening)
            async with server:
                await asyncio.Event().wait()

    monkeypatch.setattr("supervision.testing.virtual_time.virtual_loop.SILENCE", 0.05)
    with pytest.raises(Standstill):
        run(main())


def test_a_loop_in_another_thread_waits_for_who_made_that_thread() -> None:
    loops: list[VirtualClockLoop] = []
    ready = threading.Event()

    async def main() -> int:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        done: asyncio.Future[int] = loop.create_future()
        loop.call_soon(loops.append, loop)
        loop.call_soon(ready.set)
        loop.call_soon(setattr, loop, "done", done)
        return await done

    def in_thread() -> None:
        with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
            results.append(runner.run(main()))

    results: list[int] = []
    thread = threading.Thread(target=in_thread)
    thread.start()
    ready.wait()
    assert not loops[0].is_stuck(1000.0)
    loop: Any = loops[0]
    loop.call_soon_threadsafe(lambda: loop.done.set_result(7))
    thread.join()
    assert results == [7]


# -- a loop that runs already ------------------------------------------------------------------------------------------


async def test_what_makes_loops_of_its_own_says_so_where_one_runs(runtime: Runtime) -> None:
    async def nothing(*_: Any) -> None:
        """Do nothing."""

    with pytest.raises(LoopRunning, match=r"await asyncio.to_thread\(survives, ...\)"):
        survives(nothing, nothing)
    with pytest.raises(LoopRunning, match="call it from a plain function"):
        explore(nothing)
    with pytest.raises(LoopRunning, match="run makes event loops of its own"):
        run(advance(1))


async def test_in_a_thread_it_works_where_a_loop_runs() -> None:
    async def start(runtime: Runtime) -> None:
        await runtime.spawn(Supervisor, [ChildSpec("a", Actor)], name="app")

    async def use(runtime: Runtime, chaos: Any) -> None:
        with pytest.raises(CallError):
            await runtime.name("nobody").call(Wait())

    reports = await asyncio.to_thread(survives, start, use, seeds=[1, 2], plan=ChaosPlan())
    assert len(reports) == 2


async def test_who_runs_at_this_moment_is_named(runtime: Runtime) -> None:
    class Looking(Waiter):
        @handle
        def again(self, message: Again) -> None:
            self.runtime.shared["seen"] = list(busy(self.runtime))

    ref = await runtime.spawn(Looking, name="looking")
    ref.cast(Again())
    await settled(runtime)
    assert runtime.shared["seen"] == ["/looking: runs"]


def test_a_task_that_does_not_end_is_left_behind_and_told_of() -> None:
    async def stubborn() -> None:
        while True:
            with suppress(asyncio.CancelledError):
                await advance(1.0)

    async def main() -> asyncio.Task[None]:
        task = asyncio.ensure_future(stubborn())
        await advance(1.0)
        return task

    with capture_logs() as told:
        task = run(main())
    assert [line["event"] for line in told] == ["task_does_not_end"]
    with pytest.raises(LookupError):
        task.get_coro().throw(LookupError())  # type: ignore[union-attr]
    task._log_destroy_pending = False  # type: ignore[attr-defined]
