"""The numbers of all races and populations of a runtime, for the metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from foundation.telemetry.collectors import MetricSample
from supervision import Runtime


class RaceCounts:
    """What the races of a runtime have done.

    Attributes:
        hypotheses: by what became of them: ``dropped``, ``suspended``, ``won``; and ``begun``.
        runs: how many runs were looked at, also those whose scores were known.
        saved: how many were not, of those of all hypotheses on all items.
    """

    def __init__(self) -> None:
        self.hypotheses: Counter[str] = Counter()
        self.runs = self.saved = 0

    @classmethod
    def of(cls, runtime: Runtime) -> RaceCounts:
        """Return the counts of a runtime."""
        found: RaceCounts = runtime.shared.setdefault(cls, cls())
        return found

    def samples(self) -> Iterator[MetricSample]:
        """Return the numbers, for the metrics."""
        text = "Hypotheses of races: those begun, and what became of them."
        for result in ("begun", "dropped", "suspended", "won"):
            count = self.hypotheses[result]
            yield MetricSample("race_hypotheses", text, "counter", (("result", result),), count, "dspex")
        text = "Runs of hypotheses on examples that races have looked at."
        yield MetricSample("race_runs", text, "counter", (), self.runs, "dspex")
        text = "Runs that races have saved, of those of all their hypotheses on all examples."
        yield MetricSample("race_runs_saved", text, "counter", (), self.saved, "dspex")


class PopulationCounts:
    """What the members of a runtime's populations have done.

    Attributes:
        members: how often they were ``trained``, have ``failed``, were ``lost``, and have ``copied``.
    """

    def __init__(self) -> None:
        self.members: Counter[str] = Counter()

    @classmethod
    def of(cls, runtime: Runtime) -> PopulationCounts:
        """Return the counts of a runtime."""
        found: PopulationCounts = runtime.shared.setdefault(cls, cls())
        return found

    def samples(self) -> Iterator[MetricSample]:
        """Return the numbers, for the metrics."""
        text = "Intervals of members of populations, by how they have ended; and how often one has copied."
        for result in ("trained", "failed", "lost", "copied"):
            labels = (("result", result),)
            yield MetricSample("population_members", text, "counter", labels, self.members[result], "dspex")
