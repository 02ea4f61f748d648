"""The states of a rollout: where it goes from what was counted, and what people may ask for. All of it is pure.

::

    shadow ──> canary(step 0) ──> ... ──> canary(last step) ──> promoted (watched for a while)
       │         │      ^                     │                    │
       │         └──> held                    │                    │
       └─────────┴──────┴─────────────────────┴────────────────────┴──> rolled_back, inconclusive, aborted, superseded

Each move is a `RolloutMove` in the journal, with the counts from which it was decided. `recompute` decides each again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from dspex.serving.rollout.counts import ARMS, LONGEST_STREAK, LOOK, Arm, ArmCounts, SloCounts, StepCounts
from dspex.serving.rollout.rule import Bounds, bounds, log_likelihood_ratio, ratio_against_bound
from dspex.statistics import sample_ratio, wilson
from foundation.rollouts import (
    FINAL,
    ArmState,
    Decision,
    Rollout,
    RolloutConflict,
    RolloutMove,
    RolloutPhase,
    Slo,
    SloState,
)

#: Who has moved a rollout that nobody has.
RULE = "rule"
#: The split of the units is looked at if so many of the new version are expected.
LEAST_EXPECTED = 10
#: So improbable a split is not as ordered.
WRONG_SPLIT = 0.001
#: So many words of people are needed before they are compared.
LEAST_FEEDBACK = 20
#: So many answers without one score are no chance; and so often it is looked at whose answers have none.
LEAST_SCORED = 20

#: What people may ask for, by where a rollout is.
DECISIONS: Mapping[RolloutPhase, frozenset[Decision]] = {
    "shadow": frozenset(("canary", "rolled_back", "aborted")),
    "canary": frozenset(("held", "promoted", "rolled_back", "aborted")),
    "held": frozenset(("canary", "rolled_back", "aborted")),
    "promoted": frozenset(("rolled_back", "aborted")),
}


class RolloutRecord(msgspec.Struct, frozen=True):
    """Where a rollout is: what it was started with, and its last move.

    Attributes:
        id: its id, the salt of who meets which version.
        program: the name of the program.
        rollout: how it was asked for.
        baseline: the version that serves beside it.
        started: when, in seconds since the epoch.
        phase: where it is.
        step: in which step.
        seq: how many moves it has made.
        why: the reason of the last one.
        cause: the same in a word.
        who: who has made it.
        moved: when.
    """

    id: str
    program: str
    rollout: Rollout
    baseline: int
    started: float
    phase: RolloutPhase = "candidate"
    step: int = 0
    seq: int = 0
    why: str = "started"
    cause: str = "started"
    who: str = RULE
    moved: float = 0.0

    @property
    def open(self) -> bool:
        """Whether it can still move."""
        return self.phase not in FINAL and not (self.phase == "promoted" and self.cause in WATCH_OVER)

    @property
    def share(self) -> float:
        """Which share of the units meets the new version."""
        if self.phase in ("canary", "held"):
            return self.rollout.steps[self.step]
        return 1.0 if self.phase == "promoted" else 0.0

    @property
    def etag(self) -> str:
        """What changes with each move."""
        return f'"{self.id}.{self.seq}"'


#: Reasons in a word after which a version that was promoted is not watched any more.
WATCH_OVER = ("watched", "version", "replaced")
#: The same after which a held rollout waits for a person, for ever.
BY_PERSON = "person"


class Move(NamedTuple):
    """Where to go, to which step, and why: in words and in a word."""

    target: RolloutPhase
    step: int
    why: str
    cause: str


# -- what the counts say ----------------------------------------------------------------------------------------------


class Judgement(NamedTuple):
    """What the test says of an objective: see `foundation.rollouts.SloState`."""

    slo: Slo
    verdict: str
    llr: float


def judgements(rollout: Rollout, counts: Sequence[StepCounts]) -> list[Judgement]:
    """Return what the test says of each objective, from the steps of the phase that is counted.

    Args:
        rollout: how it was asked for.
        counts: what each step has counted, the current one last. Those of other phases do not count.
    """
    steps = _current(counts)
    limits = bounds(rollout.alpha, rollout.beta, len(rollout.slos))
    return [_judged(slo, index, steps, limits) for index, slo in enumerate(rollout.slos)]


def _current(counts: Sequence[StepCounts]) -> list[StepCounts]:
    """Return the steps of the phase that is counted, or was the last that was."""
    return [step for step in counts if step.phase == counts[-1].phase]


def _judged(slo: Slo, index: int, steps: Sequence[StepCounts], limits: Bounds) -> Judgement:
    llr = 0.0
    for step in steps:
        llr += _ratio(step, index, slo)
    if slo.kind == "feedback" and any(_answers_differ(step, index) for step in steps):
        return Judgement(slo, "void", llr)
    return Judgement(slo, "rejected" if llr >= limits.reject else "accepted" if llr <= limits.accept else "open", llr)


def _ratio(step: StepCounts, index: int, slo: Slo) -> float:
    seen = step.slos[index]
    if step.phase == "promoted":
        return ratio_against_bound(seen.bad.canary, seen.units.canary - seen.bad.canary, slo.bound, slo.ratio)
    # Of a pair, each version is one half.
    share = 0.5 if step.phase == "shadow" else step.share
    return log_likelihood_ratio(seen.bad.canary, seen.bad.baseline, share, slo.ratio)


def _answers_differ(step: StepCounts, index: int) -> bool:
    """Whether those whom the one version has answered speak more often than those of the other."""
    spoke, asked = step.slos[index].units, step.units
    if step.phase != "canary" or spoke.total < LEAST_FEEDBACK or not 0 < asked.canary < asked.total:
        return False
    return sample_ratio(spoke.canary, spoke.total, asked.canary / asked.total) < WRONG_SPLIT


def slo_states(rollout: Rollout, counts: Sequence[StepCounts]) -> tuple[SloState, ...]:
    """Return how each objective stands, with its numbers."""
    limits, steps = bounds(rollout.alpha, rollout.beta, len(rollout.slos)), _current(counts)
    found = []
    for index, (slo, verdict, llr) in enumerate(judgements(rollout, counts)):
        canary, baseline = (_arm_state(steps, index, arm) for arm in ARMS)
        why = next((step.slos[index].why for step in steps if step.slos[index].why), "")
        found.append(SloState(slo, verdict, llr, limits.reject, limits.accept, canary, baseline, why))
    return tuple(found)


def _arm_state(steps: Sequence[StepCounts], index: int, arm: Arm) -> ArmState:
    slos = [step.slos[index] for step in steps]
    units = sum(getattr(slo.units, arm) for slo in slos)
    bad = sum(getattr(slo.bad, arm) + slo.both for slo in slos)
    missing = sum(getattr(missing_of(slo), arm) for slo in slos)
    if not units:
        return ArmState(bad, units, None, None, None, missing)
    interval = wilson(bad, units)
    return ArmState(bad, units, bad / units, interval.low, interval.high, missing)


def units_of(counts: Sequence[StepCounts]) -> dict[str, int]:
    """Return how many units each version had in all steps together."""
    steps = [step for step in counts if step.phase == "canary"]
    return {
        "canary": sum(step.units.canary for step in steps),
        "baseline": sum(step.units.baseline for step in steps),
    }


# -- where to go ------------------------------------------------------------------------------------------------------


def next_move(record: RolloutRecord, counts: Sequence[StepCounts], now: float) -> Move | None:
    """Return where a rollout goes by itself; None if it stays.

    Args:
        record: where it is.
        counts: what each step has counted, the current one last.
        now: in seconds since the epoch.
    """
    decide = _BY_PHASE.get(record.phase)
    return None if decide is None or not record.open else decide(record, counts, now)


def _from_shadow(record: RolloutRecord, counts: Sequence[StepCounts], now: float) -> Move | None:
    rollout = record.rollout
    # Whoever is not answered says nothing of it.
    judged = [one for one in judgements(rollout, counts) if one.slo.kind != "feedback"]
    pairs = counts[-1].units.canary
    stop = _rejected(record, counts, judged) or _unscored(record, counts)
    if stop is not None:
        return stop
    if pairs >= rollout.min_pairs and all(one.verdict == "accepted" for one in judged):
        return Move("canary", 0, f"the shadow accepts, after {pairs} pairs: {_numbers(rollout, counts)}", "accepted")
    if pairs >= rollout.max_pairs:
        if _within_bounds(rollout, counts, ("feedback",)):
            why = f"after {pairs} pairs, all is within its bound: {_numbers(rollout, counts)}"
            return Move("canary", 0, why, "bound")
        return _undecided(record, counts, f"after {pairs} pairs", "max_pairs")
    if counts[-1].exhausted:
        when = f"with the shadow's budget spent, after {pairs} pairs"
        if _within_bounds(rollout, counts, ("feedback",)):
            return Move("canary", 0, f"{when}, all is within its bound: {_numbers(rollout, counts)}", "budget")
        return _undecided(record, counts, when, "budget")
    return _timed_out(record, counts, now)


def _from_canary(record: RolloutRecord, counts: Sequence[StepCounts], now: float) -> Move | None:
    rollout, step = record.rollout, record.step
    judged = judgements(rollout, counts)
    stop = _rejected(record, counts, judged) or _unscored(record, counts)
    stop = stop or _timed_out(record, counts, now) or _held(record, counts[-1])
    if stop is not None:
        return stop
    units = units_of(counts)["canary"]
    if step == len(rollout.steps) - 1:
        if units >= rollout.min_units and all(one.verdict == "accepted" for one in judged):
            return Move("promoted", step, f"accepted after {units} units: {_numbers(rollout, counts)}", "accepted")
    elif counts[-1].units.canary >= rollout.step_units:
        share = rollout.steps[step + 1]
        return Move("canary", step + 1, f"{counts[-1].units.canary} units, none rejects; next {share:g}", "step")
    if units < rollout.max_units:
        return None
    if _within_bounds(rollout, counts):
        why = f"after {units} units, all is within its bound: {_numbers(rollout, counts)}"
        return Move("promoted", step, why, "bound")
    return _undecided(record, counts, f"after {units} units", "max_units")


def _from_held(record: RolloutRecord, counts: Sequence[StepCounts], now: float) -> Move | None:
    if record.cause == BY_PERSON:
        return None
    streak = counts[-1].streak
    back = min(streak.canary, streak.baseline) > 0 and max(streak.canary, streak.baseline) >= LONGEST_STREAK
    if record.cause == "outage" and back:
        return Move("canary", record.step, "what the versions need is there again", "recovered")
    return _timed_out(record, counts, now)


def _from_promoted(record: RolloutRecord, counts: Sequence[StepCounts], now: float) -> Move | None:
    rejected = _rejected(record, counts, judgements(record.rollout, counts))
    if rejected is not None:
        return rejected
    if now - record.moved >= record.rollout.watch_seconds:
        return Move("promoted", record.step, f"it was watched for {record.rollout.watch_seconds:g} s", "watched")
    return None


_BY_PHASE: Mapping[RolloutPhase, Any] = {
    "shadow": _from_shadow,
    "canary": _from_canary,
    "held": _from_held,
    "promoted": _from_promoted,
}


def _rejected(record: RolloutRecord, counts: Sequence[StepCounts], judged: Iterable[Judgement]) -> Move | None:
    for one in judged:
        if one.verdict == "rejected":
            why = f"{one.slo.label} rejects it: {_numbers(record.rollout, counts)}"
            return Move("rolled_back", record.step, why, one.slo.label)
    return None


def _unscored(record: RolloutRecord, counts: Sequence[StepCounts]) -> Move | None:
    """End what is undecided as the metric of an objective scores nothing, or other answers of one version than of both.

    Without it a version whose answers have no score would look as if none of them were bad.
    """
    steps, rollout = _current(counts), record.rollout
    for index, slo in enumerate(rollout.slos):
        why = _why_unscored(record, steps, index) if slo.kind == "score" else None
        if why is not None:
            first = next((step.slos[index].why for step in steps if step.slos[index].why), "")
            why = f"undecided: {slo.label} {why}{f'; the first: {first}' if first else ''}"
            return Move("inconclusive", record.step, f"{why}; {_numbers(rollout, counts)}", "unscored")
    return None


def _why_unscored(record: RolloutRecord, steps: Sequence[StepCounts], index: int) -> str | None:
    for arm, version in (("canary", record.rollout.version), ("baseline", record.baseline)):
        unscored = sum(getattr(step.slos[index].unscored, arm) for step in steps)
        if unscored >= LEAST_SCORED and not any(getattr(step.slos[index].units, arm) for step in steps):
            return f"has no score for any of {unscored} units of version {version}"
    lost, asked = missing_of(steps[-1].slos[index]), steps[-1].units
    if steps[-1].phase != "canary" or not lost.total or lost.total % LEAST_SCORED or not 0 < asked.canary < asked.total:
        return None
    share = asked.canary / asked.total
    p = sample_ratio(lost.canary, lost.total, share)
    if p >= WRONG_SPLIT:
        return None
    whose = f"version {record.rollout.version}, which has {share:.1%} of all units"
    return f"has no score for {lost.total} units, {lost.canary} of them of {whose} (p {p:.2g})"


def missing_of(seen: SloCounts) -> ArmCounts:
    """Return how many units of each version had an answer without a score, or no answer."""
    return ArmCounts(*(getattr(seen.unscored, arm) + getattr(seen.unanswered, arm) for arm in ARMS))


def _timed_out(record: RolloutRecord, counts: Sequence[StepCounts], now: float) -> Move | None:
    if now - record.started < record.rollout.max_seconds:
        return None
    return _undecided(record, counts, f"after {record.rollout.max_seconds:g} s", "max_seconds")


def _undecided(record: RolloutRecord, counts: Sequence[StepCounts], when: str, cause: str) -> Move:
    return Move("inconclusive", record.step, f"undecided {when}: {_numbers(record.rollout, counts)}", cause)


def _within_bounds(rollout: Rollout, counts: Sequence[StepCounts], without: Sequence[str] = ()) -> bool:
    """Whether each objective that has not accepted is surely within its bound."""
    return all(
        state.canary.high is not None and state.canary.high <= state.slo.bound
        for state in slo_states(rollout, counts)
        if state.verdict != "accepted" and state.slo.kind not in without
    )


def _held(record: RolloutRecord, counts: StepCounts) -> Move | None:
    for arm, version in (("canary", record.rollout.version), ("baseline", record.baseline)):
        if getattr(counts.streak, arm) <= -LONGEST_STREAK:
            why = f"what version {version} needs was away {LONGEST_STREAK} times in a row"
            return Move("held", record.step, why, "outage")
    units = counts.units
    p = 1.0 if units.total % LOOK else split(counts)
    if p < WRONG_SPLIT:
        why = f"the split is not as ordered: {units.canary} of {units.total} units at {counts.share:g} (p {p:.2g})"
        return Move("held", record.step, why, "split")
    return None


def split(counts: StepCounts) -> float:
    """Return how probable so uneven a split of the units is; 1 if there are too few of them."""
    units = counts.units
    if units.total * counts.share < LEAST_EXPECTED or counts.share == 1.0:
        return 1.0
    return sample_ratio(units.canary, units.total, counts.share)


def _numbers(rollout: Rollout, counts: Sequence[StepCounts]) -> str:
    return "; ".join(map(_number, slo_states(rollout, counts)))


def _number(slo: SloState) -> str:
    """Return an objective with its numbers, in words."""
    canary, baseline = slo.canary, slo.baseline
    return (
        f"{slo.slo.label} {slo.verdict}, {canary.bad} bad of {canary.units} beside {baseline.bad} of {baseline.units}, "
        f"LLR {slo.llr:.6f} (rejected at {slo.reject_at:.6f}, accepted at {slo.accept_at:.6f})"
    )


# -- by hand ----------------------------------------------------------------------------------------------------------


def decided(record: RolloutRecord, to: Decision, why: str) -> Move:
    """Return where a person sends a rollout.

    Raises:
        RolloutConflict: it cannot go there from where it is.
    """
    allowed = DECISIONS.get(record.phase, frozenset()) if record.open else frozenset()
    if to not in allowed:
        can = f"it can be {', '.join(sorted(allowed))}" if allowed else "it has ended; a new attempt is a new rollout"
        raise RolloutConflict(f"rollout {record.id} is {record.phase}, and cannot be {to}: {can}", record.phase)
    # What has answered everybody was not given up in time.
    target: RolloutPhase = "rolled_back" if record.phase == "promoted" else to
    step = 0 if record.phase == "shadow" else record.step
    return Move(target, step, why or "decided by a person", BY_PERSON)


# -- the journal ------------------------------------------------------------------------------------------------------


def moved(record: RolloutRecord, move: RolloutMove) -> RolloutRecord:
    """Return where a rollout is after a move."""
    return msgspec.structs.replace(
        record,
        phase=move.target,
        step=move.step,
        seq=move.seq,
        why=move.why,
        cause=move.cause,
        who=move.who,
        moved=move.at,
    )


def counts_after(rollout: Rollout, move: RolloutMove) -> list[StepCounts]:
    """Return what counts from a move on: what was counted before, and nothing yet of a step that begins with it."""
    counts = msgspec.convert(move.counts, list[StepCounts])
    empty = partial(StepCounts.empty, step=move.step, slos=len(rollout.slos))
    if move.target == "shadow":
        counts.append(empty("shadow", share=rollout.shadow))
    elif move.target == "canary" and move.source == "held":
        if split(counts[-1]) < WRONG_SPLIT:
            # What was not split as ordered is not compared.
            counts[-1] = empty("canary", share=rollout.steps[move.step])
    elif move.target == "canary":
        counts.append(empty("canary", share=rollout.steps[move.step]))
    elif move.target == "promoted" and move.source != "promoted":
        counts.append(empty("promoted", share=1.0))
    return counts


def move_entry(
    record: RolloutRecord, move: Move, counts: Sequence[StepCounts], at: float, who: str = RULE
) -> RolloutMove:
    """Return a move as it stands in the journal."""
    return RolloutMove(
        rollout=record.id,
        seq=record.seq + 1,
        source=record.phase,
        target=move.target,
        step=move.step,
        why=move.why,
        cause=move.cause,
        counts=msgspec.to_builtins(list(counts)),
        llr={one.slo.label: one.llr for one in judgements(record.rollout, counts)} if counts else {},
        at=at,
        who=who,
        version=record.rollout.version,
    )


def recompute(start: RolloutRecord, moves: Iterable[RolloutMove]) -> list[str]:
    """Decide each move of a rollout again, from the journal alone, and return what differs: nothing, if it is right.

    Args:
        start: the rollout as it was started.
        moves: all of its moves, the first one first.
    """
    record, differing = start, []
    for move in moves:
        counts = msgspec.convert(move.counts, list[StepCounts])
        if (move.source, move.seq) != (record.phase, record.seq + 1):
            differing.append(f"move {move.seq} leaves {move.source}, and move {record.seq} led to {record.phase}")
        if move.who == RULE:
            again = next_move(record, counts, move.at) if record.seq else first_move(record)
            if again is None or (again.target, again.step, again.cause) != (move.target, move.step, move.cause):
                differing.append(f"move {move.seq} to {move.target}: decided again, it is {again}")
        record = moved(record, move)
    return differing


def first_move(record: RolloutRecord) -> Move:
    """Return where a rollout begins."""
    if record.rollout.shadow:
        return Move("shadow", 0, f"asked too, for a share of {record.rollout.shadow:g} of the calls", "started")
    return Move("canary", 0, f"answers a share of {record.rollout.steps[0]:g}", "started")
