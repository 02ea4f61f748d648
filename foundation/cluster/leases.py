"""Leases: which nodes live, as the keys tell. A machine without I/O; time is passed in.

Each node writes its lease again and again; the server deletes the key of one that does not. But that is no proof of
death: a server whose clock was set, or another one that takes over, deletes keys too early. So a node counts as dead
only when its lease is gone *and* it is too late by one's own clock: the node itself gives up what it holds `FENCE`
seconds after its last acknowledged write, in any case before that.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from foundation.cluster.port import Entry

#: Seconds that a lease lasts, between two writes of it, and after which a node that cannot write it gives up.
TTL, REFRESH, FENCE = 30.0, 2.5, 20.0
#: Seconds from the first sight of a lease that is gone until its node counts as dead, if its last write was not seen.
UNSEEN = FENCE + 1.0


class Lease(msgspec.Struct, frozen=True):
    """The value of a node's key.

    Attributes:
        epoch: counts the processes that have been this node.
        uid: of the process.
        host: where it runs.
        count: of its writes.
        left: whether it has left in order.
        cluster: the id of the cluster that it belongs to; 0 for one of an older version.
    """

    epoch: int
    uid: str
    host: str
    count: int = 0
    left: bool = False
    cluster: int = 0


class _Seen(msgspec.Struct):
    lease: Lease | None
    #: When it was written for the last time, by one's own clock, if that was seen; and since when it is gone.
    written: float | None
    gone: float | None = None


class LeaseBook:
    """What one node knows of the leases of all."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def loaded(self, entries: Sequence[Entry], now: float) -> None:
        """Take all leases. What came before may have been missed, so nobody knows when a lease was written last."""
        here = {entry.key: entry for entry in entries}
        for node in self._seen.keys() - here.keys():
            self.changed(Entry(node, None, 0), now)
        for entry in entries:
            self.changed(entry, now)
        for seen in self._seen.values():
            if seen.gone == now:
                seen.written = None

    def changed(self, entry: Entry, now: float) -> None:
        """Take a change of one."""
        if entry.value is not None:
            self._seen[entry.key] = _Seen(msgspec.msgpack.decode(entry.value, type=Lease), now)
            return
        seen = self._seen.setdefault(entry.key, _Seen(None, None))
        if seen.gone is None:
            seen.gone = now

    def lease(self, node: str) -> Lease | None:
        """Return the last lease that was seen of a node."""
        seen = self._seen.get(node)
        return None if seen is None else seen.lease

    def dead(self, node: str, epoch: int, now: float) -> bool:
        """Whether the process that was a node in an epoch has ended, or has given up all that it held."""
        seen = self._seen.get(node)
        if seen is None:
            seen = self._seen[node] = _Seen(None, None, now)
        if seen.lease is not None and (seen.lease.epoch > epoch or (seen.lease.epoch == epoch and seen.lease.left)):
            return True
        if seen.gone is None:
            return False
        return now >= (seen.gone + UNSEEN if seen.written is None else seen.written + TTL)
