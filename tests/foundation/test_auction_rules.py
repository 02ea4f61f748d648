"""The rules of auctions and the order book, against plain definitions."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.coordination import BadArgument, BidRefused
from foundation.coordination.auction_rules import Bid, Dutch, English, Sale, first_price, vickrey
from foundation.coordination.order_book import Clearing, Order, OrderBook, Trade, clear

BIDS = st.lists(st.builds(Bid, st.sampled_from("abc"), st.integers(0, 9)), max_size=6)


@given(BIDS, st.integers(0, 9))
def test_sealed_bids(bids: list[Bid], reserve: int) -> None:
    good = [bid for bid in bids if bid.amount >= reserve]
    one, two = first_price(bids, reserve), vickrey(bids, reserve)
    if not good:
        assert one is two is None
        return
    highest = max(bid.amount for bid in good)
    winner = next(bid.bidder for bid in good if bid.amount == highest)
    assert one == Sale(winner, highest)
    assert two == Sale(winner, max([reserve, *(bid.amount for bid in good if bid.bidder != winner)]))


@given(BIDS, st.integers(0, 9), st.integers(0, 9))
def test_in_a_vickrey_auction_nobody_gains_by_another_bid_than_the_worth(
    others: list[Bid], worth: int, instead: int
) -> None:
    def gain(amount: int) -> float:
        sale = vickrey([*others, Bid("me", amount)])
        return worth - sale.price if sale is not None and sale.winner == "me" else 0.0

    assert gain(worth) >= gain(instead)


def test_an_english_auction_goes_up() -> None:
    auction = English(reserve=10, increment=5)
    assert (auction.asked, auction.leading) == (10, None)
    with pytest.raises(BidRefused, match="10 or more is asked for"):
        auction.bid("ada", 9)
    auction.bid("ada", 10)
    with pytest.raises(BidRefused, match="15 or more"):
        auction.bid("bob", 14)
    auction.bid("bob", 20)
    auction.bid("eve", 25)
    auction.withdraw("eve")
    assert auction.leading == Bid("bob", 20)
    assert auction.close() == Sale("bob", 20)
    with pytest.raises(BidRefused, match="closed"):
        auction.bid("ada", 99)
    assert English().close() is None


def test_a_dutch_auction_goes_down_until_somebody_takes_it() -> None:
    auction = Dutch(10, 4, floor=3)
    prices = [auction.price]
    while auction.lower():
        prices.append(auction.price)
    assert prices == [10, 6, 3]
    assert auction.closed
    assert not auction.lower()
    with pytest.raises(BidRefused, match="over"):
        auction.take("ada")
    auction = Dutch(10, 4)
    auction.lower()
    assert auction.take("ada") == auction.sale == Sale("ada", 6)
    assert not auction.lower()


@pytest.mark.parametrize(
    "make",
    [
        lambda: first_price([Bid("a", -1)]),
        lambda: vickrey([Bid("a", float("inf"))]),
        lambda: first_price([], reserve=True),
        lambda: English(increment=0),
        lambda: English().bid("a", "1"),  # type: ignore[arg-type]
        lambda: Dutch(1, 0),
        lambda: Dutch(1, 1, floor=2),
        lambda: OrderBook().buy("a", 0, 1),
        lambda: OrderBook().sell("a", True, 1),
        lambda: OrderBook().sell("a", 1, float("nan")),
        lambda: clear([Order("a", 1, -1)], []),
    ],
)
def test_what_makes_no_sense_is_named(make: Any) -> None:
    with pytest.raises(BadArgument):
        make()


# -- the market ------------------------------------------------------------------------------------------------------


ORDERS = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9)), max_size=5)


def numbered(side: str, orders: list[tuple[int, int]]) -> list[Order]:
    """Return orders of different traders."""
    return [Order(f"{side}{n}", units, price, n) for n, (units, price) in enumerate(orders)]


@given(ORDERS, ORDERS)
def test_a_call_auction_trades_as_much_as_possible_at_one_price_that_nobody_regrets(buy: Any, sell: Any) -> None:
    bids, asks = numbered("b", buy), numbered("s", sell)
    clearing = clear(bids, asks)

    def volume(price: float) -> int:
        wanted = sum(order.units for order in bids if order.price >= price)
        offered = sum(order.units for order in asks if order.price <= price)
        return min(wanted, offered)

    most = max((volume(order.price) for order in (*bids, *asks)), default=0)
    assert clearing.units == most == sum(trade.units for trade in clearing.trades)
    if clearing.price is None:
        assert clearing == Clearing(None, 0, ())
        return
    bought = {order.who: order.units for order in bids}
    sold = {order.who: order.units for order in asks}
    for trade in clearing.trades:
        assert trade.price == clearing.price
        bought[trade.buyer] -= trade.units
        sold[trade.seller] -= trade.units
    assert min([*bought.values(), *sold.values()]) >= 0
    assert volume(clearing.price) == most
    prices = {order.who: order.price for order in (*bids, *asks)}
    for trade in clearing.trades:
        assert prices[trade.seller] <= clearing.price <= prices[trade.buyer]
    left_buyers = [who for who, units in bought.items() if units and prices[who] > clearing.price]
    left_sellers = [who for who, units in sold.items() if units and prices[who] < clearing.price]
    assert not left_buyers
    assert not left_sellers


def shown(orders: list[Order]) -> list[Any]:
    """Return orders as the plain list has them."""
    return [[order.who, order.units, order.price] for order in orders]


STEPS = st.lists(
    st.tuples(st.sampled_from(["buy", "sell", "cancel"]), st.sampled_from("abc"), st.integers(1, 3), st.integers(0, 5)),
    max_size=20,
)


@given(STEPS)
def test_a_book_trades_like_a_plain_list_of_orders(steps: list[Any]) -> None:
    """Units are kept, the best price and then the earliest order comes first, and the book is never crossed."""
    book = OrderBook()
    plain: dict[str, list[list[Any]]] = {"buy": [], "sell": []}
    for what, who, units, price in steps:
        if what == "cancel":
            gone = [order for orders in plain.values() for order in orders if order[0] == who]
            assert book.cancel(who) == sum(order[1] for order in gone)
            for orders in plain.values():
                orders[:] = [order for order in orders if order[0] != who]
            continue
        trades = getattr(book, what)(who, units, price)
        expected, left = [], units
        others = plain["sell" if what == "buy" else "buy"]
        sign = 1 if what == "buy" else -1
        for other in sorted(others, key=lambda order: sign * order[2]):
            if left and sign * other[2] <= sign * price:
                traded = min(left, other[1])
                pair = (who, other[0]) if what == "buy" else (other[0], who)
                expected.append(Trade(*pair, traded, other[2]))
                other[1] -= traded
                left -= traded
        others[:] = [order for order in others if order[1]]
        if left:
            plain[what].append([who, left, price])
        assert trades == expected
        assert book.spread is None or book.spread > 0
    assert shown(book.bids) == sorted(plain["buy"], key=lambda order: -order[2])
    assert shown(book.asks) == sorted(plain["sell"], key=lambda order: order[2])


def test_the_price_is_between_the_last_that_trade_and_the_first_that_do_not() -> None:
    for (bid, ask), expected in zip(product((9, 7), (3, 5)), (6, 7, 5, 6), strict=True):
        assert clear([Order("b", 1, bid)], [Order("s", 1, ask)]).price == expected
    assert clear([Order("b", 2, 9)], [Order("s", 2, 3)]).trades == (Trade("b", "s", 2, 6.0),)
