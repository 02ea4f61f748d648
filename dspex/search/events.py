"""Events of searches. That a hypothesis was looked at is a `CandidateScored`, as with any optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supervision.events import Event


class HypothesisDropped(Event, frozen=True, kw_only=True):
    """A race goes on without a hypothesis.

    Attributes:
        optimiser: the name of its class.
        number: of the hypothesis; 0 is the student, which is never dropped.
        hypothesis: its name.
        items: on how many items it was looked at.
        score: the mean over these.
        why: in words.
    """

    optimiser: str
    number: int
    hypothesis: str
    items: int
    score: float
    why: str


class HypothesisSuspended(Event, frozen=True, kw_only=True):
    """The language model of a hypothesis is away: the race goes on, and asks for it again at its next decision.

    Attributes:
        optimiser: the name of its class.
        number: of the hypothesis.
        hypothesis: its name.
        why: what its language model says.
    """

    optimiser: str
    number: int
    hypothesis: str
    why: str


class SearchStageDone(Event, frozen=True, kw_only=True):
    """A stage of the search of a team is done.

    Attributes:
        optimiser: the name of its class.
        stage: ``blocks``, ``members`` or ``whole``.
        score: of the team on the validation set, as far as the stage knows it; None if it does not.
        calls: how many calls of language models were paid for until then.
        why: it was left out; empty if it was not.
    """

    optimiser: str
    stage: str
    score: float | None
    calls: int
    why: str


class PopulationMemberCopied(Event, frozen=True, kw_only=True):
    """A member of a population goes on with the state of a better one, and with settings near that one's.

    Attributes:
        optimiser: the name of its class.
        interval: after which it has copied.
        member: its number.
        source: the number of the one that it has copied from.
        settings: with which it goes on.
    """

    optimiser: str
    interval: int
    member: int
    source: int
    settings: Mapping[str, Any]


class PopulationMemberLost(Event, frozen=True, kw_only=True):
    """What a member of a population needs was away for too long: the interval is over without it.

    Attributes:
        optimiser: the name of its class.
        interval: in which.
        member: its number.
        why: what was away.
    """

    optimiser: str
    interval: int
    member: int
    why: str


class ProgramMigrated(Event, frozen=True, kw_only=True):
    """The best program of an island was sent to another one.

    Attributes:
        optimiser: the name of its class.
        step: after which.
        source: the number of the island it is from.
        target: that of the island it was sent to.
        score: its mean score on the mini-batch by which it was chosen.
    """

    optimiser: str
    step: int
    source: int
    target: int
    score: float


class RingClosed(Event, frozen=True, kw_only=True):
    """Islands go on without some that have made no progress for too long. This is kept, and so the same when repeated.

    Attributes:
        optimiser: the name of its class.
        barrier: after which step, or ``end``.
        without: the numbers of these.
    """

    optimiser: str
    barrier: str
    without: tuple[int, ...]
