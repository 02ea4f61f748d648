"""What requests to a language model cost, as far as DSPy knows, and how large they are."""

from __future__ import annotations

from typing import Any

import dspy
from dspy import lm15
from dspy.clients.capabilities import resolve
from dspy.clients.model_metadata import model_info, rate
from dspy.lm15 import _binding_for

from dspex._compat.usage import Metered


def token_price(lm: Any) -> tuple[float, float] | None:
    """Return the dollars for a million tokens, sent and written, of a language model; None if DSPy does not know."""
    if not isinstance(lm, dspy.LM) or not isinstance(lm.engine, str):
        return None
    try:
        route = resolve(lm)
    except lm15.LM15Error:
        return None
    binding = _binding_for(lm._providers, route.provider) if route.declared else None
    namespaces = None if binding is None else binding.metadata_namespaces
    info = model_info(route.provider, route.model, namespaces=namespaces)
    sent, written = rate(info, "input_cost_per_token"), rate(info, "output_cost_per_token")
    return None if sent is None or written is None else (sent * 1e6, written * 1e6)


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
