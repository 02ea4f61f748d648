"""What a run uses, measured so that the program cannot tell."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import dspy
from dspy.dsp.utils.settings import thread_local_overrides
from dspy.utils.usage_tracker import UsageTracker


class Meter(UsageTracker):  # type: ignore[misc]
    """Counts what language models report during a run, and passes it on to the caller's own tracker.

    DSPy's threads copy the tracker that they find, and lose what the copy has counted; this one is not copied.
    """

    def __init__(self, parent: Any) -> None:
        super().__init__()
        self._parent = parent

    def __deepcopy__(self, memo: dict[int, Any]) -> Meter:
        return self

    def add_usage(self, lm: str, usage_entry: dict[str, Any]) -> None:
        """Count an answer."""
        super().add_usage(lm, usage_entry)
        if self._parent is not None:
            self._parent.add_usage(lm, usage_entry)


class Bill(list[Any]):
    """A history that keeps nothing but the sum of what its entries cost, in dollars."""

    cost = 0.0

    def append(self, entry: Any) -> None:
        """Add what an answer of a language model has cost; one from the cache has cost nothing."""
        if entry.get("usage"):
            self.cost += entry.get("cost") or 0.0


class Metered(NamedTuple):
    """What a run has used: tokens by language model, and dollars."""

    meter: Meter
    bill: Bill

    @property
    def history(self) -> Bill:
        """What DSPy takes for the history of one more calling module."""
        return self.bill


@contextmanager
def metered(settings: Mapping[str, Any]) -> Generator[Metered]:
    """Apply settings, and measure what a run uses. A caller that tracks usage sees what it would see without this."""
    found = Metered(Meter(dspy.settings.usage_tracker), Bill())
    callers = [*(dspy.settings.caller_modules or ()), found]
    with dspy.context(**{**settings, "usage_tracker": found.meter, "caller_modules": callers}):
        yield found


def note_usage(module: Any, result: Any, found: Metered) -> None:
    """Attach to a result what the run has used, as a module does if nobody above it tracks usage."""
    module._set_lm_usage(found.meter.get_total_tokens(), result)


def tracks_alone() -> bool:
    """Return whether the module that is called next would track its usage by itself."""
    return bool(dspy.settings.track_usage) and thread_local_overrides.get().get("usage_tracker") is None
