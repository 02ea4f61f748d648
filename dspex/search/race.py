"""The race: which of several programs is the best, without trying all of them on all examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dspex.search.explorers import ExplorerPool
from dspex.search.heat import Heat
from dspex.search.hypothesis import described, hypotheses_of, source_of
from dspex.search.items import Strata
from dspex.search.report import RaceReport
from dspex.search.rules import RaceRule, race_rule
from dspex.teleprompt.identity import parameter
from dspex.teleprompt.run import OptimisationRun, check_model
from dspex.teleprompt.teleprompter import DurableTeleprompter
from foundation.options import above_zero, finite, whole
from supervision import Actor, ChildSpec
from supervision.errors import BadOption


class Race(DurableTeleprompter):
    """Finds the best of several programs: all are looked at on a few examples, and the best ones on more.

    It is raced on the ``valset``, or on the training set if there is none. The student is hypothesis 0, and is never
    dropped: what comes back is no worse on what was raced on. Supervised explorers look at the hypotheses; one that is
    killed is started again. What decides are scores, never who was faster: for the same seed and the same answers the
    winner is the same for any number of workers and explorers, and however often it was killed.

    Runs that were lost, by an outage or with a worker, are no look, and never a score: they are made again. A
    hypothesis with language models that the student does not ask is waited for by itself; if these are away for too
    long, it is suspended: the race goes on, does not count it, and asks for it again at each decision.

    Its ``report`` is a `RaceReport`.

    Args:
        hypotheses: programs, or functions of a copy of the student that change it, or `Hypothesis`; or a function of
            the student, the training set and the seed that makes such; or the import path of either; or a table of what
            there is to choose in the student, as for `Configurations`.
        metric: see `DurableTeleprompter`, also for what is not listed here.
        rule: a `RaceRule`; or ``halving``, ``asha`` or ``paired``, or a table with that as its ``kind``.
        explorers: how many hypotheses are looked at at a time.
        max_rollouts: so many runs at most; then the best so far comes back. None for as many as it takes.
        strata: what examples belong to, of which each beginning of the items has its share: the name of a field, or a
            function; None for the label, if that repeats.
        held_out: the share of the examples that is not raced on, and on which winner and student are scored in the end.
            Not used if ``compile`` is given a ``testset``.
        lane_patience: seconds until a hypothesis is suspended.
        options: for `DurableTeleprompter`.

    Raises:
        BadHypotheses: what is given for hypotheses cannot be raced.
        BadOption: an option makes no sense.
    """

    takes = ("valset", "testset")
    own_models = True
    report_kind = RaceReport

    def __init__(
        self,
        hypotheses: Any,
        *,
        metric: Callable[..., Any],
        rule: RaceRule | str | Mapping[str, Any] = "halving",
        explorers: int = 16,
        max_rollouts: int | None = None,
        strata: Strata = None,
        held_out: float = 0.0,
        lane_patience: float = 600.0,
        **options: Any,
    ) -> None:
        super().__init__(metric=metric, **options)
        self.hypotheses = source_of(hypotheses)
        self.rule = race_rule(rule)
        self.explorers = whole("Race: explorers", explorers)
        self.max_rollouts = None if max_rollouts is None else whole("Race: max_rollouts", max_rollouts)
        self.strata = strata
        share = finite(held_out)
        if share is None or not 0 <= share < 1:
            raise BadOption("Race: held_out", held_out, "give a share from 0, below 1")
        self.held_out = float(share)
        self.lane_patience = above_zero("Race: lane_patience", lane_patience)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters that decide what comes out."""
        return {
            "hypotheses": described(self.hypotheses),
            "rule": msgspec.to_builtins(self.rule),
            "strata": parameter(self.strata),
            "held_out": self.held_out,
        }

    def actors(self, run: OptimisationRun) -> list[ChildSpec]:
        """Return the explorers, and the one that shows how far it is."""
        run.state = None
        return [self.explorer_pool(run).spec(), ChildSpec("race", SearchView, (run,))]

    def explorer_pool(self, run: OptimisationRun) -> ExplorerPool:
        """Return the explorers of a run."""
        return ExplorerPool(run.runtime, f"{run.name}.explorers", self.explorers)

    async def search(self, run: OptimisationRun, student: Any, trainset: list[Any], seed: int, **data: Any) -> Any:
        """Return the best program. ``valset`` is what is raced on, ``testset`` what winner and student are scored on.

        Raises:
            BadHypotheses: a hypothesis is no program.
            BadOption: ``max_rollouts`` is not enough for the first round.
        """
        check_model(student)
        with run.settings():
            asked = run.durable_program(student)
            work = lambda: hypotheses_of(self.hypotheses, asked, trainset, seed)  # noqa: E731
            found = await run.run_in_thread("hypotheses", work)
            examples = list(data.get("valset") or trainset)
            assert isinstance(run.report, RaceReport)
            heat = Heat(self, run, found, examples, data.get("testset"), seed, report=run.report)
            run.state = heat
            best = await heat.run()
            return best.program.copy()


class SearchView(Actor):
    """Shows how far a search is, for ``/tree``.

    Args:
        run: the search, whose state has a summary once it has begun.
    """

    def __init__(self, run: OptimisationRun) -> None:
        self._run = run

    def summary(self) -> Mapping[str, object]:
        """Return it."""
        state = self._run.state
        return {} if state is None else state.summary()
