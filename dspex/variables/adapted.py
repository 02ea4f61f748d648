"""Predictors that have an adapter of their own."""

from __future__ import annotations

from typing import Any

import dspy


class AdaptedPredict(dspy.Predict):  # type: ignore[misc]
    """A ``dspy.Predict`` that uses its own ``adapter``, whatever the settings say. DSPy's files do not have it."""

    adapter: Any

    def forward(self, **kwargs: Any) -> Any:
        """Ask the language model."""
        with dspy.context(adapter=self.adapter):
            return super().forward(**kwargs)

    async def aforward(self, **kwargs: Any) -> Any:
        """Ask the language model."""
        with dspy.context(adapter=self.adapter):
            return await super().aforward(**kwargs)


def adapt(predictor: Any, adapter: Any) -> None:
    """Give a ``dspy.Predict`` an adapter of its own."""
    predictor.__class__ = AdaptedPredict
    predictor.adapter = adapter
