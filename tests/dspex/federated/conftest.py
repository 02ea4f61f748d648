"""Fixtures of the tests of federations: virtual time, unless a test uses the world."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from supervision import Runtime
from tests.loop_factories import pytest_asyncio_loop_factories as pytest_asyncio_loop_factories


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime that must have ended all its actors when the test is over."""
    async with Runtime(watchdog=None, reports=False, seed=1) as made:
        yield made
    assert list(made.actors()) == []
