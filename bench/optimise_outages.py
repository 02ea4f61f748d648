"""Outages of several kinds, at several places of an optimisation: is what comes out shaped by one of them?

For each of nine optimisers: the model is away (the network, the server, its rate limit, a time-out), or something that
the program or the metric reaches by itself, at the first call, in the middle and near the end; for two calls, or for
good. What comes out has to be the program of an undisturbed run, or no program but `ModelUnavailable`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from bench.optimisers import NAMES, Compiled, Trouble, World, compiled

#: For good.
_GONE = 10**9


def _errors() -> dict[str, Callable[[], Exception]]:
    import dspy

    from dspex._compat import lm15

    return {
        "network": lambda: lm15.TransportError("the network is gone"),
        "server": lambda: lm15.ServerError("500"),
        "limit": lambda: lm15.RateLimitError("slow down", retry_after=0.01),
        "time-out": lambda: lm15.TimeoutError("no answer"),
        "connection": lambda: ConnectionResetError("reset"),
        "judge": lambda: dspy.LMServerError("the judge is away"),
    }


#: The place, the kind, where it begins (as a part of the calls), and whether it is for good.
_CASES = (
    ("model", "network", 0.0, False),
    ("model", "network", 0.5, True),
    ("model", "server", 0.6, False),
    ("model", "limit", 0.9, False),
    ("model", "time-out", 0.3, True),
    ("program", "connection", 0.5, False),
    ("passed", "server", 0.4, False),
    ("metric", "judge", 0.7, False),
    ("metric", "judge", 0.2, True),
)


class Injected(NamedTuple):
    """An outage, and what came of it."""

    optimiser: str
    place: str
    kind: str
    part: float
    for_good: bool
    outcome: str


@cache
def healthy(name: str) -> Compiled:
    """Return what an undisturbed run comes to."""
    return compiled(name, World())


def _injected(name: str, case: tuple[str, str, float, bool]) -> Injected:
    from dspex.teleprompt import ModelUnavailable

    place, kind, part, for_good = case
    expected = healthy(name)
    first = max(1, round(part * expected.calls_by_place[place]))
    world = World(Trouble(place, _errors()[kind], first, _GONE if for_good else first + 1))
    try:
        found = compiled(name, world, patience=0.3 if for_good else 600.0)
    except ModelUnavailable:
        outcome = "suspended"
    else:
        outcome = "same" if found.state == expected.state else "shaped"
    if not world.met:
        outcome = "not met"
    return Injected(name, place, kind, part, for_good, outcome)


@cache
def outages() -> tuple[Injected, ...]:
    """Return what has come of each outage."""
    return tuple(_all())


def _all() -> Iterator[Injected]:
    for name in NAMES:
        found = [_injected(name, case) for case in _CASES]
        _tell(name, found)
        yield from found


def _tell(name: str, found: list[Injected]) -> None:
    counted = Counter(one.outcome for one in found)
    said = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counted.items()))
    print(f"\r{name:<34} {len(found)} outages: {said}", file=sys.stderr)


def counts() -> dict[str, Any]:
    """Return how many outages there were, and what came of them."""
    found = Counter(one.outcome for one in outages())
    by_optimiser = {
        f"{name} {outcome}": float(sum(one.outcome == outcome for one in outages() if one.optimiser == name))
        for name in NAMES
        for outcome in ("same", "suspended", "shaped")
    }
    return {
        **by_optimiser,
        "outages": float(sum(found.values())),
        **{outcome.replace(" ", "_"): float(found[outcome]) for outcome in ("same", "suspended", "shaped", "not met")},
    }
