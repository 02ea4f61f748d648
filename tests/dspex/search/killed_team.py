"""Searches a team, and kills itself at one of its calls: ``python -m … FOLDER CALL``; 0 for none."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import dspy

from dspex.search import TeamSearchReport
from dspex.testing.chain import ChainEngine, ScriptedChain
from dspex.testing.engine import scripted_lm
from tests.dspex.search.teams import EXAMPLES, FIELDS, LABELS, OWN, WORTHS, search
from tests.dspex.search.telling import Telling


class TellingChain(Telling, ChainEngine):
    """The same of a chain."""


def run(folder: Path, last: int) -> None:
    """Search, and write what came of it."""
    folder.mkdir(exist_ok=True)
    made = search(
        None,  # type: ignore[arg-type]
        member_metrics=OWN,
        held_out=0.25,
        num_threads=1,
        log_dir=folder / "log",
        display_progress=False,
    )
    with dspy.context(lm=scripted_lm(TellingChain(folder / "calls", last, LABELS, WORTHS))):
        program = made.compile(ScriptedChain(FIELDS), trainset=EXAMPLES)
    assert isinstance(made.report, TeamSearchReport)
    (folder / "program.json").write_text(json.dumps(program.dump_state(), default=repr))
    (folder / "report.txt").write_text(repr((made.report.blocks, made.report.trials, made.report.test)))


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
