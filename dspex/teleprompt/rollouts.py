"""Rollouts: a program is run on an example, and the metric says how well it did. Supervised workers make them."""

from __future__ import annotations

import asyncio
import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, ContextVar
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import dspy
import msgspec

from agents.core.failures import is_order
from dspex._compat import ItemOutcome, is_async, taken_over, watched
from dspex._tasks import adopt_context, start_in
from dspex.agents.runner import run_module
from dspex.models.call_log import call_scope
from dspex.teleprompt.events import WorkerLost
from dspex.workflow.workers import WorkerPool
from foundation.options import of_scalar
from supervision import Actor, ChildSpec, Refuse, Request, handle
from supervision.messages import describe


class RolloutJob(msgspec.Struct, frozen=True):
    """A rollout that is to be made.

    Attributes:
        key: tells it from all others of the optimisation, and is the same when the optimisation is repeated.
        program: is run.
        example: on its inputs.
        kept: whether prediction and trace are needed. If not, a score that is known already is enough.
        scored: whether the metric is asked. If not, the score is 0, and of no matter.
        metric: says what it is worth; None for the metric of the optimisation.
    """

    key: str
    program: Any
    example: Any
    kept: bool = False
    scored: bool = True
    metric: MetricGuard | None = None


class RolloutOutcome(msgspec.Struct):
    """What became of a rollout.

    Attributes:
        example: the example.
        score: what the metric said; 0 if the program or the metric has failed.
        prediction: what the program returned; None if it failed, or is not kept.
        trace: what its predictors did, as in ``dspy.settings.trace``; empty if it is not kept.
        metadata: what the metric said besides, if it returned a ``dspy.Prediction``.
        failure: why the score is no score; None if all is well.
    """

    example: Any
    score: float
    prediction: Any = None
    trace: list[Any] = []
    metadata: dict[str, Any] = {}
    failure: str | None = None

    def mapping(self) -> dict[str, Any]:
        """Return it as DSPy's own optimisers keep it."""
        return {
            "prediction": self.prediction,
            "trace": self.trace,
            "score": self.score,
            "example": self.example,
            "output_metadata": self.metadata,
        }


class MetricInterrupted(ConnectionError):
    """A metric took too long because a language model was away meanwhile."""


class RolloutAbandoned(Exception):
    """Nobody waits for a rollout any more: its worker is free for another one. ``key`` is that of its job."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"nobody waits for the rollout {key} any more")


class MetricGuard:
    """Asks a metric what an outcome is worth, and checks the score.

    Args:
        metric: a function, or an async one, of an example and a prediction; and, for some of DSPy's optimisers, more.
            It returns a number, or a ``dspy.Prediction`` with a ``score``.
        limit: seconds that it may take.
        outages: returns what changes with each outage: a metric that asks a language model takes long then.
    """

    def __init__(self, metric: Any, limit: float | None = 60.0, outages: Callable[[], object] = lambda: None) -> None:
        self._metric = metric
        self._limit = limit
        self._outages = outages
        self._limiter = anyio.CapacityLimiter(1_000_000)

    async def score(self, example: Any, prediction: Any) -> tuple[float, dict[str, Any], str | None]:
        """Return score, metadata, and why there is no score; None if there is one. Raises as `judge`."""
        said, failure = await self.judge(example, prediction)
        if isinstance(said, dspy.Prediction):
            return float(said.score), {key: value for key, value in said.items() if key != "score"}, failure
        return float(said), {}, failure

    async def judge(self, *args: Any, **kwargs: Any) -> tuple[Any, str | None]:
        """Return what the metric says, which is a score, and why it is none; 0 if it is none.

        Raises:
            Exception: a language model that the metric asks is away, or is not to be had.
        """
        before, limit = self._outages(), asyncio.timeout(self._limit)
        with watched() as watch:
            try:
                async with limit:
                    said, failure = _checked(await self._ask(args, kwargs)), None
            except TimeoutError as error:
                if limit.expired() and self._outages() != before:
                    raise MetricInterrupted("the metric took too long while a language model was away") from error
                said, failure = 0.0, f"metric: TimeoutError: {error}"
                if limit.expired():
                    failure = f"metric: no answer within {self._limit:g} s"
            except BaseException as error:
                if is_order(error):  # not its own failure, but the end of who asks it
                    raise
                watch.see(error)
                said, failure = 0.0, f"metric: {type(error).__name__}: {error}"
        raise_if_away(watch)
        return said, failure

    async def _ask(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        if any(map(inspect.iscoroutinefunction, (self._metric, type(self._metric).__call__))):
            return await self._metric(*args, **kwargs)
        call = partial(self._metric, *args, **kwargs)
        said = await anyio.to_thread.run_sync(call, limiter=self._limiter, abandon_on_cancel=True)
        return await said if inspect.isawaitable(said) else said


def raise_if_away(watch: Any) -> None:
    """Raise what has shown that a language model is not to be had, or away."""
    trouble = watch.refused or watch.away
    if trouble is not None:
        raise trouble


def _checked(said: Any) -> Any:
    """Return what a metric has said, with a plain number for a score."""
    if not isinstance(said, dspy.Prediction):
        return plain_score(said)
    score = plain_score(said.score)
    return said if score is said.score else dspy.Prediction(**{**dict(said.items()), "score": score})


def plain_score(score: Any) -> float:
    """Return a finite number of any kind as one of Python's own.

    Raises:
        ValueError: it is none.
    """
    plain = of_scalar(score)
    try:
        number = plain if isinstance(plain, (int, float)) else float(plain) if isinstance(plain, numbers.Real) else None
        if number is not None and math.isfinite(number):
            return number
    except OverflowError:
        pass
    raise ValueError(f"{describe(score)} is no score; return a finite number")


class MakeRollout(Request[RolloutOutcome], frozen=True):
    """Make a rollout, in a context, as long as somebody waits for it: that is ``over`` when nobody does."""

    job: RolloutJob
    context: Context
    over: asyncio.Future[None]


#: Why the metric could not score what the running item was tried on.
item_failures: ContextVar[list[str] | None] = ContextVar("dspex.item_failures", default=None)


class RunItem(Request[ItemOutcome], frozen=True):
    """Call a function with an item, in a thread and a context: a run that an optimiser of DSPy makes.

    Attributes:
        key: tells it from all others of the optimisation, and is the same when the optimisation is repeated.
        function: is called.
        item: with this.
        context: in which.
    """

    key: str
    function: Callable[[Any], Any]
    item: Any
    context: Context


class RolloutWorker(Actor):
    """Makes one rollout after another.

    Args:
        metric: says what they are worth.
        limiter: of the threads for programs that are not async.
    """

    def __init__(self, metric: MetricGuard, limiter: Any) -> None:
        self._metric = metric
        self._limiter = limiter

    @handle
    async def make(self, request: MakeRollout) -> RolloutOutcome:
        """Make a rollout. What the infrastructure has failed in is the caller's to deal with."""
        work = start_in(adopt_context(request.context), self._make(request.job))
        request.over.add_done_callback(lambda _: work.cancel())
        try:
            return await work
        except Exception as error:
            raise Refuse(error) from None
        except asyncio.CancelledError:
            if not request.over.done():
                raise
            raise Refuse(RolloutAbandoned(request.job.key)) from None

    async def _make(self, job: RolloutJob) -> RolloutOutcome:
        prediction, failure = None, None
        with call_scope(job.key), dspy.context(trace=[]):
            with watched() as watch:
                try:
                    prediction = await run_module(
                        job.program, (), job.example.inputs(), asynchronous=is_async(job.program), limiter=self._limiter
                    )
                except BaseException as error:
                    if isinstance(error, ConnectionError) or is_order(error):
                        raise
                    watch.see(error)
                    failure = f"program: {type(error).__name__}: {error}"
            raise_if_away(watch)
            trace = list(dspy.settings.trace)
            if not job.scored:
                return RolloutOutcome(job.example, 0.0, prediction, trace, {}, failure)
            score, metadata, trouble = await (job.metric or self._metric).score(job.example, prediction)
        return RolloutOutcome(job.example, score, prediction, trace, metadata, failure or trouble)

    @handle
    async def run(self, request: RunItem) -> ItemOutcome:
        """Call a function with an item."""
        return await start_in(adopt_context(request.context), self._run(request))

    async def _run(self, request: RunItem) -> ItemOutcome:
        failures: list[str] = []
        item_failures.set(failures)
        call = partial(_outcome, request.function, request.item)
        with call_scope(request.key), taken_over(None):
            outcome = await anyio.to_thread.run_sync(call, limiter=self._limiter, abandon_on_cancel=True)
        return outcome._replace(failure=failures[0] if failures else None)


def _outcome(function: Callable[[Any], Any], item: Any) -> ItemOutcome:
    try:
        return ItemOutcome(function(item))
    except Exception as error:
        return ItemOutcome(None, error)
    except BaseException as error:
        return ItemOutcome(None, RuntimeError(f"{type(error).__name__}: {error}"))


class RolloutPool(WorkerPool):
    """Supervised workers, each with one rollout at a time. A rollout whose worker dies is made by another."""

    def spec(self, metric: MetricGuard) -> ChildSpec:
        """Return the specification of their supervisor."""
        return self.workers(RolloutWorker, metric, anyio.CapacityLimiter(self.size))

    async def make(self, job: RolloutJob, context: Context) -> RolloutOutcome:
        """Have a rollout made, as soon as a worker is idle."""
        told = lambda why: self._runtime.events.emit(WorkerLost, job=job.key, why=why)  # noqa: E731
        over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            return await self.ask(MakeRollout(job, context, over), told)
        finally:
            over.set_result(None)

    async def run(self, request: RunItem) -> ItemOutcome:
        """Have an item run, as soon as a worker is idle."""
        return await self.ask(request, lambda why: self._runtime.events.emit(WorkerLost, job=request.key, why=why))


def mean_score(outcomes: Sequence[RolloutOutcome]) -> float:
    """Return the mean score; 0 of nothing."""
    return sum(outcome.score for outcome in outcomes) / len(outcomes) if outcomes else 0.0
