"""The progress bar of an optimisation."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any, Self

from tqdm import tqdm

from dspex.teleprompt.outage import Gate
from dspex.teleprompt.paying import Ledger
from dspex.teleprompt.report import Report
from dspex.teleprompt.rollouts import Outcome
from supervision import Runtime


class Progress:
    """Shows how far it is: rollouts made and left, best score, calls paid, and whether it waits for a model.

    Args:
        report: takes the time.
        ledger: is asked what was paid.
        gate: is asked whether the model is away.
        runtime: whose clock is used.
        shown: whether to show it; None for only if there is a terminal.
    """

    def __init__(self, report: Report, ledger: Ledger, gate: Gate, runtime: Runtime, shown: bool | None) -> None:
        self._report, self._ledger, self._gate, self._runtime = report, ledger, gate, runtime
        disable = None if shown is None else not shown
        self._bar: Any = tqdm(total=0, unit="rollout", desc=report.optimiser, disable=disable, file=sys.stderr)
        self._best = 0.0

    def __enter__(self) -> Self:
        self._began = self._runtime.clock.time()
        self._ticks = asyncio.get_running_loop().create_task(self._tick())
        return self

    def __exit__(self, *_: object) -> None:
        self._ticks.cancel()
        self._report.seconds = self._runtime.clock.time() - self._began
        self._show()
        self._bar.close()

    def expect(self, rollouts: int) -> None:
        """Tell that more rollouts are to be made."""
        self._bar.total += rollouts
        self._bar.refresh()

    def made(self, outcome: Outcome) -> None:
        """Tell that a rollout has been made."""
        self._bar.update()

    def best(self, score: float) -> None:
        """Tell the best score so far."""
        self._best = score
        self._show()

    def _show(self) -> None:
        away = self._gate.suspended
        waits = {} if away is None else {"suspended": f"the model is away for {away:.0f} s"}
        self._bar.set_postfix({"best": f"{self._best:.3f}", "calls": self._ledger.paid, **waits})

    async def _tick(self) -> None:
        with suppress(asyncio.CancelledError):
            while True:
                await self._runtime.sleep(1.0)
                self._show()
