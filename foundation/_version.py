"""Which version this is, as the installed distribution says; a checkout that is not installed has none."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

#: The name of the distribution on PyPI.
DISTRIBUTION = "foundation-otp"


def version_of(distribution: str) -> str:
    """Return the version of an installed distribution, or ``0+checkout`` if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "0+checkout"


__version__ = version_of(DISTRIBUTION)
