"""Auctions that are held by an actor, with a time limit. Who ends before the hammer falls has not bid.

>>> import asyncio
>>> from supervision import Runtime
>>> async def main() -> None:
...     async with Runtime() as runtime:
...         await runtime.spawn(Auctions)
...         gpu = Auction(runtime, "gpu")
...         await gpu.open(Sealed(second_price=True), seconds=0.01)
...         await gpu.bid(30, bidder="bob")
...         await gpu.bid(20, bidder="eve")
...         print(await gpu.outcome())
>>> asyncio.run(main())
Sale(winner='bob', price=20)
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from foundation.coordination.auctions import Bid, Dutch, English, Sale, SealedBids
from foundation.coordination.errors import BadRule, BidRefused
from foundation.coordination.kept import kept
from foundation.coordination.watched import Watched
from foundation.events import AuctionClosed
from foundation.holder import current_holder
from foundation.naming import own_name
from supervision import Actor, Down, Message, Ref, Refuse, ReplyTo, Request, Runtime, handle
from supervision.clock import seconds

#: The outcomes of so many auctions that are over are remembered.
REMEMBERED = 1000


class Sealed(msgspec.Struct, frozen=True):
    """Bids are secret, and opened at the end.

    Attributes:
        reserve: nothing is sold below this.
        second_price: whether the second highest bid is paid (Vickrey) instead of the highest.
    """

    reserve: float = 0.0
    second_price: bool = False


class Ascending(msgspec.Struct, frozen=True):
    """Each bid has to be higher than the last (English)."""

    reserve: float = 0.0
    increment: float = 1.0


class Descending(msgspec.Struct, frozen=True):
    """The price goes down by ``step`` each ``every`` seconds, to ``floor``; the first who bids gets it (Dutch)."""

    start: float
    step: float
    floor: float = 0.0
    every: float = 1.0


Terms: TypeAlias = Sealed | Ascending | Descending


class Held(msgspec.Struct):
    """An auction that is open."""

    terms: Terms
    auction: SealedBids | English | Dutch
    ends: float
    bidders: dict[Any, Ref]


class Open(Request[None], frozen=True):
    """Open an auction."""

    name: str
    terms: Terms
    seconds: float


class Place(Request[Bid | Sale], frozen=True):
    """Bid."""

    name: str
    amount: float
    bidder: Any
    who: Ref | None


class Ask(Request[float | None], frozen=True):
    """What the next bid has to be at least; None if the bids are sealed."""

    name: str


class Outcome(Request[Sale | None], frozen=True):
    """Wait for the end."""

    name: str


class Hammer(Message, frozen=True):
    """Time is over."""

    name: str
    auction: Any


class Lower(Message, frozen=True):
    """The price of a Dutch auction goes down."""

    name: str
    auction: Dutch


class Auctions(Actor):
    """Holds auctions. It is named ``auctions`` unless started with another name."""

    infrastructure = True

    def __init__(self) -> None:
        self._watched = Watched(self)
        self._waiting: dict[str, list[ReplyTo[Sale | None]]] = {}

    def init(self) -> None:
        """Go on with those that were open when the last incarnation ended."""
        name = own_name(self, "auctions")
        self._open: dict[str, Held] = kept(self.runtime, name)
        self._over: dict[str, Sale | None] = kept(self.runtime, f"{name}: over")
        for name, held in list(self._open.items()):
            for ref in held.bidders.values():
                self._watched.add(ref)
            self._set_clock(name, held)

    def _set_clock(self, name: str, held: Held) -> None:
        self.send_after(max(0.0, held.ends - self.runtime.clock.time()), Hammer(name, held.auction))
        if isinstance(held.terms, Descending):
            assert isinstance(held.auction, Dutch)
            self.send_after(held.terms.every, Lower(name, held.auction))

    @handle
    def open(self, request: Open) -> None:
        """Open an auction."""
        name = request.name
        if name in self._open:
            raise Refuse(BadRule("auction", name, "it is open already; wait for its outcome, or take another name"))
        try:
            auction = _auction(request.terms)
        except BadRule as error:
            raise Refuse(error) from error
        self._over.pop(name, None)
        held = self._open[name] = Held(request.terms, auction, self.runtime.clock.time() + request.seconds, {})
        self._set_clock(name, held)

    @handle
    def place(self, request: Place) -> Bid | Sale:
        """Take a bid, or refuse it."""
        held = self._open.get(request.name)
        if held is None:
            raise Refuse(BidRefused(f"{request.bidder} bids {request.amount:g}: {request.name} is not open"))
        try:
            placed = held.auction.bid(request.bidder, request.amount)
        except (BidRefused, BadRule) as error:
            raise Refuse(error) from error
        if request.who is not None:
            held.bidders[request.bidder] = request.who
            self._watched.add(request.who)
        if isinstance(placed, Sale):
            self._close(request.name, held)
        return placed

    @handle
    def ask(self, request: Ask) -> float | None:
        """Say what is asked for."""
        held = self._open.get(request.name)
        if held is None:
            raise Refuse(BidRefused(f"{request.name} is not open"))
        return held.auction.asked

    @handle
    def outcome(self, request: Outcome) -> Sale | None:
        """Answer when it is over."""
        name = request.name
        if name in self._open:
            self._waiting.setdefault(name, []).append(self.defer_reply())
            return None
        if name not in self._over:
            raise Refuse(BadRule("auction", name, "there is none of this name; open it first"))
        return self._over[name]

    @handle
    def hammer(self, message: Hammer) -> None:
        """End an auction whose time is over."""
        held = self._open.get(message.name)
        if held is not None and held.auction is message.auction:
            self._close(message.name, held)

    @handle
    def lower(self, message: Lower) -> None:
        """Lower a price."""
        held = self._open.get(message.name)
        if held is None or held.auction is not message.auction:
            return
        assert isinstance(held.terms, Descending)
        if message.auction.lower():
            self.send_after(held.terms.every, message)
        else:
            self._close(message.name, held)

    @handle
    def bidder_ended(self, message: Down) -> None:
        """Forget the bids of who is gone."""
        ref = self._watched.ended(message)
        for held in self._open.values():
            for bidder in [bidder for bidder, who in held.bidders.items() if who is ref]:
                del held.bidders[bidder]
                held.auction.withdraw(bidder)

    def _close(self, name: str, held: Held) -> None:
        del self._open[name]
        sale = self._over[name] = held.auction.close()
        if len(self._over) > REMEMBERED:
            del self._over[next(iter(self._over))]
        winner, price = (None, None) if sale is None else (sale.winner, sale.price)
        self.runtime.events.emit(AuctionClosed, auction=name, winner=winner, price=price)
        for waiting in self._waiting.pop(name, ()):
            waiting.reply(sale)
        self._watched.only({who for held in self._open.values() for who in held.bidders.values()})


def _auction(terms: Terms) -> SealedBids | English | Dutch:
    if isinstance(terms, Sealed):
        return SealedBids(terms.reserve, second_price=terms.second_price)
    if isinstance(terms, Ascending):
        return English(terms.reserve, terms.increment)
    return Dutch(terms.start, terms.step, terms.floor)


class Auction:
    """An auction, by its name.

    Args:
        runtime: where the actor runs that holds it.
        name: of the auction.
        actor: the name of the `Auctions`.
    """

    def __init__(self, runtime: Runtime, name: str, *, actor: str = "auctions") -> None:
        self.name = name
        self._address = runtime.name(actor)

    async def open(self, terms: Terms, *, seconds: float) -> None:
        """Open it, for so many seconds.

        Raises:
            BadRule: the terms make no sense, or it is open already.
            BadTime: the seconds make no sense.
        """
        await self._address.call(Open(self.name, _checked(terms), _limit(seconds)))

    async def bid(self, amount: float, *, bidder: Any = None, who: Ref | None = None) -> Bid | Sale:
        """Bid.

        Args:
            amount: how much. In a descending auction it has to be at least the present price, which is what is paid.
            bidder: who is named in the sale; ``who`` if None.
            who: the actor that bids, whose bids are forgotten when it ends: the one in which this code runs, if none.

        Returns:
            The bid; in a descending auction the sale, with which it is over.

        Raises:
            BidRefused: it is too low, or the auction is not open.
            BadRule: the amount is no number, or there is nobody who bids.
        """
        who = who or current_holder()
        bidder = who if bidder is None else bidder
        if bidder is None:
            raise BadRule("bidder", None, "say who bids, outside of actors")
        return await self._address.call(Place(self.name, amount, bidder, who))

    async def asked(self) -> float | None:
        """Return what the next bid has to be at least; None if the bids are sealed.

        Raises:
            BidRefused: it is not open.
        """
        return await self._address.call(Ask(self.name))

    async def outcome(self, *, timeout: float | None = None) -> Sale | None:
        """Wait until it is over, and return the sale; None if nothing is sold.

        Args:
            timeout: how many seconds to wait; None for any time.

        Raises:
            BadRule: there is no such auction.
            CallTimeout: it is not over yet.
        """
        return await self._address.call(Outcome(self.name), timeout)


def _checked(terms: Any) -> Terms:
    if not isinstance(terms, (Sealed, Ascending, Descending)):
        raise BadRule("terms", terms, "give Sealed(...), Ascending(...) or Descending(...)")
    if isinstance(terms, Descending):
        seconds("every", terms.every, zero=False)
    return terms


def _limit(limit: float) -> float:
    return seconds("seconds", limit, zero=False)
