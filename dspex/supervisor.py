"""The supervisor of the agents that are made while a service runs."""

from __future__ import annotations

from supervision import ChildSpec, DynamicSupervisor

#: The name under which the supervisor of agents is found.
AGENTS = "dspex.agents"


def agents_supervisor(max_restarts: int = 100, max_seconds: float = 1.0) -> ChildSpec:
    """Return the supervisor under which `dspex.start_agent` starts agents, to be put into a tree.

    Args:
        max_restarts: how many restarts are allowed in ``max_seconds``. There may be many agents, and those that call
            them wait for a restart; so it takes a lot of deaths before it gives up.
        max_seconds: the length of that window.
    """
    budget = {"max_restarts": max_restarts, "max_seconds": max_seconds}
    return ChildSpec(AGENTS, DynamicSupervisor, kwargs=budget, name=AGENTS)
