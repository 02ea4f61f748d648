"""The scheduler: the queue of runnable actors, how it is drained, and the calls and deaths to be dealt with.

An idle actor costs no task. A runnable one stands in the queue once; the drain takes one, lets it handle a batch of
its messages, and puts it back if there are more. The drain runs as a plain callback of the loop while handlers are
plain functions, and in a task of the pool once it meets a coroutine.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections import Counter, deque
from collections.abc import Callable
from contextvars import Context
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import ref

from supervision._core.cancellation import CancellationLadder, Fencing
from supervision._core.cell import Cell
from supervision._core.phases import EXITING
from supervision._core.timers import TimerQueue
from supervision._core.turns import answer_at_once, run_turns
from supervision._core.worker import Worker
from supervision.call import Call
from supervision.clock import Clock, machine_time
from supervision.reasons import crashed

R = TypeVar("R")

if TYPE_CHECKING:
    from supervision.events import EventStream
    from supervision.runtime import Runtime

#: How many messages one actor handles before the next actor's turn.
BUDGET = 64
#: Gets the ``init`` of an actor, and returns what an ``init`` returns.
InitHook = Callable[[Callable[[], Any]], Any]
#: For how many real seconds the drain goes on before it lets the loop look after everything else.
SLICE = 0.002
#: How many turns it gives at the most before it looks at the time.
TURNS = 16
#: After how many looks at the time it lets the loop go on.
ROUNDS = 64
#: How many direct turns there are in one pass of the loop at the most, and for how many seconds.
DIRECT = 64
DIRECT_SLICE = 0.001
#: For how many drains a coroutine is remembered.
LATELY = 100
#: How many idle workers are kept.
POOL = 64


class RunQueue(Protocol):
    """The order in which runnable actors get their turns: first in, first out, unless a test wants another.

    A queue with a ``budget`` says how many messages an actor handles in one turn; one with a ``pause()``, whether the
    loop gets to run before the next turn.
    """

    def append(self, cell: Cell, /) -> None:
        """Add a runnable actor."""
        ...

    def popleft(self) -> Cell:
        """Take out the next one."""
        ...

    def __len__(self) -> int: ...


class Scheduler(Fencing):
    """The run queue of a runtime, with the calls that wait, the deaths to notify of and the code that is fenced off."""

    __slots__ = (
        "_direct_until",
        "_drain_next",
        "_idle",
        "_in_place",
        "_in_place_until",
        "_next_pass",
        "_soon",
        "_thread",
        "_turns",
        "_whole_budget",
        "_whole_direct",
        "_workers",
        "awake",
        "base",
        "budget",
        "clock",
        "deaths",
        "direct",
        "events",
        "going_on",
        "handed_over",
        "init_hook",
        "pause",
        "prefer_worker",
        "ready",
        "telling",
        "waking",
    )

    def __init__(
        self,
        runtime: Runtime,
        loop: asyncio.AbstractEventLoop,
        clock: Clock,
        base: Context,
        stream: EventStream,
        queue: RunQueue,
        *,
        direct: bool,
        in_place: bool,
    ) -> None:
        self.runtime = runtime
        self.loop = loop
        self.clock = clock
        self.now: Callable[[], float] = clock.time
        self.base = base
        self.events = stream
        self.timers = TimerQueue(clock, base.copy())
        self.ready = queue
        #: How many messages an actor handles in a turn: fewer while handlers are slow.
        self.budget: int = getattr(queue, "budget", BUDGET)
        self._whole_budget = self.budget
        #: How many turns until the next look at the time: few at first, and after handlers that were slow.
        self._turns = 1
        self.pause: Callable[[], bool] | None = getattr(queue, "pause", None)
        self._whole_direct = DIRECT if direct else 0
        #: How many direct turns there may still be in this pass of the loop.
        self.direct = self._whole_direct
        self._direct_until = 0.0
        self._in_place = in_place
        #: Until when there may be turns in place in this pass of the loop; 0 if there were none yet.
        self._in_place_until = 0.0
        #: Called at each start of an actor; what it returns runs in place of the ``init``: for chaos tests.
        self.init_hook: Callable[[Cell], InitHook | None] | None = None
        self.handed_over: deque[Cell] = deque()
        self.awake = False
        #: The worker that resumes a handler at this moment: what that handler sends need wake no other worker.
        self.going_on: Worker | None = None
        #: How many workers were woken and have not begun.
        self.waking = 0
        #: How many of the next drains begin in a worker, as coroutines have been met lately.
        self.prefer_worker = 0
        self._soon = loop.call_soon
        self._thread = get_ident()
        self._drain_next = self._drain_in_callback
        self._next_pass = self._renew
        self._idle: list[Worker] = []
        self._workers: set[Worker] = set()
        #: Calls with the default time-out, in the order of their deadlines.
        self.waiting: dict[Call[Any], None] = {}
        self.watching = False
        self.deaths: deque[Cell] = deque()
        self.telling = False
        #: How many killed actors there are whose code, or whose tasks, may still do something.
        self.fenced = 0
        self._killed: set[ref[Cell]] = set()
        self.ladders: dict[Cell, CancellationLadder] = {}
        self.dead_letters: Counter[str] = Counter()

    # -- the drain -------------------------------------------------------------------------------------------

    def enqueue(self, cell: Cell) -> None:
        """Put a runnable actor into the queue."""
        self.ready.append(cell)
        if not self.awake:
            self.wake()

    def wake(self) -> None:
        """Schedule a drain."""
        self.awake = True
        if get_ident() != self._thread:
            self.loop.call_soon_threadsafe(self._drain_in_callback)
        elif self.going_on is not None:
            self.going_on.draining = True
        elif self.prefer_worker:
            self.prefer_worker -= 1
            self._wake_worker()
        else:
            self._soon(self._drain_next)

    def _wake_worker(self) -> None:
        self.waking += 1
        while self._idle:
            if self._idle.pop().wake():
                return
        self._workers.add(Worker(self))

    def direct_turn(self, cell: Cell, call: Call[Any], now: float) -> bool:
        """Let an idle actor handle a call at once, within the code that makes the call; False if that may not be.

        It may be a number of times, and for a millisecond, in one pass of the loop, so that others have their turns;
        not within another direct turn, and not in the middle of the kernel's own work.
        """
        if self.events.telling or get_ident() != self._thread:
            return False
        left = self.direct
        if left == self._whole_direct:
            self._direct_until = now + DIRECT_SLICE
            self._soon(self._next_pass)
        elif now > self._direct_until:
            return False
        self.direct = 0
        context = cell.context
        if context is None:
            context = cell.context_of()
        try:
            waits = context.run(answer_at_once, cell, call)
        except Exception as error:
            self.turn_failed(cell, error)
        else:
            if waits:
                self.handed_over.append(cell)
                self.prefer_worker = LATELY
        self.direct = left - 1
        if not self.awake and (self.ready or self.handed_over):
            self.wake()
        return True

    def answered_later(self, call: Call[R]) -> Call[R]:
        """Return a call that completes in the next pass of the loop: after the supervisor has seen its target's end."""
        later: Call[R] = Call(loop=self.loop)
        for slot in call.__slots__:
            if hasattr(call, slot):
                setattr(later, slot, getattr(call, slot))

        def tell() -> None:
            error = call.exception()
            if later.done():
                return
            if error is None:
                later.set_result(call.result())
            else:
                later.set_exception(error)

        self._soon(tell)
        return later

    def turns_in_place(self, call: Call[Any], task: asyncio.Task[None]) -> bool:
        """Drain the queue within a worker whose own handler waits for a call; tell whether that is answered.

        In one pass of the loop this may take as long as a drain, so that others have their turns. It is not done with a
        queue of one's own, where every wait is to be seen; nor when the direct turns are used up, as the next pass has
        new ones, which cost less.
        """
        if not self._in_place or (self._whole_direct and not self.direct):
            return False
        now = machine_time()
        if not self._in_place_until:
            self._in_place_until = now + SLICE
            self._soon(self._next_pass)
        elif now > self._in_place_until:
            return False
        if self.ready:
            self._drain_apart(task)
        return call.done()

    def _drain_apart(self, task: asyncio.Task[None]) -> None:
        """Drain outside of the current task: what handlers do to that must not hit the worker."""
        _leave_task(self.loop, task)
        try:
            waiting = self.drain(None)
        finally:
            _enter_task(self.loop, task)
        if waiting is not None:
            self.hand_over(waiting)

    def _renew(self) -> None:
        self.direct = self._whole_direct
        self._in_place_until = 0.0

    def _drain_in_callback(self) -> None:
        ready = self.ready
        if len(ready) == 1 and not self.handed_over and self.pause is None:
            # Fast path: one runnable actor with one message, such as a call from outside.
            lone = ready.popleft()
            context = lone.context
            if context is None or lone.phase >= EXITING:
                ready.append(lone)
            else:
                try:
                    if context.run(run_turns, lone, False):
                        self.handed_over.append(lone)
                        self.prefer_worker = LATELY
                except Exception as error:
                    self.turn_failed(lone, error)
            if not ready and not self.handed_over:
                self.awake = False
                return
        if not self.handed_over:
            cell = self.drain(None)
            if cell is not None:
                self.handed_over.append(cell)
                self.prefer_worker = LATELY
        if self.handed_over:
            self._wake_worker()
        elif self.ready:
            self.loop.call_soon(self._drain_in_callback)
        else:
            self.awake = False

    def drain(self, task: asyncio.Task[None] | None) -> Cell | None:
        """Give turns until the queue is empty or the time slice is over; return an actor whose handler waits.

        A turn that leaves the task cancelled is the last one in it: the cancellation would hit the next actor.
        """
        ready = self.ready
        in_task = task is not None
        pause = self.pause
        cancelling = None if task is None else task.cancelling
        end = before = machine_time()
        end += SLICE
        for _ in range(ROUNDS):
            for _ in range(self._turns):
                if not ready:
                    return None
                cell = ready.popleft()
                context = cell.context
                if context is None:
                    if cell.phase >= EXITING:
                        continue
                    context = cell.context_of()
                try:
                    waits = context.run(run_turns, cell, in_task)
                except Exception as error:
                    self.turn_failed(cell, error)
                else:
                    if waits is not False:
                        if waits:
                            return cell
                        if (cancelling is not None and cancelling()) or (pause is not None and pause()):
                            return None
                        break  # a turn with as many messages as there may be: look at the time
                if (cancelling is not None and cancelling()) or (pause is not None and pause()):
                    return None
            if pause is not None:
                continue  # a seeded schedule must not depend on how long things take
            now = machine_time()
            self._pace(now - before)
            if now > end:
                return None
            before = now
        return None

    def _pace(self, took: float) -> None:
        """Adapt the number of turns between two looks at the time: fewer, and shorter ones, while handlers are slow."""
        if took > SLICE / 2:
            self._turns = max(1, self._turns // 4)
            if self._turns == 1:
                self.budget = max(1, self.budget // 4)
        elif took < SLICE / 8:
            if self.budget < self._whole_budget:
                self.budget = min(self._whole_budget, self.budget * 2)
            else:
                self._turns = min(TURNS, self._turns * 2)

    def turn_failed(self, cell: Cell, error: Exception) -> None:
        """End an actor after an error of the kernel itself: it would never get another turn."""
        self.loop.call_exception_handler({"message": f"the kernel failed in a turn of {cell}", "exception": error})
        cell.running = False
        cell.body = None
        cell.end_by_force(crashed(error))

    def hand_over(self, cell: Cell) -> None:
        """Have the coroutine of an actor run in a worker."""
        self.handed_over.append(cell)
        self.prefer_worker = LATELY
        if not self.awake:
            self.wake()

    def next_handed_over(self) -> Cell | None:
        """Return an actor whose coroutine waits for a worker."""
        while self.handed_over:
            cell = self.handed_over.popleft()
            if cell.body is not None:
                return cell
        return None

    def worker_waits(self, worker: Worker) -> None:
        """Let another worker drain the queue, as a handler waits in this one."""
        if worker.draining:
            worker.draining = False
            self.awake = False
            if self.ready or self.handed_over:
                self.wake()
                # The next ones are likely to wait as well: let them begin in one pass of the loop.
                for _ in range(min(len(self.ready) + len(self.handed_over) - self.waking, POOL)):
                    self._wake_worker()

    def park(self, worker: Worker) -> bool:
        """Keep an idle worker for later, unless there are enough."""
        if len(self._idle) >= POOL:
            return False
        self._idle.append(worker)
        return True

    def runs_handlers(self, task: asyncio.Task[Any] | None) -> bool:
        """Whether a task is one of the pool's."""
        return any(worker.task is task for worker in self._workers)

    def retire(self, worker: Worker) -> None:
        """A worker ends."""
        self._workers.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if worker.draining:
            self.awake = False
        if (self.ready or self.handed_over) and not self.awake and not self.loop.is_closed():
            self.wake()

    async def close(self) -> None:
        """End the idle workers, and cancel those whose code has not ended."""
        self.handed_over.clear()
        while self.ready:
            self.ready.popleft()
        for worker in list(self._workers):
            worker.task.cancel()
        tasks = [worker.task for worker in self._workers]
        if tasks:
            await asyncio.wait(tasks, timeout=self.runtime.kill_grace)
        self.timers.close()
        self.watching = False

    # -- deaths ----------------------------------------------------------------------------------------------

    def notify_deaths(self) -> None:
        """Notify of all deaths, and of those that follow from them, without recursion."""
        self.telling = True
        try:
            while self.deaths:
                self.deaths.popleft().notify_end()
        finally:
            self.telling = False
