"""A federation that kills its own process, for good, before or after the n-th time that it writes.

``python -m tests.dspex.federated.killed FILE N before|after``; with 0 it runs to its end, and prints what it has found.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

from agents.durability import SqliteStorage
from dspex.federated import Client, FederatedAveraging, Federation, LocalUpdate, Weights
from dspex.workflow import GetResult
from supervision import ChildSpec, Runtime, Supervisor

START = Weights.of({"w": [0.0, 0.0]})


class Adds:
    """A learner that adds a number to the weights."""

    def __init__(self, step: float) -> None:
        self.step = step

    def train(self, weights: dict[str, Any], settings: Any) -> LocalUpdate:
        return LocalUpdate({"w": weights["w"] + self.step}, 10)


class Deadly(SqliteStorage):
    """Ends the process at a write."""

    at, after, writes = 0, False, 0

    async def write(self, *args: Any, **kwargs: Any) -> None:
        self.writes += 1
        if self.writes == self.at and not self.after:
            os.kill(os.getpid(), signal.SIGKILL)
        await super().write(*args, **kwargs)
        if self.writes == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(file: str, at: int, after: bool) -> None:
    storage = Deadly(file)
    storage.at, storage.after = at, after
    names = ["c1", "c2", "c3"]
    clients = [ChildSpec(name, Client, (Adds(float(number)),), name=name) for number, name in enumerate(names, 1)]
    plan = FederatedAveraging(initial=START, rounds=2)
    async with Runtime(watchdog=None) as runtime:
        await runtime.spawn(Supervisor, [*clients, ChildSpec("all", Federation, (plan, names, storage), name="all")])
        result = await runtime.name("all").call(GetResult(), timeout=None)
    storage.close()
    counted = [one.end.counted for one in result.history]
    fences = [one.end.fence for one in result.history]
    print(json.dumps({"weights": result.weights.vector().tolist(), "counted": counted, "fences": fences}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "after"))
