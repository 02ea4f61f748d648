"""A runtime on a thread, for code without an event loop, with the supervisor under which programs' agents run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

import uvloop

from dspex._loops import run_in_loop
from supervision import ChildSpec, DynamicSupervisor, Runtime, Supervisor

#: The name under which the supervisor of agents is found.
PROGRAM_AGENTS = "dspex.agents"


T = TypeVar("T")


class BackgroundRuntime:
    """A runtime whose event loop runs in a thread.

    >>> background = BackgroundRuntime()
    >>> background.run(lambda: asyncio.sleep(0, "done"))
    'done'
    >>> background.close()

    Args:
        name: of the thread.
    """

    def __init__(self, name: str = "dspex background runtime") -> None:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run_loop, name=name, daemon=True)
        self._thread.start()
        self._ready.wait()

    #: The runtime. Only its own loop may use it; see `run`.
    runtime: Runtime
    _end: asyncio.Event

    def _run_loop(self) -> None:
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
        """Run a coroutine in the runtime's loop, and return its result. Not to be called from that loop.

        A Ctrl-C that comes meanwhile cancels it, and is raised once that has ended.
        """
        return run_in_loop(self.loop, work())

    @property
    def open(self) -> bool:
        """Whether it has not been closed."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Stop all actors, and end the thread. One that is closed already stays so."""
        if self.open:
            self.loop.call_soon_threadsafe(self._end.set)
            self._thread.join()


_lock = threading.Lock()
_runtimes: list[BackgroundRuntime] = []


def background_runtime() -> BackgroundRuntime:
    """Return the runtime that this process shares; it is started when it is first asked for."""
    with _lock:
        if not _runtimes or not _runtimes[-1].open:
            _runtimes[:] = [BackgroundRuntime()]
        return _runtimes[-1]


def agents_supervisor(max_restarts: int = 100, max_seconds: float = 1.0) -> ChildSpec:
    """Return the supervisor under which `dspex.start_program_agent` starts agents, to be put into a tree.

    Args:
        max_restarts: how many restarts are allowed in ``max_seconds``. There may be many agents, and those that call
            them wait for a restart; so it takes a lot of deaths before it gives up.
        max_seconds: the length of that window.
    """
    budget = {"max_restarts": max_restarts, "max_seconds": max_seconds}
    return ChildSpec(PROGRAM_AGENTS, DynamicSupervisor, kwargs=budget, name=PROGRAM_AGENTS)
