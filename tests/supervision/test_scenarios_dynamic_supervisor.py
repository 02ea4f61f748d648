"""Dynamic supervisors: scenarios S119 to S145 of the reference."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from supervision import (
    IGNORE,
    KILLED,
    NORMAL,
    SHUTDOWN,
    Abnormal,
    Actor,
    AlreadyStarted,
    BadChildSpec,
    ChildCounts,
    ChildNotFound,
    ChildSpec,
    DynamicSupervisor,
    ExitReason,
    MaxChildren,
    Ref,
    Refuse,
    Runtime,
    Shutdown,
    StartError,
    Stop,
    Supervisor,
    UnhandledMessage,
    count_children,
    delete_child,
    get_child_spec,
    restart_child,
    spawn_link,
    start_child,
    supervisor_info,
    terminate_child,
    which_child,
    which_children,
)
from supervision import events as ev
from supervision.actor import StopLimit
from supervision.errors import NotOffered
from supervision.supervisors.partition_supervisor import resize
from supervision.supervisors.restarts import Backoff, BudgetState
from supervision.testing import advance, barrier, settled
from tests.supervision.probes import Do, Probe, Recorder, do, error_of


@pytest.fixture
async def supervisor(runtime: Runtime) -> Ref:
    return await runtime.spawn(DynamicSupervisor, max_restarts=100, name="dynamic")


async def started(supervisor: Ref, spec: Any) -> Ref:
    ref = await start_child(supervisor, spec)
    assert ref is not None
    return ref


class Keeps(Probe):
    """Keeps its arguments."""

    def __init__(self, *args: Any) -> None:
        super().__init__()
        self.args = args


class Ignoring(Probe):
    """Traps exits, and ignores that it is to end."""

    trap_exit = True

    def __init__(self) -> None:
        super().__init__(trap_exit=True)

    async def terminate(self, reason: ExitReason) -> None:
        """Wait for ever."""
        await asyncio.get_running_loop().create_future()


class Trying(Actor):
    """Starts, or does not, as its list says; slowly if so wished."""

    def __init__(self, attempts: list[bool], plan: list[bool], slow: bool = False) -> None:
        self.attempts = attempts
        self.plan = plan
        self.slow = slow

    def init(self) -> Any:
        """Start, or fail."""
        return self.wait_then_try() if self.slow else self.try_it()

    async def wait_then_try(self) -> None:
        """Try it after a while."""
        await advance(0.1)
        self.try_it()

    def try_it(self) -> None:
        """Do as the plan says; start when it is over."""
        good = self.plan.pop(0) if self.plan else True
        self.attempts.append(good)
        if not good:
            raise ValueError("not this time")


async def test_S119_without_options_it_has_the_defaults(runtime: Runtime) -> None:
    supervisor = await runtime.spawn(DynamicSupervisor)
    info = supervisor_info(supervisor)
    assert info is not None
    assert info.budget == BudgetState(0, 3, 5.0)
    for _ in range(50):
        await started(supervisor, Probe)
    assert await count_children(supervisor) == ChildCounts(50, 50, 0, 50)


async def test_S120_it_has_a_name_and_links_like_any_actor(runtime: Runtime) -> None:
    starter = await runtime.spawn(Probe)
    supervisor: Ref = await do(starter, lambda actor: actor.spawn_link(DynamicSupervisor, name="n"))
    assert runtime.whereis("n") == supervisor
    info = runtime.info(starter)
    assert info is not None
    assert info.links == 1
    assert await count_children(runtime.name("n")) == ChildCounts(0, 0, 0, 0)
    await supervisor.stop()
    assert runtime.whereis("n") is None


@pytest.mark.parametrize("slow", [False, True])
async def test_S122_what_a_start_function_answers_is_what_the_caller_gets(supervisor: Ref, slow: bool) -> None:
    async def start(answer: Any) -> Any:
        if slow:
            await advance(1)
        if isinstance(answer, Exception):
            raise answer
        if answer in ("ref", "pair"):
            ref = await spawn_link(Probe)
            return (ref, "extra") if answer == "pair" else ref
        return answer

    def spec(answer: Any) -> ChildSpec:
        return ChildSpec("x", start, (answer,))

    assert isinstance(await start_child(supervisor, spec("ref")), Ref)
    assert isinstance(await start_child(supervisor, spec("pair")), Ref)
    assert await start_child(supervisor, spec(IGNORE)) is None
    assert isinstance(await error_of(start_child(supervisor, spec(Refuse(LookupError("found"))))), StartError)
    junk = await error_of(start_child(supervisor, spec("junk")))
    assert isinstance(junk, StartError)
    assert "junk" in str(junk)
    assert await count_children(supervisor) == ChildCounts(2, 2, 0, 2)


class Unwilling(Actor):
    """Does not want to run, and takes its time to say so."""

    async def init(self) -> Any:
        """Ignore the start."""
        await advance(1)
        return IGNORE


class AtOnce(Actor):
    """Does not want to run."""

    def init(self) -> Any:
        """Ignore the start."""
        return IGNORE


async def test_S122_an_actor_that_ignores_its_start_is_no_child(supervisor: Ref) -> None:
    assert await start_child(supervisor, Unwilling) is None
    assert await start_child(supervisor, AtOnce) is None
    assert await count_children(supervisor) == ChildCounts(0, 0, 0, 0)


@pytest.mark.parametrize("slow", [False, True])
async def test_S122_a_start_that_fails_is_told_and_the_child_is_not_kept(
    supervisor: Ref, events: Recorder, slow: bool
) -> None:
    error = await error_of(start_child(supervisor, ChildSpec("t", Trying, ([], [False], slow))))
    assert isinstance(error, StartError)
    assert "not this time" in str(error)
    assert await count_children(supervisor) == ChildCounts(0, 0, 0, 0)
    assert [event.id for event in events.of(ev.ChildStartFailed)] == ["t"]


async def test_S124_extra_arguments_come_before_the_childs_own_also_at_a_restart(runtime: Runtime) -> None:
    supervisor = await runtime.spawn(DynamicSupervisor, extra_arguments=("extra",))
    await started(supervisor, ChildSpec("k", Keeps, ("own",), name="k"))
    keeps = runtime.whereis("k")
    assert keeps is not None
    assert await do(keeps, lambda actor: actor.args) == ("extra", "own")
    keeps.exit("x")
    await settled(runtime)
    again = runtime.whereis("k")
    assert again is not None
    assert again is not keeps
    assert await do(again, lambda actor: actor.args) == ("extra", "own")
    assert (await which_children(supervisor))[0].spec.args == ("own",)


async def test_S125_with_a_limit_of_zero_no_child_starts(runtime: Runtime) -> None:
    supervisor = await runtime.spawn(DynamicSupervisor, max_children=0)
    error = await error_of(start_child(supervisor, Probe))
    assert isinstance(error, MaxChildren)
    assert error.limit == 0


async def test_S127_a_child_that_is_restarted_counts_also_while_it_waits(runtime: Runtime) -> None:
    supervisor = await runtime.spawn(DynamicSupervisor, max_children=1)
    spec = ChildSpec("p", Probe, name="p", backoff=Backoff(initial=5.0, jitter=0.0))
    first = await started(supervisor, spec)
    first.kill()
    await settled(runtime)
    (waiting,) = await which_children(supervisor)
    assert (waiting.ref, waiting.restarting) == (None, True)
    assert await count_children(supervisor) == ChildCounts(1, 0, 0, 1)
    assert isinstance(await error_of(start_child(supervisor, Probe)), MaxChildren)
    await advance(6)
    assert await count_children(supervisor) == ChildCounts(1, 1, 0, 1)
    assert isinstance(await error_of(start_child(supervisor, Probe)), MaxChildren)
    (again,) = await which_children(supervisor)
    assert again.restarts == 1


async def test_S129_a_transient_child_is_restarted_only_after_an_end_that_is_not_clean(
    runtime: Runtime, supervisor: Ref
) -> None:
    for reason, active in ((NORMAL, 0), (SHUTDOWN, 0), (Shutdown("s"), 0), (Abnormal("whatever"), 1)):
        ref = await started(supervisor, ChildSpec("t", Probe, restart="transient"))
        ref.cast(Do(lambda actor, reason=reason: actor.stop(reason)))
        await ref.join()
        await barrier(supervisor)
        assert await count_children(supervisor) == ChildCounts(active, active, 0, active)


async def test_S130_a_permanent_child_is_restarted_whatever_the_reason(runtime: Runtime, supervisor: Ref) -> None:
    for count, reason in enumerate((SHUTDOWN, Shutdown("s"), Abnormal("whatever"), NORMAL), 1):
        ref = await started(supervisor, Probe)
        ref.cast(Do(lambda actor, reason=reason: actor.stop(reason)))
        await ref.join()
        await barrier(supervisor)
        assert await count_children(supervisor) == ChildCounts(count, count, 0, count)


async def test_a_temporary_child_is_never_restarted(supervisor: Ref, events: Recorder) -> None:
    for reason in (NORMAL, Abnormal("x")):
        ref = await started(supervisor, ChildSpec("t", Probe, restart="temporary"))
        ref.cast(Do(lambda actor, reason=reason: actor.stop(reason)))
        await ref.join()
        await barrier(supervisor)
    assert await count_children(supervisor) == ChildCounts(0, 0, 0, 0)
    assert [event.reason for event in events.of(ev.ChildTerminated)] == [Abnormal("x")]


@pytest.mark.parametrize("slow", [False, True])
async def test_S132_a_restart_that_fails_is_tried_again(runtime: Runtime, slow: bool) -> None:
    supervisor = await runtime.spawn(DynamicSupervisor, max_restarts=2)
    attempts: list[bool] = []
    ref = await started(supervisor, ChildSpec("t", Trying, (attempts, [True, False, True], slow)))
    ref.kill()
    await advance(1)
    assert attempts == [True, False, True]
    assert await count_children(supervisor) == ChildCounts(1, 1, 0, 1)


async def test_S134_restarts_that_always_fail_use_up_the_budget(runtime: Runtime, events: Recorder) -> None:
    supervisor = await runtime.spawn(DynamicSupervisor, max_restarts=10)
    attempts: list[bool] = []
    ref = await started(supervisor, ChildSpec("t", Trying, (attempts, [True, *[False] * 99])))
    ref.kill()
    assert await supervisor.join() == SHUTDOWN
    assert attempts == [True, *[False] * 10]
    (gave_up,) = events.of(ev.GaveUp)
    assert (gave_up.id, gave_up.allowed) == ("t", 10)


async def test_S135_ids_need_not_differ(runtime: Runtime, supervisor: Ref) -> None:
    spec = ChildSpec("x", Probe)
    first, second = await started(supervisor, spec), await started(supervisor, spec)
    assert first is not second
    assert await count_children(supervisor) == ChildCounts(2, 2, 0, 2)
    static = await runtime.spawn(Supervisor)
    await started(static, spec)
    assert isinstance(await error_of(start_child(static, spec)), AlreadyStarted)


async def watched(runtime: Runtime, refs: list[Ref]) -> Ref:
    watcher = await runtime.spawn(Probe)
    for ref in refs:
        await do(watcher, lambda actor, ref=ref: actor.monitor(ref))
    return watcher


@pytest.mark.parametrize("limit", ["infinity", 5.0])
async def test_S137_children_are_told_to_shut_down(runtime: Runtime, supervisor: Ref, limit: StopLimit) -> None:
    refs = [await started(supervisor, ChildSpec(n, Probe, shutdown=limit)) for n in range(3)]
    await supervisor.stop()
    assert [ref.reason for ref in refs] == [SHUTDOWN] * 3


async def test_S139_children_that_do_not_end_in_time_are_killed(
    runtime: Runtime, supervisor: Ref, events: Recorder
) -> None:
    kinds: list[type[Probe]] = [Probe, Ignoring, Probe]
    refs = [await started(supervisor, ChildSpec(n, kind, shutdown=0.001)) for n, kind in enumerate(kinds)]
    refs[0].cast(Do(lambda actor: advance(100)))
    await supervisor.stop()
    assert [ref.reason for ref in refs] == [SHUTDOWN, KILLED, SHUTDOWN]
    assert [(event.id, event.reason) for event in events.of(ev.ChildShutdownFailed)] == [(1, KILLED)]


async def test_S140_a_permanent_child_that_ends_normally_when_it_is_stopped_is_reported(
    runtime: Runtime, supervisor: Ref, events: Recorder
) -> None:
    refs = [await started(supervisor, ChildSpec(n, Trapping)) for n in range(3)]
    await supervisor.stop()
    assert [ref.reason for ref in refs] == [NORMAL] * 3
    assert len(events.of(ev.ChildShutdownFailed)) == 3


class Trapping(Actor):
    """Takes the order to end as a message of its own, and ends normally."""

    trap_exit = True

    def terminate(self, reason: ExitReason) -> None:
        """End for another reason than the one that was ordered."""
        raise Stop(NORMAL)


@pytest.mark.parametrize(("limit", "reason"), [("brutal_kill", KILLED), (5.0, SHUTDOWN), ("infinity", SHUTDOWN)])
async def test_S142_a_child_is_stopped_for_good_by_its_address(
    runtime: Runtime, supervisor: Ref, limit: StopLimit, reason: ExitReason
) -> None:
    ref = await started(supervisor, ChildSpec("x", Probe, shutdown=limit))
    await terminate_child(supervisor, ref)
    assert ref.reason == reason
    assert isinstance(await error_of(terminate_child(supervisor, ref)), ChildNotFound)
    assert await count_children(supervisor) == ChildCounts(0, 0, 0, 0)


async def test_S142_a_child_that_waits_for_its_restart_is_stopped_by_its_last_address(
    runtime: Runtime, supervisor: Ref
) -> None:
    spec = ChildSpec("p", Probe, name="p", backoff=Backoff(initial=5.0, jitter=0.0))
    ref = await started(supervisor, spec)
    ref.kill()
    await settled(runtime)
    await terminate_child(supervisor, ref)
    await advance(9)
    assert runtime.whereis("p") is None
    assert await count_children(supervisor) == ChildCounts(0, 0, 0, 0)


async def test_S142_an_id_or_a_stranger_is_not_found(runtime: Runtime, supervisor: Ref) -> None:
    await started(supervisor, ChildSpec("x", Probe))
    stranger = await runtime.spawn(Probe)
    for wrong in ("x", stranger, None, [1]):
        assert isinstance(await error_of(terminate_child(supervisor, wrong)), ChildNotFound)
    assert stranger.alive


async def test_S145_children_are_stopped_side_by_side_each_within_its_own_limit(
    runtime: Runtime, supervisor: Ref
) -> None:
    loop = asyncio.get_running_loop()
    ends: dict[Any, float] = {}
    runtime.subscribe(lambda event: ends.setdefault(event.path, loop.time()), ev.Exited)
    for limit in (2.0, 10.0):
        await started(supervisor, ChildSpec(limit, Ignoring, shutdown=limit))
    began = loop.time()
    await supervisor.stop()
    assert ends["/dynamic/2.0"] == pytest.approx(began + 2)
    assert ends["/dynamic/10.0"] == pytest.approx(began + 10)
    assert loop.time() == pytest.approx(began + 10)


async def test_S145_a_child_that_waits_for_its_restart_is_not_started_any_more(
    runtime: Runtime, supervisor: Ref
) -> None:
    ref = await started(supervisor, ChildSpec("p", Probe, name="p", backoff=Backoff(initial=5.0, jitter=0.0)))
    ref.kill()
    await settled(runtime)
    await supervisor.stop()
    await advance(9)
    assert runtime.whereis("p") is None


async def test_children_are_listed_last_started_first_and_those_that_wait_last(
    runtime: Runtime, supervisor: Ref
) -> None:
    for n in "abc":
        await started(supervisor, ChildSpec(n, Probe, name=n, backoff=Backoff(initial=5.0, jitter=0.0)))
    await started(supervisor, ChildSpec("s", Supervisor))
    middle = runtime.whereis("b")
    assert middle is not None
    middle.kill()
    await settled(runtime)
    children = await which_children(supervisor)
    assert [child.id for child in children] == ["s", "c", "a", "b"]
    assert [child.type for child in children] == ["supervisor", "worker", "worker", "worker"]
    assert await count_children(supervisor) == ChildCounts(4, 3, 1, 3)


async def test_exits_of_strangers_are_nothing_to_it(runtime: Runtime, supervisor: Ref) -> None:
    supervisor.exit("from outside")
    stranger = await runtime.spawn(Probe)
    await do(stranger, lambda actor: actor.link(supervisor))
    stranger.exit("x")
    await barrier(supervisor)
    assert supervisor.alive


async def test_a_restart_of_which_the_child_wants_nothing_ends_it(runtime: Runtime, supervisor: Ref) -> None:
    answers = ["start", "ignore"]

    async def start() -> Any:
        return await spawn_link(Probe) if answers.pop(0) == "start" else IGNORE

    ref = await started(supervisor, ChildSpec("x", start))
    ref.exit("x")
    await settled(runtime)
    assert await count_children(supervisor) == ChildCounts(0, 0, 0, 0)


async def test_it_has_no_delete_and_a_wrong_specification_is_named(supervisor: Ref) -> None:
    given: list[Any] = [7, {"id": "x"}, ChildSpec]
    for wrong in given:
        assert isinstance(await error_of(start_child(supervisor, wrong)), BadChildSpec)
    significant = ChildSpec("x", Probe, restart="temporary", significant=True)
    assert isinstance(await error_of(start_child(supervisor, significant)), BadChildSpec)
    assert await count_children(supervisor) == ChildCounts(0, 0, 0, 0)


async def test_orders_that_it_does_not_offer_and_questions_about_strangers_are_refused(supervisor: Ref) -> None:
    """Nothing ends: neither the supervisor nor its children."""
    child = await start_child(supervisor, Probe)
    stranger = await supervisor.runtime.spawn(Probe)
    unknown: list[Any] = [stranger, "x", []]
    for order in (restart_child, delete_child):
        for id in (child, *unknown):
            assert isinstance(await error_of(order(supervisor, id)), NotOffered)
    for ask in (which_child, get_child_spec, terminate_child):
        for id in unknown:
            assert isinstance(await error_of(ask(supervisor, id)), ChildNotFound)
    assert isinstance(await error_of(resize(supervisor, 3)), UnhandledMessage)
    assert child is not None
    assert (await which_child(supervisor, child)).ref is child
    assert (await get_child_spec(supervisor, child)).start is Probe
    assert (supervisor.alive, child.alive) == (True, True)
