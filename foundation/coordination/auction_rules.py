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

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from foundation.coordination.errors import BadArgument, BidRefused
from foundation.coordination.validation import Party, discard_number, number, number_text
from supervision.messages import describe


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
        BadArgument: an amount is no number from 0.
    """
    return _sold(_ranked(bids, reserve), number("reserve", reserve), second_price=False)


def vickrey(bids: Sequence[Bid], reserve: float = 0.0) -> Sale | None:
    """Return the sale of a sealed auction in which the second highest bid is paid, or the reserve if there is none.

    Nobody gains by bidding anything else than what it is worth to them. Of several bids of one bidder only the highest
    counts, so that nobody sets a price for itself.

    Args:
        bids: in the order in which they came.
        reserve: the lowest price.

    Raises:
        BadArgument: an amount is no number from 0.
    """
    return _sold(_ranked(bids, reserve), number("reserve", reserve), second_price=True)


def _ranked(bids: Sequence[Bid], reserve: float) -> list[tuple[Party, float]]:
    """Return who bids how much, of those that reach the reserve, the best first."""
    least = number("reserve", reserve)
    checked = [(Party("bidder", bid.bidder), number(f"bid of {bidder_text(bid.bidder)}", bid.amount)) for bid in bids]
    return sorted((bid for bid in checked if bid[1] >= least), key=lambda bid: -bid[1])


def _sold(ranked: list[tuple[Party, float]], reserve: float, *, second_price: bool) -> Sale | None:
    if not ranked:
        return None
    winner, price = ranked[0]
    if second_price:
        price = max([reserve, *[amount for party, amount in ranked if party != winner][:1]])
    return Sale(winner.value, price)


def bidder_text(bidder: Any) -> str:
    """Return a bidder as errors name it."""
    return describe(bidder, form=str)


class Bids:
    """The bids of one auction in the order in which they came: those of each bidder, and those kept for each actor."""

    def __init__(self) -> None:
        self._count = 0
        #: By number: who bids, the bid, and on whose behalf it is kept, or None.
        self._bids: OrderedDict[int, tuple[Party, Bid, Any]] = OrderedDict()
        self._of: dict[Party, dict[int, None]] = {}
        self._by: dict[Any, dict[int, None]] = {}

    def _add(self, party: Party, amount: float, by: Any) -> Bid:
        self._count += 1
        bid = Bid(party.value, amount)
        self._bids[self._count] = (party, bid, by)
        self._of.setdefault(party, {})[self._count] = None
        if by is not None:
            self._by.setdefault(by, {})[self._count] = None
        return bid

    def _forget(self, place: int) -> None:
        party, _, by = self._bids.pop(place)
        discard_number(self._of, party, place)
        if by is not None:
            discard_number(self._by, by, place)

    def _places(self, bidder: Any) -> list[int]:
        return list(self._of.get(Party("bidder", bidder), ()))

    def _newest(self) -> list[tuple[Party, float]]:
        """Return the newest bid of each bidder, in the order in which they came."""
        places = sorted(next(reversed(places)) for places in self._of.values())
        return [(self._bids[place][0], self._bids[place][1].amount) for place in places]

    @property
    def untouched(self) -> bool:
        """Whether nobody has bid."""
        return not self._bids

    def withdraw(self, bidder: Any) -> None:
        """Forget all bids of somebody who is gone."""
        for place in self._places(bidder):
            self._forget(place)

    def undo(self, bid: Bid) -> None:
        """Forget one bid. What it had changed is as it was."""
        for place in self._places(bid.bidder):
            if self._bids[place][1] is bid:
                self._forget(place)

    def withdraw_for(self, by: Any) -> None:
        """Forget all bids that are kept on behalf of somebody who is gone."""
        for place in list(self._by.get(by, ())):
            self._forget(place)

    def holders_of(self, bidder: Any) -> set[Any]:
        """Return all on whose behalf bids of a bidder are kept."""
        return {self._bids[place][2] for place in self._places(bidder)} - {None}

    def holders(self) -> list[Any]:
        """Return all on whose behalf bids are kept."""
        return list(self._by)

    def holds_for(self, by: Any) -> bool:
        """Tell whether a bid is kept on behalf of somebody."""
        return by in self._by


class SealedBids(Bids):
    """An auction in which bids are secret, and opened at the end. Who bids again has changed the bid.

    Args:
        reserve: the lowest price.
        second_price: whether the second highest bid is paid (`vickrey`) instead of the highest (`first_price`).

    Raises:
        BadArgument: the reserve makes no sense.
    """

    asked: None = None

    def __init__(self, reserve: float = 0.0, *, second_price: bool = False) -> None:
        super().__init__()
        self._reserve = number("reserve", reserve)
        self._second_price = bool(second_price)

    def bid(self, bidder: Any, amount: float, by: Any = None) -> Bid:
        """Bid, or bid again.

        Args:
            bidder: who is named in the sale.
            amount: how much.
            by: on whose behalf it is kept: see `Bids.withdraw_for`.

        Raises:
            BadArgument: the amount is no number, or the bidder cannot be told from others.
        """
        party = Party("bidder", bidder)
        bid = self._add(party, number(f"bid of {bidder_text(bidder)}", amount), by)
        for place in list(self._of[party])[:-2]:  # the last but one counts again if the last is undone
            self._forget(place)
        return bid

    def close(self) -> Sale | None:
        """Open the bids, and return the sale."""
        ranked = [bid for bid in self._newest() if bid[1] >= self._reserve]
        return _sold(sorted(ranked, key=lambda bid: -bid[1]), self._reserve, second_price=self._second_price)


class English(Bids):
    """An auction in which the price goes up: each bid is higher than the last by at least the increment.

    Args:
        reserve: the lowest first bid.
        increment: by how much a bid has to be higher than the last.

    Raises:
        BadArgument: a number makes no sense.
    """

    def __init__(self, reserve: float = 0.0, increment: float = 1.0) -> None:
        super().__init__()
        self._reserve = number("reserve", reserve)
        self._increment = number("increment", increment, zero=False)
        self.closed = False

    @property
    def asked(self) -> float:
        """The lowest amount that the next bid may have."""
        leading = self.leading
        return self._reserve if leading is None else leading.amount + self._increment

    @property
    def leading(self) -> Bid | None:
        """The highest bid so far."""
        return next(reversed(self._bids.values()))[1] if self._bids else None

    def bid(self, bidder: Any, amount: float, by: Any = None) -> Bid:
        """Bid. Arguments are those of `SealedBids.bid`.

        Raises:
            BidRefused: it is too low, or the auction is closed.
            BadArgument: the amount is no number, or the bidder cannot be told from others.
        """
        party, amount = Party("bidder", bidder), number(f"bid of {bidder_text(bidder)}", amount)
        if self.closed:
            raise BidRefused(f"{bidder_text(bidder)} bids {number_text(amount)}: the auction is closed")
        leading = self.leading
        if amount < self.asked or (leading is not None and amount <= leading.amount):
            raise BidRefused(
                f"{bidder_text(bidder)} bids {number_text(amount)}: {number_text(self.asked)} or more is asked for"
            )
        return self._add(party, amount, by)

    def close(self) -> Sale | None:
        """End the auction, and return the sale; None if nobody has bid."""
        self.closed = True
        return None if self.leading is None else Sale(self.leading.bidder, self.leading.amount)


class Dutch(Bids):
    """An auction in which the price goes down until somebody takes it.

    Args:
        start: the first price.
        step: by how much it goes down each time.
        floor: the last price.

    Raises:
        BadArgument: a number makes no sense.
    """

    def __init__(self, start: float, step: float, floor: float = 0.0) -> None:
        super().__init__()
        self.price = number("start", start)
        self._step = number("step", step, zero=False)
        self._floor = number("floor", floor)
        if self._floor > self.price:
            raise BadArgument("floor", floor, f"give a floor that is not above the start, {number_text(self.price)}")
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

    def bid(self, bidder: Any, amount: float, by: Any = None) -> Sale:
        """Take it at the present price, if that is at most ``amount``.

        Raises:
            BidRefused: the price is higher, or the auction is over.
            BadArgument: the amount is no number, or the bidder cannot be told from others.
        """
        amount = number(f"bid of {bidder_text(bidder)}", amount)
        if not self.closed and amount < self.price:
            raise BidRefused(
                f"{bidder_text(bidder)} bids {number_text(amount)}: {number_text(self.price)} is asked for"
            )
        return self.take(bidder)

    def close(self) -> Sale | None:
        """End the auction, and return the sale; None if nobody took it."""
        self.closed = True
        return self.sale

    def take(self, bidder: Any) -> Sale:
        """Take it at the present price.

        Raises:
            BidRefused: the auction is over.
            BadArgument: the bidder cannot be told from others.
        """
        buyer = Party("bidder", bidder).value
        if self.closed:
            raise BidRefused(f"{bidder_text(bidder)} would take it: the auction is over")
        self.closed = True
        self.sale = Sale(buyer, self.price)
        return self.sale
