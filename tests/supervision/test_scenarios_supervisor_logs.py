"""Scenarios of the reference, section 4.7: what is told, and logged, of ends that are not as they should be."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from supervision import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Abnormal,
    Actor,
    ChildSpec,
    Crashed,
    ExitReason,
    Mailbox,
    Runtime,
    Shutdown,
    StartError,
    Stop,
    Supervisor,
    start_child,
    terminate_child,
)
from supervision import events as ev
from supervision.reasons import BadReturnValue, FailedToStartChild, StartTimeout
from supervision.reports import REPORTS, Reports
from supervision.testing import settled
from tests.supervision.probes import Deaf, Do, Note, Probe, Recorder, Unknown, die, error_of, rec, refs

Entry = MutableMapping[str, Any]

Q = Shutdown("q")
BOOM = Abnormal("boom")


class Stubborn(Actor):
    """A child that traps exits and ends, when it is told to stop, for a reason of its own."""

    trap_exit = True

    def __init__(self, reason: ExitReason) -> None:
        self.reason = reason

    async def terminate(self, reason: ExitReason) -> None:
        """End for that reason; `KILLED` stands for not ending in time."""
        if self.reason == KILLED:
            await self.runtime.sleep(1000.0)
        if self.reason != reason:
            raise Stop(self.reason)


def reports_into(entries: list[Entry]) -> Reports:
    """Return reports whose log keeps the entries themselves."""

    def keep(logger: Any, method: str, entry: Entry) -> Any:
        entries.append({**entry, "level": method})
        raise structlog.DropEvent

    return Reports(structlog.wrap_logger(logging.getLogger("unused"), processors=[keep]))


@pytest.fixture
async def logged(runtime: Runtime) -> list[Entry]:
    """What the reports of the runtime log."""
    entries: list[Entry] = []
    runtime.subscribe(reports_into(entries), *REPORTS)
    return entries


# -- ends by order -----------------------------------------------------------------------------------------------------

TYPES = ("permanent", "transient", "temporary")

#: Section 2.7: for the limit and the reason, the restart types of which the end is reported.
REPORTED = {
    (5.0, SHUTDOWN): (),
    (5.0, Q): ("permanent",),
    (5.0, NORMAL): ("permanent",),
    (5.0, BOOM): TYPES,
    (5.0, KILLED): TYPES,
    ("infinity", SHUTDOWN): (),
    ("infinity", Q): ("permanent",),
    ("infinity", NORMAL): ("permanent",),
    ("infinity", BOOM): TYPES,
    ("brutal_kill", KILLED): (),
}


@pytest.mark.parametrize("restart", TYPES)
@pytest.mark.parametrize(("limit", "reason"), REPORTED, ids=str)
async def test_S114_which_ends_by_order_are_reported(
    runtime: Runtime, events: Recorder, logged: list[Entry], restart: Any, limit: Any, reason: ExitReason
) -> None:
    """Each cell of the table of section 2.7: a child that did not stop as it should is an error in the log."""
    sup = await runtime.spawn(
        Supervisor, [ChildSpec("c", Stubborn, (reason,), restart=restart, shutdown=limit)], name="sup"
    )
    child = (await refs(sup))["c"]
    assert child is not None
    await terminate_child(sup, "c")
    assert child.reason == reason
    expected = restart in REPORTED[limit, reason]
    assert [(e.id, e.child, e.reason) for e in events.of(ev.ChildShutdownFailed, sup)] == (
        [("c", child, reason)] if expected else []
    )
    assert [entry for entry in logged if entry["event"] != "crash_report"] == (
        [
            {
                "event": "shutdown_error",
                "level": "error",
                "supervisor": "/sup",
                "id": "c",
                "child": "/sup/c",
                "reason": str(reason),
                "restart": restart,
                "shutdown": limit,
                "type": "worker",
            }
        ]
        if expected
        else []
    )
    assert sup.alive


@pytest.mark.parametrize("restart", TYPES)
@pytest.mark.parametrize("reason", [SHUTDOWN, Q, NORMAL, BOOM], ids=str)
async def test_S114_brutal_kill_of_a_child_that_has_just_ended(
    runtime: Runtime, events: Recorder, restart: Any, reason: ExitReason
) -> None:
    """A child with brutal_kill that ended by itself before its turn: a clean reason is fine unless it is permanent."""
    sup = await runtime.spawn(
        Supervisor,
        [
            ChildSpec("c", Probe, restart=restart, shutdown="brutal_kill"),
            rec([], "last", stops=1.0),
        ],
    )
    child = (await refs(sup))["c"]
    assert child is not None
    runtime.send_after(0.5, Do(lambda actor: actor.stop(reason)), child)
    assert await runtime.shut_down(sup, "infinity") == SHUTDOWN
    assert child.reason == reason
    reported = restart == "permanent" or reason == BOOM
    assert [e.reason for e in events.of(ev.ChildShutdownFailed)] == ([reason] if reported else [])


# -- ends of their own -------------------------------------------------------------------------------------------------


async def test_S115_a_clean_end_is_silent(runtime: Runtime, logged: list[Entry]) -> None:
    """A transient or temporary child that ends well, a start that is ignored and a stop in order log nothing."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "a", restart="transient"), rec(log, "b", restart="temporary")])
    children = await refs(sup)
    await die(children["a"], NORMAL)
    await die(children["b"], Q)
    await start_child(sup, rec(log, "c"))
    await runtime.shut_down(sup, "infinity")
    assert logged == []


async def test_S115_a_temporary_child_that_crashes_is_told_of_once(runtime: Runtime, logged: list[Entry]) -> None:
    """By its supervisor, as `child_terminated`; there is a crash report before it, also if it stopped itself so."""
    specs = [ChildSpec(id, Probe, restart="temporary") for id in "ab"]
    sup = await runtime.spawn(Supervisor, specs, name="sup")
    children = await refs(sup)
    await die(children["a"], BOOM)
    told = [(entry["event"], entry.get("id"), entry["reason"]) for entry in logged]
    assert told == [("crash_report", None, "'boom'"), ("child_terminated", "a", "'boom'")]
    del logged[:]
    await die(children["b"], OSError("boom"))
    assert [(entry["event"], entry["level"]) for entry in logged] == [
        ("crash_report", "error"),
        ("child_terminated", "error"),
    ]
    assert (logged[0]["actor"], logged[0]["kind"], logged[0]["links"], logged[0]["mailbox"]) == (
        "/sup/b",
        "Probe",
        1,
        0,
    )
    assert logged[0]["last_message"].startswith("Do(")


async def test_a_permanent_child_that_ends_normally_is_told_of(runtime: Runtime, logged: list[Entry]) -> None:
    """The one clean end that is in the log, as in OTP: it was not meant to end."""
    sup = await runtime.spawn(Supervisor, [ChildSpec("c", Probe)])
    await die((await refs(sup))["c"], NORMAL)
    assert [(entry["event"], entry["reason"]) for entry in logged] == [("child_terminated", "normal")]


async def test_a_start_that_fails_and_the_end_of_the_patience_are_told_of(
    runtime: Runtime, logged: list[Entry]
) -> None:
    """`start_error` for each attempt, `shutdown` with `reached_max_restart_intensity` when the supervisor gives up."""
    log: list[Any] = []
    sup = await runtime.spawn(Supervisor, [rec(log, "c", None, OSError("no"))], max_restarts=2, name="sup")
    await die((await refs(sup))["c"], BOOM)
    assert await sup.join() == SHUTDOWN
    assert [entry["event"] for entry in logged] == [
        "crash_report",
        "child_terminated",
        "start_failed",
        "start_error",
        "start_failed",
        "start_error",
        "shutdown",
    ]
    gave_up = logged[-1]
    assert gave_up["last_reason"].startswith("failed to start child 'c': OSError: no")
    assert {key: gave_up[key] for key in ("level", "supervisor", "reason", "id", "max_restarts", "max_seconds")} == {
        "level": "error",
        "supervisor": "/sup",
        "reason": "reached_max_restart_intensity",
        "id": "c",
        "max_restarts": 2,
        "max_seconds": 5.0,
    }


async def test_a_first_start_that_fails_has_no_child_to_name(runtime: Runtime, logged: list[Entry]) -> None:
    """There is no incarnation yet; a supervisor that rolled back is told of by its starter's error alone."""
    error = await error_of(runtime.spawn(Supervisor, [rec([], "c", OSError("no"))], name="sup"))
    assert isinstance(error, StartError)
    assert [(entry["event"], entry.get("child")) for entry in logged] == [("start_failed", None), ("start_error", None)]
    assert logged[1]["supervisor"] == "/sup"


async def test_what_else_is_in_the_log(runtime: Runtime, logged: list[Entry]) -> None:
    """A message without a handler and a mailbox that grows are warnings."""

    class Slow(Deaf):
        mailbox = Mailbox(high_water=2)

    ref = await runtime.spawn(Slow, name="slow")
    ref.cast(Unknown())
    for n in range(4):
        ref.cast(Note(n))
    await settled(runtime, ref)
    assert [(entry["event"], entry["level"], entry["actor"]) for entry in logged] == [
        ("mailbox_high_water", "warning", "/slow"),
        ("unhandled_message", "warning", "/slow"),
    ]


async def test_code_that_does_not_end_and_a_loop_that_does_not_move(runtime: Runtime, logged: list[Entry]) -> None:
    """A zombie is an error with its stack, a blocked loop a warning with its place; an event of no concern is nothing.

    A listener that is told of all events logs the same.
    """
    ref = await runtime.spawn(Probe, name="p")
    about: dict[str, Any] = {"seq": 1, "time": 0.0, "ref": ref, "path": ref.path, "kind": "Probe"}
    blocked = ev.LoopBlocked(seq=2, time=0.0, path="/p", seconds=0.50049, file="f.py", line=3, stack="there")
    entries: list[Entry] = []
    report = reports_into(entries)
    for event in (ev.Zombie(**about, stack="here"), blocked, ev.StartAttempt(**about)):
        report(event)
    assert entries == [
        {"event": "zombie", "level": "error", "actor": "/p", "kind": "Probe", "stack": "here"},
        {
            "event": "loop_blocked",
            "level": "warning",
            "actor": "/p",
            "seconds": 0.5,
            "file": "f.py",
            "line": 3,
            "stack": "there",
        },
    ]
    assert logged == []


async def test_reports_are_on_unless_one_says_otherwise(loop_errors: list[Any]) -> None:
    """A runtime logs its reports with structlog; one made with ``reports=False`` logs nothing."""
    for reports in (True, False):
        with capture_logs() as entries:
            async with Runtime(watchdog=None, reports=reports) as runtime:
                sup = await runtime.spawn(Supervisor, [ChildSpec("c", Probe)])
                await die((await refs(sup))["c"], BOOM)
        assert [entry["event"] for entry in entries] == (["crash_report", "child_terminated"] if reports else [])


# -- huge and strange values -------------------------------------------------------------------------------------------


class Unprintable:
    """A value whose text cannot be made."""

    def __repr__(self) -> str:
        raise OSError("no text")


HUGE = [
    ("a huge term", "x" * 100_000),
    ("a huge exception", OSError("x" * 100_000)),
    ("many lines", OSError("line\n" * 100_000)),
    ("a huge note", Shutdown("x" * 100_000)),
    ("an unprintable term", Unprintable()),
    ("an unprintable note", Shutdown(Unprintable())),
]


@pytest.mark.parametrize("reason", [row[1] for row in HUGE], ids=[row[0] for row in HUGE])
async def test_S117_a_huge_reason_takes_one_line_of_bounded_length(
    runtime: Runtime, events: Recorder, logged: list[Entry], reason: Any
) -> None:
    """The log shows its beginning; whoever was told of the end has the reason whole."""
    sup = await runtime.spawn(Supervisor, [ChildSpec("c", Probe)])
    child = (await refs(sup))["c"]
    await die(child, reason)
    assert logged
    for entry in logged:
        assert "\n" not in entry["reason"]
        assert 0 < len(entry["reason"]) <= 1000
        assert len(entry.get("traceback", "")) < 2000
        assert len(repr(entry)) < 5000
    whole = events.of(ev.ChildTerminated)[0].reason
    assert isinstance(whole, (Abnormal, Crashed, Shutdown))
    kept = {Abnormal: "term", Crashed: "message", Shutdown: "note"}[type(whole)]
    value = getattr(whole, kept)
    assert isinstance(value, Unprintable) or len(value) >= 100_000


async def test_S117_a_huge_message_is_cut_in_the_crash_report(runtime: Runtime, logged: list[Entry]) -> None:
    """The message that was being handled when the actor crashed is shown in part."""

    class Fragile(Probe):
        def unhandled(self, message: Any) -> None:
            raise OSError("what?")

    ref = await runtime.spawn(Fragile)
    ref.cast("x" * 100_000)
    await ref.join()
    assert [len(entry["last_message"]) for entry in logged] == [200]
    assert "Fragile.unhandled" in logged[0]["traceback"]


REASONS = [
    (Abnormal(Unprintable()), "<Unprintable whose repr raises OSError>"),
    (Shutdown(Unprintable()), "shutdown (<Unprintable whose str raises OSError>)"),
    (Shutdown("x"), "shutdown (x)"),
    (BadReturnValue(Unprintable()), "bad return value <Unprintable whose repr raises OSError>"),
    (BadReturnValue([1]), "bad return value [1]"),
    (
        FailedToStartChild(Unprintable(), NORMAL),
        "failed to start child <Unprintable whose repr raises OSError>: normal",
    ),
    (FailedToStartChild("c", StartTimeout(1.5)), "failed to start child 'c': init took longer than 1.5 s"),
]


@pytest.mark.parametrize(("reason", "text"), REASONS, ids=[row[1] for row in REASONS])
def test_every_reason_has_a_text(reason: ExitReason, text: str) -> None:
    """Whatever value a reason carries."""
    assert str(reason) == text
