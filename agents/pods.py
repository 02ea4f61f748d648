"""Pods: declared teams of agents, which can be changed while they run.

A topology says which agents make a team, who owns whom, and who comes after whom; a pod runs it.

>>> import asyncio
>>> import msgspec
>>> from agents import AgentType
>>> from supervision import Runtime
>>> class Nothing(msgspec.Struct, frozen=True):
...     pass
>>> class Worker(AgentType[Nothing]):
...     pass
>>> review = (
...     Topology("review")
...     .add("planner", Worker)
...     .add("reviewer", Worker, owner="planner")
...     .add("auditor", Worker, activation="lazy")
... )
>>> async def main() -> None:
...     async with Runtime() as runtime:
...         pod = await start_pod(runtime, review, key="monday")
...         print({name: node.status for name, node in (await pod.nodes()).items()})
...         planner = await pod.ensure("planner")
...         print(sorted(planner.children))
>>> asyncio.run(main())
{'planner': 'running', 'reviewer': 'running', 'auditor': 'stopped'}
['reviewer']
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from graphlib import CycleError
from typing import Any, Literal, TypeAlias

import msgspec

from agents.core.agent_type import AgentType
from agents.core.composition import cycle_in, waves
from agents.durability.checkpointer import Durability
from agents.errors import AgentError
from agents.server import AgentServer, Binding, supervisor_of
from agents.server.directory import whereis
from agents.server.handle import AgentHandle, connect
from agents.server.messages import EndChild
from supervision import (
    Actor,
    ChildSpec,
    Down,
    Message,
    Ref,
    Refuse,
    Request,
    Runtime,
    Shutdown,
    SpecError,
    handle,
    start_child,
)

#: Seconds after the end of a node in which its supervisor can start it again.
_HEAL_AFTER = 0.1


class BadTopology(SpecError):
    """A topology, or a change of it, is invalid. Nothing has changed."""


class MutationBusy(AgentError):
    """A pod is being changed, and takes no other change now."""


class Topology(msgspec.Struct, frozen=True):
    """Which agents make a team. A topology is a value: `add` and `changed` return another one.

    Attributes:
        name: of the team.
        nodes: by name.
        version: how often it was changed since it was declared.

    Raises:
        BadTopology: the name is not a string, or empty.
    """

    name: str
    nodes: Mapping[str, PodNode] = {}
    version: int = 1

    def __post_init__(self) -> None:
        _check_name("Topology.name", self.name)

    def add(
        self,
        name: str,
        type: type[AgentType[Any]],
        *,
        activation: Literal["eager", "lazy"] = "eager",
        state: Any = None,
        owner: str | None = None,
        after: str | Iterable[str] = (),
        meta: Any = None,
    ) -> Topology:
        """Return the topology with a node more.

        Args:
            name: of the node.
            type: of the agent.
            activation: ``eager`` is started with the team, ``lazy`` when it is asked for.
            state: its first state, or some of its fields.
            owner: the node whose child it is.
            after: the nodes that have to run before it.
            meta: noted with it.

        Raises:
            BadTopology: the name is taken, a node that is named is not there, or the nodes form a cycle.
        """
        before = (after,) if isinstance(after, str) else tuple(after)
        node = PodNode(type, activation, state, owner, before, meta)
        return checked(Topology(self.name, _with(self.nodes, name, node), self.version))

    def changed(self, changes: Iterable[TopologyChange]) -> Topology:
        """Return the topology after some changes.

        Raises:
            BadTopology: a node is named twice, is not there, or is there already; or the result is invalid.
        """
        nodes = dict(self.nodes)
        seen: set[str] = set()
        for change in changes:
            if change.name in seen:
                raise BadTopology("mutate", change.name, "name each node once")
            seen.add(change.name)
            if isinstance(change, AddNode):
                nodes = _with(nodes, change.name, change.node)
            elif change.name not in nodes:
                raise BadTopology("mutate: remove", change.name, "there is no such node")
            else:
                for gone in owned(nodes, change.name):
                    del nodes[gone]
        return checked(Topology(self.name, nodes, self.version + 1))

    def waves(self, names: Iterable[str] | None = None) -> tuple[tuple[str, ...], ...]:
        """Return nodes in the order in which they are started, each with what it needs; a wave starts together.

        Args:
            names: of nodes; None for all.
        """
        wanted: set[str] = set()
        queue = list(self.nodes if names is None else names)
        while queue:
            name = queue.pop()
            if name not in wanted:
                wanted.add(name)
                queue += self.nodes[name].needs
        return waves({name: self.nodes[name].needs for name in sorted(wanted)})


class PodNode(msgspec.Struct, frozen=True):
    """One agent of a team.

    Attributes:
        type: of the agent.
        activation: ``eager`` is started with the team, ``lazy`` when it is asked for.
        state: its first state, or some of its fields.
        owner: the node whose child it is; None if it has none.
        after: the nodes that have to run before it.
        meta: noted with it.
    """

    type: type[AgentType[Any]]
    activation: Literal["eager", "lazy"] = "eager"
    state: Any = None
    owner: str | None = None
    after: tuple[str, ...] = ()
    meta: Any = None

    @property
    def needs(self) -> tuple[str, ...]:
        """The nodes that have to run before it: its owner, and those that it comes after."""
        return self.after if self.owner is None else (self.owner, *self.after)


class AddNode(msgspec.Struct, frozen=True):
    """A change of a topology: a node more."""

    name: str
    node: PodNode


class RemoveNode(msgspec.Struct, frozen=True):
    """A change of a topology: a node less, and all that it owns."""

    name: str


TopologyChange: TypeAlias = AddNode | RemoveNode


def owned(nodes: Mapping[str, PodNode], name: str) -> list[str]:
    """Return a node, and all nodes it owns, directly or indirectly."""
    found = [name]
    for one in found:
        found += [other for other, node in nodes.items() if node.owner == one and other not in found]
    return found


def checked(topology: Topology) -> Topology:
    """Return a topology that is valid.

    Raises:
        BadTopology: it is not.
    """
    for name, node in topology.nodes.items():
        if not isinstance(node.type, type) or not issubclass(node.type, AgentType):
            raise BadTopology(f"node {name!r}: type", node.type, "give a subclass of AgentType")
        if node.activation not in ("eager", "lazy"):
            raise BadTopology(f"node {name!r}: activation", node.activation, "give eager or lazy")
        for other in node.needs:
            if other not in topology.nodes:
                raise BadTopology(f"node {name!r} needs", other, "there is no such node: add it first")
    try:
        topology.waves()
    except CycleError as error:
        raise BadTopology("nodes", cycle_in(error), "these need each other in a cycle: take one link away") from None
    return topology


def _with(nodes: Mapping[str, PodNode], name: str, node: PodNode) -> dict[str, PodNode]:
    _check_name("node", name)
    if name in nodes:
        raise BadTopology("node", name, "there is one with this name")
    return {**nodes, name: node}


def _check_name(where: str, name: object) -> None:
    if not isinstance(name, str) or not name:
        raise BadTopology(where, name, "give a string that is not empty")


async def start_pod(
    runtime: Runtime,
    topology: Topology | RetainedTopology,
    *,
    key: str = "main",
    partition: str = "",
    durability: Durability | None = None,
    name: str | None = None,
) -> Pod:
    """Start a team. Agents of it that run already, under an earlier pod with this key, are taken over.

    Args:
        runtime: where.
        topology: which agents; a `RetainedTopology`, to keep the changes that are made while it runs.
        key: distinguishes it from others with the same topology: the agents have ids like ``"review/monday/planner"``.
        partition: of the agents.
        durability: where and when they are saved.
        name: of its `PodServer`.

    Raises:
        StartError: its `PodServer` did not start; a node that does not start is no error.
        AlreadyRegistered: the name is taken.
    """
    retained = topology if isinstance(topology, RetainedTopology) else RetainedTopology(topology)
    return Pod(await runtime.spawn(PodServer, retained, key, partition, durability, name=name), key)


class Pod:
    """A team of agents that runs.

    Attributes:
        address: of its `PodServer`.
        key: distinguishes it from others with the same topology.
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
        """Change the team while it runs: first the topology, then the agents.

        A node that is removed is stopped, and all that it owns with it. One that cannot be started is in the report;
        the topology keeps it, and `reconcile` tries again.

        Raises:
            BadTopology: the result is invalid; nothing has changed.
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


class NodeStatus(msgspec.Struct, frozen=True):
    """A node of a pod at this moment.

    Attributes:
        status: ``running`` or ``stopped``.
        ref: its server, if it runs.
        owner: the node whose child it is.
        source: whether this pod has ``started`` it, or ``adopted`` it when it ran already; None for neither.
    """

    status: Literal["running", "stopped"]
    ref: Ref | None
    owner: str | None
    source: str | None = None


class MutationReport(msgspec.Struct, frozen=True):
    """The result of a change, or of a reconciliation.

    Attributes:
        status: ``completed``, or ``failed`` if a node could not be started; the topology is changed all the same.
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


class RetainedTopology:
    """The topology of a pod as it is now, shared by all incarnations of its actor."""

    __slots__ = ("topology",)

    def __init__(self, topology: Topology) -> None:
        self.topology = topology


class _Ensure(Request[Ref], frozen=True):
    """The server of a node, started if need be."""

    name: str


class _Reconcile(Request[MutationReport], frozen=True):
    """Start the eager nodes that do not run."""


class _Nodes(Request[dict[str, NodeStatus]], frozen=True):
    """How are the nodes?"""


class _Mutate(Request[MutationReport], frozen=True):
    """Change the topology."""

    changes: tuple[TopologyChange, ...]


class _GetTopology(Request[Topology], frozen=True):
    """What is the topology now?"""


class _Stop(Request[None], frozen=True):
    """Stop all nodes, and the pod."""


class _Heal(Message, frozen=True):
    """Timer message: look after the team, as a node has ended."""


class PodServer(Actor):
    """Starts the agents of a team, and gives each to its owner. Use it through `Pod`.

    The agents do not depend on it: when it ends, they go on, and the next one finds them.

    Args:
        retained: the topology.
        key: distinguishes the pod from others with the same topology.
        partition: of the agents.
        durability: where and when the agents are saved.
    """

    def __init__(self, retained: RetainedTopology, key: str, partition: str, durability: Durability | None) -> None:
        self._retained = retained
        self._key = key
        self._partition = partition
        self._durability = durability
        self._sources: dict[str, str] = {}
        self._watched: dict[Ref, str] = {}
        self._healing = False

    def _id(self, name: str) -> str:
        return f"{self._retained.topology.name}/{self._key}/{name}"

    def _ref(self, name: str) -> Ref | None:
        node = self._retained.topology.nodes.get(name)
        kind = None if node is None else node.type
        return whereis(self.runtime, self._id(name), partition=self._partition, kind=kind)

    async def init(self) -> None:
        """Start the eager nodes. One that does not start is seen in `Pod.nodes`, and tried again by `Pod.reconcile`."""
        await self._start(self._eager())

    def _eager(self) -> list[str]:
        return [name for name, node in self._retained.topology.nodes.items() if node.activation == "eager"]

    async def _start(self, names: Iterable[str]) -> tuple[list[str], dict[str, str]]:
        """Start nodes and what they need, wave by wave, up to the first wave in which one fails."""
        started: list[str] = []
        failures: dict[str, str] = {}
        for wave in self._retained.topology.waves(names):
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
        node = self._retained.topology.nodes[name]
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

    async def _give(self, ref: Ref, name: str, node: PodNode) -> None:
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
        """Give restarted nodes to their owners, and start the eager nodes that do not run."""
        self._healing = False
        nodes = self._retained.topology.nodes
        await self._start([name for name in nodes if name in self._eager() or self._ref(name) is not None])

    # -- requests ----------------------------------------------------------------------------------------------------

    @handle
    async def ensure(self, request: _Ensure) -> Ref:
        """Start a node and what it needs."""
        if request.name not in self._retained.topology.nodes:
            known = ", ".join(self._retained.topology.nodes)
            raise Refuse(BadTopology("ensure", request.name, f"there is no such node; there are {known}"))
        _, failures = await self._start([request.name])
        ref = self._ref(request.name)
        if ref is None:
            raise Refuse(AgentError("; ".join(f"{name}: {why}" for name, why in failures.items())))
        return ref

    @handle
    async def reconcile(self, request: _Reconcile) -> MutationReport:
        """Start the eager nodes that do not run."""
        started, failures = await self._start(self._eager())
        return self._report(started=tuple(started), failures=failures)

    @handle
    def nodes(self, request: _Nodes) -> dict[str, NodeStatus]:
        """Return how the nodes are."""
        found = {}
        for name, node in self._retained.topology.nodes.items():
            ref = self._ref(name)
            status: Literal["running", "stopped"] = "stopped" if ref is None else "running"
            found[name] = NodeStatus(status, ref, node.owner, self._sources.get(name))
        return found

    @handle
    def topology(self, request: _GetTopology) -> Topology:
        """Return the topology as it is now."""
        return self._retained.topology

    @handle
    async def mutate(self, request: _Mutate) -> MutationReport:
        """Change the topology, then the team."""
        before = self._retained.topology
        try:
            after = before.changed(request.changes)
        except BadTopology as error:
            raise Refuse(error) from error
        self._retained.topology = after
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
        version = self._retained.topology.version
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
        for name in reversed(_flat(self._retained.topology.waves())):
            await self._end(name)
        self.stop()


def _flat(waves: Iterable[Iterable[str]]) -> list[str]:
    return [name for wave in waves for name in wave]
