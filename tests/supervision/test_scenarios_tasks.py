"""Tasks: scenarios S275 to S287 and S295 of the reference."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from supervision import (
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    Abnormal,
    BadChildSpec,
    BadOption,
    BadTime,
    Crashed,
    MaxChildren,
    NoProcess,
    Ref,
    Runtime,
    StartError,
    Stop,
    count_children,
    current_actor,
    handle,
    start_child,
    tasks,
)
from supervision.errors import NotOwner, TaskExited, TaskTimeout
from supervision.events import CrashReport, Restarted
from supervision.tasks import Done, Exited, Task, TaskReply, TaskSupervisor
from supervision.testing import advance, barrier, settled
from tests.supervision.probes import Do, Probe, Recorder, do, error_of


class Owner(Probe):
    """A puppet that writes down what it hears of its tasks."""

    @handle
    def replied(self, message: TaskReply) -> None:
        """Write it down."""
        self.log.append(("reply", message.task, message.value))


@pytest.fixture
async def supervisor(runtime: Runtime) -> Ref:
    return await runtime.spawn(TaskSupervisor, name="tasks")


@pytest.fixture
async def owner(runtime: Runtime) -> Ref:
    return await runtime.spawn(Owner)


async def after(seconds: float, value: Any = "done") -> Any:
    """Give a value after some time; raise it if it is an exception."""
    await advance(seconds)
    if isinstance(value, BaseException):
        raise value
    return value


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def log_of(owner: Ref) -> list[Any]:
    await settled(owner.runtime, owner)
    log: list[Any] = await do(owner, lambda actor: list(actor.log))
    return log


async def test_S275_the_owner_that_does_not_await_gets_the_result_and_then_the_end(supervisor: Ref, owner: Ref) -> None:
    task = await do(owner, lambda actor: tasks.async_(supervisor, after, 0))
    assert await log_of(owner) == [("reply", task, "done"), ("down", task.ref, NORMAL)]
    assert task.ref.reason == NORMAL
    assert "after" in repr(task)


async def test_S275_a_task_that_dies_before_it_replies_gives_only_its_end(supervisor: Ref, owner: Ref) -> None:
    task = await do(owner, lambda actor: tasks.async_nolink(supervisor, for_ever))
    task.ref.exit(Abnormal("x"))
    assert await log_of(owner) == [("down", task.ref, Abnormal("x"))]


async def test_S277_await_gives_the_result_and_leaves_no_message(supervisor: Ref, owner: Ref) -> None:
    async def start_and_await(actor: Owner) -> Any:
        quick = await tasks.async_(supervisor, lambda n: n + 1, 1)
        slow = await tasks.async_(supervisor, after, 3)
        return await slow.wait(), await quick

    assert await do(owner, start_and_await) == ("done", 2)
    assert await log_of(owner) == []


async def test_S277_await_that_times_out_lets_the_task_run_on_and_drops_its_late_result(
    supervisor: Ref, owner: Ref
) -> None:
    task = await do(owner, lambda actor: tasks.async_(supervisor, after, 10))
    error = await do(owner, lambda actor: error_of(task.wait(5)))
    assert isinstance(error, TaskTimeout)
    assert "5 s" in str(error)
    assert task.ref.alive
    await advance(6)
    assert task.ref.reason == NORMAL
    assert await log_of(owner) == []


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Stop(NORMAL), NORMAL),
        (Stop(SHUTDOWN), SHUTDOWN),
        (Stop("unknown"), Abnormal("unknown")),
        (ValueError("bad"), "ValueError: bad"),
    ],
)
async def test_S277_await_raises_why_the_task_ended_whatever_the_reason(
    supervisor: Ref, owner: Ref, value: BaseException, reason: Any
) -> None:
    task = await do(owner, lambda actor: tasks.async_nolink(supervisor, after, 1, value))
    error = await do(owner, lambda actor: error_of(task.wait()))
    assert isinstance(error, TaskExited)
    assert error.reason == reason or str(error.reason).startswith(str(reason))
    assert await log_of(owner) == []


async def test_S277_an_owner_that_does_not_catch_it_crashes(supervisor: Ref, owner: Ref) -> None:
    async def await_it(actor: Owner) -> None:
        await (await tasks.async_nolink(supervisor, after, 1, ValueError("bad")))

    owner.cast(Do(await_it))
    reason = await owner.join()
    assert isinstance(reason, Crashed)
    assert reason.kind.endswith("TaskExited")


async def test_S279_yield_gives_the_outcome_or_nothing_yet(supervisor: Ref, owner: Ref) -> None:
    task = await do(owner, lambda actor: tasks.async_(supervisor, after, 3))
    assert await do(owner, lambda actor: task.yield_(1)) is None
    assert await do(owner, lambda actor: task.yield_(1)) is None
    assert await do(owner, lambda actor: task.yield_(1.5)) == Done("done")
    bad = await do(owner, lambda actor: tasks.async_nolink(supervisor, after, 1, Stop("x")))
    assert await do(owner, lambda actor: bad.yield_(None)) == Exited(Abnormal("x"))
    assert await log_of(owner) == []


async def test_S279_a_result_counts_even_if_the_end_after_it_was_abnormal(supervisor: Ref, owner: Ref) -> None:
    async def reply_and_die(actor: Owner) -> Any:
        task = await tasks.async_nolink(supervisor, after, 0)
        task.ref.cast("not for a task")
        await advance(1)
        return await task.yield_(0)

    assert await do(owner, reply_and_die) == Done("done")


async def test_S280_yield_many_answers_in_the_order_of_the_tasks(supervisor: Ref, owner: Ref) -> None:
    async def three(actor: Owner) -> list[Task[Any]]:
        return [
            await tasks.async_nolink(supervisor, after, 2),
            await tasks.async_nolink(supervisor, after, 1, Stop("x")),
            await tasks.async_nolink(supervisor, after, 9),
        ]

    several = await do(owner, three)
    outcomes = await do(owner, lambda actor: tasks.yield_many(several, 5))
    assert outcomes == [Done("done"), Exited(Abnormal("x")), None]
    assert await do(owner, lambda actor: tasks.yield_many(several[2:], None)) == [Done("done")]
    assert await do(owner, lambda actor: tasks.yield_many([])) == []
    assert await log_of(owner) == []


async def test_S280_yield_many_returns_after_as_many_as_it_was_asked_for(supervisor: Ref, owner: Ref) -> None:
    several = await do(owner, lambda actor: _gather([tasks.async_(supervisor, after, n, n) for n in (3, 1, 2)]))
    loop = asyncio.get_running_loop()
    assert await do(owner, lambda actor: tasks.yield_many(several, limit=1)) == [None, Done(1), None]
    assert loop.time() == pytest.approx(1)
    assert await do(owner, lambda actor: tasks.yield_many([several[0], several[2]], limit=9)) == [Done(3), Done(2)]


async def _gather(starts: Any) -> list[Any]:
    return [await start for start in starts]


async def test_S280_yield_many_ignores_or_kills_what_has_not_ended(supervisor: Ref, owner: Ref) -> None:
    first, second = await do(
        owner, lambda actor: _gather([tasks.async_(supervisor, after, 9), tasks.async_(supervisor, after, 9)])
    )
    assert await do(owner, lambda actor: tasks.yield_many([first], 1, on_timeout="ignore")) == [None]
    assert first.ref.alive
    assert await do(owner, lambda actor: tasks.yield_many([second], 1, on_timeout="kill_task")) == [None]
    assert second.ref.reason == KILLED
    await advance(10)
    assert first.ref.reason == NORMAL
    assert await log_of(owner) == []
    assert owner.alive


async def test_S280_await_many_gives_all_results_or_raises_at_once(supervisor: Ref, owner: Ref) -> None:
    several = await do(owner, lambda actor: _gather([tasks.async_(supervisor, after, n, n) for n in (3, 1, 2)]))
    assert await do(owner, lambda actor: tasks.await_many(several)) == [3, 1, 2]
    assert await do(owner, lambda actor: tasks.await_many([])) == []
    began = asyncio.get_running_loop().time()
    bad = await do(
        owner,
        lambda actor: _gather(
            [tasks.async_nolink(supervisor, for_ever), tasks.async_nolink(supervisor, after, 1, Stop("x"))]
        ),
    )
    error = await do(owner, lambda actor: error_of(tasks.await_many(bad, None)))
    assert isinstance(error, TaskExited)
    assert asyncio.get_running_loop().time() == pytest.approx(began + 1)
    assert bad[0].ref.alive


async def test_S280_await_many_times_out_for_all_together(supervisor: Ref, owner: Ref) -> None:
    several = await do(owner, lambda actor: _gather([tasks.async_(supervisor, after, n, n) for n in (1, 4, 6)]))
    error = await do(owner, lambda actor: error_of(tasks.await_many(several, 5)))
    assert isinstance(error, TaskTimeout)
    assert "1 of 3" in str(error)
    assert several[2].ref.alive
    await advance(5)
    assert await log_of(owner) == []


async def test_S282_shutdown_gives_a_result_that_is_there_already(supervisor: Ref, owner: Ref) -> None:
    async def late(actor: Owner) -> Any:
        task = await tasks.async_(supervisor, after, 1)
        await advance(2)
        return await task.shutdown()

    assert await do(owner, late) == Done("done")
    assert await log_of(owner) == []


async def test_S282_shutdown_of_what_runs_gives_nothing_and_spares_the_linked_owner(
    supervisor: Ref, owner: Ref
) -> None:
    task = await do(owner, lambda actor: tasks.async_(supervisor, for_ever))
    assert await do(owner, lambda actor: task.shutdown()) is None
    assert task.ref.reason == SHUTDOWN
    brutal = await do(owner, lambda actor: tasks.async_(supervisor, for_ever))
    assert await do(owner, lambda actor: brutal.shutdown("brutal_kill")) is None
    assert brutal.ref.reason == KILLED
    assert owner.alive
    assert await log_of(owner) == []


async def test_S282_shutdown_tells_how_else_the_task_had_ended(supervisor: Ref, owner: Ref) -> None:
    async def ended_before(actor: Owner) -> Any:
        task = await tasks.async_nolink(supervisor, after, 1, Stop("x"))
        await advance(2)
        return await task.shutdown("brutal_kill")

    assert await do(owner, ended_before) == Exited(Abnormal("x"))
    killed = await do(owner, lambda actor: tasks.async_nolink(supervisor, for_ever))
    killed.ref.exit(KILL)
    assert await do(owner, lambda actor: killed.shutdown()) == Exited(KILLED)


async def stubborn() -> None:
    """Does not end when it is asked to, for a while."""
    try:
        await for_ever()
    except asyncio.CancelledError:
        await advance(3)


async def test_S282_shutdown_kills_when_the_time_is_over(supervisor: Ref, owner: Ref) -> None:
    task = await do(owner, lambda actor: tasks.async_(supervisor, stubborn))
    began = asyncio.get_running_loop().time()
    assert await do(owner, lambda actor: task.shutdown(1)) == Exited(KILLED)
    assert asyncio.get_running_loop().time() <= began + 1.01
    patient = await do(owner, lambda actor: tasks.async_(supervisor, stubborn))
    assert await do(owner, lambda actor: patient.shutdown("infinity")) is None
    assert isinstance(await do(owner, lambda actor: error_of(patient.shutdown("soon"))), BadTime)


async def test_S284_a_task_that_is_to_be_killed_at_once_is_killed_when_its_supervisor_stops(
    supervisor: Ref, owner: Ref
) -> None:
    task = await do(owner, lambda actor: tasks.async_nolink(supervisor, for_ever, shutdown="brutal_kill"))
    await supervisor.stop(SHUTDOWN)
    assert await log_of(owner) == [("down", task.ref, KILLED)]


async def test_S285_a_permanent_task_runs_again(runtime: Runtime, supervisor: Ref, events: Recorder) -> None:
    runs: list[Ref] = []

    def once() -> None:
        runs.append(current_actor())
        if len(runs) == 1:
            raise Stop(SHUTDOWN)

    await tasks.start_child(supervisor, once, restart="transient")
    await settled(runtime)
    assert len(runs) == 1
    runs.clear()
    gate = asyncio.get_running_loop().create_future()

    async def first_ends() -> None:
        runs.append(current_actor())
        if len(runs) == 1:
            raise Stop(SHUTDOWN)
        await gate

    await tasks.start_child(supervisor, first_ends, restart="permanent")
    await settled(runtime)
    assert len(runs) == 2
    assert len(events.of(Restarted)) == 1


async def test_S285_a_plain_task_is_not_restarted(runtime: Runtime, supervisor: Ref) -> None:
    await tasks.start_child(supervisor, after, 0, Stop("x"))
    await advance(1)
    assert (await count_children(supervisor)).specs == 0
    assert tasks.callers() == ()


async def test_S287_a_crash_without_link_is_one_report_and_one_message(
    supervisor: Ref, owner: Ref, events: Recorder
) -> None:
    task = await do(owner, lambda actor: tasks.async_nolink(supervisor, after, 0, RuntimeError("boom")))
    ((what, target, reason),) = await log_of(owner)
    assert (what, target) == ("down", task.ref)
    assert str(reason).startswith("RuntimeError: boom")
    assert owner.alive
    assert supervisor.alive
    assert (await count_children(supervisor)).active == 0
    assert len(events.of(CrashReport)) == 1


async def test_a_crash_of_a_linked_task_ends_its_owner_and_the_other_way_round(
    runtime: Runtime, supervisor: Ref, owner: Ref
) -> None:
    task = await do(owner, lambda actor: tasks.async_(supervisor, after, 1, RuntimeError("boom")))
    assert await owner.join() == await task.ref.join()
    second = await runtime.spawn(Owner)
    task = await do(second, lambda actor: tasks.async_(supervisor, for_ever))
    second.exit(Abnormal("x"))
    assert await task.ref.join() == Abnormal("x")


async def test_an_owner_that_traps_exits_hears_of_the_end_of_a_linked_task(runtime: Runtime, supervisor: Ref) -> None:
    owner = await runtime.spawn(Owner, trap_exit=True)

    async def start_and_await(actor: Owner) -> Any:
        task = await tasks.async_(supervisor, after, 0)
        return task.ref, await task

    ref, value = await do(owner, start_and_await)
    assert value == "done"
    assert await log_of(owner) == [("exit", ref, NORMAL)]


async def test_S295_a_task_knows_for_whom_it_runs(supervisor: Ref, owner: Ref) -> None:
    async def inner() -> tuple[Ref, ...]:
        return tasks.callers()

    async def outer() -> Any:
        nested = await (await tasks.async_(supervisor, inner))
        async with tasks.stream(supervisor, lambda _: tasks.callers(), [1]) as results:
            streamed = [outcome.result() async for outcome in results]
        heard: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        await tasks.start_child(supervisor, lambda: heard.set_result(tasks.callers()))
        return current_actor(), tasks.callers(), nested, *streamed, await heard

    async def ask(actor: Owner) -> Any:
        return await (await tasks.async_(supervisor, outer))

    me, chain, *nested = await do(owner, ask)
    assert chain == (owner,)
    assert nested == [(me, owner)] * 3
    assert me.path.startswith(supervisor.path)


async def test_outside_of_actors_a_task_belongs_to_whoever_has_it(supervisor: Ref, owner: Ref) -> None:
    task = await tasks.async_(supervisor, after, 1)
    assert task.owner is None
    assert await task == "done"
    assert await task == "done"
    crashing = await tasks.async_(supervisor, after, 1, RuntimeError("boom"))
    with pytest.raises(TaskExited, match="boom"):
        await crashing.wait()
    hanging = await tasks.async_(supervisor, for_ever)
    assert await hanging.yield_(1) is None
    assert await hanging.shutdown() is None


async def test_only_the_owner_may_use_a_task(supervisor: Ref, owner: Ref) -> None:
    task = await do(owner, lambda actor: tasks.async_nolink(supervisor, for_ever))
    for use in (task.wait(), task.yield_(), task.shutdown(), tasks.yield_many([task]), tasks.await_many([task])):
        assert isinstance(await error_of(use), NotOwner)
    with pytest.raises(NotOwner):
        task.ignore()
    outside = await tasks.async_(supervisor, for_ever)
    assert isinstance(await do(owner, lambda actor: error_of(outside.wait())), NotOwner)


async def test_a_task_that_is_ignored_runs_on_and_is_not_heard_of(supervisor: Ref, owner: Ref) -> None:
    async def ignore(actor: Owner) -> Any:
        running = await tasks.async_(supervisor, after, 3, Stop("x"))
        ended = await tasks.async_(supervisor, after, 1)
        await advance(2)
        return running, running.ignore(), ended.ignore()

    running, nothing, outcome = await do(owner, ignore)
    assert (nothing, outcome) == (None, Done("done"))
    await advance(5)
    assert running.ref.reason == Abnormal("x")
    assert owner.alive
    assert await log_of(owner) == []


async def test_a_full_supervisor_and_none_at_all_are_told_to_the_caller(runtime: Runtime, owner: Ref) -> None:
    small = await runtime.spawn(TaskSupervisor, max_children=1)
    await tasks.start_child(small, for_ever)
    assert isinstance(await error_of(tasks.start_child(small, for_ever)), MaxChildren)
    assert isinstance(await error_of(tasks.async_(small, for_ever)), MaxChildren)
    nobody = runtime.name("nobody")
    assert isinstance(await error_of(tasks.async_nolink(nobody, for_ever)), NoProcess)


async def test_wrong_arguments_are_named_before_anything_runs(supervisor: Ref) -> None:
    assert isinstance(await error_of(tasks.async_(supervisor, 7)), BadOption)  # type: ignore[call-overload]
    assert isinstance(await error_of(tasks.start_child(supervisor, after, restart="often")), BadChildSpec)  # type: ignore[arg-type]
    assert isinstance(await error_of(tasks.yield_many([], on_timeout="wait")), BadOption)  # type: ignore[arg-type]
    for wrong in (0, True, "1"):
        assert isinstance(await error_of(tasks.yield_many([], limit=wrong)), BadOption)  # type: ignore[arg-type]
    assert isinstance(await error_of(tasks.yield_many([], -1)), BadTime)
    assert (await count_children(supervisor)).specs == 0


async def test_a_task_of_an_owner_that_has_ended_meanwhile_does_not_start(
    runtime: Runtime, supervisor: Ref, owner: Ref
) -> None:
    task: Task[Any] = await do(owner, lambda actor: _unstarted())
    owner.kill()
    spec = tasks.task.task_spec(task, for_ever, (), {})
    error = await error_of(start_child(supervisor, spec))
    assert isinstance(error, StartError)


async def _unstarted() -> Task[Any]:
    owner = current_actor()
    return Task(owner, linked=True)  # type: ignore[arg-type]


async def test_what_a_killed_task_still_returns_is_not_a_result(runtime: Runtime, supervisor: Ref, owner: Ref) -> None:
    """A task that swallows its cancellation and returns is dead already."""
    task = await do(owner, lambda actor: tasks.async_nolink(supervisor, stubborn))
    task.ref.kill()
    await advance(5)
    await barrier(owner)
    assert await log_of(owner) == [("down", task.ref, KILLED)]
    assert await do(owner, lambda actor: task.yield_()) == Exited(KILLED)
