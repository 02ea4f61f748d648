"""Scenarios of the reference, section 4.5: how many restarts a supervisor allows itself, and the pause before one."""

from __future__ import annotations

import math
from typing import Any

import pytest

from supervision import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Abnormal,
    Actor,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Ref,
    Runtime,
    Supervisor,
    restart_child,
    start_child,
    terminate_child,
    which_children,
)
from supervision import events as ev
from supervision.errors import BadBudget
from supervision.reasons import FailedToStartChild
from supervision.supervisors.administration import GetBudget
from supervision.supervisors.restarts import BudgetState
from supervision.testing import advance, barrier
from tests.supervision.probes import Probe, Recorder, die, error_of, kill, rec, refs, restarts_used

BOOM = Abnormal("boom")
#: What a recorder answers from ``init`` that means nothing there, so that it does not start.
NO = "no"

KINDS = pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])


async def supervisor(runtime: Runtime, strategy: Any, *specs: ChildSpec, allowed: int = 1000) -> Ref:
    """Start a supervisor whose window never ends."""
    return await runtime.spawn(Supervisor, specs, strategy=strategy, max_restarts=allowed, max_seconds=1e6)


# -- the window --------------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("allowed", [0, 1, 3, 10])
async def test_as_many_restarts_as_allowed_and_not_one_more(
    runtime: Runtime, events: Recorder, kind: type[Actor], allowed: int
) -> None:
    """Restart number R in the window is made; the next one is not: the supervisor gives up and says why."""
    log: list[Any] = []
    sup = await runtime.spawn(kind, [rec(log, "a")], max_restarts=allowed, max_seconds=2.0)
    for n in range(allowed):
        await kill(sup, "a")
        assert restarts_used(sup) == n + 1
    last = (await refs(sup))["a"]
    await kill(sup, "a")
    assert sup.reason == SHUTDOWN
    assert log == ["+a"] * (allowed + 1)
    assert [(e.used, e.allowed) for e in events.of(ev.RestartScheduled)] == [(n + 1, allowed) for n in range(allowed)]
    assert [(e.id, e.child, e.reason, e.allowed, e.seconds) for e in events.of(ev.GaveUp)] == [
        ("a", last, KILLED, allowed, 2.0)
    ]


@KINDS
async def test_S085_crashes_that_are_far_enough_apart(runtime: Runtime, kind: type[Actor]) -> None:
    """One restart in a window of three seconds: a crash, and three more each 2.1 windows later, are all made good."""
    log: list[Any] = []
    sup = await runtime.spawn(kind, [rec(log, "a")], max_restarts=1, max_seconds=3.0)
    for gap in (0.0, 6.3, 6.3, 6.3):
        await advance(gap)
        await kill(sup, "a")
    assert sup.alive
    assert [info.ref is not None for info in await which_children(sup)] == [True]
    assert [info.restarts for info in await which_children(sup)] == [4]
    await advance(1.5)
    await kill(sup, "a")
    assert sup.reason == SHUTDOWN
    assert log == ["+a"] * 5


@KINDS
@pytest.mark.parametrize(("gap", "alive"), [(1.5, False), (2.0, False), (2.25, True)])
async def test_the_window_is_closed_at_its_old_end(
    runtime: Runtime, kind: type[Actor], gap: float, alive: bool
) -> None:
    """A restart exactly as long ago as the window is long still counts; a little longer and it does not."""
    sup = await runtime.spawn(kind, [rec([], "a")], max_restarts=1, max_seconds=2.0)
    await kill(sup, "a")
    await advance(gap)
    await kill(sup, "a")
    assert sup.alive is alive


async def test_the_window_slides_and_is_never_reset(runtime: Runtime) -> None:
    """Of three restarts only those drop out that are too old, whatever has succeeded in between."""
    sup = await runtime.spawn(Supervisor, [rec([], "a")], max_restarts=3, max_seconds=4.0)
    counts = []
    for _ in range(6):
        await kill(sup, "a")
        counts.append(restarts_used(sup))
        await advance(2.0)
    assert counts == [1, 2, 3, 3, 3, 3]
    assert restarts_used(sup) == 2
    await advance(4.0)
    assert restarts_used(sup) == 0


async def test_the_budget_can_be_asked_for(runtime: Runtime) -> None:
    """By a request, which waits its turn, and by `look`, which does not."""
    for kind in (Supervisor, DynamicSupervisor):
        sup = await runtime.spawn(kind, [rec([], "a")], max_restarts=2, max_seconds=4)
        await kill(sup, "a")
        assert await sup.call(GetBudget()) == BudgetState(1, 2, 4.0)
        await advance(4.5)
        assert await sup.call(GetBudget()) == BudgetState(0, 2, 4.0)


# -- giving up ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_S087_no_restart_is_allowed(runtime: Runtime, events: Recorder, strategy: Any) -> None:
    """The first death that is worth a restart ends the supervisor; the others are stopped, and nothing is started."""
    log: list[Any] = []
    sup = await supervisor(runtime, strategy, rec(log, "a"), rec(log, "b"), rec(log, "d"), allowed=0)
    del log[:]
    await kill(sup, "a")
    assert log == ["-d(shutdown)", "-b(shutdown)"]
    assert sup.reason == SHUTDOWN
    assert events.of(ev.RestartScheduled) == []


async def test_deaths_that_lead_to_no_restart_cost_nothing(runtime: Runtime) -> None:
    """Nor do starts and stops by order: with no restart allowed the supervisor survives them all."""
    log: list[Any] = []
    specs = [rec(log, "trans", restart="transient"), rec(log, "perm")]
    sup = await supervisor(runtime, "one_for_one", *specs, allowed=0)
    for _ in range(3):
        await die(await start_child(sup, rec(log, "temp", restart="temporary")), BOOM)
        await die((await refs(sup))["trans"], NORMAL)
        await restart_child(sup, "trans")
        await terminate_child(sup, "perm")
        await restart_child(sup, "perm")
    assert sup.alive
    assert restarts_used(sup) == 0


async def test_S089_failed_restarts_that_recover(runtime: Runtime) -> None:
    """Each attempt counts, so that the budget of three is used up when a runs again; then b dies."""
    log: list[Any] = []
    sup = await supervisor(runtime, "one_for_one", rec(log, "a", None, NO, NO, None), rec(log, "b"), allowed=3)
    del log[:]
    await kill(sup, "a")
    assert log == ["!a", "!a", "+a"]
    assert sup.alive
    assert restarts_used(sup) == 3
    await kill(sup, "b")
    assert sup.reason == SHUTDOWN
    assert log[3:] == ["-a(shutdown)"]


@KINDS
async def test_S090_the_budget_is_shared(runtime: Runtime, events: Recorder, kind: type[Actor]) -> None:
    """Two children die once each; with one restart for all that is one too many."""
    log: list[Any] = []
    sup = await runtime.spawn(kind, [rec(log, "a"), rec(log, "b")], max_restarts=1)
    await kill(sup, "a")
    await advance(2.0)
    await kill(sup, "b")
    assert sup.reason == SHUTDOWN
    assert log == ["+a", "+b", "+a", "-a(shutdown)"]
    assert [event.id for event in events.of(ev.GaveUp)] == ["b"]


@KINDS
async def test_a_start_that_goes_on_failing_is_tried_as_often_as_the_budget_allows(
    runtime: Runtime, events: Recorder, kind: type[Actor]
) -> None:
    """Three in the window: the crash, and three attempts that fail; what is told as the reason is the last failure."""
    log: list[Any] = []
    sup = await runtime.spawn(kind, [rec(log, "a", None, OSError("full"))], max_restarts=3)
    await kill(sup, "a")
    assert sup.reason == SHUTDOWN
    assert log == ["+a", "!a", "!a", "!a"]
    (end,) = events.of(ev.GaveUp)
    assert isinstance(end.reason, FailedToStartChild)
    assert end.reason.id == "a"
    assert "OSError: full" in str(end.reason)


class Fragile(Probe):
    """Starts, and dies right afterwards."""

    def init(self) -> None:
        """Write it down, and be killed."""
        self.log.append("+w")
        self.continue_with(None)

    def unhandled(self, message: Any) -> None:
        """Die."""
        raise OSError("fragile")


@pytest.mark.parametrize("allowed", [0, 1, 2])
async def test_S099_budgets_multiply(runtime: Runtime, allowed: int) -> None:
    """A child that dies right after each start, under two supervisors that allow R restarts each, is started
    (R + 1) * (R + 1) times, and then the top ends."""
    log: list[Any] = []
    worker = ChildSpec("w", Fragile, (log,))
    middle = ChildSpec("mid", Supervisor, ([worker],), {"max_restarts": allowed})
    top = await runtime.spawn(Supervisor, [middle], max_restarts=allowed)
    assert await top.join() == SHUTDOWN
    assert log == ["+w"] * (allowed + 1) ** 2


# -- wrong budgets -----------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("max_restarts", value) for value in (-1, 1.5, 1.0, "3", None, True, "infinity", math.inf)),
        *(("max_seconds", value) for value in (0, -1, 0.0, "5", None, True, math.inf, math.nan)),
    ],
)
async def test_a_budget_that_is_none_fails_the_start(
    runtime: Runtime, kind: type[Actor], field: str, value: Any
) -> None:
    """Before any child is started; the error names the field and the value."""
    log: list[Any] = []
    error = await error_of(runtime.spawn(kind, [rec(log, "a")], **{field: value}))
    assert isinstance(error, BadBudget)
    assert error.field == field
    assert error.value is value
    assert log == []


# -- a pause before the restart of a group -----------------------------------------------------------------------------

PAUSE = Backoff(initial=2.0, jitter=0.0)


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_a_group_is_stopped_before_the_pause_and_started_after_it(runtime: Runtime, strategy: Any) -> None:
    """Siblings do not run on beside a child that is away: they are stopped at once, and all come back together."""
    log: list[Any] = []
    sup = await supervisor(runtime, strategy, rec(log, "a", backoff=PAUSE), rec(log, "b"))
    await kill(sup, "a")
    await advance(1.5)
    assert [(info.id, info.ref, info.restarting) for info in await which_children(sup)] == [
        ("b", None, False),
        ("a", None, True),
    ]
    assert log[2:] == ["-b(shutdown)"]
    await advance(0.5)
    assert log[3:] == ["+a", "+b"]
    assert restarts_used(sup) == 1


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_what_was_started_during_the_pause_is_no_second_incarnation(
    runtime: Runtime, events: Recorder, strategy: Any
) -> None:
    """What was started in the group by order in the pause is stopped before the group starts; each runs once."""
    log: list[Any] = []
    sup = await supervisor(runtime, strategy, rec(log, "a", backoff=PAUSE), rec(log, "b"))
    await kill(sup, "a")
    await restart_child(sup, "b")
    await start_child(sup, rec(log, "new"))
    await start_child(sup, rec(log, "temp", restart="temporary"))
    await advance(2.0)
    await barrier(sup)
    assert log[3:] == ["+b", "+new", "+temp", "-temp(shutdown)", "-new(shutdown)", "-b(shutdown)", "+a", "+b", "+new"]
    now = await refs(sup)
    assert list(now) == ["a", "b", "new"]
    assert set(runtime.actors()) == {sup, *now.values()}


async def test_a_failed_attempt_after_a_pause_is_followed_by_a_longer_one(runtime: Runtime, events: Recorder) -> None:
    """The n-th restart in the window has the n-th pause, whether the one before it failed to start or crashed."""
    log: list[Any] = []
    spec = rec(log, "a", None, NO, NO, None, backoff=Backoff(initial=1.0, maximum=100.0, factor=3.0, jitter=0.0))
    sup = await supervisor(runtime, "one_for_one", spec)
    began = runtime.clock.time()
    times: list[float] = []
    runtime.subscribe(lambda event: times.append(event.time - began), ev.StartAttempt)
    await kill(sup, "a")
    await advance(100.0)
    await die((await refs(sup))["a"], BOOM)
    await advance(100.0)
    assert times == [1.0, 4.0, 13.0, 127.0]
    assert [event.delay for event in events.of(ev.RestartScheduled)] == [1.0, 3.0, 9.0, 27.0]
    assert log == ["+a", "!a", "!a", "+a", "-a('boom')", "+a"]


async def test_a_pause_is_forgotten_when_the_window_has_passed(runtime: Runtime, events: Recorder) -> None:
    """A crash long after the last one begins with the first pause again."""
    spec = rec([], "a", backoff=Backoff(initial=1.0, maximum=100.0, jitter=0.0))
    sup = await runtime.spawn(Supervisor, [spec], max_restarts=3, max_seconds=10.0)
    for gap in (2.0, 20.0, 2.0):
        await kill(sup, "a")
        await advance(gap)
    assert [event.delay for event in events.of(ev.RestartScheduled)] == [1.0, 2.0, 1.0]


async def test_the_jitter_of_a_pause_comes_from_the_seed_of_the_runtime(runtime: Runtime, events: Recorder) -> None:
    """Two runtimes with the same seed pause alike."""
    spec = rec([], "a", backoff=Backoff(initial=1.0, maximum=1.0, jitter=1.0))

    async def delays(made: Runtime) -> list[float]:
        recorder = Recorder()
        made.subscribe(recorder)
        sup = await made.spawn(Supervisor, [spec], max_restarts=10)
        for _ in range(5):
            await kill(sup, "a")
            await advance(1.0)
        return [event.delay for event in recorder.of(ev.RestartScheduled)]

    first = await delays(runtime)
    async with Runtime(watchdog=None, reports=False, seed=1) as twin:
        assert await delays(twin) == first
    assert len(set(first)) == 5
    assert all(0.0 <= delay <= 1.0 for delay in first)


async def test_a_supervisor_stops_at_once_although_a_restart_is_due(runtime: Runtime) -> None:
    """Nothing is started any more, and no timer stays behind."""
    log: list[Any] = []
    sup = await supervisor(runtime, "one_for_all", rec(log, "a", backoff=PAUSE), rec(log, "b"))
    await kill(sup, "a")
    assert runtime.statistics().timers == 1
    assert await runtime.shut_down(sup, "infinity") == SHUTDOWN
    assert runtime.statistics().timers == 0
    await advance(10.0)
    assert log == ["+a", "+b", "-b(shutdown)"]
