"""The progress of an evaluation tells what is done, what it costs, and what it waits for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dspex.evaluate.outcomes import ExampleOutcome
from dspex.evaluate.progress import EvaluationProgress
from supervision import Runtime


def last(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip("\r\n").split("\r")[-1].strip()


async def test_it_shows_the_mean_the_calls_their_cost_and_outages(
    runtime: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    counts: Any = SimpleNamespace(calls=0, dollars=0.0, suspended=None)
    with EvaluationProgress(4, counts, counts, runtime, True) as progress:
        progress.made(ExampleOutcome("failed", why="x"))
        await runtime.sleep(1.5)
        assert last(capsys).startswith("evaluate: 1/4 [")
        counts.calls, counts.dollars, counts.suspended = 3, 1.234, 7.0
        progress.made(ExampleOutcome("scored", 1.0))
        progress.made(ExampleOutcome("scored", 0.5))
        await runtime.sleep(1.5)
        shown = last(capsys)
        assert shown.startswith("evaluate: 3/4 [")
        assert "calls=3, mean=0.750, cost=$1.23, suspended=the model is unavailable for 7 s" in shown


async def test_it_is_not_shown_unless_somebody_looks(runtime: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    counts: Any = SimpleNamespace(calls=0, dollars=0.0, suspended=None)
    with EvaluationProgress(1, counts, counts, runtime, None) as progress:
        progress.made(ExampleOutcome("scored", 1.0))
    assert capsys.readouterr().err == ""
