"""A double auction: buyers and sellers of many equal things, in whole units.

`Book` trades at once, whenever a buyer pays at least what a seller asks (a continuous double auction, with priority of
price and then of time; the price is that of the order that was there first). `clear` takes all orders together and
trades as many units as possible at one price (a call auction).

>>> book = Book()
>>> book.sell("sue", 5, price=10)
[]
>>> book.buy("ben", 3, price=12)
[Trade(buyer='ben', seller='sue', units=3, price=10)]
>>> clearing = clear([Order("b1", 2, 9), Order("b2", 1, 5)], [Order("s1", 1, 4), Order("s2", 2, 6)])
>>> clearing.price, clearing.units, [(trade.buyer, trade.seller) for trade in clearing.trades]
(6.0, 2, [('b1', 's1'), ('b1', 's2')])
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import msgspec
from sortedcontainers import SortedKeyList

from foundation.coordination.errors import BadRule


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


class Book:
    """The open orders of a continuous double auction."""

    def __init__(self) -> None:
        self._bids: Any = SortedKeyList(key=lambda order: (-order.price, order.number))
        self._asks: Any = SortedKeyList(key=lambda order: (order.price, order.number))
        self._last = 0

    @property
    def bids(self) -> list[Order]:
        """Who would buy, best first."""
        return list(self._bids)

    @property
    def asks(self) -> list[Order]:
        """Who would sell, best first."""
        return list(self._asks)

    @property
    def spread(self) -> float | None:
        """How far the best ask is above the best bid; None if one is missing."""
        return self._asks[0].price - self._bids[0].price if self._asks and self._bids else None

    def buy(self, who: Any, units: int, price: float) -> list[Trade]:
        """Buy what is offered for at most this price; what is left of the order stays open.

        Raises:
            BadRule: the units or the price make no sense.
        """
        order = self._numbered(who, units, price)
        trades = []
        while order.units and self._asks and self._asks[0].price <= price:
            best, traded, order = _met(self._asks, order)
            trades.append(Trade(who, best.who, traded, best.price))
        if order.units:
            self._bids.add(order)
        return trades

    def sell(self, who: Any, units: int, price: float) -> list[Trade]:
        """Sell to who pays at least this price; what is left of the order stays open.

        Raises:
            BadRule: the units or the price make no sense.
        """
        order = self._numbered(who, units, price)
        trades = []
        while order.units and self._bids and self._bids[0].price >= price:
            best, traded, order = _met(self._bids, order)
            trades.append(Trade(best.who, who, traded, best.price))
        if order.units:
            self._asks.add(order)
        return trades

    def cancel(self, who: Any) -> int:
        """Take back all open orders of somebody, such as one who is gone. Return how many units that were."""
        units = 0
        for side in (self._bids, self._asks):
            for order in [order for order in side if order.who == who]:
                side.remove(order)
                units += order.units
        return units

    def _numbered(self, who: Any, units: int, price: float) -> Order:
        self._last += 1
        return _checked(Order(who, units, price, self._last))


def _met(side: Any, order: Order) -> tuple[Order, int, Order]:
    """Trade an order with the best of the other side; return that, the units, and what is left of the order."""
    best = side.pop(0)
    units = min(best.units, order.units)
    if best.units > units:
        side.add(msgspec.structs.replace(best, units=best.units - units))
    return best, units, msgspec.structs.replace(order, units=order.units - units)


def clear(bids: Sequence[Order], asks: Sequence[Order]) -> Clearing:
    """Trade as many units as possible at one price, which no trader regrets.

    Everybody who trades pays at most what they bid, or gets at least what they ask; and nobody is left who would pay
    more than the price, or sell for less, while somebody on the other side is left who would agree. Of the prices for
    which this is so, the middle is taken.

    Args:
        bids: who would buy.
        asks: who would sell.

    Raises:
        BadRule: the units or the price of an order make no sense.
    """
    demand = _units(sorted(map(_checked, bids), key=lambda order: (-order.price, order.number)))
    supply = _units(sorted(map(_checked, asks), key=lambda order: (order.price, order.number)))
    units = sum(1 for bid, ask in zip(demand, supply, strict=False) if bid.price >= ask.price)
    if not units:
        return Clearing(None, 0, ())
    # Between the last that trade and the first that do not.
    low = max([supply[units - 1].price, *(bid.price for bid in demand[units : units + 1])])
    high = min([demand[units - 1].price, *(ask.price for ask in supply[units : units + 1])])
    price = (low + high) / 2
    trades: list[Trade] = []
    for bid, ask in zip(demand[:units], supply[:units], strict=True):
        last = trades[-1] if trades else None
        if last is not None and (last.buyer, last.seller) == (bid.who, ask.who):
            trades[-1] = msgspec.structs.replace(last, units=last.units + 1)
        else:
            trades.append(Trade(bid.who, ask.who, 1, price))
    return Clearing(price, units, tuple(trades))


def _units(orders: list[Order]) -> list[Order]:
    return [order for order in orders for _ in range(order.units)]


def _checked(order: Order) -> Order:
    units, price = order.units, order.price
    if not isinstance(units, int) or isinstance(units, bool) or units < 1:
        raise BadRule(f"units of {order.who}", units, "give a whole number from 1")
    if isinstance(price, bool) or not isinstance(price, (int, float)) or not isfinite(price) or price < 0:
        raise BadRule(f"price of {order.who}", price, "give a number from 0")
    return order
