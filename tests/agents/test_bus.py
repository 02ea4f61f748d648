"""The bus: subscriptions, acknowledgements, replay, dead letters, causality, and what survives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import BadRoute, Signal, start_agent
from agents.durability import MemoryStorage, StorageConflict
from agents.signals import (
    Bus,
    Causes,
    Delivery,
    causal_chain,
    dead_letters,
    publish,
    read_log,
    redrive,
    subscribe,
    subscriptions,
    unsubscribe,
)
from agents.signals.messages import Acknowledgement
from supervision import Actor, Ref, Runtime, StartError, handle, system
from supervision.errors import BadOption
from supervision.testing import advance, run, settled
from tests.agents.kinds import Counter, Listener


class Worker(Actor):
    """Deals with deliveries, as it is told: at once, never, or not at all."""

    def __init__(self, got: list[tuple[str, int]], how: str = "ack") -> None:
        self.got = got
        self.how = how

    @handle
    def deal(self, delivery: Delivery) -> None:
        """Deal with it."""
        self.got.append((delivery.signal.id, delivery.attempt))
        if self.how == "ack":
            delivery.ack()
        elif self.how == "nack":
            delivery.nack("not now")


def signal(id: int | str, type: str = "order.placed", cause: str | None = None) -> Signal:
    """Return a signal."""
    return Signal(type=type, source="/", id=str(id), extensions={} if cause is None else {"causationid": cause})


async def worker(runtime: Runtime, how: str = "ack", name: str | None = None) -> tuple[Ref, list[tuple[str, int]]]:
    """Start a worker."""
    got: list[tuple[str, int]] = []
    return await runtime.spawn(Worker, got, how, name=name), got


# -- subscriptions -----------------------------------------------------------------------------------------------------


async def test_whoever_subscribes_gets_what_matches(runtime: Runtime) -> None:
    """In order, from then on or from the beginning, until it ends or does not want more."""
    bus = await runtime.spawn(Bus)
    heard: list[Signal] = []
    all_of: list[Signal] = []
    one = await runtime.spawn(Listener, heard)
    first, _, third = await publish(bus, signal(1), signal(2), signal(3, "weather"))
    assert (first.sequence, third.sequence, first.time) == (1, 3, runtime.clock.wall_time())
    name = await subscribe(bus, "order.*", one)
    late = await subscribe(bus, "**", await runtime.spawn(Listener, all_of), since=1)
    assert name != late
    bus.cast(signal(4))
    await publish(bus, signal(5, "weather"))
    await settled(runtime)
    assert [each.id for each in heard] == ["4"]
    assert [each.id for each in all_of] == ["2", "3", "4", "5"]
    await one.stop()
    assert await unsubscribe(bus, late)
    assert not await unsubscribe(bus, late)
    await publish(bus, signal(6))
    await settled(runtime)
    assert (len(heard), len(all_of)) == (1, 4)
    assert [each.signal.id for each in await read_log(bus, "order.**", since=2)] == ["4", "6"]
    assert len(await read_log(bus)) == 6
    assert await publish(bus) == ()


async def test_what_is_acknowledged_does_not_come_again(runtime: Runtime) -> None:
    """Neither to the same subscriber nor to the next one under that name, who goes on where it was."""
    bus = await runtime.spawn(Bus)
    first, got = await worker(runtime)
    await subscribe(bus, "order.*", first, name="billing", since=0)
    await publish(bus, *(signal(n) for n in range(3)))
    await settled(runtime)
    await first.stop()
    await publish(bus, signal(3), signal("x", "weather"))
    second, more = await worker(runtime)
    await subscribe(bus, "order.*", second, name="billing")
    await settled(runtime)
    assert (got, more) == ([("0", 1), ("1", 1), ("2", 1)], [("3", 1)])
    await advance(60.0)
    assert len(more) == 1
    third, rest = await worker(runtime)
    await subscribe(bus, "order.*", third, name="billing")
    await publish(bus, signal(4))
    await settled(runtime)
    assert (more, rest) == ([("3", 1)], [("4", 1)])
    status = (await system.get_status(bus)).status
    assert (status["log"], status["sequence"], status["open"], status["dead"]) == (6, 6, 0, 0)
    assert (status["in_flight"], status["oldest_s"]) == (0, None)
    assert status["subscriptions"] == await subscriptions(bus)
    assert (await subscriptions(bus))["billing"].members == {"": 0}


async def test_a_subscriber_that_ends_leaves_what_it_had(runtime: Runtime) -> None:
    """It comes again to the next one; what it had begun with when it was killed counts as tried."""
    bus = await runtime.spawn(Bus)
    first, got = await worker(runtime, "silence")
    await subscribe(bus, "**", first, name="w", in_flight=2)
    await publish(bus, *(signal(n) for n in range(4)))
    await settled(runtime)
    assert got == [("0", 1), ("1", 1)]
    first.kill()
    await settled(runtime)
    second, more = await worker(runtime)
    await subscribe(bus, "**", second, name="w")
    await settled(runtime)
    assert sorted(more) == [("1", 1), ("2", 1), ("3", 1)]
    await advance(1.0)
    assert sorted(more) == [("0", 2), ("1", 1), ("2", 1), ("3", 1)]
    third, rest = await worker(runtime, "silence")
    await subscribe(bus, "**", third, name="w")
    await publish(bus, signal(4))
    fourth, last = await worker(runtime)
    await settled(runtime)
    await subscribe(bus, "**", fourth, name="w")
    await settled(runtime)
    assert (rest, last) == ([("4", 1)], [("4", 1)])


async def test_what_fails_comes_again_later_and_later_and_is_a_dead_letter_in_the_end(runtime: Runtime) -> None:
    """After so many attempts; it can be delivered again, or be forgotten."""
    bus = await runtime.spawn(Bus)
    ref, got = await worker(runtime, "nack")
    await subscribe(bus, "**", ref, name="w", attempts=3, retry=1.0)
    await publish(bus, signal("a"))
    times = []
    for _ in range(10):
        await settled(runtime)
        times.append(len(got))
        await advance(0.5)
    assert (times[0], times[-1]) == (1, 3)
    assert times.index(3) > 2 * times.index(2) - 1
    (letter,) = await dead_letters(bus)
    assert (letter.subscription, letter.recorded.signal.id, letter.attempts, letter.why) == ("w", "a", 3, "not now")
    assert await dead_letters(bus, "other") == ()
    good, more = await worker(runtime)
    await subscribe(bus, "**", good, name="w")
    assert await redrive(bus, "w") == 1
    await settled(runtime)
    assert (more, await dead_letters(bus)) == ([("a", 1)], ())
    await subscribe(bus, "**", ref, name="w", attempts=1)
    await publish(bus, signal("b"))
    await settled(runtime)
    assert (await redrive(bus, "w", forget=True), await dead_letters(bus), await redrive(bus, "w")) == (1, (), 0)


async def test_what_is_not_acknowledged_in_time_has_failed(runtime: Runtime) -> None:
    """It comes again, and what comes too late from the first time does not count."""
    bus = await runtime.spawn(Bus)
    ref, got = await worker(runtime, "silence")
    await subscribe(bus, "**", ref, name="w", attempts=2, retry=0.5, ack_within=5.0)
    await publish(bus, signal("a"))
    await advance(6.0)
    await settled(runtime)
    assert got == [("a", 1), ("a", 2)]
    await advance(6.0)
    (letter,) = await dead_letters(bus, "w")
    assert letter.why.startswith("it was not acknowledged within 5 s")
    bus.cast(Acknowledgement("w", 1, 1, None))
    bus.cast(Acknowledgement("w", 1, 2, "late"))
    bus.cast(Acknowledgement("nobody", 1, 1, None))
    assert (await subscriptions(bus))["w"].late_answers == 2
    await publish(bus, signal("b"))
    await unsubscribe(bus, "w")
    await advance(20.0)
    assert len(got) == 3


async def test_an_agent_acknowledges_when_its_turn_is_over(runtime: Runtime) -> None:
    """A failed action comes again; what can never succeed is dead at once; a slow one is waited for."""
    bus = await runtime.spawn(Bus)
    counter = await start_agent(runtime, Counter)
    assert isinstance(counter.address, Ref)
    await subscribe(bus, "**", counter.address, name="c", attempts=2, retry=1.0)
    for n, type in enumerate(("counter.add", "counter.slow", "counter.fail", "counter.unknown")):
        await publish(bus, Signal(type=type, source="/", id=str(n), data={}))
    await advance(5.0)
    await settled(runtime)
    assert counter.state.count == 2
    letters = await dead_letters(bus)
    assert [letter.recorded.signal.type for letter in letters] == ["counter.unknown", "counter.fail"]
    assert [letter.attempts for letter in letters] == [1, 2]
    assert "no route" in letters[0].why
    assert "no reason" in letters[1].why


async def test_the_log_is_bounded(runtime: Runtime) -> None:
    """What is too old is forgotten, and a dead letter where it was not dealt with, to be delivered from there."""
    bus = await runtime.spawn(Bus, keep=3)
    ref, got = await worker(runtime, "silence")
    await subscribe(bus, "order.*", ref, name="w", in_flight=1)
    await publish(bus, signal(1), signal(2, "weather"), signal(3), signal(4), signal(5))
    assert [one.signal.id for one in await read_log(bus)] == ["3", "4", "5"]
    (letter,) = await dead_letters(bus)
    assert (letter.recorded.signal.id, letter.attempts) == ("1", 0)
    assert "before the log was full" in letter.why
    await ref.stop()
    await settled(runtime)
    assert await redrive(bus, "w") == 1
    good, more = await worker(runtime)
    await subscribe(bus, "order.*", good, name="w")
    await settled(runtime)
    assert [id for id, _ in more] == ["1", "3", "4", "5"]
    assert (await dead_letters(bus), len(got)) == ((), 1)


async def test_a_dead_letter_is_delivered_again_though_the_log_has_forgotten_it(runtime: Runtime) -> None:
    """What is delivered again is the letter, also when what waited was dropped meanwhile; without anybody it waits."""
    bus = await runtime.spawn(Bus, keep=2)
    ref, got = await worker(runtime, "silence")
    await subscribe(bus, "**", ref, name="w", in_flight=1)
    await publish(bus, *(signal(n) for n in range(1, 6)))
    assert [letter.recorded.signal.id for letter in await dead_letters(bus)] == ["1", "2", "3"]
    assert await redrive(bus, "nobody") == 0
    good, more = await worker(runtime)
    await subscribe(bus, "**", good, name="w")
    assert await redrive(bus, "w") == 3
    await settled(runtime)
    assert sorted(more) == [(str(n), 1) for n in range(1, 6)]
    await good.stop()
    await settled(runtime)
    await publish(bus, *(signal(n) for n in range(6, 10)))
    assert (await redrive(bus, "w"), await dead_letters(bus), len(got)) == (2, (), 1)
    assert await unsubscribe(bus, "w")
    nack, said = await worker(runtime, "nack")
    await subscribe(bus, "**", nack, name="n", retry=5.0)
    await publish(bus, signal("x"))
    await settled(runtime)
    await publish(bus, *(signal(n) for n in range(10, 12)))
    await advance(60.0)
    assert [pair for pair in said if pair[0] == "x"] == [("x", 1)]
    assert (await dead_letters(bus, "n"))[0].why == "it was not acknowledged before the log was full"


async def test_wrong_subscriptions_are_refused(runtime: Runtime) -> None:
    """And the bus goes on."""
    bus = await runtime.spawn(Bus)
    ref, _ = await worker(runtime)
    wrong: list[dict[str, Any]] = [{"in_flight": 0}, {"attempts": 0}]
    for options in wrong:
        with pytest.raises(BadOption):
            await subscribe(bus, "**", ref, name="w", **options)
    with pytest.raises(BadRoute):
        await subscribe(bus, "a..b", ref)
    with pytest.raises(BadRoute):
        await read_log(bus, "a..b")
    for arguments in ({"keep": 0}, {"ack_every": 0}):
        with pytest.raises(ValueError, match=r"keep|ack_every"):
            await runtime.spawn(Bus, None, **arguments)  # type: ignore[arg-type]
    assert bus.reason is None


# -- causality ---------------------------------------------------------------------------------------------------------


async def test_causes_and_effects_can_be_followed(runtime: Runtime) -> None:
    """From any signal in the log, in both directions; what is not there, or turns in a circle, ends the way."""
    bus = await runtime.spawn(Bus, keep=5)
    await publish(bus, signal("a"), signal("b", cause="a"), signal("c", cause="b"), signal("d", cause="a"))
    assert [one.id for one in await causal_chain(bus, "c")] == ["a", "b"]
    assert [one.id for one in await causal_chain(bus, "a", "effects")] == ["b", "d", "c"]
    assert [await causal_chain(bus, id) for id in ("a", "nobody")] == [(), ()]
    assert await causal_chain(bus, "nobody", "effects") == ()
    await publish(bus, signal("x", cause="y"), signal("y", cause="x"))
    assert [one.id for one in await causal_chain(bus, "x")] == ["y"]
    assert [one.id for one in await causal_chain(bus, "x", "effects")] == ["y"]
    assert [one.id for one in await causal_chain(bus, "c")] == ["b"]


@given(st.lists(st.integers(0, 6), max_size=12))
def test_chains_agree_with_the_parents(parents: list[int]) -> None:
    """In any forest: the causes of a signal are the way to its root, its effects all that leads to it."""
    causes = Causes()
    for n, parent in enumerate(parents):
        causes.add(signal(n, cause=str(parent) if parent < n else None))
    for n in range(len(parents)):
        way: list[str] = []
        at = n
        while parents[at] < at:
            at = parents[at]
            way.append(str(at))
        assert [one.id for one in causes.causes(str(n))] == way[::-1]
        below = {one.id for one in causes.effects(str(n))}
        assert below == {str(m) for m in range(len(parents)) if str(n) in {one.id for one in causes.causes(str(m))}}


# -- what survives -----------------------------------------------------------------------------------------------------


def test_what_was_published_is_delivered_after_a_restart_of_the_process() -> None:
    """At least once; what was acknowledged, and written, does not come again; dead letters are still there."""
    storage = MemoryStorage()

    async def first() -> None:
        async with Runtime(watchdog=None, reports=False) as runtime:
            bus = await runtime.spawn(Bus, storage)
            good, got = await worker(runtime)
            bad, _ = await worker(runtime, "nack")
            await subscribe(bus, "**", good, name="good")
            await subscribe(bus, "**", bad, name="bad", attempts=1)
            await publish(bus, signal(1), signal(2))
            bus.cast(signal(3))
            await advance(2.0)
            assert [id for id, _ in got] == ["1", "2", "3"]
            await good.stop()
            await settled(runtime)
            await publish(bus, signal(4))
            await settled(runtime)
            bus.kill()

    async def second() -> None:
        async with Runtime(watchdog=None, reports=False) as runtime:
            bus = await runtime.spawn(Bus, storage, keep=2)
            assert [letter.recorded.signal.id for letter in await dead_letters(bus)] == ["1", "2", "3"]
            good, got = await worker(runtime)
            await subscribe(bus, "**", good, name="good")
            bad, again = await worker(runtime)
            await subscribe(bus, "**", bad, name="bad")
            await settled(runtime)
            assert [id for id, _ in got] == ["4"]
            assert [id for id, _ in again] == ["4"]
            assert (await publish(bus, signal(5)))[0].sequence == 5
            await bus.stop()
        assert [version for version, _ in await storage.entries("bus", 0)] == [4, 5]

    run(first())
    run(second())


async def test_what_cannot_be_written_is_not_published(runtime: Runtime) -> None:
    """The publisher gets the error, and nobody gets the signal; what is kept and cannot be read is left alone."""
    storage = MemoryStorage()
    bus = await runtime.spawn(Bus, storage)
    heard: list[Any] = []
    await subscribe(bus, "**", await runtime.spawn(Listener, heard))
    await publish(bus, signal(1))
    await storage.write("bus", 9, expected=1, entries=[(9, b"somebody else's")])
    with pytest.raises(StorageConflict):
        await publish(bus, signal(2))
    await settled(runtime)
    assert len(heard) == 1
    with pytest.raises(StartError, match="checksum"):
        await runtime.spawn(Bus, storage)
    bus.kill()
    empty = MemoryStorage()
    quiet = await runtime.spawn(Bus, empty)
    ref, _ = await worker(runtime)
    await subscribe(quiet, "**", ref, name="w")
    await quiet.stop()
    again = await runtime.spawn(Bus, empty)
    assert (await subscriptions(again))["w"].waiting == 0
    await empty.write("bus", 1, expected=None, checkpoint=b"\0\0\0\0")
    await empty.delete("bus/subscriptions")
    again.kill()
    with pytest.raises(StartError):
        await runtime.spawn(Bus, empty)
