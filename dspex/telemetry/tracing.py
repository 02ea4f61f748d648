"""A run as a workflow of OpenTelemetry: its span, under which all others of the run are."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import context as otel

from dspex.telemetry.callback import SpanCallback
from dspex.telemetry.content import Capture
from dspex.telemetry.providers import Telemetry
from dspex.telemetry.spans import RunSpans
from supervision import Runtime


@contextmanager
def traced(
    runtime: Runtime, telemetry: Telemetry, workflow: str, common: Mapping[str, Any], capture: Capture
) -> Generator[tuple[RunSpans, SpanCallback]]:
    """Trace a run in a ``with`` block, in one task.

    Args:
        runtime: where it runs.
        telemetry: where it is told.
        workflow: the name of what runs.
        common: attributes of all spans of the run.
        capture: where content is written.

    Returns:
        The spans of the run, and what DSPy has to call.
    """
    spans = RunSpans(telemetry, runtime, capture, otel.get_current(), workflow, common)
    token = otel.attach(spans.root.span.context)
    failed: BaseException | None = None
    try:
        yield spans, SpanCallback(spans)
    except BaseException as error:
        failed = error
        raise
    finally:
        otel.detach(token)
        spans.close(failed)
