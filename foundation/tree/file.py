"""Tree files: reading one, and saying in one line what is wrong with it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from foundation.tree.errors import TreeError, did_you_mean
from foundation.tree.format import CHOICES, REMEDIES, BackoffTable, Entry, Group

_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`")
_MISSING = re.compile(r"Object missing required field `(.*?)`")
_PLACE = re.compile(r"(.*?)(?: - at (?:`key` in )?`\$(.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


def read_file(path: Path) -> dict[str, Any]:
    """Return what a TOML file says.

    Raises:
        TreeError: there is no such file, or it is not TOML.
    """
    source = str(path)
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise TreeError(source, "", None, "no such file; give a TOML file or package.module:attribute") from None
    except OSError as error:
        raise TreeError(source, "", None, f"cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TreeError(source, "", None, f"this is not TOML: {error}") from None


def parse(source: str, raw: Mapping[str, Any]) -> Group:
    """Check the keys and types of a tree.

    Args:
        source: where it is from, for errors.
        raw: what stands there.

    Raises:
        TreeError: a key is unknown or missing, or a value is of the wrong type.
    """
    try:
        return msgspec.convert(raw, Group)
    except msgspec.ValidationError as error:
        raise _explain(source, raw, str(error)) from None


def place(parents: str, entry: Mapping[str, Any], index: int) -> str:
    """Return how a child is called in errors: by the ids on the way to it, or by its number where an id is missing."""
    own = entry.get("id") if isinstance(entry, Mapping) else None
    name = own if isinstance(own, str) else f"#{index + 1}"
    return f"{parents}/{name}" if parents else name


def _explain(source: str, raw: Mapping[str, Any], message: str) -> TreeError:
    match = _PLACE.fullmatch(message)
    assert match is not None
    problem, where = match[1], match[2] or ""
    child, keys, value = _walk(raw, where)
    prefix = f"child {child}: " if child else ""
    unknown = _UNKNOWN.match(problem)
    if unknown:
        key = ".".join([*keys, unknown[1]])
        return TreeError(source, prefix + key, value[unknown[1]], _no_such_key(unknown[1], child, keys))
    lacking = _MISSING.match(problem)
    if lacking:
        return TreeError(source, prefix + lacking[1], None, f"is missing; {REMEDIES[lacking[1]]}")
    return TreeError(source, prefix + ".".join(keys), value, _remedy(keys, value))


def _walk(raw: Mapping[str, Any], where: str) -> tuple[str, list[str], Any]:
    """Follow msgspec's path; return the child it leads into, the keys behind that, and the value there."""
    child = ""
    keys: list[str] = []
    value: Any = raw
    for key, index in _STEP.findall(where):
        if key:
            keys.append(key)
            value = value[key]
        elif keys == ["children"]:
            value = value[int(index)]
            child, keys = place(child, value, int(index)), []
        else:
            value = value[int(index)]
    return child, keys, value


def _no_such_key(key: str, child: str, keys: list[str]) -> str:
    kind: type[msgspec.Struct] = BackoffTable if keys else Entry if child else Group
    known = [field for field in kind.__struct_fields__ if child or field in Group.__struct_fields__]
    return "there is no such key" + (did_you_mean(key, known) or f"; choose from {', '.join(known)}")


def _remedy(keys: list[str], value: object) -> str:
    key = keys[-1] if keys else "children"
    hint = did_you_mean(value, CHOICES.get(key, ())) if isinstance(value, str) else ""
    return REMEDIES[key] + hint
