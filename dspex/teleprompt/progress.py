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

#: How many more rollouts there will be is not known to the bar: the time left is told by the search.
_FORMAT = "{desc}: {n_fmt}/{total_fmt} rollouts [{elapsed}{postfix}]"


class Progress:
    """Shows how far it is: rollouts, best score, calls paid, what they cost, how much time is left.

    If a model is away it says so. The time that is left is shown if the search tells its `share`.

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
        self._bar: Any = tqdm(
            total=0, desc=report.optimiser, disable=disable, file=sys.stderr, bar_format=_FORMAT, dynamic_ncols=True
        )
        self._best = 0.0
        self._share = 0.0

    def __enter__(self) -> Self:
        self._began = self._runtime.clock.time()
        self._paying_since = (self._began, 0.0)
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

    def share(self, done: float) -> None:
        """Tell which part of the whole search is done, from 0 to 1."""
        self._share = done
        if not self._ledger.paid:
            # What comes from the journal takes no time, and says nothing about the rest.
            self._paying_since = (self._runtime.clock.time(), done)
        self._show()

    @property
    def left(self) -> float | None:
        """How many seconds are left, if the rest goes as what was paid for so far; None if nobody can know."""
        since, done = self._paying_since
        if self._share <= done:
            return None
        return (self._runtime.clock.time() - since) * (1 - self._share) / (self._share - done)

    def _show(self) -> None:
        told: dict[str, Any] = {"best": f"{self._best:.3f}", "calls": self._ledger.paid}
        if self._ledger.dollars:
            told["cost"] = f"${self._ledger.dollars:.2f}"
        if self.left is not None:
            told["left"] = tqdm.format_interval(self.left)
        if self._gate.suspended is not None:
            told["suspended"] = f"the model is away for {self._gate.suspended:.0f} s"
        self._bar.set_postfix(told)

    async def _tick(self) -> None:
        with suppress(asyncio.CancelledError):
            while True:
                await self._runtime.sleep(1.0)
                self._show()
