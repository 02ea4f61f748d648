"""What a tenant's message is about: the program, and what makes an answer right."""

from typing import Any, Literal

import dspy


class Repairs(dspy.Signature):
    """You work for a landlord. Read what a tenant writes, and decide which department is responsible."""

    message: str = dspy.InputField()
    topic: Literal["heating", "plumbing", "electricity", "noise"] = dspy.OutputField()


def repairs() -> Any:
    """Return the program."""
    return dspy.Predict(Repairs)


def right(example: Any, prediction: Any) -> bool:
    """Return whether the topic is the one that a person has chosen."""
    return bool(example.topic == prediction.topic)
