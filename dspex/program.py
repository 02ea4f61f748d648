"""Programs as actors: any ``dspy.Module``, as it is, supervised, answering requests side by side."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from functools import partial
from pkgutil import resolve_name
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import dspy

from dspex._compat import adopt, is_async, lm15, settings, start_in
from dspex._lifetime import on_end
from dspex.interface import Contract
from dspex.lm import Selected, select
from dspex.local.address import LANGUAGE_MODEL, Locator
from foundation.programs import Answer, DescribeProgram, Interface, InvalidInputs, RunProgram, Unavailable
from supervision import Actor, Message, Refuse, ReplyTo, handle

#: The name of the output of a program that returns something else than fields.
RESULT = "result"


class BadProgram(ValueError):
    """This names, or makes, no program. ``value`` is what was given."""

    def __init__(self, value: object, remedy: str) -> None:
        self.value = value
        self.remedy = remedy
        super().__init__(f"program {value!r}: {remedy}")


class ProgramCancelled(Exception):
    """The program cancelled itself, and so has no answer."""


class _Ended(Message, frozen=True):
    """A run of the program is over."""


class _Job(NamedTuple):
    token: ReplyTo[Answer]
    inputs: dict[str, Any]
    context: Context


def load(source: object) -> Any:
    """Return a program.

    Args:
        source: a ``dspy.Module``; a class or function that makes one; or a string ``package.module:name``
            that leads to any of these.

    Raises:
        BadProgram: it leads to nothing of the kind.
    """
    found = source
    if isinstance(source, str):
        try:
            found = resolve_name(source)
        except (ImportError, AttributeError, ValueError) as error:
            raise BadProgram(source, f"write package.module:name; {error}") from error
    if callable(found) and not isinstance(found, dspy.Module):
        found = found()
    if not isinstance(found, dspy.Module):
        raise BadProgram(source, f"give a dspy.Module, or what makes one, not {type(found).__name__}")
    return found


class ProgramActor(Actor):
    """Runs a program for whoever asks: `RunProgram` runs it, `DescribeProgram` says what it takes and gives.

    The context of a request goes with it, so that ``dspy.context`` around the call counts for the program, and so do
    the caller's trace, callbacks, and log and trace bindings.

    Up to ``concurrency`` requests run at the same time, each with its own settings; more wait in turn, and
    those whose callers have given up are left out. A program with ``aforward`` runs in a task; any other in a
    worker thread out of as many. What the program raises is its caller's error and does not end the actor.
    When the actor ends, its callers learn it at once, tasks are cancelled, and threads, which cannot be, run
    on to no effect.

    The settings of a run are, the strongest first: what the caller has overridden with ``dspy.context``, what
    is declared here, and what ``dspy.configure`` has set. ``dspy.configure`` is never called.

    Args:
        program: see `load`. A class, function or string makes a new program after each restart; a module that
            is given itself is used again, with what it has in it.
        lm: the language model: a ``dspy.BaseLM`` or its model string. By default what the environment says,
            see `dspex.lm`.
        adapter: a ``dspy.Adapter``, or ``package.module:Class``. By default what suits the language model.
        settings: further settings for ``dspy.context``.
        concurrency: how many requests run at the same time.
        signature: what the program takes and gives, if it does not say so itself; see `Contract`.
        server: under which name the embedded language model is found.
        environ: the environment; that of the process if None.

    Raises:
        BadProgram: at its start, if there is no such program.
        BadSetting, ModelMissing: at its start, if there is no such language model.
    """

    def __init__(
        self,
        program: object,
        *,
        lm: Any = None,
        adapter: Any = None,
        settings: Mapping[str, Any] | None = None,
        concurrency: int = 4,
        signature: Any = None,
        server: str = LANGUAGE_MODEL,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency = {concurrency}: at least one request must be able to run")
        self._program = load(program)
        self._contract = Contract(self._program, signature)
        self._settings = {
            **self._select(lm, server, environ).settings(),
            **_given(adapter),
            **(settings or {}),
        }
        self._concurrency = concurrency
        self._asynchronous = is_async(self._program)
        self._jobs: deque[_Job] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def _select(self, lm: Any, server: str, environ: Mapping[str, str] | None) -> Selected:
        if lm is not None:
            return Selected(dspy.LM(lm) if isinstance(lm, str) else lm, None)
        found = os.environ if environ is None else environ
        return select(found, Locator(self.runtime, server), chance=self.runtime.random)

    def init(self) -> None:
        """Make ready to run."""
        self._limiter = anyio.CapacityLimiter(self._concurrency)
        self._guard = on_end(self.ref, partial(_cancel_all, self._tasks))

    @handle
    def describe(self, request: DescribeProgram) -> Interface:
        """Say what the program takes and gives."""
        return self._contract.interface

    @handle
    def run(self, request: RunProgram) -> None:
        """Run the program, as soon as it is this request's turn."""
        try:
            inputs = self._contract.check(request.inputs)
        except InvalidInputs as error:
            raise Refuse(error) from None
        self._jobs.append(_Job(self.defer_reply(), inputs, request.context))
        self._start()

    @handle
    def ended(self, message: _Ended) -> None:
        """Let the next request run."""
        self._start()

    def _start(self) -> None:
        while self._jobs and len(self._tasks) < self._concurrency:
            job = self._jobs.popleft()
            if job.token.waiting:
                task = start_in(adopt(job.context), self._serve(job))
                self._tasks.add(task)
                task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.ref.cast(_Ended())

    async def _serve(self, job: _Job) -> None:
        try:
            job.token.reply(await self._answer(job.inputs))
        except lm15.TransportError as error:
            job.token.fail(
                Unavailable(f"its language model cannot be reached: {error}").with_traceback(error.__traceback__)
            )
        except (Exception, SystemExit) as error:
            job.token.fail(error)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and not task.cancelling():
                job.token.fail(ProgramCancelled(f"{self._contract.interface.program} cancelled itself"))
            raise

    async def _answer(self, inputs: dict[str, Any]) -> Answer:
        with settings(self._settings), dspy.track_usage() as usage:
            result = await self._run(inputs)
        tokens: dict[str, dict[str, Any]] = usage.get_total_tokens()
        return Answer(_outputs(result), tokens)

    async def _run(self, inputs: dict[str, Any]) -> Any:
        if self._asynchronous:
            return await self._program.acall(**inputs)
        call: Callable[[], Any] = partial(self._program, **inputs)
        return await anyio.to_thread.run_sync(call, limiter=self._limiter, abandon_on_cancel=True)


def _cancel_all(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


def _given(adapter: Any) -> dict[str, Any]:
    if adapter is None:
        return {}
    return {"adapter": resolve_name(adapter)() if isinstance(adapter, str) else adapter}


def _outputs(result: Any) -> dict[str, Any]:
    if isinstance(result, (dspy.Example, Mapping)):
        return dict(result.items())
    return {RESULT: result}
