"""Actions: units of work with typed parameters and a typed result."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Mapping
from typing import Any, ClassVar, Generic, TypeAlias, TypeVar

import msgspec

from agents.attempts import Attempts
from agents.directives import Directive
from agents.errors import AgentError, BadAction
from agents.operations import Operation
from agents.parent import Parent
from agents.signal import Signal
from supervision import Ref
from supervision.messages import FrozenMeta

S_co = TypeVar("S_co", covariant=True)
R_co = TypeVar("R_co", covariant=True)

#: What an action may ask for beside its result: operations on the agent, and directives.
Effect: TypeAlias = Operation | Directive


class Context(msgspec.Struct, Generic[S_co], metaclass=FrozenMeta, frozen=True):
    """What an action sees.

    Attributes:
        state: of the agent, as the actions before this one left it.
        agent_id: whose action it is.
        agent_type: the name of the agent's type.
        signal: what caused the command, if it was a signal.
        ref: the agent's server, if there is one.
        slices: what plugins and the strategy know about the agent, by key.
        parent: of the agent, if it has one.
        provided: what the runtime and plugins add, by key: facts that do not come from whoever sent the signal.
    """

    state: S_co
    agent_id: str = ""
    agent_type: str = ""
    signal: Signal | None = None
    ref: Ref | None = None
    slices: Mapping[str, Any] = {}
    parent: Parent | None = None
    provided: Mapping[str, Any] = {}


class Result(msgspec.Struct, Generic[R_co], metaclass=FrozenMeta, frozen=True):
    """What an action returns that wants more than its result.

    Attributes:
        value: as the action declares it.
        effects: operations, which change the agent after the value has, in this order; and directives, to be carried
            out in this order.
    """

    value: R_co
    effects: tuple[Effect, ...] = ()


class Failure(AgentError):
    """Raised by an action that fails and wants something to happen all the same.

    Args:
        why: the reason, for people.
        effects: operations and directives, as in `Result`.

    >>> raise Failure("the card was declined")
    Traceback (most recent call last):
    agents.action.Failure: the card was declined
    """

    def __init__(self, why: str, effects: tuple[Effect, ...] = ()) -> None:
        self.effects = effects
        super().__init__(why)


class Action(msgspec.Struct, Generic[R_co], metaclass=FrozenMeta, frozen=True):
    """The base of all actions. The fields of a subclass are its parameters; ``R`` in ``Action[R]`` is its result.

    The result changes the agent's state:

    - a value of the state's own type takes its place;
    - the fields of any other struct replace the fields of the same name;
    - a mapping is a patch: its items replace fields of the same name, but for mappings, which are merged at any depth;
    - None changes nothing.

    Parameters, result and the new state are checked against their declared types; what does not fit is a failure of the
    action, and so is any exception. A failure changes nothing, unless it is a `Failure` that says what.

    Actions are meant to be pure: what they want to happen outside they return as directives (`Result`). One that has to
    wait, for a language model or a service, is ``async``.

    Raises:
        BadAction: a parameter has a name that actions need themselves. Raised when the class is defined.

    >>> class Greeted(msgspec.Struct, frozen=True):
    ...     greeting: str
    >>> class Greet(Action[Greeted]):
    ...     name: str
    ...
    ...     def run(self, context: Context[Any]) -> Greeted:
    ...         return Greeted(f"Hello, {self.name}!")
    >>> Greet(name="Joe").run(Context(state=None))
    Greeted(greeting='Hello, Joe!')
    >>> Greet.result_type.__name__
    'Greeted'
    """

    #: Whether ``run`` is ``async``.
    is_async: ClassVar[bool] = False
    #: Whether it is run once, at once: it is not ``async``, is not tried again, and has nothing to undo.
    is_plain: ClassVar[bool] = True
    #: What it declares to return.
    result_type: ClassVar[Any] = Any
    #: How often, and for how long, it is tried.
    attempts: ClassVar[Attempts] = Attempts()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, kind in inspect.get_annotations(cls).items():
            if name in _OWN_NAMES and "ClassVar" not in str(kind):
                raise BadAction(f"{cls.__name__}: parameter", name, "choose another name: actions need this themselves")
        if not isinstance(cls.attempts, Attempts):
            raise BadAction(f"{cls.__name__}: attempts", cls.attempts, "give Attempts(...)")
        cls.is_async = inspect.iscoroutinefunction(cls.run)
        cls.is_plain = not cls.is_async and cls.attempts.retries == 0 and not undoes(cls)
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

    def compensate(self, context: Context[Any], done: Any, error: Exception) -> Awaitable[None] | None:
        """Undo what ``run`` has done outside; to be overridden, with ``def`` or ``async def``, where there is any.

        Called once, when the last try has failed or was cut short (it may then have done a part of its work, so that
        this must be safe whatever was done), and when something else has failed in the chain, plan or command that it
        is part of: in reverse order, as in a saga (Garcia-Molina and Salem, 1987).

        Args:
            context: the one that ``run`` got.
            done: what ``run`` returned; None if it failed.
            error: what went wrong.
        """


_OWN_NAMES = frozenset(name for name in Action.__dict__ if not name.startswith("_"))


def undoes(kind: type[Action[Any]]) -> bool:
    """Return whether actions of a class have something to undo."""
    return kind.compensate is not Action.compensate
