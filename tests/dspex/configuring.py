"""A module of a user's that configures DSPy, as scripts do."""

import dspy
from dspy.utils.dummies import DummyLM

ADAPTER = dspy.JSONAdapter()
LM = DummyLM([{"answer": "mine"}] * 9, adapter=ADAPTER)
dspy.configure(lm=LM, adapter=ADAPTER, max_errors=77)


def answers() -> dspy.Module:
    """The program."""
    return dspy.Predict("question -> answer")
