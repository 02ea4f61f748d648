"""Within the budgets: no fault of a plan makes a supervisor give up, and nothing is held back without need."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from supervision import (
    Actor,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Message,
    Runtime,
    StartError,
    Supervisor,
    handle,
    start_child,
)
from supervision._core.cell import Cell
from supervision.testing import (
    Chaos,
    ChaosPlan,
    ChaosStep,
    Crash,
    Delay,
    Drop,
    Duplicate,
    ExitFault,
    FailStart,
    Injector,
    Kill,
    KillDuring,
    Report,
    SeededQueue,
    Sigkill,
    SlowStop,
    advance,
    run,
)
from supervision.testing.fault_injection.report import ReportBuilder


class Work(Message, frozen=True):
    """Something to do."""


class Worker(Actor):
    """Does nothing with its messages."""

    @handle
    def work(self, message: Work) -> None:
        """Do nothing."""


class Trapping(Worker):
    """One that hears of exits."""

    trap_exit = True


class Obedient(Trapping):
    """One that ends when it hears of an abnormal one."""

    def unhandled(self, message: Any) -> None:
        """End for the reason of the signal."""
        self.stop(message.reason)


class SlowStart(Worker):
    """One that takes its time to start."""

    async def init(self) -> None:
        """Wait."""
        await self.runtime.sleep(1.0)


async def carried_out(runtime: Runtime, *steps: ChaosStep, **options: Any) -> Report:
    """Carry out some steps, while each actor gets a message every tenth of a second."""
    async with Chaos(runtime, **options) as chaos:

        def work() -> None:
            for ref in runtime.actors():
                if issubclass(ref.kind, Worker):  # type: ignore[attr-defined]
                    ref.cast(Work())

        timer = runtime.scheduler.timers.after(0.1, work, 0.1)
        report = await chaos.run(ChaosPlan(steps))
        timer.cancel()
    return report


def kills(*paths: str, at: float = 1.0) -> list[ChaosStep]:
    """Return kills, one after the other."""
    return [ChaosStep(at + n / 100, Kill(), path) for n, path in enumerate(paths)]


async def top(runtime: Runtime, *specs: ChildSpec, **options: Any) -> None:
    """Start a supervisor."""
    await runtime.spawn(Supervisor, specs, name="top", **options)


def three(kind: type[Actor] = Worker, **fields: Any) -> list[ChildSpec]:
    """Return the specifications of three workers."""
    return [ChildSpec(n, kind, **fields) for n in "abc"]


# -- what has no effect is no debt -------------------------------------------------------------------------------------


async def test_what_did_not_end_anybody_is_no_kill_and_no_debt(runtime: Runtime) -> None:
    await top(runtime, *three(), max_restarts=1)
    steps = [ChaosStep(n / 10, ExitFault("normal"), "/top/a") for n in range(3)]
    steps += [
        ChaosStep(0.5, Sigkill(), "/top/b"),
        ChaosStep(0.6, ExitFault("shutdown"), "/top/nobody"),
        *kills("/top/c"),
    ]
    report = await carried_out(runtime, *steps)
    assert (report.done, report.missed, report.held_back, report.kills) == (5, 1, 0, 1)


async def test_an_end_that_is_worth_no_restart_costs_nothing(runtime: Runtime) -> None:
    await top(runtime, *three(restart="transient"), max_restarts=0)
    report = await carried_out(runtime, ChaosStep(0.0, ExitFault("shutdown"), "/top/a"), *kills("/top/b"))
    assert (report.done, report.held_back, report.kills, report.lost) == (1, 1, 1, ("/top/a",))


@pytest.mark.parametrize(("kind", "ends"), [(Trapping, 0), (Obedient, 1)])
async def test_whoever_traps_exits_is_killed_by_one_only_if_it_ends_for_it(
    runtime: Runtime, kind: type[Actor], ends: int
) -> None:
    await top(runtime, ChildSpec("a", kind))
    report = await carried_out(
        runtime, ChaosStep(0.0, ExitFault("flood"), "/top/a"), ChaosStep(0.5, ExitFault("kill"), "/top/a")
    )
    assert (report.done, report.kills) == (2, 1 + ends)


async def test_a_fault_whose_moment_does_not_come_is_missed(runtime: Runtime) -> None:
    await top(runtime, ChildSpec("a", Actor, restart="transient"), *three()[1:])
    async with Chaos(runtime) as chaos:
        steps = (
            ChaosStep(0.0, Crash(), "/top/a", until=5.0),
            ChaosStep(0.0, SlowStop(), "/top/b"),
            ChaosStep(1.0, Kill(), "/top/c"),
        )
        report = await chaos.run(ChaosPlan(steps))
    assert (report.done, report.missed, report.held_back, report.complete) == (1, 2, 0, True)


async def test_a_kill_on_the_way_out_loses_nobody(runtime: Runtime) -> None:
    inner = ChildSpec("inner", Supervisor, ([ChildSpec("a", Trapping)],))
    await top(runtime, inner)
    async with Chaos(runtime) as chaos:
        plan = ChaosPlan(
            (ChaosStep(0.0, KillDuring("terminate"), "/top/inner/a"), ChaosStep(1.0, Kill(), "/top/inner"))
        )
        report = await chaos.run(plan)
    assert report.lost == ()


# -- what waits is asked for when it strikes ---------------------------------------------------------------------------


async def test_starts_fail_as_long_as_the_budget_has_room(runtime: Runtime) -> None:
    await top(runtime, *three(), max_restarts=3)
    armed = [ChaosStep(0.0, FailStart(), f"/top/{n}") for n in "ab"]
    report = await carried_out(runtime, *armed, *kills("/top/a", at=1.0), *kills("/top/b", at=2.0))
    assert (report.gave_up, report.kills, report.done, report.held_back) == ((), 2, 3, 1)


@pytest.mark.parametrize("fault", [Crash(), KillDuring("handler")])
async def test_crashes_that_wait_for_a_message_are_held_back_when_it_comes(runtime: Runtime, fault: Any) -> None:
    await top(runtime, *three(), max_restarts=2)
    report = await carried_out(
        runtime,
        *[ChaosStep(0.01 * n, fault, f"/top/{id}") for n, id in enumerate("abc")],
        ChaosStep(1.0, ExitFault("normal"), "/top/a"),
    )
    assert (report.done, report.held_back, report.kills, report.gave_up) == (3, 1, 2, ())


@pytest.mark.parametrize("fault", [KillDuring("init"), KillDuring("restart"), FailStart(times=9)])
async def test_starts_that_are_cut_short_count_as_well(runtime: Runtime, fault: Any) -> None:
    await top(runtime, *three(SlowStart), max_restarts=2, max_seconds=60.0)
    report = await carried_out(
        runtime, ChaosStep(0.0, fault, "/top/a"), *kills("/top/a", "/top/b"), ChaosStep(9.0, Kill(), "/top/c")
    )
    assert report.gave_up == ()
    assert runtime.find("/top/a") is not None


async def test_whoever_is_killed_while_it_starts_costs_its_supervisor_a_restart(runtime: Runtime) -> None:
    await top(runtime, *three(SlowStart), max_restarts=1, max_seconds=60.0)
    report = await carried_out(
        runtime, *kills("/top/a"), ChaosStep(1.5, Kill(), "/top/a"), ChaosStep(5.0, ExitFault("normal"), "/top/b")
    )
    assert (report.kills, report.held_back, report.gave_up) == (1, 1, ())


async def test_a_start_that_fails_inside_a_supervisor_that_starts_costs_the_one_above(runtime: Runtime) -> None:
    inner = ChildSpec("inner", Supervisor, (three(),), {"max_restarts": 0})
    await top(runtime, inner, max_restarts=1, max_seconds=60.0)
    report = await carried_out(runtime, ChaosStep(0.0, FailStart(), "/top/inner/b"), *kills("/top/inner"))
    assert (report.gave_up, report.held_back, report.kills) == ((), 1, 1)
    assert runtime.find("/top/inner/b") is not None


async def test_a_start_that_hangs_goes_on_when_it_is_healed(runtime: Runtime) -> None:
    await top(runtime, *three())
    hang = ChaosStep(0.0, FailStart(how="hang"), "/top/a", until=3.0)
    report = await carried_out(runtime, hang, *kills("/top/a"), ChaosStep(5.0, ExitFault("normal"), "/top/a"))
    assert (report.lost, report.recovery.maximum) == ((), pytest.approx(2.0))
    assert runtime.clock.time() < 10


# -- who goes along ----------------------------------------------------------------------------------------------------


class Tied(Worker):
    """One that is linked to another."""

    def init(self) -> None:
        """Link."""
        ref = self.runtime.find("/top/a")
        if ref is not None and ref is not self.ref:
            self.link(ref)


async def test_those_that_are_linked_to_a_victim_are_counted(runtime: Runtime) -> None:
    await top(runtime, *three(Tied), max_restarts=2, max_seconds=60.0)
    report = await carried_out(runtime, *kills("/top/a"))
    assert (report.held_back, report.gave_up) == (1, ())
    assert report.kills == 0


async def test_a_supervisor_that_ends_with_a_significant_child_costs_the_one_above(runtime: Runtime) -> None:
    significant = ChildSpec("a", Worker, restart="temporary", significant=True)
    inner = ChildSpec("inner", Supervisor, ([significant],), {"auto_shutdown": "any_significant"})
    await top(runtime, inner, max_restarts=0)
    report = await carried_out(runtime, *kills("/top/inner/a"))
    assert (report.held_back, report.kills) == (1, 0)


async def test_one_that_is_significant_for_nobody_costs_nothing(runtime: Runtime) -> None:
    dynamic = ChildSpec("d", DynamicSupervisor, name="d")
    await top(runtime, dynamic, max_restarts=0)
    await start_child(runtime.name("d"), ChildSpec("a", Worker, restart="temporary"))
    report = await carried_out(runtime, *kills("/top/d/a"))
    assert report.kills == 1


async def test_failed_starts_of_dynamic_children_and_pauses_are_counted_right(runtime: Runtime) -> None:
    slow = ChildSpec("a", Worker, backoff=Backoff(initial=2.0))
    await runtime.spawn(DynamicSupervisor, [slow, ChildSpec("b", Worker)], name="top", max_restarts=3, max_seconds=60.0)
    report = await carried_out(
        runtime,
        ChaosStep(0.0, FailStart(), "/top/a"),
        *kills("/top/a", "/top/b", "/top/b"),
        ChaosStep(9.0, Kill(), "/top/b"),
    )
    assert (report.gave_up, report.kills, report.held_back) == ((), 3, 2)


# -- whatever happens --------------------------------------------------------------------------------------------------

FAULTS = st.sampled_from(
    [
        *(
            Kill(),
            ExitFault(),
            ExitFault("shutdown"),
            Crash(),
            Crash(skip=3),
            FailStart(),
            FailStart(3),
            FailStart(how="hang"),
        ),
        *(FailStart(how="slow", seconds=3.0), FailStart(pattern="x.x"), SlowStop(2.0), Duplicate()),
        *(KillDuring("init"), KillDuring("terminate"), KillDuring("handler"), KillDuring("restart")),
    ]
)
KINDS = st.sampled_from([Worker, Worker, Trapping, SlowStart, Tied])
STRATEGIES = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
BUDGETS = st.tuples(st.integers(0, 4), st.sampled_from([0.5, 3.0, 30.0]))
GROUPS = st.tuples(STRATEGIES, BUDGETS, st.lists(KINDS, min_size=1, max_size=3))
#: A child that dies when it has started, and before its supervisor knows that.
YOUNG = [(0.0, Kill(), 1), (0.0, Crash(), 1), (2.0, Kill(), 0)]
#: A supervisor that is killed in the middle of a restart.
CUT_SHORT = [(0.0, Kill(), 1), (0.0, KillDuring("handler"), 0), (0.0, Kill(), 1)]
STEPS = st.lists(st.tuples(st.floats(0, 10), FAULTS, st.integers(0, 20)), min_size=1, max_size=15)


@pytest.mark.once
@settings(deadline=None, derandomize=True, max_examples=150)
@example("one_for_one", (0, 0.5), [("one_for_one", (1, 3.0), [SlowStart])], YOUNG, 0)
@example("one_for_one", (0, 0.5), [("one_for_one", (1, 0.5), [SlowStart])], YOUNG, 0)
@example("one_for_one", (1, 0.5), [("one_for_one", (2, 0.5), [Worker])], CUT_SHORT, 0)
@given(STRATEGIES, BUDGETS, st.lists(GROUPS, min_size=1, max_size=3), STEPS, st.integers(0, 2**16))
def test_no_plan_within_the_budgets_makes_a_supervisor_give_up(
    strategy: Any, budget: Any, groups: Any, steps: Any, seed: int
) -> None:
    async def main() -> Report:
        async with Runtime(watchdog=None, reports=False, run_queue=SeededQueue(seed)) as runtime:
            specs = [
                ChildSpec(
                    f"g{n}",
                    Supervisor,
                    ([ChildSpec(m, kind) for m, kind in enumerate(kinds)],),
                    {"strategy": inner, "max_restarts": allowed, "max_seconds": window},
                )
                for n, (inner, (allowed, window), kinds) in enumerate(groups)
            ]
            options = {"strategy": strategy, "max_restarts": budget[0], "max_seconds": budget[1]}
            await runtime.spawn(Supervisor, specs, name="top", **options)
            paths = sorted(ref.path for ref in runtime.actors() if ref.path != "/top")
            return await carried_out(runtime, *(ChaosStep(at, fault, paths[n % len(paths)]) for at, fault, n in steps))

    report = run(main())
    assert report.gave_up == ()
    assert report.violations == ()
    assert report.done + report.missed + report.held_back == report.planned


async def test_a_first_start_that_fails_costs_nobody_anything(runtime: Runtime) -> None:
    await top(runtime, *three())
    async with Chaos(runtime) as chaos:
        running = asyncio.ensure_future(
            chaos.run(ChaosPlan((ChaosStep(0.0, FailStart(), "/top/a"), *kills("/top/b", at=2.0))))
        )
        await advance(1.0)
        found = runtime.find("/top")
        assert found is not None
        await found.stop()
        with pytest.raises(StartError, match="the start was to fail"):
            await top(runtime, *three())
        report = await running
    assert (report.done, report.missed) == (1, 1)


def test_a_fault_that_was_held_back_and_strikes_later_has_struck(runtime: Runtime) -> None:
    report = ReportBuilder(runtime)
    record = report.book()
    record.held_back()
    record.held_back()
    assert (report.done, report.held_back) == (0, 1)
    record.done()
    record.done()
    record.held_back()
    assert (report.done, report.held_back) == (1, 0)


async def test_what_an_actor_sends_to_itself_goes_no_way(runtime: Runtime) -> None:
    class Clock(Actor):
        ticks = 0

        def init(self) -> None:
            self.send_after(1.0, Work())

        @handle
        def tick(self, message: Work) -> None:
            self.ticks += 1
            if self.ticks % 2:
                self.ref.cast(message)
            else:
                self.send_after(1.0, message)

    ref = await runtime.spawn(Clock, name="clock")
    injector = Injector(runtime)
    assert isinstance(ref, Cell)
    for fault in (Duplicate(), Drop(), Delay(0.5)):
        injector.inject(ref, fault)
    await advance(5.5)
    assert ref.actor.ticks == 10  # type: ignore[attr-defined]
    injector.close()
