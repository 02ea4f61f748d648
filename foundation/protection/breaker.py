"""Circuit breakers: what fails too often is left alone for a while (Nygard, "Release It!", 2007).

The state of all breakers of a runtime is kept by an actor, `Breakers`, which decides. A caller reads it without the
mailbox, does its work itself, and tells the actor how that went.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import ClassVar, Literal, TypeVar

import msgspec

from foundation.events import BreakerChanged
from foundation.naming import own_name
from foundation.protection.errors import CircuitOpen
from foundation.protection.guard import Attempt, Guard
from foundation.protection.limits import positive
from supervision import Actor, CallError, Message, Request, Runtime, handle

T = TypeVar("T")
State = Literal["closed", "open", "half_open"]
Outcome = Literal["success", "failure", "ignore"]
#: Says how a call went: it gets the result, and the error if there was one.
Classify = Callable[[object, BaseException | None], Outcome]


def failed_if_raised(_: object, error: BaseException | None) -> Outcome:
    """Return ``failure`` for an exception, ``ignore`` if the caller was cancelled, and ``success`` otherwise."""
    if error is None:
        return "success"
    return "failure" if isinstance(error, Exception) else "ignore"


class BreakerOptions(msgspec.Struct, frozen=True):
    """When a breaker opens and closes.

    Attributes:
        failures: so many of them within ``window`` seconds open it.
        window: how long a failure counts, in seconds.
        reset_after: seconds after which an open breaker lets probes through.
        probes: how many probes may be under way at once.
        successes: so many probes that succeed close it. One that fails opens it again.
    """

    failures: int = 5
    window: float = 60.0
    reset_after: float = 30.0
    probes: int = 1
    successes: int = 1


class Breaker(msgspec.Struct):
    """What is known of one breaker. Callers read it; only the actor changes it."""

    options: BreakerOptions
    state: State = "closed"
    opened_at: float = 0.0
    failed_at: deque[float] = msgspec.field(default_factory=deque)
    probing: int = 0
    succeeded: int = 0


class Probe(Request[bool], frozen=True):
    """Ask to make a probe. The answer tells whether it may be made."""

    name: str


class Note(Message, frozen=True):
    """Tell how a call went."""

    name: str
    outcome: Outcome
    probe: bool


class Breakers(Actor):
    """Keeps the state of all circuit breakers of a runtime. It is named ``breakers`` unless started with another name.

    The state belongs to the runtime and survives a restart of this actor; a probe that was under way then is forgotten.
    """

    infrastructure = True
    #: The name that it takes if it is started without one.
    default_name: ClassVar[str] = "breakers"

    def init(self) -> None:
        """Take over what there is."""
        self._known = known_breakers(self.runtime, own_name(self, self.default_name))
        for breaker in self._known.values():
            breaker.probing = 0

    @handle
    def probe(self, request: Probe) -> bool:
        """Let a probe through, if it is time for one and not too many are under way."""
        breaker = self._known[request.name]
        if breaker.state == "open" and self._now() >= breaker.opened_at + breaker.options.reset_after:
            breaker.succeeded = breaker.probing = 0
            self._become(request.name, breaker, "half_open")
        if breaker.state == "open" or breaker.probing >= breaker.options.probes:
            return breaker.state == "closed"
        breaker.probing += breaker.state == "half_open"
        return True

    @handle
    def note(self, message: Note) -> None:
        """Take into account how a call went."""
        breaker = self._known[message.name]
        options = breaker.options
        if message.probe:
            breaker.probing = max(0, breaker.probing - 1)
        if message.outcome == "ignore":
            return
        if breaker.state == "half_open" and message.probe:
            breaker.succeeded += message.outcome == "success"
            if message.outcome == "failure":
                self._open(message.name, breaker)
            elif breaker.succeeded >= options.successes:
                breaker.failed_at.clear()
                self._become(message.name, breaker, "closed")
        elif breaker.state == "closed" and message.outcome == "failure":
            now = self._now()
            breaker.failed_at.append(now)
            while breaker.failed_at[0] <= now - options.window:
                breaker.failed_at.popleft()
            if len(breaker.failed_at) >= options.failures:
                self._open(message.name, breaker)

    def _open(self, name: str, breaker: Breaker) -> None:
        breaker.opened_at = self._now()
        self._become(name, breaker, "open")

    def _become(self, name: str, breaker: Breaker, state: State) -> None:
        before, breaker.state = breaker.state, state
        self.runtime.events.emit(BreakerChanged, name=name, before=before, after=state)

    def _now(self) -> float:
        return self.runtime.clock.time()


def known_breakers(runtime: Runtime, actor: str) -> dict[str, Breaker]:
    """Return what is known of all breakers of an actor."""
    known: dict[str, Breaker] = runtime.shared.setdefault((Breakers, actor), {})
    return known


class CircuitBreaker(Guard):
    """A circuit breaker. All that are made with the same name in a runtime are one.

    ``closed``, it lets everything through. Too many failures within the window make it ``open``: calls are refused with
    `CircuitOpen`, and not made. After a while it is ``half_open``: a few probes are let through, and show whether it
    closes or opens again.

    Args:
        runtime: where the actor runs that keeps the state.
        name: of what is called.
        options: when it opens and closes. The first that is made with a name decides.
        classify: how a call went: by default an exception is a failure, and a cancelled caller says nothing.
        actor: the name of the `Breakers`.

    Raises:
        BadOption: a number is not positive.
    """

    def __init__(
        self,
        runtime: Runtime,
        name: str,
        options: BreakerOptions = BreakerOptions(),  # noqa: B008  # it is frozen
        *,
        classify: Classify = failed_if_raised,
        actor: str = "breakers",
    ) -> None:
        for field in options.__struct_fields__:
            positive("CircuitBreaker", field, getattr(options, field))
        self.name = name
        self._runtime = runtime
        self._address = runtime.name(actor)
        self._classify = classify
        self._breaker = known_breakers(runtime, actor).setdefault(name, Breaker(options))

    @property
    def state(self) -> State:
        """How it is now. An open one stays so until somebody asks for a probe."""
        return self._breaker.state

    async def run(self, attempt: Attempt[T]) -> T:
        """Do something, unless the breaker is open.

        Raises:
            CircuitOpen: it is, and nothing was done.
        """
        probe = self._breaker.state != "closed"
        if probe:
            await self._probe()
        outcome: Outcome = "ignore"
        try:
            result = await attempt()
            outcome = self._classify(result, None)
        except BaseException as error:
            outcome = self._classify(None, error)
            raise
        finally:
            if probe or outcome == "failure":  # a success of a closed one changes nothing
                self._address.cast(Note(self.name, outcome, probe))
        return result

    async def _probe(self) -> None:
        options = self._breaker.options
        left = self._breaker.opened_at + options.reset_after - self._runtime.clock.time()
        if self._breaker.state == "open" and left > 0:
            raise CircuitOpen(self.name, left)
        try:
            if await self._address.call(Probe(self.name)):
                return
        except CallError as error:
            raise CircuitOpen(self.name, options.reset_after) from error
        raise CircuitOpen(self.name, options.reset_after)
