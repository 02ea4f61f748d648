"""Scenarios of the reference, section 4.4: which end of which child leads to a restart, and what is left of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervision import (
    IGNORE,
    KILLED,
    NORMAL,
    SHUTDOWN,
    Abnormal,
    AlreadyPresent,
    Backoff,
    Call,
    ChildCounts,
    ChildInfo,
    ChildNotFound,
    ChildSpec,
    ExitReason,
    Ref,
    Runtime,
    Shutdown,
    Supervisor,
    count_children,
    restart_child,
    start_child,
    supervisor_info,
    terminate_child,
    which_child,
    which_children,
)
from supervision import events as ev
from supervision.supervisors.administration import WhichChildren
from supervision.testing import advance, run, settled
from tests.supervision.probes import Probe, Recorder, die, error_of, rec, refs

INFO = Shutdown("info")
BOOM = Abnormal("boom")


async def one(runtime: Runtime, log: list[Any], restart: Any) -> tuple[Ref, Ref]:
    """Start the setup of S056 to S064: one_for_one, 2 restarts in a long window, one child added by order."""
    sup = await runtime.spawn(Supervisor, max_restarts=2, max_seconds=1000.0)
    child = await start_child(sup, rec(log, "c1", restart=restart))
    assert child is not None
    return sup, child


async def child_of(sup: Ref) -> Ref | None:
    """Return the address of the only child."""
    return (await which_child(sup, "c1")).ref


# -- the table ---------------------------------------------------------------------------------------------------------

RESTARTS = {"permanent": "all", "transient": "unclean", "temporary": "none"}


@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, INFO, BOOM, KILLED], ids=str)
async def test_table_2_3_what_the_end_of_a_child_leads_to(
    runtime: Runtime, events: Recorder, restart: str, reason: ExitReason
) -> None:
    """Each row of table 2.3: whether it is restarted, counted and told of, and what is left of its specification."""
    log: list[Any] = []
    sup, child = await one(runtime, log, restart)
    if reason == KILLED:
        child.kill()
        await settled(runtime, sup)
    else:
        await die(child, reason)
    again = RESTARTS[restart] == "all" or (RESTARTS[restart] == "unclean" and not reason.clean)
    told = again or not reason.clean
    seen = supervisor_info(sup)
    assert seen is not None
    assert seen.budget.used == (1 if again else 0)
    assert [(e.id, e.child, e.reason, e.restart) for e in events.of(ev.ChildTerminated, sup)] == (
        [("c1", child, reason, restart)] if told else []
    )
    new = {info.id: info.ref for info in seen.children}
    if restart == "temporary":
        assert new == {}
    elif again:
        assert [ref not in (None, child) for ref in new.values()] == [True]
    else:
        assert new == {"c1": None}
    assert [(e.id, e.child, e.old) for e in events.of(ev.Restarted, sup)] == (
        [("c1", new["c1"], child)] if again else []
    )
    assert log.count("+c1") == (2 if again else 1)
    assert sup.alive


@pytest.mark.parametrize("mode", ["any_significant", "all_significant"])
@pytest.mark.parametrize("restart", ["transient", "temporary"])
@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, INFO, BOOM], ids=str)
async def test_table_2_3_which_end_of_a_significant_child_ends_the_supervisor(
    runtime: Runtime, mode: Any, restart: Any, reason: ExitReason
) -> None:
    """The last column of table 2.3: an end of its own that leads to no restart, of any or of the last such child."""
    log: list[Any] = []
    specs = [rec(log, id, restart=restart, significant=id in "bc") for id in "abcd"]
    sup = await runtime.spawn(Supervisor, specs, auto_shutdown=mode)
    children = await refs(sup)
    await die(children["a"], reason)
    assert sup.alive
    if restart == "transient" and not reason.clean:
        await die(children["b"], reason)
        await die(children["c"], reason)
        assert sup.alive
        return
    if mode == "all_significant":
        await die(children["b"], reason)
        assert sup.alive
    del log[:]
    await die(children["c"], reason)
    assert sup.reason == SHUTDOWN
    left = ["-d(shutdown)", "-b(shutdown)"] if mode == "any_significant" else ["-d(shutdown)"]
    assert log == [f"-c({reason})", *left]


async def test_the_events_of_one_restart_come_in_order(runtime: Runtime, events: Recorder) -> None:
    """Crash report, end, what the supervisor saw and decided, the new start, and last that the child runs again."""
    sup = await runtime.spawn(Supervisor, [ChildSpec("c1", Probe, name="c1")])
    child = (await refs(sup))["c1"]
    assert child is not None
    del events.all[:]
    await die(child, OSError("boom"))
    assert events.names() == [
        "Terminating",
        "CrashReport",
        "Unregistered",
        "Exited",
        "ChildTerminated",
        "RestartScheduled",
        "Registered",
        "StartAttempt",
        "Started",
        "ChildStarted",
        "Restarted",
    ]
    assert [event.seq for event in events.all] == list(range(events.all[0].seq, events.all[0].seq + 11))
    scheduled = events.of(ev.RestartScheduled)[0]
    assert (scheduled.id, scheduled.child, scheduled.used, scheduled.allowed) == ("c1", child, 1, 3)
    assert scheduled.delay == 0.0


# -- one child ---------------------------------------------------------------------------------------------------------


async def test_S057_a_transient_child_that_ends_normally_stays_down(runtime: Runtime) -> None:
    """Its specification is kept, without an address."""
    log: list[Any] = []
    sup, child = await one(runtime, log, "transient")
    await die(child, NORMAL)
    assert await refs(sup) == {"c1": None}
    assert await count_children(sup) == ChildCounts(1, 0, 0, 1)
    assert log == ["+c1", "-c1(normal)"]
    error = await error_of(start_child(sup, rec(log, "c1")))
    assert type(error) is AlreadyPresent


async def test_S059_a_permanent_child_comes_back_after_a_shutdown_of_its_own(runtime: Runtime) -> None:
    """`shutdown` and `shutdown` with a note are ends as any other; the third is one too many."""
    log: list[Any] = []
    sup, first = await one(runtime, log, "permanent")
    await die(first, SHUTDOWN)
    second = await child_of(sup)
    await die(second, INFO)
    third = await child_of(sup)
    assert len({first, second, third} - {None}) == 3
    assert await count_children(sup) == ChildCounts(1, 1, 0, 1)
    await die(third, SHUTDOWN)
    assert sup.reason == SHUTDOWN
    assert log == ["+c1", "-c1(shutdown)", "+c1", "-c1(shutdown (info))", "+c1", "-c1(shutdown)"]


async def test_S060_a_transient_child_stays_down_after_a_shutdown_of_its_own(runtime: Runtime) -> None:
    """It can be started again by order, as often as one likes."""
    log: list[Any] = []
    sup, child = await one(runtime, log, "transient")
    for reason in (SHUTDOWN, INFO, NORMAL, SHUTDOWN):
        await die(child, reason)
        assert await refs(sup) == {"c1": None}
        assert await count_children(sup) == ChildCounts(1, 0, 0, 1)
        again = await restart_child(sup, "c1")
        assert again not in (None, child)
        assert again is not None
        child = again
    assert sup.alive


@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_S062_a_child_comes_back_after_an_abnormal_end(runtime: Runtime, restart: str) -> None:
    """Permanent or transient, it is restarted."""
    log: list[Any] = []
    sup, child = await one(runtime, log, restart)
    await die(child, BOOM)
    assert await child_of(sup) not in (None, child)
    assert await count_children(sup) == ChildCounts(1, 1, 0, 1)
    assert log == ["+c1", "-c1('boom')", "+c1"]


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, BOOM], ids=str)
async def test_S064_a_temporary_child_is_gone_after_any_end(runtime: Runtime, reason: ExitReason) -> None:
    """The supervisor lives on without it, and its id is free."""
    log: list[Any] = []
    sup, child = await one(runtime, log, "temporary")
    await die(child, reason)
    assert sup.alive
    assert await which_children(sup) == []
    assert isinstance(await error_of(restart_child(sup, "c1")), ChildNotFound)
    assert await start_child(sup, rec(log, "c1")) is not None


async def test_a_child_that_ignores_its_restart_stays_down(runtime: Runtime, events: Recorder) -> None:
    """Section 2.6: to ignore a restart is no failure: the specification is kept, and nothing is tried again."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "c1", None, IGNORE)])
    await die(await child_of(sup), BOOM)
    await advance(10.0)
    assert await refs(sup) == {"c1": None}
    assert log == ["+c1", "-c1('boom')", "!c1"]
    assert events.of(ev.Restarted) == []
    assert events.of(ev.ChildStartFailed) == []
    assert await restart_child(sup, "c1") is None


# -- groups ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@pytest.mark.parametrize("reason", [NORMAL, BOOM], ids=str)
async def test_S065_a_temporary_bystander_does_not_come_back(
    runtime: Runtime, strategy: Any, reason: ExitReason
) -> None:
    """It is stopped with the group and forgotten; the group is restarted without it, once."""
    log: list[Any] = []
    specs = [rec(log, "c1"), rec(log, "c2", restart="temporary")]
    sup = await runtime.spawn(Supervisor, specs, strategy=strategy)
    before = await refs(sup)
    await die(before["c1"], reason)
    after = await refs(sup)
    assert list(after) == ["c1"]
    assert after["c1"] not in (None, before["c1"])
    assert log == ["+c1", "+c2", f"-c1({reason})", "-c2(shutdown)", "+c1"]
    await advance(7.0)
    assert sup.alive
    assert await count_children(sup) == ChildCounts(1, 1, 0, 1)


@pytest.mark.parametrize(
    ("strategy", "after"),
    [
        ("one_for_one", ["+a"]),
        ("rest_for_one", ["-b(shutdown)", "+a", "+b", "+d"]),
        ("one_for_all", ["-b(shutdown)", "+a", "+b", "+d"]),
    ],
)
async def test_S067_a_child_that_was_stopped_by_order_comes_back_with_its_group(
    runtime: Runtime, strategy: Any, after: list[str]
) -> None:
    """A restart of the group starts all that are kept; a restart of one child leaves it down."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, id) for id in ("a", "b", "d")], strategy=strategy)
    await terminate_child(sup, "d")
    del log[:]
    await die((await refs(sup))["a"], BOOM)
    assert log == ["-a('boom')", *after]
    assert ((await refs(sup))["d"] is None) is (strategy == "one_for_one")


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_an_end_that_leads_to_no_restart_leaves_the_group_alone(runtime: Runtime, strategy: Any) -> None:
    """A temporary child that crashes and a transient one that ends well are nothing to the others."""
    log: list[Any] = []
    specs = [rec(log, "a", restart="temporary"), rec(log, "b", restart="transient"), rec(log, "c")]
    sup = await runtime.spawn(Supervisor, specs, strategy=strategy)
    before = await refs(sup)
    await die(before["a"], BOOM)
    await die(before["b"], INFO)
    assert await refs(sup) == {"b": None, "c": before["c"]}
    assert log == ["+a", "+b", "+c", "-a('boom')", "-b(shutdown (info))"]


@pytest.mark.parametrize(("strategy", "runs"), [("one_for_all", False), ("rest_for_one", True)])
async def test_what_a_failed_restart_of_a_group_leaves_running(runtime: Runtime, strategy: Any, runs: bool) -> None:
    """Of [a, b, c] a died, and b does not start again: one_for_all has stopped a when orders are served, rest_for_one
    goes on from b."""
    log: list[Any] = []
    specs = [rec(log, "a"), rec(log, "b", None, OSError("b"), None), rec(log, "c")]
    sup = await runtime.spawn(Supervisor, specs, strategy=strategy)
    calls: list[Call[list[ChildInfo]]] = []
    runtime.subscribe(lambda event: calls.append(sup.call(WhichChildren(), timeout=None)), ev.ChildStartFailed)
    await die((await refs(sup))["a"], BOOM)
    (between,) = [await call for call in calls]
    assert [(info.id, info.ref is not None, info.restarting) for info in reversed(between)] == [
        ("a", runs, False),
        ("b", False, True),
        ("c", False, False),
    ]
    again = ["-a(shutdown)", "+a"] if strategy == "one_for_all" else []
    assert log[3:] == ["-a('boom')", "-c(shutdown)", "-b(shutdown)", "+a", "!b", *again, "+b", "+c"]


async def test_a_restart_that_is_due_goes_under_in_that_of_its_group(runtime: Runtime, events: Recorder) -> None:
    """A child that waits out its pause is started with its group when another one dies, and not once more after it."""
    log: list[Any] = []
    specs = [rec(log, "a"), rec(log, "b", backoff=Backoff(initial=2.0, jitter=0.0))]
    sup = await runtime.spawn(Supervisor, specs, strategy="rest_for_one")
    await die((await refs(sup))["b"], BOOM)
    await die((await refs(sup))["a"], BOOM)
    assert log == ["+a", "+b", "-b('boom')", "-a('boom')", "+a", "+b"]
    now = await refs(sup)
    await advance(10.0)
    assert await refs(sup) == now
    assert [(event.id, event.delay) for event in events.of(ev.RestartScheduled)] == [("b", 2.0), ("a", 0.0)]


# -- against a model ---------------------------------------------------------------------------------------------------

ORDERS = st.lists(
    st.tuples(
        st.sampled_from(["die", "terminate", "restart"]),
        st.integers(0, 3),
        st.sampled_from([NORMAL, SHUTDOWN, BOOM]),
    ),
    max_size=8,
)


class Model:
    """What a supervisor with children 0..n-1 should look like, by sections 2.3, 2.4 and 2.7 of the reference."""

    def __init__(self, strategy: str, types: list[str]) -> None:
        self.strategy = strategy
        self.types = dict(enumerate(types))
        self.up = dict.fromkeys(self.types, True)
        self.log = [f"+{id}" for id in self.types]

    def stop(self, ids: list[int]) -> None:
        """Stop children in reverse order."""
        for id in reversed(ids):
            if self.up[id]:
                self.log.append(f"-{id}(shutdown)")
            self.down(id)

    def down(self, id: int) -> None:
        """A child does not run any more."""
        self.up[id] = False
        if self.types[id] == "temporary":
            del self.types[id], self.up[id]

    def start(self, id: int) -> None:
        """Start a child."""
        self.up[id] = True
        self.log.append(f"+{id}")

    def die(self, id: int, reason: ExitReason) -> None:
        """A child ends by itself."""
        self.log.append(f"-{id}({reason})")
        kind = self.types[id]
        if kind == "temporary" or (kind == "transient" and reason.clean):
            self.down(id)
            return
        self.up[id] = False
        group = [
            other
            for other in self.types
            if other == id or self.strategy == "one_for_all" or (self.strategy == "rest_for_one" and other > id)
        ]
        self.stop([other for other in group if other != id])
        for other in group:
            if other in self.types:
                self.start(other)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(
    st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
    st.lists(st.sampled_from(["permanent", "transient", "temporary"]), min_size=1, max_size=4),
    ORDERS,
)
def test_any_sequence_of_ends_and_orders_does_what_the_tables_say(
    strategy: Any, types: list[Any], orders: list[tuple[str, int, ExitReason]]
) -> None:
    """Starts, stops and their order are those of a model of the tables, whatever happens to whom."""

    async def main() -> None:
        log: list[Any] = []
        model = Model(strategy, types)
        async with Runtime(watchdog=None, reports=False) as runtime:
            specs = [rec(log, id, restart=kind) for id, kind in enumerate(types)]
            sup = await runtime.spawn(Supervisor, specs, strategy=strategy, max_restarts=1000)
            for what, id, reason in orders:
                known = id in model.types
                if what == "die" and known and model.up[id]:
                    model.die(id, reason)
                    await die((await refs(sup))[id], reason)
                elif what == "terminate" and known:
                    model.stop([id])
                    await terminate_child(sup, id)
                elif what == "restart" and known and not model.up[id]:
                    model.start(id)
                    await restart_child(sup, id)
                assert log == model.log
                assert {id: ref is not None for id, ref in (await refs(sup)).items()} == model.up
            model.stop(list(model.types))
            await runtime.shut_down(sup, "infinity")
            assert log == model.log

    run(main())
