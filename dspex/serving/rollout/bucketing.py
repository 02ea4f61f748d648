"""Who meets which version: a share of the keys, chosen by a hash, so that everybody meets the same one again.

>>> [round(bucket("triage", "2", key), 6) for key in ("ada", "user-1", "user-2", "42")]
[0.392417, 0.142056, 0.213341, 0.830993]
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from foundation.options import is_a

_SEPARATOR = "\x1f"
#: Longer numbers are not written with ten digits, which takes Python long, and has a limit.
_LONG = 1 << 63


def bucket(program: str, salt: str, key: str) -> float:
    """Return where a key lies, from 0 up to 1: the same in every process, and after every restart.

    A share takes in all keys below it, so one that grows takes in more keys, and drops none.

    Args:
        program: the name of the program.
        salt: the id of the rollout, so that it is not always the same people that meet what is new.
        key: who asks.
    """
    digest = sha256(f"{program}{_SEPARATOR}{salt}{_SEPARATOR}{key}".encode("utf-8", "surrogatepass")).digest()
    # 53 bits: what a float holds, so that it is never rounded up to 1.
    return (int.from_bytes(digest[:8], "big") >> 11) / (1 << 53)


def key_of(inputs: Mapping[str, Any], name: str | None, given: str) -> str:
    """Return who asks: the input that says it, if there is one and it is a text or a number; else what was given.

    Args:
        inputs: of the call.
        name: of the input; None for none.
        given: with the call; empty if nothing was.
    """
    value: Any = inputs.get(name) if name is not None else None
    # Whatever a class of somebody's own makes of it, this is a text or a number.
    if is_a(value, str):
        return str.__str__(value) or given
    if is_a(value, int) and not is_a(value, bool):
        return int.__format__(value, "d" if -_LONG < value < _LONG else "x")
    return given
