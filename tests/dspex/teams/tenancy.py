"""A stand-in for ``xllamacpp``: a server that says what the embedded model has said of a landlord's messages.

Each line of ``tenancy.txt`` has the probabilities that it gave of one of `MESSAGES`, asked in each of `WORDINGS`: of
the four topics, in the order of the signature.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from tests.dspex.fake_llama import FakeLlama
from tests.house.pages import ROOT

#: What the instructions of the three members begin with, and those of `wordings.py`.
WORDINGS = (
    *("Classify the message", "You work for a landlord", "Is it about warmth"),
    *("A tenant has written", "Which workman has to come", "Name the topic of"),
    *("Is it too cold", "Decide what the tenant"),
)
TOPICS = ("heating", "plumbing", "electricity", "noise")
with (ROOT / "examples/from_csv_to_canary/messages.csv").open(newline="") as file:
    MESSAGES = tuple(row["message"] for row in csv.DictReader(file))


class CommonParams(MagicMock):
    """Any parameters."""


class Server(FakeLlama):
    """Serves as soon as it is made."""

    def __init__(self, _: object) -> None:
        super().__init__()
        lines = Path(__file__).with_name("tenancy.txt").read_text().splitlines()
        self._shares = {
            (message, wording): dict(zip(TOPICS, map(float, line.split()[4 * place :]), strict=False))
            for message, line in zip(MESSAGES, lines, strict=True)
            for place, wording in enumerate(WORDINGS)
        }
        self.listening_address = self.url
        self.__enter__()

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Say how likely each topic was found."""
        prompt = body["prompt"]
        shares = next(
            found for (message, wording), found in self._shares.items() if message in prompt and wording in prompt
        )
        probs = [{"id": token, "prob": shares[self.words[token].strip()]} for token, _ in body["logit_bias"]]
        return {"tokens_evaluated": 7, "completion_probabilities": [{"top_probs": probs}]}
