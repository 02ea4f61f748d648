"""Scenarios of the reference, section 4.2: in which order children stop, within which limits, and what stops them."""

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
    Actor,
    ActorExited,
    ChildSpec,
    DynamicSupervisor,
    ExitReason,
    NoProcess,
    Ref,
    Restart,
    Runtime,
    Shutdown,
    Supervisor,
    count_children,
    delete_child,
    get_child_spec,
    restart_child,
    start_child,
    terminate_child,
    which_child,
    which_children,
)
from supervision import events as ev
from supervision.testing import advance, barrier, settled
from tests.supervision.probes import (
    Do,
    DoAndReply,
    Note,
    Probe,
    Question,
    Recorder,
    Tidy,
    do,
    error_of,
    rec,
    refs,
    time_of,
)


async def ended(ref: Ref | None) -> ExitReason:
    """Return why a child ended."""
    assert ref is not None
    return await ref.join()


# -- order and limits --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_children_stop_in_reverse_order_one_after_the_other(
    runtime: Runtime, events: Recorder, strategy: Any
) -> None:
    """The last child is asked first, and the next one only when it has ended."""
    log: list[Any] = []
    children = [rec(log, "a", stops=1.0), rec(log, "b"), rec(log, "c", stops=1.0)]
    sup = await runtime.spawn(Supervisor, children, strategy=strategy, name="s")
    del events.all[:]
    assert await time_of(runtime.shut_down(sup, 20.0)) == 2.0
    assert log == ["+a", "+b", "+c", "-c(shutdown)", "-b(shutdown)", "-a(shutdown)"]
    assert [(type(e).__name__, e.path) for e in events.of(ev.ActorEvent)] == [
        ("Terminating", "/s"),
        ("StopRequested", "/s/c"),
        ("Terminating", "/s/c"),
        ("Exited", "/s/c"),
        ("StopRequested", "/s/b"),
        ("Terminating", "/s/b"),
        ("Exited", "/s/b"),
        ("StopRequested", "/s/a"),
        ("Terminating", "/s/a"),
        ("Exited", "/s/a"),
        ("Unregistered", "/s"),
        ("Exited", "/s"),
    ]
    assert {e.reason for e in events.of(ev.Exited)} == {SHUTDOWN}
    assert runtime.statistics().dead_letters == {}


async def test_S027_children_with_infinity_are_waited_for(runtime: Runtime) -> None:
    """A supervisor and a worker, both without a limit, end with `shutdown` however long they take."""
    log: list[Any] = []
    sup = await runtime.spawn(
        Supervisor,
        [
            ChildSpec("c1", Supervisor, ([rec(log, "deep", stops=1000.0, shutdown="infinity")],)),
            rec(log, "c2", stops=3600.0, shutdown="infinity"),
        ],
    )
    children = await refs(sup)
    assert await time_of(runtime.shut_down(sup, "infinity")) == 4600.0
    assert sup.reason == SHUTDOWN
    assert [await ended(ref) for ref in children.values()] == [SHUTDOWN, SHUTDOWN]
    assert log == ["+deep", "+c2", "-c2(shutdown)", "-deep(shutdown)"]


async def test_a_child_that_does_not_stop_in_time_is_killed(runtime: Runtime, events: Recorder) -> None:
    """It gets its own limit, to the second, then it is killed, and the next child is asked as if nothing had been."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "c1"), rec(log, "c2", stops=100.0, shutdown=2.5)])
    children = await refs(sup)
    assert await time_of(runtime.shut_down(sup, 20.0)) == 2.5
    assert [await ended(ref) for ref in children.values()] == [SHUTDOWN, KILLED]
    assert log == ["+c1", "+c2", "-c1(shutdown)"]
    assert [(e.id, e.reason) for e in events.of(ev.ChildShutdownFailed)] == [("c2", KILLED)]


async def test_a_limit_of_zero_kills_whoever_is_not_done_at_once(runtime: Runtime) -> None:
    """An idle child that does not trap exits ends with `shutdown`; one that has to clean up has no time for it."""
    log: list[Any] = []
    specs = [rec(log, "plain", trap_exit=False, shutdown=0), rec(log, "trapping", stops=1.0, shutdown=0)]
    sup = await runtime.spawn(Supervisor, specs)
    children = await refs(sup)
    assert await time_of(runtime.shut_down(sup, 20.0)) == 0.0
    assert [await ended(ref) for ref in children.values()] == [SHUTDOWN, KILLED]
    assert log == ["+plain", "+trapping"]


async def test_S029_brutal_kill_asks_nobody(runtime: Runtime, events: Recorder) -> None:
    """The child is dead at once, without cleaning up; its neighbour stops in order."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "c1"), rec(log, "c2", stops=5.0, shutdown="brutal_kill")])
    children = await refs(sup)
    assert await time_of(runtime.shut_down(sup, 20.0)) == 0.0
    assert [await ended(ref) for ref in children.values()] == [SHUTDOWN, KILLED]
    assert log == ["+c1", "+c2", "-c1(shutdown)"]
    assert [(e.path.rpartition("/")[2], e.reason) for e in events.of(ev.StopRequested)] == [
        ("c2", KILLED),
        ("c1", SHUTDOWN),
    ]
    assert events.of(ev.ChildShutdownFailed) == []


async def test_a_child_that_hangs_in_a_handler_is_given_its_limit(runtime: Runtime) -> None:
    """A child that waits in a handler and does not trap is cancelled at the order; one that traps is killed late."""
    log: list[Any] = []

    async def hang(actor: Probe) -> None:
        try:
            await actor.runtime.sleep(1000.0)
        finally:
            actor.log.append(("finally", actor.runtime.clock.time()))

    specs = [rec(log, "trapping", shutdown=3.0), rec(log, "plain", trap_exit=False, shutdown=3.0)]
    sup = await runtime.spawn(Supervisor, specs)
    children = await refs(sup)
    for ref in children.values():
        assert ref is not None
        ref.cast(Do(hang))
    await settled(runtime)
    assert await time_of(runtime.shut_down(sup, 20.0)) == 3.0
    assert [await ended(ref) for ref in children.values()] == [KILLED, SHUTDOWN]
    assert [entry for entry in log if entry[0] == "finally"] == [("finally", 0.0), ("finally", 3.0)]


async def test_a_child_that_cleans_up_in_a_handler_has_its_own_limit_for_it(runtime: Runtime) -> None:
    """The limit of the specification counts, longer or shorter than the grace that the runtime gives to others."""
    log: list[Any] = []

    async def tidy_up(actor: Probe) -> None:
        try:
            await actor.runtime.sleep(1000.0)
        finally:
            await actor.runtime.sleep(10.0)

    assert runtime.exit_grace == 5.0
    for limit, seconds, reason in ((20.0, 10.0, SHUTDOWN), ("infinity", 10.0, SHUTDOWN), (2.0, 2.0, KILLED)):
        sup = await runtime.spawn(Supervisor, [rec(log, "c", trap_exit=False, shutdown=limit)])
        child = (await refs(sup))["c"]
        assert child is not None
        child.cast(Do(tidy_up))
        await settled(runtime)
        assert await time_of(runtime.shut_down(sup, "infinity")) == pytest.approx(seconds)
        assert await ended(child) == reason


async def test_S030_the_limit_counts_under_a_dynamic_supervisor_too(runtime: Runtime) -> None:
    """Of two temporary children one hangs: the supervisor ends with `shutdown` after that one's limit."""
    log: list[Any] = []
    sup = await runtime.spawn(DynamicSupervisor)
    one = await start_child(sup, rec(log, "c1", restart="temporary", shutdown=20.0))
    two = await start_child(sup, rec(log, "c2", restart="temporary", shutdown=20.0, stops=1000.0))
    assert await time_of(runtime.shut_down(sup, "infinity")) == 20.0
    assert [await ended(ref) for ref in (sup, one, two)] == [SHUTDOWN, SHUTDOWN, KILLED]
    assert log == ["+c1", "+c2", "-c1(shutdown)"]


async def test_S032_children_that_end_by_themselves_while_the_supervisor_stops(
    runtime: Runtime, events: Recorder
) -> None:
    """Nobody is restarted, each keeps its own reason, and the supervisor ends with `shutdown` all the same."""
    log: list[Any] = []
    reasons = [NORMAL, SHUTDOWN, Shutdown("test"), Abnormal("other")]
    kinds: tuple[Restart, ...] = ("temporary", "transient", "permanent")
    twelve = {f"{restart}-{reason}": (restart, reason) for restart in kinds for reason in reasons}
    sup = await runtime.spawn(
        Supervisor,
        [
            rec(log, "A", restart="temporary"),
            *(ChildSpec(id, Probe, restart=restart) for id, (restart, _) in twelve.items()),
            rec(log, "Z", restart="temporary", stops=20.0, shutdown=40.0),
        ],
    )
    children = await refs(sup)
    stopping = asyncio.ensure_future(runtime.shut_down(sup, "infinity"))
    await advance(4.0)
    for id, (_, reason) in twelve.items():
        ref = children[id]
        assert ref is not None
        ref.cast(Do(lambda actor, reason=reason: actor.stop(reason)))  # type: ignore[misc]
    await advance(0.001)  # until nothing is left to do, however many passes of the loop that takes
    assert all(not children[id].alive for id in twelve)  # type: ignore[union-attr]
    assert await stopping == SHUTDOWN
    assert {id: await ended(ref) for id, ref in children.items()} == {
        "A": SHUTDOWN,
        "Z": SHUTDOWN,
        **{id: reason for id, (_, reason) in twelve.items()},
    }
    assert log == ["+A", "+Z", "-Z(shutdown)", "-A(shutdown)"]
    assert events.of(ev.RestartScheduled) == []
    assert events.of(ev.ChildTerminated) == []


async def test_S034_dynamic_children_stop_at_once_each_within_its_limit(runtime: Runtime) -> None:
    """Two children need 1 second, one needs 5 and has 2: all is over after 2 seconds."""
    log: list[Any] = []
    sup = await runtime.spawn(DynamicSupervisor)
    for id, need in (("a", 1.0), ("b", 5.0), ("c", 1.0)):
        await start_child(sup, rec(log, id, stops=need, shutdown=2.0))
    children = await refs(sup)
    assert await time_of(runtime.shut_down(sup, "infinity")) == 2.0
    assert [await ended(children[id]) for id in "abc"] == [SHUTDOWN, KILLED, SHUTDOWN]
    assert log == ["+a", "+b", "+c", "-a(shutdown)", "-c(shutdown)"]


@pytest.mark.parametrize(("kind", "seconds"), [(Supervisor, 10.0), (DynamicSupervisor, 2.0)])
async def test_S035_static_children_stop_in_turn_dynamic_ones_together(
    runtime: Runtime, kind: type[Actor], seconds: float
) -> None:
    """Five children that need 2 seconds each: 10 seconds for a static supervisor, 2 for a dynamic one."""
    log: list[Any] = []
    sup = await runtime.spawn(kind, [rec(log, n, stops=2.0) for n in range(5)])
    assert await time_of(runtime.shut_down(sup, "infinity")) == seconds
    assert len(log) == 10


async def test_orders_wait_while_a_supervisor_stops_and_fail_when_it_has(runtime: Runtime) -> None:
    """While it stops its children a supervisor answers nothing; who has asked then hears that it has ended."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "a", stops=2.0)])
    stopping = asyncio.ensure_future(runtime.shut_down(sup, 20.0))
    await advance(1.0)
    began = runtime.clock.time()
    error = await error_of(which_children(sup))
    assert isinstance(error, ActorExited)
    assert error.reason == SHUTDOWN
    assert runtime.clock.time() - began == 1.0
    await stopping


async def test_a_child_that_removed_its_link_is_stopped_all_the_same(runtime: Runtime) -> None:
    """The order to stop and the wait for the end do not hang on the link."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "a")])
    child = (await refs(sup))["a"]
    assert child is not None
    await do(child, lambda actor: actor.unlink(sup))
    assert await time_of(runtime.shut_down(sup, 20.0)) == 0.0
    assert await ended(child) == SHUTDOWN
    assert log == ["+a", "-a(shutdown)"]


@pytest.mark.parametrize("trap", [False, True], ids=["plain", "trapping"])
@pytest.mark.parametrize(("kind", "options"), [(Probe, {}), (Tidy, {}), (Probe, {"id": "r", "stops": 0.0})])
async def test_what_ends_an_actor_in_order_is_no_dead_letter(
    runtime: Runtime, events: Recorder, kind: type[Probe], options: dict[str, Any], trap: bool
) -> None:
    """Neither the message that made an actor stop, nor the order to, counts as lost; what waits behind it does."""
    for end in (
        lambda ref: ref.cast(Do(lambda actor: actor.stop("x"))),
        lambda ref: ref.call(DoAndReply(lambda actor: actor.stop())),
        lambda ref: asyncio.ensure_future(ref.stop()),
        lambda ref: asyncio.ensure_future(runtime.shut_down(ref, 5.0)),
    ):
        ref = await runtime.spawn(kind, [], trap, **options)
        kept = end(ref)
        await ref.join()
        del kept
    assert runtime.statistics().dead_letters == {}
    ref = await runtime.spawn(kind, [], trap, **options)
    ref.cast(Do(lambda actor: actor.stop("x")))
    ref.cast(Note("late"))
    await ref.join()
    assert [(event.message, event.why) for event in events.of(ev.MessageDropped)] == [("Note(text='late')", "died")]


# -- a supervisor that is not there ------------------------------------------------------------------------------------


async def test_S037_orders_to_a_supervisor_that_is_not_there(runtime: Runtime) -> None:
    """Each order, by a name that nobody holds or an address that has ended, raises NoProcess with both at once."""
    gone = await runtime.spawn(Supervisor)
    await gone.stop()
    for target in (runtime.name("sup"), gone):
        for order, what in (
            (terminate_child(target, "a"), "TerminateChild(id='a')"),
            (delete_child(target, "a"), "DeleteChild(id='a')"),
            (restart_child(target, "a"), "RestartChild(id='a')"),
            (start_child(target, ChildSpec("a", Probe)), "StartChild("),
            (which_children(target), "WhichChildren()"),
            (which_child(target, "a"), "WhichChild(id='a')"),
            (count_children(target), "CountChildren()"),
            (get_child_spec(target, "a"), "GetChildSpec(id='a')"),
        ):
            error = await error_of(order)
            assert isinstance(error, NoProcess)
            assert error.target is target or error.target == target
            assert what in str(error)


# -- what ends a supervisor --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Shutdown("x"), Abnormal("x"), KILLED], ids=str)
async def test_the_exit_signal_of_the_parent_ends_a_supervisor(runtime: Runtime, reason: ExitReason) -> None:
    """Any reason counts, `normal` too: the children are stopped in reverse, and the reason is the parent's."""
    log: list[Any] = []
    parent = await runtime.spawn(Probe)
    sup = await do(parent, lambda actor: actor.spawn_link(Supervisor, [rec(log, "a"), rec(log, "b")]))
    await do(parent, lambda actor: sup.exit(reason))
    assert await sup.join() == reason
    assert log == ["+a", "+b", "-b(shutdown)", "-a(shutdown)"]


@pytest.mark.parametrize("reason", [NORMAL, Abnormal("x")], ids=str)
async def test_the_end_of_the_parent_ends_a_supervisor(runtime: Runtime, reason: ExitReason) -> None:
    """Whatever started a supervisor with a link takes it along, also by an end in order."""
    log: list[Any] = []
    parent = await runtime.spawn(Probe)
    sup = await do(parent, lambda actor: actor.spawn_link(Supervisor, [rec(log, "a")]))
    parent.cast(Do(lambda actor: actor.stop(reason)))
    assert await sup.join() == reason
    assert log == ["+a", "-a(shutdown)"]


@pytest.mark.parametrize("linked", [False, True], ids=["a signal", "a link"])
@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Abnormal("x")], ids=str)
async def test_S039_the_exit_signals_of_strangers_are_nothing(
    runtime: Runtime, events: Recorder, linked: bool, reason: ExitReason
) -> None:
    """A signal from a stranger, from nobody, or over a link that a stranger has made, changes nothing."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "a")], strategy="one_for_all")
    before = await refs(sup)
    stranger = await runtime.spawn(Probe)
    if linked:
        await do(stranger, lambda actor: actor.link(sup))
        await do(stranger, lambda actor: actor.stop(reason))
    else:
        await do(stranger, lambda actor: sup.exit(reason))
        sup.exit(reason)
    await barrier(sup)
    assert sup.alive
    assert await refs(sup) == before
    assert log == ["+a"]
    assert events.of(ev.ChildTerminated) == []
    assert events.of(ev.Unhandled) == []


async def test_S040_a_supervisor_that_is_killed_takes_its_children_along(runtime: Runtime) -> None:
    """Its plain children die with `killed`; its own supervisor starts all again, with new addresses under old names."""
    log: list[Any] = []
    server = ChildSpec("server", Probe, name="server")
    mid = ChildSpec("mid", Supervisor, ([server, rec(log, "tidy")],), name="mid")
    top = await runtime.spawn(Supervisor, [mid], max_restarts=3)
    old_mid, old_server = runtime.whereis("mid"), runtime.whereis("server")
    assert old_mid is not None
    assert old_server is not None
    old_mid.exit(KILL)
    assert await ended(old_mid) == KILLED
    assert await ended(old_server) == KILLED
    await settled(runtime, top)
    assert sorted(log) == ["+tidy", "+tidy", "-tidy(killed)"]
    for name, old in (("mid", old_mid), ("server", old_server)):
        new = runtime.whereis(name)
        assert new not in (None, old)
        assert new is not None
        assert new.alive
    assert [info.restarts for info in await which_children(top)] == [1]


async def test_a_message_that_nobody_understands_is_noted_and_ignored(runtime: Runtime, events: Recorder) -> None:
    """A supervisor is not harmed by garbage."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "a")])
    sup.cast(Note("garbage"))
    sup.cast("garbage")
    await barrier(sup)
    assert [event.message for event in events.of(ev.Unhandled, sup)] == ["Note(text='garbage')", "'garbage'"]
    assert log == ["+a"]
    assert sup.alive


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
async def test_S042_an_unknown_request_crashes_a_supervisor(
    runtime: Runtime, events: Recorder, kind: type[Actor]
) -> None:
    """Its children are stopped, in reverse order, before it ends, and its own supervisor starts it again."""
    log: list[Any] = []
    top = await runtime.spawn(Supervisor, [ChildSpec("sup", kind, ([rec(log, "a"), rec(log, "b")],))])
    sup = (await refs(top))["sup"]
    assert sup is not None
    error = await error_of(sup.call(Question()))
    assert isinstance(error, ActorExited)
    assert "UnhandledMessage" in str(error.reason)
    await barrier(top)
    stops = ["-b(shutdown)", "-a(shutdown)"] if kind is Supervisor else ["-a(shutdown)", "-b(shutdown)"]
    assert log == ["+a", "+b", *stops, "+a", "+b"]
    new = (await refs(top))["sup"]
    assert new not in (None, sup)
    assert [event.message for event in events.of(ev.CrashReport, sup)] == ["Question()"]


async def test_a_restarted_supervisor_begins_as_it_was_declared(runtime: Runtime) -> None:
    """Children that were added are lost; children that were stopped or deleted are back (OTP's test *tree*)."""
    log: list[Any] = []
    inner = ChildSpec("sup", Supervisor, ([rec(log, "a"), rec(log, "b"), rec(log, "c")],))
    top = await runtime.spawn(Supervisor, [inner])
    sup = (await refs(top))["sup"]
    assert sup is not None
    await start_child(sup, rec(log, "added"))
    await terminate_child(sup, "b")
    await terminate_child(sup, "c")
    await delete_child(sup, "c")
    assert list(await refs(sup)) == ["a", "b", "added"]
    sup.kill()
    await settled(runtime, top)
    new = (await refs(top))["sup"]
    assert new is not None
    assert [(id, ref is not None) for id, ref in (await refs(new)).items()] == [("a", True), ("b", True), ("c", True)]


async def test_a_runtime_that_closes_stops_its_supervisors_in_order(loop_errors: list[Any]) -> None:
    """Leaving the runtime ends the trees that were started last first, and each tree from its last child."""
    log: list[Any] = []
    async with Runtime(watchdog=None, reports=False) as runtime:
        for n in (1, 2):
            await runtime.spawn(Supervisor, [rec(log, f"a{n}"), rec(log, f"b{n}", stops=1.0)])
        assert runtime.clock.time() == 0.0
    assert log[4:] == ["-b2(shutdown)", "-a2(shutdown)", "-b1(shutdown)", "-a1(shutdown)"]
