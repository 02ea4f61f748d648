"""A quota in a sliding window, from which amounts are taken before they are known exactly."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable
from itertools import accumulate

#: Into so many parts a period is divided: what was used within one of them is forgotten together.
PARTS = 600


class WindowBucket:
    """What was taken out of a quota from ``first`` to ``last``, in seconds; its amount may still change."""

    __slots__ = ("amount", "counts", "first", "last")

    def __init__(self, last: float, first: float, amount: float) -> None:
        self.last = last
        self.first = first
        self.amount = amount
        self.counts = True


class Quota:
    """At most ``limit`` in any ``per`` seconds.

    What is taken counts until it is ``per`` seconds old, and up to a 600th part of that longer. So the limit holds in
    every period of that length, as long as no more is used than was taken beforehand. What is used beyond counts as
    well, and the next ones wait for it. An amount above the limit is let in when nothing else counts: else it would
    never be.

    Args:
        limit: how much.
        per: in how many seconds.
    """

    def __init__(self, limit: float, per: float) -> None:
        self.limit = limit
        self.per = per
        self._taken: deque[WindowBucket] = deque()
        self._used = 0.0

    def used(self, now: float) -> float:
        """Return how much counts."""
        while self._taken and self._taken[0].last + self.per <= now:
            old = self._taken.popleft()
            old.counts = False
            self._used -= old.amount
        if not self._taken:
            self._used = 0.0  # sums of floats drift
        return self._used

    def left(self, now: float) -> float:
        """Return how much is left."""
        return max(0.0, self.limit - self.used(now))

    def wait(self, now: float, amount: float) -> float:
        """Return the seconds until there is room for an amount: 0 if there is."""
        excess = self.used(now) + min(amount, self.limit) - self.limit
        if excess <= self.limit * 1e-9:
            return 0.0
        freed = list(accumulate(one.amount for one in self._taken))
        last = self._taken[min(bisect_left(freed, excess), len(freed) - 1)]
        return last.last + self.per - now

    def take(self, now: float, amount: float) -> WindowBucket:
        """Take an amount, whether there is room or not."""
        if not self._taken or now >= self._taken[-1].first + self.per / PARTS:
            self._taken.append(WindowBucket(now, now, 0.0))
        found = self._taken[-1]
        found.last = now
        found.amount += amount
        self._used += amount
        return found

    def dump(self, now: float) -> list[tuple[float, float, float]]:
        """Return what counts: how old its youngest and its oldest part are, in seconds, and how much it is."""
        self.used(now)
        return [(now - one.last, now - one.first, one.amount) for one in self._taken]

    def load(self, now: float, parts: Iterable[tuple[float, float, float]]) -> None:
        """Let what was dumped count, and nothing else."""
        self._taken = deque(WindowBucket(now - last, now - first, amount) for last, first, amount in parts)
        self._used = sum(one.amount for one in self._taken)

    def settle(self, taken: WindowBucket, difference: float) -> None:
        """Correct an amount that was taken, now that it is known; one that is forgotten counts no more."""
        if taken.counts:
            taken.amount += difference
            self._used += difference
