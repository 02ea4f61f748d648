"""Plugins: what can be added to types of agents: routes, schedules, sensors, slices of state, and hooks."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar

import msgspec

from agents.core.action import ActionLike
from agents.core.agent import Agent, first_state
from agents.core.failures import raise_interrupt
from agents.core.router import Route, matches, routes_of, segments
from agents.core.signal import Signal
from agents.errors import BadAgentType, BadRoute, HookFailed

if TYPE_CHECKING:
    from agents.core.directives import Cron, StartSensor
    from supervision import ExitReason, Ref

P = TypeVar("P", bound=msgspec.Struct)
A = TypeVar("A", bound=Agent[Any])

#: What actions get from the server itself: no plugin may provide it.
RESERVED = frozenset({"agent", "agent_id", "agent_type", "parent", "ref", "signal", "slices", "state"})


class Override(msgspec.Struct, frozen=True):
    """What `Plugin.on_signal` returns to have other work done than that to which the signal is routed.

    Attributes:
        work: what to do.
        signal: what to do it for; None for the signal that came.
    """

    work: ActionLike
    signal: Signal | None = None


#: What a plugin's `on_signal` returns: the signal goes on as it is (None), changed, or to other work.
SignalDecision: TypeAlias = "Signal | Override | None"


class Plugin(Generic[P]):
    """The base of all plugins. One is listed among the ``plugins`` of a type: an object, or the class.

    What it knows about an agent is a slice beside the state: a frozen struct, the ``P`` of ``Plugin[P]``, under the key
    `key`. Its routes and schedules have the plugin's name, and its alias, before their types: ``post`` of a plugin
    ``slack`` is ``slack.post``, and with the alias ``support`` it is ``support.slack.post``. They have priority -10, so
    that those of the type come first.

    Attributes:
        name: of the plugin; the name of the class, in lower case, unless it says otherwise.
        routes: as those of a type.
        schedules: as those of a type.
        sensors: started with the agent's server.
        patterns: of the signals that `on_signal` and `provide` are called for; none for all.
        requires: the names of other plugins that have to be there.
        singleton: whether it can be there once only.
        replaces: whether a route of it takes the place of one with the same pattern and priority of a plugin before
            it; otherwise two of those are an error.

    Args:
        alias: distinguishes it from others of its class in the same type.
    """

    name: ClassVar[str]
    routes: ClassVar[Mapping[str, Any] | Iterable[Route[Any]]] = {}
    schedules: ClassVar[Sequence[Cron]] = ()
    sensors: ClassVar[Sequence[StartSensor]] = ()
    patterns: ClassVar[Sequence[str]] = ()
    requires: ClassVar[Sequence[str]] = ()
    singleton: ClassVar[bool] = False
    replaces: ClassVar[bool] = False
    slice_type: ClassVar[type[msgspec.Struct] | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__.lower()
        segments(f"{cls.__name__}: name", cls.name)
        for pattern in cls.patterns:
            Route(pattern, None)
        for base in getattr(cls, "__orig_bases__", ()):
            if typing.get_origin(base) is Plugin and typing.get_args(base)[0] is not Any:
                cls.slice_type = typing.get_args(base)[0]

    def __init__(self, *, alias: str | None = None) -> None:
        if alias is not None:
            segments(f"{type(self).__name__}: alias", alias)
        self.alias = alias

    @property
    def key(self) -> str:
        """The key of its slice: its name, and its alias behind it."""
        return self.name if self.alias is None else f"{self.name}_{self.alias}"

    @property
    def prefix(self) -> str:
        """What comes before the types of its routes."""
        return self.name if self.alias is None else f"{self.alias}.{self.name}"

    def handles(self, type: str) -> bool:
        """Return whether its hooks are called for this signal type."""
        return not self.patterns or any(matches(pattern, type) for pattern in self.patterns)

    # -- hooks -----------------------------------------------------------------------------------------------------

    def mount(self, agent: Agent[Any]) -> P | Mapping[str, Any] | None:
        """Return its first slice, or some of its fields, for a new agent; None for defaults, or no slice."""
        return None

    def on_start(self, agent: Agent[Any], ref: Ref) -> None:
        """Take note that a server has begun with an agent."""

    def on_stop(self, agent: Agent[Any], reason: ExitReason) -> None:
        """Take note that a server is ending."""

    def on_signal(self, signal: Signal, agent: Agent[Any]) -> SignalDecision:
        """Look at a signal before it is routed: return None, another signal, or `Override`.

        Raises:
            Exception: the signal goes no further; who has sent it with `Ask` gets the error.
        """
        return None

    def provide(self, signal: Signal, agent: Agent[Any]) -> Mapping[str, Any]:
        """Return facts for the actions of this turn, which see them in ``context.provided``.

        Raises:
            Exception: the signal goes no further.
        """
        return {}

    def on_emit(self, signal: Signal, agent: Agent[Any]) -> Signal:
        """Return what is emitted instead of a signal.

        Raises:
            Exception: it is not emitted.
        """
        return signal

    def on_reply(self, agent: A) -> A:
        """Return what a caller sees of the agent; the agent itself stays as it is."""
        return agent

    def checkpoint(self, known: P) -> Any:
        """Return what of its slice goes into a checkpoint; None for nothing."""
        return known

    def restore(self, kept: Any) -> P | Mapping[str, Any] | None:
        """Return the slice for what was in a checkpoint; None for a first one."""
        return kept  # type: ignore[no-any-return]


class MountedPlugin:
    """A plugin in its place in a type.

    Attributes:
        plugin: it.
        key: of its slice.
        routes: with their prefix, without those that others take the place of.
        schedules: with their prefix.
    """

    __slots__ = ("key", "plugin", "routes", "schedules")

    def __init__(self, plugin: Plugin[Any]) -> None:
        self.plugin = plugin
        self.key = plugin.key
        declared = routes_of(plugin.routes, -10)
        self.routes = [msgspec.structs.replace(route, pattern=f"{plugin.prefix}.{route.pattern}") for route in declared]
        self.schedules = tuple(
            msgspec.structs.replace(cron, type=f"{plugin.prefix}.{cron.type}", id=f"{plugin.prefix}.{cron.id}")
            for cron in plugin.schedules
        )

    def mount(self, agent: A) -> A:
        """Return the agent with the plugin's slice."""
        return self.with_slice(agent, self.plugin.mount(agent))

    def with_slice(self, agent: A, found: Any) -> A:
        """Return the agent with a slice of the plugin's, checked."""
        kind = self.plugin.slice_type
        if kind is None and found is not None:
            raise BadAgentType(f"{self.key}: slice", found, "say what it is: class X(Plugin[TheSlice])")
        if kind is None:
            return agent
        return agent.with_slice(self.key, first_state(kind, found))  # type: ignore[return-value]


def mounted(where: str, plugins: Any) -> tuple[MountedPlugin, ...]:
    """Return plugins in their places.

    Raises:
        BadAgentType: one is not a plugin, is listed twice, or requires one that is missing.
        BadRoute: routes of theirs are in each other's way; all of them are named.
    """
    made = [plugin() if isinstance(plugin, type) else plugin for plugin in plugins]
    for plugin in made:
        if not isinstance(plugin, Plugin):
            raise BadAgentType(f"{where}: plugins", plugin, "give plugins, or classes of plugins")
    found = tuple(MountedPlugin(plugin) for plugin in made)
    keys = [one.key for one in found]
    names = [plugin.name for plugin in made]
    for one in found:
        if keys.count(one.key) > 1 or (one.plugin.singleton and (one.plugin.alias or names.count(one.plugin.name) > 1)):
            raise BadAgentType(f"{where}: plugins", one.key, "it can be there once only; an alias tells plugins apart")
        lacking = [name for name in one.plugin.requires if name not in names]
        if lacking:
            raise BadAgentType(f"{where}: plugins", one.key, f"it requires {', '.join(lacking)}")
    _resolve_routes(where, found)
    return found


def _resolve_routes(where: str, found: tuple[MountedPlugin, ...]) -> None:
    """Leave one route of each pattern: that of the higher priority, or of the plugin with ``replaces = True``."""
    best: dict[str, tuple[MountedPlugin, Route[Any]]] = {}
    conflicts = []
    for one in found:
        for route in one.routes:
            other = best.get(route.pattern)
            if other is not None and other[1].priority == route.priority and not one.plugin.replaces:
                conflicts.append(f"{route.pattern} at priority {route.priority} of {other[0].key} and {one.key}")
            if other is None or route.priority >= other[1].priority:
                best[route.pattern] = (one, route)
    if conflicts:
        raise BadRoute(f"{where}: routes", "; ".join(conflicts), "give one another priority, or say replaces = True")
    for one in found:
        one.routes = [route for route in one.routes if best[route.pattern][1] is route]


def filtered(plugins: Iterable[MountedPlugin], signal: Signal, agent: Agent[Any]) -> tuple[Signal, ActionLike | None]:
    """Return the signal after all plugins, in order, and the work that one of them wants done instead of its routes.

    Raises:
        HookFailed: one of them rejects it.
    """
    work: ActionLike | None = None
    for one in plugins:
        if one.plugin.handles(signal.type):
            try:
                said = one.plugin.on_signal(signal, agent)
                if isinstance(said, Override):
                    work, said = said.work, said.signal
                signal = _signal(signal if said is None else said)
            except BaseException as error:
                raise_interrupt(error)
                raise HookFailed(one.key, "on_signal", error) from error
    return signal, work


def provided(plugins: Iterable[MountedPlugin], signal: Signal, agent: Agent[Any]) -> Mapping[str, Any]:
    """Return what plugins provide for the actions of a turn.

    Raises:
        HookFailed: one fails, or provides a key that is reserved or provided already.
    """
    facts: dict[str, Any] = {}
    for one in plugins:
        if one.plugin.handles(signal.type):
            try:
                more = one.plugin.provide(signal, agent)
                for key in more:
                    if key in RESERVED or key in facts:
                        raise KeyError(f"{key!r} is provided already")
                facts.update(more)
            except BaseException as error:
                raise_interrupt(error)
                raise HookFailed(one.key, "provide", error) from error
    return facts


def emitted(plugins: Iterable[MountedPlugin], signal: Signal, agent: Agent[Any]) -> Signal:
    """Return what is emitted, when plugins have seen it.

    Raises:
        HookFailed: one of them fails.
    """
    for one in plugins:
        try:
            signal = _signal(one.plugin.on_emit(signal, agent))
        except BaseException as error:
            raise_interrupt(error)
            raise HookFailed(one.key, "on_emit", error) from error
    return signal


def _signal(said: Any) -> Signal:
    if not isinstance(said, Signal):
        raise TypeError(f"{said!r} is no signal")
    return said
