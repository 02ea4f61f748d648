"""The event stream: everything that happens in a runtime, in order, at the moment it happens.

Logs, metrics, traces, the status page and the checkers of the test kit all read this one stream. A subscriber is a
plain function, called synchronously with the change of state; with no subscriber nothing is built at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from supervision.reasons import ExitReason

if TYPE_CHECKING:
    import asyncio

    from supervision.clock import Clock
    from supervision.ref import Ref


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """The base of all events. ``seq`` grows by one with each event; ``time`` is the runtime's monotonic time."""

    seq: int
    time: float


class ActorEvent(Event, frozen=True, kw_only=True):
    """Something about one actor: ``ref`` is its incarnation, ``path`` its place in the tree, ``kind`` its class."""

    ref: Ref
    path: str
    kind: str


class StartAttempt(ActorEvent, frozen=True, kw_only=True):
    """An actor is about to run ``init``."""


class Started(ActorEvent, frozen=True, kw_only=True):
    """An actor has finished ``init`` and takes messages."""

    name: str | None


class StartFailed(ActorEvent, frozen=True, kw_only=True):
    """An actor did not start. ``quiet`` when its ``init`` refused on purpose."""

    reason: ExitReason
    quiet: bool


class StartIgnored(ActorEvent, frozen=True, kw_only=True):
    """An actor's ``init`` answered IGNORE."""


class Exited(ActorEvent, frozen=True, kw_only=True):
    """An actor ended."""

    name: str | None
    reason: ExitReason


class CrashReport(ActorEvent, frozen=True, kw_only=True):
    """An actor ends by an exception, or stops itself for a reason that is not clean (OTP's crash report).

    Attributes:
        name: under which it was registered.
        reason: the exception, or the reason that was given.
        message: what it was handling.
        mailbox: how many messages die with it.
        links: how many links it had.
        trap_exit: whether it trapped exits.
        ancestors: who started it, who started that one, and so on.
        neighbours: the linked actors that die with it, the first 15.
        waiting: the first 10 of the messages that waited.
        client: the actor whose request it was handling.
        state: what its `Actor.format_status` showed, shortened.
        log: its last events, if `system.log` keeps them.
    """

    name: str | None
    reason: ExitReason
    message: str | None
    mailbox: int
    links: int
    trap_exit: bool = False
    ancestors: tuple[str, ...] = ()
    neighbours: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    client: str | None = None
    state: str | None = None
    log: tuple[str, ...] = ()


class StopRequested(ActorEvent, frozen=True, kw_only=True):
    """A supervisor or a user ordered an actor to end."""

    reason: ExitReason


class Terminating(ActorEvent, frozen=True, kw_only=True):
    """An actor is about to run ``terminate``: it handles no message any more."""


class Suspended(ActorEvent, frozen=True, kw_only=True):
    """An actor is suspended: it handles nothing but system requests (see `system.suspend`)."""


class Resumed(ActorEvent, frozen=True, kw_only=True):
    """A suspended actor goes on."""


class FencedOff(ActorEvent, frozen=True, kw_only=True):
    """A killed actor's code still runs; it is fenced off: nothing that it does has an effect any more."""


class Zombie(ActorEvent, frozen=True, kw_only=True):
    """A killed actor's code could not be stopped. ``stack`` says where it is."""

    stack: str


class ZombieEnded(ActorEvent, frozen=True, kw_only=True):
    """The code of a killed actor has ended at last, after ``seconds``."""

    seconds: float


class Registered(ActorEvent, frozen=True, kw_only=True):
    """An actor got a name."""

    name: str


class Unregistered(ActorEvent, frozen=True, kw_only=True):
    """A name is free again."""

    name: str


class MessageDropped(ActorEvent, frozen=True, kw_only=True):
    """A message became a dead letter.

    ``why`` is noproc, mailbox_full, dropped_oldest, expired, fenced, died, refused, late_reply, or chaos for one that a
    fault has dropped. Of messages to another node also noconnection, no_credit or not_transferable. The dead letters of
    `Runtime.statistics` also count ``noname``: no actor held the name; and ``unknown_type`` and ``bad_payload`` of what
    another node has sent.
    """

    message: str
    why: str


class HighWater(ActorEvent, frozen=True, kw_only=True):
    """``length`` messages wait for an actor: it does not keep up."""

    length: int


class Unhandled(ActorEvent, frozen=True, kw_only=True):
    """An actor got a message for which it has no handler."""

    message: str


class LoopBlocked(Event, frozen=True, kw_only=True):
    """The event loop has not moved for ``seconds``: the actor at ``path`` holds it, in ``file`` at ``line``.

    It comes again, marked so, as long as that lasts; `LoopUnblocked` follows once.
    """

    path: str | None
    seconds: float
    file: str
    line: int
    stack: str
    again: bool = False


class ApplicationStarted(ActorEvent, frozen=True, kw_only=True):
    """An application runs, with all its start phases behind it."""

    application: str


class ApplicationStopped(ActorEvent, frozen=True, kw_only=True):
    """An application has ended; ``leftovers`` are the paths of actors outside of its tree that had to be killed."""

    application: str
    reason: ExitReason
    leftovers: tuple[str, ...]


class ApplicationHookFailed(ActorEvent, frozen=True, kw_only=True):
    """A callback of an application that stops raised; the stop goes on."""

    application: str
    callback: str
    reason: ExitReason


class TracePoint(ActorEvent, frozen=True, kw_only=True):
    """The code of an actor has reached a named point: see `trace_point`."""

    name: str
    fields: dict[str, Any]


class LoopUnblocked(Event, frozen=True, kw_only=True):
    """The event loop moves again, after ``seconds`` in all."""

    seconds: float


class SupervisorEvent(ActorEvent, frozen=True, kw_only=True):
    """Something a supervisor did about the child ``id``; ``child`` is the child's incarnation, if there is one.

    ``restart``, ``shutdown`` and ``type`` are those of its specification.
    """

    id: Any
    child: Ref | None
    restart: str
    shutdown: float | str
    type: str


class ChildStarted(SupervisorEvent, frozen=True, kw_only=True):
    """A child was started (OTP's progress report)."""

    significant: bool


class ChildTerminated(SupervisorEvent, frozen=True, kw_only=True):
    """A child ended by itself in a way worth a report (OTP's ``child_terminated``)."""

    reason: ExitReason


class ChildStartFailed(SupervisorEvent, frozen=True, kw_only=True):
    """An attempt to start or restart a child failed (OTP's ``start_error``)."""

    reason: ExitReason


class ChildShutdownFailed(SupervisorEvent, frozen=True, kw_only=True):
    """A child did not stop as it should (OTP's ``shutdown_error``)."""

    reason: ExitReason


class RestartScheduled(SupervisorEvent, frozen=True, kw_only=True):
    """A restart was decided: the ``used``-th of ``allowed`` in ``seconds``; it comes after a ``delay`` in seconds."""

    used: int
    allowed: int
    seconds: float
    delay: float


class Restarted(SupervisorEvent, frozen=True, kw_only=True):
    """A child runs again: ``old`` was its last incarnation."""

    old: Ref | None


class GaveUp(SupervisorEvent, frozen=True, kw_only=True):
    """A supervisor gave up: more than ``allowed`` restarts in ``seconds`` (OTP's ``reached_max_restart_intensity``)."""

    reason: ExitReason
    allowed: int
    seconds: float


Listener = Callable[[Any], object]


def event_names() -> set[str]:
    """Return the names of all classes of events that have been made, here and elsewhere."""
    found: set[type[Event]] = {Event}
    new = found
    while new:
        new = {sub for kind in new for sub in kind.__subclasses__()} - found
        found = found | new
    return {kind.__name__ for kind in found}


class Subscription:
    """A listener on the stream; `close` ends it."""

    def __init__(self, stream: EventStream, listener: Listener, kinds: tuple[type[Event], ...]) -> None:
        self._stream = stream
        self.listener = listener
        self.kinds = kinds

    def close(self) -> None:
        """Stop listening. Closing twice is fine."""
        self._stream.remove(self)


class _Wanted(dict[type[Event], tuple[Subscription, ...]]):
    """The listeners of each class of events, worked out at the first event."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriptions: tuple[Subscription, ...] = ()

    def __missing__(self, kind: type[Event]) -> tuple[Subscription, ...]:
        wanting = tuple(s for s in self.subscriptions if issubclass(kind, s.kinds))
        self[kind] = wanting
        return wanting


class EventStream:
    """The one ordered stream of a runtime.

    An event that nobody listens to is not built, and not counted by ``seq``.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self.seq = 0
        self.wanted = _Wanted()
        #: Whether there is any listener.
        self.listening = False
        #: Whether listeners are being called: then the kernel is in the middle of something.
        self.telling = False

    def subscribe(self, listener: Listener, *kinds: type[Event]) -> Subscription:
        """Call ``listener`` with each event from now on, synchronously. It must not block and not wait.

        A listener that raises is reported to the loop's exception handler; the event goes on to the others.

        Args:
            listener: called with each event. `LoopBlocked` comes from the watchdog's thread, the others from the
                loop's.
            kinds: which classes of events, with their subclasses; all if none is given.
        """
        subscription = Subscription(self, listener, kinds or (Event,))
        self._set((*self.wanted.subscriptions, subscription))
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """Stop calling a listener."""
        self._set(tuple(s for s in self.wanted.subscriptions if s is not subscription))

    def _set(self, subscriptions: tuple[Subscription, ...]) -> None:
        self.wanted.subscriptions = subscriptions
        self.wanted.clear()
        self.listening = bool(subscriptions)

    def emit(self, event_class: type[Event], **fields: Any) -> None:
        """Build an event and call its listeners. For the loop's thread."""
        outer, self.telling = self.telling, True
        try:
            self.emit_from_thread(event_class, **fields)
        finally:
            self.telling = outer

    def emit_from_thread(self, event_class: type[Event], **fields: Any) -> None:
        """Build an event and call its listeners, from any thread."""
        wanting = self.wanted[event_class]
        if not wanting:
            return
        self.seq += 1
        event = event_class(seq=self.seq, time=self._clock.time(), **fields)
        for subscription in wanting:
            try:
                subscription.listener(event)
            except Exception as error:
                self._loop.call_exception_handler(
                    {"message": f"a listener raised on {event_class.__name__}", "exception": error}
                )
