"""What a bus promises: at least once, over the death of receivers, bus and program; and what it refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import msgspec
import pytest

from agents import Action, AgentType, Context, PublishRefused, Signal, SignalUndelivered, start_agent
from agents.durability import Durability, MemoryStorage, SqliteStorage, StorageError
from agents.durability.checkpoint import encoded
from agents.events import BusNotSaved, DeadLettersForgotten, PublishFailed, SignalsRedriven
from agents.instances import start_instances
from agents.pool import start_pool
from agents.signals import (
    Bus,
    Delivery,
    dead_letters,
    publish,
    read_log,
    redrive,
    replay,
    subscribe,
    subscriptions,
    unsubscribe,
)
from agents.signals.bus_file import _FirstFormat
from agents.signals.heartbeat import at_work
from agents.signals.messages import Acknowledgement, DeadLetter, GrantCredit, SignalRecord, StillWorking, TakenUp
from agents.signals.sinks import GroupSink, LogSink, Webhook
from agents.testing import ContractCheck, bus_contract
from foundation.telemetry.collectors import collect_samples
from supervision import (
    Abnormal,
    Actor,
    ChildSpec,
    Ref,
    Runtime,
    StartError,
    Supervisor,
    groups,
    handle,
    system,
)
from supervision.errors import BadOption
from supervision.events import Event
from supervision.testing import advance, run, settled


class Seen(msgspec.Struct, frozen=True):
    """A state."""

    ids: tuple[str, ...] = ()


class See(Action[Seen]):
    """Take a while, and note it."""

    seconds: float = 0.5

    async def run(self, context: Context[Seen]) -> Seen:
        """Note it."""
        assert context.signal is not None
        await advance(self.seconds)
        return Seen((*context.state.ids, context.signal.id))


class Strict(Action[None]):
    """Needs an amount."""

    amount: int

    def run(self, context: Context[Seen]) -> None:
        """Need it."""


class Fail(Action[None]):
    """Fail."""

    def run(self, context: Context[Seen]) -> None:
        """Fail."""
        raise RuntimeError("no")


class Seer(AgentType[Seen]):
    """Sees signals."""

    name = "seer"
    routes = {"x": See, "strict": Strict, "fail": Fail}


GOT: list[tuple[str, int]] = []


class Plain(Actor):
    """Does with deliveries what their data say."""

    @handle
    def deal(self, delivery: Delivery) -> None:
        """Deal with it."""
        GOT.append((delivery.signal.id, delivery.attempt))
        what = delivery.signal.data
        if what == "die":
            raise ValueError("poison")
        if what is None:
            delivery.ack()
        elif what == "no":
            delivery.nack("no")


@pytest.fixture(autouse=True)
def _nothing_yet() -> None:
    GOT.clear()


def signal(id: int | str, data: Any = None, *, type: str = "x", subject: str | None = None, **more: str) -> Signal:
    """Return a signal."""
    return Signal(type=type, source="/", id=str(id), data=data, subject=subject, extensions=more)


# -- slow is not failing -----------------------------------------------------------------------------------------------


async def test_D075_a_receiver_that_is_slow_gets_each_signal_once(runtime: Runtime) -> None:
    """However long the last ones wait behind the first."""
    bus = await runtime.spawn(Bus)
    seer = await start_agent(runtime, Seer, name="seer")
    await subscribe(bus, "**", runtime.name("seer"), name="s")
    await publish(bus, *(signal(n) for n in range(100)))
    await advance(1.0)
    status = (await subscriptions(bus))["s"]
    assert (status.taken, status.sent, status.members) == (1, 8, {"": 9})
    await advance(3600.0)
    assert len(seer.state.ids) == 100
    assert len(set(seer.state.ids)) == 100


async def test_D076_a_turn_of_ten_minutes_is_delivered_once(runtime: Runtime) -> None:
    """Its server says that it is working; when it has died, nobody says so any more."""
    bus = await runtime.spawn(Bus)
    seer = await start_agent(runtime, Seer)
    assert isinstance(seer.address, Ref)
    await subscribe(bus, "**", seer.address, name="s", ack_within=30.0)
    await publish(bus, signal(1, {"seconds": 600.0}))
    await advance(700.0)
    await settled(runtime)
    assert (seer.state.ids, (await subscriptions(bus))["s"].taken) == (("1",), 0)
    await publish(bus, signal(2, {"seconds": 600.0}))
    await advance(100.0)
    seer.address.kill()
    await advance(1000.0)
    assert (await subscriptions(bus))["s"].waiting == 1


async def test_D077_a_receiver_that_hangs_gets_it_again_and_its_late_answer_does_not_count(runtime: Runtime) -> None:
    """After the time that it had from when it was thought to have begun; it can say that it is still working."""
    held: list[Delivery] = []

    class Hangs(Actor):
        @handle
        def deal(self, delivery: Delivery) -> None:
            held.append(delivery)

    bus = await runtime.spawn(Bus)
    ref = await runtime.spawn(Hangs)
    await subscribe(bus, "**", ref, name="s", retry=0.0, ack_within=30.0)
    await publish(bus, signal(1))
    await advance(20.0)
    held[0].taken()
    held[0].working()
    await advance(25.0)
    assert len(held) == 1
    await advance(10.0)
    assert [one.attempt for one in held] == [1, 2]
    held[0].ack()
    await settled(runtime)
    assert (await subscriptions(bus))["s"].late_answers == 1
    held[1].ack()
    await settled(runtime)
    assert (await subscriptions(bus))["s"].taken == 0
    bus.cast(TakenUp("nobody", 1, 1))
    bus.cast(StillWorking("nobody", 1, 1))
    bus.cast(GrantCredit("nobody", "", 5))
    bus.cast(GrantCredit("s", "", 0))
    bus.cast(GrantCredit("s", "", 1))
    await publish(bus, signal(2), signal(3))
    await settled(runtime)
    assert [one.signal.id for one in held] == ["1", "1", "2"]
    await subscribe(bus, "**", ref, name="s", in_flight=2)
    held[-1].grant(50)
    await settled(runtime)
    assert (await subscriptions(bus))["s"].members == {"": 2}


# -- deaths of receivers -----------------------------------------------------------------------------------------------


async def test_D080_poison_is_counted_over_the_deaths_of_its_receiver(runtime: Runtime) -> None:
    """And is a dead letter after so many, with its cause; what waited behind it is innocent."""
    told: list[SignalUndelivered] = []
    runtime.subscribe(told.append, SignalUndelivered)
    bus = await runtime.spawn(Bus)
    await runtime.spawn(Supervisor, [ChildSpec("p", Plain, name="p")], max_restarts=20)
    await subscribe(bus, "**", runtime.name("p"), name="s", attempts=3, retry=0.1)
    await publish(bus, signal(1, "die", causationid="0"), signal(2))
    await advance(5.0)
    (letter,) = await dead_letters(bus)
    assert (letter.recorded.signal.id, letter.attempts) == ("1", 3)
    assert letter.why.startswith("it ended its receiver: ")
    assert letter.time > 0
    assert [one for one in GOT if one[0] == "1"] == [("1", 1), ("1", 2), ("1", 3)]
    assert ("2", 1) in GOT
    assert [(one.signal_id, one.cause_id, one.destination, one.attempts) for one in told] == [("1", "0", "s", 3)]


async def test_D087_a_subscriber_by_name_is_followed_over_its_restarts(runtime: Runtime) -> None:
    """Without subscribing again; and those without a name of the subscription are cast to whoever holds it."""
    bus = await runtime.spawn(Bus, name="bus")
    await runtime.spawn(Supervisor, [ChildSpec("p", Plain, name="p")])
    await subscribe(bus, "**", runtime.name("p"), name="s")
    await publish(bus, signal(1))
    await settled(runtime)
    runtime.whereis("p").kill()  # type: ignore[union-attr]
    await settled(runtime)
    await publish(bus, signal(2))
    await settled(runtime)
    assert [id for id, _ in GOT] == ["1", "2"]
    heard = await subscribe(bus, "**", runtime.name("p"))
    assert await unsubscribe(bus, heard)


async def test_D043_a_name_that_nobody_holds_is_waited_for(runtime: Runtime) -> None:
    """For an hour, without being looked at; what waits is delivered at once when somebody takes it."""
    bus = await runtime.spawn(Bus)
    await subscribe(bus, "**", runtime.name("late"), name="s")
    await publish(bus, signal(1))
    await settled(runtime)
    await advance(3600.0)
    assert (await subscriptions(bus))["s"].waiting == 1
    await runtime.spawn(Plain, name="late")
    await settled(runtime)
    assert GOT == [("1", 1)]
    await subscribe(bus, "y", runtime.name("never"), name="t")
    await subscribe(bus, "y", runtime.name("late"), name="t")
    await runtime.spawn(Plain, name="never")
    assert await unsubscribe(bus, "t")
    await subscribe(bus, "y", runtime.name("gone"), name="u")
    assert await unsubscribe(bus, "u")
    await runtime.spawn(Plain, name="gone")
    await settled(runtime)
    assert list(await subscriptions(bus)) == ["s"]


# -- several for one subscription --------------------------------------------------------------------------------------


async def test_members_share_a_subscription(runtime: Runtime) -> None:
    """Each signal goes to one; what one had goes to the others when it leaves or ends."""
    bus = await runtime.spawn(Bus)
    seers = [await start_agent(runtime, Seer, name=f"w{n}") for n in range(3)]
    for n in range(3):
        await subscribe(bus, "**", runtime.name(f"w{n}"), name="work", member=f"w{n}", key="subject")
    await publish(bus, *(signal(n, subject=f"k{n % 10}") for n in range(60)))
    await advance(5.0)
    assert await unsubscribe(bus, "work", "w2")
    assert not await unsubscribe(bus, "work", "w2")
    await advance(100.0)
    assert sorted(int(id) for seer in seers for id in seer.state.ids) == list(range(60))
    assert all(len(seer.state.ids) > 0 for seer in seers[:2])
    for seer in seers:
        ids = [int(id) for id in seer.state.ids]
        for k in range(10):
            of_key = [n for n in ids if n % 10 == k]
            assert of_key == sorted(of_key)
    assert set((await subscriptions(bus))["work"].members) == {"w0", "w1"}
    await subscribe(bus, "**", runtime.name("w0"), name="work", member="w0")
    await subscribe(bus, "**", runtime.name("w2"), name="work")
    assert set((await subscriptions(bus))["work"].members) == {""}
    await subscribe(bus, "**", runtime.name("w1"), name="work", member="w1")
    assert set((await subscriptions(bus))["work"].members) == {"w1"}


async def test_a_pool_subscribes_like_an_agent(runtime: Runtime) -> None:
    """Its workers share the signals; what fails is refused, and what can never succeed at once."""
    bus = await runtime.spawn(Bus)
    pool = await start_pool(runtime, Seer, 3, name="pool")
    await subscribe(bus, "**", runtime.name("pool"), name="s", attempts=2, retry=0.1)
    await publish(bus, *(signal(n) for n in range(6)))
    await settled(runtime)
    assert (await subscriptions(bus))["s"].members == {"": 3}
    await advance(1.2)
    await settled(runtime)
    assert (await subscriptions(bus))["s"].taken == 0
    await publish(bus, signal("a", type="fail"), signal("b", type="strict"), signal("c", type="unknown"))
    await advance(5.0)
    letters = {one.recorded.signal.id: one.attempts for one in await dead_letters(bus)}
    assert letters == {"a": 2, "b": 1, "c": 1}
    assert (await pool.status()).available == 3


async def test_instances_subscribe_by_the_subject(runtime: Runtime) -> None:
    """Each signal goes to the instance whose key is its subject, started for it; what has none is dead at once."""
    bus = await runtime.spawn(Bus)
    seers = await start_instances(runtime, Seer, name="seers")
    await subscribe(bus, "**", runtime.name("seers"), name="s", attempts=1)
    await publish(bus, signal(1, subject="joe"), signal(2, subject="ann"), signal(3))
    await advance(2.0)
    assert ((await seers.get("joe")).state.ids, (await seers.get("ann")).state.ids) == (("1",), ("2",))
    assert [one.recorded.signal.id for one in await dead_letters(bus)] == ["3"]


class Away(MemoryStorage):
    """Cannot be read."""

    async def claim(self, key: str, generation: str) -> Any:
        """Fail."""
        raise StorageError("away")


async def test_an_instance_that_does_not_start_refuses_what_is_for_it(runtime: Runtime) -> None:
    """The signal comes again, and is dead after so many times."""
    bus = await runtime.spawn(Bus)
    await start_instances(runtime, Seer, durability=Durability(Away()), name="seers")
    await subscribe(bus, "**", runtime.name("seers"), name="s", attempts=2, retry=0.1)
    await publish(bus, signal(1, subject="joe"))
    await advance(5.0)
    (letter,) = await dead_letters(bus)
    assert (letter.attempts, "away" in letter.why) == (2, True)


async def test_webhooks_and_sinks_subscribe_like_agents(runtime: Runtime) -> None:
    """A webhook acknowledges what was posted; what a service refuses for good is dead at once."""
    answers = [503, 204, 400]
    posted: list[str] = []

    async def serve(request: httpx.Request) -> httpx.Response:
        posted.append(msgspec.json.decode(request.content)["id"])
        return httpx.Response(answers.pop(0))

    bus = await runtime.spawn(Bus)
    hook = await runtime.spawn(Webhook, "http://x/", transport=httpx.MockTransport(serve))
    await subscribe(bus, "x", hook, name="hook", retry=0.1)
    await publish(bus, signal(1))
    await advance(5.0)
    await publish(bus, signal(2))
    await publish(bus, signal(3, bus))
    await advance(5.0)
    assert posted == ["1", "1", "2"]
    assert {one.recorded.signal.id: one.attempts for one in await dead_letters(bus)} == {"2": 1, "3": 1}
    heard: list[Signal] = []

    class Hears(Actor):
        @handle
        def hear(self, signal: Signal) -> None:
            heard.append(signal)

    scope = await runtime.spawn(groups.Groups)
    await groups.join(scope, "g", await runtime.spawn(Hears))
    await subscribe(bus, "y", await runtime.spawn(GroupSink, scope, "g"), name="group")
    await subscribe(bus, "y", await runtime.spawn(LogSink), name="log")
    await publish(bus, signal(4, type="y"))
    await settled(runtime)
    status = await subscriptions(bus)
    assert ([one.id for one in heard], status["group"].taken, status["log"].taken) == (["4"], 0, 0)


async def test_a_webhook_goes_on_behind_a_signal_that_cannot_be_written(runtime: Runtime) -> None:
    """That one is undelivered, and told."""
    told: list[SignalUndelivered] = []
    runtime.subscribe(told.append, SignalUndelivered)

    async def serve(request: httpx.Request) -> httpx.Response:
        return httpx.Response(204)

    hook = await runtime.spawn(Webhook, "http://x/", transport=httpx.MockTransport(serve))
    hook.cast(signal(1, {"who": hook}))
    hook.cast(signal(2))
    await advance(1.0)
    assert [one.signal_id for one in told] == ["1"]
    assert (await system.get_status(hook)).status["delivered"] == 1


async def test_a_heartbeat_ends_with_its_receiver(runtime: Runtime) -> None:
    """Nobody says any more that a dead one works."""
    said: list[StillWorking] = []

    class Hears(Actor):
        @handle
        def hear(self, message: StillWorking) -> None:
            said.append(message)

    delivery = Delivery(signal(1), 1, 1, "s", await runtime.spawn(Hears), ack_within=3.0)
    receiver = await runtime.spawn(Plain)
    with at_work(receiver, delivery):
        await advance(2.5)
        receiver.kill()
        await advance(5.0)
    await settled(runtime)
    assert len(said) == 2


async def test_members_that_have_left_may_end(runtime: Runtime) -> None:
    """Or come back; nothing happens to the bus."""
    bus = await runtime.spawn(Bus)
    refs = [await runtime.spawn(Plain) for _ in range(3)]
    for n, ref in enumerate(refs):
        await subscribe(bus, "**", ref, name="s", member=f"m{n}")
    for n in (0, 1):
        assert await unsubscribe(bus, "s", f"m{n}")
    await subscribe(bus, "**", refs[2], name="s", member="m0")
    await publish(bus, signal(1))
    await subscribe(bus, "**", refs[0], name="late", since=0)
    await settled(runtime)
    assert sorted(GOT) == [("1", 1), ("1", 1)]
    refs[0].kill()
    await settled(runtime)
    assert set((await subscriptions(bus))["s"].members) == {"m0", "m2"}
    assert await unsubscribe(bus, "s")
    refs[1].kill()
    await settled(runtime)
    assert bus.alive


class Slow(MemoryStorage):
    """Takes half a second for each write."""

    async def write(self, *args: Any, **options: Any) -> None:
        """Write."""
        await advance(0.5)
        await super().write(*args, **options)


def test_a_bus_that_is_stopped_while_it_writes_has_an_end_in_order() -> None:
    """What was being written is there; nobody is suspected."""
    storage = Slow()

    async def first(runtime: Runtime, bus: Ref) -> None:
        await subscribe(bus, "**", runtime.name("p"), name="s")
        publishing = asyncio.ensure_future(publish(bus, signal(1)))
        await settled(runtime)
        await bus.stop()
        await asyncio.gather(publishing, return_exceptions=True)

    async def second(runtime: Runtime, bus: Ref) -> None:
        status = (await subscriptions(bus))["s"]
        assert (status.waiting, status.suspects) == (1, 0)
        await publish(bus, signal(2))
        bus.kill()

    async def third(runtime: Runtime, bus: Ref) -> None:
        assert (await subscriptions(bus))["s"].suspects == 2
        ref = await runtime.spawn(Plain, name="p")
        await advance(0.2)
        ref.kill()
        await advance(3.0)
        assert GOT == []
        await runtime.spawn(Plain, name="p")
        await advance(5.0)
        assert GOT == [("1", 1), ("2", 1)]

    lives(storage, first, second, third)


async def test_a_bus_ends_in_order_after_those_who_work_for_it(runtime: Runtime) -> None:
    """As a runtime ends: its subscribers and its writer are gone, and nobody can be started any more."""
    storage = MemoryStorage()
    async with Runtime(watchdog=None, reports=False) as ending:
        bus = await ending.spawn(Bus, storage, name="bus")
        await ending.spawn(Plain, name="p")
        await subscribe(bus, "**", ending.name("p"), name="s")
        await publish(bus, signal(1, "never answered"))
        await settled(ending)
    assert bus.reason is not None
    assert bus.reason.clean
    again = await runtime.spawn(Bus, storage, name="bus")
    status = (await subscriptions(again))["s"]
    assert (status.waiting, status.suspects) == (1, 0)


async def test_a_bus_whose_writer_is_gone_goes_on_with_another_one(runtime: Runtime) -> None:
    """What was published meanwhile is refused, or there."""
    bus = await runtime.spawn(Bus, MemoryStorage(), name="bus")
    await subscribe(bus, "**", runtime.name("nobody"), name="s")
    for number in range(3):
        await publish(bus, signal(number))
        (await system.get_state(bus))["_writer"].kill()
        await settled(runtime)
    await publish(bus, signal(3))
    assert [one.signal.id for one in await read_log(bus)] == ["0", "1", "2", "3"]
    waiting = [ref for ref in runtime.actors() if ref.kind.__name__ == "_NameWait"]
    waiting[0].kill()
    await publish(bus, signal(4))
    assert bus.alive


async def test_dead_letters_that_are_too_old_are_forgotten_and_told(runtime: Runtime) -> None:
    """After two weeks, with the next thing that happens."""
    told: list[DeadLettersForgotten] = []
    runtime.subscribe(told.append, DeadLettersForgotten)
    bus = await runtime.spawn(Bus)
    await runtime.spawn(Plain, name="p")
    await subscribe(bus, "**", runtime.name("p"), name="s", attempts=1)
    await publish(bus, signal(1, "no"))
    await advance(15 * 86400.0)
    await publish(bus, signal(2))
    await advance(2.0)
    assert ([one.ids for one in told], await dead_letters(bus)) == ([("1",)], ())


# -- what cannot be kept -----------------------------------------------------------------------------------------------


async def test_D084_what_cannot_be_kept_is_refused_to_its_publisher(runtime: Runtime) -> None:
    """And the bus lives; of what was sent with it, nothing is published; what was cast is an event."""
    told: list[PublishFailed] = []
    runtime.subscribe(told.append, PublishFailed)
    bus = await runtime.spawn(Bus, MemoryStorage(), max_size=1000)
    endless: list[Any] = []
    endless.append(endless)
    unreadable = signal("bad")
    msgspec.structs.force_setattr(unreadable, "subject", 17)
    wrong = ({"who": bus}, {"f": lambda: 1}, 2**70, "x" * 2000, endless, msgspec.Raw(b"\xc1"))
    for bad in (*(signal("bad", data) for data in wrong), unreadable):
        with pytest.raises(PublishRefused):
            await publish(bus, signal("good"), bad)
    bus.cast(signal(9, {"who": bus}, causationid="8"))
    await settled(runtime)
    assert (len(told), told[-1].signal_id, told[-1].cause_id) == (15, "9", "8")
    assert (await read_log(bus), bus.alive) == ((), True)
    assert [one.sequence for one in await publish(bus, signal("good"))] == [1]


class Holding(Actor):
    """Keeps its deliveries."""

    def __init__(self, held: list[Delivery]) -> None:
        self._held = held

    @handle
    def deal(self, delivery: Delivery) -> None:
        """Keep it."""
        self._held.append(delivery)


async def test_a_delivery_that_is_refused_without_a_reason_is_not_acknowledged(runtime: Runtime) -> None:
    """The one who refuses it is told; it is out as before."""
    bus, held = await runtime.spawn(Bus, MemoryStorage()), list[Delivery]()
    await runtime.spawn(Holding, held, name="h")
    await subscribe(bus, "**", runtime.name("h"), name="s")
    await publish(bus, signal(1))
    await settled(runtime)
    with pytest.raises(BadOption, match="without one it would be acknowledged"):
        held[0].nack(None)  # type: ignore[arg-type]
    held[0].nack("no", final=True)
    await settled(runtime)
    assert [one.why for one in await dead_letters(bus)] == ["no"]


async def test_D085_a_log_that_is_full_of_open_signals_refuses_more(runtime: Runtime) -> None:
    """Nothing is buried unasked; what is done makes room; the other way is to bury the oldest."""
    storage = MemoryStorage()
    bus = await runtime.spawn(Bus, storage, keep=3, ack_every=0.1)
    await subscribe(bus, "**", runtime.name("w"), name="s")
    await publish(bus, signal(1), signal(2))
    with pytest.raises(PublishRefused, match="the log is full"):
        await publish(bus, signal(3), signal(4))
    both = await asyncio.gather(publish(bus, signal(5)), publish(bus, signal(6)), return_exceptions=True)
    assert [isinstance(one, PublishRefused) for one in both] == [False, True]
    bus.cast(signal(7))
    await settled(runtime)
    assert ([one.signal.id for one in await read_log(bus)], await dead_letters(bus)) == (["1", "2", "5"], ())
    await runtime.spawn(Plain, name="w")
    await settled(runtime)
    await publish(bus, signal(8), signal(9))
    assert [one.signal.id for one in await read_log(bus)] == ["5", "8", "9"]
    with pytest.raises(PublishRefused):
        await publish(bus, *(signal(f"many{n}") for n in range(4)))
    await advance(1.0)
    assert [n for n, _ in await storage.entries("bus", -1)] == [3, 4, 5]
    other = await runtime.spawn(Bus, MemoryStorage(), keep=2, full="dead_letters")
    await subscribe(other, "**", runtime.name("nobody"), name="s")
    await publish(other, *(signal(n) for n in range(4)))
    assert [one.recorded.signal.id for one in await dead_letters(other)] == ["0", "1"]


async def test_what_is_published_twice_is_published_once(runtime: Runtime) -> None:
    """With the same answer; at the same time, too; as long as the log has it."""
    for storage in (None, MemoryStorage()):
        bus = await runtime.spawn(Bus, storage)
        first, again = await asyncio.gather(publish(bus, signal(1)), publish(bus, signal(1)))
        assert first == again == await publish(bus, signal(1))
        (one, two) = await publish(bus, signal(2), signal(2))
        assert one == two
        assert len(await read_log(bus)) == 2
        assert await publish(bus) == ()


class Flaky(MemoryStorage):
    """Fails to write, or says so, as often as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.fail = 0
        self.lie = False
        self.key = "bus"
        self.writes = 0

    async def write(self, key: str, *args: Any, **options: Any) -> None:
        """Write, or not."""
        self.writes += 1
        if key == self.key and self.fail:
            self.fail -= 1
            if self.lie:
                await super().write(key, *args, **options)
            raise StorageError("disk full")
        await super().write(key, *args, **options)


async def test_D086_a_write_that_fails_ends_nothing(runtime: Runtime) -> None:
    """Signals are refused to their publisher; acknowledgements are written later, and told until then."""
    told: list[Event] = []
    runtime.subscribe(told.append, BusNotSaved, PublishFailed)
    storage = Flaky()
    bus = await runtime.spawn(Bus, storage, ack_every=1.0)
    await runtime.spawn(Plain, name="p")
    await subscribe(bus, "**", runtime.name("p"), name="s")
    storage.fail = 1
    with pytest.raises(StorageError, match="disk full"):
        await publish(bus, signal(1))
    storage.fail = 1
    bus.cast(signal("cast"))
    await settled(runtime)
    storage.fail, storage.lie = 1, True
    assert [one.sequence for one in await publish(bus, signal(2))] == [1]
    storage.key, storage.lie, storage.fail = "bus/subscriptions", False, 3
    subscribing = asyncio.ensure_future(subscribe(bus, "y", runtime.name("p"), name="t"))
    await advance(0.4)
    assert not subscribing.done()
    other = asyncio.ensure_future(subscribe(bus, "z", runtime.name("p"), name="u"))
    await advance(2.0)
    assert (await subscribing, await other) == ("t", "u")
    assert [type(one).__name__ for one in told] == ["PublishFailed"] * 2 + ["BusNotSaved"] * 3
    pauses = [one.retry_in for one in told if isinstance(one, BusNotSaved)]
    assert pauses == [0.25, 0.5, 1.0]
    assert (bus.alive, GOT) == (True, [("2", 1)])
    storage.fail = 1
    await bus.stop()


async def test_a_second_bus_in_the_same_place_ends_the_first(runtime: Runtime) -> None:
    """With the first write of what has become of its subscriptions."""
    storage = MemoryStorage()
    first = await runtime.spawn(Bus, storage)
    second = await runtime.spawn(Bus, storage)
    with pytest.raises(Exception, match="ended"):
        await subscribe(first, "**", runtime.name("p"), name="s")
    assert isinstance(first.reason, Abnormal)
    assert await subscribe(second, "**", runtime.name("p"), name="s") == "s"

    class Broken(MemoryStorage):
        async def write(self, *args: Any, **options: Any) -> None:
            raise StorageError("read only")

    with pytest.raises(StartError, match="read only"):
        await runtime.spawn(Bus, Broken())


async def test_the_numbers_of_a_bus_are_in_the_metrics(runtime: Runtime) -> None:
    """By subscription: what waits, is in flight and dead, and how old the oldest is; of buses that have a name."""
    bus = await runtime.spawn(Bus, name="bus")
    ended, unnamed = await runtime.spawn(Bus, name="ended"), await runtime.spawn(Bus)
    for one in (bus, ended, unnamed):
        await runtime.spawn(Plain, name="p") if one is bus else None
        await subscribe(one, "**", runtime.name("p"), name="s", in_flight=1, attempts=1)
    ended.kill()
    await publish(bus, signal(1, "no"))
    await settled(runtime)
    await publish(bus, *(signal(n, "never answered") for n in (2, 3, 4)))
    await advance(20.0)
    found = {(one.name, *(value for _, value in one.labels)): one.value for one in collect_samples(runtime)}
    assert found == {
        ("bus_signals", "bus", "s", "waiting"): 2,
        ("bus_signals", "bus", "s", "in_flight"): 1,
        ("bus_signals", "bus", "s", "dead"): 1,
        ("bus_oldest_seconds", "bus", "s"): pytest.approx(20.0, abs=0.1),
    }
    again = await runtime.spawn(Bus, name="again")
    await subscribe(again, "**", runtime.name("nobody"), name="s")
    ages = {one.labels[0][1]: one.value for one in collect_samples(runtime) if one.name == "bus_oldest_seconds"}
    assert ages == {"bus": pytest.approx(20.0, abs=0.1), "again": 0.0}
    assert (await system.get_status(bus)).status["oldest_s"] == pytest.approx(20.0, abs=0.1)


# -- the contract ------------------------------------------------------------------------------------------------------


def kept_bus(storage: Any) -> Any:
    """Return what starts a bus that is kept there."""
    return lambda runtime: runtime.spawn(Bus, storage, ack_every=0.01, name="bus")


@pytest.mark.parametrize("check", bus_contract(lambda: kept_bus(MemoryStorage())), ids=str)
async def test_a_bus_keeps_the_contract(check: ContractCheck) -> None:
    """Each promise of it."""
    await check()


def poor_bus() -> Any:
    """Return what starts a bus that keeps one signal, and that in memory alone."""
    return lambda runtime: runtime.spawn(Bus, keep=1, name="bus")


@pytest.mark.parametrize("check", bus_contract(poor_bus), ids=str)
async def test_a_bus_that_breaks_the_contract_is_told_so(check: ContractCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that delivers nothing, or forgets all."""
    monkeypatch.setattr(Bus, "_pump", lambda self, subscription: None)
    with pytest.raises(AssertionError):
        await check()


# -- what survives -----------------------------------------------------------------------------------------------------


def lives(storage: Any, *parts: Any) -> None:
    """Run parts, each in a runtime of its own, as the lives of a program with one storage."""
    for part in parts:

        async def life(part: Any = part) -> None:
            async with Runtime(watchdog=None, reports=False, seed=1) as runtime:
                await part(runtime, await runtime.spawn(Bus, storage, ack_every=0.1, name="bus"))

        run(life())


def test_D087_subscriptions_by_name_come_back_with_the_program() -> None:
    """Nobody subscribes again; what was acknowledged does not come again, what was not does."""
    storage = MemoryStorage()

    async def first(runtime: Runtime, bus: Ref) -> None:
        await runtime.spawn(Plain, name="p")
        await subscribe(bus, "**", runtime.name("p"), name="s")
        await publish(bus, signal(1))
        await advance(1.0)
        await runtime.whereis("p").stop()  # type: ignore[union-attr]
        await publish(bus, signal(2))

    async def second(runtime: Runtime, bus: Ref) -> None:
        await settled(runtime)
        assert (await subscriptions(bus))["s"].waiting == 1
        await runtime.spawn(Plain, name="p")
        await settled(runtime)
        assert GOT == [("1", 1), ("2", 1)]

    lives(storage, first, second)


def test_D079_attempts_go_on_after_a_restart() -> None:
    """Of five, those behind the third; and dead letters with all that was said of them."""
    storage = MemoryStorage()

    async def first(runtime: Runtime, bus: Ref) -> None:
        await runtime.spawn(Plain, name="p")
        await subscribe(bus, "**", runtime.name("p"), name="s", attempts=5, retry=1.0)
        await publish(bus, signal(1, "no"))
        await advance(4.5)
        assert GOT[-1] == ("1", 3)

    async def second(runtime: Runtime, bus: Ref) -> None:
        await runtime.spawn(Plain, name="p")
        await settled(runtime)
        assert GOT[-1] == ("1", 4)
        await advance(60.0)
        (letter,) = await dead_letters(bus)
        assert letter.attempts == 5

    async def third(runtime: Runtime, bus: Ref) -> None:
        assert [one.attempts for one in await dead_letters(bus)] == [5]

    lives(storage, first, second, third)


def test_what_was_redriven_and_not_dealt_with_is_there_after_a_stop_and_after_a_crash() -> None:
    """As a letter that waits; nothing is nowhere."""
    for crash in (False, True):
        storage = MemoryStorage()

        async def first(runtime: Runtime, bus: Ref, crash: bool = crash) -> None:
            ref = await runtime.spawn(Plain)
            await subscribe(bus, "**", ref, name="s", attempts=1)
            await publish(bus, signal(1, "no"), signal(2, "no"), signal(3, "no"))
            await settled(runtime)
            await ref.stop()
            await settled(runtime)
            events: list[Event] = []
            runtime.subscribe(events.append, SignalsRedriven, DeadLettersForgotten)
            assert await redrive(bus, "s", ids=["2"], forget=True) == 1
            assert await redrive(bus, "s", limit=1) == 1
            assert await redrive(bus, "nobody") == 0
            assert [getattr(one, "ids", ()) for one in events] == [("2",), ("1",)]
            assert [one.recorded.signal.id for one in await dead_letters(bus)] == ["3"]
            if crash:
                bus.kill()

        async def second(runtime: Runtime, bus: Ref, crash: bool = crash) -> None:
            assert [one.recorded.signal.id for one in await dead_letters(bus)] == ["3"]
            status = (await subscriptions(bus))["s"]
            assert (status.waiting, status.suspects) == (1, int(crash))
            GOT.clear()
            await subscribe(bus, "**", await runtime.spawn(Plain), name="s", attempts=1)
            await settled(runtime)
            assert GOT == [("1", 1)]

        lives(storage, first, second)


def test_signals_of_the_log_can_be_delivered_again() -> None:
    """Those of a part of it, at most so many; what is open is left alone; also over a restart."""
    storage = MemoryStorage()

    async def first(runtime: Runtime, bus: Ref) -> None:
        await runtime.spawn(Plain, name="p")
        await subscribe(bus, "**", runtime.name("p"), name="s")
        await publish(bus, *(signal(n) for n in range(1, 8)), signal("open", "hold"))
        await settled(runtime)
        GOT.clear()
        assert await replay(bus, "s", since=2, until=5, limit=2) == 2
        assert await replay(bus, "s", since=7) == 0
        assert await replay(bus, "nobody") == 0
        await settled(runtime)
        assert sorted(GOT) == [("3", 1), ("4", 1)]
        await runtime.whereis("p").stop()  # type: ignore[union-attr]
        await settled(runtime)
        assert await replay(bus, "s", until=1) == 1

    async def second(runtime: Runtime, bus: Ref) -> None:
        GOT.clear()
        await runtime.spawn(Plain, name="p")
        await settled(runtime)
        assert sorted(GOT) == [("1", 1), ("open", 1)]
        assert [one.signal.id for one in await read_log(bus, limit=2)] == ["1", "2"]
        assert await unsubscribe(bus, "s")

    async def third(runtime: Runtime, bus: Ref) -> None:
        assert await subscriptions(bus) == {}

    lives(storage, first, second, third)


def test_D042_a_signal_that_ends_the_program_is_a_dead_letter_after_five_deaths() -> None:
    """Its neighbours are delivered, and none of them is dead."""
    storage = MemoryStorage()
    ended: list[int] = []

    class Fatal(Actor):
        """Ends the program with number 7: nothing is written any more."""

        @handle
        def deal(self, delivery: Delivery) -> None:
            if delivery.signal.id == "7":
                ended.append(1)
                self.runtime.whereis("bus").kill()  # type: ignore[union-attr]
            else:
                GOT.append((delivery.signal.id, delivery.attempt))
                delivery.ack()

    async def life(runtime: Runtime, bus: Ref) -> None:
        await runtime.spawn(Fatal, name="f")
        if not await subscriptions(bus):
            await subscribe(bus, "**", runtime.name("f"), name="s", in_flight=9)
            await publish(bus, *(signal(n) for n in range(1, 21)))
        await advance(10.0)
        if bus.alive:
            assert [one.recorded.signal.id for one in await dead_letters(bus)] == ["7"]

    lives(storage, *[life] * 7)
    assert len(ended) == 5
    assert {id for id, _ in GOT} == {str(n) for n in range(1, 21)} - {"7"}


class Gate(MemoryStorage):
    """Writes when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, *args: Any, **options: Any) -> None:
        """Write."""
        await self.open.wait()
        await super().write(*args, **options)


def test_a_suspect_that_is_answered_while_its_delivery_is_written_is_not_sent_again() -> None:
    """By who had it from the bus before; those behind it go on."""
    storage = Gate()

    async def first(runtime: Runtime, bus: Ref) -> None:
        await subscribe(bus, "**", runtime.name("p"), name="s")
        await publish(bus, *(signal(n) for n in (1, 2, 3)))
        bus.kill()

    async def second(runtime: Runtime, bus: Ref) -> None:
        assert (await subscriptions(bus))["s"].suspects == 3
        storage.open.clear()
        await runtime.spawn(Plain, name="p")
        await settled(runtime)
        bus.cast(Acknowledgement("s", 1, 1, None))
        await settled(runtime)
        storage.open.set()
        await advance(5.0)
        status = (await subscriptions(bus))["s"]
        assert (status.waiting, status.sent, status.suspects) == (0, 0, 0)
        assert GOT == [("2", 1), ("3", 1)]

    lives(storage, first, second)


def test_nobody_is_suspected_of_a_death_who_was_not_out() -> None:
    """While there are suspects only one of them is out; before it is written that there are none, nothing else is."""
    storage = Gate()

    class Quiet(Actor):
        """Answers nothing."""

        @handle
        def deal(self, delivery: Delivery) -> None:
            GOT.append((delivery.signal.id, delivery.attempt))

    async def first(runtime: Runtime, bus: Ref) -> None:
        await subscribe(bus, "**", runtime.name("p"), name="s")
        await publish(bus, *(signal(n) for n in (1, 2, 3)))
        bus.kill()

    async def early(runtime: Runtime, bus: Ref) -> None:
        assert (await subscriptions(bus))["s"].suspects == 3
        bus.kill()  # before anybody was there

    async def acquitted(runtime: Runtime, bus: Ref) -> None:
        await runtime.spawn(Quiet, name="p")
        for n in (1, 2):
            await settled(runtime)
            bus.cast(Acknowledgement("s", n, 1, None))
        await settled(runtime)
        storage.open.clear()
        bus.cast(Acknowledgement("s", 3, 1, None))
        await settled(runtime)
        publishing = asyncio.ensure_future(publish(bus, signal(4)))
        bus.cast(GrantCredit("s", "", 5))
        await settled(runtime)
        assert GOT == [("1", 1), ("2", 1), ("3", 1)]
        storage.open.set()
        await publishing
        await settled(runtime)
        assert GOT[3:] == [("4", 1)]
        bus.kill()

    async def last(runtime: Runtime, bus: Ref) -> None:
        known = (await system.get_state(bus))["_subscriptions"]["s"]
        assert {n: row.deaths for n, row in known.rows.items()} == {4: 1}

    lives(storage, first, *[early] * 7, acquitted, last)


def test_what_a_release_before_has_kept_is_read() -> None:
    """Its log, subscriptions and dead letters."""
    storage = MemoryStorage()
    letter = DeadLetter("s", SignalRecord(1, 5.0, signal(1)), 3, "no")

    async def write() -> None:
        body = encoded(_FirstFormat({"s": ("**", 2)}, (letter,)), "subscriptions", "bus")
        entries = [(n, encoded(SignalRecord(n, 5.0, signal(n)), "Signal", "bus")) for n in (1, 2, 3)]
        await storage.write("bus", 3, expected=None, checkpoint=body, entries=entries)

    async def life(runtime: Runtime, bus: Ref) -> None:
        await subscribe(bus, "**", await runtime.spawn(Plain), name="s")
        await settled(runtime)
        assert (GOT, [one.attempts for one in await dead_letters(bus)]) == ([("3", 1)], [3])
        assert [one.sequence for one in await publish(bus, signal(4))] == [4]

    run(write())
    lives(storage, life)


def test_a_long_life_leaves_little_behind(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what has become of subscriptions a snapshot is written now and then, and what stood before it is gone."""
    monkeypatch.setattr("agents.signals.bus_file._SNAPSHOT_BYTES", 1000)
    storage = SqliteStorage(tmp_path / "bus.db", sync="normal")

    async def life(runtime: Runtime, bus: Ref) -> None:
        await runtime.spawn(Plain, name="p")
        await subscribe(bus, "**", runtime.name("p"), name="s")
        for n in range(40):
            await publish(bus, *(signal(f"{n}/{k}", "hold" if (n, k) == (0, 0) else None) for k in range(60)))
            await advance(0.2)
        await runtime.whereis("p").stop()  # type: ignore[union-attr]
        stored = await storage.read("bus/subscriptions")
        assert stored is not None
        assert stored.checkpoint is not None

    async def second(runtime: Runtime, bus: Ref) -> None:
        assert (await subscriptions(bus))["s"].waiting == 1

    lives(storage, life, second)
    storage.close()


async def test_wrong_options_are_refused(runtime: Runtime) -> None:
    """With what is wrong, and the remedy; and the bus goes on."""
    bus = await runtime.spawn(Bus)
    wrong: list[dict[str, Any]] = [
        {"name": ""},
        {"name": "s", "member": ""},
        {"member": "m"},
        {"key": "subject"},
        {"name": "s", "key": "id"},
        {"name": "s", "key": 3},
        {"name": "s", "retry": -1},
        {"name": "s", "ack_within": 0},
        {"name": "s", "max_lease": "long"},
    ]
    for options in wrong:
        with pytest.raises(ValueError, match=r"name|member|key|retry|ack_within|max_lease"):
            await subscribe(bus, "**", bus, **options)
    for limit in (0, True, 1.5):
        for call in (redrive(bus, "s", limit=limit), replay(bus, "s", limit=limit), read_log(bus, limit=limit)):  # type: ignore[arg-type]
            with pytest.raises(BadOption):
                await call
    for arguments in ({"full": "burn"}, {"max_size": 0}):
        with pytest.raises(BadOption):
            await runtime.spawn(Bus, None, **arguments)  # type: ignore[arg-type]
    assert bus.alive
