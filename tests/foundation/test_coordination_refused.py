"""A request is checked whole before anything changes: its caller gets a typed error, and nobody else notices."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.coordination import (
    Ascending,
    Auction,
    Auctions,
    BadArgument,
    Barrier,
    Barriers,
    Consensus,
    CoordinationError,
    Descending,
    Election,
    Elections,
    Grant,
    Lock,
    Locks,
    Majority,
    Market,
    Markets,
    Quorum,
    Rule,
    Sealed,
    Unanimity,
    Vote,
    Weighted,
    propose,
)
from foundation.coordination.auction_rules import Bid, Dutch, English, SealedBids, first_price, vickrey
from foundation.coordination.auctioneer import AwaitSale, CloseAuction, GetMinimumBid, LowerPrice, OpenAuction, PlaceBid
from foundation.coordination.barriers import Arrive, Withdrawal
from foundation.coordination.consensus import Propose, RoundTimeout, Tally, VoteReceived
from foundation.coordination.elections import AwaitLeader, CheckFollower, Follow, Resign, Stand, Unfollow
from foundation.coordination.locks import Acquire, Expire, Release, Renew
from foundation.coordination.markets import CancelOrders, GetQuote, PlaceOrder
from foundation.coordination.order_book import Order, OrderBook, Trade, clear
from foundation.coordination.retained import RunUndo
from foundation.coordination.validation import Party, number, number_text, plain_number, text, whole
from supervision import NORMAL, Actor, ChildSpec, Down, Monitor, Runtime, Supervisor, handle, system
from supervision.errors import BadTime, CallError, SpecError
from supervision.messages import describe
from supervision.testing import run, settled

KINDS: list[type[Actor]] = [Locks, Barriers, Elections, Consensus, Auctions, Markets]
#: What a caller may get.
TYPED = (CoordinationError, SpecError, CallError)


# -- what is sent ------------------------------------------------------------------------------------------------------


class Broken(Exception):
    """What the values below raise."""


def broken(*_: Any) -> Any:
    """Raise."""
    raise Broken


class NoHash:
    """Cannot be hashed."""

    __hash__ = broken  # type: ignore[assignment]


class NoEquality:
    """Cannot be compared."""

    __eq__ = broken  # type: ignore[assignment]

    def __hash__(self) -> int:
        return hash("ada")


class NeverEqual(NoEquality):
    """Is equal to nothing, itself included."""

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = NoEquality.__hash__


class OnlyItself(NoEquality):
    """Can be compared with itself only."""

    def __eq__(self, other: object) -> bool:
        return self is other or broken()

    __hash__ = NoEquality.__hash__


class NoText:
    """Cannot be shown."""

    __repr__ = __str__ = __format__ = broken  # type: ignore[assignment]


class NoClass:
    """Does not say what it is."""

    __class__ = property(broken)  # type: ignore[assignment]


class NoTruth:
    """Is neither true nor false."""

    __bool__ = __len__ = broken  # type: ignore[assignment]


class OwnInt(int):
    """A whole number that is somebody's own."""

    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __neg__ = __add__ = __sub__ = __float__ = __format__ = __repr__ = (
        broken  # type: ignore[assignment]
    )
    __hash__ = broken  # type: ignore[assignment]


class OwnFloat(float):
    """A number that is somebody's own."""

    __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __neg__ = __add__ = __sub__ = __float__ = __format__ = __repr__ = (
        broken  # type: ignore[assignment]
    )
    __hash__ = broken  # type: ignore[assignment]


class OwnText(str):
    """A string that is somebody's own."""

    __slots__ = ()
    __eq__ = __lt__ = __str__ = __format__ = __repr__ = broken  # type: ignore[assignment]
    __hash__ = broken  # type: ignore[assignment]


class OwnRule(Rule, frozen=True):
    """A rule that raises."""

    def needed(self, total: Fraction) -> Fraction:
        """Raise."""
        raise Broken


class Nonsense(Rule, frozen=True):
    """A rule that asks for no number."""

    asked: Any

    def needed(self, total: Fraction) -> Fraction:
        """Ask for something."""
        return self.asked  # type: ignore[no-any-return]


class BrokenMapping(dict[Any, Any]):
    """A mapping that raises."""

    items = keys = __iter__ = broken  # type: ignore[assignment]


class Idle(Actor):
    """Agrees to everything."""

    @handle
    def vote(self, request: Vote) -> bool | None:
        """Agree."""
        return True


NASTY: list[Callable[[], Any]] = [
    lambda: None,
    lambda: math.nan,
    lambda: math.inf,
    lambda: -math.inf,
    lambda: -1,
    lambda: -0.0,
    lambda: 0,
    lambda: True,
    lambda: 10**400,
    lambda: -(10**400),
    lambda: 10**5000,
    lambda: 2**63,
    lambda: 1.7e308,
    lambda: int(1.7e308),
    lambda: 5e-324,
    lambda: Decimal("1.5"),
    lambda: Fraction(10**400),
    lambda: Fraction(1, 10**5000),
    lambda: 1 + 2j,
    lambda: "",
    lambda: "high",
    lambda: "x" * 100_000,
    lambda: "\ud800",
    lambda: b"bytes",
    list,
    lambda: ["a"],
    dict,
    lambda: {"a": 1},
    lambda: (1, [2]),
    object,
    lambda: Idle,
    lambda: broken,
    RunUndo,
    NoHash,
    NoEquality,
    NeverEqual,
    OnlyItself,
    NoText,
    NoClass,
    NoTruth,
    lambda: OwnInt(3),
    lambda: OwnFloat(3.5),
    lambda: OwnText("own"),
    OwnRule,
    lambda: Nonsense(NoTruth()),
    lambda: BrokenMapping(a=1),
    lambda: Grant(OwnText("a"), OwnInt(1), 1, None, None),
    lambda: Grant([], [], [], [], []),  # type: ignore[arg-type]
    lambda: Sealed(NoText(), "yes"),  # type: ignore[arg-type]
    lambda: Sealed(0.0, NoTruth()),  # type: ignore[arg-type]
    lambda: Ascending(math.nan, 10**400),
    lambda: Descending(10**400, 1),
    lambda: Descending(1e308, 5e-324, every=5e-324),
    lambda: Descending(10, 1, OwnFloat(20)),
    lambda: Quorum(math.nan),
    lambda: Quorum("two"),  # type: ignore[arg-type]
    lambda: Weighted(10**400),
    lambda: Weighted(math.inf),
]
nasty = st.integers(0, len(NASTY) - 1)


class Stage:
    """A runtime with all coordinators, and neighbours who must not notice anything."""

    async def set(self, runtime: Runtime) -> None:
        """Start all."""
        self.runtime = runtime
        children = [ChildSpec(kind.__name__.lower(), kind, name=kind.__name__.lower()) for kind in KINDS]
        self.supervisor = await runtime.spawn(Supervisor, children, max_restarts=0)
        self.one, self.two = await runtime.spawn(Idle), await runtime.spawn(Idle)
        self.refs = {kind.__name__.lower(): runtime.whereis(kind.__name__.lower()) for kind in KINDS}
        self.lock, self.election = Lock(runtime, "neighbour"), Election(runtime, "neighbour")
        self.auction, self.market = Auction(runtime, "neighbour"), Market(runtime, "neighbour")
        self.grant = await self.lock.acquire(holder=self.one, lease=1e5)
        self.waiting = asyncio.ensure_future(self.lock.acquire())
        self.leader = await self.election.stand(self.one)
        await self.auction.open(Ascending(), seconds=1e6)
        await self.auction.bid(5, bidder="ada")
        await Auction(runtime, "open").open(Ascending(), seconds=1e6)
        await self.market.sell(5, price=10, trader="ada")
        self.arrived = asyncio.ensure_future(Barrier(runtime, "neighbour", parties=2).arrive())
        await settled(runtime)

    async def check(self) -> None:
        """Make sure that all services are those that were started, and do what they should."""
        await settled(self.runtime)
        assert self.supervisor.alive
        for name, ref in self.refs.items():
            assert self.runtime.whereis(name) is ref, name
        assert not self.waiting.done()
        assert not self.arrived.done()
        assert self.lock.is_valid(self.grant)
        assert self.election.leader == self.leader
        assert await self.auction.asked() == 6
        assert (await self.market.quote()).ask == 10
        assert (await propose(self.runtime, 1, [self.one], Unanimity())).accepted

    async def restart(self) -> None:
        """Restart all services: no state that was once accepted makes a start fail."""
        self.supervisor.kill()
        await settled(self.runtime)
        for name in self.refs:
            ref = self.runtime.whereis(name)
            if ref is not None:
                ref.kill()
        for kind in KINDS:
            await self.runtime.spawn(kind)
        await settled(self.runtime)
        assert all(self.runtime.whereis(name) is not None for name in self.refs)
        assert self.lock.is_valid(self.grant)
        assert self.election.leader == self.leader
        assert await self.auction.asked() == 6
        assert (await self.market.quote()).ask == 10

    def clear(self) -> None:
        """Let nobody wait."""
        for task in (self.waiting, self.arrived):
            task.cancel()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """A stage that is set."""
    async with Runtime(watchdog=None, reports=False) as runtime:
        stage = Stage()
        await stage.set(runtime)
        yield stage
        stage.clear()


Fields = tuple[Any, ...]
#: Every message of every coordinator, with what would be right.
MESSAGES: list[tuple[str, Callable[..., Any], Callable[[Stage], Fields]]] = [
    ("locks", Acquire, lambda s: ("a", 2, 1, s.one, 5.0)),
    ("locks", Release, lambda s: (Grant("a", 1, 1, None, None),)),
    ("locks", Renew, lambda s: (Grant("a", 1, 1, None, None), 5.0)),
    ("locks", Expire, lambda s: ("neighbour", 1)),
    ("locks", RunUndo, lambda s: ()),
    ("barriers", Arrive, lambda s: ("a", 2, s.one, Withdrawal())),
    ("elections", Stand, lambda s: ("a", s.two, 5)),
    ("elections", Resign, lambda s: ("a", s.two)),
    ("elections", AwaitLeader, lambda s: ("a", 3)),
    ("elections", Follow, lambda s: ("a", s.two)),
    ("elections", Unfollow, lambda s: ("a", s.two)),
    ("elections", CheckFollower, lambda s: ("a", s.runtime.name("two"))),
    ("consensus", Propose, lambda s: (1, {s.one: 1.0, s.two: 2.0}, Majority(), 5.0)),
    ("consensus", VoteReceived, lambda s: (1, s.one)),
    ("consensus", RoundTimeout, lambda s: (1,)),
    ("auctions", OpenAuction, lambda s: ("a", Descending(10, 1), 5.0)),
    ("auctions", PlaceBid, lambda s: ("a", 7, "bob", s.two)),
    ("auctions", PlaceBid, lambda s: ("open", 5, "bob", s.two)),
    ("auctions", GetMinimumBid, lambda s: ("a",)),
    ("auctions", AwaitSale, lambda s: ("a",)),
    ("auctions", CloseAuction, lambda s: ("neighbour", None)),
    ("auctions", LowerPrice, lambda s: ("neighbour", None)),
    ("markets", PlaceOrder, lambda s: ("a", "buy", 3, 5.0, "bob", s.two)),
    ("markets", CancelOrders, lambda s: ("a", "bob", 3)),
    ("markets", GetQuote, lambda s: ("a",)),
    *((kind.__name__.lower(), Down, lambda s: (Monitor(s.one, s.one, None), s.one, None)) for kind in KINDS),  # type: ignore[arg-type]
]


async def send(stage: Stage, name: str, message: Any) -> None:
    """Send something to a service, as a message and as a request."""
    ref = stage.refs[name]
    assert ref is not None
    ref.cast(message)
    call: Any = ref.call(message, timeout=1.0)
    await asyncio.wait([call])
    error = call.exception()
    assert error is None or isinstance(error, TYPED), describe(error)


@pytest.mark.parametrize("place", range(len(MESSAGES)), ids=lambda n: f"{n} {MESSAGES[n][1].__name__}")
async def test_no_message_ends_a_service_whatever_is_in_it(stage: Stage, place: int) -> None:
    name, kind, fields = MESSAGES[place]
    right = fields(stage)
    await send(stage, name, kind(*right))
    for field in range(len(right)):
        for make in NASTY:
            await send(stage, name, kind(*right[:field], make(), *right[field + 1 :]))
    if kind is not Propose:  # everybody of the same kind has been asked, and none is left
        await stage.check()
    await stage.restart()


@given(st.lists(st.tuples(st.integers(0, len(MESSAGES) - 1), st.lists(nasty, min_size=6, max_size=6)), max_size=12))
def test_no_row_of_messages_ends_a_service(rows: list[tuple[int, list[int]]]) -> None:
    async def main() -> None:
        async with Runtime(watchdog=None, reports=False) as runtime:
            stage = Stage()
            await stage.set(runtime)
            for place, values in rows:
                name, kind, fields = MESSAGES[place]
                await send(stage, name, kind(*[NASTY[value]() for value in values[: len(fields(stage))]]))
            await stage.check()
            await stage.restart()
            stage.clear()

    run(main())


async def renewed(stage: Stage, lease: Any) -> None:
    lock = Lock(stage.runtime, "renewed")
    grant = await lock.acquire(lease=5.0)
    await lock.renew(grant, lease)
    await lock.release(grant)


#: Every public call, with one argument for a nasty value, or several.
CALLS: list[Callable[[Stage, Any], Any]] = [
    lambda s, x: Lock(s.runtime, x).acquire(timeout=1.0),
    lambda s, x: Lock(s.runtime, "a", capacity=x).acquire(timeout=1.0),
    lambda s, x: Lock(s.runtime, "b").acquire(x, timeout=1.0),
    lambda s, x: Lock(s.runtime, "c").acquire(lease=x, timeout=1.0),
    lambda s, x: Lock(s.runtime, "d").acquire(holder=x, timeout=1.0),
    lambda s, x: Lock(s.runtime, "e", actor=x).acquire(timeout=1.0),
    lambda s, x: Lock(s.runtime, "e").release(x),
    lambda s, x: Lock(s.runtime, "e").renew(x, 1.0),
    renewed,
    lambda s, x: _plain(lambda: s.lock.is_valid(x)),
    lambda s, x: Barrier(s.runtime, x, parties=2).arrive(timeout=1.0),
    lambda s, x: Barrier(s.runtime, "a", parties=x).arrive(timeout=1.0),
    lambda s, x: Barrier(s.runtime, "b", parties=2).arrive(who=x, timeout=1.0),
    lambda s, x: Election(s.runtime, x).stand(s.two),
    lambda s, x: Election(s.runtime, "a").stand(x),
    lambda s, x: Election(s.runtime, "a").stand(s.two, x),
    lambda s, x: Election(s.runtime, "a").resign(x),
    lambda s, x: Election(s.runtime, "b").leader_after(x, timeout=1.0),
    lambda s, x: Election(s.runtime, "a").follow(x),
    lambda s, x: Election(s.runtime, "a").unfollow(x),
    lambda s, x: propose(s.runtime, x, [s.one], Majority()),
    lambda s, x: propose(s.runtime, 1, x, Majority()),
    lambda s, x: propose(s.runtime, 1, [x, s.one], Majority()),
    lambda s, x: propose(s.runtime, 1, {s.one: x}, Majority()),
    lambda s, x: propose(s.runtime, 1, [s.one], x),
    lambda s, x: propose(s.runtime, 1, [s.one], Quorum(x)),
    lambda s, x: propose(s.runtime, 1, [s.one], Weighted(x)),
    lambda s, x: propose(s.runtime, 1, [s.one], Nonsense(x)),
    lambda s, x: propose(s.runtime, 1, [s.one], Majority(), time_limit=x),
    lambda s, x: Auction(s.runtime, x).open(Sealed(), seconds=1.0),
    lambda s, x: Auction(s.runtime, "a").open(x, seconds=1.0),
    lambda s, x: Auction(s.runtime, "b").open(Sealed(), seconds=x),
    lambda s, x: Auction(s.runtime, "c").open(Sealed(x), seconds=1.0),
    lambda s, x: Auction(s.runtime, "d").open(Ascending(x, x), seconds=1.0),
    lambda s, x: Auction(s.runtime, "e").open(Ascending(increment=x), seconds=1.0),
    lambda s, x: Auction(s.runtime, "f").open(Descending(x, 1), seconds=1.0),
    lambda s, x: Auction(s.runtime, "g").open(Descending(10, x), seconds=1.0),
    lambda s, x: Auction(s.runtime, "h").open(Descending(10, 1, x, x), seconds=1.0),
    lambda s, x: Auction(s.runtime, "i").open(Descending(10, 1, every=x), seconds=1.0),
    lambda s, x: Auction(s.runtime, "c").bid(x, bidder="bob"),
    lambda s, x: Auction(s.runtime, "c").bid(5, bidder=x),
    lambda s, x: Auction(s.runtime, "c").bid(5, bidder="bob", who=x),
    lambda s, x: Auction(s.runtime, "c").outcome(timeout=x),
    lambda s, x: Auction(s.runtime, x).asked(),
    lambda s, x: Market(s.runtime, "a").buy(x, price=1, trader="bob"),
    lambda s, x: Market(s.runtime, "a").sell(1, price=x, trader="bob"),
    lambda s, x: Market(s.runtime, "a").buy(1, price=2, trader=x),
    lambda s, x: Market(s.runtime, "a").buy(1, price=2, trader="bob", who=x),
    lambda s, x: Market(s.runtime, "a").cancel(x),
    lambda s, x: Market(s.runtime, x).quote(),
]


async def _plain(function: Callable[[], Any]) -> Any:
    return function()


@pytest.mark.parametrize("place", range(len(CALLS)))
async def test_whoever_asks_for_nonsense_is_told_so_and_nobody_else_notices(stage: Stage, place: int) -> None:
    for make in NASTY:
        value = make()
        with suppress(*TYPED):
            await CALLS[place](stage, value)
        await settled(stage.runtime)
    await stage.check()
    await stage.restart()


def wrong(value: Any) -> Any:
    """Return a value of which no type checker knows the type."""
    return value


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (
            lambda s: Lock(s.runtime, "a").acquire(lease=math.inf),
            "lease = inf: give a finite number of seconds above 0",
        ),
        (lambda s: Lock(s.runtime, "a").acquire(2), "amount = 2: give a whole number from 1 to 1"),
        (lambda s: Lock(s.runtime, "a").release(wrong(5)), "grant = 5: give a grant that acquire returned"),
        (lambda s: Election(s.runtime, "a").stand(s.one, wrong("high")), "priority = 'high': give a finite number"),
        (
            lambda s: Election(s.runtime, "a").stand(wrong("one")),
            "candidate = 'one': give the Ref of an actor of this runtime",
        ),
        (
            lambda s: Election(s.runtime, "a").follow(wrong(5)),
            "follower = 5: give the Ref of an actor of this runtime, or a Name",
        ),
        (lambda s: propose(s.runtime, 1, wrong([5]), Majority()), "participant = 5: give the Ref"),
        (lambda s: propose(s.runtime, 1, wrong([[]]), Majority()), "participants = .*: give actors, or a mapping"),
        (lambda s: propose(s.runtime, 1, {s.one: math.inf}, Majority()), "weight of .* = inf: give a number above 0"),
        (
            lambda s: propose(s.runtime, 1, [s.one], OwnRule()),
            r"rule = .*: needed\(\) has to return a number; it raised",
        ),
        (lambda s: propose(s.runtime, 1, [s.one], Nonsense("x")), "needed = 'x': give a number above 0"),
        (lambda s: propose(s.runtime, 1, [s.one], wrong(5)), r"rule = 5: give Unanimity\(\)"),
        (lambda s: propose(s.runtime, 1, {s.one: 1e308, s.two: 1e308}, Quorum(1.7e308)), None),
        (lambda s: propose(s.runtime, 1, [s.one], Quorum(1.7e308)), "it asks for 1.7e.308 of a weight of 1$"),
        (lambda s: s.auction.bid(10**400, bidder="bob"), "bid of bob = 1000.*: give a number from 0 that is finite"),
        (lambda s: s.auction.bid(9, bidder=[]), r"bidder = \[\]: give something that can be hashed and compared"),
        (lambda s: s.market.sell(1, price=10**400, trader="s"), "price of s = 1000.*: give a number from 0"),
        (
            lambda s: s.runtime.name("markets").call(PlaceOrder("a", wrong("lend"), 1, 1, "s", None)),
            "side = 'lend': give 'buy' or 'sell'",
        ),
        (lambda s: Lock(s.runtime, wrong(5)), "name = 5: give a string"),
    ],
)
async def test_an_error_names_what_is_wrong_and_what_is_right(stage: Stage, call: Any, error: str | None) -> None:
    if error is None:
        assert (await call(stage)).accepted
        return
    with pytest.raises(BadArgument, match=error):
        await call(stage)


async def test_who_lives_does_not_end_because_somebody_says_so(stage: Stage) -> None:
    """Not even with the very monitor by which its end would be told."""
    await stage.election.stand(stage.two)
    for name in ("locks", "elections"):
        ref = stage.runtime.whereis(name)
        assert ref is not None
        monitor = (await system.get_state(ref))["_watched"]._monitors[stage.one]
        ref.cast(Down(monitor, stage.one, NORMAL))
    await stage.check()


async def test_a_foreign_actor_is_refused(stage: Stage) -> None:
    async with Runtime(watchdog=None, reports=False) as other:
        foreign = await other.spawn(Idle)
        for call in (
            stage.lock.acquire(holder=foreign),
            stage.election.stand(foreign),
            stage.election.follow(other.name("idle")),
            Barrier(stage.runtime, "a", parties=2).arrive(who=foreign),
            stage.auction.bid(9, who=foreign),
            stage.market.buy(1, price=1, who=foreign),
            propose(stage.runtime, 1, [foreign], Majority()),
        ):
            with pytest.raises(BadArgument, match="of this runtime"):
                await call
    await stage.check()


async def test_one_whose_comparison_raises_is_told_from_others_all_the_same(stage: Stage) -> None:
    """It has the hash of somebody else: neither takes anything from the other."""
    strange = OnlyItself()
    await stage.market.sell(2, price=20, trader=strange)
    await stage.market.sell(3, price=20, trader="ada")
    assert await stage.market.cancel(strange) == 2
    assert await stage.market.cancel("ada") == 8
    await stage.auction.bid(7, bidder=strange)
    await stage.auction.bid(9, bidder="ada")


# -- votes -------------------------------------------------------------------------------------------------------------


class Odd(Idle):
    """Votes for something that is no vote."""

    def __init__(self, value: Any) -> None:
        self.value = value

    @handle
    def vote(self, request: Vote) -> Any:
        """Vote."""
        return self.value


@given(nasty)
def test_what_is_no_vote_is_an_abstention(which: int) -> None:
    value = NASTY[which]()

    async def main() -> None:
        async with Runtime(watchdog=None, reports=False) as runtime:
            await runtime.spawn(Consensus)
            odd, yes = await runtime.spawn(Odd, value), await runtime.spawn(Idle)
            decision = await propose(runtime, 1, [yes, odd], Unanimity())
            wanted = (True, (yes, odd), ()) if value is True else (False, (yes,), (odd,))
            assert (decision.accepted, decision.yes, decision.abstained) == wanted

    run(main())


# -- the rules alone ---------------------------------------------------------------------------------------------------


def test_a_plain_number_is_what_it_is_whatever_its_class_makes_of_it() -> None:
    assert [type(plain_number(value)) for value in (OwnInt(3), OwnFloat(3.5))] == [int, float]
    assert (plain_number(OwnInt(3)), plain_number(OwnFloat(3.5))) == (3, 3.5)
    for value in (math.nan, math.inf, 10**400, True, "3", None, NoClass(), Decimal(3)):
        assert plain_number(value) is None
    assert type(text("name", OwnText("own"))) is str
    assert whole("n", OwnInt(3)) == 3


def test_two_parties_are_one_if_they_are_equal_and_nothing_else_is_one_of_them() -> None:
    assert Party("x", 1) == Party("x", 1.0)
    assert Party("x", 1) != 1
    assert Party("x", OnlyItself()) != Party("x", "ada")


def test_numbers_that_are_too_large_to_show_are_shown() -> None:
    assert number_text(10**400) == "more than 1.79769e+308"
    assert number("x", 0) == 0


@pytest.mark.parametrize("make", NASTY)
def test_the_rules_alone_refuse_or_work(make: Callable[[], Any]) -> None:
    value = make()
    for use in (
        lambda: first_price([Bid("a", value)], 1),
        lambda: vickrey([Bid(value, 1), Bid("a", 1)], value),
        lambda: SealedBids(value).bid("a", value),
        lambda: SealedBids().bid(value, 1),
        lambda: English(1, value).bid("a", value),
        lambda: English().bid(value, 1),
        lambda: Dutch(value, value, value),
        lambda: Dutch(10, 1).bid(value, 10),
        lambda: Dutch(10, 1).bid("a", value),
        lambda: OrderBook().buy(value, 1, 1),
        lambda: OrderBook().sell("a", value, 1),
        lambda: OrderBook().sell("a", 1, value),
        lambda: OrderBook().cancel(value),
        lambda: clear([Order(value, 1, 1)], [Order("b", 1, 1)]),
        lambda: clear([Order("a", value, 1)], [Order("b", 1, value)]),
        lambda: clear([Order("a", 1, 1, value)], [Order("b", 1, 1)]),
        lambda: Tally(Quorum(value), {1: 1}),
        lambda: Tally(Majority(), {1: value}),
    ):
        with suppress(CoordinationError):
            use()


def test_an_english_auction_goes_up_also_where_floats_do_not() -> None:
    auction = English(0, 1)
    auction.bid("a", 1e300)
    with pytest.raises(CoordinationError):
        auction.bid("b", 1e300)
    huge = English(0, int(1.7e308))
    huge.bid("a", int(1.7e308))
    with pytest.raises(CoordinationError, match=r"bids 1.7e.308: more than"):
        huge.bid("b", int(1.7e308))


def test_a_call_auction_takes_as_long_for_many_units_as_for_few() -> None:
    clearing = clear([Order("b", 10**18, 1.7e308)], [Order("s", 10**18, 1.6e308)])
    assert clearing.units == 10**18
    assert clearing.price == pytest.approx(1.65e308)


def test_orders_of_the_same_two_are_one_trade() -> None:
    clearing = clear([Order("b", 1, 9), Order("b", 1, 8), Order("c", 1, 7)], [Order("s", 3, 1)])
    assert [(trade.buyer, trade.units) for trade in clearing.trades] == [("b", 2), ("c", 1)]
    assert isinstance(clearing.trades[0], Trade)


async def test_a_time_that_makes_no_sense_is_a_bad_time(stage: Stage) -> None:
    for value in (math.nan, 10**400, OwnFloat(1), OwnInt(1), -1, "1"):
        with pytest.raises(BadTime):
            await Auction(stage.runtime, "z").open(Sealed(), seconds=value)  # type: ignore[arg-type]
    with pytest.raises(BadTime, match=r"give 0.001 seconds or more"):
        await Auction(stage.runtime, "z").open(Descending(10, 1, every=1e-9), seconds=1)
