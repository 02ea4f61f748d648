"""One race under way: who is looked at, on what, and what came of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dspex.fingerprints import content_digest, model_fingerprint, program_fingerprint
from dspex.search.events import HypothesisDropped, HypothesisSuspended
from dspex.search.explorers import Entrant, Lane, RaceField, RaceView
from dspex.search.hypothesis import Hypothesis, ModelsApart
from dspex.search.items import split_off, stratified
from dspex.search.metrics import RaceCounts
from dspex.search.report import Fate, HypothesisResult, RaceReport
from dspex.search.rules import Elimination, Look, RaceOrder, mean, ranked, winner
from dspex.teleprompt.errors import EveryExampleFailed
from dspex.teleprompt.rollouts import RolloutOutcome
from dspex.teleprompt.run import OptimisationRun
from supervision.errors import BadOption

if TYPE_CHECKING:
    from dspex.search.race import Race


class EntrantKeys:
    """Tells the programs of a search apart, in all its races: the same program has the same scores."""

    def __init__(self) -> None:
        # The language models are kept, so that no other one gets the identity of one that is gone.
        self._keys: dict[tuple[str, tuple[int, ...]], tuple[str, Sequence[Any]]] = {}
        self._count: Counter[str] = Counter()

    def of(self, apart: ModelsApart) -> str:
        """Return what tells a program from others, and is the same when the search is repeated."""
        asked = [model_fingerprint(lm) for lm in apart.models]
        digest = content_digest([program_fingerprint(apart.program), asked])[:16]
        models = tuple(map(id, apart.models))
        if (digest, models) not in self._keys:
            # Language models may differ in what no fingerprint shows.
            self._count[digest] += 1
            number = self._count[digest]
            self._keys[digest, models] = digest if number == 1 else f"{digest}#{number}", apart.models
        return self._keys[digest, models][0]


class Heat:
    """One run of a race.

    Args:
        race: says how.
        run: of which it is a part.
        hypotheses: the student first.
        examples: what is raced on, and, if there is no ``testset``, tested on.
        testset: what winner and student are scored on in the end.
        seed: of the order of the examples.
        report: of what comes of it.
        keys: tell programs apart in all races of the run.
        view: how hypotheses are looked at.
        first: the number of the first trial.
    """

    def __init__(
        self,
        race: Race,
        run: OptimisationRun,
        hypotheses: Sequence[Hypothesis],
        examples: Sequence[Any],
        testset: Sequence[Any] | None,
        seed: int,
        *,
        report: RaceReport,
        keys: EntrantKeys | None = None,
        view: RaceView | None = None,
        first: int = 0,
    ) -> None:
        self._race, self._run, self._hypotheses = race, run, hypotheses
        self._pool = race.explorer_pool(run)
        self._keys, self._view = keys or EntrantKeys(), view or RaceView()
        order = stratified(examples, seed, race.strata)
        self.items, kept = (order, []) if testset else split_off(order, race.held_out)
        self._tested: Sequence[Any] = testset or [examples[number] for number in kept]
        #: The number of a hypothesis, and of the earlier one that is the same.
        self._equal: dict[int, int] = {}
        self.field = RaceField(run, self._entrants(), examples, self.items, race.paid, self._view)
        self._live = dict(enumerate(self.field.entrants))
        #: On how many items each is looked at, or will have been when what is under way is done.
        self._planned = dict.fromkeys(self._live, 0)
        #: On how many items each was looked at, and its score on these, as far as its rule knows.
        self._known = dict.fromkeys(self._live, (0, 0.0))
        self._counts = RaceCounts.of(run.runtime)
        self._report, self._first = report, first
        self._report.items = len(self.items)
        self._report.everything = len(self._live) * len(self.items)
        self._report.expected = race.rule.expected(len(self._live), len(self.items))

    def _entrants(self) -> list[Entrant]:
        """Return the hypotheses that differ, each in the lane of its language models."""
        apart = [ModelsApart(one.program, self._run.original) for one in self._hypotheses]
        own, lanes = {*map(id, apart[0].models)}, {frozenset[int](): Lane(self._run, None)}
        different: dict[str, Entrant] = {}
        for number, (one, program) in enumerate(zip(self._hypotheses, apart, strict=True)):
            for lm in program.models:
                self._run.number_model(self._race.paid(lm))
            key = self._keys.of(program)
            same = different.get(key)
            if same is not None:
                self._equal[number] = same.number
                continue
            others = frozenset({*map(id, program.models)} - own - {id(None)})
            if others not in lanes:
                lanes[others] = Lane(self._run, self._race.lane_patience)
            named = f"{self._view.name}/{key}" if self._view.name else key
            different[key] = Entrant(number, one, program, named, lanes[others])
        return list(different.values())

    async def run(self) -> Entrant:
        """Race, and return the best."""
        self._counts.hypotheses["begun"] += len(self._live)
        await self._raced()
        best = self.field.entrants[self._winner()]
        self._conclude(best)
        await self._test(best)
        self._counts.hypotheses["won"] += 1
        return best

    def finalists(self, count: int) -> list[Entrant]:
        """Return so many at most of those that were looked at on most items, the best first."""
        entrants = self.field.entrants
        most = max(len(one.outcomes) for one in entrants)
        seen = {which: one.scores for which, one in enumerate(entrants) if len(one.outcomes) == most}
        return [entrants[which] for which in ranked(seen, seen)][:count]

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
                details = {"hypothesis": one.hypothesis.name, **self._view.details}
                self._run.scored(self._first + one.number, outcomes, best=best, **details)
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
