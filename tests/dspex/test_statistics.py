"""The statistics agree with published values, with counting by hand, and with what they say of themselves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.statistics import (
    EXACT_RANKS,
    EXACT_THROWS,
    Interval,
    Ranks,
    alpha_spent,
    arm_size,
    bootstrap,
    clopper_pearson,
    clustered_error,
    e_value,
    holm,
    mcnemar,
    normal_interval,
    pair_size,
    quantile_ranks,
    sample_ratio,
    wilcoxon,
    wilson,
)
from supervision.errors import BadOption

#: Good ones and all, Wilson's interval, and that of Clopper and Pearson, at 95 %.
SHARES = {
    (0, 1): ((0.0, 0.793451), (0.0, 0.975)),
    (0, 10): ((0.0, 0.277533), (0.0, 0.308497)),
    (10, 10): ((0.722467, 1.0), (0.691503, 1.0)),
    (8, 10): ((0.490162, 0.943318), (0.443905, 0.974789)),
    (45, 50): ((0.786398, 0.956524), (0.781865, 0.966725)),
    (90, 100): ((0.825634, 0.944771), (0.823777, 0.950995)),
    (135, 150): ((0.841565, 0.938459), (0.840432, 0.942943)),
    (1, 1000): ((0.000177, 0.005643), (0.000025, 0.005559)),
}

#: Better and worse, p, and the mid-p as far as it is published.
MCNEMAR = [
    (0, 0, 1.0, 1.0),
    (1, 0, 1.0, 0.5),
    (5, 0, 0.0625, 0.03125),
    (6, 0, 0.03125, None),
    (10, 2, 0.038574, 0.022461),
    (12, 3, 0.035156, 0.021271),
    (1, 9, 0.021484, None),
    (15, 5, 0.041389, None),
    (25, 10, 0.016674, None),
    (8, 8, 1.0, None),
]

WILCOXON = [
    ([1, 2, 3, 4, 5], 15.0, 0.0625),
    ([1, -2, 3, 4, 5, 6], 19.0, 0.09375),
    ([1, 1, 1, -1, 1, 1], 17.5, 0.21875),
    ([-0.5, 0.25, 0.25, 0.5, 0.75, 1, 1, -0.25], 29.5, 0.132812),
    ([0, 0.0], 0.0, 1.0),
]

E_VALUES = [
    (0, 0, 1.0),
    (5, 0, 5.333333),
    (8, 0, 28.444444),
    (10, 2, 4.773893),
    (12, 3, 4.501099),
    (20, 5, 24.290515),
    (8, 8, 0.299538),
]

#: Twelve better, three worse, of fifty.
DIFFERENCES = [1] * 12 + [-1] * 3 + [0] * 35


def close(expected: Any) -> Any:
    return pytest.approx(expected, abs=6e-7)


@pytest.mark.parametrize(("counts", "intervals"), SHARES.items())
def test_E015_E029_shares_have_the_published_intervals(counts: Any, intervals: Any) -> None:
    assert wilson(*counts) == close(intervals[0])
    assert clopper_pearson(*counts) == close(intervals[1])


def test_intervals_widen_with_their_confidence() -> None:
    assert wilson(90, 100, 0.9) == close((0.839644, 0.939281))
    assert wilson(90, 100, 0.99) == close((0.796249, 0.953974))
    assert clopper_pearson(90, 100, 0.99).low < clopper_pearson(90, 100).low


@given(st.integers(1, 3000), st.data())
def test_intervals_hold_the_share_and_mirror_each_other(total: int, data: Any) -> None:
    good = data.draw(st.integers(0, total))
    for interval in (wilson, clopper_pearson):
        low, high = interval(good, total)
        assert 0 <= low <= good / total <= high <= 1
        assert interval(total - good, total) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_the_exact_interval_is_wrong_at_most_as_often_as_it_says() -> None:
    intervals = [clopper_pearson(good, 30) for good in range(31)]
    for share in (0.03, 0.2, 0.5, 0.77):
        chances = [math.comb(30, good) * share**good * (1 - share) ** (30 - good) for good in range(31)]
        missed = sum(chance for chance, (low, high) in zip(chances, intervals, strict=True) if not low <= share <= high)
        assert missed <= 0.05


def test_a_million_trials_have_an_interval_too() -> None:
    assert clopper_pearson(500_000, 1_000_000) == pytest.approx((0.49902, 0.50098), abs=1e-5)
    assert clopper_pearson(1, 1_000_000) == pytest.approx((2.53e-8, 5.57e-6), rel=0.01)


@pytest.mark.parametrize(("better", "worse", "p", "mid"), MCNEMAR)
def test_mcnemar_has_the_published_values_and_is_the_same_both_ways(
    better: int, worse: int, p: float, mid: float | None
) -> None:
    assert mcnemar(better, worse) == mcnemar(worse, better) == close(p)
    if mid is not None:
        assert mcnemar(better, worse, mid=True) == close(mid)


def test_counting_goes_over_into_the_incomplete_beta_function() -> None:
    pairs = EXACT_THROWS // 2
    assert mcnemar(pairs + 90, pairs - 90) == pytest.approx(mcnemar(pairs + 90, pairs - 89), rel=0.05)
    assert mcnemar(pairs + 1, pairs + 1) == 1
    assert mcnemar(2 * EXACT_THROWS, 0) == 0


@pytest.mark.parametrize(("differences", "rank_sum", "p"), WILCOXON)
def test_wilcoxon_has_the_published_values(differences: list[float], rank_sum: float, p: float) -> None:
    found = wilcoxon(differences)
    assert (found.rank_sum, found.p) == (rank_sum, close(p))
    assert found.pairs == sum(1 for value in differences if value)


def test_differences_that_are_equal_but_for_rounding_are_a_tie() -> None:
    assert 0.3 - 0.2 != 0.2 - 0.1
    assert wilcoxon([0.3 - 0.2, 0.1 - 0.2, 0.5]).rank_sum == wilcoxon([0.1, -0.1, 0.5]).rank_sum == 4.5


@given(st.lists(st.integers(-4, 4), max_size=9))
def test_wilcoxon_counts_as_one_would_by_hand(differences: list[int]) -> None:
    sizes = sorted(abs(value) for value in differences if value)
    ranks = [sizes.index(size) + (sizes.count(size) + 1) / 2 for size in sizes]
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=len(ranks))]
    found = wilcoxon(differences)
    least = min(found.rank_sum, sum(ranks) - found.rank_sum)
    assert found.p == pytest.approx(min(1, 2 * sum(one <= least for one in sums) / len(sums)))


def test_many_ranks_are_taken_for_normal_and_that_is_nearly_the_same() -> None:
    random = Random(5)
    many = [random.gauss(0.12, 1) for _ in range(EXACT_RANKS + 1)]
    assert wilcoxon(many).p == pytest.approx(wilcoxon(many[:-1]).p, rel=0.3)
    assert wilcoxon([1.0] * 150 + [-1.0] * 150).p == 1
    assert wilcoxon([1.0] * 300).p < 1e-12


def test_E024_the_mean_difference_has_the_published_interval() -> None:
    assert bootstrap(DIFFERENCES) == (0.04, 0.32)
    assert normal_interval(DIFFERENCES) == close((0.035158, 0.324842))
    random = Random(0)
    assert [int(random.random() * 50) for _ in range(3)] == [42, 37, 21]


def test_the_bootstrap_is_its_seeds_and_knows_no_more_than_its_values() -> None:
    values = [0.1, 0.5, 0.5, 0.9, 1.0]
    assert bootstrap(values, seed=1, resamples=200) == bootstrap(values, seed=1, resamples=200)
    assert bootstrap(values, seed=1, resamples=200) != bootstrap(values, seed=2, resamples=200)
    assert bootstrap([0.5, 0.5]) == (0.5, 0.5)
    assert bootstrap(values, resamples=1).low == bootstrap(values, resamples=1).high


def test_values_that_belong_together_are_less_telling() -> None:
    values, clusters = [1, 1, 1, 0, 0, 0, 1, 1, 0, 0], "aaabbbccdd"
    assert clustered_error(values, clusters) == close(0.254951)
    assert clustered_error(values, clusters, correct=True) == close(0.294392)
    assert clustered_error(values, range(10), correct=True) == close(0.166667)
    error = clustered_error(values, clusters)
    assert normal_interval(values, error=error) == close((0.5 - 1.959964 * error, 0.5 + 1.959964 * error))


@pytest.mark.parametrize(
    ("total", "ranks"), [(100, (90, 100)), (300, (277, 293)), (93, (84, 93)), (72, (64, 72)), (71, (63, None))]
)
def test_quantiles_have_the_published_ranks(total: int, ranks: Any) -> None:
    assert quantile_ranks(total, 0.95) == ranks


def test_a_low_quantile_mirrors_a_high_one() -> None:
    assert quantile_ranks(300, 0.05) == Ranks(8, 24)
    assert quantile_ranks(71, 0.05) == Ranks(None, 9)
    assert quantile_ranks(1, 0.5) == Ranks(None, None)
    assert quantile_ranks(10, 1e-20) == Ranks(None, 1)


@pytest.mark.parametrize(("better", "worse", "value"), E_VALUES)
def test_e_values_are_the_published_ones(better: int, worse: int, value: float) -> None:
    assert e_value(better, worse) == close(value)


def test_an_e_value_of_any_size_is_a_number() -> None:
    assert math.isfinite(e_value(1_000_000, 0))


def test_looking_often_at_an_e_value_stays_below_its_error_rate() -> None:
    random, alarms = Random(3), 0
    for _ in range(400):
        better = 0
        for pairs in range(1, 201):
            better += random.random() < 0.5
            if e_value(better, pairs - better) >= 20:
                alarms += 1
                break
    assert alarms / 400 <= 0.05


def test_little_of_the_error_rate_is_spent_early() -> None:
    assert [alpha_spent(part) for part in (0.25, 0.5, 0.75, 1)] == close([0.000089, 0.005575, 0.023625, 0.05])


def test_several_tests_keep_the_error_rate_together() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_split_that_is_not_as_ordered_shows() -> None:
    assert sample_ratio(130, 1000, 0.1) == close(0.001565)
    assert sample_ratio(100, 1000, 0.1) == 1


def test_sizes_are_the_published_ones() -> None:
    arms = [(0.95, 0.90), (0.90, 0.85), (0.90, 0.80), (0.99, 0.98), (0.5, 0.4)]
    assert [arm_size(*shares) for shares in arms] == [435, 686, 199, 2319, 388]
    assert [arm_size(*shares, power=0.9) for shares in arms] == [582, 918, 266, 3103, 519]
    pairs = [(0.2, 0.05), (0.2, 0.10), (0.1, 0.05), (0.3, 0.05)]
    assert [pair_size(*shares) for shares in pairs] == [626, 155, 312, 940]
    assert pair_size(0.2, -0.05) == 626


WRONG: list[Callable[[], object]] = [
    lambda: wilson(1, 0),
    lambda: wilson(2, 1),
    lambda: wilson(-1, 1),
    lambda: wilson(True, 1),
    lambda: wilson(1, 2, 1.0),
    lambda: wilson(1, 2, math.nan),
    lambda: clopper_pearson(0.5, 1),  # type: ignore[arg-type]
    lambda: clopper_pearson(1, 10**400),
    lambda: clopper_pearson(1, 2, 0),
    lambda: mcnemar(-1, 2),
    lambda: mcnemar(1, 2.0),  # type: ignore[arg-type]
    lambda: wilcoxon([math.inf]),
    lambda: bootstrap([]),
    lambda: bootstrap([1, math.nan]),
    lambda: bootstrap([1e200]),
    lambda: bootstrap([1], resamples=0),
    lambda: bootstrap(["1"]),  # type: ignore[list-item]
    lambda: normal_interval([1]),
    lambda: clustered_error([1, 2], [1]),
    lambda: clustered_error([1, 2], [1, 1], correct=True),
    lambda: quantile_ranks(0, 0.5),
    lambda: quantile_ranks(10, 1),
    lambda: e_value(-1, 0),
    lambda: alpha_spent(0),
    lambda: alpha_spent(1.1),
    lambda: alpha_spent(None),  # type: ignore[arg-type]
    lambda: alpha_spent(0.5, 1),
    lambda: holm([1.5]),
    lambda: sample_ratio(1, 10, 0),
    lambda: sample_ratio(11, 10, 0.1),
    lambda: arm_size(0.9, 0.9),
    lambda: arm_size(0.9, 1),
    lambda: arm_size(0.9, 0.8, power=1),
    lambda: pair_size(0.2, 0),
    lambda: pair_size(0.2, 0.3),
]


@pytest.mark.parametrize("call", WRONG)
def test_an_argument_that_makes_no_sense_is_named(call: Callable[[], object]) -> None:
    with pytest.raises(BadOption, match="give"):
        call()


def test_an_interval_says_which_of_its_ends_is_which() -> None:
    assert wilson(0, 10)._asdict().keys() == {"low", "high"}
    assert isinstance(normal_interval([0, 1]), Interval)
