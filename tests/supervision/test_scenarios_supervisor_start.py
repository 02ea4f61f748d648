"""Scenarios of the reference, section 4.1: how a supervisor starts, what it refuses, and what a failed start leaves."""

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
    ActorExited,
    AlreadyStarted,
    BadChildSpec,
    BadStrategy,
    ChildNotFound,
    ChildSpec,
    Counts,
    Crashed,
    DynamicSupervisor,
    Exit,
    Ref,
    Runtime,
    Shutdown,
    StartError,
    StartIgnored,
    StartTimeout,
    Stop,
    Supervisor,
    check_child_specs,
    count_children,
    get_child_spec,
    handle,
    restart_child,
    spawn_link,
    start_child,
    terminate_child,
    which_child,
    which_children,
)
from supervision import events as ev
from supervision.administration import GetBudget
from supervision.reasons import BadReturnValue, ExitReason, FailedToStartChild
from supervision.testing import advance, barrier, settled
from tests.supervision.probes import Puppet, Recorder, die, do, error_of, rec, refs, time_of


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

    class Slow(Puppet):
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
    assert await count_children(sup) == Counts(0, 0, 0, 0)
    assert await do_budget(sup) == (0, 3, 5.0)


async def do_budget(sup: Ref) -> tuple[int, int, float]:
    """Return the budget of a supervisor."""
    state = await sup.call(GetBudget())
    return state.used, state.allowed, state.seconds


async def test_S002_a_supervisor_that_ignores_its_start_leaves_nothing(runtime: Runtime, events: Recorder) -> None:
    """The starter is told so, the name is free, nobody is left, and a starter that traps exits hears nothing more."""
    log: list[Any] = []
    starter = await runtime.spawn(Puppet, log, trap=True)

    async def start(actor: Puppet) -> BaseException:
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
    starter = await runtime.spawn(Puppet, log, trap=trap)
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
    for what, reason in ((Stop("why"), Abnormal("why")), (4711, BadReturnValue(4711))):
        error = await error_of(runtime.spawn(Unwilling, what))
        assert isinstance(error, StartError)
        assert error.reason == reason


async def test_a_start_that_takes_too_long_takes_the_children_along(runtime: Runtime) -> None:
    """With a limit on the start of a supervisor, those children that run already end with it."""
    log: list[Any] = []

    class Endless(Puppet):
        async def init(self) -> None:
            await self.runtime.sleep(100.0)

    children = [ChildSpec("a", Puppet), ChildSpec("b", Endless, (log,))]
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
    assert await count_children(sup) == Counts(3, 2, 0, 3)
    assert (await which_child(sup, "b")).restarting is False


async def test_an_ignoring_temporary_child_of_the_first_list_is_forgotten(runtime: Runtime) -> None:
    """There is nothing to come back to."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "a", IGNORE, restart="temporary"), rec(log, "b")])
    assert list(await refs(sup)) == ["b"]
    assert await count_children(sup) == Counts(1, 1, 0, 1)


async def test_S005_an_ignoring_permanent_child_added_later_is_kept(runtime: Runtime) -> None:
    """`start_child` answers None for it; it counts as a specification, not as running."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor)
    assert await start_child(sup, rec(log, "c1", IGNORE)) is None
    c2 = await start_child(sup, rec(log, "c2"))
    assert isinstance(c2, Ref)
    assert await refs(sup) == {"c1": None, "c2": c2}
    assert await count_children(sup) == Counts(2, 1, 0, 2)


async def test_S007_an_ignoring_temporary_child_added_later_is_forgotten(runtime: Runtime) -> None:
    """`start_child` answers None for it, and nothing of it is kept."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor)
    assert await start_child(sup, rec(log, "c1", IGNORE, restart="temporary")) is None
    c2 = await start_child(sup, rec(log, "c2"))
    assert await refs(sup) == {"c2": c2}
    assert await count_children(sup) == Counts(1, 1, 0, 1)


async def test_S009_an_ignoring_permanent_child_of_a_dynamic_supervisor(runtime: Runtime, events: Recorder) -> None:
    """It is not kept; the supervisor then ends with `shutdown`, and nothing goes wrong on the way."""
    log: list[Any] = []
    sup = await runtime.spawn(DynamicSupervisor)
    assert await start_child(sup, rec(log, "c1", IGNORE)) is None
    c2 = await start_child(sup, rec(log, "c2"))
    assert await refs(sup) == {"c2": c2}
    assert await count_children(sup) == Counts(1, 1, 0, 1)
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
    assert await start_child(sup, ChildSpec("c", Puppet)) is not None
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


async def test_a_failed_start_stops_the_others_in_reverse_and_touches_no_later_one(
    runtime: Runtime, events: Recorder
) -> None:
    """Section 2.2: a and b run, d fails: stop b, stop a, fail; e is never attempted, and nothing is tried again."""
    log: list[Any] = []
    boom = OSError("boom")
    children = [rec(log, "a"), rec(log, "b"), rec(log, "d", boom, "ok"), rec(log, "e")]
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
    [(4711, BadReturnValue(4711)), (Stop("x"), Abnormal("x")), (Stop(NORMAL), NORMAL)],
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
        rec(log, "b", slow_stop=10.0, shutdown=2.0),
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


# -- specifications ----------------------------------------------------------------------------------------------------


async def test_S015_defaults_are_filled_in(runtime: Runtime) -> None:
    """`get_child_spec` shows all fields: permanent, 5 seconds, worker; infinity for supervisors."""
    sup = await runtime.spawn(
        Supervisor,
        [
            {"id": 1, "start": Puppet},
            {"id": 2, "start": Puppet, "shutdown": "brutal_kill"},
            {"id": 3, "start": Puppet, "type": "supervisor"},
            {"id": 4, "start": Supervisor},
            {"id": 5, "start": Supervisor, "shutdown": 1.0, "type": "worker"},
            Puppet,
        ],
    )
    plain = await get_child_spec(sup, 1)
    assert (plain.restart, plain.shutdown, plain.type, plain.significant) == ("permanent", 5.0, "worker", False)
    assert (plain.args, plain.kwargs, plain.backoff, plain.name) == ((), {}, None, None)
    found = [await get_child_spec(sup, id) for id in (2, 3, 4, 5, "Puppet")]
    assert [(spec.shutdown, spec.type) for spec in found] == [
        ("brutal_kill", "worker"),
        ("infinity", "supervisor"),
        ("infinity", "supervisor"),
        (1.0, "worker"),
        (5.0, "worker"),
    ]
    error = await error_of(get_child_spec(sup, 6))
    assert isinstance(error, ChildNotFound)
    assert error.id == 6


FAULTY = [
    ("no id", {"start": Puppet}, "child spec: id", "id is missing"),
    ("no start", {"id": "a"}, "child spec: start", "start is missing"),
    ("no mapping", "a", "child spec", "give a ChildSpec"),
    ("not an actor", int, "child spec", "give a ChildSpec"),
    ("bad restart", {"id": "a", "start": Puppet, "restart": "maybe"}, "child 'a': restart", "permanent, transient"),
    ("bad shutdown", {"id": "a", "start": Puppet, "shutdown": -1}, "child 'a': shutdown", "brutal_kill"),
]


@pytest.mark.parametrize(("spec", "field", "remedy"), [row[1:] for row in FAULTY], ids=[row[0] for row in FAULTY])
async def test_S017_faulty_specifications(runtime: Runtime, spec: Any, field: str, remedy: str) -> None:
    """A wrong specification fails the start before any child is started; in `start_child` it changes nothing."""
    log: list[Any] = []
    good = rec(log, "good")
    error = await error_of(runtime.spawn(Supervisor, [good, spec]))
    assert log == []
    sup = await runtime.spawn(Supervisor, [good])
    for found in (error, await error_of(start_child(sup, spec))):
        assert isinstance(found, BadChildSpec)
        assert found.field == field
        assert remedy in found.remedy
        assert field in str(found)
    assert list(await refs(sup)) == ["good"]
    assert log == ["+good"]


async def test_S017_unknown_keys_are_ignored(runtime: Runtime) -> None:
    """A mapping may hold more than a specification needs."""
    sup = await runtime.spawn(Supervisor, [{"id": "a", "start": Puppet, "colour": "red"}])
    assert list(await refs(sup)) == ["a"]


@pytest.mark.parametrize("children", ["ab", b"ab", 5, {"id": "a", "start": Puppet}, None, Puppet])
@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_children_are_a_list(runtime: Runtime, kind: type[Actor], children: Any) -> None:
    """Anything else is refused by name, before anything starts."""
    error = await error_of(runtime.spawn(kind, children))
    assert isinstance(error, BadChildSpec)
    assert (error.field, error.value) == ("children", children)
    assert list(runtime.actors()) == []


@pytest.mark.parametrize("field", ["strategy", "auto_shutdown"])
@pytest.mark.parametrize("value", ["one_for_some", "", None, 3, ["never"]])
async def test_wrong_flags_fail_the_start_before_any_child(runtime: Runtime, field: str, value: Any) -> None:
    """The error names the flag, the value and the choices; no child was started."""
    log: list[Any] = []
    error = await error_of(runtime.spawn(Supervisor, [rec(log, "a")], **{field: value}))
    assert isinstance(error, BadStrategy)
    assert (error.field, error.value) == (field, value)
    assert "choose one of" in error.remedy
    assert log == []


async def test_S019_one_id_twice(runtime: Runtime) -> None:
    """Two children with one id are refused as the pure check refuses them, and neither starts."""
    log: list[Any] = []
    children = [rec(log, "a"), rec(log, "b"), rec(log, "a")]
    for error in (await error_of(runtime.spawn(Supervisor, children)), error_from(children)):
        assert isinstance(error, BadChildSpec)
        assert (error.field, error.value) == ("child spec: id", "a")
        assert "duplicate_child_name" in error.remedy
    assert log == []


def error_from(children: Any, *more: Any) -> BaseException:
    """Return what the pure check raises."""
    with pytest.raises(BadChildSpec) as caught:
        check_child_specs(children, *more)
    return caught.value


async def test_S022_significant_children_need_a_supervisor_that_shuts_down(runtime: Runtime) -> None:
    """With `never` a significant child is refused, at the start and by `start_child`; with the others it is taken."""
    log: list[Any] = []
    spec = rec(log, "a", restart="transient", significant=True)
    sup = await runtime.spawn(Supervisor)
    for error in (
        await error_of(runtime.spawn(Supervisor, [spec])),
        await error_of(start_child(sup, spec)),
        await error_of(start_child(await runtime.spawn(DynamicSupervisor), spec)),
        error_from([spec]),
    ):
        assert isinstance(error, BadChildSpec)
        assert (error.field, error.value) == ("child 'a': significant", True)
        assert "bad_combination" in error.remedy
    assert await which_children(sup) == []
    assert log == []
    for mode in ("any_significant", "all_significant"):
        other = await runtime.spawn(Supervisor, [spec], auto_shutdown=mode)
        assert await start_child(other, rec(log, "b", restart="temporary", significant=True)) is not None


async def test_S022_a_permanent_child_cannot_be_significant(runtime: Runtime) -> None:
    """Whatever the supervisor's mode."""
    sup = await runtime.spawn(Supervisor, auto_shutdown="any_significant")
    for value in (True, 3, None):
        error = await error_of(start_child(sup, {"id": "a", "start": Puppet, "significant": value}))
        assert isinstance(error, BadChildSpec)
        assert (error.field, error.value) == ("child 'a': significant", value)
    assert await which_children(sup) == []


# -- names -------------------------------------------------------------------------------------------------------------


async def started_by_function() -> Ref:
    """Start a child that takes the name n."""
    return await spawn_link(Puppet, name="n")


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_S024_a_name_that_is_taken_by_somebody_else(runtime: Runtime, kind: type[Actor]) -> None:
    """`start_child` tells who holds the name; neither the holder nor the supervisor is touched, nothing else runs."""
    foreign = await runtime.spawn(Puppet, name="n")
    sup = await runtime.spawn(kind)
    before = list(runtime.actors())

    async def named_afterwards() -> Ref:
        return await spawn_link(Puppet)

    for spec in (
        ChildSpec("c", Puppet, name="n"),
        ChildSpec("c", started_by_function),
        ChildSpec("c", named_afterwards, name="n"),
    ):
        error = await error_of(start_child(sup, spec))
        assert type(error) is AlreadyStarted
        assert (error.id, error.ref) == ("c", foreign)
        await settled(runtime)
        assert await which_children(sup) == []
        assert list(runtime.actors()) == before
    assert runtime.whereis("n") is foreign


async def test_a_named_child_has_its_name_again_after_a_restart(runtime: Runtime) -> None:
    """A class or a function starts it: the name leads to the new incarnation, and to no other."""

    async def unnamed() -> Ref:
        return await spawn_link(Puppet)

    sup = await runtime.spawn(Supervisor, [ChildSpec("a", Puppet, name="a"), ChildSpec("b", unnamed, name="b")])
    for name in ("a", "b"):
        old = runtime.whereis(name)
        assert (await refs(sup))[name] is old
        await die(old, "x")
        new = runtime.whereis(name)
        assert new is not None
        assert new is not old
        assert (await refs(sup))[name] is new


# -- start functions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slow", [False, True], ids=["plain", "async"])
async def test_S025_what_a_start_function_tells_besides_is_kept(runtime: Runtime, slow: bool) -> None:
    """A pair of an address and a value: the value stands in the child's entry, and is renewed at each start."""
    count = iter(range(1, 9))

    def plain(*args: Any, **kwargs: Any) -> Any:
        return runtime.spawn_nowait(Puppet), ("port", next(count), args, kwargs)

    async def later(*args: Any, **kwargs: Any) -> Any:
        return await spawn_link(Puppet), ("port", next(count), args, kwargs)

    sup = await runtime.spawn(Supervisor)
    seen = []
    spec = ChildSpec("c", later if slow else plain, (7,), {"k": 8})
    first = await start_child(sup, spec)
    assert first is not None
    seen.append((await which_child(sup, "c")).info)
    await die_and_settle(sup, first)
    second = (await which_child(sup, "c")).ref
    assert second not in (None, first)
    seen.append((await which_child(sup, "c")).info)
    await terminate_child(sup, "c")
    third = await restart_child(sup, "c")
    assert third not in (None, first, second)
    entry = await which_child(sup, "c")
    assert entry.ref is third
    seen.append(entry.info)
    assert seen == [("port", n, (7,), {"k": 8}) for n in (1, 2, 3)]


async def die_and_settle(sup: Ref, ref: Ref) -> None:
    """Let a child that may have no parent crash, and wait for its supervisor."""
    ref.exit("abnormal")
    await ref.join()
    await barrier(sup)


async def test_a_start_function_need_not_link(runtime: Runtime, events: Recorder) -> None:
    """The supervisor links what it is given, calls it by its id, and stops it as any child."""
    sup = await runtime.spawn(Supervisor, [ChildSpec("c", lambda: runtime.spawn_nowait(Puppet))], name="sup")
    child = (await refs(sup))["c"]
    assert child is not None
    assert child.path == "/c"
    await runtime.shut_down(sup, 1.0)
    assert child.reason == SHUTDOWN


async def test_a_start_function_that_gives_an_ended_actor(runtime: Runtime, events: Recorder) -> None:
    """Its end is seen as any end: a permanent child is started again, until the budget is used up."""
    dead = await runtime.spawn(Puppet)
    await dead.stop()
    sup = await runtime.spawn(Supervisor, [ChildSpec("c", lambda: dead)], max_restarts=2)
    assert await sup.join() == SHUTDOWN
    assert len(events.of(ev.GaveUp)) == 1
    assert len(events.of(ev.Restarted)) == 2


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_a_start_function_that_awaits_something_cancelled(runtime: Runtime, kind: type[Actor]) -> None:
    """It is the start that fails, not the supervisor; only who kills the supervisor cancels what it awaits."""
    future: asyncio.Future[Ref] = asyncio.get_running_loop().create_future()

    async def wait() -> Ref:
        return await future

    log: list[Any] = []
    sup = await runtime.spawn(kind, [rec(log, "a")])
    starting = asyncio.ensure_future(start_child(sup, ChildSpec("c", wait)))
    await settled(runtime)
    future.cancel()
    error = await error_of(starting)
    assert isinstance(error, StartError)
    assert "CancelledError" in str(error)
    assert list(await refs(sup)) == ["a"]

    future = asyncio.get_running_loop().create_future()
    starting = asyncio.ensure_future(start_child(sup, ChildSpec("c", wait)))
    await settled(runtime)
    sup.kill()
    error = await error_of(starting)
    assert isinstance(error, ActorExited)
    assert error.reason == KILLED
    await settled(runtime)
    assert future.cancelled()
    assert list(runtime.actors()) == []


async def test_a_start_function_runs_in_the_supervisor(runtime: Runtime) -> None:
    """So it can spawn children of the supervisor with any class, such as a state machine of one's own."""
    sup = await runtime.spawn(Supervisor, [ChildSpec("c", started_by_function)], name="sup")
    child = (await refs(sup))["c"]
    assert child is not None
    info = runtime.info(child)
    assert info is not None
    assert info.parent is sup
    assert info.name == "n"
    await runtime.shut_down(sup, 1.0)
    assert child.reason == SHUTDOWN


async def test_a_child_knows_its_address_in_its_constructor(runtime: Runtime) -> None:
    """A child may use its own address, its name and its runtime before `init`."""
    seen: list[Any] = []

    class Curious(Actor):
        def __init__(self) -> None:
            seen.append((self.ref, self.ref.path, self.runtime.whereis("c")))

        @handle
        def exited(self, message: Exit) -> None:
            """Never called."""

    sup = await runtime.spawn(Supervisor, [ChildSpec("c", Curious, name="c")], name="sup")
    child = (await refs(sup))["c"]
    assert seen == [(child, "/sup/c", child)]
