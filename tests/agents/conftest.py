"""Fixtures of the agents' tests: virtual time, and a runtime that must have ended all its actors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
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
