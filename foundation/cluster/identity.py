"""Identity: that of the cluster, and this process's right to be the node of a name.

A node's *epoch* counts the processes that have been it; it stands in a key that is never deleted, so that it never
repeats as long as the cluster's keys are kept. If they are lost, another id of the cluster tells.
"""

from __future__ import annotations

import platform
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
import structlog

from foundation.cluster.errors import ClusterUnavailable, NodeNameTaken, WrongRevision
from foundation.cluster.leases import Lease, LeaseBook
from foundation.cluster.port import Entry, Keys
from foundation.cluster.processes import has_ended, identify

_log: Any = structlog.get_logger("foundation.cluster")

#: Seconds until what got no answer is tried again, and between two looks at another process's lease.
RETRY = 0.5
#: The key of the cluster's id.
CLUSTER = "cluster"


class NodeRecord(msgspec.Struct, frozen=True):
    """The value of a node's key that is never deleted.

    Attributes:
        epoch: of the last process that was the node.
        uid: of that process.
        left: whether it has left in order.
        process: what tells it from all others of its machine; see `processes`.
    """

    epoch: int
    uid: str
    left: bool = False
    process: str = ""


class Identity:
    """This process, as a node of the cluster.

    Args:
        node: the name of the node.
        names: the keys without end.
        nodes: the keys of the leases.
        book: what is known of the leases.
        now: the time.
        wait: waits for so many seconds.
    """

    def __init__(
        self,
        node: str,
        names: Keys,
        nodes: Keys,
        book: LeaseBook,
        now: Callable[[], float],
        wait: Callable[[float], Awaitable[None]],
    ) -> None:
        self.node = node
        self.uid = secrets.token_hex(8)
        self.epoch = 0
        #: When the last write of the lease that was acknowledged was begun.
        self.acknowledged = 0.0
        #: The lease of another process that is the node now.
        self.replaced: Lease | None = None
        #: The id of the cluster, and whether its keys are lost.
        self.cluster = 0
        self.lost = False
        self._names = names
        self._nodes = nodes
        self._book = book
        self._now = now
        self._wait = wait
        self._count = 0
        self._process = identify()
        self._revision = 0
        self._record_revision = 0

    async def cluster_id(self) -> int:
        """Return the id of the cluster, made by the first node.

        Raises:
            ClusterUnavailable: there is no answer.
        """
        while (entry := await self._names.get(CLUSTER)) is None:
            with suppress(WrongRevision, ClusterUnavailable):
                await self._names.write(CLUSTER, secrets.token_bytes(16), 0)
        self.cluster = read_cluster_id(entry)
        return self.cluster

    async def is_lost(self) -> bool:
        """Whether the keys have another cluster's id, or none.

        Raises:
            ClusterUnavailable: there is no answer.
        """
        entry = await self._names.get(CLUSTER)
        return entry is None or read_cluster_id(entry) != self.cluster

    async def begin(self) -> None:
        """Become the node: take the next epoch, and write the first lease.

        A process that was the node and has not left may still hold names: it is waited for until it counts as dead.
        If it ran on this machine, that is known at once.

        Raises:
            NodeNameTaken: it lives.
            ClusterUnavailable: there is no answer.
        """
        key, first, waits = f"epoch.{self.node}", self._book.lease(self.node), False
        while self.epoch == 0:
            entry = await self._names.get(key)
            last = NodeRecord(0, "", left=True) if entry is None else _record(entry)
            revision = 0 if entry is None else entry.revision
            if last.uid == self.uid:  # what was written is there
                self.epoch, self._record_revision = last.epoch, revision
            elif last.left or self._is_dead(last):
                record = NodeRecord(last.epoch + 1, self.uid, process=self._process)
                with suppress(WrongRevision, ClusterUnavailable):
                    await self._names.write(key, msgspec.msgpack.encode(record), revision)
            else:
                lease = self._book.lease(self.node)
                if first is not None and lease is not None and lease != first:
                    raise NodeNameTaken(self.node, lease.uid, lease.host)
                if not waits:
                    waits = True
                    _log.warning("node_waits", node=self.node, why="the process that was this node has not left")
                first = lease
                await self._wait(RETRY)
        await self.refresh()
        if self.replaced is not None:
            raise NodeNameTaken(self.node, self.replaced.uid, self.replaced.host)

    def _is_dead(self, last: NodeRecord) -> bool:
        """Whether the last process that was the node has ended: its time is over, or this machine knows it."""
        if has_ended(last.process):
            return True
        return self._book.dead(self.node, last.epoch, self._now())

    async def _write_lease(self, *, left: bool = False) -> None:
        self._count += 1
        lease = Lease(self.epoch, self.uid, platform.node(), self._count, left, self.cluster)
        begun = self._now()
        self._revision = await self._nodes.write(self.node, msgspec.msgpack.encode(lease), self._revision)
        self.acknowledged = begun

    async def refresh(self) -> bool:
        """Write the lease again; return whether it was not there any more, or is `replaced`, or `lost`.

        Raises:
            ClusterUnavailable: there is no answer.
        """
        gone = False
        while self.replaced is None and not self.lost:
            try:
                await self._write_lease()
                return gone
            except WrongRevision:
                entry = await self._nodes.get(self.node)
                lease = None if entry is None or entry.value is None else _lease(entry.value)
                gone = gone or lease is None
                if lease is None or lease.cluster not in (0, self.cluster):
                    self.lost = await self.is_lost()
                elif lease.epoch >= self.epoch and lease.uid != self.uid and not lease.left:
                    self.replaced = lease
                self._revision = 0 if entry is None else entry.revision
        return True

    async def leave(self) -> None:
        """Note that this process has left in order; the next one need not wait for anything.

        Raises:
            ClusterUnavailable: there is no answer.
            WrongRevision: another process is the node.
        """
        if self.lost:
            return
        await self._write_lease(left=True)
        record = NodeRecord(self.epoch, self.uid, left=True)
        await self._names.write(f"epoch.{self.node}", msgspec.msgpack.encode(record), self._record_revision)


def read_cluster_id(entry: Entry) -> int:
    """Return the id of the cluster, as it stands in frames."""
    return int.from_bytes((entry.value or b"")[:4])


def _record(entry: Entry) -> NodeRecord:
    return msgspec.msgpack.decode(entry.value or b"", type=NodeRecord)


def _lease(value: bytes) -> Lease:
    return msgspec.msgpack.decode(value, type=Lease)
