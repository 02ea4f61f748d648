"""A bus whose process is cut at each of its writes: its log, its subscriptions, and what it forgets, are several."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agents import Action, AgentServer, AgentType, Context, Signal
from agents.durability import AgentCommit, Durability
from agents.server.messages import GetView
from agents.signals import Bus, Delivery, bus_file, dead_letters, publish, redrive, subscribe
from supervision import Actor, ChildSpec, Runtime, Supervisor, handle
from supervision.testing import advance
from tests.agents.cuts import CutPlace, CutStorage, one_life

#: Signals by number. One of them is a dead letter at first, until it is redriven.
NUMBERS, DEAD = range(1, 9), 3


class Counted(msgspec.Struct, frozen=True):
    """The numbers that were counted."""

    numbers: tuple[int, ...] = ()


class Count(Action[Counted]):
    """Count a number."""

    n: int

    def run(self, context: Context[Counted]) -> Counted:
        """Count it."""
        return Counted((*context.state.numbers, self.n))


class Counter(AgentType[Counted]):
    """Knows tokens."""

    name = "counter"
    routes = {"counted": Count}


class PointedStorage(CutStorage):
    """A storage with a point before and behind each change."""

    async def commit(self, commit: AgentCommit) -> None:
        """Commit a turn of the receiver."""
        await self.place.point("before commit")
        await super().commit(commit)
        await self.place.point("after commit")

    async def write(self, key: str, *args: Any, **options: Any) -> None:
        """Write log or subscriptions."""
        await self.place.point(f"before {key}")
        await super().write(key, *args, **options)
        await self.place.point(f"after {key}")

    async def trim(self, key: str, upto: int) -> None:
        """Forget what is old."""
        await self.place.point(f"before trim of {key}")
        await super().trim(key, upto)
        await self.place.point(f"after trim of {key}")


class Place(CutPlace):
    """What outlives a process: what is stored, and what others were told.

    Args:
        cut: says at which points, by their numbers, a process is cut.
    """

    kind = PointedStorage

    def __init__(self, *cut: int) -> None:
        super().__init__()
        self.published: set[int] = set()
        self.redriven = False
        self.got: list[int] = []
        self.counted: tuple[int, ...] = ()
        self._cut = cut

    def cuts(self, name: str) -> bool:
        """Return whether it is cut at the point with this number."""
        return len(self.points) in self._cut


class Picky(Actor):
    """Takes what it gets; but one signal not before it is redriven."""

    def __init__(self, place: Place) -> None:
        self._place = place

    @handle
    def take(self, delivery: Delivery) -> None:
        """Take it, or not."""
        n = delivery.signal.data["n"]
        if n == DEAD and not self._place.redriven:
            delivery.nack("not now", final=True)
        else:
            self._place.got.append(n)
            delivery.ack()


async def live(place: Place) -> Place:
    """Have all signals published, over as many lives as it takes, and deliver what is to be delivered."""
    while not await one_life(place, _life):
        pass
    return place


async def _life(runtime: Runtime, place: Place) -> None:
    options = {"id": "c", "durability": Durability(place.storage)}
    children = [
        ChildSpec("bus", Bus, (place.storage,), {"ack_every": 0.1, "keep": 4}, name="bus"),
        ChildSpec("picky", Picky, (place,), name="picky"),
        ChildSpec("counter", AgentServer, (Counter,), options, name="counter"),
    ]
    await runtime.spawn(Supervisor, children)
    bus = runtime.name("bus")
    for name in ("counter", "picky"):
        await subscribe(bus, "counted", runtime.name(name), name=name, attempts=50)
    for n in NUMBERS:
        if n not in place.published:
            await publish(bus, Signal(type="counted", source="/", id=str(n), data={"n": n}))
            place.published.add(n)
            await advance(0.0 if n % 3 else 0.3)
    while not (place.redriven and DEAD in place.got):
        place.redriven = True
        if await dead_letters(bus, "picky"):
            await redrive(bus, "picky")
        await advance(1.0)
    await advance(10.0)
    place.counted = (await runtime.name("counter").call(GetView())).state.numbers
    assert await dead_letters(bus) == ()


@pytest.fixture(autouse=True)
def snapshots_are_frequent(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that there are some, and trims behind them."""
    monkeypatch.setattr(bus_file, "_SNAPSHOT_BYTES", 200)


def check(place: Place) -> None:
    """Check that nothing is lost, and nothing done twice by whoever knows tokens."""
    where = f"cut at {place._cut}: {[place.points[n - 1 : n] for n in place._cut]}"
    assert sorted(place.counted) == list(NUMBERS), where
    assert {*place.got} == {*NUMBERS}, where


async def _points() -> Place:
    place = await live(Place())
    check(place)
    assert (place.got.count(DEAD), len(place.got)) == (1, len(NUMBERS))
    return place


@pytest.mark.once
async def test_a_bus_that_is_cut_at_any_of_its_writes_loses_nothing_and_repeats_nothing() -> None:
    """For a receiver that knows tokens. Log, subscriptions, snapshots, trims, and what the receiver writes itself."""
    whole = await _points()
    kinds = {"bus", "bus/subscriptions", "trim of bus", "trim of bus/subscriptions", "commit"}
    assert {name.split(maxsplit=1)[1] for name in whole.points} == kinds
    deaths = 0
    for number in range(1, len(whole.points) + 1):
        place = await live(Place(number))
        check(place)
        deaths += place.deaths
    assert deaths > 50


@pytest.mark.once
async def test_a_bus_that_is_cut_twice_loses_nothing_either() -> None:
    """The second time in what the next one does first."""
    for number in range(1, len((await _points()).points) + 1):
        for more in (1, 2, 3):
            check(await live(Place(number, number + more)))


@pytest.mark.once
async def test_a_bus_that_answers_before_it_writes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or nothing would tell that it does not."""

    async def unwritten(*_: Any) -> None:
        """Write nothing."""

    monkeypatch.setattr(bus_file.BusFile, "append", unwritten)
    monkeypatch.setattr(bus_file.BusFile, "trim", unwritten)
    for number in range(1, len((await live(Place())).points) + 1):
        place = await live(Place(number))
        if {*place.got} != {*NUMBERS} or sorted(place.counted) != list(NUMBERS):
            return
    raise AssertionError("no cut has shown it")
