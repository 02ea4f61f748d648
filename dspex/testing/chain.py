"""A scripted chain: agents in a row, each as good as its wording is worth. For tests and benchmarks of searches."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import dspy

from dspex.testing.engine import ScriptedEngine

_FIELD = re.compile(r"\[\[ ## (\w+) ## \]\]\n(.*?)(?:\n\n|\Z)", re.DOTALL)
_WANTED = re.compile(r"`\[\[ ## (?!completed)(\w+) ## \]\]`")


class ScriptedChain(dspy.Module):  # type: ignore[misc]
    """Agents in a row: each reads what the one before it has written; the first one reads ``text``.

    Args:
        fields: what they write, in their order. Each is a part of the program, by the name of its field.
    """

    def __init__(self, fields: Sequence[str] = ("draft", "plan", "label")) -> None:
        super().__init__()
        self.fields = tuple(fields)
        for before, field in zip(("text", *fields), fields, strict=False):
            setattr(self, field, dspy.Predict(f"{before} -> {field}"))

    def forward(self, text: str) -> Any:
        """Run it."""
        found: Any = dspy.Prediction(text=text)
        for before, field in zip(("text", *self.fields), self.fields, strict=False):
            found = getattr(self, field)(**{before: found[before]})
        return found

    async def aforward(self, text: str) -> Any:
        """Run it."""
        found: Any = dspy.Prediction(text=text)
        for before, field in zip(("text", *self.fields), self.fields, strict=False):
            found = await getattr(self, field).acall(**{before: found[before]})
        return found


class ChainEngine(ScriptedEngine):
    """Answers for the agents of a `ScriptedChain`: each is right as often as its wording is worth, and says so.

    The last one gives the right label if all have been right. Answers to different wordings are different texts.

    Args:
        labels: for each text the right label.
        worths: for each field, and the wording of its agent, how often that is right; others are right in ``base``.
        base: see ``worths``.
        shared: in which share of the cases luck is that of the text alone, the same for all wordings.
        options: for `ScriptedEngine`.
    """

    def __init__(
        self,
        labels: Mapping[str, str],
        worths: Mapping[str, Mapping[str, float]],
        *,
        base: float = 0.6,
        shared: float = 0.6,
        **options: Any,
    ) -> None:
        super().__init__(labels, base=base, **options)
        self._worths, self._shared = worths, shared

    def right(self, field: str, wording: str, text: str) -> bool:
        """Return whether an agent with this wording is right about a text."""
        own = self._number(text, field, wording, "which") >= self._shared
        luck = self._number(text, field, wording) if own else self._number(text, field)
        return luck < self._worths[field].get(wording, self._chances[0])

    def answer(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the text of the answer to a conversation."""
        asked = messages[-1]["content"]
        *others, field = _WANTED.findall(asked.rpartition("Respond with")[2])
        given = next(iter(_FIELD.findall(asked)))[1].strip()
        wording = messages[0]["content"].rpartition("objective is:")[2].strip()
        text, _, story = given.partition("; ")
        right = self.right(field, wording, text)
        said = f"{given}; {field} {self._number(wording):.6f} {'right' if right else 'wrong'}"
        if field == list(self._worths)[-1]:
            wrong = [label for label in self.choices if label != self.labels[text]]
            said = self.labels[text] if right and "wrong" not in story else wrong[0]
        written = [
            f"[[ ## {name} ## ]]\n{text}\n\n" for name, text in [*((one, "So.") for one in others), (field, said)]
        ]
        return "".join([*written, "[[ ## completed ## ]]"])


def step_right(example: Any, prediction: Any, trace: Any = None) -> float:  # noqa: ARG001
    """Return 1 if an agent of a `ScriptedChain` but the last has been right itself: its own metric."""
    said = str(next(iter(prediction.values())))
    return float(said.endswith("right"))
