"""Scenarios of the reference, section 4.1: how a supervisor starts, what it refuses, and what a failed start leaves."""

from __future__ import annotations

from typing import Any

import pytest

from supervision import (
    IGNORE,
    KILLED,
    NORMAL,
    SHUTDOWN,
    Abnormal,
    Actor,
    BadChildSpec,
    ChildCounts,
    ChildSpec,
    Crashed,
    DynamicSupervisor,
    Ref,
    Runtime,
    Shutdown,
    StartError,
    StartIgnored,
    Stop,
    Supervisor,
    count_children,
    restart_child,
    start_child,
    which_child,
    which_children,
)
from supervision import events as ev
from supervision.reasons import BadReturnValue, ExitReason, FailedToStartChild, StartTimeout
from supervision.supervisors.administration import GetBudget
from supervision.testing import advance, barrier, settled
from tests.supervision.probes import Probe, Recorder, do, error_of, rec, refs, time_of


def failed(id: Any, cause: ExitReason) -> Shutdown:
    """Return the reason of a supervisor whose child did not start."""
    return Shutdown(FailedToStartChild(id, cause))


class Unwilling(Supervisor):
    """A supervisor that does not want to run, or fails, as it is told."""

    def __init__(self, what: Any) -> None:
        super().__init__()
        self.what = what

    async def init(self) -> Any:
        """Do it."""
        if isinstance(self.what, BaseException):
            raise self.what
        return self.what


# -- the supervisor itself ---------------------------------------------------------------------------------------------


async def test_children_start_one_after_the_other_before_the_starter_goes_on(
    runtime: Runtime, events: Recorder
) -> None:
    """Each child is started when the one before has finished its `init`; then the supervisor's own start is done."""
    log: list[Any] = []

    class Slow(Probe):
        async def init(self) -> None:
            await self.runtime.sleep(1.0)
            self.log.append("+slow")

    children = [rec(log, "a"), ChildSpec("slow", Slow, (log,)), rec(log, "b")]
    assert await time_of(runtime.spawn(Supervisor, children, name="sup")) == 1.0
    sup = runtime.whereis("sup")
    assert sup is not None
    assert log == ["+a", "+slow", "+b"]
    assert [(type(e).__name__, e.path) for e in events.all if isinstance(e, (ev.StartAttempt, ev.Started))] == [
        ("StartAttempt", "/sup"),
        ("StartAttempt", "/sup/a"),
        ("Started", "/sup/a"),
        ("StartAttempt", "/sup/slow"),
        ("Started", "/sup/slow"),
        ("StartAttempt", "/sup/b"),
        ("Started", "/sup/b"),
        ("Started", "/sup"),
    ]
    assert [(e.id, e.child) for e in events.of(ev.ChildStarted, sup)] == list((await refs(sup)).items())
    assert runtime.find("/sup/b") is (await refs(sup))["b"]


async def test_a_supervisor_without_children_runs_with_the_defaults_of_elixir(runtime: Runtime) -> None:
    """No children, one_for_one, 3 restarts in 5 seconds."""
    sup = await runtime.spawn(Supervisor)
    assert await which_children(sup) == []
    assert await count_children(sup) == ChildCounts(0, 0, 0, 0)
    assert await do_budget(sup) == (0, 3, 5.0)


async def do_budget(sup: Ref) -> tuple[int, int, float]:
    """Return the budget of a supervisor."""
    state = await sup.call(GetBudget())
    return state.used, state.allowed, state.seconds


async def test_S002_a_supervisor_that_ignores_its_start_leaves_nothing(runtime: Runtime, events: Recorder) -> None:
    """The starter is told so, the name is free, nobody is left, and a starter that traps exits hears nothing more."""
    log: list[Any] = []
    starter = await runtime.spawn(Probe, log, trap_exit=True)

    async def start(actor: Probe) -> BaseException:
        return await error_of(actor.spawn_link(Unwilling, IGNORE, name="sup"))

    for error in (await do(starter, start), await error_of(runtime.spawn(Unwilling, IGNORE, name="sup"))):
        assert type(error) is StartIgnored
    await advance(0.1)
    assert log == []
    assert runtime.names() == {}
    assert list(runtime.actors()) == [starter]
    assert len(events.of(ev.StartIgnored)) == 2
    assert events.of(ev.StartFailed) == []


@pytest.mark.parametrize("trap", [False, True], ids=["plain", "trapping"])
async def test_S004_a_supervisor_whose_init_raises(runtime: Runtime, trap: bool) -> None:
    """The starter gets an error with the exception and its traceback, and lives on, whether it traps exits or not."""
    log: list[Any] = []
    starter = await runtime.spawn(Probe, log, trap_exit=trap)
    broken = OSError("no such table")
    error = await do(starter, lambda actor: error_of(actor.spawn_link(Unwilling, broken)))
    assert type(error) is StartError
    assert error.__cause__ is broken
    assert isinstance(error.reason, Crashed)
    assert (error.reason.kind, error.reason.message) == ("OSError", "no such table")
    assert error.reason.frames[-1].function == "Unwilling.init"
    await barrier(starter)
    assert starter.alive
    assert log == []


async def test_a_supervisor_whose_init_stops_or_answers_junk(runtime: Runtime) -> None:
    """A reason given with `Stop` is the reason of the failure; a value that means nothing is an error of its own."""
    for what, reason in ((Stop("why"), Abnormal("why")), ("odd", BadReturnValue("odd"))):
        error = await error_of(runtime.spawn(Unwilling, what))
        assert isinstance(error, StartError)
        assert error.reason == reason


async def test_a_start_that_takes_too_long_takes_the_children_along(runtime: Runtime) -> None:
    """With a limit on the start of a supervisor, those children that run already end with it."""
    log: list[Any] = []

    class Endless(Probe):
        async def init(self) -> None:
            await self.runtime.sleep(100.0)

    children = [ChildSpec("a", Probe), ChildSpec("b", Endless, (log,))]
    error = await error_of(runtime.spawn(Supervisor, children, timeout=1.0, name="sup"))
    assert isinstance(error, StartError)
    assert error.reason == StartTimeout(1.0)
    await settled(runtime)
    assert list(runtime.actors()) == []
    assert runtime.names() == {}


# -- children that ignore their start ----------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_an_ignoring_child_of_the_first_list_keeps_its_specification(runtime: Runtime, restart: Any) -> None:
    """A child that is to be kept and ignores its start is known, without an address; the others start."""
    log: list[Any] = []
    children = [rec(log, "a"), rec(log, "b", IGNORE, restart=restart), rec(log, "c")]
    sup = await runtime.spawn(Supervisor, children)
    assert log == ["+a", "!b", "+c"]
    assert [(id, ref is None) for id, ref in (await refs(sup)).items()] == [("a", False), ("b", True), ("c", False)]
    assert await count_children(sup) == ChildCounts(3, 2, 0, 3)
    assert (await which_child(sup, "b")).restarting is False


async def test_an_ignoring_temporary_child_of_the_first_list_is_forgotten(runtime: Runtime) -> None:
    """There is nothing to come back to."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "a", IGNORE, restart="temporary"), rec(log, "b")])
    assert list(await refs(sup)) == ["b"]
    assert await count_children(sup) == ChildCounts(1, 1, 0, 1)


async def test_S005_an_ignoring_permanent_child_added_later_is_kept(runtime: Runtime) -> None:
    """`start_child` answers None for it; it counts as a specification, not as running."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor)
    assert await start_child(sup, rec(log, "c1", IGNORE)) is None
    c2 = await start_child(sup, rec(log, "c2"))
    assert isinstance(c2, Ref)
    assert await refs(sup) == {"c1": None, "c2": c2}
    assert await count_children(sup) == ChildCounts(2, 1, 0, 2)


async def test_S007_an_ignoring_temporary_child_added_later_is_forgotten(runtime: Runtime) -> None:
    """`start_child` answers None for it, and nothing of it is kept."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor)
    assert await start_child(sup, rec(log, "c1", IGNORE, restart="temporary")) is None
    c2 = await start_child(sup, rec(log, "c2"))
    assert await refs(sup) == {"c2": c2}
    assert await count_children(sup) == ChildCounts(1, 1, 0, 1)


async def test_S009_an_ignoring_permanent_child_of_a_dynamic_supervisor(runtime: Runtime, events: Recorder) -> None:
    """It is not kept; the supervisor then ends with `shutdown`, and nothing goes wrong on the way."""
    log: list[Any] = []
    sup = await runtime.spawn(DynamicSupervisor)
    assert await start_child(sup, rec(log, "c1", IGNORE)) is None
    c2 = await start_child(sup, rec(log, "c2"))
    assert await refs(sup) == {"c2": c2}
    assert await count_children(sup) == ChildCounts(1, 1, 0, 1)
    assert await runtime.shut_down(sup, 20.0) == SHUTDOWN
    assert log == ["!c1", "+c2", "-c2(shutdown)"]
    assert not events.of(ev.ChildShutdownFailed)
    assert not events.of(ev.ChildStartFailed)
    assert not events.of(ev.StartFailed)


async def test_a_start_function_may_ignore_too(runtime: Runtime) -> None:
    """What a start function answers, plain or async, counts as what an `init` answers."""

    async def later() -> Any:
        return IGNORE

    sup = await runtime.spawn(Supervisor, [ChildSpec("a", lambda: IGNORE), ChildSpec("b", later)])
    assert await refs(sup) == {"a": None, "b": None}
    assert await restart_child(sup, "a") is None


# -- children that do not start ----------------------------------------------------------------------------------------


def raising(error: BaseException) -> Any:
    """Return a start function that raises."""

    def start() -> None:
        raise error

    return start


JUNK = "error_reason"


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_S010_S012_a_child_that_does_not_start_is_not_kept(
    runtime: Runtime, events: Recorder, kind: type[Actor]
) -> None:
    """An error, or junk, from a start function reaches the caller as the reason, and the child's id is free."""
    sup = await runtime.spawn(kind, name="sup")
    cause = OSError("no")
    for start, reason in (
        (raising(StartError("it", Abnormal("reason"))), Abnormal("reason")),
        (lambda: JUNK, Abnormal(JUNK)),
        (lambda: None, Abnormal(None)),
        (lambda: (1, 2), Abnormal((1, 2))),
        (lambda: (1, 2, 3), Abnormal((1, 2, 3))),
        (raising(cause), "OSError: no"),
    ):
        error = await error_of(start_child(sup, ChildSpec("c", start)))
        assert type(error) is StartError
        if isinstance(reason, str):
            assert isinstance(error.reason, Crashed)
            assert f"{error.reason.kind}: {error.reason.message}" == reason
            assert error.__cause__ is cause
        else:
            assert error.reason == reason
        assert await which_children(sup) == []
        told = events.of(ev.ChildStartFailed)[-1]
        assert (told.path, told.id, told.child, told.reason) == ("/sup", "c", None, error.reason)
    assert await start_child(sup, ChildSpec("c", Probe)) is not None
    assert len(events.of(ev.ChildStartFailed)) == 6


async def test_S010_junk_is_called_junk(runtime: Runtime) -> None:
    """The error for a start function that answers junk names the child, the junk and what it should be."""
    sup = await runtime.spawn(Supervisor)
    error = await error_of(start_child(sup, ChildSpec("c", lambda: JUNK)))
    assert str(error) == "child 'c' did not start: 'error_reason'"
    assert isinstance(error.__cause__, BadChildSpec)
    assert error.__cause__.value == JUNK
    assert "returns its Ref" in error.__cause__.remedy


async def test_S010_an_init_that_fails_gives_its_own_error(runtime: Runtime) -> None:
    """The error of a child's `init`, plain or async, is the cause of what `start_child` raises."""

    class Slow(Actor):
        async def init(self) -> None:
            await self.runtime.sleep(1.0)
            raise OSError("late")

    sup = await runtime.spawn(Supervisor)
    for spec, text in ((rec([], "c", OSError("early")), "early"), (ChildSpec("c", Slow), "late")):
        error = await error_of(start_child(sup, spec))
        assert isinstance(error, StartError)
        assert isinstance(error.reason, Crashed)
        assert error.reason.message == text
        assert isinstance(error.__cause__, OSError)
    assert await which_children(sup) == []


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_wrong_specification_in_the_depth_is_told_as_it_is(runtime: Runtime, kind: type[Actor]) -> None:
    """A supervisor that cannot be a child, as its own children are wrong, is refused with that very error."""
    sup = await runtime.spawn(kind)
    error = await error_of(start_child(sup, ChildSpec("inner", Supervisor, ([{"id": "deep"}],))))
    assert isinstance(error, BadChildSpec)
    assert (error.field, error.value) == ("child spec: start", {"id": "deep"})
    assert await which_children(sup) == []


async def test_a_failed_start_stops_the_others_in_reverse_and_touches_no_later_one(
    runtime: Runtime, events: Recorder
) -> None:
    """Section 2.2: a and b run, d fails: stop b, stop a, fail; e is never attempted, and nothing is tried again."""
    log: list[Any] = []
    boom = OSError("boom")
    children = [rec(log, "a"), rec(log, "b"), rec(log, "d", boom, None), rec(log, "e")]
    error = await error_of(runtime.spawn(Supervisor, children, max_restarts=1000, name="sup"))
    assert log == ["+a", "+b", "!d", "-b(shutdown)", "-a(shutdown)"]
    assert type(error) is StartError
    assert isinstance(error.reason, Shutdown)
    cause = error.reason.note.cause
    assert error.reason == failed("d", cause)
    assert (cause.kind, cause.message) == ("OSError", "boom")
    assert isinstance(error.__cause__, StartError)
    assert error.__cause__.__cause__ is boom
    assert list(runtime.actors()) == []
    assert runtime.names() == {}
    assert [(e.id, e.child, e.reason) for e in events.of(ev.ChildStartFailed)] == [("d", None, cause)]
    assert [e.path for e in events.of(ev.StopRequested)] == ["/sup/b", "/sup/a"]
    assert events.of(ev.RestartScheduled) == []


@pytest.mark.parametrize(
    ("plan", "cause"),
    [("odd", BadReturnValue("odd")), (Stop("x"), Abnormal("x")), (Stop(NORMAL), NORMAL)],
    ids=["junk", "stop", "stop with normal"],
)
async def test_every_way_to_fail_rolls_the_start_back(runtime: Runtime, plan: Any, cause: ExitReason) -> None:
    """Junk and a stop, also one with a clean reason, fail the start as an exception does."""
    log: list[Any] = []
    error = await error_of(runtime.spawn(Supervisor, [rec(log, "a"), rec(log, "b", plan)]))
    assert isinstance(error, StartError)
    assert error.reason == failed("b", cause)
    assert log == ["+a", "!b", "-a(shutdown)"]


async def test_the_rollback_keeps_to_the_limits_of_the_children(runtime: Runtime, events: Recorder) -> None:
    """A child that does not stop in time during the rollback is killed, and one with brutal_kill is not asked."""
    log: list[Any] = []
    children = [
        rec(log, "a", shutdown="brutal_kill"),
        rec(log, "b", stops=10.0, shutdown=2.0),
        rec(log, "c", OSError("x")),
    ]
    assert await time_of(error_of(runtime.spawn(Supervisor, children))) == pytest.approx(2.0)
    assert log == ["+a", "+b", "!c"]
    assert [(e.path.rpartition("/")[2], e.reason) for e in events.of(ev.Exited)] == [("b", KILLED), ("a", KILLED)]
    assert [(e.id, e.reason) for e in events.of(ev.ChildShutdownFailed)] == [("b", KILLED)]


async def test_S014_a_failure_in_the_depth_rolls_all_layers_back(runtime: Runtime, events: Recorder) -> None:
    """The error of a worker in a supervisor in a supervisor names each layer, and the exception with its place."""
    log: list[Any] = []

    class Faulty(Actor):
        def init(self) -> None:
            undefined  # type: ignore[name-defined] # noqa: B018, F821

    inner = ChildSpec("inner", Supervisor, ([rec(log, "b"), ChildSpec("worker", Faulty)],))
    error = await error_of(runtime.spawn(Supervisor, [rec(log, "a"), inner], name="top"))
    assert isinstance(error, StartError)
    assert isinstance(error.reason, Shutdown)
    outer_failure = error.reason.note
    assert outer_failure.id == "inner"
    inner_failure = outer_failure.cause.note
    assert inner_failure.id == "worker"
    assert inner_failure.cause.kind == "NameError"
    assert inner_failure.cause.frames[-1].function.endswith("Faulty.init")
    assert "failed to start child 'inner': shutdown (failed to start child 'worker': NameError" in str(error)
    chain: list[type] = []
    link: BaseException | None = error
    while link is not None:
        chain.append(type(link))
        link = link.__cause__
    assert chain == [StartError, StartError, StartError, NameError]
    assert log == ["+a", "+b", "-b(shutdown)", "-a(shutdown)"]
    assert list(runtime.actors()) == []
    assert [(e.path, e.id) for e in events.of(ev.ChildStartFailed)] == [("/top/inner", "worker"), ("/top", "inner")]
