"""The agents of a runtime that run: by type and id, by capability, and what is seen of each, read without waiting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from agents.errors import AgentExists, AmbiguousAgent, BadAgentType
from supervision import Ref, Runtime

if TYPE_CHECKING:
    from agents.core.agent_type import AgentType
    from agents.server.view import AgentView


class AgentEntry(msgspec.Struct, frozen=True):
    """An agent that runs: its server, its type, and where it is seen."""

    ref: Ref
    kind: type[AgentType[Any]]
    view: AgentView[Any]


class AgentDirectory:
    """The agents of one runtime. Ended agents are hidden at once, and removed periodically.

    An agent is told from others by its partition, the name of its type, and its id.
    """

    __slots__ = ("_by_capability", "_by_id", "_by_ref", "_kinds", "_leaving", "_sweep_at")

    def __init__(self) -> None:
        #: Most ids belong to agents of one type.
        self._by_id: dict[tuple[str, str], AgentEntry | tuple[AgentEntry, ...]] = {}
        self._by_ref: dict[Ref, AgentEntry] = {}
        #: By name: what two types share would be the agents that are saved under it.
        self._kinds: dict[str, type[AgentType[Any]]] = {}
        self._by_capability: dict[str, dict[Ref, str]] = {}
        self._leaving: set[Ref] = set()
        self._sweep_at = 1024

    def enter(self, entry: AgentEntry, partition: str, id: str) -> None:
        """Add an agent that starts.

        Raises:
            AgentExists: one of this type with this id runs in this partition.
            BadAgentType: another type with the same name has agents here.
        """
        ref, kind = entry.ref, entry.kind
        named = self._kinds.setdefault(kind.name, kind)
        if named is not kind and not _is_same(named, kind):
            remedy = f"{named!r} has this name, too: give one of them a `name` of its own"
            raise BadAgentType(f"{kind.__qualname__}: name", kind.name, remedy)
        others: tuple[AgentEntry, ...] = ()
        for known in self._known(partition, id):
            if known.kind.name != kind.name:
                others = (*others, known) if known.ref.reason is None else others
            elif known.ref.reason is None:
                raise AgentExists(id, partition, known.ref)
        self._by_id[partition, id] = (*others, entry) if others else entry
        self._by_ref[ref] = entry
        for capability in kind.capabilities:
            self._by_capability.setdefault(capability, {})[ref] = partition
        if len(self._by_ref) >= self._sweep_at:
            self._sweep()

    def _known(self, partition: str, id: str) -> tuple[AgentEntry, ...]:
        found = self._by_id.get((partition, id), ())
        return (found,) if isinstance(found, AgentEntry) else found

    def leave(self, ref: Ref) -> None:
        """Hide an agent that ends. Its place is taken until it has ended."""
        entry = self._by_ref[ref]
        self._leaving.add(ref)
        for capability in entry.kind.capabilities:
            self._by_capability.get(capability, {}).pop(ref, None)

    def _sweep(self) -> None:
        self._by_ref = {ref: entry for ref, entry in self._by_ref.items() if ref.reason is None}
        living = {key: [one for one in self._known(*key) if one.ref.reason is None] for key in self._by_id}
        self._by_id = {key: tuple(found) if len(found) > 1 else found[0] for key, found in living.items() if found}
        self._leaving = {ref for ref in self._leaving if ref.reason is None}
        for refs in self._by_capability.values():
            for ref in [ref for ref in refs if ref.reason is not None]:
                del refs[ref]
        self._sweep_at = max(1024, 2 * len(self._by_ref))

    def whereis(self, id: str, partition: str, kind: type[AgentType[Any]] | None = None) -> Ref | None:
        """Return the server of an agent, or None.

        Raises:
            AmbiguousAgent: agents of several types have this id.
        """
        known = [one for one in self._known(partition, id) if self._is_here(one.ref)]
        if kind is not None:
            known = [one for one in known if one.kind.name == kind.name]
        if len(known) > 1:
            raise AmbiguousAgent(id, partition, [one.kind.name for one in known])
        return known[0].ref if known else None

    def _is_here(self, ref: Ref) -> bool:
        return ref.reason is None and ref not in self._leaving

    def leaving(self, id: str, partition: str, kind: type[AgentType[Any]]) -> Ref | None:
        """Return the server of an agent that is about to end; None if there is none."""
        for one in self._known(partition, id):
            if one.kind.name == kind.name and one.ref.reason is None and one.ref in self._leaving:
                return one.ref
        return None

    def view_of(self, ref: Ref) -> AgentView[Any] | None:
        """Return where the agent of a server is seen; None if it is no agent's, or has not begun yet."""
        entry = self._by_ref.get(ref)
        return None if entry is None or entry.view.ref != ref else entry.view

    def entries(self, partition: str | None) -> Iterator[tuple[str, AgentEntry]]:
        """Yield the agents in a partition, or in all, with their ids."""
        for at, id in self._by_id:
            if partition in (None, at):
                yield from ((id, one) for one in self._known(at, id) if self._is_here(one.ref))

    def find_by_capability(self, capability: str, partition: str | None) -> list[Ref]:
        """Return the servers of agents with a capability."""
        refs = self._by_capability.get(capability, {}).items()
        return [ref for ref, at in refs if ref.reason is None and partition in (None, at)]


def _is_same(one: type[Any], other: type[Any]) -> bool:
    """Whether two types are one, or the one is a later definition of the other, as in a notebook."""
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def directory_of(runtime: Runtime) -> AgentDirectory:
    """Return the directory of a runtime."""
    found: AgentDirectory | None = runtime.shared.get(AgentDirectory)
    if found is None:
        found = runtime.shared[AgentDirectory] = AgentDirectory()
    return found


def whereis(runtime: Runtime, id: str, *, partition: str = "", kind: type[AgentType[Any]] | None = None) -> Ref | None:
    """Return the server of an agent that runs, or None.

    Args:
        runtime: where.
        id: of the agent.
        partition: of the agent.
        kind: its type; None if there is one agent with this id only.

    Raises:
        AmbiguousAgent: agents of several types have this id, and ``kind`` does not say which is meant.
    """
    return directory_of(runtime).whereis(id, partition, kind)


def agent_ids(runtime: Runtime, *, partition: str | None = None, kind: type[AgentType[Any]] | None = None) -> list[str]:
    """Return the ids of the agents that run, of a type or of all, in a partition or in all, as they have started."""
    entries = directory_of(runtime).entries(partition)
    return [id for id, one in entries if kind is None or one.kind.name == kind.name]


def find_by_capability(runtime: Runtime, capability: str, *, partition: str | None = None) -> list[Ref]:
    """Return the servers of the agents that run and have a capability, in the order in which they have started.

    Args:
        runtime: where.
        capability: one of the `AgentType.capabilities` of their types.
        partition: of the agents; None for all.
    """
    return directory_of(runtime).find_by_capability(capability, partition)
