"""The progress of an evaluation in the terminal."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any, Self

from tqdm import tqdm

from dspex.evaluate.outcomes import ExampleOutcome
from dspex.models.call_log import CallLog
from dspex.workflow.suspension import Suspension
from supervision import Runtime

_FORMAT = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


class EvaluationProgress:
    """Shows how many examples are done, their mean score so far, the calls made and what they cost, and outages.

    Args:
        total: how many there are.
        call_log: is asked how many calls were made, and what they cost.
        suspension: is asked whether the model is unavailable.
        runtime: whose clock is used.
        shown: whether to show it; None for only if there is a terminal.
    """

    def __init__(
        self, total: int, call_log: CallLog, suspension: Suspension, runtime: Runtime, shown: bool | None
    ) -> None:
        self._call_log, self._suspension, self._runtime = call_log, suspension, runtime
        self._sum, self._scored = 0.0, 0
        disable = None if shown is None else not shown
        self._bar: Any = tqdm(
            total=total, desc="evaluate", disable=disable, file=sys.stderr, bar_format=_FORMAT, dynamic_ncols=True
        )

    def __enter__(self) -> Self:
        self._ticks = asyncio.get_running_loop().create_task(self._tick())
        return self

    def __exit__(self, *_: object) -> None:
        self._ticks.cancel()
        self._show()
        self._bar.close()

    def made(self, outcome: ExampleOutcome) -> None:
        """Show that an example is done."""
        if outcome.score is not None:
            self._sum, self._scored = self._sum + outcome.score, self._scored + 1
        self._bar.update()

    def _show(self) -> None:
        told: dict[str, Any] = {"calls": self._call_log.calls}
        if self._scored:
            told["mean"] = f"{self._sum / self._scored:.3f}"
        if self._call_log.dollars:
            told["cost"] = f"${self._call_log.dollars:.2f}"
        if self._suspension.suspended is not None:
            told["suspended"] = f"the model is unavailable for {self._suspension.suspended:.0f} s"
        self._bar.set_postfix(told)

    async def _tick(self) -> None:
        with suppress(asyncio.CancelledError):
            while True:
                await self._runtime.sleep(1.0)
                self._show()
