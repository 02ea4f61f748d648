"""Extras: libraries that only one service needs; without the library, only that service is missing."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar

from foundation.errors import Category, FoundationError, Severity


class MissingExtra(FoundationError, ImportError):
    """A service is used whose library is not installed. ``remedy`` is the command that installs it."""

    category: ClassVar[Category] = Category.CONFIG
    severity: ClassVar[Severity] = Severity.HIGH

    def __init__(self, what: str, library: str, extra: str) -> None:
        self.missing = library
        self.remedy = f"pip install 'foundation-otp[{extra}]'"
        super().__init__(f"{what} needs {library}, which is not installed; run: {self.remedy}")


def sorted_dict(of: str) -> Any:
    """Return an empty mapping in the order of its keys, for a service of coordination.

    Args:
        of: the service.

    Raises:
        MissingExtra: what it needs is not installed.
    """
    return import_extra("sortedcontainers", of=of, extra="coordination").SortedDict()


def import_extra(name: str, *, of: str, extra: str) -> ModuleType:
    """Return a library that only one service needs.

    Args:
        name: of the module.
        of: the service.
        extra: of this package, which brings the library.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingExtra(of, name, extra) from error
