"""What is shipped: the wheel holds what it should, installs into an empty environment, and boots there."""

import signal
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

import foundation
from tests.house.conftest import ROOT, bare, run

pytestmark = pytest.mark.once

PACKAGES = {"supervision", "foundation", "agents", "bridge", "dspex"}
PLUGIN = "pytest_foundation.py"

TREE = """\
[[children]]
id = "lamp"
start = "lamp:Lamp"
"""
LAMP = """\
from supervision import Actor

class Lamp(Actor):
    def init(self) -> None:
        print("lit", flush=True)
"""


@pytest.fixture(scope="module")
def scripts(environment: Callable[..., Path]) -> Path:
    """Return the folder of programs of an environment that holds the wheel, and none of its extras."""
    return environment()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "lamp.py").write_text(LAMP)
    file = tmp_path / "tree.toml"
    file.write_text(TREE)
    return file


def test_the_wheel_holds_the_five_packages_and_the_plugin_for_pytest(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {*PACKAGES, PLUGIN}


def test_all_that_a_bare_install_needs_has_wheels_for_the_next_python(wheel: Path, tmp_path: Path) -> None:
    options = ["--quiet", "--python-version", "3.14", "--only-binary=:all:", "--dest", tmp_path]
    run(sys.executable, "-m", "pip", "download", *options, wheel)
    assert list(tmp_path.glob("msgspec-*-cp314-*.whl"))


def test_type_checkers_take_the_annotations_of_each_package(wheel: Path) -> None:
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(zipfile.ZipFile(wheel).namelist())


def test_the_data_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    shipped = set(zipfile.ZipFile(wheel).namelist())
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.*") if path.is_file())
    assert {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts} <= shipped


def test_foundation_tells_the_version_that_pyproject_states() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert foundation.__version__ == metadata.version("foundation-otp") == stated


def test_the_installed_command_checks_a_tree(scripts: Path, tree: Path) -> None:
    run(scripts / "foundation", "--check", tree, cwd=tree.parent)


def test_the_installed_runner_boots_a_tree_and_ends_with_status_0_on_sigterm(scripts: Path, tree: Path) -> None:
    log = tree.with_name("log")
    command = [str(scripts / "python"), "-m", "foundation.run", str(tree)]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, cwd=tree.parent, env=bare(), text=True, stdout=subprocess.PIPE, stderr=errors
        ) as runner,
    ):
        assert runner.stdout is not None
        try:
            assert any(line == "lit\n" for line in runner.stdout), log.read_text()
            runner.send_signal(signal.SIGTERM)
            assert runner.wait(timeout=30) == 0, log.read_text()
        finally:
            runner.kill()
