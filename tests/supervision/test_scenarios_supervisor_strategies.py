"""Scenarios of the reference, section 4.5: whom a restart takes along, in which order, and what if it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from supervision import (
    IGNORE,
    SHUTDOWN,
    Abnormal,
    Actor,
    ChildCounts,
    ChildNotFound,
    ChildRestarting,
    ChildSpec,
    DynamicSupervisor,
    Ref,
    Runtime,
    StartError,
    Supervisor,
    count_children,
    delete_child,
    restart_child,
    start_child,
    terminate_child,
    which_child,
    which_children,
)
from supervision import events as ev
from supervision.errors import BadStrategy
from supervision.testing import advance, settled
from tests.supervision.probes import Probe, Recorder, die, error_of, kill, rec, refs, restarts_used

BOOM = Abnormal("boom")
#: What a recorder answers from ``init`` that means nothing there, so that it does not start.
NO = "no"


async def supervisor(runtime: Runtime, strategy: Any, *specs: ChildSpec, allowed: int = 1000) -> Ref:
    """Start a supervisor whose window never ends."""
    return await runtime.spawn(Supervisor, specs, strategy=strategy, max_restarts=allowed, max_seconds=1e6)


# -- one for one -------------------------------------------------------------------------------------------------------


async def test_S069_one_for_one_restarts_the_child_that_died(runtime: Runtime) -> None:
    """The others keep their addresses; the budget of two is for all of them: a third death ends the supervisor."""
    log: list[Any] = []
    sup = await supervisor(runtime, "one_for_one", rec(log, "c1"), rec(log, "c2"), allowed=2)
    first = await refs(sup)
    await die(first["c1"], BOOM)
    second = await refs(sup)
    assert second["c1"] not in (None, first["c1"])
    assert second["c2"] is first["c2"]
    assert await count_children(sup) == ChildCounts(2, 2, 0, 2)
    await die(second["c2"], BOOM)
    third = await refs(sup)
    assert third == {"c1": second["c1"], "c2": third["c2"]}
    assert third["c2"] not in (None, first["c2"])
    assert await count_children(sup) == ChildCounts(2, 2, 0, 2)
    await die(third["c1"], BOOM)
    assert sup.reason == SHUTDOWN
    assert log == ["+c1", "+c2", "-c1('boom')", "+c1", "-c2('boom')", "+c2", "-c1('boom')", "-c2(shutdown)"]


async def test_S070_one_for_one_gives_up_on_a_child_that_does_not_start_again(
    runtime: Runtime, events: Recorder
) -> None:
    """Of four restarts in the window each is an attempt; the fifth is not made, and c2 is stopped with the rest."""
    log: list[Any] = []
    sup = await supervisor(runtime, "one_for_one", rec(log, "c1", None, NO), rec(log, "c2"), allowed=4)
    await die((await refs(sup))["c1"], BOOM)
    assert sup.reason == SHUTDOWN
    assert log == ["+c1", "+c2", "-c1('boom')", *["!c1"] * 4, "-c2(shutdown)"]
    assert [event.id for event in events.of(ev.ChildStartFailed, sup)] == ["c1"] * 4
    assert [(event.id, event.allowed) for event in events.of(ev.GaveUp, sup)] == [("c1", 4)]


async def test_one_for_one_leaves_the_position_of_a_child(runtime: Runtime) -> None:
    """A restarted child stops where it stood in the list, not where it was started last."""
    log: list[Any] = []
    sup = await supervisor(runtime, "one_for_one", rec(log, "a"), rec(log, "b"), rec(log, "c"))
    await kill(sup, "a")
    del log[:]
    await runtime.shut_down(sup, "infinity")
    assert log == ["-c(shutdown)", "-b(shutdown)", "-a(shutdown)"]


# -- one for all -------------------------------------------------------------------------------------------------------


async def test_S072_one_for_all_stops_in_reverse_and_starts_in_order(runtime: Runtime, events: Recorder) -> None:
    """All get new addresses; it counts once; each that runs again is told of, with its old address."""
    log: list[Any] = []
    sup = await supervisor(runtime, "one_for_all", rec(log, "a"), rec(log, "b"), rec(log, "d"))
    before = await refs(sup)
    del log[:]
    await kill(sup, "b")
    after = await refs(sup)
    assert log == ["-d(shutdown)", "-a(shutdown)", "+a", "+b", "+d"]
    assert restarts_used(sup) == 1
    assert [(e.id, e.child, e.old) for e in events.of(ev.Restarted, sup)] == [
        (id, after[id], before[id]) for id in ("a", "b", "d")
    ]
    assert set(before.values()).isdisjoint(after.values())
    assert [info.restarts for info in await which_children(sup)] == [1, 1, 1]


async def test_one_for_all_keeps_to_the_limits_of_the_siblings(runtime: Runtime, events: Recorder) -> None:
    """Each sibling has its own limit, one after the other, before anything starts again; who exceeds it is killed."""
    log: list[Any] = []
    sup = await supervisor(
        runtime,
        "one_for_all",
        rec(log, "slow", stops=3.0, shutdown=5.0),
        rec(log, "stuck", stops=100.0, shutdown=2.0),
        rec(log, "brutal", stops=100.0, shutdown="brutal_kill"),
        rec(log, "x"),
    )
    del log[:]
    began = runtime.clock.time()
    await kill(sup, "x")
    assert log == ["-slow(shutdown)", "+slow", "+stuck", "+brutal", "+x"]
    assert runtime.clock.time() - began == 5.0
    assert [event.id for event in events.of(ev.ChildShutdownFailed)] == ["stuck"]


async def test_S074_one_for_all_whose_other_child_fails_to_start_again(runtime: Runtime) -> None:
    """What was started again is stopped, and the next attempt starts all from the beginning; two restarts are used."""
    log: list[Any] = []
    sup = await supervisor(runtime, "one_for_all", rec(log, "c1"), rec(log, "c2", None, NO, None), allowed=3)
    first = (await refs(sup))["c1"]
    await kill(sup, "c1")
    assert log == ["+c1", "+c2", "-c2(shutdown)", "+c1", "!c2", "-c1(shutdown)", "+c1", "+c2"]
    assert sup.alive
    assert restarts_used(sup) == 2
    assert (await refs(sup))["c1"] is not first


async def test_S075_one_for_all_with_two_failures_in_a_row(runtime: Runtime) -> None:
    """Each failure of b stops a again and never touches d; three restarts are used."""
    log: list[Any] = []
    sup = await supervisor(
        runtime, "one_for_all", rec(log, "a"), rec(log, "b", None, NO, NO, None), rec(log, "d"), allowed=5
    )
    del log[:]
    await kill(sup, "a")
    again = ["+a", "!b", "-a(shutdown)"]
    assert log == ["-d(shutdown)", "-b(shutdown)", *again, *again, "+a", "+b", "+d"]
    assert restarts_used(sup) == 3


# -- rest for one ------------------------------------------------------------------------------------------------------


async def test_S077_rest_for_one_takes_the_later_ones_along(runtime: Runtime) -> None:
    """Those before keep their addresses; those after are stopped in reverse and started in order; it counts once."""
    log: list[Any] = []
    sup = await supervisor(runtime, "rest_for_one", *(rec(log, id) for id in "abde"))
    before = await refs(sup)
    del log[:]
    await kill(sup, "b")
    after = await refs(sup)
    assert log == ["-e(shutdown)", "-d(shutdown)", "+b", "+d", "+e"]
    assert [id for id in before if before[id] is after[id]] == ["a"]
    assert restarts_used(sup) == 1
    del log[:]
    await kill(sup, "e")
    assert log == ["+e"]


async def test_S079_rest_for_one_whose_later_child_fails_to_start_again(runtime: Runtime) -> None:
    """Only from the failed child on is tried again: c1 is not started twice."""
    log: list[Any] = []
    sup = await supervisor(runtime, "rest_for_one", rec(log, "c1"), rec(log, "c2", None, NO, None), allowed=3)
    del log[:]
    await kill(sup, "c1")
    assert log == ["-c2(shutdown)", "+c1", "!c2", "+c2"]
    assert sup.alive
    assert restarts_used(sup) == 2


async def test_S080_rest_for_one_whose_middle_child_fails_to_start_again(runtime: Runtime) -> None:
    """b was started and stays; c is tried again, and d comes after it."""
    log: list[Any] = []
    sup = await supervisor(
        runtime, "rest_for_one", rec(log, "a"), rec(log, "b"), rec(log, "c", None, NO, None), rec(log, "d")
    )
    del log[:]
    await kill(sup, "b")
    assert log == ["-d(shutdown)", "-c(shutdown)", "+b", "!c", "+c", "+d"]
    assert restarts_used(sup) == 2


# -- restarts of dynamic children --------------------------------------------------------------------------------------


class Given(Probe):
    """Writes down what it was started with."""

    def init(self) -> None:
        """Write it down."""
        self.log.append(self.given)

    def __init__(self, log: list[Any], *given: Any, **more: Any) -> None:
        super().__init__(log)
        self.given = (*given, *more.values())


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_S082_a_child_is_started_again_with_its_own_arguments(runtime: Runtime, kind: type[Actor]) -> None:
    """Each child has the arguments of its own start, at every restart."""
    log: list[Any] = []
    sup = await runtime.spawn(kind, max_restarts=10)
    for n in range(2):
        await start_child(sup, ChildSpec(n, Given, (log, n, "extra"), {"more": -n}))
    for n in (1, 0, 1):
        await die((await refs(sup))[n], BOOM)
    zero, one = (0, "extra", 0), (1, "extra", -1)
    assert log == [zero, one, one, zero, one]


@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_S084_a_dynamic_child_that_ignores_its_restart_is_forgotten(
    runtime: Runtime, events: Recorder, restart: Any
) -> None:
    """Killed and restarted, killed again, it does not want to run: no child is left, and nothing is tried again."""
    log: list[Any] = []
    sup = await runtime.spawn(DynamicSupervisor)
    await start_child(sup, rec(log, "x", None, None, IGNORE, restart=restart))
    await kill(sup, "x")
    assert await count_children(sup) == ChildCounts(1, 1, 0, 1)
    await kill(sup, "x")
    assert restarts_used(sup) == 2
    await advance(10.0)
    assert sup.alive
    assert await which_children(sup) == []
    assert log == ["+x", "+x", "!x"]
    assert len(events.of(ev.Restarted)) == 1


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_S100_a_restart_that_is_ignored_leaves_the_child_down(runtime: Runtime, strategy: Any) -> None:
    """It is no failure: the others go on, the specification is kept, and starting it by order answers None again."""
    log: list[Any] = []
    sup = await supervisor(runtime, strategy, rec(log, "a", None, IGNORE), rec(log, "b"))
    await kill(sup, "a")
    after = await refs(sup)
    assert after["a"] is None
    assert after["b"] is not None
    assert await count_children(sup) == ChildCounts(2, 1, 0, 2)
    assert await restart_child(sup, "a") is None
    assert (await which_child(sup, "a")).restarting is False
    assert sup.alive
    assert restarts_used(sup) == 1


# -- deaths in the same instant ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "deaths", "log", "ends"),
    [
        ("one_for_all", "abc", ["+a", "+b", "+c"], False),
        ("one_for_all", "cba", ["+a", "+b", "+c"], False),
        ("one_for_one", "abc", ["+a", "-a(shutdown)"], True),
        ("rest_for_one", "ac", ["-b(shutdown)", "+a", "+b", "+c"], False),
        ("rest_for_one", "ca", ["+c", "-c(shutdown)", "-b(shutdown)"], True),
    ],
)
async def test_S092_deaths_in_the_same_instant(
    runtime: Runtime, strategy: Any, deaths: str, log: list[str], ends: bool
) -> None:
    """With a budget of one: those that died are consumed by a restart of their group, which then costs one; each costs
    one if it is seen before the group that it belongs to is restarted, or belongs to none."""
    written: list[Any] = []
    sup = await supervisor(runtime, strategy, *(rec(written, id) for id in "abc"), allowed=1)
    del written[:]
    await kill(sup, *deaths)
    assert written == log
    assert (sup.reason == SHUTDOWN) is ends
    if not ends:
        assert restarts_used(sup) == 1
        assert all(ref is not None and ref.alive for ref in (await refs(sup)).values())


# -- restarts that go on failing, and orders meanwhile -----------------------------------------------------------------


REAL = pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])


async def failing(runtime: Runtime, strategy: Any, log: list[Any]) -> tuple[Ref, dict[Any, Ref | None]]:
    """Start [c1, c2, c3] of which c2 never starts again, and kill c2; return the first addresses too.

    The supervisor tries for ever from then on. It must be stopped, or c2 be terminated, before anything is settled. On
    a loop with real time: a slice of work is measured in time, and a virtual clock stands still while there is work.
    """
    sup = await supervisor(
        runtime, strategy, rec(log, "c1"), rec(log, "c2", None, NO), rec(log, "c3"), allowed=1_000_000
    )
    before = await refs(sup)
    assert before["c2"] is not None
    before["c2"].kill()
    while log.count("!c2") < 5:
        await runtime.sleep(0.0)
    return sup, before


async def seen(sup: Ref) -> dict[Any, str]:
    """Return for each child whether it is up, down or restarting."""
    return {
        info.id: "restarting" if info.restarting else "down" if info.ref is None else "up"
        for info in reversed(await which_children(sup))
    }


@REAL
@pytest.mark.parametrize(
    ("strategy", "c1", "c3"),
    [("one_for_one", "up", "up"), ("rest_for_one", "up", "down"), ("one_for_all", "down", "down")],
)
async def test_S094_orders_while_a_child_does_not_start_again(
    runtime: Runtime, strategy: Any, c1: str, c3: str
) -> None:
    """Every order is served between two attempts: c2 is restarting, and so can be stopped, not started nor deleted.

    When it is stopped nothing is tried any more, and its group stays as it is; starting it starts it alone.
    """
    log: list[Any] = []
    sup, before = await failing(runtime, strategy, log)
    assert await seen(sup) == {"c1": c1, "c2": "restarting", "c3": c3}
    active = [c1, c3].count("up")
    assert await count_children(sup) == ChildCounts(3, active, 0, 3)
    for order in (restart_child, delete_child):
        assert isinstance(await error_of(order(sup, "c2")), ChildRestarting)
    await terminate_child(sup, "c2")
    assert await seen(sup) == {"c1": c1, "c2": "down", "c3": c3}
    attempts = log.count("!c2")
    await settled(runtime, sup)
    assert log.count("!c2") == attempts
    assert ((await refs(sup))["c1"] is before["c1"]) is (c1 == "up")
    assert isinstance(await error_of(restart_child(sup, "c2")), StartError)
    assert log.count("!c2") == attempts + 1
    assert await seen(sup) == {"c1": c1, "c2": "down", "c3": c3}
    assert log.count("+c3") == 1


@REAL
@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
async def test_a_supervisor_that_tries_for_ever_can_be_stopped(runtime: Runtime, strategy: Any) -> None:
    """The order to end comes between two attempts too, long before its limit."""
    log: list[Any] = []
    sup, _ = await failing(runtime, strategy, log)
    assert await runtime.shut_down(sup, 10.0) == SHUTDOWN
    assert log[-1] == "-c1(shutdown)"
    await settled(runtime)
    assert log[-1] == "-c1(shutdown)"


@REAL
async def test_S095_orders_while_a_dynamic_child_does_not_start_again(runtime: Runtime) -> None:
    """It has no address of its own then; it is stopped by its old one, and the supervisor can be shut down."""
    log: list[Any] = []
    sup = await runtime.spawn(DynamicSupervisor, max_restarts=1_000_000, max_seconds=1e6)
    for ends in (False, True):
        old = await start_child(sup, rec(log, "x", None, NO))
        assert old is not None
        old.kill()
        attempts = log.count("!x")
        while log.count("!x") < attempts + 5:
            await runtime.sleep(0.0)
        assert [(info.id, info.ref, info.restarting) for info in await which_children(sup)] == [("x", None, True)]
        assert await count_children(sup) == ChildCounts(1, 0, 0, 1)
        if not ends:
            await terminate_child(sup, old)
            assert await which_children(sup) == []
            assert isinstance(await error_of(terminate_child(sup, old)), ChildNotFound)
            attempts = log.count("!x")
            await settled(runtime, sup)
            assert log.count("!x") == attempts
    assert await runtime.shut_down(sup, 10.0) == SHUTDOWN


# -- trees -------------------------------------------------------------------------------------------------------------


async def test_S097_a_tree(runtime: Runtime) -> None:
    """A supervisor that gives up is restarted by its own, with its group, as declared: later children are gone."""
    log: list[Any] = []
    top = await runtime.spawn(
        Supervisor,
        [
            ChildSpec("sup1", Supervisor, ([rec(log, "w1"), rec(log, "w2")],)),
            ChildSpec("sup2", Supervisor, kwargs={"max_restarts": 3}),
            ChildSpec("sup3", Supervisor, restart="transient"),
        ],
        strategy="one_for_all",
        max_restarts=4,
        max_seconds=3600.0,
    )
    await terminate_child(top, "sup3")
    assert await count_children(top) == ChildCounts(3, 2, 3, 0)
    before = await refs(top)
    sup1, sup2 = before["sup1"], before["sup2"]
    assert sup1 is not None
    assert sup2 is not None
    w3 = await start_child(sup2, rec(log, "w3", None, NO))
    w4 = await start_child(sup2, rec(log, "w4"))
    workers = await refs(sup1)
    await die(w4, BOOM)
    assert await refs(sup1) == workers
    assert await refs(top) == before
    assert (await refs(sup2))["w3"] is w3
    assert (await refs(sup2))["w4"] not in (None, w4)
    del log[:]
    await die(w3, BOOM)
    await settled(runtime, top)
    after = await refs(top)
    assert sup2.reason == SHUTDOWN
    assert sup1.reason == SHUTDOWN
    assert all(ref is not None and ref.alive for ref in after.values())
    assert set(after.values()).isdisjoint(before.values())
    assert await count_children(top) == ChildCounts(3, 3, 3, 0)
    new = after["sup1"]
    assert new is not None
    assert list(await refs(new)) == ["w1", "w2"]
    assert set((await refs(new)).values()).isdisjoint(workers.values())
    assert after["sup2"] is not None
    assert await which_children(after["sup2"]) == []
    assert log == ["-w3('boom')", "!w3", "!w3", "-w4(shutdown)", "-w2(shutdown)", "-w1(shutdown)", "+w1", "+w2"]


@pytest.mark.parametrize("restart", ["transient", "temporary"])
async def test_a_supervisor_that_gave_up_is_not_restarted_unless_it_is_permanent(
    runtime: Runtime, restart: Any
) -> None:
    """It ends with `shutdown`, which is clean: a transient or temporary one is lost."""
    log: list[Any] = []
    spec = ChildSpec("mid", Supervisor, ([rec(log, "w")],), {"max_restarts": 0}, restart=restart)
    top = await runtime.spawn(Supervisor, [spec, rec(log, "x")], strategy="one_for_all")
    mid = (await refs(top))["mid"]
    assert mid is not None
    await die((await refs(mid))["w"], BOOM)
    await settled(runtime, top)
    assert mid.reason == SHUTDOWN
    assert (await refs(top)).get("mid") is None
    assert restarts_used(top) == 0
    assert log == ["+w", "+x", "-w('boom')"]


# -- other -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["one_for_none", "", None, 1, "simple_one_for_one"])
async def test_a_strategy_that_does_not_exist_is_refused(runtime: Runtime, strategy: Any) -> None:
    """The error names the value and the choices."""
    error = await error_of(runtime.spawn(Supervisor, strategy=strategy))
    assert isinstance(error, BadStrategy)
    assert (error.field, error.value) == ("strategy", strategy)
    assert error.remedy == "choose one of one_for_one, one_for_all, rest_for_one"


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_a_child_that_dies_while_its_siblings_still_start(runtime: Runtime, strategy: Any) -> None:
    """Its death is dealt with when all have started: the starter gets a supervisor that runs, and then a restart."""
    log: list[Any] = []
    first: list[Callable[[], None]] = []

    class Fragile(Probe):
        def init(self) -> None:
            self.log.append("+fragile")
            first.append(self.ref.kill)

    class Killer(Probe):
        async def init(self) -> None:
            await self.runtime.sleep(1.0)
            self.log.append("+killer")
            if len(first) == 1:
                first[0]()

    specs = [ChildSpec("fragile", Fragile, (log,)), ChildSpec("killer", Killer, (log,))]
    sup = await supervisor(runtime, strategy, *specs)
    await settled(runtime, sup)
    again = [] if strategy == "one_for_one" else ["+killer"]
    assert log == ["+fragile", "+killer", "+fragile", *again]
    assert restarts_used(sup) == 1


async def test_the_order_to_end_waits_for_a_group_that_is_being_restarted(runtime: Runtime) -> None:
    """A supervisor in the middle of a restart finishes it, and then stops everything again."""
    log: list[Any] = []
    sup = await supervisor(runtime, "one_for_all", rec(log, "a"), rec(log, "b", stops=2.0))
    ref = (await refs(sup))["a"]
    assert ref is not None
    ref.kill()
    await advance(1.0)
    stopping = asyncio.ensure_future(runtime.shut_down(sup, "infinity"))
    assert await stopping == SHUTDOWN
    assert log == ["+a", "+b", "-b(shutdown)", "+a", "+b", "-b(shutdown)", "-a(shutdown)"]
    assert runtime.clock.time() == 4.0
