"""Types of agents: they describe agents, make them, and say how commands change them."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar, cast

import msgspec

from agents.core.action import Action, ActionLike, ActionOn, CompositeAction, Context, is_work
from agents.core.agent import Agent, first_state
from agents.core.command import Step, Turn
from agents.core.directives import Cron, Directive
from agents.core.execution import driven
from agents.core.plain_turns import PlainRoutes
from agents.core.plugin import MountedPlugin, Plugin, mounted
from agents.core.router import Route, Router, routes_of
from agents.core.signal import Signal
from agents.core.strategies import AgentStrategy, Direct
from agents.core.structs import refuse_unknown
from agents.errors import BadAgentType, BadRoute
from supervision import Ref
from supervision.options import is_whole

S = TypeVar("S", bound=msgspec.Struct)

#: A class of actions for agents with a state, or what is made of actions; and either, with its parameters.
RoutedAction: TypeAlias = type[ActionOn[S]] | CompositeAction
RoutedWork: TypeAlias = RoutedAction[S] | tuple[RoutedAction[S], Mapping[str, Any]]
#: What a route leads to: work, or a tuple of it.
RouteTarget: TypeAlias = RoutedWork[S] | tuple[RoutedWork[S], ...]
#: A type's routes: by pattern, or as `Route` objects, which have priorities and conditions.
Routes: TypeAlias = Mapping[str, RouteTarget[S]] | Sequence[Route[RouteTarget[S]]]


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
        schema: the number of what its state looks like. Raise it when an older state does not fit the class any more,
            or means something else, and say in `migrate` how one becomes the other.
        saga: whether a durable agent writes down each action that can be undone before it runs, so that the next
            incarnation undoes it if this one dies. Without, what was done stays then.

    Raises:
        BadAgentType: the state is not a frozen struct, or another attribute has the wrong type. Raised when the
            class is defined.
        BadRoute: a pattern is invalid, its target is not an action, or it is one for another state: it says so in the
            type of its context, or returns fields that the state does not have. Raised when the class is defined.

    >>> class Light(msgspec.Struct, frozen=True):
    ...     on: bool = False
    >>> class Lamp(AgentType[Light]):
    ...     name = "lamp"
    >>> Lamp.new("l1", {"on": True}).state
    Light(on=True)
    """

    name: ClassVar[str]
    # Type checkers take the S of each subclass here, and so find a route to an action of another state.
    routes: ClassVar[Routes[S]] = {}  # pyright: ignore[reportGeneralTypeIssues]
    state_type: ClassVar[type[msgspec.Struct]]
    strategy: ClassVar[AgentStrategy] = Direct()
    plugins: ClassVar[tuple[Plugin[Any] | type[Plugin[Any]], ...]] = ()
    schedules: ClassVar[tuple[Cron, ...]] = ()
    capabilities: ClassVar[tuple[str, ...]] = ()
    schema: ClassVar[int] = 1
    saga: ClassVar[bool] = True
    router: ClassVar[Router[ActionLike]]
    #: Whether a command is nothing but its actions: no strategy but `Direct`, and no hooks.
    direct: ClassVar[bool] = True
    #: By the type of a signal: what takes its turns, if they are plain.
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
        if not is_whole(cls.schema, 1):
            raise BadAgentType(f"{cls.__name__}: schema", cls.schema, "give a whole number from 1")
        cls.mounted = mounted(cls.__name__, cls.plugins)
        cls.router = Router(_routes(cls))
        for route in cls.router.routes:
            check_fits(f"{cls.__name__}: {route.pattern}", route.target, cls.state_type)
        hooks = (cls.on_before_cmd, cls.on_after_cmd)
        plain = (AgentType.on_before_cmd, AgentType.on_after_cmd)
        same = [hook.__func__ is own.__func__ for hook, own in zip(hooks, plain, strict=True)]  # type: ignore[attr-defined]
        cls.direct = type(cls.strategy) is Direct and all(same)
        cls.plain_routes = PlainRoutes(cls.router, cls.state_type, alone=cls.direct and not cls.mounted)

    # -- making agents ---------------------------------------------------------------------------------------------

    @classmethod
    def new(cls, id: str, state: S | Mapping[str, Any] | None = None, *, partition: str = "") -> Agent[S]:
        """Make an agent.

        Args:
            id: of the agent.
            state: its first state; or some of its fields, the others have their defaults.
            partition: keeps the agents of tenants apart.

        Raises:
            BadAgentType: the id is not a string, or empty; or the partition is none, or has a ``/``.
            BadState: the state is not as declared.
        """
        if not isinstance(id, str) or not id:
            raise BadAgentType(f"{cls.name}: id", id, "give a string that is not empty")
        if not isinstance(partition, str) or "/" in partition:
            raise BadAgentType(f"{cls.name}: partition", partition, "give a string without '/'")
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

    # -- what earlier releases have saved --------------------------------------------------------------------------

    @classmethod
    def migrate(cls, state: dict[str, Any], since: int) -> S | Mapping[str, Any]:
        """Return a state that was saved with an earlier `schema` as one of today; to be overridden when that is raised.

        It is called when a durable agent is read, and must return the same whenever it is called with the same. What it
        returns is saved before the agent's next turn. (Slices are their plugins' business: `Plugin.restore`.)

        Args:
            state: its fields as they were encoded: texts, numbers, lists, and mappings.
            since: the schema with which it was saved.

        Raises:
            NotImplementedError: there is no way from there. The agent does not start, with `SchemaMismatch`.
            Exception: the agent does not start, with `BadCheckpoint`; what was saved is left as it is.

        >>> class Light(msgspec.Struct, frozen=True):
        ...     level: float = 0.0
        >>> class Lamp(AgentType[Light]):
        ...     schema = 2
        ...
        ...     @classmethod
        ...     def migrate(cls, state, since):
        ...         return {"level": 1.0 if state["on"] else 0.0}
        >>> Lamp.migrate({"on": True}, 1)
        {'level': 1.0}
        """
        raise NotImplementedError(
            f"{cls.__name__} does not say how a state of schema {since} becomes one of {cls.schema}"
        )

    @classmethod
    def migrate_signal(cls, type: str, data: Any, since: int) -> tuple[str, Any] | None:  # noqa: ARG003 - to be overridden
        """Return the signal of a timer that was set with an earlier `schema` as one of today, its type and its data.

        To be overridden where actions have other parameters now. None takes the timer away, with the event
        ``TimerDropped``. Schedules of the type itself are taken from the class.
        """
        return type, data

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


def check_fits(where: str, work: ActionLike, state: type[msgspec.Struct]) -> None:
    """Check that an action to which signals are routed is one for this state, as far as it says so.

    Raises:
        BadRoute: it says that its context has another state, or returns fields that the state does not have; or it is
            given parameters that it does not take.
    """
    kind, params = work if isinstance(work, tuple) else (work, None)
    _check_context(where, kind, state)
    if not isinstance(kind, type):
        return
    if isinstance(params, Mapping):
        try:
            refuse_unknown(kind, params)
            with suppress(NameError):  # a type that is known to type checkers alone: each turn says so
                msgspec.convert(params, kind)
        except msgspec.ValidationError as error:
            raise BadRoute(where, work, f"its parameters: {error}") from None
    result: Any = kind.result_type
    if _is_struct(result) and not issubclass(state, result):
        lacking = sorted(set(result.__struct_fields__) - set(state.__struct_fields__))
        if lacking:
            raise BadRoute(where, kind, f"it returns {', '.join(lacking)}, which {state.__name__} does not have")


def _check_context(where: str, work: Any, state: type[msgspec.Struct]) -> None:
    """Check that an action, or each of those that one is made of, does not say that its context has another state."""
    kind = work[0] if isinstance(work, tuple) else work
    if isinstance(kind, CompositeAction):
        for part in kind.parts:
            _check_context(where, part, state)
        return
    try:
        hints = typing.get_type_hints(kind.run)
    except Exception:  # names that are known to type checkers alone
        hints = {}
    seen = next((typing.get_args(hint) for hint in hints.values() if typing.get_origin(hint) is Context), ())
    if seen and _is_struct(seen[0]) and not issubclass(state, seen[0]):
        raise BadRoute(where, kind, f"it is an action for {seen[0].__name__}, and the state is {state.__name__}")


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


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
