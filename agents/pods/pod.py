"""Pods: teams that run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from agents.directory import whereis
from agents.durability.durability import Durability
from agents.errors import AgentError
from agents.handle import AgentHandle, connect
from agents.pods.topology import AddNode, BadTopology, Change, Node, RemoveNode, Topology
from agents.server import AgentServer, Binding, supervisor_of
from agents.server.messages import EndChild
from supervision import Actor, ChildSpec, Down, Message, Ref, Refuse, Request, Runtime, Shutdown, handle, start_child

#: Seconds after the end of a node in which its supervisor can start it again.
_HEAL_AFTER = 0.1


class MutationBusy(AgentError):
    """A pod is being changed, and takes no other change now."""


class NodeStatus(msgspec.Struct, frozen=True):
    """A node of a pod at this moment.

    Attributes:
        status: ``running`` or ``stopped``.
        ref: its server, if it runs.
        owner: the node whose child it is.
        source: how this pod has come to it: it has ``started`` it, or has ``adopted`` it when it ran already; None if
            it has not had to do with it.
    """

    status: Literal["running", "stopped"]
    ref: Ref | None
    owner: str | None
    source: str | None = None


class MutationReport(msgspec.Struct, frozen=True):
    """What came of a change, or of a reconciliation.

    Attributes:
        status: ``completed``, or ``failed`` if a node could not be started; the topology is as wanted all the same.
        version: of the topology after it.
        added: the names of the new nodes.
        removed: the names of those that are gone.
        started: the names of those that were started.
        stopped: the names of those that were stopped.
        failures: why nodes could not be started, by name.
    """

    status: Literal["completed", "failed"]
    version: int
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    started: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()
    failures: Mapping[str, str] = {}


class _Ensure(Request[Ref], frozen=True):
    """The server of a node, started if need be."""

    name: str


class _Reconcile(Request[MutationReport], frozen=True):
    """Start what ought to run."""


class _Nodes(Request[dict[str, NodeStatus]], frozen=True):
    """How are the nodes?"""


class _Mutate(Request[MutationReport], frozen=True):
    """Change the topology."""

    changes: tuple[Change, ...]


class _GetTopology(Request[Topology], frozen=True):
    """What is the topology now?"""


class _Stop(Request[None], frozen=True):
    """Stop all nodes, and the pod."""


class _Heal(Message, frozen=True):
    """A pod's note to itself: a node has ended."""


class TopologyHolder:
    """The topology of a pod as it is now, shared by all incarnations of its actor."""

    __slots__ = ("topology",)

    def __init__(self, topology: Topology) -> None:
        self.topology = topology


class PodServer(Actor):
    """Starts the agents of a team, and lets them belong to each other. `Pod` is how to use it.

    The agents do not depend on it: when it ends, they go on, and the next one finds them.

    Args:
        holder: of the topology.
        key: tells the pod from others with the same topology.
        partition: of the agents.
        durability: where and when the agents are saved.
    """

    def __init__(self, holder: TopologyHolder, key: str, partition: str, durability: Durability | None) -> None:
        self._holder = holder
        self._key = key
        self._partition = partition
        self._durability = durability
        self._sources: dict[str, str] = {}
        self._watched: dict[Ref, str] = {}
        self._healing = False

    def _id(self, name: str) -> str:
        return f"{self._holder.topology.name}/{self._key}/{name}"

    def _ref(self, name: str) -> Ref | None:
        return whereis(self.runtime, self._id(name), partition=self._partition)

    async def init(self) -> None:
        """Start what ought to run. What does not start is seen in `Pod.nodes`, and tried again by `Pod.reconcile`."""
        await self._start(self._eager())

    def _eager(self) -> list[str]:
        return [name for name, node in self._holder.topology.nodes.items() if node.activation == "eager"]

    async def _start(self, names: Iterable[str]) -> tuple[list[str], dict[str, str]]:
        """Start nodes and what they need, wave by wave, up to the first wave in which one fails."""
        started: list[str] = []
        failures: dict[str, str] = {}
        for wave in self._holder.topology.waves(names):
            outcomes = await asyncio.gather(*(self._node(name) for name in wave), return_exceptions=True)
            for name, outcome in zip(wave, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    failures[name] = str(outcome)
                elif outcome == "started":
                    started.append(name)
            if failures:
                break
        return started, failures

    async def _node(self, name: str) -> str:
        """Start a node, unless it runs, and give it to its owner; return how it came to run."""
        node = self._holder.topology.nodes[name]
        ref = self._ref(name)
        if ref is None:
            options = {
                "id": self._id(name),
                "state": node.state,
                "partition": self._partition,
                "durability": self._durability,
                "binding": Binding(),
            }
            spec = ChildSpec(self._id(name), AgentServer, (node.type,), options, restart="transient")
            ref = await start_child(supervisor_of(self.runtime), spec)
            assert ref is not None
            self._sources[name] = how = "started"
        else:
            how = "running"
            self._sources.setdefault(name, "adopted")
        if ref not in self._watched:
            self._watched[ref] = name
            self.monitor(ref)
        if node.owner is not None:
            await self._give(ref, name, node)
        return how

    async def _give(self, ref: Ref, name: str, node: Node) -> None:
        assert node.owner is not None
        owner_ref = self._ref(node.owner)
        assert owner_ref is not None
        owner: AgentHandle[Any] = await connect(owner_ref)
        known = owner.children.get(name)
        if known is None or known.ref != ref:
            await owner.adopt(ref, name, node.meta)

    @handle
    def ended(self, message: Down) -> None:
        """A node has ended: look after the team, when its supervisor has had time to start it again."""
        assert isinstance(message.target, Ref)
        name = self._watched.pop(message.target, None)
        if name is not None and name in self._sources and not self._healing:
            self._healing = True
            self.send_after(_HEAL_AFTER, _Heal())

    @handle
    async def heal(self, message: _Heal) -> None:
        """Give nodes that were started again to their owners, and start what ought to run and does not."""
        self._healing = False
        nodes = self._holder.topology.nodes
        await self._start([name for name in nodes if name in self._eager() or self._ref(name) is not None])

    # -- requests ----------------------------------------------------------------------------------------------------

    @handle
    async def ensure(self, request: _Ensure) -> Ref:
        """Start a node and what it needs."""
        if request.name not in self._holder.topology.nodes:
            known = ", ".join(self._holder.topology.nodes)
            raise Refuse(BadTopology("ensure", request.name, f"there is no such node; there are {known}"))
        _, failures = await self._start([request.name])
        ref = self._ref(request.name)
        if ref is None:
            raise Refuse(AgentError("; ".join(f"{name}: {why}" for name, why in failures.items())))
        return ref

    @handle
    async def reconcile(self, request: _Reconcile) -> MutationReport:
        """Start what ought to run."""
        started, failures = await self._start(self._eager())
        return self._report(started=tuple(started), failures=failures)

    @handle
    def nodes(self, request: _Nodes) -> dict[str, NodeStatus]:
        """Tell how the nodes are."""
        found = {}
        for name, node in self._holder.topology.nodes.items():
            ref = self._ref(name)
            status: Literal["running", "stopped"] = "stopped" if ref is None else "running"
            found[name] = NodeStatus(status, ref, node.owner, self._sources.get(name))
        return found

    @handle
    def topology(self, request: _GetTopology) -> Topology:
        """Tell what the topology is."""
        return self._holder.topology

    @handle
    async def mutate(self, request: _Mutate) -> MutationReport:
        """Change the topology, then the team."""
        before = self._holder.topology
        try:
            after = before.changed(request.changes)
        except BadTopology as error:
            raise Refuse(error) from error
        self._holder.topology = after
        removed = [name for name in before.nodes if name not in after.nodes]
        stopped = [name for name in reversed(_flat(before.waves())) if name in removed and await self._end(name)]
        added = tuple(name for name in after.nodes if name not in before.nodes)
        started, failures = await self._start([name for name in added if after.nodes[name].activation == "eager"])
        return self._report(added, tuple(removed), tuple(started), tuple(stopped), failures)

    def _report(
        self,
        added: tuple[str, ...] = (),
        removed: tuple[str, ...] = (),
        started: tuple[str, ...] = (),
        stopped: tuple[str, ...] = (),
        failures: Mapping[str, str] | None = None,
    ) -> MutationReport:
        version = self._holder.topology.version
        status: Literal["completed", "failed"] = "failed" if failures else "completed"
        return MutationReport(status, version, added, removed, started, stopped, failures or {})

    async def _end(self, name: str) -> bool:
        ref = self._ref(name)
        self._sources.pop(name, None)
        if ref is None:
            return False
        ref.cast(EndChild(Shutdown("removed")))
        await ref.join()
        return True

    @handle
    async def end(self, request: _Stop) -> None:
        """Stop all nodes, those that need others first, and then the pod."""
        for name in reversed(_flat(self._holder.topology.waves())):
            await self._end(name)
        self.stop()


def _flat(waves: Iterable[Iterable[str]]) -> list[str]:
    return [name for wave in waves for name in wave]


class Pod:
    """A team of agents that runs.

    Attributes:
        address: of the actor that looks after it.
        key: tells it from others with the same topology.
    """

    __slots__ = ("_changing", "address", "key")

    def __init__(self, address: Ref, key: str) -> None:
        self.address = address
        self.key = key
        self._changing = False

    async def ensure(self, name: str) -> AgentHandle[Any]:
        """Return a handle of a node; it, and what it needs, are started if they do not run.

        Raises:
            BadTopology: there is no such node.
            AgentError: it, or one that it needs, does not start.
        """
        return await connect(await self.address.call(_Ensure(name), timeout=None))

    async def nodes(self) -> dict[str, NodeStatus]:
        """Return how the nodes are, by name."""
        return await self.address.call(_Nodes(), timeout=None)

    async def topology(self) -> Topology:
        """Return the topology as it is now."""
        return await self.address.call(_GetTopology(), timeout=None)

    async def reconcile(self) -> MutationReport:
        """Start all eager nodes that do not run."""
        return await self.address.call(_Reconcile(), timeout=None)

    async def mutate(self, *changes: AddNode | RemoveNode) -> MutationReport:
        """Change the team while it runs: first what is wanted, then what is.

        A node that is removed is stopped, and all that it owns with it. One that cannot be started is in the report;
        the topology keeps it, and `reconcile` tries again.

        Raises:
            BadTopology: what comes out makes no sense; nothing has changed.
            MutationBusy: another change is under way.
        """
        if self._changing:
            raise MutationBusy(f"pod {self.key!r} is being changed: await that first")
        self._changing = True
        try:
            return await self.address.call(_Mutate(changes), timeout=None)
        finally:
            self._changing = False

    async def stop(self) -> None:
        """Stop all agents of the team, those that need others first, and the pod."""
        await self.address.call(_Stop(), timeout=None)


async def start_pod(
    runtime: Runtime,
    topology: Topology | TopologyHolder,
    *,
    key: str = "main",
    partition: str = "",
    durability: Durability | None = None,
    name: str | None = None,
) -> Pod:
    """Start a team. Agents of it that run already, under an earlier pod with this key, are taken over.

    Args:
        runtime: where.
        topology: which agents; a `TopologyHolder`, to keep the changes that are made while it runs.
        key: tells it from others with the same topology: its agents have ids such as ``"review/monday/planner"``.
        partition: of the agents.
        durability: where and when they are saved.
        name: of the actor that looks after it.

    Raises:
        StartError: something went wrong that has nothing to do with a node.
        AlreadyRegistered: the name is taken.
    """
    holder = topology if isinstance(topology, TopologyHolder) else TopologyHolder(topology)
    return Pod(await runtime.spawn(PodServer, holder, key, partition, durability, name=name), key)
