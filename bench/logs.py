"""What is logged while something is measured goes beside the results, to the standard error output."""

from __future__ import annotations

import sys

import structlog


def log_beside_results() -> None:
    """Have this process log there."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
