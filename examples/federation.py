"""Four branches of a shop learn together to sort tickets, and none of them shows its tickets to anybody.

Run it: ``python -m examples.federation``; with ``--processes`` each branch is a process of its own. It is kept in a
file: kill it with ``kill -9``, or have it do so itself with ``--die-after 3``; run it again, and it goes on.
``docs/how-to/federate.md`` explains it; ``examples/federation.toml`` has the same in a tree.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import re
import signal
import zlib
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from dspex.federated import (
    Client,
    FederatedAveraging,
    FederatedRoundClosed,
    Federation,
    ProcessClient,
    Rounds,
    SoftmaxLearner,
)
from dspex.workflow import GetResult
from supervision import ChildSpec, Runtime, Supervisor

TICKETS = Path(__file__).with_name("tickets.csv")
TOPICS = ("parcel", "payment", "software")
#: Of each topic, which share of its tickets each branch gets: they are not alike.
BRANCHES = {
    "north": (0.9, 0.05, 0.05),
    "south": (0.05, 0.9, 0.05),
    "east": (0.0, 0.05, 0.85),
    "west": (0.05, 0.0, 0.05),
}
#: A word is one of so many features, by its checksum: nobody has to tell the others which words there are.
SIZE = 512
#: What every branch does in a round, and how often.
SETTINGS, ROUNDS = {"steps": 10, "rate": 2.0, "penalty": 0.001}, 10


def features(text: str) -> Any:
    """Return which words a text has."""
    found = np.zeros(SIZE)
    for word in re.findall(r"[a-z]+", text.lower()):
        found[zlib.crc32(word.encode()) % SIZE] = 1.0
    return found


def rows() -> list[tuple[str, int]]:
    """Return all tickets with the numbers of their topics. A branch would have its own file."""
    with TICKETS.open(newline="") as file:
        return [(row["message"], TOPICS.index(row["topic"])) for row in csv.DictReader(file)]


def learner(tickets: Sequence[tuple[str, int]]) -> SoftmaxLearner:
    """Return what learns from some tickets."""
    texts = [features(text) for text, _ in tickets]
    return SoftmaxLearner(np.reshape(texts, (len(texts), SIZE)), [topic for _, topic in tickets], len(TOPICS))


def tickets_of(name: str) -> list[tuple[str, int]]:
    """Return the tickets of a branch; every third one is left for the test."""
    found = []
    for topic, _ in enumerate(TOPICS):
        mine = [row for row in rows() if row[1] == topic]
        mine = [row for number, row in enumerate(mine) if number % 3]
        shares = [0.0, *np.cumsum([part[topic] for part in BRANCHES.values()])]
        at = list(BRANCHES).index(name)
        found += mine[round(shares[at] * len(mine)) : round(shares[at + 1] * len(mine))]
    return found


def branch(name: str) -> SoftmaxLearner:
    """Return the work of a branch: what its client is started with."""
    return learner(tickets_of(name))


def test_tickets() -> SoftmaxLearner:
    """Return what measures weights on the tickets that nobody learns from."""
    found = []
    for topic, _ in enumerate(TOPICS):
        found += [row for row in rows() if row[1] == topic][::3]
    return learner(found)


def plan() -> FederatedAveraging:
    """Return what is to be found, and how."""
    return FederatedAveraging(initial=branch("north").begin(), rounds=ROUNDS, settings=SETTINGS)


def alone(work: SoftmaxLearner) -> float:
    """Return how many tickets of the test are sorted right by who learns as long, but alone."""
    settings = {**SETTINGS, "steps": SETTINGS["steps"] * ROUNDS}
    found = work.train(work.begin().arrays(), settings)
    return test_tickets().measured(found.weights)["accuracy"]


async def run(log: Path, processes: bool, die_after: int | None) -> None:
    """Hold the rounds, and tell what is going on."""

    def tell(event: FederatedRoundClosed) -> None:
        found = f"void, {event.why}" if event.metric is None else f"loss {event.metric:.3f}"
        print(f"round {event.round}: {event.counted} of {event.asked}, {found}", flush=True)
        if event.round == die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    kind = ProcessClient if processes else Client
    clients = [ChildSpec(name, kind, ("examples.federation:branch",), {"name": name}, name=name) for name in BRANCHES]
    rounds = Rounds(enough=3, deadline=60.0)
    federation = ChildSpec("all", Federation, (plan, [*BRANCHES], log), {"rounds": rounds}, name="all")
    async with Runtime() as runtime:
        runtime.subscribe(tell, FederatedRoundClosed)
        await runtime.spawn(Supervisor, [*clients, federation])
        result = await runtime.name("all").call(GetResult(), timeout=None)
    works = [branch(name) for name in BRANCHES]
    together = learner([row for name in BRANCHES for row in tickets_of(name)])
    print(f"each alone: {fmean(alone(work) for work in works):.0%}; best alone: {max(map(alone, works)):.0%}")
    print(f"  together: {test_tickets().measured(result.weights.arrays())['accuracy']:.0%}")
    print(f" one place: {alone(together):.0%}, if all tickets were there")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the arguments, and run the federation."""
    parser = argparse.ArgumentParser(prog="python -m examples.federation", description=__doc__)
    parser.add_argument("--log", type=Path, default=Path("federation.sqlite"), help="the file that keeps the run")
    parser.add_argument("--processes", action="store_true", help="each branch in a process of its own")
    parser.add_argument("--die-after", type=int, help="kill -9 after this round")
    options = parser.parse_args(arguments)
    asyncio.run(run(options.log, options.processes, options.die_after))


if __name__ == "__main__":
    main()
