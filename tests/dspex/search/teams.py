"""A chain and a team that are searched, and language models that they ask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dspy

from dspex.search import Halving, TeamSearch, TeamSearchReport
from dspex.teams import Member, Team
from dspex.testing.chain import ChainEngine, ScriptedChain, step_right
from dspex.testing.engine import ScriptedEngine, exact, scripted_lm, task
from supervision import Runtime

EXAMPLES, LABELS = task(40)
FIELDS = ("draft", "plan", "label")
#: What each wording is worth; the last but one is the best.
WORTHS = {field: {f"{field} {n}": worth for n, worth in enumerate((0.2, 0.6, 0.7, 0.95, 0.4))} for field in FIELDS}
#: What an agent but the last says of itself.
OWN = {"draft": step_right, "plan": step_right}


def told(wording: str) -> Callable[[Any], None]:
    """A change of a program: another wording."""

    def change(program: Any) -> None:
        program.signature = program.signature.with_instructions(wording)

    return change


#: For each agent, its wordings.
SETTINGS = {field: [told(wording) for wording in worths] for field, worths in WORTHS.items()}


def engine(**options: Any) -> ChainEngine:
    """A language model that plays the agents."""
    return ChainEngine(LABELS, WORTHS, **options)


def search(runtime: Runtime, settings: Any = SETTINGS, **options: Any) -> TeamSearch:
    """A small search."""
    return TeamSearch(
        settings,
        **{"metric": exact, "rule": Halving(first=10), "num_threads": 8, "runtime": runtime, **options},
    )


async def searched(
    made: TeamSearch,
    model: ScriptedEngine | None = None,
    program: Any = None,
    examples: Sequence[Any] = EXAMPLES,
    **data: Any,
) -> tuple[Any, TeamSearchReport]:
    """What comes back, and the report."""
    with dspy.context(lm=scripted_lm(model or engine())):
        found = await made.acompile(program or ScriptedChain(FIELDS), trainset=examples, **data)
    assert isinstance(made.report, TeamSearchReport)
    return found, made.report


def wordings(program: Any) -> list[str]:
    """What its predictors are told."""
    return [predictor.signature.instructions for predictor in program.predictors()]


class Voters:
    """Members that answer one question, each with a language model of its own.

    Args:
        bases: how often each is right.
    """

    def __init__(self, *bases: float) -> None:
        self.engines = [ScriptedEngine(LABELS, base=base, advice=0.15, seed=n) for n, base in enumerate(bases)]
        self.lms = [scripted_lm(one) for one in self.engines]

    def member(self, number: int) -> Member:
        """One of them."""
        program = dspy.Predict("text -> label")
        program.lm = self.lms[number]
        return Member(f"m{number}", program, role="voter")

    def team(self, size: int, **options: Any) -> Team:
        """The first of them."""
        return Team("desk", tuple(self.member(number) for number in range(size)), **options)

    @property
    def calls(self) -> int:
        """How many calls they have had."""
        return sum(one.calls for one in self.engines)


#: What a voter may be told.
WAYS = [told("Be quick."), told("Look closely: here."), told("Look closely: here. Look closely: there.")]
