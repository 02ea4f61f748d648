"""An ascent of a team as a job: by a file, whose options are those of the class."""

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

pytestmark = pytest.mark.usefixtures("quiet")

SPEC = """
program = "tests.dspex.search.stall:desk"
metric = "dspex.testing.engine:exact"
trainset = {{ path = "train.csv", inputs = ["text"] }}
optimiser = "dspex.search:TeamSIMBA"
max_calls = {calls}
[options]
scope = "member"
structure = true
candidates = "tests.dspex.search.stall:JOINING"
islands = 2
migrate_every = 1
max_calls = 200
bsize = 6
num_candidates = 2
max_steps = 2
num_threads = 4
"""


@pytest.mark.once
def test_it_is_a_job_whose_own_bound_is_a_result_and_whose_budget_is_not(tmp_path: Path, capsys: Any) -> None:
    with (tmp_path / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *([one.text, one.label] for one in EXAMPLES[:24])])
    spec, lm = tmp_path / "team.toml", scripted_lm(ScriptedEngine(LABELS))
    spec.write_text(SPEC.format(calls=50))
    assert main([str(spec), "--json"], lm=lm) == 3
    capsys.readouterr()
    spec.write_text(SPEC.format(calls=1000))
    assert main([str(spec), "--json"], lm=lm) == 0
    job = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (job["state"], job["calls"] <= 200) == ("succeeded", True)
    made = json.loads(Path(job["file"]).read_text())
    assert any("members" in key for key in made)


def test_what_is_wrong_with_its_options_is_said_before_it_begins() -> None:
    spec = {
        "program": "tests.dspex.search.stall:desk",
        "metric": "dspex.testing.engine:exact",
        "trainset": {"path": "train.csv", "inputs": ["text"]},
        "optimiser": "dspex.search:TeamSIMBA",
    }
    for options, why in (({"islands": 0}, "islands = 0"), ({"scope": "all"}, "team, member")):
        with pytest.raises(BadOptimisationSpec, match=why):
            OptimisationSpec.of("x", {**spec, "options": options})
