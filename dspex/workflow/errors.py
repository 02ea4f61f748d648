"""What can go wrong with a workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class WorkflowError(Exception):
    """A workflow cannot go on, or not begin."""


class OtherRun(WorkflowError):
    """The log holds another run. ``differing`` has for each difference what is there and what was given."""

    def __init__(self, differing: Mapping[str, tuple[Any, Any]]) -> None:
        self.differing = dict(differing)
        super().__init__(f"the log holds another run ({differences(differing)}); give it a log of its own")


class BadJournal(WorkflowError):
    """An entry of the journal cannot be read; ``version`` is its number, and ``why`` what is wrong with it."""

    def __init__(self, version: int, why: str) -> None:
        self.version = version
        self.why = why
        super().__init__(f"entry {version} of the journal cannot be read: {why}; nothing was changed")


def differences(differing: Mapping[str, tuple[Any, Any]]) -> str:
    """Return the differences between two runs as text."""
    return "; ".join(f"{key}: {was!r} there, {now!r} here" for key, (was, now) in sorted(differing.items()))
