"""The example of `docs/how-to/workflows.md`: killed with ``kill -9`` and run again, it does nothing twice."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from examples.report import main
from foundation.tree import load_tree

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "messages"
    made.mkdir()
    for number in range(4):
        (made / f"{number}.txt").write_text("It is broken." if number % 2 else "Thank you very much.")
    return made


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.report", str(folder), "--log", str(folder.parent / "log.sqlite")]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_killed_at_several_points_it_writes_the_report_and_does_nothing_twice(folder: Path) -> None:
    steps: Counter[str] = Counter()
    kills = 0
    while (process := run(folder, "--die-after", "2")).returncode == -signal.SIGKILL:
        kills += 1
        steps.update(line for line in process.stdout.splitlines() if line.endswith(" done"))
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("going on where it was\n")
    assert kills >= 2
    # What was written to the journal just before the kill was told to nobody, and is not done again either.
    assert set(steps.values()) == {1}
    assert "| 1.txt | 3 | yes |\n| 2.txt | 4 | no |" in (folder / "report.md").read_text()


def test_it_says_what_it_does(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for begins in ("beginning\n", "going on where it was\n"):
        main([str(folder), "--log", str(folder.parent / "log.sqlite")])
        out = capsys.readouterr().out
        assert out.startswith(begins)
        assert out.endswith(f"written to {folder}/report.md\n")


def test_its_tree_can_be_built() -> None:
    assert "/report/report" in dict(load_tree(ROOT / "examples/report.toml").outline())
