"""Noise, so that nobody can tell from what is reported whether one example was there: differential privacy.

>>> round(gaussian_sigma(1.0, 1e-5), 6), server_noise(0.1, clip=10.0, clients=4)
(4.844805, 0.25)
"""

from __future__ import annotations

import math
import secrets
from inspect import isawaitable
from typing import Any

import msgspec

from dspex.federated.choices import CandidateScore
from dspex.federated.client import Scorer
from dspex.federated.errors import BadFederation
from foundation.options import above_zero, finite, whole


def gaussian_sigma(epsilon: float, delta: float, candidates: int = 1) -> float:
    """Return how much Gaussian noise hides one example in sums of scores from 0 to 1, of so many candidates.

    Args:
        epsilon: how much the probability of any report may depend on one example, by its logarithm; above 0, up to 1.
        delta: with which probability it may depend on it by more.
        candidates: of how many candidates the same examples' scores are told, once each.

    Raises:
        BadFederation, BadOption: a number makes no sense.

    Source: Dwork and Roth, The Algorithmic Foundations of Differential Privacy, 2014, theorem A.1.
    """
    if (number := finite(epsilon)) is None or not 0 < number <= 1:
        raise BadFederation(
            "gaussian_sigma: epsilon", epsilon, "give a number above 0, up to 1: the formula holds there"
        )
    if (share := finite(delta)) is None or not 0 < share < 1:
        raise BadFederation("gaussian_sigma: delta", delta, "give a number between 0 and 1")
    return math.sqrt(2 * math.log(1.25 / share)) / number * math.sqrt(whole("gaussian_sigma: candidates", candidates))


def server_noise(multiplier: float, clip: float, clients: int) -> float:
    """Return the deviation of the noise on the mean of so many clients' clipped changes, each counting alike.

    Raises:
        BadOption: a number makes no sense.
    """
    above_zero("server_noise: multiplier", multiplier)
    return multiplier * above_zero("server_noise: clip", clip) / whole("server_noise: clients", clients)


class NoisyScorer:
    """A scorer whose sums have noise, added before they leave: of one example nothing can be told, but for ``epsilon``.

    The same candidate has the same noise whenever it is asked for, so that it does not average out; beyond the number
    of candidates that was said, it refuses. Started again, it begins anew: what was told before is told beside that.
    How many examples there are is told as it is; squares and classes are not told. The federation's plan has to say
    ``noisy=True``.

    Args:
        scorer: whose scores are from 0 to 1.
        epsilon: see `gaussian_sigma`.
        delta: see there.
        candidates: how many may be asked for, in all rounds together.

    Raises:
        BadFederation, BadOption: a number makes no sense.
    """

    def __init__(self, scorer: Scorer, *, epsilon: float, delta: float, candidates: int) -> None:
        self._scorer, self._most = scorer, candidates
        self.sigma = gaussian_sigma(epsilon, delta, candidates)
        self._told: dict[bytes, CandidateScore] = {}
        # Not the runtime's: whoever knows its seed could take the noise off.
        self._chance = secrets.SystemRandom()

    async def score(self, candidate: Any) -> CandidateScore:
        """Return the sum of a candidate's scores, with noise."""
        key = msgspec.json.encode(candidate, order="deterministic")
        if key not in self._told:
            if len(self._told) == self._most:
                raise BadFederation("NoisyScorer: candidates", self._most, "the budget is spent; no other is scored")
            found: Any = self._scorer.score(candidate)
            score = await found if isawaitable(found) else found
            self._told.setdefault(key, self._noisy(score))
        return self._told[key]

    def _noisy(self, score: CandidateScore) -> CandidateScore:
        if not score.examples:
            return CandidateScore()
        # Whole hundredths: the lowest digits of a float's noise tell what it was added to (Mironov, 2012).
        noisy = round((float(score.sum) + self._chance.gauss(0.0, self.sigma)) * 100)
        return CandidateScore(total=f"{noisy}/100", examples=score.examples)
