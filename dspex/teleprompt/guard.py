"""What stands between DSPy's optimisers and the world: they see no outage, and nothing that is not a score."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import closing
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import dspy

from dspex._compat import HasSeveralModels, ItemOutcome, bare_acall, bare_call, is_refused, routed_class, watched
from dspex._tasks import adopt_context, start_in
from dspex.models.call_log import CallLog
from dspex.teleprompt.errors import EveryExampleFailed, ModelRefused, ModelUnavailable, OptimisationOver
from dspex.teleprompt.rollouts import MetricGuard, RolloutPool, RunItem, item_failures
from dspex.teleprompt.suspension import ModelSuspension, is_outage

T = TypeVar("T")

#: So many examples without one success are no chance.
_MANY = 10

#: Whether this code runs in a program that is guarded already.
_guarded: ContextVar[bool] = ContextVar("dspex.guarded", default=False)


class RunGuard:
    """Lets programs and metrics run, as often as it takes until no outage has touched them.

    Whatever an optimiser does with an error, it gets none that an outage has caused: it waits. Once the optimisation
    cannot go on, its threads end at their next step (`OptimisationOver`). It is the dispatcher of `guarded_program`.

    Args:
        call_log: knows whether the optimisation can go on.
        suspension: that waits while what programs and metrics reach by themselves is away.
        pool: of workers, which make the runs.
    """

    def __init__(self, call_log: CallLog, suspension: ModelSuspension, pool: RolloutPool) -> None:
        self._call_log, self.suspension, self._pool = call_log, suspension, pool
        self._limiter = anyio.CapacityLimiter(1_000_000)
        self._waiting: set[asyncio.Task[Any] | None] = set()
        self._batches = 0
        #: Is told of each program that was tried on examples.
        self.on_scored: Callable[[Sequence[ItemOutcome]], object] = lambda _: None
        #: How many examples were scored, and how many were not; and the first thing that went wrong.
        self.successes = self.failures = 0
        #: Whether there is a metric; without one, a program that returns is a success.
        self.judged = True
        #: How many programs were tried.
        self.tried = 0
        self.first_failure = ""

    # -- in the event loop -------------------------------------------------------------------------------------------

    async def attempt(self, make: Callable[[], Awaitable[T]]) -> T:
        """Await something again and again until no outage touches it.

        Raises:
            OptimisationError: the optimisation cannot go on.
            Exception: what it raises, if that is no outage.
        """

        async def made() -> T:
            self._call_log.check()  # while this has waited, another one may have given up
            try:
                return await make()
            except Exception as error:
                self._call_log.check()
                if is_refused(error):
                    raise ModelRefused(error) from error
                raise

        try:
            return await self.suspension.run(made)
        except (ModelUnavailable, ModelRefused) as error:
            self._call_log.give_up(error)
            raise

    def note(self, failure: str | None) -> None:
        """Count an example that was scored, or say why it was not."""
        if failure is None:
            self.successes += 1
        else:
            self.first_failure = self.first_failure or failure
            self.failures += 1

    def check(self) -> None:
        """Raise that not one example could be scored, if that is so."""
        if self.failures and not self.successes:
            raise EveryExampleFailed(self.failures, self.first_failure)

    def close(self) -> None:
        """End what threads wait for. What they want to wait for later ends at once, as the call log is closed."""
        for task in filter(None, list(self._waiting)):
            task.cancel()

    # -- in threads --------------------------------------------------------------------------------------------------

    def guarded_program(self, program: Any) -> Any:
        """Return a program whose calls are made here. It shares all its attributes with what is given.

        If its predictors have different language models, optimisers that want one get all of them as one.
        """
        several = len({id(predictor.lm) for predictor in program.predictors()}) > 1
        return routed_class(type(program), self, *[HasSeveralModels] * several).of(program)

    def call(self, program: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run a program: in this thread, and, if an outage has touched it, again when that is over."""
        if _guarded.get():
            return bare_call(program, args, kwargs)
        self._go_on()
        run = partial(_watched_call, program, args, kwargs, copy_context(), len(dspy.settings.trace or ()))
        try:
            found = self._until_untouched(run)
        except Exception as error:
            self._go_on()
            self._note(f"program: {type(error).__name__}: {error}")
            raise
        if not self.judged:
            self.note(None)
        return found

    def _until_untouched(self, run: Callable[[], Any]) -> Any:
        try:
            return run()
        except Exception as error:
            self._go_on()
            if not is_outage(error) and not is_refused(error):
                raise
            first = [error]

        async def again() -> Any:
            if first:
                raise first.pop()
            return await anyio.to_thread.run_sync(run, limiter=self._limiter, abandon_on_cancel=True)

        return self._wait(self.attempt(again))

    async def acall(self, program: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run a program as it is: DSPy's optimisers call none in this way."""
        return await bare_acall(program, args, kwargs)

    def guarded_metric(self, metric: Any, guard: MetricGuard) -> Any:
        """Return a metric for DSPy's optimisers: it waits for what it needs, never raises, and always says a score."""

        def judged(*args: Any, **kwargs: Any) -> Any:
            context = adopt_context(copy_context())

            async def judge() -> tuple[Any, str | None]:
                return await start_in(context.copy(), guard.judge(*args, **kwargs))

            said, failure = self._wait(self.attempt(judge))
            self._note(failure)
            return said

        looks: Any = functools.update_wrapper(judged, metric)
        return looks

    def _note(self, failure: str | None) -> None:
        self.note(failure)
        found = item_failures.get()
        if failure is not None and found is not None:
            found.append(failure)

    def run_all(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[ItemOutcome]:
        """Call a function with each item, by the workers, side by side; see `dspex._compat.taken_over`."""
        self._batches += 1
        context, name = copy_context(), f"batch/{self._batches}"
        requests = [RunItem(f"{name}/{number}", function, item, context) for number, item in enumerate(items)]
        outcomes = self._wait(self._all(requests))
        if self.failures >= _MANY:
            self._must_succeed()
        self._go_on()
        return outcomes

    async def _all(self, requests: Sequence[RunItem]) -> list[ItemOutcome]:
        tasks = [asyncio.ensure_future(self._pool.run(request)) for request in requests]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    def scored(self, outcomes: Sequence[ItemOutcome]) -> None:
        """Note the scores of a program that was tried on examples; see `dspex._compat.taken_over`."""
        self._call_log.loop.call_soon_threadsafe(self._tell, outcomes)
        self._must_succeed()

    def _tell(self, outcomes: Sequence[ItemOutcome]) -> None:
        self.on_scored(outcomes)
        self.tried += 1

    def _must_succeed(self) -> None:
        try:
            self.check()
        except EveryExampleFailed as error:
            self._call_log.give_up(error)
            raise OptimisationOver from None

    def _go_on(self) -> None:
        if self._call_log.broken is not None:
            raise OptimisationOver

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something in the event loop, while this thread waits."""
        if self._call_log.broken is not None:
            work.close()
            raise OptimisationOver
        try:
            return asyncio.run_coroutine_threadsafe(self._awaited(work), self._call_log.loop).result()
        except CancelledError:
            raise OptimisationOver from None
        except Exception:
            self._go_on()
            raise

    async def _awaited(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        self._waiting.add(task)
        try:
            with closing(work):
                self._call_log.check()
                return await work
        finally:
            self._waiting.discard(task)


def _watched_call(program: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], context: Context, before: int) -> Any:
    """Call a program in a context; raise what was away, or refused, even if the program has let that pass."""

    def call() -> Any:
        _guarded.set(True)
        # What a run that does not count has done is no part of the trace.
        del (dspy.settings.trace or [])[before:]
        with watched() as watch:
            try:
                found, error = bare_call(program, args, kwargs), None
            except Exception as raised:
                found, error = None, raised
            watch.see(error)
        trouble = watch.refused or watch.away or error
        if trouble is not None:
            raise trouble
        return found

    return context.copy().run(call)
