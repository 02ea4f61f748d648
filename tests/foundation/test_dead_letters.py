"""Dead letters: kept until their receiver is there, delivered then, and given up in the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from foundation.dead_letters import DeadLetterQueue, DeadLetters, NotSerializable
from foundation.dead_letters.delivery import AgeCorrection
from foundation.dead_letters.letter import letter_for
from foundation.dead_letters.messages import DeliverNext, KeepLetter, RedeliverLetters, RetryRound
from foundation.events import LetterGivenUp, LettersNotWritten
from foundation.store import Database, NoTable, NotWritten, Store
from foundation.store.messages import Flush
from foundation.telemetry.collectors import collect_samples
from supervision import (
    Actor,
    Call,
    ChildSpec,
    Mailbox,
    Message,
    Ref,
    Refuse,
    Request,
    Runtime,
    Supervisor,
    handle,
)
from supervision.errors import BadOption, UnhandledMessage
from supervision.testing import EventLog, advance, settled


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
    numbers = {reading.labels[0][1]: reading.value for reading in collect_samples(runtime) if "kept" in reading.name}
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


class Typed(Message, frozen=True):
    """Is written, but cannot be read again if it is not what it says."""

    n: int


@pytest.mark.parametrize("message", [Unfit(object()), "text", Typed("no number")])  # type: ignore[arg-type]
async def test_what_cannot_be_kept_is_refused(queue: DeadLetterQueue, message: Any) -> None:
    with pytest.raises(NotSerializable):
        await queue.send("shop", message)


@pytest.mark.parametrize("option", ["attempts", "expiry", "interval", "timeout"])
def test_options_that_make_no_sense_are_named(option: str) -> None:
    with pytest.raises(BadOption, match=option):
        DeadLetters(**{option: 0})  # type: ignore[arg-type]


# -- a backlog, at its receiver's pace -------------------------------------------------------------------------------


class Slow(Actor):
    """Takes its time for each order."""

    mailbox: ClassVar[Mailbox] = Mailbox()
    takes = 0.9

    def __init__(self, log: list[str]) -> None:
        self.log = log

    @handle
    async def order(self, request: Order) -> str:
        """Do it; some never are, and some end it."""
        if request.how == "never":
            await self.runtime.sleep(10_000.0)
        if request.how == "deadly" and request.text not in self.log:
            self.log.append(request.text)
            self.ref.kill()
        await self.runtime.sleep(self.takes)
        self.log.append(request.text)
        return "done"

    @handle
    async def news(self, message: News) -> None:
        """Note it, after a while."""
        await self.runtime.sleep(self.takes)
        self.log.append(message.text)


class Narrow(Slow):
    """Has room for two."""

    mailbox = Mailbox(capacity=2)


class Refusing(Slow):
    """Has room for two, and refuses more."""

    mailbox = Mailbox(capacity=2, overflow="refuse")


class Dropping(Slow):
    """Has room for two, and drops more."""

    mailbox = Mailbox(capacity=2, overflow="drop_newest")


async def kept(queue: DeadLetterQueue, *messages: Any) -> None:
    """Send messages that nobody can take yet."""
    await asyncio.gather(*(queue.send("shop", message) for message in messages))


def whereis(runtime: Runtime, name: str = "dead_letters") -> Ref:
    """Return the holder of a name."""
    ref = runtime.whereis(name)
    assert ref is not None
    return ref


async def pass_time(queue: DeadLetterQueue, seconds: int, until: Any = None) -> None:
    """Let time pass, and what is written be written."""
    for _ in range(seconds):
        await advance(1.0)
        for _ in range(3):
            await queue._database.address.call(Flush(), timeout=None)
            await advance(0.0)
        if until is not None and until():
            return


async def test_a_healthy_receiver_gets_all_of_its_backlog(runtime: Runtime, queue: DeadLetterQueue) -> None:
    """Each letter has a time-out of its own: a hundred of a second each, with two seconds of patience."""
    log: list[str] = []
    await kept(queue, *(Order(str(n)) for n in range(100)))
    await runtime.spawn(Slow, log, name="shop")
    await pass_time(queue, 120, lambda: not queue.waiting())
    assert log == [str(n) for n in range(100)]
    assert queue.given_up() == queue.waiting() == {}


async def test_a_window_of_letters_may_be_on_their_way(wall: Runtime, tmp_path: Path) -> None:
    await wall.spawn(Store, tmp_path / "s.db", ["dead_letters"], name="store")
    await wall.spawn(DeadLetters, window=3, name="dead_letters")
    queue, log = DeadLetterQueue(wall), list[str]()
    await kept(queue, *(Order(str(n)) for n in range(10)))
    shop = await wall.spawn(Slow, log, name="shop")
    await settled(wall)
    assert shop.mailbox_statistics().length == 2, "and one is being handled"
    await pass_time(queue, 30, lambda: not queue.waiting())
    assert sorted(log, key=int) == [str(n) for n in range(10)]


async def test_a_letter_that_is_never_answered_holds_up_nobody_else_for_long(
    runtime: Runtime, queue: DeadLetterQueue
) -> None:
    log: list[str] = []
    await kept(queue, Order("poison", "never"), *(Order(str(n)) for n in range(5)))
    shop = await runtime.spawn(Slow, log, name="shop")
    await pass_time(queue, 4)
    attempts = Counter(letter.attempts for letter in queue.waiting().values())
    assert attempts == {1: 5, 2: 1}, "who does not answer gets no more in this round"
    shop.kill()
    await runtime.spawn(Slow, log, name="shop")
    await pass_time(queue, 60, lambda: queue.given_up() and not queue.waiting())
    assert log == [str(n) for n in range(5)]
    assert [letter.message.text for letter in queue.given_up().values()] == ["poison"]


async def test_a_receiver_that_ends_gets_the_rest_when_it_is_back(runtime: Runtime, queue: DeadLetterQueue) -> None:
    log: list[str] = []
    await kept(queue, Order("a"), Order("b", "deadly"), Order("c"), News("d"))
    await runtime.spawn(Supervisor, [ChildSpec("shop", Slow, (log,), name="shop")], max_restarts=10)
    await pass_time(queue, 60, lambda: not queue.waiting())
    assert log == ["a", "b", "c", "d", "b"]
    assert queue.given_up() == {}


async def test_letters_go_out_on_behalf_of_nobody(runtime: Runtime, queue: DeadLetterQueue) -> None:
    """Whoever asks for a redelivery, and has little time, lends none of its deadline to the letters."""
    log: list[str] = []
    await runtime.spawn(Slow, log, name="shop")
    assert await queue.send("shop", Order("a"), timeout=0.1) == "kept", "it takes longer"
    assert await whereis(runtime).call(RedeliverLetters("shop"), timeout=0.5) == 1
    await pass_time(queue, 3, lambda: not queue.waiting())
    assert queue.waiting() == {}
    assert log == ["a", "a"]


@pytest.mark.parametrize("kind", [Slow, Narrow, Refusing, Dropping])
async def test_messages_without_an_answer_wait_for_room(
    runtime: Runtime, queue: DeadLetterQueue, kind: type[Slow]
) -> None:
    log: list[str] = []
    await kept(queue, *(News(str(n)) for n in range(100)))
    shop = await runtime.spawn(kind, log, name="shop")
    await pass_time(queue, 600, lambda: not queue.waiting())
    await advance(100.0)
    assert log == [str(n) for n in range(100)], "none is lost, and none is given up"
    assert queue.given_up() == {}
    if kind is not Slow:
        for n in range(3):
            shop.cast(News(str(n)))
            await settled_for(2)
        assert await queue.send("shop", News("more")) == "kept", "there is no room"


async def test_a_message_is_delivered_when_it_was_handled(runtime: Runtime, queue: DeadLetterQueue) -> None:
    log: list[str] = []
    await kept(queue, *(News(text) for text in "abcd"))
    stuck = await runtime.spawn(Narrow, log)
    for _ in range(3):
        stuck.cast(Order("x", "never"))
        await settled_for(2)
    runtime.register("shop", stuck)
    await pass_time(queue, 40)
    assert {letter.attempts for letter in queue.waiting().values()} == {1}, "it has no room"
    stuck.kill()
    stuck = await runtime.spawn(Slow, log, name="shop")
    stuck.cast(Order("x", "never"))
    await pass_time(queue, 40)
    assert len(queue.waiting()) == 4
    stuck.kill()
    await runtime.spawn(Slow, log, name="shop")
    await pass_time(queue, 30, lambda: not queue.waiting())
    assert sorted(log) == ["a", "b", "c", "d"], "those that somebody had died with come last"


async def test_an_attempt_that_is_cancelled_costs_nothing(runtime: Runtime, queue: DeadLetterQueue) -> None:
    log: list[str] = []
    await kept(queue, Order("a"))
    await runtime.spawn(Slow, log, name="shop")
    await settled_for(5)
    for attempt in backlogs(runtime)["shop"].trying.values():
        attempt.cancel()
    await pass_time(queue, 30, lambda: not queue.waiting())
    assert log[-1] == "a"


def backlogs(runtime: Runtime) -> Any:
    """Return what waits, as the actor knows it."""
    cell: Any = whereis(runtime)
    return cell.actor._backlogs


async def test_letters_that_somebody_takes_out_of_the_table_are_not_missed(
    runtime: Runtime, queue: DeadLetterQueue
) -> None:
    log: list[str] = []
    await kept(queue, Order("a", "never"), Order("b"))

    async def delete(tx: Any) -> None:
        tx.delete("dead_letters", 1)
        tx.delete("dead_letters", 2)

    await runtime.spawn(Slow, log, name="shop")
    await settled(runtime)
    await queue._database.transact(delete)
    await pass_time(queue, 30)
    assert (backlogs(runtime), queue.waiting(), queue.given_up(), log) == ({}, {}, {}, [])
    await queue.send("elsewhere", Order("c"))
    await queue._database.transact(lambda tx: _forget(tx, 3))
    await advance(2000.0)
    await settled(runtime)
    assert backlogs(runtime) == {}
    whereis(runtime, "shop").kill()
    await kept(queue, *(Order(str(n)) for n in range(200)))
    for number in range(4, 204):
        await queue._database.transact(lambda tx, number=number: _forget(tx, number))
    await runtime.spawn(Slow, log, name="shop")
    await pass_time(queue, 2)
    assert (backlogs(runtime), log) == ({}, [])


async def test_what_is_too_old_is_given_up_also_in_the_middle_of_a_round(
    runtime: Runtime, queue: DeadLetterQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    await kept(queue, Order("a"), Order("b"))
    await runtime.spawn(Slow, log, name="shop")
    await settled_for(5)
    monkeypatch.setattr("supervision.clock.ClockStepDetector.step", lambda self: 0.0)  # it has passed, and was not set
    monkeypatch.setattr(runtime.clock, "wall_time", lambda: runtime.clock.time() + 10_000.0)
    whereis(runtime).cast(KeepLetter("shop", Order("c"), "it is new"))
    whereis(runtime).cast(RetryRound())
    await pass_time(queue, 5, queue.given_up)
    await pass_time(queue, 20, lambda: not queue.waiting())
    assert log == ["a", "c"], "what is on its way is waited for"
    assert [letter.message.text for letter in queue.given_up().values()] == ["b"]
    whereis(runtime).kill()
    await pass_time(queue, 2)
    assert backlogs(runtime) == {}


async def _forget(tx: Any, number: int) -> None:
    tx.delete("dead_letters", number)


# -- a disk that does not take it, and senders that leave ------------------------------------------------------------


async def test_a_full_disk_refuses_new_letters_and_forgets_no_old_one(
    runtime: Runtime, queue: DeadLetterQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, told = list[str](), EventLog(runtime, LettersNotWritten)
    await kept(queue, Order("a"), Order("b"))

    async def full(self: Any, *args: Any, **options: Any) -> Any:
        raise NotWritten("the disk is full")

    actor = whereis(runtime)
    with monkeypatch.context() as patch:
        patch.setattr(Database, "transact", full)
        with pytest.raises(NotWritten):
            await queue.send("elsewhere", News("x"))
        with pytest.raises(NotWritten):
            await queue.purge()
        actor.cast(KeepLetter("elsewhere", News("x"), "cast"))
        await runtime.spawn(Slow, log, name="shop")
        await pass_time(queue, 30)
    assert log == ["a", "b"], "they are delivered all the same"
    assert whereis(runtime) is actor
    assert [event.letters for event in told.of(LettersNotWritten)][-1] == 2
    await pass_time(queue, 15, lambda: not queue.waiting())
    assert queue.waiting() == {}
    assert log == ["a", "b"], "and once"


async def test_what_became_of_a_letter_that_is_gone_meanwhile_is_not_written(
    runtime: Runtime, queue: DeadLetterQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kept(queue, Order("a", "never"))
    transact = Database.transact

    async def gone(self: Any, *args: Any, **options: Any) -> Any:
        monkeypatch.setattr(Database, "transact", transact)
        await transact(self, lambda tx: _forget(tx, 1))
        return await transact(self, *args, **options)

    monkeypatch.setattr(Database, "transact", gone)
    await runtime.spawn(Slow, [], name="shop")
    await pass_time(queue, 5)
    assert queue.waiting() == queue.given_up() == {}


async def test_who_leaves_before_its_letter_is_written_leaves_nothing(runtime: Runtime, queue: DeadLetterQueue) -> None:
    actor: Any = whereis(runtime)
    calls: list[Call[int]] = [actor.call(KeepLetter("shop", News(str(n)), "why"), timeout=None) for n in range(100)]
    for call in calls[1:]:
        call.cancel()
    assert await calls[0] == 1
    actor.cast(KeepLetter("shop", News("cast"), "why"))
    await until(lambda: len(queue.waiting()) == 2)
    assert not actor.deferred
    late = actor.call(KeepLetter("shop", News("late"), "why"), timeout=None)
    actor.cast(DeliverNext("nobody"))
    await settled_for(1)
    late.cancel()
    await pass_time(queue, 1)
    assert not actor.deferred
    assert whereis(runtime) is actor


async def settled_for(turns: int) -> None:
    """Let some turns of the loop pass."""
    for _ in range(turns):
        await advance(0.0)


async def test_who_comes_while_its_letter_is_written_gets_it_at_once(
    runtime: Runtime, queue: DeadLetterQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    gate = asyncio.get_running_loop().create_future()
    transact = Database.transact

    async def late(self: Any, *args: Any, **options: Any) -> Any:
        await asyncio.shield(gate)
        return await transact(self, *args, **options)

    monkeypatch.setattr(Database, "transact", late)
    sending = asyncio.ensure_future(queue.send("shop", Order("a")))
    await settled_for(3)
    await runtime.spawn(Slow, log, name="shop")
    gate.set_result(None)
    assert await sending == "kept"
    await advance(1.5)
    assert log == ["a"], "long before the next round"


async def test_a_row_that_is_no_letter_is_told_and_stands_in_nobodys_way(
    runtime: Runtime, queue: DeadLetterQueue
) -> None:
    log, told = list[str](), EventLog(runtime, LetterGivenUp)
    await kept(queue, Order("a"), Order("b"))

    async def spoil(tx: Any) -> None:
        tx.put("dead_letters", 1, {"to": 5})
        tx.put("dead_letters", "what is this", "no letter")

    await queue._database.transact(spoil)
    whereis(runtime).kill()
    await settled(runtime)
    await runtime.spawn(Shop, log, name="shop")
    await until(lambda: queue.waiting() == {})
    assert log == ["b"]
    assert [(event.number, event.reason) for event in told.of(LetterGivenUp)] == [(1, "it cannot be read")]
    assert await queue.purge() == 1


async def test_a_store_without_the_table_is_told_at_the_start(wall: Runtime, tmp_path: Path) -> None:
    await wall.spawn(Store, tmp_path / "s.db", ["other"], name="store")
    with pytest.raises(Exception, match="dead_letters") as caught:
        await wall.spawn(DeadLetters)
    assert isinstance(caught.value.__cause__, NoTable)


async def test_a_queue_whose_store_comes_later_waits_for_it(wall: Runtime, tmp_path: Path) -> None:
    await wall.spawn(DeadLetters, interval=5.0, name="dead_letters")
    queue, log = DeadLetterQueue(wall), list[str]()
    with pytest.raises(NoTable):
        await queue.send("shop", News("a"))
    await wall.spawn(Store, tmp_path / "s.db", ["dead_letters"], name="store")
    assert await queue.send("shop", News("b")) == "kept"
    await wall.spawn(Shop, log, name="shop")
    await pass_time(queue, 10, lambda: not queue.waiting())
    assert log == ["b"]


async def test_many_letters_are_written_at_once(runtime: Runtime, queue: DeadLetterQueue) -> None:
    await kept(queue, *(News(str(n)) for n in range(1000)))
    assert [letter.message.text for letter in queue.waiting().values()] == [str(n) for n in range(1000)]
    assert queue._database.root.version < 100, "in few transactions"


@pytest.mark.parametrize("by", [1e9, 3600.0, -3600.0, -1e9])
async def test_a_letter_is_as_old_as_it_is_whatever_the_clock_is_set_to(
    runtime: Runtime, queue: DeadLetterQueue, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    """One kept before the clock was set, and one kept afterwards; also when the queue is restarted in between."""
    assert await queue.send("shop", News("before")) == "kept"
    await runtime.sleep(400.0)
    monkeypatch.setattr(runtime.clock, "wall_time", lambda: runtime.clock.time() + by)
    runtime.whereis("dead_letters").kill()  # type: ignore[union-attr]
    await until(lambda: runtime.whereis("dead_letters") is not None)
    assert await queue.send("shop", News("after")) == "kept"
    assert len(queue.waiting()) == 2
    await runtime.sleep(590.0)
    assert len(queue.waiting()) == 2
    await runtime.sleep(30.0)
    assert [letter.message.text for letter in queue.waiting().values()] == ["after"]
    await runtime.sleep(410.0)
    assert queue.waiting() == {}


async def test_a_clock_that_was_set_is_thought_of_until_all_letters_know(
    runtime: Runtime, queue: DeadLetterQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await queue.send("shop", News("before")) == "kept"
    monkeypatch.setattr(runtime.clock, "wall_time", lambda: runtime.clock.time() + 1e9)
    runtime.whereis("store").kill()  # type: ignore[union-attr]
    await until(lambda: runtime.whereis("dead_letters") is not None and runtime.whereis("store") is not None)
    for _ in range(3):  # each in the middle of it
        runtime.name("dead_letters").cast(RetryRound())
        await until(lambda: runtime.info(runtime.whereis("dead_letters")).mailbox == 0)  # type: ignore[arg-type, union-attr]
        runtime.whereis("dead_letters").kill()  # type: ignore[union-attr]
        await until(lambda: runtime.whereis("dead_letters") is not None)
    await runtime.sleep(900.0)
    assert len(queue.waiting()) == 1
    await runtime.sleep(200.0)
    assert queue.waiting() == {}


async def test_what_a_queue_knew_of_the_clock_when_it_was_killed_is_written_by_the_next(
    runtime: Runtime, queue: DeadLetterQueue
) -> None:
    assert await queue.send("shop", News("before")) == "kept"
    (before,) = queue.waiting().values()
    (ages,) = [kept for kept in runtime.shared.values() if isinstance(kept, AgeCorrection)]
    ages.moved = 1000.0  # as if it had been killed before it could write that
    whereis(runtime).kill()
    await until(lambda: ages.moved == 0.0)
    (after,) = queue.waiting().values()
    assert after.kept_at == before.kept_at + 1000.0


async def test_letters_that_the_last_incarnation_wrote_after_the_next_had_looked_are_delivered(
    runtime: Runtime, queue: DeadLetterQueue
) -> None:
    log: list[str] = []
    await pass_time(queue, 1)
    letters = [letter_for("shop", Order(text), "nobody was there", 0.0) for text in "ab"]
    letters[1] = msgspec.structs.replace(letters[1], state="given up")
    async with Database.of(runtime).transaction() as tx:  # as what was under way when it was killed
        tx.put("dead_letters", 0, 3)
        tx.put("dead_letters", 1, letters[0])
        tx.put("dead_letters", 2, letters[1])
    await runtime.spawn(Shop, log, name="shop")
    await pass_time(queue, 30)
    assert log == ["a"]
    assert queue.waiting() == {}
    assert list(queue.given_up()) == [2]
