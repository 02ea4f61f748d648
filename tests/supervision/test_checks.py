"""Checks over the event log: they find what is wrong, and only that. Also leaks, the event log, and shrinking."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from supervision import (
    Actor,
    ChildSpec,
    DynamicSupervisor,
    Ref,
    Runtime,
    Supervisor,
    delete_child,
    groups,
    start_child,
    terminate_child,
)
from supervision import events as ev
from supervision.events import Event
from supervision.reasons import KILLED, SHUTDOWN
from supervision.testing import (
    ChaosPlan,
    ChaosStep,
    Crash,
    EventLog,
    Expected,
    Kill,
    ResourceCounts,
    SeededQueue,
    advance,
    checks,
    exact_order,
    must_hold,
    partial_order,
    run,
    settled,
    shrink,
)
from supervision.testing.checks import NewCheck, check_all
from supervision.testing.fault_injection.report import Reservoir
from tests.supervision.probes import Do, Probe, rec


class Forged:
    """Makes up event logs."""

    def __init__(self, a: Ref, b: Ref) -> None:
        self.a, self.b = a, b
        self.events: list[Event] = []

    def add(self, kind: type[Event], ref: Ref, *, time: float = 0.0, **fields: Any) -> Forged:
        """Add an event."""
        about: dict[str, Any] = {}
        if issubclass(kind, ev.ActorEvent):
            about |= {"ref": ref, "path": ref.path, "kind": "Probe"}
        if issubclass(kind, ev.SupervisorEvent):
            about |= {"restart": "permanent", "shutdown": 5.0, "type": "worker"}
        self.events.append(kind(seq=len(self.events) + 1, time=time, **{**about, **fields}))
        return self

    def found(self, check: NewCheck) -> list[str]:
        """Return what a check finds."""
        return [violation.what for violation in check_all(self.events, [check])]


@pytest.fixture
async def forged(runtime: Runtime) -> Forged:
    """An empty log, and two actors."""
    top = await runtime.spawn(Supervisor, [], name="top")
    return Forged(top, await runtime.spawn(Probe, name="b"))


async def test_what_starts_or_ends_twice_is_found(forged: Forged) -> None:
    a, b = forged.a, forged.b
    forged.add(ev.Exited, b, name=None, reason=KILLED)  # it was there before
    forged.add(ev.LoopUnblocked, a, seconds=1.0).add(ev.StartAttempt, a).add(ev.StartAttempt, b)
    forged.add(ev.Started, a, name=None).add(ev.Started, b, name=None).add(ev.Exited, a, name=None, reason=KILLED)
    assert forged.found(checks.Pairing) == []
    forged.add(ev.Exited, a, name=None, reason=KILLED).add(ev.Started, b, name=None)
    assert forged.found(checks.Pairing) == [f"{a} ended, and had ended or not started before", f"{b} started twice"]


async def test_two_holders_of_a_name_and_two_incarnations_of_a_child_are_found(forged: Forged) -> None:
    a, b = forged.a, forged.b
    spec: dict[str, Any] = {"restart": "permanent", "shutdown": 5.0, "type": "worker", "significant": False}
    forged.add(ev.Registered, a, name="n").add(ev.Unregistered, a, name="n").add(ev.Registered, b, name="n")
    forged.add(ev.ChildStarted, a, id=["x"], child=a, **spec).add(ev.Exited, a, name=None, reason=KILLED)
    forged.add(ev.ChildStarted, a, id=["x"], child=b, **spec).add(ev.ChildStarted, a, id="y", child=None, **spec)
    assert forged.found(checks.SingleIncarnation) == []
    forged.add(ev.Registered, a, name="n").add(ev.ChildStarted, a, id=["x"], child=a, **spec)
    assert forged.found(checks.SingleIncarnation) == [
        f"'n' is held by {b} and {a}",
        f"child ['x'] runs as {b} and {a}",
    ]
    forged.add(ev.Exited, b, name=None, reason=KILLED)
    assert len(forged.found(checks.SingleIncarnation)) == 2


async def test_what_an_actor_does_after_its_end_is_found(forged: Forged) -> None:
    a = forged.a
    forged.add(ev.LoopUnblocked, a, seconds=1.0).add(ev.StartAttempt, a).add(ev.Started, a, name=None)
    forged.add(ev.Registered, a, name="n").add(ev.Exited, a, name=None, reason=KILLED)
    forged.add(ev.FencedOff, a).add(ev.MessageDropped, a, message="m", why="died")
    assert forged.found(checks.Fence) == []
    forged.add(ev.Registered, a, name="n")
    assert forged.found(checks.Fence) == [f"{a} did something after its end"]


async def test_a_supervisor_that_counts_wrong_is_found(forged: Forged) -> None:
    a = forged.a
    window = {"id": 1, "child": None, "allowed": 2, "seconds": 5.0}
    restart = {**window, "delay": 0.0}
    forged.add(ev.RestartScheduled, a, time=0, used=1, **restart).add(ev.RestartScheduled, a, time=5, used=2, **restart)
    forged.add(ev.RestartScheduled, a, time=6, used=2, **restart).add(ev.Exited, a, name=None, reason=KILLED)
    assert forged.found(checks.Budget) == []
    forged.add(ev.RestartScheduled, a, time=20, used=3, **restart)  # its code goes on after its end
    assert forged.found(checks.Budget) == []
    b = forged.b
    forged.add(ev.RestartScheduled, b, time=20, used=2, **restart).add(ev.GaveUp, b, time=20, reason=KILLED, **window)
    forged.add(ev.RestartScheduled, b, time=20, used=3, **restart)
    assert forged.found(checks.Budget) == [
        "counts 2 restarts where there were 1",
        "gave up at 2 of 2 restarts",
        "did not give up at 3 of 2 restarts",
    ]


async def test_children_that_are_stopped_in_the_wrong_order_are_found(runtime: Runtime) -> None:
    log = EventLog(runtime)
    top = await runtime.spawn(Supervisor, [rec([], "a"), rec([], "b"), rec([], "c")], name="top")
    await runtime.spawn(Supervisor, [rec([], "other")], name="other")
    dynamic = await runtime.spawn(DynamicSupervisor, name="dynamic")
    for id in "xyz":
        await start_child(dynamic, rec([], id))
    await terminate_child(top, "a")
    await (runtime.whereis("dynamic") or top).stop()
    await top.stop()
    assert check_all(log, [checks.StopOrder]) == []
    refs = {event.path: event.ref for event in log.of(ev.Started)}
    forged = Forged(top, top)
    spec: dict[str, Any] = {"restart": "permanent", "shutdown": 5.0, "type": "worker", "significant": False}
    forged.add(ev.StartAttempt, top)
    for id in "bc":
        forged.add(ev.Started, refs[f"/top/{id}"], name=None)
        forged.add(ev.ChildStarted, top, id=id, child=refs[f"/top/{id}"], **spec)
    forged.add(ev.GaveUp, top, id="b", child=None, reason=KILLED, allowed=1, seconds=5.0)
    forged.add(ev.StopRequested, refs["/top/b"], reason=SHUTDOWN)
    assert forged.found(checks.StopOrder) == [f"{refs['/top/b']} was told to end before {refs['/top/c']}"]
    del forged.events[0]  # if the start of the supervisor was not seen, nor was the order of its children
    assert forged.found(checks.StopOrder) == []


async def test_only_the_first_violations_are_kept_but_all_are_counted(forged: Forged) -> None:
    judge = checks.Judge([checks.Pairing], keep=2)
    forged.add(ev.StartAttempt, forged.a)
    for _ in range(5):
        forged.add(ev.Exited, forged.a, name=None, reason=KILLED)
    for event in forged.events:
        judge(event)
    assert (len(judge.end()), judge.number) == (2, 5)


async def test_an_exact_order_has_nothing_of_the_kind_in_between(runtime: Runtime) -> None:
    log = EventLog(runtime)
    sup = await runtime.spawn(Supervisor, [rec([], "a"), rec([], "b")], strategy="one_for_all", name="top")
    next(ref for ref in runtime.actors() if ref.path == "/top/a").kill()
    await settled(runtime)
    died, started = Expected(ev.Exited, "/top/*"), Expected(ev.Started, "/top/*")
    must_hold(list(log), exact_order(started, started, died, died, started, started))
    with pytest.raises(AssertionError, match="Exited came instead of Started"):
        must_hold(list(log), exact_order(started, started, started, died))
    with pytest.raises(AssertionError, match="after the last one"):
        must_hold(list(log), exact_order(started))
    with pytest.raises(AssertionError, match=r"GaveUp \* did not come"):
        must_hold(list(log), exact_order(Expected(ev.GaveUp)))
    must_hold(list(log))
    assert sup.alive


async def test_a_partial_order_speaks_of_pairs(runtime: Runtime) -> None:
    log = EventLog(runtime)
    await runtime.spawn(Supervisor, [rec([], "a"), rec([], "b")], name="top")
    a, b = Expected(ev.Started, "/top/a"), Expected(ev.Started, "/top/b")
    must_hold(list(log), partial_order((a, b)))
    with pytest.raises(AssertionError, match="Started /top/a came before Started /top/b"):
        must_hold(list(log), partial_order((b, a), (b, a)))


# -- the event log -----------------------------------------------------------------------------------------------------


async def test_the_log_can_be_searched_and_closed(runtime: Runtime) -> None:
    log = EventLog(runtime)
    few = EventLog(runtime, ev.Started, keep=1)
    a = await runtime.spawn(Probe, name="a")
    await runtime.spawn(Probe, name="b")
    assert [event.path for event in log.of(ev.Started)] == ["/a", "/b"]
    assert [type(event).__name__ for event in log.about("/b")] == ["Registered", "StartAttempt", "Started"]
    assert (len(log), len(few)) == (6, 1)
    before = log.digest()
    log.close()
    a.kill()
    assert log.digest() == before


async def test_an_event_that_is_about_no_actor_is_a_line_too(runtime: Runtime) -> None:
    log = EventLog(runtime)
    runtime.events.emit(ev.LoopUnblocked, seconds=1.5)
    assert log.tail() == ["     1 0.000000  LoopUnblocked seconds=1.5"]


# -- seeded schedules --------------------------------------------------------------------------------------------------


def orders(seed: int) -> tuple[list[str], list[str]]:
    """Return the order in which two senders' messages arrived at a third, with what the loop did in between."""

    async def main() -> tuple[list[str], list[str]]:
        log: list[Any] = []
        async with Runtime(watchdog=None, reports=False, run_queue=SeededQueue(seed, pauses=0.3)) as runtime:
            sink = await runtime.spawn(Probe, log)
            senders = [await runtime.spawn(Probe, name=name) for name in "ab"]

            async def outside() -> None:
                for n in range(5):
                    log.append(f"loop{n}")
                    await asyncio.sleep(0)  # noqa: TID251 - lets the loop run, not time pass

            for n in range(5):
                for sender, name in zip(senders, "ab", strict=True):
                    text = f"{name}{n}"
                    sender.cast(Do(lambda actor, text=text: sink.cast(Do(lambda me, text=text: me.log.append(text)))))  # type: ignore[misc]
            await asyncio.gather(outside(), advance(1))
        return [text for text in log if not text.startswith("loop")], log

    return run(main())


def test_a_seed_decides_the_order_between_actors_but_never_within_a_pair() -> None:
    found = {seed: orders(seed) for seed in range(8)}
    assert found == {seed: orders(seed) for seed in range(8)}
    assert len({tuple(messages) for messages, _ in found.values()}) > 4
    assert len({tuple(log) for _, log in found.values()}) > 4
    for messages, _ in found.values():
        for name in "ab":
            assert [text for text in messages if text[0] == name] == [f"{name}{n}" for n in range(5)]


# -- leaks -------------------------------------------------------------------------------------------------------------


async def test_the_resource_counts_show_what_can_leak(runtime: Runtime) -> None:
    before = ResourceCounts.of(runtime)
    scope = await runtime.spawn(groups.Groups, name="groups")
    member = await runtime.spawn(Probe)
    other = await runtime.spawn(Probe)
    await groups.join(scope, "g", member)
    member.cast(Do(lambda actor: actor.link(other)))
    member.cast(Do(lambda actor: actor.monitor(other) and None))
    runtime.send_after(100, Do(lambda actor: None), member)
    await settled(runtime)
    assert before.leaks(ResourceCounts.of(runtime)) == {
        "actors": 3,
        "names": 1,
        "links": 1,
        "monitors": 2,
        "members": 1,
        "timers": 1,
    }


# -- shrinking ---------------------------------------------------------------------------------------------------------


def steps(times: Iterable[float]) -> tuple[ChaosStep, ...]:
    """Return kills at some times."""
    return tuple(ChaosStep(time, Kill(), f"/{time}") for time in times)


async def test_a_failing_plan_is_shrunk_to_the_faults_that_matter() -> None:
    tried: list[ChaosPlan] = []

    async def fails(plan: ChaosPlan) -> bool:
        tried.append(plan)
        paths = {step.path for step in plan.steps}
        return {"/7.25", "/31.25"} <= paths

    plan = ChaosPlan(steps(n + 0.25 for n in range(64)), seed=3)
    smallest = await shrink(plan, fails)
    assert [step.path for step in smallest.steps] == ["/7.25", "/31.25"]
    assert [step.at for step in smallest.steps] == [7.0, 31.0]
    assert smallest.seed == 3
    assert len(tried) < 100


async def test_times_stay_where_they_matter_and_what_fails_with_nothing_shrinks_to_nothing() -> None:
    async def exact(plan: ChaosPlan) -> bool:
        return any(step.at == 7.25 for step in plan.steps)

    assert await shrink(ChaosPlan(steps((1.5, 7.25, 9.75))), exact) == ChaosPlan(steps((7.25,)))

    async def always(plan: ChaosPlan) -> bool:
        return True

    assert await shrink(ChaosPlan(steps((1, 2, 3))), always) == ChaosPlan()


async def test_shrinking_stops_after_its_tries() -> None:
    calls = 0

    async def fails(plan: ChaosPlan) -> bool:
        nonlocal calls
        calls += 1
        return False

    plan = ChaosPlan((*steps(range(20)), ChaosStep(30, Crash(), "/x")))
    assert await shrink(plan, fails, tries=7) == plan
    assert calls == 7


class Leaky(Actor):
    """An actor."""


async def test_a_child_spec_takes_words_as_tags() -> None:
    assert ChildSpec("a", Leaky, tags=("chaos",)).tags == ("chaos",)
    with pytest.raises(Exception, match="tuple of strings"):
        ChildSpec("a", Leaky, tags="chaos")  # type: ignore[call-overload]


def test_of_many_times_some_are_kept_and_the_longest_always() -> None:
    sample = Reservoir(size=10)
    for n in range(1000):
        sample.add(float(n if n != 500 else 5000))
    summed = sample.recovery()
    assert (summed.number, summed.maximum) == (1000, 5000.0)
    assert 50 < summed.median < 950
    assert Reservoir().recovery().number == 0


async def test_children_that_are_restarted_in_the_wrong_order_are_found(runtime: Runtime) -> None:
    log = EventLog(runtime)
    options: dict[str, Any] = {"strategy": "rest_for_one", "max_restarts": 9}
    top = await runtime.spawn(Supervisor, [rec([], id) for id in "abc"], name="top", **options)
    for path in ("/top/b", "/top/a", "/top/c"):
        ref = runtime.find(path)
        assert ref is not None
        ref.kill()
        await settled(runtime)
    assert check_all(log, [checks.RestartOrder]) == []
    events = list(log)
    first = next(n for n, event in enumerate(events) if isinstance(event, ev.RestartScheduled))
    told = [n for n, event in enumerate(events) if isinstance(event, ev.Restarted)][:2]
    stopped = [n for n, event in enumerate(events) if n > first and isinstance(event, ev.Exited)][:1]
    assert "was restarted before" in check_all([*events[: stopped[0]], events[told[0]]], [checks.RestartOrder])[0].what
    swapped = [*events[:first], *events[told[0] + 1 : told[1] + 1], events[told[0]]]
    assert "which comes behind it" in check_all(swapped, [checks.RestartOrder])[0].what
    await top.stop()


async def test_children_that_were_moved_by_orders_are_left_out(runtime: Runtime) -> None:
    log = EventLog(runtime)
    options: dict[str, Any] = {"strategy": "one_for_all", "max_restarts": 9}
    top = await runtime.spawn(Supervisor, [rec([], id) for id in "abc"], name="top", **options)
    for _ in range(2):
        await terminate_child(top, "a")
        await delete_child(top, "a")
        await start_child(top, rec([], "a"))
    ref = runtime.find("/top/b")
    assert ref is not None
    ref.kill()
    await settled(runtime)
    await top.stop()
    assert check_all(log) == []


async def test_a_child_that_ends_before_its_supervisor_knows_that_it_has_started_is_no_violation(
    runtime: Runtime,
) -> None:
    class Slow(Actor):
        async def init(self) -> None:
            await advance(1)

    def kill(event: Event) -> None:
        assert isinstance(event, ev.Started)
        if event.path == "/top/b" and not killed:
            killed.append(event.ref)
            asyncio.get_running_loop().call_soon(event.ref.kill)

    killed: list[Ref] = []
    log = EventLog(runtime)
    runtime.subscribe(kill, ev.Started)
    options: dict[str, Any] = {"strategy": "rest_for_one"}
    top = await runtime.spawn(Supervisor, [ChildSpec(id, Slow) for id in "abc"], name="top", **options)
    await settled(runtime, top)
    for path in ("/top/c", "/top/b"):
        ref = runtime.find(path)
        assert ref is not None
        ref.kill()
        await settled(runtime, top)
    await top.stop()
    order = [(type(event).__name__, getattr(event, "child", event.ref)) for event in log.of(ev.Exited, ev.ChildStarted)]
    assert order.index(("Exited", killed[0])) < order.index(("ChildStarted", killed[0]))
    must_hold(log)
