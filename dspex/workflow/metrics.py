"""The numbers of all workflows of a runtime, for the metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from weakref import WeakSet

from dspex.workflow.journal import Journal
from foundation.telemetry.collectors import MetricSample
from supervision import Runtime


class WorkflowCounts:
    """What the workflows of a runtime have done.

    Attributes:
        ended: steps, by how they have ended.
        replayed: steps whose results came from the journal.
        retried: attempts that the infrastructure has failed.
    """

    def __init__(self) -> None:
        self.ended: Counter[str] = Counter()
        self.replayed = 0
        self.retried = 0
        self._journals: WeakSet[Journal] = WeakSet()

    @classmethod
    def of(cls, runtime: Runtime) -> WorkflowCounts:
        """Return the counts of a runtime."""
        found: WorkflowCounts = runtime.shared.setdefault(cls, cls())
        return found

    def opened(self, journal: Journal) -> None:
        """Count the size of a journal, for as long as it is there."""
        self._journals.add(journal)

    def samples(self) -> Iterator[MetricSample]:
        """Return the numbers, for the metrics."""
        text = "Steps of workflows, by how they have ended; replayed ones come from a journal."
        for state in ("done", "failed", "cancelled"):
            yield MetricSample("workflow_steps", text, "counter", (("result", state),), self.ended[state])
        yield MetricSample("workflow_steps", text, "counter", (("result", "replayed"),), self.replayed)
        text = "Attempts at steps of workflows that the infrastructure has failed, and that were made again."
        yield MetricSample("workflow_retries", text, "counter", (), self.retried)
        text = "Bytes in the journals of workflows that are open."
        yield MetricSample("workflow_journal_bytes", text, "gauge", (), sum(journal.size for journal in self._journals))
