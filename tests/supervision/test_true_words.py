"""What the kernel says is so: reports, monitors, deadlines, fences, limits, fairness, and who belongs to whom."""

from __future__ import annotations

import asyncio
import gc
import threading
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from supervision import (
    IGNORE,
    KILLED,
    NORMAL,
    Abnormal,
    Actor,
    BadChildSpec,
    BadOption,
    BadTime,
    CallTimeout,
    ChildSpec,
    Down,
    DynamicSupervisor,
    IdleTimeout,
    Message,
    NoProcess,
    NotRunning,
    Refuse,
    Request,
    Runtime,
    Shutdown,
    StartError,
    StartIgnored,
    Stop,
    Supervisor,
    count_children,
    groups,
    handle,
    start_child,
    supervisor_info,
    system,
    which_children,
)
from supervision import events as ev
from supervision._core.scheduler import BUDGET, SLICE, TURNS
from supervision.errors import Fenced
from supervision.reasons import StartTimeout
from supervision.reports import Reports
from supervision.testing import VirtualClockLoop, advance, barrier, run, settled
from tests.supervision.probes import Do, DoAndReply, Probe, Recorder, do, error_of, refs


class Go(Message):
    """Any message."""


class Get(Request[int]):
    """Any request."""


# -- reports -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [lambda actor: actor.stop("disk full"), lambda actor: _raise(Stop("disk full"))])
async def test_an_actor_that_stops_itself_for_a_bad_reason_is_reported(
    runtime: Runtime, events: Recorder, how: Any
) -> None:
    ref = await runtime.spawn(Probe)
    ref.cast(Do(how))
    assert await ref.join() == Abnormal("disk full")
    (report,) = events.of(ev.CrashReport, ref)
    assert report.reason == Abnormal("disk full")
    with capture_logs() as entries:
        Reports()(report)
    assert [(entry["event"], entry["reason"]) for entry in entries] == [("crash_report", "'disk full'")]


@pytest.mark.parametrize("reason", [NORMAL, Shutdown(), Shutdown("a note")])
async def test_a_clean_end_is_not(runtime: Runtime, events: Recorder, reason: Any) -> None:
    ref = await runtime.spawn(Probe)
    ref.cast(Do(lambda actor: actor.stop(reason)))
    await ref.join()
    assert events.of(ev.CrashReport, ref) == []


def _raise(error: BaseException) -> None:
    raise error


async def test_what_a_supervisor_tells_of_a_child_has_the_fields_of_its_specification(
    runtime: Runtime, events: Recorder
) -> None:
    spec = ChildSpec("a", Probe, restart="transient", shutdown=7.0)
    supervisor = await runtime.spawn(Supervisor, [spec], max_restarts=0)
    (await refs(supervisor))["a"].kill()  # type: ignore[union-attr]
    await supervisor.join()
    told = events.of(ev.SupervisorEvent, supervisor)
    assert {type(event) for event in told} == {ev.ChildStarted, ev.ChildTerminated, ev.GaveUp}
    assert {(event.id, event.restart, event.shutdown, event.type) for event in told} == {
        ("a", "transient", 7.0, "worker")
    }


# -- starts ------------------------------------------------------------------------------------------------------------


class Slow(Actor):
    """Takes its time to end."""

    trap_exit = True

    async def terminate(self, reason: Any) -> None:
        await self.runtime.sleep(3)


@pytest.mark.parametrize("base", [Supervisor, DynamicSupervisor])
@pytest.mark.parametrize("how", [LookupError("no"), Refuse(LookupError("no")), Stop("no"), IGNORE])
async def test_a_supervisor_whose_init_fails_after_its_children_were_started_leaves_nothing(
    runtime: Runtime, base: type[Actor], how: Any
) -> None:
    async def init(self: Any) -> Any:
        await base.init(self)
        if how is IGNORE:
            return IGNORE
        raise how

    tree = type("Tree", (base,), {"init": init})
    error = await error_of(runtime.spawn(tree, [ChildSpec("a", Slow, name="a"), ChildSpec("b", Slow, name="b")]))
    assert isinstance(error, StartIgnored if how is IGNORE else StartError)
    assert (runtime.names(), list(runtime.actors())) == ({}, [])


class Brief(Actor):
    """Ends as soon as it runs."""

    async def init(self) -> None:
        await self.runtime.sleep(1)
        self.continue_with(Go())

    @handle
    def go(self, message: Go) -> None:
        self.stop()


class Watcher(Probe):
    """Writes down what its monitors say."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[Any] = []

    @handle
    def down(self, message: Down) -> None:
        self.ends.append(message.reason)


async def test_a_spawned_monitor_tells_the_real_reason(runtime: Runtime) -> None:
    watcher = await runtime.spawn(Watcher)
    await do(watcher, lambda actor: _nothing_of(actor.spawn_monitor(Brief)))
    await settled(runtime)
    assert await do(watcher, lambda actor: list(actor.ends)) == [NORMAL]


async def _nothing_of(work: Any) -> None:
    await work


@pytest.mark.parametrize("waits", [False, True])
async def test_a_spawned_monitor_of_a_start_that_fails_tells_nothing(runtime: Runtime, waits: bool) -> None:
    class Fails(Actor):
        async def init(self) -> None:
            if waits:
                await self.runtime.sleep(1)
            raise LookupError

    class FailsAtOnce(Actor):
        def init(self) -> None:
            raise LookupError

    watcher = await runtime.spawn(Watcher)
    for kind in (Fails, FailsAtOnce):
        error = await do(watcher, lambda actor, kind=kind: error_of(actor.spawn_monitor(kind)))
        assert isinstance(error, StartError)
    assert await do(watcher, lambda actor: list(actor.ends)) == []


class Hangs(Actor):
    """Never starts."""

    async def init(self) -> None:
        await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_start_that_takes_longer_than_its_limit_has_failed(runtime: Runtime, kind: type[Actor]) -> None:
    async def start() -> Any:
        await asyncio.get_running_loop().create_future()

    async def quick() -> Any:
        return IGNORE

    supervisor = await runtime.spawn(kind)
    for what in (Hangs, start):
        began = runtime.clock.time()
        error = await error_of(start_child(supervisor, ChildSpec("x", what, start_timeout=2.0)))
        assert isinstance(error, StartError)
        assert error.reason == StartTimeout(2.0)
        assert runtime.clock.time() == pytest.approx(began + 2.0)
    assert await start_child(supervisor, ChildSpec("x", quick, start_timeout=2.0)) is None
    assert [child.ref for child in await which_children(supervisor) if child.ref is not None] == []


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), "1", True])
def test_the_limit_of_a_start_is_checked(wrong: Any) -> None:
    with pytest.raises(BadChildSpec, match="start_timeout"):
        ChildSpec("x", Probe, start_timeout=wrong)


def test_leaving_a_runtime_has_a_limit_and_names_what_has_not_ended() -> None:
    class Database(Actor):
        up = True

        async def init(self) -> None:
            if not Database.up:
                await asyncio.get_running_loop().create_future()

    async def main() -> float:
        async with Runtime(watchdog=None, reports=False, close_timeout=20.0) as runtime:
            await runtime.spawn(Supervisor, [ChildSpec("db", Database, name="db")], name="app")
            Database.up = False
            runtime.name("db").resolve().kill()  # type: ignore[union-attr]
            await advance(1)
            began = runtime.clock.time()
        return runtime.clock.time() - began

    with capture_logs() as entries:
        assert 20.0 <= run(main()) < 21.0
    (entry,) = entries
    assert entry["event"] == "close_timed_out"
    assert entry["killed"] == ["/app/db (starting)", "/app (running)"]


def test_leaving_a_runtime_may_have_no_limit() -> None:
    async def main() -> float:
        async with Runtime(watchdog=None, close_timeout=None) as runtime:
            await runtime.spawn(Supervisor, [ChildSpec("slow", Slow, shutdown="infinity")])
        return runtime.clock.time()

    assert run(main()) == pytest.approx(3.0)
    with pytest.raises(BadTime):
        Runtime(close_timeout=-1)


# -- looking in --------------------------------------------------------------------------------------------------------


class Idle(Probe):
    """Writes down when it was idle."""

    def __init__(self) -> None:
        super().__init__()
        self.idled: list[float] = []

    @handle
    def timed_out(self, message: IdleTimeout) -> None:
        self.idled.append(self.runtime.clock.time())


async def test_looking_in_begins_an_idle_time_out_anew_and_other_messages_end_it(runtime: Runtime) -> None:
    ref = await runtime.spawn(Idle)
    ref.cast(Do(lambda actor: actor.idle_timeout(6)))
    await advance(3)
    await system.get_state(ref)
    await advance(5)
    assert (await system.get_state(ref))["idled"] == []
    await advance(10)
    assert (await system.get_state(ref))["idled"] == [14.0]
    ref.cast(Do(lambda actor: actor.idle_timeout(6)))
    ref.cast(Do(lambda actor: None))
    await advance(100)
    assert (await system.get_state(ref))["idled"] == [14.0]


async def test_a_look_that_waits_behind_the_time_out_does_not_end_it(runtime: Runtime) -> None:
    ref = await runtime.spawn(Idle)
    ref.cast(Do(lambda actor: actor.idle_timeout(6)))
    looking = [asyncio.ensure_future(system.get_state(ref)) for _ in range(3)]
    await asyncio.gather(*looking)
    await advance(10)
    assert (await system.get_state(ref))["idled"] == [6.0]


# -- whose is it -------------------------------------------------------------------------------------------------------


async def test_the_address_of_an_actor_of_another_runtime_is_refused_wherever_it_would_be_kept(
    runtime: Runtime,
) -> None:
    async with Runtime(watchdog=None) as elsewhere:
        stranger = await elsewhere.spawn(Probe, name="stranger")
        named = elsewhere.name("stranger")
        scope = await runtime.spawn(groups.Groups)
        ref = await runtime.spawn(Probe)
        for refused in (
            groups.join(scope, "g", stranger),
            groups.leave(scope, "g", stranger),
            groups.join(scope, [], ref),
        ):
            assert isinstance(await error_of(refused), BadOption)
        for harm in (
            lambda actor: actor.link(stranger),
            lambda actor: actor.unlink(stranger),
            lambda actor: _nothing(actor.monitor(stranger)),
            lambda actor: _nothing(actor.monitor(named)),
        ):
            error = await error_of(do(await runtime.spawn(Probe), harm))
            assert "BadOption" in str(error)
        with pytest.raises(BadOption, match="of an actor of this runtime"):
            runtime.register("x", stranger)
        with pytest.raises(BadOption, match="of an actor of this runtime"):
            runtime.info(stranger)

        async def start() -> Any:
            return stranger

        supervisor = await runtime.spawn(Supervisor)
        assert isinstance(await error_of(start_child(supervisor, ChildSpec("x", start))), StartError)
        assert scope.alive
        assert groups.which_groups(scope) == ()


def _nothing(value: object) -> None:
    """Answer with nothing."""


async def test_a_name_stands_for_its_holder_where_an_address_is_meant(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe, name="me")
    other = await runtime.spawn(Probe)
    name = runtime.name("me")
    assert runtime.info(name) is not None  # type: ignore[arg-type]
    await do(other, lambda actor: actor.link(name))
    ref.kill()
    assert not other.alive
    supervisor = await runtime.spawn(Supervisor, name="supervisor")
    assert supervisor_info(runtime.name("supervisor")) == supervisor_info(supervisor)
    with pytest.raises(NoProcess, match="nobody holds this name"):
        runtime.info(name)  # type: ignore[arg-type]


async def test_a_name_can_do_what_an_address_can(runtime: Runtime) -> None:
    name = runtime.name("me")
    for nobody in (name.stop(), name.join()):
        assert isinstance(await error_of(nobody), NoProcess)
    name.kill()
    name.exit("nobody hears it")
    ref = await runtime.spawn(Probe, name="me")
    joined = asyncio.ensure_future(name.join())
    await settled(runtime)
    await name.stop()
    assert await joined == NORMAL
    assert not ref.alive
    for end, reason in ((name.kill, KILLED), (lambda: name.exit("why"), Abnormal("why"))):
        ref = await runtime.spawn(Probe, name="me")
        end()
        assert await ref.join() == reason


async def test_a_timer_is_for_an_actor_of_this_runtime(runtime: Runtime) -> None:
    to: Any
    for to in (None, 7, "me"):
        with pytest.raises(BadOption, match="give the Ref, or the Name"):
            runtime.send_after(1.0, Go(), to)


async def test_what_is_left_in_the_queue_when_a_runtime_is_left_is_forgotten() -> None:
    async with Runtime(watchdog=None) as runtime:
        ref = await runtime.spawn(Probe)
        runtime.scheduler.ready.append(ref)  # type: ignore[arg-type]
    assert len(runtime.scheduler.ready) == 0


async def test_an_actor_knows_who_started_it(runtime: Runtime) -> None:
    supervisor = await runtime.spawn(Supervisor, [ChildSpec("a", Probe)])
    child = (await refs(supervisor))["a"]
    assert child is not None
    assert await do(child, lambda actor: actor.parent) is supervisor
    assert await do(await runtime.spawn(Probe), lambda actor: actor.parent) is None


async def test_parents_that_have_ended_are_let_go_and_depth_is_no_matter(runtime: Runtime) -> None:
    ref = await runtime.spawn(Probe)

    async def heir(actor: Probe) -> Any:
        child = await actor.spawn_link(Probe)
        actor.unlink(child)
        actor.stop()
        return child

    for _ in range(50):
        ref = await do(ref, heir)
    kept = 0
    above: Any = ref
    while above is not None:
        kept, above = kept + 1, getattr(above, "parent", None)
    assert kept <= 4
    assert ref.path.count("/") == 51
    info = runtime.info(ref)
    assert info is not None
    assert info.parent is None or not info.parent.alive

    deep = await runtime.spawn(Probe)
    for _ in range(1200):
        deep = await do(deep, lambda actor: actor.spawn_link(Probe))
    assert deep.path.count("/") == 1201
    runtime.find(deep.path).kill()  # type: ignore[union-attr]
    await settled(runtime)
    assert not deep.alive


async def test_the_ancestors_of_an_orphan_are_named_in_its_crash_report(runtime: Runtime, events: Recorder) -> None:
    first = await runtime.spawn(Probe)

    async def heir(actor: Probe) -> Any:
        child = await actor.spawn_link(Probe)
        actor.unlink(child)
        actor.stop()
        return child

    second = await do(first, heir)
    await settled(runtime)
    third = await do(second, lambda actor: actor.spawn_link(Probe))
    third.cast(Do(lambda actor: _raise(LookupError())))
    await settled(runtime)
    assert events.of(ev.CrashReport, third)[0].ancestors == (str(second), str(first))


# -- who does what -----------------------------------------------------------------------------------------------------


class Backend(Actor):
    """Takes a second."""

    @handle
    async def get(self, request: Get) -> int:
        await self.runtime.sleep(1)
        return 42


async def test_what_an_actor_does_besides_has_time_of_its_own(runtime: Runtime) -> None:
    backend = await runtime.spawn(Backend)
    tasks: list[asyncio.Task[int]] = []

    class Busy(Probe):
        def init(self) -> None:
            tasks.append(asyncio.ensure_future(self.besides()))

        async def besides(self) -> int:
            await self.runtime.sleep(0.1)
            return await backend.call(Get(), timeout=10)

    ref = await runtime.spawn(Busy)

    async def quick(actor: Probe) -> str:
        await actor.runtime.sleep(0.2)
        return "ok"

    assert await ref.call(DoAndReply(quick), timeout=0.4) == "ok"
    assert await tasks[0] == 42


@pytest.mark.parametrize("how", ["itself", "in a task", "in a group"])
async def test_what_a_handler_does_for_its_request_ends_with_it(runtime: Runtime, how: str) -> None:
    backend = await runtime.spawn(Backend)
    ref = await runtime.spawn(Probe)
    ends: list[float] = []

    async def ask() -> None:
        try:
            await backend.call(Get(), timeout=10)
        except CallTimeout:
            ends.append(runtime.clock.time())

    async def handler(actor: Probe) -> None:
        if how == "itself":
            await ask()
        elif how == "in a task":
            await asyncio.ensure_future(ask())
        else:
            async with asyncio.TaskGroup() as group:
                group.create_task(ask())

    await error_of(ref.call(DoAndReply(handler), timeout=0.4))
    await settled(runtime)
    assert ends == [pytest.approx(0.4)]


async def test_tasks_of_a_killed_actor_do_nothing_whether_or_not_there_are_zombies(runtime: Runtime) -> None:
    backend = await runtime.spawn(Probe)
    seen: list[Any] = []
    tasks: list[asyncio.Task[None]] = []

    class Leaves(Probe):
        def init(self) -> None:
            tasks.append(asyncio.ensure_future(self.besides()))

        async def besides(self) -> None:
            await self.runtime.sleep(1)
            backend.cast(Do(lambda actor: seen.append("cast")))
            seen.append(await error_of(backend.call(DoAndReply(lambda actor: 1))))
            seen.append(await error_of(self.runtime.spawn(Probe, name="mine")))

    ref = await runtime.spawn(Leaves)
    ref.kill()
    await advance(2)
    assert [type(item) for item in seen] == [Fenced, NotRunning]
    assert runtime.whereis("mine") is None
    assert runtime.scheduler.fenced == 1
    tasks.clear()
    seen.clear()
    del ref
    gc.collect()
    assert runtime.scheduler.fenced == 0
    await do(backend, lambda actor: seen.append("alive"))
    assert seen[-1] == "alive"


class Front(Actor):
    """Hands requests on."""

    def __init__(self, back: Any, how: Any) -> None:
        self.back = back
        self.how = how

    @handle
    def get(self, request: Get) -> Any:
        return self.how(self.back, request)


class Quick(Actor):
    """Answers at once."""

    @handle
    def get(self, request: Get) -> int:
        return 42


async def _asked(back: Any, request: Get) -> Any:
    return await back.call(request)


@pytest.mark.parametrize(
    "how",
    [
        lambda back, request: back.call(request),
        _asked,
        lambda back, request: asyncio.ensure_future(_asked(back, request)),
        lambda back, request: asyncio.gather(_asked(back, request)),
    ],
)
async def test_what_a_plain_handler_returns_is_awaited_before_the_answer(runtime: Runtime, how: Any) -> None:
    back = await runtime.spawn(Quick)
    front = await runtime.spawn(Front, back, how)
    for _ in range(2):
        assert await front.call(Get()) in (42, [42])
    other = await runtime.spawn(Probe)
    assert await do(other, lambda actor: _asked(front, Get())) in (42, [42])  # from a worker's task


async def test_an_answer_that_a_plain_handler_waits_for_may_fail(runtime: Runtime) -> None:
    back = await runtime.spawn(Probe)
    front = await runtime.spawn(Front, back, lambda back, request: back.call(request))
    error = await error_of(front.call(Get()))
    assert "UnhandledMessage" in str(error)


async def test_types_of_answers_are_remembered_and_not_without_end(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    from supervision._core import turns

    monkeypatch.setattr(turns, "PLAIN", {int})
    monkeypatch.setattr(turns, "MANY", 2)
    ref = await runtime.spawn(Probe)
    for answer in ("one", 2.0, b"three"):
        assert await do(ref, lambda actor, answer=answer: answer) == answer
    assert len(turns.PLAIN) == 2


# -- the loop ----------------------------------------------------------------------------------------------------------


def test_a_cast_from_another_thread_to_a_runtime_at_rest_is_delivered() -> None:
    async def main() -> tuple[list[str], bool]:
        seen: list[str] = []
        async with Runtime(watchdog=None) as runtime:
            ref = await runtime.spawn(Probe)
            done = asyncio.Event()
            loop = asyncio.get_running_loop()

            def note(actor: Probe) -> None:
                seen.append(threading.current_thread().name)
                done.set()

            thread = threading.Thread(target=lambda: ref.cast(Do(note)))
            await loop.run_in_executor(None, thread.start)
            await asyncio.wait_for(done.wait(), 30)
            thread.join()
            answers = await do(ref, lambda actor: True)
        return seen, answers

    assert asyncio.run(main(), debug=True) == ([threading.main_thread().name], True)


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, VirtualClockLoop])
def test_the_loop_gets_its_turn_however_slow_the_handlers_are(loop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is what the test says: each message takes a fifth of a millisecond."""
    spent = 0.0
    monkeypatch.setattr("supervision._core.scheduler.machine_time", lambda: spent)

    async def main() -> list[float]:
        nonlocal spent
        turns: list[float] = []

        def work(actor: Probe) -> None:
            nonlocal spent
            spent += 0.0002

        async with Runtime(watchdog=None) as runtime:
            ref = await runtime.spawn(Probe)
            for _ in range(3000):
                ref.cast(Do(work))

            def look() -> None:
                turns.append(spent)
                if spent < 0.59:
                    asyncio.get_running_loop().call_soon(look)

            look()
            await barrier(ref)
        return turns

    with asyncio.Runner(loop_factory=loop) as runner:
        turns = runner.run(main())
    gaps = [after - before for before, after in pairwise(turns)]
    assert len(gaps) > 100
    assert max(gaps) <= 2 * 0.0002 * BUDGET
    assert sorted(gaps)[len(gaps) // 2] <= 2 * SLICE


async def test_turns_are_as_long_as_ever_once_handlers_are_quick_again(runtime: Runtime) -> None:
    scheduler = runtime.scheduler
    whole = scheduler._whole_budget
    scheduler._turns, scheduler.budget = TURNS, whole  # however slow the machine was until now
    scheduler._pace(SLICE * 5)
    assert (scheduler.budget, scheduler._turns) == (whole, TURNS // 4)
    for _ in range(20):
        scheduler._pace(SLICE * 5)
    assert scheduler._turns == 1
    assert scheduler.budget == 1
    scheduler._pace(SLICE / 4)
    assert scheduler._turns == 1
    for _ in range(20):
        scheduler._pace(0.0)
    assert (scheduler.budget, scheduler._turns) == (whole, TURNS)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("waits", [False, True])
async def test_an_error_of_the_kernel_itself_ends_the_actor_and_is_told(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, loop_errors: list[dict[str, Any]], waits: bool, many: bool
) -> None:
    """An actor is never left alive with nobody to run it."""
    from supervision._core import turns

    ref, other = await runtime.spawn(Probe), await runtime.spawn(Probe)

    def broken(*_: Any) -> Any:
        monkeypatch.undo()
        raise RecursionError("in the kernel")

    async def later(actor: Probe) -> int:
        await actor.runtime.sleep(1)
        return 7

    if many:  # the queue's way; a lone message takes a shorter one
        other.cast(Do(lambda actor: None))
    monkeypatch.setattr(turns, "body_ended" if waits else "carry_out_intent", broken)
    ref.cast(Do(later if waits else (lambda actor: actor.continue_with(Go()))))
    await advance(2)
    assert not ref.alive
    assert "RecursionError" in str(ref.reason)
    assert await do(other, lambda actor: "goes on") == "goes on"
    assert "the kernel failed in a turn of" in loop_errors[0]["message"]
    loop_errors.clear()


async def test_handlers_that_wait_begin_together_and_not_one_in_each_pass_of_the_loop(runtime: Runtime) -> None:
    begun: list[int] = []
    gate = asyncio.get_running_loop().create_future()

    async def wait(actor: Probe) -> None:
        begun.append(passes)
        await gate

    refs = [await runtime.spawn(Probe) for _ in range(300)]
    passes = 0
    for ref in refs:
        ref.cast(Do(wait))
    while len(begun) < 300:
        passes += 1
        await asyncio.wait([asyncio.ensure_future(_one_pass())])
    assert max(begun) <= 10
    gate.set_result(None)
    await settled(runtime, *refs)


async def _one_pass() -> None:
    """Take a pass of the loop."""


class Counted(dict[Any, Any]):
    """Counts how often all of it is looked at."""

    looks = 0

    def values(self) -> Any:
        self.looks += 1
        return super().values()

    def __iter__(self) -> Any:
        self.looks += 1
        return super().__iter__()


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_a_death_under_a_static_supervisor_is_no_matter_of_how_many_children_it_has(
    runtime: Runtime, restart: Any
) -> None:
    specs = [ChildSpec(n, Probe, restart=restart) for n in range(100)]
    supervisor = await runtime.spawn(Supervisor, specs, max_restarts=100)
    children = await refs(supervisor)
    actor: Any = supervisor.actor  # type: ignore[attr-defined]
    actor._children = counted = Counted(actor._children)
    for n in (0, 50, 99):
        children[n].kill()  # type: ignore[union-attr]
    await settled(runtime)
    assert counted.looks == 0
    actor._children = dict(counted)
    assert (await count_children(supervisor)).active == (97 if restart == "temporary" else 100)
