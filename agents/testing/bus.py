"""The contract of buses. See `agents.testing`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias

from agents.core.execution import sleep
from agents.core.signal import Signal
from agents.signals import (
    Delivery,
    dead_letters,
    publish,
    read_log,
    redrive,
    subscribe,
    subscriptions,
    unsubscribe,
)
from agents.testing.contract import ContractCheck, same
from supervision import Actor, Address, Runtime, handle

#: Starts a bus in a runtime; in the next runtime the same bus, with what it has kept.
StartBus: TypeAlias = Callable[[Runtime], Awaitable[Address]]
_Check: TypeAlias = Callable[[StartBus], Coroutine[Any, Any, None]]
_checks: list[_Check] = []
#: So many seconds are waited for what is to happen.
_PATIENCE = 10.0


def bus_contract(make: Callable[[], StartBus]) -> list[ContractCheck]:
    """Return the checks of what a bus has to keep.

    Args:
        make: returns a function that starts a bus under which nothing is kept yet, each time another one. That function
            is called once in each of several runtimes, one after the other: in the second one it starts the same bus,
            with what it has kept. A bus is an actor that takes what `publish`, `subscribe` and the other functions of
            `agents.signals` ask for.

    >>> import asyncio
    >>> from agents.durability import MemoryStorage
    >>> from agents.signals import Bus
    >>> def make() -> StartBus:
    ...     storage = MemoryStorage()
    ...     return lambda runtime: runtime.spawn(Bus, storage, ack_every=0.01, name="bus")
    >>> for check in bus_contract(make):
    ...     asyncio.run(check())
    """
    return [ContractCheck(check.__name__.strip("_"), check, make) for check in _checks]


class _Subscriber(Actor):
    """Notes what it gets, and answers as the data of the signals say.

    Args:
        got: where it notes ids and attempts.
        answers: whether it answers at all.
    """

    def __init__(self, got: list[tuple[str, int]], answers: bool = True) -> None:
        self._got = got
        self._answers = answers

    @handle
    def take(self, delivery: Delivery) -> None:
        """Take a delivery."""
        self._got.append((delivery.signal.id, delivery.attempt))
        if not self._answers:
            return
        if delivery.signal.data is None:
            delivery.ack()
        else:
            delivery.nack("no", final=delivery.signal.data == "never")


def _signal(id: str, data: Any = None, type: str = "a.x", subject: str | None = None) -> Signal:
    return Signal(type=type, source="/contract", id=id, data=data, subject=subject)


async def _until(what: str, is_so: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something is so.

    Raises:
        AssertionError: it never is.
    """
    for _ in range(int(_PATIENCE / 0.01)):
        if await is_so():
            return
        await sleep(0.01)
    raise AssertionError(f"{what}: not within {_PATIENCE:g} s")


async def _until_settled(bus: Address, name: str) -> None:
    """Wait until a subscription has nothing open."""

    async def nothing() -> bool:
        one = (await subscriptions(bus))[name]
        return not one.waiting + one.sent + one.taken + one.backing_off

    await _until(f"nothing of {name} is open", nothing)


@_checks.append
async def _what_is_published_is_in_the_log_once_and_in_order(start: StartBus) -> None:
    async with Runtime(watchdog=None) as runtime:
        bus = await start(runtime)
        first = await publish(bus, _signal("1"), _signal("2", type="b"))
        again = await publish(bus, _signal("2", type="b"), _signal("3"))
        same("the log", [one.signal.id for one in await read_log(bus)], ["1", "2", "3"])
        same("by pattern", [one.signal.id for one in await read_log(bus, "a.*")], ["1", "3"])
        same("behind a place", [one.signal.id for one in await read_log(bus, since=first[0].sequence)], ["2", "3"])
        same("what was published again", again[0], first[1])


@_checks.append
async def _each_subscription_gets_what_matches_and_what_is_acknowledged_once(start: StartBus) -> None:
    got: list[tuple[str, int]] = []
    async with Runtime(watchdog=None) as runtime:
        bus = await start(runtime)
        await subscribe(bus, "a.*", await runtime.spawn(_Subscriber, got), name="s")
        await publish(bus, _signal("1"), _signal("2", type="b"), _signal("3"))
        await _until_settled(bus, "s")
        same("deliveries", got, [("1", 1), ("3", 1)])
        same("removed", (await unsubscribe(bus, "s"), await unsubscribe(bus, "s")), (True, False))
        await publish(bus, _signal("4"))
        same("deliveries", got, [("1", 1), ("3", 1)])


@_checks.append
async def _what_is_refused_comes_again_and_is_kept_when_it_is_given_up(start: StartBus) -> None:
    got: list[tuple[str, int]] = []
    async with Runtime(watchdog=None) as runtime:
        bus = await start(runtime)
        to = await runtime.spawn(_Subscriber, got)
        await subscribe(bus, "a.*", to, name="s", attempts=3, retry=0.01)
        await publish(bus, _signal("1", "no"), _signal("2", "never"))
        await _until_settled(bus, "s")
        same("deliveries of 1", [one for one in got if one[0] == "1"], [("1", 1), ("1", 2), ("1", 3)])
        same("deliveries of 2", [one for one in got if one[0] == "2"], [("2", 1)])
        letters = {one.recorded.signal.id: one.attempts for one in await dead_letters(bus, "s")}
        same("dead letters", letters, {"1": 3, "2": 1})
        same("redriven", await redrive(bus, "s", ids=["2"]), 1)
        await _until_settled(bus, "s")
        same("deliveries of 2", [one for one in got if one[0] == "2"], [("2", 1), ("2", 1)])
        same("forgotten", await redrive(bus, "s", forget=True), 2)
        same("dead letters", await dead_letters(bus, "s"), ())


@_checks.append
async def _what_a_receiver_has_when_it_ends_is_for_its_next_incarnation(start: StartBus) -> None:
    got: list[tuple[str, int]] = []
    async with Runtime(watchdog=None) as runtime:
        bus = await start(runtime)
        await subscribe(bus, "a.*", runtime.name("late"), name="s")
        await publish(bus, _signal("1"))
        first = await runtime.spawn(_Subscriber, got, False, name="late")

        async def delivered() -> bool:
            return bool(got)

        await _until("it is delivered to who comes later", delivered)
        first.kill()
        await runtime.spawn(_Subscriber, got, name="late")
        await _until_settled(bus, "s")
        same("deliveries", [id for id, _ in got], ["1", "1"])


@_checks.append
async def _members_share_a_subscription_and_each_key_is_in_order(start: StartBus) -> None:
    got: list[tuple[str, int]] = []
    async with Runtime(watchdog=None) as runtime:
        bus = await start(runtime)
        for member in ("one", "two", "three"):
            await runtime.spawn(_Subscriber, got, name=member)
            await subscribe(bus, "a.*", runtime.name(member), name="s", member=member, key="subject")
        ids = [f"{key}{n}" for n in range(10) for key in "abcde"]
        await publish(bus, *(_signal(id, subject=id[0]) for id in ids))
        await _until_settled(bus, "s")
        for key in "abcde":
            same(f"key {key}", [id for id, _ in got if id[0] == key], [f"{key}{n}" for n in range(10)])


@_checks.append
async def _what_is_open_and_dead_is_there_after_a_restart(start: StartBus) -> None:
    got: list[tuple[str, int]] = []
    async with Runtime(watchdog=None) as runtime:
        bus = await start(runtime)
        await runtime.spawn(_Subscriber, got, name="s")
        await subscribe(bus, "a.*", runtime.name("s"), name="s")
        await publish(bus, _signal("1"), _signal("2", "never"))
        await _until_settled(bus, "s")
        await subscribe(bus, "a.*", runtime.name("nobody"), name="open", since=0)
    async with Runtime(watchdog=None) as runtime:
        bus = await start(runtime)
        same("the log", [one.signal.id for one in await read_log(bus)], ["1", "2"])
        same("dead letters", [one.recorded.signal.id for one in await dead_letters(bus, "s")], ["2"])
        await runtime.spawn(_Subscriber, got, name="nobody")
        await _until_settled(bus, "open")
        same("deliveries", sorted(id for id, _ in got), ["1", "1", "2", "2"])
