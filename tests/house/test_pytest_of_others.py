"""Whoever installs this distribution keeps a pytest that works, whatever other plugins there are, or are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.house.conftest import run

pytestmark = pytest.mark.once

UNRELATED = """
import sys

def test_nothing_of_ours_is_imported():
    assert not {"supervision", "foundation", "agents", "bridge", "dspex"} & set(sys.modules)
"""
ACTOR = """
import pytest
from supervision import Actor, Request, handle

class Ping(Request[str]):
    pass

class Server(Actor):
    @handle
    def ping(self, request: Ping) -> str:
        return "pong"

{mark}
async def test_an_actor(runtime, event_log, chaos):
    server = await runtime.spawn(Server)
    assert await server.call(Ping()) == "pong"
    assert len(event_log) > 0
"""
ON_ASYNCIO = """
@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


@pytest.fixture(scope="module")
def plain(environment: Callable[..., Path]) -> Path:
    """An environment with this distribution and pytest."""
    return environment("pytest")


@pytest.fixture(scope="module")
def equipped(environment: Callable[..., Path]) -> Path:
    """One with pytest-asyncio and pytest-xdist besides."""
    return environment("pytest-asyncio", "pytest-xdist")


def installed(scripts: Path) -> str:
    return run(scripts / "python", "-c", "import importlib.util as u; print(u.find_spec('pytest_asyncio'))")


def printed_by(folder: Path, scripts: Path, text: str, *options: str, status: int = 0) -> str:
    scope = "asyncio_default_fixture_loop_scope = function\n" if "asyncio" in installed(scripts) else ""
    (folder / "pytest.ini").write_text(f"[pytest]\nfilterwarnings = error\n{scope}")
    (folder / "test_it.py").write_text(text)
    return run(scripts / "python", "-m", "pytest", "-p", "no:cacheprovider", *options, cwd=folder, status=status)


def test_tests_that_have_nothing_to_do_with_it_pass_with_pytest_alone(plain: Path, tmp_path: Path) -> None:
    assert "1 passed" in printed_by(tmp_path, plain, UNRELATED)


def test_with_pytest_alone_whoever_uses_its_fixtures_is_told_what_to_install(plain: Path, tmp_path: Path) -> None:
    printed = printed_by(tmp_path, plain, ACTOR.format(mark=""), status=1)
    assert "'runtime' needs a plugin" in printed
    assert "pip install 'foundation-otp[testing]'" in printed


def test_its_fixtures_work_with_the_plugin_of_anyio(plain: Path, tmp_path: Path) -> None:
    assert "1 passed" in printed_by(tmp_path, plain, ACTOR.format(mark="@pytest.mark.anyio") + ON_ASYNCIO)


@pytest.mark.parametrize("name", ["plain", "equipped"])
def test_its_fixtures_work_with_the_plugin_of_anyio_beside_others(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    scripts = request.getfixturevalue(name)
    assert "1 passed" in printed_by(tmp_path, scripts, ACTOR.format(mark="@pytest.mark.anyio") + ON_ASYNCIO)


def test_its_fixtures_work_with_pytest_asyncio_in_strict_mode(equipped: Path, tmp_path: Path) -> None:
    assert "1 passed" in printed_by(tmp_path, equipped, ACTOR.format(mark="@pytest.mark.asyncio"))


def test_its_fixtures_work_with_pytest_asyncio_in_auto_mode_and_virtual_time(equipped: Path, tmp_path: Path) -> None:
    text = ACTOR.format(mark="") + "    await runtime.sleep(86400)\n"
    options = ("-o", "asyncio_mode=auto", "-o", "virtual_clock=true")
    assert "1 passed" in printed_by(tmp_path, equipped, text, *options)


def test_its_fixtures_work_with_pytest_xdist(equipped: Path, tmp_path: Path) -> None:
    text = ACTOR.format(mark='@pytest.mark.parametrize("n", range(6))').replace("(runtime,", "(n, runtime,")
    assert "6 passed" in printed_by(tmp_path, equipped, text, "-o", "asyncio_mode=auto", "-n", "2")
