"""Circuit breakers: what fails too often is left alone for a while (Nygard, "Release It!", 2007).

The state of all breakers belongs to the runtime. A caller asks and tells it in steps between which nothing is awaited,
so that nothing can come between a permission and its use. The actor `Breakers` hears of the ends of those who make
probes, and drops the state of breakers without recent failures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any, ClassVar, Literal, TypeVar, get_args
from weakref import WeakValueDictionary

import msgspec

from foundation.events import BreakerChanged
from foundation.holders import Granter, Grants, holder_in
from foundation.naming import own_name
from foundation.options import above_zero, is_a, text, whole
from foundation.protection.errors import CircuitOpen
from foundation.protection.guard import Attempt, Guard
from supervision import Message, Ref, Runtime, handle
from supervision.errors import BadOption

T = TypeVar("T")
BreakerState = Literal["closed", "open", "half_open"]
CallOutcome = Literal["success", "failure", "ignore"]
_OUTCOMES = get_args(CallOutcome)
#: Says how a call went: it gets the result, and the error if there was one.
Classify = Callable[[object, BaseException | None], CallOutcome]


def failed_if_raised(_: object, error: BaseException | None) -> CallOutcome:
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

    def checked(self) -> BreakerOptions:
        """Return these options, with plain numbers.

        Raises:
            BadOption: a number makes no sense.
        """
        numbers: dict[str, Any] = {}
        for name in self.__struct_fields__:
            check = above_zero if name in ("window", "reset_after") else whole
            numbers[name] = check(f"CircuitBreaker: {name}", getattr(self, name))
        return BreakerOptions(**numbers)


class BreakerRecord(msgspec.Struct, weakref=True, eq=False):
    """What is known of one breaker.

    Attributes:
        options: when it opens and closes.
        state: how it is.
        opened_at: when it was opened the last time, by the runtime's clock.
        failed_at: when calls failed lately, while it was closed.
        probes: which are under way, with the actors that make them.
        succeeded: how many have succeeded since it is half open.
        told_at: when it was last told of a failure or a probe.
    """

    options: BreakerOptions
    state: BreakerState = "closed"
    opened_at: float = 0.0
    failed_at: deque[float] = msgspec.field(default_factory=deque)
    probes: dict[int, Ref | None] = msgspec.field(default_factory=dict)
    succeeded: int = 0
    told_at: float = 0.0

    @property
    def probing(self) -> int:
        """How many probes are under way."""
        return len(self.probes)

    def needed(self, now: float) -> bool:
        """Tell whether it still makes a difference, also if nobody has it in hand: not when all is long ago."""
        if self.probes:
            return True
        matters = bool(self.failed_at) or self.state != "closed"
        return matters and now < self.told_at + self.options.window + self.options.reset_after


class ForgetUnneeded(Message, frozen=True):
    """To itself: forget what nobody needs."""


class Breakers(Granter):
    """Watches over the circuit breakers of a runtime. It is named ``breakers`` unless started with another name.

    A probe is over when the actor ends that makes it. While this actor is away, as it is being restarted, no probes are
    made; what is known of the breakers, and which probes are under way, survives it.
    """

    #: The name that it takes if it is started without one.
    default_name: ClassVar[str] = "breakers"
    #: Seconds between two checks for breakers without recent failures.
    forget_every: ClassVar[float] = 60.0

    def init(self) -> None:
        """Take over what there is."""
        self._known = breaker_table(self.runtime, own_name(self, self.default_name))
        self.take_over(self._known.grants)
        self.send_interval(self.forget_every, ForgetUnneeded())

    def take_back(self, what: Any) -> None:
        """End a probe without counting an outcome."""
        name, probe = what
        self._known.over(name, probe)

    @handle
    def forget(self, message: ForgetUnneeded) -> None:
        """Forget what nobody needs."""
        self._known.forget()


class BreakerTable:
    """All breakers of an actor: by name, those that somebody has in hand, and those that make a difference.

    Args:
        runtime: where they are.
        actor: the name of the `Breakers`.
    """

    def __init__(self, runtime: Runtime, actor: str) -> None:
        self._runtime = runtime
        self.address = runtime.name(actor)
        self.grants = Grants(self.address)
        self._in_hand: WeakValueDictionary[str, BreakerRecord] = WeakValueDictionary()
        self._kept: dict[str, BreakerRecord] = {}
        self._numbers = count(1)

    def __contains__(self, name: str) -> bool:
        return name in self._in_hand

    def __getitem__(self, name: str) -> BreakerRecord:
        return self._in_hand[name]

    def __len__(self) -> int:
        return len(self._in_hand)

    def of(self, name: str, options: BreakerOptions) -> BreakerRecord:
        """Return a breaker, made with these options if it is not known."""
        breaker = self._in_hand.get(name)
        if breaker is None:
            breaker = self._in_hand[name] = BreakerRecord(options)
        return breaker

    def probe(self, name: str, breaker: BreakerRecord) -> int | None:
        """Let a probe through; return its number, or None if the breaker is closed.

        Raises:
            CircuitOpen: it is not time for one, too many are under way, or nobody watches over them.
        """
        options, now = breaker.options, self._runtime.clock.time()
        left = breaker.opened_at + options.reset_after - now
        if breaker.state == "open" and left > 0:
            raise CircuitOpen(name, left)
        holder = holder_in(self._runtime)
        ended = holder is not None and not holder.alive
        if ended or breaker.probing >= options.probes or self.address.resolve() is None:
            raise CircuitOpen(name, options.reset_after)
        if breaker.state == "open":
            breaker.succeeded = 0
            self._become(name, breaker, "half_open")
        number = next(self._numbers)
        breaker.probes[number] = holder
        self._keep(name, breaker, now)
        self.grants.add(holder, (name, number))
        return number

    def over(self, name: str, probe: int) -> bool:
        """End a probe; tell whether it still counted."""
        breaker = self._kept.get(name)
        if breaker is None or probe not in breaker.probes:
            return False
        self.grants.remove(breaker.probes.pop(probe), (name, probe))
        return True

    def tell(self, name: str, breaker: BreakerRecord, outcome: CallOutcome, probe: int | None) -> None:
        """Take into account how a call went."""
        if probe is None:
            holder = holder_in(self._runtime)
            counts = holder is None or holder.alive
        else:
            counts = self.over(name, probe)
        if not counts or outcome == "ignore":
            return
        if breaker.state == "half_open" and probe is not None:
            self._probed(name, breaker, outcome)
        elif breaker.state == "closed" and outcome == "failure":
            self._failed(name, breaker)

    def _probed(self, name: str, breaker: BreakerRecord, outcome: CallOutcome) -> None:
        if outcome == "failure":
            self._open(name, breaker)
            return
        breaker.succeeded += 1
        if breaker.succeeded >= breaker.options.successes:
            breaker.failed_at.clear()
            self._become(name, breaker, "closed")

    def _failed(self, name: str, breaker: BreakerRecord) -> None:
        now = self._runtime.clock.time()
        breaker.failed_at.append(now)
        self._keep(name, breaker, now)
        while breaker.failed_at and breaker.failed_at[0] <= now - breaker.options.window:
            breaker.failed_at.popleft()
        if len(breaker.failed_at) >= breaker.options.failures:
            self._open(name, breaker)

    def _open(self, name: str, breaker: BreakerRecord) -> None:
        breaker.opened_at = self._runtime.clock.time()
        for probe in list(breaker.probes):
            self.over(name, probe)
        self._keep(name, breaker, breaker.opened_at)
        self._become(name, breaker, "open")

    def _become(self, name: str, breaker: BreakerRecord, state: BreakerState) -> None:
        before, breaker.state = breaker.state, state
        self._runtime.events.emit(BreakerChanged, name=name, before=before, after=state)

    def _keep(self, name: str, breaker: BreakerRecord, now: float) -> None:
        breaker.told_at = now
        self._kept[name] = breaker

    def forget(self) -> None:
        """Keep only what makes a difference, beside what somebody has in hand."""
        now = self._runtime.clock.time()
        self._kept = {name: breaker for name, breaker in self._kept.items() if breaker.needed(now)}


def breaker_table(runtime: Runtime, actor: str) -> BreakerTable:
    """Return what is known of all breakers of an actor.

    Raises:
        BadName: this cannot be a name.
    """
    known: BreakerTable | None = runtime.shared.get((Breakers, actor))
    if known is None:
        known = runtime.shared[Breakers, actor] = BreakerTable(runtime, actor)
    return known


class CircuitBreaker(Guard):
    """A circuit breaker. All that are made with the same name in a runtime are one.

    ``closed``, it lets everything through. Too many failures within the window make it ``open``: calls are refused with
    `CircuitOpen`, and not made. After a while it is ``half_open``: a few probes are let through, and show whether it
    closes or opens again. A probe whose caller is cancelled, or whose actor is killed, says nothing, and makes room for
    another one at once.

    What is known under a name is forgotten when nobody has a `CircuitBreaker` of that name any more, and its last
    failure or probe was longer ago than ``window`` and ``reset_after`` together.

    Args:
        runtime: where the actor runs that watches over them.
        name: of what is called.
        options: when it opens and closes. The first that is made with a name decides.
        classify: how a call went: by default an exception is a failure, and a cancelled caller says nothing.
        actor: the name of the `Breakers`.

    Raises:
        BadOption: a number is not positive, or a count not whole.
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
        if not is_a(options, BreakerOptions):
            raise BadOption("CircuitBreaker: options", options, "give BreakerOptions")
        self.name = text("CircuitBreaker: name", name)
        self._classify = classify
        self._known = breaker_table(runtime, actor)
        self._breaker = self._known.of(name, options.checked())

    @property
    def state(self) -> BreakerState:
        """How it is now. An open one stays so until somebody asks for a probe."""
        return self._breaker.state

    async def run(self, attempt: Attempt[T]) -> T:
        """Do something, unless the breaker is open.

        Raises:
            CircuitOpen: it is, and nothing was done.
            BadOption: ``classify`` returned something else than an outcome.
        """
        breaker = self._breaker
        probe = None if breaker.state == "closed" else self._known.probe(self.name, breaker)
        outcome: CallOutcome = "ignore"
        try:
            result = await attempt()
            outcome = self._outcome(result, None)
        except BaseException as error:
            outcome = self._outcome(None, error)
            raise
        finally:
            if probe is not None or outcome == "failure":  # a success of a closed one changes nothing
                self._known.tell(self.name, breaker, outcome, probe)
        return result

    def _outcome(self, result: object, error: BaseException | None) -> CallOutcome:
        outcome = self._classify(result, error)
        if not is_a(outcome, str) or outcome not in _OUTCOMES:
            raise BadOption("CircuitBreaker: classify", outcome, f"return one of {', '.join(_OUTCOMES)}")
        return outcome
