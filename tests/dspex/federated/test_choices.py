"""Rules that choose by exact sums: as if all examples were in one place, and what each makes of the clients."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.federated import (
    BadFederation,
    BadUpdate,
    BordaCount,
    CandidateScore,
    CannotMerge,
    Choice,
    ChoiceRule,
    MacroMean,
    MeanOfMeans,
    MedianOfMeans,
    PluralityVote,
    PooledMean,
    TrimmedMeans,
    personal_choice,
)

ALL: tuple[ChoiceRule, ...] = (
    PooledMean(),
    MeanOfMeans(),
    MedianOfMeans(),
    TrimmedMeans(),
    MacroMean(),
    BordaCount(),
    PluralityVote(),
)


def hits(right: int, of: int) -> CandidateScore:
    return CandidateScore.of([1] * right + [0] * (of - right), ["x"] * of)


def clients(*rows: tuple[tuple[int, int], ...]) -> dict[str, tuple[CandidateScore, ...]]:
    """Return what clients have found, a row of (right, of) for each."""
    return {f"c{number}": tuple(hits(*tally) for tally in row) for number, row in enumerate(rows)}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [(PooledMean(), Fraction(7, 10)), (MeanOfMeans(), Fraction(17, 30)), (MedianOfMeans(), Fraction(7, 10))],
)
def test_T065_scores_are_exact(rule: ChoiceRule, expected: Fraction) -> None:
    assert rule.choose(clients(((7, 10),), ((20, 25),), ((1, 5),))) == Choice(0, (expected,))


def test_the_median_of_an_even_number_lies_between_the_two_in_the_middle() -> None:
    assert MedianOfMeans().choose(clients(((0, 2),), ((1, 2),), ((2, 2),), ((2, 2),))).scores == (Fraction(3, 4),)


def test_trimming_leaves_out_the_ends() -> None:
    found = clients(((0, 2),), ((1, 2),), ((1, 2),), ((2, 2),))
    assert TrimmedMeans(0.25).choose(found).scores == (Fraction(1, 2),)
    with pytest.raises(BadFederation):
        TrimmedMeans(0.5)


def test_the_macro_mean_counts_rare_classes_as_others() -> None:
    common, rare = ["x"] * 9 + ["y"], ["x"] * 10
    found = {
        "a": (CandidateScore.of([1] * 9 + [0], common), CandidateScore.of([1] * 6 + [0] * 3 + [1], common)),
        "b": (CandidateScore.of([1] * 10, rare), CandidateScore.of([1] * 8 + [0] * 2, rare)),
    }
    assert PooledMean().choose(found).best == 0
    assert MacroMean().choose(found) == Choice(1, (Fraction(1, 2), (Fraction(14, 19) + 1) / 2))
    with pytest.raises(CannotMerge, match="classes"):
        MacroMean().choose({"a": (CandidateScore.of([1.0]),)})


def test_borda_counts_the_share_that_a_candidate_beats() -> None:
    found = clients(((3, 3), (2, 3), (1, 3)), ((3, 3), (2, 3), (1, 3)), ((0, 3), (2, 3), (1, 3)))
    assert BordaCount().choose(found) == Choice(0, (Fraction(2, 3), Fraction(2, 3), Fraction(1, 6)))
    assert BordaCount().choose(clients(((1, 2), (1, 2)))).scores == (Fraction(1, 2), Fraction(1, 2))


def test_plurality_gives_ties_to_the_larger_clients() -> None:
    found = clients(((2, 2), (0, 2)), ((0, 5), (5, 5)), ((0, 0), (0, 0)))
    assert PluralityVote().choose(found) == Choice(1, (1 + Fraction(2, 8), 1 + Fraction(5, 8)))
    assert PluralityVote().choose(clients(((1, 2), (1, 2), (0, 2)))).scores == (1 + Fraction(2, 3), 0, 0)


@pytest.mark.parametrize("rule", ALL, ids=lambda rule: type(rule).__name__)
def test_of_equal_ones_the_earliest_is_chosen_and_of_nothing_none(rule: ChoiceRule) -> None:
    assert rule.choose(clients(((1, 2), (1, 2)), ((0, 3), (0, 3)))).best == 0
    for nothing in (clients(((0, 0), (0, 0))), {}):
        with pytest.raises(CannotMerge, match="no client could run"):
            rule.choose(nothing)


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=30),
    st.lists(st.integers(0, 3), min_size=30, max_size=30),
)
def test_the_pooled_mean_is_the_same_however_the_examples_are_divided(rows: list[Any], homes: list[int]) -> None:
    """Each row is an example, with the score of each of three candidates."""
    divided = {
        str(home): tuple(
            CandidateScore.of([row[candidate] for row, at in zip(rows, homes, strict=False) if at == home])
            for candidate in range(3)
        )
        for home in sorted(set(homes[: len(rows)]))
    }
    together = {"all": tuple(CandidateScore.of([row[candidate] for row in rows]) for candidate in range(3))}
    assert PooledMean().choose(divided) == PooledMean().choose(together)


def test_T071_who_cannot_resolve_a_candidate_says_nothing_of_it() -> None:
    """The second candidate is better wherever it was run; a score of 0 from c1, where all is hard, would hide that."""
    found = clients(((6, 10), (8, 10)), ((1, 10), (0, 0)))
    assert PooledMean().choose(found) == Choice(1, (Fraction(7, 20), Fraction(4, 5)))


def test_candidates_are_compared_by_the_clients_that_know_both() -> None:
    """The second one was run only where all is easy, and is worse there."""
    found = clients(((9, 10), (8, 10)), ((1, 10), (0, 0)))
    assert PooledMean().choose(found).best == 0
    # Nobody knows both: neither has won.
    assert PooledMean().choose(clients(((1, 2), (0, 0)), ((0, 0), (2, 2)))).best == 0


@pytest.mark.parametrize(
    ("score", "why"),
    [
        (CandidateScore("x", "0", 1), "no exact number"),
        (CandidateScore("1/0", "0", 1), "no exact number"),
        (CandidateScore("9" * 2000, "0", 1), "no exact number"),
        (CandidateScore("0", "nan", 1), "no exact number"),
        (CandidateScore("0", "0", -1), "tells of -1 examples"),
        (CandidateScore("0", "0", 101), "101 examples, where 0 to 100 may be"),
        (CandidateScore("3", "0", 2), "the sum of 2 scores from 0 to 1 cannot be 3"),
        (CandidateScore("-1", "0", 2), "cannot be -1"),
        (CandidateScore("1", "1", 2, {"x": ("1", 1)}), "not as many examples"),
        (CandidateScore("1", "1", 2, {"x": ("y", 2)}), "no exact number"),
    ],
)
def test_sums_that_cannot_be_are_refused(score: CandidateScore, why: str) -> None:
    with pytest.raises(BadUpdate, match=why):
        score.check(100)


def test_sums_that_can_be_are_not() -> None:
    hits(3, 5).check(None)
    CandidateScore.of([5e-324, 1.0, 0.1] * 300).check(900)
    CandidateScore("-7/2", "99", 2).check(None, noisy=True)


def test_a_client_takes_its_own_if_that_is_surely_better() -> None:
    assert personal_choice((hits(60, 100), hits(90, 100)), 0) == 1
    assert personal_choice((hits(60, 100), hits(65, 100)), 0) == 0
    assert personal_choice((hits(0, 0), hits(1, 2)), 0) == 1  # it cannot run what was chosen
    assert personal_choice((hits(0, 0),), 0) == 0


def test_classes_go_with_the_scores() -> None:
    with pytest.raises(ValueError, match="zip"):
        CandidateScore.of([1.0, 0.0], ["x"])
    assert CandidateScore().mean == 0
