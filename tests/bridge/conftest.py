"""Fixtures of the bridge's tests: virtual time, a runtime with a registry, and what its event stream tells."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bridge import HealthChanged
from foundation.registry import Directory, Registry
from supervision import DynamicSupervisor, Name, Runtime, Supervisor
from supervision.testing import VirtualClockLoop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    """Run every test on a loop with virtual time."""
    return {"virtual": VirtualClockLoop}


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime with a registry and a supervisor of monitors."""
    async with Runtime(watchdog=None, reports=False, seed=1) as made:
        children = [
            {"id": "registry", "start": Registry, "args": (("capabilities", "health"),), "name": "registry"},
            {"id": "monitors", "start": DynamicSupervisor, "kwargs": {"max_restarts": 100}, "name": "monitors"},
        ]
        await made.spawn(Supervisor, children, max_restarts=100, name="top")
        yield made
    assert list(made.actors()) == []


@pytest.fixture
def directory(runtime: Runtime) -> Directory:
    """The registry's directory."""
    return Directory.of(runtime)


@pytest.fixture
def monitors(runtime: Runtime) -> Name:
    """The supervisor of monitors."""
    return runtime.name("monitors")


@pytest.fixture
def changes(runtime: Runtime) -> list[HealthChanged]:
    """The changes of health, as they come."""
    told: list[HealthChanged] = []
    runtime.subscribe(told.append, HealthChanged)
    return told
