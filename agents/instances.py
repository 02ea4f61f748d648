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
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar, Generic, TypeVar, Unpack

import msgspec

from agents.core.agent_type import AgentType
from agents.core.signal import Signal
from agents.durability.checkpointer import Durability
from agents.durability.storage import CommitStorage, StorageError
from agents.durability.whole import commits_of
from agents.server import AgentServer, AttachOwner, supervisor_of
from agents.server.children import Binding
from agents.server.deliveries import pass_on
from agents.server.directory import agent_ids, directory_of, whereis
from agents.server.executors import BeginTask, OwnedTask
from agents.server.handle import AgentHandle, AgentOptions, connect
from agents.server.messages import Hibernate
from agents.server.options import check_many
from agents.server.outbox import NotTaken
from agents.signals.checks import check_text
from agents.signals.messages import Deliver, Delivery
from supervision import (
    Actor,
    ActorExited,
    Call,
    CallError,
    ChildSpec,
    Down,
    Message,
    Monitor,
    Name,
    NoProcess,
    Ref,
    Refuse,
    ReplyTo,
    Request,
    Runtime,
    Timer,
    call_when_ready,
    handle,
)
from supervision.logs import get_logger
from supervision.supervisors.administration import StartChild

S = TypeVar("S", bound=msgspec.Struct)
_log: Any = get_logger("agents")
_NO_SUBJECT = "it has no subject: that would be the key of its instance"
#: Seconds between two looks at the clock while something is due later; and after the end of an instance.
_LONGEST_WAIT, _AFTER_AN_END = 30.0, 1.0


class _Get(Request[Ref], frozen=True):
    """The server of the agent with this key, started if need be."""

    key: str
    state: Any


class _IsKept(Request[bool], frozen=True):
    """Whether something was saved of an agent with this key."""

    key: str


class InstanceCounts(msgspec.Struct, frozen=True):
    """How many instances run, how many were started, and how many of these were restored from a checkpoint."""

    running: int
    started: int
    restored: int


class _Counts(Request[InstanceCounts], frozen=True):
    """How many are there?"""


class _Look(Message, frozen=True):
    """Timer message: look which instances that sleep have something to do."""


class _Begin(Message, frozen=True):
    """Message of a starter to itself: begin a start."""

    key: str


class _Begun(Message, frozen=True):
    """A start is over."""

    key: str
    ref: Ref | None
    error: BaseException | None


def _begun(key: str, start: Call[Ref | None]) -> _Begun:
    error = start.exception()
    return _Begun(key, start.result() if error is None else None, error)


class InstanceStarter(Actor):
    """Starts the instances of one type, each key once, side by side. Use it through `Instances`.

    Args:
        kind: the type of the agents.
        partition: of the agents.
        options: passed to each `AgentServer`.

    Raises:
        BadOption, BadTime, BadAgentType, BadState: one of them is wrong.
    """

    #: How many deliveries of a bus it wants at a time.
    delivery_credit: ClassVar[int] = 64

    def __init__(self, kind: type[AgentType[Any]], partition: str, options: Mapping[str, Any]) -> None:
        check_many("Instances", kind, {**options, "partition": partition}, own_state=True)
        self.kind = kind
        self.partition = partition
        self._options = options
        self._started = 0
        self._restored = 0
        #: By key: the first state that was asked for, and who waits for the start.
        self._starting: dict[str, tuple[Any, list[ReplyTo[Ref]]]] = {}
        self._ending: dict[Monitor, str] = {}
        #: Where to look for what is due, when something is next, in milliseconds, and the timer for it.
        durability = options.get("durability")
        self._storage = None if durability is None else commits_of(durability.storage)
        self._due: int | None = None
        self._timer: Timer | None = None
        self._instances: set[Monitor] = set()

    def init(self) -> None:
        """Wake the instances that have something to do, now and whenever they do."""
        if self._storage is not None:
            self.ref.cast(_Look())

    def _now(self) -> int:
        return int(self.runtime.clock.wall_time() * 1000)

    def _look_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.send_after(seconds, _Look())

    @handle
    async def look(self, message: _Look) -> None:
        """Wake the instances for which something is due, and wait for the next time; never long, as clocks are set."""
        assert self._storage is not None
        if self._due is None or self._due <= self._now():
            try:
                self._due = await self._wake(self._storage, self._now())
            except StorageError as error:
                _log.warning("instances_not_woken", kind=self.kind.name, error=str(error))
                self._look_in(_LONGEST_WAIT)
                return
        if self._due is not None:
            self._look_in(min(max(self._due - self._now(), 1) / 1000, _LONGEST_WAIT))

    async def _wake(self, storage: CommitStorage, now: int) -> int | None:
        """Wake the instances for which something is due; return when something is next."""
        prefix, after = f"{self.partition}/{self.kind.name}/", ""
        while keys := await storage.due(prefix, now, after):
            for key in (one[len(prefix) :] for one in keys):
                if key not in self._starting and self._find(key) is None:
                    self._starting[key] = (None, [])
                    self.begin(_Begin(key))
            after = keys[-1]
        return await storage.next_due(prefix, now)

    def _find(self, key: str) -> Ref | None:
        return whereis(self.runtime, key, partition=self.partition, kind=self.kind)

    @handle
    def get(self, request: _Get) -> Ref | None:
        """Start an instance, unless it runs."""
        key = request.key
        found = self._find(key)
        if key in self._starting:
            self._starting[key][1].append(self.defer_reply())
        elif found is not None:
            return found
        else:
            self._starting[key] = (request.state, [self.defer_reply()])
            self.ref.cast(_Begin(key))  # the deadline of who asks is not that of the start
        return None

    @handle
    async def is_kept(self, request: _IsKept) -> bool:
        """Return whether something was saved of an instance."""
        if self._storage is None:
            return False
        try:
            loaded = await self._storage.load(f"{self.partition}/{self.kind.name}/{request.key}")
        except StorageError as error:
            raise Refuse(error) from error
        return loaded is not None and (loaded.turn > 0 or loaded.snapshot is not None)

    @handle
    def begin(self, message: _Begin) -> None:
        """Start an instance; the one before it ends first, when it has been saved."""
        key = message.key
        leaving = directory_of(self.runtime).leaving(key, self.partition, self.kind)
        if leaving is not None:
            self._ending[self.monitor(leaving)] = key
            return
        options = {**self._options, "id": key, "partition": self.partition, "binding": Binding()}
        state = self._starting[key][0]
        if state is not None:
            options["state"] = state
        spec = ChildSpec(f"{self.kind.name}/{key}", AgentServer, (self.kind,), options, restart="transient")
        start = supervisor_of(self.runtime).call(StartChild(spec), None)
        start.add_done_callback(lambda done: self.ref.cast(_begun(key, start)))

    @handle
    def ended(self, message: Down) -> None:
        """An instance has ended: the next one can begin; or it sleeps, and is to be woken in time."""
        if message.monitor in self._ending:
            self.begin(_Begin(self._ending.pop(message.monitor)))
        else:
            self._instances.discard(message.monitor)
            self._due = None
            self._look_in(_AFTER_AN_END)

    @handle
    def begun(self, message: _Begun) -> None:
        """A start is over: tell those who wait."""
        _, waiting = self._starting.pop(message.key)
        error = message.error
        # If the start has failed, somebody else may have started it meanwhile.
        found = message.ref if error is None else self._find(message.key)
        if error is None and found is not None:
            self._started += 1
            view = directory_of(self.runtime).view_of(found)
            self._restored += view is not None and view.agent.version > 0
            if self._storage is not None:
                self._instances.add(self.monitor(found))
        elif self._storage is not None:
            self._due = None
            self._look_in(_LONGEST_WAIT)
        for reply in waiting:
            if found is None:
                assert error is not None
                reply.fail(error)
            else:
                reply.reply(found)

    @handle
    def delivered(self, delivery: Delivery) -> None:
        """Have the instance handle a signal from a bus whose key is the signal's subject; start it if need be."""
        if not delivery.signal.subject:
            delivery.nack(_NO_SUBJECT, final=True)
            return
        self.runtime.spawn_nowait(_InstanceDelivery, self.ref, self.kind, self.partition, delivery).cast(BeginTask())

    @handle
    def on_deliver(self, request: Deliver) -> None:
        """Have the instance whose key is the signal's subject take a signal from the outbox of a durable agent."""
        if not request.signal.subject:
            raise Refuse(NotTaken(_NO_SUBJECT, final=True))
        self._pass_on(request.signal.subject, request, self.defer_reply())

    @handle
    def on_cast(self, signal: Signal) -> None:
        """Have the instance whose key is the signal's subject take it; start it if need be."""
        if signal.subject:
            self._pass_on(signal.subject, signal, None)
        else:
            _log.warning("instance_not_found", kind=self.kind.name, signal=signal.type, error=_NO_SUBJECT)

    def _pass_on(self, key: str, what: Any, reply: ReplyTo[Any] | None) -> None:
        task = self.runtime.spawn_nowait(_InstanceTask, self.ref, self.kind, self.partition, key, what, reply)
        task.cast(BeginTask())

    @handle
    def counts(self, request: _Counts) -> InstanceCounts:
        """Return how many there are."""
        running = agent_ids(self.runtime, partition=self.partition, kind=self.kind)
        return InstanceCounts(len(running), self._started, self._restored)


class _InstanceDelivery(OwnedTask):
    """Gives a delivery to the instance that it is for, and acknowledges it when its turn has gone well."""

    def __init__(self, starter: Ref, kind: type[AgentType[Any]], partition: str, delivery: Delivery) -> None:
        super().__init__(starter)
        self._instances: Instances[Any] = Instances(starter, kind, partition)
        self._delivery = delivery

    async def _run(self) -> None:
        assert self._delivery.signal.subject is not None
        try:
            instance = await self._instances.get(self._delivery.signal.subject)
        except Exception as error:
            self._delivery.nack(str(error))
        else:
            await pass_on(self.ref, instance.address, self._delivery)


class _InstanceTask(OwnedTask):
    """Gives a signal, or a request with one, to the instance that it is for."""

    def __init__(
        self, starter: Ref, kind: type[AgentType[Any]], partition: str, key: str, what: Any, reply: ReplyTo[Any] | None
    ) -> None:
        super().__init__(starter)
        self._instances: Instances[Any] = Instances(starter, kind, partition)
        self._key = key
        self._what = what
        self._reply = reply

    async def _run(self) -> None:
        try:
            instance = await self._instances.get(self._key)
            if self._reply is None:
                instance.cast(self._what)
            else:
                self._reply.reply(await call_when_ready(instance.address, self._what, None))
        except Exception as error:
            if self._reply is None:
                _log.warning("instance_not_found", kind=self._instances.kind.name, key=self._key, error=str(error))
            else:
                self._reply.fail(error)


class Instances(Generic[S]):
    """The instances of a type of agents: one for each key.

    They can subscribe to a bus, with the `address` or the name of their starter: each signal goes to the instance whose
    key is its subject, which is started for it. So does what an agent emits to their name.

    With ``durability`` an instance is saved when it ends, and comes back as it was; one that cannot be read fails the
    `get`, and is left as it is. One that sleeps is woken when a timer of it is due, or something that it has to send.
    With ``idle_timeout`` an instance that nobody uses ends by itself. One that crashes is
    started again.

    Attributes:
        address: of the actor that starts them, or its name.
        kind: their type.
        partition: theirs.
    """

    __slots__ = ("address", "kind", "partition")

    def __init__(self, address: Ref | Name, kind: type[AgentType[S]], partition: str) -> None:
        self.address = address
        self.kind = kind
        self.partition = partition

    async def get(self, key: str, state: S | Mapping[str, Any] | None = None) -> AgentHandle[S]:
        """Return a handle of an instance: the one that runs, or the one that was saved, or else a fresh one.

        Args:
            key: the id of the agent.
            state: the first state of a fresh one, or some of its fields.

        Raises:
            BadOption: the key is no text, or empty.
            StartError: it did not start, for example with `BadCheckpoint` as its cause. Nothing is overwritten.
        """
        check_text("Instances: key", key)
        found = self.lookup(key)
        if found is not None:
            with suppress(CallError):  # it may end, or fail to start, meanwhile
                return await connect(found, self.kind)
        return await connect(await self.address.call(_Get(key, state), timeout=None), self.kind)

    async def find(self, key: str) -> AgentHandle[S] | None:
        """Return a handle of an instance that runs or was saved; None for one that there never was.

        Args:
            key: the id of the agent.

        Raises:
            BadOption: the key is no text, or empty.
            StartError: it was saved and did not start.
            StorageError: it cannot be read whether there is one.
        """
        check_text("Instances: key", key)
        if self.lookup(key) is None and not await self.address.call(_IsKept(key)):
            return None
        return await self.get(key)

    def lookup(self, key: str) -> Ref | None:
        """Return the server of an instance that runs, or None."""
        return whereis(self.address.runtime, key, partition=self.partition, kind=self.kind)

    async def hibernate(self, key: str) -> bool:
        """Save an instance, when it has handled what was sent before, and end it; return whether it ran.

        Nothing that was acknowledged is lost: what comes while it is saved is handled first, and who asks for it while
        it ends gets the next one, which has read what was saved.

        Raises:
            NotSaved: it could not be saved, and goes on.
        """
        ref = self.lookup(key)
        if ref is None:
            return False
        with suppress(ActorExited, NoProcess):
            while not await ref.call(Hibernate(), None):
                pass
        await ref.join()
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
    **options: Unpack[AgentOptions[S]],
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
        BadOption, BadTime: ``kind`` is not a type of agents, or an option is wrong.
        StartError: the state does not fit it.
        AlreadyRegistered: the name is taken.
    """
    passed = {**options, "durability": durability, "idle_timeout": idle_timeout}
    return Instances(await runtime.spawn(InstanceStarter, kind, partition, passed, name=name), kind, partition)


def instances_at(runtime: Runtime, name: str, kind: type[AgentType[S]], *, partition: str = "") -> Instances[S]:
    """Return the instances whose starter has a name, as in a tree file; each incarnation of it is found.

    Args:
        runtime: where.
        name: of the actor that starts them.
        kind: the type of the agents.
        partition: of the agents.
    """
    return Instances(runtime.name(name), kind, partition)
