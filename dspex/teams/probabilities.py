"""Programs that tell how probable their answers are, as `SoftVote` and `Stacking` want to know."""

from __future__ import annotations

import json
from typing import Any

import dspy

from dspex._compat import ToldChoice
from dspex.agents.agent import load
from dspex.models.local.adapter import choices_of
from dspex.teams.errors import BadTeam
from dspex.teams.shares import PROBABILITIES


class WithProbabilities(dspy.Module):  # type: ignore[misc]
    """A program whose answers say how probable its language model has found each, in the field ``probabilities``.

    The embedded model tells it, where the one output is a ``Literal``, a ``bool`` or an enum and the adapter is
    `CompactAdapter`. Of a model that does not tell, the answer is as it was.

    Args:
        program: a ``dspy.Module`` with one predictor, or what makes one.

    Raises:
        BadProgram: it is none.
        BadTeam: it has several predictors, or its answers cannot be listed.
    """

    def __init__(self, program: object) -> None:
        super().__init__()
        self.program = load(program)
        predictors = self.program.predictors()
        fields = list(predictors[0].signature.output_fields.values()) if len(predictors) == 1 else []
        labels = choices_of(fields[0].annotation) if len(fields) == 1 else ()
        if not labels:
            raise BadTeam("WithProbabilities: program", program, "give one predictor with one output, a Literal")
        self._labels = {label if isinstance(label, str) else json.dumps(label): label for label in labels}

    @property
    def signature(self) -> Any:
        """The inputs and outputs of the program."""
        return self.program.predictors()[0].signature

    def forward(self, **inputs: Any) -> Any:
        """Answer, and tell."""
        told = ToldChoice()
        with told.watched():
            found = self.program(**inputs)
        return self._with(found, told)

    async def aforward(self, **inputs: Any) -> Any:
        """Answer, and tell."""
        told = ToldChoice()
        with told.watched():
            found = await self.program.acall(**inputs)
        return self._with(found, told)

    def _with(self, found: Any, told: ToldChoice) -> Any:
        if set(told.shares) == set(self._labels):
            found[PROBABILITIES] = {label: told.shares[text] for text, label in self._labels.items()}
        return found
