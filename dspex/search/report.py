"""The report of a race: who has won, what that is worth on examples that nobody has raced on, and what it has saved."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from dspex.teleprompt.report import OptimisationReport

Fate: TypeAlias = Literal["won", "beaten", "dropped", "suspended", "equal", "not seen"]


class HypothesisResult(msgspec.Struct, frozen=True):
    """What became of a hypothesis.

    Attributes:
        number: of the hypothesis; 0 is the student.
        name: its name.
        score: the mean over its items; 0 of none.
        items: on how many it was looked at.
        failures: how many of these the program or the metric has failed on; they count 0.
        fate: what became of it; ``equal`` is one that does the same as another.
        why: in words.
    """

    number: int
    name: str
    score: float
    items: int
    failures: int
    fate: Fate
    why: str


class RaceReport(OptimisationReport):
    """What a race has found out.

    Attributes:
        hypotheses: what became of each, in their order.
        items: how many items there are.
        expected: how many runs it was expected to take, before it began.
        runs: how many it has taken.
        everything: how many all hypotheses on all items would have taken.
        winner: the name of the best hypothesis.
        train: the mean score of the winner on the items that it was looked at on.
        student_train: that of the student on the same ones.
        test: the mean score of the winner on the examples that were kept for that; None if there are none.
        student_test: that of the student.
        tested: how many these are.
        stopped: why it has ended before there was one winner; None if it has not.
    """

    def __init__(self, optimiser: str, seed: int, resumed: bool) -> None:
        super().__init__(optimiser, seed, resumed)
        self._forget()

    def begin(self) -> None:
        """Begin with nothing found."""
        super().begin()
        self._forget()

    def _forget(self) -> None:
        self.hypotheses: list[HypothesisResult] = []
        self.items = self.expected = self.runs = self.everything = self.tested = 0
        self.winner = ""
        self.train = self.student_train = 0.0
        self.test: float | None = None
        self.student_test: float | None = None
        self.stopped: str | None = None

    @property
    def share(self) -> float:
        """Which share of the runs of all hypotheses on all items it has taken."""
        return self.runs / self.everything if self.everything else 0.0

    @property
    def failures(self) -> int:
        """How many runs the program or the metric has failed in, each counted once."""
        return sum(one.failures for one in self.hypotheses)

    def found(self) -> list[str]:
        """Return what it has found, as lines of the page."""
        lines = ["", "## The race", "", f"The winner is **{self.winner}**."]
        if self.stopped is not None:
            lines += ["", f"It was stopped: {self.stopped}."]
        lines += ["", "| | winner | student |", "|---|---|---|"]
        lines.append(f"| score on the items raced on | {self.train:.4f} | {self.student_train:.4f} |")
        if self.test is not None and self.student_test is not None:
            test = f"score on {self.tested} examples kept for the test"
            lines.append(f"| {test} | {self.test:.4f} | {self.student_test:.4f} |")
            lines.append(f"| lost from one to the other: luck of the choice | {self.train - self.test:.4f} | |")
        else:
            lines += ["", "There is no test score: give a `testset`, or `held_out`. The score above was chosen by."]
        share = f"{self.runs} of {self.everything} runs ({self.share:.0%}); {self.expected} were expected"
        lines += ["", share, "", "| hypothesis | score | items | failures | | why |", "|---|---|---|---|---|---|"]
        lines += [
            f"| {one.name} | {one.score:.4f} | {one.items} | {one.failures} | {one.fate} | {one.why} |"
            for one in self.hypotheses
        ]
        return lines
