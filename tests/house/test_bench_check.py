"""The comparison with the baseline of performance says what became worse, and nothing else."""

from __future__ import annotations

import msgspec

from bench.check import BASELINE, Known, known, worse
from bench.figure import Better, Figure


def figure(ratio: float, better: Better = "higher") -> Figure:
    """Return a figure with this ratio."""
    return Figure(value=ratio, unit="x", limit=1.0, ratio=ratio, reach=0.0, better=better)


def test_only_what_is_worse_by_more_than_its_noise_is_named_the_worst_first() -> None:
    baseline = {
        "same": Known(1.0, 0.0, "higher"),
        "slower": Known(1.0, 0.0, "higher"),
        "dearer": Known(1.0, 0.0, "lower"),
        "noisy": Known(1.0, 0.3, "higher"),
        "faster": Known(1.0, 0.0, "higher"),
        "gone": Known(1.0, 0.0, "higher"),
    }
    now = {
        "same": figure(0.95),
        "slower": figure(0.5),
        "dearer": figure(1.5, "lower"),
        "noisy": figure(0.7),
        "faster": figure(2.0),
    }
    found = worse(baseline, now)
    assert [one.name for one in found] == ["slower", "dearer"]
    assert str(found[0]) == "slower: ratio 1.000 → 0.500, worse by 100%; noise is 15%"


def test_what_is_promised_has_to_be_reached_whatever_it_was_before() -> None:
    baseline = {
        "alarms": Known(0.0, 0.0, "lower"),
        "found": Known(0.5, 0.0, "higher"),
        "kept": Known(0.0, 0.0, "lower"),
    }

    def promised(ratio: float, reach: float, better: Better) -> Figure:
        return Figure(value=ratio, unit="x", limit=1.0, ratio=ratio, reach=reach, better=better, promise=True)

    now = {
        "alarms": promised(0.01, 0.0, "lower"),
        "found": promised(0.6, 0.98, "higher"),
        "kept": promised(0, 0, "lower"),
    }
    found = worse(baseline, now)
    assert [str(one) for one in found] == [
        "alarms: 0.010, and 0.000 is promised",
        "found: 0.600, and 0.980 is promised",
    ]
    assert known([{"none": figure(0.0)}])["none"].noise == 0.0


def test_the_noise_is_how_far_runs_are_apart() -> None:
    made = known([{"a": figure(1.0)}, {"a": figure(1.2)}, {"a": figure(0.9)}])
    assert made["a"].ratio == 1.0
    assert round(made["a"].noise, 3) == 0.3


def test_the_baseline_can_be_read() -> None:
    baseline = msgspec.json.decode(BASELINE.read_bytes(), type=dict[str, Known])
    assert {"tell_one", "register", "false_alarms", "planted_found"} <= set(baseline)
