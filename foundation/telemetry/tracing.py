"""Traces through actors, by OpenTelemetry's conventions for messaging: one trace follows call → actor → actor.

Needs ``opentelemetry-api``, the extra ``otel``; where spans go to is the business of the SDK that the process sets up,
for example by ``opentelemetry-instrument``.

Each message gets a span of kind PRODUCER where it is sent, ``call Counter`` or ``cast Counter``, and one of kind
CONSUMER where it is handled, ``process Counter``, below it and linked to it. Names have the class of an actor in them,
never its id; its path is an attribute of the CONSUMER.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from random import Random
from types import CoroutineType
from typing import Any
from weakref import WeakValueDictionary

import msgspec
from opentelemetry import context as otel
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from foundation._version import __version__
from foundation.telemetry.context import ContextPropagator
from foundation.telemetry.spans import AnySpan, BufferedSpan, BufferedTrace, SpanSpec, held_span, start_span
from supervision import Actor, Call, Ref, Runtime, Stop
from supervision.errors import BadOption
from supervision.messages import SystemRequest

_TRACE_CONTEXT = TraceContextTextMapPropagator()
#: In ``tracestate``: the trace was held back, and nobody has decided that it is not to be kept.
_HELD_BACK = ("foundation", "held")


class _Load(msgspec.Struct, frozen=True):
    span: AnySpan
    facts: Mapping[str, Any] | None


class Tracing(ContextPropagator):
    """A `supervision.Propagator` of facts and of traces: ``Runtime(propagator=Tracing())``.

    Args:
        keep: the share of traces that are kept, from 0 to 1. The others are held back, and written after all, with
            the times when things happened, as soon as a span in them fails: errors are always kept. Spans that other
            libraries make within such a trace are not. A trace that comes from outside is kept or not as its sender
            decided.
        tracer: what writes spans; OpenTelemetry's global one if None.
        random: decides which traces are kept; the runtime's own if None.

    Raises:
        BadOption: ``keep`` is no share.
    """

    def __init__(
        self,
        keep: float = 1.0,
        *,
        tracer: Tracer | None = None,
        random: Random | None = None,
    ) -> None:
        if isinstance(keep, bool) or not isinstance(keep, (int, float)) or not 0 <= keep <= 1 or math.isnan(keep):
            raise BadOption("keep", keep, "give the share of traces to keep, from 0 to 1")
        self._keep = keep
        self._tracer = trace.get_tracer("foundation", __version__) if tracer is None else tracer
        self._random = random
        #: Spans that are held back, by the ``traceparent`` with which work in them is kept.
        self._held: WeakValueDictionary[str, BufferedSpan] = WeakValueDictionary()

    def send(self, target: Ref, message: Any, call: Call[Any] | None) -> Any:
        """Begin the span of sending; that of a call ends with its answer."""
        if isinstance(message, SystemRequest):
            return None
        operation = "cast" if call is None else "call"
        span = self.start(
            target.runtime, otel.get_current(), _span_spec(operation, "send", SpanKind.PRODUCER, target, message)
        )
        if call is None:
            span.end()
        else:
            call.add_done_callback(lambda call: span.end(_error_of(call)))
        return _Load(span, super().send(target, message, call))

    def handle(self, actor: Actor, message: Any, carried: Any, proceed: Callable[[], Any]) -> Any:
        """Have a message handled within a span of its own."""
        sent: AnySpan = carried.span
        spec = _span_spec("process", "process", SpanKind.CONSUMER, actor.ref, message, sent)
        span = self.start(actor.runtime, sent.context, spec)
        token = otel.attach(span.context)
        try:
            facts = carried.facts
            result = proceed() if facts is None else super().handle(actor, message, facts, proceed)
            if type(result) is CoroutineType:
                return _rest(result, span, token)
        except BaseException as error:
            _end(span, token, error)
            raise
        _end(span, token)
        return result

    @contextmanager
    def request(self, runtime: Runtime, name: str, headers: Mapping[str, str], **attributes: Any) -> Generator[None]:
        """Trace a request from outside, which may say in its headers to what trace it belongs (``traceparent``)."""
        span = self.start(runtime, propagate.extract(headers), SpanSpec(name, SpanKind.SERVER, attributes))
        token = otel.attach(span.context)
        try:
            yield
        except BaseException as error:
            _end(span, token, error)
            raise
        _end(span, token)

    def inject(self) -> Mapping[str, str]:
        """Return the trace in hand as ``traceparent`` and ``tracestate``, to be kept with what belongs to it."""
        kept: dict[str, str] = {}
        context = otel.get_current()
        held = held_span(context)
        written = None if held is None else held.written
        _TRACE_CONTEXT.inject(kept, context if written is None else written.context)
        if held is not None and written is None and kept:
            self._held[kept["traceparent"]] = held
            kept["tracestate"] = "=".join(_HELD_BACK)
        return kept

    @contextmanager
    def resume(
        self, runtime: Runtime, kept: Mapping[str, str], ref: Ref | None = None, message: Any = None
    ) -> Generator[None]:
        """Go on with the trace that something was kept with, for the time of a block.

        If an actor does the work in it, the block is a span of its own: ``process Counter``. A trace that was held back
        goes on being held back; after a restart it is another one, as its first spans are gone.
        """
        context = self._kept_context(kept)
        if ref is None:
            token = otel.attach(context)
            try:
                yield
            finally:
                otel.detach(token)
            return
        span = self.start(runtime, context, _span_spec("process", "process", SpanKind.CONSUMER, ref, message))
        token = otel.attach(span.context)
        try:
            yield
        except BaseException as error:
            _end(span, token, error)
            raise
        _end(span, token)

    def _kept_context(self, kept: Mapping[str, str]) -> Context:
        held = self._held.get(kept.get("traceparent", ""))
        if held is not None:
            return held.context
        context = _TRACE_CONTEXT.extract(kept, Context())
        state = trace.get_current_span(context).get_span_context().trace_state
        return Context() if state.get(_HELD_BACK[0]) == _HELD_BACK[1] else context

    def start(self, runtime: Runtime, within: Context, spec: SpanSpec) -> AnySpan:
        """Begin a span that a library makes by itself; it has to end it, in whatever way. Any thread may call it.

        Args:
            runtime: whose time and chance count.
            within: the context in which it is; its own context is ``span.context``.
            spec: what is known of it.
        """

        def hold_back() -> BufferedTrace | None:
            random = self._random or runtime.random
            if self._keep >= 1 or random.random() < self._keep:
                return None
            clock = runtime.clock
            offset = clock.wall_time() - clock.time()
            return BufferedTrace(self._tracer, lambda: int((offset + clock.time()) * 1e9), random.getrandbits)

        return start_span(within, spec, self._tracer, hold_back)


async def _rest(handler: CoroutineType[Any, Any, Any], span: AnySpan, token: Any) -> Any:
    try:
        result = await handler
    except BaseException as error:
        _end(span, token, error)
        raise
    _end(span, token)
    return result


def _end(span: AnySpan, token: Any, error: BaseException | None = None) -> None:
    span.end(None if isinstance(error, (Stop, GeneratorExit)) else error)
    otel.detach(token)


def _error_of(call: Call[Any]) -> BaseException | None:
    return None if call.cancelled() else call.exception()


def _span_spec(
    operation: str, type_: str, kind: SpanKind, actor: Ref, message: Any, link: AnySpan | None = None
) -> SpanSpec:
    destination = actor.kind.__name__
    attributes = {
        "messaging.system": "foundation",
        "messaging.operation.name": operation,
        "messaging.operation.type": type_,
        "messaging.destination.name": destination,
        "foundation.message.type": type(message).__qualname__,
    }
    if kind is SpanKind.CONSUMER:
        attributes["foundation.actor.path"] = actor.path
    return SpanSpec(f"{operation} {destination}", kind, attributes, link)
