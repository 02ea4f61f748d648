"""A rollout as it is shown."""

from __future__ import annotations

from collections.abc import Sequence

from dspex.serving.rollout.counts import StepCounts
from dspex.serving.rollout.machine import RolloutRecord, slo_states, units_of
from foundation.rollouts import RolloutState

#: The etag where there is no rollout.
NO_ETAG = '"none"'


def rollout_state(record: RolloutRecord, counts: Sequence[StepCounts]) -> RolloutState:
    """Return how a rollout stands.

    Args:
        record: where it is.
        counts: what each step has counted.
    """
    calls = sum(step.calls.total for step in counts)
    return RolloutState(
        state=record.phase,
        open=record.open,
        id=record.id,
        etag=record.etag,
        program=record.program,
        version=record.rollout.version,
        baseline=record.baseline,
        step=record.step,
        share=record.share,
        shadow=record.rollout.shadow if record.phase == "shadow" else 0.0,
        why=record.why,
        who=record.who,
        at=record.moved,
        started=record.started,
        units=units_of(counts),
        keyless=sum(step.keyless for step in counts) / calls if calls else 0.0,
        slos=slo_states(record.rollout, counts),
        pairs=sum(step.units.canary for step in counts if step.phase == "shadow"),
        skipped=sum(step.skipped for step in counts),
        asked=sum(step.asked for step in counts),
        spent=sum(step.spent for step in counts),
        rollout=record.rollout,
    )
