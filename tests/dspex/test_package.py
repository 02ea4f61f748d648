"""The package itself."""

from __future__ import annotations

import importlib.abc
import runpy
import sys
from pathlib import Path

import pytest

import dspex

INIT = str(Path(dspex.__file__))


def test_without_dspy_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where DSPy is not installed, importing the package fails with the command that installs it."""
    monkeypatch.setitem(sys.modules, "dspy", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'foundation-otp\[dspy\]'"):
        runpy.run_path(INIT)


def test_what_dspy_itself_lacks_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where DSPy is there but broken, its own error is shown."""

    class Broken(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == "dspy":
                raise ModuleNotFoundError("No module named 'pydantic'", name="pydantic")

    monkeypatch.delitem(sys.modules, "dspy")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ModuleNotFoundError, match="pydantic"):
        runpy.run_path(INIT)


def test_the_command_line_program_needs_nothing_of_the_project() -> None:
    """The code of the model's process imports nothing of the project, so that it starts fast."""
    text = (Path(INIT).parent / "models" / "local" / "serve.py").read_text()
    assert "import dspex" not in text
    assert "from dspex" not in text
