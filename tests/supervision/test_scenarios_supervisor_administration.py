"""Scenarios of the reference, section 4.3: orders to a supervisor at run time, their exact answers, and the counts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest

from supervision import (
    IGNORE,
    NORMAL,
    SHUTDOWN,
    Abnormal,
    Actor,
    AlreadyPresent,
    AlreadyStarted,
    Backoff,
    Call,
    CallCycle,
    ChildCounts,
    ChildError,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    DynamicSupervisor,
    Ref,
    Request,
    Runtime,
    StartError,
    Supervisor,
    count_children,
    delete_child,
    get_child_spec,
    restart_child,
    start_child,
    supervisor_info,
    terminate_child,
    which_child,
    which_children,
)
from supervision import events as ev
from supervision.supervisors import administration
from supervision.supervisors.administration import CountChildren, TerminateChild, WhichChild
from supervision.testing import advance, settled
from tests.supervision.probes import Do, Probe, Recorder, die, do, error_of, rec, refs, time_of


async def refused(order: Any, kind: type[ChildError], id: Any) -> ChildError:
    """Check that an order is refused with this error about this child, and return it."""
    error = await error_of(order)
    assert type(error) is kind
    assert isinstance(error, ChildError)
    assert error.id == id
    assert f"child {id!r}" in str(error)
    return error


# -- the orders --------------------------------------------------------------------------------------------------------


async def test_S044_the_full_life_of_a_child(runtime: Runtime, events: Recorder) -> None:
    """Start, stop, start again, delete: each order in each state answers as OTP does, and changes nothing else."""
    log: list[Any] = []
    spec = rec(log, "c1", shutdown=1.0)
    sup = await runtime.spawn(Supervisor, [spec])
    first = (await refs(sup))["c1"]
    assert first is not None

    error = await refused(start_child(sup, spec), AlreadyStarted, "c1")
    assert isinstance(error, AlreadyStarted)
    assert error.ref is first
    await refused(terminate_child(sup, "c2"), ChildNotFound, "c2")

    await terminate_child(sup, "c1")
    assert first.reason == SHUTDOWN
    assert await refs(sup) == {"c1": None}
    assert await count_children(sup) == ChildCounts(1, 0, 0, 1)
    await terminate_child(sup, "c1")
    await refused(start_child(sup, spec), AlreadyPresent, "c1")

    second = await restart_child(sup, "c1")
    assert second not in (None, first)
    assert await refs(sup) == {"c1": second}
    await refused(restart_child(sup, "c1"), ChildRunning, "c1")
    await refused(restart_child(sup, "c2"), ChildNotFound, "c2")
    await refused(delete_child(sup, "c1"), ChildRunning, "c1")
    await refused(delete_child(sup, "c2"), ChildNotFound, "c2")

    await terminate_child(sup, "c1")
    await delete_child(sup, "c1")
    assert await count_children(sup) == ChildCounts(0, 0, 0, 0)
    await refused(restart_child(sup, "c1"), ChildNotFound, "c1")
    third = await start_child(sup, spec)
    assert await refs(sup) == {"c1": third}
    assert log == ["+c1", "-c1(shutdown)", "+c1", "-c1(shutdown)", "+c1"]
    assert len(events.of(ev.ChildStarted, sup)) == 3
    assert events.of(ev.RestartScheduled) == []
    assert events.of(ev.ChildTerminated) == []


async def test_S045_an_address_is_no_id(runtime: Runtime) -> None:
    """A static supervisor knows its children by id: to stop one by its address finds nobody and touches nobody."""
    sup = await runtime.spawn(Supervisor, [ChildSpec("c1", Probe)])
    child = (await refs(sup))["c1"]
    for order in (terminate_child, restart_child, delete_child, which_child, get_child_spec):
        await refused(order(sup, child), ChildNotFound, child)
    assert await refs(sup) == {"c1": child}
    assert child is not None
    assert child.alive


async def test_any_value_may_be_asked_for(runtime: Runtime) -> None:
    """An id that could not be that of a child, such as a list, is not found; the supervisor is not harmed."""
    sup = await runtime.spawn(Supervisor, [ChildSpec("c1", Probe)])
    before = await refs(sup)
    strange: list[Any] = [[1], {}, None, ("c1",)]
    for id in strange:
        for order in (terminate_child, restart_child, delete_child, which_child, get_child_spec):
            await refused(order(sup, id), ChildNotFound, id)
    assert await refs(sup) == before


async def test_S047_one_child_is_told_as_in_the_list(runtime: Runtime) -> None:
    """`which_child` gives the entry of the list for a child that runs, is stopped or restarting, or finds nobody."""
    log: list[Any] = []
    sup = await runtime.spawn(
        Supervisor,
        [
            rec(log, "running"),
            rec(log, "stopped"),
            rec(log, "ignored", IGNORE),
            rec(log, "restarting", backoff=Backoff(initial=2.0, jitter=0.0)),
            rec(log, "deleted"),
        ],
    )
    await terminate_child(sup, "stopped")
    await terminate_child(sup, "deleted")
    await delete_child(sup, "deleted")
    await die((await refs(sup))["restarting"], "x")
    entries = {info.id: info for info in await which_children(sup)}
    assert {id: (info.ref is not None, info.restarting) for id, info in entries.items()} == {
        "running": (True, False),
        "stopped": (False, False),
        "ignored": (False, False),
        "restarting": (False, True),
    }
    for id, info in entries.items():
        assert await which_child(sup, id) == info
        assert info.spec == await get_child_spec(sup, id)
        assert info.type == "worker"
    await refused(which_child(sup, "deleted"), ChildNotFound, "deleted")
    await refused(which_child(sup, "unknown"), ChildNotFound, "unknown")
    assert await count_children(sup) == ChildCounts(4, 1, 0, 4)


async def test_the_list_begins_with_the_child_that_was_started_last(runtime: Runtime) -> None:
    """As in OTP; a child that was restarted, by order or not, keeps its place."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "a"), rec(log, "b")])
    await start_child(sup, rec(log, "c"))
    await terminate_child(sup, "a")
    await restart_child(sup, "a")
    await die((await refs(sup))["b"], "x")
    assert [info.id for info in await which_children(sup)] == ["c", "b", "a"]
    assert [info.restarts for info in await which_children(sup)] == [0, 1, 0]


async def test_S049_counts_of_two_thousand_temporary_children(runtime: Runtime) -> None:
    """Specifications of dynamic children count per child; what has ended does not count, however often one asks."""
    sup = await runtime.spawn(DynamicSupervisor)
    for total in (1000, 2000):
        for _ in range(1000):
            await start_child(sup, ChildSpec("c", Probe, restart="temporary"))
        assert await count_children(sup) == ChildCounts(total, total, 0, total)
        assert await count_children(sup) == ChildCounts(total, total, 0, total)
    for info in await which_children(sup):
        assert info.ref is not None
        info.ref.kill()
    assert await count_children(sup) == ChildCounts(0, 0, 0, 0)
    assert sup.alive


async def test_S050_counts_of_children_that_are_supervisors(runtime: Runtime) -> None:
    """They count by the type of the specification, given or found, whether they run or not."""
    sup = await runtime.spawn(DynamicSupervisor)
    for _ in range(1000):
        await start_child(sup, ChildSpec("c", Supervisor))
    assert await count_children(sup) == ChildCounts(1000, 1000, 1000, 0)
    static = await runtime.spawn(
        Supervisor,
        [
            ChildSpec("a", Supervisor),
            ChildSpec("b", DynamicSupervisor),
            ChildSpec("c", Probe, type="supervisor"),
            ChildSpec("d", Probe),
        ],
    )
    for id in "ad":
        await terminate_child(static, id)
    assert await count_children(static) == ChildCounts(4, 2, 3, 1)
    assert [info.type for info in await which_children(static)] == ["worker", "supervisor", "supervisor", "supervisor"]


ENDS: dict[str, Callable[[Ref, Ref], Any]] = {
    "kill": lambda sup, ref: ref.kill(),
    "normal": lambda sup, ref: ref.cast(Do(lambda actor: actor.stop(NORMAL))),
    "abnormal": lambda sup, ref: ref.cast(Do(lambda actor: actor.stop("x"))),
    "terminate_child": lambda sup, ref: asyncio.ensure_future(terminate_child(sup, "child")),
}


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
@pytest.mark.parametrize("restart", ["temporary", "transient", "permanent"])
@pytest.mark.parametrize("end", ENDS)
async def test_S052_only_temporary_children_are_forgotten(
    runtime: Runtime, strategy: Any, restart: Any, end: str
) -> None:
    """After its end, a temporary child can be started anew; another is still there: running, or only as a
    specification."""
    sup = await runtime.spawn(Supervisor, strategy=strategy)
    spec = ChildSpec("child", Probe, restart=restart)
    first = await start_child(sup, spec)
    assert first is not None
    kept = ENDS[end](sup, first)
    await settled(runtime, sup)
    assert not first.alive
    del kept
    if restart == "temporary":
        assert await start_child(sup, spec) is not None
        return
    down = end == "terminate_child" or (restart == "transient" and end == "normal")
    error = await refused(start_child(sup, spec), AlreadyPresent if down else AlreadyStarted, "child")
    now = (await refs(sup))["child"]
    assert (now is None) is down
    assert now is not first
    assert getattr(error, "ref", None) is now


def steps_of(work: Callable[[], None]) -> Callable[[], int]:
    """Count the calls of Python functions from now on, until the function that is returned is called."""
    steps = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal steps
        steps += event == "call"

    sys.setprofile(count)

    def stop() -> int:
        sys.setprofile(None)
        return steps

    work()
    return stop


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_S054_ten_times_the_children_are_at_most_fifty_times_the_work(
    runtime: Runtime, kind: type[Actor]
) -> None:
    """To start and stop children costs about the same for each, however many there are; work is counted in calls."""
    work: dict[int, tuple[int, int]] = {}
    for many in (50, 500):
        sup = await runtime.spawn(kind)
        specs = [ChildSpec(n, Probe, restart="temporary") for n in range(many)]
        counted = steps_of(lambda: None)
        for spec in specs:
            await start_child(sup, spec)
        started = counted()
        counted = steps_of(lambda: None)
        await runtime.shut_down(sup, "infinity")
        work[many] = started, counted()
    assert work[500][0] < 50 * work[50][0]
    assert work[500][1] < 50 * work[50][1]


# -- failures and races ------------------------------------------------------------------------------------------------


async def test_a_child_that_fails_to_start_again_by_order_keeps_its_specification(
    runtime: Runtime, events: Recorder
) -> None:
    """`restart_child` raises the error, nothing is tried again, and the next order may succeed; no budget is spent."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "a", None, OSError("x"), IGNORE, None)], max_restarts=0)
    await terminate_child(sup, "a")
    error = await error_of(restart_child(sup, "a"))
    assert isinstance(error, StartError)
    assert isinstance(error.__cause__, OSError)
    assert await refs(sup) == {"a": None}
    assert [(e.id, e.child, e.reason) for e in events.of(ev.ChildStartFailed)] == [("a", None, error.reason)]
    assert await restart_child(sup, "a") is None
    assert await restart_child(sup, "a") is not None
    assert log == ["+a", "-a(shutdown)", "!a", "!a", "+a"]
    assert sup.alive


async def test_orders_about_a_child_that_is_restarting(runtime: Runtime) -> None:
    """It counts as not running; it can be neither started, restarted nor deleted; stopping it ends the retrying."""
    log: list[Any] = []
    spec = rec(log, "a", backoff=Backoff(initial=2.0, jitter=0.0))
    sup = await runtime.spawn(Supervisor, [spec])
    await die((await refs(sup))["a"], "x")
    assert await count_children(sup) == ChildCounts(1, 0, 0, 1)
    await refused(start_child(sup, spec), AlreadyPresent, "a")
    await refused(restart_child(sup, "a"), ChildRestarting, "a")
    await refused(delete_child(sup, "a"), ChildRestarting, "a")
    await terminate_child(sup, "a")
    assert (await which_child(sup, "a")).restarting is False
    await advance(10.0)
    assert log == ["+a", "-a('x')"]
    await delete_child(sup, "a")
    assert await which_children(sup) == []


def when_a_start_fails(runtime: Runtime, sup: Ref, *requests: Request[Any]) -> list[Call[Any]]:
    """Give orders to a supervisor at the moment it tells that a start failed: before its note to try again."""
    calls: list[Call[Any]] = []

    def order(event: ev.ChildStartFailed) -> None:
        listening.close()
        calls.extend(sup.call(request, timeout=None) for request in requests)

    listening = runtime.subscribe(order, ev.ChildStartFailed)
    return calls


async def test_an_order_between_two_attempts_is_served(runtime: Runtime, events: Recorder) -> None:
    """A child whose restart fails is tried again through the mailbox: an order that waits there comes first."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "a", None, OSError("x"))], max_restarts=1000)
    calls = when_a_start_fails(runtime, sup, WhichChild("a"), CountChildren(), TerminateChild("a"))
    await die((await refs(sup))["a"], "x")
    entry, counts, _ = await asyncio.gather(*calls)
    assert (entry.ref, entry.restarting) == (None, True)
    assert counts == ChildCounts(1, 0, 0, 1)
    assert log == ["+a", "-a('x')", "!a"]
    assert (await which_child(sup, "a")).restarting is False
    assert isinstance(await error_of(restart_child(sup, "a")), StartError)
    assert [event.used for event in events.of(ev.RestartScheduled)] == [1]


async def test_an_old_note_about_a_deleted_child_is_nothing_to_a_new_one(runtime: Runtime) -> None:
    """A restart that was due when its child was stopped, deleted and started anew does not happen."""
    log: list[Any] = []
    spec = rec(log, "a", backoff=Backoff(initial=2.0, jitter=0.0))
    sup = await runtime.spawn(Supervisor, [spec])
    await die((await refs(sup))["a"], "x")
    await terminate_child(sup, "a")
    await delete_child(sup, "a")
    new = await start_child(sup, spec)
    await advance(10.0)
    assert log == ["+a", "-a('x')", "+a"]
    assert await refs(sup) == {"a": new}


@pytest.mark.parametrize("pause", [False, True], ids=["after a failed attempt", "after a pause"])
async def test_an_order_ends_the_retrying_of_a_whole_group(runtime: Runtime, pause: bool) -> None:
    """A restart of a was due and, as a part of it, x failed to start: if x is stopped now, a is not restarting either.

    It is the failed start that is tried again, so nobody would ever try a.
    """
    log: list[Any] = []
    if pause:
        specs = [rec(log, "x", None, OSError("x")), rec(log, "a", backoff=Backoff(initial=1.0, jitter=0.0))]
    else:
        specs = [rec(log, "x", None, None, OSError("x")), rec(log, "a", None, OSError("a"), None)]
    sup = await runtime.spawn(Supervisor, specs, strategy="one_for_all", max_restarts=1000)
    child = (await refs(sup))["a"]

    def order(event: ev.ChildStartFailed) -> None:
        if event.id == "x":
            calls.append(sup.call(TerminateChild("x"), timeout=None))

    calls: list[Call[None]] = []
    runtime.subscribe(order, ev.ChildStartFailed)
    await die(child, "x")
    await advance(1.0)
    await settled(runtime, sup)
    assert [call.done() for call in calls] == [True]
    assert [(info.id, info.ref, info.restarting) for info in await which_children(sup)] == [
        ("a", None, False),
        ("x", None, False),
    ]
    assert await restart_child(sup, "a") is not None
    assert log[-2:] == ["!x", "+a"]


async def test_a_pause_that_came_to_nothing_is_not_taken_for_a_later_one(runtime: Runtime, events: Recorder) -> None:
    """A restart that was counted, and overtaken by that of a group, pays for no further attempt: each one counts."""
    log: list[Any] = []
    backoff = Backoff(initial=2.0, jitter=0.0)
    specs = [rec(log, "a", None, OSError("a"), backoff=backoff)]
    sup = await runtime.spawn(Supervisor, specs, strategy="one_for_all", max_restarts=3, max_seconds=1000.0)
    await die((await refs(sup))["a"], "x")
    await start_child(sup, rec(log, "b"))
    await die((await refs(sup))["b"], "x")
    assert await sup.join() == SHUTDOWN
    assert [(event.id, event.used) for event in events.of(ev.RestartScheduled)] == [("a", 1), ("b", 2), ("a", 3)]
    assert len(events.of(ev.GaveUp)) == 1
    assert log.count("!a") == 2


async def test_a_child_may_not_ask_its_own_supervisor_to_wait_for_it(runtime: Runtime) -> None:
    """A call to the supervisor from a child's `init`, or one that waits for the child itself, is refused as a ring."""
    errors: list[BaseException] = []

    class Eager(Actor):
        async def init(self) -> None:
            parent = runtime.whereis("sup")
            assert parent is not None
            errors.append(await error_of(which_children(parent)))

    sup = await runtime.spawn(Supervisor, [], name="sup")
    await start_child(sup, ChildSpec("eager", Eager))
    assert isinstance(errors[0], CallCycle)
    child = await start_child(sup, ChildSpec("c", Probe))
    assert isinstance(child, Ref)
    assert [info.id for info in await do(child, lambda actor: which_children(sup))] == ["c", "eager"]


async def test_a_slow_start_holds_up_the_supervisor_and_all_who_ask(runtime: Runtime) -> None:
    """Orders are served one after the other, and wait as long as it takes, longer than any default time-out."""

    class Slow(Actor):
        async def init(self) -> None:
            await self.runtime.sleep(60.0)

    sup = await runtime.spawn(Supervisor)
    starting = asyncio.ensure_future(start_child(sup, ChildSpec("slow", Slow)))
    await advance(0.0)
    assert await time_of(count_children(sup)) == 60.0
    assert await starting is not None


# -- looking in --------------------------------------------------------------------------------------------------------


async def test_look_tells_of_a_supervisor_without_asking_it(runtime: Runtime) -> None:
    """Children, first started first, and the budget: also while the supervisor is busy, or starting."""

    class Slow(Actor):
        async def init(self) -> None:
            await self.runtime.sleep(60.0)

    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "a"), rec(log, "b")], max_restarts=7, max_seconds=9.0)
    await die((await refs(sup))["b"], "x")
    starting = asyncio.ensure_future(start_child(sup, ChildSpec("slow", Slow)))
    await settled(runtime)
    seen = supervisor_info(sup)
    assert seen is not None
    assert [(info.id, info.ref is not None, info.restarts) for info in seen.children] == [
        ("a", True, 0),
        ("b", True, 1),
        ("slow", False, 0),
    ]
    assert (seen.budget.used, seen.budget.allowed, seen.budget.seconds) == (1, 7, 9.0)
    await starting
    assert seen.children[::-1] != tuple(await which_children(sup))
    later = supervisor_info(sup)
    assert later is not None
    assert later.children[::-1] == tuple(await which_children(sup))


async def test_look_at_a_supervisor_that_is_starting_or_at_none(runtime: Runtime) -> None:
    """One that is starting shows how far it is; anybody else, and one that has ended, is None."""

    class Slow(Actor):
        async def init(self) -> None:
            await self.runtime.sleep(60.0)

    beginning = runtime.spawn_nowait(Supervisor, [ChildSpec("a", Probe), ChildSpec("slow", Slow)])
    slow = runtime.spawn_nowait(Slow)
    await advance(1.0)
    seen = supervisor_info(beginning)
    assert seen is not None
    assert [(info.id, info.ref is not None) for info in seen.children] == [("a", True), ("slow", False)]
    assert supervisor_info(slow) is None
    await advance(60.0)
    assert supervisor_info(slow) is None
    await beginning.stop()
    assert supervisor_info(beginning) is None


async def test_look_at_a_supervisor_that_is_not_made_yet(runtime: Runtime) -> None:
    """In its own constructor a supervisor has nothing to show."""
    seen: list[Any] = []

    class Early(Supervisor):
        def __init__(self) -> None:
            seen.append(supervisor_info(self.ref))
            super().__init__()

    await runtime.spawn(Early)
    assert seen == [None]


async def test_a_child_told_of_is_a_value(runtime: Runtime) -> None:
    """What `which_children` answered does not change when the child does."""
    sup = await runtime.spawn(Supervisor, [Probe.child([], "a")])
    before = await which_child(sup, "a")
    await die(before.ref, Abnormal("x"))
    after = await which_child(sup, "a")
    assert (before.restarts, after.restarts) == (0, 1)
    assert before.ref is not after.ref


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_supervisor_tells_of_itself_in_numbers(runtime: Runtime, kind: type[Supervisor]) -> None:
    log: list[Any] = []
    sup = await runtime.spawn(kind, [rec(log, "a"), rec(log, "b")])
    ref = (await which_children(sup))[0].ref
    assert ref is not None
    ref.kill()
    await settled(runtime)
    numbers = await administration.statistics(sup)
    assert (numbers.counts, numbers.restarts) == (ChildCounts(2, 2, 0, 2), 1)
    assert (numbers.budget.used, numbers.budget.allowed) == (1, 3)
