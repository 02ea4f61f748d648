"""The report of an ascent of a team: what it was expected to cost, why it has stopped, who has migrated."""

from __future__ import annotations

from typing import NamedTuple

from dspex.teleprompt.report import OptimisationReport


class Migration(NamedTuple):
    """The best program of an island was sent to another one.

    Attributes:
        step: after which.
        source: the number of the island it is from.
        target: that of the island it was sent to.
        score: its mean score on the mini-batch by which it was chosen.
    """

    step: int
    source: int
    target: int
    score: float


class AscentReport(OptimisationReport):
    """What an ascent has found out.

    Attributes:
        expected_calls: how many calls of language models it takes about, if nothing stops it before; without those that
            write rules.
        stopped: ``max_calls`` if it has ended because that many calls were made; None if it has not.
        islands: how many there were.
        migrations: who was sent where.
        finalists: how many different programs have raced in the end; 0 if there was one island.
    """

    def __init__(self, optimiser: str, seed: int, resumed: bool) -> None:
        super().__init__(optimiser, seed, resumed)
        self.expected_calls = 0
        self.islands = 1
        self._forget()

    def begin(self) -> None:
        """Begin with nothing found."""
        super().begin()
        self._forget()

    def _forget(self) -> None:
        self.stopped: str | None = None
        self.migrations: list[Migration] = []
        self.finalists = 0

    def in_order(self) -> None:
        """Put the trials and the migrations of all islands in an order that does not depend on who was faster."""
        trials = sorted(self.trials, key=lambda trial: trial.number)
        self.trials.clear()
        for trial in trials:
            self.note(trial)
        self.migrations.sort()

    def found(self) -> list[str]:
        """Return what it has found, as lines of the page."""
        lines = ["", f"About {self.expected_calls} calls were expected."]
        if self.stopped is not None:
            lines += ["", f"It was stopped: {self.stopped}. The best so far came back, chosen by its mini-batch."]
        if self.islands > 1:
            raced = f"; in the end, {self.finalists} different programs have raced" if self.finalists else ""
            lines += [
                "",
                f"{self.islands} islands{raced}.",
                "",
                "| after step | from | to | score |",
                "|---|---|---|---|",
            ]
            lines += [f"| {one.step} | {one.source} | {one.target} | {one.score:.4f} |" for one in self.migrations]
        return lines
