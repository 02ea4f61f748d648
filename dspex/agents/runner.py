"""Runs programs for their callers: the actor, its request, and a module in this task or in a worker thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import Context
from functools import partial
from types import TracebackType
from typing import Any, Literal

import anyio
import anyio.to_thread

from dspex._compat import (
    UNPARSED,
    Metered,
    abandon_run,
    bare_acall,
    bare_call,
    metered,
    note_usage,
    run_settings,
    tracks_alone,
)
from dspex.agents.concurrency import ConcurrencyLimit
from dspex.agents.usage import ProgramRan
from dspex.telemetry.observation import Observation, current_observation, observing
from foundation.options import whole
from foundation.telemetry import keep_text_private
from supervision import Actor, Request, Runtime, handle


class Invoke(Request[Any], frozen=True):
    """Call a module, exactly as its caller has: the answer is what it returns or raises.

    Attributes:
        module: the module; often the agent's own program, or a copy of it that an optimiser has changed.
        asynchronous: whether ``acall`` was called, and not the module itself.
        args: of the call.
        kwargs: of the call.
        context: the caller's, with everything that DSPy and others keep in it.
        agent: under which key the run knows its agent; see `dspex.agents.dispatcher`.
    """

    module: Any
    asynchronous: bool
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    context: Context
    agent: str


class ProgramRunner(Actor):
    """Calls modules on request (`Invoke`), in the context of the caller.

    Up to ``concurrency`` calls run at the same time; more wait in turn. ``acall`` runs in a task, a plain call in a
    worker thread out of as many. When the actor ends, its callers learn it at once, and tasks are cancelled. Threads
    cannot be cancelled; their results are dropped.

    Args:
        concurrency: how many calls run at the same time.
        waiting: how many more may wait; the next is refused. None for any number.
        settings: for ``dspy.context``, where the caller has not overridden them.

    Raises:
        BadOption: one of them is no whole number, from 1 or from 0.
    """

    def __init__(
        self, concurrency: int = 64, waiting: int | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.concurrency = whole("concurrency", concurrency)
        self._waiting = None if waiting is None else whole("waiting", waiting, 0)
        self.settings = dict(settings or {})

    async def init(self) -> None:
        """Make ready to run."""
        # Half of it for threads that nobody waits for any more.
        self.limiter = anyio.CapacityLimiter(2 * self.concurrency)
        self.concurrency_limit = ConcurrencyLimit(self.ref, self.label, self.concurrency, self._waiting)

    @property
    def label(self) -> str:
        """What it is called in errors and events."""
        return str(self.ref)

    def summary(self) -> Mapping[str, object]:
        """Return how busy it is, for ``/tree``."""
        return {"running": self.concurrency_limit.running, "waiting": self.concurrency_limit.queued}

    @handle
    def invoke(self, request: Invoke) -> None:
        """Call the module, as soon as it is this request's turn."""
        self.concurrency_limit.check()
        self.concurrency_limit.add(self.defer_reply(begun=False), request.context, partial(self._call, request))

    async def _call(self, request: Invoke) -> Any:
        module = request.module
        alone = tracks_alone()
        with self._observed(type(module).__name__, request.agent) as used:
            result = await self.execute(request)
        if alone:
            note_usage(module, result, used)
        return result

    def _observed(self, program: str, agent: str) -> AbstractContextManager[Metered]:
        """Have a run measured, and observed unless it is part of one that is."""
        settings = run_settings(agent, self.settings)
        if current_observation() is not None:
            return self.measured(program, settings)
        observing_it = observing(self.runtime, program, Observation(), settings)
        if isinstance(observing_it, nullcontext):
            return self.measured(program, observing_it.enter_result)
        return self._traced(program, observing_it)

    @contextmanager
    def _traced(self, program: str, observing_it: AbstractContextManager[Mapping[str, Any]]) -> Generator[Metered]:
        with observing_it as observed, self.measured(program, observed) as used:
            yield used

    def execute(self, request: Invoke) -> Awaitable[Any]:
        """Run the module, in the context of its caller."""
        return run_module(
            request.module, request.args, request.kwargs, asynchronous=request.asynchronous, limiter=self.limiter
        )

    def measured(self, program: str, settings: Mapping[str, Any]) -> AbstractContextManager[Metered]:
        """Apply settings, measure what a run uses, and emit an event."""
        return _Measured(self, program, settings)


class _Measured(AbstractContextManager[Metered]):
    """A run of an agent, of which an event tells."""

    __slots__ = ("_began", "_metered", "_program", "_runner", "_seen", "_used")

    def __init__(self, runner: ProgramRunner, program: str, settings: Mapping[str, Any]) -> None:
        self._runner = runner
        self._program = program
        self._began = runner.runtime.clock.time()
        self._metered = metered(settings)

    def __enter__(self) -> Metered:
        self._used = self._metered.__enter__()
        self._seen = current_observation()
        return self._used

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, UNPARSED):
            keep_text_private(error)
        runtime = self._runner.runtime
        if runtime.events.wanted[ProgramRan]:
            self._tell(runtime, error)
        self._metered.__exit__(kind, error, trace)

    def _tell(self, runtime: Runtime, error: BaseException | None) -> None:
        seen, ref = self._seen, self._runner.ref
        outcome: Literal["returned", "raised", "cancelled"] = "returned" if error is None else "raised"
        runtime.events.emit(
            ProgramRan,
            ref=ref,
            path=ref.path,
            program=self._program,
            outcome="cancelled" if isinstance(error, asyncio.CancelledError) else outcome,
            seconds=runtime.clock.time() - self._began,
            tokens=self._used.meter.get_total_tokens(),
            cost=self._used.history.cost,
            call=None if seen is None else seen.call,
            version=None if seen is None else seen.version,
            arm=None if seen is None else seen.arm,
        )


def run_module(
    module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, asynchronous: bool, limiter: Any
) -> Coroutine[Any, Any, Any]:
    """Call a module as DSPy does: the coroutine returns what it returns.

    Args:
        module: whether its calls go to an agent or not.
        args: of the call.
        kwargs: of the call.
        asynchronous: whether ``acall`` is called, in this task; otherwise the module itself, in a worker thread, which
            is left alone when this task is cancelled.
        limiter: of the threads: never the loop's default executor. A thread has its place until it ends.
    """
    if asynchronous:
        return bare_acall(module, args, kwargs)
    return _in_thread(partial(bare_call, module, args, kwargs), limiter)


async def _in_thread(call: Callable[[], Any], limiter: anyio.CapacityLimiter) -> Any:
    """Call something in a worker thread. Its place is free when it has ended, also if nobody waits for it any more."""
    place = object()
    await limiter.acquire_on_behalf_of(place)
    loop = asyncio.get_running_loop()
    claim = threading.Lock()  # of the thread, once it begins; or of this task, if that is cancelled before

    def run() -> Any:
        if not claim.acquire(blocking=False):
            return None
        try:
            return call()
        finally:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(limiter.release_on_behalf_of, place)

    try:
        return await anyio.to_thread.run_sync(run, limiter=anyio.CapacityLimiter(1), abandon_on_cancel=True)
    except asyncio.CancelledError:
        abandon_run()
        raise
    finally:
        if claim.acquire(blocking=False):
            limiter.release_on_behalf_of(place)
