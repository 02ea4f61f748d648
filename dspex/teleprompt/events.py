"""Events of optimisations."""

from __future__ import annotations

from supervision.events import Event


class CandidateScored(Event, frozen=True, kw_only=True):
    """A candidate program has its score.

    Attributes:
        optimiser: the name of its class.
        number: of the candidate, in the order in which they were made.
        score: the mean over the examples.
        examples: over how many.
        best: the best score so far.
    """

    optimiser: str
    number: int
    score: float
    examples: int
    best: float


class OptimisationSuspended(Event, frozen=True, kw_only=True):
    """The language model is unavailable: ``why``, for how many ``seconds``; the ``next`` probe is in so many."""

    why: str
    seconds: float
    next: float


class OptimisationResumed(Event, frozen=True, kw_only=True):
    """The language model is available again after so many ``seconds``."""

    seconds: float


class WorkerLost(Event, frozen=True, kw_only=True):
    """A worker died with a rollout, which another one does again: ``job`` is its key, ``why`` how the worker ended."""

    job: str
    why: str
