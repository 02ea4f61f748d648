"""Programs that another process imports from here."""

from typing import Any

import dspy


def number() -> Any:
    """A program that asks for a number."""
    return dspy.Predict("q -> a: int")
