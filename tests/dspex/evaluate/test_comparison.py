"""Two evaluations are compared on what they have in common, and what is not shown is not claimed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from dspex.evaluate import Comparison, EvaluationResult, NotComparable, compare
from dspex.evaluate.outcomes import ExampleOutcome
from dspex.evaluate.result import EvaluationPlan, ExampleRow, RunCost, result_of


def result(
    scores: Sequence[float | None], metric: str = "exact", clusters: Sequence[str] = (), **plan: Any
) -> EvaluationResult:
    """Return an evaluation with these scores; None for an example that is missing."""
    rows = [ExampleRow(f"{number}", cluster=clusters[number] if clusters else None) for number in range(len(scores))]
    outcomes = [None if score is None else ExampleOutcome("scored", score) for score in scores]
    return result_of(EvaluationPlan(tuple(rows), **plan), outcomes, {"metric": metric}, RunCost())


def compared(better: int, worse: int, of: int) -> Comparison:
    same = of - better - worse
    old = [0.0] * better + [1.0] * worse + [1.0] * same
    new = [1.0] * better + [0.0] * worse + [1.0] * same
    return compare(result(old), result(new))


def test_E024_a_difference_that_is_shown_is_better() -> None:
    found = compared(12, 3, 50)
    assert (found.pairs, found.better, found.worse, found.left_out) == (50, 12, 3, 0)
    assert found.p == pytest.approx(0.035156, abs=1e-6)
    assert (found.difference, found.interval, found.verdict) == (pytest.approx(0.18), (0.04, 0.32), "better")
    assert str(found).splitlines() == [
        "verdict     better (p = 0.03516, McNemar, exact)",
        "difference  +0.18 on 50 common examples: 12 better, 3 worse",
        "            +0.0400 to +0.3200 at 95%",
    ]
    assert compared(3, 12, 50).verdict == "worse"


def test_E024_a_difference_that_is_not_shown_is_not_claimed() -> None:
    found = compared(5, 0, 50)
    assert (found.p, found.verdict) == (0.0625, "not shown")
    assert found.needed == 77
    assert "a difference of this size needs about 77 examples to be seen" in str(found)


def test_without_any_difference_nothing_is_shown_and_no_size_helps() -> None:
    found = compared(0, 0, 50)
    assert (found.p, found.interval, found.verdict, found.needed) == (1.0, None, "not shown", None)


def test_all_pairs_may_differ() -> None:
    assert compared(3, 0, 3).needed is not None
    assert "fewer than 20 examples" in str(compared(3, 0, 3))


def test_scores_that_are_not_0_or_1_are_compared_by_ranks() -> None:
    old = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    new = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    found = compare(result(old), result(new))
    assert (found.test, found.p, found.verdict, found.better) == ("Wilcoxon", 0.03125, "better", 6)
    assert (found.interval, found.needed) == (None, None)
    assert compare(result(old), result(old)).p == 1


def test_only_common_examples_count() -> None:
    found = compare(result([1.0, None, 0.0, 1.0]), result([1.0, 1.0, None, 0.0, 1.0]))
    assert (found.pairs, found.left_out, found.worse) == (2, 3, 1)
    assert "3 examples count in one of the evaluations only" in str(found)


def test_examples_that_belong_together_are_tested_by_clusters() -> None:
    clusters = [f"{number % 25}" for number in range(100)]
    old = [0.0] * 100
    new = [float(number % 25 < 10) for number in range(100)]
    apart, together = compare(result(old), result(new)), compare(result(old), result(new, clusters=clusters))
    assert together.test == "normal, by clusters"
    assert apart.interval is not None
    assert together.interval is not None
    assert together.interval.low < apart.interval.low
    assert (together.verdict, together.better) == ("better", 40)


def test_clusters_that_all_say_the_same_are_one_sign_each() -> None:
    old, new = [0.0] * 20, [1.0] * 20
    for count, p in ((1, 1.0), (4, 0.125), (10, 0.001953125)):
        found = compare(result(old), result(new, clusters=[f"{number % count}" for number in range(20)]))
        assert (found.test, found.p, found.interval) == ("sign of clusters", p, None)
    assert compare(result(old), result(old, clusters=["a"] * 20)).p == 1


def test_thousands_of_pairs_have_a_normal_interval() -> None:
    found = compare(result([0.0] * 3000), result([0.0, 1.0, 0.0] * 1000))
    assert found.interval == pytest.approx((1 / 3 - 0.01687, 1 / 3 + 0.01687), abs=1e-5)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(NotComparable, match="metric exact there, other here"):
        compare(result([1.0]), result([1.0], "other"))
    with pytest.raises(NotComparable, match="no example counts in both"):
        compare(result([1.0, None]), result([None, 1.0]))
