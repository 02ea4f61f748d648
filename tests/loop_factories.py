"""The loops on which tests run: virtual time, unless a test asks for others.

A test asks with ``@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])``. A `conftest` that imports the hook has
this for its folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from supervision.testing import VirtualClockLoop

_FACTORIES: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "virtual": VirtualClockLoop,
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Callable[[], Any]]:
    """Return the loops of a test, by name."""
    marker = item.get_closest_marker("asyncio")
    named = marker.kwargs.get("loop_factories") if marker is not None else None
    return {name: _FACTORIES[name] for name in named or ("virtual",)}
