"""One optimisation under way: what a teleprompter's search calls."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import dspy

from dspex._compat import is_refused, unrouted
from dspex._tasks import start_in
from dspex.models.call_log import CallLimit, CallLog, CallTotals, call_scope
from dspex.teleprompt.errors import CallsSpent, ModelRefused, ModelUnavailable, OptimisationError, OptimisationOver
from dspex.teleprompt.events import CandidateScored
from dspex.teleprompt.guard import RunGuard
from dspex.teleprompt.report import OptimisationReport, Progress, Trial
from dspex.teleprompt.rollouts import RolloutJob, RolloutOutcome, RolloutPool, mean_score
from dspex.teleprompt.suspension import ModelSuspension
from dspex.workflow.journal import Journal
from supervision import Runtime

T = TypeVar("T")


class OptimisationRun:
    """Makes rollouts and asks language models, and repeats no recorded call.

    Args:
        name: with which the names of its actors begin.
        runtime: where it happens.
        journal: of what is known.
        call_log: has each call that was made.
        guard: waits while what programs and metrics reach by themselves is away.
        pool: of workers.
        report: of what was found.
        progress: is shown.
        context: in which ``compile`` was called.
    """

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        journal: Journal,
        call_log: CallLog,
        guard: RunGuard,
        pool: RolloutPool,
        report: OptimisationReport,
        progress: Progress,
        context: Context,
    ) -> None:
        self.name, self.runtime = name, runtime
        self._journal, self._call_log, self.guard = journal, call_log, guard
        self._pool, self.report, self.progress = pool, report, progress
        self.context = context
        self._limiter = anyio.CapacityLimiter(256)
        self._lock = threading.Lock()
        #: Is called after each rollout.
        self.on_made: Callable[[], object] = lambda: None
        #: What the teleprompter keeps with it.
        self.state: Any = None
        self._parts: list[tuple[OptimisationRun, tuple[ModelSuspension, ModelSuspension]]] = []
        #: The first results of works that are done once, on their way into the journal.
        self._first: dict[str, asyncio.Future[None]] = {}

    def part(self, patience: float | None) -> OptimisationRun:
        """Return a part of it that waits for its language models by itself, and that may have to end before the whole.

        Args:
            patience: seconds that it waits for them; None for ever.
        """
        waits = (ModelSuspension(self.runtime, patience), ModelSuspension(self.runtime, patience))
        totals, shared = self._call_log.totals, self._call_log.shared
        call_log = CallLog(self._journal, waits[0], ModelUnavailable, refusal, totals, shared)
        guard = RunGuard(call_log, waits[1], self._pool)
        made = OptimisationRun(
            self.name,
            self.runtime,
            self._journal,
            call_log,
            guard,
            self._pool,
            self.report,
            self.progress,
            self.context,
        )
        made._first = self._first
        made._lock = self._lock  # of works in threads, one runs at any moment, whosever it is
        self._parts.append((made, waits))
        return made

    def outages(self) -> list[tuple[int, bool]]:
        """Return what changes with each outage, and each end of one, here and in the parts."""
        own = (self._call_log.suspension, self.guard.suspension)
        found = [(one.outages, one.suspended is not None) for one in own]
        return found + [outage for part, _ in self._parts for outage in part.outages()]

    def limit_calls(self, most: int, prefix: str = "") -> None:
        """Make so many calls at most, with those that the journal has of keys with a prefix.

        With the next one, all that asks ends with `CallsSpent`. What was said first holds.
        """
        if self._call_log.limit.most is not None:
            return
        kept = sum(key.startswith(prefix) for key in self._journal.entries("answer"))
        self._call_log.limit = CallLimit(most, kept, lambda: CallsSpent(most))

    def go_on(self) -> None:
        """Make calls again, if it has ended because all were made: then what is known is asked for once more."""
        self._call_log.reopen(CallsSpent)

    async def drain(self, error: Exception) -> None:
        """Make no call any more, because of an error, and wait for those on their way: what was paid for is kept."""
        logs = [self._call_log, *(part._call_log for part, _ in self._parts)]
        for log in logs:
            log.give_up(error)
        await asyncio.gather(*(log.drain() for log in logs))

    async def close(self) -> list[ModelSuspension]:
        """End what is on its way, and return who has waited in its parts."""
        waited: list[ModelSuspension] = []
        for part, waits in self._parts:
            waited += [*waits, *await part.close()]
        await self._call_log.close(OptimisationError("the optimisation has ended"))
        self.guard.close()
        return waited

    @property
    def totals(self) -> CallTotals:
        """What the calls of language models have come to."""
        return self._call_log.totals

    def begin(self) -> None:
        """Forget what an earlier beginning has counted."""
        self.report.begin()
        self._call_log.begin()

    def durable(self, lm: Any) -> Any:
        """Return a language model that records each answer, and replays it; None for none."""
        return self._call_log.durable(lm)

    def number_model(self, lm: Any) -> None:
        """Have a language model told from others of the same name by the order in which they come here.

        Whoever asks several at once, in an order by chance, does that before; see `SharedAnswers`.
        """
        if lm is not None and self._call_log.shared is not None:
            self._call_log.shared.number(self._call_log.original(lm))

    def original(self, lm: Any) -> Any:
        """Return the language model of which a durable one was made; itself if it is none."""
        return self._call_log.original(lm)

    def durable_program(self, program: Any) -> Any:
        """Return a copy of a program with durable language models, also in what is frozen."""
        found = program.deepcopy()
        for mine, given in zip(all_predictors(found), all_predictors(program), strict=True):
            mine.lm = self.durable(given.lm)
        return found

    def original_program(self, program: Any) -> Any:
        """Give a program its own language models back, and return it, without a guard."""
        program = unrouted(program)
        for predictor in all_predictors(program):
            predictor.lm = self._call_log.original(predictor.lm)
        return program

    def guarded(self, program: Any) -> Any:
        """Return a copy of a program with durable language models, whose calls see no outage: for DSPy's optimisers."""
        return self.guard.guarded_program(self.durable_program(program))

    def settings(self) -> Any:
        """Return a context in which the caller's language model is durable."""
        return dspy.context(lm=self.durable(dspy.settings.lm))

    async def rollouts(self, jobs: Sequence[RolloutJob], *, check: bool = True) -> list[RolloutOutcome]:
        """Make rollouts side by side, and return their outcomes in the order of the jobs.

        Args:
            jobs: what is to be made.
            check: whether one of these or of those before has to have a score.

        Raises:
            EveryExampleFailed: none has one that the metric could score.
        """
        context = copy_context()
        tasks = [asyncio.ensure_future(self._rollout(job, context)) for job in jobs]
        self.progress.expect(len(jobs))
        try:
            outcomes = list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
        if check:
            self.guard.check()
        return outcomes

    async def recorded(self, kind: str, key: str, make: Callable[[], Awaitable[Any]]) -> Any:
        """Return what the journal has of a kind under a key; if that is nothing, what is made, once it is there.

        Raises:
            Exception: of what makes it.
        """
        known = self._journal.find(kind, key)
        if known is None:
            known = await make()
            await self._journal.add(kind, key, known)
        return known

    def is_scored(self, key: str) -> bool:
        """Whether the score of a rollout is in the journal."""
        return self._journal.find("score", key) is not None

    async def _rollout(self, job: RolloutJob, context: Context) -> RolloutOutcome:
        known = self._journal.find("score", job.key)
        if known is not None and not job.kept:
            outcome = RolloutOutcome(job.example, known["score"], metadata=known["metadata"], failure=known["failure"])
        else:
            outcome = await self._made(job, context)
            self._call_log.check()
            if not job.scored:
                self.progress.made()
                return outcome
            if known is not None:
                outcome.score, outcome.metadata, outcome.failure = known["score"], known["metadata"], known["failure"]
            else:
                await self._keep(job, outcome)
        self.guard.note(outcome.failure)
        self.progress.made()
        self.on_made()
        return outcome

    async def _made(self, job: RolloutJob, context: Context) -> RolloutOutcome:
        # A model that is not durable, such as one that a tool keeps for itself, may be away as well.
        return await self.guard.attempt(lambda: self._pool.make(job, context))

    async def _keep(self, job: RolloutJob, outcome: RolloutOutcome) -> None:
        if outcome.failure is not None and not self.guard.successes:
            return  # perhaps all fail, for a reason that is mended next time
        plain = {key: value for key, value in outcome.metadata.items() if isinstance(value, (str, int, float, bool))}
        kept = {"score": outcome.score, "metadata": plain, "failure": outcome.failure}
        await self._journal.add("score", job.key, kept)

    def known(self, key: str) -> Any:
        """Return what came of a work that is done once; None if that is not known."""
        found = self._journal.find("once", key)
        return None if found is None else found["value"]

    async def once(self, key: str, work: Callable[[], Awaitable[Any]]) -> Any:
        """Do a work, if it is not known under its key what came of it; and return that, as it is read again.

        Of several who do it at the same time, such as for a coordinator that is gone, what came first counts for all.

        Args:
            key: of the work.
            work: returns plain data.

        Raises:
            TypeError, ValueError: it has returned what cannot be kept.
        """
        if self._journal.find("once", key) is None:
            found = await work()
            self._call_log.check()
            if key not in self._first:
                writing = asyncio.ensure_future(self._journal.add("once", key, {"value": found}))
                writing.add_done_callback(lambda done: done.cancelled() or done.exception())
                self._first[key] = writing
            await asyncio.shield(self._first[key])
        return self.known(key)

    async def run_in_thread(self, key: str, work: Callable[[], T]) -> T:
        """Do work in a thread; what it asks of durable models is kept under a key.

        Several works wait for their models side by side, but only one of them runs at any moment: DSPy reads the
        source of programs, which Python 3.11 cannot do in two threads (python/cpython#106905).

        Raises:
            OptimisationError, StorageError: the optimisation cannot go on, whatever the work makes of that; the thread
                is left to end by itself.
        """

        def scoped() -> T:
            with call_scope(key, self._lock):
                try:
                    return work()
                except OptimisationOver as error:
                    raise OptimisationError("the optimisation has ended") from error

        thread = start_in(copy_context(), self._in_thread(scoped))
        over = asyncio.ensure_future(self._call_log.over.wait())
        try:
            await asyncio.wait({thread, over}, return_when=asyncio.FIRST_COMPLETED)
            self._call_log.check()
            return await thread
        finally:
            over.cancel()
            thread.cancel()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._limiter, abandon_on_cancel=True)

    async def attempt(self, key: str, work: Callable[[], Any]) -> bool:
        """Do work as `run_in_thread`; return whether it was done: if it raises, the report says so."""
        try:
            await self.run_in_thread(key, work)
        except Exception as error:
            self._call_log.check()
            self.report.left_out.append(f"{key}: {type(error).__name__}: {error}")
            return False
        return True

    async def gather(self, works: Sequence[Awaitable[T]]) -> list[T]:
        """Await all, side by side."""
        return list(await asyncio.gather(*works))

    def scored(
        self, number: int, outcomes: Sequence[RolloutOutcome], *, best: float | None = None, **details: Any
    ) -> float:
        """Note the score of a candidate, and return it. The ``best`` so far is the highest, if it is not given."""
        score = mean_score(outcomes)
        failures = sum(outcome.failure is not None for outcome in outcomes)
        best = self.report.note(Trial(number, score, len(outcomes), failures, details), best)
        self.progress.best(best)
        if self.runtime.events.wanted[CandidateScored]:
            name = self.report.optimiser
            self.runtime.events.emit(
                CandidateScored, optimiser=name, number=number, score=score, examples=len(outcomes), best=best
            )
        return score


def all_predictors(program: Any) -> list[Any]:
    """Return the predictors of a program, and then those of its parts that are frozen, which DSPy leaves out."""
    found = {id(predictor): predictor for _, predictor in program.named_predictors()}
    for _, part in program.named_sub_modules(dspy.Module):
        if part._compiled:
            found |= {id(predictor): predictor for _, predictor in part.named_predictors()}
    return list(found.values())


def check_model(student: Any) -> None:
    """Check that each predictor of a program has a language model, or that there is one for all.

    Raises:
        ModelRefused: there is none.
    """
    if dspy.settings.lm is None and any(predictor.lm is None for predictor in student.predictors()):
        raise ModelRefused(ValueError("no language model is configured: dspy.configure(lm=dspy.LM(...))"))


def refusal(error: Exception) -> Exception | None:
    """Return that a language model is not to be had, if an error says that; None otherwise."""
    return ModelRefused(error) if is_refused(error) else None
