"""The messages by which a program that serves is changed for a better version, and back."""

from __future__ import annotations

from typing import Any

import msgspec

from supervision import Request


class BadVersion(ValueError):
    """There is no such version, or it does not fit the program. ``version`` is what was given."""

    def __init__(self, version: object, why: str) -> None:
        self.version = version
        super().__init__(f"version {version!r}: {why}")


class Version(msgspec.Struct, frozen=True):
    """A version of a program.

    Attributes:
        number: 0 is the program as it was written; each swap makes the next.
        current: whether it is the one that serves.
    """

    number: int
    current: bool


class Swap(Request[Version], frozen=True):
    """Serve another version from now on; requests that run are finished with the old one.

    Attributes:
        program: a program of the same structure, such as an optimiser returns; or its state, as it is saved.
    """

    program: Any


class UseVersion(Request[Version], frozen=True):
    """Serve a version that is there already, such as the one before."""

    number: int


class ListVersions(Request[list[Version]], frozen=True):
    """Which versions are there?"""
