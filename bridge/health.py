"""Health: what a series of checks says about an actor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias

import msgspec

from agents.server import GetView
from agents.server.directory import directory_of
from supervision import Ref, UnhandledMessage
from supervision.clock import seconds
from supervision.errors import BadOption
from supervision.options import is_whole

#: The checks succeed in good time; they fail, or are slow; there is no answer, again and again; it has ended.
HealthStatus: TypeAlias = Literal["healthy", "degraded", "unresponsive", "dead"]

#: A check of an actor: whether it is well. To raise is to say no.
HealthCheck: TypeAlias = Callable[[Ref], Awaitable[bool]]


async def responds(ref: Ref) -> bool:
    """Check that an actor answers: an agent, or any actor that refuses requests that it does not know (as actors do).

    An agent whose turn is under way and waits for something is busy, not dead: it counts as one that answers, however
    long that takes. Not for supervisors, which an unknown request crashes.
    """
    view = directory_of(ref.runtime).view_of(ref)
    if view is not None and ref.alive:
        return True  # the loop runs, as this does, and an agent that is not in a turn can take one
    try:
        await ref.call(GetView(), timeout=None)
    except UnhandledMessage:
        return True
    return True


class Thresholds(msgspec.Struct, frozen=True):
    """How many checks say what.

    Attributes:
        degraded_after: consecutive checks that fail, are slow or get no answer, until the actor counts as degraded.
        unresponsive_after: consecutive checks without an answer in time until it counts as unresponsive.
        healthy_after: consecutive good checks until it counts as healthy again.
        slow: from how many seconds on a good answer is slow; None for never.

    Raises:
        BadOption: a count is not a whole number from 1.
        BadTime: ``slow`` is not a length of time.
    """

    degraded_after: int = 1
    unresponsive_after: int = 3
    healthy_after: int = 1
    slow: float | None = None

    def __post_init__(self) -> None:
        for field in ("degraded_after", "unresponsive_after", "healthy_after"):
            value = getattr(self, field)
            if not is_whole(value, 1):
                raise BadOption(f"Thresholds.{field}", value, "give a whole number from 1")
        if self.slow is not None:
            seconds("Thresholds.slow", self.slow, zero=False)


class CheckResult(msgspec.Struct, frozen=True):
    """The result of one check. ``why`` is empty if all is well."""

    answered: bool
    why: str = ""


class HealthRecord:
    """The checks of one actor so far, as far as they matter, and the health that follows from them."""

    __slots__ = ("_bad", "_good", "_silent", "health", "thresholds")

    def __init__(self, thresholds: Thresholds, health: HealthStatus) -> None:
        self.thresholds = thresholds
        self._good = self._bad = self._silent = 0
        self.health: HealthStatus = health

    def add(self, outcome: CheckResult) -> HealthStatus:
        """Add the result of one more check; return the health."""
        well = not outcome.why
        self._good = self._good + 1 if well else 0
        self._bad = 0 if well else self._bad + 1
        self._silent = 0 if outcome.answered else self._silent + 1
        limits = self.thresholds
        if self._silent >= limits.unresponsive_after:
            self.health = "unresponsive"
        elif self._bad >= limits.degraded_after:
            self.health = "degraded"
        elif self._good >= limits.healthy_after:
            self.health = "healthy"
        return self.health
