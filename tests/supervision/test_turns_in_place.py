"""Turns in place: while a handler waits for a call, its worker gives turns to plain handlers, and has the answer."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from typing import Any

import pytest

from supervision import ActorExited, Message, Refuse, Request, Runtime, handle
from supervision._core import scheduler as scheduler
from supervision.errors import CallCycle
from supervision.testing import SeededQueue, advance, settled
from tests.supervision.probes import Do, DoAndReply, Note, Probe, do, error_of


class Add(Message, frozen=True):
    """Count one more."""


class Total(Request[int], frozen=True):
    """How many?"""


class Counter(Probe):
    """Counts."""

    total = 0

    @handle
    def add(self, message: Add) -> None:
        """Count."""
        self.total += 1

    @handle
    def tell(self, request: Total) -> int:
        """Tell."""
        return self.total


@pytest.fixture(autouse=True)
def a_machine_that_is_fast_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes within a pass of the loop, however slow the machine is that the tests run on."""
    monkeypatch.setattr(scheduler, "machine_time", lambda: 0.0)
    monkeypatch.setattr(scheduler, "DIRECT_SLICE", 3600.0)


def mark(seen: list[Any]) -> None:
    """Write down the next pass of the loop."""
    asyncio.get_running_loop().call_soon(seen.append, "pass")


async def a_pass() -> None:
    """Wait for the next pass of the loop."""
    loop = asyncio.get_running_loop()
    coming = loop.create_future()
    loop.call_soon(coming.set_result, None)
    await coming


async def test_the_answer_of_a_plain_handler_costs_no_pass_of_the_loop(runtime: Runtime) -> None:
    counter, probe = await runtime.spawn(Counter), await runtime.spawn(Probe)
    seen: list[Any] = []

    async def count(_: Probe) -> None:
        await a_pass()
        mark(seen)
        for _turn in range(10):
            counter.cast(Add())
            seen.append(await counter.call(Total()))

    await do(probe, count)
    assert seen[:10] == list(range(1, 11))


async def test_many_requests_are_answered_in_one_pass_of_the_loop(runtime: Runtime) -> None:
    counter, probe = await runtime.spawn(Counter), await runtime.spawn(Probe)
    seen: list[Any] = []

    async def count(_: Probe) -> None:
        counter.cast(Add())
        seen.append(await counter.call(Total()))

    async def first(_: Probe) -> None:
        await a_pass()
        mark(seen)

    calls = [probe.call(DoAndReply(first)), *(probe.call(DoAndReply(count)) for _ in range(10))]
    await asyncio.gather(*calls)
    assert seen[:10] == list(range(1, 11))


async def test_a_handler_that_goes_on_for_ever_lets_the_loop_have_its_turn(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = itertools.count()
    monkeypatch.setattr(scheduler, "machine_time", lambda: next(looks) * scheduler.SLICE / 10)
    counter, probe = await runtime.spawn(Counter), await runtime.spawn(Probe)
    seen: list[Any] = []

    async def count(_: Probe) -> None:
        mark(seen)
        while not seen:
            counter.cast(Add())
            await counter.call(Total())

    await do(probe, count)


async def test_when_its_time_is_over_a_handler_waits_as_always_until_the_next_pass(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter, probe = await runtime.spawn(Counter), await runtime.spawn(Probe)
    monkeypatch.setattr(scheduler, "SLICE", -1.0)
    seen: list[Any] = []

    async def count(_: Probe) -> None:
        for _pass in range(2):
            mark(seen)
            for _turn in range(2):
                counter.cast(Add())
                seen.append(await counter.call(Total()))

    await do(probe, count)
    assert seen == [1, "pass", 2, 3, "pass", 4]


async def test_where_direct_turns_are_used_up_a_handler_waits_for_the_next_ones() -> None:
    seen: list[Any] = []
    async with Runtime(watchdog=None, reports=False) as runtime:
        counter, probe = await runtime.spawn(Counter), await runtime.spawn(Probe)

        async def count(_: Probe) -> None:
            await a_pass()
            mark(seen)
            seen.extend([await counter.call(Total()) for _ in range(scheduler.DIRECT)])
            seen.append(await counter.call(Total()))

        await do(probe, count)
    assert seen == [0] * scheduler.DIRECT + ["pass", 0]


@pytest.mark.parametrize("queue", [SeededQueue(1), deque()], ids=["seeded", "plain"])
async def test_in_a_queue_of_ones_own_the_wait_is_seen(queue: Any) -> None:
    seen: list[Any] = []
    async with Runtime(watchdog=None, reports=False, run_queue=queue) as runtime:
        counter, probe = await runtime.spawn(Counter), await runtime.spawn(Probe)

        async def count(_: Probe) -> None:
            mark(seen)
            seen.append(await counter.call(Total()))

        await do(probe, count)
    assert seen == ["pass", 0]


async def test_what_is_refused_in_place_is_raised_where_it_was_asked(runtime: Runtime) -> None:
    asked, probe = await runtime.spawn(Probe), await runtime.spawn(Probe)

    def refuse(_: Probe) -> None:
        raise Refuse(LookupError("not here"))

    async def ask(_: Probe) -> BaseException:
        asked.cast(Note("first"))
        return await error_of(asked.call(DoAndReply(refuse)))

    assert isinstance(await do(probe, ask), LookupError)


async def test_whoever_ends_in_place_takes_the_call_along(runtime: Runtime) -> None:
    asked, probe = await runtime.spawn(Probe), await runtime.spawn(Probe)

    async def ask(_: Probe) -> BaseException:
        asked.cast(Do(lambda actor: actor.stop()))
        return await error_of(asked.call(DoAndReply(str)))

    error = await do(probe, ask)
    assert isinstance(error, ActorExited)
    assert not error.begun


async def test_a_coroutine_that_is_met_is_run_by_another_worker(runtime: Runtime) -> None:
    slow, counter, probe = await runtime.spawn(Probe), await runtime.spawn(Counter), await runtime.spawn(Probe)

    async def task(_: Probe) -> asyncio.Task[Any] | None:
        await advance(1.0)
        return asyncio.current_task()

    async def ask(_: Probe) -> tuple[Any, ...]:
        slow.cast(Note("first"))
        call = slow.call(DoAndReply(task))
        counter.cast(Add())
        total = await counter.call(Total())
        return total, await call, asyncio.current_task()

    total, theirs, own = await do(probe, ask)
    assert total == 1
    assert theirs is not own


async def test_who_waits_for_somebody_busy_lets_others_go_on(runtime: Runtime) -> None:
    busy, probe, other = await runtime.spawn(Probe), await runtime.spawn(Probe), await runtime.spawn(Probe)
    opened = asyncio.get_running_loop().create_future()

    async def wait(_: Probe) -> Any:
        return await opened

    async def ask(_: Probe) -> Any:
        return await busy.call(DoAndReply(wait))

    asked = probe.call(DoAndReply(ask))
    await settled(runtime)
    assert await do(other, lambda _: "answer") == "answer"
    opened.set_result("opened")
    assert await asked == "opened"


@pytest.mark.parametrize("how", ["kill", "exit"])
async def test_who_is_ended_by_whom_it_asks_in_place_does_not_go_on(runtime: Runtime, how: str) -> None:
    asked, probe = await runtime.spawn(Probe), await runtime.spawn(Probe)
    seen: list[Any] = []

    def end(_: Probe) -> str:
        if how == "kill":
            probe.kill()
        else:
            probe.exit("enough")
        return "answer"

    async def ask(_: Probe) -> None:
        asked.cast(Note("first"))
        try:
            seen.append(await asked.call(DoAndReply(end)))
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        finally:
            gone.set_result(None)

    gone = asyncio.get_running_loop().create_future()
    call = probe.call(DoAndReply(ask))
    assert isinstance(await error_of(call), ActorExited)
    await gone
    assert seen == ["cancelled"]
    assert await do(asked, lambda _: "alive") == "alive"


async def test_a_ring_of_calls_is_noticed_as_always(runtime: Runtime) -> None:
    one, other = await runtime.spawn(Probe), await runtime.spawn(Probe)

    async def back(_: Probe) -> BaseException:
        return await error_of(one.call(DoAndReply(str)))

    async def ask(_: Probe) -> Any:
        other.cast(Note("first"))
        return await other.call(DoAndReply(back))

    assert isinstance(await do(one, ask), CallCycle)


async def test_a_handler_can_wait_until_all_others_have_come_to_rest(runtime: Runtime) -> None:
    counter, probe = await runtime.spawn(Counter), await runtime.spawn(Probe)

    async def wait(_: Probe) -> int:
        counter.cast(Add())
        await settled(runtime, timeout=0.5)
        counter.cast(Add())
        await settled(runtime, timeout=0.5)
        return await counter.call(Total())

    assert await do(probe, wait) == 2


async def test_the_worker_of_a_handler_that_has_waited_gives_turns_to_whom_it_has_sent_something(
    runtime: Runtime,
) -> None:
    counter, probe = await runtime.spawn(Counter), await runtime.spawn(Probe)
    opened = asyncio.get_running_loop().create_future()
    seen: list[Any] = []

    async def wait(_: Probe) -> None:
        await opened
        counter.cast(Do(lambda _: seen.append("turn")))

    probe.cast(Do(wait))
    await settled(runtime)
    opened.set_result(None)
    mark(seen)
    await settled(runtime)
    assert seen == ["turn", "pass"]


async def test_what_a_handler_in_place_does_to_the_current_task_does_not_hit_who_waits(runtime: Runtime) -> None:
    counter, probe = await runtime.spawn(Counter), await runtime.spawn(Probe)
    seen: list[Any] = []

    async def count(_: Probe) -> int:
        await a_pass()
        counter.cast(Do(lambda actor: seen.append(asyncio.current_task())))
        counter.cast(Add())
        return await counter.call(Total())

    assert await do(probe, count) == 1
    assert seen == [None]
