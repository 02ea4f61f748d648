"""Clients run DSPy programs, as candidates say, on examples of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dspy
import pytest

from dspex.federated import BadFederation, CandidateScore, Client, FederatedChoice, MacroMean, ProgramScorer
from supervision import ChildSpec, Runtime
from tests.dspex.federated.world import World

EXAMPLES = [
    dspy.Example(text=f"{number} {word}", label=label).with_inputs("text")
    for number in range(3)
    for word, label in (("wins", "sport"), ("chips", "tech"))
]


class Guess(dspy.Module):  # type: ignore[misc]
    """A program that says what it was told to, or looks for a word."""

    def __init__(self, candidate: dict[str, str]) -> None:
        super().__init__()
        self.candidate = candidate
        self.runs = 0

    def forward(self, text: str) -> Any:
        self.runs += 1
        if self.candidate.get("fail") and text.startswith("1"):
            raise ValueError("it cannot")
        word = self.candidate.get("word", "")
        return dspy.Prediction(label=self.candidate["yes"] if word in text else self.candidate["no"])


def exact(example: Any, prediction: Any, trace: Any = None) -> float:
    if prediction.label == "cannot be judged":
        raise KeyError("label")
    return float(example.label == prediction.label)


def make(candidate: Any) -> Any:
    return None if candidate == {"demos": ["local:3"]} else Guess(candidate)


def scorer(runtime: Runtime, **options: Any) -> ProgramScorer:
    return ProgramScorer(make, EXAMPLES, exact, runtime=runtime, display_progress=False, **options)


KNOWS = {"word": "wins", "yes": "sport", "no": "tech"}
SPORT = {"yes": "sport", "no": "sport"}


async def test_it_tells_exact_sums_of_each_class(runtime: Runtime) -> None:
    told = scorer(runtime, classes="label")
    assert await told.score(KNOWS) == CandidateScore("6", "6", 6, {"sport": ("3", 3), "tech": ("3", 3)})
    assert (await told.score(SPORT)).classes == {"sport": ("3", 3), "tech": ("0", 3)}
    assert await scorer(runtime).score(SPORT) == CandidateScore("3", "3", 6)


async def test_a_program_that_fails_counts_nothing_right_and_what_cannot_be_judged_does_not_count(
    runtime: Runtime,
) -> None:
    assert await scorer(runtime).score({**KNOWS, "fail": "yes"}) == CandidateScore("4", "4", 6)
    cannot = {"word": "1", "yes": "cannot be judged", "no": "sport"}
    assert await scorer(runtime).score(cannot) == CandidateScore("2", "2", 4)


async def test_what_it_cannot_make_or_has_no_examples_for_it_says_nothing_of(runtime: Runtime) -> None:
    assert await scorer(runtime).score({"demos": ["local:3"]}) == CandidateScore()
    assert await ProgramScorer(make, [], exact).score(KNOWS) == CandidateScore()
    with pytest.raises(BadFederation, match="make"):
        ProgramScorer(None, EXAMPLES, exact)  # type: ignore[arg-type]


async def test_with_a_folder_nothing_is_run_twice(runtime: Runtime, tmp_path: Path) -> None:
    ran: list[Guess] = []

    def kept(candidate: Any) -> Any:
        ran.append(Guess(candidate))
        return ran[-1]

    for _ in range(2):
        told = ProgramScorer(kept, EXAMPLES, exact, log_dir=tmp_path, runtime=runtime, display_progress=False)
        assert (await told.score(KNOWS)).total == "6"
    assert len(list(tmp_path.iterdir())) == 1


async def test_a_federation_chooses_a_program(runtime: Runtime) -> None:
    world = World(runtime)
    parts = [EXAMPLES[0::2], EXAMPLES[1::2]]  # one has sport only, the other tech only
    clients = [
        ChildSpec(
            f"desk {number}",
            Client,
            (ProgramScorer(make, part, exact, classes="label", runtime=runtime, display_progress=False),),
            name=f"desk {number}",
        )
        for number, part in enumerate(parts)
    ]
    plan = FederatedChoice(candidates=[SPORT, KNOWS], rule=MacroMean(), personal=True)
    await world.start(*clients, plan=plan, steps=0)
    result = await world.result()
    assert (result.chosen, result.scores, result.runs) == (KNOWS, ("1/2", "1"), 12)
