"""State machines: actors that handle a message according to the state they are in (OTP's ``gen_statem``).

>>> import asyncio
>>> from supervision import Message, Runtime, StateMachine, StateTimeout, state
>>> class Coin(Message):
...     pass
>>> class Push(Message):
...     pass
>>> class Turnstile(StateMachine):
...     initial_state = "locked"
...
...     @state
...     def locked(self, event: Message) -> None:
...         match event:
...             case Coin():
...                 self.next_state("unlocked")
...                 self.state_timeout(10)
...             case Push():
...                 print("locked")
...
...     @state
...     def unlocked(self, event: Message) -> None:
...         match event:
...             case Push() | StateTimeout():
...                 self.next_state("locked")
...             case Coin():
...                 self.postpone()
>>> async def main() -> None:
...     async with Runtime() as runtime:
...         turnstile = await runtime.spawn(Turnstile)
...         for event in (Push(), Coin(), Push(), Push()):
...             turnstile.cast(event)
...         await turnstile.stop()
>>> asyncio.run(main())
locked
locked
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Self, TypeVar, overload

import msgspec

from supervision._core.dispatch import handle
from supervision._core.timers import Timer
from supervision.actor import Actor
from supervision.call import ReplyTo
from supervision.clock import seconds
from supervision.errors import BadHandler, BadTransition, Refuse
from supervision.messages import Message

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__state__"


class Enter(Message, frozen=True):
    """A state was entered, from the state ``old``; at the start from itself. Only with ``enter_calls``."""

    old: Any


class StateTimeout(Message, frozen=True):
    """The machine has been in this state for as long as `StateMachine.state_timeout` said."""

    content: Any = None


class EventTimeout(Message, frozen=True):
    """There was no event for as long as `StateMachine.event_timeout` said."""

    content: Any = None


class NamedTimeout(Message, frozen=True):
    """The time is over that `StateMachine.named_timeout` set under ``name``."""

    name: Any
    content: Any = None


class HandlePending(Message, frozen=True):
    """A machine's message to itself: handle the events that come before the mailbox."""


class TimeoutFired(Message, frozen=True):
    """A timer of a machine has fired."""

    timeout: ActiveTimeout


class ActiveTimeout:
    """A time-out that is set, with its event and its timer."""

    __slots__ = ("event", "key", "timer")

    def __init__(self, key: Any, event: Message) -> None:
        self.key = key
        self.event = event
        self.timer: Timer | None = None


class StateEvent:
    """A message that a machine handles, with the right to answer it once it has been postponed."""

    __slots__ = ("deferred", "message", "postponed", "timeout", "token")

    def __init__(self, message: Any, timeout: ActiveTimeout | None = None) -> None:
        self.message = message
        self.timeout = timeout
        self.token: ReplyTo[Any] | None = None
        self.postponed = False
        self.deferred = False


_STATE, _EVENT = object(), object()
_UNSET: Any = msgspec.UNSET


@overload
def state(function: F, /) -> F: ...
@overload
def state(name: str, /) -> Callable[[F], F]: ...
def state(what: Any, /) -> Any:
    """Mark a method of a `StateMachine` as the function of a state: of the name given, or its own.

    Raises:
        BadHandler: it is not a method that takes one event.
    """
    if isinstance(what, str):
        return lambda function: _mark(function, what)
    return _mark(what, getattr(what, "__name__", ""))


def _mark(function: Any, name: str) -> Any:
    if not inspect.isfunction(function) or len(inspect.signature(function).parameters) != 2:
        raise BadHandler(f"@state {name}", function, "a state function is a method that takes self and one event")
    setattr(function, _MARK, name)
    return function


class StateMachine(Actor):
    """An actor whose messages are events, handled by the function of the state it is in.

    A state function is a method marked with `state`, plain or ``async``. It takes each event: a message, a request (and
    returns its answer), a time-out, or an `Enter`. States need not be names: override `handle_event` to take the state
    as an argument. What is to become of the state and of the event is said, while an event is handled, by `next_state`,
    `postpone`, `next_event` and the functions for time-outs.

    What OTP says holds: only a *change* of state runs postponed events again, oldest first and before newer ones, ends
    the state time-out, and enters. Inserted events come before those, in the order they were inserted.

    Attributes:
        initial_state: the state in which it begins, unless ``init`` calls `next_state`.
        enter_calls: whether state functions get an `Enter` when their state is entered.

    A subclass that overrides ``init`` calls ``super().init()`` at its end.
    """

    initial_state: ClassVar[Any] = _UNSET
    enter_calls: ClassVar[bool] = False
    __states__: ClassVar[dict[Any, str]] = {}

    _state: Any
    _next: Any
    _repeat: bool
    _event: StateEvent | None
    #: Events that come before the mailbox, in order.
    _pending: deque[StateEvent]
    #: Events that wait for another state, oldest first.
    _postponed: list[StateEvent]
    _inserted: list[StateEvent]
    _timeouts: dict[Any, ActiveTimeout]
    #: The time-outs that the current event sets, removes or updates: the key, seconds, and the event.
    _asked: list[tuple[Any, float | None, Message]]

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Make a machine that is in no state yet."""
        self = super().__new__(cls)
        self._state = self._next = _UNSET
        self._repeat = False
        self._event = None
        self._pending = deque()
        self._postponed = []
        self._inserted = []
        self._timeouts = {}
        self._asked = []
        return self

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = {getattr(method, _MARK): name for name, method in vars(cls).items() if hasattr(method, _MARK)}
        cls.__states__ = {**cls.__states__, **own}

    # -- what a subclass may override ------------------------------------------------------------------------

    def init(self) -> Any:
        """Begin in the initial state."""
        state = self.initial_state if self._next is _UNSET else self._next
        if state is _UNSET:
            raise BadTransition(self, None, "say where it begins: initial_state = ..., or next_state(...) in init")
        self._state, self._next = state, _UNSET
        self._repeat = True
        self._change()

    def handle_event(self, state: Any, event: Any) -> Any:
        """Handle an event in a state: unless overridden, with the function of the state."""
        name = self.__states__.get(state)
        if name is None:
            known = ", ".join(map(repr, self.__states__))
            raise BadTransition(self, state, f"there is no such state; there are: {known or 'none'}")
        return getattr(self, name)(event)

    # -- what to do with an event ----------------------------------------------------------------------------

    @property
    def state(self) -> Any:
        """The state it is in."""
        return self._state

    def next_state(self, state: Any) -> None:
        """Go to a state when this event has been handled. The state it is in already is no change.

        Raises:
            BadTransition: there is no event, or it is an `Enter`. So do all functions below.
        """
        self._check("change the state")
        self._next = state

    def repeat_state(self) -> None:
        """Enter the state it is in once more, if there are enter calls."""
        self._check("repeat the state")
        self._repeat = True

    def postpone(self) -> None:
        """Keep this event until the state has changed. A request is answered then."""
        event = self._check("be postponed")
        if event is None:
            raise BadTransition(self, None, "there is no event to be postponed")
        event.postponed = True

    def next_event(self, message: Any) -> None:
        """Insert an event, to be handled before all others."""
        self._check("insert events")
        self._inserted.append(StateEvent(message))

    def _check(self, what: str, *, enter: bool = False) -> StateEvent | None:
        """Return the current event, None in ``init``."""
        event = self._event
        if event is None and self._state is not _UNSET:
            raise BadTransition(self, self._state, f"only while an event is handled can it {what}")
        if event is not None and isinstance(event.message, Enter) and not enter:
            raise BadTransition(self, self._state, f"an enter call cannot {what}")
        return event

    def defer_reply(self, *, begun: bool = True) -> ReplyTo[Any]:
        """Answer the current request later. See `Actor.defer_reply`."""
        event = self._event
        if event is None or event.token is None:
            return super().defer_reply(begun=begun)
        event.deferred = True
        return event.token

    # -- time-outs -------------------------------------------------------------------------------------------

    def state_timeout(self, after: float | None, content: Any = None) -> None:
        """Get a `StateTimeout` in ``after`` seconds, unless the state changes before. None removes it."""
        self._set(_STATE, after, StateTimeout(content))

    def event_timeout(self, after: float | None, content: Any = None) -> None:
        """Get an `EventTimeout` in ``after`` seconds, unless there is any event before. None removes it."""
        self._set(_EVENT, after, EventTimeout(content))

    def named_timeout(self, name: Any, after: float | None, content: Any = None) -> None:
        """Get a `NamedTimeout` in ``after`` seconds, whatever happens in between. None removes it."""
        self._set((name,), after, NamedTimeout(name, content))

    def update_timeout(self, name: Any, content: Any) -> None:
        """Change what a named time-out will say, if it is set."""
        self._ask((name,), -1.0, NamedTimeout(name, content))

    def _set(self, key: Any, after: float | None, event: Message) -> None:
        self._ask(key, None if after is None else seconds("timeout", after), event)

    def _ask(self, key: Any, after: float | None, event: Message) -> None:
        self._check("set a time-out", enter=True)
        self._asked.append((key, after, event))

    def _apply(self, key: Any, after: float | None, event: Message) -> None:
        """Remove (None), update (negative) or set a time-out."""
        if after is not None and after < 0.0:
            if key in self._timeouts:
                self._timeouts[key].event = event
            return
        self._unset(key)
        if after is None:
            return
        self._timeouts[key] = timeout = ActiveTimeout(key, event)
        if after == 0.0:
            self._pending.append(StateEvent(None, timeout))
        else:
            timeout.timer = self.send_after(after, TimeoutFired(timeout))

    def _unset(self, key: Any) -> None:
        timeout = self._timeouts.pop(key, None)
        if timeout is not None and timeout.timer is not None:
            timeout.timer.cancel()

    # -- the machine -----------------------------------------------------------------------------------------

    def unhandled(self, message: Any) -> Any:
        """Take a message as an event."""
        return self._take(StateEvent(message))

    @handle
    def timeout_fired(self, message: TimeoutFired) -> Any:
        """A time-out is an event, unless it was removed in the meantime."""
        timeout = message.timeout
        return self._take(StateEvent(None, timeout)) if self._timeouts.get(timeout.key) is timeout else None

    @handle
    def handle_pending(self, message: HandlePending) -> Any:
        """Take the next of the events that come before the mailbox."""
        while self._pending:
            event = self._pending.popleft()
            timeout = event.timeout
            stale = timeout is not None and self._timeouts.get(timeout.key) is not timeout
            gone = event.token is not None and not event.token.waiting
            if not (stale or gone):
                return self._take(event)
        return None

    def _take(self, event: StateEvent) -> Any:
        if self._state is _UNSET:
            raise BadTransition(self, None, "init() was overridden: call super().init() at its end")
        if event.timeout is not None:
            event.message = event.timeout.event
            del self._timeouts[event.timeout.key]
            event.timeout = None
        if not isinstance(event.message, Enter):
            self._unset(_EVENT)
        self._event = event
        event.postponed = event.deferred = False
        try:
            result = self.handle_event(self._state, event.message)
        except Refuse as refusal:
            return self._refused(event, refusal)
        return self._later(event, result) if inspect.iscoroutine(result) else self._done(event, result)

    async def _later(self, event: StateEvent, body: Coroutine[Any, Any, Any]) -> Any:
        try:
            result = await body
        except Refuse as refusal:
            return self._refused(event, refusal)
        return self._done(event, result)

    def _refused(self, event: StateEvent, refusal: Refuse) -> Any:
        if event.token is None:
            raise refusal
        event.token.fail(refusal.error)
        event.deferred = True
        return self._done(event, None)

    def _done(self, event: StateEvent, result: Any) -> Any:
        self._event = None
        if event.postponed:
            self._put_off(event)
        elif event.token is not None and not event.deferred:
            event.token.reply(result)
            result = None
        self._change()
        return result

    def _put_off(self, event: StateEvent) -> None:
        if event.token is None and self._cell.call_in_hand is not None:
            event.token = super().defer_reply()
        self._postponed.append(event)

    def _change(self) -> None:
        """Go to the next state, if it is another one, and order the events that come before the mailbox."""
        old, repeat = self._state, self._repeat
        changed = self._next is not _UNSET and self._next != old
        if changed:
            self._state = self._next
            self._unset(_STATE)
        self._next, self._repeat = _UNSET, False
        enter = [StateEvent(Enter(old))] if self.enter_calls and (changed or repeat) else []
        retried = self._postponed if changed else []
        self._pending.extendleft(reversed([*enter, *self._inserted, *retried]))
        self._inserted = []
        if changed:
            self._postponed = []
        asked, self._asked = self._asked, []
        for key, after, event in asked:
            self._apply(key, after, event)
        if self._pending:
            self.continue_with(HandlePending())
