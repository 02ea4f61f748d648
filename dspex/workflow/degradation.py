"""The degradation ladder: which lesser answer is given when the full one cannot be had, and when it is tried again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from foundation.options import above_zero, is_a, text, whole
from foundation.programs import Unavailable
from supervision.errors import BadOption


class DegradationReason(msgspec.Struct, frozen=True):
    """Why a rung cannot be had: its kind, and the details, such as ``2 of 5``.

    >>> str(DegradationReason("lost", "2 of 5"))
    'lost 2 of 5'
    """

    kind: Literal["deadline", "lost", "budget", "breaker", "overload"]
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.detail}".strip()

    @property
    def retryable(self) -> bool:
        """Whether the same may be tried again: not where the budget is spent, which a retry would only overrun."""
        return self.kind != "budget"


class Rung(msgspec.Struct, frozen=True):
    """One way to answer.

    Attributes:
        name: of the rung, such as ``full``, ``quorum``, ``small``, ``single``, ``cached``, ``default``.
        p95: seconds in which it answers 19 times of 20; None if it takes no time.
        max_age: how old its answer may be, in seconds; None if it is made anew.
    """

    name: str
    p95: float | None = None
    max_age: float | None = None

    def __post_init__(self) -> None:
        text("Rung.name", self.name)
        for field in ("p95", "max_age"):
            if getattr(self, field) is not None:
                above_zero(f"Rung.{field}", getattr(self, field))


class ChosenRung(msgspec.Struct, frozen=True):
    """The rung that a call takes: which, and its label, such as ``single:lost 2 of 5``; None for the first rung.

    What has a label is neither kept in a cache nor learnt from.
    """

    rung: Rung
    label: str | None = None


class DegradationLadder:
    """Rungs, the best first, and how far down calls begin at the moment. A value without a clock.

    A call begins at the rung at which calls are. If that cannot be had, for a reason, it goes down to the next one that
    fits into the time that is left, and whose answer is not too old; later calls begin there. They go up again to the
    first rung when so many calls in a row were good, so that they do not go up and down with each call.

    Args:
        rungs: the best first.
        recover_after: how many good calls in a row it takes to go up again.

    Raises:
        BadOption: there is no rung, or there are two of one name, or ``recover_after`` is no whole number from 1.

    >>> ladder = DegradationLadder([Rung("full", p95=2.0), Rung("small", p95=0.5), Rung("default")])
    >>> full = ladder.begin(left=5.0)
    >>> ladder.down(full, DegradationReason("lost", "2 of 5"), left=0.2).label
    'default:lost 2 of 5'
    """

    def __init__(self, rungs: Sequence[Rung], *, recover_after: int = 5) -> None:
        self._rungs = tuple(rungs)
        names = [rung.name if is_a(rung, Rung) else rung for rung in self._rungs]
        if not names or not all(is_a(rung, Rung) for rung in self._rungs) or len({*names}) < len(names):
            raise BadOption("DegradationLadder: rungs", rungs, "give at least one Rung, each with a name of its own")
        self._recover_after = whole("DegradationLadder: recover_after", recover_after)
        self._level = 0
        self._reason: DegradationReason | None = None
        self._good = 0

    @property
    def degraded(self) -> bool:
        """Whether calls begin below the first rung."""
        return self._level > 0

    @property
    def current(self) -> str:
        """The name of the rung at which calls begin."""
        return self._rungs[self._level].name

    @property
    def reason(self) -> DegradationReason | None:
        """Why calls begin below the first rung; None if they do not."""
        return self._reason

    def begin(
        self,
        *,
        left: float | None = None,
        ages: Mapping[str, float] | None = None,
        took: Mapping[str, float] | None = None,
    ) -> ChosenRung:
        """Return the rung at which a call begins.

        Args:
            left: seconds until the deadline of the call; None for none.
            ages: how old the answers are that there are, by the names of the rungs that have a ``max_age``.
            took: the ``p95`` of rungs for this call, by their names, where another one is known than they say.

        Raises:
            Unavailable: none can be had.
        """
        for index in range(self._level, len(self._rungs)):
            if self._fits(self._rungs[index], left, ages or {}, took or {}):
                return self._taken(index, self._reason or DegradationReason("deadline"))
        raise Unavailable("no answer can be had in the time that is left; try again later")

    def down(
        self,
        taken: ChosenRung,
        reason: DegradationReason,
        *,
        left: float | None = None,
        ages: Mapping[str, float] | None = None,
        took: Mapping[str, float] | None = None,
    ) -> ChosenRung:
        """Return the next rung below one that cannot be had, and have later calls begin there.

        Args:
            taken: the rung that was tried.
            reason: why it cannot be had.
            left: seconds until the deadline of the call; None for none.
            ages: as for `begin`.
            took: as for `begin`.

        Raises:
            Unavailable: there is none.
        """
        self._good = 0
        for index in range(self._rungs.index(taken.rung) + 1, len(self._rungs)):
            if self._fits(self._rungs[index], left, ages or {}, took or {}):
                if index > self._level:
                    self._level, self._reason = index, reason
                return self._taken(index, reason)
        raise Unavailable(f"no answer can be had: {reason}; try again later")

    def good(self) -> None:
        """Record that a call was answered by the rung at which it began, also if that is the last one."""
        self._good += 1
        if self._good >= self._recover_after:
            self.recover()

    def recover(self) -> None:
        """Have calls begin at the first rung again, as after the good probe of a circuit breaker."""
        self._level, self._reason, self._good = 0, None, 0

    def _taken(self, index: int, reason: DegradationReason) -> ChosenRung:
        rung = self._rungs[index]
        return ChosenRung(rung, f"{rung.name}:{reason}" if index else None)

    def _fits(self, rung: Rung, left: float | None, ages: Mapping[str, float], took: Mapping[str, float]) -> bool:
        if rung.max_age is not None and not ages.get(rung.name, float("inf")) <= rung.max_age:
            return False
        p95 = took.get(rung.name, rung.p95)
        return left is None or p95 is None or p95 <= left
