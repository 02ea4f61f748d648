"""Streams: one task for each item of an iterable, so many at the same time, and the outcomes as they come."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Literal, TypeVar, overload

from supervision._core.cell import Cell
from supervision._core.phases import current
from supervision._core.timers import Timer
from supervision.actor import StopLimit
from supervision.clock import seconds
from supervision.errors import BadOption, NoProcess, TaskTimeout
from supervision.options import check_choice, is_whole
from supervision.reasons import KILLED, Abnormal
from supervision.ref import Address, as_address
from supervision.supervisors.administration import StartChild
from supervision.tasks.task import Done, Exited, Task, task_spec

R = TypeVar("R")
T = TypeVar("T")

OnTimeout = Literal["exit", "kill_task"]

#: The exit reason of an item that took too long.
TIMEOUT = Abnormal("timeout")


class Stream(Generic[R]):
    """The outcomes of a stream: iterate over it, once.

    Leave it early only out of an ``async with``, so that its tasks are ended right then.
    """

    def __init__(self, outcomes: AsyncGenerator[Done[R] | Exited, None]) -> None:
        self._outcomes = outcomes

    def __aiter__(self) -> AsyncIterator[Done[R] | Exited]:
        return self._outcomes

    async def __aenter__(self) -> Stream[R]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the tasks that still run, and wait until they have ended."""
        await self._outcomes.aclose()


class ItemTask(Task[Any]):
    """A task that belongs to a stream. It ends with the actor that consumes the stream, if it is linked to one.

    That link is known on the consumer's side alone: what the end of the task means for it, the stream decides.
    """

    __slots__ = ("_consumer",)

    def __init__(self, consumer: Cell | None) -> None:
        super().__init__(None, linked=False)
        self._consumer = consumer

    def begin(self, ref: Cell) -> None:
        """Start with the actor, unless the consumer has ended meanwhile."""
        if self._consumer is not None:
            if not self._consumer.alive:
                raise NoProcess(self._consumer, "a stream")
            self._consumer.tie(ref)
        super().begin(ref)


class Item:
    """One task of a stream."""

    __slots__ = ("input", "task", "timed_out", "timer")

    def __init__(self, given: Any, consumer: Cell | None) -> None:
        self.input = given
        self.task = ItemTask(consumer)
        self.timed_out = False
        self.timer: Timer | None = None

    def outcome(self) -> Done[Any] | Exited:
        """Return how it ended."""
        outcome = self.task.outcome.result()
        if isinstance(outcome, Done):
            return outcome
        return Exited(TIMEOUT if self.timed_out else outcome.reason, self.input)

    def expire(self) -> None:
        """End a task that has taken too long."""
        self.timed_out = not self.task.outcome.done()
        self.task.ref.end_by_force(KILLED)


class Items:
    """The tasks of a stream: those that run, and those whose outcomes have not been fetched."""

    def __init__(
        self,
        supervisor: Address,
        function: Callable[..., Any],
        inputs: Iterable[Any],
        max_concurrency: int,
        timeout: float,
        shutdown: StopLimit,
        linked: bool,
    ) -> None:
        self._supervisor = supervisor
        self._function = function
        self._iterator: Iterator[Any] = iter(inputs)
        self._places = max_concurrency
        self.timeout = timeout
        self._shutdown: StopLimit = shutdown
        self._owner = current.get()
        #: The owner, if the items are to end with it, and it with them.
        self._linked = self._owner if linked else None
        self._running: dict[Item, None] = {}
        self._changed = asyncio.Event()
        self._exhausted = False
        self._closing = False
        #: In the order of their start.
        self.started: deque[Item] = deque()
        #: In the order of their end.
        self.ended: deque[Item] = deque()

    async def fill(self) -> None:
        """Start tasks for as many items as there are places."""
        while not self._exhausted and len(self._running) < self._places:
            try:
                given = next(self._iterator)
            except StopIteration:
                self._exhausted = True
                return
            await self._start(Item(given, self._linked))

    async def _start(self, item: Item) -> None:
        spec = task_spec(item.task, self._function, (item.input,), {}, shutdown=self._shutdown)
        await as_address("supervisor", self._supervisor).call(StartChild(spec), timeout=None)
        self._running[item] = None
        self.started.append(item)
        cell = item.task.ref
        if self.timeout != math.inf:
            item.timer = cell.sched.timers.after(self.timeout, item.expire)
        item.task.outcome.add_done_callback(lambda _: self._has_ended(item))

    def _has_ended(self, item: Item) -> None:
        del self._running[item]
        self.ended.append(item)
        self._changed.set()
        if item.timer is not None:
            item.timer.cancel()
        if self._linked is not None:
            self._linked.untie(item.task.ref)
            self._spread(self._linked, item)

    def _spread(self, owner: Cell, item: Item) -> None:
        """Let an owner that does not trap exits end as the item did, unless it was this stream that ended the item."""
        outcome = item.outcome()
        if isinstance(outcome, Exited) and not (owner.trap_exit or item.timed_out or self._closing):
            owner.signal(item.task.ref, outcome.reason, linked=True)

    async def change(self) -> bool:
        """Wait until a task ends; False if none is left."""
        if not self._running:
            return False
        self._changed.clear()
        await self._changed.wait()
        return True

    async def close(self) -> None:
        """End the tasks that still run. If the owner has ended, linked ones end with it, and others run on."""
        self._closing = True
        if self._owner is None or self._owner.alive:
            running = list(self._running)
            for item in running:
                item.task.ref.end_by_force(KILLED)
            for item in running:
                await asyncio.shield(item.task.outcome)
        if inspect.isgenerator(self._iterator):
            self._iterator.close()


async def _outcomes(items: Items, ordered: bool, on_timeout: OnTimeout) -> AsyncGenerator[Done[Any] | Exited, None]:
    queue = items.started if ordered else items.ended
    try:
        while True:
            await items.fill()
            while queue and queue[0].task.outcome.done():
                item = queue.popleft()
                if item.timed_out and on_timeout == "exit":
                    raise TaskTimeout(f"the task for {item.input!r}", items.timeout)
                yield item.outcome()
                await items.fill()
            if not await items.change():
                return
    finally:
        await items.close()


@overload
def stream(
    supervisor: Address,
    function: Callable[[T], Awaitable[R]],
    inputs: Iterable[T],
    *,
    max_concurrency: int = ...,
    ordered: bool = ...,
    timeout: float | None = ...,
    on_timeout: OnTimeout = ...,
    linked: bool = ...,
    shutdown: StopLimit = ...,
) -> Stream[R]: ...
@overload
def stream(
    supervisor: Address,
    function: Callable[[T], R],
    inputs: Iterable[T],
    *,
    max_concurrency: int = ...,
    ordered: bool = ...,
    timeout: float | None = ...,
    on_timeout: OnTimeout = ...,
    linked: bool = ...,
    shutdown: StopLimit = ...,
) -> Stream[R]: ...
def stream(
    supervisor: Address,
    function: Callable[[Any], Any],
    inputs: Iterable[Any],
    *,
    max_concurrency: int = 8,
    ordered: bool = True,
    timeout: float | None = 5.0,
    on_timeout: OnTimeout = "exit",
    linked: bool = True,
    shutdown: StopLimit = 5.0,
) -> Stream[Any]:
    """Run a function on each item of an iterable, in a task each (Elixir's ``Task.async_stream``).

    Items are taken as places become free, and only while somebody iterates over the outcomes.

    Args:
        supervisor: a `TaskSupervisor`.
        function: plain or ``async``, of one argument.
        inputs: the items. A generator is closed at the end.
        max_concurrency: how many tasks run at the same time.
        ordered: whether the outcomes come in the order of the items; otherwise as they are there. A slow item at the
            front holds up the outcomes behind it, but not the start of further tasks.
        timeout: seconds for each item; None for any time. A task that takes longer is killed.
        on_timeout: what comes of it: ``exit`` raises TaskTimeout here, ``kill_task`` gives `Exited` with ``timeout``.
        linked: whether a task that crashes ends the actor in which this code runs, unless it traps exits, and the tasks
            end with the actor.
        shutdown: seconds that a task has to end when its supervisor stops.

    Returns:
        What to iterate over: a `Done` or `Exited` for each item.

    Raises:
        BadOption, BadTime: an argument is wrong; nothing was started.
        MaxChildren, NoProcess: raised by the iteration: a task could not be started.
        TaskTimeout: raised by the iteration: see ``on_timeout``.
    """
    if not is_whole(max_concurrency, 1):
        raise BadOption("max_concurrency", max_concurrency, "give a whole number, 1 or more")
    if not isinstance(inputs, Iterable):
        raise BadOption("inputs", inputs, "give something to iterate over")
    check_choice("on_timeout", on_timeout, OnTimeout)
    task_spec(None, function, (), {}, shutdown=shutdown)
    limit = math.inf if timeout is None else seconds("timeout", timeout)
    items = Items(supervisor, function, inputs, max_concurrency, limit, shutdown, linked)
    return Stream(_outcomes(items, ordered, on_timeout))
