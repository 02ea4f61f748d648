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

T = TypeVar("T")


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
        ready = super().select(timeout)
        self.loop.jump(monotonic() - began)
        return ready


class VirtualClockLoop(asyncio.SelectorEventLoop):
    """An asyncio loop with virtual time, which begins at 0."""

    def __init__(self) -> None:
        selector = _JumpingSelector()
        selector.loop = self
        self._virtual = 0.0
        self._threads = 0
        super().__init__(selector)
        self._own_files = len(selector.get_map())

    def time(self) -> float:
        """Return virtual seconds."""
        return self._virtual

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
        return self._threads > 0 or len(files) > self._own_files

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run a function in a thread; time does not jump until it is done."""
        future = super().run_in_executor(executor, func, *args)
        self.hold()
        future.add_done_callback(lambda _: self.release())
        return future

    def hold(self) -> None:
        """Let time not jump until `release`: something outside of the loop is awaited."""
        self._threads += 1

    def release(self) -> None:
        """Let time jump again, as far as this is concerned."""
        self._threads -= 1


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
