"""Figures: what is measured, how it is repeated, and how it is shown."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, Literal

import msgspec

Better = Literal["higher", "lower"]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One measured number beside its raw limit.

    Args:
        value: what was measured, in ``unit``.
        limit: the raw limit of the same run, in the same unit.
        ratio: ``value / limit``.
        reach: the ratio to reach: at least that when higher is better, at most that when lower is.
        better: which way is better.
        promise: whether the ratio has to be reached, whatever it was before and on whatever machine.
        more: other numbers of the same measurement, such as percentiles.
    """

    value: float
    unit: str
    limit: float
    ratio: float
    reach: float
    better: Better
    promise: bool = False
    more: dict[str, float] = {}

    @property
    def reached(self) -> bool:
        """Whether the ratio is as good as it has to be."""
        return self.ratio >= self.reach if self.better == "higher" else self.ratio <= self.reach


Work = Callable[[], Awaitable[float]]


async def timed(work: Callable[[], Awaitable[Any]], *, collect: bool = False) -> float:
    """Return the seconds that ``work`` takes.

    The garbage collector is off, unless ``collect`` says that its work belongs to what is measured: it does where
    many objects are made, for whoever makes more of them pays more.
    """
    gc.collect()
    if not collect:
        gc.disable()
    try:
        began = perf_counter()
        await work()
        return perf_counter() - began
    finally:
        gc.enable()


async def compare(
    ours: Work,
    raw: Work,
    *,
    unit: str,
    reach: float,
    better: Better = "higher",
    repeats: int = 15,
    **more: float,
) -> Figure:
    """Measure ours and the raw limit in turn, ``repeats`` times, and return the medians.

    Both return a number in ``unit``. One round of each before that is thrown away.
    """
    await raw()
    await ours()
    pairs = [(await raw(), await ours()) for _ in range(repeats)]
    limit = statistics.median(pair[0] for pair in pairs)
    value = statistics.median(pair[1] for pair in pairs)
    ratio = statistics.median(pair[1] / pair[0] for pair in pairs)
    return Figure(value=value, unit=unit, limit=limit, ratio=ratio, reach=reach, better=better, more=more)


def percentile(samples: list[float], share: float) -> float:
    """Return the value below which ``share`` (0 to 1) of the samples lie."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
