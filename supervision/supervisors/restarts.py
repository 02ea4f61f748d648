"""The restart budget: how many restarts a supervisor allows itself in how many seconds (OTP's intensity and period)."""

from __future__ import annotations

from collections import deque

import msgspec

from supervision.errors import BadBudget


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
        if not isinstance(max_restarts, int) or isinstance(max_restarts, bool) or max_restarts < 0:
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
