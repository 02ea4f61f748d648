"""The format of tree files: which keys there are, of what type, what is right for each, and how a file is read.

::

    strategy = "one_for_one"              # the root supervisor's own
    max_restarts = 3
    max_seconds = 5.0

    [[children]]                          # started in this order
    id = "counter"
    start = "examples.counters:Counter"   # import path of an actor class, or of a function that starts one
    kwargs = { start = 10 }
    name = "counter"                      # under which it is found
    restart = "permanent"                 # or transient, temporary
    shutdown = 5.0                        # or brutal_kill, infinity
    backoff = { initial = 0.1, maximum = 5.0 }

    [[children]]                          # with children of its own it is a supervisor
    id = "workers"
    strategy = "rest_for_one"

      [[children.children]]
      id = "first"
      start = "examples.counters:Counter"

    [[children]]
    id = "sessions"
    dynamic = true                        # children come and go; those listed here are its first
    max_children = 1000

``${port}``, ``${host}`` and ``${state}`` in ``args`` and ``kwargs`` stand for what the command line or the environment
says. A part with ``optional = true`` is left out where something that it needs is not installed; `docs/how-to` tells
more.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from foundation.tree.errors import TreeError, did_you_mean
from supervision import AutoShutdown, Restart, Strategy

RESTARTS = ("permanent", "transient", "temporary")
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
AUTO_SHUTDOWNS = ("never", "any_significant", "all_significant")
SHUTDOWNS = ("brutal_kill", "infinity")


class BackoffTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A growing pause before restarts; see `supervision.Backoff`."""

    initial: float = 0.1
    maximum: float = 5.0
    factor: float = 2.0
    jitter: float = 0.5


class SupervisorTable(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every supervisor in a file can say."""

    strategy: Strategy | None = None
    max_restarts: int | None = None
    max_seconds: float | None = None
    auto_shutdown: AutoShutdown | None = None
    children: list[ChildTable] | str | None = None


class RootTable(SupervisorTable, forbid_unknown_fields=True, kw_only=True):
    """The root of a tree: what stands at the top of a file."""

    id: str | None = None


class ChildTable(SupervisorTable, forbid_unknown_fields=True, kw_only=True):
    """A child in a file: a worker, which has ``start``, or a supervisor, which has ``children`` or is ``dynamic``.

    Attributes:
        children: the children of a supervisor; or the import path of a function that returns their specifications.
        optional: whether it is left out where it cannot run.
        tags: words to find it by, such as those that let chaos in.
        requires: what must be there for it to run: modules, or functions (``package.module:function``) that raise if
            something is missing.
        install: the command that installs what is missing.
    """

    id: str
    start: str | None = None
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    name: str | None = None
    restart: Restart = "permanent"
    shutdown: float | Literal["brutal_kill", "infinity"] | None = None
    significant: bool = False
    backoff: BackoffTable | None = None
    dynamic: bool = False
    max_children: int | None = None
    optional: bool = False
    tags: list[str] = []
    requires: list[str] = []
    install: str = ""


#: The keys that only a supervisor, a supervisor that is not dynamic, a dynamic one, and a worker has.
OF_SUPERVISORS = ("strategy", "max_restarts", "max_seconds", "auto_shutdown", "children", "dynamic", "max_children")
OF_STATIC = ("strategy", "auto_shutdown")
OF_DYNAMIC = ("max_children",)
OF_WORKERS = ("args", "kwargs")

#: What can be chosen for a key.
CHOICES = {
    "restart": RESTARTS,
    "strategy": STRATEGIES,
    "auto_shutdown": AUTO_SHUTDOWNS,
    "shutdown": SHUTDOWNS,
}

#: What is right for a key.
REMEDIES = {
    "id": "give a string",
    "start": "give an import path: package.module:attribute",
    "args": "give a list",
    "kwargs": "give a table: { key = value }",
    "name": "give a string",
    "restart": f"choose one of {', '.join(RESTARTS)}",
    "shutdown": "give seconds, or one of brutal_kill, infinity",
    "significant": "give true or false",
    "backoff": "give a table: { initial = 0.1, maximum = 5.0 }",
    "initial": "give seconds",
    "maximum": "give seconds",
    "factor": "give a number from 1",
    "jitter": "give a number from 0 to 1",
    "strategy": f"choose one of {', '.join(STRATEGIES)}",
    "max_restarts": "give a whole number, 0 or more",
    "max_seconds": "give seconds, more than 0",
    "auto_shutdown": f"choose one of {', '.join(AUTO_SHUTDOWNS)}",
    "children": "write [[children]] tables, or the import path of a function that returns child specifications",
    "dynamic": "give true or false",
    "max_children": "give a whole number, 0 or more",
    "optional": "give true or false",
    "requires": 'give a list of modules or functions: ["module", "package.module:function"]',
    "tags": 'give a list of words: ["chaos"]',
    "install": "give the command that installs what is missing",
}


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


def parse(source: str, raw: Mapping[str, Any]) -> RootTable:
    """Check the keys and types of a tree.

    Args:
        source: where it is from, for errors.
        raw: what stands there.

    Raises:
        TreeError: a key is unknown or missing, or a value is of the wrong type.
    """
    try:
        return msgspec.convert(raw, RootTable)
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
    kind: type[msgspec.Struct] = BackoffTable if keys else ChildTable if child else RootTable
    known = [field for field in kind.__struct_fields__ if child or field in RootTable.__struct_fields__]
    return "there is no such key" + (did_you_mean(key, known) or f"; choose from {', '.join(known)}")


def _remedy(keys: list[str], value: object) -> str:
    key = keys[-1] if keys else "children"
    hint = did_you_mean(value, CHOICES.get(key, ())) if isinstance(value, str) else ""
    return REMEDIES[key] + hint
