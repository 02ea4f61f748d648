"""Addresses: a `Ref` is one incarnation of an actor, a `Name` its current holder; monitors, and calls by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar

from supervision.call import DEFAULT_TIMEOUT

if TYPE_CHECKING:
    from supervision._core.foreign import ForeignRef
    from supervision._core.links import Linked
    from supervision.actor import Actor
    from supervision.call import Call
    from supervision.mailbox import MailboxStatistics
    from supervision.messages import Request
    from supervision.reasons import ExitReason
    from supervision.runtime import Runtime


R = TypeVar("R")


class Address(ABC):
    """Anything that messages can be sent to."""

    __slots__ = ()

    runtime: Runtime

    @abstractmethod
    def cast(self, message: Any) -> None:
        """Send a message and forget it. Never fails and never waits: to an ended actor, it is a dead letter."""

    @abstractmethod
    def call(self, request: Request[R], timeout: float | None = DEFAULT_TIMEOUT) -> Call[R]:
        """Send a request; await what this returns for the answer.

        The request is on its way when this function returns. Inside a handler that itself answers a call with a
        deadline, the shorter of the two counts.

        Args:
            request: what is asked.
            timeout: seconds to wait for the answer; None waits as long as the actor lives.

        Raises:
            BadTime: the time-out is no length of time; raised by this function, everything else by the ``await``.
            NoProcess: there is no such actor.
            ActorExited: it ended before it answered.
            CallTimeout: no answer in time; a late one vanishes.
            CallCycle: each actor of a cycle would wait for the next.
            MailboxFull: its bounded mailbox refuses, or dropped the request.
            UnhandledMessage: it has no handler for this type.
        """

    @abstractmethod
    async def send(self, message: Any) -> None:
        """Send a message, and wait for room if the mailbox is bounded and says so.

        Raises:
            NoProcess: nobody holds the name (never for a `Ref`: to an ended actor, it is a dead letter).
            MailboxFull: the mailbox refuses.
        """


class Ref(Address):
    """The address of one incarnation of an actor (OTP's pid). A restarted actor has another one.

    Hashable, comparable, printable and safe to keep: it does not keep the state of an ended actor alive.
    """

    __slots__ = ()

    id: int
    #: Its class.
    kind: type[Actor]
    #: Whether the actor lives: it has not ended and has not been told to end at once.
    alive: bool

    @property
    @abstractmethod
    def path(self) -> str:
        """Its place in the tree, such as ``/app/workers/3``."""

    @property
    @abstractmethod
    def reason(self) -> ExitReason | None:
        """Why it ended, or None while it lives."""

    @property
    @abstractmethod
    def node(self) -> str:
        """The node it lives on."""

    @abstractmethod
    def exit(self, reason: object) -> None:
        """Send an exit signal (OTP's ``exit/2``). An actor that traps exits gets it as an `Exit` message.

        Args:
            reason: an `ExitReason`, or anything else, which becomes `Abnormal`. `KILL` cannot be trapped.
        """

    @abstractmethod
    def kill(self) -> None:
        """End it at once, whatever it is doing. When this returns, nothing it does has an effect any more."""

    @abstractmethod
    async def stop(self, reason: object = None, timeout: float | None = None) -> None:
        """Ask it to end in order, with ``terminate``, behind the messages it already has, and wait until it has.

        Args:
            reason: why; `NORMAL` if not given.
            timeout: seconds to wait. The actor is not killed when they are over.

        Raises:
            NoProcess: it has ended before.
            ActorExited: it ended for another reason.
            CallTimeout: it has not ended in time.
        """

    @abstractmethod
    async def join(self) -> ExitReason:
        """Wait until it has ended, and return why."""

    @abstractmethod
    def mailbox_statistics(self) -> MailboxStatistics:
        """Return how many messages wait for it."""


class Name(Address):
    """A stable address: whoever holds the name when it is used. It survives restarts."""

    __slots__ = ("key", "runtime")

    def __init__(self, runtime: Runtime, key: str) -> None:
        self.runtime = runtime
        self.key = key

    def __repr__(self) -> str:
        return f"<Name {self.key}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Name) and (other.key, other.runtime) == (self.key, self.runtime)

    def __hash__(self) -> int:
        return hash(self.key)

    @property
    def node(self) -> str:
        """The node where the name is looked up."""
        return self.runtime.node

    def resolve(self) -> Ref | None:
        """Return who holds the name now, or None."""
        return self.runtime.whereis(self.key)

    def _holder(self, request: object) -> Ref:
        from supervision.errors import NoProcess

        ref = self.resolve()
        if ref is None:
            raise NoProcess(self, request, "nobody holds this name")
        return ref

    def exit(self, reason: object) -> None:
        """Send the holder an exit signal; nothing happens if there is none. See `Ref.exit`."""
        ref = self.resolve()
        if ref is not None:
            ref.exit(reason)

    def kill(self) -> None:
        """End the holder at once; nothing happens if there is none. See `Ref.kill`."""
        ref = self.resolve()
        if ref is not None:
            ref.kill()

    async def stop(self, reason: object = None, timeout: float | None = None) -> None:
        """Ask the holder to end in order, and wait until it has. See `Ref.stop`.

        Raises:
            NoProcess: nobody holds the name; or what `Ref.stop` raises.
        """
        await self._holder("stop").stop(reason, timeout)

    async def join(self) -> ExitReason:
        """Wait until whoever holds the name now has ended, and return why.

        Raises:
            NoProcess: nobody holds the name.
        """
        return await self._holder("join").join()

    def cast(self, message: Any) -> None:
        """Send a message to the holder; a dead letter if there is none."""
        ref = self.resolve()
        if ref is None:
            self.runtime.scheduler.count_dead_letter("noname")
        else:
            ref.cast(message)

    def call(self, request: Request[R], timeout: float | None = DEFAULT_TIMEOUT) -> Call[R]:
        """Send a request to the holder; the ``await`` raises NoProcess if there is none."""
        ref = self.resolve()
        if ref is None:
            return self.runtime.scheduler.failed_call(self, request, timeout)
        return ref.call(request, timeout)

    async def send(self, message: Any) -> None:
        """Send a message to the holder, and wait for room."""
        await self._holder(message).send(message)


def call_when_ready(to: Address, request: Request[R], timeout: float | None = DEFAULT_TIMEOUT) -> Call[R]:
    """Call an actor by its name, also while it is being restarted; await what this returns for the answer.

    A request that no handler has begun has left no trace. If the actor ends with it in its mailbox, or is not there
    yet, it goes to the next incarnation, as soon as that holds the name. A request that was begun is never sent again:
    whether that is safe, only its sender knows.

    Nothing is awaited that will not come: when the supervisor gives up, does not restart the actor, or ends, and for a
    name that nobody is about to hold, the error comes at once. A `Ref` is one incarnation and has no next one.

    Args:
        to: a `Name`; a `Ref` is called as it is.
        request: what is asked.
        timeout: seconds for everything together; None for as long as there is, or will be, an actor.

    Raises:
        BadTime: the time-out is no length of time.
        NoProcess, ActorExited: there is no such actor, and there will be none; or it ended with the request in hand.
        CallTimeout: no answer in time.
        CallError: as for `Address.call`; whatever the handler refused.

    >>> import asyncio
    >>> from supervision import Actor, ChildSpec, Request, Runtime, Supervisor, handle
    >>> class Hello(Request[str]):
    ...     pass
    >>> class Greeter(Actor):
    ...     @handle
    ...     def hello(self, request: Hello) -> str:
    ...         return "hello"
    >>> async def main() -> str:
    ...     async with Runtime(reports=False) as runtime:
    ...         await runtime.spawn(Supervisor, [ChildSpec("greeter", Greeter, name="greeter")])
    ...         runtime.whereis("greeter").kill()
    ...         return await call_when_ready(runtime.name("greeter"), Hello())
    >>> asyncio.run(main())
    'hello'
    """
    if not isinstance(to, Name):
        return as_address("to", to).call(request, timeout)
    ref = to.resolve()
    if ref is not None:
        call = ref.call(request, timeout)
        call.again = to.key
        return call
    last = to.runtime.vacancies.last(to.key)
    if last is None:
        return to.call(request, timeout)
    return to.runtime.scheduler.call_next_holder(last, to.key, request, timeout)


class Monitor:
    """One monitor of one actor by another. Each fires once, with a `Down` message, whatever the reason of the end."""

    __slots__ = ("cell", "target", "watcher")

    def __init__(self, watcher: Linked, target: Ref | Name, cell: Linked | ForeignRef | None) -> None:
        self.watcher = watcher
        #: The address that was given.
        self.target = target
        #: The incarnation that is monitored; None once the monitor has fired or was removed.
        self.cell = cell

    def __repr__(self) -> str:
        return f"<Monitor of {self.target}>"


#: Cache: isinstance with an ABC is slower than a set lookup.
_ADDRESSES: set[type] = set()


def as_address(where: str, value: object) -> Address:
    """Check that a value is an `Address`, and return it.

    Args:
        where: what it is for.
        value: a `Ref` or a `Name`.

    Raises:
        BadOption: it is neither, such as the name of an actor as a string.
    """
    if type(value) in _ADDRESSES:
        return value  # type: ignore[return-value]
    if isinstance(value, Address):
        _ADDRESSES.add(type(value))
        return value

    from supervision.errors import BadOption

    raise BadOption(where, value, "give a Ref, or a Name: the `runtime.name(...)` of the string")


def as_ref(where: str, value: object) -> Ref:
    """Return the actor of an address: itself, or who holds the name.

    Raises:
        BadOption: it is no address.
        NoProcess: nobody holds the name.
    """
    address = as_address(where, value)
    return address.runtime.own_cell(where, address)
