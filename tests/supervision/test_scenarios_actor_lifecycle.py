"""Scenarios of the reference, section 4.10: start, stop and crash of one actor."""

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
    BadTime,
    CallTimeout,
    Crashed,
    ExitReason,
    NoProcess,
    Refuse,
    Runtime,
    Shutdown,
    StartError,
    StartIgnored,
    Stop,
)
from supervision import events as ev
from supervision.reasons import BadReturnValue, StartTimeout
from supervision.testing import advance, barrier, settled
from tests.supervision.probes import Do, Note, Probe, Recorder, Tidy, do, error_of, nothing, time_of


class Starter(Actor):
    """An actor whose `init` does what it is told."""

    def __init__(self, what: Any) -> None:
        self.what = what

    def init(self) -> Any:
        """Do it."""
        return self.what(self)


def raises(error: BaseException) -> Any:
    """Return a function that raises."""

    def fail(actor: Actor) -> None:
        raise error

    return fail


def later(what: Any) -> Any:
    """Return an async function that first waits."""

    async def wait(actor: Actor) -> Any:
        await actor.runtime.sleep(1.0)
        return what(actor)

    return wait


async def test_S154_a_start_that_takes_too_long_is_ended(runtime: Runtime, events: Recorder) -> None:
    """`spawn` with a limit fails after it, leaves no actor and no name, and a trapping starter gets no `Exit`."""
    log: list[Any] = []
    starter = await runtime.spawn(Probe, log, trap_exit=True)

    async def start(actor: Probe) -> None:
        slow = runtime.spawn(Starter, lambda a: a.runtime.sleep(10.0), name="slow", timeout=1.0)
        actor.log.append(await error_of(slow))

    assert await time_of(do(starter, start)) == pytest.approx(1.0)
    assert isinstance(log[0], StartError)
    assert log[0].reason == StartTimeout(1.0)
    assert runtime.whereis("slow") is None
    assert [ref.kind for ref in events.of(ev.StartFailed)] == ["Starter"]
    assert runtime.statistics().actors == 1
    await barrier(starter)
    assert len(log) == 1


INIT_RESULTS = [
    ("ignore", lambda actor: IGNORE, StartIgnored, NORMAL, None),
    ("stop with a reason", lambda actor: actor.stop("r"), StartError, Abnormal("r"), False),
    ("refuse", raises(Refuse(OSError("r"))), StartError, "OSError: r", True),
    ("junk", lambda actor: 4711, StartError, BadReturnValue(4711), False),
    ("raise", raises(OSError("broken")), StartError, "OSError: broken", False),
    ("exit", raises(Stop("r")), StartError, Abnormal("r"), False),
]


@pytest.mark.parametrize("slow", [False, True], ids=["plain", "async"])
@pytest.mark.parametrize(
    ("what", "kind", "reason", "quiet"), [row[1:] for row in INIT_RESULTS], ids=[row[0] for row in INIT_RESULTS]
)
async def test_S155_each_result_of_init_has_one_meaning_every_time(
    runtime: Runtime, events: Recorder, what: Any, kind: type[StartError], reason: Any, quiet: bool | None, slow: bool
) -> None:
    """The starter gets the same answer five times in a row: no name or actor of a failed attempt is left."""
    if slow:
        what = later(what)
    for _ in range(5):
        error = await error_of(runtime.spawn(Starter, what, name="n"))
        assert type(error) is kind
        if isinstance(reason, str):
            assert isinstance(error.reason, Crashed)
            assert f"{error.reason.kind}: {error.reason.message}" == reason
            assert isinstance(error.__cause__, OSError)
        else:
            assert error.reason == reason
    assert runtime.statistics().actors == 0
    assert runtime.names() == {}
    assert events.of(ev.CrashReport) == []
    assert [event.quiet for event in events.of(ev.StartFailed)] == ([] if quiet is None else [quiet] * 5)
    assert len(events.of(ev.StartIgnored)) == (5 if quiet is None else 0)


@pytest.mark.parametrize("trap", [False, True], ids=["not trapping", "trapping"])
async def test_S157_a_failed_linked_start_raises_and_does_not_kill_the_starter(runtime: Runtime, trap: bool) -> None:
    """Whoever starts a linked actor gets `StartError`; no exit signal and no `Exit` message comes besides."""
    log: list[Any] = []
    starter = await runtime.spawn(Probe, log, trap_exit=trap)

    async def start(actor: Probe) -> None:
        actor.log.append(await error_of(actor.spawn_link(Starter, raises(Stop("r")))))
        actor.log.append(await error_of(actor.spawn_link(Starter, later(raises(Stop("r"))))))

    await do(starter, start)
    await barrier(starter)
    assert starter.alive
    assert [error.reason for error in log] == [Abnormal("r"), Abnormal("r")]
    assert runtime.info(starter).links == 0  # type: ignore[union-attr]


async def test_S159_stop_with_another_reason(runtime: Runtime) -> None:
    """`stop` with a reason returns when the actor has ended for it, and monitors see it."""
    log: list[Any] = []
    ref = await runtime.spawn(Tidy, log)
    watcher = await runtime.spawn(Probe, log)
    await do(watcher, lambda actor: nothing(actor.monitor(ref)))
    await ref.stop("other")
    assert ref.reason == Abnormal("other")
    await barrier(watcher)
    assert log == [("terminate", Abnormal("other")), ("down", ref, Abnormal("other"))]


@pytest.mark.parametrize("bad", [-1, "1", True, float("nan"), float("inf")])
async def test_S160_a_bad_time_out_raises_at_the_caller(runtime: Runtime, bad: Any) -> None:
    """`stop` with a time-out that is none raises; the actor lives on and can be stopped."""
    ref = await runtime.spawn(Probe)
    with pytest.raises(BadTime):
        await ref.stop(timeout=bad)
    with pytest.raises(BadTime):
        ref.call(Note("x"), timeout=bad)  # type: ignore[arg-type]
    assert ref.alive
    await ref.stop(timeout=1.0)
    assert ref.reason == NORMAL


async def test_S162_stop_of_an_actor_that_dies_meanwhile(runtime: Runtime) -> None:
    """Who stops an actor that crashes before the order reaches it gets the reason of the crash."""
    ref = await runtime.spawn(Probe)
    ref.cast(Do(lambda actor: actor.stop("die")))
    error = await error_of(ref.stop())
    assert isinstance(error, ActorExited)
    assert error.reason == Abnormal("die")


async def test_S162_stop_of_an_actor_that_hangs(runtime: Runtime) -> None:
    """`stop` gives up after its limit; the actor is not killed, and stops when it comes to it."""
    ref = await runtime.spawn(Probe)
    ref.cast(Do(lambda actor: actor.runtime.sleep(10.0)))
    with pytest.raises(CallTimeout, match="stop"):
        await ref.stop(timeout=1.0)
    assert ref.alive
    assert await time_of(ref.join()) == pytest.approx(9.0)
    assert ref.reason == NORMAL


async def test_S162_stop_of_an_actor_whose_terminate_raises(runtime: Runtime) -> None:
    """Who stops an actor whose `terminate` raises gets that error, plain or async."""

    class Bad(Actor):
        def terminate(self, reason: ExitReason) -> None:
            raise OSError("no cleanup")

    class Worse(Actor):
        async def terminate(self, reason: ExitReason) -> None:
            await self.runtime.sleep(1.0)
            raise OSError("no cleanup")

    for kind in (Bad, Worse):
        ref = await runtime.spawn(kind)
        error = await error_of(ref.stop())
        assert isinstance(error, ActorExited)
        assert isinstance(error.reason, Crashed)
        assert (error.reason.kind, error.reason.message) == ("OSError", "no cleanup")
        assert ref.reason is error.reason


CLEAN_ENDS = [
    ("raise shutdown with a note", raises(Stop(Shutdown("r"))), Shutdown("r")),
    ("stop with shutdown and a note", lambda actor: actor.stop(Shutdown("r")), Shutdown("r")),
    ("raise shutdown", raises(Stop(SHUTDOWN)), SHUTDOWN),
    ("stop with shutdown", lambda actor: actor.stop(SHUTDOWN), SHUTDOWN),
    ("stop", lambda actor: actor.stop(), NORMAL),
]


@pytest.mark.parametrize(("what", "reason"), [row[1:] for row in CLEAN_ENDS], ids=[row[0] for row in CLEAN_ENDS])
async def test_S164_clean_ends_are_silent(runtime: Runtime, events: Recorder, what: Any, reason: ExitReason) -> None:
    """After an end in order the caller without an answer and a linked starter get the reason, and nothing is
    reported."""
    log: list[Any] = []
    starter = await runtime.spawn(Probe, log, trap_exit=True)
    ref = await do(starter, lambda actor: actor.spawn_link(Probe))

    def end(actor: Probe) -> Any:
        actor.defer_reply()
        return what(actor)

    error = await error_of(do(ref, end))
    assert isinstance(error, ActorExited)
    assert error.reason == reason
    await barrier(starter)
    assert log == [("exit", ref, reason)]
    assert events.of(ev.CrashReport) == []


async def test_S164_a_crash_is_reported_once(runtime: Runtime, events: Recorder) -> None:
    """A handler that raises makes one crash report: the name, the message in hand, what waits, and where it was
    raised."""
    ref = await runtime.spawn(Probe, name="fragile")
    message = Do(raises(OSError("broken")))
    ref.cast(message)
    ref.cast(Note("never read"))
    reason = await ref.join()
    (report,) = events.of(ev.CrashReport)
    assert (report.ref, report.name, report.path, report.kind) == (ref, "fragile", "/fragile", "Probe")
    assert report.reason is reason
    assert report.message is not None
    assert report.message.startswith("Do(")
    assert (report.mailbox, report.links) == (1, 0)
    assert isinstance(report.reason, Crashed)
    assert report.reason.frames[-1].function.endswith("fail")
    assert "broken" in report.reason.traceback()
    assert len(events.of(ev.Exited)) == 1


async def test_S165_a_terminate_that_raises_decides_the_reason(runtime: Runtime, events: Recorder) -> None:
    """If `terminate` raises, everybody sees that error as the reason, and the report does too."""

    class Bad(Probe):
        def terminate(self, reason: ExitReason) -> None:
            self.log.append(reason)
            raise KeyError("crash")

    log: list[Any] = []
    ref = await runtime.spawn(Bad, log)
    error = await error_of(do(ref, lambda actor: actor.stop("stopped")))
    assert isinstance(error, ActorExited)
    assert error.reason is ref.reason
    assert log == [Abnormal("stopped")]
    assert isinstance(ref.reason, Crashed)
    assert ref.reason.kind == "KeyError"
    assert [report.reason for report in events.of(ev.CrashReport)] == [ref.reason]


async def test_S165_a_terminate_that_raises_stop_changes_the_reason(runtime: Runtime) -> None:
    """`raise Stop` in `terminate` replaces the reason, in order."""

    class Other(Actor):
        def terminate(self, reason: ExitReason) -> None:
            raise Stop("better")

    ref = await runtime.spawn(Other)
    with pytest.raises(ActorExited):
        await ref.stop()
    assert ref.reason == Abnormal("better")


@pytest.mark.parametrize("linked", [False, True], ids=["alone", "linked"])
@pytest.mark.parametrize("slow", [False, True], ids=["plain", "async"])
async def test_S167_a_crash_in_init_reaches_the_starter(runtime: Runtime, linked: bool, slow: bool) -> None:
    """A start that crashes answers at once, with the exception as the cause, linked or not; it never hangs."""
    boom = OSError("boom")

    async def wait_then_fail(actor: Actor) -> None:
        await advance(0)
        raise boom

    what = wait_then_fail if slow else raises(boom)
    starter = await runtime.spawn(Probe)

    async def start(actor: Probe) -> BaseException:
        return await error_of((actor.spawn_link if linked else actor.spawn)(Starter, what))

    error = await do(starter, start)
    assert isinstance(error, StartError)
    assert error.__cause__ is boom
    assert asyncio.get_running_loop().time() == 0.0
    assert starter.alive


TERMINATE_TABLE = [
    # (who, reason, trapping, what the log of the child says, how it ended)
    ("parent", SHUTDOWN, True, [("terminate", SHUTDOWN)], SHUTDOWN),
    ("parent", SHUTDOWN, False, [], SHUTDOWN),
    ("stranger", SHUTDOWN, True, [("exit", SHUTDOWN)], None),
    ("stranger", SHUTDOWN, False, [], SHUTDOWN),
    ("parent ends", NORMAL, True, [("terminate", NORMAL)], NORMAL),
    ("parent ends", NORMAL, False, [], None),
    ("parent ends", SHUTDOWN, True, [("terminate", SHUTDOWN)], SHUTDOWN),
    ("kill", None, True, [], KILLED),
    ("kill", None, False, [], KILLED),
    ("stop", "r", True, [("terminate", Abnormal("r"))], Abnormal("r")),
    ("stop", "r", False, [("terminate", Abnormal("r"))], Abnormal("r")),
    ("raise", None, True, ["crash"], "crash"),
    ("raise", None, False, ["crash"], "crash"),
    ("junk", 7, False, [("terminate", BadReturnValue(7))], BadReturnValue(7)),
]


@pytest.mark.parametrize(("who", "reason", "trap", "logged", "end"), TERMINATE_TABLE)
async def test_S169_when_terminate_runs(
    runtime: Runtime, who: str, reason: Any, trap: bool, logged: list[Any], end: Any
) -> None:
    """`terminate` runs when the actor stops itself, crashes, or is ended by its parent while it traps; never on
    kill."""

    class Junk(Tidy):
        def note(self, message: Note) -> Any:
            return message.text

    log: list[Any] = []
    parent = await runtime.spawn(Probe, trap_exit=who == "parent")
    child = await do(parent, lambda actor: actor.spawn_link(Junk, log, trap_exit=trap))
    if who == "parent":
        await do(parent, lambda actor: child.exit(reason))
    elif who == "stranger":
        child.exit(reason)
    elif who == "parent ends":
        await do(parent, lambda actor: actor.stop(reason))
    elif who == "kill":
        child.kill()
    elif who == "stop":
        child.cast(Do(lambda actor: actor.stop(reason)))
    elif who == "raise":
        child.cast(Do(raises(OSError("crash"))))
    else:
        child.cast(Note(reason))
    await settled(runtime)
    if end == "crash":
        assert [entry[0] for entry in log] == ["terminate"]
        assert isinstance(child.reason, Crashed)
        assert log[0][1] is child.reason
        return
    seen = [("exit", entry[2]) if entry[0] == "exit" else entry for entry in log]
    assert seen == logged
    assert child.reason == end
    assert child.alive is (end is None)


async def test_S170_a_cast_does_not_report_the_crash(runtime: Runtime) -> None:
    """Who casts the message that crashes an actor hears nothing of it; its next call says that nobody is there."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe)
    client = await runtime.spawn(Probe, log, trap_exit=True)
    await do(client, lambda actor: ref.cast(Do(raises(OSError("broken")))))
    await runtime.sleep(4.0)
    assert log == []

    async def ask(actor: Probe) -> BaseException:
        return await error_of(do(ref, lambda other: 1))

    error = await do(client, ask)
    assert isinstance(error, NoProcess)
    assert error.target is ref
