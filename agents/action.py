"""Actions: units of work with typed parameters and a typed result."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from agents.directives import Directive
from agents.signal import Signal
from supervision import Ref
from supervision.messages import FrozenMeta

S_co = TypeVar("S_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)


class Context(msgspec.Struct, Generic[S_co], metaclass=FrozenMeta, frozen=True, kw_only=True):
    """What an action sees.

    Attributes:
        state: of the agent, as the actions before this one left it.
        agent_id: whose action it is.
        agent_type: the name of the agent's type.
        signal: what caused the command, if it was a signal.
        ref: the agent's server, if there is one.
    """

    state: S_co
    agent_id: str
    agent_type: str
    signal: Signal | None = None
    ref: Ref | None = None


class Result(msgspec.Struct, Generic[R_co], metaclass=FrozenMeta, frozen=True):
    """What an action returns that has directives to give.

    Attributes:
        value: as the action declares it.
        directives: to be carried out in this order.
    """

    value: R_co
    directives: tuple[Directive, ...] = ()


class Action(msgspec.Struct, Generic[R_co], metaclass=FrozenMeta, frozen=True):
    """The base of all actions. The fields of a subclass are its parameters; ``R`` in ``Action[R]`` is its result.

    The result changes the agent's state:

    - a value of the state's own type takes its place;
    - the fields of any other struct replace the fields of the same name;
    - a mapping is a patch: its items replace fields of the same name, but for mappings, which are merged at any depth;
    - None changes nothing.

    Parameters, result and the new state are checked against their declared types; what does not fit is a failure of the
    action, and so is any exception. A failure changes nothing.

    Actions are meant to be pure: what they want to happen outside they return as directives (`Result`). One that has to
    wait, for a language model or a service, is ``async``.

    >>> class Greeted(msgspec.Struct, frozen=True):
    ...     greeting: str
    >>> class Greet(Action[Greeted]):
    ...     name: str
    ...
    ...     def run(self, context: Context[Any]) -> Greeted:
    ...         return Greeted(f"Hello, {self.name}!")
    >>> Greet(name="Joe").run(Context(state=None, agent_id="a", agent_type="t"))
    Greeted(greeting='Hello, Joe!')
    >>> Greet.result_type.__name__
    'Greeted'
    """

    #: Whether ``run`` is ``async``.
    is_async: ClassVar[bool] = False
    #: What it declares to return.
    result_type: ClassVar[Any] = Any

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.is_async = inspect.iscoroutinefunction(cls.run)
        for base in getattr(cls, "__orig_bases__", ()):
            origin, arguments = typing.get_origin(base), typing.get_args(base)
            if isinstance(origin, type) and issubclass(origin, Action):
                cls.result_type = Any if isinstance(arguments[0], TypeVar) else arguments[0]

    def run(self, context: Context[Any]) -> R_co | Result[R_co] | Awaitable[R_co | Result[R_co]]:
        """Do the work and return the result; to be overridden, with ``def`` or ``async def``.

        Raises:
            Exception: it failed; the agent's state stays as it was, and the error policy is asked.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not say what it does: give it a method run(self, context)"
        )
