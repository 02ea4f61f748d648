"""The numbers of the rollouts of a runtime, for the metrics. They are labelled by program, version and arm alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from foundation.rollouts import RolloutState
from foundation.telemetry.collectors import MetricSample
from supervision import Runtime


class RolloutNumbers:
    """How the rollouts of a runtime stand, the last of each program, and how many moves there were."""

    def __init__(self) -> None:
        self._moves: Counter[tuple[str, str]] = Counter()
        self._states: dict[str, RolloutState] = {}

    @classmethod
    def of(cls, runtime: Runtime) -> RolloutNumbers:
        """Return the numbers of a runtime."""
        found: RolloutNumbers = runtime.shared.setdefault(cls, cls())
        return found

    def moved(self, state: RolloutState) -> None:
        """Count a move."""
        self._moves[state.program, state.state] += 1
        self.stands(state)

    def stands(self, state: RolloutState) -> None:
        """Note how a rollout stands."""
        self._states[state.program] = state

    def samples(self) -> Iterator[MetricSample]:
        """Return the numbers, for the metrics."""
        text = "Moves of rollouts, by where they led."
        for (program, target), count in self._moves.items():
            yield MetricSample("rollout_moves", text, "counter", (("program", program), ("target", target)), count)
        for state in self._states.values():
            yield from _samples(state)


def _samples(state: RolloutState) -> Iterator[MetricSample]:
    program = ("program", state.program)
    yield MetricSample(
        "rollout_version", "The version that is tried, or was the last.", "gauge", (program,), state.version
    )
    text = "The share of the traffic that the version that is tried answers."
    yield MetricSample("rollout_share", text, "gauge", (program,), state.share if state.open else 0.0)
    text = "Calls that the shadow has left out, in the last rollout."
    yield MetricSample("rollout_shadow_skipped", text, "gauge", (program,), state.skipped)
    for arm, units in state.units.items():
        text = "Units that each version had in the last rollout: keys, or calls without one."
        yield MetricSample("rollout_units", text, "gauge", (program, ("arm", arm)), units)
    for slo in state.slos:
        about = (program, ("slo", slo.slo.label))
        text = "The log-likelihood ratio of an objective: above 0 it speaks against the version that is tried."
        yield MetricSample("rollout_llr", text, "gauge", about, slo.llr)
        text = "Units of each version with an answer that was to be scored, and has no score, by objective."
        yield MetricSample("rollout_unscored_units", text, "gauge", (*about, ("arm", "canary")), slo.canary.unscored)
        yield MetricSample(
            "rollout_unscored_units", text, "gauge", (*about, ("arm", "baseline")), slo.baseline.unscored
        )
        text = "Bad units of each version, by objective."
        yield MetricSample("rollout_bad_units", text, "gauge", (*about, ("arm", "canary")), slo.canary.bad)
        yield MetricSample("rollout_bad_units", text, "gauge", (*about, ("arm", "baseline")), slo.baseline.bad)
