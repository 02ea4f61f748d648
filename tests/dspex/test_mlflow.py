"""MLflow's autolog: what it sees of programs that agents run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_E011_mlflows_autolog_sees_the_calls_of_a_pool_in_one_trace() -> None:
    """Two calls below one span are nine spans in one trace; DSPy's settings cannot be changed inside of an actor."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.dspex.mlflow_traces"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    told = json.loads(done.stdout.splitlines()[-1])
    each = ["ChatAdapter.format", "ChatAdapter.parse", "LM.__call__", "Predict.forward"]
    assert told["names"] == sorted([*each, *each, "both"])
    assert told["traces"] == 1
    assert "same async task" in told["late"]
    assert told["lives"]
