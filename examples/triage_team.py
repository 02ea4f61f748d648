"""Measure a team before it is used: ``python -m examples.triage_team`` has three wordings of one question vote.

It says what each member knows, what their vote knows, and how often any of them was right.
``examples/triage_team.toml`` serves the team.
"""

from __future__ import annotations

from typing import Any

import dspy

from dspex import language_model
from dspex.teams import MajorityVote, Member, MemberVote, Team, agreement, normal_form, oracle
from examples.triage import WORDINGS, Triage, tickets


def member(wording: str) -> Any:
    """Return the program of `examples.triage`, in other words."""
    return dspy.Predict(Triage.with_instructions(wording))


#: Three wordings of one question.
DESK = Team(
    "desk",
    (
        Member("classify", member(WORDINGS[0]), role="classifier"),
        Member("route", member(WORDINGS[1]), role="classifier"),
        Member("about", member(WORDINGS[4]), role="classifier"),
    ),
)


def main() -> None:
    """Ask each member each question once, and reckon with the answers."""
    _, test = tickets()
    truth = [normal_form(example.topic) for example in test]
    team = DESK.program()
    with language_model():
        items = [
            {name: normal_form(program(message=example.message).topic) for name, program in team.members.items()}
            for example in test
        ]
    for name in team.members:
        print(f"{name:>9}: {share([item[name] for item in items], truth):.0%}")
    voted = [MajorityVote().decide([MemberVote(name, form) for name, form in item.items()]).form for item in items]
    print(f" majority: {share(voted, truth):.0%}, in {len(items)} messages")
    print(f"any right: {oracle(items, truth):.0%}; they agree in {agreement(items):.0%}")


def share(forms: list[Any], truth: list[Any]) -> float:
    """Return how many are right."""
    return sum(form == label for form, label in zip(forms, truth, strict=True)) / len(truth)


if __name__ == "__main__":
    main()
