"""The numbers of all served teams of a runtime, for the metrics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from foundation.telemetry.collectors import MetricSample
from supervision import Runtime


class TeamCounts:
    """What the served teams of a runtime have done.

    Attributes:
        members: what became of members in calls, by team, member and outcome.
        rungs: calls, by team and the rung that has answered.
        coverage: answered calls, by team and the coverage of the answer, rounded up to quarters.
    """

    def __init__(self) -> None:
        self.members: Counter[tuple[str, str, str]] = Counter()
        self.rungs: Counter[tuple[str, str]] = Counter()
        self.coverage: Counter[tuple[str, float]] = Counter()

    @classmethod
    def of(cls, runtime: Runtime) -> TeamCounts:
        """Return the counts of a runtime."""
        found: TeamCounts = runtime.shared.setdefault(cls, cls())
        return found

    def answered(self, team: str, coverage: float) -> None:
        """Count an answer of so much coverage."""
        self.coverage[team, math.ceil(4 * coverage) / 4] += 1

    def samples(self) -> Iterator[MetricSample]:
        """Return the numbers, for the metrics."""
        text = "What became of the members of served teams, in calls."
        for (team, member, outcome), count in self.members.items():
            of_member = (("team", team), ("member", member), ("outcome", outcome))
            yield MetricSample("team_members", text, "counter", of_member, count, "dspex")
        text = "Calls of served teams, by the rung that has answered: full, one of the ladder, or refuse."
        for (team, rung), count in self.rungs.items():
            yield MetricSample("team_rungs", text, "counter", (("team", team), ("rung", rung)), count, "dspex")
        text = "Answers of served teams, by which share of the weight that was asked has answered, up to."
        for (team, share), count in sorted(self.coverage.items()):
            labels = (("team", team), ("up_to", f"{share:g}"))
            yield MetricSample("team_coverage", text, "counter", labels, count, "dspex")
