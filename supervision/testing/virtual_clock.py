"""An event loop whose time jumps to the next timer when nothing else can happen.

Time stands still while code runs, and jumps when the loop would wait. It does not jump while real input or output, or
the result of a thread, is awaited: then it passes as real time does.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, TypeVar

from supervision._marks import current
from supervision.logs import get_logger

T = TypeVar("T")

#: Real seconds after which a loop that waits for the world says for what.
PATIENCE = 5.0
#: Where virtual time begins, in seconds since the epoch.
BEGAN = 1_767_225_600.0

_log: Any = get_logger("supervision.testing")


class _JumpingSelector(selectors.DefaultSelector):
    """A selector that does not wait for a time-out but lets its loop jump over it."""

    loop: VirtualClockLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is not None and not self.loop.awaits_the_world():
            self.loop.jump(timeout)
            return []
        began = monotonic()
        first = PATIENCE if timeout is None else min(timeout, PATIENCE)
        ready = super().select(first)
        if not ready and first == PATIENCE:
            _log.warning("virtual_time_stands_still", held_up_by=self.loop.held_up_by())
            ready = super().select(None if timeout is None else timeout - first)
        self.loop.jump(monotonic() - began)
        return ready


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An asyncio loop with virtual time, which begins at 0."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        selector.loop = self
        self._virtual = 0.0
        self._set_by = 0.0
        #: What is awaited outside of the loop, and for whom.
        self._held: dict[object, str] = {}
        #: By the number of a file: for whom it is watched.
        self._owners: dict[int, str] = {}
        super().__init__(selector)
        self._own_files = len(selector.get_map())

    def time(self) -> float:
        """Return virtual seconds."""
        return self._virtual

    def wall_time(self) -> float:
        """Return virtual seconds since the epoch: the first of January 2026, UTC, and the virtual time since."""
        return BEGAN + self._virtual + self._set_by

    def set_wall_time(self, seconds: float) -> None:
        """Set the wall clock, as an operator or a time server does. No timer moves: `time` goes on as before.

        Args:
            seconds: what `wall_time` is now.
        """
        self._set_by += seconds - self.wall_time()

    def until_next_timer(self) -> float:
        """Return the virtual seconds until the next timer: 0 if something can run now, a moment if none is set."""
        if self._ready:  # type: ignore[attr-defined]
            return 0.0
        due = [handle.when() for handle in self._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
        return max(0.0, min(due) - self._virtual) if due else 0.001

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._virtual += max(0.0, seconds)

    def awaits_the_world(self) -> bool:
        """Whether real input or output, or a thread, is awaited, so that time must not jump."""
        files = self._selector.get_map()  # type: ignore[attr-defined]
        return bool(self._held) or len(files) > self._own_files

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run a function in a thread; time does not jump until it is done."""
        future = super().run_in_executor(executor, func, *args)
        release = self.hold("a thread")
        future.add_done_callback(lambda _: release())
        return future

    def hold(self, what: str) -> Callable[[], None]:
        """Let time not jump until what is returned is called: something outside of the loop is awaited."""
        key = object()
        self._held[key] = f"{what} of {_who()}"

        def release() -> None:
            self._held.pop(key, None)

        return release

    def _add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
        self._owners[_number(fd)] = _who()
        return super()._add_reader(fd, callback, *args)  # type: ignore[misc]

    def _add_writer(self, fd: Any, callback: Callable[..., Any], *args: Any) -> Any:
        self._owners[_number(fd)] = _who()
        return super()._add_writer(fd, callback, *args)  # type: ignore[misc]

    def held_up_by(self) -> list[str]:
        """Return what prevents time from jumping, and which actors wait for it."""
        files = list(self._selector.get_map())[self._own_files :]  # type: ignore[attr-defined]
        return [*self._held.values(), *(f"file {fd} of {self._owners.get(fd, 'no actor')}" for fd in files)]


def _who() -> str:
    cell = current.get()
    return "no actor" if cell is None else cell.path


def _number(fd: Any) -> int:
    return fd if isinstance(fd, int) else int(fd.fileno())


class VirtualClockPolicy(asyncio.DefaultEventLoopPolicy):
    """Makes loops with virtual time, for test runners that ask the policy for loops."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Return a new loop with virtual time."""
        return VirtualClockLoop()


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
    """
    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        return runner.run(main)
