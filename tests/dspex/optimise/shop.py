"""What is optimised in these tests, by its import path."""

from __future__ import annotations

import csv
import threading
from pathlib import Path
from typing import Any

import dspy

from dspex.testing.engine import ScriptedEngine, scripted_lm, task

EXAMPLES, LABELS = task(24)
#: What an optimisation of these tests is, but for what a test says.
SPEC: dict[str, Any] = {
    "program": "tests.dspex.optimise.shop:program",
    "metric": "dspex.testing.engine:exact",
    "trainset": {"path": "train.csv", "inputs": ["text"]},
    "options": {"bsize": 6, "max_steps": 2, "num_candidates": 2, "num_threads": 2},
    "price": {"input": 1.0, "output": 1.0},
}


def program() -> Any:
    """A program that has something to learn."""
    return dspy.Predict("text -> label")


def owner() -> Any:
    """A program with a language model of its own."""
    found = program()
    found.lm = scripted_lm(ScriptedEngine(LABELS))
    return found


def broken(example: Any, prediction: Any) -> float:
    """A metric that is wrong."""
    raise LookupError("no such metric")


def write(folder: Path) -> None:
    """Write the examples."""
    with (folder / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([example.text, example.label] for example in EXAMPLES)


class Held(ScriptedEngine):
    """A language model that waits before one of its calls, until the test lets it go on."""

    def __init__(self, at: int, **options: Any) -> None:
        super().__init__(LABELS, before=self._wait, **options)
        self._at = at
        self.reached, self.open = threading.Event(), threading.Event()

    def _wait(self, call: int) -> None:
        if call == self._at:
            self.reached.set()
            self.open.wait(60)
