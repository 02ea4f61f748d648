"""The command that compares tests with and without agents."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from dspex.testing.compat import main

_TESTS = """
import dspy
import pytest
from supervision import current_actor

class Where(dspy.Module):
    def forward(self):
        try:
            return dspy.Prediction(actor=str(current_actor()))
        except Exception:
            return dspy.Prediction(actor="")

def test_the_same():
    assert isinstance(Where()(), dspy.Prediction)

def test_only_without_an_agent():
    assert "route" not in Where()().actor

def test_only_in_an_agent():
    assert "route" in Where()().actor

def test_fails():
    assert not Where()()

@pytest.fixture
def broken():
    raise ValueError("no")

def test_errs(broken):
    pass

@pytest.mark.skip
def test_skipped():
    pass
"""


def quiet(suite: Path) -> list[str]:
    """Return arguments for pytest with which it is the same whoever asks: names begin at the suite."""
    return ["--", f"--rootdir={suite}", "-p", "no:cacheprovider", "-p", "no:randomly", "-W", "ignore"]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A folder with tests; one inside, with a file that cannot even be read, is left out unless somebody objects."""
    (tmp_path / "test_where.py").write_text(_TESTS)
    (tmp_path / "clients").mkdir()
    (tmp_path / "clients" / "test_away.py").write_text("raise ValueError")
    return tmp_path


@pytest.mark.once
def test_each_test_is_compared(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that pass only without an agent are what counts; a file that cannot be read is an error both times."""
    assert main([str(suite), "--ignore", "nothing", "--json", *quiet(suite)]) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {
        "bare": {"error": 2, "failed": 2, "passed": 2, "skipped": 1},
        "routed": {"error": 2, "failed": 2, "passed": 2, "skipped": 1},
        "sync_calls": 4,
        "async_calls": 0,
        "broken": ["test_where::test_only_without_an_agent"],
        "mended": ["test_where::test_only_in_an_agent"],
    }
    assert "in an agent: {'error': 2" in printed.err


@pytest.mark.once
def test_if_all_is_the_same_all_is_well(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(suite), *quiet(suite), "-k", "test_the_same or test_only_in"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "              bare   in an agent",
        "failed           1             0",
        "passed           1             2",
    ]
    assert lines[-2:] == [
        "2 sync and 0 async calls ran in an agent",
        "passes only in an agent: test_where::test_only_in_an_agent",
    ]


def test_tests_that_cannot_be_run(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is compared with nothing."""
    assert main([str(suite), "--", "--no-such-option"]) == 2
    assert "pytest ended with 4" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([str(suite / "no")])
    assert "there is no" in capsys.readouterr().err


def test_ctrl_c_ends_it(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupted)
    monkeypatch.setattr(sys, "argv", ["compat", str(suite)])
    monkeypatch.delitem(sys.modules, "dspex.testing.compat")
    with pytest.raises(SystemExit, match="130"):
        runpy.run_module("dspex.testing.compat", run_name="__main__")
