"""The spans of one piece of work: recorded at once, or buffered until the sampling decision."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import msgspec
from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
)

from foundation.telemetry.context import facts_of, has_private_text
from supervision import Refuse
from supervision.logs import get_logger

_log: Any = get_logger("foundation.telemetry")

#: How many spans of a trace are buffered; what is over is dropped.
LONGEST = 1000

_HELD = otel.create_key("foundation.held")


class SpanSpec(msgspec.Struct, frozen=True):
    """What is known of a span when it begins.

    Attributes:
        name: its name.
        kind: what stands at its ends.
        attributes: facts about it.
        link: another span that it comes from.
        name_error: returns what an error is called; of the error, nothing else is written then. None to write what it
            says, too.
    """

    name: str
    kind: SpanKind
    attributes: Mapping[str, Any] = {}
    link: AnySpan | None = None
    name_error: Callable[[BaseException], str] | None = None


class RecordedSpan:
    """A span that is recorded at once. Whatever records it may fail: that is logged, and harms nobody.

    Attributes:
        context: where what belongs to it happens.
    """

    def __init__(self, tracer: Tracer, within: Context, spec: SpanSpec, began: int | None = None) -> None:
        link = None if spec.link is None else spec.link.address
        links = [] if link is None else [Link(link)]
        attributes = dict(spec.attributes)
        self._name_error = spec.name_error
        self._span: Span = INVALID_SPAN
        with _harmless("start"):
            self._span = tracer.start_span(spec.name, within, spec.kind, attributes, links=links, start_time=began)
        self.context = trace.set_span_in_context(self._span, within)

    @property
    def address(self) -> SpanContext | None:
        """What another span can link to."""
        return self._span.get_span_context()

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Say more of it."""
        self._span.set_attributes(dict(attributes))

    def end(self, error: BaseException | None = None, ended: int | None = None) -> None:
        """End it; with an error it is marked as failed."""
        with _harmless("end"):
            if error is not None:
                self._mark(error.error if isinstance(error, Refuse) else error, ended)
            self._span.end(ended)

    def _mark(self, error: BaseException, ended: int | None) -> None:
        name = type(error).__qualname__ if self._name_error is None else self._name_error(error)
        self._span.set_attribute("error.type", name)
        if self._name_error is not None or has_private_text(error):
            self._span.set_status(Status(StatusCode.ERROR, name))
            return
        for key, fact in facts_of(error).items():
            self._span.set_attribute(f"foundation.fact.{key}", fact if isinstance(fact, (int, float)) else str(fact))
        self._span.record_exception(error, timestamp=ended)
        self._span.set_status(Status(StatusCode.ERROR, str(error)))


@contextmanager
def _harmless(what: str) -> Generator[None]:
    try:
        yield
    except Exception as error:
        _log.warning("span_not_recorded", at=what, error=repr(error))


class BufferedSpan:
    """A span that is buffered: `BufferedSpan.trace` decides whether it is ever recorded."""

    def __init__(self, trace: BufferedTrace, above: BufferedSpan | None, within: Context, spec: SpanSpec) -> None:
        self.trace = trace
        self._above = above
        self._within = within
        self._spec = spec
        self._began = trace.now()
        self._ended: int | None = None
        self._error: BaseException | None = None
        self._more: dict[str, Any] = {}
        self.written: RecordedSpan | None = None
        self.context = otel.set_value(_HELD, self, within)

    @property
    def address(self) -> SpanContext | None:
        """What another span can link to: nothing, while it is not recorded."""
        return None if self.written is None else self.written.address

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Say more of it."""
        with self.trace.lock:
            self._more.update(attributes)
            if self.written is not None:
                self.written.set(attributes)

    def end(self, error: BaseException | None = None) -> None:
        """End it; with an error the whole trace is written."""
        with self.trace.lock:
            self._ended = self.trace.now()
            self._error = error
            if self.written is not None:
                self.written.end(error, self._ended)
            elif error is not None:
                self.trace.keep()

    def write(self) -> None:
        """Record it, with the times when it began and ended."""
        above = None if self._above is None else self._above.written
        within = self._within if above is None else above.context
        self.written = RecordedSpan(self.trace.tracer, within, self._spec, self._began)
        self.written.set(self._more)
        if self._ended is not None:
            self.written.end(self._error, self._ended)


class DroppedSpan:
    """A span of a trace that is too long already."""

    def __init__(self, trace: BufferedTrace, within: Context) -> None:
        self._trace = trace
        self.context = within

    address: SpanContext | None = None

    def set(self, attributes: Mapping[str, Any]) -> None:
        """Say more of it, to nobody."""

    def end(self, error: BaseException | None = None) -> None:
        """End it; with an error the trace is written, though without this span."""
        if error is not None:
            self._trace.keep()


AnySpan: TypeAlias = RecordedSpan | BufferedSpan | DroppedSpan


class BufferedTrace:
    """A trace that was not chosen to be kept: it is written after all as soon as something in it fails.

    Its spans may begin and end in any thread.

    Args:
        tracer: where to.
        now: the time, in nanoseconds since the epoch.
        bits: returns that many random bits.
    """

    def __init__(self, tracer: Tracer, now: Callable[[], int], bits: Callable[[int], int]) -> None:
        self.tracer = tracer
        self.now = now
        self.kept = False
        self.lock = threading.RLock()
        self._spans: list[BufferedSpan] = []
        #: Stands for the trace in contexts, so that spans that others make in it are not written either.
        self._stand_in = NonRecordingSpan(SpanContext(bits(128) | 1, bits(64) | 1, is_remote=False))

    def begin(self, within: Context, spec: SpanSpec) -> BufferedSpan:
        """Begin the first span."""
        span = BufferedSpan(self, None, within, spec)
        span.context = trace.set_span_in_context(self._stand_in, span.context)
        self._spans.append(span)
        return span

    def go_on(self, above: BufferedSpan, within: Context, spec: SpanSpec) -> AnySpan:
        """Begin another span, below one of them."""
        with self.lock:
            if self.kept:
                assert above.written is not None
                return RecordedSpan(self.tracer, above.written.context, spec)
            if len(self._spans) >= LONGEST:
                return DroppedSpan(self, within)
            span = BufferedSpan(self, above, within, spec)
            self._spans.append(span)
            return span

    def keep(self) -> None:
        """Record all that was buffered, those above first."""
        with self.lock:
            self.kept = True
            spans, self._spans = self._spans, []
            for span in spans:
                span.write()


def held_span(within: Context) -> BufferedSpan | None:
    """Return the span of a context, if it is buffered, or was."""
    found = otel.get_value(_HELD, within)
    return found if isinstance(found, BufferedSpan) else None


def start_span(
    within: Context, spec: SpanSpec, tracer: Tracer, hold_back: Callable[[], BufferedTrace | None]
) -> AnySpan:
    """Begin a span.

    Args:
        within: the context it is in.
        spec: what is known of it.
        tracer: what writes it.
        hold_back: asked when it is the first of its trace: a new trace that is buffered, or None to record it.
    """
    above = held_span(within)
    if above is not None:
        return above.trace.go_on(above, within, spec)
    first = not trace.get_current_span(within).get_span_context().is_valid
    held = hold_back() if first else None
    return RecordedSpan(tracer, within, spec) if held is None else held.begin(within, spec)
