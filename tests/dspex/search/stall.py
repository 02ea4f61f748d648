"""Hypotheses by their import path, for races that are jobs."""

from __future__ import annotations

from typing import Any

import dspy

from dspex.search import Hypothesis
from dspex.teams import Member, Team
from dspex.testing.engine import ScriptedEngine, scripted_lm
from tests.dspex.search.conftest import LABELS, advised


class Named(dspy.LM):  # type: ignore[misc]
    """A model that is saved by its name, as those of providers are."""

    def dump_state(self) -> dict[str, Any]:
        """Return it."""
        return {"model": self.model}


def named(model: str, base: float) -> Any:
    """A model of this name, that is right in so many cases."""
    made, scripted = Named(model, cache=False), vars(scripted_lm(ScriptedEngine(LABELS, base=base)))
    kept = ("_engine_spec", "_async_engine_spec", "kwargs", "num_retries")
    made.__dict__.update({key: scripted[key] for key in kept})
    return made


#: A better model than that of the student.
LARGE = named("known/large", 0.95)


def ways(student: Any, trainset: Any, seed: int) -> list[Hypothesis]:
    """Some wordings, and the student with the better model."""
    large = student.deepcopy()
    large.lm = LARGE
    return [*(Hypothesis(f"way {n}", advised(n % 2, n)) for n in range(3)), Hypothesis("large", large)]


def program() -> Any:
    """A student with a model of its own."""
    found = dspy.Predict("text -> label")
    found.lm = named("known/small", 0.2)
    return found


def desk() -> Any:
    """A team of two, with that model."""
    return Team("desk", (Member("first", program()), Member("second", program()))).program()


#: Who may join a team.
JOINING = [Member("large", dspy.Predict("text -> label"))]
JOINING[0].program.lm = LARGE
