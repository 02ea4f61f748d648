"""What requests to a language model cost, as far as DSPy knows, and how large they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import dspy
from dspy import lm15
from dspy.clients.capabilities import resolve
from dspy.clients.costs import estimate_cost
from dspy.clients.model_metadata import model_info, rate
from dspy.lm15 import _binding_for

from dspex._compat.usage import Metered


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
    """Add to the bill of each run that is under way what an answer has cost that DSPy cannot price."""
    for caller in dspy.settings.caller_modules or ():
        if isinstance(caller, Metered):
            caller.bill.cost += dollars
