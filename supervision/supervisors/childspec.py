"""Child specifications: how a supervisor starts, restarts and stops a child."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVarTuple, Unpack, get_args, overload

import msgspec

from supervision._core.signatures import argument_error
from supervision._core.threads import Isolation
from supervision.actor import Actor, StopLimit
from supervision.clock import seconds
from supervision.errors import BadChildSpec, BadTime
from supervision.supervisors.restarts import Backoff

if TYPE_CHECKING:
    from supervision.supervisors._base import BaseSupervisor

    SupervisorClass = type[BaseSupervisor]

Restart = Literal["permanent", "transient", "temporary"]
ChildType = Literal["worker", "supervisor"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]
Args = TypeVarTuple("Args")

ActorClass = type[Actor]

START = "give an Actor class, or a function that starts an actor, links it and returns its Ref"


class ChildOptions(TypedDict, total=False):
    """The fields of a `ChildSpec` that can be left out, beside the arguments of the child."""

    restart: Restart
    shutdown: StopLimit | None
    type: ChildType | None
    significant: bool
    backoff: Backoff | None
    name: str | None
    tags: tuple[str, ...]
    isolation: Isolation | None
    start_timeout: float | None


class ChildSpec(msgspec.Struct, frozen=True):
    """What a supervisor knows of a child.

    Args:
        id: tells it from its siblings; anything that can be a dictionary key.
        start: an `Actor` class; or a function, plain or ``async``, that starts and links an actor (with `spawn_link`)
            and returns its `Ref`, or a pair of it and anything else to be kept as ``info``, or `IGNORE`.
        args: passed to ``start``.
        kwargs: passed to ``start``.
        restart: ``permanent`` is always restarted, ``transient`` only after an end that is not clean, ``temporary``
            never.
        shutdown: seconds the child has to stop in order; ``"brutal_kill"``, ``"infinity"``, or None for what its class
            says (5 s for an actor, infinity for a supervisor).
        type: ``worker`` or ``supervisor``; None works it out from the class.
        significant: whether its own end can end the supervisor (with ``auto_shutdown``).
        backoff: a pause before restarts; None for none, as in OTP.
        name: registered by the child at each start.
        isolation: where its handlers run: ``none``, ``thread`` or ``process``; None for what its class says.
        tags: words to find it by, such as those that chaos tests select by.
        start_timeout: seconds that each of its starts may take; a longer one has failed. None for any time, as in OTP.

    Raises:
        BadChildSpec, BadBackoff: a field is wrong.
    """

    id: Any
    start: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    restart: Restart = "permanent"
    shutdown: StopLimit | None = None
    type: ChildType | None = None
    significant: bool = False
    backoff: Backoff | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()
    isolation: Isolation | None = None
    start_timeout: float | None = None

    if TYPE_CHECKING:  # what `start` takes is checked, but for keyword arguments

        @overload
        def __init__(self, id: Any, start: Callable[[], Any], **options: Unpack[ChildOptions]) -> None: ...
        @overload
        def __init__(
            self,
            id: Any,
            start: Callable[[*Args], Any],
            args: tuple[*Args],
            **options: Unpack[ChildOptions],
        ) -> None: ...
        @overload
        def __init__(
            self,
            id: Any,
            start: Callable[..., Any],
            args: tuple[Any, ...],
            kwargs: Mapping[str, Any],
            **options: Unpack[ChildOptions],
        ) -> None: ...
        @overload
        def __init__(
            self, id: Any, start: Callable[..., Any], *, kwargs: Mapping[str, Any], **options: Unpack[ChildOptions]
        ) -> None: ...
        @overload  # so that mypy takes a list of specifications and classes for what it is
        def __init__(  # pyright: ignore[reportOverlappingOverload]
            self,
            id: Any,
            start: SupervisorClass,
            args: tuple[Iterable[ChildLike]],
            **options: Unpack[ChildOptions],
        ) -> None: ...
        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __post_init__(self) -> None:
        self._check("id", hashable(self.id) and self.id is not None, "give an id that can be a dictionary key")
        self._check("start", callable(self.start), START)
        self._check("args", isinstance(self.args, (tuple, list)), "give a tuple")
        self._check("kwargs", isinstance(self.kwargs, Mapping), "give a mapping")
        self._check_choice("restart", Restart)
        self._check("shutdown", _is_shutdown(self.shutdown), "give seconds from 0, 'brutal_kill' or 'infinity'")
        self._check("type", self.type in (None, *get_args(ChildType)), "choose worker or supervisor")
        self._check("significant", isinstance(self.significant, bool), "give True or False")
        self._check(
            "backoff",
            self.backoff is None or isinstance(self.backoff, Backoff),
            "give a Backoff(...) or None",
        )
        named = self.name is None or (isinstance(self.name, str) and self.name != "")
        self._check("name", named, "give a string that is not empty, or None")
        words = isinstance(self.tags, (tuple, list)) and all(isinstance(tag, str) for tag in self.tags)
        self._check("tags", words, "give a tuple of strings")
        known = self.isolation in (None, *get_args(Isolation)) and (self.isolation is None or self.kind is not None)
        self._check("isolation", known, f"choose one of {', '.join(get_args(Isolation))}, for an Actor class")
        self._check("start_timeout", _is_limit(self.start_timeout), "give seconds, more than 0, or None")
        why = argument_error(
            self.start, self.args, self.kwargs, False
        )  # some may be missing yet: see `extra_arguments`
        if why is not None:
            self._refuse(self.args, why)
        permanent = self.significant and self.restart == "permanent"
        self._check("significant", not permanent, "a permanent child cannot be significant: it never ends for good")
        self._fill_in()

    def _fill_in(self) -> None:
        kind = self.kind
        if self.shutdown is None:
            limit = 5.0 if kind is None else kind.shutdown
            msgspec.structs.force_setattr(self, "shutdown", "infinity" if self.type == "supervisor" else limit)
        if self.type is None:
            msgspec.structs.force_setattr(self, "type", "supervisor" if _supervises(kind) else "worker")
        if _supervises(kind):  # its children are read again at each restart
            msgspec.structs.force_setattr(self, "args", tuple(map(_lasting, self.args)))
            msgspec.structs.force_setattr(self, "kwargs", {key: _lasting(arg) for key, arg in self.kwargs.items()})

    def check_arguments(self, extra_arguments: tuple[Any, ...] = ()) -> None:
        """Refuse arguments that ``start`` cannot be called with, behind those that a supervisor puts before them.

        Raises:
            BadChildSpec: they do not fit.
        """
        args = (*extra_arguments, *self.args) if extra_arguments else self.args
        why = argument_error(self.start, args, self.kwargs, True)
        if why is not None:
            self._refuse(args, why)

    def _refuse(self, args: tuple[Any, ...], why: str) -> None:
        raise BadChildSpec(f"child {self.id!r}: arguments", (args, self.kwargs) if self.kwargs else args, why)

    def _check(self, field: str, good: bool, remedy: str) -> None:
        if not good:
            raise BadChildSpec(f"child {self.id!r}: {field}", getattr(self, field), remedy)

    def _check_choice(self, field: str, choices: Any) -> None:
        self._check(field, getattr(self, field) in get_args(choices), f"choose one of {', '.join(get_args(choices))}")

    @property
    def kind(self) -> ActorClass | None:
        """The class of the child, or None if a function starts it."""
        return self.start if isinstance(self.start, type) and issubclass(self.start, Actor) else None

    def kept(self) -> ChildSpec:
        """Return what a supervisor keeps once the child runs: a temporary one's arguments are not needed again."""
        if self.restart != "temporary" or not (self.args or self.kwargs):
            return self
        return msgspec.structs.replace(self, args=(), kwargs={})

    @classmethod
    def of(cls, spec: object) -> ChildSpec:
        """Return a specification made from one, from a mapping with its fields, or from an actor class.

        Unknown keys of a mapping are ignored, as in OTP.
        """
        if isinstance(spec, ChildSpec):
            return spec
        if isinstance(spec, type) and issubclass(spec, Actor):
            return cls(spec.__name__, spec)
        if not isinstance(spec, Mapping):
            raise BadChildSpec("child spec", spec, "give a ChildSpec, a mapping with its fields, or an Actor class")
        for field in ("id", "start"):
            if field not in spec:
                raise BadChildSpec(f"child spec: {field}", spec, f"{field} is missing")
        return cls(**{key: spec[key] for key in cls.__struct_fields__ if key in spec})


#: What a specification can be made of: see `ChildSpec.of`.
ChildLike = ChildSpec | Mapping[str, Any] | ActorClass


def _supervises(kind: ActorClass | None) -> bool:
    return kind is not None and getattr(kind, "is_supervisor", False)


def _lasting(argument: Any) -> Any:
    """Return an argument that can be read again and again: of an iterator, a tuple of what it gives."""
    return tuple(argument) if isinstance(argument, Iterator) else argument


def hashable(value: object) -> bool:
    """Whether a value can be the id of a child."""
    try:
        hash(value)
    except Exception:
        return False
    return True


def child_key(id: object) -> object:
    """Return what stands for the id of a child in a table: itself, or its text if it cannot be a dictionary key."""
    return id if hashable(id) else repr(id)


def _is_shutdown(value: object) -> bool:
    if value is None or value in ("brutal_kill", "infinity"):
        return True
    try:
        seconds("shutdown", value)
    except BadTime:
        return False
    return True


def _is_limit(value: object) -> bool:
    try:
        return value is None or seconds("start_timeout", value, zero=False) > 0
    except BadTime:
        return False


def check_child_specs(
    specs: Iterable[ChildLike], auto_shutdown: AutoShutdown = "never", extra_arguments: tuple[Any, ...] = ()
) -> list[ChildSpec]:
    """Check specifications without starting anything (OTP's ``supervisor:check_childspecs``).

    Args:
        specs: the specifications, or what they can be made of.
        auto_shutdown: that of their supervisor.
        extra_arguments: what their supervisor puts before the arguments of each.

    Returns:
        The specifications, with defaults filled in.

    Raises:
        BadChildSpec: one is wrong, or its ``start`` cannot be called with its arguments; an id stands twice, a
            significant child has a supervisor that never shuts down, or ``specs`` is no list.
    """
    if isinstance(specs, (str, bytes, Mapping)) or not isinstance(specs, Iterable):
        raise BadChildSpec("children", specs, "give a list of child specifications")
    checked = [ChildSpec.of(spec) for spec in specs]
    seen = set()
    for spec in checked:
        if spec.id in seen:
            raise BadChildSpec("child spec: id", spec.id, "this id stands twice (duplicate_child_name)")
        seen.add(spec.id)
        check_significant(spec, auto_shutdown)
        spec.check_arguments(extra_arguments)
    return checked


def check_significant(spec: ChildSpec, auto_shutdown: AutoShutdown) -> None:
    """Refuse a significant child of a supervisor whose ``auto_shutdown`` is ``never``."""
    if spec.significant and auto_shutdown == "never":
        remedy = "a significant child needs a supervisor with auto_shutdown (bad_combination)"
        raise BadChildSpec(f"child {spec.id!r}: significant", value=True, remedy=remedy)
