"""Topologies: which agents make a team, who owns whom, and who comes after whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal, TypeAlias

import msgspec

from agents.agent_type import AgentType
from supervision import SpecError


class BadTopology(SpecError):
    """A topology, or a change of it, does not make sense. Nothing has changed."""


class Node(msgspec.Struct, frozen=True):
    """One agent of a team.

    Attributes:
        type: of the agent.
        activation: ``eager`` is started with the team, ``lazy`` when it is asked for.
        state: its first state, or some of its fields.
        owner: the node whose child it is; None for nobody's.
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
    node: Node


class RemoveNode(msgspec.Struct, frozen=True):
    """A change of a topology: a node less, and all that it owns."""

    name: str


Change: TypeAlias = AddNode | RemoveNode


class Topology(msgspec.Struct, frozen=True):
    """Which agents make a team. A topology is a value: `add` and `changed` return another one.

    Attributes:
        name: of the team.
        nodes: by name.
        version: how often it was changed since it was declared.

    Raises:
        BadTopology: the name is no text, or empty.
    """

    name: str
    nodes: Mapping[str, Node] = {}
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
            BadTopology: the name is taken, a node that is named is not there, or they wait for each other.
        """
        before = (after,) if isinstance(after, str) else tuple(after)
        node = Node(type, activation, state, owner, before, meta)
        return checked(Topology(self.name, _with(self.nodes, name, node), self.version))

    def changed(self, changes: Iterable[Change]) -> Topology:
        """Return the topology after some changes.

        Raises:
            BadTopology: a node is named twice, is not there, or is there already; or what comes out is none.
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
        sorter = TopologicalSorter({name: self.nodes[name].needs for name in wanted})
        sorter.prepare()
        found = []
        while sorter.is_active():
            ready = sorter.get_ready()
            found.append(tuple(sorted(ready)))
            sorter.done(*ready)
        return tuple(found)


def _with(nodes: Mapping[str, Node], name: str, node: Node) -> dict[str, Node]:
    _check_name("node", name)
    if name in nodes:
        raise BadTopology("node", name, "there is one with this name")
    return {**nodes, name: node}


def owned(nodes: Mapping[str, Node], name: str) -> list[str]:
    """Return a node, and all that it owns, by whichever way."""
    found = [name]
    for one in found:
        found += [other for other, node in nodes.items() if node.owner == one and other not in found]
    return found


def checked(topology: Topology) -> Topology:
    """Return a topology that makes sense.

    Raises:
        BadTopology: it does not.
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
        way = " → ".join(reversed(error.args[1]))
        raise BadTopology("nodes", way, "these wait for each other: take one link away") from None
    return topology


def _check_name(where: str, name: object) -> None:
    if not isinstance(name, str) or not name:
        raise BadTopology(where, name, "give a string that is not empty")
