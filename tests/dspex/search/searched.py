"""A chain by its import path, for a search that is a job."""

from __future__ import annotations

from typing import Any

from dspex.testing.chain import ScriptedChain


def chain() -> Any:
    """The student."""
    return ScriptedChain()
