"""What all tests share: a fixed profile for hypothesis, so that a red run is red again."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "project", deadline=None, derandomize=True, max_examples=60, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")

pytest_plugins = ["pytester"]
