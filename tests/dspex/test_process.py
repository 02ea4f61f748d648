"""The process of the embedded model, seen by its owner."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from dspex.models.local.process import NotReady, ProcessEnd, ServerProcess
from tests.dspex.children import FAILING, GARBLED, GOOD, SILENT, STUBBORN, alive, python


async def test_ready_returns_the_address() -> None:
    """A process that says where it serves is ready."""
    process = await ServerProcess.start(python(GOOD))
    assert await process.ready(20) == f"http://127.0.0.1:{process.pid}"
    await process.stop(20)


async def test_stop_ends_it_and_is_noted() -> None:
    """A stopped process has ended when `stop` returns, and its end counts as wanted."""
    process = await ServerProcess.start(python(GOOD))
    await process.ready(20)
    assert not process.stopping
    await process.stop(20)
    assert process.stopping
    assert not alive(process.pid)


async def test_a_stubborn_process_is_killed() -> None:
    """A process that ignores the polite request is killed when the grace is over."""
    process = await ServerProcess.start(python(STUBBORN))
    await process.ready(20)
    await process.stop(0.05)
    assert (await process.ended()).status == -9


async def test_killing_what_has_ended_is_fine() -> None:
    """`kill` and `stop` after the end do nothing."""
    process = await ServerProcess.start(python(FAILING))
    await process.ended()
    process.kill()
    await process.stop(1)
    assert (await process.ended()).status == 3


async def test_an_early_end_is_explained() -> None:
    """If it ends before it is ready, the error carries its status and what it said."""
    process = await ServerProcess.start(python(FAILING))
    with pytest.raises(NotReady, match="exit status 3: no such model"):
        await process.ready(20)


async def test_silence_is_not_readiness() -> None:
    """If it says nothing in time, it is not ready."""
    process = await ServerProcess.start(python(SILENT))
    with pytest.raises(NotReady, match=r"not ready after 0\.05 s"):
        await process.ready(0.05)
    await process.stop(20)


async def test_something_else_is_not_readiness() -> None:
    """If it says something else, the error quotes it."""
    process = await ServerProcess.start(python(GARBLED))
    with pytest.raises(NotReady, match="hello"):
        await process.ready(20)
    await process.stop(20)


async def test_the_end_by_a_signal_is_told() -> None:
    """The end carries the signal's number."""
    process = await ServerProcess.start(python(GOOD))
    await process.ready(20)
    os.kill(process.pid, 9)
    end = await process.ended()
    assert end == ProcessEnd(-9, "")
    assert str(end) == "the language model's process ended by signal 9"


async def test_a_process_that_nobody_wants_any_more_when_it_has_started_is_killed(
    processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is cancelled in the middle of a start leaves no process behind, also if the start cannot be cut short."""
    loop = asyncio.get_running_loop()
    started: asyncio.Future[asyncio.subprocess.Process] = loop.create_future()
    go_on = asyncio.Event()
    start = asyncio.create_subprocess_exec

    async def slow(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*arguments, **options)
        started.set_result(process)
        await go_on.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow)
    starting = asyncio.ensure_future(ServerProcess.start(python("import sys; sys.stdin.read()")))
    process = await started
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    go_on.set()
    assert await process.wait() == -9


async def test_a_start_that_nobody_wants_any_more_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is nothing to be killed."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def failing(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        begun.set()
        await go_on.wait()
        raise OSError("no more processes")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", failing)
    starting = asyncio.ensure_future(ServerProcess.start(["x"]))
    await begun.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    go_on.set()
    (left,) = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.wait([left])
