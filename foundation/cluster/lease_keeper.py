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

    def init(self) -> None:
        """Begin."""
        self.send_after(REFRESH, RefreshLease())

    @handle
    async def refresh(self, message: RefreshLease) -> None:
        """Write it; soon again, if there is no answer."""
        identity, again = self._cluster.identity, REFRESH
        try:
            gone = await identity.refresh()
        except ClusterUnavailable:
            again = RETRY
        else:
            if identity.replaced is not None:
                self._cluster.withdraw("another process is this node")
                return
            if gone:
                self._cluster.fence("its lease had expired")
            self._cluster.refreshed()
        self.send_after(again, RefreshLease())
