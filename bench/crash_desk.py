"""What the suite ``crash --agents`` kills: a service of durable agents that take orders.

An order is a saga: a place is reserved and a card is charged at the receiver of effects, another process; then the turn
is committed with all that follows from it: signals to a webhook, to another agent and to a bus, a timer, and an errand.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import httpx
import msgspec

from agents import (
    Action,
    AgentServer,
    AgentType,
    Attempts,
    Chain,
    Context,
    Emit,
    Failure,
    Result,
    RunInstruction,
    Schedule,
    Signal,
)
from agents.durability import Durability, SqliteStorage
from agents.instances import Instances, start_instances
from agents.server.messages import Ask
from agents.signals import Bus, subscribe, subscriptions
from agents.signals.sinks import Webhook
from supervision import ChildSpec, Runtime, Supervisor, system

#: So many desks take orders, each one after the other.
DESKS = 8
#: One order in so many is for something that there is not: it is refused, after a place was reserved.
REFUSED_EVERY = 7
#: For one order in so many there is a parcel: an instance that sleeps until its timer wakes it.
PARCEL_EVERY = 5
NO_STOCK = "there is none of it"
_ONCE = Attempts(timeout=5.0)
_AGAIN = Attempts(retries=50, backoff=0.05, max_backoff=0.5, timeout=5.0)
#: The requests of actions go through it.
_client: list[httpx.AsyncClient] = []


class Message(msgspec.Struct, frozen=True):
    """What the load asks of the service; without an order, how much is open."""

    desk: int = 0
    n: int = 0


class Answer(msgspec.Struct, frozen=True):
    """What became of an order: ``ok``, ``again`` (it was taken before), ``refused``, or ``failed``."""

    outcome: str
    why: str = ""


class Report(msgspec.Struct, frozen=True):
    """How the service is.

    Attributes:
        open: what is still to be carried out, by kind.
        dead: what was given up.
        orders: by desk, how many it has taken.
        tally: of the other agent, by desk, how many it was told of, through an outbox.
        audit: of another one, through a bus.
        mistakes: how many numbers these two were told out of their order, or twice.
    """

    open: dict[str, int]
    dead: int
    orders: dict[str, int]
    tally: dict[str, int]
    audit: dict[str, int]
    mistakes: int


async def tell_receiver(kind: str, token: str, **data: Any) -> None:
    """Have the receiver of effects do something, under a token."""
    body = msgspec.json.encode({"id": token, "type": kind, "data": data})
    answer = await _client[0].post("/", content=body)
    answer.raise_for_status()


# -- desks -------------------------------------------------------------------------------------------------------------


class DeskState(msgspec.Struct, frozen=True):
    """How many orders a desk has taken, and something that fills pages."""

    orders: int = 0
    filling: bytes = b""


class Step(Action[Any]):
    """Something at the receiver that can be undone."""

    n: int
    attempts = _ONCE

    async def run(self, context: Context[Any]) -> None:
        """Do it."""
        await self._tell(f"{type(self).__name__.lower()}", context)

    async def compensate(self, context: Context[Any], done: Any, error: Exception) -> None:
        """Undo it."""
        await self._tell(f"un{type(self).__name__.lower()}", context)

    async def _tell(self, kind: str, context: Context[Any]) -> None:
        await tell_receiver(kind, context.token, desk=int(context.agent_id), n=self.n, run=context.run)


class Reserve(Step):
    """Reserve a place."""


class Charge(Step):
    """Charge a card; or find that there is nothing to sell."""

    async def run(self, context: Context[Any]) -> None:
        """Do it."""
        await super().run(context)
        if self.n % REFUSED_EVERY == 0:
            raise Failure(NO_STOCK)


class Ship(Action[Any]):
    """An errand: tell the receiver that a parcel is on its way."""

    desk: int
    n: int
    attempts = _AGAIN

    async def run(self, context: Context[Any]) -> None:
        """Tell it."""
        await tell_receiver("ship", context.token, desk=self.desk, n=self.n)


class Book(Action[DeskState]):
    """Take the order, and decide on all that follows from it."""

    n: int

    def run(self, context: Context[DeskState]) -> Result[DeskState]:
        """Take it."""
        desk, n, count = int(context.agent_id), self.n, context.state.orders + 1
        about = {"desk": desk, "n": n, "count": count, "run": context.run}
        after = n % 10 * 0.02
        effects = [
            Emit("booked", about, to="hook"),
            Emit("counted", about, to="tally"),
            Emit("announced", about, to="bus"),
            Schedule(after, "remind", {"n": n, "due": context.now() + after}),
            RunInstruction((Ship, {"desk": desk, "n": n}), "shipped", {"n": n}),
        ]
        if n % PARCEL_EVERY == 0:
            effects.append(Emit("parcel", {"desk": desk, "n": n}, subject=f"{desk}-{n}", to="parcels-bus"))
        filling = bytes(n * 7919 % 5_000) if n % 3 == 0 else context.state.filling
        return Result(DeskState(count, filling), tuple(effects))


class Remind(Action[None]):
    """A timer has come."""

    n: int
    due: float

    def run(self, context: Context[DeskState]) -> Result[None]:
        """Tell the receiver."""
        early = context.now() < self.due
        return Result(None, (Emit("remind", {"desk": int(context.agent_id), "n": self.n, "early": early}, to="hook"),))


class Shipped(Action[None]):
    """An errand is over."""

    status: str
    meta: dict[str, int]
    error: str = ""

    def run(self, context: Context[DeskState]) -> Result[None]:
        """Tell the receiver."""
        data = {"desk": int(context.agent_id), "n": self.meta["n"], "status": self.status}
        return Result(None, (Emit("shipped", data, to="hook"),))


class Desk(AgentType[DeskState]):
    """Takes orders."""

    name = "desk"
    routes = {"order": Chain(Reserve, Charge, Book), "remind": Remind, "shipped": Shipped}  # noqa: RUF012


# -- those who are told ------------------------------------------------------------------------------------------------


class TallyState(msgspec.Struct, frozen=True):
    """By desk, the last number that was told, and how many were not the next one."""

    counts: dict[str, int] = {}
    mistakes: int = 0


class Count(Action[TallyState]):
    """Take note of a number."""

    desk: int
    count: int

    def run(self, context: Context[TallyState]) -> TallyState:
        """Take note of it."""
        state, desk = context.state, str(self.desk)
        wrong = self.count != state.counts.get(desk, 0) + 1
        return TallyState({**state.counts, desk: self.count}, state.mistakes + wrong)


class Tally(AgentType[TallyState]):
    """Takes note of numbers that it is told."""

    name = "tally"
    routes = {"counted": Count, "announced": Count}  # noqa: RUF012


class ParcelState(msgspec.Struct, frozen=True):
    """Which order a parcel is of."""

    n: int = 0
    desk: int = 0


class Pack(Action[ParcelState]):
    """Pack a parcel, and have it sent later."""

    desk: int
    n: int

    def run(self, context: Context[ParcelState]) -> Result[ParcelState]:
        """Pack it."""
        return Result(ParcelState(self.n, self.desk), (Schedule(0.2, "send"),))


class Send(Action[None]):
    """Send a parcel."""

    def run(self, context: Context[ParcelState]) -> Result[None]:
        """Send it."""
        data = {"desk": context.state.desk, "n": context.state.n}
        return Result(None, (Emit("parcel", data, to="hook"),))


class Parcel(AgentType[ParcelState]):
    """A parcel: one instance for each."""

    name = "parcel"
    routes = {"parcel": Pack, "send": Send}  # noqa: RUF012


# -- the service -------------------------------------------------------------------------------------------------------


class Service:
    """The service, in one process that is killed.

    Args:
        path: of its file.
        url: of the receiver of effects.
        sync: of the file.
        journal: whether it keeps a journal.
    """

    def __init__(self, path: Path, url: str, sync: str, *, journal: bool) -> None:
        self._path = path
        self._url = url
        self._sync: Any = "full" if sync == "full" else "normal"
        self._journal = journal
        self._storage: SqliteStorage | None = None

    async def run(self, listener: socket.socket, stopping: asyncio.Event) -> None:
        """Serve until it is told to stop."""
        self._storage = storage = SqliteStorage(self._path, self._sync)
        durability = Durability(storage, journal=self._journal)
        transport = httpx.AsyncHTTPTransport(verify=False)
        _client[:] = [httpx.AsyncClient(base_url=self._url, transport=transport, timeout=5.0)]
        options = {"transport": httpx.AsyncHTTPTransport(verify=False), "attempts": _AGAIN}

        def agent(kind: type[AgentType[Any]], id: str, name: str) -> ChildSpec:
            return ChildSpec(name, AgentServer, (kind,), {"id": id, "durability": durability}, name=name)

        children = [
            ChildSpec("bus", Bus, (storage,), {"key": "bus"}, name="bus"),
            ChildSpec("parcels-bus", Bus, (storage,), {"key": "parcels"}, name="parcels-bus"),
            ChildSpec("hook", Webhook, (self._url,), options, name="hook"),
            ChildSpec("bus-hook", Webhook, (self._url,), options, name="bus-hook"),
            agent(Tally, "tally", "tally"),
            agent(Tally, "audit", "audit"),
            *(agent(Desk, str(number), f"desk-{number}") for number in range(DESKS)),
        ]
        async with Runtime(watchdog=None) as runtime:
            parcels = await start_instances(runtime, Parcel, durability=durability, idle_timeout=0.05, name="parcels")
            await runtime.spawn(Supervisor, children, max_restarts=1_000_000)
            bus, later = runtime.name("bus"), runtime.name("parcels-bus")
            endless: dict[str, Any] = {"attempts": 100}
            await subscribe(bus, "announced", runtime.name("audit"), name="audit", key="data.desk", **endless)
            await subscribe(bus, "announced", runtime.name("bus-hook"), name="hook", in_flight=4, **endless)
            await subscribe(later, "parcel", runtime.name("parcels"), name="parcels", key="subject", **endless)
            server = await asyncio.start_unix_server(
                lambda reader, writer: self._serve(runtime, parcels, reader, writer), sock=listener
            )
            async with server:
                await stopping.wait()
        storage.close()

    async def _serve(
        self,
        runtime: Runtime,
        parcels: Instances[ParcelState],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Answer one client."""
        try:
            while line := await reader.readline():
                asked = msgspec.json.decode(line, type=Message)
                answer = await self._report(runtime, parcels) if asked.n == 0 else await self._order(runtime, asked)
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _order(self, runtime: Runtime, asked: Message) -> Answer:
        signal = Signal(type="order", source="/load", id=f"{asked.desk}-{asked.n}", data={"n": asked.n})
        try:
            reply = await runtime.name(f"desk-{asked.desk}").call(Ask(signal), 30.0)
        except Exception as error:
            return Answer("failed", f"{type(error).__name__}: {error}")
        failed = [one for one in reply.errors if one.stage != "effect"]
        if failed:
            why = str(failed[-1].error)
            return Answer("refused" if NO_STOCK in why else "failed", why)
        return Answer("again" if reply.duplicate else "ok")

    async def _report(self, runtime: Runtime, parcels: Instances[ParcelState]) -> Report:
        """Return how the service is: of what is open only what it knows to be so."""
        names = ["tally", "audit", *(f"desk-{number}" for number in range(DESKS))]
        found = {name: await system.get_state(runtime.name(name)) for name in names}
        count: dict[str, int] = {}
        dead = 0
        for attributes in found.values():
            kept = attributes["keeping"].counts()
            for kind in ("outbox", "effects", "timers", "sagas"):
                count[kind] = count.get(kind, 0) + kept[kind]
            dead += kept["dead"]
        for bus in ("bus", "parcels-bus"):
            for name, status in (await subscriptions(runtime.name(bus))).items():
                count[name] = status.waiting + status.sent + status.taken + status.backing_off
                dead += status.dead
        count["parcels that run"] = (await parcels.counts()).running
        assert self._storage is not None
        count["parcels"] += len(await self._storage.due("/parcel/", 1 << 60))
        tally, audit = (found[name]["agent"].state for name in ("tally", "audit"))
        orders = {str(number): found[f"desk-{number}"]["agent"].state.orders for number in range(DESKS)}
        return Report(count, dead, orders, tally.counts, audit.counts, tally.mistakes + audit.mistakes)
