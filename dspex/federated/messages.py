"""What a federation asks its clients, and what they report: plain data, with no field for an example."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias

import msgspec

from dspex.federated.choices import CandidateScore
from dspex.federated.errors import BadUpdate, StaleRound
from dspex.federated.weights import Weights
from supervision import Request


class TrainWeights(msgspec.Struct, frozen=True, tag="train"):
    """Begin with these weights, make steps on your own examples, and report the weights that come of it.

    Attributes:
        weights: to begin with.
        settings: how, such as ``steps`` and ``rate``; what the learner makes of them is its own affair.
    """

    weights: Weights
    settings: dict[str, float] = {}


class ScoreCandidates(msgspec.Struct, frozen=True, tag="score"):
    """Run these candidates on your own examples, and report the sums of the scores.

    Attributes:
        candidates: plain values.
    """

    candidates: list[Any]


RoundTask: TypeAlias = TrainWeights | ScoreCandidates


class ClientReport(msgspec.Struct, frozen=True):
    """What a client reports.

    Attributes:
        client: its name, as it was asked.
        round: of which round.
        fence: with which it was asked.
        examples: how many it has.
        weights: after its steps; None if it has scored candidates.
        scores: of the candidates, in their order.
        metrics: what it says of the weights that it got, such as its loss.
        runs: how often it has run an example for this: what the report has cost.
    """

    client: str
    round: int
    fence: int
    examples: int
    weights: Weights | None = None
    scores: tuple[CandidateScore, ...] = ()
    metrics: dict[str, float] = {}
    runs: int = 0


class RunRound(Request[ClientReport], frozen=True):
    """Ask a client for its part of a round.

    Attributes:
        federation: who asks.
        client: who is asked; in a process of its own, an actor does not know its name.
        round: which round.
        fence: larger than that of whoever asked before: a client does not work for one that has been succeeded.
        task: what to do.
    """

    #: How it fails, in whichever process the client is.
    raises: ClassVar[tuple[type[Exception], ...]] = (StaleRound, BadUpdate)

    federation: str
    client: str
    round: int
    fence: int
    task: RoundTask
