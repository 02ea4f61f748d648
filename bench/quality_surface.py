"""What BEACON's sampler is worth by itself: on a published function, where a trial costs nothing and has no noise.

The function is Hartmann's in six dimensions (L. C. W. Dixon and G. P. Szegö, "The global optimization problem", 1978),
each variable on a grid of eleven points; scaled so that 1 is its maximum.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

import dspy
import msgspec
import optuna

from dspex.teleprompt.beacon import BEACON
from dspex.variables import Integer

#: How many seeds, and how many trials in each.
SEEDS, TRIALS = 20, 60
#: The grid of each variable has this many steps.
STEPS = 10

_WEIGHTS = (1.0, 1.2, 3.0, 3.2)
_SCALES = (
    (10, 3, 17, 3.5, 1.7, 8),
    (0.05, 10, 17, 0.1, 8, 14),
    (3, 3.5, 1.7, 10, 17, 8),
    (17, 8, 0.05, 10, 0.1, 14),
)
_CENTRES = (
    (0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886),
    (0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991),
    (0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650),
    (0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381),
)
_MAXIMUM = 3.32237


class Surface(msgspec.Struct, frozen=True):
    """What has been found, by seed.

    Attributes:
        modelled: the best score of BEACON.
        drawn: that of as many trials at random.
        reached: the trial at which BEACON had what all trials at random have found; None if it never had.
    """

    modelled: list[float]
    drawn: list[float]
    reached: list[int | None]

    def table(self) -> str:
        """Return it as text."""
        lines = [
            f"{f'surface, {SEEDS} seeds, {TRIALS} trials':<34}{'best':>8}{'spread':>8}{'least':>8}{'most':>8}",
        ]
        for name, found in (("BEACON", self.modelled), ("BEACON, at random", self.drawn)):
            mean, spread = statistics.mean(found), statistics.stdev(found)
            lines.append(f"{name:<34}{mean:>8.3f}{spread:>8.3f}{min(found):>8.3f}{max(found):>8.3f}")
        differences = [one - other for one, other in zip(self.modelled, self.drawn, strict=True)]
        mean, spread = statistics.mean(differences), statistics.stdev(differences)
        trials = sorted(TRIALS + 1 if trial is None else trial for trial in self.reached)
        never = self.reached.count(None)
        lines.append(f"    BEACON - BEACON, at random, by seed: {mean:+.3f}, spread {spread:.3f}")
        lines.append(
            f"    BEACON has what {TRIALS} trials at random find after {statistics.median(trials):g} trials (median); "
            f"never in {never} of {len(trials)} seeds"
        )
        return "\n".join(lines)


def hartmann(point: tuple[float, ...]) -> float:
    """Return the value at a point of the unit cube, of the maximum."""
    total = 0.0
    for weight, scales, centres in zip(_WEIGHTS, _SCALES, _CENTRES, strict=True):
        inner = sum(s * (x - c) ** 2 for s, x, c in zip(scales, point, centres, strict=True))
        total += weight * math.exp(-inner)
    return total / _MAXIMUM


class _Point(dspy.Module):  # type: ignore[misc]
    """A program without a language model: its answer is the value at the point where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.point = (0.0,) * 6

    def forward(self, here: str) -> Any:
        return dspy.Prediction(value=hartmann(self.point))


def _move(program: Any, values: Mapping[str, Any]) -> None:
    program.point = tuple(values[f"x{n}"] / STEPS for n in range(6))


def _scores(seed: int, **options: Any) -> list[float]:
    """Return the score of each trial."""
    teleprompter = BEACON(
        metric=lambda _, prediction: prediction.value,
        num_trials=TRIALS,
        instructions={},
        max_bootstrapped_demos=0,
        max_labeled_demos=0,
        variables=[Integer(name=f"x{n}", low=0, high=STEPS, default=0) for n in range(6)],
        apply=_move,
        parallel=1,
        prune=None,
        num_threads=1,
        display_progress=False,
        **options,
    )
    example = dspy.Example(here="here").with_inputs("here")
    logs = teleprompter.compile(_Point(), trainset=[example], seed=seed).trial_logs
    return [logs[number]["score"] for number in sorted(logs)]


def surface(first: int) -> Surface:
    """Search with BEACON's sampler, and at random.

    Args:
        first: the first seed.
    """
    found = Surface([], [], [])
    for seed in range(first, first + SEEDS):
        modelled = _scores(seed)
        drawn = _scores(seed, sampler=lambda number: optuna.samplers.RandomSampler(seed=number))
        found.modelled.append(max(modelled))
        found.drawn.append(max(drawn))
        found.reached.append(next((n for n, score in enumerate(modelled, 1) if score >= max(drawn)), None))
    return found
