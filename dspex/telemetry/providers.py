"""Where spans, metrics and events of programs go: to the providers of OpenTelemetry that the process has set up.

Needs ``opentelemetry-api``, the extra ``otel``; see `dspex.telemetry.observation.observing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import _logs, metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, MeterProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TracerProvider

from dspex.telemetry import conventions as names
from foundation import __version__
from foundation.telemetry.tracing import Tracing
from supervision import Runtime
from supervision.logs import get_logger

_log: Any = get_logger("dspex")


class Telemetry:
    """What a runtime tells OpenTelemetry of its programs.

    Args:
        tracing: begins spans; the runtime's propagator, if that is one, or else one that keeps all traces.
        meter_provider: where metrics go; OpenTelemetry's global one if None.
        logger_provider: where events go; OpenTelemetry's global one if None.

    Attributes:
        failures: how often something could not be told. Each kind is logged once, and harms nobody.
    """

    def __init__(
        self,
        tracing: Tracing | None = None,
        *,
        meter_provider: MeterProvider | None = None,
        logger_provider: Any = None,
    ) -> None:
        self.tracing = Tracing() if tracing is None else tracing
        meter = metrics.get_meter("dspex", __version__, meter_provider, names.SCHEMA)
        self._histograms: dict[str, Histogram] = {
            name: meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=buckets)
            for name, unit, buckets in names.METRICS
        }
        self._events = _logs.get_logger("dspex", __version__, logger_provider, names.SCHEMA)
        self.failures = 0
        self._known: set[str] = set()

    def measure(self, metric: tuple[str, str, tuple[float, ...]], value: float, attributes: Mapping[str, Any]) -> None:
        """Record a value of a metric."""
        self._histograms[metric[0]].record(value, dict(attributes))

    def event(
        self, name: str, attributes: Mapping[str, Any], within: Context | None = None, *, trace: str | None = None
    ) -> None:
        """Emit an event, as part of a trace if ``within`` is in one, or its id is given."""
        if trace is not None:
            within = _in_trace(int(trace, 16))
        record = _logs.LogRecord(event_name=name, attributes=dict(attributes), context=within)
        self._events.emit(record)

    def failed(self, what: str, error: BaseException) -> None:
        """Note that something could not be told."""
        self.failures += 1
        kind = f"{what}: {type(error).__name__}"
        if kind not in self._known:
            self._known.add(kind)
            _log.warning("telemetry_failed", what=what, error=type(error).__name__)


def _in_trace(trace_id: int) -> Context:
    """Return a context in a trace, in none of its spans."""
    parent = SpanContext(trace_id, trace_id & (1 << 64) - 1 or 1, is_remote=True, trace_flags=TraceFlags(1))
    return trace.set_span_in_context(NonRecordingSpan(parent), Context())


def telemetry_of(runtime: Runtime) -> Telemetry | None:
    """Return what a runtime tells OpenTelemetry of its programs; None if nobody wants to know.

    Somebody does if the runtime's propagator traces, if the process has set up a provider, or if a `Telemetry` was put
    into ``runtime.shared``.
    """
    found: Telemetry | None = runtime.shared.get(Telemetry)
    if found is None:
        propagator = runtime.propagator
        tracing = propagator if isinstance(propagator, Tracing) else None
        if tracing is None and not _set_up():
            return None
        found = runtime.shared[Telemetry] = Telemetry(tracing)
    return found


def _set_up() -> bool:
    """Return whether the process has set up OpenTelemetry: until then, the API gives out stand-ins of its own."""
    providers: tuple[tuple[TracerProvider | MeterProvider, str], ...] = (
        (trace.get_tracer_provider(), "opentelemetry.trace"),
        (metrics.get_meter_provider(), "opentelemetry.metrics."),
    )
    return any(not type(provider).__module__.startswith(own) for provider, own in providers)
