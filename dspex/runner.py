"""The actor that runs programs for their callers, side by side, and measures what they use."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import anyio

from dspex._compat import Metered, metered, note_usage, run_settings, tracks_alone
from dspex.invoke import Invoke
from dspex.running import run_module
from dspex.slots import Slots
from dspex.usage import ProgramRan
from supervision import Actor, handle
from supervision.errors import BadOption


class Runner(Actor):
    """Calls modules for whoever asks (`Invoke`), with the caller's own context.

    Up to ``concurrency`` calls run at the same time; more wait in turn. ``acall`` runs in a task, a plain call in a
    worker thread out of as many. When the actor ends, its callers learn it at once, tasks are cancelled, and threads,
    which cannot be, run on to no effect.

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
        self.slots = Slots(self.ref, self.label, self.concurrency, self._waiting)

    @property
    def label(self) -> str:
        """What it is called in errors and events."""
        return str(self.ref)

    def summary(self) -> Mapping[str, object]:
        """Tell how busy it is, for ``/tree``."""
        return {"running": self.slots.running, "waiting": self.slots.queued}

    @handle
    def invoke(self, request: Invoke) -> None:
        """Call the module, as soon as it is this request's turn."""
        self.slots.check()
        self.slots.add(self.defer_reply(begun=False), request.context, partial(self._call, request))

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
        """Apply settings, measure what a run uses, and tell it in an event."""
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
                        cost=used.bill.cost,
                    )
