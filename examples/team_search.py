"""Search a team in stages: ``python -m examples.team_search`` finds better words, members, and a rule.

The team is that of `examples.triage_team`, its examples and its metric are those of `examples.triage`. Each of its
members may use any of the wordings, and two more candidates wait outside.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dspex import language_model
from dspex.search import Hypothesis, TeamSearch, TeamSearchReport
from dspex.teams import Member
from examples.triage import WORDINGS, right, tickets
from examples.triage_team import DESK, member


def worded(wording: str) -> Hypothesis:
    """Return a member in other words."""

    def change(program: Any) -> None:
        program.signature = program.signature.with_instructions(wording)

    return Hypothesis(wording, change)


#: What each member may be told instead; and who may join.
SETTINGS = {one.name: [worded(wording) for wording in WORDINGS] for one in DESK.members}
CANDIDATES = [Member(f"outside {n}", member(WORDINGS[n]), role="classifier") for n in (2, 3)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Search, say what came of it, and save the team."""
    parser = argparse.ArgumentParser(prog="python -m examples.team_search", description=__doc__)
    parser.add_argument("--log", type=Path, help="a folder for the journal: killed and run again, it goes on")
    parser.add_argument("--out", type=Path, default=Path("team.json"), help="where the team is saved")
    options = parser.parse_args(arguments)
    learn, test = tickets()
    search = TeamSearch(
        SETTINGS,
        metric=right,
        member_metrics=right,
        candidates=CANDIDATES,
        rule={"kind": "halving", "first": 10},
        log_dir=options.log,
    )
    with language_model():
        team = search.compile(DESK.program(), trainset=learn, testset=test)
    report = search.report
    assert isinstance(report, TeamSearchReport)
    assert report.chosen is not None
    assert report.single is not None
    print(f"the team: {report.chosen.rule} of {', '.join(report.chosen.members)}")
    print(f"on {report.items} messages searched with: {report.train:.0%}, as it was {report.student_train:.0%}")
    print(f"best single {report.single[1]:.0%}, majority of all {report.majority:.0%}, any right {report.oracle:.0%}")
    print(f"on {report.tested} others: {report.test:.0%}, as it was {report.student_test:.0%}")
    print(f"the best single one there: {report.single_test:.0%}")
    print(f"{report.scored_teams} teams were scored without a call")
    team.save(options.out)
    print(f"saved to {options.out}")


if __name__ == "__main__":
    main()
