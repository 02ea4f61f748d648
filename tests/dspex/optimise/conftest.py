"""A program whose optimisations are jobs, and a client of the HTTP server before it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import dspy
import httpx
import pytest

from dspex import Optimisations
from dspex.testing.engine import AsyncScriptedEngine, ScriptedEngine, scripted_lm
from foundation.access import Access
from foundation.http.app import application
from foundation.jobs import FINAL, GetJob, Job, StartJob
from supervision import ChildSpec, Runtime, Supervisor, call_when_ready
from tests.dspex.optimise.shop import LABELS, SPEC, write

NAME = "optimisations:shop"


class Jobs:
    """The jobs of a program, in one runtime.

    Args:
        folder: where they are kept.
        runtime: where they are.
    """

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self.folder, self.runtime = folder, runtime

    async def begin(self, engine: ScriptedEngine | None = None, **spec: Any) -> None:
        """Start their owner."""
        engine = engine or ScriptedEngine(LABELS)
        specs = {"small": {**SPEC, **spec}}
        options = {"data": self.folder, "lm": held_lm(engine)}
        child = ChildSpec("jobs", Optimisations, ("shop", self.folder / "jobs", specs), options, name=NAME)
        await self.runtime.spawn(Supervisor, [child], max_restarts=100)

    async def ask(self, request: Any, timeout: float = 60.0) -> Any:
        """Ask the owner."""
        return await call_when_ready(self.runtime.name(NAME), request, timeout)

    async def start(self, key: str | None = None, **order: Any) -> Job:
        """Start a job."""
        return await self.ask(StartJob(order, key))

    async def until(self, id: str, *states: str) -> Job:
        """Wait until a job is in one of these states, or over."""
        job: Job = await self.ask(GetJob(id))
        while job.state not in (states or FINAL):
            assert not states or job.state not in FINAL, job
            job = await self.ask(GetJob(id, job.number, 30.0))
        return job


class _InThread(AsyncScriptedEngine):
    """A scripted engine that may wait in a thread."""

    async def complete(self, request: Any) -> Any:
        """Answer a request."""
        return await anyio.to_thread.run_sync(self._engine.complete, request, abandon_on_cancel=True)


def held_lm(engine: ScriptedEngine) -> Any:
    """A language model whose engine may wait without holding the loop."""
    made = scripted_lm(engine)
    return dspy.LM(made.model, engine=engine, async_engine=_InThread(engine), cache=False, num_retries=0)


@pytest.fixture
def jobs(runtime: Runtime, tmp_path: Path) -> Jobs:
    """The jobs of the program of the test's runtime."""
    write(tmp_path)
    return Jobs(tmp_path, runtime)


@pytest.fixture
async def client(runtime: Runtime, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the server's token."""
    app = application(runtime, versions=True, access=Access(token="s" * 40))
    headers = {"authorization": "Bearer " + "s" * 40}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as made:
        yield made
