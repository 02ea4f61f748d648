"""A persistent map: each change makes a new one that shares all but a few small parts with the old one.

It is a trie over the hashes of its keys (Bagwell, "Ideal Hash Trees", 2001) whose leaves are small dictionaries, so
that keys are compared as dictionaries compare them, and most of the work is theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

K = TypeVar("K")
V = TypeVar("V")

#: A dictionary, or thirty-two nodes.
_Node: TypeAlias = "dict[Any, Any] | tuple[Any, ...]"
_BITS = 5
_MASK = 31
#: A leaf with more keys than this becomes thirty-two, unless so many bits of their hashes are used up.
_LEAF = 64
_MOST_BITS = 60


class Trie(Mapping[K, V]):
    """An immutable map.

    Args:
        content: what is in it.

    >>> one = Trie({"a": 1})
    >>> two = one.changed({"b": 2}, ["a"])
    >>> dict(one), dict(two)
    ({'a': 1}, {'b': 2})
    """

    __slots__ = ("_length", "_root")

    def __init__(self, content: Mapping[K, V] | None = None) -> None:
        self._root: _Node = {} if content is None else _grown(dict(content), 0)
        self._length = 0 if content is None else len(content)

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key."""
        node, bits = self._root, hash(key)
        while type(node) is tuple:
            node = node[bits & 31]  # the mask and the bits of below: names would cost as much as the rest
            bits >>= 5
        return node.get(key, default)  # type: ignore[union-attr]

    def __getitem__(self, key: K) -> V:
        value: V = self.get(key, _MISSING)
        if value is _MISSING:
            raise KeyError(key)
        return value

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[K]:
        for leaf in _leaves(self._root):
            yield from leaf

    def pairs(self) -> Iterator[tuple[K, V]]:
        """Return all keys with their values, in no order: faster than `items`."""
        for leaf in _leaves(self._root):
            yield from leaf.items()

    def changed(self, put: Mapping[K, V], removed: Iterable[K] = ()) -> Trie[K, V]:
        """Return a map with some values put in and some keys taken out. It is fine if those are not there."""
        new: Trie[K, V] = Trie()
        root, length = self._root, self._length
        for key, value in put.items():
            root, more = _put(root, hash(key), 0, key, value)
            length += more
        for key in removed:
            root, fewer = _removed(root, hash(key), key)
            length -= fewer
        new._root, new._length = root, length
        return new


_MISSING: Any = object()


def _leaves(node: _Node) -> Iterator[dict[Any, Any]]:
    if isinstance(node, dict):
        yield node
    else:
        for child in node:
            yield from _leaves(child)


def _put(node: _Node, bits: int, depth: int, key: Any, value: Any) -> tuple[_Node, int]:
    if isinstance(node, dict):
        leaf = {**node, key: value}
        return _grown(leaf, depth), len(leaf) - len(node)
    place = bits & _MASK
    child, more = _put(node[place], bits >> _BITS, depth + _BITS, key, value)
    return (*node[:place], child, *node[place + 1 :]), more


def _removed(node: _Node, bits: int, key: Any) -> tuple[_Node, int]:
    if isinstance(node, dict):
        if key not in node:
            return node, 0
        leaf = dict(node)
        del leaf[key]
        return leaf, 1
    place = bits & _MASK
    child, fewer = _removed(node[place], bits >> _BITS, key)
    if not fewer:
        return node, 0
    children = (*node[:place], child, *node[place + 1 :])
    return ({} if not any(children) else children), 1


def _grown(leaf: dict[Any, Any], depth: int) -> _Node:
    if len(leaf) <= _LEAF or depth >= _MOST_BITS:
        return leaf
    parts: tuple[dict[Any, Any], ...] = tuple({} for _ in range(_MASK + 1))
    for key, value in leaf.items():
        parts[(hash(key) >> depth) & _MASK][key] = value
    return tuple(_grown(part, depth + _BITS) for part in parts)
