"""Auctions of one thing: the rules, as values and functions that know no time and no actors.

Sealed bids are opened at once (`first_price`, `vickrey`); in an English auction the price goes up, and in a Dutch one
down. Of equal bids the earliest wins. Nothing is sold below the reserve price. (Vickrey, "Counterspeculation, Auctions,
and Competitive Sealed Tenders", 1961.)

>>> bids = [Bid("ada", 10), Bid("bob", 30), Bid("eve", 20)]
>>> first_price(bids), vickrey(bids)
(Sale(winner='bob', price=30), Sale(winner='bob', price=20))
>>> first_price(bids, reserve=40) is None
True
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import msgspec

from foundation.coordination.errors import BadRule, BidRefused


class Bid(msgspec.Struct, frozen=True):
    """What somebody would pay.

    Attributes:
        bidder: who.
        amount: how much, in any unit.
    """

    bidder: Any
    amount: float


class Sale(msgspec.Struct, frozen=True):
    """Who gets it.

    Attributes:
        winner: who.
        price: what is to be paid.
    """

    winner: Any
    price: float


def first_price(bids: Sequence[Bid], reserve: float = 0.0) -> Sale | None:
    """Return the sale of a sealed auction in which the highest bid is paid; None if no bid reaches the reserve.

    Args:
        bids: in the order in which they came.
        reserve: the lowest price.

    Raises:
        BadRule: an amount is no number from 0.
    """
    best = _ranked(bids, reserve)[:1]
    return Sale(best[0].bidder, best[0].amount) if best else None


def vickrey(bids: Sequence[Bid], reserve: float = 0.0) -> Sale | None:
    """Return the sale of a sealed auction in which the second highest bid is paid, or the reserve if there is none.

    Nobody gains by bidding anything else than what it is worth to them. Of several bids of one bidder only the highest
    counts, so that nobody sets a price for itself.

    Args:
        bids: in the order in which they came.
        reserve: the lowest price.

    Raises:
        BadRule: an amount is no number from 0.
    """
    ranked = _ranked(bids, reserve)
    if not ranked:
        return None
    others = [bid.amount for bid in ranked if bid.bidder != ranked[0].bidder]
    return Sale(ranked[0].bidder, max([reserve, *others[:1]]))


def _ranked(bids: Sequence[Bid], reserve: float) -> list[Bid]:
    _amount("reserve", reserve)
    for bid in bids:
        _amount(f"bid of {bid.bidder}", bid.amount)
    return sorted((bid for bid in bids if bid.amount >= reserve), key=lambda bid: -bid.amount)


def _amount(what: str, amount: Any) -> None:
    if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not isfinite(amount) or amount < 0:
        raise BadRule(what, amount, "give a number from 0")


class SealedBids:
    """An auction in which bids are secret, and opened at the end. Who bids again has changed the bid.

    Args:
        reserve: the lowest price.
        second_price: whether the second highest bid is paid (`vickrey`) instead of the highest (`first_price`).

    Raises:
        BadRule: the reserve makes no sense.
    """

    asked: None = None

    def __init__(self, reserve: float = 0.0, *, second_price: bool = False) -> None:
        _amount("reserve", reserve)
        self._reserve = reserve
        self._sale = vickrey if second_price else first_price
        self._bids: dict[Any, Bid] = {}

    def bid(self, bidder: Any, amount: float) -> Bid:
        """Bid, or bid again.

        Raises:
            BadRule: the amount is no number.
        """
        _amount(f"bid of {bidder}", amount)
        self._bids.pop(bidder, None)
        self._bids[bidder] = Bid(bidder, amount)
        return self._bids[bidder]

    def withdraw(self, bidder: Any) -> None:
        """Forget the bid of somebody who is gone."""
        self._bids.pop(bidder, None)

    def close(self) -> Sale | None:
        """Open the bids, and return the sale."""
        return self._sale(list(self._bids.values()), self._reserve)


class English:
    """An auction in which the price goes up: each bid is higher than the last by at least the increment.

    Args:
        reserve: the lowest first bid.
        increment: by how much a bid has to be higher than the last.

    Raises:
        BadRule: a number makes no sense.
    """

    def __init__(self, reserve: float = 0.0, increment: float = 1.0) -> None:
        _amount("reserve", reserve)
        _amount("increment", increment)
        if increment == 0:
            raise BadRule("increment", increment, "give a number above 0")
        self._reserve = reserve
        self._increment = increment
        self._bids: list[Bid] = []
        self.closed = False

    @property
    def asked(self) -> float:
        """The lowest amount that the next bid may have."""
        return self._bids[-1].amount + self._increment if self._bids else self._reserve

    @property
    def leading(self) -> Bid | None:
        """The highest bid so far."""
        return self._bids[-1] if self._bids else None

    def bid(self, bidder: Any, amount: float) -> Bid:
        """Bid.

        Raises:
            BidRefused: it is too low, or the auction is closed.
            BadRule: the amount is no number.
        """
        _amount(f"bid of {bidder}", amount)
        if self.closed:
            raise BidRefused(f"{bidder} bids {amount:g}: the auction is closed")
        if amount < self.asked:
            raise BidRefused(f"{bidder} bids {amount:g}: {self.asked:g} or more is asked for")
        self._bids.append(Bid(bidder, amount))
        return self._bids[-1]

    def withdraw(self, bidder: Any) -> None:
        """Forget all bids of somebody who is gone. The highest of the others leads."""
        self._bids = [bid for bid in self._bids if bid.bidder != bidder]

    def close(self) -> Sale | None:
        """End the auction, and return the sale; None if nobody has bid."""
        self.closed = True
        return Sale(self._bids[-1].bidder, self._bids[-1].amount) if self._bids else None


class Dutch:
    """An auction in which the price goes down until somebody takes it.

    Args:
        start: the first price.
        step: by how much it goes down each time.
        floor: the last price.

    Raises:
        BadRule: a number makes no sense.
    """

    def __init__(self, start: float, step: float, floor: float = 0.0) -> None:
        for what, amount in (("start", start), ("step", step), ("floor", floor)):
            _amount(what, amount)
        if step == 0 or floor > start:
            raise BadRule("step, floor", (step, floor), "the price has to go down, to a floor below the start")
        self.price = start
        self._step = step
        self._floor = floor
        self.sale: Sale | None = None
        self.closed = False

    def lower(self) -> bool:
        """Lower the price; tell whether the auction goes on. After the floor it is over, and nothing is sold."""
        if not self.closed:
            if self.price == self._floor:
                self.closed = True
            else:
                self.price = max(self._floor, self.price - self._step)
        return not self.closed

    @property
    def asked(self) -> float:
        """The present price."""
        return self.price

    def bid(self, bidder: Any, amount: float) -> Sale:
        """Take it at the present price, if that is at most ``amount``.

        Raises:
            BidRefused: the price is higher, or the auction is over.
            BadRule: the amount is no number.
        """
        _amount(f"bid of {bidder}", amount)
        if not self.closed and amount < self.price:
            raise BidRefused(f"{bidder} bids {amount:g}: {self.price:g} is asked for")
        return self.take(bidder)

    def withdraw(self, bidder: Any) -> None:
        """Do nothing: who bids has bought."""

    def close(self) -> Sale | None:
        """End the auction, and return the sale; None if nobody took it."""
        self.closed = True
        return self.sale

    def take(self, bidder: Any) -> Sale:
        """Take it at the present price.

        Raises:
            BidRefused: the auction is over.
        """
        if self.closed:
            raise BidRefused(f"{bidder} would take it: the auction is over")
        self.closed = True
        self.sale = Sale(bidder, self.price)
        return self.sale
