"""Two-way sentiment of a text, by whatever language model there is; the program of the default tree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import dspy

from dspex.models.local.server import LANGUAGE_MODEL, LanguageModelServer
from dspex.models.selection import uses_embedded
from dspex.serving.program import ProgramActor
from foundation.programs import program_name
from supervision import Backoff, ChildSpec

#: What the program is called; `program_name` makes the name under which its actor is found.
SENTIMENT = "sentiment"


class Sentiment(dspy.Signature):  # type: ignore[misc]
    """Classify the sentiment of the text as positive or negative."""

    text: str = dspy.InputField(desc="one or two sentences in English")
    sentiment: Literal["positive", "negative"] = dspy.OutputField()


def sentiment() -> Any:
    """Return the program: a plain ``dspy.Predict``."""
    return dspy.Predict(Sentiment)


def children(environ: Mapping[str, str] | None = None, *, concurrency: int = 2) -> list[ChildSpec]:
    """Return the children of a supervisor that serve the program: the embedded model, if it is used, and the program.

    Args:
        environ: the environment; that of the process if None. See `dspex.models.selection`.
        concurrency: how many requests run at the same time; the embedded model computes as many side by side.
    """
    found = dict(os.environ if environ is None else environ)
    program = ChildSpec(
        SENTIMENT,
        ProgramActor,
        args=("dspex.programs.sentiment:sentiment",),
        kwargs={"concurrency": concurrency, "environ": found},
        name=program_name(SENTIMENT),
    )
    if not uses_embedded(found):
        return [program]
    model = ChildSpec(
        LANGUAGE_MODEL,
        LanguageModelServer,
        kwargs={"slots": concurrency, "context": 2048 * concurrency},
        name=LANGUAGE_MODEL,
        backoff=Backoff(initial=0.1, maximum=5.0),
    )
    return [model, program]
