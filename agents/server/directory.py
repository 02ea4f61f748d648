"""The agents of a runtime that run: by id and by capability, read without waiting; and the supervisor of agents."""

from __future__ import annotations

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from agents.errors import AgentExists
from supervision import DynamicSupervisor, Ref, Runtime


class AgentDirectory:
    """The agents of one runtime. Ended agents are hidden at once, and removed periodically."""

    __slots__ = ("_by_capability", "_by_id", "_sweep_at")

    def __init__(self) -> None:
        self._by_id: dict[tuple[str, str], Ref] = {}
        self._by_capability: dict[str, dict[Ref, str]] = {}
        self._sweep_at = 1024

    def enter(self, ref: Ref, partition: str, id: str, capabilities: Iterable[str]) -> None:
        """Add an agent that starts.

        Raises:
            AgentExists: one with this id runs in this partition.
        """
        holder = self._by_id.get((partition, id))
        if holder is not None and holder.reason is None and holder != ref:
            raise AgentExists(id, partition, holder)
        self._by_id[partition, id] = ref
        for capability in capabilities:
            self._by_capability.setdefault(capability, {})[ref] = partition
        if len(self._by_id) >= self._sweep_at:
            self._sweep()

    def leave(self, ref: Ref, partition: str, id: str, capabilities: Iterable[str]) -> None:
        """Remove an agent that ends."""
        self._by_id.pop((partition, id), None)
        for capability in capabilities:
            self._by_capability.get(capability, {}).pop(ref, None)

    def _sweep(self) -> None:
        self._by_id = {key: ref for key, ref in self._by_id.items() if ref.reason is None}
        for refs in self._by_capability.values():
            for ref in [ref for ref in refs if ref.reason is not None]:
                del refs[ref]
        self._sweep_at = max(1024, 2 * len(self._by_id))

    def whereis(self, id: str, partition: str) -> Ref | None:
        """Return the server of an agent, or None."""
        ref = self._by_id.get((partition, id))
        return ref if ref is not None and ref.reason is None else None

    def ids(self, partition: str | None) -> list[str]:
        """Return the ids of the agents in a partition, or in all."""
        entries = self._by_id.items()
        return [id for (at, id), ref in entries if ref.reason is None and partition in (None, at)]

    def find_by_capability(self, capability: str, partition: str | None) -> list[Ref]:
        """Return the servers of agents with a capability."""
        refs = self._by_capability.get(capability, {}).items()
        return [ref for ref, at in refs if ref.reason is None and partition in (None, at)]


_of: WeakKeyDictionary[Runtime, AgentDirectory] = WeakKeyDictionary()


def directory_of(runtime: Runtime) -> AgentDirectory:
    """Return the directory of a runtime."""
    found = _of.get(runtime)
    if found is None:
        found = _of[runtime] = AgentDirectory()
    return found


def whereis(runtime: Runtime, id: str, *, partition: str = "") -> Ref | None:
    """Return the server of an agent that runs, or None.

    Args:
        runtime: where.
        id: of the agent.
        partition: of the agent.
    """
    return directory_of(runtime).whereis(id, partition)


def agent_ids(runtime: Runtime, *, partition: str | None = None) -> list[str]:
    """Return the ids of the agents that run, in a partition or in all, in the order in which they have started."""
    return directory_of(runtime).ids(partition)


def find_by_capability(runtime: Runtime, capability: str, *, partition: str | None = None) -> list[Ref]:
    """Return the servers of the agents that run and have a capability, in the order in which they have started.

    Args:
        runtime: where.
        capability: one of the `AgentType.capabilities` of their types.
        partition: of the agents; None for all.
    """
    return directory_of(runtime).find_by_capability(capability, partition)


#: The name of the supervisor of the agents that agents start.
AGENT_SUPERVISOR = "agents"


class AgentSupervisor(DynamicSupervisor):
    """The supervisor of the agents that agents start: children, keyed instances, the nodes of pods.

    A tree has one under the name ``"agents"``; where there is none, the first agent that needs one starts it.

    Args:
        max_restarts: how many restarts are allowed in ``max_seconds`` before it gives up.
        max_seconds: the length of that window.
    """

    def __init__(self, *, max_restarts: int = 1000, max_seconds: float = 5.0) -> None:
        super().__init__(max_restarts=max_restarts, max_seconds=max_seconds)


def supervisor_of(runtime: Runtime) -> Ref:
    """Return the supervisor of the agents of a runtime; start it if there is none."""
    found = runtime.whereis(AGENT_SUPERVISOR)
    return runtime.spawn_nowait(AgentSupervisor, name=AGENT_SUPERVISOR) if found is None else found
