"""Dispatch: which method of an actor handles which type of message, worked out once for each class.

What its ``__init__`` takes, which handlers return nothing and what they answer is worked out with it.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

import msgspec

from supervision._core.cell import Cell
from supervision._core.cell_variants import BoundedCell, handle_envelope, handle_propagating_call
from supervision._core.signatures import is_compatible, reply_annotation, returns_nothing
from supervision._core.threads import Isolation, in_thread
from supervision.call import Call
from supervision.errors import BadHandler, BadMailbox, BadOption
from supervision.mailbox import Mailbox
from supervision.messages import ParentExit, Request, StopMessage, SystemRequest, Wake
from supervision.options import check_choice
from supervision.propagation import Envelope, PropagatingCall

if TYPE_CHECKING:
    from supervision._core.signatures import AcceptedArguments
    from supervision.actor import Actor

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")

Handler = Callable[[Any, Any], Any]

_MARK = "__handles__"
_WHEN = "__when__"
#: The least that the longest frame of a process can be, in bytes: an error, or a reason, has to fit in.
LEAST_FRAME = 1 << 12


@overload
def handle(
    request: type[Request[R]], /, *, when: str | None = None
) -> Callable[[Callable[P, R | Awaitable[R | None] | None]], Callable[P, Any]]: ...
@overload
def handle(*types: type, when: str | None = None) -> Callable[[F], F]: ...
@overload
def handle(function: F, /) -> F: ...
def handle(*what: Any, when: str | None = None) -> Any:
    """Mark a method of an actor as the handler of a type of message.

    Plain ``@handle`` reads the type from the annotation of the method's only parameter; a union stands for each of its
    members. ``@handle(Add, Subtract)`` says it outright. A message of a subclass goes to the handler of the nearest
    base that has one.

    ``@handle(when="open")`` holds only while the actor has become ``"open"`` (see `Actor.become`), and comes before
    a handler without ``when`` for the same type then.

    Raises:
        BadHandler: the method does not take exactly one message, or the type cannot be worked out, or is a struct that
            is not frozen; or it says that it returns something else than its `Request` promises. (Type checkers see
            that of ``@handle(TheRequest)``; of a plain ``@handle`` they cannot.)

    >>> from supervision import Actor, Message
    >>> class Add(Message):
    ...     n: int
    >>> class Counter(Actor):
    ...     total = 0
    ...
    ...     @handle
    ...     def add(self, message: Add) -> None:
    ...         self.total += message.n
    """
    frame = sys._getframe(1)
    if len(what) == 1 and inspect.isfunction(what[0]):
        return _mark(what[0], tuple(_members(_annotated(what[0], frame))), None, frame)
    for kind in what:
        _check_kind("@handle", kind)
    if when is not None and (not isinstance(when, str) or not when):
        raise BadHandler("@handle: when", when, "give the name of what the actor becomes, as a string")

    def mark(function: Any) -> Any:
        annotated = when is not None and not what and inspect.isfunction(function)
        return _mark(function, tuple(_members(_annotated(function, frame))) if annotated else what, when, frame)

    return mark


def _mark(function: Any, kinds: tuple[Any, ...], when: str | None, frame: types.FrameType) -> Any:
    where = f"@handle {getattr(function, '__qualname__', function)}"
    if (
        not inspect.isfunction(function)
        or inspect.isasyncgenfunction(function)
        or inspect.isgeneratorfunction(function)
    ):
        raise BadHandler(where, function, "mark a plain method: def or async def, without yield")
    if len(inspect.signature(function).parameters) != 2:
        raise BadHandler(where, str(inspect.signature(function)), "a handler takes self and one message")
    for kind in kinds:
        _check_kind(where, kind)
    if not kinds:
        raise BadHandler(where, kinds, "name at least one type of message")
    _check_answers(where, function, kinds, frame)
    setattr(function, _MARK, kinds)
    setattr(function, _WHEN, when)
    return function


def _check_kind(where: str, kind: Any) -> None:
    if not isinstance(kind, type):
        raise BadHandler(where, kind, "annotate the message with a class, or write @handle(TheClass)")
    if issubclass(kind, msgspec.Struct) and not kind.__struct_config__.frozen:
        raise BadHandler(where, kind, "messages are shared: declare the struct with frozen=True")


def _check_answers(where: str, function: Any, kinds: tuple[Any, ...], frame: types.FrameType) -> None:
    """Refuse a handler whose return annotation does not fit the reply type of its request."""
    try:
        annotation = function.__annotations__["return"]
        returned = _resolved(annotation, frame) if isinstance(annotation, str) else annotation
        promised = {kind: reply_annotation(kind) for kind in kinds if issubclass(kind, Request)}
        wrong = [kind for kind, each in promised.items() if not is_compatible(returned, each)]
    except Exception:  # there is no annotation, or it cannot be resolved (yet)
        return
    for kind in wrong:
        remedy = f"{kind.__qualname__} promises {_named(promised[kind])}: return that, or None to answer later"
        raise BadHandler(f"{where}: returns", _named(returned), remedy)


def _named(annotation: Any) -> str:
    return annotation.__qualname__ if type(annotation) is type else str(annotation)


def _annotated(function: Any, frame: types.FrameType) -> Any:
    where = f"@handle {function.__qualname__}"
    parameters = list(inspect.signature(function).parameters)
    if len(parameters) != 2:
        raise BadHandler(where, str(inspect.signature(function)), "a handler takes self and one message")
    annotation = function.__annotations__.get(parameters[1])
    if annotation is None:
        raise BadHandler(where, parameters[1], "annotate the message with its class, or write @handle(TheClass)")
    if not isinstance(annotation, str):
        return annotation
    try:
        return _resolved(annotation, frame)
    except Exception as error:
        raise BadHandler(
            where, annotation, f"the annotation cannot be resolved ({error}); write @handle(TheClass)"
        ) from error


def _resolved(annotation: str, frame: types.FrameType) -> Any:
    return eval(annotation, frame.f_globals, _names_in_sight(frame))  # noqa: S307 - the class's own source


def _names_in_sight(frame: types.FrameType | None) -> dict[str, Any]:
    names: dict[str, Any] = {}
    while frame is not None and frame.f_code.co_name != "<module>":
        names = {**frame.f_locals, **names}
        frame = frame.f_back
    return names


def _members(annotation: Any) -> Iterator[Any]:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from _members(member)
    else:
        yield origin or annotation


class Behaviour:
    """The behaviour of a class of actors, worked out when the class is made."""

    __slots__ = (
        "cell",
        "handles",
        "has_init",
        "has_start",
        "has_terminate",
        "high_water",
        "isolation",
        "silent",
        "table",
        "tables",
        "takes",
        "trap_exit",
    )

    def __init__(self, kind: type[Actor], base: type[Actor] | None, trap_exit: bool) -> None:
        if not isinstance(kind.mailbox, Mailbox):
            raise BadMailbox(f"{kind.__qualname__}.mailbox", kind.mailbox, "give a Mailbox(...)")
        self.cell: type[Cell] = Cell if kind.mailbox.capacity is None else BoundedCell
        self.has_init = base is not None and kind.init is not base.init
        self.has_start = self.has_init or kind.__init__ is not object.__init__
        self.has_terminate = base is not None and kind.terminate is not base.terminate
        self.high_water = kind.mailbox.high_water
        self.trap_exit = trap_exit
        #: Which arguments it takes; worked out at first use.
        self.takes: AcceptedArguments | None = None
        self.isolation: Isolation = kind.isolation
        check_choice(f"{kind.__qualname__}.isolation", self.isolation, Isolation)
        if not isinstance(kind.max_frame, int) or kind.max_frame < LEAST_FRAME:
            where = f"{kind.__qualname__}.max_frame"
            raise BadOption(where, kind.max_frame, f"give a number of bytes from {LEAST_FRAME}")
        #: The handlers for each behaviour that the actor can `become`; for None those at the beginning.
        self.tables = {when: _table(kind, when) for when in (None, *_whens(kind))}
        if self.isolation == "thread":
            self.tables = {when: _in_threads(table) for when, table in self.tables.items()}
        self.table = self.tables[None]
        #: The types that the class declares handlers for; the tables remember others, too.
        self.handles = frozenset(key for table in self.tables.values() for key in table if key not in KERNEL_HANDLERS)
        self.silent = frozenset(f for table in self.tables.values() for f in table.values() if returns_nothing(f))

    @staticmethod
    def find(table: dict[type, Handler], kind: type) -> Handler:
        """Return the handler of the nearest base of a type that has none of its own, and remember it."""
        handler = next((table[base] for base in kind.__mro__ if base in table), _unhandled)
        table[kind] = handler
        return handler


def check_names(kind: type[Actor], base: type[Actor]) -> None:
    """Refuse a handler under a name that the kernel calls, or the actor itself."""
    for name, attribute in vars(kind).items():
        if hasattr(attribute, _MARK) and hasattr(base, name):
            where = f"@handle {kind.__qualname__}.{name}"
            raise BadHandler(
                where, name, f"Actor has a {name!r} of its own, which this would hide: choose another name"
            )


def _in_threads(table: dict[type, Handler]) -> dict[type, Handler]:
    """Return the same handlers, but with those of the class itself that are plain functions in threads."""
    return {
        kind: handler if kind in KERNEL_HANDLERS or inspect.iscoroutinefunction(handler) else in_thread(handler)
        for kind, handler in table.items()
    }


def _whens(kind: type[Actor]) -> list[str]:
    """Return all behaviours that actors of this class can become."""
    marked = (getattr(attribute, _WHEN, None) for base in kind.__mro__ for attribute in vars(base).values())
    return sorted({when for when in marked if when is not None})


def _table(kind: type[Actor], when: str | None) -> dict[type, Handler]:
    table: dict[type, Handler] = {}
    for wanted in (None, when) if when is not None else (None,):
        for base in reversed(kind.__mro__):
            table.update(_claims(kind, base, wanted))
    table.update(KERNEL_HANDLERS)
    return table


def _claims(kind: type[Actor], base: type, when: str | None) -> dict[type, Handler]:
    """Return the handlers that one class in the line of ``kind`` defines for ``when``."""
    claimed: dict[type, str] = {}
    for name, attribute in vars(base).items():
        for message in getattr(attribute, _MARK, ()) if getattr(attribute, _WHEN, None) == when else ():
            if message in claimed:
                where = f"{base.__qualname__}.{name}"
                raise BadHandler(where, message, f"{claimed[message]} handles this type already")
            claimed[message] = name
    return {message: getattr(kind, name) for message, name in claimed.items()}


def _unhandled(actor: Actor, message: Any) -> Any:
    return actor.unhandled(message)


def _wake(actor: Actor, message: Wake) -> None:
    """Do nothing: the message that woke the actor is the next in the box."""


def _parent_exit(actor: Actor, message: ParentExit) -> None:
    actor.stop(message.reason)


def _answer(actor: Actor, call: Call[Any]) -> Any:
    """Handle a request: call its handler, and answer with what it returns."""
    cell = actor._cell
    if call.done():
        cell.sched.abandon(call)
        return None
    if call.deadline is not None and call.deadline <= cell.sched.now():
        cell.dead_letter(call.message, "expired")
        return None
    message = call.message
    cell.call_in_hand = call
    call._begun = True
    try:
        handler = cell.table[type(message)]
    except KeyError:
        handler = cell.find_handler(type(message))
    return handler(actor, message)


def _system(actor: Actor, request: SystemRequest[Any]) -> Any:
    return request.carry_out(actor)


#: What every actor handles, whatever else it does.
KERNEL_HANDLERS: dict[type, Handler] = {
    Call: _answer,
    Envelope: handle_envelope,
    PropagatingCall: handle_propagating_call,
    ParentExit: _parent_exit,
    StopMessage: _parent_exit,
    SystemRequest: _system,
    Wake: _wake,
}
