"""Routes: which patterns match the type of a signal, and where it goes.

A type has segments with dots between them. In a pattern, ``*`` stands for one segment and ``**`` for any number of
them, also none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

from agents.errors import BadRoute
from supervision import SpecError

T = TypeVar("T")


def segments(where: str, text: object, error: type[SpecError] = BadRoute) -> tuple[str, ...]:
    """Return the segments of a type or pattern.

    Raises:
        BadRoute: it is no text, or a segment is empty. (Or the error that is given.)
    """
    parts = tuple(text.split(".")) if isinstance(text, str) else ()
    if not parts or not all(parts):
        raise error(where, text, "give segments with dots between them, such as 'order.placed'")
    return parts


def _pattern(text: object) -> tuple[str, ...]:
    parts = segments("pattern", text)
    for part in parts:
        if "*" in part and part not in ("*", "**"):
            raise BadRoute("pattern", text, "'*' and '**' stand for whole segments")
    return parts


def matches(pattern: str, type: str) -> bool:
    """Return whether a pattern matches a type.

    Raises:
        BadRoute: the pattern, or the type, is none.

    >>> matches("order.*", "order.placed"), matches("order.*", "order.item.added"), matches("order.**", "order")
    (True, False, True)
    """
    return _match(_pattern(pattern), segments("type", type))


def _match(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    """Match segment by segment; on a mismatch, let the last ``**`` take one segment more, and go on from there."""
    at = part = 0
    retry: tuple[int, int] | None = None
    while part < len(parts):
        if at < len(pattern) and pattern[at] == "**":
            at += 1
            retry = (at, part)
        elif at < len(pattern) and pattern[at] in ("*", parts[part]):
            at += 1
            part += 1
        elif retry is None:
            return False
        else:
            at, part = retry[0], retry[1] + 1
            retry = (at, part)
    return all(left == "**" for left in pattern[at:])


class Router(Generic[T]):
    """Where signals go, by their type.

    Args:
        routes: pairs of a pattern and a target.

    Raises:
        BadRoute: a pattern is none.

    >>> router = Router([("order.**", "log"), ("order.placed", "pack"), ("order.*", "count")])
    >>> router.route("order.placed")
    ('pack', 'count', 'log')
    >>> router.route("order.item.added"), router.route("weather")
    (('log',), ())
    """

    __slots__ = ("_exact", "_patterns")

    def __init__(self, routes: Iterable[tuple[str, T]] = ()) -> None:
        self._exact: dict[str, tuple[T, ...]] = {}
        patterns: list[tuple[tuple[int, int, int], tuple[str, ...], T]] = []
        for text, target in routes:
            parts = _pattern(text)
            if "*" in parts or "**" in parts:
                patterns.append((_vagueness(parts), parts, target))
            else:
                self._exact[text] = (*self._exact.get(text, ()), target)
        self._patterns = [(parts, target) for _, parts, target in sorted(patterns, key=lambda entry: entry[0])]

    def route(self, type: str) -> tuple[T, ...]:
        """Return the targets of all routes that match, the most specific first, in the order of their declaration.

        A route without wildcards comes first; then those with fewer ``**``, with fewer ``*``, with more other segments.
        """
        exact = self._exact.get(type, ())
        if not self._patterns:
            return exact
        parts = tuple(type.split("."))
        return (*exact, *(target for pattern, target in self._patterns if _match(pattern, parts)))


def _vagueness(parts: tuple[str, ...]) -> tuple[int, int, int]:
    deep, wide = parts.count("**"), parts.count("*")
    return deep, wide, deep + wide - len(parts)
