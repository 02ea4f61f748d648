"""The base of all teleprompters: supervised workers, a journal, patience, and a report."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextvars import copy_context
from pathlib import Path
from typing import Any

import dspy
import orjson

from agents.durability import MemoryStorage, SqliteStorage, Storage
from dspex._compat import unrouted
from dspex.agents.background import PROGRAM_AGENTS, background_runtime
from dspex.models.call_log import CallLog
from dspex.teleprompt.errors import (
    BadOptimisationJournal,
    BadTrainset,
    ModelUnavailable,
    OptimisationError,
    OtherOptimisation,
)
from dspex.teleprompt.report import OptimisationReport, Progress
from dspex.teleprompt.rollouts import MetricGuard, RolloutPool
from dspex.teleprompt.run import OptimisationRun
from dspex.teleprompt.suspension import ModelSuspension
from dspex.workflow import errors as workflow
from dspex.workflow.journal import Journal
from dspex.workflow.workers import Coordinator
from supervision import ChildSpec, Runtime, Supervisor, start_child, terminate_child
from supervision.errors import BadOption

#: Under which key an optimisation is kept.
_KEY = "optimisation"


class DurableTeleprompter(dspy.teleprompt.Teleprompter):  # type: ignore[misc]
    """A teleprompter whose work survives: the base of those of this package.

    Rollouts are made by supervised workers, side by side. Every answer of a language model and every score is kept in
    a journal before it is used. While a model is unavailable, the optimisation waits; what died is done again. So
    workers, the coordinator or the whole process may die at any moment, and the program that comes out is the same.

    Args:
        metric: a function, or an async one, of an example and a prediction, that returns a number or a
            ``dspy.Prediction`` with a ``score``. If it raises, returns no finite number, or takes too long, the example
            counts 0, and the report tells.
        num_threads: how many workers there are.
        log_dir: a folder to keep the journal and the report in. Compiled again with the same folder after a crash, it
            goes on where it was. None to keep them in memory.
        metric_timeout: seconds that the metric may take; None for any time.
        patience: seconds to wait for a language model that is unavailable; None for ever.
        display_progress: whether a progress bar is shown; None for only if there is a terminal.
        runtime: where the workers live. If None, in a thread that all share.
    """

    #: How many examples are needed.
    needed = 1

    def __init__(
        self,
        *,
        metric: Callable[..., Any] | None,
        num_threads: int | None = None,
        log_dir: str | Path | None = None,
        metric_timeout: float | None = 60.0,
        patience: float | None = 600.0,
        display_progress: bool | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        super().__init__()
        if num_threads is not None and num_threads < 1:
            raise BadOption("num_threads", num_threads, "at least one worker is needed")
        self.metric = metric
        self.num_threads = num_threads
        self.log_dir = None if log_dir is None else Path(log_dir)
        self.metric_timeout = metric_timeout
        self.patience = patience
        self.display_progress = display_progress
        self._runtime = runtime
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
            BadTrainset: there are too few examples.
            OtherOptimisation, BadOptimisationJournal: ``log_dir`` holds another optimisation, or what is no journal.
            ModelUnavailable: a language model was unavailable for longer than the patience.
        """
        return background_runtime().run(lambda: self.acompile(student, trainset=trainset, seed=seed, **data))

    async def acompile(self, student: Any, *, trainset: Sequence[Any], seed: int = 0, **data: Any) -> Any:
        """Do as `compile`, in an event loop: that of ``runtime``, if there is one; any otherwise."""
        background = None if self._runtime is not None else background_runtime()
        if background is not None and asyncio.get_running_loop() is not background.loop:
            work = self.acompile(student, trainset=trainset, seed=seed, **data)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, background.loop))
        runtime = self._runtime if background is None else background.runtime
        assert runtime is not None
        if len(trainset) < self.needed:
            raise BadTrainset(len(trainset), self.needed)
        storage = self._storage()
        try:
            return await self._compile(runtime, storage, unrouted(student), list(trainset), seed, data)
        finally:
            if isinstance(storage, SqliteStorage):
                storage.close()

    async def _compile(
        self, runtime: Runtime, storage: Storage, student: Any, trainset: list[Any], seed: int, data: dict[str, Any]
    ) -> Any:
        journal, suspension = Journal(storage, _KEY), ModelSuspension(runtime, self.patience)
        resumed = await _opened(journal, self._identity(student, trainset, seed, data))
        name = f"dspex.optimisation:{type(self).__name__}:{id(journal):x}"
        pool = RolloutPool(runtime, f"{name}.workers", self.num_threads or 64)
        call_log = CallLog(journal, suspension, ModelUnavailable)
        report = OptimisationReport(type(self).__name__, seed, resumed)
        with Progress(report, call_log, suspension, runtime, self.display_progress) as progress:
            result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            run = OptimisationRun(runtime, journal, call_log, suspension, pool, report, progress, copy_context())

            async def begin() -> Any:
                run.begin()
                return await self.search(run, student, trainset, seed, **data)

            coordinator = ChildSpec("coordinator", Coordinator, (begin, run.context, result), restart="transient")
            children = [pool.spec(MetricGuard(self.metric, self.metric_timeout)), coordinator]
            budget = {"max_restarts": 100, "max_seconds": 1.0}
            spec = ChildSpec(name, Supervisor, (children,), budget, name=name, restart="temporary")
            supervisor = await start_child(runtime.name(PROGRAM_AGENTS), spec)
            assert supervisor is not None
            try:
                program = await result
            finally:
                await terminate_child(runtime.name(PROGRAM_AGENTS), supervisor)
                await call_log.close(OptimisationError("the optimisation has ended"))
                report.settle(call_log, suspension, pool)
                self.report = report
        if self.log_dir is not None:
            report.save(self.log_dir)
        return program

    def _storage(self) -> Storage:
        return MemoryStorage() if self.log_dir is None else SqliteStorage(self.log_dir / "journal.sqlite", "normal")

    def _identity(self, student: Any, trainset: list[Any], seed: int, data: dict[str, Any]) -> dict[str, Any]:
        """Return what tells this optimisation from others."""
        bare = student.deepcopy()
        bare.set_lm(None)
        state = hashlib.sha256(orjson.dumps(bare.dump_state(), default=repr)).hexdigest()[:16]
        found = {name: _plain_list(value) for name, value in data.items()}
        return {
            "teleprompter": type(self).__name__,
            "seed": seed,
            "trainset": _plain_list(trainset),
            "student": state,
            **self.parameters(),
            **found,
        }

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that decide what comes out, for the journal."""
        raise NotImplementedError

    async def search(self, run: OptimisationRun, student: Any, trainset: list[Any], seed: int, **data: Any) -> Any:
        """Return the best program. To be the same whenever it is repeated, it takes chance from ``seed`` alone."""
        raise NotImplementedError


async def _opened(journal: Journal, what: dict[str, Any]) -> bool:
    """Open the journal of an optimisation, and return whether it has begun before."""
    try:
        return await journal.open(what)
    except workflow.OtherRun as error:
        raise OtherOptimisation(error.differing) from None
    except workflow.BadJournal as error:
        raise BadOptimisationJournal(error.version, error.why) from error


def _plain(example: Any) -> Any:
    return {key: value if isinstance(value, (str, int, float)) else repr(value) for key, value in example.items()}


def _plain_list(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return hashlib.sha256(orjson.dumps([_plain(example) for example in value])).hexdigest()[:16]
    return repr(value)
