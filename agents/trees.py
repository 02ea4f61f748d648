"""Parts of tree files: durable agents, instances, pools, a bus that is kept, and subscriptions to it, said in text.

What stands in the file is checked by ``python -m foundation.run --check``: types of agents are imported, states fit
them, and every option has a value that it may have. See ``docs/how-to/tree-files.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_args

import msgspec

from agents.core.agent_type import AgentType
from agents.core.directives import SpawnAgent
from agents.core.router import Route
from agents.durability import Durability, EverySeconds, EveryTurns, OnCommit, SqliteStorage
from agents.instances import InstanceStarter
from agents.pool import OnCheckin, PoolServer
from agents.server import AgentServer
from agents.server.options import check_options
from agents.server.view import AgentView
from agents.signals import Bus, subscribe
from agents.signals.messages import checked_subscription
from supervision import Actor, Down, Message, Runtime, handle
from supervision.clock import YEAR, seconds
from supervision.errors import BadOption
from supervision.options import is_whole


class DurabilityTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an agent is saved, as a table of a tree file.

    Attributes:
        path: of the SQLite file.
        sync: ``full`` or ``normal``; see `SqliteStorage`.
        every_turns, every_seconds: when it is saved; with neither, at each commit.
        journal: whether each commit is kept.
    """

    path: str
    sync: str = "full"
    every_turns: int | None = None
    every_seconds: float | None = None
    journal: bool = False


def durability_of(where: str, table: Any) -> DurabilityTable | None:
    """Return a checked table; None for None.

    Raises:
        BadOption: it is wrong.
    """
    if table is None:
        return None
    try:
        found = msgspec.convert(table, DurabilityTable)
    except msgspec.ValidationError as error:
        raise BadOption(
            f"{where}: durability", table, f'give a table such as {{ path = "agents.db" }} ({error})'
        ) from None
    if found.sync not in ("full", "normal"):
        raise BadOption(f"{where}: durability.sync", found.sync, "give full or normal")
    if found.every_turns is not None and found.every_seconds is not None:
        raise BadOption(f"{where}: durability", table, "give every_turns or every_seconds, not both")
    _policy(found)
    return found


def _policy(table: DurabilityTable) -> OnCommit | EveryTurns | EverySeconds:
    if table.every_turns is not None:
        return EveryTurns(table.every_turns)
    return OnCommit() if table.every_seconds is None else EverySeconds(table.every_seconds)


def _opened(runtime: Runtime, table: DurabilityTable | None) -> Durability | None:
    if table is None:
        return None
    return Durability(storage_at(runtime, table.path, table.sync), _policy(table), table.journal)


def storage_at(runtime: Runtime, path: str | Path, sync: str = "full") -> SqliteStorage:
    """Return the storage in a file: one for all parts of a tree that name it, so that they share its commits."""
    key = (SqliteStorage, str(Path(path).absolute()))
    found: SqliteStorage | None = runtime.shared.get(key)
    if found is None:
        found = runtime.shared[key] = SqliteStorage(path, sync)  # type: ignore[arg-type] # checked
    return found


def _type_of(where: str, kind: Any, key: str = "kind") -> type[AgentType[Any]]:
    try:
        found = resolve_name(kind) if isinstance(kind, str) else kind
    except (ImportError, AttributeError, ValueError) as error:
        raise BadOption(f"{where}{_key(key)}", kind, f"give package.module:Type ({error})") from None
    if not isinstance(found, type) or not issubclass(found, AgentType):
        raise BadOption(f"{where}{_key(key)}", kind, "give a type of agents")
    return found


def _key(key: str) -> str:
    return f": {key}" if key == "kind" else f".{key}"


def _check_agents(where: str, kind: Any, durability: Any, options: Mapping[str, Any]) -> None:
    """Check what is said of agents, without starting one."""
    known = _type_of(where, kind)
    durability_of(where, durability)
    for name in options.keys() - _AGENT_OPTIONS:
        raise BadOption(
            f"{where}: {name}", options[name], f"there is no such option: {', '.join(sorted(_AGENT_OPTIONS))}"
        )
    known.new("checked", options.get("state"), partition=options.get("partition", ""))
    check_options(where, options)


_AGENT_OPTIONS = frozenset({"state", "partition", "emit_to", "idle_timeout", "debug"})


class SpawnTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A child of an agent, as a table of a tree file; see `SpawnAgent`.

    Attributes:
        type: where to import its type from.
        tag: by which its parent knows it.
        id: of the child; that of its parent, a slash and the tag, unless it is given.
        state: its first state, or some of its fields.
        restart: ``permanent``, ``transient`` or ``temporary``.
        on_parent_death: ``stop``, ``continue`` or ``emit_orphan``.
        meta: noted with it.
        durable: whether it is saved as its parent is.
        emit_to: the name of the actor to which it sends what does not say so itself.
    """

    type: str
    tag: str
    id: str | None = None
    state: Any = None
    restart: str = "permanent"
    on_parent_death: str = "stop"
    meta: Any = None
    durable: bool = False
    emit_to: str | None = None


_UNKNOWN_OR_MISSING = re.compile(r"Object (?:contains unknown|missing required) field `(\w+)`|.*`\$\.(\w+)`")


def declared_children(where: str, tables: Any, *, durable: bool, partition: str = "") -> tuple[SpawnAgent, ...]:
    """Return the children that tables declare.

    Args:
        where: whose, for errors.
        tables: a list of tables; see `SpawnTable`.
        durable: whether their parent is.
        partition: theirs.

    Raises:
        BadOption: one of them is wrong; the error names its tag, or number, and the key.
        BadState: a state does not fit its type.
    """
    if not isinstance(tables, (list, tuple)):
        raise BadOption(
            f"{where}: spawn", tables, 'give a list of tables: [{ type = "package.module:Type", tag = "a" }]'
        )
    found: list[SpawnAgent] = []
    for number, table in enumerate(tables):
        tag = table.get("tag") if isinstance(table, Mapping) else None
        place = f"{where}: spawn.{tag if isinstance(tag, str) and tag else number}"
        child = _child(place, table, partition)
        if child.durable and not durable:
            raise BadOption(
                f"{place}.durable", True, f"its parent is not durable: give {where} a durability, or leave it out"
            )
        if any(child.tag == other.tag for other in found):
            raise BadOption(f"{place}.tag", child.tag, "there is another child with this tag")
        found.append(child)
    return tuple(found)


def _child(place: str, table: Any, partition: str) -> SpawnAgent:
    try:
        given = msgspec.convert(table, SpawnTable)
    except msgspec.ValidationError as error:
        match = _UNKNOWN_OR_MISSING.match(str(error))
        key = "" if match is None else f".{match[1] or match[2]}"
        value = table.get(key[1:]) if isinstance(table, Mapping) else table
        known = ", ".join(SpawnTable.__struct_fields__)
        raise BadOption(f"{place}{key}", value, f"{error}; there are {known}") from None
    kind = _type_of(place, given.type, "type")
    kind.new("checked", given.state, partition=partition)
    try:
        return SpawnAgent(**{**msgspec.structs.asdict(given), "type": kind})
    except BadOption as error:
        raise BadOption(f"{place}.{error.field.rpartition('.')[2]}", error.value, error.remedy) from None


class TreeAgent(AgentServer):
    """An agent, as a child in a tree file, with children of its own.

    Args:
        kind: where to import its type from.
        durability: a table: see `DurabilityTable`; None for none.
        id: of the agent; None for its name in the tree.
        spawn: a list of tables: the children that it has from its start on; see `SpawnTable`.
        options: of `AgentServer`.
    """

    def __init__(
        self, kind: str, durability: Any = None, *, id: str | None = None, spawn: Any = (), **options: Any
    ) -> None:
        self.check_arguments(kind, durability, id=id, spawn=spawn, **options)
        name, table = type(self).__name__, durability_of(type(self).__name__, durability)
        super().__init__(kind, id=id, durability=_opened(self.runtime, table), **options)
        self.declared_children = declared_children(name, spawn, durable=table is not None)

    @classmethod
    def check_arguments(
        cls, kind: str, durability: Any = None, *, id: str | None = None, spawn: Any = (), **options: Any
    ) -> None:
        """Check what stands in a tree file."""
        where = cls.__name__
        _check_agents(where, kind, durability, options)
        if id is not None and (not isinstance(id, str) or not id):
            raise BadOption(f"{where}: id", id, "give a text that is not empty")
        declared_children(where, spawn, durable=durability is not None, partition=options.get("partition", ""))

    @property
    def kind_of_children(self) -> type[AgentServer]:
        """Children have no part of their own in the tree."""
        return AgentServer


class DurableAgent(TreeAgent):
    """A `TreeAgent` that is saved: its ``durability`` is not left out."""

    @classmethod
    def check_arguments(
        cls, kind: str, durability: Any = None, *, id: str | None = None, spawn: Any = (), **options: Any
    ) -> None:
        """Check what stands in a tree file."""
        if durability is None:
            raise BadOption("DurableAgent: durability", durability, 'give a table such as { path = "agents.db" }')
        super().check_arguments(kind, durability, id=id, spawn=spawn, **options)


class KeyedInstances(InstanceStarter):
    """One agent for each key, as a child in a tree file: `agents.instances.instances_at` gives its `Instances`.

    Args:
        kind: where to import their type from.
        durability: a table: see `DurabilityTable`; None for none.
        options: of each `AgentServer`.
    """

    def __init__(self, kind: str, *, durability: Any = None, **options: Any) -> None:
        self.check_arguments(kind, durability=durability, **options)
        partition = options.pop("partition", "")
        kept = _opened(self.runtime, durability_of("KeyedInstances", durability))
        super().__init__(_type_of("KeyedInstances", kind), partition, {**options, "durability": kept})

    @classmethod
    def check_arguments(cls, kind: str, *, durability: Any = None, **options: Any) -> None:
        """Check what stands in a tree file."""
        _check_agents("KeyedInstances", kind, durability, options)


class AgentPool(PoolServer):
    """A pool of equal agents, as a child in a tree file: ``Pool(runtime.whereis(name))`` uses it.

    Args:
        kind: where to import their type from.
        size: how many.
        lifo: whether the one that came back last is used first.
        on_checkin: ``keep`` or ``reset``.
        options: of each `AgentServer`.
    """

    def __init__(
        self, kind: str, size: int = 5, *, lifo: bool = False, on_checkin: OnCheckin = "keep", **options: Any
    ) -> None:
        self.check_arguments(kind, size, lifo=lifo, on_checkin=on_checkin, **options)
        views: tuple[AgentView[Any], ...] = tuple(AgentView() for _ in range(size))
        super().__init__(_type_of("AgentPool", kind), views, lifo, on_checkin, options)

    @classmethod
    def check_arguments(
        cls, kind: str, size: int = 5, *, lifo: bool = False, on_checkin: str = "keep", **options: Any
    ) -> None:
        """Check what stands in a tree file."""
        _check_agents("AgentPool", kind, None, options)
        if not is_whole(size, 1):
            raise BadOption("AgentPool: size", size, "give a whole number from 1")
        if not isinstance(lifo, bool):
            raise BadOption("AgentPool: lifo", lifo, "give true or false")
        if on_checkin not in get_args(OnCheckin):
            raise BadOption("AgentPool: on_checkin", on_checkin, "give keep or reset")


class KeptBus(Bus):
    """A bus whose log and subscriptions are kept in a file, as a child in a tree file.

    Args:
        path: of the SQLite file.
        sync: ``full`` or ``normal``.
        options: of `Bus`.
    """

    def __init__(self, path: str, sync: str = "full", **options: Any) -> None:
        self.check_arguments(path, sync, **options)
        super().__init__(storage_at(self.runtime, path, sync), **options)

    @classmethod
    def check_arguments(cls, path: str, sync: str = "full", **options: Any) -> None:
        """Check what stands in a tree file."""
        durability_of("KeptBus", {"path": path, "sync": sync})
        known = {"key", "keep", "ack_every", "full", "max_size"}
        for name in options.keys() - known:
            raise BadOption(f"KeptBus: {name}", options[name], f"there is no such option: {', '.join(sorted(known))}")
        for name in options.keys() & {"keep", "max_size"}:
            if not is_whole(options[name], 1):
                raise BadOption(f"KeptBus: {name}", options[name], "give a whole number from 1")
        if options.get("full") not in (None, "refuse", "dead_letters"):
            raise BadOption("KeptBus: full", options["full"], "give refuse or dead_letters")
        seconds("KeptBus: ack_every", options.get("ack_every", 1.0), zero=False)


class _Begin(Message, frozen=True):
    """Message of a subscriber to itself: subscribe."""


class BusSubscriber(Actor):
    """Has an actor subscribed to a bus, both known by name, as a child in a tree file behind the bus.

    It subscribes again when the bus has started again, which one that is kept does not need.

    Args:
        bus: the name of the bus.
        pattern: of the types of signals.
        to: the name of the subscriber: an agent, a pool, instances, a webhook, or any actor that handles `Delivery`.
        subscription: the name of the subscription.
        options: of `subscribe`.
    """

    def __init__(self, bus: str, pattern: str, to: str, subscription: str, **options: Any) -> None:
        self.check_arguments(bus, pattern, to, subscription, **options)
        self._bus = self.runtime.name(bus)
        self._pattern = pattern
        self._to = self.runtime.name(to)
        self._options = {**options, "name": subscription}

    @classmethod
    def check_arguments(cls, bus: str, pattern: str, to: str, subscription: str, **options: Any) -> None:
        """Check what stands in a tree file."""
        for name, text in (("bus", bus), ("to", to)):
            if not isinstance(text, str) or not text:
                raise BadOption(f"BusSubscriber: {name}", text, "give the name of an actor")
        Route(pattern, None)
        try:
            checked_subscription(pattern, subscription, **options)
        except TypeError as error:
            raise BadOption("BusSubscriber", options, f"give options of subscribe ({error})") from None

    def init(self) -> None:
        """Subscribe, when the bus is there."""
        self.ref.cast(_Begin())

    @handle
    async def begin(self, message: _Begin) -> None:
        """Wait for the bus, and subscribe."""
        while self._bus.resolve() is None:
            await self.runtime.wait_for_name(self._bus.key, until=self.runtime.clock.time() + YEAR)
        self.monitor(self._bus)
        await subscribe(self._bus, self._pattern, self._to, **self._options)

    @handle
    def ended(self, message: Down) -> None:
        """The bus has ended: subscribe to the next one."""
        self.ref.cast(_Begin())
