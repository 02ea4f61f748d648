"""The supervisor of the agents that agents start."""

from __future__ import annotations

from supervision import DynamicSupervisor, Ref, Runtime

#: The name of the supervisor of the agents that agents start.
AGENTS = "agents"


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
    found = runtime.whereis(AGENTS)
    return runtime.spawn_nowait(AgentSupervisor, name=AGENTS) if found is None else found
