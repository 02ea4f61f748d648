"""A shop on one node of a cluster, and its till on another one. See docs/how-to/cluster.md."""

from __future__ import annotations

from supervision import Actor, CallError, Message, Request, handle


class Sell(Request[int]):
    """Sell something, and answer how much is in the till."""

    price: int


class Open(Message):
    """Let the next customer in."""


class Till(Actor):
    """Keeps the money."""

    def __init__(self) -> None:
        self.money = 0

    @handle
    def sell(self, request: Sell) -> int:
        """Take the money."""
        self.money += request.price
        return self.money


class Shop(Actor):
    """Has a customer each second, who pays at the till, wherever that is."""

    def init(self) -> None:
        """Open the shop."""
        self.send_interval(1.0, Open())

    @handle
    async def open(self, message: Open) -> None:
        """Serve a customer."""
        try:
            print("in the till:", await self.runtime.name("till").call(Sell(3)))
        except CallError as error:
            print(error)
