"""The base of all teleprompters: supervised workers, a journal, patience, and a report."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import Any

import dspy

from agents.durability import SqliteStorage, Storage
from dspex._compat import unrouted
from dspex._loops import await_in_loop, is_running_here
from dspex.agents.background import PROGRAM_AGENTS, background_runtime
from dspex.models.call_log import CallLog, SharedAnswers
from dspex.teleprompt.errors import BadTrainset, ModelUnavailable
from dspex.teleprompt.guard import RunGuard
from dspex.teleprompt.identity import identity
from dspex.teleprompt.journals import alone_in, opened_journal, opened_storage, storage_errors
from dspex.teleprompt.report import OptimisationReport, Progress
from dspex.teleprompt.rollouts import MetricGuard, RolloutPool
from dspex.teleprompt.run import OptimisationRun, refusal
from dspex.teleprompt.suspension import ModelSuspension
from dspex.workflow.workers import Coordinator
from foundation.options import above_zero
from foundation.tree.errors import did_you_mean
from supervision import ChildSpec, NoProcess, Runtime, Supervisor, start_child, terminate_child
from supervision.errors import BadOption
from supervision.options import is_whole

#: So many workers there are, if nobody says how many; and so many at most.
THREADS, MOST_THREADS = 64, 10_000
#: What of the arguments of ``compile`` are examples.
_EXAMPLES = ("trainset", "valset", "testset")


def check_data(student: Any, data: Mapping[str, Any]) -> None:
    """Check that a student is a program, and that examples are examples.

    Raises:
        BadOption: one of them is something else.
    """
    if not isinstance(student, dspy.Module):
        raise BadOption("student", student, "give a dspy.Module")
    for name in _EXAMPLES:
        given = data.get(name)
        if given is None and name != "trainset":
            continue
        if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Sequence):
            raise BadOption(name, given, "give a list of dspy.Example")
        wrong = next((one for one in given if not isinstance(one, dspy.Example)), None)
        if wrong is not None:
            raise BadOption(name, wrong, "each is a dspy.Example: dspy.Example(…).with_inputs(…)")


def _option_names(kind: type) -> set[str]:
    """Return the names of all options of a teleprompter."""
    made = (vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base))
    given = (one for function in made for one in inspect.signature(function).parameters.values())
    return {one.name for one in given if one.kind is one.KEYWORD_ONLY}


class DurableTeleprompter(dspy.teleprompt.Teleprompter):  # type: ignore[misc]
    """A teleprompter whose work survives: the base of those of this package.

    Rollouts are made by supervised workers, side by side. Every answer of a language model and every score is kept in
    a journal before it is used. While a model is unavailable, the optimisation waits; what died is done again. So
    workers, the coordinator or the whole process may die at any moment, and the program that comes out is the same.

    Args:
        metric: a function, or an async one, of an example and a prediction, that returns a number or a
            ``dspy.Prediction`` with a ``score``. If it raises, returns no finite number, or takes too long, the example
            counts 0, and the report tells. A number is any of Python's or numpy's, and a truth value.
        num_threads: how many workers there are; 64 if None.
        log_dir: a folder to keep the journal and the report in. Compiled again with the same folder after a crash, it
            goes on where it was. None to keep them in memory.
        fresh: whether to begin anew, beside what is kept in the folder.
        metric_id: vouches for the metric, such as a version: as long as it is the same, so is the metric. If None, the
            metric is known by its code, and by what that uses of the user's own modules.
        program_id: vouches for the program's code and state in the same way.
        metric_timeout: seconds that the metric may take; None for any time.
        patience: seconds to wait for a language model that is unavailable; None for ever. One that refuses, for want of
            a key or of money, or as there is no such model, is not waited for.
        display_progress: whether a progress bar is shown; None for only if there is a terminal.
        runtime: where the workers live. If None, in a thread that all share.

    Raises:
        BadOption: an option is not known, or makes no sense.
    """

    #: How many examples are needed.
    needed = 1
    #: What ``compile`` takes beside student, training set and seed; None for whatever `search` takes.
    takes: tuple[str, ...] | None = None
    #: Whether what it makes may ask other language models than the student.
    own_models = False
    #: Whether an answer at temperature 0 is asked for once, whichever of its programs asks.
    shares_answers = False
    #: What it reports in.
    report_kind: type[OptimisationReport] = OptimisationReport

    def __init__(
        self,
        *,
        metric: Callable[..., Any] | None,
        num_threads: int | None = None,
        log_dir: str | Path | None = None,
        fresh: bool = False,
        metric_id: str | None = None,
        program_id: str | None = None,
        metric_timeout: float | None = 60.0,
        patience: float | None = 600.0,
        display_progress: bool | None = None,
        runtime: Runtime | None = None,
        **others: Any,
    ) -> None:
        super().__init__()
        for name, value in others.items():
            hint = did_you_mean(name, _option_names(type(self)))
            raise BadOption(f"{type(self).__name__}: {name}", value, f"there is no such option{hint}")
        if metric is not None and not callable(metric):
            raise BadOption("metric", metric, "give a function of an example and a prediction")
        if num_threads is not None and not is_whole(num_threads, 1):
            raise BadOption("num_threads", num_threads, "give a whole number: at least one worker is needed")
        if num_threads is not None and num_threads > MOST_THREADS:
            raise BadOption("num_threads", num_threads, f"give at most {MOST_THREADS}")
        self.metric = metric
        self.num_threads = num_threads
        if log_dir is not None and not (isinstance(log_dir, (str, Path)) and str(log_dir).strip()):
            raise BadOption("log_dir", log_dir, "give the path of a folder; None to keep the journal in memory")
        self.log_dir = None if log_dir is None else Path(log_dir)
        self.fresh, self.metric_id, self.program_id = fresh, metric_id, program_id
        self.metric_timeout = None if metric_timeout is None else above_zero("metric_timeout", metric_timeout)
        self.patience = patience
        self.display_progress = display_progress
        self._runtime = runtime
        #: Returns the language model that is asked instead of one that is not the student's; jobs have it paid for.
        self.paid: Callable[[Any], Any] = lambda lm: lm
        #: What the last compilation has found out; None before the first.
        self.report: OptimisationReport | None = None

    def compile(self, student: Any, *, trainset: Sequence[Any], seed: int = 0, **data: Any) -> Any:
        """Return a better program than the student, which stays as it is.

        Args:
            student: a ``dspy.Module``.
            trainset: the examples.
            seed: the same seed makes the same program, given the same answers.
            data: what the teleprompter takes besides; see its class.

        Raises:
            BadOption: what is given is no program, are no examples, or is nothing that it takes.
            BadTrainset: there are too few examples.
            NoFingerprint: data among the examples cannot be told apart.
            OtherOptimisation, BadOptimisationJournal: ``log_dir`` holds another optimisation, or what is no journal.
            LogDirInUse, OptimisationStorageError: another one is at work there, or it cannot be read or written.
            ModelUnavailable: a language model was unavailable for longer than the patience.
            ModelRefused: it is not to be had in this way.
            EveryExampleFailed: not one example could be scored.
        """
        return background_runtime().run(lambda: self.acompile(student, trainset=trainset, seed=seed, **data))

    async def acompile(self, student: Any, *, trainset: Sequence[Any], seed: int = 0, **data: Any) -> Any:
        """Do as `compile`, in an event loop: that of ``runtime``, if there is one; any otherwise."""
        background = None if self._runtime is not None else background_runtime()
        if background is not None and not is_running_here(background.loop):
            work = self.acompile(student, trainset=trainset, seed=seed, **data)
            return await await_in_loop(background.loop, work)
        runtime = self._runtime if background is None else background.runtime
        assert runtime is not None
        check_data(student, {"trainset": trainset, **data})
        self.check_taken(data)
        if len(trainset) < self.needed:
            raise BadTrainset(len(trainset), self.needed)
        with alone_in(self.log_dir), storage_errors(self.log_dir):
            storage = self._storage()
            try:
                return await self._compile(runtime, storage, unrouted(student), list(trainset), seed, data)
            finally:
                if isinstance(storage, SqliteStorage):
                    storage.close()

    async def _compile(
        self, runtime: Runtime, storage: Storage, student: Any, trainset: list[Any], seed: int, data: dict[str, Any]
    ) -> Any:
        what = self._identity(student, trainset, seed, data)
        path = None if self.log_dir is None else self.log_dir / "journal.sqlite"
        journal, resumed = await opened_journal(storage, what, fresh=self.fresh, path=path)
        name = f"dspex.optimisation:{type(self).__name__}:{id(journal):x}"
        pool = RolloutPool(runtime, f"{name}.workers", self.num_threads or THREADS)
        suspensions = (ModelSuspension(runtime, self.patience), ModelSuspension(runtime, self.patience))
        shared = SharedAnswers() if self.shares_answers else None
        call_log = CallLog(journal, suspensions[0], ModelUnavailable, refusal, shared=shared)
        guard = RunGuard(call_log, suspensions[1], pool)
        report = self.report_kind(type(self).__name__, seed, resumed)
        with Progress(report, call_log, suspensions[0], runtime, self.display_progress) as progress:
            result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            run = OptimisationRun(name, runtime, journal, call_log, guard, pool, report, progress, copy_context())

            self._outages = run.outages

            async def begin() -> Any:
                run.begin()
                return await self.search(run, student, trainset, seed, **data)

            coordinator = ChildSpec("coordinator", Coordinator, (begin, run.context, result), restart="transient")
            children = [pool.spec(self.metric_guard(self.metric)), *self.actors(run), coordinator]
            budget = {"max_restarts": 100, "max_seconds": 1.0}
            spec = ChildSpec(name, Supervisor, (children,), budget, name=name, restart="temporary")
            starting = asyncio.ensure_future(start_child(runtime.name(PROGRAM_AGENTS), spec))
            try:
                await asyncio.shield(starting)
                program = await result
            except ModelUnavailable as error:
                if error.answers:
                    await run.drain(error)
                raise
            finally:
                # Whoever is cancelled while it starts would else leave it at work for nobody.
                await asyncio.wait([starting])
                if starting.exception() is None:
                    with suppress(NoProcess):  # it has ended with its runtime
                        await terminate_child(runtime.name(PROGRAM_AGENTS), starting.result())
                report.settle(call_log, [*suspensions, *await run.close()], pool)
                self.report = report
        if self.log_dir is not None:
            report.save(self.log_dir)
        return program

    def check_taken(self, data: Mapping[str, Any]) -> None:
        """Check what ``compile`` is given by name, beside student, training set and seed.

        Raises:
            BadOption: it takes nothing of that name.
        """
        if self.takes is None:
            return
        for name, value in data.items():
            if name not in self.takes:
                names = ", ".join(("trainset", "seed", *self.takes))
                raise BadOption(name, value, f"{type(self).__name__} takes {names}")

    @property
    def fits_inside(self) -> bool:
        """Whether it can be a part of another one; see `inside`. It can, if it has no actors of its own."""
        return type(self).actors is DurableTeleprompter.actors

    def inside(self, whole: DurableTeleprompter) -> DurableTeleprompter:
        """Return it as a part of another one, in whose run its `search` is made: that one waits, and pays."""
        self._outages, self.paid = whole._outages, whole.paid
        return self

    def metric_guard(self, metric: Any) -> MetricGuard:
        """Return what asks a metric, and checks what it says."""
        return MetricGuard(metric, self.metric_timeout, self._outages)

    def guarded_metric(self, run: OptimisationRun, metric: Any) -> Any:
        """Return a metric for DSPy's optimisers, which means by it what ours do; None for none."""
        return None if metric is None else run.guard.guarded_metric(metric, self.metric_guard(metric))

    def _storage(self) -> Storage:
        return opened_storage(self.log_dir)

    def _identity(self, student: Any, trainset: list[Any], seed: int, data: dict[str, Any]) -> dict[str, Any]:
        """Return what tells this optimisation from others."""
        known = identity(
            type(self).__name__,
            student,
            {"trainset": trainset, "seed": seed, **data},
            metric=self.metric,
            metric_id=self.metric_id,
            program_id=self.program_id,
        )
        return {**known, **self.parameters()}

    def actors(self, run: OptimisationRun) -> list[ChildSpec]:
        """Return actors that it has beside its workers, under the supervisor of the run."""
        return []

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that decide what comes out, for the journal."""
        raise NotImplementedError

    async def search(self, run: OptimisationRun, student: Any, trainset: list[Any], seed: int, **data: Any) -> Any:
        """Return the best program. To be the same whenever it is repeated, it takes chance from ``seed`` alone."""
        raise NotImplementedError
