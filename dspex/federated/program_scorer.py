"""A scorer that runs a DSPy program, as a candidate says, on examples of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from dspex.evaluate.evaluation import evaluate
from dspex.federated.choices import CandidateScore
from dspex.federated.errors import BadFederation
from dspex.workflow.encoding import digest


class ProgramScorer:
    """Runs programs on examples that stay here.

    Answers of language models are kept in a folder: killed, it asks for nothing twice. A model that is unavailable is
    waited for, and is no score; then there is no report of this client in this round.

    Args:
        make: makes a program of a candidate, such as ``lambda chosen: space.apply(program, chosen)``; None if it
            cannot, for instance because it does not know a demonstration.
        examples: of this client.
        metric: a function of an example and a prediction; from 0 to 1.
        classes: the field of an example that says of which class it is, for `MacroMean`; None to tell nothing of that.
        log_dir: a folder for what is known; None to keep it in memory.
        options: as for `dspex.evaluate.evaluate`: ``num_threads``, ``patience``, ``budget`` and others.
    """

    def __init__(
        self,
        make: Callable[[Any], Any],
        examples: Sequence[Any],
        metric: Callable[..., Any],
        *,
        classes: str | None = None,
        log_dir: str | Path | None = None,
        **options: Any,
    ) -> None:
        if not callable(make):
            raise BadFederation("ProgramScorer: make", make, "give a function that makes a program of a candidate")
        self._make, self._examples, self._metric, self._classes = make, list(examples), metric, classes
        self._folder, self._options = None if log_dir is None else Path(log_dir), options

    async def score(self, candidate: Any) -> CandidateScore:
        """Return the sums of a candidate's scores; of examples without a score nothing is told."""
        program = self._make(candidate)
        if program is None or not self._examples:
            return CandidateScore()
        name = digest(msgspec.json.encode(candidate, order="deterministic"))
        folder = None if self._folder is None else self._folder / name
        result = await evaluate(program, self._examples, self._metric, log_dir=folder, **self._options)
        rows = [row for row in result.examples if row.score is not None]
        labels = None
        if self._classes is not None:
            labels = [str(self._examples[row.index][self._classes]) for row in rows]
        return CandidateScore.of([row.score for row in rows if row.score is not None], labels)
