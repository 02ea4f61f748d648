"""Runs programs for their callers: the actor, its request, and a module in this task or in a worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from typing import Any, Literal

import anyio
import anyio.to_thread

from dspex._compat import Metered, bare_acall, bare_call, metered, note_usage, run_settings, tracks_alone
from dspex.agents.concurrency import ConcurrencyLimit
from dspex.agents.usage import ProgramRan
from supervision import Actor, Request, handle
from supervision.errors import BadOption


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
        BadOption: the concurrency is below 1.
    """

    def __init__(
        self, concurrency: int = 64, waiting: int | None = None, settings: Mapping[str, Any] | None = None
    ) -> None:
        if concurrency < 1:
            raise BadOption("concurrency", concurrency, "at least one request must be able to run")
        self.concurrency = concurrency
        self._waiting = waiting
        self.settings = dict(settings or {})

    async def init(self) -> None:
        """Make ready to run."""
        self.limiter = anyio.CapacityLimiter(self.concurrency)
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
        with self.measured(type(module).__name__, run_settings(request.agent, self.settings)) as used:
            result = await self.execute(request)
        if alone:
            note_usage(module, result, used)
        return result

    async def execute(self, request: Invoke) -> Any:
        """Run the module, in the context of its caller."""
        return await run_module(
            request.module, request.args, request.kwargs, asynchronous=request.asynchronous, limiter=self.limiter
        )

    @contextmanager
    def measured(self, program: str, settings: Mapping[str, Any]) -> Generator[Metered]:
        """Apply settings, measure what a run uses, and emit an event."""
        began = self.runtime.clock.time()
        outcome: Literal["returned", "raised", "cancelled"] = "raised"
        with metered(settings) as used:
            try:
                yield used
                outcome = "returned"
            except asyncio.CancelledError:
                outcome = "cancelled"
                raise
            finally:
                events = self.runtime.events
                if events.wanted[ProgramRan]:
                    events.emit(
                        ProgramRan,
                        ref=self.ref,
                        path=self.ref.path,
                        program=program,
                        outcome=outcome,
                        seconds=self.runtime.clock.time() - began,
                        tokens=used.meter.get_total_tokens(),
                        cost=used.history.cost,
                    )


async def run_module(
    module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, asynchronous: bool, limiter: Any
) -> Any:
    """Call a module as DSPy does, and return what it returns.

    Args:
        module: whether its calls go to an agent or not.
        args: of the call.
        kwargs: of the call.
        asynchronous: whether ``acall`` is called, in this task; otherwise the module itself, in a worker thread, which
            is left alone when this task is cancelled.
        limiter: of the threads: never the loop's default executor.
    """
    if asynchronous:
        return await bare_acall(module, args, kwargs)
    call = partial(bare_call, module, args, kwargs)
    return await anyio.to_thread.run_sync(call, limiter=limiter, abandon_on_cancel=True)
