"""Events of rollouts."""

from __future__ import annotations

from supervision.events import Event


class RolloutMoved(Event, frozen=True, kw_only=True):
    """A rollout has moved.

    Attributes:
        program: whose.
        rollout: its id.
        version: that is tried.
        source: from where.
        target: to where.
        step: in which of its steps it is now.
        share: which share of the units the version answers now.
        why: the reason, with its numbers.
        who: ``rule``, or a person.
    """

    program: str
    rollout: str
    version: int
    source: str
    target: str
    step: int
    share: float
    why: str
    who: str


class RolloutUnwritten(Event, frozen=True, kw_only=True):
    """A move of a rollout to ``target`` cannot be written: ``why``; no traffic goes to its version until it is."""

    program: str
    rollout: str
    target: str
    why: str


class ScoreMissing(Event, frozen=True, kw_only=True):
    """An answer that was to be scored has no score: of which version, for which objective (``slo``), and ``why``."""

    program: str
    rollout: str
    version: int
    slo: str
    why: str


class ShadowBudgetSpent(Event, frozen=True, kw_only=True):
    """The version in the shadow is asked no more, as it may not spend more: the rollout is decided by what it has.

    Attributes:
        program: the name of the program.
        rollout: the id of the rollout.
        version: the number of the version.
        spent: dollars.
        budget: dollars that it may spend; None for any sum.
        asked: how often it was asked.
        calls: how often it may be asked; None for any number.
    """

    program: str
    rollout: str
    version: int
    spent: float
    budget: float | None
    asked: int
    calls: int | None


class ShadowSkipped(Event, frozen=True, kw_only=True):
    """A call was not asked of the version in the shadow, as that has enough to do; ``skipped`` is how many by now."""

    program: str
    rollout: str
    version: int
    skipped: int
