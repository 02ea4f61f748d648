"""Programs that call others in ways of their own: several at once, twice, with tools."""

# mypy: disallow-subclassing-any=False

from __future__ import annotations

from typing import Any

import dspy
from dspy.utils.dummies import DummyLM


class _Asking(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("question -> answer")


class Parallel(_Asking):
    """Asks twice, in threads of DSPy's."""

    def forward(self, question: str) -> Any:
        """Ask."""
        pairs = [(self.ask, {"question": f"{question} {n}"}) for n in range(2)]
        both = dspy.Parallel(num_threads=2, disable_progress_bar=True)(pairs)
        return dspy.Prediction(answer=both[0].answer)


class Evaluate(_Asking):
    """Evaluates a part of itself, in threads of DSPy's."""

    def forward(self, question: str) -> Any:
        """Evaluate."""
        examples = [dspy.Example(question=f"{question} {n}", answer="a").with_inputs("question") for n in range(2)]
        metric = lambda example, found, _=None: example.answer == found.answer  # noqa: E731
        evaluate = dspy.Evaluate(devset=examples, metric=metric, num_threads=2, display_progress=False)
        return dspy.Prediction(answer=str(evaluate(self.ask).score))


class Twice(_Asking):
    """Asks the same again."""

    async def aforward(self, question: str) -> Any:
        """Ask."""
        await self.ask.acall(question=question)
        return await self.ask.acall(question=question)


class TwiceInAThread(_Asking):
    """The same in a thread."""

    def forward(self, question: str) -> Any:
        """Ask."""
        self.ask(question=question)
        return self.ask(question=question)


class OwnModel(_Asking):
    """Has a model of its own."""

    async def aforward(self, question: str) -> Any:
        """Ask it."""
        with dspy.context(lm=DummyLM([{"answer": "mine"}])):
            return await self.ask.acall(question=question)


class Callbacks(dspy.Module):
    """Counts callbacks."""

    async def aforward(self) -> Any:
        """Count."""
        return dspy.Prediction(callbacks=len(dspy.settings.callbacks))


def agent() -> Any:
    """Looks things up."""

    def look_up(name: str) -> str:
        """Look a country up."""
        return f"{name} is a country"

    react: Any = dspy.ReAct
    return react("question -> answer", tools=[look_up], max_iters=3)
