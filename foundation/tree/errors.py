"""What can be wrong with a tree: in one line, where, what, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from supervision.messages import describe


class TreeError(ValueError):
    """A tree cannot be used.

    Attributes:
        source: the file, or the import path.
        key: where in it; empty if all of it is meant.
        value: what stands there; None if nothing does.
        remedy: what to do.
    """

    def __init__(self, source: str, key: str, value: object, remedy: str) -> None:
        self.source = source
        self.key = key
        self.value = value
        self.remedy = remedy
        where = f"{source}: {key}" if key else source
        given = "" if value is None else f" = {describe(value)}"
        super().__init__(f"{where}{given}: {remedy}")


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """Return a hint at the known word nearest to what was given, to be put behind a remedy; empty if none is near."""
    near = get_close_matches(str(given), [str(word) for word in known], n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
