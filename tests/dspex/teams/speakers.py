"""Members for teams that talk: they say what a test wants, one thing after another."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy

from dspex.teams import Member, Team

#: Who was asked what, in order.
HEARD: list[tuple[str, dict[str, Any]]] = []
AWAY = dspy.LMTransportError("away")


class Speaker(dspy.Module):
    """Says one thing after another, and the last one again and again.

    What it says may be fields, a label, an error to raise, or a function of the inputs that returns or awaits any of
    these.
    """

    def __init__(self, name: str, *says: object) -> None:
        super().__init__()
        self.name = name
        self.says = list(says)

    def _next(self, inputs: dict[str, Any]) -> Any:
        HEARD.append((self.name, inputs))
        found = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        return found(inputs) if callable(found) else found

    def forward(self, **inputs: Any) -> Any:
        """Say it."""
        return _said(self._next(inputs))

    async def aforward(self, **inputs: Any) -> Any:
        """Say it, in its own time."""
        found = self._next(inputs)
        return _said(await found if hasattr(found, "__await__") else found)


def _said(found: Any) -> Any:
    if isinstance(found, BaseException):
        raise found
    return dspy.Prediction(**found) if isinstance(found, Mapping) else dspy.Prediction(label=found)


def speakers(*says: object, **options: Any) -> Team:
    """A team of a, b, c and so on; each says one thing after another if it is given a list."""
    names = "abcdefghij"[: len(says)]
    members = [
        Member(name, Speaker(name, *(one if isinstance(one, list) else [one])))
        for name, one in zip(names, says, strict=True)
    ]
    return Team("team", tuple(members), **{"field": "label", **options})


def order(answer: Any) -> str:
    """Whose turn it was, one after another."""
    return "".join(turn.member for turn in answer.transcript.turns)


def heard(member: str) -> list[dict[str, Any]]:
    """What a member was asked."""
    return [inputs for name, inputs in HEARD if name == member]
