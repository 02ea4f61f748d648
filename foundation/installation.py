"""Whether the packages that are imported are this distribution's: others have a ``supervision`` or an ``agents`` too.

Two distributions with a package of one name write into one folder, and the one installed last wins. What is imported
then fails somewhere, for a reason that names neither. So `foundation`, `bridge` and `dspex` look first.
"""

from __future__ import annotations

import warnings
from importlib import metadata, util
from pathlib import Path

import msgspec

from foundation._version import DISTRIBUTION

#: All packages of this distribution.
PACKAGES = ("supervision", "foundation", "agents", "bridge", "dspex")

#: What the ``__init__`` of each says, compiled or not.
_MARK = (b"__distribution__", DISTRIBUTION.encode())


class Foreign(msgspec.Struct, frozen=True):
    """A package of this distribution's that is somebody else's.

    Attributes:
        package: its name.
        place: the file that is imported instead; empty if there is none.
        distributions: those, other than this one, that have installed a package of that name.
    """

    package: str
    place: str
    distributions: tuple[str, ...]

    def __str__(self) -> str:
        whose = " and ".join(self.distributions) or "no distribution known here"
        remedy = (
            f"give {whose} and {DISTRIBUTION} an environment each; "
            f"to have this one's back: pip install --force-reinstall --no-deps {DISTRIBUTION}"
            if self.distributions
            else "rename it, or take its folder off sys.path"
            if self.place
            else f"run: pip install --force-reinstall --no-deps {DISTRIBUTION}"
        )
        found = f"is {self.place}, of {whose}, and not that of {DISTRIBUTION}" if self.place else "is not there"
        return f"the package {self.package!r} {found}: {remedy}"


class ForeignPackage(ImportError):
    """A package that is needed is somebody else's. ``foreign`` says whose, and what to do."""

    def __init__(self, foreign: Foreign) -> None:
        self.foreign = foreign
        super().__init__(str(foreign), name=foreign.package)


def foreign(package: str) -> Foreign | None:
    """Return whose a package is, if it is not this distribution's; None if it is.

    Nothing is imported for that. Each of our packages says in its ``__init__`` whose it is.

    Args:
        package: one of `PACKAGES`.
    """
    spec = util.find_spec(package)
    place = Path(spec.origin) if spec is not None and spec.origin is not None else None
    if place is not None and all(word in place.read_bytes() for word in _MARK):
        return None
    return Foreign(package, "" if place is None else str(place), _others(package))


def _others(package: str) -> tuple[str, ...]:
    """Return the distributions, other than this one, that have installed a package."""
    owners = metadata.packages_distributions().get(package, ())
    return tuple(sorted({owner for owner in owners if owner != DISTRIBUTION}))


def require_own(*packages: str) -> None:
    """Make sure that packages are this distribution's.

    Raises:
        ForeignPackage: one is somebody else's, or is not there.
    """
    for package in packages:
        found = foreign(package)
        if found is not None:
            raise ForeignPackage(found)


def warn_of_foreign(*packages: str) -> None:
    """Warn of packages that another distribution has overwritten, where they are not needed at once."""
    for package in packages:
        found = foreign(package)
        if found is not None and found.distributions:
            warnings.warn(str(found), stacklevel=3)
