"""Fixtures of the agents' tests: virtual time, and a runtime that must have ended all its actors."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from supervision import Runtime
from supervision.testing import VirtualClockLoop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    """Run every test on a loop with virtual time."""
    return {"virtual": VirtualClockLoop}


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime that must have ended all its actors when the test is over."""
    async with Runtime(watchdog=None, reports=False, seed=1) as made:
        yield made
    assert list(made.actors()) == []


@pytest.fixture
def python_handles_ctrl_c() -> Iterator[None]:
    """Python's own handler, as in a program that runs its loop itself."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
