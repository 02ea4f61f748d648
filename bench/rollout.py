"""Suite ``rollout``: how often a rollout decides wrongly, in 10,000 simulated ones of each kind, by the real rule.

Each simulated call goes through what counts calls while a program serves, and each decision is made by the states of a
rollout (`dspex.serving.rollout`): nothing is left out but the calls themselves. The steps are the default ones, a look
after each unit. In those with an outage, half of the calls of both versions find their model away, in a stretch about
when decisions fall: that is no bad event of anybody, and so the rates must stay.

Then a served program is killed in each state of a rollout (`bench.rollout_kills`).
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple

import msgspec

from bench.figure import Figure
from bench.rollout_kills import killed_in_each_state
from dspex.serving.rollout.counts import LOOK, Arm, Mark, StepCounts, UnitTally
from dspex.serving.rollout.machine import (
    Move,
    RolloutRecord,
    counts_after,
    first_move,
    move_entry,
    moved,
    next_move,
)
from foundation.rollouts import Rollout

#: So many rollouts of each kind, in so many parts.
ROLLOUTS, PARTS = 10_000, 8
#: What may go wrong, of all (llmops §3.4).
REACH = 0.05
#: A rollout has at most so many calls: more than it can need.
MOST_CALLS = 100_000
#: The calls during which an outage lasts, and how many of them it meets.
OUTAGE, MET = range(200, 500), 0.5


class Kind(NamedTuple):
    """What is simulated: how often each version is bad, and whether there is an outage."""

    baseline: float
    canary: float
    outage: bool = False


EQUAL, DOUBLED = Kind(0.05, 0.05), Kind(0.05, 0.10)


class Outcomes(NamedTuple):
    """How rollouts have ended: how many in which way, and how many calls and units of the new version they took."""

    ended: Counter[str]
    calls: int
    units: int
    held: int


def simulate(kind: Kind, chance: random.Random, rollout: Rollout) -> tuple[RolloutRecord, int, int, bool]:
    """Return where a rollout ends, after how many calls, with how many units of the new version; and if it was held."""
    record = RolloutRecord("simulated", "bench", rollout, 0, 0.0)
    record, counts = _moved(record, first_move(record), [])
    tally, units, held, call = UnitTally(counts[-1]), 0, False, 0
    while call < MOST_CALLS:
        due, skipping = False, record.phase != "held" and not (kind.outage and call < OUTAGE.stop)
        if skipping:
            skipped = _good_baseline(tally.counts, kind.baseline, record.share, chance)
            call += skipped
            due = skipped > 0 and tally.counts.units.total % LOOK == 0
        if not due:
            call += 1
            away = kind.outage and call in OUTAGE and chance.random() < MET
            arm, due = _call(kind, chance, record, tally, away=away, skipping=skipping)
            units += arm == "canary"
        move = next_move(record, counts, 0.0) if due else None
        if move is not None:
            record, counts = _moved(record, move, counts)
            held |= record.phase == "held"
            # A split that is not as ordered waits for a person.
            if record.phase not in ("canary", "held") or record.cause == "split":
                return record, call, units, held
            if counts[-1] is not tally.counts:
                tally = UnitTally(counts[-1])
    raise RuntimeError(f"not decided after {MOST_CALLS} calls")


def _good_baseline(step: StepCounts, bad: float, share: float, chance: random.Random) -> int:
    """Count good calls of the old version, which decide nothing, up to the next other call or look; return how many."""
    number = int(math.log(1.0 - chance.random()) / math.log((1 - share) * (1 - bad)))
    number = min(number, LOOK - step.units.total % LOOK)
    step.units.add("baseline", number)
    step.slos[0].units.add("baseline", number)
    return number


def _call(
    kind: Kind, chance: random.Random, record: RolloutRecord, tally: UnitTally, *, away: bool, skipping: bool
) -> tuple[Arm, bool]:
    """Count a call as a served one is; return whose it was, and whether something may have to be decided.

    If good calls of the old version are skipped, it is none of those.
    """
    share = record.share
    if skipping:
        share = share / (share + (1 - share) * kind.baseline)
    arm: Arm = "canary" if chance.random() < share else "baseline"
    if away:
        tally.counts.note_outcome(arm, answered=False)
        return arm, True
    tally.counts.note_outcome(arm, answered=True)
    if record.phase == "held":
        return arm, True
    bad = chance.random() < getattr(kind, arm) or (arm == "baseline" and skipping)
    return arm, tally.note(arm, None, (Mark.BAD if bad else Mark.GOOD,))


def _moved(record: RolloutRecord, move: Move, counts: Sequence[StepCounts]) -> tuple[RolloutRecord, list[StepCounts]]:
    entry = move_entry(record, move, counts, 0.0)
    return moved(record, entry), counts_after(record.rollout, entry)


def part(kind: Kind, seed: int, number: int, settings: dict[str, object]) -> Outcomes:
    """Return how so many rollouts have ended."""
    chance, rollout = random.Random(seed), msgspec.convert({"version": 1, **settings}, Rollout)
    ended: Counter[str] = Counter()
    calls = units = held = 0
    for _ in range(number):
        record, took, met, was_held = simulate(kind, chance, rollout)
        ended[record.phase] += 1
        calls, units, held = calls + took, units + met, held + was_held
    return Outcomes(ended, calls, units, held)


def outcomes(kind: Kind, rollouts: int = ROLLOUTS, **settings: object) -> Outcomes:
    """Return how many rollouts of a kind have ended in which way, on all cores."""
    seeds = range(PARTS)
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(partial(part, kind, number=rollouts // PARTS, settings=settings), seeds))
    ended = sum((one.ended for one in found), Counter[str]())
    return Outcomes(ended, *(sum(column) for column in list(zip(*found, strict=True))[1:]))


async def _figure(kind: Kind, wrong: str) -> Figure:
    began = time.perf_counter()
    found = await asyncio.to_thread(outcomes, kind)
    total = found.ended.total()
    rate = found.ended[wrong] / total
    more = {
        "rollouts": float(total),
        **{f"{phase}": count / total for phase, count in sorted(found.ended.items())},
        "held": found.held / total,
        "mean_calls": found.calls / total,
        "mean_canary_units": found.units / total,
        "seconds": time.perf_counter() - began,
    }
    return Figure(
        value=rate, unit="of all", limit=REACH, ratio=rate / REACH, reach=1.0, better="lower", promise=True, more=more
    )


async def false_promotions() -> Figure:
    """Versions that are bad twice as often (10 % beside 5 %), and were promoted."""
    return await _figure(DOUBLED, "promoted")


async def false_rollbacks() -> Figure:
    """Versions that are as good as the old one (5 %), and were rolled back."""
    return await _figure(EQUAL, "rolled_back")


async def outage_false_promotions() -> Figure:
    """As `false_promotions`, with an outage of what both versions need."""
    return await _figure(DOUBLED._replace(outage=True), "promoted")


async def outage_false_rollbacks() -> Figure:
    """As `false_rollbacks`, with an outage of what both versions need."""
    return await _figure(EQUAL._replace(outage=True), "rolled_back")


FIGURES = {
    "false_promotions": false_promotions,
    "false_rollbacks": false_rollbacks,
    "outage_false_promotions": outage_false_promotions,
    "outage_false_rollbacks": outage_false_rollbacks,
    "killed_in_each_state": killed_in_each_state,
}
