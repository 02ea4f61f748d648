"""Which of two programs does better, by their evaluations on the same examples."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from statistics import fmean
from typing import Literal, TypeAlias

import msgspec

from dspex.evaluate.errors import NotComparable
from dspex.evaluate.result import FEW, MANY, EvaluationResult
from dspex.statistics import (
    Interval,
    bootstrap,
    clustered_error,
    mcnemar,
    normal_interval,
    pair_size,
    wilcoxon,
)

#: Below this p, a difference counts as shown.
ALPHA = 0.05

Verdict: TypeAlias = Literal["better", "worse", "not shown"]


class Comparison(msgspec.Struct, frozen=True):
    """How the second of two programs does, compared with the first, on the examples that count in both.

    Attributes:
        pairs: on how many examples.
        left_out: how many examples count in one of the evaluations only.
        better: on how many the second does better.
        worse: on how many the first does.
        difference: of the mean scores, second less first.
        interval: where the true difference lies; None if it cannot be had.
        p: how probable so large a difference is if both do equally well.
        test: which one: McNemar's for scores of 0 and 1, Wilcoxon's for others, the normal one for clusters.
        verdict: ``better`` or ``worse`` if p is below .05.
        needed: on how many examples a difference of this size would be seen four times of five; None if it is seen, or
            there is none.
    """

    pairs: int
    left_out: int
    better: int
    worse: int
    difference: float
    interval: Interval | None
    p: float
    test: str
    verdict: Verdict
    needed: int | None

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def compare(old: EvaluationResult, new: EvaluationResult) -> Comparison:
    """Return how one program does, compared with another, on the examples that count in both evaluations.

    Args:
        old: the evaluation of the one.
        new: the evaluation of the other.

    Raises:
        NotComparable: they have other metrics, or no example in common.
    """
    metrics = [one.identity.get("metric") for one in (old, new)]
    if metrics[0] != metrics[1]:
        raise NotComparable(f"metric {metrics[0]} there, {metrics[1]} here; evaluate both with one metric")
    before, after = old.means(), new.means()
    common = [key for key in after if key in before]
    if not common:
        raise NotComparable("no example counts in both; evaluate both on one devset")
    # Rounded, so that .3 - .2 and .2 - .1 are the same.
    differences = [round(after[key] - before[key], 12) for key in common]
    clusters = new.groups()
    test, p, interval = _tested(
        differences,
        [clusters[key] for key in common],
        binary=all(value in {0, 1} for key in common for value in (before[key], after[key])),
    )
    better, worse = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    difference = fmean(differences)
    shown = p < ALPHA and difference != 0
    verdict: Verdict = ("better" if difference > 0 else "worse") if shown else "not shown"
    return Comparison(
        len(common),
        len(before) + len(after) - 2 * len(common),
        better,
        worse,
        difference,
        interval,
        p,
        test,
        verdict,
        None if shown else _needed(test, better, worse, len(common)),
    )


def _tested(
    differences: list[float], clusters: Sequence[Hashable], *, binary: bool
) -> tuple[str, float, Interval | None]:
    if len(set(clusters)) < len(differences):
        return _tested_by_clusters(differences, clusters)
    interval = _interval(differences)
    if binary:
        return "McNemar, exact", mcnemar(differences.count(1), differences.count(-1)), interval
    return "Wilcoxon", wilcoxon(differences).p, interval


def _interval(differences: list[float]) -> Interval | None:
    if len(set(differences)) == 1:
        return None
    return normal_interval(differences) if len(differences) > MANY else bootstrap(differences)


def _tested_by_clusters(differences: list[float], clusters: Sequence[Hashable]) -> tuple[str, float, Interval | None]:
    groups, mean = len(set(clusters)), fmean(differences)
    error = clustered_error(differences, clusters, correct=True) if groups > 1 else 0.0
    if not error:
        # All clusters say the same: each of them is one sign.
        return "sign of clusters", mcnemar(groups if mean else 0, 0), None
    p = math.erfc(abs(mean) / error / math.sqrt(2))
    return "normal, by clusters", p, normal_interval(differences, error=error)


def _needed(test: str, better: int, worse: int, pairs: int) -> int | None:
    if not test.startswith("McNemar") or better == worse:
        return None
    # All pairs may differ; the formula is for shares below 1.
    share = min((better + worse) / pairs, 1 - 1e-9)
    return pair_size(share, (better - worse) / pairs * (1 - 1e-9))


def _lines(found: Comparison) -> Iterable[str]:
    yield f"verdict     {found.verdict} (p = {found.p:.4g}, {found.test})"
    counts = f"{found.better} better, {found.worse} worse"
    yield f"difference  {found.difference:+.4g} on {found.pairs} common examples: {counts}"
    if found.interval is not None:
        yield f"            {found.interval.low:+.4f} to {found.interval.high:+.4f} at 95%"
    if found.needed is not None:
        yield f"note        a difference of this size needs about {found.needed} examples to be seen"
    if found.left_out:
        yield f"note        {found.left_out} examples count in one of the evaluations only, and were left out"
    if found.pairs < FEW:
        yield f"note        fewer than {FEW} examples: the interval is a picture rather than a figure"
