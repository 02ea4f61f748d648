"""Compile a program: ``python -m examples.triage`` looks for a better wording, and writes it to ``better.json``.

The program says what a customer's message is about. `docs/first-program.md` goes through it step by step, and
``examples/triage.toml`` serves it.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import dspy

from dspex import language_model
from dspex.teleprompt.beacon import BEACON

#: What to choose from besides the program's own instruction.
WORDINGS = (
    "Classify the message by its topic.",
    "Which team should answer the customer?",
    "Triage the message.",
    "Choose the topic of the message: payment, parcel or software.",
    "Is it about money, about something that was sent, or about an app or device?",
)


class Triage(dspy.Signature):  # type: ignore[misc]
    """What is the customer's problem with?"""

    message: str = dspy.InputField()
    topic: Literal["payment", "parcel", "software"] = dspy.OutputField()


def triage() -> Any:
    """Return the program."""
    return dspy.Predict(Triage)


def reworded() -> Any:
    """Return the same program with another instruction."""
    return dspy.Predict(Triage.with_instructions("Triage the message."))


def tickets() -> tuple[list[Any], list[Any]]:
    """Return messages with their topics: those to learn from, and those to test with."""
    with Path(__file__).with_name("tickets.csv").open() as file:
        found = [dspy.Example(**row).with_inputs("message") for row in csv.DictReader(file)]
    return found[::2], found[1::2]


def right(example: Any, prediction: Any) -> float:
    """Return 1.0 if the topic is the one that a person chose."""
    return float(example.topic == prediction.topic)


def score(program: Any, examples: Sequence[Any]) -> float:
    """Return the share of messages that a program judges rightly."""
    return sum(right(example, program(**example.inputs())) for example in examples) / len(examples)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile the program, and say how much better it has become."""
    parser = argparse.ArgumentParser(prog="python -m examples.triage", description=__doc__)
    parser.add_argument("--trials", type=int, default=10, help="how many configurations are tried")
    parser.add_argument("--out", type=Path, default=Path("better.json"), help="where the better program is saved")
    options = parser.parse_args(arguments)
    learn, test = tickets()
    with language_model():
        program = triage()
        print(f"as it was written: {score(program, test):.0%} of {len(test)} messages that it has not seen")
        beacon = BEACON(
            metric=right,
            num_trials=options.trials,
            instructions={"self": WORDINGS},
            max_bootstrapped_demos=0,
            max_labeled_demos=4,
        )
        better = beacon.compile(program, trainset=learn)
        print(f"compiled: {score(better, test):.0%}")
        print(f"it says now: {better.signature.instructions!r}, with {len(better.demos)} examples")
    better.save(options.out)
    print(f"saved to {options.out}")


if __name__ == "__main__":
    main()
