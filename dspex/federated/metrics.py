"""The numbers of all federations of a runtime, for the metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from foundation.telemetry.collectors import MetricSample
from supervision import Runtime


class FederationCounts:
    """What the federations of a runtime have done.

    Attributes:
        rounds: that were closed, by federation and state.
        reports: what became of the clients that were asked, by federation and outcome.
    """

    def __init__(self) -> None:
        self.rounds: Counter[tuple[str, str]] = Counter()
        self.reports: Counter[tuple[str, str]] = Counter()

    @classmethod
    def of(cls, runtime: Runtime) -> FederationCounts:
        """Return the counts of a runtime."""
        found: FederationCounts = runtime.shared.setdefault(cls, cls())
        return found

    def samples(self) -> Iterator[MetricSample]:
        """Return the numbers, for the metrics."""
        text = "Rounds of federations that were closed: decided, or void."
        for (federation, state), count in self.rounds.items():
            labels = (("federation", federation), ("state", state))
            yield MetricSample("federation_rounds", text, "counter", labels, count, "dspex")
        text = "What became of clients that federations have asked: counted, refused, lost, late."
        for (federation, outcome), count in self.reports.items():
            labels = (("federation", federation), ("outcome", outcome))
            yield MetricSample("federation_reports", text, "counter", labels, count, "dspex")
