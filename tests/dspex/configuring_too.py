"""Another one, with a model of its own."""

import dspy
from dspy.utils.dummies import DummyLM

LM = DummyLM([{"answer": "yours"}] * 9)
dspy.configure(lm=LM)


def answers() -> dspy.Module:
    """The program."""
    return dspy.Predict("question -> answer")
