"""Looking into actors and holding them: scenarios S199 to S205 of the reference, and more of the same kind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from supervision import (
    SHUTDOWN,
    Actor,
    ActorExited,
    BadOption,
    CallTimeout,
    Crashed,
    Mailbox,
    MailboxFull,
    Message,
    Ref,
    Refuse,
    ReplyTo,
    Request,
    Runtime,
    Supervisor,
    handle,
    system,
)
from supervision.errors import CallbackFailed
from supervision.events import CrashReport, MessageDropped
from supervision.system import DONE, Failed, Handled, Received, Replied, SystemEvent
from supervision.testing import advance, barrier, settled
from tests.supervision.probes import Do, DoAndReply, Note, Probe, Recorder, rec


class Add(Message, frozen=True):
    """A number to add."""

    n: int


class Total(Request[int], frozen=True):
    """The sum so far."""


class Later(Request[str], frozen=True):
    """A request that is answered by and by."""


class Slow(Request[str], frozen=True):
    """A request whose handler waits a second."""


class Broken(Request[str], frozen=True):
    """A request whose handler raises ``error``, after a while if it is ``slow``."""

    error: Exception
    slow: bool = False


class Counter(Actor):
    """Adds numbers."""

    def __init__(self) -> None:
        self.total = 0
        self.waiting: list[ReplyTo[str]] = []

    @handle
    def add(self, message: Add) -> None:
        """Add one."""
        self.total += message.n

    @handle
    def get(self, request: Total) -> int:
        """Say the sum."""
        return self.total

    @handle
    def later(self, request: Later) -> None:
        """Answer when somebody says so."""
        self.waiting.append(self.defer_reply())

    @handle
    async def slow(self, request: Slow) -> str:
        """Answer in a second."""
        await self.runtime.sleep(1)
        return "slow"

    @handle
    async def broken(self, request: Broken) -> str:
        """Raise."""
        if request.slow:
            await self.runtime.sleep(1)
        raise request.error

    @handle
    def do(self, message: Do) -> None:
        """Do it."""
        message.what(self)


class Slotted(Actor):
    """An actor without a dictionary for its own attributes."""

    __slots__ = ("first", "never", "second")

    def __init__(self) -> None:
        self.first = 1
        self.second = 2


class Small(Counter):
    """A counter with room for one message."""

    mailbox = Mailbox(capacity=1, overflow="refuse")


class Secret(Counter):
    """A counter that tells nobody."""

    def format_status(self) -> Any:
        """Hide it."""
        return "hidden"


class Shy(Counter):
    """A counter that cannot say how it is."""

    def format_status(self) -> Any:
        """Fail."""
        raise LookupError("no words")


async def test_S199_state_can_be_read_by_ref_and_by_name_also_while_suspended(runtime: Runtime) -> None:
    counter = await runtime.spawn(Counter, name="counter")
    counter.cast(Add(2))
    assert await system.get_state(counter) == {"total": 2, "waiting": []}
    await system.suspend(counter)
    counter.cast(Add(40))
    assert (await system.get_state(runtime.name("counter")))["total"] == 2


async def test_attributes_in_slots_are_state_too(runtime: Runtime) -> None:
    ref = await runtime.spawn(Slotted)
    assert await system.get_state(ref) == {"first": 1, "second": 2}


@pytest.mark.parametrize("suspended", [False, True])
async def test_S200_state_can_be_replaced(runtime: Runtime, suspended: bool) -> None:
    counter = await runtime.spawn(Counter)
    if suspended:
        await system.suspend(counter)
    assert await system.replace_state(counter, lambda state: {**state, "total": 7, "more": 1}) == {
        "total": 7,
        "waiting": [],
        "more": 1,
    }
    await system.replace_state(counter, lambda state: {"total": state["total"] + 1, "waiting": []})
    await system.resume(counter)
    assert await counter.call(Total()) == 8
    assert await system.get_state(counter) == {"total": 8, "waiting": []}


@pytest.mark.parametrize("bad", [lambda state: 1 / 0, lambda state: 5, lambda state: state.clear() or 1 / 0])
async def test_S200_a_function_that_fails_leaves_the_state_as_it_was(runtime: Runtime, bad: Any) -> None:
    counter = await runtime.spawn(Counter)
    counter.cast(Add(3))
    with pytest.raises(CallbackFailed, match=r"ZeroDivisionError: division by zero|TypeError"):
        await system.replace_state(counter, bad)
    assert await counter.call(Total()) == 3


@pytest.mark.parametrize("size", [None, 5])
async def test_S202_a_suspended_actor_ends_when_its_parent_says_so(
    runtime: Runtime, events: Recorder, size: int | None
) -> None:
    class Trapper(Probe):
        mailbox = Mailbox(capacity=size)

        def terminate(self, reason: Any) -> None:
            self.log.append(("terminate", reason))

    log: list[Any] = []

    class Parent(Actor):
        async def init(self) -> None:
            self.child = await self.spawn_link(Trapper, log, True)

        @handle
        def ask(self, request: DoAndReply) -> Any:
            return request.what(self)

    parent = await runtime.spawn(Parent)
    child = await parent.call(DoAndReply(lambda parent: parent.child))
    await system.suspend(child)
    child.cast(Note("first"))
    child.cast(Note("second"))
    await parent.call(DoAndReply(lambda parent: parent.child.exit(SHUTDOWN)))
    assert await child.join() == SHUTDOWN
    assert log == [("terminate", SHUTDOWN)]
    assert [event.why for event in events.of(MessageDropped)] == ["died", "died"]


async def test_a_suspended_actor_can_be_stopped_and_killed_and_takes_its_requests_along(runtime: Runtime) -> None:
    ends: list[Callable[[Ref], Any]] = [
        lambda ref: asyncio.ensure_future(ref.stop()),
        lambda ref: ref.kill(),
        lambda ref: ref.exit("x"),
    ]
    for end in ends:
        counter = await runtime.spawn(Counter)
        await system.suspend(counter)
        call = counter.call(Total())
        await settled(runtime)
        end(counter)
        with pytest.raises(ActorExited):
            await call


async def test_a_suspended_actor_that_is_killed_with_a_system_request_in_hand_fails_it(runtime: Runtime) -> None:
    counter = await runtime.spawn(Counter)
    await system.suspend(counter)
    calls = [counter.call(system.GetState()) for _ in range(2)]
    counter.kill()
    for call in calls:
        with pytest.raises(ActorExited):
            await call


async def test_what_comes_while_an_actor_is_suspended_waits_and_is_handled_in_order(runtime: Runtime) -> None:
    log: list[Any] = []
    puppet = await runtime.spawn(Probe, log)
    await system.suspend(puppet)
    await system.suspend(puppet)
    for n in range(3):
        puppet.cast(Note(n))
    with pytest.raises(CallTimeout):
        await puppet.call(DoAndReply(lambda actor: 1), timeout=1)
    assert log == []
    assert puppet.mailbox_statistics().length == 4
    assert (await system.get_status(puppet)).state == "suspended"
    assert runtime.info(puppet).state == "suspended"  # type: ignore[union-attr]
    await system.resume(puppet)
    await system.resume(puppet)
    await barrier(puppet)
    assert log == [0, 1, 2]
    assert (await system.get_status(puppet)).state == "running"


async def test_system_requests_that_stand_behind_others_get_through_when_it_is_suspended(runtime: Runtime) -> None:
    log: list[Any] = []
    puppet = await runtime.spawn(Probe, log)
    suspend = puppet.call(system.Suspend())
    puppet.cast(Note("waits"))
    state = await puppet.call(system.GetState())
    await suspend
    assert (state["log"], log) == ([], [])
    await system.resume(puppet)
    await barrier(puppet)
    assert log == ["waits"]


async def test_requests_that_come_with_a_resume_are_answered_after_it(runtime: Runtime) -> None:
    counter = await runtime.spawn(Counter)
    await system.suspend(counter)
    counter.cast(Add(1))
    resume = counter.call(system.Resume())
    state = counter.call(system.GetState())
    await resume
    assert (await state)["total"] == 0
    assert await counter.call(Total()) == 1


async def test_a_bounded_mailbox_fills_while_its_actor_is_suspended_but_lets_system_requests_in(
    runtime: Runtime,
) -> None:
    small = await runtime.spawn(Small)
    await system.suspend(small)
    await small.send(Add(1))
    with pytest.raises(MailboxFull):
        await small.send(Add(1))
    assert (await system.get_state(small))["total"] == 0
    await system.resume(small)
    assert await small.call(Total()) == 1
    full = [small.call(system.GetState()) for _ in range(3)]
    assert [(await call)["total"] for call in full] == [1, 1, 1]


async def test_an_idle_time_out_does_not_reach_a_suspended_actor(runtime: Runtime) -> None:
    log: list[Any] = []
    puppet = await runtime.spawn(Probe, log)
    puppet.cast(Do(lambda actor: actor.idle_timeout(1)))
    await system.suspend(puppet)
    await advance(5)
    assert log == []


async def test_S204_observers_see_requests_until_they_are_removed_or_done_or_raise(runtime: Runtime) -> None:
    counter = await runtime.spawn(Counter)
    seen: list[SystemEvent] = []

    def until_done(event: SystemEvent) -> Any:
        seen.append(event)
        return DONE if event == Replied(Total(), 3) else None

    await system.install(counter, until_done, "mine")
    with pytest.raises(BadOption, match="another id"):
        await system.install(counter, until_done, "mine")
    counter.cast(Add(1))  # 1: seen
    await barrier(counter)
    await system.no_debug(counter)
    counter.cast(Add(2))  # 2: not seen
    await system.install(counter, until_done, "mine")
    assert await counter.call(Total()) == 3  # 3: seen, and it is done
    counter.cast(Add(4))  # 4: not seen
    await system.install(counter, lambda event: 1 / 0)
    assert await counter.call(Total()) == 7
    assert (await system.get_status(counter)).observers == ()
    assert seen == [Received(Add(1)), Handled(Add(1)), Received(Total()), Replied(Total(), 3)]
    assert not await system.remove(counter, "mine")


async def test_observers_are_removed_one_by_one(runtime: Runtime) -> None:
    counter = await runtime.spawn(Counter)
    first: list[Any] = []
    second: list[Any] = []
    await system.install(counter, first.append, 1)
    await system.install(counter, second.append, 2)
    assert (await system.get_status(counter)).observers == (1, 2)
    assert await system.remove(counter, 1)
    counter.cast(Add(1))
    await barrier(counter)
    assert (first, second) == ([], [Received(Add(1)), Handled(Add(1))])
    assert not await system.remove(counter, 3)
    await system.no_debug(counter)
    await system.no_debug(counter)


async def test_late_answers_refusals_and_crashes_are_seen(runtime: Runtime) -> None:
    counter = await runtime.spawn(Counter)
    await system.log(counter, 20)
    later = [counter.call(Later()), counter.call(Later())]
    assert await counter.call(Slow()) == "slow"
    error, crash = LookupError("no"), OSError("boom")
    for slow in (False, True):
        with pytest.raises(LookupError):
            await counter.call(Broken(Refuse(error), slow))
    counter.cast(Do(lambda actor: (actor.waiting[0].reply("late"), actor.waiting[1].fail(error))))
    assert await later[0] == "late"
    with pytest.raises(LookupError):
        await later[1]
    log = await system.get_log(counter)
    assert [type(event).__name__ for event in log] == [
        *("Received", "Handled", "Received", "Handled"),
        *("Received", "Replied"),
        *("Received", "Failed", "Received", "Failed"),
        *("Received", "Replied", "Failed", "Handled"),
    ]
    assert log[11:13] == [Replied(Later(), "late"), Failed(Later(), error)]
    with pytest.raises(ActorExited, match="boom"):
        await counter.call(Broken(crash))


async def test_the_last_events_that_were_kept_are_in_the_crash_report(runtime: Runtime, events: Recorder) -> None:
    counter = await runtime.spawn(Counter)
    await system.log(counter, 2)
    counter.cast(Add(1))
    counter.cast(Do(lambda actor: 1 / 0))
    await counter.join()
    (report,) = events.of(CrashReport)
    assert len(report.log) == 2
    assert report.log[0].startswith("Received(message=Do")
    assert report.log[1].startswith("Failed(message=Do")


async def test_there_is_no_log_and_there_are_no_statistics_unless_asked_for(runtime: Runtime) -> None:
    counter = await runtime.spawn(Counter)
    assert await system.get_log(counter) == []
    assert await system.get_statistics(counter) is None
    with pytest.raises(BadOption, match="from 1"):
        await system.log(counter, 0)


async def test_statistics_count_messages(runtime: Runtime) -> None:
    counter = await runtime.spawn(Counter)
    await advance(1)
    await system.start_statistics(counter)
    counter.cast(Add(1))
    await counter.call(Total())
    await advance(2)
    assert await system.get_statistics(counter) == system.Statistics(1.0, 3.0, 2, 1)


async def test_a_trace_writes_a_line_for_each_event(runtime: Runtime) -> None:
    lines: list[str] = []
    counter = await runtime.spawn(Counter, name="counter")
    await system.trace(counter, lines.append)
    await counter.call(Total())
    assert lines == [f"{counter} Received(message=Total())", f"{counter} Replied(message=Total(), reply=0)"]


@pytest.mark.parametrize(("kind", "shown"), [(Secret, "hidden"), (Shy, "<format_status raised LookupError: no words>")])
async def test_S205_status_and_crash_report_show_the_state_as_the_actor_wants_it(
    runtime: Runtime, events: Recorder, kind: type[Actor], shown: str
) -> None:
    ref = await runtime.spawn(kind)
    status = await system.get_status(ref)
    assert (status.kind, status.status, status.parent, status.behaviour) == (kind.__name__, shown, None, None)
    ref.cast(Do(lambda actor: 1 / 0))
    assert isinstance(await ref.join(), Crashed)
    (report,) = events.of(CrashReport)
    assert report.state in (shown, repr(shown))


async def test_a_crash_report_says_who_asked_who_dies_with_it_and_what_waited(
    runtime: Runtime, events: Recorder
) -> None:
    log: list[Any] = []
    await runtime.spawn(Supervisor, [rec(log, "a"), rec(log, "b")], name="top", max_restarts=9)
    client, server = [ref for ref in runtime.actors() if ref.path in ("/top/a", "/top/b")]
    neighbours = [await runtime.spawn(Probe) for _ in range(20)]
    server.cast(Do(lambda actor: [actor.link(ref) for ref in neighbours] and None))
    client.cast(Do(lambda actor: ask(server)))
    await server.join()
    report = next(event for event in events.of(CrashReport) if event.ref is server)
    assert report.client == str(client)
    assert [line.partition(" ")[2] for line in report.ancestors] == [f"/top#{runtime.whereis('top').id}>"]  # type: ignore[union-attr]
    assert report.neighbours == tuple(map(str, neighbours[:15]))
    assert (report.mailbox, report.links, report.trap_exit) == (12, 21, True)
    assert report.waiting == tuple(f"Note(text={n})" for n in range(10))
    assert report.state is not None
    assert "'log': " in report.state


async def ask(server: Any) -> None:
    """Ask for what crashes."""
    await server.call(DoAndReply(lambda actor: [actor.ref.cast(Note(n)) for n in range(12)] and 1 / 0))


async def test_the_parent_is_in_the_status(runtime: Runtime) -> None:
    await runtime.spawn(Supervisor, [rec([], "a")], name="top")
    child = next(ref for ref in runtime.actors() if ref.path == "/top/a")
    assert (await system.get_status(child)).parent == "/top"
    assert (await system.get_status(runtime.name("top"))).status["strategy"] == "one_for_one"
