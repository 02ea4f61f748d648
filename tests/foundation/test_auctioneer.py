"""Auctions and markets that actors hold: with time limits, over restarts, and when bidders end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.coordination import (
    Ascending,
    Auction,
    Auctions,
    BadArgument,
    BidRefused,
    Descending,
    Market,
    Markets,
    Sealed,
    Traded,
)
from foundation.coordination.auction_rules import Bid, Sale, first_price, vickrey
from foundation.coordination.auctioneer import REMEMBERED
from foundation.coordination.markets import Quote
from foundation.coordination.order_book import OrderBook, Trade
from foundation.events import AuctionClosed
from supervision import Actor, CallTimeout, ChildSpec, Request, Runtime, Supervisor, handle, system
from supervision.errors import BadTime
from supervision.testing import run, settled


class BidNow(Request[Any]):
    """Bid in an auction."""

    auction: Any
    amount: float


class Trader(Actor):
    """Bids and trades when it is told to, and keeps what it hears of its trades."""

    def __init__(self) -> None:
        self.heard: list[Traded] = []

    @handle
    async def bid_now(self, message: BidNow) -> Any:
        """Do it in its own name."""
        if isinstance(message.auction, Market):
            return await message.auction.sell(1, price=message.amount)
        return await message.auction.bid(message.amount)

    @handle
    def traded(self, message: Traded) -> None:
        """Keep it."""
        self.heard.append(message)


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime with both kinds of actors, under a supervisor."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        children = [ChildSpec("auctions", Auctions, name="auctions"), ChildSpec("markets", Markets, name="markets")]
        await runtime.spawn(Supervisor, children, max_restarts=100)
        yield runtime


async def restart(runtime: Runtime, name: str) -> None:
    """Kill the holder of a name, and wait for its replacement."""
    before = runtime.whereis(name)
    assert before is not None
    before.kill()
    await settled(runtime)
    assert runtime.whereis(name) not in (None, before)


# -- auctions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("second_price", "price"), [(False, 30), (True, 20)])
async def test_sealed_bids_are_opened_when_time_is_over(runtime: Runtime, second_price: bool, price: float) -> None:
    gpu = Auction(runtime, "gpu")
    await gpu.open(Sealed(reserve=5, second_price=second_price), seconds=60)
    assert await gpu.bid(30, bidder="bob") == Bid("bob", 30)
    await gpu.bid(20, bidder="eve")
    assert await gpu.asked() is None
    began = runtime.clock.time()
    assert await gpu.outcome() == Sale("bob", price)
    assert runtime.clock.time() - began == 60
    assert await gpu.outcome() == Sale("bob", price)
    with pytest.raises(BidRefused, match="ada bids 9: gpu is not open"):
        await gpu.bid(9, bidder="ada")
    with pytest.raises(BidRefused, match="gpu is not open"):
        await gpu.asked()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=8), st.integers(0, 9), st.booleans())
def test_a_sealed_auction_is_the_rule_applied_to_the_last_bid_of_each(
    bids: list[tuple[str, int]], reserve: int, second_price: bool
) -> None:
    async def held() -> Sale | None:
        async with Runtime(watchdog=None, reports=False) as runtime:
            await runtime.spawn(Auctions)
            auction = Auction(runtime, "x")
            await auction.open(Sealed(reserve, second_price), seconds=1)
            for bidder, amount in bids:
                await auction.bid(amount, bidder=bidder)
            return await auction.outcome()

    last = {bidder: place for place, (bidder, _) in enumerate(bids)}
    counting = [Bid(*bids[place]) for place in sorted(last.values())]
    assert run(held()) == (vickrey if second_price else first_price)(counting, reserve)


async def test_in_an_ascending_auction_each_bid_is_higher(runtime: Runtime) -> None:
    gpu = Auction(runtime, "gpu")
    await gpu.open(Ascending(reserve=10, increment=5), seconds=60)
    assert await gpu.asked() == 10
    await gpu.bid(10, bidder="ada")
    with pytest.raises(BidRefused, match="bob bids 12: 15 or more is asked for"):
        await gpu.bid(12, bidder="bob")
    await gpu.bid(15, bidder="bob")
    assert await gpu.outcome() == Sale("bob", 15)


async def test_in_a_descending_auction_the_first_bid_at_the_price_of_the_moment_wins(runtime: Runtime) -> None:
    gpu = Auction(runtime, "gpu")
    await gpu.open(Descending(start=10, step=3, floor=2, every=5), seconds=60)
    await runtime.sleep(11)
    assert await gpu.asked() == 4
    with pytest.raises(BidRefused, match="bob bids 3: 4 is asked for"):
        await gpu.bid(3, bidder="bob")
    assert await gpu.bid(9, bidder="ada") == Sale("ada", 4)
    assert await gpu.outcome() == Sale("ada", 4)
    await runtime.sleep(100)


async def test_a_descending_auction_ends_unsold_after_its_floor_or_when_time_is_over(runtime: Runtime) -> None:
    began = runtime.clock.time()
    for seconds, over in ((60, 15), (7, 7)):
        gpu = Auction(runtime, f"gpu {seconds}")
        await gpu.open(Descending(start=10, step=5, every=5), seconds=seconds)
        assert await gpu.outcome() is None
        assert runtime.clock.time() - began == over
        began = runtime.clock.time()


async def test_bids_of_an_actor_that_ends_before_the_end_do_not_count(runtime: Runtime) -> None:
    for terms in (Sealed(), Ascending(), Descending(9, 1, every=100)):
        gpu = Auction(runtime, f"gpu {terms}")
        rich, poor = await runtime.spawn(Trader), await runtime.spawn(Trader)
        await gpu.open(terms, seconds=10)
        await poor.call(BidNow(gpu, 5 if not isinstance(terms, Descending) else 9))
        if not isinstance(terms, Descending):
            await rich.call(BidNow(gpu, 7))
        rich.kill()
        assert await gpu.outcome() == Sale(poor, 9 if isinstance(terms, Descending) else 5)


async def test_the_end_of_somebody_with_bids_elsewhere_changes_nothing_here(runtime: Runtime) -> None:
    one, other = Auction(runtime, "one"), Auction(runtime, "other")
    await one.open(Descending(9, 1, every=100), seconds=20)
    await other.open(Sealed(), seconds=10)
    trader, gone = await runtime.spawn(Trader), await runtime.spawn(Trader)
    await trader.call(BidNow(other, 3))
    await gone.call(BidNow(other, 4))
    gone.kill()
    assert await other.outcome() == Sale(trader, 3)
    assert await one.outcome() is None


async def test_open_auctions_go_on_when_their_actor_is_restarted(runtime: Runtime) -> None:
    events: list[Any] = []
    runtime.subscribe(events.append, AuctionClosed)
    gone = await runtime.spawn(Trader)
    terms: dict[str, Sealed | Descending] = {"sealed": Sealed(), "down": Descending(10, 3, every=5)}
    for name, kind in terms.items():
        await Auction(runtime, name).open(kind, seconds=12)
    await Auction(runtime, "sealed").bid(5, bidder="ada")
    await gone.call(BidNow(Auction(runtime, "sealed"), 9))
    await runtime.sleep(4)
    await restart(runtime, "auctions")
    gone.kill()
    await runtime.sleep(7)
    assert await Auction(runtime, "down").asked() == 7
    assert await Auction(runtime, "sealed").outcome() == Sale("ada", 5)
    assert await Auction(runtime, "down").outcome() is None
    assert [(event.auction, event.winner, event.price) for event in events] == [
        ("sealed", "ada", 5),
        ("down", None, None),
    ]


async def test_a_clock_of_an_auction_that_is_over_does_not_end_the_next_one_of_its_name(runtime: Runtime) -> None:
    gpu = Auction(runtime, "gpu")
    await gpu.open(Descending(10, 1, every=4), seconds=9)
    await gpu.bid(10, bidder="ada")
    await gpu.open(Descending(20, 1, every=100), seconds=100)
    await runtime.sleep(50)
    assert await gpu.asked() == 20


async def test_what_makes_no_sense_is_refused(runtime: Runtime) -> None:
    gpu = Auction(runtime, "gpu")
    with pytest.raises(BadArgument, match="terms = 'up': give Sealed"):
        await gpu.open("up", seconds=1)  # type: ignore[arg-type]
    for seconds, terms in ((0, Sealed()), (1, Descending(1, 1, every=0))):
        with pytest.raises(BadTime):
            await gpu.open(terms, seconds=seconds)
    with pytest.raises(BadArgument, match="reserve = -1"):
        await gpu.open(Sealed(reserve=-1), seconds=1)
    with pytest.raises(BadArgument, match="there is none of this name; open it first"):
        await gpu.outcome()
    await gpu.open(Sealed(), seconds=1)
    with pytest.raises(BadArgument, match="it is open already"):
        await gpu.open(Sealed(), seconds=1)
    with pytest.raises(BadArgument, match="bid of ada = -2: give a number from 0"):
        await gpu.bid(-2, bidder="ada")
    with pytest.raises(BadArgument, match="bidder = None: say who bids, outside of actors"):
        await gpu.bid(2)
    with pytest.raises(CallTimeout):
        await gpu.outcome(timeout=0.5)


async def test_only_so_many_outcomes_are_remembered(runtime: Runtime) -> None:
    for number in range(REMEMBERED + 1):
        auction = Auction(runtime, str(number))
        await auction.open(Descending(1, 1), seconds=1)
        await auction.bid(1, bidder="ada")
    assert await Auction(runtime, "1").outcome() == Sale("ada", 1)
    with pytest.raises(BadArgument, match="there is none of this name"):
        await Auction(runtime, "0").outcome()


# -- markets ---------------------------------------------------------------------------------------------------------

ORDERS = st.tuples(
    st.sampled_from(["buy", "sell", "end"]), st.sampled_from("abc"), st.integers(1, 5), st.integers(1, 9)
)


@given(st.lists(ORDERS, max_size=12))
def test_a_market_is_the_book_and_survives_restarts(orders: list[tuple[str, str, int, int]]) -> None:
    book = OrderBook()

    async def kept() -> None:
        async with Runtime(watchdog=None, reports=False) as runtime:
            await runtime.spawn(Supervisor, [ChildSpec("markets", Markets, name="markets")], max_restarts=100)
            hours = Market(runtime, "hours")
            for side, trader, units, price in orders:
                if side == "end":
                    assert await hours.cancel(trader) == book.cancel(trader)
                    await restart(runtime, "markets")
                elif side == "buy":
                    assert await hours.buy(units, price=price, trader=trader) == book.buy(trader, units, price)
                else:
                    assert await hours.sell(units, price=price, trader=trader) == book.sell(trader, units, price)
            quote = await hours.quote()
            assert quote.bid == (book.bids[0].price if book.bids else None)
            assert quote.ask == (book.asks[0].price if book.asks else None)

    run(kept())


async def test_who_has_an_open_order_is_told_of_its_trade_and_who_ends_has_none(runtime: Runtime) -> None:
    hours = Market(runtime, "hours")
    trader, gone = await runtime.spawn(Trader), await runtime.spawn(Trader)
    heard = await runtime.spawn(Trader)
    await gone.call(BidNow(hours, 1))
    await trader.call(BidNow(hours, 5))
    await heard.call(BidNow(Market(runtime, "other"), 5))
    assert await hours.quote() == Quote(None, 1, None)
    await restart(runtime, "markets")
    gone.kill()
    assert await hours.buy(2, price=9, trader="ben") == [Trade("ben", trader, 1, 5)]
    assert await hours.quote() == Quote(9, None, 5)
    assert await hours.sell(1, price=2, trader="sue") == [Trade("ben", "sue", 1, 9)]
    assert (await system.get_state(trader))["heard"] == [Traded("hours", Trade("ben", trader, 1, 5))]


async def test_an_order_that_makes_no_sense_is_refused(runtime: Runtime) -> None:
    hours = Market(runtime, "hours")
    with pytest.raises(BadArgument, match="units of ada = 0"):
        await hours.buy(0, price=1, trader="ada")
    with pytest.raises(BadArgument, match="trader = None: say who trades, outside of actors"):
        await hours.buy(1, price=1)
    assert await hours.cancel("ada") == 0
