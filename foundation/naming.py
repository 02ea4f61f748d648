"""What a thing is found by: the names of services, and the keys under which their users find things.

Python's equality decides what is one key: ``1``, ``1.0`` and ``True`` are. What has no equality to rely on is no key,
as it would get in the way of others' keys: what is not equal to itself (NaN), or raises when it is compared or hashed.

>>> usable_key("key", ("page", 7))
('page', 7)
>>> usable_key("key", ("page", float("nan")))
Traceback (most recent call last):
supervision.errors.BadOption: key = ('page', nan): nan is not equal to itself, or is to everything: give a key
"""

from __future__ import annotations

from typing import Any

from supervision import Actor
from supervision.errors import BadOption
from supervision.messages import describe


def own_name(service: Actor, default: str) -> str:
    """Return the name of an actor, in its ``init``. Started without one, it takes ``default``.

    Raises:
        AlreadyRegistered: it was started without a name, and another actor has the default one.
    """
    info = service.runtime.info(service.ref)
    assert info is not None
    if info.name is None:
        service.runtime.register(default, service.ref)
    return info.name or default


#: Of these types every value is a key.
_PLAIN = frozenset({str, int, bool, bytes, type(None)})
#: How deeply tuples may be nested: hashing them recurses without a limit of its own.
_DEEPEST = 50


class _Other:
    """What no key is equal to."""


_OTHER = _Other()
#: What a key may meet in a dictionary; it is not equal to the first.
_OTHERS = (_OTHER, 0, 0.5, "", b"", (), None)


def usable_key(what: str, key: Any) -> Any:
    """Return a key.

    Args:
        what: which one it is, for the error.
        key: what was given.

    Raises:
        BadOption: it cannot be one.
    """
    if type(key) in _PLAIN:
        return key
    why = key_trouble(key)
    if why is not None:
        raise BadOption(what, key, why)
    return key


def key_trouble(value: Any) -> str | None:
    """Return why something cannot be a key, nor a value that is looked for and compared; None if it can."""
    try:
        return _trouble(value, 0)
    except TypeError:
        return "give something that can be a dictionary key"
    except Exception as error:
        return f"give something that can be a dictionary key: comparing or hashing it raises {type(error).__name__}"


def _trouble(value: Any, depth: int) -> str | None:
    if type(value) in _PLAIN:
        return None
    if isinstance(value, (tuple, frozenset)):
        if depth == _DEEPEST:
            return f"nest it less than {_DEEPEST} levels deep"
        for member in value:
            why = _trouble(member, depth + 1)
            if why is not None:
                return why
    hash(value)
    met = [_equal(value, other) for other in _OTHERS]
    if met[0] or not _equal(value, value):
        return f"{describe(value)} is not equal to itself, or is to everything: give a key"
    return None


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other)
