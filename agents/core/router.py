"""Routes: which patterns match the type of a signal, and where it goes.

A type has segments with dots between them. In a pattern, ``*`` stands for one segment and ``**`` for any number of
them, also none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeAlias, TypeVar

import msgspec

from agents.core.failures import raise_interrupt
from agents.errors import BadRoute
from supervision import SpecError
from supervision.messages import FrozenMeta

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


#: The routes are remembered for at most so many types.
_CACHED_TYPES = 10_000


#: How routes are ordered: by priority, then specificity, then registration.
_Rank: TypeAlias = tuple[int, int, int, int, int]


class Route(msgspec.Struct, Generic[T_co], metaclass=FrozenMeta, frozen=True):
    """Where signals go whose type matches a pattern.

    Attributes:
        pattern: what matches.
        target: where to.
        priority: higher ones come first, from -100 to 100.
        when: a condition on the signal, besides its type. To raise is to say no.
        exclusive: whether routes behind it are left out for a signal that it takes.

    Raises:
        BadRoute: the pattern is invalid, or the priority is not a whole number from -100 to 100.
    """

    pattern: str
    target: T_co
    priority: int = 0
    when: Callable[[Any], bool] | None = None
    exclusive: bool = False

    def __post_init__(self) -> None:
        _pattern(self.pattern)
        number = isinstance(self.priority, int) and not isinstance(self.priority, bool)
        if not number or not -100 <= self.priority <= 100:
            raise BadRoute(f"priority of {self.pattern}", self.priority, "give a whole number from -100 to 100")


def routes_of(declared: Any, priority: int = 0) -> Any:
    """Return declared routes as `Route`s: a mapping from patterns to targets becomes routes of a priority."""
    if isinstance(declared, Mapping):
        return [Route(pattern, target, priority) for pattern, target in declared.items()]
    return declared


class Router(Generic[T]):
    """Where signals go, by their type.

    Finding the routes of a type takes the time of its segments, and of the patterns that share them, however many
    routes there are; and of a type that was met before, one lookup.

    Args:
        routes: routes, or pairs of a pattern and a target.

    Raises:
        BadRoute: a pattern is invalid.

    >>> router = Router([("order.**", "log"), ("order.placed", "pack"), ("order.*", "count")])
    >>> router.route("order.placed")
    ('pack', 'count', 'log')
    >>> router.route("order.item.added"), router.route("weather")
    (('log',), ())
    >>> Router([("a", 1), Route("*", 2, priority=1, exclusive=True)]).route("a")
    (2,)
    """

    __slots__ = ("_known", "_root", "routes")

    def __init__(self, routes: Iterable[Route[T] | tuple[str, T]] = ()) -> None:
        self.routes = tuple(route if isinstance(route, Route) else Route(*route) for route in routes)
        self._root: _Node[T] = _Node()
        self._known: dict[str, tuple[Route[T], ...]] = {}
        for number, route in enumerate(self.routes):
            parts = _pattern(route.pattern)
            node = self._root
            for part in parts:
                node = _child(node, part)
            node.here.append(((-route.priority, *_vagueness(parts), number), route))

    def route(self, type: str, signal: Any = None) -> tuple[T, ...]:
        """Return the targets of all routes that match, in order.

        Those of higher priority come first; then those without wildcards, with fewer ``**``, with fewer ``*``, with
        more other segments; then those that were declared earlier. What comes behind an exclusive one is left out.

        Args:
            type: of the signal.
            signal: passed to the conditions of the routes.
        """
        found = self.matching(type)
        targets: list[T] = []
        for route in found:
            if route.when is None or _agrees(route.when, signal):
                targets.append(route.target)
                if route.exclusive:
                    break
        return tuple(targets)

    def matching(self, type: str) -> tuple[Route[T], ...]:
        """Return all routes whose patterns match, in order, whatever their conditions."""
        found = self._known.get(type)
        return self._found(type) if found is None else found

    def _found(self, type: str) -> tuple[Route[T], ...]:
        ranked: dict[_Rank, Route[T]] = {}
        _collect(self._root, tuple(type.split(".")), ranked)
        found = tuple(ranked[rank] for rank in sorted(ranked))
        if len(self._known) >= _CACHED_TYPES:
            self._known.clear()
        self._known[type] = found
        return found


def matches(pattern: str, type: str) -> bool:
    """Return whether a pattern matches a type.

    Raises:
        BadRoute: the pattern or the type is invalid.

    >>> matches("order.*", "order.placed"), matches("order.*", "order.item.added"), matches("order.**", "order")
    (True, False, True)
    """
    return _match(_pattern(pattern), segments("type", type))


def segments(where: str, text: object, error: type[SpecError] = BadRoute) -> tuple[str, ...]:
    """Return the segments of a type or pattern.

    Raises:
        BadRoute: it is not a string, or a segment is empty. (Or the error that is given.)
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


class _Node(Generic[T]):
    """The routes whose patterns begin with the same segments."""

    __slots__ = ("any", "deep", "here", "named")

    def __init__(self) -> None:
        self.named: dict[str, _Node[T]] = {}
        self.any: _Node[T] | None = None
        self.deep: _Node[T] | None = None
        self.here: list[tuple[_Rank, Route[T]]] = []


def _child(node: _Node[T], part: str) -> _Node[T]:
    if part == "*":
        node.any = node.any or _Node()
        return node.any
    if part == "**":
        node.deep = node.deep or _Node()
        return node.deep
    return node.named.setdefault(part, _Node())


def _collect(root: _Node[T], parts: tuple[str, ...], ranked: dict[_Rank, Route[T]]) -> None:
    """Collect the routes that match the parts: each node is met once with each rest of them, however deep it is."""
    met: set[tuple[int, int]] = set()
    found = [(root, 0)]
    while found:
        node, at = found.pop()
        if (id(node), at) in met:
            continue
        met.add((id(node), at))
        if at == len(parts):
            ranked.update(node.here)
        else:
            following = (node.named.get(parts[at]), node.any)
            found += [(one, at + 1) for one in following if one is not None]
        if node.deep is not None:
            found += [(node.deep, after) for after in range(at, len(parts) + 1)]


def _agrees(when: Callable[[Any], bool], signal: Any) -> bool:
    try:
        return bool(when(signal))
    except BaseException as error:
        raise_interrupt(error)
        return False


def _vagueness(parts: tuple[str, ...]) -> tuple[int, int, int]:
    """Return the sort key of a pattern: fewer wildcards first, then more other segments."""
    deep, wide = parts.count("**"), parts.count("*")
    return deep, wide, deep + wide - len(parts)
