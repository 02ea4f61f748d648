"""Noise on sums of scores, and on weights."""

from __future__ import annotations

import statistics
from typing import Any

import pytest

from dspex.federated import (
    BadFederation,
    CandidateScore,
    FedAvg,
    FederatedAveraging,
    NoisyScorer,
    gaussian_sigma,
    server_noise,
)
from supervision import Runtime
from supervision.errors import BadOption
from tests.dspex.federated.world import START, World, numbers


class Scores:
    def __init__(self) -> None:
        self.asked: list[Any] = []

    def score(self, candidate: Any) -> CandidateScore:
        self.asked.append(candidate)
        return CandidateScore() if candidate == "unknown" else CandidateScore.of([1.0] * 50 + [0.0] * 50, ["x"] * 100)


def test_how_much_noise_it_takes() -> None:
    assert gaussian_sigma(1.0, 1e-5) == pytest.approx(4.844805, abs=1e-6)
    assert gaussian_sigma(0.5, 1e-5, 4) == pytest.approx(4 * 4.844805, abs=1e-5)
    assert server_noise(0.1, 10.0, 4) == pytest.approx(0.25)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: gaussian_sigma(0.0, 0.1),
        lambda: gaussian_sigma(1.1, 0.1),
        lambda: gaussian_sigma(1.0, 1.0),
        lambda: gaussian_sigma(1.0, 0.1, 0),
        lambda: server_noise(0.0, 1.0, 1),
        lambda: server_noise(1.0, 1.0, 0),
        lambda: FederatedAveraging(initial=START, noise=0.1),
        lambda: FederatedAveraging(initial=START, noise=0.1, clip=1.0),
        lambda: FederatedAveraging(initial=START, noise=-0.1, clip=1.0, most_examples=1),
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong: Any) -> None:
    with pytest.raises((BadFederation, BadOption)):
        wrong()


async def test_a_candidate_has_the_same_noise_whenever_it_is_asked_for_until_the_budget_is_spent() -> None:
    scores = Scores()
    scorer = NoisyScorer(scores, epsilon=1.0, delta=1e-5, candidates=2)
    first = await scorer.score({"b": 1, "a": 2})
    assert await scorer.score({"a": 2, "b": 1}) == first
    assert len(scores.asked) == 1
    assert (first.examples, first.classes, first.squares) == (100, {}, "0")
    assert await scorer.score("unknown") == CandidateScore()
    with pytest.raises(BadFederation, match="the budget is spent"):
        await scorer.score("third")


async def test_the_noise_is_as_large_as_it_has_to_be() -> None:
    class Later(Scores):
        async def score(self, candidate: Any) -> CandidateScore:  # type: ignore[override]
            return super().score(candidate)

    scorer = NoisyScorer(Later(), epsilon=1.0, delta=1e-5, candidates=400)
    found = [float((await scorer.score(number)).sum) for number in range(400)]
    # Of 400 draws, the deviation is within a quarter of sigma but once in 10 ** 12.
    assert statistics.stdev(found) == pytest.approx(scorer.sigma, rel=0.25)
    (await scorer.score(0)).check(100, noisy=True)


async def test_weights_get_noise_when_clients_count_alike_and_are_clipped(runtime: Runtime) -> None:
    world = World(runtime)
    plan = FederatedAveraging(initial=START, rounds=1, rule=FedAvg(), clip=100.0, most_examples=1, noise=1e-6)
    await world.start(plan=plan)
    found = numbers(await world.result())
    assert found == pytest.approx([2.5, 2.5], abs=1e-3)
    assert found != [2.5, 2.5]
