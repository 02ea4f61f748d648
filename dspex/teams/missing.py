"""Why members of a team are away, and with that the reason for which a lesser answer is given.

>>> ballot = [MemberAnswer("a", "answered", "sport"), MemberAnswer("b", "lost", why="AgentDown")]
>>> str(degradation_reason(ballot))
'lost 1 of 2'
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import dspy

from dspex._compat import OVERLOADED, is_infrastructure, lm15
from dspex.models.gateway.budget import BudgetExceeded
from dspex.teams.ballot import MemberAnswer
from dspex.workflow.degradation import DegradationReason
from dspex.workflow.steps import error_message
from foundation.programs import Busy
from foundation.protection import BulkheadFull, CircuitOpen

#: Why a member is lost, if it is not its agent or its model that is away.
LossReason: TypeAlias = Literal["budget", "breaker", "overload"]
_KINDS: tuple[tuple[LossReason, tuple[type[BaseException], ...]], ...] = (
    ("budget", (BudgetExceeded, lm15.BillingError, dspy.LMBillingError)),
    ("breaker", (CircuitOpen,)),
    ("overload", (Busy, BulkheadFull, *OVERLOADED)),
)
#: Which of several reasons is told: ``budget`` first, as no retry may override it.
_ORDER: tuple[Literal["budget", "breaker", "overload", "lost", "deadline"], ...] = (
    "budget",
    "breaker",
    "overload",
    "lost",
    "deadline",
)


def unanswered(member: str, error: BaseException, seconds: float | None = None) -> MemberAnswer:
    """Return what became of a member whose program has raised: *lost* if what it needs is away, else *failed*.

    Args:
        member: its name.
        error: what was raised.
        seconds: how long it took.
    """
    said = error_message(error)
    why = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if is_infrastructure(error):
        return MemberAnswer(member, "lost", None, why, seconds, loss_reason(error))
    return MemberAnswer(member, "failed", None, why, seconds)


def loss_reason(error: BaseException) -> LossReason | None:
    """Return why a member is lost, from the error that says that it is; None if just nothing was to be had of it."""
    causes = list(_causes(error))
    return next((reason for reason, kinds in _KINDS if any(isinstance(cause, kinds) for cause in causes)), None)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__


def degradation_reason(ballot: Sequence[MemberAnswer]) -> DegradationReason | None:
    """Return why there is no full answer, such as ``lost 1 of 3``; None if nobody who was asked is away."""
    counts = Counter(
        "deadline" if one.outcome == "late" else one.reason or "lost"
        for one in ballot
        if one.outcome in ("lost", "late")
    )
    asked = sum(one.outcome != "unasked" for one in ballot)
    return next((DegradationReason(kind, f"{counts[kind]} of {asked}") for kind in _ORDER if counts[kind]), None)
