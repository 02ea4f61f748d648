"""What the package says of itself, and of what it needs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator

import pytest

from foundation._version import version_of


def test_a_distribution_that_is_not_installed_is_a_checkout() -> None:
    assert version_of("no-such-distribution") == "0+checkout"


@pytest.fixture
def _fresh() -> Iterator[None]:
    """Import the HTTP server anew, and leave the modules as they were."""
    before = {name: module for name, module in sys.modules.items() if name.startswith("foundation.http")}
    for name in before:
        del sys.modules[name]
    yield
    for name in [name for name in sys.modules if name.startswith("foundation.http")]:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("package", ["prometheus_client", "starlette", "uvicorn"])
def test_without_its_packages_the_front_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ModuleNotFoundError, match=rf"the HTTP server needs {package}; run: pip install 'foundation-otp"
    ):
        importlib.import_module("foundation.http")


@pytest.mark.usefixtures("_fresh")
def test_another_module_that_is_missing_is_not_taken_for_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foundation.http.pages", None)
    with pytest.raises(ModuleNotFoundError, match=r"foundation\.http\.page"):
        importlib.import_module("foundation.http")
