"""The start of an actor: its ``__init__`` and ``init``, what its starter gets, and the types of spawn functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from supervision import errors, events
from supervision._core.death import die
from supervision._core.phases import EXITING, IDLE, IGNORE, RUNNING
from supervision.call import Call
from supervision.reasons import KILLED, NORMAL, BadReturnValue, as_reason

if TYPE_CHECKING:
    from supervision._core.cell import Cell
    from supervision.actor import Actor


def start(cell: Cell, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BaseException | None:
    """Make the actor and run its ``init`` as far as it goes without waiting; return the error if it failed."""
    kind, sched = cell.kind, cell.sched
    listening = sched.events.listening
    if listening:
        cell.emit(events.StartAttempt)
    if not (kind.__behaviour__.has_start or args or kwargs or sched.init_hook):
        actor = kind()
        actor._cell = cell
        cell.actor = actor
        cell.phase = RUNNING
        cell.born = sched.now()
        if listening:
            cell.emit(events.Started, name=cell.name)
        if cell.phase == RUNNING:
            cell.head = IDLE
            if cell.box:  # what its predecessor has left, say
                cell.head = cell.box.popleft()
                sched.enqueue(cell)
        return None
    return cell.context_of().run(construct, cell, args, kwargs)


def construct(cell: Cell, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BaseException | None:
    cell.running = True
    result: Any = None
    try:
        actor = cell.kind.__new__(cell.kind)
        actor._cell = cell
        cell.actor = actor
        actor.__init__(*args, **kwargs)  # type: ignore[misc]
        prelude = None if cell.sched.init_hook is None else cell.sched.init_hook(cell)
        if prelude is not None:
            result = prelude(actor.init)
        elif cell.kind.__behaviour__.has_init:
            result = actor.init()
    except BaseException as error:
        cell.running = False
        return started(cell, None, error)
    cell.running = False
    if type(result) is CoroutineType:
        if cell.phase >= EXITING:
            result.close()
            return started(cell, None, None)
        cell.body = result
        cell.starting = Call(loop=cell.sched.loop)
        cell.starting.message = "init"
        cell.starting.target = cell
        cell.sched.hand_over(cell)
        return None
    return started(cell, result, None)


def started(cell: Cell, value: Any, error: BaseException | None) -> BaseException | None:
    if cell.phase >= EXITING:
        cell.sched.unfence(cell)
        die(cell, cell.exit_reason or KILLED)
    elif error is not None:
        return start_raised(cell, error)
    elif cell.after is not None and cell.after.stop is not None:
        die(cell, cell.after.stop)
    elif value is IGNORE:
        die(cell, NORMAL, ignored=True)
    elif value is not None:
        die(cell, BadReturnValue(value))
    else:
        begin(cell)
    return None


def start_raised(cell: Cell, error: BaseException) -> BaseException | None:
    cell.sched.interrupt(error)
    if isinstance(error, errors.Stop):
        die(cell, as_reason(error.reason), cause=error.__cause__)
        return error.__cause__
    cause = error.error if isinstance(error, errors.Refuse) else error
    die(cell, as_reason(cause), quiet=isinstance(error, (errors.Refuse, errors.SpecError)), cause=cause)
    return cause


def begin(cell: Cell) -> None:
    sched = cell.sched
    cell.phase = RUNNING
    cell.born = sched.now()
    cell.emit(events.Started, name=cell.name)
    after, box = cell.after, cell.box
    if after is not None and after.idle is not None:
        cell.begin_idle(after, after.idle)
    if after is not None and after.continuations:
        cell.head = after.continuations.popleft()
    elif box:
        cell.after = None
        cell.head = box.popleft()
    else:
        cell.after = None
        cell.head = IDLE
    if cell.head is not IDLE:
        sched.enqueue(cell)
    if cell.starting is not None and not cell.starting.done():
        cell.starting.set_result(None)
    cell.starting = None


P = ParamSpec("P")
A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Spawn(Protocol[R_co]):
    """Starts an actor of a class with the arguments that the class takes.

    Without a name, all arguments are checked. A ``name`` beside them is more than Python's types can say (nothing may
    stand between ``*args`` and ``**kwargs`` of a `ParamSpec`): then the first two are checked, and the rest when the
    actor is made.
    """

    @overload
    def __call__(self, kind: Callable[P, Actor], /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    @overload
    def __call__(  # type: ignore[overload-cannot-match] # mypy takes any name for one of the class's arguments
        self, kind: Callable[..., Actor], /, *, name: str | None, timeout: float | None = ..., **kwargs: Any
    ) -> R_co: ...
    @overload
    def __call__(
        self,
        kind: Callable[Concatenate[A, ...], Actor],
        argument: A,
        /,
        *,
        name: str | None,
        timeout: float | None = ...,
        **kwargs: Any,
    ) -> R_co: ...
    @overload
    def __call__(
        self,
        kind: Callable[Concatenate[A, B, ...], Actor],
        first: A,
        second: B,
        /,
        *others: Any,
        name: str | None,
        timeout: float | None = ...,
        **kwargs: Any,
    ) -> R_co: ...
    @overload
    def __call__(  # type: ignore[overload-cannot-match] # the same
        self, kind: Callable[..., Actor], /, *args: Any, timeout: float | None, **kwargs: Any
    ) -> R_co: ...


def spawning(function: Callable[..., R]) -> Spawn[R]:
    """Mark a function that starts actors; it stays what it is."""
    return function
