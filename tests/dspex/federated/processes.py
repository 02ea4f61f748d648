"""What clients in processes of their own are started with."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dspex.federated import CandidateScore, FederatedAveraging, FederatedChoice, LocalUpdate, SoftmaxLearner

#: What every example of the tests has in it, as a text and as a number.
SECRET, NUMBER = "Mrs Robinson of 12 Bow Street owes 734 pounds", 734.1640625


class Branch(SoftmaxLearner):
    """Learns from a file that only it reads, and scores prompts on it."""

    def __init__(self, path: str) -> None:
        rows = json.loads(Path(path).read_text())
        self.texts = [row["text"] for row in rows]
        super().__init__([row["features"] for row in rows], [row["label"] for row in rows], 2)

    def train(self, weights: dict[str, Any], settings: Mapping[str, float]) -> LocalUpdate:
        if settings.get("die"):
            os._exit(7)
        return super().train(weights, settings)

    def score(self, candidate: Any) -> CandidateScore:
        return CandidateScore.of([float(candidate in text) for text in self.texts])


def averaging() -> FederatedAveraging:
    learner = SoftmaxLearner([[0.0, 0.0]], [0], 2)
    return FederatedAveraging(initial=learner.begin(), rounds=2, settings={"steps": 3, "rate": 1e-3})


def choosing() -> FederatedChoice:
    return FederatedChoice(candidates=["owes", "pays"])
