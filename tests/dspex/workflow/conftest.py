"""Fixtures of the tests of workflows: virtual time, unless a test uses the world."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import uvloop

from supervision import Runtime
from supervision.testing import VirtualClockLoop

_FACTORIES: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "virtual": VirtualClockLoop,
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    """Virtual time, unless a test uses the world: ``pytest.mark.asyncio(loop_factories=["asyncio"])``."""
    marker = item.get_closest_marker("asyncio")
    named = marker.kwargs.get("loop_factories") if marker is not None else None
    return {name: _FACTORIES[name] for name in named or ("virtual",)}


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime that must have ended all its actors when the test is over."""
    async with Runtime(watchdog=None, reports=False, seed=1) as made:
        yield made
    assert list(made.actors()) == []
