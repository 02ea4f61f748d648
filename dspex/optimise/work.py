"""One optimisation under way: what it does, what it pays, and what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import dspy

from dspex.jobs.spending import Spending
from dspex.jobs.work import JobSettings, JobWork, WorkNews
from dspex.optimise.feedback import read_taken, save_taken, with_feedback
from dspex.optimise.spec import OptimisationSpec
from dspex.teleprompt import CandidateScored
from supervision import Runtime
from supervision.events import Event

#: The file of the program that was made.
MADE = "program.json"
#: Which optimisation the running code belongs to.
_current: ContextVar[OptimisationWork | None] = ContextVar("dspex.optimise.work", default=None)


class OptimisationWork(JobWork):
    """Compiles a program, and can be stopped at any moment: begun again, it goes on where it was.

    Args:
        runtime: where it happens.
        spec: what is to be done.
        folder: of its journal, and of what comes out.
        data: the folder from which the paths of the specification are taken.
        settings: returns the language model, and the adapter.
        spending: pays.
        told: see `JobWork`.
        program: the name of the served program, for its feedback.
    """

    def __init__(
        self,
        runtime: Runtime,
        spec: OptimisationSpec,
        folder: Path,
        data: Path,
        settings: JobSettings,
        spending: Spending,
        told: Callable[[WorkNews], object],
        program: str = "",
    ) -> None:
        super().__init__(settings, spending, spec.price, told)
        self._runtime, self._spec, self._folder, self._data = runtime, spec, folder, data
        self._program = program

    async def run(self) -> None:
        """Compile, and save what comes out."""
        _current.set(self)
        subscription = self._runtime.subscribe(self._scored, CandidateScored)
        try:
            trainset = await self._trainset()
            settings = await self.settings()
            student, own = self._student()
            made = self._spec.teleprompter(
                log_dir=self._folder, display_progress=False, patience=None, runtime=self._runtime
            )
            made.paid = self.payer.paid
            with dspy.context(**{**settings, "lm": self.payer.paid(settings["lm"])}):
                found = await made.acompile(student, trainset=trainset, seed=self._spec.seed, **self._spec.compile)
            for name, predictor in found.named_predictors():
                predictor.lm = self.payer.unpaid(predictor.lm) if made.own_models else own.get(name)
            await asyncio.to_thread(found.save, self._folder / "new.json")
            (self._folder / "new.json").replace(self._folder / MADE)
        finally:
            subscription.close()

    async def _trainset(self) -> list[Any]:
        """Return the examples. Those of feedback are what they were when the job began, whatever was said since."""
        of = self._spec.trainset
        examples = await asyncio.to_thread(of.read, self._data, self._runtime)
        if of.feedback is None:
            return examples
        said = await asyncio.to_thread(read_taken, self._folder, of.inputs)
        if said is None:
            said = await of.feedback.read(self._runtime, self._program, self._data, of.inputs)
            await asyncio.to_thread(save_taken, self._folder, said)
        return with_feedback(examples, said)

    def _student(self) -> tuple[Any, dict[str, Any]]:
        """Return the program, whose own language models are paid for too; and these."""
        student = self._spec.student().deepcopy()
        own = {name: predictor.lm for name, predictor in student.named_predictors()}
        for _, predictor in student.named_predictors():
            predictor.lm = self.payer.paid(predictor.lm)
        return student, own

    def _scored(self, event: Event) -> None:
        if _current.get() is self and isinstance(event, CandidateScored):
            calls = self.payer.spending.calls
            self.told({"candidates": event.number + 1, "score": event.score, "best": event.best, "calls": calls})
