"""Scenarios of the reference, section 4.6: children whose own end ends their supervisor."""

from __future__ import annotations

from typing import Any

import pytest

from supervision import (
    NORMAL,
    SHUTDOWN,
    Abnormal,
    BadChildSpec,
    ChildSpec,
    DynamicSupervisor,
    ExitReason,
    Ref,
    Runtime,
    Shutdown,
    StartError,
    Supervisor,
    restart_child,
    start_child,
    terminate_child,
    which_child,
)
from supervision import events as ev
from supervision.errors import BadStrategy
from supervision.supervisors.restarts import Backoff
from supervision.testing import advance, barrier
from tests.supervision.probes import Recorder, die, error_of, kill, rec, refs

MODES = ["any_significant", "all_significant"]
CLEAN = [NORMAL, SHUTDOWN, Shutdown("x")]
BOOM = Abnormal("boom")


async def three(runtime: Runtime, log: list[Any], mode: Any, restart: Any, **more: Any) -> Ref:
    """Start significant c1 and c2, and c3, which is not."""
    specs = [
        rec(log, "c1", restart=restart, significant=True),
        rec(log, "c2", restart=restart, significant=True),
        rec(log, "c3"),
    ]
    return await runtime.spawn(Supervisor, specs, auto_shutdown=mode, max_restarts=1000, **more)


# -- children that are not significant ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reason", [*CLEAN, BOOM, None], ids=str)
async def test_S102_a_child_that_is_not_significant_ends_nobody(
    runtime: Runtime, mode: Any, reason: ExitReason | None
) -> None:
    """A transient one that ends well stays down, one that does not, or is killed, is restarted; a temporary one goes.

    The supervisor, all of whose other children are ordinary too, lives on.
    """
    log: list[Any] = []
    specs = [rec(log, "trans", restart="transient"), rec(log, "temp", restart="temporary"), rec(log, "perm")]
    sup = await runtime.spawn(Supervisor, specs, auto_shutdown=mode)
    before = await refs(sup)
    for id in ("trans", "temp"):
        if reason is None:
            await kill(sup, id)
        else:
            await die(before[id], reason)
    await advance(20.0)
    after = await refs(sup)
    assert sup.alive
    assert list(after) == ["trans", "perm"]
    assert after["perm"] is before["perm"]
    assert (after["trans"] is None) is (reason is not None and reason.clean)
    assert after["trans"] is not before["trans"]


# -- any and all -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [*CLEAN, BOOM, None], ids=str)
async def test_S104_all_temporary_significant_children_must_end(runtime: Runtime, reason: ExitReason | None) -> None:
    """The first of two ends is nothing for twenty seconds; the second ends c3 and the supervisor, however it came."""
    log: list[Any] = []
    sup = await three(runtime, log, "all_significant", "temporary")
    other = (await refs(sup))["c3"]
    for id, rest in (("c1", ["c2", "c3"]), ("c2", [])):
        if reason is None:
            await kill(sup, id)
        else:
            await die((await refs(sup))[id], reason)
        await advance(20.0)
        assert sup.alive is bool(rest)
        if rest:
            assert list(await refs(sup)) == rest
    assert sup.reason == SHUTDOWN
    assert other is not None
    assert other.reason == SHUTDOWN
    assert log[-1] == "-c3(shutdown)"


@pytest.mark.parametrize("reason", CLEAN, ids=str)
async def test_S105_any_transient_significant_child_that_ends_well(runtime: Runtime, reason: ExitReason) -> None:
    """An order to stop is nothing, a kill and a crash are restarts; a clean end of its own ends all."""
    log: list[Any] = []
    sup = await three(runtime, log, "any_significant", "transient")
    before = await refs(sup)
    await terminate_child(sup, "c1")
    assert await refs(sup) == {**before, "c1": None}
    await restart_child(sup, "c1")
    await kill(sup, "c1")
    await die((await refs(sup))["c1"], BOOM)
    again = await refs(sup)
    assert again == {**before, "c1": again["c1"]}
    assert again["c1"] not in (None, before["c1"])
    del log[:]
    await die(again["c1"], reason)
    assert sup.reason == SHUTDOWN
    assert log == [f"-c1({reason})", "-c3(shutdown)", "-c2(shutdown)"]


@pytest.mark.parametrize("reason", CLEAN, ids=str)
async def test_S105_all_transient_significant_children_that_end_well(runtime: Runtime, reason: ExitReason) -> None:
    """With `all_significant` the first clean end leaves the rest alone; a crash in between is a restart."""
    log: list[Any] = []
    sup = await three(runtime, log, "all_significant", "transient")
    await die((await refs(sup))["c1"], reason)
    await die((await refs(sup))["c2"], BOOM)
    assert sup.alive
    await die((await refs(sup))["c2"], reason)
    assert sup.reason == SHUTDOWN
    assert log[-2:] == [f"-c2({reason})", "-c3(shutdown)"]


@pytest.mark.parametrize("mode", MODES)
async def test_a_temporary_significant_child_that_is_stopped_by_order_ends_nobody(runtime: Runtime, mode: Any) -> None:
    """It was not its own end: the last one, too, can be stopped, and only c3 runs on."""
    log: list[Any] = []
    sup = await three(runtime, log, mode, "temporary")
    await terminate_child(sup, "c1")
    await terminate_child(sup, "c2")
    await advance(20.0)
    assert sup.alive
    assert list(await refs(sup)) == ["c3"]


@pytest.mark.parametrize("restart", ["transient", "temporary"])
async def test_a_significant_child_that_was_stopped_by_order_is_not_waited_for(runtime: Runtime, restart: Any) -> None:
    """With `all_significant` it counts no longer as running: the next own end of the last one triggers."""
    log: list[Any] = []
    sup = await three(runtime, log, "all_significant", restart)
    await terminate_child(sup, "c1")
    assert sup.alive
    await die((await refs(sup))["c2"], NORMAL)
    assert sup.reason == SHUTDOWN


@pytest.mark.parametrize("pause", [False, True], ids=["after a failed attempt", "in its pause"])
async def test_a_significant_child_that_is_restarting_is_waited_for(runtime: Runtime, pause: bool) -> None:
    """As in OTP a child that is about to come back has not ended: the end of the other one is not the last."""
    log: list[Any] = []
    plan = [None] if pause else [None, OSError("c1"), None]
    backoff = Backoff(initial=2.0, jitter=0.0) if pause else None
    specs = [
        rec(log, "c1", *plan, restart="transient", significant=True, backoff=backoff),
        rec(log, "c2", restart="temporary", significant=True),
        rec(log, "c3"),
    ]
    sup = await runtime.spawn(Supervisor, specs, auto_shutdown="all_significant")
    children = await refs(sup)

    def end_the_other(event: ev.Event) -> None:
        if children["c2"] is not None:
            children["c2"].kill()

    # The other one ends while the restart of c1 is due: in its pause, or between two attempts.
    runtime.subscribe(end_the_other, ev.RestartScheduled if pause else ev.ChildStartFailed)
    await die(children["c1"], BOOM)
    assert sup.alive
    await advance(2.0)
    assert sup.alive
    after = await refs(sup)
    assert list(after) == ["c1", "c3"]
    await die(after["c1"], NORMAL)
    assert sup.reason == SHUTDOWN


@pytest.mark.parametrize("mode", MODES)
async def test_a_restart_that_the_budget_refuses_is_an_ordinary_giving_up(
    runtime: Runtime, events: Recorder, mode: Any
) -> None:
    """Significant or not: a crash too many is told as `GaveUp`."""
    log: list[Any] = []
    specs = [rec(log, "a"), rec(log, "c1", restart="transient", significant=True)]
    sup = await runtime.spawn(Supervisor, specs, auto_shutdown=mode, max_restarts=0)
    await die((await refs(sup))["c1"], BOOM)
    assert sup.reason == SHUTDOWN
    assert [(event.id, event.reason) for event in events.of(ev.GaveUp)] == [("c1", BOOM)]
    assert log[2:] == ["-c1('boom')", "-a(shutdown)"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@pytest.mark.parametrize("restart", ["transient", "temporary"])
async def test_a_significant_bystander_that_is_stopped_ends_nobody(
    runtime: Runtime, mode: Any, strategy: Any, restart: Any
) -> None:
    """Significant children that are stopped because a sibling died do not end the supervisor; transient ones come
    back."""
    log: list[Any] = []
    specs = [rec(log, "a"), *(rec(log, id, restart=restart, significant=True) for id in ("c1", "c2"))]
    sup = await runtime.spawn(Supervisor, specs, auto_shutdown=mode, strategy=strategy)
    await die((await refs(sup))["a"], BOOM)
    await advance(20.0)
    assert sup.alive
    assert list(await refs(sup)) == (["a", "c1", "c2"] if restart == "transient" else ["a"])
    assert log[3:6] == ["-a('boom')", "-c2(shutdown)", "-c1(shutdown)"]


async def test_the_end_of_a_significant_child_that_comes_too_late_is_nothing(runtime: Runtime) -> None:
    """A significant child that died in the same instant as the sibling whose group is restarted was stopped with it."""
    log: list[Any] = []
    specs = [rec(log, "a"), rec(log, "c1", restart="temporary", significant=True)]
    sup = await runtime.spawn(Supervisor, specs, auto_shutdown="any_significant", strategy="one_for_all")
    children = await refs(sup)
    for id in ("a", "c1"):
        ref = children[id]
        assert ref is not None
        ref.kill()
    await barrier(sup)
    assert sup.alive
    assert list(await refs(sup)) == ["a"]
    assert log == ["+a", "+c1", "+a"]


# -- dynamic supervisors, chains, order --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [*MODES, "never"])
async def test_S107_a_dynamic_supervisor_has_no_auto_shutdown(runtime: Runtime, mode: str) -> None:
    """There is no such argument, so that no mode can be asked for; and no significant child is accepted."""
    error = await error_of(runtime.spawn(DynamicSupervisor, auto_shutdown=mode))  # type: ignore[call-overload]
    assert isinstance(error, StartError)
    assert isinstance(error.__cause__, TypeError)
    spec = rec([], "c1", restart="temporary", significant=True)
    assert isinstance(await error_of(runtime.spawn(DynamicSupervisor, [spec])), BadChildSpec)
    sup = await runtime.spawn(DynamicSupervisor)
    error = await error_of(start_child(sup, spec))
    assert isinstance(error, BadChildSpec)
    assert "bad_combination" in str(error)
    assert sup.alive


@pytest.mark.parametrize("mode", ["some", "", None, True, "ANY_SIGNIFICANT"])
async def test_a_mode_that_does_not_exist_is_refused(runtime: Runtime, mode: Any) -> None:
    """The error names the value and the choices."""
    error = await error_of(runtime.spawn(Supervisor, auto_shutdown=mode))
    assert isinstance(error, BadStrategy)
    assert (error.field, error.value) == ("auto_shutdown", mode)
    assert error.remedy == "choose one of never, any_significant, all_significant"


@pytest.mark.parametrize("significant", [True, False])
async def test_S109_a_chain_of_significant_supervisors(runtime: Runtime, significant: bool) -> None:
    """C finishes: B ends with `shutdown`, which is clean; A ends with it if B is significant, and lives on if not."""
    log: list[Any] = []
    inner = [rec(log, "C", restart="transient", significant=True)]
    middle = ChildSpec(
        "B",
        Supervisor,
        (inner,),
        {"auto_shutdown": "any_significant"},
        restart="transient",
        significant=significant,
    )
    top = await runtime.spawn(Supervisor, [rec(log, "x"), middle], auto_shutdown="any_significant")
    b = (await refs(top))["B"]
    assert b is not None
    await die((await refs(b))["C"], NORMAL)
    await barrier(top)
    assert b.reason == SHUTDOWN
    if significant:
        assert top.reason == SHUTDOWN
        assert log == ["+x", "+C", "-C(normal)", "-x(shutdown)"]
    else:
        assert top.alive
        assert (await which_child(top, "B")).ref is None


async def test_S112_the_order_of_an_automatic_shutdown(runtime: Runtime, events: Recorder) -> None:
    """The children that are left stop in reverse; the supervisor ends with `shutdown`, and nothing was given up."""
    log: list[Any] = []
    specs = [rec(log, "x"), rec(log, "a", restart="transient", significant=True), rec(log, "y")]
    sup = await runtime.spawn(Supervisor, specs, auto_shutdown="any_significant")
    await die((await refs(sup))["a"], NORMAL)
    assert log == ["+x", "+a", "+y", "-a(normal)", "-y(shutdown)", "-x(shutdown)"]
    assert sup.reason == SHUTDOWN
    assert events.of(ev.GaveUp) == []
    assert events.of(ev.RestartScheduled) == []


async def test_a_significant_child_may_be_added_at_run_time(runtime: Runtime) -> None:
    """It counts as those of the first list."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "a")], auto_shutdown="all_significant")
    added = await start_child(sup, rec(log, "b", restart="temporary", significant=True))
    await die(added, NORMAL)
    assert sup.reason == SHUTDOWN
    assert log == ["+a", "+b", "-b(normal)", "-a(shutdown)"]
