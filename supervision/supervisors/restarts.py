"""Restarts: whether an ended child is restarted, after which pause, and how many restarts a supervisor has.

The budget is OTP's intensity and period; the pause (`Backoff`) goes beyond OTP.
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from supervision.clock import seconds
from supervision.errors import BadBackoff, BadBudget, BadTime
from supervision.options import is_whole

if TYPE_CHECKING:
    from supervision.reasons import ExitReason
    from supervision.supervisors.childspec import ChildSpec


def should_restart(spec: ChildSpec, reason: ExitReason) -> bool:
    """Whether a child that ended for ``reason`` is to be restarted (section 2.3 of the reference)."""
    return spec.restart == "permanent" or (spec.restart == "transient" and not reason.clean)


class Backoff(msgspec.Struct, frozen=True):
    """A growing pause before each restart, beyond OTP: for children whose failure is somebody else's outage.

    The n-th restart within the supervisor's window waits ``initial * factor ** (n - 1)`` seconds, at most ``maximum``,
    of which the part ``jitter`` is random.

    Args:
        initial: the first pause, in seconds.
        maximum: the longest pause, in seconds; 5, or ``initial`` if that is longer, unless it is given.
        factor: by what each pause is longer than the one before; at least 1.
        jitter: from 0 (none) to 1 (all of it).

    >>> [Backoff(initial=0.1, maximum=1.0, jitter=0.0).delay(n, random.Random(1)) for n in (1, 2, 3, 9)]
    [0.1, 0.2, 0.4, 1.0]
    """

    initial: float = 0.1
    maximum: float | msgspec.UnsetType = msgspec.UNSET
    factor: float = 2.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if self.maximum is msgspec.UNSET:
            longest = max(5.0, self.initial) if isinstance(self.initial, (int, float)) else 5.0
            msgspec.structs.force_setattr(self, "maximum", longest)
        for field in ("initial", "maximum", "factor", "jitter"):
            try:
                seconds(field, getattr(self, field))
            except BadTime as error:
                raise BadBackoff(f"Backoff.{field}", error.value, "give a finite number, 0 or more") from None
        if self.factor < 1 or self.jitter > 1 or self.longest < self.initial:
            raise BadBackoff("Backoff", self, "factor is at least 1, jitter at most 1, maximum at least initial")

    @property
    def longest(self) -> float:
        """The longest pause, in seconds, also if ``maximum`` was not given."""
        assert not isinstance(self.maximum, msgspec.UnsetType)
        return self.maximum

    def delay(self, attempt: int, chance: random.Random) -> float:
        """Return the pause before the ``attempt``-th restart (from 1), in seconds."""
        try:
            grown = self.initial * float(self.factor) ** (attempt - 1)
        except OverflowError:
            grown = self.longest if self.initial else 0.0
        return min(grown, self.longest) * (1.0 - self.jitter * chance.random())


class BudgetState(msgspec.Struct, frozen=True):
    """A budget at this moment: ``used`` of ``allowed`` restarts in the last ``seconds``."""

    used: int
    allowed: int
    seconds: float


class RestartBudget:
    """A sliding window over the restarts of all children of one supervisor.

    Args:
        max_restarts: how many restarts the window may hold; the next one is one too many. 0 allows none.
        max_seconds: how long a restart stays in the window. The window is closed at its old end, as in OTP.

    Raises:
        BadBudget: an argument is wrong.

    >>> budget = RestartBudget(2, 5.0)
    >>> [budget.spend(now) for now in (0.0, 1.0, 5.0, 10.1)]
    [True, True, False, True]
    """

    __slots__ = ("_times", "allowed", "seconds")

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        if not is_whole(max_restarts, 0):
            raise BadBudget("max_restarts", max_restarts, "give a whole number, 0 or more")
        number = isinstance(max_seconds, (int, float)) and not isinstance(max_seconds, bool)
        if not number or not 0 < max_seconds < float("inf"):
            raise BadBudget("max_seconds", max_seconds, "give a finite number of seconds, more than 0")
        self.allowed = max_restarts
        self.seconds = float(max_seconds)
        self._times: deque[float] = deque()

    def spend(self, now: float) -> bool:
        """Count a restart at ``now`` (monotonic seconds); False if it is one too many."""
        self._slide(now)
        self._times.append(now)
        return len(self._times) <= self.allowed

    def state(self, now: float) -> BudgetState:
        """Return how much of the budget is used."""
        self._slide(now)
        return BudgetState(len(self._times), self.allowed, self.seconds)

    def _slide(self, now: float) -> None:
        times = self._times
        while times and times[0] < now - self.seconds:
            times.popleft()
