"""Import paths: ``package.module:Class``."""

from __future__ import annotations

import importlib
from typing import Any


def import_path(kind: Any) -> str:
    """Return the path under which another process can import a class.

    Raises:
        ValueError: it cannot: the class was made in a function, or belongs to a script.
    """
    module, name = kind.__module__, kind.__qualname__
    if "<" in name or module == "__main__":
        where = "the script that runs" if module == "__main__" else "a function"
        raise ValueError(f"its class {name} was made in {where}; put it at the top level of a module")
    return f"{module}:{name}"


def imported(path: str) -> Any:
    """Return what a path leads to."""
    module, _, name = path.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
