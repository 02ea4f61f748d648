"""The report of an optimisation: its trials, what they cost, and what went wrong; and the progress bar."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
from tqdm import tqdm

from dspex.models.call_log import CallLog
from dspex.teleprompt.suspension import ModelSuspension
from supervision import Runtime

if TYPE_CHECKING:
    from dspex.teleprompt.rollouts import RolloutPool


class Trial(msgspec.Struct, frozen=True):
    """A candidate that was scored.

    Attributes:
        number: in the order in which candidates were made.
        score: the mean over its examples.
        examples: over how many.
        failures: how many of these the program or the metric has failed on; they count 0.
        details: what the teleprompter tells of it.
        best: the best score when it was there.
    """

    number: int
    score: float
    examples: int
    failures: int
    details: dict[str, Any] = {}
    best: float = 0.0


class OptimisationReport:
    """What an optimisation has found out.

    Attributes:
        optimiser: the name of the teleprompter's class.
        seed: of its chance.
        resumed: whether it went on with what an earlier process had kept.
        trials: the candidates, in order.
        left_out: failed attempts to make a candidate, each with its error.
        calls: how many answers of language models were paid for in this process.
        dollars: what these have cost, as far as the prices are known.
        replayed: how many were in the journal already.
        reused: how many had been asked for before, by another program with the same request, at temperature 0.
        failed_calls: how many calls found no model.
        outages: how often that stopped everything.
        workers_lost: how many workers died with a rollout.
        seconds: how long it took in this process.
    """

    def __init__(self, optimiser: str, seed: int, resumed: bool) -> None:
        self.optimiser = optimiser
        self.seed = seed
        self.resumed = resumed
        self.trials: list[Trial] = []
        self.left_out: list[str] = []
        self.calls = self.replayed = self.reused = self.failed_calls = self.outages = self.workers_lost = 0
        self.seconds = self.dollars = 0.0

    def begin(self) -> None:
        """Begin with no trials."""
        self.trials.clear()
        self.left_out.clear()

    def note(self, trial: Trial, best: float | None = None) -> float:
        """Note a trial, and return the best score so far: what is given, or else the highest."""
        if best is None:
            best = max(self.best, trial.score) if self.trials else trial.score
        self.trials.append(msgspec.structs.replace(trial, best=best))
        return best

    @property
    def best(self) -> float:
        """The best score; 0 before the first trial."""
        return self.trials[-1].best if self.trials else 0.0

    @property
    def failures(self) -> int:
        """How many rollouts the program or the metric has failed in."""
        return sum(trial.failures for trial in self.trials)

    def settle(self, call_log: CallLog, suspensions: Sequence[ModelSuspension], pool: RolloutPool) -> None:
        """Take over what others have counted."""
        self.calls, self.replayed, self.dollars = call_log.calls, call_log.replayed, call_log.dollars
        self.reused = call_log.totals.reused
        self.failed_calls = sum(suspension.failed_calls for suspension in suspensions)
        self.outages, self.workers_lost = sum(suspension.outages for suspension in suspensions), pool.lost

    def markdown(self) -> str:
        """Return it as a page."""
        counts = [
            ("trials", len(self.trials)),
            ("best score", f"{self.best:.4f}"),
            ("LM calls made", self.calls),
            ("dollars, as far as prices are known", f"{self.dollars:.4f}"),
            ("LM answers from the journal", self.replayed),
            *([("LM answers reused", self.reused)] if self.reused else []),
            ("LM calls while the model was unavailable", self.failed_calls),
            ("outages", self.outages),
            ("rollouts that failed, and count 0", self.failures),
            ("workers lost", self.workers_lost),
            ("seconds", f"{self.seconds:.1f}"),
        ]
        lines = [f"# {self.optimiser}, seed {self.seed}", "", "| | |", "|---|---|"]
        lines += [f"| {name} | {value} |" for name, value in counts]
        lines += self.found()
        lines += ["", "![trials](trials.png)", "", "| trial | score | examples | failures | |", "|---|---|---|---|---|"]
        for trial in self.trials:
            details = ", ".join(f"{key}: {value}" for key, value in trial.details.items())
            lines.append(f"| {trial.number} | {trial.score:.4f} | {trial.examples} | {trial.failures} | {details} |")
        return "\n".join(lines) + "\n"

    def found(self) -> list[str]:
        """Return what an optimiser of its own kind has found, as lines of the page."""
        return []

    def plot(self, path: str | Path) -> None:
        """Draw the trials, and the best score so far, as a picture.

        Raises:
            ModuleNotFoundError: matplotlib is not installed (``pip install 'foundation-otp[plot]'``).
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4))
        axes = figure.add_subplot()
        scores = [trial.score for trial in self.trials]
        best = [trial.best for trial in self.trials]
        numbers = range(1, len(scores) + 1)
        axes.plot(numbers, scores, "o", label="trial")
        axes.step(numbers, best, where="post", label="best so far")
        axes.set(xlabel="trial", ylabel="score", title=f"{self.optimiser}, seed {self.seed}")
        axes.legend()
        figure.savefig(path, dpi=120)

    def save(self, folder: Path) -> None:
        """Write ``report.md`` and ``trials.png`` into a folder; without matplotlib, the page alone."""
        try:
            self.plot(folder / "trials.png")
            page = self.markdown()
        except ModuleNotFoundError:
            page = self.markdown().replace("![trials](trials.png)\n\n", "")
        (folder / "report.md").write_text(page)


#: How many more rollouts there will be is not known to the bar: the time left is told by the search.
_FORMAT = "{desc}: {n_fmt}/{total_fmt} rollouts [{elapsed}{postfix}]"


class Progress:
    """Shows rollouts, the best score, the calls made and what they cost, and how much time is left.

    It shows whether a model is unavailable, and the time that is left, if the search reports its `share`.

    Args:
        report: takes the time.
        call_log: is asked how many calls were made, and what they cost.
        suspension: is asked whether the model is unavailable.
        runtime: whose clock is used.
        shown: whether to show it; None for only if there is a terminal.
    """

    def __init__(
        self,
        report: OptimisationReport,
        call_log: CallLog,
        suspension: ModelSuspension,
        runtime: Runtime,
        shown: bool | None,
    ) -> None:
        self._report, self._call_log, self._suspension, self._runtime = report, call_log, suspension, runtime
        disable = None if shown is None else not shown
        self._bar: Any = tqdm(
            total=0, desc=report.optimiser, disable=disable, file=sys.stderr, bar_format=_FORMAT, dynamic_ncols=True
        )
        self._best = 0.0
        self._share = 0.0
        self._stage = (0.0, 1.0)

    def __enter__(self) -> Self:
        self._began = self._runtime.clock.time()
        self._calling_since = (self._began, 0.0)
        self._ticks = asyncio.get_running_loop().create_task(self._tick())
        return self

    def __exit__(self, *_: object) -> None:
        self._ticks.cancel()
        self._report.seconds = self._runtime.clock.time() - self._began
        self._show()
        self._bar.close()

    def expect(self, rollouts: int) -> None:
        """Show that more rollouts are to be made."""
        self._bar.total += rollouts
        self._bar.refresh()

    def made(self) -> None:
        """Show that a rollout has been made."""
        self._bar.update()

    def best(self, score: float) -> None:
        """Show the best score so far."""
        self._best = score
        self._show()

    def stage(self, first: float, last: float) -> None:
        """Begin a stage of the search, which is that part of the whole: what is done from now on is a share of it."""
        self._stage = (first, last)
        self.share(0.0)

    def share(self, done: float) -> None:
        """Show which part of the whole search, or of its stage, is done, from 0 to 1."""
        first, last = self._stage
        done = first + done * (last - first)
        self._share = done
        if not self._call_log.calls:
            # What comes from the journal takes no time, and says nothing about the rest.
            self._calling_since = (self._runtime.clock.time(), done)
        self._show()

    @property
    def left(self) -> float | None:
        """How many seconds are left, if the rest goes as what was paid for so far; None if nobody can know."""
        since, done = self._calling_since
        if self._share <= done:
            return None
        return (self._runtime.clock.time() - since) * (1 - self._share) / (self._share - done)

    def _show(self) -> None:
        told: dict[str, Any] = {"best": f"{self._best:.3f}", "calls": self._call_log.calls}
        if self._call_log.dollars:
            told["cost"] = f"${self._call_log.dollars:.2f}"
        if self.left is not None:
            told["left"] = tqdm.format_interval(self.left)
        if self._suspension.suspended is not None:
            told["suspended"] = f"the model is unavailable for {self._suspension.suspended:.0f} s"
        self._bar.set_postfix(told)

    async def _tick(self) -> None:
        with suppress(asyncio.CancelledError):
            while True:
                await self._runtime.sleep(1.0)
                self._show()
