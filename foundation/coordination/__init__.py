"""Coordination: locks, barriers, elections and consensus. All waiting is for an event; nothing polls.

Each has an actor that decides (`Locks`, `Barriers`, `Elections`, `Consensus`), and a small object by which it is used
(`Lock`, `Barrier`, `Election`, and the function `propose`). `Auctions` and `Markets` share out what there is, by
`Auction` and `Market`; their rules, `foundation.coordination.auction_rules` and `foundation.coordination.order_book`,
can be used alone as well. What a coordinator knows is kept with the runtime (`foundation.coordination.retained`), so
that its restart takes nothing away from anybody.
"""

# Locks: for one holder or several, with a queue, a lease and a fencing token.
from foundation.coordination.locks import Lock as Lock
from foundation.coordination.locks import Locks as Locks
from foundation.coordination.locks import Grant as Grant
from foundation.coordination.errors import NotHeld as NotHeld

# Elections: one of several actors leads.
from foundation.coordination.elections import Election as Election
from foundation.coordination.elections import Elections as Elections
from foundation.coordination.elections import Leader as Leader
from foundation.coordination.elections import LeaderChanged as LeaderChanged

# Barriers: callers wait until a number of them have arrived.
from foundation.coordination.barriers import Barrier as Barrier
from foundation.coordination.barriers import Barriers as Barriers
from foundation.coordination.barriers import Crossing as Crossing
from foundation.coordination.errors import BarrierBroken as BarrierBroken

# Consensus: participants vote, and a rule decides.
from foundation.coordination.consensus import propose as propose
from foundation.coordination.consensus import Consensus as Consensus
from foundation.coordination.consensus import Vote as Vote
from foundation.coordination.consensus import Decision as Decision
from foundation.coordination.consensus import Majority as Majority
from foundation.coordination.consensus import Quorum as Quorum
from foundation.coordination.consensus import Unanimity as Unanimity
from foundation.coordination.consensus import Weighted as Weighted
from foundation.coordination.consensus import Rule as Rule

# Auctions: one thing goes to one bidder.
from foundation.coordination.auctioneer import Auction as Auction
from foundation.coordination.auctioneer import Auctions as Auctions
from foundation.coordination.auctioneer import Sealed as Sealed
from foundation.coordination.auctioneer import Ascending as Ascending
from foundation.coordination.auctioneer import Descending as Descending
from foundation.coordination.errors import BidRefused as BidRefused

# Markets: many equal things change hands.
from foundation.coordination.markets import Market as Market
from foundation.coordination.markets import Markets as Markets
from foundation.coordination.markets import Traded as Traded

# What all of them raise.
from foundation.coordination.errors import CoordinationError as CoordinationError
from foundation.coordination.errors import BadArgument as BadArgument
