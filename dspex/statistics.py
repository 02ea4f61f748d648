"""Statistics of evaluations and rollouts: how sure a figure is, and whether one program does better than another.

Pure functions of numbers, without numpy.

- How sure: `wilson` and `clopper_pearson` of a share; `bootstrap`, `normal_interval` and `clustered_error` of a mean;
  `quantile_ranks` of a quantile.
- Which does better on the same examples: `mcnemar` for right and wrong, `sign_test` for one side of that, `wilcoxon`
  for scores, `bootstrap` of the differences. While results still come in: `e_value`, `alpha_spent`.
- Several tests at once: `holm`. Was traffic split as ordered: `sample_ratio`. How many examples are needed:
  `arm_size`, `pair_size`.

>>> wilson(135, 150)
Interval(low=0.84156..., high=0.93845...)
>>> mcnemar(12, 3)
0.035156...
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from itertools import groupby
from random import Random
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

from foundation.options import finite, whole
from supervision.errors import BadOption

#: So many differences at most are ranked exactly; the rank sum of more is taken for normally distributed.
EXACT_RANKS = 200
#: Of so many pairs at most, the splits are counted in whole numbers.
EXACT_THROWS = 10_000
#: How often `bootstrap` draws.
RESAMPLES = 10_000
#: Differences are compared to so many digits, so that .3 - .2 and .2 - .1 are the same.
_DIGITS = 12
#: The squares of larger numbers could not be summed.
LARGEST = 1e100
#: Halvings of the unit interval until nothing changes.
_HALVINGS = 60
_NORMAL = NormalDist()


class Interval(NamedTuple):
    """A confidence interval: what is asked about lies between ``low`` and ``high``."""

    low: float
    high: float


class RankTest(NamedTuple):
    """The signed-rank test.

    Attributes:
        pairs: how many differences there are besides zeros.
        rank_sum: of the positive ones, W+.
        p: how probable so uneven a sum is if both do equally well, two-sided.
    """

    pairs: int
    rank_sum: float
    p: float


class Ranks(NamedTuple):
    """Which of the sorted values, counted from 1, are the ends of an interval for a quantile; None for an open end."""

    low: int | None
    high: int | None


# -- shares ----------------------------------------------------------------------------------------------------------


def wilson(successes: int, total: int, confidence: float = 0.95) -> Interval:
    """Return Wilson's interval for a share (1927): the default for scores of 0 and 1.

    Args:
        successes: how many were good.
        total: of how many, from 1.
        confidence: between 0 and 1.

    Raises:
        BadOption: an argument makes no sense.
    """
    _check_counts("wilson", successes, total)
    z = _two_sided(confidence)
    share, ratio = successes / total, z * z / total
    middle = (share + ratio / 2) / (1 + ratio)
    half = z * math.sqrt(share * (1 - share) / total + ratio / (4 * total)) / (1 + ratio)
    # At 0 and 1 the ends meet the share, but for rounding.
    return Interval(0.0 if not successes else middle - half, 1.0 if successes == total else middle + half)


def clopper_pearson(successes: int, total: int, confidence: float = 0.95) -> Interval:
    """Return the exact interval for a share of Clopper and Pearson (1934): it is wrong at most as often as it says.

    Args:
        successes: how many were good.
        total: of how many, from 1.
        confidence: between 0 and 1.

    Raises:
        BadOption: an argument makes no sense.
    """
    _check_counts("clopper_pearson", successes, total)
    tail = (1 - _share("confidence", confidence)) / 2
    low = _where(lambda share: 1 - _binomial(successes - 1, total, share) > tail) if successes else 0.0
    high = _where(lambda share: _binomial(successes, total, share) < tail) if successes < total else 1.0
    return Interval(low, high)


def _binomial(most: int, total: int, share: float) -> float:
    """Return how probable ``most`` successes at most are, in ``total`` trials that succeed with a probability.

    By the continued fraction of the incomplete beta function (Numerical Recipes, 6.4).
    """
    if most < 0:
        return 0.0
    return 1.0 if most >= total else _incomplete_beta(total - most, most + 1, 1 - share)


def _where(reached: Callable[[float], bool]) -> float:
    """Return from which share on something is true."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _incomplete_beta(a: int, b: int, x: float) -> float:
    if x in {0.0, 1.0}:
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = a * math.log(x) + b * math.log1p(-x) - _log_beta(a, b)
    return math.exp(front) * _fraction(a, b, x) / a


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _fraction(a: int, b: int, x: float) -> float:
    """Lentz' method. It needs about the square root of the larger argument of steps."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    found, m = d, 0
    while True:
        m += 1
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            d, c = 1 / (1 + step * d), 1 + step / c
            found *= d * c
        if abs(d * c - 1) < 1e-15 or m > 10_000:
            return found


# -- means -----------------------------------------------------------------------------------------------------------


def bootstrap(
    values: Sequence[float], confidence: float = 0.95, *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """Return the percentile interval of a mean, by drawing the values again (Efron, 1979).

    Given the differences of two programs on the same examples, it is the interval of their mean difference. Below 20
    values it is a picture rather than a figure; its time grows with the values and the
    resamples: a thousand values take a second or two.

    Args:
        values: at least one.
        confidence: between 0 and 1.
        seed: of the draws.
        resamples: how often all are drawn.

    Raises:
        BadOption: an argument makes no sense.
    """
    found, tail = _numbers("bootstrap: values", values), (1 - _share("confidence", confidence)) / 2
    draw, size = Random(seed).random, len(found)
    times = whole("bootstrap: resamples", resamples)
    means = sorted(sum([found[int(draw() * size)] for _ in found]) / size for _ in range(times))
    return Interval(means[int(times * tail)], means[min(math.ceil(times * (1 - tail)), times) - 1])


def normal_interval(values: Sequence[float], confidence: float = 0.95, *, error: float | None = None) -> Interval:
    """Return the interval of a mean by its standard error: for many values.

    Args:
        values: at least two; or one, and an ``error``.
        confidence: between 0 and 1.
        error: the standard error, such as `clustered_error`; that of independent values if None.

    Raises:
        BadOption: an argument makes no sense.
    """
    found = _numbers("normal_interval: values", values, 1 if error is not None else 2)
    mean = fmean(found)
    half = _two_sided(confidence) * (stdev(found) / math.sqrt(len(found)) if error is None else error)
    return Interval(mean - half, mean + half)


def clustered_error(values: Sequence[float], clusters: Sequence[Hashable], *, correct: bool = False) -> float:
    """Return the standard error of the mean of values of which some belong together.

    Several questions on one document are less telling than as many on several; see Miller, "Adding Error Bars to
    Evals" (2024).

    Args:
        values: at least one.
        clusters: to which each value belongs.
        correct: whether to make up for a small number G of clusters, by √(G/(G-1)).

    Raises:
        BadOption: there are no values, or not as many clusters; or one cluster, and it is to be corrected.
    """
    found = _numbers("clustered_error: values", values)
    if len(clusters) != len(found):
        raise BadOption("clustered_error: clusters", len(clusters), f"give one for each of {len(found)} values")
    mean = fmean(found)
    sums: defaultdict[Hashable, float] = defaultdict(float)
    for value, cluster in zip(found, clusters, strict=True):
        sums[cluster] += value - mean
    groups = len(sums)
    if correct and groups == 1:
        raise BadOption("clustered_error: clusters", groups, "give at least two, or correct=False")
    error = math.sqrt(math.fsum(total * total for total in sums.values())) / len(found)
    return error * math.sqrt(groups / (groups - 1)) if correct else error


def quantile_ranks(total: int, quantile: float, confidence: float = 0.95) -> Ranks:
    """Return which of so many sorted values are the ends of an exact interval for a quantile.

    >>> quantile_ranks(100, 0.95), quantile_ranks(71, 0.95)
    (Ranks(low=90, high=100), Ranks(low=63, high=None))

    Args:
        total: how many values there are, from 1.
        quantile: between 0 and 1, such as .95.
        confidence: between 0 and 1.

    Returns:
        None for an end that so few values do not have: say "at least", or "at most".

    Raises:
        BadOption: an argument makes no sense.
    """
    whole("quantile_ranks: total", total)
    share, tail = _share("quantile", quantile), (1 - _share("confidence", confidence)) / 2
    low = _first(lambda rank: _binomial(rank, total, share) > tail, total)
    high = _first(lambda rank: _binomial(rank - 1, total, share) >= 1 - tail, total + 1)
    return Ranks(low or None, high if high <= total else None)


def _first(reached: Callable[[int], bool], most: int) -> int:
    """Return the first whole number at which something is true that stays true; ``most`` if there is none before."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle + 1, high)
    return low


# -- two programs, the same examples ---------------------------------------------------------------------------------


def mcnemar(better: int, worse: int, *, mid: bool = False) -> float:
    """Return the exact p of McNemar's test (1947): how probable so uneven a split is if both do equally well.

    Six differing pairs, all one way, are the least that can be significant at .05.

    Args:
        better: how many examples only the one program has right.
        worse: how many only the other has right.
        mid: whether to count the split at hand by half (the mid-p): less careful, and nearer to what it says.

    Raises:
        BadOption: a count makes no sense.
    """
    least = min(whole("mcnemar: better", better, 0), whole("mcnemar: worse", worse, 0))
    pairs = better + worse
    return min(1.0, _heads(least, pairs) + _heads(least - 1 if mid else least, pairs))


def sign_test(better: int, worse: int) -> float:
    """Return how probable it is to be so seldom better, or less often, for one that does equally well: one-sided.

    >>> sign_test(1, 9), sign_test(2, 5)
    (0.0107421875, 0.2265625)

    Args:
        better: on how many examples the one does better.
        worse: on how many it does worse.

    Raises:
        BadOption: a count makes no sense.
    """
    least = whole("sign_test: better", better, 0)
    return _heads(least, least + whole("sign_test: worse", worse, 0))


def _heads(most: int, total: int) -> float:
    """Return how probable ``most`` heads at most are in ``total`` throws of a coin."""
    if total > EXACT_THROWS:
        return _binomial(most, total, 0.5)
    found, ways = 0, 1
    for heads in range(most + 1):
        found, ways = found + ways, ways * (total - heads) // (heads + 1)
    return found / (1 << total)


def wilcoxon(differences: Sequence[float]) -> RankTest:
    """Return the signed-rank test of Wilcoxon (1945): do the differences lie as often, and as far, on both sides of 0?

    Exact for up to `EXACT_RANKS` differences besides zeros, ties included; normal beyond, corrected for ties.

    Args:
        differences: of the scores of two programs, for each example. Zeros are left out.

    Raises:
        BadOption: one is no finite number.
    """
    rounded = [round(value, _DIGITS) for value in _numbers("wilcoxon: differences", differences, 0)]
    given = sorted((value for value in rounded if value), key=abs)
    # Twice the ranks, so that the mean rank of a tie is whole.
    doubled: list[int] = []
    for _, tie in groupby(given, key=abs):
        size = len(list(tie))
        doubled += [2 * len(doubled) + size + 1] * size
    positive = sum(rank for rank, value in zip(doubled, given, strict=True) if value > 0)
    least = min(positive, sum(doubled) - positive)
    share = _exact_share if len(given) <= EXACT_RANKS else _normal_share
    return RankTest(len(given), positive / 2, min(1.0, 2 * share(doubled, least)))


def _exact_share(ranks: list[int], most: int) -> float:
    """Return which part of all subsets of ranks has a sum of ``most`` at most.

    The counts of subsets, by their sums, are the digits of one whole number; adding it to itself, shifted, is what
    another rank does to all of them.
    """
    width = len(ranks) + 2
    counts = 1
    for rank in ranks:
        counts += counts << rank * width
    wanted = counts & ((1 << (most + 1) * width) - 1)
    # What is left of a number divided by its base less 1 is the sum of its digits.
    return (wanted % ((1 << width) - 1)) / (1 << len(ranks))


def _normal_share(ranks: list[int], most: int) -> float:
    mean, variance = sum(ranks) / 2, sum(rank * rank for rank in ranks) / 4
    return _NORMAL.cdf((most + 1 - mean) / math.sqrt(variance))


def e_value(better: int, worse: int) -> float:
    """Return how much the pairs speak against equal programs; it may be looked at as often as one likes.

    At 20, one may stop and speak of .05; at 100, of .01. A test for .05 that is looked at every 10 of 300 examples
    gives 16 false alarms of 100; this one at most 5, however long it goes on. Robbins' mixture (1970), flat prior.

    Args:
        better: how many examples only the one program has right.
        worse: how many only the other has right.

    Raises:
        BadOption: a count makes no sense.
    """
    b, c = whole("e_value: better", better, 0), whole("e_value: worse", worse, 0)
    evidence = (b + c) * math.log(2) + _log_beta(b + 1, c + 1)
    return math.exp(min(evidence, 700.0))


def alpha_spent(part: float, alpha: float = 0.05) -> float:
    """Return how much of an error rate may be spent when a part of all results is there.

    By the function of Lan and DeMets (1983) that is like O'Brien and Fleming's bounds: little before the end.

    Args:
        part: of the results, above 0 and up to 1.
        alpha: in all, between 0 and 1.

    Raises:
        BadOption: an argument makes no sense.
    """
    given = finite(part)
    if given is None or not 0 < given <= 1:
        raise BadOption("alpha_spent: part", part, "give a number above 0, up to 1")
    return 2 * (1 - _NORMAL.cdf(_two_sided(1 - _share("alpha", alpha)) / math.sqrt(given)))


# -- several tests, traffic, sizes -----------------------------------------------------------------------------------


def holm(probabilities: Sequence[float]) -> list[float]:
    """Return the p of several tests, each made larger so that .05 holds for all of them together (Holm, 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    Raises:
        BadOption: one is no probability.
    """
    found = _numbers("holm: probabilities", probabilities, 0)
    if any(not 0 <= p <= 1 for p in found):
        raise BadOption("holm: probabilities", probabilities, "give numbers from 0 to 1")
    order = sorted(range(len(found)), key=lambda at: found[at])
    adjusted, least = [0.0] * len(found), 0.0
    for number, at in enumerate(order):
        least = max(least, min(1.0, (len(found) - number) * found[at]))
        adjusted[at] = least
    return adjusted


def sample_ratio(count: int, total: int, share: float) -> float:
    """Return how probable so uneven a split of traffic is if it was made as ordered; below .001 something is wrong.

    The χ² test with one degree of freedom.

    >>> sample_ratio(130, 1000, 0.1)
    0.001565...

    Args:
        count: how many went to an arm.
        total: of how many, from 1.
        share: that was ordered, between 0 and 1.

    Raises:
        BadOption: an argument makes no sense.
    """
    _check_counts("sample_ratio", count, total)
    wanted = _share("share", share)
    chi_squared = (count - total * wanted) ** 2 / (total * wanted * (1 - wanted))
    return math.erfc(math.sqrt(chi_squared / 2))


def arm_size(first: float, second: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return how many examples each of two programs needs, on examples of its own, for a difference to be seen.

    >>> arm_size(0.95, 0.90), arm_size(0.95, 0.90, power=0.9)
    (435, 582)

    Args:
        first: the share that the one has right, between 0 and 1.
        second: that of the other.
        alpha: how often a difference may be seen that is not there, two-sided.
        power: how often one that is there has to be seen.

    Raises:
        BadOption: an argument makes no sense.
    """
    p, q = _share("first", first), _share("second", second)
    if p == q:
        raise BadOption("arm_size: second", second, "give a share that differs from the first")
    mean = (p + q) / 2
    return _size(2 * mean * (1 - mean), p * (1 - p) + q * (1 - q), p - q, alpha, power)


def pair_size(discordant: float, difference: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Return how many examples two programs need, the same for both, for a difference to be seen.

    >>> pair_size(0.2, 0.05), pair_size(0.2, 0.10)
    (626, 155)

    Args:
        discordant: the share of examples that only one of them has right, between 0 and 1.
        difference: of the shares that they have right; not 0, nor larger than that.
        alpha: how often a difference may be seen that is not there, two-sided.
        power: how often one that is there has to be seen.

    Raises:
        BadOption: an argument makes no sense.
    """
    share, gap = _share("discordant", discordant), finite(difference)
    if not gap or abs(gap) > share:
        raise BadOption("pair_size: difference", difference, f"give a number from -{share:g} to {share:g}, and not 0")
    return _size(share, share - gap * gap, gap, alpha, power)


def _size(equal: float, differing: float, gap: float, alpha: float, power: float) -> int:
    """Return the size, given the variances if there is no difference, and if there is one."""
    z_alpha, z_power = _two_sided(1 - _share("alpha", alpha)), _NORMAL.inv_cdf(_share("power", power))
    return math.ceil((z_alpha * math.sqrt(equal) + z_power * math.sqrt(differing)) ** 2 / gap**2)


# -- arguments -------------------------------------------------------------------------------------------------------


def _two_sided(confidence: float) -> float:
    return _NORMAL.inv_cdf(1 - (1 - _share("confidence", confidence)) / 2)


def _share(what: str, value: float) -> float:
    number = finite(value)
    if number is None or not 0 < number < 1:
        raise BadOption(what, value, "give a number between 0 and 1")
    return number


def _check_counts(what: str, count: int, total: int) -> None:
    whole(f"{what}: total", total)
    if whole(f"{what}: count", count, 0) > total:
        raise BadOption(f"{what}: count", count, f"give at most the total, {total}")


def _numbers(what: str, values: Sequence[float], least: int = 1) -> list[float]:
    found: list[float] = []
    for given in values:
        value = finite(given)
        if value is None or abs(value) > LARGEST:
            raise BadOption(what, given, f"give numbers, none beyond {LARGEST:g}")
        found.append(value)
    if len(found) < least:
        raise BadOption(what, len(found), f"give at least {least}")
    return found
