"""What all tests share: a fixed profile for hypothesis, so that a red run is red again; logs as in a fresh process."""

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

settings.register_profile(
    "project", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def _logs_go_where_those_of_a_fresh_process_go() -> Iterator[None]:
    """``structlog.testing.capture_logs`` leaves structlog configured, which decides where logs go."""
    yield
    structlog.reset_defaults()
