"""The soak: a tree of three levels and 10,000 actors under random kills within the budgets, with clients that retry.

It runs on virtual time and in a seeded schedule, so that one seed is one run: the digest of its event log says so. What
is measured in real seconds is what a kill costs and how long its replacement takes. After it, `alarms` judges what
chaos tests say of generated services.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
from array import array
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import msgspec

from bench import alarms
from supervision import Actor, ChildSpec, Request, Runtime, Supervisor, handle
from supervision.events import Event, Exited, Started
from supervision.testing import Chaos, ChaosPlan, Client, Report, SeededQueue, Victims, run
from supervision.testing.fault_injection.report import Recovery

GROUPS, WORKERS = 100, 100
CLIENTS = 100
#: Kills for each second of virtual time. Every worker dies about every ten seconds.
RATE = 1000.0
#: How many parts the run is measured in.
PARTS = 10


class Put(Request[int], frozen=True):
    """A request with an id, to be written down before it is answered."""

    id: int


class Worker(Actor):
    """Writes ids down, and answers a little later: whoever kills it in between does not make it forget."""

    def __init__(self, journal: dict[int, int]) -> None:
        self.journal = journal

    @handle
    async def put(self, request: Put) -> int:
        """Write it down, and answer with what was written first under this id."""
        number = self.journal.setdefault(request.id, self.runtime.random.randrange(10**9))
        await self.runtime.sleep(0.5)
        return number


def tree(journal: dict[int, int]) -> list[ChildSpec]:
    """Return the groups of workers."""

    def workers(group: int) -> list[ChildSpec]:
        return [ChildSpec(n, Worker, (journal,), name=f"w{group}-{n}") for n in range(WORKERS)]

    budget = {"max_restarts": 100, "max_seconds": 5.0}
    return [ChildSpec(f"g{group}", Supervisor, (workers(group),), budget) for group in range(GROUPS)]


class Stopwatch:
    """Measures in real seconds how long it takes until a dead actor has a replacement."""

    def __init__(self, kills: int) -> None:
        self._since: dict[str, float] = {}
        #: Of its full length from the beginning, so that what is measured with does not grow.
        self._times = array("d", bytes(8 * kills))
        self._number = 0

    @property
    def times(self) -> array[float]:
        """The times so far."""
        return self._times[: self._number]

    def __call__(self, event: Event) -> None:
        """Take the time."""
        if isinstance(event, Exited):
            self._since[event.path] = perf_counter()
        elif isinstance(event, Started) and (since := self._since.pop(event.path, None)) is not None:
            self._times[self._number] = perf_counter() - since
            self._number += 1


class Acknowledged:
    """What clients were told: must be what the journal says."""

    def __init__(self, journal: dict[int, int]) -> None:
        self._journal = journal
        self._ids: Iterator[int] = iter(range(10**9))
        self.lost = 0

    async def work(self, runtime: Runtime, client: Client, number: int, over: asyncio.Event) -> None:
        """Send requests until it is over, and look up each answer."""
        turn = number
        while not over.is_set():
            turn = (turn + CLIENTS) % (GROUPS * WORKERS)
            id = next(self._ids)
            answer = await client.call(runtime.name(f"w{turn // WORKERS}-{turn % WORKERS}"), Put(id))
            self.lost += self._journal.get(id) != answer
            del self._journal[id]


def resident() -> int:
    """Return the resident memory of this process, in bytes."""
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


class Soak:
    """One run."""

    def __init__(self, seed: int, kills: int) -> None:
        self._seed = seed
        self._kills = kills
        self._memory: list[int] = []
        self._stopwatch = Stopwatch(kills)

    async def _part(self, runtime: Runtime, chaos: Chaos, part: int) -> Report:
        """Carry out a part of the kills, a plan for each second."""
        kills = self._kills // PARTS
        report = chaos.report()
        for second, begun in enumerate(range(0, kills, int(RATE))):
            steps = min(int(RATE), kills - begun)
            seed = (self._seed * PARTS + part) * 10_000 + second
            report = await chaos.run(
                ChaosPlan.random(runtime, seed, steps=steps, seconds=steps / RATE, victims=Victims("/top/g*"))
            )
        return report

    async def run(self) -> dict[str, Any]:
        """Return the figures."""
        journal: dict[int, int] = {}
        acknowledged = Acknowledged(journal)
        queue = SeededQueue(self._seed)
        world = Runtime(seed=self._seed, watchdog=None, reports=False, run_queue=queue)
        # Chaos is there before the tree, so that every actor is known from its start.
        async with world as runtime, Chaos(runtime) as chaos:
            await runtime.spawn(Supervisor, tree(journal), name="top")
            runtime.subscribe(self._stopwatch, Exited, Started)
            clients = [chaos.client(timeout=5.0) for _ in range(CLIENTS)]
            over = asyncio.Event()
            working = [
                asyncio.ensure_future(acknowledged.work(runtime, client, n, over)) for n, client in enumerate(clients)
            ]
            began = perf_counter()
            for part in range(PARTS):
                report = await self._part(runtime, chaos, part)
                self._memory.append(resident())
                self._progress(part, report, perf_counter() - began)
            took = perf_counter() - began
            over.set()
            await asyncio.gather(*working)
            report = chaos.report()
        return self._figures(report, took, acknowledged.lost)

    def _progress(self, part: int, report: Report, took: float) -> None:
        done = f"[{part + 1}/{PARTS}] {report.kills:,} kills in {took:.1f} s, {report.requests.answered:,} answers"
        print(f"\r{done}, {self._memory[-1] / 2**20:.0f} MiB", end="", file=sys.stderr, flush=True)

    def _figures(self, report: Report, took: float, lost: int) -> dict[str, Any]:
        print("\r" + " " * 78 + "\r", end="", file=sys.stderr)
        recovery = Recovery.of(self._stopwatch.times)
        return {
            "kills_per_s": {"value": report.kills / took, "unit": "kills/s", "kills": report.kills},
            "recovery": {
                "value": recovery.median,
                "unit": "s",
                "p95": recovery.p95,
                "p99": recovery.p99,
                "max": recovery.maximum,
            },
            "lost": {"value": lost + report.requests.lost + len(report.lost), "unit": "answers"},
            "violations": {
                "value": len(report.violations),
                "unit": "violations",
                **{f"{n}": f"{v.check}: {v.what}: {v.event}" for n, v in enumerate(report.violations[:3], 1)},
            },
            "memory": {
                "value": self._memory[-1] / self._memory[0],
                "unit": "ratio of the end to the first tenth",
                "mib": self._memory[-1] / 2**20,
            },
            "requests": {"value": report.requests.answered, "unit": "answers", "sent": report.requests.sent},
            "held_back": {"value": report.held_back, "unit": "kills"},
            "gave_up": {"value": len(report.gave_up), "unit": "supervisors"},
            "seed_digest": {"value": report.digest, "unit": "sha256", "seed": self._seed},
        }


def main(seed: int, kills: int, *, as_json: bool) -> int:
    """Run the soak, and the generated services, and print the figures."""
    figures = run(Soak(seed, kills).run()) | alarms.main()
    if as_json:
        print(msgspec.json.encode(figures).decode())
        return 0
    for name, figure in figures.items():
        more = ", ".join(f"{key} {_shown(each)}" for key, each in figure.items() if key not in ("value", "unit"))
        print(f"{name:<13} {_shown(figure['value'])} {figure['unit']}{f' ({more})' if more else ''}")
    return 0


def _shown(value: object) -> str:
    return f"{value:,.6g}" if isinstance(value, (int, float)) else str(value)
