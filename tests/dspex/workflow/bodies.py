"""Workflows that tests name by their import paths."""

from __future__ import annotations

from dspex.workflow import Workflow


async def double(flow: Workflow, number: int = 1) -> int:
    """Return twice a number."""
    found: int = await flow.step("double", lambda: 2 * number)
    return found


NOTHING = None
