"""Rollouts: a program is run on an example, and the metric says how well it did. Supervised workers make them."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Sequence
from contextvars import Context
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import dspy
import msgspec

from dspex._compat import is_async, is_infrastructure
from dspex._tasks import adopt_context, start_in
from dspex.agents.runner import run_module
from dspex.models.call_log import call_scope
from dspex.teleprompt.events import WorkerLost
from dspex.workflow.workers import WorkerPool
from supervision import Actor, ChildSpec, Refuse, Request, handle


class RolloutJob(msgspec.Struct, frozen=True):
    """A rollout that is to be made.

    Attributes:
        key: tells it from all others of the optimisation, and is the same when the optimisation is repeated.
        program: is run.
        example: on its inputs.
        kept: whether prediction and trace are needed. If not, a score that is known already is enough.
    """

    key: str
    program: Any
    example: Any
    kept: bool = False


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


class MetricGuard:
    """Asks a metric what an outcome is worth, and checks the score.

    Args:
        metric: a function, or an async one, of an example and a prediction. It returns a number, or a
            ``dspy.Prediction`` with a ``score``.
        limit: seconds that it may take.
    """

    def __init__(self, metric: Any, limit: float | None = 60.0) -> None:
        self._metric = metric
        self._limit = limit
        self._asynchronous = inspect.iscoroutinefunction(metric)
        self._limiter = anyio.CapacityLimiter(1_000_000)

    async def score(self, example: Any, prediction: Any) -> tuple[float, dict[str, Any], str | None]:
        """Return score, metadata, and why there is no score; None if there is one."""
        try:
            async with asyncio.timeout(self._limit):
                said = await self._ask(example, prediction)
            return *_number(said), None
        except TimeoutError:
            return 0.0, {}, f"metric: no answer within {self._limit:g} s"
        except Exception as error:
            return 0.0, {}, f"metric: {type(error).__name__}: {error}"

    async def _ask(self, example: Any, prediction: Any) -> Any:
        if self._asynchronous:
            return await self._metric(example, prediction)
        call = partial(self._metric, example, prediction)
        return await anyio.to_thread.run_sync(call, limiter=self._limiter, abandon_on_cancel=True)


def _number(said: Any) -> tuple[float, dict[str, Any]]:
    score, metadata = said, {}
    if isinstance(said, dspy.Prediction):
        score, metadata = said.score, {key: value for key, value in said.items() if key != "score"}
    if not isinstance(score, (int, float)) or not math.isfinite(score):
        raise ValueError(f"{score!r} is no score; return a finite number")
    return score, metadata


class MakeRollout(Request[RolloutOutcome], frozen=True):
    """Make a rollout, in a context."""

    job: RolloutJob
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
        try:
            return await start_in(adopt_context(request.context), self._make(request.job))
        except Exception as error:
            raise Refuse(error) from None

    async def _make(self, job: RolloutJob) -> RolloutOutcome:
        prediction, failure = None, None
        with call_scope(job.key), dspy.context(trace=[]):
            try:
                prediction = await run_module(
                    job.program, (), job.example.inputs(), asynchronous=is_async(job.program), limiter=self._limiter
                )
            except Exception as error:
                if is_infrastructure(error):
                    raise
                failure = f"program: {type(error).__name__}: {error}"
            trace = list(dspy.settings.trace)
            score, metadata, trouble = await self._metric.score(job.example, prediction)
        return RolloutOutcome(job.example, score, prediction, trace, metadata, failure or trouble)


class RolloutPool(WorkerPool):
    """Supervised workers, each with one rollout at a time. A rollout whose worker dies is made by another."""

    def spec(self, metric: MetricGuard) -> ChildSpec:
        """Return the specification of their supervisor."""
        return self.workers(RolloutWorker, metric, anyio.CapacityLimiter(self.size))

    async def make(self, job: RolloutJob, context: Context) -> RolloutOutcome:
        """Have a rollout made, as soon as a worker is idle."""
        told = lambda why: self._runtime.events.emit(WorkerLost, job=job.key, why=why)  # noqa: E731
        return await self.ask(MakeRollout(job, context), told)


def mean_score(outcomes: Sequence[RolloutOutcome]) -> float:
    """Return the mean score; 0 of nothing."""
    return sum(outcome.score for outcome in outcomes) / len(outcomes) if outcomes else 0.0
