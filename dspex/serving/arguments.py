"""What stands in a tree file of a served program, checked when the file is read: nothing of it runs yet."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from dspex._compat import load_configured
from dspex.agents.agent import BadProgram
from foundation.tree.errors import did_you_mean
from foundation.tree.optional import missing_dependency
from supervision.errors import BadOption


def check_option_names(actor: type, options: Mapping[str, Any]) -> None:
    """Check that an actor has options of these names.

    Raises:
        BadOption: it has not.
    """
    known = [
        name
        for kind in actor.__mro__
        if "__init__" in vars(kind)
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    for name, value in options.items():
        if name not in known:
            remedy = f"there is no such option{did_you_mean(name, known)}; there are {', '.join(known)}"
            raise BadOption(name, value, remedy)


def check_folder(name: str, folder: Any) -> None:
    """Check that something can be a folder, whether or not it is there yet.

    Raises:
        BadOption: it cannot.
    """
    if not isinstance(folder, (str, Path)) or Path(folder).is_file():
        raise BadOption(name, folder, "give the path of a folder")


def check_adapter(adapter: object) -> None:
    """Check that an adapter is named, if it is a name.

    Raises:
        BadOption: there is nothing of that name.
    """
    if isinstance(adapter, str):
        try:
            resolve_name(adapter)
        except (ImportError, AttributeError, ValueError) as error:
            raise BadOption("adapter", adapter, f"write package.module:Class; {error}") from error


def import_named(source: object) -> Any:
    """Return what the name of a program, or of what makes one, stands for: it is imported, and not called.

    Raises:
        BadProgram: there is nothing of that name.
        MissingDependency: something that its module imports is not installed.
    """
    if not isinstance(source, str):
        return source
    module = source.partition(":")[0]

    def found() -> Any:
        try:
            return resolve_name(source)
        except Exception as error:  # of the user's own module
            missing, own = missing_dependency(error), getattr(error, "name", None)
            if missing is not None and not (isinstance(own, str) and f"{module}.".startswith(f"{own}.")):
                raise missing from error
            raise BadProgram(source, f"write package.module:name; {type(error).__name__}: {error}") from error

    return load_configured(module, found)[0]
