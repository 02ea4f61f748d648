"""A service of durable agents that can be cut at each of its points: each write, and each delivery of an effect.

It is what a process is, seen from outside: at the cut it stops, with what is stored and done until then; the next life
begins with that. Who asks for orders, asks again until there is an answer. In the end the state, and the ledger of what
was done, have to be those of a service that was never cut.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from agents import Action, AgentServer, AgentType, Chain, Context, Emit, Failure, Result, Schedule, Signal
from agents.durability import AgentCommit, Durability
from agents.server.messages import Ask, Reply
from agents.signals import Bus, subscribe
from agents.signals.messages import Deliver
from supervision import Actor, ChildSpec, Ref, Runtime, Supervisor, handle, system
from supervision.testing import advance
from tests.agents.cuts import CutPlace, CutStorage, one_life

NO_STOCK = "there is none of it"
#: Orders by number; the second one is refused after a place was reserved for it.
ORDERS, REFUSED = (1, 2, 3), 2
DESK = "/desk/d"
#: The world at hand.
WORLD: list[World] = []


class Done(msgspec.Struct, frozen=True):
    """A line of the ledger of the receiver of effects: a token, what was done, and when."""

    token: str
    kind: str
    data: dict[str, Any]
    at: float


class PointedStorage(CutStorage):
    """A storage with a point before and after each write."""

    async def commit(self, commit: AgentCommit) -> None:
        """Write, with a point on either side."""
        books = any(row.kind == "effect" and b"booked" in row.body for row in commit.put)
        marks = commit.key == DESK and any(kind == "effect" for kind, _ in commit.drop)
        await self.place.point("P4" if books else "P9" if marks else f"write {commit.key}")
        await super().commit(commit)
        open_rows = any(row == "effect" for row, _ in self._kept[commit.key].rows)
        after = "P5" if books else f"written {commit.key}"
        await self.place.point(("P10" if open_rows else "P11") if marks and not books else after)

    async def write(self, key: str, *args: Any, **options: Any) -> None:
        """Write, with a point on either side."""
        await self.place.point(f"write {key}")
        await super().write(key, *args, **options)
        await self.place.point(f"written {key}")


class World(CutPlace):
    """What outlives a process: the storage, the ledger, and what was acknowledged.

    Args:
        cut: says whether the process at hand is cut at the point with this name.
        act: is called at each point at which it is not, with its name, and may raise or do something.
        until: how many seconds are waited until all is over.
    """

    kind = PointedStorage

    def __init__(
        self,
        cut: Callable[[World, str], bool] = lambda world, name: False,
        act: Callable[[World, str], Awaitable[None]] | None = None,
        until: float = 120.0,
    ) -> None:
        super().__init__()
        self.ledger: list[Done] = []
        self.redelivered = 0
        self.acknowledged: dict[int, Reply[Any]] = {}
        self.refused: set[int] = set()
        self.report: Report | None = None
        self.runtime: Runtime | None = None
        self.until = until
        #: How often what is to happen has happened, and what it has begun.
        self.happened = 0
        self.tasks: list[asyncio.Future[Any]] = []
        self._cut = cut
        self._act = act

    def ref(self, name: str) -> Ref:
        """Return the holder of a name in the life at hand."""
        assert self.runtime is not None
        found = self.runtime.whereis(name)
        assert found is not None
        return found

    def cuts(self, name: str) -> bool:
        """Return what was given says."""
        return self._cut(self, name)

    async def passed(self, name: str) -> None:
        """Do what was given."""
        if self._act is not None:
            await self._act(self, name)

    async def do(self, token: str, kind: str, data: dict[str, Any]) -> None:
        """Do something outside, once for each token."""
        await self.point("P7" if kind == "booked" else f"before {kind}")
        assert self.runtime is not None
        if any(one.token == token for one in self.ledger):
            self.redelivered += 1
        else:
            self.ledger.append(Done(token, kind, data, self.runtime.clock.wall_time()))
        await self.point("P8" if kind == "booked" else f"after {kind}")


# -- the service -------------------------------------------------------------------------------------------------------


class DeskState(msgspec.Struct, frozen=True):
    """How many orders were taken, and how many timers have come."""

    orders: int = 0
    reminders: int = 0


class Look(Action[Any]):
    """Take an order up."""

    n: int

    async def run(self, context: Context[Any]) -> None:
        """Do nothing yet."""
        await WORLD[0].point("P1")


class Step(Action[Any]):
    """Something outside that can be undone."""

    n: int

    async def run(self, context: Context[Any]) -> None:
        """Do it."""
        await WORLD[0].do(context.token, type(self).__name__.lower(), {"n": self.n, "run": context.run})

    async def compensate(self, context: Context[Any], done: Any, error: Exception) -> None:
        """Undo it."""
        await WORLD[0].do(context.token, f"un{type(self).__name__.lower()}", {"n": self.n, "run": context.run})


class Reserve(Step):
    """Reserve a place."""


class Charge(Step):
    """Charge a card; or find that there is nothing to sell."""

    async def run(self, context: Context[Any]) -> None:
        """Do it."""
        await super().run(context)
        await WORLD[0].point("P2")
        if self.n == REFUSED:
            raise Failure(NO_STOCK)


class Book(Action[DeskState]):
    """Take the order, and decide on what follows from it."""

    n: int

    async def run(self, context: Context[DeskState]) -> Result[DeskState]:
        """Take it."""
        await WORLD[0].point("P3")
        count, data = context.state.orders + 1, {"n": self.n, "count": context.state.orders + 1}
        effects = (
            Emit("booked", {**data, "run": context.run}, to="ledger"),
            Emit("sent", data, to="ledger"),
            Emit("counted", data, to="tally"),
            Emit("counted", data, to="bus"),
            Schedule(10.0, "remind", {"n": self.n, "due": context.now() + 10.0}),
        )
        return Result(DeskState(count, context.state.reminders), effects)


class Remind(Action[DeskState]):
    """A timer has come."""

    n: int
    due: float

    def run(self, context: Context[DeskState]) -> Result[DeskState]:
        """Tell it."""
        state = DeskState(context.state.orders, context.state.reminders + 1)
        early = context.now() < self.due
        return Result(state, (Emit("reminded", {"n": self.n, "early": early}, to="ledger"),))


class Desk(AgentType[DeskState]):
    """Takes orders."""

    name = "desk"
    routes = {"order": Chain(Look, Reserve, Charge, Book), "remind": Remind}


class TallyState(msgspec.Struct, frozen=True):
    """The last number that was told, and how many were not the next one."""

    count: int = 0
    mistakes: int = 0


class Count(Action[TallyState]):
    """Take note of a number."""

    count: int

    def run(self, context: Context[TallyState]) -> TallyState:
        """Take note of it."""
        state = context.state
        return TallyState(self.count, state.mistakes + (self.count != state.count + 1))


class Tally(AgentType[TallyState]):
    """Takes note of numbers."""

    name = "tally"
    routes = {"counted": Count}


class Receiver(Actor):
    """Receives effects, and knows tokens."""

    @handle
    async def take(self, request: Deliver) -> None:
        """Do what is asked, once."""
        signal = request.signal
        await WORLD[0].do(signal.id, signal.type, signal.data)


class Report(msgspec.Struct, frozen=True):
    """How a service is in the end."""

    desk: DeskState
    tally: TallyState
    audit: TallyState
    open: dict[str, int]


# -- lives -------------------------------------------------------------------------------------------------------------


async def live(world: World) -> World:
    """Let a service take all orders, over as many lives as it takes, and end what follows from them."""
    WORLD[:] = [world]
    while world.report is None:
        await one_life(world, _life)
    return world


async def _life(runtime: Runtime, world: World) -> None:
    world.runtime = runtime
    durability = Durability(world.storage)

    def agent(kind: type[AgentType[Any]], id: str, name: str) -> ChildSpec:
        return ChildSpec(name, AgentServer, (kind,), {"id": id, "durability": durability}, name=name)

    children = [
        ChildSpec("bus", Bus, (world.storage,), {"ack_every": 0.1}, name="bus"),
        ChildSpec("ledger", Receiver, name="ledger"),
        agent(Tally, "tally", "tally"),
        agent(Tally, "audit", "audit"),
        agent(Desk, "d", "desk"),
    ]
    await runtime.spawn(Supervisor, children, max_restarts=1_000)
    await subscribe(runtime.name("bus"), "counted", runtime.name("audit"), name="audit", attempts=50)
    for n in ORDERS:
        if n not in world.acknowledged:
            await _order(runtime, world, n)
    await advance(world.until)
    await asyncio.gather(*world.tasks, return_exceptions=True)
    states = [await system.get_state(runtime.name(name)) for name in ("desk", "tally", "audit")]
    counts = [one["keeping"].counts() for one in states]
    kinds = ("outbox", "effects", "timers", "sagas", "dead")
    still = {kind: sum(one[kind] for one in counts) for kind in kinds}
    bus = (await system.get_state(runtime.name("bus")))["_subscriptions"]["audit"]
    desk, tally, audit = (one["agent"].state for one in states)
    world.report = Report(desk, tally, audit, {**still, "bus": len(bus.rows) + len(bus.dead)})


async def _order(runtime: Runtime, world: World, n: int) -> None:
    """Ask for an order until there is an answer that says what has become of it."""
    while True:
        try:
            reply = await runtime.name("desk").call(
                Ask(Signal(type="order", source="/", id=str(n), data={"n": n})), 30.0
            )
        except Exception:
            await advance(0.1)
            continue
        errors = [one for one in reply.errors if one.stage != "effect"]
        if not errors or NO_STOCK in str(errors[-1].error):
            world.acknowledged[n] = reply
            if errors:
                world.refused.add(n)
            await world.point("P6" if n == ORDERS[0] else "answered")
            return
        await advance(0.1)


# -- promises ----------------------------------------------------------------------------------------------------------


def broken(world: World) -> dict[str, str]:
    """Return which promises were not kept, and how: by the letters of `promises.PROMISES`."""
    taken = [n for n in ORDERS if n not in world.refused]
    by_kind: dict[str, list[Done]] = {}
    for one in world.ledger:
        by_kind.setdefault(one.kind, []).append(one)
    found = {**_of_state(world, taken), **_of_effects(taken, by_kind)}
    reminded = by_kind.get("reminded", [])
    if sorted(one.data["n"] for one in reminded) != taken or any(one.data["early"] for one in reminded):
        found["T"] = f"reminded: {reminded}"
    return {**found, **_of_steps(by_kind)}


def _of_state(world: World, taken: list[int]) -> dict[str, str]:
    report, found = world.report, {}
    assert report is not None
    if report.desk.orders < len(taken):
        found["A"] = f"{report.desk.orders} orders are kept of {taken}"
    if report.desk.orders > len(taken) or world.refused != {REFUSED}:
        found["S"] = f"{report.desk.orders} orders were taken for {taken}, and {world.refused} refused"
    if report.open != dict.fromkeys(report.open, 0) or {report.tally, report.audit} != {TallyState(len(taken))}:
        found["E"] = f"still open: {report.open}, told: {report.tally}, {report.audit}"
    if report.desk.reminders != len(taken):
        found["T"] = f"reminded {report.desk.reminders} times"
    return found


def _of_effects(taken: list[int], by_kind: dict[str, list[Done]]) -> dict[str, str]:
    found = {}
    for kind in ("booked", "sent"):
        numbers = [one.data["n"] for one in by_kind.get(kind, [])]
        if sorted(numbers) != taken:
            found["E"] = f"{kind}: {numbers}"
        if numbers != sorted(numbers):
            found["O"] = f"{kind}: {numbers}"
    return found


def _of_steps(by_kind: dict[str, list[Done]]) -> dict[str, str]:
    def runs(kind: str) -> list[tuple[int, int]]:
        return [(one.data["n"], one.data["run"]) for one in by_kind.get(kind, [])]

    committed = set(runs("booked"))
    for kind in ("reserve", "charge"):
        begun, undone = runs(kind), runs(f"un{kind}")
        if {*begun} - {*undone} != committed or committed & {*undone}:
            return {"C": f"{kind}: begun {begun}, undone {undone}, committed {committed}"}
        if len(begun) != len({*begun}) or len(undone) != len({*undone}):
            return {"C": f"{kind}: twice, under two tokens: begun {begun}, undone {undone}"}
    return {}
