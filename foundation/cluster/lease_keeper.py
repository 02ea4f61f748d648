"""The lease keeper: the actor that says to the keys, again and again, that this node lives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation.cluster.errors import ClusterUnavailable
from foundation.cluster.identity import RETRY
from foundation.cluster.leases import REFRESH
from supervision import Actor, Message, handle

if TYPE_CHECKING:
    from foundation.cluster.cluster import Cluster


class RefreshLease(Message, frozen=True):
    """It is time to write the lease again."""


class LeaseKeeper(Actor):
    """Writes the lease of this node.

    Args:
        cluster: of this node.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        #: Whether the keys seemed to be lost at the last look.
        self._seemed_lost = False

    def init(self) -> None:
        """Begin."""
        self.send_after(REFRESH, RefreshLease())

    @handle
    async def refresh(self, message: RefreshLease) -> None:
        """Write it; soon again, if there is no answer."""
        identity, again = self._cluster.identity, REFRESH
        if self._cluster.peers.closed:
            return
        try:
            gone = await identity.refresh()
        except ClusterUnavailable:
            again = RETRY
            await self._look()
        else:
            self._seemed_lost = False
            if identity.replaced is not None:
                self._cluster.withdraw("another process is this node")
                return
            if gone and not identity.lost:
                self._cluster.fence("its lease had expired")
            self._cluster.refreshed()
        if identity.lost:
            self._cluster.lost()
            return
        self.send_after(again, RefreshLease())

    async def _look(self) -> None:
        """See whether there are no keys any more: twice, as servers begin slowly."""
        identity = self._cluster.identity
        try:
            seems_lost = await identity.is_lost()
        except ClusterUnavailable:
            seems_lost = False
        identity.lost = seems_lost and self._seemed_lost
        self._seemed_lost = seems_lost
