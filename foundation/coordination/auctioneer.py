"""Auctions that an actor holds, with a time limit.

Bids of an actor that ends before the auction closes are withdrawn.

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

from collections.abc import Iterable
from typing import Any, TypeAlias, TypeVar

import msgspec

from foundation.coordination.auction_rules import Bid, Dutch, English, Sale, SealedBids, bidder_text
from foundation.coordination.errors import BadArgument, BidRefused
from foundation.coordination.retained import RunUndo, UndoQueue, answer_or_undo, remember, retained
from foundation.coordination.validation import Party, living_ref, number, number_text, refusing, text
from foundation.events import AuctionClosed
from foundation.holders import HolderMonitors, current_holder
from foundation.naming import own_name
from foundation.options import is_a
from supervision import Actor, Down, Message, Ref, ReplyTo, Request, Runtime, Timer, handle
from supervision.clock import seconds
from supervision.errors import BadTime
from supervision.messages import describe

R = TypeVar("R")

#: The outcomes of so many auctions that are over are remembered.
REMEMBERED = 1000

#: The price of a descending auction goes down once in so many seconds at most.
SHORTEST = 0.001


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
    """The price goes down by ``step`` each ``every`` seconds, to ``floor``; the first who bids gets it (Dutch).

    ``every`` is a millisecond or more.
    """

    start: float
    step: float
    floor: float = 0.0
    every: float = 1.0


Terms: TypeAlias = Sealed | Ascending | Descending


class RunningAuction(msgspec.Struct):
    """An auction that is open.

    Attributes:
        asked: the request to open it.
        auction: its rule, with the bids.
        ends: when, by the runtime's clock.
        every: after how many seconds the price goes down; None if it does not.
    """

    asked: OpenAuction
    auction: SealedBids | English | Dutch
    ends: float
    every: float | None


class OpenAuction(Request[None], frozen=True):
    """Open an auction."""

    name: str
    terms: Terms
    seconds: float


class PlaceBid(Request[Bid | Sale], frozen=True):
    """Bid."""

    name: str
    amount: float
    bidder: Any
    who: Ref | None


class GetMinimumBid(Request[float | None], frozen=True):
    """What the next bid has to be at least; None if the bids are sealed."""

    name: str


class AwaitSale(Request[Sale | None], frozen=True):
    """Wait for the end."""

    name: str


class CloseAuction(Message, frozen=True):
    """Time is over."""

    name: str
    auction: Any


class LowerPrice(Message, frozen=True):
    """The price of a Dutch auction goes down."""

    name: str
    auction: Any


class Auctions(Actor):
    """Holds auctions. It is named ``auctions`` unless started with another name."""

    infrastructure = True

    def __init__(self) -> None:
        self._watched: HolderMonitors[str] = HolderMonitors(self)
        self._waiting: dict[str, dict[ReplyTo[Sale | None], None]] = {}
        self._timers: dict[str, list[Timer]] = {}

    def init(self) -> None:
        """Go on with those that were open when the last incarnation ended."""
        name = own_name(self, "auctions")
        self._open: dict[str, RunningAuction] = retained(self.runtime, name)
        self._over: dict[str, Sale | None] = retained(self.runtime, f"{name}: over")
        self._undo_queue = UndoQueue(self.runtime, name)
        for name, running in self._open.items():
            for ref in running.auction.holders():
                self._watched.add(ref, name)
            self._set_clock(name, running)
        self.collect(RunUndo())

    def _set_clock(self, name: str, running: RunningAuction) -> None:
        left = max(0.0, running.ends - self.runtime.clock.time())
        self._timers[name] = [self.send_after(left, CloseAuction(name, running.auction))]
        if running.every is not None:
            self._timers[name].append(self.send_interval(running.every, LowerPrice(name, running.auction)))

    @handle
    @refusing
    def open(self, request: OpenAuction) -> None:
        """Open an auction."""
        name, auction = text("name", request.name), _auction(request.terms)
        ends = self.runtime.clock.time() + seconds("seconds", request.seconds, zero=False)
        every = _every(request.terms)
        if name in self._open:
            raise BadArgument("auction", name, "it is open already; wait for its outcome, or take another name")
        self._over.pop(name, None)
        running = self._open[name] = RunningAuction(request, auction, ends, every)
        self._set_clock(name, running)

    @handle
    @refusing
    def place(self, request: PlaceBid) -> Bid | Sale:
        """Take a bid, or refuse it."""
        name, amount = text("name", request.name), number(f"bid of {bidder_text(request.bidder)}", request.amount)
        bidder = Party("bidder", request.bidder)
        who = None if request.who is None else living_ref(self.runtime, "bidding actor", request.who, request)
        running = self._open.get(name)
        if running is None:
            raise BidRefused(f"{bidder_text(request.bidder)} bids {number_text(amount)}: {name} is not open")
        before = running.auction.holders_of(bidder.value)
        placed = running.auction.bid(bidder.value, amount, who)
        self._watched.add(who, name)
        self._tidy(name, running, before)
        if isinstance(placed, Sale):
            self._close(name, running)
        return placed

    @handle
    @refusing
    def ask(self, request: GetMinimumBid) -> float | None:
        """Say what is asked for."""
        running = self._open.get(text("name", request.name))
        if running is None:
            raise BidRefused(f"{describe(request.name, form=str)} is not open")
        return running.auction.asked

    @handle
    @refusing
    def outcome(self, request: AwaitSale) -> Sale | None:
        """Answer when it is over."""
        name = text("name", request.name)
        if name in self._open:
            reply = self.defer_reply()
            self._waiting.setdefault(name, {})[reply] = None
            reply.on_abandoned(lambda: self._left(name, reply))
            return None
        if name not in self._over:
            raise BadArgument("auction", name, "there is none of this name; open it first")
        return self._over[name]

    @handle
    def close(self, message: CloseAuction) -> None:
        """End an auction whose time is over."""
        running = self._of(message)
        if running is not None:
            self._close(running.asked.name, running)

    @handle
    def lower(self, message: LowerPrice) -> None:
        """Lower a price."""
        running = self._of(message)
        if running is not None and isinstance(running.auction, Dutch) and not running.auction.lower():
            self._close(running.asked.name, running)

    @handle
    def collect(self, message: RunUndo) -> None:
        """Undo requests whose callers were cancelled before the reply."""
        for request, placed in self._undo_queue.take():
            running = self._open.get(request.name)
            if running is None:
                continue
            if isinstance(request, PlaceBid):
                before = running.auction.holders_of(placed.bidder)
                running.auction.undo(placed)
                self._tidy(request.name, running, before)
            elif running.asked is request and running.auction.untouched and request.name not in self._waiting:
                self._end(request.name)

    @handle
    def bidder_ended(self, message: Down) -> None:
        """Withdraw the bids of an actor that has ended."""
        for name in self._watched.ended(message):
            self._open[name].auction.withdraw_for(message.target)

    def _of(self, message: CloseAuction | LowerPrice) -> RunningAuction | None:
        """Return the auction for which a message of this actor to itself is; it may be over."""
        running = self._open.get(str.__str__(message.name)) if is_a(message.name, str) else None
        return running if running is not None and running.auction is message.auction else None

    def _tidy(self, name: str, running: RunningAuction, before: Iterable[Ref]) -> None:
        """Watch none of these who have no bid any more."""
        for who in before:
            if not running.auction.holds_for(who):
                self._watched.discard(who, name)

    def _left(self, name: str, reply: ReplyTo[Sale | None]) -> None:
        """Somebody has given up waiting."""
        waiting = self._waiting.get(name, {})
        waiting.pop(reply, None)
        if not waiting:
            self._waiting.pop(name, None)

    def _end(self, name: str) -> None:
        running = self._open.pop(name)
        for timer in self._timers.pop(name):
            timer.cancel()
        for who in running.auction.holders():
            self._watched.discard(who, name)

    def _close(self, name: str, running: RunningAuction) -> None:
        self._end(name)
        sale = running.auction.close()
        remember(self._over, name, sale, REMEMBERED)
        for reply in self._waiting.pop(name, {}):
            reply.reply(sale)
        winner, price = (None, None) if sale is None else (sale.winner, sale.price)
        self.runtime.events.emit(AuctionClosed, auction=name, winner=winner, price=price)


def _auction(terms: Any) -> SealedBids | English | Dutch:
    if is_a(terms, Sealed):
        if not is_a(terms.second_price, bool):
            raise BadArgument("second_price", terms.second_price, "give True or False")
        return SealedBids(terms.reserve, second_price=terms.second_price)
    if is_a(terms, Ascending):
        return English(terms.reserve, terms.increment)
    if is_a(terms, Descending):
        return Dutch(terms.start, terms.step, terms.floor)
    raise BadArgument("terms", terms, "give Sealed(...), Ascending(...) or Descending(...)")


def _every(terms: Terms) -> float | None:
    if not isinstance(terms, Descending):
        return None
    every = seconds("every", terms.every, zero=False)
    if every < SHORTEST:
        raise BadTime("every", terms.every, f"give {SHORTEST} seconds or more")
    return every


class Auction:
    """An auction, by its name.

    Args:
        runtime: where the actor runs that holds it.
        name: of the auction.
        actor: the name of the `Auctions`.
    """

    def __init__(self, runtime: Runtime, name: str, *, actor: str = "auctions") -> None:
        self.name = text("name", name)
        actor = text("actor", actor)
        self._address = runtime.name(actor)
        self._undo_queue = UndoQueue(runtime, actor)

    async def open(self, terms: Terms, *, seconds: float) -> None:
        """Open it, for so many seconds.

        Whoever is cut off before it learns that it is open has not opened it, unless somebody has bid meanwhile.

        Raises:
            BadArgument: the terms make no sense, or it is open already.
            BadTime: the seconds make no sense.
        """
        await self._unless_unseen(OpenAuction(self.name, terms, seconds))

    async def _unless_unseen(self, request: Request[R]) -> R:
        return await answer_or_undo(
            self._address.call(request), lambda answer: self._undo_queue.put(id(request), (request, answer))
        )

    async def bid(self, amount: float, *, bidder: Any = None, who: Ref | None = None) -> Bid | Sale:
        """Bid.

        Whoever is cut off before it learns that the bid counts has not bid; an earlier bid counts again. But what a bid
        has bought in a descending auction is sold.

        Args:
            amount: how much. In a descending auction it has to be at least the present price, which is what is paid.
            bidder: who is named in the sale; ``who`` if None.
            who: the actor that bids, whose bids are forgotten when it ends: the one in which this code runs, if none.

        Returns:
            The bid; in a descending auction the sale, with which it is over.

        Raises:
            BidRefused: it is too low, or the auction is not open.
            BadArgument: the amount is no number, or there is nobody who bids, or that cannot be told from others.
            NoProcess: the actor that bids has ended; or no `Auctions` runs.
        """
        who = current_holder() if who is None else who
        bidder = who if bidder is None else bidder
        if bidder is None:
            raise BadArgument("bidder", None, "say who bids, outside of actors")
        return await self._unless_unseen(PlaceBid(self.name, amount, bidder, who))

    async def asked(self) -> float | None:
        """Return what the next bid has to be at least; None if the bids are sealed.

        Raises:
            BidRefused: it is not open.
        """
        return await self._address.call(GetMinimumBid(self.name))

    async def outcome(self, *, timeout: float | None = None) -> Sale | None:
        """Wait until it is over, and return the sale; None if nothing is sold.

        Args:
            timeout: how many seconds to wait; None for any time.

        Raises:
            BadArgument: there is no such auction.
            CallTimeout: it is not over yet.
            ActorExited: the `Auctions` was restarted; ask again.
        """
        return await answer_or_undo(self._address.call(AwaitSale(self.name), timeout))
