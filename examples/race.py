"""Race several ways of asking: ``python -m examples.race`` finds the best, and says what trying all would have cost.

The program, its examples and its metric are those of `examples.triage`. The ways are its wordings, each without
demonstrations and with four of the examples.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dspex import language_model
from dspex.search import Hypothesis, Race, RaceReport
from examples.triage import WORDINGS, right, tickets, triage

#: So many demonstrations a way has, if it has any.
SHOWN = 4


def ways(student: Any, trainset: Sequence[Any], seed: int) -> list[Hypothesis]:  # noqa: ARG001
    """Return the ways of asking: what `Race` is told to call."""

    def change(wording: str, shown: int) -> Callable[[Any], None]:
        def way(program: Any) -> None:
            program.signature = program.signature.with_instructions(wording)
            program.demos = list(trainset[:shown])

        return way

    return [
        Hypothesis(f"{wording!r}, {shown} shown", change(wording, shown))
        for wording in WORDINGS
        for shown in (0, SHOWN)
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Race, say what came of it, and save the winner."""
    parser = argparse.ArgumentParser(prog="python -m examples.race", description=__doc__)
    parser.add_argument("--rule", default="halving", help="halving, asha or paired")
    parser.add_argument("--log", type=Path, help="a folder for the journal: killed and run again, it goes on")
    parser.add_argument("--out", type=Path, default=Path("winner.json"), help="where the winner is saved")
    options = parser.parse_args(arguments)
    learn, test = tickets()
    rule = {"kind": options.rule} if options.rule == "paired" else {"kind": options.rule, "first": 5}
    # Demonstrations are not raced on: a model that is shown an answer knows it.
    race = Race(ways, metric=right, rule=rule, log_dir=options.log)
    with language_model():
        winner = race.compile(triage(), trainset=learn, valset=learn[SHOWN:], testset=test)
    report = race.report
    assert isinstance(report, RaceReport)
    print(f"the winner: {report.winner}")
    print(f"on {report.items} messages raced on: {report.train:.0%}, as it was written {report.student_train:.0%}")
    print(f"on {report.tested} others: {report.test:.0%}, as it was written {report.student_test:.0%}")
    print(f"{report.runs} of {report.everything} runs")
    winner.save(options.out)
    print(f"saved to {options.out}")


if __name__ == "__main__":
    main()
