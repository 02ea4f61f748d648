"""The progress bar of an optimisation."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from dspex.teleprompt.report import OptimisationReport, Progress
from supervision import Runtime
from supervision.testing import VirtualClockLoop


class CallsAndSuspension(SimpleNamespace):
    """What a call log and a suspension say of themselves."""

    calls = 0
    dollars = 0.0
    suspended: float | None = None


def last(shown: pytest.CaptureFixture[str]) -> str:
    """Return what the bar says in the end."""
    return shown.readouterr().err.split("\r")[-1].strip()


def test_it_tells_best_score_cost_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    """The time that is left follows from what was paid for; what came from the journal took none."""
    counts: Any = CallsAndSuspension()

    async def main() -> None:
        async with Runtime(reports=False) as runtime:
            with Progress(OptimisationReport("SIMBA", 0, True), counts, counts, runtime, True) as progress:
                progress.expect(8)
                progress.best(0.5)
                assert last(capsys) == "SIMBA: 0/8 rollouts [00:00, best=0.500, calls=0]"
                progress.share(0.2)
                assert progress.left is None
                await runtime.sleep(60)
                counts.calls, counts.dollars = 40, 1.234
                progress.share(0.4)
                assert progress.left == pytest.approx(180.0)
                assert last(capsys).endswith("best=0.500, calls=40, cost=$1.23, left=03:00]")
                counts.suspended = 7.0
                progress.best(0.75)
                assert "best=0.750" in (said := last(capsys))
                assert said.endswith("suspended=the model is unavailable for 7 s]")
                progress.share(1.0)
                assert progress.left == 0.0

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        runner.run(main())


async def test_it_is_not_shown_unless_somebody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Any = CallsAndSuspension()
    async with Runtime(reports=False) as runtime:
        with Progress(OptimisationReport("SIMBA", 0, False), counts, counts, runtime, None) as progress:
            progress.expect(1)
            progress.best(1.0)
    assert capsys.readouterr().err == ""
