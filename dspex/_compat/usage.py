"""What a run uses, and what it costs, measured so that the program cannot tell."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import dspy
from dspy import lm15
from dspy.clients.capabilities import resolve
from dspy.clients.costs import estimate_cost
from dspy.clients.model_metadata import model_info, rate
from dspy.dsp.utils.settings import thread_local_overrides
from dspy.lm15 import _binding_for
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


class CostHistory(list[Any]):
    """A history that keeps nothing but the sum of what its entries cost, in dollars."""

    cost = 0.0

    def append(self, entry: Any) -> None:
        """Add what an answer of a language model has cost; one from the cache has cost nothing."""
        if entry.get("usage"):
            self.cost += entry.get("cost") or 0.0


class Metered(NamedTuple):
    """What a run has used: tokens by language model, and dollars."""

    #: Counts the tokens.
    meter: Meter
    #: Sums the costs; DSPy takes this for the history of one more calling module, and appends each answer to it.
    history: CostHistory


@contextmanager
def metered(settings: Mapping[str, Any]) -> Generator[Metered]:
    """Apply settings, and measure what a run uses. A caller that tracks usage sees what it would see without this."""
    found = Metered(Meter(dspy.settings.usage_tracker), CostHistory())
    callers = [*(dspy.settings.caller_modules or ()), found]
    with dspy.context(**{**settings, "usage_tracker": found.meter, "caller_modules": callers}):
        yield found


def note_usage(module: Any, result: Any, found: Metered) -> None:
    """Attach to a result what the run has used, as a module does if nobody above it tracks usage."""
    module._set_lm_usage(found.meter.get_total_tokens(), result)


def tracks_alone() -> bool:
    """Return whether the module that is called next would track its usage by itself."""
    return bool(dspy.settings.track_usage) and thread_local_overrides.get().get("usage_tracker") is None


class _Route(NamedTuple):
    """Whose model it is, how they call it, and where DSPy looks for its price; None for the usual places."""

    provider: str
    model: str
    namespaces: tuple[str, ...] | None


def _route(lm: Any) -> _Route | None:
    if not isinstance(lm, dspy.LM) or not isinstance(lm.engine, str):
        return None
    try:
        found = resolve(lm)
    except lm15.LM15Error:
        return None
    binding = _binding_for(lm._providers, found.provider) if found.declared else None
    return _Route(found.provider, found.model, None if binding is None else binding.metadata_namespaces)


def token_price(lm: Any) -> tuple[float, float] | None:
    """Return the dollars for a million tokens, sent and written, of a language model; None if DSPy does not know."""
    route = _route(lm)
    if route is None:
        return None
    info = model_info(route.provider, route.model, namespaces=route.namespaces)
    sent, written = rate(info, "input_cost_per_token"), rate(info, "output_cost_per_token")
    return None if sent is None or written is None else (sent * 1e6, written * 1e6)


def answer_cost(lm: Any, request: Any, response: Any) -> float | None:
    """Return what an answer has cost, in dollars, as DSPy estimates it; None if it does not know."""
    route = _route(lm)
    if route is None:
        return None
    cost: float | None = estimate_cost(
        response, provider=route.provider, requested_model=route.model, request=request, namespaces=route.namespaces
    )[0]
    return cost


def request_size(request: Any) -> tuple[int, int | None]:
    """Return the number of characters of a request's texts, and how many tokens its answer may have, if it says so."""
    system = request.system or ""
    parts = [] if isinstance(system, str) else list(system)
    parts += [part for message in request.messages for part in message.parts]
    texts = sum(len(getattr(part, "text", None) or "") for part in parts)
    return texts + (len(system) if isinstance(system, str) else 0), request.config.max_tokens


def charge(dollars: float) -> None:
    """Add what an answer has cost, where DSPy cannot price it, to the cost of each active run."""
    for caller in dspy.settings.caller_modules or ():
        if isinstance(caller, Metered):
            caller.history.cost += dollars
