"""What came of an answer that could not be read: DSPy's own errors, with what may be told of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy

from foundation.programs import Unanswered


class UnparsedAnswer(dspy.AdapterParseError, Unanswered):  # type: ignore[misc]
    """No answer could be read, whatever was tried.

    Its text does not quote the answer, which may hold what is nobody's business; ``lm_response`` has it.

    Attributes:
        fields: what is wrong with each output field.
        attempts: how many calls of a model it has cost; None if that is not known.
        adapter_name: the adapter that read last.
        lm_response: the last answer.
    """

    word = "unparsed"

    def __init__(self, error: Any, fields: Mapping[str, str], attempts: int | None = None, why: str = "") -> None:
        wrong = "; ".join(f"{name} {what}" for name, what in fields.items())
        after = "" if attempts is None else f", after {attempts} call{'s' * (attempts > 1)}"
        text = f"the answer of the language model cannot be read{after}: {wrong}{why}"
        dspy.AdapterParseError.__init__(
            self, error.adapter_name, error.signature, error.lm_response, parsed_result=error.parsed_result
        )
        self.args = (text,)
        self.message = text
        self.fields = dict(fields)
        self.attempts = attempts

    def told(self) -> dict[str, Any]:
        """Return what a caller may know."""
        cost = {} if self.attempts is None else {"attempts": self.attempts}
        return {"fields": self.fields, **cost, "adapter": self.adapter_name}


class AnswerRefused(dspy.LMError, Unanswered):  # type: ignore[misc]
    """The language model has refused to answer, or a filter has taken its answer away: asking again is no use."""

    word = "refused"
    default_code = "refused"


class PromptTooLong(dspy.ContextWindowExceededError, Unanswered):  # type: ignore[misc]
    """The prompt is longer than what any of the language models that were asked can read.

    Attributes:
        attempts: how many calls of a model it has cost; None if that is not known.
    """

    word = "context-window"

    def __init__(self, error: Any, attempts: int | None = None) -> None:
        dspy.ContextWindowExceededError.__init__(self, model=error.model, message=error.message)
        self.args = ("the prompt is longer than what its language model can read",)
        self.attempts = attempts

    def told(self) -> dict[str, Any]:
        """Return what a caller may know."""
        return {} if self.attempts is None else {"attempts": self.attempts}
