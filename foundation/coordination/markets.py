"""Markets that an actor keeps: the owner of an open order is sent a `Traded` message for each of its trades.

Open orders of an actor that ends are cancelled; they survive a restart of the actor that keeps them.

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

from collections.abc import Iterable
from typing import Any

import msgspec

from foundation.coordination.errors import BadArgument
from foundation.coordination.order_book import OrderBook, Side, Trade
from foundation.coordination.retained import (
    MonotonicCounter,
    RunUndo,
    UndoQueue,
    answer_or_else,
    answer_or_undo,
    remember,
    retained,
)
from foundation.coordination.validation import Party, living_ref, refusing, text, whole
from foundation.holders import HolderMonitors, current_holder
from foundation.naming import own_name
from supervision import Actor, Down, Message, Ref, Request, Runtime, handle

#: The last prices of so many markets without an open order are remembered.
REMEMBERED = 1000


class Quote(msgspec.Struct, frozen=True):
    """The best prices at this moment, and that of the last trade; None where there is none."""

    bid: float | None
    ask: float | None
    last: float | None


class Traded(Message, frozen=True):
    """An order that was open has met another one. Told to the actor that gave it."""

    market: str
    trade: Trade


class MarketState(msgspec.Struct):
    """A market in which somebody has an open order, and the price of its last trade."""

    book: OrderBook
    last: float | None


class OrderPlaced(msgspec.Struct, frozen=True):
    """An order was taken: its number, and what was traded at once."""

    number: int
    trades: list[Trade]


class PlaceOrder(Request[OrderPlaced], frozen=True):
    """Give an order."""

    market: str
    side: Side
    units: int
    price: float
    trader: Any
    who: Ref | None


class CancelOrders(Request[int], frozen=True):
    """Take back all open orders of a trader, or the one of a number."""

    market: str
    trader: Any
    number: int | None = None


class GetQuote(Request[Quote], frozen=True):
    """Say the best prices."""

    market: str


class Markets(Actor):
    """Keeps the open orders of markets. It is named ``markets`` unless started with another name."""

    infrastructure = True

    def __init__(self) -> None:
        self._watched: HolderMonitors[str] = HolderMonitors(self)

    def init(self) -> None:
        """Go on with the orders that were open when the last incarnation ended."""
        name = own_name(self, "markets")
        self._markets: dict[str, MarketState] = retained(self.runtime, name)
        self._last: dict[str, float] = retained(self.runtime, f"{name}: last prices")
        self._numbers = MonotonicCounter(self.runtime, name)
        self._undo_queue = UndoQueue(self.runtime, name)
        for market, state in self._markets.items():
            for ref in state.book.holders():
                self._watched.add(ref, market)
        self.collect(RunUndo())

    @handle
    @refusing
    def give(self, request: PlaceOrder) -> OrderPlaced:
        """Trade what can be traded, and keep the rest."""
        market = text("market", request.market)
        side = _side(request.side)
        who = None if request.who is None else living_ref(self.runtime, "trading actor", request.who, request)
        state = self._markets.get(market)
        book = OrderBook(self._numbers.last) if state is None else state.book
        placed = book.place(side, request.trader, request.units, request.price, who)
        if state is None:
            state = self._markets[market] = MarketState(book, self._last.pop(market, None))
        self._watched.add(who, market)
        for trade, other in zip(placed.trades, placed.met, strict=True):
            state.last = trade.price
            if other.by is not None:
                other.by.cast(Traded(market, trade))
        self._tidy(market, state, {who, *(other.by for other in placed.met)})
        return OrderPlaced(placed.number, placed.trades)

    @handle
    @refusing
    def cancel_orders(self, request: CancelOrders) -> int:
        """Forget open orders."""
        market = text("market", request.market)
        number = None if request.number is None else whole("number", request.number)
        trader = Party("trader", request.trader)
        state = self._markets.get(market)
        if state is None:
            return 0
        orders = state.book.orders_of(trader.value) if number is None else [number]
        refs = {state.book.holder_of(which) for which in orders}
        units = sum(map(state.book.cancel_order, orders))
        self._tidy(market, state, refs)
        return units

    @handle
    @refusing
    def quote(self, request: GetQuote) -> Quote:
        """Say the best prices."""
        market = text("market", request.market)
        state = self._markets.get(market)
        if state is None:
            return Quote(None, None, self._last.get(market))
        bid, ask = state.book.best("buy"), state.book.best("sell")
        return Quote(None if bid is None else bid.price, None if ask is None else ask.price, state.last)

    @handle
    def collect(self, message: RunUndo) -> None:
        """Cancel the orders whose owners asked for it, or were cancelled before the reply."""
        for request in self._undo_queue.take():
            self.cancel_orders(request)

    @handle
    def trader_ended(self, message: Down) -> None:
        """Cancel the orders of an actor that has ended."""
        for market in self._watched.ended(message):
            state = self._markets[market]
            for which in state.book.held_for(message.target):
                state.book.cancel_order(which)
            self._tidy(market, state, ())

    def _tidy(self, market: str, state: MarketState, refs: Iterable[Ref | None]) -> None:
        """Watch none of these who have no open order any more, and forget a market in which nobody has one."""
        for ref in refs:
            if not state.book.held_for(ref):
                self._watched.discard(ref, market)
        if state.book:
            return
        del self._markets[market]
        self._numbers.forget(state.book.last)
        if state.last is not None:
            remember(self._last, market, state.last, REMEMBERED)


def _side(value: object) -> Side:
    match text("side", value):
        case "buy":
            return "buy"
        case "sell":
            return "sell"
        case _:
            raise BadArgument("side", value, "give 'buy' or 'sell'")


class Market:
    """A continuous double auction, by its name: see `foundation.coordination.order_book.OrderBook` for its rules.

    Args:
        runtime: where the actor runs that keeps it.
        name: of the market.
        actor: the name of the `Markets`.
    """

    def __init__(self, runtime: Runtime, name: str, *, actor: str = "markets") -> None:
        self.name = text("name", name)
        actor = text("actor", actor)
        self._address = runtime.name(actor)
        self._undo_queue = UndoQueue(runtime, actor)

    async def buy(self, units: int, *, price: float, trader: Any = None, who: Ref | None = None) -> list[Trade]:
        """Buy what is offered for at most this price for a unit; what is left of the order stays open.

        Whoever is cut off before it learns what became of the order has no open order; what was traded is traded.

        Args:
            units: how many, from 1.
            price: for each, at most.
            trader: who is named in the trades; ``who`` if None.
            who: the actor that buys, whose orders are taken back when it ends, and who is told by a `Traded` when an
                open order is met: the one in which this code runs, if none is given.

        Returns:
            What was traded at once.

        Raises:
            BadArgument: the units or the price make no sense, or there is no trader, or it cannot be told from others.
            NoProcess: the actor that trades has ended; or no `Markets` runs.
        """
        return await self._give("buy", units, price, trader, who)

    async def sell(self, units: int, *, price: float, trader: Any = None, who: Ref | None = None) -> list[Trade]:
        """Sell to who pays at least this price for a unit; what is left of the order stays open.

        Arguments, results and errors are those of `buy`.
        """
        return await self._give("sell", units, price, trader, who)

    async def _give(self, side: Side, units: int, price: float, trader: Any, who: Ref | None) -> list[Trade]:
        who = current_holder() if who is None else who
        trader = who if trader is None else trader
        if trader is None:
            raise BadArgument("trader", None, "say who trades, outside of actors")
        request = PlaceOrder(self.name, side, units, price, trader, who)
        given = await answer_or_undo(
            self._address.call(request), lambda given: self._back(CancelOrders(self.name, None, given.number))
        )
        return given.trades

    def _back(self, request: CancelOrders) -> None:
        self._undo_queue.put(id(request), request)

    async def cancel(self, trader: Any = None) -> int:
        """Take back all open orders of a trader, by default of this actor; return how many units that were.

        They are taken back whatever is raised, other than `BadArgument`.

        Raises:
            BadArgument: the trader cannot be told from others.
        """
        party = Party("trader", current_holder() if trader is None else trader)
        request = CancelOrders(self.name, party.value)
        return await answer_or_else(self._address.call(request), lambda: self._back(request))

    async def quote(self) -> Quote:
        """Return the best prices."""
        return await self._address.call(GetQuote(self.name))
