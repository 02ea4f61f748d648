"""The rule that judges a version: Wald's sequential probability ratio test, on which of two versions has the bad units.

A unit is bad or not. If both versions are alike, a bad one is the new version's with probability *s*, its share of the
traffic; if the new one is bad *R* times as often, with ``q = R·s / (R·s + 1 - s)``. Each bad unit moves the logarithm
of the likelihood ratio; at one bound the new version is rejected, at the other accepted. This asks only *whose* the
bad unit is: what makes both worse moves nothing, and it may be looked at after each unit without more false alarms.

Abraham Wald, "Sequential Analysis" (1947). Several objectives share the error rate (Bonferroni).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple


class Bounds(NamedTuple):
    """Where the test ends: at ``reject`` and above, at ``accept`` and below."""

    reject: float
    accept: float


class BadUnitSteps(NamedTuple):
    """By how much a bad unit moves the log-likelihood ratio: one of the new version, and one of the old."""

    canary: float
    baseline: float


@lru_cache(256)
def bounds(alpha: float, beta: float, slos: int = 1) -> Bounds:
    """Return the bounds of the test.

    >>> [round(bound, 6) for bound in (*bounds(0.05, 0.05), *bounds(0.05, 0.05, 3))]
    [2.944439, -2.944439, 4.043051, -2.978925]

    Args:
        alpha: how often what is alike may be rejected, between 0 and 1.
        beta: how often what is as bad as must be caught may be accepted.
        slos: how many objectives there are.
    """
    each = alpha / slos
    return Bounds(math.log((1 - beta) / each), math.log(beta / (1 - each)))


@lru_cache(256)
def bad_unit_steps(share: float, ratio: float) -> BadUnitSteps:
    """Return what a bad unit is worth.

    >>> [round(step, 6) for step in (*bad_unit_steps(0.1, 2), *bad_unit_steps(0.5, 2))]
    [0.597837, -0.09531, 0.287682, -0.405465]

    Args:
        share: of the units that go to the new version, between 0 and 1.
        ratio: how many times as often must be caught, above 1.
    """
    caught = ratio * share / (ratio * share + 1 - share)
    return BadUnitSteps(math.log(caught / share), math.log((1 - caught) / (1 - share)))


def log_likelihood_ratio(canary: int, baseline: int, share: float, ratio: float) -> float:
    """Return how much the bad units of both versions speak against the new one.

    >>> [round(log_likelihood_ratio(*bad, 0.1, 2), 6) for bad in ((5, 0), (4, 0), (0, 31), (10, 50))]
    [2.989185, 2.391348, -2.954616, 1.212861]

    Counts of several shares are not added up: their ratios are.

    >>> round(log_likelihood_ratio(2, 198, 0.01, 2) + log_likelihood_ratio(400, 400, 0.5, 2), 6)
    -47.716986

    Args:
        canary: how many bad units the new version had.
        baseline: how many the old one had.
        share: see `bad_unit_steps`.
        ratio: see `bad_unit_steps`.
    """
    steps = bad_unit_steps(share, ratio)
    return canary * steps.canary + baseline * steps.baseline


def ratio_against_bound(bad: int, good: int, bound: float, ratio: float) -> float:
    """Return how much the units of one version speak for a share of bad ones ``ratio`` times the bound.

    What is promoted has no other beside it any more; it is held against the bound alone.

    >>> round(ratio_against_bound(6, 94, 0.02, 2), 6), round(ratio_against_bound(2, 98, 0.02, 2), 6)
    (2.22067, -0.634396)
    """
    caught = min(ratio * bound, (1 + bound) / 2)
    return bad * math.log(caught / bound) + good * math.log((1 - caught) / (1 - bound))
