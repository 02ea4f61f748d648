"""Scenarios of the reference, sections 4.11 and 4.16 (S254): calls, casts, continuations and the idle time-out."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from supervision import (
    NORMAL,
    SHUTDOWN,
    Abnormal,
    Actor,
    ActorExited,
    CallTimeout,
    ExitReason,
    Message,
    NoProcess,
    Request,
    Runtime,
    UnhandledMessage,
    handle,
)
from supervision import events as ev
from supervision.reasons import BadReturnValue
from supervision.testing import barrier, settled
from tests.supervision.probes import (
    Deaf,
    Do,
    DoAndReply,
    Note,
    Probe,
    Recorder,
    Tidy,
    Unknown,
    do,
    error_of,
    nothing,
    time_of,
)


def set_idle(after: float | None) -> Any:
    """Return a function that sets the idle time-out."""
    return lambda actor: actor.idle_timeout(after)


async def test_S172_idle_time_out_window(runtime: Runtime) -> None:
    """A call within the idle time-out finds the actor waiting; one after it finds that the time-out has come."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log)
    await do(ref, set_idle(2.0))
    await runtime.sleep(1.0)
    assert await do(ref, lambda actor: list(actor.log)) == []
    await do(ref, set_idle(2.0))
    await runtime.sleep(3.0)
    assert await do(ref, lambda actor: list(actor.log)) == ["idle"]


async def test_S174_a_late_reply_vanishes(runtime: Runtime) -> None:
    """After a call timed out its answer reaches nobody, and the next call gets its own answer."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe)
    client = await runtime.spawn(Probe, log, trap_exit=True)

    async def slow(actor: Probe) -> str:
        await actor.runtime.sleep(2.0)
        return "late"

    async def ask(actor: Probe) -> str:
        error = await error_of(ref.call(DoAndReply(slow), timeout=1.0))
        assert isinstance(error, CallTimeout)
        assert error.seconds == 1.0
        await actor.runtime.sleep(10.0)
        return await do(ref, lambda other: "own")

    assert await do(client, ask) == "own"
    assert log == []
    assert runtime.statistics().dead_letters == {"late_reply": 1}


class Junk(Tidy):
    """Returns something where nothing is due."""

    @handle
    async def unknown(self, message: Unknown) -> str:
        """Return junk, async."""
        return "junk"

    @handle
    def note(self, message: Note) -> Any:
        """Return junk."""
        return "junk"


@pytest.mark.parametrize("message", [Note("x"), Unknown()], ids=["plain", "async"])
async def test_S175_a_bad_return_value_ends_the_actor(runtime: Runtime, message: Message) -> None:
    """A value where none is due ends the actor: `terminate`, callers and links see `BadReturnValue`."""
    log: list[Any] = []
    linked: list[Any] = []
    neighbour = await runtime.spawn(Probe, linked, trap_exit=True)
    ref = await do(neighbour, lambda actor: actor.spawn_link(Junk, log))
    ref.cast(message)
    error = await error_of(do(ref, lambda actor: 1))
    assert isinstance(error, ActorExited)
    assert error.reason == BadReturnValue("junk")
    await barrier(neighbour)
    assert log == [("terminate", BadReturnValue("junk"))]
    assert linked == [("exit", ref, BadReturnValue("junk"))]


async def test_S175_a_deferred_reply_and_a_value_are_one_answer_too_many(runtime: Runtime) -> None:
    """A handler that defers its answer and returns one all the same ends its actor."""

    def both(actor: Probe) -> str:
        actor.defer_reply()
        return "junk"

    ref = await runtime.spawn(Probe)
    error = await error_of(do(ref, both))
    assert isinstance(error, ActorExited)
    assert error.reason == BadReturnValue("junk")


async def test_S177_calls_to_nobody_say_so(runtime: Runtime) -> None:
    """A call of an ended actor or of a free name fails at once with `NoProcess`, which tells target and request."""
    ref = await runtime.spawn(Probe)
    await ref.stop()
    request = DoAndReply(str)
    for target in (ref, runtime.name("nobody")):
        for timeout in (5.0, None):
            error = await error_of(target.call(request, timeout=timeout))
            assert isinstance(error, NoProcess)
            assert error.target is target
            assert error.request is request
            assert "DoAndReply" in str(error)
    assert asyncio.get_running_loop().time() == 0.0


async def test_S179_the_reply_of_a_stop_comes_after_terminate(runtime: Runtime) -> None:
    """A handler that stops its actor and returns an answer: `terminate` runs first, then the caller gets it."""
    log: list[Any] = []

    class Slow(Probe):
        async def terminate(self, reason: ExitReason) -> None:
            await self.runtime.sleep(2.0)
            self.log.append(("terminate", reason))

    def bye(actor: Slow) -> str:
        actor.stop()
        return "bye"

    ref = await runtime.spawn(Slow, log)

    async def ask() -> None:
        log.append(await do(ref, bye))

    assert await time_of(ask()) == pytest.approx(2.0)
    assert log == [("terminate", NORMAL), "bye"]
    assert ref.reason == NORMAL


async def test_S180_a_stop_without_reply(runtime: Runtime) -> None:
    """A handler that stops without an answer: `terminate` runs, the caller gets the reason, and finds the actor
    dead."""
    log: list[Any] = []
    ref = await runtime.spawn(Tidy, log)
    seen: list[Any] = []

    def end(actor: Probe) -> None:
        actor.defer_reply()
        actor.stop("r")

    call = ref.call(DoAndReply(end))
    call.add_done_callback(lambda done: seen.append((ref.alive, ref.reason, type(done.exception()))))
    error = await error_of(call)
    assert isinstance(error, ActorExited)
    assert error.reason == Abnormal("r")
    assert error.request is call.message
    assert log == [("terminate", Abnormal("r"))]
    await settled(runtime)
    assert seen == [(False, Abnormal("r"), ActorExited)]


async def test_S182_a_cast_to_nowhere_is_fine(runtime: Runtime, events: Recorder) -> None:
    """A cast to an ended actor or to a free name does nothing at the sender; it is counted as a dead letter."""
    ref = await runtime.spawn(Probe)
    ref.kill()
    ref.cast(Note("x"))
    runtime.name("nobody").cast(Note("x"))
    assert runtime.statistics().dead_letters == {"noproc": 1, "noname": 1}
    (dropped,) = events.of(ev.MessageDropped)
    assert (dropped.ref, dropped.message, dropped.why) == (ref, "Note(text='x')", "noproc")


async def test_S184_messages_of_unknown_shape(runtime: Runtime, events: Recorder) -> None:
    """Messages without a handler are reported and ignored; the actor goes on. A request without one is refused."""
    ref = await runtime.spawn(Deaf)
    for garbage in (Unknown(), "raw", 17):
        ref.cast(garbage)
    assert await do(ref, lambda actor: "answer") == "answer"
    assert [event.message for event in events.of(ev.Unhandled)] == ["Unknown()", "'raw'", "17"]

    class Question(Request[int]):
        pass

    with pytest.raises(UnhandledMessage, match=r"no handler for .*Question"):
        await ref.call(Question())
    assert ref.alive


async def test_S185_what_init_continues_with_comes_first(runtime: Runtime) -> None:
    """What `init` continues with is handled before a message that was sent earlier, and after the starter is
    released."""
    log: list[Any] = []

    class Early(Probe):
        def init(self) -> None:
            self.ref.cast(Note("early"))
            self.continue_with(Note("first"))

    ref = await runtime.spawn(Early, log)
    assert log == []
    await barrier(ref)
    assert log == ["first", "early"]


async def test_S185_what_an_async_init_continues_with_comes_first(runtime: Runtime) -> None:
    """The same for an `init` that waits; several continuations keep their order."""
    log: list[Any] = []

    class Early(Probe):
        async def init(self) -> None:
            self.ref.cast(Note("early"))
            self.continue_with(Note("first"))
            await self.runtime.sleep(1.0)
            self.continue_with(Note("second"))

    ref = await runtime.spawn(Early, log)
    await barrier(ref)
    assert log == ["first", "second", "early"]


@pytest.mark.parametrize("slow", [False, True], ids=["plain", "async"])
async def test_S185_what_a_handler_continues_with_comes_next(runtime: Runtime, slow: bool) -> None:
    """What a handler continues with is handled before everything that waits, and may continue itself."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log)

    def first(actor: Probe) -> None:
        actor.ref.cast(Note("m1"))
        actor.continue_with(Do(second))
        actor.continue_with(Note("after"))

    def second(actor: Probe) -> None:
        actor.log.append("second")
        actor.continue_with(Note("third"))

    async def slowly(actor: Probe) -> None:
        first(actor)
        await actor.runtime.sleep(1.0)

    ref.cast(Do(slowly if slow else first))
    ref.cast(Note("m2"))
    await runtime.sleep(2.0)
    await barrier(ref)
    assert log == ["second", "after", "third", "m2", "m1"]


async def test_S187_any_message_cancels_the_idle_time_out(runtime: Runtime) -> None:
    """A message within the idle time-out cancels it for good, also when the time-out was set by a continuation."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log)
    for setting in (set_idle(8.0), lambda actor: actor.continue_with(Do(set_idle(8.0)))):
        await do(ref, setting)
        await runtime.sleep(4.0)
        ref.cast(Note("m"))
        await runtime.sleep(20.0)
        assert log == ["m"]
        log.clear()


async def test_S187_the_idle_time_out_comes_once(runtime: Runtime) -> None:
    """An idle time-out that comes is not set again by itself; a new one replaces the old, and None removes it."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log)
    await do(ref, set_idle(8.0))
    await runtime.sleep(100.0)
    assert log == ["idle"]
    await do(ref, lambda actor: nothing(actor.idle_timeout(1.0), actor.idle_timeout(5.0)))
    await runtime.sleep(4.0)
    assert log == ["idle"]
    await runtime.sleep(2.0)
    assert log == ["idle", "idle"]
    await do(ref, lambda actor: nothing(actor.idle_timeout(1.0), actor.idle_timeout(None)))
    await runtime.sleep(10.0)
    assert log == ["idle", "idle"]
    assert runtime.statistics().timers == 0


async def test_S187_the_idle_time_out_runs_from_the_end_of_the_handler(runtime: Runtime) -> None:
    """A handler that sets the time-out and then waits longer than it: the time-out comes after the handler, not
    never."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log)

    async def slow(actor: Probe) -> None:
        actor.idle_timeout(1.0)
        await actor.runtime.sleep(3.0)

    ref.cast(Do(slow))
    await runtime.sleep(3.9)
    assert log == []
    await runtime.sleep(0.2)
    assert log == ["idle"]


async def test_S189_a_zero_time_out_comes_before_what_waits(runtime: Runtime) -> None:
    """An idle time-out of zero comes right after its handler, before a message that waits already (the newest OTP)."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log)

    def zero(actor: Probe) -> None:
        actor.ref.cast(Note("own"))
        actor.idle_timeout(0)

    ref.cast(Do(zero))
    ref.cast(Note("waiting"))
    await barrier(ref)
    assert log == ["idle", "waiting", "own"]


async def test_S189_a_zero_time_out_can_be_taken_back(runtime: Runtime) -> None:
    """None removes a zero time-out as well, and a longer one replaces it."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log)
    await do(ref, lambda actor: nothing(actor.idle_timeout(0), actor.idle_timeout(None)))
    await barrier(ref)
    assert log == []
    await do(ref, lambda actor: nothing(actor.idle_timeout(0), actor.idle_timeout(1.0)))
    await barrier(ref)
    assert log == []
    await runtime.sleep(2.0)
    assert log == ["idle"]


async def test_S192_a_call_is_a_future_that_can_be_waited_for_again(runtime: Runtime) -> None:
    """Waiting for a call with a limit of zero leaves it alone; waiting again gets the answer."""
    ref = await runtime.spawn(Probe)

    async def slow(actor: Probe) -> str:
        await actor.runtime.sleep(1.0)
        return "answer"

    call = ref.call(DoAndReply(slow))
    done, waiting = await asyncio.wait([call], timeout=0)
    assert (done, waiting) == (set(), {call})
    done, waiting = await asyncio.wait([call])
    assert done == {call}
    assert call.result() == "answer"


async def test_S192_errors_of_a_call_that_is_waited_for_later(runtime: Runtime) -> None:
    """A call of an actor that is shut down, and one of a free name, fail when they are waited for."""
    ref = await runtime.spawn(Probe)
    call = ref.call(DoAndReply(lambda actor: actor.runtime.sleep(9.0)))
    other = runtime.name("nobody").call(DoAndReply(str))
    await settled(runtime)
    ref.exit(SHUTDOWN)
    await runtime.sleep(1.0)
    error = await error_of(call)
    assert isinstance(error, ActorExited)
    assert error.reason == SHUTDOWN
    assert isinstance(await error_of(other), NoProcess)


async def test_S194_order_of_one_sender(runtime: Runtime) -> None:
    """Casts, calls and sends of one client are handled in the order they were sent."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log)
    ref.cast(Note("m1"))
    call = ref.call(DoAndReply(lambda actor: actor.log.append("m2")))
    await ref.send(Note("m3"))
    await call
    await barrier(ref)
    assert log == ["m1", "m2", "m3"]


async def test_S194_a_call_sees_all_casts_before_it(runtime: Runtime) -> None:
    """After a thousand casts a call of the same client finds all of them handled."""
    ref = await runtime.spawn(Probe)
    for number in range(1000):
        ref.cast(Note(number))
    assert await do(ref, lambda actor: list(actor.log)) == list(range(1000))


async def test_S195_a_long_mailbox_does_not_slow_down_calls(runtime: Runtime) -> None:
    """Calls of an actor with 100 000 messages in its own mailbox take no more steps than with an empty one."""
    ref = await runtime.spawn(Probe)
    client = await runtime.spawn(Probe)

    async def ask_often(actor: Probe) -> int:
        steps = 0

        def step(*_: Any) -> None:
            nonlocal steps
            steps += 1

        before = sys.getprofile()
        sys.setprofile(step)
        try:
            for _ in range(300):
                await do(ref, lambda other: 1)
        finally:
            sys.setprofile(before)
        return steps

    await do(client, ask_often)
    empty = await do(client, ask_often)
    call = client.call(DoAndReply(ask_often), timeout=None)
    for _ in range(100_000):
        client.cast(Unknown())
    full = await call
    assert full < 1.1 * empty


async def test_S197_many_calls_with_one_limit(runtime: Runtime) -> None:
    """Calls of a quick actor, a missing one and a slow one with one limit: one answer, two errors, nothing comes
    later."""
    log: list[Any] = []
    client = await runtime.spawn(Probe, log, trap_exit=True)
    await runtime.spawn(Probe, name="quick")
    await runtime.spawn(Probe, name="slow")

    async def answer(actor: Probe) -> str:
        await actor.runtime.sleep(10.0 if runtime.whereis("slow") is actor.ref else 0.0)
        return "here"

    async def ask_all(actor: Probe) -> list[Any]:
        calls = [runtime.name(name).call(DoAndReply(answer), timeout=4.0) for name in ("quick", "missing", "slow")]
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second, third = await do(client, ask_all)
    assert first == "here"
    assert isinstance(second, NoProcess)
    assert isinstance(third, CallTimeout)
    await runtime.sleep(10.0)
    assert log == []


async def test_S254_a_missing_name_raises_at_a_sender_who_waits(runtime: Runtime) -> None:
    """`send` to a name that nobody holds raises; `send` to an ended actor is a dead letter."""
    ref = await runtime.spawn(Probe)
    ref.kill()
    await ref.send(Note("x"))
    with pytest.raises(NoProcess, match="nobody holds this name"):
        await runtime.name("nobody").send(Note("x"))
    assert runtime.statistics().dead_letters == {"noproc": 1}


class Quiet(Actor):
    """An actor without anything."""


async def test_S182_unknown_requests_sent_as_casts(runtime: Runtime, events: Recorder) -> None:
    """A request that is cast has nobody to answer to: its handler's value vanishes, and the actor lives on."""
    ref = await runtime.spawn(Probe)
    ref.cast(DoAndReply(lambda actor: "nobody wants this"))
    quiet = await runtime.spawn(Quiet)
    quiet.cast(DoAndReply(str))
    await settled(runtime, ref, quiet)
    assert ref.alive
    assert quiet.alive
    assert len(events.of(ev.Unhandled)) == 1
