"""The race: which of several programs is the best, without trying all of them on all examples."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dspy
import msgspec

from dspex.fingerprints import content_digest, model_fingerprint, program_fingerprint
from dspex.search.events import HypothesisDropped, HypothesisSuspended
from dspex.search.explorers import Entrant, ExplorerPool, Lane, RaceField
from dspex.search.hypothesis import Hypothesis, ModelsApart, described, hypotheses_of, source_of
from dspex.search.items import Strata, split_off, stratified
from dspex.search.metrics import RaceCounts
from dspex.search.report import Fate, HypothesisResult, RaceReport
from dspex.search.rules import Elimination, Look, RaceOrder, RaceRule, mean, race_rule, winner
from dspex.teleprompt.errors import EveryExampleFailed, ModelRefused
from dspex.teleprompt.identity import parameter
from dspex.teleprompt.rollouts import RolloutOutcome
from dspex.teleprompt.run import OptimisationRun
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
        return [self._pool(run).spec(), ChildSpec("race", RaceView, (run,))]

    def _pool(self, run: OptimisationRun) -> ExplorerPool:
        return ExplorerPool(run.runtime, f"{run.name}.explorers", self.explorers)

    async def search(self, run: OptimisationRun, student: Any, trainset: list[Any], seed: int, **data: Any) -> Any:
        """Return the best program. ``valset`` is what is raced on, ``testset`` what winner and student are scored on.

        Raises:
            BadHypotheses: a hypothesis is no program.
            BadOption: ``max_rollouts`` is not enough for the first round.
        """
        if dspy.settings.lm is None and any(predictor.lm is None for predictor in student.predictors()):
            raise ModelRefused(ValueError("no language model is configured: dspy.configure(lm=dspy.LM(...))"))
        with run.settings():
            asked = run.durable_program(student)
            work = lambda: hypotheses_of(self.hypotheses, asked, trainset, seed)  # noqa: E731
            found = await run.run_in_thread("hypotheses", work)
            heat = _Heat(self, run, found, list(data.get("valset") or trainset), data.get("testset"), seed)
            run.state = heat
            return await heat.run()


class _Heat:
    """One run of a race."""

    def __init__(
        self,
        race: Race,
        run: OptimisationRun,
        hypotheses: Sequence[Hypothesis],
        examples: Sequence[Any],
        testset: Sequence[Any] | None,
        seed: int,
    ) -> None:
        self._race, self._run, self._hypotheses = race, run, hypotheses
        self._pool = race._pool(run)
        order = stratified(examples, seed, race.strata)
        self.items, kept = (order, []) if testset else split_off(order, race.held_out)
        self._tested: Sequence[Any] = testset or [examples[number] for number in kept]
        #: The number of a hypothesis, and of the earlier one that is the same.
        self._equal: dict[int, int] = {}
        self.field = RaceField(run, self._entrants(), examples, self.items, race.paid)
        self._live = dict(enumerate(self.field.entrants))
        #: On how many items each is looked at, or will have been when what is under way is done.
        self._planned = dict.fromkeys(self._live, 0)
        #: On how many items each was looked at, and its score on these, as far as its rule knows.
        self._known = dict.fromkeys(self._live, (0, 0.0))
        self._counts = RaceCounts.of(run.runtime)
        assert isinstance(run.report, RaceReport)
        self._report = run.report
        self._report.items = len(self.items)
        self._report.everything = len(self._live) * len(self.items)
        self._report.expected = race.rule.expected(len(self._live), len(self.items))

    def _entrants(self) -> list[Entrant]:
        """Return the hypotheses that differ, each in the lane of its language models."""
        apart = [ModelsApart(one.program, self._run.original) for one in self._hypotheses]
        own, lanes = {*map(id, apart[0].models)}, {frozenset[int](): Lane(self._run, None)}
        different: dict[tuple[str, tuple[int, ...]], Entrant] = {}
        keys: dict[str, int] = {}
        for number, (one, program) in enumerate(zip(self._hypotheses, apart, strict=True)):
            models = tuple(map(id, program.models))
            asked = [model_fingerprint(lm) for lm in program.models]
            digest = content_digest([program_fingerprint(program.program), asked])[:16]
            same = different.get((digest, models))
            if same is not None:
                self._equal[number] = same.number
                continue
            others = frozenset({*models} - own - {id(None)})
            if others not in lanes:
                lanes[others] = Lane(self._run, self._race.lane_patience)
            # Language models may differ in what no fingerprint shows.
            keys[digest] = keys.get(digest, 0) + 1
            key = digest if keys[digest] == 1 else f"{digest}#{keys[digest]}"
            different[digest, models] = Entrant(number, one, program, key, lanes[others])
        return list(different.values())

    async def run(self) -> Any:
        """Race, and return the best program."""
        self._counts.hypotheses["begun"] += len(self._live)
        await self._raced()
        best = self.field.entrants[self._winner()]
        self._conclude(best)
        await self._test(best)
        self._counts.hypotheses["won"] += 1
        return best.program.copy()

    # -- the race ----------------------------------------------------------------------------------------------------

    async def _raced(self) -> None:
        decisions = self._race.rule.decisions(len(self._live), len(self.items))
        looks: dict[int, asyncio.Task[bool]] = {}
        scores: dict[int, list[float] | None] | None = None
        try:
            while True:
                try:
                    order = decisions.send(scores)  # type: ignore[arg-type]
                except StopIteration as end:
                    self._drop(end.value)
                    return
                self._drop(order.dropped)
                if self._is_over(order):
                    order = RaceOrder((), tuple(looks))
                for look in order.begin:
                    self._planned[look.hypothesis] = look.items
                    looks[look.hypothesis] = asyncio.ensure_future(self._look(look))
                found = await asyncio.gather(*(looks.pop(one) for one in order.needed))
                scores = self._noted(dict(zip(order.needed, found, strict=True)))
                if self._report.stopped is not None:
                    return
        finally:
            for task in looks.values():
                task.cancel()

    async def _look(self, look: Look) -> bool:
        return await self._pool.look(self.field, *look)

    def _is_over(self, order: RaceOrder) -> bool:
        """Return whether what is wanted next would be too much."""
        if self._race.max_rollouts is None:
            return False
        planned = sum(self._planned.values())
        cost = sum(look.items - self._planned[look.hypothesis] for look in order.begin)
        if planned + cost <= self._race.max_rollouts:
            return False
        if not planned:
            raise BadOption("Race: max_rollouts", self._race.max_rollouts, f"the first round takes {cost}: give more")
        self._report.stopped = f"max_rollouts = {self._race.max_rollouts}, and the next round takes {cost}"
        return True

    def _runs(self) -> int:
        return sum(len(one.outcomes) for one in self.field.entrants)

    def _noted(self, found: Mapping[int, bool]) -> dict[int, list[float] | None]:
        """Note what was looked at, and return the scores."""
        entrants = self.field.entrants
        scores = {which: entrants[which].scores if done else None for which, done in found.items()}
        self._known |= {which: (len(said), mean(said)) for which, said in scores.items() if said is not None}
        _, best = self._known[self._leader()]
        for which, said in scores.items():
            one = entrants[which]
            if said is None:
                self._suspended(one)
            else:
                outcomes = [one.outcomes[position] for position in range(len(said))]
                self._run.scored(one.number, outcomes, best=best, hypothesis=one.hypothesis.name)
        self._must_succeed()
        self._run.progress.share(min(1.0, sum(items for items, _ in self._known.values()) / self._report.expected))
        return scores

    def _leader(self) -> int:
        """Return who is the best so far of those that were looked at on most items."""
        return max(self._live, key=lambda one: (*self._known[one], -one))

    def _must_succeed(self) -> None:
        """Raise that no example can be scored, once every hypothesis had its chance."""
        entrants = self.field.entrants
        if any(outcome.failure is None for one in entrants for outcome in one.outcomes.values()):
            return
        failures = [str(outcome.failure) for one in entrants for outcome in one.outcomes.values()]
        if failures and all(one.outcomes or one.suspended for one in entrants):
            raise EveryExampleFailed(len(failures), failures[0])

    def _suspended(self, one: Entrant) -> None:
        self._counts.hypotheses["suspended"] += 1
        self._run.runtime.events.emit(
            HypothesisSuspended,
            optimiser=self._report.optimiser,
            number=one.number,
            hypothesis=one.hypothesis.name,
            why=str(one.suspended),
        )

    def _drop(self, dropped: Sequence[Elimination]) -> None:
        for found in dropped:
            one = self._live.pop(found.hypothesis)
            one.dropped = found
            self._counts.hypotheses["dropped"] += 1
            self._run.runtime.events.emit(
                HypothesisDropped,
                optimiser=self._report.optimiser,
                number=one.number,
                hypothesis=one.hypothesis.name,
                items=found.items,
                score=one.score,
                why=found.why,
            )

    def _winner(self) -> int:
        return winner({which: one.scores for which, one in enumerate(self.field.entrants)}, self._live)

    # -- what came of it ---------------------------------------------------------------------------------------------

    def _conclude(self, best: Entrant) -> None:
        report, student = self._report, self.field.entrants[0]
        report.winner, report.train = best.hypothesis.name, best.score
        report.student_train = mean(student.scores[: len(best.outcomes)])
        report.runs = self._runs()
        by_number = {one.number: one for one in self.field.entrants}
        report.hypotheses = [
            self._result(number, one, by_number.get(number), best) for number, one in enumerate(self._hypotheses)
        ]
        self._counts.runs += report.runs
        self._counts.saved += report.everything - report.runs
        self._run.progress.best(best.score)

    def _result(self, number: int, one: Hypothesis, entrant: Entrant | None, best: Entrant) -> HypothesisResult:
        if entrant is None:
            same = self._hypotheses[self._equal[number]].name
            return HypothesisResult(number, one.name, 0.0, 0, 0, "equal", f"does the same as {same}")
        fate, why = _fate(entrant, best)
        failures = sum(outcome.failure is not None for outcome in entrant.outcomes.values())
        return HypothesisResult(number, one.name, entrant.score, len(entrant.outcomes), failures, fate, why or one.why)

    async def _test(self, best: Entrant) -> None:
        """Score winner and student on examples that nobody has raced on."""
        if not self._tested:
            return
        report, student = self._report, self.field.entrants[0]
        both = [best] if best is student else [best, student]
        found = await self._run.gather([self._scored(one) for one in both])
        if found[0] is not None:
            report.test, report.student_test, report.tested = found[0], found[-1], len(self._tested)

    async def _scored(self, one: Entrant) -> float | None:
        wanted = [(f"{one.key}/test/{number}", example) for number, example in enumerate(self._tested)]
        outcomes: list[RolloutOutcome] | None = await self.field.rollouts(one, wanted)
        return None if outcomes is None else mean([outcome.score for outcome in outcomes])

    def summary(self) -> dict[str, object]:
        """Return how far it is, for ``/tree``."""
        left = self._run.progress.left
        leader = self._leader()
        items, score = self._known[leader]
        return {
            "rule": type(self._race.rule).__name__,
            "hypotheses": f"{len(self._live)} of {len(self.field.entrants)}",
            "items": f"{items} of {len(self.items)}",
            "runs": f"{self._runs()} of about {self._report.expected}",
            "best": f"{score:.3f}, {self.field.entrants[leader].hypothesis.name}",
            "calls": self._run.totals.calls,
            "dollars": round(self._run.totals.dollars, 4),
            "seconds_left": "" if left is None else round(left),
        }


def _fate(one: Entrant, best: Entrant) -> tuple[Fate, str]:
    if one is best:
        return "won", ""
    if one.suspended is not None:
        return "suspended", one.suspended
    if one.dropped is not None:
        return "dropped", one.dropped.why
    return ("beaten", "") if one.outcomes else ("not seen", "")


class RaceView(Actor):
    """Shows how far a race is, for ``/tree``.

    Args:
        run: the race.
    """

    def __init__(self, run: OptimisationRun) -> None:
        self._run = run

    def summary(self) -> Mapping[str, object]:
        """Return it."""
        heat = self._run.state
        return {} if heat is None else heat.summary()
