"""The limits of the HTTP server: times, sizes, connections, requests."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from supervision.errors import BadOption


class ProgramLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of one program that override the general ones; None for the general one.

    Attributes:
        max_body: the longest body, in bytes.
        max_requests: how many requests may run and wait.
    """

    max_body: int | None = None
    max_requests: int | None = None


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits of an HTTP server.

    Attributes:
        header_timeout: seconds from the making of a connection, or the end of what it had before, in which the head of
            a request has to be there, beside those that it may be idle.
        body_timeout: seconds in which the body of a request has to be there.
        idle_timeout: seconds after an answer in which the next request has to begin.
        write_timeout: seconds that a client may take to read what waits for it.
        max_connections: open connections. When there are as many, those that have waited longest for a request are
            closed for new ones; a new one is closed if all of them have one in hand.
        max_header: the longest head of a request, in bytes.
        max_body: the longest body of a request, in bytes.
        max_depth: how deep arrays and objects may be nested in a body.
        max_requests: how many requests may run and wait for one program; the next is refused at once, with a 429.
        programs: what counts for single programs instead, by name.

    >>> Limits(programs={"ocr": ProgramLimits(max_body=20_000_000)}).body_of("ocr")
    20000000
    """

    header_timeout: float = 10.0
    body_timeout: float = 30.0
    idle_timeout: float = 5.0
    write_timeout: float = 30.0
    max_connections: int = 1000
    max_header: int = 32_768
    max_body: int = 1 << 20
    max_depth: int = 100
    max_requests: int = 600
    programs: Mapping[str, ProgramLimits] = {}

    def __post_init__(self) -> None:
        for owner, limits in ((None, self), *self.programs.items()):
            for name in limits.__struct_fields__:
                value = getattr(limits, name)
                if name != "programs" and value is not None and not _sane(value, float if "time" in name else int):
                    kind = "a finite number of seconds above 0" if "time" in name else "a whole number above 0"
                    raise BadOption(name if owner is None else f"programs.{owner}.{name}", value, f"give {kind}")

    @classmethod
    def of(cls, given: Limits | Mapping[str, Any] | None) -> Limits:
        """Return limits, also such as a tree file has them: a table.

        Raises:
            BadOption: there is no such limit, or not with this value.
        """
        if given is None or isinstance(given, Limits):
            return given or cls()
        try:
            return msgspec.convert(given, cls)
        except msgspec.ValidationError as error:
            if isinstance(error.__cause__, BadOption):
                raise error.__cause__ from None
            raise BadOption("limits", given, f"{error}; there are {', '.join(cls.__struct_fields__)}") from None

    def body_of(self, program: str) -> int:
        """Return how long the body of a request for a program may be."""
        own = self.programs.get(program)
        return self.max_body if own is None or own.max_body is None else own.max_body

    def requests_of(self, program: str) -> int:
        """Return how many requests may run and wait for a program."""
        own = self.programs.get(program)
        return self.max_requests if own is None or own.max_requests is None else own.max_requests

    @property
    def longest(self) -> int:
        """How long any body may be."""
        return max(self.max_body, *(self.body_of(program) for program in self.programs), 0)


def _sane(value: object, kind: type[float | int]) -> bool:
    number = isinstance(value, (int, float) if kind is float else int) and not isinstance(value, bool)
    return number and 0 < value <= 10**12 and math.isfinite(value)  # type: ignore[operator, arg-type]
