"""Events of workflows."""

from __future__ import annotations

from supervision.events import Event


class StepEnded(Event, frozen=True, kw_only=True):
    """A step of a workflow has ended, for good.

    Attributes:
        workflow: its name.
        step: the key of the step.
        state: ``done``, ``failed`` or ``cancelled``.
        attempt: how often it was tried, over all restarts.
        seconds: how long it took, since it was begun in this incarnation.
    """

    workflow: str
    step: str
    state: str
    attempt: int
    seconds: float


class StepRetried(Event, frozen=True, kw_only=True):
    """The infrastructure has failed a step: ``why``; it is tried again in ``next`` seconds."""

    workflow: str
    step: str
    attempt: int
    why: str
    next: float


class CheckpointUnreadable(Event, frozen=True, kw_only=True):
    """A checkpoint of a workflow cannot be read, and the one before it is used: ``generation`` is its number."""

    workflow: str
    generation: int
    why: str


class ItemLost(Event, frozen=True, kw_only=True):
    """A worker has ended with an item, or its lease is over.

    Attributes:
        workflow: its name.
        item: what was lost.
        worker: who had it.
        why: how the worker ended, or ``lease``.
        quarantined: whether too many were lost with it, and no other will get it.
    """

    workflow: str
    item: str
    worker: str
    why: str
    quarantined: bool


class RoundClosed(Event, frozen=True, kw_only=True):
    """A round of a workflow is closed.

    Attributes:
        workflow: its name.
        round: the key of the round.
        state: ``decided`` or ``void``.
        why: why it is void.
        answered: how many answers are used, of ``asked``.
    """

    workflow: str
    round: str
    state: str
    why: str
    answered: int
    asked: int
