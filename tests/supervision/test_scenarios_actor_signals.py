"""Scenarios of the reference, sections 4.14 and 4.15: exit signals, links, monitors and timers."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from supervision import (
    KILL,
    KILLED,
    NOPROC,
    NORMAL,
    SHUTDOWN,
    Abnormal,
    AlreadyReplied,
    BadTime,
    ExitReason,
    NoProcess,
    Ref,
    Runtime,
    Shutdown,
    Stop,
)
from supervision.testing import barrier, settled
from tests.supervision.probes import Do, DoAndReply, Note, Probe, Tidy, do, error_of, nothing

# -- table 1.3 ---------------------------------------------------------------------------------------------------------

SIGNALS = [
    # row, through a link, reason, trapping, to itself, end, message
    (2, False, KILL, False, False, KILLED, None),
    (2, False, KILL, True, False, KILLED, None),
    (2, False, KILL, False, True, KILLED, None),
    (2, False, KILL, True, True, KILLED, None),
    (3, True, KILL, False, False, KILL, None),
    (4, True, KILL, True, False, None, KILL),
    (5, False, NORMAL, False, False, None, None),
    (5, True, NORMAL, False, False, None, None),
    (6, False, NORMAL, False, True, NORMAL, None),
    (7, False, NORMAL, True, False, None, NORMAL),
    (7, False, NORMAL, True, True, None, NORMAL),
    (7, True, NORMAL, True, False, None, NORMAL),
    (8, False, SHUTDOWN, False, False, SHUTDOWN, None),
    (8, False, Abnormal("x"), False, True, Abnormal("x"), None),
    (8, True, Shutdown("x"), False, False, Shutdown("x"), None),
    (8, True, KILLED, False, False, KILLED, None),
    (9, False, SHUTDOWN, True, False, None, SHUTDOWN),
    (9, False, Abnormal("x"), True, True, None, Abnormal("x")),
    (9, True, KILLED, True, False, None, KILLED),
    (9, True, NOPROC, True, False, None, NOPROC),
]


@pytest.mark.parametrize(("row", "link", "reason", "trap", "own", "end", "message"), SIGNALS)
async def test_table_1_3_what_an_exit_signal_does(
    runtime: Runtime,
    row: int,
    link: bool,
    reason: ExitReason,
    trap: bool,
    own: bool,
    end: ExitReason | None,
    message: ExitReason | None,
) -> None:
    """Each row of table 1.3: who gets which signal ends with this reason, or finds this message, or nothing."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log, trap_exit=trap)
    sender = ref if own else await runtime.spawn(Probe)
    if link:
        await do(sender, lambda actor: actor.link(ref))
        sender.cast(Do(lambda actor: actor.stop(reason)))
    else:
        sender.cast(Do(lambda actor: ref.exit(reason)))
    await settled(runtime, ref)
    assert ref.reason == end
    assert log == ([] if message is None else [("exit", sender, message)])


@pytest.mark.parametrize("trap", [False, True])
async def test_table_1_3_row_1_a_removed_link_carries_nothing(runtime: Runtime, trap: bool) -> None:
    """After `unlink`, by either side, the end of one is nothing to the other."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log, trap_exit=trap)
    for by_itself in (False, True):
        other = await runtime.spawn(Probe)
        await do(ref, lambda actor, other=other: actor.link(other))
        await do(
            ref if by_itself else other, lambda actor, other=other: actor.unlink(other if actor.ref is ref else ref)
        )
        other.exit(Abnormal("x"))
        await settled(runtime)
    assert ref.alive
    assert log == []


@pytest.mark.parametrize("trap", [False, True])
async def test_a_signal_from_nobody(runtime: Runtime, trap: bool) -> None:
    """A signal that was sent from outside all actors has no sender; a normal one is dropped, another counts."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log, trap_exit=trap)
    ref.exit(NORMAL)
    await settled(runtime)
    assert ref.alive
    ref.exit("why")
    await settled(runtime)
    assert ref.alive is trap
    assert log == ([("exit", None, NORMAL), ("exit", None, Abnormal("why"))] if trap else [])


async def test_the_order_to_kill_counts_by_value(runtime: Runtime) -> None:
    """A `KILL` that came over a wire, equal but another object, is the same unblockable order."""
    ref = await runtime.spawn(Probe, trap_exit=True)
    ref.exit(msgspec.json.decode(msgspec.json.encode(KILL), type=type(KILL)))
    await settled(runtime)
    assert ref.reason == KILLED


async def test_the_first_of_two_signals_decides(runtime: Runtime) -> None:
    """Of two exit signals in a row the first gives the reason, whether the actor is idle or in the middle of
    something."""
    idle = await runtime.spawn(Probe)
    busy = await runtime.spawn(Probe)
    busy.cast(Do(lambda actor: actor.runtime.sleep(10.0)))
    await settled(runtime)
    for ref in (idle, busy):
        ref.exit("first")
        ref.exit("second")
        assert await ref.join() == Abnormal("first")


# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slow", [False, True], ids=["plain", "async"])
async def test_S219_exit_to_itself_with_normal(runtime: Runtime, slow: bool) -> None:
    """An actor that sends itself `NORMAL` ends, unless it traps: then it gets a message."""
    log: list[Any] = []

    async def slowly(actor: Probe) -> None:
        actor.ref.exit(NORMAL)
        await actor.runtime.sleep(1.0)

    what = slowly if slow else lambda actor: actor.ref.exit(NORMAL)
    plain = await runtime.spawn(Probe, log)
    plain.cast(Do(what))
    assert await plain.join() == NORMAL
    assert log == []
    trapping = await runtime.spawn(Probe, log, trap_exit=True)
    trapping.cast(Do(what))
    await runtime.sleep(2.0)
    assert log == [("exit", trapping, NORMAL)]


@pytest.mark.parametrize("first", [False, True], ids=["in a later step", "in the first step"])
async def test_S220_exit_to_itself_is_no_exception(runtime: Runtime, first: bool) -> None:
    """An actor that sends itself an exit signal ends for that reason; a try/except around it does not stop it."""
    ref = await runtime.spawn(Probe)

    def plain(actor: Probe) -> None:
        try:
            actor.ref.exit("x")
        except Exception:
            actor.log.append("caught")

    async def slow(actor: Probe) -> None:
        if not first:
            await actor.runtime.sleep(1.0)
        plain(actor)
        await actor.runtime.sleep(1.0)
        actor.log.append("lives on")

    for what in (plain, slow):
        log: list[Any] = []
        ref = await runtime.spawn(Probe, log)
        # A first message makes a worker drain the queue, so that the next handler begins inside it.
        await do(ref, lambda actor: actor.runtime.sleep(0.0))
        ref.cast(Do(what))
        assert await ref.join() == Abnormal("x")
        assert log == []
        assert ref.alive is False


async def test_S222_any_term_is_a_reason(runtime: Runtime) -> None:
    """The reason of an exit signal arrives as it was sent, however big."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log, trap_exit=True)
    big = {"list": list(range(1000)), "text": "x" * 1000}
    ref.exit(big)
    await barrier(ref)
    assert log == [("exit", None, Abnormal(big))]
    assert log[0][2].term is big


@pytest.mark.parametrize("length", [1, 2, 9, 10, 2000])
async def test_S224_kill_becomes_killed(runtime: Runtime, length: int) -> None:
    """Killing one end of a chain of links is `killed` at the other; an end by its own `KILL` is seen as `kill`."""
    for order, seen in ((KILLED, KILLED), (KILL, KILL)):
        chain = [await runtime.spawn(Probe) for _ in range(length)]
        for left, right in itertools.pairwise(chain):
            await do(left, lambda actor, right=right: actor.link(right))
        if order is KILLED:
            chain[0].kill()
        else:
            chain[0].cast(Do(_raise_kill))
        await settled(runtime)
        assert [ref.reason for ref in chain] == [seen] * length


def _raise_kill(actor: Probe) -> None:
    raise Stop(KILL)


async def test_S225_kill_of_one_that_traps(runtime: Runtime) -> None:
    """A killed actor ends as `killed`, trapping or not, and no cleanup of it is seen."""
    log: list[Any] = []
    ref = await runtime.spawn(Tidy, log, trap_exit=True)
    ref.exit(KILL)
    assert ref.reason == KILLED
    await settled(runtime)
    assert log == []


async def test_S227_a_neighbour_ends_normally(runtime: Runtime) -> None:
    """The normal end of a linked neighbour is a message to one that traps, and nothing to one that does not."""
    log: list[Any] = []
    neighbour = await runtime.spawn(Probe)
    trapping = await runtime.spawn(Probe, log, trap_exit=True)
    plain = await runtime.spawn(Probe, log)
    for ref in (trapping, plain):
        await do(ref, lambda actor: actor.link(neighbour))
    await neighbour.stop()
    await settled(runtime)
    assert plain.alive
    assert log == [("exit", neighbour, NORMAL)]


# -- links and monitors ------------------------------------------------------------------------------------------------


async def test_S229_link_to_an_ended_actor(runtime: Runtime) -> None:
    """Linking to an ended actor gives a trapping one an `Exit` with `NOPROC`; otherwise it raises."""
    log: list[Any] = []
    ended = await runtime.spawn(Probe)
    ended.kill()
    trapping = await runtime.spawn(Probe, log, trap_exit=True)
    await do(trapping, lambda actor: actor.link(ended))
    await barrier(trapping)
    assert log == [("exit", ended, NOPROC)]
    plain = await runtime.spawn(Probe)
    assert isinstance(await do(plain, lambda actor: _error_of(lambda: actor.link(ended))), NoProcess)


def _error_of(what: Any) -> BaseException:
    with pytest.raises(BaseException) as caught:
        what()
    return caught.value


async def test_S230_a_link_is_one_link(runtime: Runtime) -> None:
    """Linking twice and unlinking once leaves no link."""
    ref = await runtime.spawn(Probe)
    neighbour = await runtime.spawn(Probe)

    def links(actor: Probe) -> None:
        actor.link(neighbour)
        actor.link(neighbour)
        actor.unlink(neighbour)
        actor.unlink(neighbour)

    await do(ref, links)
    neighbour.exit("x")
    await settled(runtime)
    assert ref.alive


async def test_S232_no_message_after_an_exit_signal_is_handled(runtime: Runtime) -> None:
    """Messages that were sent before an exit signal may be handled, none that were sent after it; a thousand times."""
    for number in range(1000):
        log: list[Any] = []
        seen: list[Any] = []
        ref = await runtime.spawn(Probe, log)
        watcher = await runtime.spawn(Probe, seen)

        def attack(actor: Probe, ref: Ref = ref) -> None:
            actor.monitor(ref)
            for _ in range(3):
                ref.cast(Note("before"))
            ref.exit("x")
            for _ in range(3):
                ref.cast(Note("after"))

        watcher.cast(Do(attack))
        if number % 2:
            await barrier(watcher)
        else:
            await ref.join()
            await barrier(watcher)
        assert "after" not in log
        assert seen == [("down", ref, Abnormal("x"))]
        watcher.kill()


async def test_S234_the_name_is_free_when_others_hear_of_the_death(runtime: Runtime) -> None:
    """In the handlers of `Down` and `Exit` of an actor, and in those of the event of its end, its name is free."""
    holders: list[Any] = []

    class Heir(Probe):
        def down(self, message: Any) -> None:
            holders.append(runtime.whereis("throne"))

        def exited(self, message: Any) -> None:
            holders.append(runtime.whereis("throne"))

    heir = await runtime.spawn(Heir, trap_exit=True)
    king = await runtime.spawn(Probe, name="throne")
    await do(heir, lambda actor: nothing(actor.link(king), actor.monitor(king)))
    king.cast(Do(lambda actor: actor.stop()))
    await king.join()
    await barrier(heir)
    assert holders == [None, None]


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in a handler"])
async def test_S235_dead_for_questions_at_once(runtime: Runtime, busy: bool) -> None:
    """When `exit` has returned the actor is not alive, has no information and no name, even if its code still runs."""
    ref = await runtime.spawn(Probe, name="n")
    if busy:
        ref.cast(Do(lambda actor: actor.runtime.sleep(10.0)))
        await settled(runtime)
    ref.exit("x")
    assert ref.alive is False
    assert runtime.info(ref) is None
    assert runtime.whereis("n") is None
    assert ref not in list(runtime.actors())
    assert runtime.find("/n") is None
    assert await ref.join() == Abnormal("x")


async def test_S237_each_monitor_fires_once(runtime: Runtime) -> None:
    """Three monitors of one actor are three `Down` messages, each with its own monitor."""
    monitors: list[Any] = []

    class Watcher(Probe):
        def down(self, message: Any) -> None:
            self.log.append(message.monitor)

    log: list[Any] = []
    ref = await runtime.spawn(Probe)
    watcher = await runtime.spawn(Watcher, log)
    await do(watcher, lambda actor: monitors.extend(actor.monitor(ref) for _ in range(3)))
    ref.kill()
    await barrier(watcher)
    assert len(set(monitors)) == 3
    assert set(log) == set(monitors)
    assert len(log) == 3


async def test_S239_demonitor_with_flush(runtime: Runtime) -> None:
    """A flushed monitor leaves no `Down` behind, whether it was removed before or after the death; others stay."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe)

    class Watcher(Probe):
        def down(self, message: Any) -> None:
            self.log.append(message.monitor)

    watcher = await runtime.spawn(Watcher, log)

    async def watch(actor: Watcher) -> list[Any]:
        monitors = [actor.monitor(ref) for _ in range(4)]
        first, _, third, fourth = monitors
        results = [actor.demonitor(first, flush=True)]
        ref.kill()
        results += [actor.demonitor(third, flush=True), actor.demonitor(fourth), actor.demonitor(third, flush=True)]
        actor.state = results
        return monitors

    _, second, _, fourth = await do(watcher, watch)
    await barrier(watcher)
    assert log == [second, fourth]
    assert await do(watcher, lambda actor: actor.state) == [True, False, False, False]
    assert repr(second) == f"<Monitor of {ref}>"


async def test_S240_demonitor_tells_whether_a_down_is_to_be_expected(runtime: Runtime) -> None:
    """`demonitor` says True if no `Down` will come, False if exactly one waits; for 10 000 short lives."""

    class Watcher(Probe):
        def down(self, message: Any) -> None:
            self.log.append(message.monitor)

    log: list[Any] = []
    watcher = await runtime.spawn(Watcher, log)
    expected: list[Any] = []

    async def watch(actor: Watcher) -> None:
        for number in range(10_000):
            ref = await actor.spawn(Probe)
            monitor = actor.monitor(ref)
            if runtime.random.random() < 0.5:
                ref.kill()
            if not actor.demonitor(monitor):
                expected.append(monitor)
            assert actor.demonitor(monitor) is False
            ref.kill()
            if number % 100 == 0:
                await actor.runtime.sleep(0.0)

    await do(watcher, watch)
    await barrier(watcher)
    assert log == expected
    assert 4000 < len(expected) < 6000


async def test_S242_the_watcher_dies_first(runtime: Runtime) -> None:
    """The death of a watcher is nothing to the watched, and leaves nothing in its table of monitors."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log, trap_exit=True)
    for _ in range(3):
        watcher = await runtime.spawn(Probe)
        await do(watcher, lambda actor: nothing(actor.monitor(ref), actor.monitor(ref)))
        assert runtime.info(ref).monitors == 2  # type: ignore[union-attr]
        watcher.kill()
        assert runtime.info(ref).monitors == 0  # type: ignore[union-attr]
    ref.kill()
    await settled(runtime)
    assert log == []
    assert runtime.statistics().dead_letters == {}


async def test_S244_a_reply_token_is_good_for_one_answer(runtime: Runtime) -> None:
    """OTP's reply alias: the first answer arrives, the second is an error at the sender; a `Down` still comes after
    it."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe)
    client = await runtime.spawn(Probe, log)

    def answer_later(actor: Probe) -> None:
        actor.state = actor.defer_reply()

    async def ask(actor: Probe) -> None:
        actor.monitor(ref)
        call = ref.call(DoAndReply(answer_later))
        ref.cast(Do(lambda other: other.state.reply("first")))
        actor.log.append(await call)

    await do(client, ask)
    again = await do(ref, lambda actor: _error_of(lambda: actor.state.reply("second")))
    assert isinstance(again, AlreadyReplied)
    await ref.stop()
    await barrier(client)
    assert log == ["first", ("down", ref, NORMAL)]


@pytest.mark.parametrize("by_name", [False, True], ids=["by ref", "by name"])
async def test_S245_timers_end_with_their_actor(runtime: Runtime, by_name: bool) -> None:
    """A timer aimed at an incarnation ends with it and never reaches its successor; one aimed at a name does."""
    log: list[Any] = []
    first = await runtime.spawn(Probe, log, name="n")
    to = runtime.name("n") if by_name else first
    timers = [runtime.send_after(1.0, Note("once"), to), runtime.send_interval(3.0, Note("often"), to)]
    first.kill()
    assert [timer.read() for timer in timers] == ([1.0, 3.0] if by_name else [None, None])
    await runtime.spawn(Probe, log, name="n")
    await runtime.sleep(4.0)
    assert log == (["once", "often"] if by_name else [])
    for timer in timers:
        timer.cancel()
    assert runtime.statistics().timers == 0


# -- timers ------------------------------------------------------------------------------------------------------------


async def test_S247_cancel_tells_the_time_that_was_left(runtime: Runtime) -> None:
    """`cancel` returns the rest of the time once, then None; nothing is delivered."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log)
    timer = runtime.send_after(10.0, Note("x"), ref)
    await runtime.sleep(4.0)
    assert timer.read() == pytest.approx(6.0)
    assert timer.cancel() == pytest.approx(6.0)
    assert timer.cancel() is None
    assert timer.read() is None
    await runtime.sleep(10.0)
    assert log == []


@pytest.mark.parametrize("bad", [-1, -0.1, "1", None, True, float("nan"), float("inf")])
async def test_S249_delays_that_are_none_are_refused(runtime: Runtime, bad: Any) -> None:
    """A delay or period that is no length of time raises at the caller; a period is more than zero."""
    ref = await runtime.spawn(Probe)
    for what in (runtime.send_after, runtime.send_interval):
        with pytest.raises(BadTime):
            what(bad, Note("x"), ref)
    with pytest.raises(BadTime):
        await runtime.sleep(bad)
    with pytest.raises(BadTime, match="more than 0"):
        runtime.send_interval(0, Note("x"), ref)
    assert runtime.statistics().timers == 0


async def test_S249_a_delay_may_be_long(runtime: Runtime) -> None:
    """A delay of 2**31 milliseconds is accepted, and so is zero."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log)
    runtime.send_after(2**31 / 1000, Note("late"), ref)
    runtime.send_after(0, Note("now"), ref)
    await runtime.sleep(0.001)
    assert log == ["now"]
    await runtime.sleep(2**31 / 1000)
    assert log == ["now", "late"]


async def test_S250_cancel_after_firing_leaves_the_message(runtime: Runtime) -> None:
    """Cancelling a timer that has fired says None; its message stays in the mailbox."""
    log: list[Any] = []
    ref = await runtime.spawn(Probe, log)

    async def wait(actor: Probe) -> None:
        timer = actor.send_after(1.0, Note("x"))
        await actor.runtime.sleep(2.0)
        actor.log.append(timer.cancel())

    await do(ref, wait)
    await barrier(ref)
    assert log == [None, "x"]


async def test_S252_a_name_is_looked_up_when_the_timer_fires(runtime: Runtime) -> None:
    """A timer aimed at a name reaches whoever holds it then; if nobody does, nothing happens."""
    log: list[Any] = []
    runtime.send_after(1.0, Note("first"), runtime.name("later"))
    runtime.send_after(3.0, Note("second"), runtime.name("later"))
    ref = await runtime.spawn(Probe, log, name="later")
    await runtime.sleep(2.0)
    runtime.unregister("later")
    await runtime.sleep(2.0)
    assert log == ["first"]
    assert ref.alive
    assert runtime.statistics().dead_letters == {"noname": 1}


async def test_an_error_of_a_link_is_told_to_whoever_asked(runtime: Runtime) -> None:
    """The error of a link to an ended actor names both."""
    ended = await runtime.spawn(Probe)
    ended.exit("gone")
    plain = await runtime.spawn(Probe)
    plain.cast(Do(lambda actor: actor.link(ended)))
    reason = await plain.join()
    assert "NoProcess" in str(reason)
    assert "gone" in str(reason)
    assert isinstance(await error_of(do(plain, lambda actor: 1)), NoProcess)
