"""Actors: objects with a mailbox, whose methods handle one message at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from supervision import events
from supervision._core.cell import Cell
from supervision._core.dispatch import Behaviour, check_names
from supervision._core.introspection import attributes
from supervision._core.phases import current
from supervision._core.start import spawning
from supervision._core.threads import Isolation
from supervision.clock import seconds
from supervision.errors import NotRunning, Refuse, UnhandledMessage
from supervision.mailbox import Mailbox
from supervision.messages import describe
from supervision.reasons import NORMAL, ExitReason, as_reason
from supervision.ref import Address, Name, Ref

if TYPE_CHECKING:
    from supervision._core.timers import Timer
    from supervision.call import ReplyTo
    from supervision.ref import Monitor
    from supervision.runtime import Runtime

#: How long an actor has to stop in order when its supervisor says so: seconds, no time at all, or any time.
StopLimit = float | Literal["brutal_kill", "infinity"]


class Actor:
    """The base of all actors.

    A subclass keeps its state in attributes, and marks the methods that handle messages with `handle`. It never calls
    them itself: messages come one at a time, also while a handler waits. A new incarnation is a new object, made with
    the same arguments.

    Attributes:
        trap_exit: whether exit signals arrive as `Exit` messages instead of ending the actor, and whether `terminate`
            runs when the parent orders the end. A class attribute, and one to set on ``self`` at any time.
        mailbox: how many messages may wait, and what happens to one too many.
        shutdown: how long a supervisor waits for the end that it ordered before it kills: seconds, ``"brutal_kill"`` or
            ``"infinity"``. A child specification may say otherwise.

    >>> import asyncio
    >>> from supervision import Actor, Request, Runtime, handle
    >>> class Greet(Request[str]):
    ...     name: str
    >>> class Greeter(Actor):
    ...     def __init__(self, greeting: str) -> None:
    ...         self.greeting = greeting
    ...
    ...     @handle
    ...     def greet(self, request: Greet) -> str:
    ...         return f"{self.greeting}, {request.name}!"
    >>> async def main() -> str:
    ...     async with Runtime() as runtime:
    ...         greeter = await runtime.spawn(Greeter, "Hello")
    ...         return await greeter.call(Greet("Joe"))
    >>> asyncio.run(main())
    'Hello, Joe!'
    """

    __slots__ = ("_cell",)

    #: Whether exit signals come as `Exit` messages. Can also be set on the actor.
    trap_exit: bool = False
    mailbox: ClassVar[Mailbox] = Mailbox()
    shutdown: ClassVar[StopLimit] = 5.0
    #: Whether others depend on it as on a supervisor or a registry: chaos leaves it alone by default.
    infrastructure: ClassVar[bool] = False
    #: Where its handlers run: ``none`` for the loop, ``thread``, or ``process``. See `supervision.isolation`.
    isolation: ClassVar[Isolation] = "none"
    #: Errors that are rebuilt here when an actor of this class, in a process of its own, answers with them.
    raises: ClassVar[tuple[type[Exception], ...]] = ()
    #: The most bytes that such an actor may send at once. What is longer ends it.
    max_frame: ClassVar[int] = 1 << 24
    __behaviour__: ClassVar[Behaviour]
    _cell: Cell

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_names(cls, Actor)
        trap_exit = cls.__dict__.get("trap_exit", cls.__behaviour__.trap_exit)
        if "trap_exit" in cls.__dict__:
            del cls.trap_exit
        cls.__behaviour__ = Behaviour(cls, Actor, bool(trap_exit))

    # -- hooks -----------------------------------------------------------------------------------------------

    def init(self) -> Any:
        """Start: called once, before any message; may be ``async``. Whoever started the actor waits for it.

        Returns:
            None; or `IGNORE`, to decline the start.

        Raises:
            Refuse: do not start, for the reason given, and let no crash be reported.
            Exception: do not start; the starter gets it.
        """

    def terminate(self, reason: ExitReason) -> Any:
        """Clean up: called once, after the last message; may be ``async``.

        Called when the actor stops itself or crashes, and, only if it traps exits, when its parent ends it. Never
        called when it is killed (OTP's rules; see ``docs/semantics.md``).
        """

    def unhandled(self, message: Any) -> Any:
        """Take a message for which there is no handler.

        Unless overridden, a request is refused with `UnhandledMessage`, and anything else is an `Unhandled` event,
        which is logged as a warning.
        """
        cell = self._cell
        if cell.call_in_hand is not None:
            raise Refuse(UnhandledMessage(cell, message))
        cell.emit(events.Unhandled, message=describe(message))

    def format_status(self) -> Any:
        """Return the state as `system.get_status` and crash reports show it: all attributes.

        Override it to hide secrets, or to leave out what is huge.
        """
        return attributes(self)

    def summary(self) -> Mapping[str, object]:
        """Return a few words about the state, by name, for a look at the whole tree: by default none.

        It is called often and while the actor does other things: it has to be quick, and to change nothing.
        """
        return {}

    # -- identity --------------------------------------------------------------------------------------------

    @property
    def ref(self) -> Ref:
        """The address of this incarnation."""
        return self._cell

    @property
    def parent(self) -> Ref | None:
        """The actor that started it as a child, such as its supervisor; None without one, or if that one has ended."""
        parent = self._cell.parent
        return parent if isinstance(parent, Cell) and parent.alive else None

    @property
    def runtime(self) -> Runtime:
        """The runtime it lives in."""
        return self._cell.sched.runtime

    def has_waiting(self) -> bool:
        """Tell a handler whether more messages wait behind the current one, say to handle them in one go."""
        return bool(self._cell.box)

    # -- requests of a handler -------------------------------------------------------------------------------

    def stop(self, reason: object = NORMAL) -> None:
        """End this actor when the handler has returned. What the handler answers goes out after `terminate`."""
        self._cell.intend().stop = as_reason(reason)

    def continue_with(self, message: Any) -> None:
        """Handle ``message`` next, before everything that waits in the mailbox (OTP's ``continue``)."""
        self._cell.intend().continuations.append(message)

    def become(self, when: str | None) -> None:
        """Handle messages with the handlers marked ``@handle(when=...)`` from the next message on.

        Handlers without ``when`` stay valid for types that none of those handles. A restarted actor has its first ones.

        Args:
            when: what to become; None for what it was at the beginning.

        Raises:
            BadOption: no handler of this class is marked with it.
        """
        self._cell.become(when)

    def stash(self) -> None:
        """Put the current message aside, until `unstash_all`. A request is answered then; its deadline stays."""
        self._cell.stash()

    def unstash_all(self) -> None:
        """Handle all that was put aside next, in the order in which it came, before what waits in the mailbox.

        What is still put aside when the actor ends is lost with its mailbox: requests fail, messages are dead letters.
        """
        self._cell.unstash_all()

    def idle_timeout(self, after: float | None) -> None:
        """Get an `IdleTimeout` if no message comes for ``after`` seconds. Any message cancels it for good.

        Zero delivers it right after this handler, before everything that waits. None removes it.
        """
        self._cell.set_idle(None if after is None else seconds("idle_timeout", after))

    def defer_reply(self, *, begun: bool = True) -> ReplyTo[Any]:
        """Answer the current request later, from here or from elsewhere; the handler then returns None.

        Args:
            begun: False for a request that the actor only puts into a queue of its own, and has done nothing for: if it
                ends before `ReplyTo.begin`, the caller learns that the request was not begun, and may send it again.

        Raises:
            NotRunning: the handler was not called by a request.
        """
        return self._cell.defer(begun)

    def link(self, ref: Ref) -> None:
        """Live and die together with another actor.

        Raises:
            NoProcess: it has ended, and this actor does not trap exits (if it does, an `Exit` message comes).
        """
        self._cell.link_or_tell(ref)

    def unlink(self, ref: Ref) -> None:
        """Take a link away. An `Exit` message that waits already stays."""
        self._cell.unlink(self.runtime.own_cell("unlink", ref))

    def monitor(self, target: Ref | Name) -> Monitor:
        """Get a `Down` message when another actor ends, at once if it is not there."""
        return self._cell.monitor(target)

    def demonitor(self, monitor: Monitor, *, flush: bool = False) -> bool:
        """Remove a monitor; tell whether it was still set.

        Args:
            monitor: what `monitor` returned.
            flush: also remove a `Down` that waits in the mailbox.

        Raises:
            NotOwner: another actor made it.
        """
        return self._cell.demonitor(monitor, flush)

    @spawning
    async def spawn(self, kind: type[Actor], *args: Any, name: str | None = None, **kwargs: Any) -> Ref:
        """Start another actor that is not linked to this one. See `Runtime.spawn`."""
        return await self.runtime.spawn(kind, *args, name=name, **kwargs)

    @spawning
    async def spawn_link(self, kind: type[Actor], *args: Any, name: str | None = None, **kwargs: Any) -> Ref:
        """Start another actor as a child: linked to this one from the first moment, and ended by its exit signals."""
        return await self.runtime.spawn_child(kind, args, kwargs, name=name)

    @spawning
    async def spawn_monitor(
        self, kind: type[Actor], *args: Any, name: str | None = None, **kwargs: Any
    ) -> tuple[Ref, Monitor]:
        """Start another actor, and watch it from before its ``init``. If it does not start, no `Down` comes."""
        monitors: list[Monitor] = []
        try:
            cell = self.runtime.begin(
                kind, args, kwargs, name=name, made=lambda cell: monitors.append(self.monitor(cell))
            )
            return await self.runtime.complete(cell, None), monitors[0]
        except BaseException:
            for monitor in monitors:
                self.demonitor(monitor, flush=True)
            raise

    def send_after(self, delay: float, message: Any, to: Address | None = None) -> Timer:
        """Send a message in ``delay`` seconds: to this actor, or to ``to``. A `Name` is looked up at that time.

        Raises:
            BadTime: the delay is no length of time.
        """
        return self.runtime.send_after(delay, message, self._cell if to is None else to)

    def send_interval(self, period: float, message: Any, to: Address | None = None) -> Timer:
        """Send a message every ``period`` seconds, until the timer is cancelled or the receiver ends."""
        return self.runtime.send_interval(period, message, self._cell if to is None else to)


def _get_trap_exit(self: Actor) -> bool:
    return self._cell.trap_exit


def _set_trap_exit(self: Actor, value: bool) -> None:
    self._cell.trap_exit = bool(value)


# A class attribute for type checkers and subclasses, a flag of the incarnation for everybody else.
Actor.trap_exit = property(_get_trap_exit, _set_trap_exit)  # type: ignore[assignment]
Actor.__behaviour__ = Behaviour(Actor, None, trap_exit=False)


def current_actor() -> Ref:
    """Return the actor in whose handler, or whose task, this code runs.

    Raises:
        NotRunning: it runs in none.
    """
    cell = current.get()
    if cell is None:
        raise NotRunning("this code does not run in an actor")
    return cell


def trace_point(name: str, **fields: Any) -> None:
    """Mark a named point in the code of an actor: for the event log, and for faults to strike at.

    It costs next to nothing while nobody listens. Outside of actors it does nothing.

    Args:
        name: of the point, such as ``"order:paid"``.
        fields: what is worth knowing there.
    """
    cell = current.get()
    if cell is not None:
        cell.emit(events.TracePoint, name=name, fields=fields)


@spawning
async def spawn_link(kind: type[Actor], *args: Any, name: str | None = None, **kwargs: Any) -> Ref:
    """Start an actor as a child of the actor in which this code runs, such as a supervisor that calls a start function.

    Raises:
        NotRunning: this code does not run in an actor.
        StartError: it did not start.
    """
    return await current_actor().runtime.spawn_child(kind, args, kwargs, name=name)
