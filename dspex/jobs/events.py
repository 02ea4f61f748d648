"""Events of jobs."""

from __future__ import annotations

from supervision.events import Event


class JobMoved(Event, frozen=True, kw_only=True):
    """A job has another state.

    Attributes:
        kind: of the job, such as ``optimisations``.
        program: for which it works.
        job: its id.
        before: its state until now; empty if it is new.
        state: its state.
        why: the reason, in words.
    """

    kind: str
    program: str
    job: str
    before: str
    state: str
    why: str


class BudgetReached(Event, frozen=True, kw_only=True):
    """A job would have spent more than it may, and has stopped before it.

    Attributes:
        kind: of the job, such as ``optimisations``.
        program: for which it works.
        job: its id.
        budget: dollars; None for any sum.
        spent: dollars.
        max_calls: how many calls of language models it may make; None for any number.
        calls: how many it has made.
    """

    kind: str
    program: str
    job: str
    budget: float | None
    spent: float
    max_calls: int | None
    calls: int
