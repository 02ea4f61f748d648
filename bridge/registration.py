"""Registration: agents, and any other actors, in the platform's registry, with what they can do."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import msgspec

from bridge.health import HealthStatus
from foundation.registry import Directory, Entry, Field, Query, Register
from foundation.resources import Lease, Resource
from supervision import Actor, Ref, current_actor, spawn_link

_NOTHING: Mapping[str, Any] = {}


class AgentMetadata(msgspec.Struct, frozen=True):
    """What the registry knows of an agent.

    Attributes:
        capabilities: what it can do; the registry finds it by each.
        health: how it is, kept up to date by `setup_monitoring`.
        registered_at: the runtime's time of its registration, in seconds.
        details: further facts, for queries.
    """

    capabilities: frozenset[str] = frozenset()
    health: HealthStatus = "healthy"
    registered_at: float = 0.0
    details: Mapping[str, Any] = {}


async def register_agent(
    directory: Directory,
    ref: Ref,
    capabilities: Iterable[str] = (),
    *,
    key: Hashable = None,
    metadata: Mapping[str, Any] = _NOTHING,
) -> Entry:
    """Enter an agent, or any other actor, in a registry. It is removed when it ends.

    One that is to be entered again after each restart is started with `start_and_register`.

    Args:
        directory: of the registry.
        ref: the actor.
        capabilities: what it can do.
        key: under which it is found; None for its ref.
        metadata: whatever else is to be known, as `AgentMetadata.details`.

    Returns:
        The entry; its metadata is an `AgentMetadata`.

    Raises:
        KeyTaken, NoProcess, BadMetadata, BadOption: see `Directory.register`.
    """
    known = AgentMetadata(frozenset(capabilities), registered_at=ref.runtime.clock.time(), details=metadata)
    return await directory.register(ref if key is None else key, ref, known)


async def register_agents(directory: Directory, agents: Mapping[Hashable, tuple[Ref, Iterable[str]]]) -> list[Entry]:
    """Enter many agents in one step, all or none (`BatchFailed`): for each key the actor, and what it can do."""
    writes = [
        Register(key, ref, AgentMetadata(frozenset(able), registered_at=ref.runtime.clock.time()))
        for key, (ref, able) in agents.items()
    ]
    return await directory.batch(writes)


def find_agents(directory: Directory, capability: str | None = None, where: Query | None = None) -> list[Entry]:
    """Return the agents that are not unresponsive, have a capability, if one is given, and match `where`.

    ``where`` asks about their `AgentMetadata`, such as ``Field("details.hall") == 3``.
    """
    found = directory.find("capabilities", capability) if capability is not None else directory.select()
    query = Field("health") != "unresponsive" if where is None else (Field("health") != "unresponsive") & where
    return [entry for entry in found if query.holds(entry.metadata)]


async def acquire_for_agent(ref: Ref, amounts: Mapping[str, float]) -> dict[str, Lease]:
    """Take amounts of resources for an agent, all or none; they are given back when it ends, if not before."""
    leases: dict[str, Lease] = {}
    try:
        for name, amount in amounts.items():
            leases[name] = await Resource(ref.runtime, name).acquire(amount, holder=ref)
    except BaseException:
        for name, lease in leases.items():
            await Resource(ref.runtime, name).release(lease)
        raise
    return leases


async def start_and_register(
    kind: type[Actor],
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] = _NOTHING,
    *,
    capabilities: Iterable[str] = (),
    key: Hashable = None,
    metadata: Mapping[str, Any] = _NOTHING,
    registry: str = "registry",
) -> Ref:
    """Start an actor and register it; to be the ``start`` of a child specification.

    So it is registered again whenever its supervisor starts it again. If it cannot be registered, it is not started.
    ``args`` and ``kwargs`` are passed to it, ``registry`` is the registry's name; the rest is as for `register_agent`.

    Raises:
        NotRunning: this code does not run in an actor, such as a supervisor.
        StartError: it did not start; otherwise as `register_agent`.
    """
    directory = Directory.of(current_actor().runtime, registry)
    ref = await spawn_link(kind, *args, **kwargs)
    try:
        await register_agent(directory, ref, capabilities, key=key, metadata=metadata)
    except BaseException:
        ref.kill()
        raise
    return ref
