"""What becomes of an example: supervised workers run the program on it, and the metric says how well it did."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from contextvars import Context
from typing import Any, Literal, TypeAlias

import anyio
import dspy
import msgspec

from agents.core.failures import is_order
from agents.durability import StorageError
from dspex._compat import is_async, is_refused
from dspex._tasks import adopt_context, start_in
from dspex.agents.runner import run_module
from dspex.evaluate.errors import EvaluationRefused
from dspex.models.call_log import CallLog, call_scope
from dspex.statistics import LARGEST
from dspex.teleprompt.rollouts import MetricGuard
from dspex.teleprompt.suspension import is_outage
from dspex.workflow.encoding import encoded
from dspex.workflow.errors import NotEncodable, WorkflowError
from dspex.workflow.steps import error_message
from dspex.workflow.workers import WorkerPool
from supervision import Actor, ChildSpec, Refuse, Request, handle

#: ``scored``: the metric has said something. ``failed``: the program has raised. ``unparsed``: the model's answer could
#: not be parsed. ``unscored``: the metric has raised, or what it said is no score.
OutcomeKind: TypeAlias = Literal["scored", "failed", "unparsed", "unscored"]

#: So much of an error's text is kept.
_TEXT = 500


class ExampleOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of an example.

    Attributes:
        kind: how it has ended.
        score: what the metric said, if it is scored.
        why: the class and the message of the error, if it is not.
        outputs: what the program returned, as far as it is plain data.
        metadata: what the metric said besides, if it returned a ``dspy.Prediction``, as far as it is plain data.
    """

    kind: OutcomeKind
    score: float | None = None
    why: str = ""
    outputs: dict[str, Any] = {}
    metadata: dict[str, Any] = {}


class MakeOutcome(Request[ExampleOutcome], frozen=True):
    """Run a program on an example, in a context; what it asks of models is kept under a ``scope``."""

    program: Any
    example: Any
    scope: str
    context: Context


class OutcomeWorker(Actor):
    """Does one example after another.

    Args:
        metric: says how well the program did.
        call_log: keeps what models answer.
        limiter: of the threads for programs that are not async.
    """

    def __init__(self, metric: MetricGuard, call_log: CallLog, limiter: anyio.CapacityLimiter) -> None:
        self._metric, self._call_log, self._limiter = metric, call_log, limiter

    @handle
    async def make(self, request: MakeOutcome) -> ExampleOutcome:
        """Do an example. What the infrastructure has failed in is the caller's to deal with."""
        try:
            return await start_in(adopt_context(request.context), self._make(request))
        except Exception as error:
            raise Refuse(error) from None

    async def _make(self, request: MakeOutcome) -> ExampleOutcome:
        with call_scope(request.scope), dspy.context(trace=[]):
            outcome = await self._outcome(request.program, request.example)
        # The program, or the metric, may have taken the end of the evaluation for a failure of its own.
        self._call_log.check()
        return outcome

    async def _outcome(self, program: Any, example: Any) -> ExampleOutcome:
        work = run_module(program, (), example.inputs(), asynchronous=is_async(program), limiter=self._limiter)
        prediction, error = await _tried(work)
        if error is not None:
            return ExampleOutcome("unparsed" if is_unparsed(error) else "failed", why=described_error(error))
        outputs = _plain(prediction)
        said, error = await _tried(self._metric.score(example, prediction))
        if error is not None:
            return ExampleOutcome("unscored", why=f"metric: {described_error(error)}", outputs=outputs)
        score, metadata, trouble = said
        if trouble is None and abs(score) > LARGEST:
            trouble = f"metric: {score!r} is no score; return a number that is not beyond {LARGEST:g}"
        if trouble is not None:
            return ExampleOutcome("unscored", why=trouble[:_TEXT], outputs=outputs)
        return ExampleOutcome("scored", float(score), outputs=outputs, metadata=_plain(metadata))


async def _tried(work: Awaitable[Any]) -> tuple[Any, BaseException | None]:
    """Return what work returns, or what it raises, whatever that is; not what belongs to others.

    Raises:
        Exception: it is the infrastructure's, or the evaluation's.
        BaseException: it ends whoever runs the work: this task is cancelled, or somebody has pressed Ctrl-C.
    """
    try:
        return await work, None
    except BaseException as error:
        if isinstance(error, (WorkflowError, StorageError)) or is_outage(error):
            raise
        if is_refused(error):
            raise EvaluationRefused(error) from error
        if is_order(error):
            raise
        return None, error


def is_unparsed(error: BaseException) -> bool:
    """Return whether an error says that the answer of a model could not be parsed."""
    return isinstance(error, dspy.utils.exceptions.AdapterParseError)


def described_error(error: BaseException) -> str:
    """Return the class and the message of an error, as far as they are worth keeping."""
    return f"{type(error).__name__}: {error_message(error)}"[:_TEXT]


def _plain(values: Any) -> dict[str, Any]:
    """Return what of a prediction, or of metadata, JSON has."""
    found = values.items() if isinstance(values, (dspy.Example, Mapping)) else ()
    return {str(key): value for key, value in found if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    try:
        encoded("", "", value)
    except NotEncodable:
        return False
    return True


class OutcomePool(WorkerPool):
    """Supervised workers, each with one example at a time. An example whose worker dies is done by another."""

    def spec(self, metric: MetricGuard, call_log: CallLog) -> ChildSpec:
        """Return the specification of their supervisor."""
        return self.workers(OutcomeWorker, metric, call_log, anyio.CapacityLimiter(self.size))
