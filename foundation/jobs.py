"""The messages by which long work is started, watched, paused and ended: optimisations, evaluations.

The HTTP server sends them, an actor that owns jobs answers; it is found under the name ``KIND:PROGRAM`` (`jobs_name`).
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal, TypeAlias

import msgspec

from supervision import Request

#: Where a job is. The last four are final: ``over_budget`` can be resumed with more money, and ``failed`` once what is
#: wrong is mended.
JobState: TypeAlias = Literal[
    "queued",
    "running",
    "paused",
    "suspended",
    "stopping",
    "succeeded",
    "failed",
    "over_budget",
    "cancelled",
]
FINAL: frozenset[str] = frozenset({"succeeded", "failed", "over_budget", "cancelled"})


def jobs_name(kind: str, program: str) -> str:
    """Return the kernel name of the actor that owns a program's jobs of a kind."""
    return f"{kind}:{program}"


class Job(msgspec.Struct, frozen=True):
    """A job, as it is now.

    Attributes:
        state: where it is.
        id: its id.
        program: for which program it works.
        order: what was asked for.
        number: how many events there were: it changes with each, and with nothing else.
        created: when it was made, in seconds since the epoch.
        moved: when its state changed.
        why: why it is in this state.
        progress: how far it is, in its own words.
        spent: dollars.
        budget: the most that it may spend; None for any sum.
        version: the version of the program that it has made; None if none.
        calls: how many calls of language models it has paid for.
        max_calls: the most that it may make; None for any number.
    """

    state: JobState
    id: str
    program: str
    order: dict[str, Any]
    number: int
    created: float
    moved: float
    why: str = ""
    progress: dict[str, Any] = {}
    spent: float = 0.0
    budget: float | None = None
    version: int | None = None
    calls: int = 0
    max_calls: int | None = None


class JobEvent(msgspec.Struct, frozen=True):
    """Something that happened to a job: its ``number`` from 1, what ``kind`` of a thing, and the ``data``."""

    number: int
    kind: str
    data: dict[str, Any]


class StartJob(Request[Job], frozen=True):
    """Start a job; the same ``key`` with the same ``order`` starts it once, for a day.

    Attributes:
        order: what is to be done, as the owner of the jobs understands it.
        key: the caller's own name for this request (``Idempotency-Key``); None for none.
    """

    order: dict[str, Any]
    key: str | None = None


class ListJobs(Request[list[Job]], frozen=True):
    """Which jobs are there, the latest first? At most ``limit``, those before the job ``before``."""

    before: str | None = None
    limit: int = 100


class GetJob(Request[Job], frozen=True):
    """How far is a job? Answered at once; or, if it has ``seen`` no event yet, with the next one, or after ``wait``."""

    id: str
    seen: int | None = None
    wait: float = 0.0


class GetJobEvents(Request[list[JobEvent]], frozen=True):
    """What has happened to a job after the event ``after``? Answered when there is something, or after ``wait``."""

    id: str
    after: int = 0
    wait: float = 0.0


class MoveJob(Request[Job], frozen=True):
    """Pause a job, resume it, or cancel it.

    Attributes:
        id: which.
        state: ``paused``, ``running`` or ``cancelled``.
        seen: the number of the job that the caller has seen; None for any.
        budget: dollars that it may spend from now on, all in all; None for as before.
        max_calls: calls that it may make from now on, all in all; None for as before.
    """

    id: str
    state: str
    seen: int | None = None
    budget: float | None = None
    max_calls: int | None = None


class DeleteJob(Request[None], frozen=True):
    """Forget a job that is over, with all that it has kept."""

    id: str
    seen: int | None = None


class GetJobResult(Request[dict[str, Any]], frozen=True):
    """What has a job made? An optimisation a program, as DSPy saves it; an evaluation what it has found."""

    id: str


class JobError(Exception):
    """A job cannot be had, or changed, in this way.

    Args:
        status: the HTTP status that says so.
        word: in a word that does not change.
        why: for people.
        told: further facts.
    """

    def __init__(self, status: HTTPStatus, word: str, why: str, told: Mapping[str, Any] | None = None) -> None:
        self.status = status
        self.word = word
        self.told = dict(told or {})
        super().__init__(why)
