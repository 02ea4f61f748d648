"""A persistent map: each change makes a new map, and the old one stays as it was.

It is a tree of hash digits whose leaves are small dictionaries. A change copies one leaf and the branches above it and
shares everything else, so that it costs O(log n) however large the map is. A look-up walks down the branches and ends
in an ordinary dictionary, which also takes care of keys with the same hash.

>>> empty: PersistentMap[str, int] = PersistentMap()
>>> one = empty.set("a", 1)
>>> two = one.set("b", 2)
>>> len(empty), len(one), two["b"], "b" in one
(0, 1, 2, False)
>>> two.discard("a") == {"b": 2}
True
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)

_BITS = 5
_WIDTH = 1 << _BITS
_MASK = _WIDTH - 1
#: The largest leaf. Below the deepest branch, where the digits of the hash are used up, a leaf may be larger.
_LEAF = 32
_DEEPEST = 60

_EMPTY: dict[Any, Any] = {}
_ABSENT = object()


class PersistentMap(Mapping[K, V_co]):
    """An immutable mapping with cheap copies. It equals any mapping with the same items.

    The order of iteration is that of the hashes, not that of insertion.
    """

    __slots__ = ("_root", "_size")

    def __init__(self, items: Iterable[tuple[K, V_co]] = ()) -> None:
        """Make a map.

        Args:
            items: pairs of key and value; of two with the same key the later one counts.

        Raises:
            TypeError: a key is not hashable.
        """
        filled = dict(items)
        self._root: Any = _grown(filled, 0)
        self._size = len(filled)

    def __getitem__(self, key: K) -> V_co:
        node = self._root
        digits = hash(key)
        while type(node) is tuple:
            node = node[digits & _MASK]
            digits >>= _BITS
        value: V_co = node[key]
        return value

    def __contains__(self, key: object) -> bool:
        return self.get(key, _ABSENT) is not _ABSENT

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of ``key``, or ``default``."""
        node = self._root
        digits = hash(key)
        while type(node) is tuple:
            node = node[digits & _MASK]
            digits >>= _BITS
        return node.get(key, default)

    def __iter__(self) -> Iterator[K]:
        for leaf in _leaves(self._root):
            yield from leaf

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"PersistentMap({dict(self)!r})"

    def set(self: PersistentMap[K, V], key: K, value: V) -> PersistentMap[K, V]:
        """Return a map in which ``key`` has ``value``.

        Raises:
            TypeError: the key is not hashable.
        """
        return _made(_with(self._root, key, value, hash(key), 0), self._size + (key not in self))

    def discard(self: PersistentMap[K, V], key: K) -> PersistentMap[K, V]:
        """Return a map without ``key``; this map itself if it does not have it.

        Raises:
            TypeError: the key is not hashable.
        """
        return _made(_without(self._root, key, hash(key)), self._size - 1) if key in self else self


def _made(root: Any, size: int) -> PersistentMap[Any, Any]:
    made: PersistentMap[Any, Any] = PersistentMap.__new__(PersistentMap)
    made._root = root
    made._size = size
    return made


def _grown(leaf: dict[Any, Any], shift: int) -> Any:
    """Return a leaf, or the branch that it has to become because it is too large."""
    if len(leaf) <= _LEAF or shift > _DEEPEST:
        return leaf
    children: list[dict[Any, Any]] = [_EMPTY] * _WIDTH
    for key, value in leaf.items():
        digit = hash(key) >> shift & _MASK
        if children[digit] is _EMPTY:
            children[digit] = {}
        children[digit][key] = value
    return tuple(_grown(child, shift + _BITS) for child in children)


def _with(node: Any, key: Any, value: Any, digits: int, shift: int) -> Any:
    if type(node) is not tuple:
        return _grown({**node, key: value}, shift)
    digit = digits & _MASK
    child = _with(node[digit], key, value, digits >> _BITS, shift + _BITS)
    return (*node[:digit], child, *node[digit + 1 :])


def _without(node: Any, key: Any, digits: int) -> Any:
    if type(node) is not tuple:
        leaf = node.copy()
        del leaf[key]
        return leaf
    digit = digits & _MASK
    child = _without(node[digit], key, digits >> _BITS)
    return _shrunk((*node[:digit], child, *node[digit + 1 :]))


def _shrunk(branch: tuple[Any, ...]) -> Any:
    """Return a branch, or one leaf if what is left in its leaves fills no more than half of one."""
    left = 0
    for child in branch:
        left += len(child)
        if type(child) is tuple or left > _LEAF // 2:
            return branch
    return {key: value for leaf in branch for key, value in leaf.items()}


def _leaves(node: Any) -> Iterator[dict[Any, Any]]:
    if type(node) is tuple:
        for child in node:
            yield from _leaves(child)
    else:
        yield node
