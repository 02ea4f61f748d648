"""The report of the search of a team: what each stage has found, and what the team is worth on other examples."""

from __future__ import annotations

import msgspec

from dspex.search.report import HypothesisResult
from dspex.search.subsets import RecordedCandidates, TeamScore
from dspex.teleprompt.report import OptimisationReport

#: So many of the best teams are in the page.
_SHOWN = 5


class BlockResult(msgspec.Struct, frozen=True):
    """What the race of a member's settings has come to.

    Attributes:
        member: its name.
        winner: the name of the best setting; ``student`` is the one that it had.
        score: the mean of the winner on the items that it was looked at on.
        student: that of the setting that it had, on the same ones.
        own_metric: whether these are scores of the member by its own metric; else of the whole team.
        runs: how many runs it took.
        hypotheses: what became of each setting.
    """

    member: str
    winner: str
    score: float
    student: float
    own_metric: bool
    runs: int
    hypotheses: tuple[HypothesisResult, ...]


class StageResult(msgspec.Struct, frozen=True):
    """What became of a stage.

    Attributes:
        name: ``blocks``, ``members`` or ``whole``.
        score: of the team on the validation set, as far as the stage knows it; None if it does not.
        calls: how many calls of language models it has paid for in this process.
        why: it was left out; empty if it was not.
    """

    name: str
    score: float | None
    calls: int
    why: str = ""


class TeamSearchReport(OptimisationReport):
    """What the search of a team has found out.

    Attributes:
        stages: what became of each.
        blocks: the races of the members' settings.
        scored_teams: how many teams were scored over recorded answers.
        teams: the best of these.
        recorded: what the candidates have answered on the validation set; None if that was not asked. A rule that is
            fitted to its ``votes`` costs no call.
        chosen: the team that was chosen of these; None if none was.
        single: the name and the score of the best single candidate.
        majority: the score of the majority of all candidates.
        oracle: the mean of the best answer of any candidate; part of that is luck.
        notes: what one should know of it.
        items: how many examples the validation set has.
        train: the mean score on these.
        student_train: that of the student.
        test: the mean score on examples that no stage has seen; None if there are none.
        student_test: that of the student.
        single_test: that of the best single candidate; None if there is none.
        tested: how many these are.
    """

    def __init__(self, optimiser: str, seed: int, resumed: bool) -> None:
        super().__init__(optimiser, seed, resumed)
        self._forget()

    def begin(self) -> None:
        """Begin with nothing found."""
        super().begin()
        self._forget()

    def _forget(self) -> None:
        self.stages: list[StageResult] = []
        self.blocks: list[BlockResult] = []
        self.teams: list[TeamScore] = []
        self.recorded: RecordedCandidates | None = None
        self.chosen: TeamScore | None = None
        self.single: tuple[str, float] | None = None
        self.majority = self.oracle = self.train = self.student_train = 0.0
        self.notes: list[str] = []
        self.scored_teams = self.items = self.tested = 0
        self.test: float | None = None
        self.student_test: float | None = None
        self.single_test: float | None = None

    def found(self) -> list[str]:
        """Return what it has found, as lines of the page."""
        lines = ["", "## The team", "", "| | found | student | best single |", "|---|---|---|---|"]
        single = "" if self.single is None else f"{self.single[1]:.4f}"
        lines.append(f"| score on {self.items} examples | {self.train:.4f} | {self.student_train:.4f} | {single} |")
        if self.test is not None and self.student_test is not None:
            alone = "" if self.single_test is None else f"{self.single_test:.4f}"
            row = f"score on {self.tested} that no stage has seen"
            lines.append(f"| {row} | {self.test:.4f} | {self.student_test:.4f} | {alone} |")
            lines.append(f"| lost from one to the other: luck of the choice | {self.train - self.test:.4f} | | |")
        else:
            lines += ["", "There is no test score: give a `testset`, or `held_out`. The score above was chosen by."]
        lines += ["", "| stage | score | calls | |", "|---|---|---|---|"]
        for stage in self.stages:
            score = "" if stage.score is None else f"{stage.score:.4f}"
            lines.append(f"| {stage.name} | {score} | {stage.calls} | {stage.why} |")
        return [*lines, *self._settings(), *self._subsets(), *(line for note in self.notes for line in ("", note))]

    def _settings(self) -> list[str]:
        if not self.blocks:
            return []
        lines = ["", "| member | setting | score | it had | by | runs |", "|---|---|---|---|---|---|"]
        return lines + [
            f"| {one.member} | {one.winner} | {one.score:.4f} | {one.student:.4f}"
            f" | {'its own metric' if one.own_metric else 'the team'} | {one.runs} |"
            for one in self.blocks
        ]

    def _subsets(self) -> list[str]:
        if self.chosen is None or self.single is None:
            return []
        name, score = self.single
        lines = ["", f"{self.scored_teams} teams were scored over recorded answers, with no call.", ""]
        lines += ["| | score |", "|---|---|", f"| best single: {name} | {score:.4f} |"]
        lines.append(f"| majority of all candidates | {self.majority:.4f} |")
        lines.append(f"| chosen: {_named(self.chosen)} | {self.chosen.score:.4f} |")
        lines += [f"| {_named(one)} | {one.score:.4f} |" for one in self.teams[:_SHOWN] if one != self.chosen]
        lines.append(f"| oracle: any candidate is right, also by luck | {self.oracle:.4f} |")
        return lines


def _named(team: TeamScore) -> str:
    return f"{team.rule} of {', '.join(team.members)}"
