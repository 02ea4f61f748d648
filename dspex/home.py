"""A runtime on a thread of its own, for code that has no event loop: scripts, notebooks, DSPy's threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

import uvloop

from dspex.supervisor import agents_supervisor
from supervision import Runtime, Supervisor

T = TypeVar("T")


class Home:
    """A runtime whose event loop runs in a thread.

    >>> home = Home()
    >>> home.run(lambda: asyncio.sleep(0, "done"))
    'done'
    >>> home.close()

    Args:
        name: of the thread.
    """

    def __init__(self, name: str = "dspex home") -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()
        self._ready.wait()

    #: The runtime. Only its own loop may use it; see `run`.
    runtime: Runtime
    _end: asyncio.Event

    def _live(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(), context=Context())

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        async with Runtime(reports=False) as self.runtime:
            await self.runtime.spawn(Supervisor, [agents_supervisor()])
            self._ready.set()
            await self._end.wait()

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine in the home's loop, and return its result. Not to be called from that loop."""
        return asyncio.run_coroutine_threadsafe(work(), self.loop).result()

    @property
    def open(self) -> bool:
        """Whether it has not been closed."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop all actors, and end the thread. A home that is closed already stays so."""
        if self.open:
            self.loop.call_soon_threadsafe(self._end.set)
            self._thread.join()


_lock = threading.Lock()
_homes: list[Home] = []


def default_home() -> Home:
    """Return the home that this process shares; it is opened when it is first asked for."""
    with _lock:
        if not _homes or not _homes[-1].open:
            _homes[:] = [Home()]
        return _homes[-1]
