"""Work in another loop ends with whoever waits for it, and he goes on only when it has ended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dspex._loops import WorkInLoop, await_in_loop, run_in_loop
from dspex.agents.background import BackgroundRuntime


@pytest.fixture
def background() -> Iterator[BackgroundRuntime]:
    """A loop in a thread."""
    made = BackgroundRuntime()
    yield made
    made.close()


class Held:
    """Work that does not end before it may, also when it is cancelled."""

    def __init__(self) -> None:
        self.begun, self.cancelled, self.may_end = threading.Event(), threading.Event(), threading.Event()
        self.ended = False

    async def work(self) -> str:
        """Wait."""
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
            await asyncio.to_thread(self.may_end.wait)
            self.ended = True
        return "never"


async def test_whoever_is_cancelled_goes_on_when_the_work_has_ended(background: BackgroundRuntime) -> None:
    held = Held()
    waiting = asyncio.ensure_future(await_in_loop(background.loop, held.work()))
    await asyncio.to_thread(held.begun.wait)
    waiting.cancel()
    await asyncio.to_thread(held.cancelled.wait)
    assert not waiting.done()
    held.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert held.ended


async def test_whoever_is_cancelled_twice_goes_on_at_once(background: BackgroundRuntime) -> None:
    """And the end of the work, which comes later, harms nobody."""
    held = Held()
    waiting = asyncio.ensure_future(await_in_loop(background.loop, held.work()))
    await asyncio.to_thread(held.begun.wait)
    waiting.cancel()
    await asyncio.to_thread(held.cancelled.wait)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not held.ended
    held.may_end.set()
    assert await await_in_loop(background.loop, _said("and on it goes")) == "and on it goes"


async def _said(text: str) -> str:
    return text


async def _raised(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_what_the_work_raises_is_raised_here_and_ends_no_loop(
    background: BackgroundRuntime, error: BaseException
) -> None:
    with pytest.raises(type(error)):
        await await_in_loop(background.loop, _raised(error))
    with pytest.raises(type(error)):
        await asyncio.to_thread(run_in_loop, background.loop, _raised(error))
    assert await await_in_loop(background.loop, _said("yes")) == "yes"


async def test_in_its_own_loop_it_is_awaited() -> None:
    assert await await_in_loop(asyncio.get_running_loop(), _said("here")) == "here"


def test_a_ctrl_c_ends_the_work_that_is_waited_for(
    background: BackgroundRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An optimisation in a notebook would else go on, and be paid for, behind the back of whoever has stopped it."""
    held = Held()
    made = _interrupted_in_the_first_wait(monkeypatch, held)
    with pytest.raises(KeyboardInterrupt):
        background.run(held.work)
    assert held.ended
    assert len(made) == 1


def _interrupted_in_the_first_wait(monkeypatch: pytest.MonkeyPatch, held: Held) -> list[Any]:
    """Have whoever waits interrupted once, when the work has begun."""
    made: list[Any] = []
    init = WorkInLoop.__init__

    def interrupting(self: Any, *args: Any) -> None:
        init(self, *args)
        made.append(self)
        whole = self.ended.result

        def result() -> None:
            held.begun.wait()
            held.may_end.set()
            self.ended.result = whole
            raise KeyboardInterrupt

        self.ended.result = result

    monkeypatch.setattr(WorkInLoop, "__init__", interrupting)
    return made
