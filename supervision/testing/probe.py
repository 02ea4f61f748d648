"""Probes: actors that do what a test tells them, and a log of what happens to them.

A scenario has three parts: probes in the places of actors that do not matter, something that happens, and a log that
says what came of it.

>>> from supervision import ChildSpec, Runtime, Supervisor
>>> from supervision.testing import Probe, ProbeLog, run, settled
>>> async def main() -> None:
...     log = ProbeLog()
...     async with Runtime(watchdog=None, reports=False) as runtime:
...         children = [Probe.child(log, "a"), Probe.child(log, "b"), Probe.child(log, "c")]
...         await runtime.spawn(Supervisor, children, strategy="rest_for_one")
...         runtime.find("/Supervisor-1/b").kill()
...         await settled(runtime)
...     print(*log)
>>> run(main())
+a +b +c -c(shutdown) +b +c -c(shutdown) -b(shutdown) -a(shutdown)
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar, overload

from supervision._core.dispatch import handle
from supervision.actor import Actor
from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.messages import Down, Exit, IdleTimeout, Message, Request
from supervision.reasons import ExitReason
from supervision.ref import Address, as_address
from supervision.supervisors.childspec import ChildSpec

T = TypeVar("T")

#: What a probe can be told to do: nothing, to spend so many seconds, to raise an error, or to call a function, plain or
#: ``async``, with itself.
Deed = Callable[[Any], Any] | BaseException | float | None

WHAT = "give a function, a number of seconds, or an error to raise: `OSError()`, not its class"


class Note(Message, frozen=True):
    """Something for a probe to write down: ``text`` itself stands in the log."""

    text: Any


class Do(Message, frozen=True):
    """Something for a probe to do: a function to be called with it, seconds to spend, or an error to crash with.

    The function may be ``async``. What it returns is forgotten.
    """

    what: Any


class DoAndReply(Request[Any], frozen=True):
    """The same, and the caller gets what the function returns."""

    what: Any


async def do(probe: Address, what: Any) -> Any:
    """Have a probe do something, in its own context, and return the result. See `Do`.

    Raises:
        ActorExited: that ended the probe.
    """
    return await as_address("probe", probe).call(DoAndReply(what), timeout=None)


async def hang(probe: Actor) -> None:
    """Never return: as a start, a stop, or in the middle of a message. What ``probe`` is told to do."""
    del probe
    await asyncio.get_running_loop().create_future()


async def error_of(awaitable: Awaitable[object]) -> BaseException:
    """Return the exception that an awaitable raises.

    Raises:
        AssertionError: it raised nothing.
        CancelledError: not the awaitable, but the task that waits for it was cancelled.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()
    try:
        result = await awaitable
    except BaseException as error:
        if task is not None and task.cancelling() > before:
            raise
        return error
    raise AssertionError(f"nothing was raised; the result is {result!r}")


class ProbeLog(list[Any]):
    """What probes have written, in order: a list, whose entries a test can also wait for and take one by one.

    Many probes can write into one log, and it outlives all of them. What `next`, `until` and `rest` have taken stays in
    the list. Time is the loop's: on a loop with virtual time, waiting for what does not come takes none.

    >>> from supervision import Down, Message, Runtime
    >>> from supervision.testing import Do, Probe, run
    >>> class Price(Message):
    ...     euros: int
    >>> async def main() -> None:
    ...     log = ProbeLog()
    ...     async with Runtime(watchdog=None) as runtime:
    ...         buyer, shop = await runtime.spawn(Probe, log), await runtime.spawn(Probe)
    ...         shop.cast(Do(lambda me: me.send_after(60.0, Price(3), buyer)))
    ...         await log.nothing(seconds=59.0)
    ...         print(await log.next(Price))
    ...         buyer.cast(Do(lambda me: me.monitor(shop)))
    ...         await shop.stop()
    ...         print(await log.until(lambda entry: entry[0] == "down"))
    >>> run(main())
    Price(euros=3)
    ('down', <Probe /Probe-2#2>, Normal())
    """

    def __init__(self, entries: Iterable[Any] = ()) -> None:
        super().__init__(entries)
        self._taken = 0
        self._waiting: list[asyncio.Future[None]] = []

    def append(self, entry: Any, /) -> None:
        """Write something down; from any thread."""
        super().append(entry)
        for waiting in tuple(self._waiting):
            waiting.get_loop().call_soon_threadsafe(_wake, waiting)

    def clear(self) -> None:
        """Begin anew."""
        super().clear()
        self._taken = 0

    @overload
    async def next(self, wanted: type[T], timeout: float = ...) -> T: ...
    @overload
    async def next(self, wanted: Any = ..., timeout: float = ...) -> Any: ...
    async def next(self, wanted: Any = object, timeout: float = 5.0) -> Any:
        """Take the next entry, and wait for it if there is none.

        Args:
            wanted: what it has to be: an instance of a class; something that a function returns True for; or equal to
                anything else.
            timeout: seconds to wait.

        Raises:
            AssertionError: it is something else, which stays to be taken; or nothing came.
            BadOption: what is wanted is an ``async`` function.
            BadTime: the time-out is no length of time.
        """
        until = _deadline(timeout)
        if not await self._any(until):
            raise AssertionError(f"nothing came within {timeout:g} s; wanted: {_named(wanted)}")
        entry = self[self._taken]
        if not _is(entry, wanted):
            raise AssertionError(f"{entry!r} came next; wanted: {_named(wanted)}")
        self._taken += 1
        return entry

    @overload
    async def until(self, wanted: type[T], timeout: float = ...) -> T: ...
    @overload
    async def until(self, wanted: Any, timeout: float = ...) -> Any: ...
    async def until(self, wanted: Any, timeout: float = 5.0) -> Any:
        """Take entries until one is what is wanted, and return that. See `next`.

        Raises:
            AssertionError: none was; all are taken.
        """
        until = _deadline(timeout)
        passed = []
        while await self._any(until):
            entry = self[self._taken]
            self._taken += 1
            if _is(entry, wanted):
                return entry
            passed.append(entry)
        raise AssertionError(f"did not come within {timeout:g} s: {_named(wanted)}; what came: {passed!r}")

    async def nothing(self, seconds: float = 1.0) -> None:
        """Let some time go by, in which nothing may come that has not been taken.

        Raises:
            AssertionError: something came.
        """
        if await self._any(_deadline(seconds)):
            raise AssertionError(f"{self[self._taken]!r} came, and nothing was to come")

    def rest(self) -> list[Any]:
        """Take all that has come and was not taken, without waiting."""
        rest = self[self._taken :]
        self._taken = len(self)
        return rest

    async def _any(self, until: float) -> bool:
        """Wait for an entry that was not taken; return whether there is one."""
        loop = asyncio.get_running_loop()
        while self._taken >= len(self) and loop.time() < until:
            waiting: asyncio.Future[None] = loop.create_future()
            timer = loop.call_at(until, _wake, waiting)
            self._waiting.append(waiting)
            try:
                await waiting
            finally:
                timer.cancel()
                self._waiting.remove(waiting)
        return self._taken < len(self)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def _deadline(timeout: float) -> float:
    return asyncio.get_running_loop().time() + seconds("timeout", timeout)


def _is(entry: Any, wanted: Any) -> bool:
    if isinstance(wanted, type):
        return isinstance(entry, wanted)
    if not callable(wanted):
        return bool(wanted == entry)
    answer = wanted(entry)
    if inspect.isawaitable(answer):  # which is always true, whatever would come of it
        if inspect.iscoroutine(answer):
            answer.close()
        raise BadOption("wanted", wanted, "give a class, a plain function that answers at once, or what is to come")
    return bool(answer)


def _named(wanted: Any) -> str:
    if wanted is object:
        return "anything"
    return str(getattr(wanted, "__qualname__", repr(wanted)))


class Probe(Actor):
    """An actor that does what it is told (`Do`, `DoAndReply`), and writes down what happens to it.

    ============================== ======================================================
    what happens                   the entry
    ============================== ======================================================
    a message, a request           itself; of a `Note` its text; nothing of a `Do` or an `DoAndReply`
    an exit signal, if it traps    ``("exit", sender, reason)``
    the end of whom it monitors    ``("down", target, reason)``
    its idle time-out              ``"idle"``
    it has started                 ``"+id"``, if it has an id
    it has not started             ``"!id"``, the same
    it has stopped in order        ``"-id(reason)"``, the same
    ============================== ======================================================

    Args:
        log: where it writes, a `ProbeLog` or any list; one of its own, if None, that is found as its ``log``.
        trap_exit: whether it traps exits.
        id: under which it writes down its starts and stops; None for not at all.
        starts: what its ``init`` does the first time, the second time, and so on; the last one stays. None is a good
            start, a number one that takes so many seconds, an error is raised, a function called with the probe (`hang`
            never returns), and anything else, such as ``IGNORE``, is what ``init`` returns.
        stops: what its ``terminate`` does, in the same way: seconds, `hang`, an error.
        answers: how it answers requests, by their types: with a value, or with what a function makes of the request; an
            awaitable is awaited. What is not here is written down, and refused with `UnhandledMessage`.

    Raises:
        BadOption: an argument is wrong. `Probe.child` says so before anything starts.
    """

    def __init__(
        self,
        log: list[Any] | None = None,
        trap_exit: bool = False,
        *,
        id: Any = None,
        starts: list[Any] | None = None,
        stops: Deed = None,
        answers: Mapping[type[Request[Any]], Any] | None = None,
    ) -> None:
        _check(log, starts, stops, answers)
        self.log: list[Any] = ProbeLog() if log is None else log
        self.trap_exit = trap_exit
        self.id = id
        #: For a test to keep something in.
        self.state: Any = None
        self._stops = stops
        self._answers = answers or {}
        self._start: Any = None if not starts else starts.pop(0) if len(starts) > 1 else starts[0]

    @classmethod
    def child(
        cls, log: list[Any], id: Any, *starts: Any, stops: Deed = None, trap_exit: bool = True, **options: Any
    ) -> ChildSpec:
        """Return the specification of a probe that writes down its life, for a supervisor.

        Args:
            log: where it writes.
            id: its id, in the supervisor and in the log.
            starts: what its starts do, one after the other, see `Probe`.
            stops: what its stop does, see `Probe`.
            trap_exit: without it, no stop that its supervisor orders is seen.
            options: the other fields of a `ChildSpec`, such as ``restart``.

        Raises:
            BadOption: an argument is wrong.
        """
        _check(log, None, stops, None)
        kwargs = {"id": id, "starts": list(starts), "stops": stops}
        return ChildSpec(id, cls, (log, trap_exit), kwargs, **options)

    def init(self) -> Any:
        """Start as the test says."""
        start = self._start
        try:
            result = _done(self, start) if _is_deed(start) else start
        except BaseException:
            self._write("!")
            raise
        if inspect.isawaitable(result):
            return self._begin_later(result)
        self._write("+" if result is None else "!")
        return result

    async def _begin_later(self, starting: Awaitable[Any]) -> Any:
        try:
            result = await starting
        except BaseException:
            self._write("!")
            raise
        self._write("+" if result is None else "!")
        return result

    def terminate(self, reason: ExitReason) -> Any:
        """Stop as the test says."""
        result = _done(self, self._stops)
        if inspect.isawaitable(result):
            return self._end_later(result, reason)
        self._write("-", f"({reason})")
        return None

    async def _end_later(self, stopping: Awaitable[Any], reason: ExitReason) -> None:
        await stopping
        self._write("-", f"({reason})")

    def _write(self, sign: str, rest: str = "") -> None:
        if self.id is not None:
            self.log.append(f"{sign}{self.id}{rest}")

    @handle
    def note(self, message: Note) -> None:
        """Write it down."""
        self.log.append(message.text)

    @handle
    def do(self, message: Do) -> Any:
        """Do it."""
        result = _done(self, message.what)
        return result if inspect.iscoroutine(result) else None

    @handle
    def ask(self, request: DoAndReply) -> Any:
        """Do it and answer."""
        return _done(self, request.what)

    @handle
    def exited(self, message: Exit) -> None:
        """Write down who ended and why."""
        self.log.append(("exit", message.sender, message.reason))

    @handle
    def down(self, message: Down) -> None:
        """Write down who ended and why."""
        self.log.append(("down", message.target, message.reason))

    @handle
    def idle(self, message: IdleTimeout) -> None:
        """Write it down."""
        self.log.append("idle")

    def unhandled(self, message: Any) -> Any:
        """Write it down, and answer it if it is to be answered."""
        self.log.append(message)
        if type(message) in self._answers:
            answer = self._answers[type(message)]
            return answer(message) if callable(answer) else answer
        return super().unhandled(message) if self._cell.call_in_hand is not None else None


def _check(log: Any, starts: Any, stops: Any, answers: Any) -> None:
    """Refuse what a probe would only stumble over later, in the middle of a test."""
    if log is not None and not isinstance(log, list):
        raise BadOption("log", log, "give a ProbeLog, or any list")
    if starts is not None and not isinstance(starts, list):
        raise BadOption("starts", starts, "give a list of what its starts do, one after the other")
    if not _is_deed(stops):
        raise BadOption("stops", stops, WHAT)
    if answers is None:
        return
    if not isinstance(answers, Mapping):
        raise BadOption("answers", answers, "give a dict: types of requests, and how each is answered")
    for kind in answers:
        if not (isinstance(kind, type) and issubclass(kind, Request)):
            raise BadOption("answers", kind, "its keys are types of requests")


def _is_deed(what: Any) -> bool:
    """Whether a probe can be told to do this."""
    if isinstance(what, type) and issubclass(what, BaseException):
        return False  # it would be called, and nothing raised
    time = isinstance(what, (int, float)) and not isinstance(what, bool)
    return what is None or time or callable(what) or isinstance(what, BaseException)


def _done(probe: Probe, what: Any) -> Any:
    """Do what a test says; return what comes of it, which may have to be awaited."""
    if not _is_deed(what):
        raise BadOption("what a probe is to do", what, WHAT)
    if isinstance(what, BaseException):
        raise what
    if callable(what):
        return what(probe)
    return None if what is None else probe.runtime.sleep(what)
