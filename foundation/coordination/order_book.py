"""A double auction: buyers and sellers of many equal things, in whole units.

`OrderBook` trades at once, whenever a buyer pays at least what a seller asks (a continuous double auction, with
priority of price and then of time; the price is that of the order that was there first). `clear` takes all orders
together and trades as many units as possible at one price (a call auction).

>>> book = OrderBook()
>>> book.sell("sue", 5, price=10)
[]
>>> book.buy("ben", 3, price=12)
[Trade(buyer='ben', seller='sue', units=3, price=10)]
>>> clearing = clear([Order("b1", 2, 9), Order("b2", 1, 5)], [Order("s1", 1, 4), Order("s2", 2, 6)])
>>> clearing.price, clearing.units, [(trade.buyer, trade.seller) for trade in clearing.trades]
(6.0, 2, [('b1', 's1'), ('b1', 's2')])
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeAlias

import msgspec

from foundation.coordination.validation import MOST, Party, discard_number, number, whole
from foundation.extras import sorted_dict
from supervision.messages import describe

Side: TypeAlias = Literal["buy", "sell"]


class Order(msgspec.Struct, frozen=True):
    """What somebody would buy or sell.

    Attributes:
        who: the trader.
        units: how many, from 1.
        price: for a unit: at most, to buy; at least, to sell.
        number: grows with each order; earlier ones come first at the same price.
    """

    who: Any
    units: int
    price: float
    number: int = 0


class Trade(msgspec.Struct, frozen=True):
    """What was traded: so many units, each at the price."""

    buyer: Any
    seller: Any
    units: int
    price: float


class Clearing(msgspec.Struct, frozen=True):
    """How a call auction ends.

    Attributes:
        price: the one price; None if nothing is traded.
        units: how many are traded.
        trades: who with whom: the best orders first, and of equal ones the earlier.
    """

    price: float | None
    units: int
    trades: tuple[Trade, ...]


class OpenOrder(msgspec.Struct):
    """An open order, as the book keeps it.

    Attributes:
        order: what is left of it.
        side: of the book.
        trader: who trades.
        by: on whose behalf it is kept, or None.
    """

    order: Order
    side: Side
    trader: Party
    by: Any

    @property
    def rank(self) -> tuple[float, int]:
        """The smallest of a side comes first."""
        price = self.order.price
        return (-price if self.side == "buy" else price, self.order.number)


class Placed(msgspec.Struct, frozen=True):
    """What became of an order.

    Attributes:
        number: of the order.
        trades: what was traded at once.
        met: the order on the other side of each trade, before it.
    """

    number: int
    trades: list[Trade]
    met: list[OpenOrder]


class OrderBook:
    """The open orders of a continuous double auction.

    Args:
        last: the number after which the orders are numbered.
    """

    def __init__(self, last: int = 0) -> None:
        #: Of each side, the orders by rank.
        self._sides: dict[Side, Any] = {"buy": sorted_dict("a market"), "sell": sorted_dict("a market")}
        self._open: dict[int, OpenOrder] = {}
        #: The numbers of the open orders of each trader, and those that are kept on behalf of somebody.
        self._of: dict[Party, dict[int, None]] = {}
        self._by: dict[Any, dict[int, None]] = {}
        #: The number of the last order.
        self.last = last

    def __len__(self) -> int:
        return len(self._open)

    @property
    def bids(self) -> list[Order]:
        """Who would buy, best first."""
        return [open_.order for open_ in self._sides["buy"].values()]

    @property
    def asks(self) -> list[Order]:
        """Who would sell, best first."""
        return [open_.order for open_ in self._sides["sell"].values()]

    def best(self, side: Side) -> Order | None:
        """Return the order that is met first; None if there is none."""
        orders = self._sides[side]
        return orders.peekitem(0)[1].order if orders else None

    @property
    def spread(self) -> float | None:
        """How far the best ask is above the best bid; None if one is missing."""
        bid, ask = self.best("buy"), self.best("sell")
        return None if bid is None or ask is None else ask.price - bid.price

    def buy(self, who: Any, units: int, price: float) -> list[Trade]:
        """Buy what is offered for at most this price; what is left of the order stays open.

        Raises:
            BadArgument: the units or the price make no sense, or the trader cannot be told from others.
        """
        return self.place("buy", who, units, price).trades

    def sell(self, who: Any, units: int, price: float) -> list[Trade]:
        """Sell to who pays at least this price; what is left of the order stays open.

        Raises:
            BadArgument: the units or the price make no sense, or the trader cannot be told from others.
        """
        return self.place("sell", who, units, price).trades

    def place(self, side: Side, who: Any, units: int, price: float, by: Any = None) -> Placed:
        """Buy or sell, for somebody on whose behalf what is left is kept: see `held_for`."""
        trader, (units, price) = Party("trader", who), _checked(who, units, price)
        self.last += 1
        mine = OpenOrder(Order(trader.value, units, price, self.last), side, trader, by)
        trades, met = [], []
        while mine.order.units and (other := self._meets(mine)) is not None:
            met.append(other)
            trades.append(self._trade(mine, other))
        if mine.order.units:
            self._add(mine)
        return Placed(mine.order.number, trades, met)

    def _meets(self, mine: OpenOrder) -> OpenOrder | None:
        """Return the best order of the other side, if it agrees."""
        orders = self._sides["sell" if mine.side == "buy" else "buy"]
        if not orders:
            return None
        other: OpenOrder = orders.peekitem(0)[1]
        ask, bid = (other, mine) if mine.side == "buy" else (mine, other)
        return other if ask.order.price <= bid.order.price else None

    def _trade(self, mine: OpenOrder, other: OpenOrder) -> Trade:
        units = min(mine.order.units, other.order.units)
        mine.order = _less(mine.order, units)
        if other.order.units > units:
            left = msgspec.structs.replace(other, order=_less(other.order, units))
            self._open[left.order.number] = self._sides[left.side][left.rank] = left
        else:
            self.cancel_order(other.order.number)
        buyer, seller = (mine, other) if mine.side == "buy" else (other, mine)
        return Trade(buyer.trader.value, seller.trader.value, units, other.order.price)

    def _add(self, mine: OpenOrder) -> None:
        which = mine.order.number
        self._open[which] = self._sides[mine.side][mine.rank] = mine
        self._of.setdefault(mine.trader, {})[which] = None
        if mine.by is not None:
            self._by.setdefault(mine.by, {})[which] = None

    def cancel_order(self, which: int) -> int:
        """Take back the order of a number; return how many units of it were open."""
        taken = self._open.pop(which, None)
        if taken is None:
            return 0
        del self._sides[taken.side][taken.rank]
        discard_number(self._of, taken.trader, which)
        if taken.by is not None:
            discard_number(self._by, taken.by, which)
        return taken.order.units

    def cancel(self, who: Any) -> int:
        """Take back all open orders of a trader. Return how many units that were.

        Raises:
            BadArgument: the trader cannot be told from others.
        """
        return sum(map(self.cancel_order, self.orders_of(who)))

    def orders_of(self, who: Any) -> list[int]:
        """Return the numbers of the open orders of a trader.

        Raises:
            BadArgument: the trader cannot be told from others.
        """
        return list(self._of.get(Party("trader", who), ()))

    def holder_of(self, which: int) -> Any:
        """Return on whose behalf the order of a number is kept; None if nobody's, or if it is not open."""
        return self._open[which].by if which in self._open else None

    def holders(self) -> list[Any]:
        """Return all on whose behalf orders are kept."""
        return list(self._by)

    def held_for(self, by: Any) -> list[int]:
        """Return the numbers of the open orders that are kept on behalf of somebody."""
        return list(self._by.get(by, ()))


def _less(order: Order, units: int) -> Order:
    return msgspec.structs.replace(order, units=order.units - units)


def clear(bids: Sequence[Order], asks: Sequence[Order]) -> Clearing:
    """Trade as many units as possible at one price, which no trader regrets.

    Everybody who trades pays at most what they bid, or gets at least what they ask; and nobody is left who would pay
    more than the price, or sell for less, while somebody on the other side is left who would agree. Of the prices for
    which this is so, the middle is taken.

    Args:
        bids: who would buy.
        asks: who would sell.

    Raises:
        BadArgument: the units or the price of an order make no sense.
    """
    demand = sorted(map(_plain, bids), key=lambda order: (-order.price, order.number))
    supply = sorted(map(_plain, asks), key=lambda order: (order.price, order.number))
    pairs, next_bids, next_asks = _matched(demand, supply)
    if not pairs:
        return Clearing(None, 0, ())
    # Between the last that trade and the first that do not.
    low = max([pairs[-1][1].price, *(bid.price for bid in next_bids)])
    high = min([pairs[-1][0].price, *(ask.price for ask in next_asks)])
    price = low + (high - low) / 2
    trades = _joined(Trade(bid.who, ask.who, units, price) for bid, ask, units in pairs)
    return Clearing(price, sum(units for _, _, units in pairs), tuple(trades))


def _matched(
    demand: list[Order], supply: list[Order]
) -> tuple[list[tuple[Order, Order, int]], list[Order], list[Order]]:
    """Return which orders meet for how many units, and of each side the next one, if there is one."""
    pairs = []
    bids, asks = deque(demand), deque(supply)
    while bids and asks and bids[0].price >= asks[0].price:
        bid, ask = bids.popleft(), asks.popleft()
        units = min(bid.units, ask.units)
        pairs.append((bid, ask, units))
        for side, order in ((bids, bid), (asks, ask)):
            if order.units > units:
                side.appendleft(_less(order, units))
    return pairs, list(bids)[:1], list(asks)[:1]


def _joined(trades: Iterable[Trade]) -> list[Trade]:
    """Make one trade of those of the same two that follow each other."""
    joined: list[Trade] = []
    last = None
    for trade in trades:
        traders = (Party("trader", trade.buyer), Party("trader", trade.seller))
        if traders == last:
            joined[-1] = msgspec.structs.replace(joined[-1], units=joined[-1].units + trade.units)
        else:
            joined.append(trade)
        last = traders
    return joined


def _plain(order: Order) -> Order:
    units, price = _checked(order.who, order.units, order.price)
    Party("trader", order.who)
    return Order(order.who, units, price, whole("number of an order", order.number, least=-MOST))


def _checked(who: Any, units: Any, price: Any) -> tuple[int, float]:
    named = describe(who, form=str)
    return whole(f"units of {named}", units), number(f"price of {named}", price)
