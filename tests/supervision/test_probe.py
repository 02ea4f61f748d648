"""Probes do what a test tells them, and write down what happens to them; logs wait for what comes, and for nothing."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from supervision import (
    IGNORE,
    KILLED,
    NORMAL,
    ActorExited,
    BadOption,
    BadTime,
    ChildSpec,
    Message,
    Request,
    Runtime,
    StartError,
    StartIgnored,
    Supervisor,
    UnhandledMessage,
)
from supervision.testing import (
    Do,
    DoAndReply,
    Note,
    Probe,
    ProbeLog,
    ScenarioRun,
    barrier,
    do,
    error_of,
    explore,
    hang,
    settled,
)
from tests.supervision.probes import time_of


class Ping(Message):
    """A message of somebody's own."""

    n: int


class Get(Request[int]):
    """A request of somebody's own."""


class Odd:
    """Is not to be compared."""

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError("not to be compared")

    __hash__ = object.__hash__


# -- what a probe writes down ------------------------------------------------------------------------------------------


async def test_a_probe_writes_down_what_it_receives_in_order(runtime: Runtime) -> None:
    log = ProbeLog()
    probe, other = await runtime.spawn(Probe, log, trap_exit=True), await runtime.spawn(Probe)
    probe.cast(Note("text"))
    probe.cast(Ping(1))
    probe.cast("raw")
    await do(probe, lambda me: (me.link(other), me.monitor(other)))
    await do(probe, lambda me: me.idle_timeout(0))
    await barrier(probe)
    other.kill()
    await barrier(probe)
    assert log == ["text", Ping(1), "raw", "idle", ("exit", other, KILLED), ("down", other, KILLED)]


async def test_a_probe_with_an_id_writes_down_its_life_and_its_log_outlives_it(runtime: Runtime) -> None:
    log = ProbeLog()
    children = [Probe.child(log, "a", None, OSError("no"), None), Probe.child(log, "b", stops=2.0)]
    top = await runtime.spawn(Supervisor, children, name="top")
    runtime.find("/top/a").kill()  # type: ignore[union-attr]
    await settled(runtime)
    assert await time_of(top.stop()) == 2.0
    assert log == ["+a", "+b", "!a", "+a", "-b(shutdown)", "-a(shutdown)"]


async def test_a_probe_without_an_id_says_nothing_of_its_life_and_has_a_log_of_its_own(runtime: Runtime) -> None:
    probe = await runtime.spawn(Probe)
    probe.cast(Note(1))
    assert await do(probe, lambda me: me.log) == [1]
    assert await do(probe, lambda me: isinstance(me.log, ProbeLog)) is True
    await probe.stop()


# -- what a probe does -------------------------------------------------------------------------------------------------


async def test_a_probe_does_what_it_is_told_in_its_own_context(runtime: Runtime) -> None:
    probe = await runtime.spawn(Probe, name="p")

    async def answer(me: Probe) -> str:
        await me.runtime.sleep(3)
        return me.ref.path

    assert await do(runtime.name("p"), answer) == "/p"
    assert await do(probe, 2.0) is None
    assert runtime.clock.time() == 5.0
    assert await probe.call(DoAndReply(None)) is None
    probe.cast(Do(answer))
    assert await time_of(barrier(probe)) == 3.0


async def test_a_probe_crashes_with_the_error_that_it_is_given(runtime: Runtime) -> None:
    probe = await runtime.spawn(Probe)
    probe.cast(Do(LookupError("why")))
    assert "LookupError: why" in str(await probe.join())
    again = await runtime.spawn(Probe)
    assert isinstance(await error_of(do(again, LookupError("why"))), ActorExited)


async def test_a_probe_that_is_told_nonsense_says_what_it_can_do(runtime: Runtime) -> None:
    given: list[Any] = ["x", True, [], Odd(), OSError]
    for nonsense in given:
        probe = await runtime.spawn(Probe)
        error = await error_of(do(probe, nonsense))
        assert isinstance(error, ActorExited)
        assert "give a function, a number of seconds, or an error to raise" in str(probe.reason)


@pytest.mark.parametrize(
    "wrong",
    [
        {"log": "log"},
        {"log": 5},
        {"starts": "abc"},
        {"stops": "abc"},
        {"stops": OSError},
        {"answers": [Get]},
        {"answers": {"get": 1}},
        {"answers": {Ping: 1}},
    ],
    ids=str,
)
async def test_wrong_arguments_of_a_probe_are_refused_before_it_starts(runtime: Runtime, wrong: dict[str, Any]) -> None:
    error = await error_of(runtime.spawn(Probe, **wrong))
    assert isinstance(error, BadOption)
    assert next(iter(wrong)) in str(error)
    assert list(runtime.actors()) == []


def test_wrong_arguments_of_a_child_are_refused_where_it_is_made() -> None:
    wrong: Any = "log"
    with pytest.raises(BadOption, match="log = 'log': give a ProbeLog, or any list"):
        Probe.child(wrong, "a")
    with pytest.raises(BadOption, match="stops = 'log': give a function"):
        Probe.child([], "a", stops=wrong)


@pytest.mark.parametrize("start", [hang, 10.0])
async def test_a_start_that_hangs_is_cut_off_by_its_limit(runtime: Runtime, start: Any) -> None:
    log = ProbeLog()
    spec = Probe.child(log, "a", start, start_timeout=3.0)
    assert await time_of(error_of(runtime.spawn(Supervisor, [spec]))) == 3.0
    assert log == ["!a"]


async def test_a_start_may_take_its_time_fail_later_or_be_ignored(runtime: Runtime) -> None:
    log = ProbeLog()
    assert await time_of(runtime.spawn(Probe, log, id="a", starts=[2.0])) == 2.0

    async def fails(me: Probe) -> None:
        await me.runtime.sleep(1)
        raise LookupError("late")

    assert isinstance(await error_of(runtime.spawn(Probe, log, id="b", starts=[fails])), StartError)
    assert isinstance(await error_of(runtime.spawn(Probe, log, id="c", starts=[IGNORE])), StartIgnored)
    assert isinstance(await error_of(runtime.spawn(Probe, log, id="d", starts=[lambda me: "junk"])), StartError)
    assert log == ["+a", "!b", "!c", "!d"]


async def test_the_last_start_of_the_list_stays(runtime: Runtime) -> None:
    log = ProbeLog()
    await runtime.spawn(Supervisor, [Probe.child(log, "a", None, OSError("x"))], max_restarts=2, name="top")
    runtime.find("/top/a").kill()  # type: ignore[union-attr]
    await settled(runtime)
    assert log == ["+a", "!a", "!a"]


async def test_a_stop_that_is_ignored_ends_with_the_limit(runtime: Runtime) -> None:
    log = ProbeLog()
    top = await runtime.spawn(Supervisor, [Probe.child(log, "a", stops=hang, shutdown=4.0)])
    assert await time_of(top.stop()) == 4.0
    assert log == ["+a"]
    await settled(runtime)


async def test_a_stop_that_fails_is_not_written_down(runtime: Runtime) -> None:
    log = ProbeLog()
    probe = await runtime.spawn(Probe, log, True, id="a", stops=LookupError("no"))
    await error_of(probe.stop())
    assert log == ["+a"]


async def test_a_probe_answers_with_values_functions_and_what_is_awaited(runtime: Runtime) -> None:
    log = ProbeLog()
    later: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    for answer, wanted in ((7, 7), (lambda request: 8, 8), (lambda request: later, 9)):
        probe = await runtime.spawn(Probe, log, answers={Get: answer})
        call = probe.call(Get())
        assert await log.next(Get) == Get()
        if not later.done() and wanted == 9:
            later.set_result(9)
        assert await call == wanted


async def test_what_a_probe_has_no_answer_for_is_written_down_and_refused(runtime: Runtime) -> None:
    log = ProbeLog()
    probe = await runtime.spawn(Probe, log)
    assert isinstance(await error_of(probe.call(Get())), UnhandledMessage)
    assert log == [Get()]
    assert probe.alive


# -- logs --------------------------------------------------------------------------------------------------------------


async def test_the_next_entry_is_waited_for_and_taken(runtime: Runtime) -> None:
    log = ProbeLog(["early"])
    probe = await runtime.spawn(Probe, log)
    runtime.send_after(3.0, Ping(1), probe)
    runtime.send_after(4.0, Ping(2), probe)
    assert await log.next("early") == "early"
    assert (await log.next(Ping)).n == 1
    assert await log.next(lambda ping: ping.n == 2) == Ping(2)
    assert runtime.clock.time() == 4.0
    assert log == ["early", Ping(1), Ping(2)]
    assert log.rest() == []


async def test_the_next_entry_has_to_be_what_is_wanted_and_stays_otherwise() -> None:
    log = ProbeLog([Ping(1)])
    for wanted, named in ((Ping(2), r"Ping\(n=2\)"), (Get, "Get"), (lambda entry: False, "<lambda>")):
        with pytest.raises(AssertionError, match=rf"Ping\(n=1\) came next; wanted: .*{named}"):
            await log.next(wanted)
    assert await log.next() == Ping(1)


async def test_a_function_that_says_what_is_wanted_has_to_answer_at_once() -> None:
    """A coroutine is true, whatever would come of it."""
    log = ProbeLog([Ping(1)])

    async def never(entry: Any) -> bool:
        return False

    answer = asyncio.get_running_loop().create_future()
    for wrong in (never, lambda entry: answer):
        with pytest.raises(BadOption, match="a plain function that answers at once"):
            await log.next(wrong)


async def test_what_does_not_come_is_an_error_that_says_what_was_wanted() -> None:
    log = ProbeLog()
    for waiting in (log.next(Ping, 3.0), log.until(Ping, 3.0)):
        error: list[BaseException] = []

        async def fail(waiting: Any = waiting, error: list[BaseException] = error) -> None:
            error.append(await error_of(waiting))

        assert await time_of(fail()) == 3.0
        assert isinstance(error[0], AssertionError)
        assert "within 3 s" in str(error[0])
        assert "Ping" in str(error[0])
    with pytest.raises(AssertionError, match="wanted: anything"):
        await log.next(timeout=0)


async def test_what_is_wanted_is_found_behind_other_entries_which_are_told_if_it_is_not(runtime: Runtime) -> None:
    log = ProbeLog(["a", "b"])
    probe = await runtime.spawn(Probe, log)
    runtime.send_after(1.0, Note("c"), probe)
    assert await log.until("c") == "c"
    log.append("d")
    with pytest.raises(AssertionError, match=r"what came: \['d'\]"):
        await log.until("e")
    assert log.rest() == []


async def test_nothing_is_to_come_for_a_while(runtime: Runtime) -> None:
    log = ProbeLog()
    probe = await runtime.spawn(Probe, log)
    runtime.send_after(5.0, Note("x"), probe)
    assert await time_of(log.nothing(4.0)) == 4.0
    with pytest.raises(AssertionError, match="'x' came, and nothing was to come"):
        await log.nothing(2.0)
    assert log.rest() == ["x"]
    await log.nothing()


async def test_two_who_wait_get_an_entry_each_and_one_who_gives_up_none(runtime: Runtime) -> None:
    log = ProbeLog()
    first, given_up, second = (asyncio.ensure_future(log.next(timeout=9.0)) for _ in range(3))
    await settled(runtime)
    given_up.cancel()
    log.append(1)
    await settled(runtime)
    assert first.done()
    assert not second.done()
    log.append(2)
    assert (await first, await second) == (1, 2)
    assert given_up.cancelled()


async def next_entry(run: ScenarioRun) -> None:
    """Somebody waits for an entry, and is cut off."""
    log = ProbeLog()
    asyncio.get_running_loop().call_later(1.0, log.append, "entry")
    outcome = await run.interrupt(lambda: log.until("entry", timeout=3.0))
    assert outcome.done or await log.next(timeout=3.0) == "entry"
    assert not outcome.done or outcome.value == "entry"
    await log.nothing()
    assert log._waiting == []


def test_who_waits_for_an_entry_can_be_cut_off_anywhere_and_takes_nothing_along() -> None:
    assert not explore(next_entry).failures


async def test_a_log_begins_anew() -> None:
    log = ProbeLog([1, 2])
    assert log.rest() == [1, 2]
    log.clear()
    log.append(3)
    assert await log.next() == 3


async def test_an_entry_may_come_from_another_thread() -> None:
    log = ProbeLog()
    waiting = asyncio.ensure_future(log.next(timeout=60.0))
    await asyncio.to_thread(lambda: None)
    thread = threading.Thread(target=log.append, args=("from afar",))
    thread.start()
    assert await waiting == "from afar"
    thread.join()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.0, "3", None])
async def test_a_time_that_is_none_is_refused_and_nothing_is_taken(wrong: Any) -> None:
    log = ProbeLog([1])
    for waiting in (log.next(timeout=wrong), log.until(1, timeout=wrong), log.nothing(wrong)):
        assert isinstance(await error_of(waiting), BadTime)
    assert log.rest() == [1]


# -- errors ------------------------------------------------------------------------------------------------------------


async def test_the_error_of_what_raises_none_is_an_error() -> None:
    async def fine() -> str:
        return "fine"

    with pytest.raises(AssertionError, match="nothing was raised; the result is 'fine'"):
        await error_of(fine())


async def test_a_test_that_is_cancelled_itself_is_not_kept_alive_by_waiting_for_an_error(runtime: Runtime) -> None:
    task = asyncio.ensure_future(error_of(asyncio.get_running_loop().create_future()))
    await settled(runtime)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_child_has_the_other_fields_of_a_specification() -> None:
    spec = Probe.child([], "a", restart="transient", name="n", trap_exit=False)
    assert isinstance(spec, ChildSpec)
    assert (spec.id, spec.restart, spec.name, spec.kind) == ("a", "transient", "n", Probe)


async def test_the_end_of_a_probe_that_is_told_to_stop_is_written_down(runtime: Runtime) -> None:
    log = ProbeLog()
    probe = await runtime.spawn(Probe, log, id="a")
    probe.cast(Do(lambda me: me.stop()))
    assert await probe.join() == NORMAL
    assert log == ["+a", "-a(normal)"]
