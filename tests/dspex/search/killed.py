"""A race in a process that kills itself at one of its calls: ``python -m … FOLDER RULE CALL``; 0 for none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import dspy

from dspex.search import Race, RaceReport
from dspex.testing.engine import exact, scripted_lm
from tests.dspex.search.conftest import EXAMPLES, LABELS, WAYS, student
from tests.dspex.search.telling import Telling


def run(folder: Path, kind: str, last: int) -> None:
    """Race, and write what came of it."""
    folder.mkdir(exist_ok=True)
    rule = {"kind": kind, "block": 8} if kind == "paired" else {"kind": kind, "first": 8}
    race = Race(WAYS, metric=exact, rule=rule, num_threads=1, log_dir=folder / "log", display_progress=False)
    with dspy.context(lm=scripted_lm(Telling(folder / "calls", last, LABELS, base=0.2, advice=0.35))):
        program = race.compile(student(), trainset=EXAMPLES)
    assert isinstance(race.report, RaceReport)
    (folder / "program.json").write_text(json.dumps(program.dump_state(), default=repr))
    (folder / "report.txt").write_text(repr((race.report.winner, race.report.hypotheses, race.report.trials)))


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
