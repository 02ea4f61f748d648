"""Whatever a caller gives a bus by mistake or in malice, it is told what is wrong, and nobody else notices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from itertools import count
from typing import Any

import pytest

from agents import PublishRefused, Signal
from agents.core.router import Router
from agents.durability import MemoryStorage
from agents.errors import AgentError, BadRoute, BadSignal
from agents.events import PublishFailed
from agents.signals import (
    Bus,
    Delivery,
    causal_chain,
    dead_letters,
    publish,
    read_log,
    redrive,
    replay,
    subscribe,
    subscriptions,
    unsubscribe,
)
from agents.signals.messages import (
    Acknowledgement,
    GetCausalChain,
    GetDeadLetters,
    GrantCredit,
    Publish,
    ReadLog,
    Redrive,
    Replay,
    StillWorking,
    Subscribe,
    SubscriptionOptions,
    TakenUp,
    Unsubscribe,
)
from supervision import Actor, Address, Ref, Request, Runtime, SpecError, handle
from supervision.errors import BadOption, BadTime
from supervision.testing import advance, settled
from supervision.testing.nasty import NASTY

#: Mistakes of an ordinary day, besides all that is nasty.
ORDINARY: Mapping[str, Callable[[], Any]] = {
    "a name": lambda: "billing",
    "a long number": lambda: 2**62,
    "a signal as a mapping": lambda: {"type": "x"},
    "a text in a list": lambda: ["1"],
    "extensions with an odd cause": lambda: {"causationid": []},
    "extensions with a number as the cause": lambda: {"causationid": 5},
    "extensions with an odd trace": lambda: {"traceparent": "\ud800", "tracestate": 5},
    "a type with many segments": lambda: "x." * 3000 + "y",
    "a pattern with many wildcards": lambda: "**.x." * 20 + "y",
}
EVERYTHING = {**NASTY, **ORDINARY}


class Acker(Actor):
    """Acknowledges what it gets."""

    def __init__(self) -> None:
        self.got: list[str] = []
        GOT.append(self.got)

    @handle
    def deal(self, delivery: Delivery) -> None:
        """Acknowledge it."""
        self.got.append(delivery.signal.id)
        delivery.ack()

    @handle
    def hear(self, signal: Signal) -> None:
        """Hear it."""


class Refuser(Actor):
    """Refuses what it gets in the way that the test says; goes on when that is refused to it."""

    def __init__(self, **how: Any) -> None:
        self._how = how

    @handle
    def deal(self, delivery: Delivery) -> None:
        """Refuse it the first time."""
        TRIED.append(delivery.attempt)
        try:
            delivery.nack(**{"why": "no", **(self._how if delivery.attempt == 1 else {})})
        except (BadOption, BadTime) as error:
            REFUSED.append(error)
            delivery.nack("no")


NUMBERS = count()
GOT: list[list[str]] = []
TRIED: list[int] = []
REFUSED: list[SpecError] = []


@pytest.fixture(autouse=True)
def _nothing_yet() -> None:
    for one in (GOT, TRIED, REFUSED):
        one.clear()


def signal(**given: Any) -> Signal:
    """Return a signal."""
    return Signal(**{"type": "x.y", "source": "/", "id": "1", **given})


def delivered(bus: Address) -> Delivery:
    """Return a delivery as a receiver of the subscription ``probe`` has it."""
    return Delivery(signal(), 1, 1, "probe", bus)


async def published(bus: Ref, **given: Any) -> None:
    """Publish a signal made of this, with an answer and without."""
    for source in ("/cast", "/asked"):
        made = signal(**{"source": f"{source}/{next(NUMBERS)}", **given})
        if source == "/cast":
            bus.cast(made)
        else:
            await publish(bus, made)


async def subscribed(bus: Ref, pattern: Any = "other.**", to: Any = "nobody", **given: Any) -> None:
    """Subscribe, and undo that."""
    await unsubscribe(bus, await subscribe(bus, pattern, to, **given))


async def sent(bus: Ref, kind: type[Any], given: dict[str, Any]) -> None:
    """Send a message that somebody has made himself."""
    message = kind(**given)
    if isinstance(message, Request):
        await bus.call(message)
    else:
        bus.cast(message)


OPTIONS: dict[str, Any] = {
    "in_flight": 1,
    "attempts": 1,
    "retry": 0.1,
    "ack_within": 1.0,
    "max_lease": 1.0,
}

#: Every operation on a bus: what does it, and right arguments, of which one at a time is a nasty one.
OPERATIONS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "publish": (lambda bus, one: publish(bus, signal(), one), {"one": signal()}),
    "publish a signal of": (
        published,
        {
            "type": "x.z",
            "id": "1",
            "subject": "a",
            "time": None,
            "data": 1,
            "datacontenttype": None,
            "dataschema": None,
            "extensions": {},
            "specversion": "1.0",
        },
    ),
    "publish a signal from": (published, {"source": "/"}),
    "subscribe": (
        subscribed,
        {"pattern": "a", "to": "a", "name": "n", "since": 0, "member": "m", "key": "subject", **OPTIONS},
    ),
    "subscribe without a name": (subscribed, {"pattern": "a", "to": "a", "since": 0, **OPTIONS}),
    "unsubscribe": (unsubscribe, {"name": "n", "member": "m"}),
    "read_log": (read_log, {"pattern": "**", "since": 0, "limit": 1}),
    "dead_letters": (dead_letters, {"subscription": "n"}),
    "redrive": (redrive, {"subscription": "probe", "limit": 1, "ids": ["1"], "forget": False}),
    "replay": (replay, {"subscription": "probe", "since": 0, "until": 1, "limit": 1}),
    "causal_chain": (causal_chain, {"id": "1", "direction": "causes"}),
    "nack": (lambda bus, **given: delivered(bus).nack(**given), {"why": "no", "final": False, "delay": 1.0}),
    "grant": (lambda bus, **given: delivered(bus).grant(**given), {"credit": 1}),
}
ANSWER: dict[str, Any] = {"subscription": "probe", "sequence": 1, "attempt": 1}
MESSAGES: dict[type[Any], dict[str, Any]] = {
    Publish: {"signals": (signal(),)},
    Subscribe: {
        "options": SubscriptionOptions("other"),
        "to": "nobody",
        "name": "n",
        "since": None,
        "member": None,
    },
    SubscriptionOptions: {"pattern": "other", "key": None, **OPTIONS},
    Unsubscribe: {"name": "n", "member": None},
    Acknowledgement: {**ANSWER, "why": None, "final": False, "delay": None},
    TakenUp: ANSWER,
    StillWorking: ANSWER,
    GrantCredit: {"subscription": "probe", "member": "", "credit": 1},
    ReadLog: {"pattern": "**", "since": 0, "limit": None},
    GetDeadLetters: {"subscription": None},
    Redrive: {"subscription": "probe", "limit": None, "ids": frozenset({"1"}), "forget": False},
    Replay: {"subscription": "probe", "since": 0, "until": None, "limit": None},
    GetCausalChain: {"id": "1", "direction": "causes"},
}


def _entered(kind: type[Any]) -> Callable[..., Any]:
    if kind is SubscriptionOptions:
        return lambda bus, **given: sent(bus, Subscribe, {**MESSAGES[Subscribe], "options": kind(**given)})
    return lambda bus, **given: sent(bus, kind, given)


OPERATIONS.update({f"< {kind.__name__}": (_entered(kind), valid) for kind, valid in MESSAGES.items()})


KEPT = [(name, True) for name in OPERATIONS] + [(name, False) for name in OPERATIONS if name[0] != "<"]


@pytest.mark.parametrize(("name", "kept"), KEPT)
async def test_whatever_a_caller_gives_the_bus_goes_on_delivering(runtime: Runtime, name: str, kept: bool) -> None:
    storage = MemoryStorage() if kept else None
    bus = await runtime.spawn(Bus, storage, name="bus")
    await runtime.spawn(Acker, name="acker")
    await subscribe(bus, "probe", "acker", name="probe", key="data.x")
    await subscribe(bus, "x.**", "acker", name="all", key="data.real.imag")
    await subscribe(bus, "x.**", "acker", name="by subject", key="subject")
    await subscribe(bus, "x.**", "acker")
    call, valid = OPERATIONS[name]
    harm: list[str] = []
    told: list[str] = []
    for argument in valid:
        for what, make in EVERYTHING.items():
            try:
                done = call(bus, **{**valid, argument: make()})
                if done is not None:
                    await done
            except (SpecError, AgentError) as error:
                told.append(str(error))
            except Exception as error:
                harm.append(f"{argument} is {what}: {type(error).__name__}")
            await publish(bus, Signal(type="probe", source=argument, id=what))
    assert harm == []
    assert told
    assert all(told)
    await advance(100.0)
    assert bus.alive
    bus = await restarted(runtime, bus, storage)
    await publish(bus, signal(type="probe", id="the last one"))
    await settled(runtime)
    assert GOT[0][-1] == "the last one"
    assert set(EVERYTHING) <= set(GOT[0]), "each probe was delivered"
    await ended(runtime, bus)


async def restarted(runtime: Runtime, bus: Ref, storage: MemoryStorage | None) -> Ref:
    """Return the bus, or what reads its storage after its death."""
    if storage is None:
        return bus
    bus.kill()
    await settled(runtime)
    return await runtime.spawn(Bus, storage, name="bus")


async def ended(runtime: Runtime, *refs: Ref) -> None:
    """Let actors end."""
    for ref in (*refs, runtime.whereis("acker")):
        if ref is not None:
            await ref.stop()
    await settled(runtime)


# -- what the remedies say ---------------------------------------------------------------------------------------------


async def test_a_subscriber_can_be_given_by_its_name(runtime: Runtime) -> None:
    bus = await runtime.spawn(Bus)
    assert await subscribe(bus, "x.**", "acker", name="billing") == "billing"
    await publish(bus, signal())
    await runtime.spawn(Acker, name="acker")
    await settled(runtime)
    assert GOT == [["1"]]
    for wrong in (5, None, runtime, "", "\ud800", runtime.name("\ud800")):
        with pytest.raises(BadOption, match="subscribe: to"):
            await subscribe(bus, "x.**", wrong, name="other")  # type: ignore[arg-type]
    assert list(await subscriptions(bus)) == ["billing"], "nothing was changed"
    await ended(runtime, bus)


async def test_what_is_no_signal_is_not_published_nor_what_came_with_it(runtime: Runtime) -> None:
    bus = await runtime.spawn(Bus)
    with pytest.raises(BadSignal, match=r"\{'type': 'order.placed'\}: give a Signal"):
        await publish(bus, signal(), {"type": "order.placed"})  # type: ignore[arg-type]
    events: list[PublishFailed] = []
    watching = runtime.subscribe(events.append, PublishFailed)
    for wrong, why in (
        ({"subject": NASTY["a text that cannot be shown"]()}, "its subject is <_Text"),
        ({"extensions": {"causationid": 5}}, "its causationid is 5"),
        ({"extensions": Unreadable()}, "its extensions cannot be read"),
        ({"type": NASTY["a text that cannot be shown"]()}, "its type is <_Text"),
    ):
        with pytest.raises(PublishRefused, match=why):
            await publish(bus, signal(), signal(**wrong, id="2"))
    assert await read_log(bus) == ()
    assert len(events) == 8
    watching.close()
    for wrong in (
        {"time": 5},
        {"specversion": 1},
        {"extensions": {5: 1}},
        {"extensions": NASTY["a mapping that tells nothing"]()},
    ):
        with pytest.raises(BadSignal):
            signal(**wrong)
    await ended(runtime, bus)


class Unreadable(dict[str, Any]):
    """A mapping that cannot be read."""

    def get(self, key: str, default: Any = None) -> Any:
        """Raise."""
        raise RuntimeError(key)


async def test_ids_are_many(runtime: Runtime) -> None:
    bus = await runtime.spawn(Bus)
    several: tuple[Any, ...] = ("12", 5, [5], [[]])
    for wrong in several:
        with pytest.raises(BadOption, match=r"give the ids of signals"):
            await redrive(bus, "n", ids=wrong)
    with pytest.raises(BadOption, match="forget = 'no': give True or False"):
        await redrive(bus, "n", forget="no")  # type: ignore[arg-type]
    await ended(runtime, bus)


class Topic(StrEnum):
    """Texts of a program."""

    ORDERS = "orders"


async def test_texts_of_an_enumeration_are_texts(runtime: Runtime) -> None:
    storage = MemoryStorage()
    bus = await runtime.spawn(Bus, storage, name="bus")
    await runtime.spawn(Acker, name="acker")
    await subscribe(bus, Topic.ORDERS, "acker", name=Topic.ORDERS)
    await publish(bus, signal(type=Topic.ORDERS))
    await settled(runtime)
    assert GOT == [["1"]]
    bus = await restarted(runtime, bus, storage)
    assert list(await subscriptions(bus)) == ["orders"]
    await ended(runtime, bus)


async def test_a_pattern_with_half_a_character_is_refused(runtime: Runtime) -> None:
    bus = await runtime.spawn(Bus)
    with pytest.raises(BadOption, match="half a character"):
        await subscribe(bus, "\ud800", "acker")
    with pytest.raises(BadRoute):
        await subscribe(bus, 5, "acker")  # type: ignore[arg-type]
    await ended(runtime, bus)


# -- retries -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [math.nan, math.inf, -math.inf, -1, 10**400, "1", object()])
async def test_a_delay_that_is_none_is_refused_and_stops_no_retries(runtime: Runtime, delay: Any) -> None:
    bus = await runtime.spawn(Bus)
    refuser = await runtime.spawn(Refuser, delay=delay)
    await subscribe(bus, "x.**", refuser, name="s", attempts=3, retry=1.0)
    await publish(bus, *(signal(id=str(n)) for n in range(3)))
    await advance(60.0)
    assert (len(REFUSED), len(TRIED)) == (3, 9)
    assert all(isinstance(error, BadTime) and "nack: delay" in str(error) for error in REFUSED)
    assert len(await dead_letters(bus, "s")) == 3
    await ended(runtime, bus, refuser)


async def test_a_reason_that_cannot_be_written_is_written_with_escapes(runtime: Runtime) -> None:
    storage = MemoryStorage()
    bus = await runtime.spawn(Bus, storage, name="bus")
    refuser = await runtime.spawn(Refuser, why="half \ud800", final=True)
    await subscribe(bus, "x.**", refuser, name="s")
    await publish(bus, signal())
    await advance(10.0)
    bus = await restarted(runtime, bus, storage)
    (letter,) = await dead_letters(bus, "s")
    assert letter.why == "half \\ud800"
    await ended(runtime, bus, refuser)


# -- routes ------------------------------------------------------------------------------------------------------------


def test_no_pattern_takes_long_or_is_too_deep() -> None:
    """Each place of a pattern is met once with each rest of a type."""
    router = Router([("**.a." * 20 + "b", 1), ("**.a." * 20 + "**", 2), ("x." * 5000 + "y", 3)])
    assert router.route(".".join("a" * 40)) == (2,)
    assert router.route("a." * 40 + "b") == (1, 2)
    assert router.route("x." * 5000 + "y") == (3,)
