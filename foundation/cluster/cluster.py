"""A node of a cluster: a runtime whose actors can be reached from others, and reach those of others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Any, Self

import msgspec
import structlog

from foundation.cluster.claims import NameClaim, NameKeeper, RegisterName, ReleaseName, Sweep
from foundation.cluster.errors import ClusterError, ClusterUnavailable, NotJoined, NotReached
from foundation.cluster.identity import CLUSTER, Identity, read_cluster_id
from foundation.cluster.lease_keeper import LeaseKeeper
from foundation.cluster.leases import FENCE, TTL, LeaseBook
from foundation.cluster.link import BEAT
from foundation.cluster.names import NameEntry, NameTable, name_in
from foundation.cluster.peer import Peers
from foundation.cluster.port import Entry, Keys, Port
from foundation.cluster.wire import RefData
from foundation.events import NameGivenUp, NodeFenced, NodeWithdrawn
from supervision import ChildSpec, Name, Ref, Runtime, Supervisor, Timer
from supervision.clock import seconds
from supervision.errors import BadName, BadOption, NoProcess
from supervision.events import Event, Registered

_log: Any = structlog.get_logger("foundation.cluster")

#: What may be in the name of a node.
NODE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: What a port can be told.
PORT = ("connect", "subscribe", "publish", "keys", "close")
_NAMES = "give a list of names, such as ['till']"
#: The local name of the actor that claims names, and the seconds that a request to it may take.
NAME_KEEPER, PATIENCE = "cluster.names", 60.0


class ClusterStatistics(msgspec.Struct, frozen=True):
    """The numbers of a node.

    Attributes:
        nodes: how many others can be reached.
        names: how many names have a holder, as far as is known here.
        claims: how many of them are actors of this node.
        frames: those that were not delivered, by what was wrong: ``late``, ``duplicate``, ``gap``, ``foreign`` for
            another cluster's, ``bad_frame`` for what could not be read.
    """

    nodes: int
    names: int
    claims: int
    frames: Mapping[str, int]


class Cluster:
    """A node of a cluster, for as long as its block lasts.

    Inside, addresses of actors on other nodes are like those of local ones, and ``runtime.name(...)`` finds the names
    of the cluster, too: those that nobody has here.

    Args:
        runtime: the runtime, which runs.
        servers: the URLs of the NATS servers, or one of them; or a port of a `MemoryNetwork`, in tests.
        node: the name of this node: up to 64 letters, digits, ``_`` and ``-``. No two nodes have the same.
        names: names of this runtime under which the whole cluster is to find their holders, whenever they have one
            here, and nobody else holds them in the cluster.

    Attributes:
        claims: the names of the cluster that actors of this node hold.

    Raises:
        BadOption: the node has no name, or one that cannot be; nor can the servers, or a name to share.
        NodeNameTaken: when the block begins: another process is the node.
        ClusterUnavailable: when the block begins: no server is reached.
    """

    def __init__(
        self, runtime: Runtime, servers: str | Sequence[str] | Port, *, node: str, names: Iterable[str] = ()
    ) -> None:
        if not isinstance(node, str) or NODE_NAME.fullmatch(node) is None:
            raise BadOption("node", node, "give it a name of up to 64 letters, digits, _ and -")
        self.runtime = runtime
        self.node = node
        self.claims: dict[str, NameClaim] = {}
        self.table = NameTable()
        self.book = LeaseBook()
        #: Whether this node may hold names: it is in the cluster, and has said so lately.
        self.in_office = False
        self.names_keys: Keys
        self.identity: Identity
        self.peers: Peers
        self._shared = _shared_names(names)
        #: The holders that were looked up, each with the entry that names it.
        self._found: dict[str, tuple[NameEntry, Ref]] = {}
        self._port = _port_of(servers)
        self._waiting: set[asyncio.Future[None]] = set()
        self._exits = AsyncExitStack()

    # -- life ---------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Join the cluster."""
        try:
            await self._join()
        except BaseException:
            await self._exits.aclose()
            raise
        return self

    async def _join(self) -> None:
        runtime, port, scheduler = self.runtime, self._port, self.runtime.scheduler
        if runtime.elsewhere is not None:
            raise BadOption("runtime", runtime, "it is in a cluster already")
        runtime.elsewhere = self.whereis
        self._exits.callback(setattr, runtime, "elsewhere", None)
        await port.connect(self.node)
        self._exits.push_async_callback(port.close)
        self.names_keys, nodes = await port.keys("foundation_names"), await port.keys("foundation_nodes", TTL)
        await nodes.watch(_LeaseWatcher(self))
        self.identity = Identity(self.node, self.names_keys, nodes, self.book, scheduler.now, runtime.sleep)
        cluster = await self.identity.cluster_id()
        await self.identity.begin()
        self._exits.push_async_callback(self._leave)
        self.in_office = True
        peers = self.peers = Peers(runtime, port, self.node, self.identity.epoch, cluster)
        peers.changed = self._changed
        self._exits.callback(setattr, runtime, "node", runtime.node)
        runtime.node = self.node
        await port.subscribe(peers.subject(self.node, self.identity.epoch), peers.receive)
        await port.subscribe(peers.BEATS, peers.beat)
        self._exits.callback(peers.close)
        await self.names_keys.watch(_NameWatcher(self))
        await self._start_keepers()
        beating: Timer = scheduler.timers.after(BEAT, self._beat, BEAT)
        self._exits.callback(beating.cancel)
        self._beat()

    async def _start_keepers(self) -> None:
        children = [
            ChildSpec("lease", LeaseKeeper, (self,)),
            ChildSpec("names", NameKeeper, (self, self._shared), name=NAME_KEEPER),
        ]
        keepers = await self.runtime.spawn(Supervisor, children, name="cluster")
        self._exits.push_async_callback(self._stop_keepers, keepers)
        listening = self.runtime.subscribe(self._registered, Registered)
        self._exits.callback(listening.close)

    def _registered(self, event: Event) -> None:
        assert isinstance(event, Registered)
        if event.name in self._shared:
            self.runtime.name(NAME_KEEPER).cast(Sweep())

    async def _stop_keepers(self, keepers: Ref) -> None:
        with suppress(ClusterUnavailable, NoProcess):
            for name in list(self.claims):
                await self.release(name)
        if keepers.alive:
            await keepers.stop()

    async def _leave(self) -> None:
        self.fence("it leaves the cluster")
        with suppress(ClusterError):  # then the others wait until its lease is over
            await self.identity.leave()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the cluster: names are released, and all others hear of it."""
        await self._exits.aclose()

    def withdraw(self, why: str) -> None:
        """Take no part any more: another process is this node, or the cluster is another one."""
        _log.error("node_withdrawn", node=self.node, why=why)
        self.fence(why)
        self.emit(NodeWithdrawn, why=why)
        self.peers.close()

    def lost(self) -> None:
        """Take no part any more: the keys of the cluster are lost, and all that they told of names and epochs."""
        self.identity.lost = True
        if not self.peers.closed:
            self.withdraw("the keys of the cluster are lost: it is another one now")

    def _beat(self) -> None:
        if self.peers.closed:
            return
        self.peers.tick()
        if self.in_office and self.runtime.scheduler.now() - self.identity.acknowledged >= FENCE:
            self.fence(f"it could not write its lease for {FENCE:g} s")

    def fence(self, why: str) -> None:
        """Give up all names that actors of this node hold."""
        self.in_office = False
        names = tuple(self.claims)
        for claim in list(self.claims.values()):
            self.give_up(claim, why)
        if names:
            _log.error("node_fenced", node=self.node, why=why, names=names)
            self.emit(NodeFenced, why=why, names=names)

    def refreshed(self) -> None:
        """The lease is written: this node may hold names again."""
        self.in_office = not self.peers.closed

    def give_up(self, claim: NameClaim, why: str) -> None:
        """A claim is not valid any more."""
        del self.claims[claim.name]
        self.emit(NameGivenUp, name=claim.name, epoch=claim.epoch, why=why)

    # -- what others use ------------------------------------------------------------------------------------------

    def nodes(self) -> dict[str, int]:
        """Return the nodes that can be reached, and their epochs; this one is not among them."""
        self._see_joined("nodes")
        return {peer.node: peer.epoch for peer in self.peers if peer.link.up}

    def names(self) -> dict[str, Ref]:
        """Return all names of the cluster that have a holder, as far as this node has heard."""
        self._see_joined("names")
        found = {name: self.whereis(name) for name in self.table.names}
        return {name: ref for name, ref in found.items() if ref is not None}

    def whereis(self, name: str) -> Ref | None:
        """Return who holds a name in the cluster, as far as this node has heard; None if nobody does."""
        entry = self.table.names.get(name)
        if entry is None or entry.free:
            return None
        found = self._found.get(name)
        if found is None or found[0] is not entry:
            found = self._found[name] = entry, self.peers.ref(RefData(entry.node, entry.node_epoch, entry.actor))
        ref = found[1]
        return None if ref.reason is not None or self._has_expired(entry) else ref

    def _has_expired(self, entry: NameEntry) -> bool:
        """Whether the node of a holder counts as dead."""
        if entry.node == self.node or self.peers.reachable(entry.node, entry.node_epoch) is not None:
            return False
        return self.book.dead(entry.node, entry.node_epoch, self.runtime.scheduler.now())

    async def register(self, name: str, ref: Ref | Name) -> NameClaim:
        """Give an actor of this node a name in the whole cluster, and return its claim.

        The name is released when the actor ends, when it is released, and when this node leaves, or cannot say for
        20 s that it lives. A name whose holder's node has died can be had when that counts as dead: after some 30 s.

        Args:
            name: it.
            ref: the `Ref` of an actor of this runtime, or its local `Name`.

        Raises:
            BadName: it cannot be a name.
            NoProcess: the actor has ended.
            NameTaken: somebody holds the name.
            ClusterUnavailable: the keys cannot be written now.
        """
        if not isinstance(name, str) or not name:
            raise BadName("name", name, "a name is a string that is not empty")
        self._see_joined("register")
        own = self.runtime.own_cell("register", ref)
        if not own.alive:
            raise NoProcess(own, f"register {name}")
        return await self.runtime.name(NAME_KEEPER).call(RegisterName(name, own), timeout=PATIENCE)

    async def release(self, name: str) -> bool:
        """Take a name in the cluster away from an actor of this node; return whether it had it.

        A name that this node shares is not claimed again before another actor has it here, or it is registered.

        Raises:
            ClusterUnavailable: the keys cannot be written now. The claim is not valid any more all the same, and the
                name is free as soon as they can be.
        """
        self._see_joined("release")
        return await self.runtime.name(NAME_KEEPER).call(ReleaseName(name), timeout=PATIENCE)

    async def wait_for_node(self, node: str, timeout: float = 10.0) -> None:
        """Wait until another node can be reached.

        Raises:
            NotReached: it cannot, in time.
        """
        self._see_joined("wait_for_node")
        await self._until(lambda: node in self.nodes(), f"node {node}", timeout)

    async def wait_for_name(self, name: str, timeout: float = 10.0) -> Ref:
        """Wait until somebody holds a name whose node can be reached, and return who.

        Raises:
            NotReached: nobody does, in time.
        """
        self._see_joined("wait_for_name")

        def found() -> bool:
            ref = self.whereis(name)
            return ref is not None and ref.alive

        await self._until(found, f"name {name}", timeout)
        ref = self.whereis(name)
        assert ref is not None
        return ref

    def statistics(self) -> ClusterStatistics:
        """Return the numbers of this node."""
        self._see_joined("statistics")
        return ClusterStatistics(len(self.nodes()), len(self.names()), len(self.claims), dict(self.peers.counts))

    # -- what is heard --------------------------------------------------------------------------------------------

    def emit(self, event: type[Event], **fields: Any) -> None:
        """Tell the event stream of the runtime."""
        self.peers.emit(event, **fields)

    def load(self, entries: Sequence[Entry]) -> None:
        """Take all entries of the names' keys."""
        ids = [read_cluster_id(entry) for entry in entries if entry.key == CLUSTER]
        if ids != [self.peers.cluster]:
            self.lost()
            return
        self.table.loaded(entries)
        for entry in self.table.names.values():
            self._has_expired(entry)  # from now on, by this node's clock
        for name, claim in list(self.claims.items()):
            self._check(claim, self.table.names.get(name))
        self._changed()

    def heard(self, entry: Entry) -> None:
        """Take a change of an entry."""
        value = self.table.changed(entry)
        if value is not None:
            claim = self.claims.get(name_in(entry.key))
            if claim is not None:
                self._check(claim, value)
            self._changed()

    def _check(self, claim: NameClaim, entry: NameEntry | None) -> None:
        if entry is not None and entry.epoch > claim.epoch:
            self.give_up(claim, f"node {entry.node} has claimed it")

    def _see_joined(self, what: str) -> None:
        if not hasattr(self, "peers"):
            raise NotJoined(what, self.node)

    def _changed(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def _until(self, reached: Callable[[], bool], what: str, timeout: float) -> None:
        scheduler = self.runtime.scheduler
        limit = scheduler.now() + seconds("timeout", timeout)
        while not reached():
            waiting: asyncio.Future[None] = scheduler.loop.create_future()
            self._waiting.add(waiting)
            try:
                if not await scheduler.wait(waiting, max(0.0, limit - scheduler.now())):
                    raise NotReached(what, timeout)
            finally:
                self._waiting.discard(waiting)


class _LeaseWatcher:
    """Notes the leases."""

    def __init__(self, cluster: Cluster) -> None:
        self._book = cluster.book
        self._now = cluster.runtime.scheduler.now

    def loaded(self, entries: Sequence[Entry]) -> None:
        self._book.loaded(entries, self._now())

    def changed(self, entry: Entry) -> None:
        self._book.changed(entry, self._now())


class _NameWatcher:
    """Notes the names, as long as the node is in the cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def loaded(self, entries: Sequence[Entry]) -> None:
        if not self._cluster.peers.closed:
            self._cluster.load(entries)

    def changed(self, entry: Entry) -> None:
        if not self._cluster.peers.closed:
            self._cluster.heard(entry)


def _port_of(servers: str | Sequence[str] | Port) -> Port:
    """Return the port to servers; one that is given as it is."""
    if not isinstance(servers, Sequence) and all(callable(getattr(servers, word, None)) for word in PORT):
        return servers
    from foundation.cluster.nats import NatsPort

    return NatsPort(servers)  # type: ignore[arg-type]


def _shared_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names that are to be shared; one alone is not a list of its letters."""
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise BadOption("names", names, _NAMES)
    found = tuple(names)
    if not all(isinstance(name, str) and name for name in found):
        raise BadOption("names", found, _NAMES)
    return found
