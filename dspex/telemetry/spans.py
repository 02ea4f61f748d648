"""The spans of a run: the workflow, what it calls, and each attempt at a language model.

A span hangs below that of the call of DSPy that makes it, whatever thread it is made in; contexts of OpenTelemetry do
not follow DSPy into its own threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec

from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from dspex._compat import Attempt, active_call_id, error_name
from dspex.telemetry import content
from dspex.telemetry import conventions as names
from dspex.telemetry.providers import Telemetry
from foundation.telemetry.spans import AnySpan, SpanSpec
from supervision import Runtime

P = ParamSpec("P")

Metric = tuple[str, str, tuple[float, ...]]


def error_type(error: BaseException) -> str:
    """Return what ``error.type`` says of an error: one of few words."""
    name = error_name(error)
    if name in names.ERRORS:
        return name
    found = next((kind.__name__ for kind in type(error).__mro__ if kind.__name__ in names.ERRORS), names.OTHER)
    return "timeout" if found == names.OTHER and isinstance(error, TimeoutError) else found


def was_cancelled(error: BaseException | None) -> bool:
    """Return whether an error says that nobody wants to know any more."""
    return isinstance(error, (asyncio.CancelledError, GeneratorExit))


def _harmless(method: Callable[P, None]) -> Callable[P, None]:
    """Let what fails in telling harm nobody."""

    @wraps(method)
    def told(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception as error:
            teller: Any = args[0]
            teller.telemetry.failed(method.__name__, error)

    return told


class OpenSpan:
    """A span that has begun, and what is measured with it.

    Attributes:
        span: the span.
        agent: whether it is that of an agent.
        attempts: how many attempts at language models were made right below it.
    """

    def __init__(
        self, span: AnySpan, began: float, metric: Metric | None, labels: Mapping[str, Any], agent: bool
    ) -> None:
        self.span = span
        self.began = began
        self.metric = metric
        self.labels = labels
        self.agent = agent
        self.attempts = 0


class RunSpans:
    """The spans of one run.

    Args:
        telemetry: where they go.
        runtime: whose time counts.
        capture: where content is written.
        within: the context of the run.
        workflow: what runs.
        common: attributes of all of them.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        runtime: Runtime,
        capture: content.Capture,
        within: Context,
        workflow: str,
        common: Mapping[str, Any],
    ) -> None:
        self.telemetry = telemetry
        self.capture = capture
        self.common = common
        self._runtime = runtime
        self._open: dict[str, OpenSpan] = {}
        self._closed = False
        labels = {names.OPERATION: names.INVOKE_WORKFLOW, names.WORKFLOW_NAME: workflow}
        self.root = self._start(
            f"{names.INVOKE_WORKFLOW} {workflow}", within, labels, metric=names.WORKFLOW_DURATION, labels=labels
        )

    def now(self) -> float:
        """Return the time."""
        return self._runtime.clock.time()

    def start_span(self, name: str, within: Context, kind: SpanKind, attributes: Mapping[str, Any]) -> AnySpan:
        """Begin a span in a context."""
        spec = SpanSpec(name, kind, {**self.common, **attributes}, name_error=error_type)
        return self.telemetry.tracing.start(self._runtime, within, spec)

    def _start(
        self,
        name: str,
        within: Context,
        attributes: Mapping[str, Any],
        *,
        metric: Metric | None = None,
        labels: Mapping[str, Any] | None = None,
        agent: bool = False,
    ) -> OpenSpan:
        span = self.start_span(name, within, SpanKind.INTERNAL, attributes)
        return OpenSpan(span, self.now(), metric, labels or {}, agent)

    # -- calls of DSPy, by their ids -----------------------------------------------------------------------------------

    def above(self) -> OpenSpan:
        """Return the span of the call of DSPy that is under way here."""
        return self._open.get(active_call_id() or "", self.root)

    @_harmless
    def begin(self, id: str, name: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Begin the span of a call."""
        self._add(id, self._start(name, self.above().span.context, attributes or {}))

    @_harmless
    def begin_agent(self, id: str, name: str) -> None:
        """Begin the span of an agent."""
        labels = {names.OPERATION: names.INVOKE_AGENT, names.AGENT_NAME: name}
        within = self.above().span.context
        spelled = f"{names.INVOKE_AGENT} {name}"
        self._add(id, self._start(spelled, within, labels, metric=names.AGENT_DURATION, labels=labels, agent=True))

    @_harmless
    def begin_tool(self, id: str, name: str, arguments: Any) -> None:
        """Begin the span of a tool; what ends the work of an agent is none."""
        above = self.above()
        if above.agent and name == "finish":
            return
        labels = {names.OPERATION: names.EXECUTE_TOOL, names.TOOL_NAME: name}
        attributes = {**labels, names.TOOL_TYPE: "function"}
        if self.capture.on_spans:
            attributes[names.TOOL_ARGUMENTS] = content.json_text(arguments)
        spelled = f"{names.EXECUTE_TOOL} {name}"
        self._add(id, self._start(spelled, above.span.context, attributes, metric=names.TOOL_DURATION, labels=labels))

    @_harmless
    def begin_lm(self, id: str) -> None:
        """Note a call of a language model: attempts made in it hang below the span above."""
        above = self.above()
        self._add(id, OpenSpan(above.span, above.began, None, {}, above.agent))

    def _add(self, id: str, span: OpenSpan) -> None:
        if self._closed:
            self._end(span, None)
        else:
            self._open[id] = span

    @_harmless
    def end(self, id: str, error: BaseException | None, result: Any = None) -> None:
        """End the span of a call."""
        found = self._open.pop(id, None)
        if found is None:
            return
        if found.metric is names.TOOL_DURATION and self.capture.on_spans and error is None:
            found.span.set({names.TOOL_RESULT: content.json_text(result)})
        self._end(found, error)

    @_harmless
    def end_lm(self, id: str) -> None:
        """Forget a call of a language model; its attempts have ended."""
        self._open.pop(id, None)

    def _end(self, found: OpenSpan, error: BaseException | None) -> None:
        cancelled = was_cancelled(error)
        if cancelled:
            found.span.set({names.OUTCOME: "cancelled"})
        found.span.end(None if cancelled else error)
        if found.metric is not None:
            failed = {} if error is None or cancelled else {names.ERROR_TYPE: error_type(error)}
            self.telemetry.measure(found.metric, self.now() - found.began, {**found.labels, **failed})

    @_harmless
    def close(self, error: BaseException | None) -> None:
        """End the span of the workflow, and those of calls whose end nobody has told, as in a process that died."""
        self._closed = True
        left = {id(found.span): found.span for found in self._open.values()}
        self._open.clear()
        for span in reversed(left.values()):
            if span is not self.root.span:
                span.set({names.OUTCOME: "cancelled"})
                span.end()
        self._end(self.root, error)

    # -- language models -----------------------------------------------------------------------------------------------

    def attempt(self, attempt: Attempt) -> ChatSpan:
        """Begin the span of an attempt at a language model."""
        above = self.above()
        above.attempts += 1
        return ChatSpan(self, attempt, above)

    @_harmless
    def cache_hit(self) -> None:
        """Say that nobody was asked."""
        self.above().span.set({names.CACHE_HIT: True})

    @property
    def trace_id(self) -> str | None:
        """The id of the trace; None while it is held back."""
        address = self.root.span.address
        return None if address is None or not address.is_valid else f"{address.trace_id:032x}"


class ChatSpan:
    """The span of an attempt at a language model."""

    def __init__(self, run: RunSpans, attempt: Attempt, above: OpenSpan) -> None:
        self.telemetry = run.telemetry
        self._run = run
        self._attempt = attempt
        self._number = above.attempts
        self._labels: dict[str, Any] = {}
        self._span: AnySpan | None = None
        self._began = self._last = run.now()
        self._first: float | None = None
        self._answer: Any = None
        self._start(above)

    @_harmless
    def _start(self, above: OpenSpan) -> None:
        self._labels = content.who(self._attempt)
        attributes = {**self._labels, **content.asked(self._attempt), names.ATTEMPT: self._number}
        if self._run.capture.on_spans:
            attributes[names.INPUT_MESSAGES] = content.json_text(content.input_messages(self._attempt))
        name = f"{self._labels[names.OPERATION]} {self._labels[names.REQUEST_MODEL]}".rstrip()
        self._span = self._run.start_span(name, above.span.context, SpanKind.CLIENT, attributes)

    @_harmless
    def piece(self) -> None:
        """Measure a piece of the answer."""
        now = self._run.now()
        if self._first is None:
            self._first = now - self._began
            self.telemetry.measure(names.FIRST_CHUNK, self._first, self._labels)
        else:
            self.telemetry.measure(names.OUTPUT_CHUNK, now - self._last, self._labels)
        self._last = now

    @_harmless
    def answered(self, response: Any) -> None:
        """Note what the answer says of itself."""
        figures = content.answered(response, self._attempt.provider)
        if self._first is not None:
            figures[names.TIME_TO_FIRST_CHUNK] = self._first
        if self._run.capture.on_spans:
            figures[names.OUTPUT_MESSAGES] = content.json_text(content.output_messages(response))
        self._answer = response
        self._set(figures)
        for kind, name in (("input", names.INPUT_TOKENS), ("output", names.OUTPUT_TOKENS)):
            if name in figures:
                labels = {**self._labels, names.TOKEN_TYPE: kind}
                self.telemetry.measure(names.TOKEN_USAGE, figures[name], labels)

    @_harmless
    def end(self, error: BaseException | None) -> None:
        """End it, and measure how long it took."""
        cancelled = was_cancelled(error)
        if cancelled:
            self._set({names.OUTCOME: "cancelled"})
        if self._span is not None:
            self._span.end(None if cancelled else error)
        failed = {} if error is None or cancelled else {names.ERROR_TYPE: error_type(error)}
        self.telemetry.measure(names.OPERATION_DURATION, self._run.now() - self._began, {**self._labels, **failed})
        if self._run.capture.as_events:
            self._tell(failed)

    def _set(self, attributes: Mapping[str, Any]) -> None:
        if self._span is not None:
            self._span.set(attributes)

    def _tell(self, failed: Mapping[str, Any]) -> None:
        attributes: dict[str, Any] = {**self._run.common, **self._labels, **content.asked(self._attempt), **failed}
        attributes[names.INPUT_MESSAGES] = content.input_messages(self._attempt)
        if self._answer is not None:
            attributes.update(content.answered(self._answer, self._attempt.provider))
            attributes[names.OUTPUT_MESSAGES] = content.output_messages(self._answer)
        within = None if self._span is None else self._span.context
        self.telemetry.event(names.INFERENCE_DETAILS, attributes, within)
