"""How probable a language model has found each answer, where it tells that beside its choice."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import dspy


def told_choice(response: Any) -> Mapping[str, float]:
    """Return the probability of each value that an answer tells, as the model writes it; none if it tells none."""
    told = getattr(response, "provider_data", None)
    shares = told.get("choices") if isinstance(told, Mapping) else None
    return shares if isinstance(shares, Mapping) else {}


class ToldChoice:
    """Notes the probabilities that came with the last answer of a language model.

    Attributes:
        shares: the probability of each value, as the model writes it; none if it told none.
    """

    def __init__(self) -> None:
        self.shares: Mapping[str, float] = {}

    @property
    def history(self) -> ToldChoice:
        """This, as the history of one more calling module, which is how DSPy tells of an answer."""
        return self

    def __len__(self) -> int:
        """Return 0: it keeps no history."""
        return 0

    def append(self, entry: Mapping[str, Any]) -> None:
        """Note an answer."""
        self.shares = told_choice(entry.get("response"))

    @contextmanager
    def watched(self) -> Generator[None]:
        """Have the answers noted that come in this context."""
        with dspy.context(caller_modules=[self, *(dspy.settings.caller_modules or ())]):
            yield
