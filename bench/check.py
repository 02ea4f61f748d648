"""``python -m bench check``: whether anything became slower than it was, by more than it varies anyway.

Times differ from machine to machine; so ratios are compared, each to a raw limit that was measured in the same run. The
baseline, with how much each ratio varied between its runs, is in ``bench/baseline.json``; ``--update`` makes it anew.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path

import msgspec

from bench.figure import Better, Figure
from bench.platform import NAMES

BASELINE = Path(__file__).with_name("baseline.json")
#: What votes and rules come to: the same on every machine, and shown by the suite.
_VOTES = (
    *("best", "majority", "weighted", "dawid", "confusion", "soft", "bias", "stack", "corrected", "words", "composed"),
    *("oracle", "calls", "early", "sampled"),
)
#: What is compared: the figures of these suites but those whose names begin so.
COMPARED: dict[str, tuple[str, ...]] = {
    "kernel": ("memory",),
    "registry": ("mix_", "map_", "lookup"),
    "platform": (*NAMES, "death"),
    "alarms": (),
    "team": (*_VOTES, "beacon_over_chance"),
    "team-search": ("same", "prefix"),
    "team_crash": (),
    "http": ("at_512", "rss", "fds", "readyz"),
}
#: So often each suite is run for a baseline.
RUNS = 3
#: What counts as noise at least, as a fraction.
LEAST_NOISE = 0.15


class Known(msgspec.Struct, frozen=True):
    """What a figure was: its ratio, and how far the ratios of several runs were apart, as a fraction of it."""

    ratio: float
    noise: float
    better: Better


class Worse(msgspec.Struct, frozen=True):
    """A figure that became worse, or one that misses what is promised: then it is worse by infinitely much."""

    name: str
    before: float
    now: float
    by: float
    noise: float

    def __str__(self) -> str:
        if self.by == inf:
            return f"{self.name}: {self.now:.3f}, and {self.before:.3f} is promised"
        return (
            f"{self.name}: ratio {self.before:.3f} → {self.now:.3f}, worse by {self.by:.0%}; noise is {self.noise:.0%}"
        )


def known(runs: list[Mapping[str, Figure]]) -> dict[str, Known]:
    """Return the baseline that several runs make."""
    made = {}
    for name, figure in runs[0].items():
        ratios = [run[name].ratio for run in runs]
        middle = statistics.median(ratios)
        made[name] = Known(middle, (max(ratios) - min(ratios)) / middle if middle else 0.0, figure.better)
    return made


def worse(baseline: Mapping[str, Known], now: Mapping[str, Figure]) -> list[Worse]:
    """Return what became worse by more than its noise, the worst first."""
    found = []
    for name, before in baseline.items():
        if name in now and now[name].promise:
            if not now[name].reached:
                found.append(Worse(name, now[name].reach, now[name].ratio, inf, 0.0))
        elif name in now:
            change = now[name].ratio / before.ratio
            by = (1 / change if before.better == "higher" else change) - 1
            noise = max(LEAST_NOISE, 2 * before.noise)
            if by > noise:
                found.append(Worse(name, before.ratio, now[name].ratio, by, noise))
    return sorted(found, key=lambda one: -one.by)


def main(measure: Callable[[str, tuple[str, ...]], dict[str, Figure]], *, update: bool) -> int:
    """Compare, or make the baseline.

    Args:
        measure: runs a suite without some of its figures.
        update: make the baseline instead.
    """
    if update:
        made: dict[str, Known] = {}
        for suite, without in COMPARED.items():
            made |= known([measure(suite, without) for _ in range(RUNS)])
        BASELINE.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
        print(f"{BASELINE.name}: {len(made)} figures")
        return 0
    baseline = msgspec.json.decode(BASELINE.read_bytes(), type=dict[str, Known])
    found: list[Worse] = []
    for suite, without in COMPARED.items():
        first = worse(baseline, measure(suite, without))
        if first:  # once more: what is not worse twice was noise
            again = {one.name for one in worse(baseline, measure(suite, without))}
            found += [one for one in first if one.name in again]
    for one in found:
        print(one)
    print(f"{len(found)} of {len(baseline)} figures became worse", file=sys.stderr if found else sys.stdout)
    return 1 if found else 0
