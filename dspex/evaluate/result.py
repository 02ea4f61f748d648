"""What an evaluation has found: a score with its interval, on how many of the examples, and what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from statistics import fmean
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from dspex.evaluate.outcomes import ExampleOutcome, OutcomeKind
from dspex.statistics import Interval, bootstrap, clopper_pearson, clustered_error, normal_interval, wilson

#: How an example has ended; ``missing``: it has not, as the infrastructure has failed.
ResultKind: TypeAlias = OutcomeKind | Literal["missing"]

KINDS: tuple[ResultKind, ...] = ("scored", "failed", "unparsed", "unscored", "missing")
#: What enters the score: that an answer is no answer is the program's doing.
COUNTED = frozenset({"scored", "failed", "unparsed"})
#: Of fewer examples, an interval is a picture rather than a figure.
FEW = 20
#: Of more values, the mean is taken for normally distributed.
MANY = 2_000
#: So many causes are told.
_CAUSES = 5


class ExampleRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """An example of an evaluation: a run of the program on it.

    Attributes:
        digest: of its inputs and labels.
        number: which one it is of those that are equal, from 0.
        cluster: what tells those that belong together from others; None if it stands for itself.
    """

    digest: str
    number: int = 0
    cluster: str | None = None


class EvaluationPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is evaluated, and how it counts: with the outcomes, all that a result is made of.

    Attributes:
        examples: in the order of the devset.
        repetitions: how often the program is run on each.
        failure_score: what an example counts on which the program has failed.
        min_coverage: the part of the runs that has to count, for a score to be told.
        confidence: of the intervals.
    """

    examples: tuple[ExampleRow, ...]
    repetitions: int = 1
    failure_score: float = 0.0
    min_coverage: float = 0.95
    confidence: float = 0.95


class ExampleResult(msgspec.Struct, frozen=True):
    """What became of a run of the program on an example.

    Attributes:
        index: of the example in the devset.
        example: its digest; equal examples are told apart by their ``number``.
        number: see there.
        repetition: which run it is, from 0.
        cluster: what tells examples that belong together from others; None if it stands for itself.
        outcome: how it has ended.
        score: what it counts; None if it does not.
        why: the class and message of the error, if there was one.
        outputs: what the program returned, as far as it is plain data.
    """

    index: int
    example: str
    number: int
    repetition: int
    cluster: str | None
    outcome: ResultKind
    score: float | None
    why: str
    outputs: dict[str, Any]


class RunCost(msgspec.Struct, frozen=True):
    """What the evaluation has taken in this process, as opposed to earlier ones.

    Attributes:
        resumed: whether there was something to go on with.
        kept: how many results were in the journal already.
        calls: how often language models were asked.
        replayed: how many of their answers were in the journal already.
        dollars: what the calls have cost, as far as prices are known.
        seconds: how long it took.
    """

    resumed: bool = False
    kept: int = 0
    calls: int = 0
    replayed: int = 0
    dollars: float = 0.0
    seconds: float = 0.0


class EvaluationResult(msgspec.Struct, frozen=True):
    """What an evaluation has found.

    Attributes:
        score: the mean over the examples; None if too few of them count.
        interval: where the true mean lies, by ``confidence``; None if there is no score, or none can be had.
        method: how the interval was made.
        exact: for scores of 0 and 1, the interval of Clopper and Pearson, which is wrong at most as often as it says.
        confidence: of the intervals.
        examples: what became of each run of the program.
        total: how many runs there are: examples times repetitions.
        size: on how many examples the score stands.
        counts: how many runs have ended how.
        coverage: which part of the runs counts.
        clusters: how many groups the examples stand in; None if each stands for itself.
        notes: what is to be known besides.
        identity: of what it is: metric, program, models, adapter, versions.
        run: what it has taken.
    """

    score: float | None
    interval: Interval | None
    method: str | None
    exact: Interval | None
    confidence: float
    examples: tuple[ExampleResult, ...]
    total: int
    size: int
    counts: dict[str, int]
    coverage: float
    clusters: int | None
    notes: tuple[str, ...]
    identity: dict[str, Any]
    run: RunCost = RunCost()

    @property
    def causes(self) -> list[tuple[str, int]]:
        """Why runs have no score, the most frequent first, each with how often."""
        return Counter(row.why for row in self.examples if row.why).most_common()

    def means(self) -> dict[tuple[str, int], float]:
        """Return the mean score of each example that counts, by its digest and number."""
        found: dict[tuple[str, int], list[float]] = {}
        for row in self.examples:
            if row.score is not None:
                found.setdefault((row.example, row.number), []).append(row.score)
        return {key: fmean(scores) for key, scores in found.items()}

    def groups(self) -> dict[tuple[str, int], Hashable]:
        """Return to which cluster each example that counts belongs: its own, if it stands for itself."""
        counted = [row for row in self.examples if row.score is not None]
        return {(row.example, row.number): row.cluster or (row.example, row.number) for row in counted}

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def result_of(
    plan: EvaluationPlan, outcomes: Iterable[ExampleOutcome | None], identity: dict[str, Any], run: RunCost
) -> EvaluationResult:
    """Return what an evaluation has found.

    Args:
        plan: what was evaluated.
        outcomes: of each example in the plan, of each of its runs; None for one that is missing.
        identity: of what it is.
        run: what it has taken.
    """
    runs = [(index, row, number) for index, row in enumerate(plan.examples) for number in range(plan.repetitions)]
    rows = [_row(plan, *run, outcome) for run, outcome in zip(runs, outcomes, strict=True)]
    counts = Counter(row.outcome for row in rows)
    counted = sum(counts[kind] for kind in KINDS if kind in COUNTED)
    found = EvaluationResult(
        None,
        None,
        None,
        None,
        plan.confidence,
        tuple(rows),
        len(rows),
        0,
        {kind: counts[kind] for kind in KINDS},
        counted / len(rows),
        None,
        (),
        identity,
        run,
    )
    means, groups = found.means(), found.groups()
    clusters = len(set(groups.values())) if any(row.cluster for row in plan.examples) else None
    found = replace(found, size=len(means), clusters=clusters)
    found = replace(found, notes=tuple(_notes(plan, found)))
    if counts["missing"] or not counts["scored"] or found.coverage < plan.min_coverage:
        return found
    values = list(means.values())
    return replace(found, score=fmean(values), **_intervals(values, list(groups.values()), plan.confidence))


def _row(
    plan: EvaluationPlan, index: int, row: ExampleRow, repetition: int, outcome: ExampleOutcome | None
) -> ExampleResult:
    place = (index, row.digest, row.number, repetition, row.cluster)
    if outcome is None:
        return ExampleResult(*place, "missing", None, "", {})
    score = outcome.score if outcome.kind == "scored" else plan.failure_score
    counts = outcome.kind in COUNTED
    return ExampleResult(*place, outcome.kind, score if counts else None, outcome.why, outcome.outputs)


def _notes(plan: EvaluationPlan, found: EvaluationResult) -> Iterable[str]:
    twice = sum(row.number > 0 for row in plan.examples)
    if twice:
        yield f"{twice} examples stand in the set before: equal ones count as one cluster"
    what, size = ("examples", found.size) if found.clusters is None else ("clusters", found.clusters)
    if size < FEW:
        yield f"fewer than {FEW} {what}: the interval is a picture rather than a figure"
    if found.counts["missing"]:
        yield "no score: examples are missing"
    elif found.coverage < plan.min_coverage:
        yield f"no score: the coverage is below {plan.min_coverage:g}"


def _intervals(values: list[float], clusters: Sequence[Hashable], confidence: float) -> dict[str, Any]:
    """Return the interval of a mean, how it was made, and the exact one if there is one."""
    groups = len(set(clusters))
    binary, equal = all(value in {0, 1} for value in values), len(set(values)) == 1
    if groups < len(values) and not (binary and equal):
        return _clustered(values, clusters, confidence) if groups > 1 and not equal else {}
    if binary:
        # If all are the same, so is each cluster: it counts once.
        right = round(fmean(values) * groups)
        found = {"interval": wilson(right, groups, confidence), "method": "Wilson"}
        return {**found, "exact": clopper_pearson(right, groups, confidence)}
    if equal:
        return {}
    if len(values) > MANY:
        return {"interval": normal_interval(values, confidence), "method": "normal"}
    return {"interval": bootstrap(values, confidence), "method": "bootstrap"}


def _clustered(values: list[float], clusters: Sequence[Hashable], confidence: float) -> dict[str, Any]:
    error = clustered_error(values, clusters, correct=True)
    return {"interval": normal_interval(values, confidence, error=error), "method": "normal, by clusters"}


# -- as text -----------------------------------------------------------------------------------------------------------


def _lines(found: EvaluationResult) -> Iterable[str]:
    if found.score is None:
        yield "score     none"
    else:
        yield f"score     {found.score:.4g} on {found.size} examples"
    for interval, method in ((found.interval, found.method), (found.exact, "Clopper-Pearson, exact")):
        if interval is not None:
            yield f"interval  {interval.low:.4f} to {interval.high:.4f} at {found.confidence:.0%} ({method})"
    if found.clusters is not None:
        yield f"clusters  {found.clusters}"
    yield f"coverage  {coverage_text(found)}"
    for why, times in found.causes[:_CAUSES]:
        yield f"          {times} x {' '.join(why.split())}"
    for note in found.notes:
        yield f"note      {note}"


def coverage_text(found: EvaluationResult) -> str:
    """Return how the runs have ended: ``141 of 150 scored, 4 failed (counted 0), 3 metric errors, 2 missing``."""
    counts = found.counts
    failure = next((row.score for row in found.examples if row.outcome in {"failed", "unparsed"}), 0.0)
    parts = [f"{counts['scored']} of {found.total} scored"]
    told = {"failed": f"failed (counted {failure:g})", "unparsed": f"unparsed (counted {failure:g})"}
    told |= {"unscored": "metric errors", "missing": "missing"}
    parts += [f"{counts[kind]} {text}" for kind, text in told.items() if counts[kind]]
    return ", ".join(parts)
