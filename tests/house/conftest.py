"""What tests of the distribution share: its wheel, and environments that it is installed into."""

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: object, cwd: Path = ROOT, status: int = 0) -> str:
    """Run a command as a user would; return what it prints."""
    done = subprocess.run(
        [str(word) for word in command],
        check=False,
        cwd=cwd,
        env=bare(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == status, done.stdout
    return done.stdout


def bare() -> dict[str, str]:
    """Return an environment in which nothing is measured, and the checkout is not on the path."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE_", "PYTHON", "PYTEST"))}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", place, ROOT)
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make an environment that holds the wheel, without extras, and other packages; return its folder of programs."""

    def make(*packages: object) -> Path:
        home = tmp_path_factory.mktemp("installed")
        builder = venv.EnvBuilder()
        builder.create(home)
        place = Path(builder.ensure_directories(home).bin_path)
        run(sys.executable, "-m", "pip", "--python", place / "python", "install", "--quiet", wheel, *packages)
        return place

    return make
