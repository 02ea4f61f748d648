"""The callback of DSPy that begins and ends the spans of a run.

DSPy calls it in the thread in which the work is done. Of a program in another process it is called by proxy, in the
process of the caller, in the same order.
"""

from __future__ import annotations

from typing import Any

import dspy

from dspex._compat import BaseCallback
from dspex.telemetry.spans import RunSpans


class SpanCallback(BaseCallback):  # type: ignore[misc]
    """Begins and ends spans.

    Args:
        spans: of the run.
    """

    def __init__(self, spans: RunSpans) -> None:
        self._spans = spans

    def __deepcopy__(self, memo: dict[int, Any]) -> SpanCallback:
        return self

    def on_module_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin a module, or an agent."""
        name = type(instance).__name__
        begin = self._spans.begin_agent if isinstance(instance, dspy.ReAct) else self._spans.begin
        begin(call_id, name)

    def on_module_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """End it."""
        self._spans.end(call_id, exception)

    def on_lm_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Note where attempts belong."""
        self._spans.begin_lm(call_id)

    def on_lm_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """Forget it."""
        self._spans.end_lm(call_id)

    def on_adapter_format_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin to write a prompt."""
        self._spans.begin(call_id, f"{type(instance).__name__}.format")

    def on_adapter_format_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """End it."""
        self._spans.end(call_id, exception)

    def on_adapter_parse_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin to read an answer."""
        self._spans.begin(call_id, f"{type(instance).__name__}.parse")

    def on_adapter_parse_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """End it."""
        self._spans.end(call_id, exception)

    def on_tool_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin a tool."""
        self._spans.begin_tool(call_id, str(instance.name), inputs.get("kwargs", inputs))

    def on_tool_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """End it."""
        self._spans.end(call_id, exception, outputs)

    def on_evaluate_start(self, call_id: str, instance: Any, inputs: dict[str, Any]) -> None:
        """Begin an evaluation."""
        self._spans.begin(call_id, type(instance).__name__)

    def on_evaluate_end(self, call_id: str, outputs: Any, exception: BaseException | None = None) -> None:
        """End it."""
        self._spans.end(call_id, exception)
