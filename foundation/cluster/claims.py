"""Claims: what holds names in the cluster for actors of this node. The one writer of this node's names is an actor."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from foundation.cluster.errors import ClusterUnavailable, NameTaken, WrongRevision
from foundation.cluster.identity import RETRY
from foundation.cluster.names import NameEntry, key_of
from foundation.cluster.port import Entry
from foundation.events import NameClaimed
from supervision import Actor, Down, Message, Monitor, Ref, Refuse, Request, handle

if TYPE_CHECKING:
    from foundation.cluster.cluster import Cluster

#: Seconds that a claim tries to reach the keys, and between two looks for what is to be claimed or released.
PATIENCE, SWEEP = 10.0, 2.0


class NameClaim:
    """The hold of a local actor on a name in the cluster.

    Attributes:
        name: it.
        ref: who holds it.
        epoch: one more than that of the claim before it: the fencing token. It goes along with what the holder writes
            elsewhere; who keeps that refuses a smaller one than the largest seen.
    """

    def __init__(self, cluster: Cluster, name: str, ref: Ref) -> None:
        self.name = name
        self.ref = ref
        self.epoch = 0
        #: Tells it from every other one, also when nobody knows whether it was written.
        self.id = secrets.token_hex(8)
        self._cluster = cluster

    def __repr__(self) -> str:
        return f"<NameClaim {self.name} epoch {self.epoch}>"

    @property
    def valid(self) -> bool:
        """Whether the name is held; false from the moment at which this node has given it up."""
        return self._cluster.claims.get(self.name) is self


class RegisterName(Request[NameClaim], frozen=True):
    """Claim a name for an actor of this node."""

    name: str
    ref: Ref
    raises = (NameTaken, ClusterUnavailable)


class ReleaseName(Request[bool], frozen=True):
    """Release a name; answers whether it was held."""

    name: str
    raises = (ClusterUnavailable,)


class Sweep(Message, frozen=True):
    """Claim what is shared and has a holder here, and release what nobody here holds."""


class NameKeeper(Actor):
    """Claims and releases names, one after the other.

    Args:
        cluster: of this node.
        shared: the names of this runtime that the whole cluster is to find.
    """

    def __init__(self, cluster: Cluster, shared: Iterable[str]) -> None:
        self._cluster = cluster
        self._shared = tuple(shared)
        self._monitors: dict[Monitor, NameClaim] = {}
        #: Shared names that were released, and the actors that are to be left without them.
        self._released: dict[str, Ref] = {}

    def init(self) -> None:
        """Watch the holders of what is held already, if this actor has been restarted."""
        for claim in self._cluster.claims.values():
            self._monitors[self.monitor(claim.ref)] = claim
        self.send_interval(SWEEP, Sweep())
        self.ref.cast(Sweep())

    @handle
    async def claim(self, request: RegisterName) -> NameClaim:
        """Claim a name, and answer when it is decided."""
        cluster, limit = self._cluster, self.runtime.scheduler.now() + PATIENCE
        claim = NameClaim(cluster, request.name, request.ref)
        self._released.pop(request.name, None)
        while True:
            try:
                entry, revision = await self._read(request.name)
                await self._attempt(claim, entry, revision)
            except WrongRevision:
                continue
            except ClusterUnavailable as error:
                if self.runtime.scheduler.now() >= limit:
                    raise Refuse(error) from None
                await self.runtime.sleep(RETRY)
            else:
                break
        self._monitors[self.monitor(claim.ref)] = claim
        return claim

    async def _attempt(self, claim: NameClaim, entry: NameEntry | None, revision: int) -> None:
        """Write a claim, unless somebody else has the name."""
        cluster, key = self._cluster, key_of(claim.name)
        if not cluster.in_office:
            raise ClusterUnavailable(claim.name, "this node is fenced")
        if entry is None or entry.claim != claim.id:  # it was not written before, and not answered
            if entry is not None and not entry.free and not self._forgotten(entry, claim.name):
                raise Refuse(NameTaken(claim.name, entry.node))
            epoch = 1 if entry is None else entry.epoch + 1
            entry = NameEntry(epoch, claim.id, cluster.node, cluster.identity.epoch, claim.ref.id)
            revision = await cluster.names_keys.write(key, msgspec.msgpack.encode(entry), revision)
        claim.epoch = entry.epoch
        cluster.claims[claim.name] = claim
        cluster.heard(Entry(key, msgspec.msgpack.encode(entry), revision))
        cluster.emit(NameClaimed, name=claim.name, epoch=claim.epoch)

    def _forgotten(self, entry: NameEntry, name: str) -> bool:
        """Whether whoever holds a name cannot hold it any more."""
        cluster = self._cluster
        if entry.held_by(cluster.node, cluster.identity.epoch):
            return name not in cluster.claims
        return cluster.book.dead(entry.node, entry.node_epoch, self.runtime.scheduler.now())

    async def _read(self, name: str) -> tuple[NameEntry | None, int]:
        found = await self._cluster.names_keys.get(key_of(name))
        if found is None or found.value is None:
            return None, 0 if found is None else found.revision
        return msgspec.msgpack.decode(found.value, type=NameEntry), found.revision

    @handle
    async def release(self, request: ReleaseName) -> bool:
        """Release a name."""
        claim = self._cluster.claims.get(request.name)
        if claim is None:
            return False
        self._released[request.name] = claim.ref
        self._cluster.give_up(claim, "released")
        try:
            await self._free(request.name)
        except ClusterUnavailable as error:
            raise Refuse(error) from None
        return True

    async def _free(self, name: str) -> None:
        """Write that nobody holds a name, if it is this node that holds it."""
        cluster = self._cluster
        while name not in cluster.claims:
            entry, revision = await self._read(name)
            if entry is None or not entry.held_by(cluster.node, cluster.identity.epoch):
                return
            free = msgspec.msgpack.encode(msgspec.structs.replace(entry, actor=0))
            try:
                revision = await cluster.names_keys.write(key_of(name), free, revision)
            except WrongRevision:
                continue
            cluster.heard(Entry(key_of(name), free, revision))
            return

    @handle
    async def down(self, message: Down) -> None:
        """The holder of a name has ended."""
        claim = self._monitors.pop(message.monitor)
        if claim.valid:
            self._cluster.give_up(claim, "its holder has ended")
            await self._sweep()

    @handle
    async def sweep(self, message: Sweep) -> None:
        """See what is to be claimed or released."""
        await self._sweep()

    async def _sweep(self) -> None:
        """What cannot be done now is done by the next sweep."""
        cluster = self._cluster
        me = cluster.identity.epoch
        if cluster.peers.closed:  # it takes no part any more; another process may be this node
            return
        stale = [name for name, entry in cluster.table.names.items() if entry.held_by(cluster.node, me)]
        try:
            for name in stale:
                await self._free(name)
            for name in self._shared if cluster.in_office else ():
                ref = self.runtime.names().get(name)
                if ref is not None and name not in cluster.claims and self._released.get(name) != ref:
                    await self._share(name, ref)
        except ClusterUnavailable:
            return

    async def _share(self, name: str, ref: Ref) -> None:
        claim = NameClaim(self._cluster, name, ref)
        try:
            entry, revision = await self._read(name)
            await self._attempt(claim, entry, revision)
        except (Refuse, WrongRevision):
            return
        self._monitors[self.monitor(ref)] = claim
