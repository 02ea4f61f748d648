"""What the OpenAPI document promises holds, for whatever Schemathesis thinks of, with all its checks."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Requests that are made up for each operation, beside those for each line of the document.
EXAMPLES = 10


@pytest.fixture(params=["the default tree", "examples/triage.toml"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a tree serves, with the small model behind its program."""
    tree = [] if request.param == "the default tree" else [str(ROOT / request.param)]
    command = [sys.executable, "-m", "foundation.run", *tree, "--port", "0", "--state", str(tmp_path)]
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
        assert running.stdout is not None
        try:
            lines = iter(running.stdout.readline, "")
            yield next(found[1] for line in lines if (found := re.search(r"(http://\S+)/programs/\w+ --json", line)))
        finally:
            running.terminate()
            running.communicate()
    assert running.returncode == 0


@pytest.mark.once
@pytest.mark.timeout(300)
def test_schemathesis_finds_nothing(url: str, tmp_path: Path) -> None:
    options = ["--checks", "all", "--max-examples", str(EXAMPLES), "--seed", "1", "--no-color"]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", *options]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    selected = re.search(r"Operations: +(\d+) selected / \1 total", done.stdout)
    assert selected is not None
    assert int(selected[1]) >= 10
    assert re.search(rf"Tested: +{selected[1]}$", done.stdout, re.MULTILINE)
    # There is no call of which it could know the id; of that it warns.
    assert re.search(r"generated, \d+ passed", done.stdout)
