"""Routes that were fitted: which member is right, as far as the words of a question tell.

>>> texts = ["refund my money", "money back please", "it does not start", "the start fails"]
>>> right = [{"billing": "money" in text, "technical": "start" in text} for text in texts]
>>> route = TextRoute.fitted(texts, right)
>>> route.scores({"text": "where is my money"}, ["billing", "technical"])["billing"] > 0.7
True
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import msgspec

from dspex.teams.weights import BadWeights
from foundation.options import from_zero, whole

_WORD = re.compile(r"\w+")
#: What every text has: its weight is how often the member is right whatever is asked.
_ALWAYS = ""


class TextRoute(msgspec.Struct, frozen=True):
    """Asks the member that is right most probably, by the words of the inputs (logistic regression).

    Measure it: where members of one model err on the same inputs, there is nothing to tell them apart by.

    Attributes:
        weights: of each member, the weight of each word.
    """

    weights: Mapping[str, Mapping[str, float]]

    @staticmethod
    def fitted(
        texts: Sequence[Any], right: Sequence[Mapping[str, bool]], *, rounds: int = 30, decay: float = 0.01
    ) -> TextRoute:
        """Fit one to recorded answers.

        Args:
            texts: what was asked: texts, or inputs.
            right: of each, which members were right; those that were not asked, or were lost, are left out.
            rounds: how often all are looked at.
            decay: how strongly weights are held to 0, so that words that were seen once do not decide.

        Raises:
            BadWeights: there are no answers, or not as many as texts.
            BadOption: a number makes no sense.
        """
        whole("TextRoute: rounds", rounds)
        from_zero("TextRoute: decay", decay)
        members = list(dict.fromkeys(name for row in right for name in row))
        if len(texts) != len(right) or not members:
            raise BadWeights(f"there are {len(texts)} texts and {len(right)} answers; give as many, and at least one")
        words = [_words(text) for text in texts]
        items = {
            name: [(found, row[name]) for found, row in zip(words, right, strict=True) if name in row]
            for name in members
        }
        return TextRoute({name: _fit(items[name], rounds, decay) for name in members})

    def scores(
        self,
        inputs: Mapping[str, Any],
        members: Sequence[str],
        chance: Random | None = None,
    ) -> Mapping[str, float]:
        """Return how probably each member is right; members that it was not fitted for are not named."""
        words = _words(inputs)
        return {name: _share(self.weights[name], words) for name in members if name in self.weights}


def _words(inputs: object) -> list[str]:
    """Return the words of inputs, each once."""
    values = inputs.values() if isinstance(inputs, Mapping) else [inputs]
    return [_ALWAYS, *sorted({word for value in values for word in _WORD.findall(str(value).casefold())})]


def _share(weights: Mapping[str, float], words: Sequence[str]) -> float:
    total = sum(weights.get(word, 0.0) for word in words)
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, total))))


def _fit(items: Sequence[tuple[Sequence[str], bool]], rounds: int, decay: float) -> dict[str, float]:
    """Return the weights of words: by steps that get smaller for each word the more often it was seen.

    Source: AdaGrad (Duchi, Hazan and Singer, 2011).
    """
    weights: dict[str, float] = {}
    squares: dict[str, float] = {}
    for _ in range(rounds):
        for words, right in items:
            error = _share(weights, words) - float(right)
            for word in words:
                slope = error + decay * weights.get(word, 0.0)
                squares[word] = squares.get(word, 1e-9) + slope * slope
                weights[word] = weights.get(word, 0.0) - 0.5 * slope / math.sqrt(squares[word])
    return weights
