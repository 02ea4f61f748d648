"""The trace that a signal belongs to, as CloudEvents' extension for distributed tracing says it.

A signal that an agent emits, or a bus keeps, bears ``traceparent`` (and ``tracestate``), as of the `W3C
<https://www.w3.org/TR/trace-context/>`_: so that whoever handles it goes on with the trace, however much later.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from agents.core.signal import Signal
from supervision import Runtime, inject_context

_NAMES = ("traceparent", "tracestate")


def in_trace(runtime: Runtime, signal: Signal) -> Signal:
    """Return a signal that bears the trace in hand, if there is one; one that bears a trace stays as it is."""
    if runtime.propagator is None or _NAMES[0] in signal.extensions:
        return signal
    kept = inject_context(runtime)
    return msgspec.structs.replace(signal, extensions={**signal.extensions, **kept}) if kept else signal


def trace_of(signal: Signal) -> Mapping[str, str]:
    """Return the trace that a signal bears; empty if it bears none."""
    found = {name: signal.extensions.get(name) for name in _NAMES}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def with_trace(signal: Signal, kept: Mapping[str, str]) -> Signal:
    """Return a signal that bears this trace, and no other one."""
    others = {name: value for name, value in signal.extensions.items() if name not in _NAMES}
    return msgspec.structs.replace(signal, extensions={**others, **kept})
