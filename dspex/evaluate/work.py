"""One evaluation of a served program under way: of one version, and of another to compare with, if it is to be."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import msgspec

from dspex.data.examples import read_examples
from dspex.evaluate.comparison import Comparison, compare
from dspex.evaluate.errors import EvaluationOverBudget
from dspex.evaluate.evaluation import evaluate
from dspex.evaluate.outcomes import ExampleOutcome
from dspex.evaluate.result import EvaluationResult
from dspex.evaluate.spec import EvaluationJobSpec, path_within
from dspex.jobs.spending import Spending
from dspex.jobs.work import JobSettings, JobWork, WorkNews
from foundation.programs import GetVersion, program_name
from supervision import Runtime, call_when_ready

#: The file of what was found.
FOUND = "result.json"
#: Seconds that a program has to start, and to give a version.
_VERSION = 60.0
#: So often progress is told, for each version.
_TOLD = 50


class EvaluationWork(JobWork):
    """Evaluates versions of a program, and can be stopped at any moment: begun again, it goes on where it was.

    Args:
        runtime: where it happens.
        program: the name of the program.
        spec: what is to be done.
        folder: of its journals, and of what comes out.
        data: the folder from which the path of the examples is taken.
        settings: returns the language model, and the adapter.
        spending: pays.
        told: see `JobWork`.
    """

    def __init__(
        self,
        runtime: Runtime,
        program: str,
        spec: EvaluationJobSpec,
        folder: Path,
        data: Path,
        settings: JobSettings,
        spending: Spending,
        told: Callable[[WorkNews], object],
    ) -> None:
        super().__init__(settings, spending, spec.price, told)
        self._runtime, self._program, self._spec = runtime, program, spec
        self._folder, self._data = folder, data

    async def run(self) -> None:
        """Evaluate, and save what was found."""
        devset, settings = await asyncio.to_thread(self._examples), await self.settings()
        numbers = [self._spec.version] if self._spec.against is None else [self._spec.against, self._spec.version]
        try:
            found = [await self._evaluated(number, devset, settings) for number in numbers]
        except EvaluationOverBudget as error:
            raise error.why from error
        compared = compare(found[0], found[1]) if len(found) == 2 else None
        await asyncio.to_thread(self._save, found, compared)

    def _examples(self) -> list[Any]:
        file = self._spec.devset
        path = self._data / path_within(self._data, file.path)
        return read_examples(path, file.inputs, types=file.types, limit=file.limit)

    async def _evaluated(self, number: int | None, devset: list[Any], settings: dict[str, Any]) -> EvaluationResult:
        """Evaluate a version of the program."""
        address = self._runtime.name(program_name(self._program))
        program = await call_when_ready(address, GetVersion(number), _VERSION)
        progress = _Progress(number, len(devset) * self._spec.repetitions, self)
        with dspy.context(**settings):
            return await evaluate(
                program,
                devset,
                self._spec.function(),
                log_dir=self._folder / f"version-{number}",
                patience=None,
                payer=self.payer,
                on_outcome=progress.add,
                display_progress=False,
                runtime=self._runtime,
                **self._spec.options(),
            )

    def _save(self, found: list[EvaluationResult], compared: Comparison | None) -> None:
        """Write what was found, at once or not at all."""
        made = {
            "version": self._spec.version,
            "evaluation": found[-1],
            "against": found[0] if compared is not None else None,
            "comparison": compared,
        }
        (self._folder / "new.json").write_bytes(msgspec.json.encode(made))
        (self._folder / "new.json").replace(self._folder / FOUND)


class _Progress:
    """Tells how far the evaluation of a version is, now and then.

    Args:
        version: which.
        total: how many runs there are.
        work: tells.
    """

    def __init__(self, version: int | None, total: int, work: EvaluationWork) -> None:
        self._version, self._total, self._work = version, total, work
        self._outcomes: Counter[str] = Counter()
        self._sum = 0.0

    def add(self, outcome: ExampleOutcome) -> None:
        """Take what became of a run."""
        self._outcomes[outcome.kind] += 1
        self._sum += outcome.score or 0.0
        done = self._outcomes.total()
        if done % max(1, self._total // _TOLD) == 0 or done == self._total:
            scored = self._outcomes["scored"]
            mean = self._sum / scored if scored else None
            told = {"evaluating": self._version, "done": done, "total": self._total, "mean": mean}
            self._work.told({**told, "outcomes": dict(self._outcomes), "calls": self._work.payer.spending.calls})
