"""Events of evaluations."""

from __future__ import annotations

from supervision.events import Event


class ExampleScored(Event, frozen=True, kw_only=True):
    """An example of an evaluation is done.

    Attributes:
        example: its digest.
        outcome: ``scored``, ``failed``, ``unparsed`` or ``unscored``.
        score: what the metric said; None if it said nothing.
    """

    example: str
    outcome: str
    score: float | None


class EvaluationWaits(Event, frozen=True, kw_only=True):
    """The language model is unavailable: ``why``, for how many ``seconds``; the ``next`` probe is in so many."""

    why: str
    seconds: float
    next: float


class EvaluationGoesOn(Event, frozen=True, kw_only=True):
    """The language model is available again after so many ``seconds``."""

    seconds: float


class EvaluationEnded(Event, frozen=True, kw_only=True):
    """An evaluation has ended.

    Attributes:
        score: the mean; None if too few examples have one.
        coverage: which part of the examples counts.
        examples: how many there are.
    """

    score: float | None
    coverage: float
    examples: int
