"""Dead letters: kept until their receiver is there, delivered then, and given up in the end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from foundation.dead_letters import DeadLetterQueue, DeadLetters, NotKept
from foundation.events import LetterGivenUp
from foundation.readings import readings_of
from foundation.store import Store
from supervision import Actor, ChildSpec, Message, Refuse, Request, Runtime, Supervisor, handle
from supervision.errors import BadOption, UnhandledMessage
from supervision.testing import EventLog, advance


class Order(Request[str], frozen=True):
    """Something that is to be done, and answered."""

    text: str
    how: str = "well"


class News(Message, frozen=True):
    """Something to know."""

    text: str


class Strange(Request[None], frozen=True):
    """Nobody handles this."""


class Shop(Actor):
    """Takes orders and news."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    @handle
    async def order(self, request: Order) -> str:
        """Do it: well, slowly, or not at all."""
        if request.how == "refuse":
            raise Refuse(KeyError(request.text))
        if request.how == "slow":
            await self.runtime.sleep(1000.0)
        self.log.append(request.text)
        return "done"

    @handle
    def news(self, message: News) -> None:
        """Note it."""
        self.log.append(message.text)


async def until(true: Any) -> None:
    """Let the loop run until something is true."""
    loop = asyncio.get_running_loop()
    while not true():
        turn = loop.create_future()
        loop.call_soon(turn.set_result, None)
        await turn


OPTIONS = {"attempts": 3, "expiry": 1000.0, "interval": 10.0, "timeout": 2.0}


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch, runtime: Runtime) -> Runtime:
    """The runtime, whose days are as long as its seconds say."""
    monkeypatch.setattr(runtime.clock, "wall_time", runtime.clock.time, raising=False)
    return runtime


@pytest.fixture
async def queue(wall: Runtime, tmp_path: Path) -> DeadLetterQueue:
    """A supervised queue with its store."""
    children = [
        ChildSpec("store", Store, (tmp_path / "store.db", ["dead_letters"]), {"sync": "off"}, name="store"),
        ChildSpec("dead_letters", DeadLetters, (), OPTIONS, name="dead_letters"),
    ]
    await wall.spawn(Supervisor, children, strategy="rest_for_one", max_restarts=100)
    return DeadLetterQueue(wall)


async def test_what_can_be_delivered_is(runtime: Runtime, queue: DeadLetterQueue) -> None:
    log: list[str] = []
    await runtime.spawn(Shop, log, name="shop")
    assert await queue.send("shop", Order("a")) == await queue.send("shop", News("b")) == "delivered"
    with pytest.raises(KeyError):
        await queue.send("shop", Order("c", "refuse"))
    with pytest.raises(UnhandledMessage):
        await queue.send("shop", Strange())
    assert queue.waiting() == {}
    assert log == ["a", "b"]


async def test_what_cannot_is_kept_and_delivered_in_order_when_the_receiver_is_there(
    runtime: Runtime, queue: DeadLetterQueue
) -> None:
    log: list[str] = []
    messages: list[Any] = [Order("a"), News("b"), Order("c", "refuse")]
    for message in messages:
        assert await queue.send("shop", message) == "kept"
    assert await queue.send("elsewhere", News("x")) == "kept"
    letters = queue.waiting()
    assert [(letter.to, letter.message.text) for letter in letters.values()] == [
        ("shop", "a"),
        ("shop", "b"),
        ("shop", "c"),
        ("elsewhere", "x"),
    ]
    assert "nobody holds this name" in letters[1].reason
    for other in ("nobody waits for this", "nor for this"):
        await runtime.spawn(Shop, log, name=other)
    assert log == []
    await runtime.spawn(Shop, log, name="shop")
    await until(lambda: len(queue.waiting()) == 1)
    assert log == ["a", "b"]
    assert [letter.to for letter in queue.waiting().values()] == ["elsewhere"]


async def test_letters_survive_restarts(runtime: Runtime, queue: DeadLetterQueue) -> None:
    log: list[str] = []
    await queue.send("shop", Order("a"))
    runtime.whereis("store").kill()  # type: ignore[union-attr]
    await until(lambda: runtime.whereis("dead_letters") is not None and runtime.whereis("store") is not None)
    await runtime.spawn(Shop, log, name="shop")
    await until(lambda: queue.waiting() == {})
    assert log == ["a"]


async def test_a_letter_is_given_up_after_so_many_attempts(runtime: Runtime, queue: DeadLetterQueue) -> None:
    events = EventLog(runtime, LetterGivenUp)
    await runtime.spawn(Shop, [], name="shop")
    assert await queue.send("shop", Order("a", "slow"), timeout=1.0) == "kept"
    assert await queue.redeliver() == 1
    assert await queue.redeliver() == 0, "it is on its way"
    await advance(2.5)
    await until(lambda: queue.waiting() and queue.waiting()[1].attempts == 2)
    assert await queue.redeliver("elsewhere") == 0
    assert await queue.redeliver("shop") == 1
    await advance(2.5)
    await until(queue.given_up)
    letter = queue.given_up()[1]
    assert (letter.attempts, letter.state) == (3, "given up")
    assert "no answer within 2 s" in letter.reason
    assert [event.number for event in events.of(LetterGivenUp)] == [1]
    numbers = {reading.labels[0][1]: reading.value for reading in readings_of(runtime) if "kept" in reading.name}
    assert numbers == {"waiting": 0, "given_up": 1}
    assert await queue.purge() == 1
    assert queue.given_up() == {}


async def test_a_letter_is_given_up_when_it_is_too_old(runtime: Runtime, queue: DeadLetterQueue) -> None:
    await queue.send("shop", News("a"))
    assert await queue.redeliver() == 1
    await until(lambda: queue.waiting()[1].attempts == 2)
    await advance(1100.0)
    await until(queue.given_up)
    assert queue.given_up()[1].reason == "it is too old"
    assert queue.waiting() == {}


async def test_what_waits_is_tried_now_and_then_while_its_receiver_is_there(
    runtime: Runtime, queue: DeadLetterQueue
) -> None:
    await runtime.spawn(Shop, [], name="shop")
    await queue.send("shop", Order("a", "slow"), timeout=1.0)
    for attempts in (2, 3):
        before = queue.waiting()[1].attempts
        assert before == attempts - 1
        for _ in range(30):
            await advance(1.0)
            if queue.given_up() or queue.waiting()[1].attempts > before:
                break
    assert queue.given_up()[1].attempts == 3
    assert runtime.clock.time() >= 20.0


async def test_a_letter_whose_class_is_gone_is_given_up(
    runtime: Runtime, queue: DeadLetterQueue, tmp_path: Path
) -> None:
    await queue.send("shop", News("a"))
    database = queue._database
    async with database.transaction() as tx:
        row = dict(tx.get("dead_letters", 1))
        tx.put("dead_letters", 1, {**row, "kind": "nothing.here:News", "attempts": 2})
    await queue.redeliver()
    await until(queue.given_up)
    assert "nothing" in queue.given_up()[1].reason


async def test_a_letter_that_is_purged_while_it_is_tried_stays_away(runtime: Runtime, queue: DeadLetterQueue) -> None:
    await runtime.spawn(Shop, [], name="shop")
    await queue.send("shop", Order("a", "slow"), timeout=1.0)
    await queue.redeliver()
    async with queue._database.transaction() as tx:
        tx.delete("dead_letters", 1)
    await advance(3.0)
    await queue.redeliver()
    assert queue.waiting() == queue.given_up() == {}


class Unfit(Message, frozen=True):
    """Cannot be kept."""

    what: Any


@pytest.mark.parametrize("message", [Unfit(object()), "text"])
async def test_what_cannot_be_kept_is_refused(queue: DeadLetterQueue, message: Any) -> None:
    with pytest.raises(NotKept):
        await queue.send("shop", message)


@pytest.mark.parametrize("option", ["attempts", "expiry", "interval", "timeout"])
def test_options_that_make_no_sense_are_named(option: str) -> None:
    with pytest.raises(BadOption, match=option):
        DeadLetters(**{option: 0})  # type: ignore[arg-type]
