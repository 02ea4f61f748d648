"""The last full answers of a team, by their inputs: what a lesser answer may be taken from."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

#: So many are kept.
MOST = 1000


class RecentAnswer(NamedTuple):
    """A full answer, and when it was given."""

    prediction: Any
    at: float


class RecentAnswers:
    """Keeps the last full answers of one version of a team.

    Args:
        most: so many; the oldest are forgotten.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._answers: OrderedDict[str, RecentAnswer] = OrderedDict()

    def add(self, inputs: Mapping[str, Any], prediction: Any, at: float) -> None:
        """Keep an answer, unless its inputs cannot be written down, or it cannot be copied."""
        key = _key(inputs)
        if key is None:
            return
        try:
            kept = copy.deepcopy(prediction)
        except Exception:  # of the program's own making
            return
        self._answers[key] = RecentAnswer(kept, at)
        self._answers.move_to_end(key)
        if len(self._answers) > self._most:
            self._answers.popitem(last=False)

    def find(self, inputs: Mapping[str, Any]) -> RecentAnswer | None:
        """Return the last full answer to inputs; None if there is none."""
        key = _key(inputs)
        return None if key is None else self._answers.get(key)


def _key(inputs: Mapping[str, Any]) -> str | None:
    """Return what is the same for the same inputs; None if that cannot be said."""
    try:
        return sha256(json.dumps(inputs, sort_keys=True, default=_parts).encode()).hexdigest()
    except (TypeError, ValueError, RecursionError):
        return None


def _parts(value: Any) -> Any:
    """Return a value of DSPy's or pydantic's own as its fields.

    Raises:
        TypeError: it has none.
    """
    dump = getattr(value, "model_dump", None)
    if dump is None:
        raise TypeError(type(value).__name__)
    return [type(value).__name__, dump(mode="json")]
