"""Agents as values, and the types of agents."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar, cast

import msgspec

from agents.action import Action
from agents.errors import BadAgentType, BadRoute, BadState
from agents.router import Router
from agents.typed import checked
from supervision.messages import FrozenMeta

S = TypeVar("S", bound=msgspec.Struct)
S_co = TypeVar("S_co", bound=msgspec.Struct, covariant=True)

Route = type[Action[Any]] | tuple[type[Action[Any]], ...]


class Agent(msgspec.Struct, Generic[S_co], metaclass=FrozenMeta, frozen=True, kw_only=True):
    """An agent: an immutable value. It has no task and no mailbox; `AgentServer` gives it one.

    Attributes:
        id: tells it from other agents.
        type: the name of its type.
        state: what it knows.
        version: how many commands have changed the state.
    """

    id: str
    type: str
    state: S_co
    version: int = 0


class AgentType(Generic[S]):
    """The base of all types of agents. A type is a class that is never instantiated: it describes, and makes agents.

    Attributes:
        name: of the type; the name of the class unless it says otherwise.
        routes: for each pattern of signal types, an action or several. ``*`` stands for one segment, ``**`` for any
            number. All routes that match are taken, the most specific first (see `Router`).
        state_type: the ``S`` of ``AgentType[S]``: a frozen struct.

    Raises:
        BadAgentType: the state is no frozen struct. Raised when the class is defined.
        BadRoute: a pattern is none, or goes to something that is no action. Raised when the class is defined.

    >>> class Light(msgspec.Struct, frozen=True):
    ...     on: bool = False
    >>> class Lamp(AgentType[Light]):
    ...     name = "lamp"
    >>> Lamp.new("l1", {"on": True})
    Agent(id='l1', type='lamp', state=Light(on=True), version=0)
    """

    name: ClassVar[str]
    routes: ClassVar[Mapping[str, Route]] = {}
    state_type: ClassVar[type[msgspec.Struct]]
    router: ClassVar[Router[type[Action[Any]]]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__
        for base in getattr(cls, "__orig_bases__", ()):
            if typing.get_origin(base) is AgentType:
                cls.state_type = _state_type(cls, typing.get_args(base)[0])
        if not hasattr(cls, "state_type"):
            raise BadAgentType(cls.__name__, cls.__bases__, "say what its state is: class X(AgentType[TheState])")
        cls.router = Router(_flat(cls))

    @classmethod
    def new(cls, id: str, state: S | Mapping[str, Any] | None = None) -> Agent[S]:
        """Make an agent.

        Args:
            id: of the agent.
            state: its first state; or some of its fields, the others have their defaults.

        Raises:
            BadAgentType: the id is no text, or empty.
            BadState: the state is not as declared.
        """
        if not isinstance(id, str) or not id:
            raise BadAgentType(f"{cls.name}: id", id, "give a string that is not empty")
        if not hasattr(cls, "state_type"):
            raise BadAgentType(cls.__name__, cls, "make a subclass: class X(AgentType[TheState])")
        try:
            first = checked(cls.state_type, {} if state is None else state)
        except msgspec.ValidationError as error:
            raise BadState(cls.state_type.__name__, str(error)) from None
        return Agent(id=id, type=cls.name, state=first)


def _state_type(cls: type[Any], kind: Any) -> type[msgspec.Struct]:
    struct = isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    if not struct or not kind.__struct_config__.frozen:
        raise BadAgentType(f"{cls.__name__}: state", kind, "declare it as a msgspec.Struct with frozen=True")
    return cast("type[msgspec.Struct]", kind)


def _flat(cls: type[AgentType[Any]]) -> list[tuple[str, type[Action[Any]]]]:
    routes: list[tuple[str, type[Action[Any]]]] = []
    for pattern, target in cls.routes.items():
        for action in target if isinstance(target, tuple) else (target,):
            if not isinstance(action, type) or not issubclass(action, Action):
                raise BadRoute(f"{cls.__name__}: {pattern}", action, "a route goes to a subclass of Action, or several")
            routes.append((pattern, action))
    return routes
