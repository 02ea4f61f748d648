"""An event loop whose time jumps to the next timer when nothing else can happen.

Time stands still while code runs, and jumps when the loop would wait. It does not jump while a thread, a process or a
connection works, whoever started it: then it passes as real time does.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from threading import get_ident
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary, WeakSet

from supervision._core.phases import current
from supervision.errors import SupervisionError
from supervision.logs import get_logger
from supervision.testing.virtual_time._files import awaited, sent
from supervision.testing.virtual_time._threads import (
    ThreadSet,
    at_work,
    at_work_already,
    look_anew,
    may_wake,
    name_of,
    waits_for_others,
)
from supervision.testing.virtual_time._waiting import of_task, who_waits

if TYPE_CHECKING:
    from supervision.runtime import Runtime

T = TypeVar("T")

#: Real seconds after which a loop that waits for real input logs for what.
PATIENCE = 5.0
#: Real seconds between two looks at whether a thread is still at work.
LOOK = 0.005
#: Where virtual time begins, in seconds since the epoch.
BEGAN = 1_767_225_600.0

#: Virtual seconds, and turns of the loop, in which tasks have to end that are cancelled at the end of `run`.
ENDING = 60.0
ENDING_TURNS = 10_000
#: Seconds within which two times are the same; and by which timers may fire early, while virtual time is small.
MOMENT = 1e-6
RESOLUTION = 1e-9
#: Real seconds of silence after which open connections count as dead.
SILENCE = 30.0

_log: Any = get_logger("supervision.testing")


class Standstill(SupervisionError, RuntimeError):
    """Nothing can happen any more, and something still waits: a deadlock, or an answer that will never come.

    Attributes:
        waits: who waits, and where, a line each: the actors first.
    """

    def __init__(self, waits: list[str]) -> None:
        self.waits = tuple(waits)
        super().__init__(
            "nothing can happen any more: nothing is ready, no timer is set, nobody outside of the loop works for it; "
            "still waiting: " + ("; ".join(waits) or "nobody that is known")
        )


class LoopRunning(SupervisionError, RuntimeError):
    """A function that makes event loops of its own was called where a loop runs already."""

    def __init__(self, function: str) -> None:
        super().__init__(
            f"{function} makes event loops of its own, and one runs here already: call it from a plain function, such "
            f"as a test that is no `async def`, or from this one with `await asyncio.to_thread({function}, ...)`"
        )


def no_loop_here(function: str) -> None:
    """Check that no loop runs in this thread.

    Args:
        function: what was called, for the error.

    Raises:
        LoopRunning: one does.
    """
    if asyncio._get_running_loop() is not None:
        raise LoopRunning(function)


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that does not wait for a time-out but lets its loop jump over it."""

    loop: VirtualClockLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        loop = self.loop
        look_anew()
        # Before the select: a thread that wakes the loop and is then done is seen below.
        jumps = timeout is not None and timeout > 0 and not loop.awaits_outside()
        ready = super().select(0)
        if ready or timeout == 0:
            loop.hear(ready)
            return ready
        if not jumps:
            return self._wait(timeout)
        assert timeout is not None
        loop.jump_on(timeout)
        return []

    def _wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for real input, and let virtual time pass as real time does."""
        loop = self.loop
        began = monotonic()
        warned = False
        while True:
            passed = monotonic() - began
            jumps = timeout is not None and not loop.awaits_outside()
            # Before the select, as above.
            stuck = timeout is None and loop.is_stuck(passed)
            left = LOOK if timeout is None else min(LOOK, timeout - passed)
            ready = super().select(0 if jumps or stuck else max(0.0, left))
            if stuck and not ready:
                raise Standstill(loop.who_waits())
            passed = monotonic() - began
            if ready or jumps or (timeout is not None and passed >= timeout):
                loop.jump(passed if ready or timeout is None else timeout)
                loop.hear(ready)
                return ready
            if passed >= PATIENCE and not warned:
                warned = True
                _log.warning("virtual_time_stands_still", held_up_by=loop.held_up_by())


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An asyncio loop with virtual time, which begins at 0.

    Give it as a factory to whatever makes loops: ``asyncio.Runner(loop_factory=VirtualClockLoop)``; the hook
    ``pytest_asyncio_loop_factories`` of pytest-asyncio; with anyio's pytest plugin, the fixture ``anyio_backend``
    returns ``("asyncio", {"loop_factory": VirtualClockLoop})``.

    Time does not jump while a thread, a process or a connection works for the loop, whoever started it. Threads that
    were at work already when the loop was made do not count, nor do connections on which nobody reads.
    """

    def __init__(self) -> None:
        selector = _JumpingSelector()
        selector.loop = self
        self._virtual = 0.0
        self._set_by = 0.0
        #: What is awaited outside of the loop, and for whom.
        self._held: dict[object, str] = {}
        #: The threads in which what is awaited is done, as far as known.
        self._done_in: dict[object, int] = {}
        #: By the number of a file: for whom it is watched.
        self._owners: dict[int, str] = {}
        #: How much had been sent on connections when something was last heard there, by the numbers of the files.
        self._heard: dict[int, int] = {}
        self._background = ThreadSet(at_work_already())
        # A loop of the main thread is not known to other threads; one of another thread is often there for them.
        here = threading.current_thread() is threading.main_thread()
        #: Threads that hold no reference to this loop and cannot wake it.
        self.unrelated_threads = ThreadSet.now() if here else ThreadSet()
        #: The runtimes that live on it.
        self.runtimes: WeakSet[Runtime] = WeakSet()
        #: The tasks that actors have made, and whose they are.
        self._made_by: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()
        #: Called after each turn.
        self.after_turn: Callable[[], object] | None = None
        #: Wraps the functions that are run in threads.
        self.hop: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
        super().__init__(selector)
        self._own_files = frozenset(selector.get_map())

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]
        if self.after_turn is not None:
            self.after_turn()

    def time(self) -> float:
        """Return virtual seconds."""
        return self._virtual

    def wall_time(self) -> float:
        """Return virtual seconds since the epoch: the first of January 2026, UTC, and the virtual time since."""
        return BEGAN + self._virtual + self._set_by

    def set_wall_time(self, seconds: float) -> None:
        """Step the wall clock, as an operator or a time server does. No timer moves: `time` goes on as before.

        Args:
            seconds: what `wall_time` is now.
        """
        self._set_by += seconds - self.wall_time()

    def has_ready(self) -> bool:
        """Whether other code is ready to run now."""
        return bool(self._ready)  # type: ignore[attr-defined]

    def until_next_timer(self) -> float:
        """Return the virtual seconds until the next timer: 0 if something can run now, a moment if none is set."""
        if self.has_ready():
            return 0.0
        due = min(self._timers(), default=self._virtual + 0.001)
        left = max(0.0, due - self._virtual)
        # After months the sum of two times may be rounded down, and a sleep would end before the timer.
        return left if self._virtual + left >= due else left + math.ulp(due)

    def _timers(self) -> list[float]:
        return [handle.when() for handle in self._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]

    def jump_on(self, seconds: float) -> None:
        """Let time jump to the next timer.

        To it exactly: after months, the sum of two times may be too short by more than the resolution of the loop.
        """
        there = self._virtual + seconds
        due: float = self._scheduled[0].when()  # type: ignore[attr-defined]
        self._move(max(self._virtual, due if due - there < MOMENT else there))

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._move(self._virtual + max(0.0, seconds))

    def _move(self, there: float) -> None:
        self._virtual = there
        # asyncio runs timers that are due within this; the distance of floats grows with them, and must not exceed it.
        self._clock_resolution = max(RESOLUTION, 2 * math.ulp(there))

    def awaits_outside(self) -> bool:
        """Whether real input or output, a process, or a thread is awaited, so that time must not jump."""
        return bool(self._holding() or at_work(self._background) or self._awaited_files())

    def stands_still(self) -> bool:
        """Whether nothing can happen any more: nothing ready, no timer, nothing outside that could wake the loop."""
        # Before the rest: a thread that wakes the loop and is then done is seen by what follows.
        stuck = self.is_stuck(0.0)
        return stuck and not self.has_ready() and not self._timers()

    def is_stuck(self, silent: float) -> bool:
        """Whether nothing outside of the loop can wake it.

        Args:
            silent: for how many real seconds nothing has come. With open connections, such as that of a server that
                listens, only a long silence means that nothing will.
        """
        if self.awaits_outside() or may_wake(self.unrelated_threads):
            return False
        foreign = len(self._selector.get_map()) > len(self._own_files)  # type: ignore[attr-defined]
        return not foreign or silent >= SILENCE

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Make a task, and remember which actor it belongs to."""
        cell = current.get()
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        if cell is not None:
            self._made_by[task] = cell.path
        return task

    def tasks_of_actors(self) -> list[str]:
        """Return the tasks that actors have made and that have not ended, a line each."""
        return [f"a {of_task(task)}, made by {path}" for task, path in self._made_by.items() if not task.done()]

    def who_waits(self) -> list[str]:
        """Return who waits, and where, a line each: the actors first."""
        return who_waits(self, self.runtimes)

    def _holding(self) -> list[str]:
        """Return what stops time, but for jobs in threads that themselves wait for others."""
        threads = dict(self._done_in)
        return [what for key, what in self._held.items() if key not in threads or not waits_for_others(threads[key])]

    def _awaited_files(self) -> list[int]:
        files = self._selector.get_map()  # type: ignore[attr-defined]
        if len(files) == len(self._own_files):
            return []
        return awaited((key for fd, key in files.items() if fd not in self._own_files), self._heard)

    def hear(self, ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        """Note that input has come on files: earlier requests there are answered."""
        for key, _ in ready:
            if key.fd not in self._own_files:
                number = sent(key.fd)
                if number is not None:
                    self._heard[key.fd] = number

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run a function in a thread or a process; time does not jump until it is done."""
        key = object()
        if executor is None or isinstance(executor, ThreadPoolExecutor):
            func = self._noting(key, func if self.hop is None else self.hop(func))
        release = self._hold(key, "a thread")
        try:
            future = super().run_in_executor(executor, func, *args)
        except BaseException:
            release()
            raise
        future.add_done_callback(lambda _: release())
        return future

    def _noting(self, key: object, func: Callable[..., T]) -> Callable[..., T]:
        @wraps(func)
        def noting(*args: Any) -> T:
            self._done_in[key] = get_ident()
            try:
                return func(*args)
            finally:
                del self._done_in[key]

        return noting

    def hold(self, what: str) -> Callable[[], None]:
        """Stop time from jumping until the returned function is called, as something outside of the loop is awaited."""
        return self._hold(object(), what)

    def _hold(self, key: object, what: str) -> Callable[[], None]:
        self._held[key] = f"{what} of {_who()}"

        def release() -> None:
            self._held.pop(key, None)

        return release

    def _add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
        self._owners[_number(fd)] = _who()
        self._heard.pop(_number(fd), None)  # it may be a new connection with the number of a closed one
        return super()._add_reader(fd, callback, *args)  # type: ignore[misc]

    def _add_writer(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
        self._owners[_number(fd)] = _who()
        return super()._add_writer(fd, callback, *args)  # type: ignore[misc]

    def held_up_by(self) -> list[str]:
        """Return what prevents time from jumping, and which actors wait for it."""
        threads = [name_of(thread) for thread in at_work(self._background)]
        files = [f"file {fd} of {self._owners.get(fd, 'no actor')}" for fd in self._awaited_files()]
        return [*self._holding(), *threads, *files]


def _who() -> str:
    cell = current.get()
    return "no actor" if cell is None else cell.path


def _number(fd: Any) -> int:
    return fd if isinstance(fd, int) else int(fd.fileno())


async def advance(seconds: float) -> None:
    """Let virtual time pass: everything that is due within ``seconds`` happens, in order, before this returns.

    Args:
        seconds: how far to go; 0 lets everything run that is ready now.

    Raises:
        RuntimeError: the loop's time is not virtual.
    """
    loop = asyncio.get_running_loop()
    if type(loop) is not VirtualClockLoop:
        raise RuntimeError("advance() needs a loop with virtual time: run the test with supervision.testing.run")
    await asyncio.sleep(seconds)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a fresh loop with virtual time, as `asyncio.run` does on a real one.

    >>> async def wait() -> float:
    ...     await advance(3600)
    ...     return asyncio.get_running_loop().time()
    >>> run(wait())
    3600.0

    Raises:
        LoopRunning: a loop runs already in this thread.
        Standstill: the coroutine waits for something that cannot come any more; it names what waits, and where.
    """
    try:
        no_loop_here("run")
    except LoopRunning:
        main.close()
        raise
    with asyncio.Runner(loop_factory=_private_loop) as runner:
        try:
            return runner.run(main)
        finally:
            runner.run(_end_tasks())


async def _end_tasks() -> None:
    """Cancel all tasks, and abandon those that do not end, for which the loop would wait for ever.

    The runtimes' workers come last: the task that has started a runtime closes it, and its actors in order.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    schedulers = [runtime.scheduler for runtime in loop.runtimes]
    everybody = asyncio.all_tasks() - {asyncio.current_task()}
    await _cancelled(loop, {task for task in everybody if not any(each.runs_handlers(task) for each in schedulers)})
    for task in await _cancelled(loop, asyncio.all_tasks() - {asyncio.current_task()}):
        _log.warning("task_does_not_end", task=of_task(task))
        asyncio._unregister_task(task)


async def _cancelled(loop: VirtualClockLoop, tasks: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Cancel tasks; return those that have not ended in time."""
    for task in tasks:
        task.cancel()
    over = loop.time() + ENDING
    turns = 0
    while tasks and turns < ENDING_TURNS and loop.time() < over:
        turns += 1
        await asyncio.sleep(loop.until_next_timer())
        tasks = {task for task in tasks if not task.done()}
    return tasks


def _private_loop() -> VirtualClockLoop:
    """Return a loop to which no existing thread has a reference."""
    loop = VirtualClockLoop()
    loop.unrelated_threads = ThreadSet.now()
    return loop
