"""Children, parents, orphans: agents that belong to each other while they live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agents.core.agent import Parent
from agents.core.directives import AdoptChild, OnParentDeath, SpawnAgent, StopChild
from agents.errors import NotAdopted, TagTaken
from agents.server.directory import directory_of
from agents.server.executors import executes
from agents.server.messages import Attach, ChildAgentStarted, DirectiveResult, EndChild
from agents.server.supervisor import supervisor_of
from agents.server.view import ChildAgent
from supervision import CallError, ChildSpec, Down, Monitor, Ref, Shutdown, SupervisionError, start_child
from supervision.errors import BadOption

if TYPE_CHECKING:
    from agents.core.signal import Signal
    from agents.server.server import AgentServer


class Binding:
    """The agent's parent; shared by all incarnations of the server, so that it survives their crashes.

    Attributes:
        parent: the agent whose child it is; None if it has none.
        on_parent_death: what happens when the parent's server ends.
        ended: whether the child is not to be started again.
    """

    __slots__ = ("ended", "on_parent_death", "parent")

    def __init__(self, parent: Parent | None = None, on_parent_death: OnParentDeath = "continue") -> None:
        self.parent = parent
        self.on_parent_death: OnParentDeath = on_parent_death
        self.ended = False


class Children:
    """The children of a server, by tag."""

    __slots__ = ("_by_monitor", "_by_tag")

    def __init__(self) -> None:
        self._by_tag: dict[str, tuple[ChildAgent, Monitor]] = {}
        self._by_monitor: dict[Monitor, str] = {}

    def get(self, tag: str) -> ChildAgent | None:
        """Return a child."""
        found = self._by_tag.get(tag)
        return None if found is None else found[0]

    def check_free(self, tag: str) -> None:
        """Check that a tag is free.

        Raises:
            TagTaken: it is not.
        """
        if tag in self._by_tag:
            raise TagTaken(tag, self._by_tag[tag][0].ref)

    def add(self, server: AgentServer, child: ChildAgent) -> None:
        """Add a child, in the place of an earlier incarnation of it."""
        known = self.get(child.tag)
        if known is not None and known.ref == child.ref:
            return
        self.remove(server, child.tag)
        monitor = server.monitor(child.ref)
        self._by_tag[child.tag] = (child, monitor)
        self._by_monitor[monitor] = child.tag
        self._show(server)

    def remove(self, server: AgentServer, tag: str) -> None:
        """Remove a child."""
        found = self._by_tag.pop(tag, None)
        if found is not None:
            del self._by_monitor[found[1]]
            server.demonitor(found[1], flush=True)
            self._show(server)

    def ended(self, server: AgentServer, monitor: Monitor) -> ChildAgent | None:
        """Remove the child that a monitor was for, and return it; None if it was for none."""
        tag = self._by_monitor.get(monitor)
        if tag is None:
            return None
        child = self._by_tag[tag][0]
        self.remove(server, tag)
        return child

    def _show(self, server: AgentServer) -> None:
        server.view.children = {tag: child for tag, (child, _) in self._by_tag.items()}


def attach(server: AgentServer, parent: Parent) -> Monitor:
    """Monitor a parent, and report to it that its child has started."""
    agent, ref = server.agent, server.ref
    parent.ref.cast(ChildAgentStarted(parent.tag, ref, agent.id, agent.type, parent.meta))
    return server.monitor(parent.ref)


def check_child(server: AgentServer, directive: SpawnAgent, before: tuple[Any, ...]) -> None:
    """Check that the tag of a child is free, and that it can be kept, if it is to be.

    Raises:
        TagTaken: it is not.
        BadOption: it cannot.
    """
    if directive.durable and server.durability is None:
        remedy = "its parent is not durable: start that one with a Durability, or give False"
        raise BadOption("SpawnAgent.durable", directive.durable, remedy)
    server.children.check_free(directive.tag)
    for other in before:
        if isinstance(other, SpawnAgent) and other.tag == directive.tag:
            raise TagTaken(directive.tag, other.type.name)


@executes(SpawnAgent, check=check_child)
async def spawn_agent(server: AgentServer, directive: SpawnAgent, signal: Signal) -> None:
    """Start a child."""
    agent, tag = server.agent, directive.tag
    server.children.check_free(tag)
    id = directive.id or f"{agent.id}/{tag}"
    parent = Parent(server.ref, agent.id, tag, directive.meta)
    running = directory_of(server.runtime).whereis(id, agent.partition, directive.type)
    if server.effect_in_hand is not None and running is not None:
        await _attach_again(server, running, parent)
        return
    if running is not None and directive in server.declared_children and await _attached(server, running, parent):
        return
    binding = Binding(parent, directive.on_parent_death)
    options: dict[str, Any] = {"id": id, "state": directive.state, "partition": agent.partition, "binding": binding}
    if directive.durable:
        options["durability"] = server.durability
    if directive.emit_to is not None:
        options["emit_to"] = directive.emit_to
    spec = ChildSpec(id, server.kind_of_children, (directive.type,), options, restart=directive.restart)
    try:
        ref = await start_child(supervisor_of(server.runtime), spec)
    except SupervisionError as error:
        data = {"tag": tag, "id": id, "error": str(error)}
        server.ref.cast(DirectiveResult("agent.child.failed", data, signal.id))
        raise
    assert ref is not None
    server.children.add(server, ChildAgent(tag, ref, id, directive.type.name, directive.meta))


async def _attached(server: AgentServer, child: Ref, parent: Parent) -> bool:
    """Have a child again that an earlier incarnation of the server has started; return False when it has ended."""
    try:
        await _attach_again(server, child, parent)
    except CallError:
        await child.join()
        return False
    return True


async def _attach_again(server: AgentServer, child: Ref, parent: Parent) -> None:
    """Have a child again that an earlier incarnation of the server has started.

    Raises:
        NotAdopted: it is another agent's child.
    """
    id, kind = await child.call(Attach(parent))
    server.children.add(server, ChildAgent(parent.tag, child, id, kind, parent.meta))


@executes(StopChild)
def stop_child(server: AgentServer, directive: StopChild, signal: Signal) -> None:  # noqa: ARG001 - its shape
    """Let a child end."""
    if server.keeping is not None:
        server.keeping.child_gone(directive.tag)
    child = server.children.get(directive.tag)
    if child is not None:
        child.ref.cast(EndChild(Shutdown(directive.reason)))


@executes(AdoptChild)
async def adopt_child(server: AgentServer, directive: AdoptChild, signal: Signal) -> None:  # noqa: ARG001 - its shape
    """Make an agent without a parent a child."""
    await adopt(server, directive.child, directive.tag, directive.meta)


async def adopt(server: AgentServer, child: Any, tag: str, meta: Any) -> None:
    """Make an agent without a parent a child.

    Raises:
        TagTaken: there is a child with this tag.
        NotAdopted: there is no such agent, it has ended, it has a parent, or it is the agent itself.
    """
    server.children.check_free(tag)
    ref = directory_of(server.runtime).whereis(child, server.agent.partition) if isinstance(child, str) else child
    if not isinstance(ref, Ref):
        raise NotAdopted(child, "there is no such agent")
    if ref == server.ref:
        raise NotAdopted(child, "no agent is its own parent")
    try:
        id, kind = await ref.call(Attach(Parent(server.ref, server.agent.id, tag, meta)))
    except CallError as error:
        raise NotAdopted(child, str(error)) from error
    server.children.add(server, ChildAgent(tag, ref, id, kind, meta))


def orphaned(server: AgentServer, down: Down, parent: Parent) -> Signal | None:
    """Handle the end of the parent, by `on_parent_death`; return the signal for the agent, if there is to be one."""
    binding = server.binding
    assert binding is not None
    if binding.on_parent_death == "stop":
        binding.ended = True
        server.stop(Shutdown(("parent_down", str(down.reason))))
        return None
    binding.parent = None
    server.replace_agent(msgspec.structs.replace(server.agent, parent=None))
    if binding.on_parent_death == "continue":
        return None
    data = {"parent_id": parent.id, "tag": parent.tag, "meta": parent.meta, "reason": str(down.reason)}
    return server.new_signal("agent.orphaned", data)
