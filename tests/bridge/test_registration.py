"""Registration and events: agents and foreign actors in the registry."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agents import AgentServer, AgentType, start_agent
from bridge import AgentEvent, AgentMetadata, emit_agent_event, register_agent, start_and_register
from foundation.registry import BadMetadata, Directory, KeyTaken
from supervision import Actor, ChildSpec, NotRunning, Ref, Runtime, StartError, start_child
from supervision.events import Exited
from supervision.testing import settled


class Empty(msgspec.Struct, frozen=True):
    """A state with nothing in it."""


class Worker(AgentType[Empty]):
    """An agent."""


class Foreign(Actor):
    """An actor that knows nothing of agents."""

    def __init__(self, grip: int = 1, *, colour: str = "red") -> None:
        self.grip, self.colour = grip, colour


async def test_an_agent_is_found_by_what_it_can_do(runtime: Runtime, directory: Directory) -> None:
    """A registered agent is found by each of its capabilities, with its details, until it ends."""
    worker = await start_agent(runtime, Worker)
    assert isinstance(worker.address, Ref)
    entry = await register_agent(directory, worker.address, ["sort", "pack"], key="w1", metadata={"hall": 3})
    assert directory.find("capabilities", "sort") == directory.find("capabilities", "pack") == [entry]
    assert directory.find("health", "healthy") == [entry]
    assert entry.key == "w1"
    assert entry.metadata == AgentMetadata(
        frozenset({"sort", "pack"}), "healthy", entry.metadata.registered_at, {"hall": 3}
    )
    await worker.address.stop()
    assert directory.find("capabilities", "sort") == []


async def test_a_foreign_actor_is_registered_alike(runtime: Runtime, directory: Directory) -> None:
    """Any actor can be registered; without a key its ref is the key."""
    foreign = await runtime.spawn(Foreign)
    entry = await register_agent(directory, foreign)
    assert directory.lookup(foreign) == entry
    assert entry.metadata.capabilities == frozenset()
    with pytest.raises(KeyTaken):
        await register_agent(directory, foreign)
    with pytest.raises(BadMetadata):
        await register_agent(directory, foreign, [1], key="x")  # type: ignore[list-item]


async def test_a_supervised_agent_is_registered_after_each_restart(runtime: Runtime, directory: Directory) -> None:
    """An agent that is started and registered in one is in the registry again as soon as its supervisor has
    restarted it."""
    child = ChildSpec(
        "w1", start_and_register, (AgentServer, (Worker,), {"id": "w1"}), {"capabilities": ["sort"], "key": "w1"}
    )
    await start_child(runtime.name("top"), child)
    for _ in range(3):
        entry = directory.lookup("w1")
        assert entry is not None
        assert directory.find("capabilities", "sort") == [entry]
        assert entry.ref.path == "/top/w1"
        entry.ref.kill()
        assert directory.lookup("w1") is None
        await settled(runtime)


async def test_what_cannot_be_registered_is_not_started(runtime: Runtime, directory: Directory) -> None:
    """If the registration fails, the start fails with its error, and no actor is left behind."""
    await register_agent(directory, await runtime.spawn(Foreign), key="taken")
    exits: list[Any] = []
    runtime.subscribe(exits.append, Exited)
    before = list(runtime.actors())
    child = ChildSpec("f", start_and_register, (Foreign, (2,), {"colour": "blue"}), {"key": "taken"})
    with pytest.raises(StartError) as error:
        await start_child(runtime.name("top"), child)
    assert "KeyTaken" in str(error.value)
    assert list(runtime.actors()) == before
    assert len(exits) == 1


async def test_only_an_actor_can_start_a_child(runtime: Runtime) -> None:
    """Starting and registering is for supervisors: outside of an actor there is nobody to link to."""
    with pytest.raises(NotRunning):
        await start_and_register(Foreign)


async def test_an_agent_restarted_with_its_registry(runtime: Runtime, directory: Directory) -> None:
    """A crash of the registry loses no registration: agents need not notice."""
    entry = await register_agent(directory, await runtime.spawn(Foreign), ["sort"], key="f")
    registry = runtime.whereis("registry")
    assert registry is not None
    registry.kill()
    await settled(runtime)
    assert runtime.whereis("registry") not in (None, registry)
    assert directory.find("capabilities", "sort") == [entry]


async def test_events_of_agents(runtime: Runtime) -> None:
    """What an agent has to tell is on the event stream with its name, numbers and path; it is not built for nobody."""
    foreign = await runtime.spawn(Foreign, name="foreign")
    before = runtime.events.seq
    emit_agent_event(foreign, "nobody.listens")
    assert runtime.events.seq == before
    told: list[AgentEvent] = []
    subscription = runtime.subscribe(told.append, AgentEvent)
    emit_agent_event(foreign, "order.packed", {"seconds": 0.5}, {"order": 17})
    emit_agent_event(foreign, "order.sent")
    subscription.close()
    (packed, sent) = told
    assert (packed.ref, packed.path, packed.name) == (foreign, "/foreign", "order.packed")
    assert (packed.measurements, packed.metadata) == ({"seconds": 0.5}, {"order": 17})
    assert (sent.name, sent.measurements, sent.metadata) == ("order.sent", {}, {})
