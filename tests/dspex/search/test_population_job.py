"""Populations as jobs: by a file, with a budget."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from dspex.optimise.__main__ import main
from dspex.optimise.spec import BadOptimisationSpec, OptimisationSpec
from dspex.testing.engine import ScriptedEngine, scripted_lm
from tests.dspex.search.populations import EXAMPLES, LABELS

pytestmark = pytest.mark.usefixtures("quiet")

SPEC = """
program = "tests.dspex.search.stall:program"
metric = "dspex.testing.engine:exact"
trainset = {{ path = "train.csv", inputs = ["text"] }}
optimiser = "dspex.search:PopulationBasedTraining"
max_calls = {calls}
[options]
training = "tests.dspex.search.populations:Advice"
population = 3
intervals = 2
rule = {{ quantile = 0.5, resample = 0.1 }}
num_threads = 4
"""


def trained(folder: Path, calls: int, shown: Any) -> tuple[int, dict[str, Any]]:
    """The exit status of the command, and the job."""
    (folder / "population.toml").write_text(SPEC.format(calls=calls))
    status = main([str(folder / "population.toml"), "--json"], lm=scripted_lm(ScriptedEngine(LABELS)))
    return status, json.loads(shown.readouterr().out.splitlines()[-1])


def test_a_population_is_a_job_whose_budget_ends_and_that_goes_on_with_more(tmp_path: Path, capsys: Any) -> None:
    """Each call is counted once: one to edit, and one for each example, of each member in each interval."""
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *([one.text, one.label] for one in EXAMPLES)])
    assert trained(tmp_path, 30, capsys)[0] == 3
    status, job = trained(tmp_path, 1000, capsys)
    assert (status, job["state"], job["why"]) == (0, "succeeded", "")
    assert job["calls"] == 3 * 2 * (1 + len(EXAMPLES))
    made = json.loads(Path(job["file"]).read_text())
    assert "Look closely: here." in made["signature"]["instructions"]


def test_what_is_wrong_with_its_options_is_said_before_it_begins() -> None:
    spec = {
        "program": "tests.dspex.search.stall:program",
        "metric": "dspex.testing.engine:exact",
        "trainset": {"path": "train.csv", "inputs": ["text"]},
        "optimiser": "dspex.search:PopulationBasedTraining",
        "options": {"training": "no.such:thing"},
    }
    with pytest.raises(BadOptimisationSpec, match=r"options.*package\.module:name"):
        OptimisationSpec.of("spec", spec)
