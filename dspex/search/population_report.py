"""The report of a population: what became of each member in each interval, and where the best one comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from dspex.teleprompt.report import OptimisationReport


class MemberStep(msgspec.Struct, frozen=True):
    """What became of a member in an interval.

    Attributes:
        interval: from 1.
        member: its number, from 0.
        began: the checkpoint from which it was trained: ``INTERVAL/MEMBER``, and ``0/MEMBER`` for its beginning.
        settings: with which it was.
        outcome: ``trained``; ``failed``, if what trains or scores it has; ``lost``, if what it needs was away.
        score: what it came to; None if there is none.
        why: it has failed, or is lost.
    """

    interval: int
    member: int
    began: str
    settings: Mapping[str, Any]
    outcome: Literal["trained", "failed", "lost"]
    score: float | None = None
    why: str = ""

    @property
    def checkpoint(self) -> str:
        """What came of it."""
        return f"{self.interval}/{self.member}"


class PopulationReport(OptimisationReport):
    """What a population has found out.

    Attributes:
        steps: what became of each member in each interval.
        copies: how often a member has copied from another.
        winner: the best step; None before there is one.
        test: the score of what comes back on the ``testset``; None if there is none.
    """

    def __init__(self, optimiser: str, seed: int, resumed: bool) -> None:
        super().__init__(optimiser, seed, resumed)
        self._forget()

    def begin(self) -> None:
        """Begin with nothing found."""
        super().begin()
        self._forget()

    def _forget(self) -> None:
        self.steps: list[MemberStep] = []
        self.copies = 0
        self.winner: MemberStep | None = None
        self.test: float | None = None

    @property
    def lineage(self) -> list[MemberStep]:
        """The steps that the best state has come by, the first one first."""
        known = {step.checkpoint: step for step in self.steps}
        found: list[MemberStep] = []
        step = self.winner
        while step is not None:
            found.append(step)
            step = known.get(step.began)
        return found[::-1]

    def found(self) -> list[str]:
        """Return what it has found, as lines of the page."""
        if self.winner is None:
            return []
        lines = ["", "## The population", "", f"The best is {self.winner.checkpoint}: {self.winner.score:.4f}."]
        if self.test is not None:
            lines += ["", f"On the test set it comes to {self.test:.4f}."]
        lines += ["", f"Members have copied {self.copies} times. The best has come by:", ""]
        lines += ["| interval | member | score | settings |", "|---|---|---|---|"]
        lines += [
            f"| {one.interval} | {one.member} | {one.score:.4f} | {_told(one.settings)} |" for one in self.lineage
        ]
        odd = [one for one in self.steps if one.outcome != "trained"]
        if odd:
            lines += ["", "| interval | member | | why |", "|---|---|---|---|"]
            lines += [f"| {one.interval} | {one.member} | {one.outcome} | {one.why} |" for one in odd]
        return lines


def _told(settings: Mapping[str, Any]) -> str:
    told = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in settings.items()
    )
    return ", ".join(told)
