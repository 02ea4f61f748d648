"""Evaluations: a program on examples, each result kept in a journal before it counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from contextvars import copy_context
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import dspy
import msgspec

from agents.durability import MemoryStorage, SqliteStorage, Storage
from dspex._compat import unrouted
from dspex._loops import await_in_loop, is_running_here
from dspex.agents.background import background_runtime
from dspex.evaluate.errors import (
    BudgetStop,
    EvaluationError,
    EvaluationFailed,
    EvaluationOverBudget,
    EvaluationSuspended,
    NoExamples,
    OtherEvaluation,
    journal_errors,
    refusal,
)
from dspex.evaluate.events import EvaluationEnded, EvaluationGoesOn, EvaluationWaits, ExampleScored
from dspex.evaluate.outcomes import ExampleOutcome, MakeOutcome, OutcomePool, described_error
from dspex.evaluate.progress import EvaluationProgress
from dspex.evaluate.result import EvaluationPlan, EvaluationResult, ExampleRow, RunCost, result_of
from dspex.fingerprints import (
    adapter_fingerprint,
    content_digest,
    metric_fingerprint,
    models_fingerprint,
    program_fingerprint,
    versions,
)
from dspex.jobs.spending import Payer, Spending, TokenPrice, checked_budget, checked_calls
from dspex.models.call_log import CallLog
from dspex.statistics import LARGEST
from dspex.teleprompt.events import WorkerLost
from dspex.teleprompt.rollouts import MetricGuard
from dspex.teleprompt.suspension import is_outage
from dspex.workflow.encoding import journal_key, key_of
from dspex.workflow.errors import OtherRun, WorkflowSuspended
from dspex.workflow.journal import Journal
from dspex.workflow.retry import RetryPolicy
from dspex.workflow.state import STEP
from dspex.workflow.suspension import Suspension
from dspex.workflow.workflow import Workflow
from foundation.options import above_zero, finite, from_zero, whole
from supervision import Backoff, Runtime, Supervisor
from supervision.clock import seconds
from supervision.errors import BadOption

#: The name of the workflow, and of its steps: one for each run of the program.
_NAME, _STEP = "evaluation", "example"
#: The kind of the entry that says what is evaluated.
_PLAN = "plan"
#: The kind of the entry that says what was spent: dollars, and calls.
_SPENT = "spent"
_numbers = count(1)
#: So much of a digest is kept: 128 bits.
_DIGITS = 32

#: An example, what it is called in the journal, and which run of it this is.
_Run = tuple[Any, ExampleRow, int]


async def evaluate(
    program: Any,
    devset: Sequence[Any],
    metric: Callable[..., Any],
    *,
    log_dir: str | Path | None = None,
    fresh: bool = False,
    metric_id: str | None = None,
    num_threads: int = 4,
    repetitions: int = 1,
    cluster: str | Callable[[Any], object] | None = None,
    failure_score: float = 0.0,
    min_coverage: float = 0.95,
    metric_timeout: float | None = 60.0,
    patience: float | None = 600.0,
    budget: float | None = None,
    max_calls: int | None = None,
    price: TokenPrice | None = None,
    payer: Payer | None = None,
    on_outcome: Callable[[ExampleOutcome], object] = lambda _: None,
    display_progress: bool | None = None,
    runtime: Runtime | None = None,
) -> EvaluationResult:
    """Return how well a program does on examples, and how sure that is.

    Each result is in the journal before it counts, and so is each answer of a language model. Evaluated again with the
    same folder after a crash, only what is missing is done. A language model that is unavailable is waited for, and is
    never a score; a program that raises counts ``failure_score``; a metric that raises leaves its example out, which
    is told, and is tried again the next time.

    Args:
        program: a ``dspy.Module``.
        devset: the examples; others may be added later, in the same folder.
        metric: a function, or an async one, of an example and a prediction, that returns a number or a
            ``dspy.Prediction`` with a ``score``.
        log_dir: a folder for the journal; None to keep it in memory.
        fresh: whether to begin anew, beside what is in the folder.
        metric_id: stands for the metric, in place of its code: whoever gives it vouches for the metric.
        num_threads: how many examples are done at the same time.
        repetitions: how often the program is run on each example; its scores are averaged first.
        cluster: the name of a field, or a function of an example: those with the same value belong together.
        failure_score: what an example counts on which the program fails.
        min_coverage: the part of the runs that has to count, or there is no score.
        metric_timeout: seconds that the metric may take; None for any time.
        patience: seconds to wait for a language model that is unavailable; None for ever.
        budget: dollars that may be spent in this ``log_dir``, in all; None for any sum. What a call may cost at most is
            reserved before it is made, so that the budget is not passed.
        max_calls: how many calls of language models may be made in this ``log_dir``, in all; None for any number.
        price: of the language models, if DSPy does not know it.
        payer: pays for the calls, in place of ``budget``, ``max_calls`` and ``price``: for several evaluations that
            have one budget.
        on_outcome: is called with what became of each run on an example, also those that were kept.
        display_progress: whether a progress bar is shown; None for only if there is a terminal.
        runtime: where the workers live. If None, in a thread that all share.

    Raises:
        NoExamples: the devset is empty.
        OtherEvaluation: the folder has one of another program, metric or model.
        EvaluationFailed: no example has a score.
        EvaluationRefused: a language model is not to be had, for want of a key, or of money; it is not waited for.
        EvaluationSuspended: a language model was unavailable for longer than the patience.
        EvaluationOverBudget: the next call may cost more than is left, or is one too many.
        BadOption, BadTime, NoFingerprint: an argument makes no sense.
        EvaluationJournalError: the journal cannot be read, or not be written.
    """
    background = None if runtime is not None else background_runtime()
    if background is not None and not is_running_here(background.loop):
        given = {name: value for name, value in locals().items() if name not in {"background", "runtime"}}
        return await await_in_loop(background.loop, evaluate(**given))
    found = background.runtime if runtime is None and background is not None else runtime
    assert found is not None
    patience = None if patience is None else seconds("patience", patience)
    metric_timeout = None if metric_timeout is None else above_zero("metric_timeout", metric_timeout)
    plan = _plan(devset, repetitions, cluster, failure_score, min_coverage)
    bare = unrouted(program)
    identity = {
        "program": program_fingerprint(bare),
        "metric": metric_fingerprint(metric, metric_id),
        "models": models_fingerprint(bare, dspy.settings.lm),
        "adapter": adapter_fingerprint(dspy.settings.adapter),
        "versions": versions(),
    }
    guard, workers = MetricGuard(metric, metric_timeout), whole("num_threads", num_threads)
    limits = checked_budget(budget), checked_calls(max_calls)
    async with _storage(log_dir, fresh=fresh) as storage:
        flow = await _opened(found, storage, identity, plan)
        limited = payer is None and limits != (None, None)
        paying = _own_payer(flow, *limits, price) if limited else payer
        evaluation = _Evaluation(found, flow, plan, patience, paying, on_outcome)
        return await evaluation.run(bare, devset, guard, workers, display_progress)


@asynccontextmanager
async def _storage(log_dir: str | Path | None, *, fresh: bool) -> AsyncGenerator[Storage]:
    if log_dir is None:
        yield MemoryStorage()
        return
    folder = Path(log_dir)
    there = _journals(folder)
    number = len(there) + 1 if fresh or not there else len(there)
    path = folder / (f"{_NAME}.sqlite" if number == 1 else f"{_NAME}-{number}.sqlite")
    with journal_errors(path), closing(SqliteStorage(path, "normal")) as storage:
        yield storage


async def read_evaluation(path: str | Path) -> EvaluationResult:
    """Return what an evaluation has found so far, from its journal alone.

    Args:
        path: the folder of the evaluation, of which the newest is taken; or the file of its journal.

    Raises:
        NoExamples: there is no evaluation.
        EvaluationJournalError: the journal cannot be read.
    """
    files = _journals(Path(path))
    if not files:
        raise NoExamples(f"{path}: no evaluation is kept there; give the log_dir of one, or the file of its journal")
    with journal_errors(files[-1]), closing(SqliteStorage(files[-1], "normal")) as storage:
        journal = Journal(storage, journal_key(_NAME))
        await journal.read()
    known = journal.find(_PLAN, "")
    if known is None:
        raise NoExamples(f"{files[-1]}: no evaluation is kept there; give the log_dir of one")
    plan = msgspec.convert(known, EvaluationPlan)
    return result_of(
        plan, [_recorded(journal, path) for path in _paths(plan)], _identity(journal), RunCost(resumed=True)
    )


def _journals(folder: Path) -> list[Path]:
    """Return the journals of evaluations in a folder, the newest last; if it is a file, that."""
    if folder.is_file():
        return [folder]
    names = (f"{_NAME}.sqlite" if number == 1 else f"{_NAME}-{number}.sqlite" for number in count(1))
    return list(takewhile(Path.is_file, (folder / name for name in names)))


def _plan(
    examples: Sequence[Any],
    repetitions: int,
    cluster: str | Callable[[Any], object] | None,
    failure_score: float,
    min_coverage: float,
) -> EvaluationPlan:
    """Return what is evaluated, once all of it is known to make sense."""
    if not examples:
        raise NoExamples
    times, score = whole("repetitions", repetitions), finite(failure_score)
    if score is None or abs(score) > LARGEST:
        raise BadOption("failure_score", failure_score, f"give a number, none beyond {LARGEST:g}")
    if from_zero("min_coverage", min_coverage) > 1:
        raise BadOption("min_coverage", min_coverage, "give a number from 0 to 1")
    digests = [_digest(index, example) for index, example in enumerate(examples)]
    total, seen = Counter(digests), Counter[str]()
    rows = []
    for index, (digest, example) in enumerate(zip(digests, examples, strict=True)):
        alike = digest if total[digest] > 1 else None
        rows.append(ExampleRow(digest, seen[digest], alike if cluster is None else _cluster(index, example, cluster)))
        seen[digest] += 1
    return EvaluationPlan(tuple(rows), times, score, min_coverage)


def _digest(index: int, example: Any) -> str:
    if not isinstance(example, dspy.Example) or example._input_keys is None:
        raise BadOption(f"devset[{index}]", example, "give a dspy.Example, with_inputs(...) that name what is given")
    return content_digest(example)[:_DIGITS]


def _cluster(index: int, example: Any, cluster: str | Callable[[Any], object]) -> str:
    if not isinstance(cluster, str):
        return content_digest(cluster(example))[:_DIGITS]
    if cluster not in example:
        raise BadOption(f"cluster of devset[{index}]", cluster, f"give one of {', '.join(example.keys())}")
    return content_digest(example[cluster])[:_DIGITS]


def _path(row: ExampleRow, repetition: int) -> str:
    return key_of("", _STEP, (row.digest, row.number, repetition))


def _paths(plan: EvaluationPlan) -> Iterator[str]:
    return (_path(row, repetition) for row in plan.examples for repetition in range(plan.repetitions))


def _recorded(journal: Journal, path: str) -> ExampleOutcome | None:
    """Return what became of an example; None if nothing has."""
    known = journal.find(STEP, path)
    if known is None or known["state"] != "done":
        return None
    return msgspec.convert(known["value"], ExampleOutcome)


def _is_open(outcome: ExampleOutcome) -> bool:
    """Return whether an outcome is to be tried again when the evaluation is."""
    return outcome.kind == "unscored"


def _identity(journal: Journal) -> dict[str, Any]:
    return {name: value for name, value in journal.entries("what").items() if not name.startswith("(")}


def _repeated(lm: Any, repetition: int) -> Any:
    """Return a language model whose answers to a repetition do not come from the cache of the first run."""
    if lm is None or not repetition or lm.kwargs.get("temperature") == 0:
        return lm
    return lm.copy(rollout_id=(lm.kwargs.get("rollout_id") or 0) + repetition)


class ModelPatience(Suspension):
    """Lets calls pass while their language model is available; see `Suspension`.

    Args:
        runtime: whose clock, chance and events are used.
        patience: after how many seconds of an outage to give up; None for never.
    """

    def __init__(self, runtime: Runtime, patience: float | None) -> None:
        backoff = Backoff(0.5, 30.0, jitter=0.0)
        super().__init__(runtime, RetryPolicy(attempts=None, backoff=backoff, patience=patience, on=is_outage))

    def give_up_error(self, seconds: float, error: Exception) -> Exception:
        """Return that the evaluation is suspended."""
        return WorkflowSuspended("the language model", self.failed_calls, seconds, error)

    def on_suspended(self, seconds: float, error: Exception, pause: float) -> None:
        """Emit that the model is unavailable."""
        self._runtime.events.emit(EvaluationWaits, why=described_error(error), seconds=seconds, next=pause)

    def on_resumed(self, seconds: float) -> None:
        """Emit that it is available again."""
        self._runtime.events.emit(EvaluationGoesOn, seconds=seconds)


async def _opened(runtime: Runtime, storage: Storage, identity: dict[str, Any], plan: EvaluationPlan) -> Workflow:
    """Open the journal, and write down what is evaluated."""
    try:
        flow = await Workflow.open(runtime, storage, _NAME, identity)
    except OtherRun as error:
        raise OtherEvaluation(error.differing) from None
    known = flow.journal.find(_PLAN, "")
    if known is None or msgspec.convert(known, EvaluationPlan) != plan:
        await flow.journal.add(_PLAN, "", msgspec.to_builtins(plan))
    return flow


def _own_payer(flow: Workflow, budget: float | None, max_calls: int | None, price: TokenPrice | None) -> Payer:
    """Return who pays for an evaluation; what is spent is kept in its journal."""

    async def save(dollars: float, calls: int) -> None:
        await flow.journal.add(_SPENT, "", [dollars, calls], flush=False)

    dollars, calls = flow.journal.find(_SPENT, "") or (0.0, 0)
    return Payer(Spending(budget, dollars, save, max_calls=max_calls, calls=calls), price)


class _Evaluation:
    """An evaluation under way."""

    def __init__(
        self,
        runtime: Runtime,
        flow: Workflow,
        plan: EvaluationPlan,
        patience: float | None,
        payer: Payer | None,
        on_outcome: Callable[[ExampleOutcome], object],
    ) -> None:
        self._runtime, self._flow, self._plan = runtime, flow, plan
        self._payer, self._on_outcome = payer, on_outcome
        self._suspension = ModelPatience(runtime, patience)
        self._call_log = CallLog(flow.journal, self._suspension, refused=refusal)
        backoff = Backoff(0.5, 30.0, jitter=0.0)
        # Of a model that is not durable, such as one that a tool keeps for itself.
        self._retry = RetryPolicy(attempts=None, backoff=backoff, patience=patience, on=is_outage)

    async def run(
        self, program: Any, devset: Sequence[Any], metric: MetricGuard, workers: int, shown: bool | None
    ) -> EvaluationResult:
        """Do what is missing, and return what was found."""
        began = self._runtime.clock.time()
        known = [_recorded(self._flow.journal, path) for path in _paths(self._plan)]
        kept = sum(outcome is not None and not _is_open(outcome) for outcome in known)
        self._models = [self._model(program, number) for number in range(self._plan.repetitions)]
        stopped: WorkflowSuspended | BudgetStop | None = None
        spent = 0.0 if self._payer is None else self._payer.spending.spent
        name = f"dspex.evaluation:{next(_numbers)}"
        self._pool = OutcomePool(self._runtime, f"{name}.workers", workers)
        supervisor = await self._runtime.spawn(Supervisor, [self._pool.spec(metric, self._call_log)], name=name)
        try:
            with EvaluationProgress(len(known), self._call_log, self._suspension, self._runtime, shown) as progress:
                await self._do_all(devset, workers, progress)
        except (WorkflowSuspended, BudgetStop) as error:
            stopped = error
        finally:
            await supervisor.stop()
            if isinstance(stopped, BudgetStop):
                await self._call_log.drain()
            await self._call_log.close(EvaluationError("the evaluation has ended"))
        log, seconds = self._call_log, self._runtime.clock.time() - began
        dollars = log.dollars if self._payer is None else self._payer.spending.spent - spent
        cost = RunCost(self._flow.resumed, kept, log.calls, log.replayed, dollars, seconds)
        return self._result(cost, stopped)

    def _result(self, cost: RunCost, stopped: WorkflowSuspended | BudgetStop | None) -> EvaluationResult:
        journal = self._flow.journal
        found = result_of(
            self._plan, [_recorded(journal, path) for path in _paths(self._plan)], _identity(journal), cost
        )
        self._runtime.events.emit(
            EvaluationEnded, score=found.score, coverage=found.coverage, examples=len(self._plan.examples)
        )
        if isinstance(stopped, BudgetStop):
            raise EvaluationOverBudget(found, stopped.why) from stopped
        if stopped is not None:
            raise EvaluationSuspended(found, str(stopped)) from stopped
        if not found.counts["scored"]:
            raise EvaluationFailed(found, next(row.why for row in found.examples))
        return found

    def _model(self, program: Any, repetition: int) -> tuple[Any, Any]:
        """Return a program, and the language model besides, for one run on each example; with durable models."""
        again = program.deepcopy()
        for (_, mine), (_, given) in zip(again.named_predictors(), program.named_predictors(), strict=True):
            mine.lm = self._durable(given.lm, repetition)
        return again, self._durable(dspy.settings.lm, repetition)

    def _durable(self, lm: Any, repetition: int) -> Any:
        """Return a language model whose answers are kept, and paid for."""
        asked = _repeated(lm, repetition)
        return self._call_log.durable(asked if self._payer is None else self._payer.paid(asked))

    async def _do_all(self, devset: Sequence[Any], workers: int, progress: EvaluationProgress) -> None:
        waiting = (
            (example, row, repetition)
            for example, row in zip(devset, self._plan.examples, strict=True)
            for repetition in range(self._plan.repetitions)
        )

        async def feed() -> None:
            for run in waiting:
                outcome = await self._do(run)
                progress.made(outcome)
                self._on_outcome(outcome)

        feeders = [asyncio.ensure_future(feed()) for _ in range(workers)]
        try:
            await asyncio.gather(*feeders)
        finally:
            for feeder in feeders:
                feeder.cancel()
            await asyncio.wait(feeders)

    async def _do(self, run: _Run) -> ExampleOutcome:
        """Do an example, unless it is done."""
        example, row, repetition = run
        key, path = (row.digest, row.number, repetition), _path(row, repetition)
        known = _recorded(self._flow.journal, path)
        if known is None or _is_open(known):
            await self._flow.forget(_STEP, key=key)
        work = partial(self._made, example, path, repetition)
        outcome: ExampleOutcome = await self._flow.step(_STEP, work, key=key, type=ExampleOutcome, retry=self._retry)
        if known is None or _is_open(known):
            self._runtime.events.emit(ExampleScored, example=row.digest, outcome=outcome.kind, score=outcome.score)
        return outcome

    async def _made(self, example: Any, path: str, repetition: int) -> ExampleOutcome:
        program, lm = self._models[repetition]
        with dspy.context(lm=lm):
            request = MakeOutcome(program, example, path, copy_context())
        told = lambda why: self._runtime.events.emit(WorkerLost, job=path, why=why)  # noqa: E731
        return await self._pool.ask(request, told)
