"""Members that tests tell what to say."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import dspy

from dspex.teams import Member, Team

#: Who was asked, in order.
ASKED: list[str] = []
AWAY = dspy.LMTransportError("away")


class Says(dspy.Module):
    """Says something, raises it, or makes it of its inputs."""

    def __init__(self, name: str, what: object) -> None:
        super().__init__()
        self.name = name
        self.what = what

    def __deepcopy__(self, memo: object) -> Says:
        return Says(self.name, self.what)

    def forward(self, **inputs: Any) -> Any:
        """Answer at once."""
        ASKED.append(self.name)
        return _said(self.what(inputs) if callable(self.what) else self.what)

    async def aforward(self, **inputs: Any) -> Any:
        """Answer, after what is to be waited for."""
        ASKED.append(self.name)
        found = self.what(inputs) if callable(self.what) else self.what
        return _said(await found if asyncio.iscoroutine(found) else found)


def _said(found: Any) -> Any:
    if isinstance(found, BaseException):
        raise found
    return found if isinstance(found, dspy.Prediction) else dspy.Prediction(label=found)


def likely(label: str, **shares: float) -> Any:
    """An answer with probabilities."""
    return dspy.Prediction(label=label, probabilities=shares)


def team(what: Mapping[str, object], **options: Any) -> Team:
    """A team of members by their names, and what each says."""
    members = (Member(name, Says(name, one)) for name, one in what.items())
    return Team("team", tuple(members), **{"field": "label", **options})


def outcomes(answer: Any) -> list[str]:
    """What became of the members."""
    return [one.outcome for one in answer.ballot]


async def asked(program: Any, how: str, **inputs: Any) -> Any:
    """Ask a program: ``sync``, or not."""
    return program(**inputs) if how == "sync" else await program.acall(**inputs)


async def never(*_: object) -> Any:
    """Never answers."""
    return await asyncio.get_running_loop().create_future()
