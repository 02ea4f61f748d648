"""Errors of searches."""

from __future__ import annotations

from supervision.messages import describe


class BadHypotheses(ValueError):
    """What was given for hypotheses cannot be raced: ``value``, and ``why``."""

    def __init__(self, value: object, why: str) -> None:
        self.value, self.why = value, why
        super().__init__(f"hypotheses = {describe(value)}: {why}")
