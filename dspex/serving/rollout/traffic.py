"""Who meets which version, and what a call that has ended says to the objectives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from dspex.serving.calls import Assignment, CallRequest, FinishedCall
from dspex.serving.rollout.bucketing import bucket, key_of
from dspex.serving.rollout.counts import Arm, Mark, UnitTally
from foundation.rollouts import Slo

#: Outcomes that nobody is to blame for: a model that is away, and a caller that has gone.
_INFRASTRUCTURE = frozenset(("unavailable", "busy"))
_CENSORED = "cancelled"


class TrafficPlan(NamedTuple):
    """Who meets the new version.

    Attributes:
        id: of the rollout: the salt.
        program: the new version.
        version: its number.
        share: which share of the units it answers.
        shadow: which share of the calls it is asked too.
        key: the input that says who asks; None for none.
        tally: where the calls are counted.
    """

    id: str
    program: Any
    version: int
    share: float
    shadow: float
    key: str | None
    tally: UnitTally


class RoutedCall(NamedTuple):
    """A call of a program under rollout.

    Attributes:
        plan: that was valid when it began.
        arm: whose version runs it.
        unit: who asks; None if nobody said.
        shadowed: whether the new version is to be asked too.
    """

    plan: TrafficPlan
    arm: Arm
    unit: int | None
    shadowed: bool


class RolloutTraffic:
    """Assigns calls to versions, by the plan of the moment: one attribute, which the rollout's actor writes.

    Args:
        program: the name of the program.

    Attributes:
        plan: who meets the new version; None if nobody does.
        instead: what serves in place of the current version, while that cannot be written; None for nothing.
    """

    def __init__(self, program: str) -> None:
        self.program = program
        self.plan: TrafficPlan | None = None
        self.instead: Assignment | None = None
        self._routed: dict[str, RoutedCall] = {}

    def assign(self, call: CallRequest, inputs: Mapping[str, Any], current: Callable[[], Assignment]) -> Assignment:
        """Return which version runs a call.

        Args:
            call: the call.
            inputs: its inputs.
            current: says which version serves.
        """
        plan = self.plan
        if plan is None:
            return current() if self.instead is None else self.instead
        key = key_of(inputs, plan.key, call.key)
        new = plan.share == 1.0 or bucket(self.program, plan.id, key or call.id) < plan.share
        arm: Arm = "canary" if new else "baseline"
        shadowed = bool(plan.shadow) and bucket(self.program, f"{plan.id}/shadow", call.id) < plan.shadow
        self._routed[call.id] = RoutedCall(plan, arm, unit_of(key), shadowed)
        served = Assignment(plan.program, plan.version) if new else current()
        return served._replace(arm=arm)

    def ended(self, id: str) -> RoutedCall | None:
        """Return how a call was routed that has ended; None if it was not under a rollout."""
        return self._routed.pop(id, None)


def unit_of(key: str) -> int | None:
    """Return what stands for a key while it is counted; None if there is none."""
    if not key:
        return None
    return int.from_bytes(blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def is_away(call: FinishedCall, *, other_serves: bool) -> bool:
    """Whether what a program needs was away: that says nothing of its version.

    Args:
        call: that has ended.
        other_serves: whether this is the new version, and the old one has what it needs: a language model that refuses
            the new one alone, such as one that there is not, is its own fault.
    """
    outcome = call.record.outcome
    return outcome in _INFRASTRUCTURE or (outcome == "refused" and not other_serves)


def counts(call: FinishedCall, *, other_serves: bool) -> bool:
    """Whether a call says something of its version."""
    return not is_away(call, other_serves=other_serves) and call.record.outcome != _CENSORED


def marks_of(call: FinishedCall, slos: Sequence[Slo], *, warm: bool) -> list[Mark]:
    """Return what a call says to each objective by itself.

    Args:
        call: that has ended, and counts.
        slos: the objectives.
        warm: whether its version has had the calls that do not count for latency.
    """
    return [_marked(call, slo, warm) for slo in slos]


def _marked(call: FinishedCall, slo: Slo, warm: bool) -> Mark:
    outcome, answered = call.record.outcome, call.record.outcome == "answered"
    if slo.kind == "errors":
        return Mark.GOOD if answered else Mark.BAD
    if slo.kind == "latency" and warm:
        slow = outcome == "timeout" or (slo.over is not None and call.record.seconds > slo.over)
        return Mark.BAD if slow else Mark.GOOD if answered else Mark.NONE
    if slo.kind == "first_try":
        bad = outcome == "unparsed" or call.record.unparsed > 0
        return Mark.BAD if bad else Mark.GOOD if answered else Mark.NONE
    return Mark.NONE
