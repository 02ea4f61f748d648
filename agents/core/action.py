"""Actions: units of work with typed parameters and a typed result; how often they are tried; as tools for models."""

from __future__ import annotations

import inspect
import re
import typing
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from agents.core.agent import Parent
from agents.core.directives import Directive
from agents.core.operations import Operation
from agents.core.signal import Signal
from agents.core.tokens import Origin
from agents.errors import AgentError, BadAction, BadPlan, NoToken
from supervision import Name, NotRunning, Ref
from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.messages import FrozenMeta
from supervision.options import is_whole

if TYPE_CHECKING:
    from agents.core.execution import Execution


S_co = TypeVar("S_co", covariant=True)
S_contra = TypeVar("S_contra", contravariant=True)
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
        provided: facts added by the runtime and plugins, not by the sender, by key.
        partition: of the agent.
        generation: of a durable agent: distinguishes it from one with its id that was deleted.
        run: how often what the turn did was undone before.
        place: of the action among those of its turn.
        undoing: whether the action is being undone: its tokens are others then.
    """

    state: S_co
    agent_id: str = ""
    agent_type: str = ""
    signal: Signal | None = None
    ref: Ref | None = None
    slices: Mapping[str, Any] = {}
    parent: Parent | None = None
    provided: Mapping[str, Any] = {}
    partition: str = ""
    generation: str = ""
    run: int = 0
    place: str = ""
    undoing: bool = False

    @property
    def token(self) -> str:
        """The token of this action for effects of its own, such as a payment: the same in each try, and after a crash.

        Raises:
            NoToken: no signal has caused it.
        """
        return self._token(self.place, undoing=self.undoing)

    @property
    def done_token(self) -> str:
        """In `Action.compensate`, the token that the action had when it was run: with it, what was done can be undone.

        The same as `token` where nothing is undone.

        Raises:
            NoToken: no signal has caused it.
        """
        return self._token(self.place, undoing=False)

    def token_for(self, name: str) -> str:
        """Return the token of one of several effects of this action.

        Args:
            name: of the effect. One that is tried again in another order keeps its token.

        Raises:
            NoToken: no signal has caused it.
        """
        return self._token(f"{self.place}/{name}", undoing=self.undoing)

    def _token(self, place: str, *, undoing: bool) -> str:
        if self.signal is None:
            raise NoToken(self.agent_id)
        signal = self.signal
        of = (self.partition, self.agent_type, self.agent_id, self.generation, signal.source, signal.id, self.run)
        return Origin(*of).token("c" if undoing else "u", place)

    def address(self, name: str) -> Name:
        """Return the address of whoever holds a name in the agent's runtime, such as the client of a service.

        Args:
            name: of the actor.

        Raises:
            NotRunning: the agent has no server: give the action what it needs as a parameter.
        """
        if self.ref is None:
            raise NotRunning(
                "an agent without a server knows nobody by name: give the action what it needs as a parameter"
            )
        return self.ref.runtime.name(name)

    def now(self) -> float:
        """Return the time in seconds since the epoch, by the clock of the agent's runtime; virtual where that is.

        Raises:
            NotRunning: the agent has no server: give the action its time as a parameter.
        """
        if self.ref is None:
            raise NotRunning("an agent without a server has no clock: give the action its time as a parameter")
        return self.ref.runtime.clock.wall_time()


class Result(msgspec.Struct, Generic[R_co], metaclass=FrozenMeta, frozen=True):
    """A result together with effects.

    Attributes:
        value: as the action declares it.
        effects: operations, which change the agent after the value has, in this order; and directives, to be carried
            out in this order.
    """

    value: R_co
    effects: tuple[Effect, ...] = ()


class Failure(AgentError):
    """Raised by an action that fails, but still has effects to apply.

    Args:
        why: the reason, for people.
        effects: operations and directives, as in `Result`.

    >>> raise Failure("the card was declined")
    Traceback (most recent call last):
    agents.core.action.Failure: the card was declined
    """

    def __init__(self, why: str, effects: tuple[Effect, ...] = ()) -> None:
        self.effects = effects
        super().__init__(why)


class Attempts(msgspec.Struct, frozen=True, kw_only=True):
    """How often, and for how long, an action is tried: ``attempts = Attempts(retries=2, timeout=10.0)`` in its class.

    Attributes:
        retries: how many times it is tried again after a failure.
        backoff: seconds before the first retry. They double from one to the next.
        max_backoff: the longest wait, in seconds.
        timeout: seconds for each try of an async action; None for no limit. A sync one cannot be interrupted.
        retry_on: the errors that are worth another try.
        undo_timeout: seconds for each try to undo it (`Action.compensate`), if that is async.

    Raises:
        BadOption: ``retries`` is not a whole number from 0.
        BadTime: a length of time is invalid.

    >>> [Attempts(retries=3, backoff=0.5, max_backoff=1.5).delay(n) for n in (1, 2, 3)]
    [0.5, 1.0, 1.5]
    """

    retries: int = 0
    backoff: float = 0.25
    max_backoff: float = 30.0
    timeout: float | None = None
    retry_on: type[Exception] | tuple[type[Exception], ...] = Exception
    undo_timeout: float = 30.0

    def __post_init__(self) -> None:
        if not is_whole(self.retries, 0):
            raise BadOption("Attempts.retries", self.retries, "give a whole number from 0")
        seconds("Attempts.backoff", self.backoff)
        seconds("Attempts.max_backoff", self.max_backoff)
        if self.timeout is not None:
            seconds("Attempts.timeout", self.timeout, zero=False)
        seconds("Attempts.undo_timeout", self.undo_timeout, zero=False)

    def delay(self, retry: int) -> float:
        """Return the seconds to wait before a retry, the first of which is number 1."""
        return float(min(self.backoff * 2 ** min(retry - 1, 64), self.max_backoff))

    def should_retry(self, failed: int, error: Exception) -> bool:
        """Return whether to try again after so many failures, the last of which was ``error``."""
        return failed <= self.retries and isinstance(error, self.retry_on)


class Action(msgspec.Struct, Generic[R_co], metaclass=FrozenMeta, frozen=True):
    """The base of all actions. The fields of a subclass are its parameters; ``R`` in ``Action[R]`` is its result.

    The result changes the agent's state:

    - a value of the state's own type takes its place;
    - the fields of any other struct replace the fields of the same name;
    - a mapping is a patch: its items replace fields of the same name, but for mappings, which are merged at any depth;
    - None changes nothing.

    Parameters, result and the new state are checked against their declared types; what does not fit is a failure of the
    action, and so is any exception. A failure changes nothing, unless it is a `Failure` that says what.

    Actions are meant to be pure: what is to happen outside they return as directives (`Result`). One that has to
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
    #: Whether it is not async, has no retries, and nothing to compensate.
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
        cls.is_plain = not cls.is_async and cls.attempts.retries == 0 and not is_compensable(cls)
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

        Called when the last try has failed or was cut short (it may then have done a part of its work, or none, or all,
        so that this must be safe whatever was done), when something else has failed in the chain, plan or command that
        it is part of, and when the turn is not committed: in reverse order, as in a saga (Garcia-Molina and Salem,
        1987). A durable agent that dies in between is undone by the next incarnation, before its first turn; it is then
        called at least once, with the same ``context.token``, until it succeeds or an hour is over.

        Args:
            context: what ``run`` got, with other tokens (`Context.done_token` is that of ``run``); after the death of a
                server, with the state as it was saved.
            done: what ``run`` returned; None if it failed, or if nobody knows.
            error: what went wrong.
        """


class ActionOn(Protocol[S_contra]):
    """What type checkers know of an action for agents with some state, or with any: its ``run`` takes their context."""

    def run(self, context: Context[S_contra], /) -> Any:
        """Do the work and return the result."""
        ...


_OWN_NAMES = frozenset(name for name in Action.__dict__ if not name.startswith("_"))


class CompositeAction(ABC):
    """The base of what is made of actions. A command runs it as one action: only its result changes the agent.

    Data pass from part to part: each part gets as its parameters the fields that it declares, of all data so far.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def parts(self) -> tuple[ActionLike, ...]:
        """What it is made of."""

    @abstractmethod
    async def perform(self, run: Execution, data: Any) -> Any:
        """Run the parts, and return the result."""

    def __repr__(self) -> str:
        """Show the parts."""
        return f"{type(self).__name__}({', '.join(_shown(part) for part in self.parts)})"


#: An action with its parameters; or its class, with their defaults; or a chain, branch, parallel or plan; or a pair of
#: a class or one of those, and the parameters as data.
ActionLike: TypeAlias = (
    Action[Any] | type[Action[Any]] | CompositeAction | tuple[type[Action[Any]] | CompositeAction, Any]
)


def is_compensable(kind: type[Action[Any]]) -> bool:
    """Return whether actions of a class have something to undo."""
    return kind.compensate is not Action.compensate


def needs_loop(item: ActionLike) -> bool:
    """Return whether running this may have to wait for something, so that it needs a loop."""
    what = item[0] if isinstance(item, tuple) else item
    if isinstance(what, CompositeAction):
        return any(needs_loop(part) for part in what.parts)
    return not what.is_plain


def is_work(item: object) -> bool:
    """Return whether this is an item of work: an action, its class, a composition, or a pair of one and parameters."""
    what = item[0] if isinstance(item, tuple) and len(item) == 2 else item
    return isinstance(what, (Action, CompositeAction)) or (isinstance(what, type) and issubclass(what, Action))


def check_work(where: str, *items: object) -> None:
    """Check that these are items of work, at least one.

    Raises:
        BadPlan: one is not work, or there are no parts.
    """
    for item in items or (None,):
        if not is_work(item):
            raise BadPlan(where, item, "give an action, its class, a composition, or a pair of one and parameters")


def _shown(item: ActionLike) -> str:
    if isinstance(item, tuple):
        return f"({_shown(item[0])}, {item[1]!r})"
    return item.__name__ if isinstance(item, type) else repr(item)


def tool_schema(action: type[Action[Any]]) -> dict[str, Any]:
    """Return the description of an action as a tool for language models, in the form of OpenAI's function tools.

    The arguments with which a model calls it are the parameters: ``cmd(agent, (Action, arguments))``. They are checked
    as any others.

    Args:
        action: the class. Its docstring is the description; its fields are the parameters.

    >>> from agents import Action, Context
    >>> class GetWeather(Action[dict[str, str]]):
    ...     '''Tell the weather of a city.'''
    ...
    ...     city: str
    ...     days: int = 1
    >>> tool_schema(GetWeather)["function"]["name"], tool_schema(GetWeather)["function"]["description"]
    ('get_weather', 'Tell the weather of a city.')
    >>> tool_schema(GetWeather)["function"]["parameters"]["properties"]
    {'city': {'type': 'string'}, 'days': {'type': 'integer', 'default': 1}}
    """
    (schema,), definitions = msgspec.json.schema_components([action], ref_template="#/$defs/{name}")
    own = definitions.pop(schema["$ref"].rsplit("/", 1)[-1])
    parameters = {key: own[key] for key in ("type", "properties", "required") if key in own}
    parameters["additionalProperties"] = False
    if definitions:
        parameters["$defs"] = definitions
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", action.__name__).lower()
    description = inspect.cleandoc(action.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}
