"""What surrounds the reading of an answer: how it ended, whether it was shown, who is told, which model is next."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import dspy
from dspy.clients.call_context import StreamProgress, adapter_fallback_scope
from dspy.clients.legacy_outputs import value

#: Under which key the settings of a run have who is told of answers that cannot be read.
PARSING = "dspex_parsing"
#: The output fields that DSPy's modules add for a model's own thoughts.
THOUGHTS = frozenset({"reasoning", "rationale", "next_thought"})


class FinishReason(list[Any]):
    """How the last answer ended: a history that keeps nothing else.

    Attributes:
        cut: whether it was cut off where it was as long as it may be.
        refused: whether the model has refused, or a filter has taken it away.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forget()

    def forget(self) -> None:
        """Begin with another answer."""
        self.cut = self.refused = False

    @property
    def history(self) -> FinishReason:
        """This, as the history of one more calling module, which is how DSPy tells of an answer."""
        return self

    def append(self, entry: Any) -> None:
        """Note how an answer ended."""
        reasons = [*_reasons(entry.get("response"))]
        self.cut = "length" in reasons
        self.refused = "content_filter" in reasons or "refusal" in reasons

    @contextmanager
    def watched(self) -> Generator[None]:
        """Have the answers noted that come in this context."""
        with dspy.context(caller_modules=[self, *(dspy.settings.caller_modules or ())]):
            yield


def _reasons(response: Any) -> Generator[Any]:
    for each in response if isinstance(response, (list, tuple)) else [response]:
        yield value(each, "finish_reason")
        for choice in value(each, "choices", []) or []:
            yield value(choice, "finish_reason")
            if value(value(choice, "message"), "refusal"):
                yield "refusal"


class ShownAnswer:
    """Knows whether a reader has seen a part of the answer to a question; made when the question is asked first."""

    def __init__(self, progress: StreamProgress) -> None:
        self._progress = progress
        self._pieces = self._shown()

    def begun(self) -> bool:
        """Return whether a reader has seen a part of the answer, or may have."""
        now = self._shown()
        return self._progress.emitted and (now is None or now != self._pieces)

    def _shown(self) -> int | None:
        """Return how many pieces of this predictor's answers were shown; None if that cannot be known here."""
        shown = getattr(dspy.settings.send_stream, "shown", None)
        return None if shown is None else int(shown(dspy.settings.caller_predict))


@contextmanager
def fallback_scope() -> Generator[ShownAnswer]:
    """Return what knows, while this context lasts, whether a part of an answer was shown."""
    with adapter_fallback_scope() as progress:
        yield ShownAnswer(progress)


def parsing_reporter() -> Any:
    """Return who is told of answers that cannot be read; None if nobody is."""
    return dspy.settings.get(PARSING)


def next_models(lm: Any) -> Sequence[Any]:
    """Return the language models that can be asked instead of one."""
    found: Sequence[Any] = getattr(lm, "dspex_chain", ())
    return found
