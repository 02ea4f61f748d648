"""A score is told with its interval, or not at all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dspex.evaluate.outcomes import ExampleOutcome
from dspex.evaluate.result import EvaluationPlan, ExampleRow, RunCost, result_of
from dspex.statistics import clopper_pearson, wilson
from tests.dspex.evaluate.test_comparison import result


def test_scores_that_are_not_0_or_1_are_drawn_again() -> None:
    found = result([0.2, 0.4, 0.9] * 10)
    assert (found.score, found.method, found.exact) == (pytest.approx(0.5), "bootstrap", None)
    assert found.interval is not None
    assert found.interval.low < 0.5 < found.interval.high


def test_thousands_of_scores_are_taken_for_normal() -> None:
    assert result([0.2, 0.4, 0.9] * 1000).method == "normal"


def test_scores_that_are_all_the_same_have_no_interval_unless_they_are_0_or_1() -> None:
    assert result([0.5] * 30).interval is None
    assert result([1.0] * 10).interval == wilson(10, 10)


def test_a_few_examples_are_called_a_picture() -> None:
    assert result([1.0, 0.0]).notes == ("fewer than 20 examples: the interval is a picture rather than a figure",)
    assert "note      fewer than 20" in str(result([1.0, 0.0]))


def clustered(scores: Sequence[float], clusters: str) -> object:
    return result(scores, clusters=list(clusters))


def test_clusters_that_are_all_right_count_once_each() -> None:
    found = result([1.0] * 6, clusters=list("aabbcc"))
    assert (found.interval, found.exact, found.clusters) == (wilson(3, 3), clopper_pearson(3, 3), 3)


@pytest.mark.parametrize(("scores", "clusters"), [([1.0, 0.0], "aa"), ([0.5] * 4, "aabb")])
def test_what_has_no_interval_by_clusters_has_none(scores: list[float], clusters: str) -> None:
    found = result(scores, clusters=list(clusters))
    assert (found.interval, found.method) == (None, None)
    assert found.notes[0].startswith("fewer than 20 clusters")


def test_runs_of_an_example_are_averaged_as_far_as_they_count() -> None:
    plan = EvaluationPlan((ExampleRow("a"), ExampleRow("b")), repetitions=2, min_coverage=0.5)
    outcomes = [
        ExampleOutcome("scored", 1.0),
        ExampleOutcome("scored", 0.0),
        ExampleOutcome("unscored", why="metric: ?"),
        ExampleOutcome("failed", why="x"),
    ]
    found = result_of(plan, outcomes, {}, RunCost())
    assert (found.means(), found.score, found.coverage) == ({("a", 0): 0.5, ("b", 0): 0.0}, 0.25, 0.75)
    assert found.causes == [("metric: ?", 1), ("x", 1)]
