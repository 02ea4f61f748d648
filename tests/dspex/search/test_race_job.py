"""Races as jobs: by a file, with a budget that all language models are paid out of."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from dspex.optimise.__main__ import main
from dspex.optimise.spec import BadOptimisationSpec, OptimisationSpec
from dspex.testing.engine import ScriptedEngine, scripted_lm
from tests.dspex.search.conftest import EXAMPLES, LABELS
from tests.dspex.search.stall import LARGE

pytestmark = pytest.mark.usefixtures("quiet")

SPEC = """
program = "tests.dspex.search.stall:program"
metric = "dspex.testing.engine:exact"
trainset = {{ path = "train.csv", inputs = ["text"] }}
optimiser = "dspex.search:Race"
max_calls = {calls}
[options]
hypotheses = "tests.dspex.search.stall:ways"
rule = {{ kind = "halving", first = 8 }}
num_threads = 4
"""


def raced(folder: Path, calls: int, shown: Any) -> tuple[int, dict[str, Any]]:
    """The exit status of the command, and the job."""
    (folder / "race.toml").write_text(SPEC.format(calls=calls))
    status = main([str(folder / "race.toml"), "--json"], lm=scripted_lm(ScriptedEngine(LABELS)))
    return status, json.loads(shown.readouterr().out.splitlines()[-1])


def test_a_race_is_a_job_whose_budget_ends_and_that_goes_on_with_more(tmp_path: Path, capsys: Any) -> None:
    """All calls are counted once, also those to a model that only a hypothesis asks; the winner keeps that model."""
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *([one.text, one.label] for one in EXAMPLES)])
    assert raced(tmp_path, 30, capsys)[0] == 3
    before = LARGE._engine_spec.calls
    status, job = raced(tmp_path, 1000, capsys)
    assert (status, job["state"], job["why"]) == (0, "succeeded", "")
    # Of five, two go on beside the student, and then one, whom one more rung compares with it.
    assert job["calls"] == 5 * 8 + 3 * 8 + 2 * 16
    assert LARGE._engine_spec.calls > before
    made = json.loads(Path(job["file"]).read_text())
    assert made["lm"]["model"] == LARGE.model
    assert "Way" not in made["signature"]["instructions"]


def test_what_is_wrong_with_its_options_is_said_before_it_begins() -> None:
    spec = {
        "program": "tests.dspex.search.stall:program",
        "metric": "dspex.testing.engine:exact",
        "trainset": {"path": "train.csv", "inputs": ["text"]},
        "optimiser": "dspex.search:Race",
    }
    for options, why in (
        ({}, "hypotheses"),
        ({"hypotheses": "tests.nowhere:ways"}, "write package.module:name"),
        ({"hypotheses": "tests.dspex.search.stall:ways", "rule": "fastest"}, "halving, asha, paired"),
    ):
        with pytest.raises(BadOptimisationSpec, match=why):
            OptimisationSpec.of("x", {**spec, "options": options})
