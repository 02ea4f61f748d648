"""Federations of clients whose behaviour is written down, in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from agents.durability import MemoryStorage
from dspex.federated import (
    Client,
    ClientMissing,
    ClientReport,
    FederatedAveraging,
    FederatedRoundClosed,
    Federation,
    FederationResult,
    LocalUpdate,
    RunRound,
    Weights,
)
from dspex.workflow import GetResult
from foundation.tree.view import view_tree
from supervision import Actor, ChildSpec, Runtime, Supervisor, handle

START = Weights.of({"w": [0.0, 0.0]})


class Steps:
    """A learner that adds what it is told to the weights.

    Attributes:
        seconds: how long it takes; it may be changed on the way.
        trained: how often it has trained.
    """

    def __init__(self, runtime: Runtime, step: float, examples: int = 10, seconds: float = 1.0) -> None:
        self.runtime, self.step, self.examples, self.seconds = runtime, step, examples, seconds
        self.trained = 0

    async def train(self, weights: dict[str, Any], settings: Mapping[str, float]) -> LocalUpdate:
        await self.runtime.sleep(self.seconds)
        self.trained += 1
        loss = abs(float(weights["w"][0]) - 10.0)
        return LocalUpdate({"w": weights["w"] + self.step}, self.examples, {"loss": loss})


class Answers(Actor):
    """A client that answers whatever it is told to, by the round; of a report it is the fields that differ."""

    def __init__(self, answer: Any, seconds: float = 1.0) -> None:
        self._answer, self._seconds = answer, seconds

    @handle
    async def run_round(self, request: RunRound) -> ClientReport:
        await self.runtime.sleep(self._seconds)
        changes = self._answer(request)
        about: dict[str, Any] = {"client": request.client, "round": request.round, "fence": request.fence}
        return ClientReport(**{**about, "examples": 10, "weights": START, **changes})


class World:
    """A federation under a supervisor, and what is heard of it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.steps: dict[str, Steps] = {}
        self.closed: list[FederatedRoundClosed] = []
        self.missing: list[tuple[int, str, str, str]] = []
        runtime.subscribe(self.closed.append, FederatedRoundClosed)
        runtime.subscribe(
            lambda event: self.missing.append((event.round, event.client, event.outcome, event.why)), ClientMissing
        )

    async def start(
        self, *others: ChildSpec, plan: Any = None, store: Any = None, steps: int = 4, name: str = "all", **options: Any
    ) -> None:
        """Start clients ``c1`` and so on, each with a step as long as its number, and others, and a federation."""
        clients = [await self.client(number) for number in range(1, steps + 1)]
        names = [spec.id for spec in (*clients, *others)]
        plan = plan or FederatedAveraging(initial=START, rounds=3)
        store = MemoryStorage() if store is None else store
        federation = ChildSpec(name, Federation, (plan, names, store), options, name=name)
        await self.runtime.spawn(
            Supervisor, [*clients, *others, federation], name=f"top of {name}", max_restarts=10_000
        )

    async def client(self, number: int) -> ChildSpec:
        """Return a client."""
        name = f"c{number}"
        self.steps[name] = Steps(self.runtime, float(number))
        return ChildSpec(name, Client, (self.steps[name],), name=name)

    async def result(self, name: str = "all") -> FederationResult:
        """Wait for what it has found."""
        found: FederationResult = await self.runtime.name(name).call(GetResult(), timeout=None)
        return found

    def shown(self, name: str = "all") -> dict[str, str]:
        """Return what ``/tree`` shows."""
        [node] = [node for node in view_tree(self.runtime).walk() if node.id == name]
        return node.summary

    @property
    def trained(self) -> Counter[str]:
        """How often each client has trained."""
        return Counter({name: steps.trained for name, steps in self.steps.items()})


def numbers(result: FederationResult) -> list[float]:
    """Return the weights that were found."""
    assert result.weights is not None
    return result.weights.vector().tolist()  # type: ignore[no-any-return]
