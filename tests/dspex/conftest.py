"""Fixtures of dspex's tests: DSPy's cache in a folder of its own, a fake llama-server, a runtime on the real
loop."""

from __future__ import annotations

import os
import tempfile

# DSPy reads this when it is imported.
os.environ["DSPY_CACHEDIR"] = tempfile.mkdtemp(prefix="dspex-tests-")

from collections.abc import AsyncIterator, Iterator

import pytest

from supervision import Runtime
from tests.dspex.fake_llama import FakeLlama


@pytest.fixture
def llama() -> Iterator[FakeLlama]:
    """A server with llama-server's interface and no model."""
    with FakeLlama() as server:
        yield server


@pytest.fixture
async def runtime() -> AsyncIterator[Runtime]:
    """A runtime that must have ended all its actors when the test is over."""
    async with Runtime(watchdog=None, reports=False, seed=1) as made:
        yield made
    assert list(made.actors()) == []
