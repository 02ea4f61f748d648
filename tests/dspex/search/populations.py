"""What populations of tests train, by import path for jobs and for processes that are killed."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import dspy

from dspex.search import PopulationBasedTraining, PopulationReport, TrainingStep
from dspex.testing.engine import exact, scripted_lm, task
from dspex.variables import Choice, Float, Integer
from tests.dspex.search.telling import Telling

EXAMPLES, LABELS = task(12)


class Point(dspy.Module):
    """A program without a language model: it stands somewhere."""

    def __init__(self, where: float = 0.0) -> None:
        super().__init__()
        self.where = where

    def __deepcopy__(self, memo: object) -> Point:
        return Point(self.where)

    def forward(self, **_: Any) -> Any:
        """Say where."""
        return dspy.Prediction(where=self.where)

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """Return it."""
        return {"where": self.where}


def near(_: Any, prediction: Any) -> float:
    """The nearer to 0, the better: a metric."""
    return 1.0 / (1.0 + abs(float(prediction.where)))


class Descent:
    """Goes towards 0, in steps that are noisy."""

    def __init__(self) -> None:
        self.variables = [Float(name="rate", low=0.01, high=2.0, log=True, default=0.05)]

    def begin(self, step: TrainingStep) -> Any:
        """Begin far away."""
        return {"where": 10.0 + step.member}

    def train(self, state: Any, step: TrainingStep) -> Any:
        """Go some steps."""
        for _ in range(5):
            state["where"] -= step.settings["rate"] * (2 * state["where"] + step.chance.gauss(0, 3))
        return state

    def program(self, student: Any, state: Any) -> Any:
        """Stand there."""
        student.where = state["where"]
        return student


class Scored(Descent):
    """The same, with a score of its own."""

    def score(self, state: Any, step: TrainingStep) -> float:
        """Return the square of the distance, below 0."""
        return -(float(state["where"]) ** 2)


class Advice:
    """A prompt under edit: advice is added, or taken away, as the language model is asked how."""

    variables = (
        Integer(name="lines", low=1, high=3, default=1),
        Choice(name="tone", choices={"dry": "Be dry.", "warm": "Be warm."}, default="dry"),
    )

    def begin(self, step: TrainingStep) -> Any:
        """Begin with what the student says."""
        return step.student.signature.instructions

    def train(self, state: Any, step: TrainingStep) -> Any:
        """Ask what is said of one of the examples, and add advice."""
        example = step.chance.choice(list(step.examples))
        said = step.student(text=example.text).label
        advice = "Look closely: here. " * (step.settings["lines"] if said == example.label else 1)
        return f"{state} {advice}{step.settings['tone']}"

    def program(self, student: Any, state: Any) -> Any:
        """Say it."""
        student.signature = student.signature.with_instructions(state)
        return student


def run(folder: Path, last: int) -> None:
    """Train, and write what came of it."""
    folder.mkdir(exist_ok=True)
    made = PopulationBasedTraining(
        Advice,
        metric=exact,
        population=4,
        intervals=3,
        at_once=1,
        num_threads=1,
        log_dir=folder / "log",
        display_progress=False,
    )
    with dspy.context(lm=scripted_lm(Telling(folder / "calls", last, LABELS, base=0.2, advice=0.2))):
        program = made.compile(dspy.Predict("text -> label"), trainset=EXAMPLES)
    assert isinstance(made.report, PopulationReport)
    (folder / "program.json").write_text(json.dumps(program.dump_state(), default=repr))
    (folder / "report.txt").write_text(repr((made.report.steps, made.report.lineage)))


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]))
