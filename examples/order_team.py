"""A team of agents fulfils orders: a desk, and for each order a packer and a courier that are its children.

Things go wrong on purpose: the card reader needs a few tries, an article is out of stock, and the customer's webhook
fails half the time. What was done for an order that fails is undone, and every order is told about in the end.

Run it: ``python -m examples.order_team``.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from typing import Any, ClassVar

import httpx
import msgspec

from agents import (
    Action,
    AgentHandle,
    AgentType,
    Attempts,
    Chain,
    Context,
    Emit,
    Failure,
    Result,
    SetState,
    Signal,
    SpawnAgent,
    StopChild,
    agent_ids,
    start_agent,
    whereis,
)
from agents.signals.cloudevents import from_json
from agents.signals.sinks import Webhook
from supervision import Runtime

#: What the world outside is like: the warehouse, the bank, and what the customer's service was told.
STOCK: dict[str, int] = {}
CHARGED: dict[str, int] = {}
TOLD: list[Signal] = []
CHANCE = random.Random(7)


# -- one order ---------------------------------------------------------------------------------------------------------


class Order(msgspec.Struct, frozen=True):
    """What the agent of one order knows."""

    id: str = ""
    article: str = ""
    price: int = 0
    status: str = "new"


class Reserve(Action[dict[str, Any]]):
    """Take the article from the shelf; put it back if the order fails later."""

    id: str
    article: str

    def run(self, context: Context[Order]) -> dict[str, Any]:
        """Take it."""
        if STOCK.get(self.article, 0) < 1:
            raise Failure(f"no {self.article} in stock")
        STOCK[self.article] -= 1
        return {"id": self.id, "article": self.article}

    def compensate(self, context: Context[Order], done: Any, error: Exception) -> None:
        """Put it back, if it was taken."""
        if done is not None:
            STOCK[self.article] += 1


class Charge(Action[dict[str, Any]]):
    """Charge the card. The bank's line is bad: it is tried again, a little later each time."""

    attempts: ClassVar[Attempts] = Attempts(retries=4, backoff=0.01, timeout=1.0, retry_on=ConnectionError)
    id: str
    price: int

    async def run(self, context: Context[Order]) -> dict[str, Any]:
        """Charge it."""
        if CHANCE.random() < 0.5:
            raise ConnectionError("the bank's line is dead")
        if self.price > 100:
            raise Failure("the card was declined")
        CHARGED[self.id] = self.price
        return {"price": self.price, "status": "paid"}

    def compensate(self, context: Context[Order], done: Any, error: Exception) -> None:
        """Give the money back, if it was taken."""
        CHARGED.pop(self.id, None)


class Fulfil(Action[None]):
    """Tell the desk how it went."""

    def run(self, context: Context[Order]) -> Result[None]:
        """Tell it."""
        assert context.parent is not None
        told = {"id": context.state.id, "status": context.state.status}
        return Result(None, (Emit("order.done", told, to=context.parent.ref),))


class OrderAgent(AgentType[Order]):
    """One order. Reserving and charging are a saga: what fails undoes what was done before it."""

    routes = {"order.fulfil": Chain(Reserve, Charge), "order.report": Fulfil}


# -- the desk ----------------------------------------------------------------------------------------------------------


class Desk(msgspec.Struct, frozen=True):
    """What the desk knows: how each order is."""

    orders: dict[str, str] = {}


class Place(Action[dict[str, Any]]):
    """Take an order: start an agent for it. It is told to begin when it has started."""

    id: str
    article: str
    price: int

    def run(self, context: Context[Desk]) -> Result[dict[str, Any]]:
        """Start it."""
        meta = {"id": self.id, "article": self.article, "price": self.price}
        return Result({"orders": {self.id: "open"}}, (SpawnAgent(OrderAgent, self.id, meta=meta),))


class Begin(Action[None]):
    """The agent of an order has started: let it begin, and tell how it went."""

    tag: str
    id: str
    meta: dict[str, Any]

    def run(self, context: Context[Desk]) -> Result[None]:
        """Let it begin."""
        assert context.ref is not None
        child = whereis(context.ref.runtime, self.id)
        return Result(None, (Emit("order.fulfil", self.meta, to=child), Emit("order.report", to=child)))


class Note(Action[dict[str, Any]]):
    """An order is done: note it, tell the customer, and let its agent go."""

    id: str
    status: str

    def run(self, context: Context[Desk]) -> Result[dict[str, Any]]:
        """Note it."""
        assert context.signal is not None
        tag = context.signal.source.rpartition("/")[2]
        status = "paid" if self.status == "paid" else "failed"
        told = Emit(f"order.{status}", {"order": tag}, to="customer")
        return Result({}, (SetState({"orders": {tag: status}}), told, StopChild(tag)))


class DeskAgent(AgentType[Desk]):
    """The desk: it takes orders, and hands them to agents of their own."""

    routes = {"order.place": Place, "agent.child.started": Begin, "order.done": Note}


# -- the customer's service --------------------------------------------------------------------------------------------


async def customer(request: httpx.Request) -> httpx.Response:
    """Answer a webhook: every second time, more or less, with a failure."""
    if CHANCE.random() < 0.5:
        return httpx.Response(503)
    TOLD.append(from_json(request.content))
    return httpx.Response(204)


async def main(orders: int = 6) -> Desk:
    """Place some orders, and wait until the customer knows of each."""
    STOCK.update(cup=orders, teapot=1)
    CHARGED.clear()
    TOLD.clear()
    async with Runtime() as runtime:
        hook = {"secret": "whsec_c2VjcmV0", "attempts": Attempts(retries=20, backoff=0.005, max_backoff=0.05)}
        transport = httpx.MockTransport(customer)  # an address on the network, if this were not an example
        await runtime.spawn(Webhook, "https://customer.example/hook", transport=transport, name="customer", **hook)
        desk: AgentHandle[Desk] = await start_agent(runtime, DeskAgent, id="desk")
        for n in range(orders):
            article = "teapot" if n % 3 == 1 else "cup"
            price = 500 if n % 3 == 2 else 20
            desk.cast(desk.signal("order.place", {"id": f"o{n}", "article": article, "price": price}))
        async for agent in desk.watch():
            if len(agent.state.orders) == orders and "open" not in agent.state.orders.values():
                break
        while len(TOLD) < orders or len(agent_ids(runtime)) > 1:
            await runtime.sleep(0.01)
        for id, status in sorted(desk.state.orders.items()):
            print(f"{id}: {status}")
        print(f"charged: {sorted(CHARGED)}; in stock: {STOCK}; the customer was told of {len(TOLD)} orders")
        return desk.state


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A team of agents fulfils orders.")
    parser.add_argument("--orders", type=int, default=6, help="how many orders are placed (6)")
    asyncio.run(main(parser.parse_args().orders))
