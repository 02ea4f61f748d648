"""Coordination: locks, barriers, elections and consensus. All waiting is for an event; nothing polls.

Each has an actor that decides (`Locks`, `Barriers`, `Elections`, `Consensus`), and a small object by which it is used
(`Lock`, `Barrier`, `Election`, and the function `propose`). `Auctions` and `Markets` share out what there is, by
`Auction` and `Market`; their rules, `foundation.coordination.auctions` and `foundation.coordination.market`, can be
used alone as well.
"""

from foundation.coordination.auctioneer import Ascending as Ascending
from foundation.coordination.auctioneer import Auction as Auction
from foundation.coordination.auctioneer import Auctions as Auctions
from foundation.coordination.auctioneer import Descending as Descending
from foundation.coordination.auctioneer import Sealed as Sealed
from foundation.coordination.barriers import Barrier as Barrier
from foundation.coordination.barriers import Barriers as Barriers
from foundation.coordination.barriers import Passage as Passage
from foundation.coordination.consensus import Consensus as Consensus
from foundation.coordination.consensus import Decision as Decision
from foundation.coordination.consensus import Majority as Majority
from foundation.coordination.consensus import Quorum as Quorum
from foundation.coordination.consensus import Rule as Rule
from foundation.coordination.consensus import Tally as Tally
from foundation.coordination.consensus import Unanimity as Unanimity
from foundation.coordination.consensus import Vote as Vote
from foundation.coordination.consensus import Weighted as Weighted
from foundation.coordination.consensus import propose as propose
from foundation.coordination.elections import Election as Election
from foundation.coordination.elections import Elections as Elections
from foundation.coordination.elections import Leader as Leader
from foundation.coordination.elections import LeaderChanged as LeaderChanged
from foundation.coordination.errors import BadRule as BadRule
from foundation.coordination.errors import BarrierBroken as BarrierBroken
from foundation.coordination.errors import BidRefused as BidRefused
from foundation.coordination.errors import CoordinationError as CoordinationError
from foundation.coordination.errors import NotHeld as NotHeld
from foundation.coordination.exchange import Market as Market
from foundation.coordination.exchange import Markets as Markets
from foundation.coordination.exchange import Traded as Traded
from foundation.coordination.locks import Grant as Grant
from foundation.coordination.locks import Lock as Lock
from foundation.coordination.locks import Locks as Locks
