"""Keyed instances: one agent for each key, started when it is asked for, saved and ended when it is idle.

>>> import asyncio
>>> import msgspec
>>> from agents import Action, AgentType, Context
>>> from agents.durability import Durability, MemoryStorage
>>> from supervision import Runtime
>>> class Talk(msgspec.Struct, frozen=True):
...     lines: tuple[str, ...] = ()
>>> class Say(Action[Talk]):
...     line: str
...
...     def run(self, context: Context[Talk]) -> Talk:
...         return Talk((*context.state.lines, self.line))
>>> class Conversation(AgentType[Talk]):
...     routes = {"say": Say}
>>> async def main() -> None:
...     async with Runtime() as runtime:
...         talks = await start_instances(runtime, Conversation, durability=Durability(MemoryStorage()))
...         joe = await talks.get("joe")
...         await joe.call(joe.signal("say", {"line": "hello"}))
...         await talks.hibernate("joe")
...         print(talks.lookup("joe"), (await talks.get("joe")).state.lines)
>>> asyncio.run(main())
None ('hello',)
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import msgspec

from agents.core.agent_type import AgentType
from agents.durability.checkpointer import Durability
from agents.server import AgentServer, AttachOwner, supervisor_of
from agents.server.children import Binding
from agents.server.directory import whereis
from agents.server.handle import AgentHandle, connect
from supervision import (
    Actor,
    ChildSpec,
    Ref,
    Refuse,
    Request,
    Runtime,
    Shutdown,
    handle,
    start_child,
)
from supervision.errors import BadOption

S = TypeVar("S", bound=msgspec.Struct)


class _Get(Request[Ref], frozen=True):
    """The server of the agent with this key, started if need be."""

    key: str
    state: Any


class InstanceCounts(msgspec.Struct, frozen=True):
    """How many instances run, how many were started, and how many of these were restored from a checkpoint."""

    running: int
    started: int
    restored: int


class _Counts(Request[InstanceCounts], frozen=True):
    """How many are there?"""


class InstanceStarter(Actor):
    """Starts the instances of one type, each key once. Use it through `Instances`.

    Args:
        kind: the type of the agents.
        partition: of the agents.
        options: passed to each `AgentServer`.
    """

    def __init__(self, kind: type[AgentType[Any]], partition: str, options: Mapping[str, Any]) -> None:
        if not isinstance(kind, type) or not issubclass(kind, AgentType):
            raise BadOption("Instances: kind", kind, "give a subclass of AgentType")
        self.kind = kind
        self.partition = partition
        self._options = options
        self._started = 0
        self._restored = 0
        self._keys: set[str] = set()

    @handle
    async def get(self, request: _Get) -> Ref:
        """Start an instance, unless it runs."""
        found = whereis(self.runtime, request.key, partition=self.partition)
        if found is not None:
            return found
        options = {**self._options, "id": request.key, "partition": self.partition, "binding": Binding()}
        options["state"] = request.state
        spec = ChildSpec(f"{self.kind.name}/{request.key}", AgentServer, (self.kind,), options, restart="transient")
        try:
            ref = await start_child(supervisor_of(self.runtime), spec)
        except Exception as error:
            # Somebody else may have started it meanwhile.
            found = whereis(self.runtime, request.key, partition=self.partition)
            if found is not None:
                return found
            raise Refuse(error) from error
        assert ref is not None
        self._started += 1
        self._keys.add(request.key)
        instance = await connect(ref, self.kind)
        self._restored += instance.agent.version > 0
        return ref

    @handle
    def counts(self, request: _Counts) -> InstanceCounts:
        """Return how many there are."""
        running = [key for key in self._keys if whereis(self.runtime, key, partition=self.partition) is not None]
        return InstanceCounts(len(running), self._started, self._restored)


class Instances(Generic[S]):
    """The instances of a type of agents: one for each key.

    With ``durability`` an instance is saved when it ends, and comes back as it was; one that cannot be read fails the
    `get`, and is left as it is. With ``idle_timeout`` an instance that nobody uses ends by itself. One that crashes is
    started again.

    Attributes:
        address: of the actor that starts them.
        kind: their type.
        partition: theirs.
    """

    __slots__ = ("address", "kind", "partition")

    def __init__(self, address: Ref, kind: type[AgentType[S]], partition: str) -> None:
        self.address = address
        self.kind = kind
        self.partition = partition

    async def get(self, key: str, state: S | Mapping[str, Any] | None = None) -> AgentHandle[S]:
        """Return a handle of an instance: the one that runs, or the one that was saved, or else a fresh one.

        Args:
            key: the id of the agent.
            state: the first state of a fresh one, or some of its fields.

        Raises:
            StartError: it did not start, for example with `BadCheckpoint` as its cause. Nothing is overwritten.
        """
        return await connect(await self.address.call(_Get(key, state), timeout=None), self.kind)

    def lookup(self, key: str) -> Ref | None:
        """Return the server of an instance that runs, or None."""
        return whereis(self.address.runtime, key, partition=self.partition)

    async def hibernate(self, key: str) -> bool:
        """End an instance, when it has handled what was sent before, and save it; return whether it ran."""
        ref = self.lookup(key)
        if ref is None:
            return False
        await ref.stop(Shutdown("hibernate"))
        return True

    @asynccontextmanager
    async def attached(self, key: str, owner: Ref, state: Any = None) -> AsyncGenerator[AgentHandle[S]]:
        """Give an instance that stays, however idle, until the block is left, or its owner has ended.

        Args:
            key: the id of the agent.
            owner: an actor that needs it.
            state: the first state of a fresh one.
        """
        handle = await self.get(key, state)
        await handle.address.call(AttachOwner(owner, attached=True))
        try:
            yield handle
        finally:
            handle.address.cast(AttachOwner(owner, attached=False))

    async def counts(self) -> InstanceCounts:
        """Return how many run, and how many were started."""
        return await self.address.call(_Counts())


async def start_instances(
    runtime: Runtime,
    kind: type[AgentType[S]],
    *,
    partition: str = "",
    durability: Durability | None = None,
    idle_timeout: float | None = None,
    name: str | None = None,
    **options: Any,
) -> Instances[S]:
    """Start the actor that starts the instances of a type.

    Args:
        runtime: where.
        kind: the type of the agents.
        partition: of the agents.
        durability: where and when they are saved.
        idle_timeout: seconds after which one that nobody uses ends.
        name: of the actor that starts them.
        options: passed to each `AgentServer`.

    Raises:
        StartError: ``kind`` is not a type of agents.
        AlreadyRegistered: the name is taken.
    """
    passed = {**options, "durability": durability, "idle_timeout": idle_timeout}
    return Instances(await runtime.spawn(InstanceStarter, kind, partition, passed, name=name), kind, partition)
