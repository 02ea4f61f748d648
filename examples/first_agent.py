"""A first agent: a till that counts what is sold, found by what it can do.

Run it: ``python -m examples.first_agent``.
"""

from __future__ import annotations

import asyncio

import msgspec

from agents import Action, AgentServer, AgentType, Context, Emit, Result, Signal, connect
from bridge import start_and_register
from foundation.registry import Directory, Registry
from supervision import Actor, ChildSpec, Runtime, Supervisor, handle


class Sales(msgspec.Struct, frozen=True):
    """What the till knows: its state."""

    items: int = 0
    takings: int = 0


class Sell(Action[Sales]):
    """Sell something. The fields are what a signal's data must have."""

    price: int
    items: int = 1

    def run(self, context: Context[Sales]) -> Result[Sales]:
        """Count it; say so to the shop from a hundred on. Nothing is sent here: a directive is data."""
        if self.price < 0:
            raise ValueError(f"nobody sells at {self.price}")
        sales = Sales(context.state.items + self.items, context.state.takings + self.items * self.price)
        full = sales.takings >= 100
        return Result(sales, (Emit("till.full", {"takings": sales.takings}, to="shop"),) if full else ())


class Till(AgentType[Sales]):
    """The type of the agent: its state, and which signals lead to which actions."""

    routes = {"till.sell": Sell}


class Shop(Actor):
    """Not an agent, but an actor: it is told when the till is full."""

    @handle
    def told(self, signal: Signal) -> None:
        """Read it out."""
        print(f"{signal.source} says {signal.type}: {signal.data}")


TREE = [
    ChildSpec("registry", Registry),
    ChildSpec("shop", Shop, name="shop"),
    ChildSpec(
        "till",
        start_and_register,
        (AgentServer, (Till,), {"id": "t1"}),
        {"capabilities": ["sell"], "key": "till"},
    ),
]


async def main() -> Sales:
    """Sell some things, lose the till, and sell again."""
    async with Runtime() as runtime:
        await runtime.spawn(Supervisor, TREE)
        directory = Directory.of(runtime)
        (entry,) = directory.find("capabilities", "sell")
        till = await connect(entry.ref, Till)
        till.cast(till.signal("till.sell", {"price": 30, "items": 3}))
        reply = await till.call(till.signal("till.sell", {"price": 20}))
        print("sold:", reply.agent.state, "version", reply.agent.version)
        reply = await till.call(till.signal("till.sell", {"price": "free"}))
        print("refused:", reply.errors[0].error.message)

        entry.ref.kill()
        while (found := directory.lookup("till")) is None:
            await runtime.sleep(0.01)
        till = await connect(found.ref, Till)
        print("a fresh till:", till.state)
        return (await till.call(till.signal("till.sell", {"price": 1}))).agent.state


if __name__ == "__main__":
    asyncio.run(main())
