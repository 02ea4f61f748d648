"""Coordination: locks, barriers, elections and consensus. All waiting is for an event; nothing polls.

Each has an actor that decides (`Locks`, `Barriers`, `Elections`, `Consensus`), and a small object by which it is used
(`Lock`, `Barrier`, `Election`, and the function `propose`). `Auctions` and `Markets` share out what there is, by
`Auction` and `Market`; their rules, `foundation.coordination.auction_rules` and `foundation.coordination.order_book`, can be
used alone as well.
"""

# Locks: for one holder, or for so many at once, with a lease and a fencing token.
from foundation.coordination.auctioneer import Ascending as Ascending

# Auctions: one thing goes to one bidder.
from foundation.coordination.auctioneer import Auction as Auction
from foundation.coordination.auctioneer import Auctions as Auctions
from foundation.coordination.auctioneer import Descending as Descending
from foundation.coordination.auctioneer import Sealed as Sealed

# Barriers: so many arrive, and then all go on.
from foundation.coordination.barriers import Barrier as Barrier
from foundation.coordination.barriers import Barriers as Barriers
from foundation.coordination.barriers import Crossing as Crossing
from foundation.coordination.consensus import Consensus as Consensus
from foundation.coordination.consensus import Decision as Decision
from foundation.coordination.consensus import Majority as Majority
from foundation.coordination.consensus import Quorum as Quorum
from foundation.coordination.consensus import Rule as Rule
from foundation.coordination.consensus import Unanimity as Unanimity
from foundation.coordination.consensus import Vote as Vote
from foundation.coordination.consensus import Weighted as Weighted

# Consensus: participants vote, and a rule decides.
from foundation.coordination.consensus import propose as propose

# Elections: one of several actors leads.
from foundation.coordination.elections import Election as Election
from foundation.coordination.elections import Elections as Elections
from foundation.coordination.elections import Leader as Leader
from foundation.coordination.elections import LeaderChanged as LeaderChanged
from foundation.coordination.errors import BadArgument as BadArgument
from foundation.coordination.errors import BarrierBroken as BarrierBroken
from foundation.coordination.errors import BidRefused as BidRefused

# What all of them raise.
from foundation.coordination.errors import CoordinationError as CoordinationError
from foundation.coordination.errors import NotHeld as NotHeld
from foundation.coordination.locks import Grant as Grant
from foundation.coordination.locks import Lock as Lock
from foundation.coordination.locks import Locks as Locks

# Markets: many equal things change hands.
from foundation.coordination.markets import Market as Market
from foundation.coordination.markets import Markets as Markets
from foundation.coordination.markets import Traded as Traded
