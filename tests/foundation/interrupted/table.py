"""The table: for each thing that can be awaited, a scenario in which it is interrupted."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from structlog.testing import capture_logs

from foundation.errors import FoundationError
from foundation.registry import Directory
from supervision import Actor, ChildSpec, Ref, Request, Runtime, Supervisor, handle
from supervision.testing import ResourceCounts, ScenarioRun, WorkOutcome

Scenario = Callable[[ScenarioRun], Awaitable[None]]
#: Where files are in memory, where there is such a place: thousands of stores are made, and none is kept.
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Line(msgspec.Struct, frozen=True):
    """A line of the table.

    Attributes:
        name: of the line.
        covers: what can be awaited, of which this is the line: see `public.awaitables`.
        scenario: in which it is interrupted.
    """

    name: str
    covers: tuple[str, ...]
    scenario: Scenario


TABLE: dict[str, Line] = {}


def line(name: str, *covers: str) -> Callable[[Scenario], Scenario]:
    """Enter a scenario in the table; without ``covers``, it is a combination."""

    def enter(scenario: Scenario) -> Scenario:
        assert name not in TABLE
        TABLE[name] = Line(name, covers, scenario)
        return scenario

    return enter


class Echo(Request[Any], frozen=True):
    """Ask for an answer."""

    value: Any = None


class Worker(Actor):
    """Answers."""

    @handle
    def echo(self, request: Echo) -> Any:
        """Answer."""
        return request.value


class World:
    """Services under one supervisor, and neighbours.

    Attributes:
        runtime: where all of it runs.
        services: the names of the services.
        worker: an actor that lives on.
    """

    worker: Ref

    def __init__(self, run: ScenarioRun, runtime: Runtime, services: list[str]) -> None:
        self._run = run
        self.runtime = runtime
        self.services = services

    async def interrupt(self, work: Callable[[], Awaitable[Any]], counts: Any = None) -> WorkOutcome[Any]:
        """Do work, interrupted; errors of the platform are what a caller has to reckon with."""
        return await self._run.interrupt(work, services=self.services, counts=counts, raises=(FoundationError,))

    def monitors(self, *directories: Directory) -> dict[str, float]:
        """Return how many monitors there are, but for those of actors that are entered in directories."""
        entered = sum(len({entry.ref for entry in directory.root.all()}) for directory in directories)
        return {"monitors": ResourceCounts.of(self.runtime).monitors - entered}


@asynccontextmanager
async def world(run: ScenarioRun, *specs: ChildSpec, restart: bool = True) -> AsyncGenerator[World]:
    """Start services."""
    with capture_logs():
        async with run.runtime() as runtime:
            await runtime.spawn(Supervisor, list(specs), name="services")
            made = World(run, runtime, [str(spec.id) for spec in specs] if restart else [])
            made.worker = await runtime.spawn(Worker, name="worker")
            yield made


@asynccontextmanager
async def folder() -> AsyncGenerator[Path]:
    """Make a folder that goes away again."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as made:
        yield Path(made)


def service(kind: type[Actor], *args: Any, name: str | None = None, **options: Any) -> ChildSpec:
    """Return the specification of a service, under its usual name."""
    named = name or kind.__name__.lower()
    return ChildSpec(named, kind, args, options, name=named)
