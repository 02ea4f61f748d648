"""Bounded mailboxes: the four overflow policies, high water, and where messages go that find no room."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervision import Actor, ActorExited, Mailbox, MailboxFull, Message, NoProcess, Ref, Request, Runtime, handle
from supervision.errors import BadMailbox
from supervision.events import HighWater, MessageDropped
from supervision.mailbox import MailboxStatistics, Overflow
from supervision.testing import advance, run, settled
from tests.supervision.probes import Recorder, error_of


class Item(Message, frozen=True):
    """Something to be written down."""

    n: int


class Get(Request[int], frozen=True):
    """A request that is answered with its number."""

    n: int


class Hold(Message, frozen=True):
    """Keeps the actor busy until it is let go."""


class Box(Actor):
    """Writes down what it handles."""

    def __init__(self, log: list[int], gate: asyncio.Event) -> None:
        self.log = log
        self.gate = gate

    @handle
    def item(self, message: Item) -> None:
        """Write it down."""
        self.log.append(message.n)

    @handle
    def get(self, request: Get) -> int:
        """Write it down and answer."""
        self.log.append(request.n)
        return request.n

    @handle
    async def hold(self, message: Hold) -> None:
        """Wait."""
        await self.gate.wait()


def kind_of(overflow: Overflow, capacity: int = 2, high_water: int = 10_000) -> type[Box]:
    return type("Bounded", (Box,), {"mailbox": Mailbox(capacity, overflow, high_water)})


async def held(runtime: Runtime, kind: type[Box], log: list[int], gate: asyncio.Event) -> Ref:
    """An actor in the middle of something, so that what comes waits."""
    ref = await runtime.spawn(kind, log, gate)
    ref.cast(Hold())
    await settled(runtime)
    return ref


@pytest.mark.parametrize("overflow", get_args(Overflow))
async def test_what_is_cast_to_a_full_mailbox_is_dropped_and_counted(
    runtime: Runtime, events: Recorder, overflow: Overflow
) -> None:
    log: list[int] = []
    gate = asyncio.Event()
    ref = await held(runtime, kind_of(overflow), log, gate)
    for n in range(4):
        ref.cast(Item(n))
    assert ref.mailbox_statistics() == MailboxStatistics(2, 2, 0)
    gate.set()
    await settled(runtime)
    assert log == ([2, 3] if overflow == "drop_oldest" else [0, 1])
    why = "dropped_oldest" if overflow == "drop_oldest" else "mailbox_full"
    assert runtime.statistics().dead_letters == {why: 2}
    assert [event.why for event in events.of(MessageDropped)] == [why, why]


async def test_a_call_to_a_full_mailbox_waits_is_refused_or_takes_the_place_of_the_oldest(runtime: Runtime) -> None:
    results = {}
    for overflow in get_args(Overflow):
        log: list[int] = []
        gate = asyncio.Event()
        ref = await held(runtime, kind_of(overflow), log, gate)
        calls = [ref.call(Get(n), timeout=None) for n in range(3)]
        given_up = ref.call(Get(9), timeout=None)
        given_up.cancel()
        gate.set()
        results[overflow] = [
            await call if not isinstance(error := await error_or_none(call), MailboxFull) else str(error)[-9:]
            for call in calls
        ]
        assert 9 not in log
    assert results["wait"] == [0, 1, 2]
    assert results["refuse"][:2] == results["drop_newest"][:2] == [0, 1]
    assert isinstance(results["refuse"][2], str)
    assert isinstance(results["drop_newest"][2], str)
    assert isinstance(results["drop_oldest"][0], str)
    assert results["drop_oldest"][1:] == [1, 2] or isinstance(results["drop_oldest"][1], str)


async def error_or_none(awaitable: Any) -> BaseException | None:
    try:
        await awaitable
    except Exception as error:
        return error
    return None


async def test_send_waits_for_room_and_is_let_in_in_order(runtime: Runtime) -> None:
    log: list[int] = []
    gate = asyncio.Event()
    ref = await held(runtime, kind_of("wait"), log, gate)
    senders = [asyncio.ensure_future(ref.send(Item(n))) for n in range(5)]
    call = ref.call(Get(5), timeout=None)
    await advance(0)
    assert [sender.done() for sender in senders] == [True, False, False, False, False]
    senders[3].cancel()
    await advance(0)
    gate.set()
    assert await call == 5
    await asyncio.gather(*senders, return_exceptions=True)
    await settled(runtime)
    assert log == [5, 0, 1, 2, 4]
    assert all(sender.done() for sender in senders)


async def test_send_is_refused_or_dropped_as_the_mailbox_says(runtime: Runtime) -> None:
    gate = asyncio.Event()
    ref = await held(runtime, kind_of("refuse", 1), [], gate)
    await ref.send(Item(1))
    error = await error_of(ref.send(Item(2)))
    assert isinstance(error, MailboxFull)
    assert "1" in str(error)
    for overflow in ("drop_newest", "drop_oldest"):
        dropping = await held(runtime, kind_of(overflow, 1), [], gate)
        await dropping.send(Item(1))
        await dropping.send(Item(2))
        assert dropping.mailbox_statistics().length == 1
    assert runtime.statistics().dead_letters == {"mailbox_full": 1, "dropped_oldest": 1}
    gate.set()


async def test_messages_of_the_kernel_are_never_dropped(runtime: Runtime) -> None:
    """A stop order comes in also when there is no room, and is not taken for the oldest."""
    gate = asyncio.Event()
    ref = await held(runtime, kind_of("drop_oldest", 1), [], gate)
    stopping = asyncio.ensure_future(ref.stop())
    await advance(0)
    ref.cast(Item(1))
    await advance(0)
    gate.set()
    await stopping
    assert runtime.statistics().dead_letters == {"mailbox_full": 1}


async def test_whoever_waits_to_get_in_learns_of_the_end(runtime: Runtime) -> None:
    gate = asyncio.Event()
    ref = await held(runtime, kind_of("wait", 1), [], gate)
    call = ref.call(Get(1), timeout=None)
    waiting = ref.call(Get(2), timeout=None)
    sender = asyncio.ensure_future(ref.send(Item(3)))
    cancelled = asyncio.ensure_future(ref.send(Item(4)))
    await advance(0)
    cancelled.cancel()
    await advance(0)
    ref.kill()
    assert isinstance(await error_of(call), ActorExited)
    assert isinstance(await error_of(waiting), ActorExited)
    await sender
    assert runtime.statistics().dead_letters["died"] >= 1


async def test_what_is_sent_to_an_ended_actor_is_a_dead_letter(runtime: Runtime) -> None:
    ref = await runtime.spawn(kind_of("wait"), [], asyncio.Event())
    watcher = await runtime.spawn(kind_of("wait"), [], asyncio.Event())
    ref.kill()
    watcher.kill()
    ref.cast(Item(1))
    await ref.send(Item(2))
    assert isinstance(await error_of(ref.call(Get(3))), NoProcess)
    ref.exit("too late")
    assert runtime.statistics().dead_letters == {"noproc": 2}


async def test_a_mailbox_that_grows_long_is_told_of_each_time_it_has_doubled(
    runtime: Runtime, events: Recorder
) -> None:
    gate = asyncio.Event()
    ref = await held(runtime, kind_of("refuse", 100, high_water=4), [], gate)
    for n in range(20):
        ref.cast(Item(n))
    calls = [ref.call(Get(n)) for n in range(20)]
    assert [event.length for event in events.of(HighWater)] == [5, 11, 23]
    unbounded = await held(runtime, type("Unbounded", (Box,), {"mailbox": Mailbox(high_water=1)}), [], gate)
    calls += [unbounded.call(Get(n)) for n in range(3)]
    assert [event.length for event in events.of(HighWater, unbounded)] == [2]
    gate.set()
    await asyncio.gather(*calls)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"capacity": 0}, "capacity"),
        ({"capacity": True}, "capacity"),
        ({"capacity": 1.5}, "capacity"),
        ({"high_water": 0}, "high_water"),
        ({"high_water": None}, "high_water"),
        ({"overflow": "explode"}, "overflow"),
    ],
)
def test_a_wrong_mailbox_is_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(BadMailbox, match=f"Mailbox.{field} = "):
        Mailbox(**options)


def test_a_class_whose_mailbox_is_none_is_refused() -> None:
    with pytest.raises(BadMailbox, match=r"Wrong\.mailbox = 100"):
        type("Wrong", (Box,), {"mailbox": 100})


STEPS = st.lists(st.one_of(st.integers(0, 99).map(lambda n: ("cast", n)), st.just(("handle", 0))), max_size=30)


@given(steps=STEPS, capacity=st.integers(1, 4), overflow=st.sampled_from(get_args(Overflow)))
def test_a_bounded_mailbox_is_what_a_list_with_a_limit_would_be(
    steps: list[tuple[str, int]], capacity: int, overflow: Overflow
) -> None:
    """Casts and turns in any order, against a model: what was handled, in which order, and what was lost."""
    model: deque[int] = deque()
    handled: list[int] = []
    lost = 0
    for step, n in steps:
        if step == "handle":
            handled += model
            model.clear()
        elif len(model) < capacity:
            model.append(n)
        else:
            lost += 1
            if overflow == "drop_oldest":
                model.popleft()
                model.append(n)
    handled += model

    async def main() -> None:
        log: list[int] = []
        async with Runtime(watchdog=None, reports=False) as runtime:
            ref = await runtime.spawn(kind_of(overflow, capacity), log, asyncio.Event())
            for step, n in steps:
                if step == "cast":
                    ref.cast(Item(n))
                else:
                    await settled(runtime)
            await settled(runtime)
            assert (
                runtime.statistics().dead_letters.get("mailbox_full", 0)
                + runtime.statistics().dead_letters.get("dropped_oldest", 0)
                == lost
            )
        assert log == handled

    run(main())
