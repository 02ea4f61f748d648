"""Markets that are kept by an actor: orders of who ends are taken back, and who was waiting is told of its trades.

>>> import asyncio
>>> from supervision import Runtime
>>> async def main() -> None:
...     async with Runtime() as runtime:
...         await runtime.spawn(Markets)
...         hours = Market(runtime, "gpu-hours")
...         print(await hours.sell(5, price=10, trader="sue"))
...         print(await hours.buy(3, price=12, trader="ben"))
...         print(await hours.quote())
>>> asyncio.run(main())
[]
[Trade(buyer='ben', seller='sue', units=3, price=10)]
Quote(bid=None, ask=10, last=10)
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from foundation.coordination.errors import BadRule
from foundation.coordination.kept import kept
from foundation.coordination.market import Book, Trade
from foundation.coordination.watched import Watched
from foundation.holder import current_holder
from foundation.naming import own_name
from supervision import Actor, Down, Message, Ref, Refuse, Request, Runtime, handle


class Quote(msgspec.Struct, frozen=True):
    """The best prices at this moment, and that of the last trade; None where there is none."""

    bid: float | None
    ask: float | None
    last: float | None


class Traded(Message, frozen=True):
    """An order that was open has met another one. Told to the actor that gave it."""

    market: str
    trade: Trade


class Floor(msgspec.Struct):
    """A market that is kept."""

    book: Book
    traders: dict[Any, Ref]
    last: float | None = None


class Give(Request[list[Trade]], frozen=True):
    """Give an order."""

    market: str
    side: Literal["buy", "sell"]
    units: int
    price: float
    trader: Any
    who: Ref | None


class TakeBack(Request[int], frozen=True):
    """Take back all open orders of a trader."""

    market: str
    trader: Any


class AskQuote(Request[Quote], frozen=True):
    """Say the best prices."""

    market: str


class Markets(Actor):
    """Keeps the open orders of markets. It is named ``markets`` unless started with another name."""

    infrastructure = True

    def __init__(self) -> None:
        self._watched = Watched(self)

    def init(self) -> None:
        """Go on with the orders that were open when the last incarnation ended."""
        self._floors: dict[str, Floor] = kept(self.runtime, own_name(self, "markets"))
        for floor in self._floors.values():
            for ref in floor.traders.values():
                self._watched.add(ref)

    @handle
    def give(self, request: Give) -> list[Trade]:
        """Trade what can be traded, and keep the rest."""
        floor = self._floors.get(request.market) or Floor(Book(), {})
        place = floor.book.buy if request.side == "buy" else floor.book.sell
        try:
            trades = place(request.trader, request.units, request.price)
        except BadRule as error:
            raise Refuse(error) from error
        self._floors[request.market] = floor
        if request.who is not None:
            floor.traders[request.trader] = request.who
            self._watched.add(request.who)
        for trade in trades:
            floor.last = trade.price
            other = floor.traders.get(trade.seller if request.side == "buy" else trade.buyer)
            if other is not None:
                other.cast(Traded(request.market, trade))
        return trades

    @handle
    def take_back(self, request: TakeBack) -> int:
        """Forget open orders."""
        floor = self._floors.get(request.market)
        return 0 if floor is None else floor.book.cancel(request.trader)

    @handle
    def quote(self, request: AskQuote) -> Quote:
        """Say the best prices."""
        floor = self._floors.get(request.market) or Floor(Book(), {})
        bids, asks = floor.book.bids, floor.book.asks
        return Quote(bids[0].price if bids else None, asks[0].price if asks else None, floor.last)

    @handle
    def trader_ended(self, message: Down) -> None:
        """Take back the orders of who is gone."""
        ref = self._watched.ended(message)
        for floor in self._floors.values():
            for trader in [trader for trader, who in floor.traders.items() if who is ref]:
                del floor.traders[trader]
                floor.book.cancel(trader)


class Market:
    """A continuous double auction, by its name: see `foundation.coordination.market.Book` for its rules.

    Args:
        runtime: where the actor runs that keeps it.
        name: of the market.
        actor: the name of the `Markets`.
    """

    def __init__(self, runtime: Runtime, name: str, *, actor: str = "markets") -> None:
        self.name = name
        self._address = runtime.name(actor)

    async def buy(self, units: int, *, price: float, trader: Any = None, who: Ref | None = None) -> list[Trade]:
        """Buy what is offered for at most this price for a unit; what is left of the order stays open.

        Args:
            units: how many, from 1.
            price: for each, at most.
            trader: who is named in the trades; ``who`` if None.
            who: the actor that buys, whose orders are taken back when it ends, and who is told by a `Traded` when an
                open order is met: the one in which this code runs, if none is given.

        Returns:
            What was traded at once.

        Raises:
            BadRule: the units or the price make no sense, or there is nobody who trades.
        """
        return await self._give("buy", units, price, trader, who)

    async def sell(self, units: int, *, price: float, trader: Any = None, who: Ref | None = None) -> list[Trade]:
        """Sell to who pays at least this price for a unit; what is left of the order stays open.

        Arguments, results and errors are those of `buy`.
        """
        return await self._give("sell", units, price, trader, who)

    async def _give(
        self, side: Literal["buy", "sell"], units: int, price: float, trader: Any, who: Ref | None
    ) -> list[Trade]:
        who = who or current_holder()
        trader = who if trader is None else trader
        if trader is None:
            raise BadRule("trader", None, "say who trades, outside of actors")
        return await self._address.call(Give(self.name, side, units, price, trader, who))

    async def take_back(self, trader: Any = None) -> int:
        """Take back all open orders of a trader, by default of this actor; return how many units that were."""
        return await self._address.call(TakeBack(self.name, current_holder() if trader is None else trader))

    async def quote(self) -> Quote:
        """Return the best prices."""
        return await self._address.call(AskQuote(self.name))
