"""Types of agents: they describe agents, make them, and say how commands change them."""

from __future__ import annotations

import builtins
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar, cast

import msgspec

from agents.core.action import Action, ActionLike, is_work
from agents.core.agent import Agent, first_state
from agents.core.command import Step, Turn
from agents.core.directives import Cron, Directive
from agents.core.execution import driven
from agents.core.plugin import MountedPlugin, Plugin, mounted
from agents.core.router import Route, Router, routes_of
from agents.core.signal import Signal
from agents.core.strategies import AgentStrategy, Direct
from agents.errors import BadAgentType, BadRoute
from supervision import Ref

S = TypeVar("S", bound=msgspec.Struct)

#: The plain action is remembered for at most so many types of signals.
_PLAIN_ROUTES = 1000

#: A type's routes: by pattern, or as `Route` objects, which have priorities and conditions. Each leads to work, or to a
#: tuple of it.
Routes: TypeAlias = Mapping[str, Any] | Iterable[Route[Any]]


class AgentType(Generic[S]):
    """The base of all types of agents. A type is a class that is never instantiated: it describes, and makes agents.

    Attributes:
        name: of the type; the name of the class unless it says otherwise.
        routes: for each pattern of signal types, an action or several. ``*`` stands for one segment, ``**`` for any
            number. All routes that match are taken, the most specific first; a list of `Route` objects can say more.
            What is routed to a class, or a composition, gets the signal's data as its parameters.
        state_type: the ``S`` of ``AgentType[S]``: a frozen struct.
        strategy: how commands are run.
        plugins: what else it can do: plugins, or their classes.
        schedules: signals that its server sends it again and again.
        capabilities: what it can be found by, among the agents that run.

    Raises:
        BadAgentType: the state is not a frozen struct, or another attribute has the wrong type. Raised when the
            class is defined.
        BadRoute: a pattern is invalid, or its target is not an action. Raised when the class is defined.

    >>> class Light(msgspec.Struct, frozen=True):
    ...     on: bool = False
    >>> class Lamp(AgentType[Light]):
    ...     name = "lamp"
    >>> Lamp.new("l1", {"on": True}).state
    Light(on=True)
    """

    name: ClassVar[str]
    routes: ClassVar[Routes] = {}
    state_type: ClassVar[type[msgspec.Struct]]
    strategy: ClassVar[AgentStrategy] = Direct()
    plugins: ClassVar[tuple[Plugin[Any] | type[Plugin[Any]], ...]] = ()
    schedules: ClassVar[tuple[Cron, ...]] = ()
    capabilities: ClassVar[tuple[str, ...]] = ()
    router: ClassVar[Router[ActionLike]]
    #: Whether a command is nothing but its actions: no strategy but `Direct`, and no hooks.
    direct: ClassVar[bool] = True
    #: By signal type: the one plain action that it is routed to, or None; see `PlainRoutes`.
    plain_routes: ClassVar[PlainRoutes]
    #: The plugins, ready.
    mounted: ClassVar[tuple[MountedPlugin, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__
        for base in getattr(cls, "__orig_bases__", ()):
            if typing.get_origin(base) is AgentType:
                cls.state_type = _state_type(cls, typing.get_args(base)[0])
        if not hasattr(cls, "state_type"):
            raise BadAgentType(cls.__name__, cls.__bases__, "say what its state is: class X(AgentType[TheState])")
        if not isinstance(cls.strategy, AgentStrategy):
            raise BadAgentType(f"{cls.__name__}: strategy", cls.strategy, "give an AgentStrategy, such as Direct()")
        cls.mounted = mounted(cls.__name__, cls.plugins)
        cls.router = Router(_routes(cls))
        hooks = (cls.on_before_cmd, cls.on_after_cmd)
        plain = (AgentType.on_before_cmd, AgentType.on_after_cmd)
        same = [hook.__func__ is own.__func__ for hook, own in zip(hooks, plain, strict=True)]  # type: ignore[attr-defined]
        cls.direct = type(cls.strategy) is Direct and all(same)
        cls.plain_routes = PlainRoutes(cls.router, alone=cls.direct and not cls.mounted)

    # -- making agents ---------------------------------------------------------------------------------------------

    @classmethod
    def new(cls, id: str, state: S | Mapping[str, Any] | None = None, *, partition: str = "") -> Agent[S]:
        """Make an agent.

        Args:
            id: of the agent.
            state: its first state; or some of its fields, the others have their defaults.
            partition: keeps the agents of tenants apart.

        Raises:
            BadAgentType: the id is not a string, or empty.
            BadState: the state is not as declared.
        """
        if not isinstance(id, str) or not id:
            raise BadAgentType(f"{cls.name}: id", id, "give a string that is not empty")
        if not isinstance(partition, str):
            raise BadAgentType(f"{cls.name}: partition", partition, "give a string")
        if not hasattr(cls, "state_type"):
            raise BadAgentType(cls.__name__, cls, "make a subclass: class X(AgentType[TheState])")
        first = Agent(id=id, type=cls.name, state=first_state(cls.state_type, state), partition=partition)
        for plugin in cls.mounted:
            first = plugin.mount(first)
        return cls.strategy.init(first).agent

    @classmethod
    def validate(cls, state: S | Mapping[str, Any], *, strict: bool = True) -> S:
        """Return a checked state.

        Args:
            state: one, or some of its fields.
            strict: whether fields that the type does not have are an error; else they are dropped.

        Raises:
            BadState: it is not as declared.
        """
        return cast("S", first_state(cls.state_type, state, strict=strict))

    # -- commands --------------------------------------------------------------------------------------------------

    @classmethod
    def cmd(cls, agent: Agent[S], *work: ActionLike, signal: Signal | None = None, ref: Ref | None = None) -> Step[S]:
        """Run a command as agents of this type do: with its strategy, between its hooks. Otherwise as `agents.cmd`."""
        turn = Turn(signal=signal, ref=ref, has_loop=False)
        return driven(cls.run_command(agent, work, turn))

    @classmethod
    async def acmd(
        cls, agent: Agent[S], *work: ActionLike, signal: Signal | None = None, ref: Ref | None = None
    ) -> Step[S]:
        """Do what `cmd` does; actions may be ``async``."""
        return await cls.run_command(agent, work, Turn(signal=signal, ref=ref, has_loop=True))

    @classmethod
    async def run_command(cls, agent: Agent[S], work: tuple[ActionLike, ...], turn: Turn) -> Step[S]:
        """Run a command in a turn."""
        ready, work = cls.on_before_cmd(agent, work)
        after, directives = await cls.strategy.cmd(ready, work, turn)
        after, directives = cls.on_after_cmd(after, directives)
        return Step(after.with_version_after(agent), directives)

    @classmethod
    def on_before_cmd(cls, agent: Agent[S], work: tuple[ActionLike, ...]) -> tuple[Agent[S], tuple[ActionLike, ...]]:
        """Return what a command begins with; to be overridden. Called once for each command."""
        return agent, work

    @classmethod
    def on_after_cmd(cls, agent: Agent[S], directives: tuple[Directive, ...]) -> tuple[Agent[S], tuple[Directive, ...]]:
        """Return what a command ends with; to be overridden. Called once for each command."""
        return agent, directives


class PlainRoutes(dict[str, "type[Action[Any]] | None"]):
    """The plain action of each signal type that is routed to exactly one, with no plugin, strategy or hook involved.

    For other signal types it is None. An item is found when it is first asked for.

    Args:
        router: of a type of agents.
        alone: whether the type has no plugin, strategy or hook.
    """

    def __init__(self, router: Router[ActionLike], *, alone: bool) -> None:
        super().__init__()
        self._router = router
        self._alone = alone

    def __missing__(self, type: str) -> builtins.type[Action[Any]] | None:
        found: builtins.type[Action[Any]] | None = None
        routes = self._router.matching(type)
        if self._alone and len(routes) == 1 and routes[0].when is None:
            target = routes[0].target
            if isinstance(target, builtins.type) and target.is_plain:
                found = target
        if len(self) < _PLAIN_ROUTES:
            self[type] = found
        return found


def _state_type(cls: type[Any], kind: Any) -> type[msgspec.Struct]:
    struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    if not struct or not kind.__struct_config__.frozen:
        raise BadAgentType(f"{cls.__name__}: state", kind, "declare it as a msgspec.Struct with frozen=True")
    return cast("type[msgspec.Struct]", kind)


def _routes(cls: type[AgentType[Any]]) -> Iterator[Route[ActionLike]]:
    for route in routes_of(cls.routes):
        yield from _each(cls.__name__, route)
    for plugin in cls.mounted:
        for route in plugin.routes:
            yield from _each(f"{cls.__name__}: {plugin.key}", route)


def _each(where: str, route: Route[Any]) -> Iterator[Route[ActionLike]]:
    """Yield a route for each item of work. In a pair with parameters, these are taken, and not the signal's data."""
    if not isinstance(route, Route):
        raise BadRoute(where, route, "give a mapping from patterns to work, or Route objects")
    target = route.target
    with_params = isinstance(target, tuple) and len(target) == 2 and isinstance(target[1], Mapping)
    for item in target if isinstance(target, tuple) and not with_params else (target,):
        if not is_work(item) or isinstance(item, Action):
            raise BadRoute(f"{where}: {route.pattern}", item, "a route goes to a class of actions or a composition")
        yield msgspec.structs.replace(route, target=item)
