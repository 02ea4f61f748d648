"""Fixtures of the foundation's tests: virtual time unless a test asks for real loops."""

from __future__ import annotations

from tests.loop_factories import pytest_asyncio_loop_factories as pytest_asyncio_loop_factories
