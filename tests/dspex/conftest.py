"""Fixtures of dspex's tests: DSPy's cache in a folder of its own, a fake llama-server, a runtime on the real
loop."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile

# DSPy reads this when it is imported.
os.environ["DSPY_CACHEDIR"] = tempfile.mkdtemp(prefix="dspex-tests-")

from collections.abc import AsyncIterator, Iterator
from typing import Any

import dspy
import pytest

from dspex.agents.background import agents_supervisor
from supervision import Runtime, Supervisor
from tests.dspex.fake_llama import FakeLlama

# Its cache on the disk opens a connection in each thread, and leaves it to the end of the thread to close it.
dspy.configure_cache(enable_disk_cache=False)


#: They configure DSPy when they are imported, and so are imported by none but the tests that are about that.
collect_ignore = ["configuring.py", "configuring_too.py"]


@pytest.fixture
def llama() -> Iterator[FakeLlama]:
    """A server with llama-server's interface and no model."""
    with FakeLlama() as server:
        yield server


@pytest.fixture
async def processes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """When the test is over all processes that were started in it must end; they have been told to."""
    start = asyncio.create_subprocess_exec
    begun: list[asyncio.Future[asyncio.subprocess.Process | None]] = []

    async def recorded(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        begun.append(asyncio.get_running_loop().create_future())
        mine = begun[-1]
        try:
            process = await start(*arguments, **options)
        except OSError:
            mine.set_result(None)
            raise
        mine.set_result(process)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", recorded)
    yield
    for starting in begun:
        if (process := await starting) is not None:
            await process.wait()


@pytest.fixture
async def runtime(processes: None) -> AsyncIterator[Runtime]:
    """A runtime that must have ended all its actors when the test is over."""
    async with Runtime(watchdog=None, reports=False, seed=1) as made:
        yield made
    assert list(made.actors()) == []


@pytest.fixture
def quiet() -> Iterator[None]:
    """DSPy tells each step, and each failure, on the log; here, nobody wants to know."""
    log = logging.getLogger("dspy")
    level = log.level
    log.setLevel(logging.CRITICAL)
    yield
    log.setLevel(level)


@pytest.fixture
async def supervised(runtime: Runtime) -> None:
    """In the runtime of the test, agents can be started."""
    await runtime.spawn(Supervisor, [agents_supervisor()])
